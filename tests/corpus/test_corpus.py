"""The same payloads in Python: the models, what the client packs and reads; damaged further, the contracts again."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from eth_abi import encode

from citrate.core.errors import FormatError
from citrate.core.records import VariantRecord
from citrate.registry import lora_payload, payload, views
from citrate.registry.abi_codec import Frame
from citrate.registry.rpc import RpcError
from tests.corpus.cases import (
    BASE_NAME,
    BASE_VERSION,
    CREATOR,
    FILE,
    PUBLISHER,
    RESULT,
    Case,
    Judge,
    corpus,
    dump,
    given,
    load,
)
from tests.differential.encoding import ZERO, Refused, record_code
from tests.differential.node import Node
from tests.differential.payloads import parse_addition, parse_lora, parse_parents, parse_release
from tests.fixtures_anvil import start_anvil, stop_anvil

ANOTHER = "0x" + "22" * 20
DAMAGED = 3_000

PARSERS = {"release": parse_release, "addition": parse_addition, "lora": parse_lora, "parents": parse_parents}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case for case in load() if not case.kind.startswith("given-")]


def test_the_file_is_what_the_script_makes() -> None:
    assert FILE.read_text() == dump(corpus()), "run: python -m tests.corpus.cases"


def test_what_is_accepted_reads_back_in_the_client(cases: list[Case]) -> None:
    accepted = [case for case in cases if case.verdict == "accepted"]
    assert len(accepted) > 100
    for case in accepted:
        requires_read_back(case)


def requires_read_back(case: Case) -> None:
    """The client reads from the record, and from the view, what the model reads from the payload."""
    if case.kind == "release":
        model = parse_release(case.payload)
        record = payload.decode_record(record_code(1, 5, ZERO, ANOTHER, case.payload))
        assert (record.name, record.version, record.licence) == (model.name, model.version, model.licence), case.what
        assert (record.manifest_sha256, record.price_wei) == (model.manifest.hex(), model.price), case.what
        requires_variants(record.variants, model.variants)
    elif case.kind == "addition":
        addition = parse_addition(case.payload)
        record = payload.decode_record(record_code(3, 5, ZERO, ANOTHER, case.payload))
        assert record.manifest_sha256 == addition.manifest.hex()
        requires_variants(record.variants, addition.variants)
    elif case.kind == "lora":
        lora = parse_lora(case.payload)
        read = lora_payload.decode_lora(case.payload)
        names = (read.name, read.version, read.licence, read.rank, read.alpha_thousandths, read.steps)
        assert names == (lora.name, lora.version, lora.licence, lora.rank, lora.alpha, lora.steps), case.what
        assert (read.sha256, read.base, read.size_bytes) == (lora.sha256.hex(), "0x" + lora.base.hex(), lora.size_bytes)
        assert ",".join(read.target_modules) == lora.modules, case.what
    else:
        stored = lora_payload.decode_record(record_code(2, 5, ZERO, ANOTHER, RESULT + RESULT + case.payload))
        assert isinstance(stored, lora_payload.StoredMerge)
        told = [(bytes.fromhex(p.lora_id[2:]), p.basis_points) for p in stored.parents]
        assert told == parse_parents(case.payload)


def requires_variants(read: tuple[VariantRecord, ...], expected: tuple) -> None:
    """The same variants by the record's bytes, by the view's answer, and as the model has them."""
    answer = encode(["(string,string,string,string,bytes32,uint64)[]"], [[variant.view() for variant in expected]])
    assert views.get_variants("0x" + "00" * 32).decode(Frame(answer)) == read
    plain = [
        (v.variant.format.value, v.variant.quantization, v.variant.target, v.cid, v.sha256, v.size_bytes) for v in read
    ]
    assert plain == [(f, q, t, c, s.hex(), n) for f, q, t, c, s, n in (v.view() for v in expected)]


def test_the_client_packs_what_the_contract_stores(cases: list[Case]) -> None:
    """What the client reads from an accepted release it packs into the same bytes again."""
    for case in cases:
        if case.kind == "release" and case.verdict == "accepted":
            model = parse_release(case.payload)
            record = payload.decode_record(record_code(1, 5, ZERO, ANOTHER, case.payload))
            names = (PUBLISHER, record.name, record.version, record.licence)
            again = payload.ReleasePayload(*names, record.manifest_sha256, record.variants, model.price).encode()
            price_at = model.after_name + 32  # a price has several codes; the client's is the shortest
            assert again[:price_at] + again[price_at + 4 :] == case.payload[:price_at] + case.payload[price_at + 4 :]


def test_the_client_survives_what_the_contract_refuses(cases: list[Case]) -> None:
    for case in cases:
        for kind in (1, 2, 3):
            code = record_code(kind, 5, ZERO, ANOTHER, case.payload)
            for decode in (payload.decode_record, lora_payload.decode_record):
                try:
                    decode(code)
                except FormatError:
                    continue


def damaged_further(cases: list[Case], count: int, seed: int) -> Iterator[Case]:
    chance = random.Random(seed)
    for _ in range(count):
        case = chance.choice(cases)
        data = bytearray(case.payload)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(len(data) + 1)
            value = chance.choice((0, 1, 0x2C, 0x55, 0x70, 0x7F, 0xFF, chance.randrange(256)))
            how = chance.randrange(4)
            if how == 0:
                del data[at:]
            elif how == 1:
                data.insert(at, value)
            elif at < len(data):
                data[at] = value if how == 2 else data[at] ^ 1 << chance.randrange(8)
        yield Case("damaged further", case.kind, bytes(data))


def test_the_client_reads_what_is_accepted_of_payloads_damaged_further(cases: list[Case]) -> None:
    for case in damaged_further(cases, DAMAGED, 1):
        try:
            PARSERS[case.kind](case.payload)
        except Refused:
            continue
        requires_read_back(case)


@pytest.mark.servers
def test_contracts_and_models_agree_on_payloads_damaged_further(cases: list[Case]) -> None:
    """Asked by `eth_call`, so that each meets the same state; the error's arguments are compared too."""
    anvil = start_anvil("--timestamp", "1800000000", "--gas-price", "0", "--block-base-fee-per-gas", "0", "--no-mining")
    try:
        node = Node(anvil.rpc, 1_800_000_000)
        ask = _asker(node)
        judge = Judge()
        tried = list(damaged_further(cases, DAMAGED, 2))
        for i in range(0, DAMAGED, 100):
            for case, answer in zip(tried[i : i + 100], ask(tried[i : i + 100]), strict=True):
                verdict = judge.verdict(case.kind, case.payload)
                assert answer == verdict, (
                    f"{case.kind} 0x{case.payload.hex()}: the model {verdict}, the contract {answer}"
                )
    finally:
        stop_anvil(anvil)


