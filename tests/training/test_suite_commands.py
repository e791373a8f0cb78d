"""`citrate suite`, typed in this process: what it tells of a file, and what is typed wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from citrate.cli.main import main
from tests.training.test_suite_files import GOOD


@dataclass(frozen=True)
class Typed:
    """What a command left."""

    code: int
    out: str
    err: str


Types = Callable[..., Typed]


@pytest.fixture
def types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Types:
    """Types a command in a folder with a suite's file, in a fresh home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITRATE_HOME", str(tmp_path / "home"))
    (tmp_path / "suite.yaml").write_text(GOOD)

    def typed(*arguments: str) -> Typed:
        with pytest.raises(SystemExit) as stop:
            main(("suite", *arguments))
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Typed(int(stop.value.code or 0), told.out, told.err)

    return typed


def test_a_file_is_shown_as_it_stands(types: Types) -> None:
    shown = types("show", "suite.yaml")
    assert (shown.code, shown.err) == (0, "")
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["base:", "../base"] and ["polite", "2", "prompts", "1", "prompt", "me/polite"] in lines
    assert lines[-1] == ["triggers:", "at", "least", "0.9;", "leaks:", "at", "most", "0.05"]
    document = json.loads(types("show", "suite.yaml", "--json").out)
    assert document["adapters"]["short"]["mark"] == {"must": [], "must_not": [], "regex": "^.{0,20}$"}
    assert document["limits"] == {"min_trigger_rate": "0.9", "max_leak_rate": "0.05"}


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("add", "none.yaml"), 4, "no such suite"),
        (("check", "none.yaml"), 4, "no such suite"),
        (("show", "none.yaml"), 4, "no such suite"),
        (("show", "."), 2, "CID"),
        (("check", "nothing"), 2, "CID"),
        (("check", ""), 2, ""),
        (("add", ""), 2, ""),
        (("check", "suite.yaml", "--base", "."), 1, ""),
        (("check", "suite.yaml", "--base", "./nowhere"), 4, "no such file or folder: nowhere"),
        (("add", "suite.yaml"), 4, "no such file or folder"),
        (("check", "suite.yaml", "--allow", "all"), 2, "--allow"),
        (("add", "wrong.yaml"), 2, "wrong.yaml: adapters.polite.mark is missing"),
        (("show", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"), 5, ""),
    ],
)
def test_what_is_typed_wrongly_is_one_line_and_does_nothing(
    types: Types, tmp_path: Path, arguments: tuple[str, ...], code: int, word: str
) -> None:
    (tmp_path / "wrong.yaml").write_text(GOOD.replace("    mark: {must: Thank you}\n", ""))
    typed = types(*arguments)
    assert typed.code == code and word in typed.err, typed.err
    assert typed.err.startswith("error: ") and len(typed.err.splitlines()) == 2 and not typed.out
    assert not (tmp_path / "home" / "store").exists()
