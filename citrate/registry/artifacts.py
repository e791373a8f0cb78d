"""The compiled contracts that are shipped with the package: what is deployed, where, and how it is read."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from citrate.core.canonical import Json
from citrate.core.errors import CitrateError

MODEL_REGISTRY = "ModelRegistry"
TRAINING_LEDGER = "TrainingLedger"
TIMELOCK = "Timelock"
POLICY = "Policy"
LORA_REGISTRY = "LoRARegistry"
MODEL_ACCESS = "ModelAccess"
MODERATION = "Moderation"

AUTHORITY = "authority"
"""The argument of a constructor that is no contract of ours: who governs."""


@dataclass(frozen=True)
class Immutable:
    """A value that the constructor writes into the code, each time as one word."""

    places: tuple[int, ...]
    """Where in the runtime code."""
    argument: int | None
    """The place of the constructor's argument that it holds; None for those of EIP-712."""


@dataclass(frozen=True)
class Artifact:
    """A compiled contract."""

    name: str
    source: str
    """The name of its file in the compiler's input."""
    abi: list[dict[str, Json]]
    address: str
    """The same on every chain for everybody; empty where it follows from the arguments (`citrate.registry.stack`)."""
    salt: bytes
    creation_code: bytes
    """What deploys it, with the arguments appended."""
    creation_state: bytes
    """Keccak's state after the creation code, where arguments follow it."""
    arguments: tuple[str, ...]
    """For each of the constructor's arguments the contract whose address it is, or ``authority``."""
    runtime: bytes
    """The deployed code, with zeros where its immutables go."""
    immutables: Mapping[str, Immutable]
    domain: tuple[str, str]
    """The name and version of its EIP-712 domain; empty texts where it has none."""
    compiler: str
    """``0.8.37+commit...``."""

    def is_code_of(self, code: bytes) -> bool:
        """Whether ``code`` is this contract's deployed code, whatever its immutables hold."""
        return len(code) == len(self.runtime) and self._masked(code) == self.runtime

    def with_immutables(self, values: Mapping[str, bytes]) -> bytes:
        """The deployed code with a word for each immutable, by its name."""
        code = bytearray(self.runtime)
        for name, immutable in self.immutables.items():
            for place in immutable.places:
                code[place : place + 32] = values[name]
        return bytes(code)

    def _masked(self, code: bytes) -> bytes:
        masked = bytearray(code)
        for immutable in self.immutables.values():
            for place in immutable.places:
                masked[place : place + 32] = bytes(32)
        return bytes(masked)


@functools.cache
def load(name: str) -> Artifact:
    """Load ``abi/<name>.json``.

    Raises:
        CitrateError: the package is incomplete.
    """
    try:
        document = json.loads(_read(f"{name}.json"))
        return Artifact(
            name=name,
            source=document["source"],
            abi=cast(list[dict[str, Json]], document["abi"]),
            address=document.get("address", ""),
            salt=_unhex(document["salt"]),
            creation_code=_unhex(document["bytecode"]),
            creation_state=_unhex(document.get("creationState", "")),
            arguments=tuple(document["arguments"]),
            runtime=_unhex(document["deployedBytecode"]),
            immutables={each: _immutable(found) for each, found in document["immutables"].items()},
            domain=_domain(document.get("domain")),
            compiler=document["compiler"]["version"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CitrateError(f"the package lacks the contract {name}: {error}", hint="reinstall citrate") from error


@functools.cache
def shipped() -> tuple[str, ...]:
    """The names of all contracts in the package, each after those whose address its constructor takes.

    Raises:
        CitrateError: the package is incomplete.
    """
    try:
        return tuple(json.loads(_read("stack.json")))
    except (OSError, ValueError) as error:
        raise CitrateError(f"the package lacks its contracts: {error}", hint="reinstall citrate") from error


def compiler_input(name: str) -> dict[str, object]:
    """The compiler's standard-JSON input that the contract was made from.

    Raises:
        CitrateError: the package is incomplete.
    """
    try:
        return dict(json.loads(_read(f"{name}.input.json")))
    except (OSError, ValueError, TypeError) as error:
        raise CitrateError(f"the package lacks the sources of {name}: {error}", hint="reinstall citrate") from error


def _immutable(found: Mapping[str, object]) -> Immutable:
    places = cast(list[dict[str, int]], found["places"])
    if any(place["length"] != 32 for place in places):
        raise ValueError("an immutable that is no word")
    return Immutable(tuple(place["start"] for place in places), cast(int | None, found.get("argument")))


def _domain(found: Mapping[str, str] | None) -> tuple[str, str]:
    return (found["name"], found["version"]) if found else ("", "")


def _read(name: str) -> str:
    return importlib.resources.files("citrate.registry").joinpath("abi", name).read_text("utf-8")


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
