"""Our contracts on one chain: the connection that is proved to be ours, and questions put to a single block.

ModelRegistry must be there. The others may be missing (an older deployment, or nobody named who governs): what is asked
of one of them then comes to no answer, which is a value, and what needs one says what to do.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeAlias, TypeVar

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, CitrateError, ConfigError
from citrate.registry import artifacts, deployments, ids, rpc
from citrate.registry.abi_codec import Frame
from citrate.registry.rpc import Call, JsonRpc, RpcError
from citrate.registry.views import View

T = TypeVar("T")
U = TypeVar("U")

Outcome: TypeAlias = Json | RpcError
"""What a call came to: its answer's hex, or the node's error."""
OBEYED = (artifacts.LORA_REGISTRY, artifacts.POLICY, artifacts.MODERATION)
"""What the status of a version rests on."""
_VERIFY = "citrate verify-contracts"
NAME_WHO_GOVERNS = "name who governs: authority = ADDRESS in citrate.toml, or CITRATE_AUTHORITY"
_NO_ANSWER = "0x"
"""What a call of an address without code comes to; every view of ours answers at least a word."""


@dataclass(frozen=True)
class Block:
    """The block that a question is answered from."""

    number: int
    hash: str
    timestamp: int


class Contract:
    """Our contracts on one chain. ModelRegistry's code was compared with ours when it was opened.

    Args:
        node: the chain.
        chain_id: what it was found to be.
        registry_address: the ModelRegistry's.
        authority: who governs the contracts that stand beside it; empty where that is not known.
        is_set: whether the settings name that authority, so that it is a mistake if nothing of it stands.
    """

    def __init__(
        self, node: JsonRpc, chain_id: int, registry_address: str, authority: str = "", *, is_set: bool = False
    ) -> None:
        self.rpc = node
        self.chain_id = chain_id
        self.registry_address = registry_address
        self.authority = authority
        self.is_set = is_set
        self._found: dict[str, str] = {artifacts.MODEL_REGISTRY: registry_address}

    @cached_property
    def addresses(self) -> Mapping[str, str]:
        """Contract name -> where it must be; whether it is there is not asked. Without an authority not all of them."""
        return deployments.addresses_on(self.chain_id, self.authority, self.registry_address)

    def find(self, name: str) -> str:
        """The address of a contract of the stack (`citrate.registry.artifacts`), its code compared with ours.

        Returns:
            Its address; empty if it does not stand on this chain, or nobody is known to govern it.

        Raises:
            ChainError: no answer, or the code there is not this release's.
        """
        if not self._found.get(name):
            address = self.addresses.get(name, "")
            code = rpc.unhex(self.rpc.call("eth_getCode", address, "latest")) if address else b""
            if code:
                _require_code_of(name, code, address, self.chain_id)
            self._found[name] = address if code else ""
        return self._found[name]

    def require(self, name: str) -> str:
        """The address of a contract of the stack that must be there; see ``find``.

        Raises:
            ConfigError: nobody is known to govern the contracts of this chain, or somebody of whom nothing stands.
            ChainError: it does not stand on this chain.
        """
        address = self.find(name)
        if address:
            return address
        raise self._lacks(name)

    def require_governed(self) -> None:
        """Refuse an authority that the settings name and of which nothing stands: most likely it is a wrong one.

        Raises:
            ConfigError: none of the contracts whose address follows from it has code.
            ChainError: the chain does not answer.
        """
        if self.is_set and not self._stand(deployments.governed(self.addresses)):
            raise ConfigError(
                f"authority = {self.authority}: nothing that it governs stands on chain {self.chain_id}",
                hint="citrate config show tells where authority is set; citrate deploy-contracts, if it is right",
            )

    def _stand(self, names: Sequence[str]) -> bool:
        calls: list[Call] = [("eth_getCode", [self.addresses[name], "latest"]) for name in names]
        return any(rpc.unhex(code) for code in self.rpc.batch(calls))

    def with_contract(self, name: str, address: str) -> Self:
        """The same chain, whose contract of that name is the one at ``address``, whoever wrote its code.

        Raises:
            ChainError: there is no contract at that address.
        """
        if not rpc.unhex(self.rpc.call("eth_getCode", address, "latest")):
            raise ChainError(f"there is no contract at {address} on chain {self.chain_id}", hint="check the address")
        other = copy.copy(self)
        other.addresses = {**self.addresses, name: address}
        other._found = {**self._found, name: address}
        return other

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
            ConfigError, ChainError: the chain does not have the contract; see ``require``.
            ChainError: no answer, or not one of our contract's.
        """
        return self.value(view, self.outcomes([view], block)[0])

    def read_two(self, one: View[T], other: View[U], block: Block) -> tuple[T, U]:
        """Ask two views at ``block`` in one round trip; see ``read``."""
        first, second = self.outcomes([one, other], block)
        return self.value(one, first), self.value(other, second)

    def read_if_there(self, view: View[T], block: Block) -> T | None:
        """Ask one view at ``block``; None if the chain does not have its contract. See ``read``."""
        return self.value_if_there(view, self.outcomes([view], block)[0])

    def outcomes(self, asked: Sequence[View[object]], block: Block) -> list[Outcome]:
        """Put several views, of any contracts, to ``block`` in one round trip; each comes to one outcome."""
        there = [view for view in asked if view.contract in self.addresses]
        batch: list[Call] = [
            (
                "eth_call",
                [{"to": self.addresses[view.contract], "data": "0x" + view.data.hex()}, {"blockHash": block.hash}],
            )
            for view in there
        ]
        answers = iter(self.rpc.batch(batch))
        return [next(answers) if view.contract in self.addresses else _NO_ANSWER for view in asked]

    def value(self, view: View[T], outcome: Outcome) -> T:
        """Decode what a view's call came to; see ``read``."""
        if isinstance(outcome, RpcError):
            error = refused(outcome)
            if error is outcome and outcome.is_revert:  # not for a reason of ours: then by code of ours?
                self.require_ours(view.contract, *OBEYED)
            raise error
        if outcome == _NO_ANSWER:
            self.require_ours(view.contract)
            raise self._lacks(view.contract)
        try:
            return view.decode(Frame(rpc.unhex(outcome)))
        except ChainError:
            self.require_ours(view.contract)
            raise

    def value_if_there(self, view: View[T], outcome: Outcome) -> T | None:
        """Decode what a view's call came to; None if the chain does not have its contract. See ``read``."""
        if outcome != _NO_ANSWER:
            return self.value(view, outcome)
        self._found.pop(view.contract, None)  # it may be gone since it was found
        if where := self.find(view.contract):  # code that does not answer is not the same as no code
            raise ChainError(f"the {view.contract} at {where} on chain {self.chain_id} gives no answer", hint=_VERIFY)
        return None

    def require_ours(self, *names: str) -> None:
        """Refuse what stands where a contract of the stack must be, and is not that contract; nothing there is no harm.

        Raises:
            ChainError: the code there is not this release's; it names the contract and the address.
        """
        for name in dict.fromkeys(names):
            self.find(name)

    def _lacks(self, name: str) -> CitrateError:
        if name not in self.addresses:
            return ConfigError(
                f"which {name} counts on chain {self.chain_id} depends on who governs it, and nobody is named",
                hint=NAME_WHO_GOVERNS,
            )
        self.require_governed()
        where = self.addresses[name]
        return ChainError(f"there is no {name} at {where} on chain {self.chain_id}", hint="citrate deploy-contracts")


