"""What is typed wrongly: the exit code, the one line, the hint. In this process, without a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from citrate.cli.main import main


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
        ("add", ""), ("add", "", "--only-hash"), ("convert", "", "--to", "gguf:F16"), ("inspect", ""), ("run", "", "Hi"),
        ("convert", ".", "--to", "gguf:F16", "--out", ""), ("pull", "a/b", "--out", ""), ("verify", ""),
        ("register-model", "", "--name", "x"), ("store", "import", ""), ("dataset", "show", ""),
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_working_folder(types: Types, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "here" / "secret.txt").write_text("not to be added")
    found = types(*arguments)
    assert found.code == (1 if arguments[0] == "dataset" else 2), found.err
    assert "empty" in found.err or "no model is named" in found.err or "not a CID" in found.err
    assert not (tmp_path / "home").exists()
