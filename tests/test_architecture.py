"""Dependencies point one way; one module each knows web3 and ipfshttpclient; importing costs no framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "citrate"
ALLOWED = {
    "core": {"core"},
    "formats": {"core", "formats"},
    "registry": {"core", "formats", "registry"},
    "training": {"core", "formats", "training"},
    "inference": {"core", "formats", "inference"},
    "facade": {"core", "formats", "registry", "training", "inference", "facade"},
    "fine_tuning": {"core", "formats", "registry", "training", "inference", "facade", "fine_tuning"},
    "cli": {"core", "formats", "registry", "training", "inference", "facade", "fine_tuning", "cli"},
}
HEAVY = {"torch", "transformers", "trl", "peft", "mlx", "mlx_lm", "llama_cpp", "numba", "web3", "datasets"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_eth_account_is_imported_in_one_place_only() -> None:
    """Whoever imports it otherwise raises the whole process's recursion limit: see citrate/registry/ethereum.py."""
    here = Path(__file__).parent
    paths = [*modules(), *(path for path in here.rglob("*.py"))]
    found = [
        path for path in paths if any(name.startswith("eth_account") for name in imports(ast.parse(path.read_text())))
    ]
    assert found == [ROOT / "registry" / "ethereum.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    used = {name.split(".")[1] for name in imports(ast.parse(path.read_text())) if name.startswith("citrate.")}
    assert used - {"__version__"} <= ALLOWED[package]


@pytest.mark.parametrize(("library", "only"), [("web3", "delivery"), ("ipfshttpclient", "kubo")])
def test_one_module_knows_the_library(library: str, only: str) -> None:
    users = {p.stem for p in modules() if any(n.split(".")[0] == library for n in imports(ast.parse(p.read_text())))}
    assert users == {only}


@pytest.mark.parametrize(
    "module", ["citrate", "citrate.cli.main", "citrate.facade", "citrate.formats", "citrate.registry.session"]
)
def test_importing_costs_no_heavy_package(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)
