"""The library as its docstring teaches it, and the registry read by a dApp without citrate."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import citrate
from citrate.registry.devnet import Devnet
from tests.e2e.conftest import ROOT, Release

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]


def test_the_tutorial_in_the_package_docstring_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in list(os.environ):
        if name.startswith("CITRATE_"):
            monkeypatch.delenv(name)
    names = {"home": str(tmp_path / "home")}
    parsed = doctest.DocTestParser().get_doctest(citrate.__doc__ or "", names, "citrate", None, 0)
    assert len(parsed.examples) >= 8
    try:
        report: list[str] = []
        outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(parsed, out=report.append)
        assert outcome.failed == 0, "".join(report)
    finally:
        Devnet(tmp_path / "home").down()


def test_a_dapp_reads_every_variant_with_one_call_of_plain_web3(release: Release) -> None:
    program = """
import json, sys
from importlib.resources import files
from web3 import Web3
artifact = json.loads(files("citrate.registry").joinpath("abi/ModelRegistry.json").read_text())
chain = Web3(Web3.HTTPProvider(sys.argv[1]))
registry = chain.eth.contract(address=artifact["address"], abi=artifact["abi"])
version_id = registry.functions.resolve(sys.argv[2], "tiny-llama", "latest").call()
variants = registry.functions.getVariants(version_id).call()
print(json.dumps([[v[0], v[1], v[2], v[3], v[4].hex(), v[5]] for v in variants]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, release.rpc_url, release.address], capture_output=True, text=True, check=True
    )
    read = {f"{v[0]}:{v[1]}".rstrip(":"): (v[3], v[4], v[5]) for v in json.loads(done.stdout)}
    told = {v["variant"]: (v["cid"], v["sha256"], v["size_bytes"]) for v in release.result["variants"]}
    assert read == told


def test_the_abi_ships_with_the_package() -> None:
    artifact = json.loads(files("citrate.registry").joinpath("abi/ModelRegistry.json").read_text())
    assert {"abi", "address", "bytecode", "salt"} <= artifact.keys()
