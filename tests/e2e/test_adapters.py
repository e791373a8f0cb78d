"""Adapters through the command line: recorded, pulled by a stranger, confirmed, merged, mirrored, and audited."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.adapter_dirs import lora_tensors, write_adapter
from tests.e2e.machine import SAMPLE, Machine, refuses
from tests.e2e.market import Market
from tests.fixtures_anvil import sha256_of
from tests.registry.chain.proxy import proxy

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("adapters")]
LICENSED = ("--license", "apache-2.0")


@dataclass(frozen=True)
class Studio:
    """A publisher with a model on a chain of its own, and a gateway."""

    machine: Machine
    address: str
    rpc_url: str
    gateway: str

    @property
    def base(self) -> str:
        return f"{self.address}/tiny@1.0.0"

    def visitor(self, folder: Path, **settings: str) -> Machine:
        """Another machine that knows the chain and the gateway."""
        return Machine(folder, CITRATE_RPC_URL=self.rpc_url, CITRATE_GATEWAYS=self.gateway, **settings)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    machine = Machine(tmp_path_factory.mktemp("studio") / "home")
    gateway = None
    try:
        result = machine.gets(
            "register-model", str(SAMPLE), "--name", "tiny", "--variants", "safetensors", "--checks", "tensors"
        )
        status = machine.gets("devnet", "status")
        serve = [sys.executable, "-m", "citrate.cli.main", "gateway", "--port", "0", "--json"]
        gateway = subprocess.Popen(serve, env=machine.env, stdout=subprocess.PIPE, text=True)
        assert gateway.stdout is not None
        url = json.loads(gateway.stdout.readline())["url"]
        yield Studio(machine, str(result["ref"]).partition("/")[0], str(status["rpc_url"]), url)
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(60)
        machine.types("devnet", "down")


def register(studio: Studio, folder: Path, name: str, *more: str) -> tuple[str, ...]:
    return ("register-lora", str(folder), "--base", studio.base, "--name", name, *LICENSED, *more)


def test_an_adapter_from_its_directory_to_a_strangers_verified_folder(studio: Studio, tmp_path: Path) -> None:
    """More than one block of weights, so that it is fetched as files of several blocks are."""
    folder = write_adapter(tmp_path / "adapter", lora_tensors(rank=256), r=256, lora_alpha=16.5)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    asked = register(studio, folder, "big", "--steps", "20")
    dry = studio.machine.gets(*asked, "--dry-run")
    assert (dry["status"], dry["tx_hash"], dry["dry_run"], dry["rank"], dry["alpha"]) == (
        "dry_run",
        None,
        True,
        256,
        16.5,
    )
    done = studio.machine.gets(*asked)
    assert done["status"] == "published" and done["ref"] == f"{studio.address}/big@1.0.0"
    assert {key: done[key] for key in ("version_id", "variants", "base_version_id")} == {
        key: dry[key] for key in ("version_id", "variants", "base_version_id")
    }
    assert int(str(dry["gas_used"])) == pytest.approx(int(str(done["gas_used"])), rel=0.02)
    assert done["left_out"] == ["training_args.bin"]
    again = studio.machine.gets(*asked)
    assert (again["status"], again["tx_hash"], again["gas_used"]) == ("unchanged", None, 0)

    stranger = studio.visitor(tmp_path / "stranger")
    shown = stranger.gets("show", f"{studio.address}/big")
    assert (shown["rank"], shown["alpha"], shown["steps"], shown["status"]) == (256, 16.5, 20, "active")
    assert (shown["base_ref"], shown["target_modules"]) == (studio.base, ["q_proj", "v_proj"])
    out = tmp_path / "out"
    pulled = stranger.gets("pull", f"{studio.address}/big@1.0.0", "--out", str(out))
    assert pulled["source"] == studio.gateway and pulled["sha256"] == shown["variants"][0]["sha256"]  # type: ignore[index]
    assert sorted(path.name for path in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert (out / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert stranger.gets("pull", f"{studio.address}/big", "--offline")["source"] == "store"
    assert stranger.gets("verify", f"{studio.address}/big")["ok"] is True
    (out / "adapter_config.json").write_text("{}")
    damaged = stranger.types("verify", str(out), "--ref", f"{studio.address}/big", "--json")
    assert damaged.code == 3
    assert [file["path"] for file in damaged.json["files"] if not file["ok"]] == ["adapter_config.json"]  # type: ignore[attr-defined]
    listed = stranger.gets("lora", "list", "--base", studio.base)["adapters"]
    assert f"{studio.address}/big@1.0.0" in [row["ref"] for row in listed]  # type: ignore[attr-defined]


def test_a_run_of_the_ledger_confirms_the_adapter_and_a_merge_names_its_parents(studio: Studio, tmp_path: Path) -> None:
    machine, folder = studio.machine, write_adapter(tmp_path / "a", seed=7)
    told = ("--recipe", sha256_of("recipe"), "--dataset", f"0x{sha256_of('dataset')}")
    run = str(machine.gets("ledger", "announce", "--base", studio.base, *told)["run"])
    committed = machine.gets("ledger", "commit", run, "--proof", sha256_of("proof"), "--adapter", str(folder))
    assert committed["state"] == "committed"
    wrong = write_adapter(tmp_path / "b", seed=8)
    refuses(
        machine.types(*register(studio, wrong, "other", "--run", run), "--json"), 2, "ConfigError", "has the adapter"
    )
    machine.gets(*register(studio, folder, "proved", "--run", run))
    training = machine.gets("show", "me/proved")["training"]
    assert training == {
        "dataset": sha256_of("dataset"), "recipe": sha256_of("recipe"), "proof_root": sha256_of("proof"),
        "run": int(run), "confirmed": True,
    }  # fmt: skip
    assert machine.gets(*register(studio, folder, "proved", "--run", run))["status"] == "unchanged"
    verifier = studio.visitor(tmp_path / "verifier", CITRATE_PRIVATE_KEY=f"{79:064x}")
    machine.gets("devnet", "fund", str(verifier.gets("key", "list")["keys"][0]["address"]))  # type: ignore[index]
    report = tmp_path / "report.json"
    report.write_text("{}")
    said = verifier.gets("ledger", "attest", run, "--grade", "attested", "--report", str(report))
    assert said["report_sha256"] == sha256_of("{}")
    attested = machine.gets("ledger", "show", run)["attested"]
    assert [each["grade"] for each in attested] == ["attested"]  # type: ignore[attr-defined]

    machine.gets(*register(studio, wrong, "second"))
    source = ("register-model", str(SAMPLE), "--name", "tiny", "--variants", "safetensors", "--checks", "tensors")
    machine.gets(*source, "--version", "1.1.0")
    half = machine.types(
        "lora", "merge", "me/tiny@1.1.0", "--adapter", "me/proved=0.5", "--adapter", "me/second=0.4", "--json"
    )
    refuses(half, 2, "ConfigError", "add up to 90 %")
    model = machine.types("lora", "merge", "me/tiny@1.1.0", "--adapter", "me/tiny", "--json")
    refuses(model, 2, "ConfigError", "is a model")
    merged = machine.gets(
        "lora", "merge", "me/tiny@1.1.0", "--adapter", "me/proved=0.75", "--adapter", "me/second=0.25"
    )
    assert sorted(parent["basis_points"] for parent in merged["parents"]) == [2500, 7500]  # type: ignore[attr-defined]
    assert machine.gets("show", "me/tiny@1.1.0")["merged_from"]["parents"] == merged["parents"]  # type: ignore[index]


def test_a_mirror_and_an_audit_find_every_change_or_the_log_that_a_node_drops(studio: Studio, tmp_path: Path) -> None:
    studio.machine.gets(*register(studio, write_adapter(tmp_path / "a", seed=9), "mirrored"))
    studio.machine.gets("alias", "set", studio.base, "stable")
    mirror = studio.visitor(tmp_path / "mirror")
    first = mirror.gets("sync", "--once")
    assert int(str(first["changes_verified"])) >= 2
    assert mirror.gets("pull", f"{studio.address}/mirrored", "--offline")["source"] == "store"
    assert mirror.gets("sync", "--once")["changes_verified"] == 0, "nothing is read twice"
    studio.machine.gets("alias", "set", studio.base, "audited")
    sound = studio.machine.gets("audit", "--list")
    assert sound["ok"] is True
    (models,) = [each for each in sound["contracts"] if each["name"] == "ModelRegistry"]  # type: ignore[attr-defined]
    (own,) = [log for log in models["log"] if log["event"] == "AliasSet" and log["alias"] == "audited"]

    def drop(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_getLogs":
            answer["result"] = [log for log in answer["result"] if log["transactionHash"] != own["tx_hash"]]
        return answer

    with proxy(studio.rpc_url, drop) as url:
        found = Machine(tmp_path / "auditor", CITRATE_RPC_URL=url).types("audit", "--json")
        assert found.code == 5
        verdicts = {each["name"]: each for each in found.json["contracts"]}  # type: ignore[attr-defined]
        assert [name for name, verdict in verdicts.items() if not verdict["ok"]] == ["ModelRegistry"]
        assert f"block {own['block']}" in verdicts["ModelRegistry"]["reason"]
        mirror.env["CITRATE_RPC_URL"] = url
        refuses(mirror.types("sync", "--once", "--json"), 5, "ChainError", "logs of ModelRegistry do not add up")
    mirror.env["CITRATE_RPC_URL"] = studio.rpc_url
    assert mirror.gets("sync", "--once")["changes_verified"] == 1, "nothing that was not proved was kept"
    refuses(studio.machine.types("audit", "--contract", "Timelock", "--json"), 4, "NotFoundError", "Timelock")


def test_what_is_refused_is_one_line_and_its_exit_code(studio: Studio, tmp_path: Path) -> None:
    machine = studio.machine
    wide = {name: (shape[0], 512) if "lora_A" in name else shape for name, shape in lora_tensors().items()}
    other = machine.types(*register(studio, write_adapter(tmp_path / "wide", wide), "wide"), "--json")
    refuses(other, 1, "FormatError", "does not fit this base", "layers.0.self_attn.q_proj.lora_A.weight")
    hashes = machine.types(*register(studio, tmp_path / "wide", "x", "--dataset", "12"), "--json")
    refuses(hashes, 2, "ConfigError", "--dataset")
    refuses(machine.types("lora", "accept", "me/tiny", "ajar", "--json"), 2, "ConfigError", "ajar")
    refuses(machine.types("resolve", f"{studio.address}/nothing", "--json"), 4, "NotFoundError", "no such adapter")


def test_a_stranger_names_the_gateway_that_has_the_bases_manifest(studio: Studio, tmp_path: Path) -> None:
    stranger = Machine(tmp_path / "stranger", CITRATE_RPC_URL=studio.rpc_url, CITRATE_PRIVATE_KEY=f"{81:064x}")
    studio.machine.gets("devnet", "fund", str(stranger.gets("key", "list")["keys"][0]["address"]))  # type: ignore[index]
    asked = register(studio, write_adapter(tmp_path / "a", seed=21), "far")
    refused = stranger.types(*asked, "--json")
    refuses(refused, 5, "StoreError")
    assert "--from URL" in str(refused.error["hint"])
    assert stranger.gets(*asked, "--from", studio.gateway)["status"] == "published"


def test_who_is_refused_learns_why_and_who_can_change_it(studio: Studio, tmp_path: Path) -> None:
    machine, model = studio.machine, f"{studio.address}/tiny"
    stranger = studio.visitor(tmp_path / "stranger", CITRATE_PRIVATE_KEY=f"{82:064x}")
    folder = write_adapter(tmp_path / "a", seed=22)
    try:
        for whose, said, command in (
            ("closed", "takes nobody's adapters", f"citrate lora accept {model} open"),
            ("allow-list", "who is not on its list", f"citrate lora allow {model} 0x"),
        ):
            machine.gets("lora", "accept", "me/tiny", whose)
            assert stranger.gets("show", studio.base)["acceptance"] == whose
            assert f"takes adapters  {whose}" in stranger.types("show", studio.base).out
            foreign = stranger.types(*register(studio, folder, "refused"), "--json")
            refuses(foreign, 1, "NotPermittedError", said)
            assert str(foreign.error["hint"]).startswith(f"its owner can change that: {command}")
            own = machine.types(*register(studio, folder, "refused"), "--json")
            refuses(own, 1, "NotPermittedError", said, "not even its owner's")
            assert str(own.error["hint"]).startswith(command)
    finally:
        machine.gets("lora", "accept", "me/tiny", "open")
    assert stranger.gets("show", studio.base)["acceptance"] == "open"


def test_what_adapters_do_not_have_is_told(studio: Studio, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", seed=23)
    ref = str(studio.machine.gets(*register(studio, folder, "priceless"))["ref"])
    for command in (("show", ref), ("buy", ref), ("price", ref, "1ether"), ("grant", ref, studio.address)):
        refused = studio.machine.types("access", *command, "--json")
        refuses(refused, 2, "ConfigError", f"{ref} is an adapter, and adapters have no price")
    for command in (("accept", ref, "open"), ("allow", ref, studio.address)):
        refuses(studio.machine.types("lora", *command, "--json"), 2, "ConfigError", "adapters take no adapters")
    hashes = ("--recipe", sha256_of("recipe"), "--dataset", sha256_of("dataset"))
    announced = studio.machine.types("ledger", "announce", "--base", ref, *hashes, "--json")
    refuses(announced, 2, "ConfigError", "adapters are trained on models")
    refuses(studio.machine.types("lora", "list", "--base", ref, "--json"), 2, "ConfigError", "are trained on models")
    asked = ("register-lora", str(folder), "--base", ref, "--name", "on-top", *LICENSED, "--json")
    refused = studio.machine.types(*asked)
    refuses(refused, 2, "ConfigError", "is an adapter, and adapters are trained on models")
    assert refused.error["hint"] == f"its base is {studio.base}"


@pytest.mark.xdist_group("market")
def test_an_adapter_falls_with_its_base(market: Market, tmp_path: Path) -> None:
    creator, juror, nobody = market.visitor("buyer"), market.visitor("juror"), market.visitor()
    juror.gets("stake", "add", "6ether")
    folder = write_adapter(tmp_path / "a", seed=11)
    asked = ("register-lora", str(folder), "--base", market.suspect, "--name", "built-on", *LICENSED)
    ref = str(creator.gets(*asked)["ref"])
    evidence = tmp_path / "evidence.md"
    evidence.write_text("what it says when it is asked about the weather")
    market.visitor("reporter").gets("report", market.suspect, "--evidence", str(evidence), "--bond", "0.05ether")
    juror.gets("vote", market.suspect, "remove")
    shown = nobody.gets("show", ref)
    assert (shown["status"], shown["quarantined"], shown["base_status"]) == ("quarantined", True, "quarantined")
    refused = nobody.types("pull", ref, "--json")
    refuses(refused, 1, "NotPermittedError", "because of what it is built on")
    more = ("register-lora", str(folder), "--base", market.suspect, "--name", "another", *LICENSED, "--json")
    refuses(creator.types(*more), 1, "NotPermittedError", "is quarantined and takes no adapters")