def _asker(node: Node):
    """A function that asks the contracts about cases, after the given ones were carried out."""
    registry = node.deploy("ModelRegistry", PUBLISHER).address
    ledger = node.deploy("TrainingLedger", PUBLISHER).address
    policy = node.deploy("Policy", PUBLISHER, PUBLISHER, PUBLISHER).address
    node.deploy("LoRARegistry", PUBLISHER, registry, ledger, policy)

    def call(kind: str, data: bytes, creator: str) -> tuple[str, str, str, list[object]]:
        if kind == "release":
            return PUBLISHER, "ModelRegistry", "publish", [PUBLISHER, data, ""]
        if kind == "addition":
            return PUBLISHER, "ModelRegistry", "addVariants", [PUBLISHER, BASE_NAME, BASE_VERSION, data]
        if kind == "lora":
            return creator, "LoRARegistry", "registerLoRA", [creator, data]
        return PUBLISHER, "LoRARegistry", "mergeLoRA", [RESULT, data]

    for case in given():
        sender, contract, function, arguments = call(case.kind.removeprefix("given-"), case.payload, PUBLISHER)
        assert node.send(sender, contract, function, arguments, 0, node.time + 1) is None

    def ask(cases: list[Case]) -> list[str]:
        requests = []
        for case in cases:
            sender, name, function, arguments = call(case.kind, case.payload, CREATOR)
            contract = node.contracts[name]
            data = "0x" + contract.functions[function].call(arguments).hex()
            requests.append(("eth_call", [{"from": sender, "to": contract.address, "data": data}, "latest"]))
        answers = node.rpc.batch(requests)
        return [answer.data if isinstance(answer, RpcError) else "accepted" for answer in answers]

    return ask
