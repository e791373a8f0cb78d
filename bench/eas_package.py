"""The real EAS, from npm: fetched into .setup/, checked, compiled, and equal to what its authors ship. Used by
`gas_others.py`.

Three archives, each pinned by its SHA-512: EAS, and the compiler and the OpenZeppelin that its package.json names.
Nothing is unpacked or kept but the archives, which are checked again on every use.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import posixpath
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gas_bench import ABI, ROOT

ARCHIVES = ROOT / ".setup" / "others"
NODE = ROOT / "tools" / "node" / "node_modules" / ".bin"
IMPORT = re.compile(r'^\s*(?:import|\})[^;"]*"([^"]+)";', re.MULTILINE)

EAS_SETTINGS = {
    "optimizer": {"enabled": True, "runs": 1_000_000},
    "metadata": {"bytecodeHash": "none"},
    "evmVersion": "paris",
}
"""The package holds no configuration; with this one the code is, byte for byte, that of its own artifacts."""


@dataclass(frozen=True)
class Package:
    """An archive of the npm registry."""

    name: str
    version: str
    sha512: str
    """Base64, as npm shows it in `dist.integrity`."""

    def archive(self) -> Path:
        """The archive's place, fetched if it is not there.

        Raises:
            SystemExit: it cannot be had, or is not the one that is pinned.
        """
        path = ARCHIVES / f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"
        if not path.exists():
            ARCHIVES.mkdir(parents=True, exist_ok=True)
            if shutil.which("npm") is None:
                raise SystemExit("npm is not on PATH; gas_others.py needs it to fetch what it compares with")
            order = [
                "npm",
                "pack",
                "--loglevel=error",
                "--pack-destination",
                str(ARCHIVES),
                f"{self.name}@{self.version}",
            ]
            done = subprocess.run(order, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
            if done.returncode or not path.exists():
                why = " ".join(done.stderr.split("\n", 2)[:2]) or "npm said nothing"
                raise SystemExit(f"npm pack {self.name}@{self.version} failed: {why}")
        found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
        if found != self.sha512:
            path.unlink()
            raise SystemExit(f"{self.name}@{self.version} has SHA-512 {found}, not the pinned one; it was deleted")
        return path

    def read(self, member: str) -> bytes:
        with tarfile.open(self.archive()) as archive:
            try:
                file = archive.extractfile(f"package/{member}")
            except KeyError:
                raise SystemExit(f"{self.name}@{self.version} holds no {member}") from None
            assert file is not None
            return file.read()


EAS = Package(
    "@ethereum-attestation-service/eas-contracts",
    "1.9.0",
    "L60y1fgKlY3a45xxnPlgRbiGQY8RF/lF+AzF1iVoR7/aEzitS0Nuyyjq8+IXs1sSSU0dl2+yGSmELxVeB6FelA==",
)
OPENZEPPELIN = Package(
    "@openzeppelin/contracts",
    "5.3.0",
    "zj/KGoW7zxWUE8qOI++rUM18v+VeLTTzKs/DJFkSzHpQFPD/jKKF0TrMxBfGLl3kpdELCNccvB3zmofSzm4nlA==",
)
SOLC = Package(
    "solc", "0.8.29", "M1hmcsejAtT1RWC+wy45Oi8a82nSnDl65wDzA3/8uWTC7R7VcnrMVIHv6/LHqnQPZ7OM2RIeKh3zpNo4E5lYbw=="
)


@dataclass(frozen=True)
class Compiled:
    """A contract that can be deployed."""

    abi: list[Any]
    bytecode: str


def build_own(name: str) -> Compiled:
    """Compile bench/contracts/NAME.sol with the project's compiler and the settings of what is deployed."""
    source = f"bench/contracts/{name}.sol"
    settings = json.loads((ABI / "ModelRegistry.input.json").read_text())["settings"]
    text = _input({source: (ROOT / source).read_text()}, settings)
    solc = [_node(), str(ROOT / "tools" / "solc" / "solc.mjs"), "--standard-json"]
    done = subprocess.run(solc, input=text, capture_output=True, text=True, check=False)
    return _contract(done, done.stdout, source, name)


def build_eas() -> tuple[Compiled, Compiled]:
    """Compile the schema registry and EAS.

    Raises:
        SystemExit: the code differs from the artifacts in the package.
    """
    roots = ("contracts/SchemaRegistry.sol", "contracts/EAS.sol")
    with tempfile.TemporaryDirectory() as folder:
        compiler, given, made = (Path(folder) / name for name in ("soljson.js", "input.json", "output.json"))
        compiler.write_bytes(SOLC.read("soljson.js"))
        given.write_text(_input(_sources(roots), EAS_SETTINGS))
        order = [_node(), str(ROOT / "bench" / "contracts" / "compile.mjs"), str(compiler), str(given), str(made)]
        done = subprocess.run(order, capture_output=True, text=True, check=False)
        output = made.read_text() if made.exists() else ""
    registry, eas = (_contract(done, output, root, Path(root).stem) for root in roots)
    for root, compiled in zip(roots, (registry, eas), strict=True):
        shipped = json.loads(EAS.read(f"artifacts/{root}/{Path(root).stem}.json"))["bytecode"]
        if compiled.bytecode != shipped:
            raise SystemExit(f"{root} of {EAS.name}@{EAS.version} does not compile to the code that the package ships")
    return registry, eas


def _sources(roots: tuple[str, ...]) -> dict[str, str]:
    """The roots and all that they import, under the names that the compiler will ask for."""
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        library = f"{OPENZEPPELIN.name}/"
        of_library = name.startswith(library)
        found[name] = (OPENZEPPELIN.read(name.removeprefix(library)) if of_library else EAS.read(name)).decode()
        here = posixpath.dirname(name)
        imports = IMPORT.findall(found[name])
        waiting += [posixpath.normpath(posixpath.join(here, path)) if path[0] == "." else path for path in imports]
    return found


def _input(sources: dict[str, str], settings: dict[str, Any]) -> str:
    outputs = {"*": {"*": ["abi", "evm.bytecode.object"]}}
    contents = {name: {"content": text} for name, text in sorted(sources.items())}
    return json.dumps(
        {"language": "Solidity", "sources": contents, "settings": {**settings, "outputSelection": outputs}}
    )


def _contract(done: subprocess.CompletedProcess[str], output: str, source: str, name: str) -> Compiled:
    if done.returncode or not output:
        raise SystemExit(f"the compiler failed on {source}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    result = json.loads(output)
    errors = [e["formattedMessage"] for e in result.get("errors", ()) if e["severity"] == "error"]
    if errors:
        raise SystemExit(f"{source} does not compile:\n{errors[0]}")
    made = result["contracts"][source][name]
    return Compiled(made["abi"], "0x" + made["evm"]["bytecode"]["object"])


def _node() -> str:
    path = NODE / "node"
    if not path.exists():
        raise SystemExit(f"no Node.js at {path.relative_to(ROOT)}; run: make setup")
    return str(path)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{NODE}{os.pathsep}{os.environ.get('PATH', '')}"}
