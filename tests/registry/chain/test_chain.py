"""The registry through the client, on a real Anvil: what is written is what anybody reads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from citrate.core.errors import (
    AlreadyExistsError,
    ChainError,
    CitrateError,
    ConfigError,
    NotFoundError,
    NotPermittedError,
)
from citrate.registry import artifacts, ids
from citrate.registry.chain import Chain, Cursor
from citrate.registry.signer import Signer
from tests.fixtures_anvil import CHAIN_ID, AnvilNode, release_of, sha256_of, signer_of, variant_record

pytestmark = pytest.mark.servers


def test_a_published_version_resolves_by_version_alias_and_latest(chain: Chain, publisher: Signer) -> None:
    release = replace(release_of(publisher.address), price_wei=25 * 10**16)
    receipt = chain.publish(publisher, release, "prod")
    record = chain.resolve(publisher.address, "tiny", "1.0.0")
    assert record.ref == f"{publisher.address}/tiny@1.0.0"
    assert record.model_id == ids.model_id(publisher.address, "tiny")
    assert record.version_id == ids.version_id(record.model_id, "1.0.0")
    assert set(record.variants) == set(release.variants)
    assert (record.price_wei, record.licence, record.deprecated) == (25 * 10**16, "apache-2.0", False)
    assert (record.manifest_history, record.signers) == ((release.manifest_sha256,), (publisher.address,))
    assert record.block_number == receipt.block_number and record.created_at > 0
    for name in ("prod", "latest"):
        assert chain.resolve(publisher.address.lower(), "tiny", name) == record
    assert chain.version(record.version_id) == record


def test_a_receipt_says_what_was_paid(chain: Chain, publisher: Signer) -> None:
    before = int(str(chain.rpc.call("eth_getBalance", publisher.address, "latest")), 16)
    estimate = chain.estimate_publish(publisher.address, release_of(publisher.address))
    receipt = chain.publish(publisher, release_of(publisher.address))
    after = int(str(chain.rpc.call("eth_getBalance", publisher.address, "latest")), 16)
    assert before - after == receipt.fee_wei
    assert receipt.gas_used == estimate.gas and receipt.fee_wei <= estimate.fee_wei
    assert len(receipt.tx_hash) == 66


def test_an_estimate_needs_no_funds_and_changes_nothing(chain: Chain) -> None:
    pauper = signer_of("pauper").address
    assert chain.estimate_publish(pauper, release_of(pauper)).gas > 100_000
    assert chain.head().count == 0


def test_without_funds_nothing_is_sent_and_the_hint_says_how_to_get_some(chain: Chain) -> None:
    pauper = signer_of("pauper")
    with pytest.raises(CitrateError, match="has 0 ETH") as error:
        chain.publish(pauper, release_of(pauper.address))
    assert error.value.exit_code == 1 and error.value.hint == f"citrate devnet fund {pauper.address}"
    assert chain.head().count == 0


def test_variants_are_added_and_the_history_of_manifests_grows(chain: Chain, publisher: Signer) -> None:
    chain.publish(publisher, release_of(publisher.address))
    record = chain.resolve(publisher.address, "tiny", "1.0.0")
    added = (variant_record("mlx:4bit"), variant_record("gguf:Q8_0"))
    assert chain.estimate_add_variants(record, sha256_of("second"), added).gas > 50_000
    chain.add_variants(publisher, record, sha256_of("second"), added)
    newer = chain.version(record.version_id)
    assert set(newer.variants) == {*record.variants, *added}
    assert newer.manifest_history == (record.manifest_sha256, sha256_of("second"))
    assert newer.manifest_sha256 == sha256_of("second")
    with pytest.raises(AlreadyExistsError, match="has this variant already"):
        chain.add_variants(publisher, record, sha256_of("third"), added[:1])


def test_latest_is_the_newest_release_that_is_not_deprecated(chain: Chain, publisher: Signer) -> None:
    me = publisher.address
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        chain.publish(publisher, release_of(me, version=version))
    assert chain.resolve(me, "tiny", "latest").version == "2.0.0"
    replacement = chain.resolve(me, "tiny", "1.1.0").version_id
    chain.deprecate(publisher, me, "tiny", "2.0.0", replacement)
    record = chain.resolve(me, "tiny", "2.0.0")
    assert record.deprecated and record.replacement == replacement
    assert chain.resolve(me, "tiny", "latest").version == "1.1.0"
    assert chain.models()[0].latest.version == "1.1.0"
    chain.deprecate(publisher, me, "tiny", "1.1.0")
    assert chain.resolve(me, "tiny", "1.1.0").replacement == ""


def test_a_model_changes_hands_in_two_steps(chain: Chain, publisher: Signer, stranger: Signer) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me))
    with pytest.raises(NotPermittedError, match="was not offered"):
        chain.accept(stranger, me, "tiny")
    chain.transfer(publisher, me, "tiny", stranger.address)
    assert chain.pending_owner_of(me, "tiny") == stranger.address and chain.owner_of(me, "tiny") == me
    chain.accept(stranger, me, "tiny")
    assert (chain.owner_of(me, "tiny"), chain.pending_owner_of(me, "tiny")) == (stranger.address, "")
    with pytest.raises(NotPermittedError, match="does not own this model"):
        chain.publish(publisher, release_of(me, version="2.0.0"))
    chain.publish(stranger, release_of(me, version="2.0.0"))
    record = chain.resolve(me, "tiny", "2.0.0")
    assert record.publisher == me and record.signers == (stranger.address,)


def test_an_alias_that_points_there_already_is_not_sent_again(chain: Chain, publisher: Signer) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me))
    record = chain.resolve(me, "tiny", "1.0.0")
    assert chain.move_alias(publisher, record, "prod") is not None
    at = chain.pin().number
    assert chain.move_alias(publisher, record, "prod") is None
    assert chain.pin().number == at


def test_each_refusal_of_the_contract_is_told_before_anything_is_sent(
    chain: Chain, publisher: Signer, stranger: Signer
) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me), "prod")
    block = chain.pin().number
    with pytest.raises(AlreadyExistsError, match="stands already"):
        chain.publish(publisher, release_of(me))
    with pytest.raises(AlreadyExistsError, match="of this name"):
        chain.publish(publisher, release_of(me, version="prod"))
    with pytest.raises(AlreadyExistsError, match="of this name"):
        chain.set_alias(publisher, me, "tiny", "1.0.0", "1.0.0")
    with pytest.raises(NotPermittedError, match=f"(?i){stranger.address}"):
        chain.set_alias(stranger, me, "tiny", "prod", "1.0.0")
    with pytest.raises(NotFoundError):
        chain.set_alias(publisher, me, "tiny", "prod", "9.9.9")
    with pytest.raises(NotFoundError):
        chain.deprecate(publisher, me, "tiny", "1.0.0", "0x" + "12" * 32)
    with pytest.raises(ConfigError):
        chain.deprecate(publisher, me, "tiny", "1.0.0", chain.resolve(me, "tiny", "1.0.0").version_id)
    with pytest.raises(ConfigError, match="not an address"):
        chain.transfer(publisher, me, "tiny", "0x12")
    with pytest.raises(NotFoundError, match="no such model"):
        chain.owner_of(me, "other")
    assert chain.pin().number == block


def test_what_is_not_found_names_what_comes_close(chain: Chain, publisher: Signer) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me, name="tiny-llama"))
    with pytest.raises(NotFoundError, match="no model") as error:
        chain.resolve(me, "tiny-lama", "latest")
    assert "tiny-llama" in error.value.hint and error.value.exit_code == 4
    with pytest.raises(NotFoundError, match=r"'1\.0'") as error:
        chain.resolve(me, "tiny-llama", "1.0")
    assert "1.0.0" in error.value.hint
    with pytest.raises(NotFoundError, match="no version"):
        chain.version("0x" + "12" * 32)


# ---------------------------------------------------------------------- lists


def test_every_model_and_version_is_listed_over_pages(
    chain: Chain, publisher: Signer, stranger: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from citrate.registry import views

    for version in ("1", "2", "3"):
        chain.publish(publisher, release_of(publisher.address, version=version))
    chain.publish(stranger, release_of(stranger.address, name="other"))
    chain.add_variants(
        publisher, chain.resolve(publisher.address, "tiny", "1"), sha256_of("m"), (variant_record("mlx:4bit"),)
    )
    whole = chain.models(), chain.versions(ids.model_id(publisher.address, "tiny")), chain.records_since()
    assert [(model.name, [v.version for v in model.versions]) for model in whole[0]] == [
        ("other", ["1.0.0"]),
        ("tiny", ["3", "2", "1"]),
    ]
    assert [entry.kind for entry in whole[2].entries] == [
        "first_release", "release", "release", "first_release", "addition"
    ]  # fmt: skip
    for page in (1, 2):
        monkeypatch.setattr(views, "PAGE", page)
        assert (chain.models(), chain.versions(ids.model_id(publisher.address, "tiny")), chain.records_since()) == whole


def test_an_empty_registry_lists_nothing(chain: Chain) -> None:
    assert chain.models() == () and chain.records_since().entries == ()


def test_a_mirror_sees_each_record_once(chain: Chain, publisher: Signer) -> None:
    me = publisher.address
    cursor, seen = None, []
    for version in ("1", "2", "3"):
        chain.publish(publisher, release_of(me, version=version))
        new = chain.records_since(cursor)
        seen += [entry.version for entry in new.entries]
        cursor = new.cursor
        assert not new.reorganised
    assert seen == ["1", "2", "3"]
    assert chain.records_since(cursor).entries == ()


def test_a_reorganisation_that_took_the_cursors_record_is_told(chain: Chain, publisher: Signer) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me, version="1"))
    snapshot = chain.rpc.call("evm_snapshot")
    chain.publish(publisher, release_of(me, version="2"))
    cursor = chain.records_since().cursor
    chain.rpc.call("evm_revert", snapshot)
    chain.publish(publisher, release_of(me, version="3"))
    new = chain.records_since(cursor)
    assert new.reorganised and [entry.version for entry in new.entries] == ["1", "3"]
    chain.publish(publisher, release_of(me, version="2"))  # the same record comes back, after another one
    assert not chain.records_since(new.cursor).reorganised


def test_a_cursor_that_counts_wrong_is_refused(chain: Chain, publisher: Signer) -> None:
    chain.publish(publisher, release_of(publisher.address, version="1"))
    cursor = chain.records_since().cursor
    chain.publish(publisher, release_of(publisher.address, version="2"))
    with pytest.raises(ChainError, match="not whole"):
        chain.records_since(Cursor(cursor.record, cursor.count - 1, cursor.block_number))


def test_answers_of_one_question_come_from_one_block(chain: Chain, publisher: Signer) -> None:
    me = publisher.address
    chain.publish(publisher, release_of(me, version="1"))
    block = chain.pin()
    version_id = chain.resolve(me, "tiny", "1").version_id
    chain.add_variants(publisher, chain.version(version_id), sha256_of("m"), (variant_record("mlx:4bit"),))
    assert len(chain.version(version_id, block).variants) == 2
    assert len(chain.version(version_id).variants) == 3


# ---------------------------------------------------------------------- which chain, which contract


def test_another_chain_is_refused(anvil: AnvilNode, tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="is chain 31337, not 1") as error:
        Chain.connect(anvil.url, 1, home=tmp_path)
    assert error.value.exit_code == 5
    assert Chain.connect(anvil.url, 0, home=tmp_path).chain_id == CHAIN_ID


def test_a_contract_that_is_not_ours_is_refused(anvil: AnvilNode, tmp_path: Path) -> None:
    ours = artifacts.load("ModelRegistry")
    tampered = bytearray(ours.runtime)
    tampered[100] ^= 1
    foreign = "0x" + "77" * 20
    for code in (bytes(tampered), ours.runtime + b"\0", b"\x00"):
        anvil.rpc.call("anvil_setCode", foreign, "0x" + code.hex())
        with pytest.raises(ChainError, match="is not this release's ModelRegistry"):
            Chain.connect(anvil.url, CHAIN_ID, foreign, home=tmp_path)
    with pytest.raises(ChainError, match="no ModelRegistry at") as error:
        Chain.connect(anvil.url, CHAIN_ID, "0x" + "78" * 20, home=tmp_path)
    assert error.value.hint == "citrate deploy-contracts"


def test_no_node_is_told_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match=r"does not answer at http://127\.0\.0\.1:9") as error:
        Chain.connect("http://127.0.0.1:9", CHAIN_ID, home=tmp_path)
    assert error.value.hint == "citrate devnet up"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    chain: Chain, publisher: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    chain.publish(publisher, release_of(publisher.address))
    assert chain.resolve(publisher.address, "tiny", "latest").version == "1.0.0"


# ---------------------------------------------------------------------- several writers

_WRITER = """
import sys
from pathlib import Path
from citrate.registry.chain import Chain
from tests.fixtures_anvil import release_of, signer_of
chain = Chain.connect(sys.argv[1], 31337, home=Path(sys.argv[2]))
key = signer_of("publisher")
for i in range(5):
    chain.publish(key, release_of(key.address, name=f"by-{sys.argv[3]}", version=str(i)))
"""


def test_processes_that_share_a_key_never_share_a_nonce(chain: Chain, anvil: AnvilNode, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, anvil.url, str(tmp_path), str(number)], cwd=root, stderr=subprocess.PIPE
        )
        for number in range(2)
    ]
    for writer in writers:
        _, complaints = writer.communicate(timeout=120)
        assert writer.returncode == 0, complaints.decode()
    assert sorted((model.name, len(model.versions)) for model in chain.models()) == [("by-0", 5), ("by-1", 5)]


def test_reading_imports_no_ethereum_library(anvil: AnvilNode, chain: Chain, publisher: Signer, tmp_path: Path) -> None:
    chain.publish(publisher, release_of(publisher.address))
    code = (
        "import sys; from pathlib import Path; from citrate.registry.chain import Chain;"
        f"chain = Chain.connect({anvil.url!r}, 31337, home=Path({str(tmp_path)!r}));"
        f"chain.resolve({publisher.address!r}, 'tiny', 'latest'); chain.models();"
        "heavy = {'web3', 'eth_account', 'eth_abi', 'eth_utils', 'Crypto', 'requests', 'httpx'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
