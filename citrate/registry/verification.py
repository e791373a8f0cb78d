"""Compile the contracts again and compare them with what a chain has: every byte, and every immutable by its value.

Three things must agree: what the packaged sources compile to, the packaged code, and the deployed code. The address is
worth checking too: it follows from code and constructor arguments, so what the constructor wrote into storage (the
timelock's roles) is right where the code at that address is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from citrate.core.errors import ConfigError
from citrate.registry import artifacts
from citrate.registry.artifacts import Artifact
from citrate.registry.compiler import Compiled, Compiler
from citrate.registry.ids import keccak
from citrate.registry.rpc import JsonRpc, unhex

_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_COMPILERS = 2
"""How many run at once; each takes a core and some hundred megabytes."""


@dataclass(frozen=True)
class Verdict:
    """Whether one contract is what its sources say."""

    name: str
    address: str
    ok: bool
    reason: str
    """What differs; empty if nothing does."""
    missing: bool = False
    """There is no contract at all."""


def verify(
    node: JsonRpc,
    chain_id: int,
    addresses: Mapping[str, str],
    authority: str,
    compiler: Compiler,
    *,
    names: Iterable[str] = (),
    told: Callable[[str], None] | None = None,
) -> tuple[Verdict, ...]:
    """Compile contracts from the packaged sources and compare them with those on a chain.

    Args:
        node: the chain.
        chain_id: what it was found to be.
        addresses: contract name -> where it must be (`deployments.addresses_on`).
        authority: who governs; empty where nobody is known.
        compiler: of the right version.
        names: which contracts; all by default.
        told: called with the name of each that is about to be compiled.

    Raises:
        ConfigError: no such contract, or one whose address depends on who governs, and nobody is known.
        UnavailableError: the compiler failed.
        ChainError: the chain does not answer.
    """
    wanted = tuple(names) or artifacts.shipped()
    for name in wanted:
        if name not in artifacts.shipped():
            raise ConfigError(f"there is no contract {name!r}", hint=f"one of {', '.join(artifacts.shipped())}")
        if name not in addresses:
            raise ConfigError(
                f"where {name} is follows from who governs it, and nobody is named",
                hint="--authority ADDRESS, or authority in citrate.toml",
            )
    codes = [unhex(code) for code in node.batch([("eth_getCode", [addresses[name], "latest"]) for name in wanted])]

    def compiled(name: str) -> Compiled:
        if told:
            told(f"compiling {name}")
        return compiler.compile(artifacts.load(name).source, name, artifacts.compiler_input(name))

    with ThreadPoolExecutor(_COMPILERS) as pool:
        made = list(pool.map(compiled, wanted))
    known = {**addresses, artifacts.AUTHORITY: authority}
    return tuple(
        _verdict(artifacts.load(name), code, each, known, chain_id)
        for name, code, each in zip(wanted, codes, made, strict=True)
    )


def expected_immutables(artifact: Artifact, known: Mapping[str, str], chain_id: int) -> Mapping[str, bytes]:
    """What each immutable of a contract holds on a chain, as a word.

    Args:
        artifact: the contract.
        known: the address of each contract and of the authority.
        chain_id: the chain that it was deployed on.
    """
    address = _word(known[artifact.name])
    name, version = (text.encode() for text in artifact.domain)
    domain = (keccak(_DOMAIN_TYPE), keccak(name), keccak(version), chain_id.to_bytes(32, "big"), address)
    # OpenZeppelin's EIP712; its short strings end with their length
    values = {
        "_cachedThis": address,
        "_cachedChainId": chain_id.to_bytes(32, "big"),
        "_cachedDomainSeparator": keccak(b"".join(domain)),
        "_hashedName": keccak(name),
        "_hashedVersion": keccak(version),
        "_name": name.ljust(31, b"\0") + bytes([len(name)]),
        "_version": version.ljust(31, b"\0") + bytes([len(version)]),
    }
    for each, immutable in artifact.immutables.items():
        if immutable.argument is not None:
            values[each] = _word(known[artifact.arguments[immutable.argument]])
    return values


def _verdict(artifact: Artifact, code: bytes, made: Compiled, known: Mapping[str, str], chain_id: int) -> Verdict:
    address = known[artifact.name]
    if not code:
        return Verdict(artifact.name, address, False, "there is no contract at this address", missing=True)
    reason = _unlike_package(artifact, made)
    values = expected_immutables(artifact, known, chain_id)
    if not reason and code != artifact.with_immutables(values):
        reason = _difference(artifact, code, values)
    return Verdict(artifact.name, address, not reason, reason)


def _unlike_package(artifact: Artifact, made: Compiled) -> str:
    places = {place for immutable in artifact.immutables.values() for place in immutable.places}
    if made.runtime != artifact.runtime or made.immutable_places != places:
        return "the package's sources do not compile to the package's code"
    if made.creation_code != artifact.creation_code:
        return "the package's sources do not compile to the package's creation code"
    return ""


def _difference(artifact: Artifact, code: bytes, values: Mapping[str, bytes]) -> str:
    """What is different about deployed code, as exactly as it can be told."""
    if not artifact.is_code_of(code):
        for name in artifacts.shipped():
            if artifacts.load(name).is_code_of(code):
                return f"this is a {name}"
        if len(code) != len(artifact.runtime):
            return f"the code has {len(code)} bytes, not {len(artifact.runtime)}"
        wanted = artifact.with_immutables(values)
        at = next(i for i, (one, other) in enumerate(zip(code, wanted, strict=True)) if one != other)
        return f"the code differs from byte {at} on"
    for name, immutable in artifact.immutables.items():
        for place in immutable.places:
            held = code[place : place + 32]
            if held != values[name]:
                return f"its immutable {name} holds 0x{held.hex()}, not 0x{values[name].hex()}"
    raise AssertionError("code that is ours with the right immutables is equal")


def _word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")
