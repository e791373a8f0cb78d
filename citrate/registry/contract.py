"""One registry on one chain: the connection that is proved to be ours, and questions put to a single block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, CitrateError
from citrate.registry import artifacts, deployments, ids, reverts, rpc
from citrate.registry.abi_codec import Frame
from citrate.registry.rpc import Call, JsonRpc, RpcError
from citrate.registry.views import View

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Block:
    """The block that a question is answered from."""

    number: int
    hash: str
    timestamp: int


class Contract:
    """The registry's contract at an address whose code was compared with ours."""

    def __init__(self, node: JsonRpc, chain_id: int, registry_address: str) -> None:
        self.rpc = node
        self.chain_id = chain_id
        self.registry_address = registry_address

    def pin(self) -> Block:
        """The newest block, from which the next answers come."""
        answer = self.rpc.call("eth_getBlockByNumber", "latest", False)
        if not isinstance(answer, dict):
            raise ChainError("the node has no newest block", hint="check rpc_url: citrate config show")
        block_hash = answer.get("hash")
        if not isinstance(block_hash, str):
            raise ChainError("the node's newest block has no hash", hint="check rpc_url: citrate config show")
        return Block(rpc.quantity(answer.get("number")), block_hash, rpc.quantity(answer.get("timestamp")))

    def read(self, view: View[T], block: Block) -> T:
        """Ask one view at ``block``.

        Raises:
            CitrateError: what the contract's custom error means.
            ChainError: no answer, or not one of our contract's.
        """
        return self.value(view, self.outcomes([view.data], block)[0])

    def read_two(self, one: View[T], other: View[U], block: Block) -> tuple[T, U]:
        """Ask two views at ``block`` in one round trip; see ``read``."""
        first, second = self.outcomes([one.data, other.data], block)
        return self.value(one, first), self.value(other, second)

    def outcomes(self, calls: Iterable[bytes], block: Block) -> list[Json | RpcError]:
        """Put several calls to ``block`` in one round trip."""
        batch: list[Call] = [
            ("eth_call", [{"to": self.registry_address, "data": "0x" + data.hex()}, {"blockHash": block.hash}])
            for data in calls
        ]
        return self.rpc.batch(batch)

    def value(self, view: View[T], outcome: Json | RpcError) -> T:
        """Decode what a view's call came to; see ``read``."""
        if isinstance(outcome, RpcError):
            raise refused(outcome)
        return view.decode(Frame(rpc.unhex(outcome)))


def connect(rpc_url: str, expected_chain_id: int = 0, registry_address: str = "") -> Contract:
    """Open a chain: it must be the expected one and hold our contract's code.

    Args:
        rpc_url: an http(s) JSON-RPC endpoint.
        expected_chain_id: 0 takes the chain that answers.
        registry_address: empty for the one that the package knows.

    Raises:
        ChainError: no answer, another chain, or no contract of ours at the address.
    """
    node = JsonRpc(rpc_url)
    address = registry_address or deployments.registry_on(expected_chain_id)
    chain, code = node.batch([("eth_chainId", []), ("eth_getCode", [address, "latest"])])
    chain_id = _expected(node, rpc.quantity(chain), expected_chain_id)
    _require_our_code(rpc.unhex(code), address, chain_id)
    return Contract(node, chain_id, ids.checksum(address))


def require_chain(node: JsonRpc, expected_chain_id: int) -> int:
    """The id of the chain that answers; it must be the expected one (0: any).

    Raises:
        ChainError: it is another, or none answers.
    """
    return _expected(node, rpc.quantity(node.call("eth_chainId")), expected_chain_id)


def _expected(node: JsonRpc, chain_id: int, expected_chain_id: int) -> int:
    if expected_chain_id and chain_id != expected_chain_id:
        raise ChainError(
            f"{rpc.redacted(node.url)} is chain {chain_id}, not {expected_chain_id}",
            hint="set rpc_url and chain_id of the same network: citrate config show",
        )
    return chain_id


def refused(error: RpcError) -> CitrateError:
    """What an error of the node means: one of the contract's errors, or that the chain does not answer."""
    try:
        data = rpc.unhex(error.data)
    except ChainError:
        return error
    return reverts.decode(data) or error


def _require_our_code(code: bytes, address: str, chain_id: int) -> None:
    if not code:
        raise ChainError(f"there is no ModelRegistry at {address} on chain {chain_id}", hint="citrate deploy-contracts")
    if not artifacts.load(artifacts.MODEL_REGISTRY).is_code_of(code):
        raise ChainError(
            f"the contract at {address} on chain {chain_id} is not this release's ModelRegistry",
            hint="check model_registry (citrate config show); on a devnet of an older build: citrate devnet reset",
        )
