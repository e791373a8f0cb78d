"""The compiled contracts that are shipped with the package: what is deployed, where, and how it is read."""

from __future__ import annotations

import functools
import importlib.resources
import json
from dataclasses import dataclass
from typing import cast

from citrate.core.canonical import Json
from citrate.core.errors import CitrateError

MODEL_REGISTRY = "ModelRegistry"


@dataclass(frozen=True)
class Artifact:
    """A compiled contract. ``address`` follows from ``salt`` and ``init_code``: the same on every chain."""

    name: str
    abi: list[dict[str, Json]]
    address: str
    salt: bytes
    init_code: bytes
    runtime: bytes
    immutables: tuple[tuple[int, int], ...]
    """(start, length) of the runtime's bytes that deployment fills in."""

    def is_code_of(self, code: bytes) -> bool:
        """Whether ``code`` is this contract's deployed code, whatever its immutables hold."""
        return len(code) == len(self.runtime) and self._masked(code) == self._masked(self.runtime)

    def _masked(self, code: bytes) -> bytes:
        masked = bytearray(code)
        for start, length in self.immutables:
            masked[start : start + length] = bytes(length)
        return bytes(masked)


@functools.cache
def load(name: str) -> Artifact:
    """Load ``abi/<name>.json``.

    Raises:
        CitrateError: the package is incomplete.
    """
    try:
        text = importlib.resources.files("citrate.registry").joinpath("abi", f"{name}.json").read_text("utf-8")
        document = json.loads(text)
        return Artifact(
            name=name,
            abi=cast(list[dict[str, Json]], document["abi"]),
            address=document["address"],
            salt=_unhex(document["salt"]),
            init_code=_unhex(document["bytecode"]),
            runtime=_unhex(document["deployedBytecode"]),
            immutables=tuple(
                (int(place["start"]), int(place["length"]))
                for places in document["immutableReferences"].values()
                for place in places
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CitrateError(f"the package lacks the contract {name}: {error}", hint="reinstall citrate") from error


@functools.cache
def shipped() -> tuple[str, ...]:
    """The names of all contracts in the package, sorted."""
    folder = importlib.resources.files("citrate.registry").joinpath("abi")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name[: -len(".json")] for name in names if name.endswith(".json") and name.count(".") == 1))


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
