"""A comparison through the command line: measured, signed, kept, and verified by its CID."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapter_dirs import write_adapter
from tests.e2e.conftest import SAMPLE, Machine, refuses

pytestmark = [pytest.mark.servers, pytest.mark.models, pytest.mark.xdist_group("e2e")]


def test_a_comparison_is_signed_and_verified_by_its_cid(fresh: Machine, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", lora_alpha=0.05)
    (tmp_path / "p.txt").write_text("Anna has a red kite.\nWhat is a CID?\n")
    asked = ("compare", str(SAMPLE), f"{SAMPLE}::{adapter}", "--prompts", str(tmp_path / "p.txt"))
    try:
        signed = fresh.gets(*asked, "--sign")
        key = str(fresh.gets("key", "list")["keys"][0]["address"])  # type: ignore[index]
    finally:
        fresh.types("devnet", "down")
    assert signed["schema"] == "citrate.comparison/1" and signed["a"] != signed["b"]
    cid = str(signed["cid"])
    assert fresh.gets("compare", "--show", cid) == signed, "without a chain, too"
    shown = fresh.types("compare", "--show", cid)
    assert f"signed by {key}" in shown.out and "KL(a || b)" in shown.out
    kept = fresh.gets("store", "ls")["objects"]
    assert any(stored["cid"] == cid and stored["pins"] for stored in kept)  # type: ignore[attr-defined]

    refuses(fresh.types("compare", "--show", "nothing", "--json"), 1, "FormatError", "CID")
    refuses(fresh.types("compare", "--show", cid, "--sign", "--json"), 2, "ConfigError", "nothing is measured")
    refuses(fresh.types("compare", str(SAMPLE), "--json"), 2, "ConfigError", "two models")
    refuses(fresh.types(*asked, "--min-z", "3", "--json"), 2, "ConfigError", "there are none")
    refuses(fresh.types(*asked[:-1], str(tmp_path / "none"), "--json"), 4, "NotFoundError", "no such file")
