"""What is typed wrongly: the exit code, the one line, the hint. In this process, without a server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from citrate.cli.diagnosis import Finding, diagnose
from citrate.cli.main import main
from citrate.core.settings import Settings
from citrate.registry.session import Session

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"


@dataclass(frozen=True)
class Typed:
    """What a command left."""

    code: int
    out: str
    err: str


Types = Callable[..., Typed]


@pytest.fixture
def types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Types:
    """Types a command in a fresh home and an empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CITRATE_HOME", str(tmp_path / "home"))

    def typed(*arguments: str) -> Typed:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Typed(int(stop.value.code or 0), told.out, told.err)

    return typed


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", ""), ("add", "", "--only-hash"), ("convert", "", "--to", "gguf:F16"), ("inspect", ""),
        ("run", "", "Hi"), ("convert", ".", "--to", "gguf:F16", "--out", ""), ("pull", "a/b", "--out", ""),
        ("verify", ""), ("register-model", "", "--name", "x"), ("store", "import", ""), ("dataset", "show", ""),
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_working_folder(types: Types, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "here" / "secret.txt").write_text("not to be added")
    found = types(*arguments)
    assert found.code == 2, found.err
    assert "empty" in found.err or "no model is named" in found.err or "not a CID" in found.err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("variant", "code", "meant"),
    [
        ("gguf:f16", 1, "gguf:F16"),
        ("gguf:q4_k_m", 1, "gguf:Q4_K_M"),
        ("mlx:4-bit", 1, "mlx:4bit"),
        ("safetensor", 2, "safetensors"),
        ("GGUF:Q8_0", 2, "gguf:Q8_0"),
    ],
)
def test_a_misspelt_variant_is_told_with_what_was_meant(types: Types, variant: str, code: int, meant: str) -> None:
    for command in (["convert", str(SAMPLE), "--to", variant], ["register-model", str(SAMPLE), "--name", "x",
                    "--dry-run", "--variants", f"safetensors,{variant}"]):  # fmt: skip
        found = types(*command)
        assert found.code == code, found.err
        assert f"hint:  did you mean {meant}? " in found.err
    assert list(Path().iterdir()) == []


def test_what_is_converted_is_not_written_into(types: Types) -> None:
    shutil.copytree(SAMPLE, "model")
    found = types("convert", "model", "--to", "safetensors", "--out", "model/out")
    assert (found.code, "error: model/out lies in model, which it is made from" in found.err) == (2, True)


def test_half_a_character_in_a_model_leaves_json_that_is_json(types: Types) -> None:
    shutil.copytree(SAMPLE, "model")
    config = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps({**config, "architectures": ["\ud800"]}))
    found = types("inspect", "model", "--json")
    assert (found.code, json.loads(found.out)["architecture"]["class_name"]) == (0, "\ud800")


@pytest.fixture
def added(types: Types) -> str:
    """The CID of a small folder in the store."""
    Path("folder").mkdir()
    Path("folder/config.json").write_text("{}")
    return types("add", "folder").out.strip()


def test_a_car_makes_its_folder_or_says_why_not(types: Types, added: str) -> None:
    assert types("store", "export", added, "--out", "new/deep/e.car").code == 0
    assert Path("new/deep/e.car").stat().st_size > 0
    Path("taken").touch()
    for place in ("/proc/x", "taken/x", "new"):
        found = types("store", "export", added, "--out", place)
        assert found.code == 1
        assert f"error: {place} cannot be written" in found.err
        assert "choose another" in found.err


def test_a_full_disk_is_exit_5_with_a_hint(types: Types, tmp_path: Path, added: str) -> None:
    found = types("store", "export", added, "--out", "/dev/full")
    assert found.code == 5
    assert "no room for /dev/full" in found.err
    for command in (["cat", f"{added}/config.json"], ["store", "export", added], ["store", "ls"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "citrate.cli.main", *command],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=100,
            )  # fmt: skip
        assert done.returncode == 5, done.stderr
        assert done.stderr.splitlines() == [
            "error: No space left on device", "hint:  free some space, or write it elsewhere",
        ]  # fmt: skip


