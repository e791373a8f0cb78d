"""The Solidity compiler, driven by py-solc-x: a native one, or npm's in a checkout of citrate.

Nothing is ever downloaded here. The wrapper `tools/solc/solc.mjs` of the checkout runs npm's compiler under Node and
answers like a native one.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import ConfigError, UnavailableError
from citrate.registry import artifacts

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a contract."""

    creation_code: bytes
    runtime: bytes
    """With zeros where the immutables go."""
    immutable_places: frozenset[int]


class Compiler:
    """A compiler of exactly the version that the contracts were made with.

    Args:
        given: a compiler to use; None looks for one.

    Raises:
        ConfigError: the one given is none, or another version.
        UnavailableError: there is none.
    """

    def __init__(self, given: Path | None = None) -> None:
        self.version = artifacts.load(artifacts.MODEL_REGISTRY).compiler
        self.path = (self._require(given) if given else self._find()).resolve()

    def compile(self, source: str, name: str, standard_input: Mapping[str, object]) -> Compiled:
        """Compile one contract.

        Args:
            source: its file's name in the input.
            name: the contract's.
            standard_input: the compiler's standard-JSON input, which names all that it reads.

        Raises:
            UnavailableError: the compiler failed, or did not make the contract.
        """
        import solcx
        from solcx.exceptions import SolcError

        try:
            output = solcx.compile_standard(dict(standard_input), solc_binary=self.path)
            made = output["contracts"][source][name]["evm"]
            return Compiled(
                bytes.fromhex(made["bytecode"]["object"]),
                bytes.fromhex(made["deployedBytecode"]["object"]),
                frozenset(
                    int(place["start"])
                    for places in made["deployedBytecode"].get("immutableReferences", {}).values()
                    for place in places
                ),
            )
        except (SolcError, OSError, KeyError, TypeError, ValueError) as error:
            why = next(iter(str(error).strip().splitlines()), "")[:200]
            raise UnavailableError(
                f"{self.path} did not compile {name}: {why}", hint="--solc PATH names another compiler"
            ) from error

    def _require(self, path: Path) -> Path:
        found = _version_of(path)
        if found is None:
            raise ConfigError(f"{path} is no Solidity compiler", hint="--solc PATH names one that answers --version")
        if found != self.version:
            raise ConfigError(
                f"{path} is solc {found}, and the contracts were made with {self.version}",
                hint="the version and its commit must be the same; without --solc an installed one is looked for",
            )
        return path

    def _find(self) -> Path:
        for path in _candidates(self.version.partition("+")[0]):
            if _version_of(path) == self.version:
                return path
        number = self.version.partition("+")[0]
        raise UnavailableError(
            f"comparing the contracts needs solc {self.version}, and none is installed",
            hint=f"python -c \"import solcx; solcx.install_solc('{number}')\", --solc PATH, "
            "or Node.js on PATH in a checkout after make setup",
        )


def _candidates(number: str) -> Iterator[Path]:
    """py-solc-x's own, one on PATH, npm's in the checkout."""
    import solcx

    yield solcx.get_solcx_install_folder() / f"solc-v{number}"
    if on_path := shutil.which("solc"):
        yield Path(on_path)
    if shutil.which("node"):
        yield _CHECKOUT / "tools" / "solc" / "solc.mjs"


def _version_of(path: Path) -> str | None:
    """``0.8.37+commit...``; None if this is no compiler that runs."""
    from solcx.exceptions import SolcError
    from solcx.wrapper import get_version_str_from_solc_binary

    if not path.is_file():
        return None
    try:
        return str(get_version_str_from_solc_binary(path.resolve()))
    except (SolcError, OSError, ValueError, subprocess.CalledProcessError):
        return None
