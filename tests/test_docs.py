"""Docs that fail when they are stale."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from citrate.cli.main import COMMANDS, app

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDE = (ROOT / "docs" / "guide.md").read_text()


def command(name: str) -> object:
    return typer.main.get_command(app).get_command(None, name)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_stands_in_the_guide(name: str) -> None:
    found = command(name)
    below = list(getattr(found, "commands", {}).values()) or [found]
    for each in below:
        assert each.help, f"{name} {each.name} has no help"
        assert "Example: " in each.help, f"{name} {each.name} shows no example"
    assert f"citrate {name}" in GUIDE


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


def test_the_tree_of_the_readme_is_true() -> None:
    block = (ROOT / "README.md").read_text().split("```")[3]
    folder = ROOT
    listed = set()
    for line in block.strip().splitlines():
        indent, names = len(line) - len(line.lstrip()), re.split(r"\s{2,}", line.strip())[0]
        for name in names.split():
            path = (ROOT / "citrate" if indent else ROOT) / name.rstrip("/")
            assert path.exists(), f"README names {path.relative_to(ROOT)}"
            listed.add(path)
        folder = folder if indent else ROOT
    tracked = {path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    built = {"node_modules", "bin", "artifacts", "cache", "dist", "demo-homes", "out", "coverage"}
    assert {path for path in tracked if path.name not in built} <= listed | {ROOT / "citrate"}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_the_docs_compiles_and_imports_what_exists(path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        compile(block, str(path), "exec")
        for line in block.splitlines():
            if line.startswith("from citrate"):
                exec(line, {})
