"""Where the contracts are for one authority, and how each is created.

Every contract is created by the deterministic deployment proxy, so its address follows from its code, its salt and
its constructor's arguments. Those are addresses of other contracts of the stack, or the *authority*: the one address
that governs policy. ModelRegistry and TrainingLedger take none and are everybody's. Source: EIP-1014 (CREATE2).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from citrate.core.errors import ConfigError
from citrate.core.records import ADDRESS_PATTERN
from citrate.registry import artifacts
from citrate.registry.ids import checksum, keccak, keccak_after

PROXY = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
"""The keyless CREATE2 proxy that most chains have (github.com/Arachnid/deterministic-deployment-proxy)."""

ANVIL_ACCOUNT = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
"""Anvil's first account, whose key is published: it governs local chains, and must govern no other."""


def stack(authority: str, overrides: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Contract name -> address, in the order of deployment.

    Args:
        authority: an address; empty leaves out the contracts whose address follows from it.
        overrides: contracts that stand elsewhere on this chain; others that take their address move with them.
    """
    return _stack(authority.lower(), tuple(sorted((overrides or {}).items())))


@functools.cache
def _stack(authority: str, overrides: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    fixed = dict(overrides)
    found: dict[str, str] = {}
    for name in artifacts.shipped():
        known = {**found, artifacts.AUTHORITY: authority} if authority else found
        artifact = artifacts.load(name)
        if name in fixed:
            found[name] = checksum(fixed[name])
        elif artifact.address:
            found[name] = artifact.address
        elif all(argument in known for argument in artifact.arguments):
            found[name] = _create2(artifact, b"".join(_word(known[argument]) for argument in artifact.arguments))
    return found


def deployment_call(name: str, authority: str, overrides: Mapping[str, str] | None = None) -> bytes:
    """The data of the transaction to ``PROXY`` that creates a contract of the stack.

    Raises:
        ConfigError: the settings say that it stands elsewhere, so creating it would not put it there.
    """
    others = {each: address for each, address in (overrides or {}).items() if each != name}
    creates, wanted = stack(authority, others)[name], stack(authority, overrides)[name]
    if creates != wanted:
        raise ConfigError(
            f"{name} is said to be at {wanted}, where nothing is, and would be created at {creates}",
            hint="check model_registry: citrate config show",
        )
    artifact = artifacts.load(name)
    known = {**stack(authority, overrides), artifacts.AUTHORITY: authority}
    return artifact.salt + artifact.creation_code + b"".join(_word(known[argument]) for argument in artifact.arguments)


def check_authority(authority: str) -> str:
    """Return an authority, spelled with its checksum.

    Raises:
        ConfigError: it is no address, or the zero address.
    """
    right = ADDRESS_PATTERN.fullmatch(authority) and int(authority, 16)
    if not right or authority not in (authority.lower(), checksum(authority)):
        raise ConfigError(
            f"the authority {authority!r} is not an address",
            hint="an address is 0x and 40 hex digits, its case a checksum",
        )
    return checksum(authority)


def _create2(artifact: artifacts.Artifact, arguments: bytes) -> str:
    init_code_hash = keccak_after(artifact.creation_state, len(artifact.creation_code), arguments)
    return checksum("0x" + keccak(b"\xff" + bytes.fromhex(PROXY[2:]) + artifact.salt + init_code_hash)[12:].hex())


def _word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")
