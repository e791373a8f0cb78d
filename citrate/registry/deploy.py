"""Put the contracts on a chain, at the addresses that follow from their code and from who governs them.

Each contract is created by the deterministic deployment proxy, whoever pays. Deploying twice sends nothing the second
time, and what a killed deployment left undone is all that the next one does. The last step is the authority's own:
it appoints the contract that moderates. Where nobody who sends is the authority, that call is told as pending.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, CitrateError, ConfigError
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import artifacts, deployments
from citrate.registry.abi_codec import Frame, encode_call
from citrate.registry.rpc import Call, JsonRpc, RpcError, is_loopback, quantity, unhex
from citrate.registry.stack import PROXY, deployment_call

_PROXY_CODE = (
    "0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f5801515"
    "6039578182fd5b8082525050506014600cf3"
)
_NOBODY = "0x" + "0" * 40
_APPOINT = "appoint(address)"
_APPOINT_GAS = 100_000
"""More than it takes."""
_CREATION_GAS, _CODE_BYTE_GAS, _DATA_BYTE_GAS = 53_000, 200, 16
"""What a node charges for a transaction that creates, for a byte of the contract and for one of the transaction."""


@dataclass(frozen=True)
class Transaction:
    """A step of a deployment that is in a block, or would be sent."""

    contract: str
    """Which one it creates, or ``Policy.appoint``."""
    tx_hash: str
    """Empty in a dry run."""
    gas_used: int | None
    """In a dry run an estimate; None where it cannot be told before the steps ahead of it are taken."""


@dataclass(frozen=True)
class PendingCall:
    """A call that only somebody else can send."""

    to: str
    data: bytes
    sender: str
    why: str


@dataclass(frozen=True)
class Deployed:
    """What stands on a chain, what was sent for it, and what is left to others."""

    authority: str
    contracts: Mapping[str, str]
    """Contract name -> address, in the order of deployment."""
    transactions: tuple[Transaction, ...] = ()
    pending: tuple[PendingCall, ...] = ()


class Sender(Protocol):
    """Sends as one account, and waits until what it sent is in a block."""

    @property
    def address(self) -> str:
        """The account."""
        ...

    def require_funds(self, gas: int) -> None:
        """Refuse to begin what the account cannot pay to the end.

        Raises:
            CitrateError: it has less than ``gas`` may cost now.
        """
        ...

    def send(self, to: str, data: bytes) -> tuple[str, int]:
        """Send ``data`` to ``to``; returns the transaction's hash and the gas it used.

        Raises:
            CitrateError: it was refused, reverted or not mined in time.
        """
        ...


class Deployment:
    """The contracts of one authority on one chain.

    Args:
        node: the chain.
        chain_id: what it was found to be.
        authority: who governs; must be known.
        model_registry: where the ModelRegistry is, if the settings say so.
        told: called with a line for each step that is taken.

    Raises:
        ConfigError: nobody is named.
    """

    def __init__(
        self,
        node: JsonRpc,
        chain_id: int,
        authority: str,
        model_registry: str = "",
        told: Callable[[str], None] | None = None,
    ) -> None:
        if not authority:
            raise ConfigError(
                "the addresses of the contracts follow from who governs them, and nobody is named",
                hint="name who governs: --authority ADDRESS (a key, or better a multi-signature wallet)",
            )
        self._rpc = node
        self._local = chain_id == DEVNET_CHAIN_ID and is_loopback(node.url)
        self.authority = authority
        self.contracts = deployments.addresses_on(chain_id, authority, model_registry)
        self._told = told or (lambda _: None)

    def missing(self) -> tuple[str, ...]:
        """The contracts that the chain does not have yet.

        Raises:
            ChainError: no answer, or the code at an address is another.
        """
        codes = self._rpc.batch([("eth_getCode", [address, "latest"]) for address in self.contracts.values()])
        absent = []
        for (name, address), answer in zip(self.contracts.items(), codes, strict=True):
            code = unhex(answer)
            if not code:
                absent.append(name)
            elif not artifacts.load(name).is_code_of(code):
                raise ChainError(
                    f"the contract at {address} is not this release's {name}",
                    hint="citrate verify-contracts compares; on a devnet of an older build: citrate devnet reset",
                )
        return tuple(absent)

    def is_complete(self) -> bool:
        """Whether nothing is left to be sent by anybody."""
        return not self.missing() and not self._appointment()

    def plan(self, sender: str) -> Deployed:
        """What a deployment would send, with the gas of each step if it can be told; sends nothing.

        Args:
            sender: who would pay.
        """
        absent = self.missing()
        if absent:
            self._require_proxy(mend=False)
        calls = self._creations(absent, sender)
        gas = [None if isinstance(each, RpcError) else quantity(each) for each in self._rpc.batch(calls)]
        steps = [Transaction(name, "", used) for name, used in zip(absent, gas, strict=True)]
        pending: tuple[PendingCall, ...] = ()
        if artifacts.MODERATION in absent or self._appointment():
            if sender.lower() == self.authority.lower():
                steps.append(Transaction("Policy.appoint", "", None))
            else:
                pending = (self._pending(),)
        return Deployed(self.authority, self.contracts, tuple(steps), pending)

    def run(self, senders: Sequence[Sender]) -> Deployed:
        """Send what is missing, as the first of ``senders``; what only the authority may send, if it is one of them.

        Raises:
            CitrateError: the chain lacks the deployment proxy, or a sender cannot pay.
            ChainError: the chain does not answer, or a contract did not arrive.
        """
        absent = self.missing()
        if absent:
            self._require_proxy(mend=self._local)
        own = next((each for each in senders if each.address.lower() == self.authority.lower()), None)
        self._require_funds(absent, senders, own)
        done: list[Transaction] = []
        pending: tuple[PendingCall, ...] = ()
        try:
            for name in absent:
                done += self._create(name, senders[0])
            if absent and (lost := self.missing()):
                raise ChainError(f"{', '.join(lost)} did not arrive", hint="citrate deploy-contracts")
            if self._appointment():
                if own:
                    policy = self.contracts[artifacts.POLICY]
                    done.append(self._send(own, "Policy.appoint", policy, self._appoint_call()))
                else:
                    pending = (self._pending(),)
        except CitrateError as error:
            error.done = {"sent": [{"contract": each.contract, "tx_hash": each.tx_hash} for each in done]}
            raise
        return Deployed(self.authority, self.contracts, tuple(done), pending)

    def _require_funds(self, absent: Sequence[str], senders: Sequence[Sender], own: Sender | None) -> None:
        """Before the first transaction: whoever pays can pay for all of them."""
        creations = sum(self._gas_of(absent, senders[0].address)) if absent else 0
        appoints = own is not None and (artifacts.MODERATION in absent or self._appointment())
        if creations:
            senders[0].require_funds(creations + _APPOINT_GAS * (appoints and own is senders[0]))
        if own and appoints and not (creations and own is senders[0]):
            own.require_funds(_APPOINT_GAS)

    def _gas_of(self, absent: Sequence[str], sender: str) -> list[int]:
        """What each creation takes; where the node cannot tell before an earlier one is there, what its bytes cost."""
        found = zip(absent, self._rpc.batch(self._creations(absent, sender)), strict=True)
        return [self._least_gas(name) if isinstance(each, RpcError) else quantity(each) for name, each in found]

    def _creations(self, absent: Sequence[str], sender: str) -> list[Call]:
        return [("eth_estimateGas", [_from(sender, PROXY, self._creation(name))]) for name in absent]

    def _least_gas(self, name: str) -> int:
        code = len(artifacts.load(name).runtime)
        return _CREATION_GAS + _CODE_BYTE_GAS * code + _DATA_BYTE_GAS * len(self._creation(name))

    def _create(self, name: str, sender: Sender) -> Sequence[Transaction]:
        """Create a contract; nothing if somebody else was faster, for whom it stands at the same address."""
        try:
            return [self._send(sender, name, PROXY, self._creation(name))]
        except CitrateError:
            if name in self.missing():
                raise
            return []

    def _send(self, sender: Sender, what: str, to: str, data: bytes) -> Transaction:
        tx_hash, gas_used = sender.send(to, data)
        self._told(f"{what}: {gas_used:,} gas")
        return Transaction(what, tx_hash, gas_used)

    def _creation(self, name: str) -> bytes:
        return deployment_call(name, self.authority, self.contracts)

    def _appointment(self) -> bool:
        """Whether the authority has yet to appoint the contract that moderates: none was ever appointed.

        Asked by trying, since the timelock may also have ended moderation, after which the authority may not.
        """
        policy = self.contracts.get(artifacts.POLICY)
        if not policy or artifacts.MODERATION not in self.contracts:
            return False
        tried: Call = ("eth_call", [_from(self.authority, policy, self._appoint_call()), "latest"])
        asked: Call = ("eth_call", [{"to": policy, "data": "0x" + encode_call("moderation()").hex()}, "latest"])
        appointed, trial = self._rpc.batch([asked, tried])
        answer = unhex(appointed)
        return bool(answer) and Frame(answer).address(0) == _NOBODY and not isinstance(trial, RpcError)

    def _appoint_call(self) -> bytes:
        return encode_call(_APPOINT, self.contracts[artifacts.MODERATION])

    def _pending(self) -> PendingCall:
        why = "the authority appoints the contract that moderates; until then nobody moderates"
        return PendingCall(self.contracts[artifacts.POLICY], self._appoint_call(), self.authority, why)

    def _require_proxy(self, *, mend: bool) -> None:
        if self._rpc.call("eth_getCode", PROXY, "latest") != "0x":
            return
        if not mend:
            raise CitrateError(
                f"this chain has no deterministic deployment proxy at {PROXY}",
                hint="deploy it first: github.com/Arachnid/deterministic-deployment-proxy",
            )
        self._rpc.call("hardhat_setCode", PROXY, _PROXY_CODE)


def _from(sender: str, to: str, data: bytes) -> dict[str, Json]:
    return {"from": sender, "to": to, "data": "0x" + data.hex()}
