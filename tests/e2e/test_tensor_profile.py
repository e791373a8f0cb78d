"""A model published with its files cut at tensors: its next version costs a reader what changed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import SAMPLE, Machine, Release

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]
PROFILE = "citrate-tensor-v1"
REGISTER = ("--name", "cut", "--variants", "safetensors", "--checks", "tensors")


@pytest.fixture(scope="module")
def cut(release: Release) -> dict[str, object]:
    """The sample model, cut at its tensors."""
    return release.machine.gets("register-model", str(SAMPLE), *REGISTER, "--profile", PROFILE)


def test_the_profile_stands_in_the_manifest_and_is_shown(release: Release, cut: dict[str, object]) -> None:
    assert [variant["profile"] for variant in cut["variants"]] == [PROFILE]
    shown = release.machine.gets("show", str(cut["ref"]))
    assert [variant["profile"] for variant in shown["variants"]] == [PROFILE]
    assert "cut at tensors  safetensors" in release.machine.types("show", str(cut["ref"])).out
    usual = release.machine.gets("show", release.ref)
    assert {variant["profile"] for variant in usual["variants"]} == {"unixfs-v1-2025"}
    sha256 = {v["variant"]: v["sha256"] for v in release.result["variants"]}
    (safetensors,) = cut["variants"]
    assert safetensors["sha256"] == sha256["safetensors"]
    assert safetensors["cid"] not in {v["cid"] for v in release.result["variants"]}


def test_the_same_again_is_unchanged_and_another_profile_is_refused(release: Release, cut: dict[str, object]) -> None:
    assert release.machine.gets("register-model", str(SAMPLE), *REGISTER, "--profile", PROFILE)["status"] == "unchanged"
    refused = release.machine.types("register-model", str(SAMPLE), *REGISTER, "--json")
    assert refused.code == 1
    assert "cut by another profile" in str(refused.error["message"])
    assert "--profile" in str(refused.error["hint"])
    unknown = release.machine.types("register-model", str(SAMPLE), *REGISTER, "--profile", "unixfs-v0-2015", "--json")
    assert unknown.code == 2
    assert PROFILE in str(unknown.error["hint"])
    assert cut["status"] == "published"


def test_the_next_version_costs_what_changed(
    release: Release, reader: Machine, cut: dict[str, object], tmp_path: Path
) -> None:
    first = reader.gets("pull", f"{cut['ref']}#safetensors")
    source = shutil.copytree(SAMPLE, tmp_path / "changed")
    weights = source / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-20:-10] = data[-40:-30]  # in the last tensor, whatever it is
    weights.write_bytes(data)
    again = release.machine.gets(
        "register-model", str(source), *REGISTER, "--version", "1.1.0", "--profile", PROFILE
    )  # fmt: skip
    second = reader.gets("pull", f"{again['ref']}#safetensors")
    assert first["fetched_bytes"] > len(data)
    assert 0 < second["fetched_bytes"] < len(data) // 4
    pulled = Path(str(second["path"])) / "model.safetensors"
    assert hashlib.sha256(pulled.read_bytes()).digest() != hashlib.sha256((SAMPLE / weights.name).read_bytes()).digest()


def test_add_takes_the_profile(reader: Machine) -> None:
    hashed = reader.gets("add", str(SAMPLE), "--only-hash", "--profile", PROFILE)
    added = reader.gets("add", str(SAMPLE), "--profile", PROFILE)
    assert (hashed["cid"], hashed["sha256"]) == (added["cid"], added["sha256"])
    usual = reader.gets("add", str(SAMPLE), "--only-hash")
    assert (usual["sha256"], usual["size_bytes"]) == (added["sha256"], added["size_bytes"])
    assert usual["cid"] != added["cid"]
    assert reader.gets("store", "verify")["ok"] is True
    assert reader.types("add", str(SAMPLE), "--profile", "v3").code == 2