@pytest.mark.parametrize("group", ["store", "alias"])
def test_a_group_without_a_command_prints_its_help_to_stderr(types: Types, group: str) -> None:
    found = types(group)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"Usage: citrate {group}")
    assert "Commands:" in found.err.splitlines()
    assert "\\n" not in found.err
    assert '"UsageError"' in types(group, "--json").out


TAKES_A_CID = [
    ("store", "where"), ("store", "pin"), ("store", "unpin"), ("store", "rm"), ("store", "export"), ("store", "fetch"),
    ("dataset", "show"), ("cat",), ("push", "--to", "kubo"),
]  # fmt: skip


@pytest.mark.parametrize("command", TAKES_A_CID)
def test_what_is_no_cid_is_exit_2_said_once(types: Types, command: tuple[str, ...]) -> None:
    found = types(*command, "garbage")
    assert found.code == 2, found.err
    assert found.err.count("garbage") == 1
    assert "'garbage' is not a CID" in found.err


@pytest.mark.parametrize("command", TAKES_A_CID[:-2])
def test_a_path_after_a_cid_is_named_as_what_is_too_much(types: Types, added: str, command: tuple[str, ...]) -> None:
    found = types(*command, f"{added}/config.json")
    assert found.code == 2, found.err
    assert "takes a CID alone" in found.err
    assert f"citrate cat {added}/config.json" in found.err


def test_a_folder_has_one_answer_however_it_is_kept(types: Types, added: str) -> None:
    (kept,) = types("add", "folder", "--profile", "unixfs-v0-2015").out.split()
    for cid in (added, kept):
        found = types("cat", cid)
        assert (found.code, f"error: {cid} is a directory") == (1, found.err.splitlines()[0])
        assert "append" in found.err
    assert "a file's path: config.json" in types("cat", added).err
    assert types("cat", f"{added}/nope").code == 4


def test_what_is_nowhere_has_a_hint_that_helps(types: Types, added: str) -> None:
    absent = types("add", "folder/config.json", "--only-hash").out.strip()
    absent = absent[:-5] + "aaaaa"
    for flags, word in (((), "--from URL"), (("--offline",), "leave --offline out")):
        found = types("cat", absent, *flags)
        assert found.code == 4
        assert word in found.err.splitlines()[1]
    assert types("cat", "bafkqaaa").code == 0, "the empty block is in its own CID"


def test_what_cannot_be_added_is_named_with_what_to_do(types: Types) -> None:
    Path("real").write_text("real")
    Path("link").symlink_to("real")
    found = types("add", "link")
    assert "link is a symbolic link" in found.err
    assert f"name what it points to, {Path('real').resolve()}" in found.err
    assert "a device" in types("add", "/dev/null").err
    for name in ("pipe", "back\\slash"):
        Path("folder").mkdir()
        os.mkfifo(f"folder/{name}") if name == "pipe" else Path(f"folder/{name}").touch()
        found = types("add", "folder")
        assert found.code == 1
        assert name in found.err.replace("\\\\", "\\")
        assert "remove" in found.err.splitlines()[1]
        shutil.rmtree("folder")


def test_doctor_names_what_keeps_it_from_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home(at: Path) -> Finding:
        return next(one for one in diagnose(Session(Settings.load({"home": at}))) if one.name == "home")

    assert home(tmp_path / "new").ok
    monkeypatch.setattr("os.access", lambda *_: False)
    found = home(tmp_path / "new")
    assert (found.ok, found.detail) == (False, f"{tmp_path} may not be written")
    assert "permissions" in found.hint


def test_one_is_no_plural(types: Types, added: str) -> None:
    assert types("store", "ls").err.startswith("1 object, ")
    assert types("add", "folder", "--only-hash").err.startswith("1 file, ")


def test_what_is_damaged_hints_at_another_command_than_the_one_that_said_so(types: Types, added: str) -> None:
    shutil.copytree(Path(__file__).parents[2] / "examples" / "tiny-llama", "broken")
    Path("broken/config.json").write_text("{")
    found = types("inspect", "broken")
    assert (found.code, "mend that file" in found.err, "citrate inspect" in found.err) == (1, True, False)
    home = Path(os.environ["CITRATE_HOME"])
    (home / "store" / "objects" / added / "config.json").unlink()
    found = types("store", "where", added)
    assert (found.code, "citrate store verify --repair --from URL" in found.err) == (3, True)