def connect(rpc_url: str, expected_chain_id: int = 0, registry_address: str = "", authority: str = "") -> Contract:
    """Open a chain: it must be the expected one and hold our contract's code.

    Args:
        rpc_url: an http(s) JSON-RPC endpoint.
        expected_chain_id: 0 takes the chain that answers.
        registry_address: empty for the one that the package knows.
        authority: who governs, where the package does not know it (`deployments.authority_on`).

    Raises:
        ChainError: no answer, another chain, or no contract of ours at the address.
    """
    node = JsonRpc(rpc_url)
    address = registry_address or deployments.registry_on(expected_chain_id)
    chain, code = node.batch([("eth_chainId", []), ("eth_getCode", [address, "latest"])])
    chain_id = _expected(node, rpc.quantity(chain), expected_chain_id)
    found = rpc.unhex(code)
    if not found:
        raise ChainError(f"there is no ModelRegistry at {address} on chain {chain_id}", hint="citrate deploy-contracts")
    _require_code_of(artifacts.MODEL_REGISTRY, found, address, chain_id)
    who = deployments.authority_on(chain_id, rpc_url, authority)
    return Contract(node, chain_id, ids.checksum(address), who, is_set=bool(authority))


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
    from citrate.registry import reverts  # a question that is answered needs none of it

    try:
        data = rpc.unhex(error.data)
    except ChainError:
        return error
    return reverts.decode(data) or error


def _require_code_of(name: str, code: bytes, address: str, chain_id: int) -> None:
    if artifacts.load(name).is_code_of(code):
        return
    check = "check model_registry (citrate config show)" if name == artifacts.MODEL_REGISTRY else _VERIFY
    raise ChainError(
        f"the contract at {address} on chain {chain_id} is not this release's {name}",
        hint=f"{check}; on a devnet of an older build: citrate devnet reset",
    )
