"""Registering and fetching adapters through the library, on a real chain: what is refused, what is left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citrate.core.adapters import Acceptance, Training
from citrate.core.errors import (
    AlreadyExistsError,
    ChainError,
    CitrateError,
    ConfigError,
    FormatError,
    IntegrityError,
    NotFoundError,
    NotPermittedError,
    StoreError,
)
from citrate.registry import adapters
from citrate.registry.abi_codec import encode_call
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.lora_payload import encode_lora
from citrate.registry.lora_publishing import Registered
from citrate.registry.sources import ByteStream, MissingError, NoStreamError, Source, StoreSource
from citrate.registry.store import Store
from citrate.registry.sync import Event, Mirror, Pass
from citrate.registry.sync_policy import Policy as SyncPolicy
from tests.adapter_dirs import LAYERS, lora_tensors, write_adapter
from tests.fixtures_anvil import AnvilNode, release_of, sha256_of
from tests.registry.chain.actors import Actor, actor
from tests.registry.chain.proxy import proxy

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("anvil")]
SAMPLE = Path(__file__).parents[3] / "examples" / "tiny-llama"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The publisher's home: what was converted once is found again by every test."""
    return tmp_path_factory.mktemp("publisher")


@pytest.fixture
def publisher(anvil: AnvilNode, home: Path) -> Actor:
    """Who published the sample model as ``tiny@1.0.0``."""
    user = actor("publisher", anvil, home)
    user.register_model(SAMPLE, name="tiny", variants="safetensors", checks="tensors")
    return user


@pytest.fixture
def base(publisher: Actor) -> str:
    return f"{publisher.address_of('me')}/tiny@1.0.0"


@pytest.fixture
def stranger(anvil: AnvilNode, publisher: Actor, base: str, tmp_path: Path) -> Actor:
    """Somebody else, who has the base's manifest from the publisher's store."""
    user = actor("stranger", anvil, tmp_path)
    manifest = publisher.manifest(publisher.resolve(base))
    user.store.put_block(manifest.encode())
    return user


def register(user: Actor, folder: Path, base: str, name: str = "tiny-lora", **more: object) -> Registered:
    return user.register_lora(folder, base=base, name=name, licence="apache-2.0", **more)  # type: ignore[arg-type]


def block(user: Actor) -> int:
    return user.chain.pin().number


def pins(user: Actor) -> set[str]:
    return {item.cid for item in user.store.ls() if item.pinned}


def test_a_dry_run_tells_everything_and_sends_nothing(stranger: Actor, base: str, tmp_path: Path) -> None:
    folder, before = write_adapter(tmp_path / "a"), block(stranger)
    dry = register(stranger, folder, base, dry_run=True)
    assert (dry.status, dry.tx_hash, block(stranger), pins(stranger)) == ("dry_run", "", before, set())
    done = register(stranger, folder, base)
    assert (done.status, done.lora, done.ref, done.lora_id) == ("published", dry.lora, dry.ref, dry.lora_id)
    assert dry.gas_used == pytest.approx(done.gas_used, rel=0.02)
    assert pins(stranger) == {done.artifact.cid}
    again = register(stranger, folder, base)
    assert (again.status, again.gas_used, block(stranger)) == ("unchanged", 0, before + 1)
    assert register(stranger, folder, base, dry_run=True).gas_used == 0


def test_a_dry_run_without_a_key_tells_what_it_can(
    anvil: AnvilNode, stranger: Actor, base: str, tmp_path: Path
) -> None:
    nobody = actor("", anvil, tmp_path)
    nobody.store.put_block(stranger.manifest(stranger.resolve(base)).encode())
    dry = register(nobody, write_adapter(tmp_path / "a"), base, dry_run=True)
    assert (dry.lora_id, dry.gas_used, dry.ref) == ("", None, "me/tiny-lora@1.0.0")
    assert any("no key yet" in line for line in nobody.said)


