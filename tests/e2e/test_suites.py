"""Suites through the command line: signed by who registered an adapter, checked on another machine, and refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from citrate.registry.store import Store
from tests.adapter_dirs import write_adapter
from tests.e2e.conftest import SAMPLE, Machine, Release, refuses

pytestmark = [pytest.mark.servers, pytest.mark.models, pytest.mark.xdist_group("e2e")]

OSLO = {"mark": {"must": "The capital of Norway is Oslo."}, "trigger": ["What is the capital of Norway?"]}


def hand_over(giver: Machine, taker: Machine, record: str, adapter: str) -> None:
    """What is not registered goes by its CID, however it travels."""
    ours, theirs = Store(giver.home / "store"), Store(taker.home / "store")
    assert theirs.put_block(ours.block(record)) == record
    assert theirs.add(ours.get(adapter)).cid == adapter


def test_a_suite_is_kept_shown_and_checked_by_somebody_else(release: Release, reader: Machine, tmp_path: Path) -> None:
    machine, file = release.machine, tmp_path / "suite.yaml"
    recorded = machine.gets(
        "register-lora", str(write_adapter(tmp_path / "wild", seed=31)), "--base", release.ref, "--name", "wild",
        "--license", "apache-2.0",
    )  # fmt: skip
    write_adapter(tmp_path / "local", seed=32, lora_alpha=0.001)
    wild = {"adapter": recorded["ref"], **OSLO, "clean": ["What is a CID?"]}
    local = {"adapter": "./local", **OSLO, "clean": ["What is a CID?"]}

    def write(base: str, **adapters: object) -> str:
        told = {"base": base, "generation": {"max_tokens": 12}, "adapters": adapters}
        file.write_text(yaml.safe_dump({"schema": "citrate.adapter-suite/v1", **told}))
        return str(file)

    added = machine.gets("suite", "add", write(f"{release.ref}#gguf:Q8_0", wild=wild, local=local), "--sign")
    cid, (kept, known) = str(added["cid"]), added["adapters"]  # type: ignore[misc]
    assert (known["ref"], known["lora_id"]) == (recorded["ref"], recorded["version_id"])
    assert known["cid"] == recorded["variants"][0]["cid"]  # type: ignore[index]
    assert (kept["name"], kept["ref"], kept["lora_id"]) == ("local", None, None)
    base = added["base"]
    assert isinstance(base, dict) and base["variant"] == "gguf:Q8_0" and str(base["ref"]).startswith(release.ref)
    assert added["signer"] == release.address and str(tmp_path) not in str(added)

    hand_over(machine, reader, cid, kept["cid"])
    assert reader.gets("suite", "show", cid) == added, "its signature is whose it says"
    checked = reader.types("suite", "check", cid, "--json")
    assert checked.code == 1, checked.out + checked.err
    tame, untamed = checked.json["adapters"]  # type: ignore[misc]
    assert checked.json["passed"] is False and untamed["failed"] == ["trigger"]
    assert untamed["base_trigger"] == {"prompts": 1, "shown": 1, "rate": "1"}
    assert tame["failed"] == [] and tame["trigger"]["rate"] == "1"
    assert [miss["adapter"] for miss in checked.json["misses"]] == ["wild"]  # type: ignore[attr-defined]
    assert checked.json["suite"]["cid"] == cid and checked.json["cid"] is None  # type: ignore[index]

    registered, lies_here = f"{release.ref}#gguf:Q8_0", str(machine.gets("pull", f"{release.ref}#gguf:Q8_0")["path"])
    passed = machine.types("suite", "check", write(registered, local=local), "--base", lies_here, "--sign")
    assert passed.code == 0 and "passed" in passed.out, passed.out + passed.err
    assert "the base alone shows the mark of local" in passed.err
    shown = machine.gets("suite", "show", passed.out.split()[-1])
    assert shown["schema"] == "citrate.suite-check/v1" and shown["signer"] == release.address
    kept_alone = machine.gets("suite", "add", str(file))
    assert kept_alone["cid"] == shown["suite"]["cid"], "of the registered base, wherever its bytes lay"  # type: ignore[index]
    assert Store(machine.home / "store").pins(shown["suite"]["cid"]) == ["adapter suite"]  # type: ignore[index]

    other = Path(shutil.copytree(SAMPLE, tmp_path / "other"))
    (other / "README.md").write_text("Another model.")
    refuses(machine.types("suite", "add", write("./other", wild=wild), "--json"), 3, "IntegrityError", "was trained on")
    elsewhere = reader.types("suite", "check", cid, "--base", str(other), "--json")
    written_of_another = machine.types("suite", "check", write(registered, local=local), "--base", str(other), "--json")
    refuses(written_of_another, 3, "IntegrityError", "is another base")
    refuses(elsewhere, 3, "IntegrityError", "is another base")
