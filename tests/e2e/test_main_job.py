"""The main job through the command line: a model directory in, verified bytes running on another machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.conftest import SAMPLE, Machine, Release
from tests.fixtures_kubo import KuboNode

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]
PROMPT = "What is the capital of France?"


def test_publishing_makes_four_variants_in_one_transaction(release: Release) -> None:
    result = release.result
    assert result["status"] == "published"
    assert [v["variant"] for v in result["variants"]] == ["safetensors", "gguf:Q4_K_M", "gguf:Q8_0", "mlx:4bit"]
    assert result["skipped"] == []
    assert result["tx_hash"].startswith("0x")


def test_the_same_bytes_again_send_nothing(release: Release) -> None:
    before = release.machine.gets("devnet", "status")["block"]
    again = release.machine.gets("register-model", str(SAMPLE), "--name", "tiny-llama")
    assert again["status"] == "unchanged"
    assert again["tx_hash"] is None
    assert again["variants"] == release.result["variants"]
    assert release.machine.gets("devnet", "status")["block"] == before


def test_another_machine_pulls_verifies_and_runs(release: Release, reader: Machine) -> None:
    pulled = reader.gets("pull", f"{release.ref}:prod#gguf:Q4_K_M")
    path = Path(str(pulled["path"]))
    assert pulled["source"] == release.gateway
    assert hashlib.sha256(path.read_bytes()).hexdigest() == pulled["sha256"]
    assert reader.gets("verify", release.ref)["ok"] is True
    told = reader.gets("run", f"{release.ref}#gguf:Q4_K_M", PROMPT, "--offline")
    assert "Paris" in str(told["text"])
    assert told["variant"] == "gguf:Q4_K_M"


def test_safetensors_run_through_transformers(release: Release, reader: Machine) -> None:
    told = reader.gets("run", f"{release.ref}#safetensors", PROMPT)
    assert "Paris" in str(told["text"])


def test_human_output_ends_with_the_useful_value(release: Release, reader: Machine) -> None:
    pulled = reader.types("pull", f"{release.ref}#mlx:4bit")
    assert Path(pulled.out.splitlines()[-1]).is_dir()
    selected = reader.types("select", release.ref, "--device", "apple_silicon", "--memory-gb", "16")
    assert selected.out.splitlines()[-1] == "mlx:4bit"
    told = reader.types("run", f"{release.ref}#gguf:Q8_0", PROMPT)
    assert told.out.startswith("The capital of France is Paris.")


@pytest.mark.parametrize(
    ("flags", "variant"),
    [
        (["--device", "apple_silicon", "--memory-gb", "16"], "mlx:4bit"),
        (["--device", "nvidia", "--arch", "sm90", "--memory-gb", "80"], "gguf:Q8_0"),
        (["--device", "cpu", "--memory-gb", "8"], "gguf:Q4_K_M"),
        (["--device", "cpu", "--memory-gb", "32"], "gguf:Q8_0"),
        (["--device", "nvidia", "--memory-gb", "80", "--task", "training"], "safetensors"),
    ],
)
def test_select_gives_a_variant_and_reasons(release: Release, reader: Machine, flags: list[str], variant: str) -> None:
    choice = reader.gets("select", release.ref, *flags)
    assert choice["variant"] == variant
    assert choice["reason"]
    assert len(choice["rejected"]) == 3
    assert all(rejected["reason"] for rejected in choice["rejected"])


def test_pull_out_copies_the_files_and_verify_finds_the_flipped_bit(
    release: Release, reader: Machine, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    pulled = reader.gets("pull", f"{release.ref}#safetensors", "--out", str(out))
    assert pulled["path"] == str(out)
    assert reader.gets("verify", str(out), "--ref", release.ref)["ok"] is True
    weights = bytearray((out / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (out / "model.safetensors").write_bytes(weights)
    verdict = reader.types("verify", str(out), "--ref", release.ref, "--json")
    assert verdict.code == 3
    wrong = [file for file in verdict.json["files"] if not file["ok"]]
    assert [file["path"] for file in wrong] == ["model.safetensors"]
    assert wrong[0]["expected"] != wrong[0]["actual"]


def test_directory_digest_is_checked_with_coreutils_alone(release: Release, reader: Machine) -> None:
    pulled = reader.gets("pull", f"{release.ref}#safetensors")
    listing = subprocess.run(
        "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | LC_ALL=C xargs -0 sha256sum | sha256sum",
        shell=True,
        cwd=str(pulled["path"]),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert listing.split()[0] == pulled["sha256"]


def test_alias_moves_and_its_log_is_complete(release: Release, reader: Machine, tmp_path: Path) -> None:
    machine = release.machine
    machine.gets("register-model", str(SAMPLE), "--name", "moved", "--variants", "safetensors", "--checks", "tensors")
    machine.gets(
        "register-model",
        str(SAMPLE),
        "--name",
        "moved",
        "--version",
        "2.0.0",
        "--variants",
        "safetensors",
        "--checks",
        "tensors",
    )
    machine.gets("alias", "set", "me/moved@1.0.0", "prod")
    machine.gets("alias", "set", "me/moved@2.0.0", "prod")
    ref = f"{release.address}/moved"
    assert reader.gets("resolve", f"{ref}:prod")["version"] == "2.0.0"
    log = reader.gets("alias", "log", f"{ref}:prod")["changes"]
    assert [change["ref"].rpartition("@")[2] for change in log] == ["1.0.0", "2.0.0"]
    shown = reader.gets("show", ref)
    assert [version["version"] for version in shown["versions"]] == ["2.0.0", "1.0.0"]
    assert shown["aliases"] == [{"alias": "prod", "version": "2.0.0"}]
    machine.gets("deprecate", "me/moved@2.0.0", "--replacement", "me/moved@1.0.0")
    assert reader.gets("resolve", ref)["version"] == "1.0.0", "latest is the newest that is not deprecated"
    refused = reader.types("pull", f"{ref}@2.0.0#safetensors")
    assert refused.code == 1
    assert "its replacement is" in refused.err
    assert reader.types("pull", f"{ref}@2.0.0#safetensors", "--allow", "deprecated").code == 0


def test_added_variants_keep_what_stands(release: Release, reader: Machine) -> None:
    machine = release.machine
    machine.gets("register-model", str(SAMPLE), "--name", "grows", "--variants", "safetensors", "--checks", "tensors")
    added = machine.gets("add-variant", "me/grows@1.0.0", "--variants", "gguf:F16", "--checks", "tensors")
    assert [variant["variant"] for variant in added["variants"]] == ["gguf:F16"]
    ref = f"{release.address}/grows"
    assert [v["variant"] for v in reader.gets("resolve", ref)["variants"]] == ["safetensors", "gguf:F16"]
    assert "Paris" in str(reader.gets("run", f"{ref}#gguf:F16", PROMPT)["text"])
    assert reader.gets("pull", f"{ref}#safetensors")["sha256"]


def test_search_and_list_find_the_model(release: Release, reader: Machine) -> None:
    names = [model["name"] for model in reader.gets("list")["models"]]
    assert "tiny-llama" in names
    assert [m["ref"] for m in reader.gets("search", "tiny-l")["models"]] == [release.ref]
    assert reader.gets("search", "no such model")["models"] == []


def test_a_model_changes_hands_in_two_steps(tmp_path: Path) -> None:
    command = ("register-model", str(SAMPLE), "--variants", "safetensors", "--checks", "tensors")
    owner = Machine(tmp_path / "owner")  # with a chain of its own: nobody else could fetch what the heir publishes
    try:
        ref = str(owner.gets(*command, "--name", "given")["ref"]).partition("@")[0]
        rpc_url = str(owner.gets("devnet", "status")["rpc_url"])
        heir = Machine(tmp_path / "heir", CITRATE_RPC_URL=rpc_url, CITRATE_KEY_PASSWORD="correct horse")
        address = str(heir.gets("key", "new", "--name", "heir")["address"])
        owner.gets("devnet", "fund", address)
        owner.gets("transfer", "offer", "me/given", address)
        heir.gets("transfer", "accept", ref)
        assert heir.gets("resolve", ref)["publisher"] == ref.partition("/")[0], "the name stays under its publisher"
        second = heir.gets(*command, "--version", "2.0.0", "--name", ref)
        assert second["ref"] == f"{ref}@2.0.0", "who took it over publishes under its name"
        assert heir.gets("pull", f"{ref}@2.0.0#safetensors")["source"] == "store"
        refused = owner.types("alias", "set", "me/given@1.0.0", "prod", "--json")
        assert (refused.code, refused.error["type"]) == (1, "NotPermittedError")
    finally:
        owner.types("devnet", "down")


def test_push_puts_the_same_cids_on_kubo_and_a_third_machine_pulls_from_it(
    release: Release, kubo: KuboNode, tmp_path: Path
) -> None:
    pushed = release.machine.gets("push", f"{release.ref}:prod", "--to", kubo.api)["objects"]
    assert {item["cid"] for item in pushed} >= {variant["cid"] for variant in release.result["variants"]}
    third = Machine(tmp_path / "third", CITRATE_RPC_URL=release.rpc_url)
    refused = third.types("push", f"{release.ref}:prod", "--to", kubo.api)
    assert refused.code == 5
    assert f"citrate pull {release.ref}" in refused.err
    assert "--from" not in refused.err
    pulled = third.gets("pull", f"{release.ref}#gguf:Q8_0", "--from", kubo.gateway)
    assert pulled["source"] == kubo.gateway
    through_rpc = Machine(tmp_path / "rpc", CITRATE_RPC_URL=release.rpc_url, CITRATE_KUBO_API=kubo.api)
    assert through_rpc.gets("pull", f"{release.ref}#gguf:Q8_0")["sha256"] == pulled["sha256"]


def test_the_gateway_serves_files_to_any_client(release: Release) -> None:
    safetensors = next(v for v in release.result["variants"] if v["variant"] == "safetensors")
    with urllib.request.urlopen(f"{release.gateway}/ipfs/{safetensors['cid']}/config.json") as answer:
        assert json.load(answer)["architectures"] == ["LlamaForCausalLM"]


def test_sync_once_mirrors_by_policy_and_remembers_where_it_was(
    release: Release, reader: Machine, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('formats = ["gguf"]\nmax_total_gb = 1\n')
    first = reader.gets("sync", "--once", "--policy", str(policy))
    assert first["failed"] == 0
    assert first["fetched"] >= 2
    again = reader.gets("sync", "--once", "--policy", str(policy))
    assert (again["fetched"], again["verified"], again["failed"]) == (0, 0, 0)
    pinned = {item["cid"] for item in reader.gets("store", "ls")["objects"] if item["pinned"]}
    wanted = {v["cid"] for v in release.result["variants"] if v["variant"].startswith("gguf")}
    unwanted = {v["cid"] for v in release.result["variants"] if not v["variant"].startswith("gguf")}
    assert wanted <= pinned
    assert not unwanted & pinned
    widened = reader.gets("sync", "--once")
    assert widened["fetched"] >= 2, "a changed policy fetches what the old one left out"


def test_sync_tells_what_no_source_has_and_tries_it_again(release: Release, tmp_path: Path) -> None:
    mirror = Machine(tmp_path / "mirror", CITRATE_RPC_URL=release.rpc_url, CITRATE_GATEWAYS="http://127.0.0.1:9")
    missed = mirror.types("sync", "--once", "--json")
    assert missed.code == 5
    assert missed.json["failed"] > 0, "one JSON document, the summary"
    mirror.env["CITRATE_GATEWAYS"] = release.gateway
    mended = mirror.gets("sync", "--once")
    assert (mended["failed"], mended["verified"]) == (0, missed.json["failed"])


def test_a_hugging_face_cache_snapshot_is_registered(release: Release, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(SAMPLE.iterdir())):
        if path.is_file():
            (blobs / f"{number:064x}").write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:064x}")
    command = ("register-model", str(snapshot), "--name", "tiny-llama", "--checks", "tensors")
    assert release.machine.gets(*command)["status"] == "unchanged", "the same bytes as from the plain folder"


def test_a_dry_run_tells_what_the_real_run_then_does(release: Release) -> None:
    machine = release.machine
    arguments = (
        "register-model",
        str(SAMPLE),
        "--name",
        "rehearsed",
        "--variants",
        "safetensors,gguf:Q8_0",
        "--checks",
        "tensors",
    )
    before = machine.gets("devnet", "status")["block"]
    dry = machine.gets(*arguments, "--dry-run")
    assert (dry["status"], dry["dry_run"], dry["tx_hash"]) == ("dry_run", True, None)
    assert machine.gets("devnet", "status")["block"] == before
    real = machine.gets(*arguments)
    assert real["variants"] == dry["variants"]
    assert real["manifest"] == dry["manifest"]
    assert abs(real["gas_used"] - dry["gas_used"]) < 2_000


def test_a_dry_run_on_a_fresh_machine_starts_and_makes_nothing(fresh: Machine) -> None:
    dry = fresh.gets(
        "register-model", str(SAMPLE), "--name", "x", "--variants", "safetensors", "--checks", "tensors", "--dry-run"
    )
    assert dry["gas_used"] is None
    assert dry["manifest"]["cid"] is None
    assert dry["variants"][0]["cid"].startswith("bafy")
    assert not (fresh.home / "keys").exists()
    assert fresh.gets("devnet", "status")["pid"] is None
    assert all(not item["pinned"] for item in fresh.gets("store", "ls")["objects"])