def test_other_bytes_under_a_taken_version_are_refused(stranger: Actor, base: str, tmp_path: Path) -> None:
    register(stranger, write_adapter(tmp_path / "a"), base)
    with pytest.raises(AlreadyExistsError, match="stands with another cid") as error:
        register(stranger, write_adapter(tmp_path / "b", seed=1), base)
    assert "--version 1.0.1" in error.value.hint
    with pytest.raises(AlreadyExistsError, match="another steps"):
        register(stranger, tmp_path / "a", base, steps=5)
    newer = register(stranger, tmp_path / "b", base, version="1.0.1")
    assert stranger.find("me/tiny-lora") == stranger.loras.get(newer.lora_id), "the newest is meant"


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"version": "Latest"}, ConfigError, "version"),
        ({"version": "latest"}, ConfigError, "latest"),
        ({"licence": " "}, ConfigError, "licence is empty"),
        ({"steps": 2**32}, ConfigError, "steps"),
        ({"training": Training(sha256_of("d"))}, ConfigError, "recipe"),
        ({"training": Training(sha256_of("d"), sha256_of("r"), run_id=1)}, ConfigError, "twice"),
        ({"training": Training(run_id=99)}, NotFoundError, "no training run 99"),
        ({"name": "Upper"}, ConfigError, "name"),
    ],
)
def test_what_cannot_stand_on_chain_is_refused(
    stranger: Actor, base: str, tmp_path: Path, more: dict[str, object], kind: type[CitrateError], words: str
) -> None:
    asked = {"base": base, "name": "tiny-lora", "licence": "apache-2.0", **more}
    before = block(stranger)
    with pytest.raises(kind, match=words) as error:
        stranger.register_lora(write_adapter(tmp_path / "a"), **asked)  # type: ignore[arg-type]  # wrong on purpose
    assert error.value.hint and (block(stranger), pins(stranger)) == (before, set())


def test_what_is_no_adapter_of_this_base_is_refused(
    publisher: Actor, stranger: Actor, base: str, tmp_path: Path
) -> None:
    deep = write_adapter(tmp_path / "deep", lora_tensors(layers=LAYERS + 1))
    wide = {name: (shape[0], 512) if "lora_A" in name else shape for name, shape in lora_tensors().items()}
    for user in (publisher, stranger):  # with the base's own tensors, and by its numbers alone
        with pytest.raises(FormatError, match=r"layers\.0\.self_attn\.q_proj\.lora_A\.weight"):
            register(user, write_adapter(tmp_path / "wide", wide), base)
        with pytest.raises(FormatError, match=f"{LAYERS} layers"):
            register(user, deep, base)
    good = write_adapter(tmp_path / "good")
    with pytest.raises(ConfigError, match="names no licence"):
        stranger.register_lora(good, base=base, name="x")
    with pytest.raises(NotFoundError, match="no model"):
        register(stranger, good, base.replace("/tiny@", "/nothing@"))
    with pytest.raises(AlreadyExistsError, match="has a model of the name tiny"):
        register(publisher, good, base, "tiny")
    with pytest.raises(ConfigError, match="card says MIT"):
        (good / "README.md").write_text("---\nlicense: mit\n---\n")
        register(stranger, good, base)


def test_a_transaction_that_is_refused_leaves_no_pin(
    anvil: AnvilNode, stranger: Actor, base: str, tmp_path: Path
) -> None:
    pauper = actor("pauper", anvil, tmp_path)
    pauper.store.put_block(stranger.manifest(stranger.resolve(base)).encode())
    folder = write_adapter(tmp_path / "a")
    with pytest.raises(CitrateError, match="has 0 ETH"):
        register(pauper, folder, base)
    assert pins(pauper) == set()
    pauper.store.pin(pauper.store.add(folder).cid, "by hand")
    with pytest.raises(CitrateError):
        register(pauper, folder, base)
    assert len(pins(pauper)) == 1, "another's pin stays"


def test_an_owner_says_whose_adapters_a_model_takes(
    publisher: Actor, stranger: Actor, base: str, tmp_path: Path
) -> None:
    model, folder = publisher.resolve(base).model_id, write_adapter(tmp_path / "a")
    publisher.loras.set_acceptance(publisher.signer(), model, Acceptance.ALLOW_LIST)
    with pytest.raises(NotPermittedError, match="takes no adapters of") as error:
        register(stranger, folder, base)
    assert "citrate lora allow" in error.value.hint and not stranger.store.ls()[1:], "nothing was stored"
    publisher.loras.allow_creator(publisher.signer(), model, stranger.address_of("me"))
    assert register(stranger, folder, base).status == "published"
    publisher.chain.deprecate(publisher.signer(), publisher.address_of("me"), "tiny", "1.0.0")
    with pytest.raises(NotPermittedError, match="is deprecated and takes no adapters"):
        register(stranger, folder, base, "other")


