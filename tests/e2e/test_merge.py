"""Merging through the command line: from registered parents to a registered result that names them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.adapter_dirs import lora_tensors, write_adapter
from tests.e2e.machine import SAMPLE, Machine, refuses

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("merge")]
QUICK = ("--variants", "safetensors", "--checks", "tensors")


@dataclass(frozen=True)
class Shop:
    """A publisher with a model and two adapters of it on a chain of its own."""

    machine: Machine
    base_id: str
    lora_ids: tuple[str, str]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    machine = Machine(root / "home")
    try:
        base = machine.gets("register-model", str(SAMPLE), "--name", "tiny", *QUICK)
        loras = [
            str(
                machine.gets(
                    "register-lora", str(write_adapter(root / name, seed=seed, lora_alpha=0.5)), "--base",
                    "me/tiny", "--name", name, "--license", "apache-2.0",
                )["version_id"]
            )
            for seed, name in enumerate(("one", "two"))
        ]  # fmt: skip
        yield Shop(machine, str(base["version_id"]), (loras[0], loras[1]))
    finally:
        machine.types("devnet", "down")


def card_of(folder: Path, licence: str) -> Path:
    shutil.copytree(SAMPLE, folder)
    (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    return folder


def test_two_adapters_become_a_version_whose_lineage_names_them(shop: Shop, tmp_path: Path) -> None:
    machine, out = shop.machine, tmp_path / "merged"
    asked = ("--base", "me/tiny@1.0.0", "--adapter", "me/one=0.7", "--adapter", "me/two")
    done = machine.gets("merge", *asked, "--out", str(out))
    assert (done["path"], done["method"], done["rank"], done["alpha"]) == (str(out), "cat", 16, 16.0)
    assert (done["licence"], done["base_version_id"], done["status"]) == ("Apache-2.0", shop.base_id, "merged")
    parents = [(each["id"], each["weight"], each["basis_points"]) for each in done["parents"]]  # type: ignore[attr-defined]
    assert parents == [(shop.lora_ids[0], 0.7, 7000), (shop.lora_ids[1], 0.3, 3000)]
    assert (out / "LICENSE").read_bytes() == (SAMPLE / "LICENSE").read_bytes()

    again = machine.gets("merge", *asked, "--out", str(tmp_path / "again"))
    assert again["sha256"] == done["sha256"], "the same merge gives the same bytes"
    refuses(machine.types("merge", *asked, "--out", str(out), "--json"), 1, "AlreadyExistsError", "exists")

    published = machine.gets("register-model", str(out), "--name", "merged", *QUICK)
    assert published["variants"][0]["files"] == 9  # type: ignore[index]
    shown = machine.gets("show", "me/merged")
    assert [(each["version_id"], each["relation"]) for each in shown["lineage"]["parents"]] == [  # type: ignore[index]
        (shop.base_id, "merge cat base"),
        (shop.lora_ids[0], "merge cat adapter 0.7"),
        (shop.lora_ids[1], "merge cat adapter 0.3"),
    ]
    told = machine.types("merge", *asked, "--out", str(tmp_path / "told"))
    assert told.out.splitlines()[-1] == str(tmp_path / "told")
    hint = next(line for line in told.err.splitlines() if "citrate lora merge REF" in line)
    recorded = machine.gets("lora", "merge", "me/merged", *hint.partition(" REF ")[2].split())
    assert sorted(each["basis_points"] for each in recorded["parents"]) == [3000, 7000]  # type: ignore[attr-defined]


def test_models_are_merged_and_their_versions_are_the_lineage(shop: Shop, tmp_path: Path) -> None:
    machine, one = shop.machine, tmp_path / "one"
    machine.gets("merge", "--base", "me/tiny", "--adapter", "me/one", "--out", str(one))
    machine.gets("register-model", str(one), "--name", "whole", *QUICK)
    arc = machine.gets("merge", "--model", "me/tiny=0.75", "--model", "me/whole", "--out", str(tmp_path / "arc"))
    assert arc["method"] == "slerp" and [each["weight"] for each in arc["parents"]] == [0.75, 0.25]  # type: ignore[attr-defined]
    assert arc["base"] is None and arc["rank"] is None
    elected = machine.gets(
        "merge", "--base", "me/tiny", "--model", "me/whole", "--model", str(tmp_path / "arc"), "--method", "ties",
        "--density", "0.2", "--out", str(tmp_path / "ties"),
    )  # fmt: skip
    assert elected["settings"] == {"density": "0.2"}
    machine.gets("register-model", str(tmp_path / "ties"), "--name", "elected", *QUICK)
    lineage = machine.gets("show", "me/elected")["lineage"]["parents"]  # type: ignore[index]
    assert [each["relation"] for each in lineage] == ["merge ties base", "merge ties model 0.5"]


def test_what_is_refused_is_one_line_and_leaves_nothing(shop: Shop, tmp_path: Path) -> None:
    machine, out = shop.machine, tmp_path / "out"
    folder = write_adapter(tmp_path / "folder")
    machine.gets("register-model", str(card_of(tmp_path / "mit", "mit")), "--name", "mit", *QUICK)

    def says(code: int, kind: str, message: str, *asked: str) -> None:
        refuses(machine.types("merge", *asked, "--out", str(out), "--json"), code, kind, message)
        assert not out.exists() and not list(tmp_path.glob(".citrate-*"))

    base = ("--base", "me/tiny")
    says(1, "FormatError", "was trained on another base", "--base", "me/mit", "--adapter", "me/one", "--license", "mit")
    says(2, "ConfigError", "the licences differ", "--model", "me/tiny", "--model", "me/mit")
    forbidding = str(card_of(tmp_path / "nd", "cc-by-nd-4.0"))
    says(1, "NotPermittedError", "forbids derivatives", "--base", forbidding, "--adapter", str(folder))
    says(2, "ConfigError", "is a model, not an adapter", *base, "--adapter", "me/mit")
    says(2, "ConfigError", "is an adapter, not a model", "--model", "me/tiny", "--model", "me/one")
    says(2, "ConfigError", "'soup' is not known", *base, "--adapter", "me/one", "--method", "soup")
    says(4, "NotFoundError", "no such folder", *base, "--adapter", str(tmp_path / "nothing"))
    wide = write_adapter(tmp_path / "wide", {**lora_tensors(), **dict.fromkeys(lora_tensors(), (8, 8))})
    says(1, "FormatError", "does not fit", "--base", str(SAMPLE), "--adapter", str(wide))
    (folder / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes()[:-9])
    says(1, "FormatError", "truncated", "--base", str(SAMPLE), "--adapter", str(folder))
    forged = card_of(tmp_path / "forged", "apache-2.0")
    (forged / "merge.json").write_text(json.dumps({"schema": "citrate.merge/1"}))
    answer = machine.types("register-model", str(forged), "--name", "forged", *QUICK, "--json")
    refuses(answer, 1, "FormatError", "merge.json")


def test_a_merged_model_is_used_like_any_other(shop: Shop, tmp_path: Path) -> None:
    """An adapter that was never registered, merged, and converted with every check."""
    machine, out = shop.machine, tmp_path / "out"
    adapter = write_adapter(tmp_path / "adapter", lora_alpha=0.001)
    done = machine.gets("merge", "--base", "me/tiny", "--adapter", str(adapter), "--out", str(out))
    assert done["licences"][1] == {"parent": str(adapter), "licence": None}  # type: ignore[index]
    assert done["parents"][0]["id"] is None and done["parents"][0]["basis_points"] is None  # type: ignore[index]
    made = machine.gets("register-model", str(out), "--name", "usable", "--variants", "gguf:Q8_0", "--checks", "full")
    assert made["status"] == "published", "tokenizer, metadata and logits were checked against the merged model"