def test_ten_adapters_a_day_and_no_more(stranger: Actor, base: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    for number in range(10):
        register(stranger, folder, base, f"lora-{number}")
    with pytest.raises(CitrateError, match="10 adapters accepted today"):
        register(stranger, folder, base, "lora-10")
    assert register(stranger, folder, base, "lora-9").status == "unchanged"


def test_a_run_that_ended_in_something_else_is_not_linked(stranger: Actor, base: str, tmp_path: Path) -> None:
    folder, ledger, signer = write_adapter(tmp_path / "a"), stranger.ledger, stranger.signer()
    told = {"recipe": sha256_of("recipe"), "dataset": sha256_of("dataset")}
    digest = stranger.resolve(base).variants[0].sha256
    run, _ = ledger.announce(signer, base_sha256=digest, **told)
    early = register(stranger, folder, base, "early", training=Training(run_id=run))
    assert any("is not committed" in line for line in stranger.said)
    ledger.commit(signer, run, proof_root=sha256_of("proof"), adapter_sha256=early.artifact.sha256)
    assert stranger.loras.get(early.lora_id).lora.training.confirmed
    with pytest.raises(ConfigError, match="has the adapter"):
        register(stranger, write_adapter(tmp_path / "b", seed=1), base, "other", training=Training(run_id=run))
    other, _ = ledger.announce(signer, base_sha256=sha256_of("another base"), **told)
    with pytest.raises(ConfigError, match="has the base"):
        register(stranger, folder, base, "late", training=Training(run_id=other))
    assert adapters.published_digest(adapters.open_adapter(folder)) == early.artifact.sha256


# ------------------------------------------------------------------ fetching


class Lying:
    """A source that has everything, and gives something else for what ``lies`` says."""

    name = "liar"
    connections = 1

    def __init__(self, store: Store, lies: str) -> None:
        self._store = StoreSource(store)
        self._lies = lies

    def another(self) -> Lying:
        return self

    def stop(self) -> None:
        """It never waits."""

    def block(self, cid: str) -> bytes:
        block = self._store.block(cid)
        return block[:-1] + bytes([block[-1] ^ 1]) if cid.startswith(self._lies) else block

    def stream(self, *_: object) -> ByteStream:
        raise NoStreamError("blocks only")


class Empty:
    """A source that has nothing."""

    name = "empty"
    connections = 1

    def another(self) -> Empty:
        return self

    def stop(self) -> None:
        """It never waits."""

    def block(self, *_: object) -> bytes:
        raise MissingError("it has nothing")

    def stream(self, *_: object) -> ByteStream:
        raise MissingError("it has nothing")


@pytest.mark.parametrize("rank", [8, 256], ids=["one-block", "many-blocks"])
def test_an_adapter_is_fetched_from_its_address_alone(
    anvil: AnvilNode, stranger: Actor, base: str, tmp_path: Path, rank: int
) -> None:
    folder = write_adapter(tmp_path / "a", lora_tensors(rank=rank), r=rank)
    record = stranger.loras.get(register(stranger, folder, base).lora_id)
    reader = actor("buyer", anvil, tmp_path)
    for lies in ("bafy", "bafk"):  # inner blocks; leaves
        with pytest.raises(IntegrityError, match="wrong bytes"):
            adapters.pull(reader, record, [Lying(stranger.store, lies)])
        assert reader.store.ls() == []
    with pytest.raises(StoreError, match="it has nothing"):
        adapters.pull(reader, record, [Empty()])
    honest: Source = Lying(stranger.store, "none")
    pulled = adapters.pull(reader, record, [Empty(), honest])
    assert (pulled.source, reader.store.artifact(record.lora.cid)) == ("liar", stranger.store.artifact(record.lora.cid))
    assert (pulled.path / "adapter_model.safetensors").read_bytes() == (
        folder / "adapter_model.safetensors"
    ).read_bytes()
    assert pins(reader) == {record.lora.cid}
    assert all(verdict.ok for verdict in adapters.verify(reader, record, None))
    assert all(verdict.ok for verdict in adapters.verify(actor("juror", anvil, tmp_path), record, pulled.path))


def test_a_record_that_tells_another_digest_than_its_address_is_refused(
    anvil: AnvilNode, stranger: Actor, base: str, tmp_path: Path
) -> None:
    """The creator can record a CID and a SHA-256 that do not belong together: then nobody gets anything."""
    folder = write_adapter(tmp_path / "a", lora_tensors(rank=256), r=256)
    done = register(stranger, folder, base)
    wrong = replace(done.lora, name="wrong", sha256=sha256_of("another"))
    stranger.loras.register(stranger.signer(), wrong)
    record = stranger.loras.resolve(stranger.address_of("me"), "wrong")
    reader = actor("buyer", anvil, tmp_path)
    with pytest.raises(IntegrityError):
        adapters.pull(reader, record, [Lying(stranger.store, "none")])
    assert reader.store.ls() == [] and not any(reader.store.layout.partial(record.lora.cid).glob("*"))
    with pytest.raises(IntegrityError, match="names other bytes"):
        adapters.verify(stranger, record, None)
    boast = replace(done.lora, name="boast", rank=512)
    stranger.loras.register(stranger.signer(), boast)
    with pytest.raises(FormatError, match="tells rank 512"):
        adapters.pull(
            reader, stranger.loras.resolve(stranger.address_of("me"), "boast"), [Lying(stranger.store, "none")]
        )


# ------------------------------------------------------------------ mirroring


def test_records_that_cannot_be_read_or_had_stop_no_mirror(
    anvil: AnvilNode, home: Path, publisher: Actor, stranger: Actor, base: str, tmp_path: Path
) -> None:
    me = publisher.address_of("me")
    publisher.chain.publish(publisher.signer(), release_of(me, "broken"))
    broken = publisher.chain.resolve(me, "broken", "1.0.0").version_id
    done = register(stranger, write_adapter(tmp_path / "a"), base)
    packed = encode_lora(replace(done.lora, name="odd", target_modules=("odd",)))
    hostile = packed.replace(b"\x03odd\0", b"\x15<img src=x>,../../etc\0")
    assert hostile != packed
    call = encode_call("registerLoRA(address,bytes)", stranger.address_of("me"), hostile)
    stranger.chain.send(stranger.signer(), LORA_REGISTRY, call)
    unreadable = encode_call("getVersion(bytes32)", broken).hex()

    def spoil(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        asked = request["params"][0].get("data", "") if request["method"] == "eth_call" else ""
        return {**answer, "result": "0x" + "ff" * 640} if unreadable in asked else answer

    def passed(url: str) -> tuple[dict[str, str], Pass]:
        events: list[Event] = []
        user = actor("publisher", AnvilNode(url, anvil.process), home)
        user.store.put_block(stranger.manifest(stranger.resolve(base)).encode())
        told = Mirror(user, SyncPolicy()).run_once(events.append)
        return {event.ref: event.status for event in events}, told

    with proxy(anvil.url, spoil) as url:
        statuses, told = passed(url)
    odd = f"{stranger.address_of('me')}/odd@1.0.0"
    assert (statuses[broken], statuses[base], statuses[odd]) == ("failed", "present", "failed")
    assert told.failed == 3 and told.changes_verified is not None, "the pass went on to its end"
    again, _ = passed(anvil.url)
    assert again[f"{me}/broken@1.0.0"] == "failed" and broken not in again, "read again, though nobody has its bytes"


def test_a_chain_that_stops_answering_ends_a_pass(anvil: AnvilNode, home: Path, publisher: Actor) -> None:
    asked: list[str] = []

    def fall_silent(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        asked.append(request["method"])
        silent = len(asked) > 12
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -1, "message": "gone"}} if silent else answer

    with proxy(anvil.url, fall_silent) as url, pytest.raises(ChainError):
        Mirror(actor("publisher", AnvilNode(url, anvil.process), home), SyncPolicy()).run_once(print)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"auto_mapping": {"parent_library": "evil"}}, "names code in auto_mapping"),
        ({"target_modules": r".*\.(q|v)_proj"}, "target_modules is not what the weights hold"),
    ],
)
def test_an_adapter_that_others_published_names_no_code_and_no_expression(
    anvil: AnvilNode, stranger: Actor, base: str, tmp_path: Path, config: dict[str, object], words: str
) -> None:
    done = register(stranger, write_adapter(tmp_path / "a"), base)
    raw = stranger.store.add(write_adapter(tmp_path / "raw", **config))  # type: ignore[arg-type]  # settings of PEFT
    told = replace(done.lora, name="raw", cid=raw.cid, sha256=raw.sha256, size_bytes=raw.size_bytes)
    stranger.loras.register(stranger.signer(), told)
    record = stranger.loras.resolve(stranger.address_of("me"), "raw")
    with pytest.raises(FormatError, match=words):
        adapters.pull(actor("buyer", anvil, tmp_path), record, [Lying(stranger.store, "none")])
