"""Writing to the registry: transactions that are estimated, priced, sent once and waited for.

The only module that imports web3, and only when something is sent: importing it takes longer than most reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, CitrateError, ConfigError
from citrate.core.records import ADDRESS_PATTERN, ALIAS_PATTERN, LATEST, VariantRecord, VersionRecord
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import atomic, contract, ids, rpc
from citrate.registry.abi_codec import Argument, encode_call
from citrate.registry.alias_log import AliasChange
from citrate.registry.devnet import Devnet
from citrate.registry.payload import AdditionPayload, ReleasePayload
from citrate.registry.queries import ChainReader, Cursor, ModelSummary, NewRecords
from citrate.registry.rpc import JsonRpc, RpcError
from citrate.registry.views import AliasTarget, Head, RecordItem

if TYPE_CHECKING:
    from web3 import Web3

    from citrate.registry.signer import Signer

__all__ = [
    "AliasChange",
    "AliasTarget",
    "Chain",
    "Cursor",
    "Estimate",
    "Head",
    "ModelSummary",
    "NewRecords",
    "Receipt",
    "RecordItem",
    "TransactionSender",
]

RECEIPT_TIMEOUT_S = 180.0
_NO_VERSION = "0x" + "0" * 64


@dataclass(frozen=True)
class Receipt:
    """A transaction that is in a block."""

    tx_hash: str
    gas_used: int
    block_number: int
    fee_wei: int


class Estimate(NamedTuple):
    """What a transaction would use, and cost at the present price of gas."""

    gas: int
    fee_wei: int


class TransactionSender:
    """Sends transactions of one chain: one at a time for each key, whichever process sends them.

    Args:
        node: the chain.
        chain_id: what it was found to be.
        home: where the locks are kept; if the node is its devnet, that is checkpointed after each transaction.
    """

    def __init__(self, node: JsonRpc, chain_id: int, home: Path) -> None:
        self._rpc = node
        self._chain_id = chain_id
        self._home = home
        self._devnet = Devnet(home)

    def estimate(self, sender: str, to: str, data: bytes) -> Estimate:
        """What the transaction would cost now; the sender needs no funds for the question.

        Raises:
            CitrateError: the contract would refuse it.
            ChainError: the chain does not answer.
        """
        gas = self._gas(sender, to, data)
        base_fee, priority_fee = self._fees()
        return Estimate(gas, gas * (base_fee + priority_fee))

    def send(self, signer: Signer, to: str, data: bytes, timeout_s: float = RECEIPT_TIMEOUT_S) -> Receipt:
        """Send a transaction and wait until it is in a block.

        Raises:
            CitrateError: the contract refuses it (nothing was sent), or the sender cannot pay for it.
            ChainError: the chain does not answer, or the transaction is in no block in time (``tx_hash`` says which).
        """
        with self._one_at_a_time(signer.address):
            gas = self._gas(signer.address, to, data) * 11 // 10
            base_fee, priority_fee = self._fees()
            max_fee = 2 * base_fee + priority_fee
            self._require_funds(signer.address, gas * max_fee)
            transaction = {
                "type": 2,
                "chainId": self._chain_id,
                "nonce": rpc.quantity(self._rpc.call("eth_getTransactionCount", signer.address, "pending")),
                "to": to,
                "value": 0,
                "data": data,
                "gas": gas,
                "maxFeePerGas": max_fee,
                "maxPriorityFeePerGas": priority_fee,
            }
            raw, tx_hash = signer.sign_transaction(transaction)
            receipt = self._deliver(raw, tx_hash, timeout_s)
        if receipt is None:
            raise self._failed(signer.address, to, data, tx_hash)
        if self._chain_id == DEVNET_CHAIN_ID and self._devnet.status().rpc_url == self._rpc.url:
            self._devnet.checkpoint()
        return receipt

    def _gas(self, sender: str, to: str, data: bytes) -> int:
        call: Json = {"from": sender, "to": to, "data": "0x" + data.hex()}
        try:
            return rpc.quantity(self._rpc.call("eth_estimateGas", call))
        except RpcError as error:
            raise contract.refused(error) from None

    def _fees(self) -> tuple[int, int]:
        """The newest block's base fee and the tip that nodes ask for, in wei a gas (EIP-1559)."""
        block, tip = self._rpc.batch([("eth_getBlockByNumber", ["latest", False]), ("eth_maxPriorityFeePerGas", [])])
        if not isinstance(block, dict) or "baseFeePerGas" not in block:
            raise ChainError(
                "this chain has no base fee (EIP-1559)", hint="use a chain that has had its London upgrade"
            )
        return rpc.quantity(block["baseFeePerGas"]), rpc.quantity(tip)

    def _require_funds(self, address: str, needed_wei: int) -> None:
        balance = rpc.quantity(self._rpc.call("eth_getBalance", address, "latest"))
        if balance >= needed_wei:
            return
        devnet = self._chain_id == DEVNET_CHAIN_ID and rpc.is_loopback(self._rpc.url)
        raise CitrateError(
            f"{address} has {_ether(balance)} ETH, and the transaction may cost {_ether(needed_wei)} ETH",
            hint=f"citrate devnet fund {address}"
            if devnet
            else f"send some ETH on chain {self._chain_id} to {address}",
        )

    def _deliver(self, raw: bytes, tx_hash: str, timeout_s: float) -> Receipt | None:
        """Hand a signed transaction over and wait for its receipt; None if it failed on chain."""
        from hexbytes import HexBytes
        from web3.exceptions import TimeExhausted, Web3RPCError

        web3 = self._web3()
        with _as_chain_error(tx_hash):
            try:
                web3.eth.send_raw_transaction(raw)
            except Web3RPCError as error:
                # An answer that got lost on its way makes the provider send again: then the node has it already.
                if "already known" not in str(error) and "already imported" not in str(error):
                    raise
            try:
                receipt = web3.eth.wait_for_transaction_receipt(HexBytes(tx_hash), timeout_s, poll_latency=0.1)
            except TimeExhausted:
                raise ChainError(
                    f"the transaction {tx_hash} is in no block after {timeout_s:.0f} s; it may still get into one",
                    hint="run the command again later: it sends nothing twice",
                    tx_hash=tx_hash,
                ) from None
        if receipt["status"] != 1:
            return None
        gas_used = receipt["gasUsed"]
        return Receipt(tx_hash, gas_used, receipt["blockNumber"], gas_used * receipt["effectiveGasPrice"])

    def _failed(self, sender: str, to: str, data: bytes, tx_hash: str) -> CitrateError:
        """Why a transaction that was estimated well failed all the same: another one came first."""
        try:
            self._gas(sender, to, data)
        except CitrateError as error:
            return error
        return ChainError(f"the transaction {tx_hash} failed on chain", hint="run the command again", tx_hash=tx_hash)

    def _web3(self) -> Web3:
        from requests import Session
        from web3 import HTTPProvider, Web3

        session = Session()
        session.trust_env = not rpc.is_loopback(self._rpc.url)  # a proxy of the environment cannot reach this machine
        return Web3(HTTPProvider(self._rpc.url, request_kwargs={"timeout": 20}, session=session))

    @contextlib.contextmanager
    def _one_at_a_time(self, address: str) -> Iterator[None]:
        """Hold the key's turn from its nonce to its receipt, so that two writers never use the same nonce."""
        import filelock  # not at the top: reading takes no lock, and this takes as long as a read

        folder = self._home / "locks"
        atomic.private_folder(folder)
        try:
            with filelock.FileLock(folder / f"{self._chain_id}-{address.lower()}", timeout=2 * RECEIPT_TIMEOUT_S):
                yield
        except filelock.Timeout as error:
            raise ChainError(
                f"another command has been sending with {address} for minutes", hint="wait for it, or end it"
            ) from error


class Chain(ChainReader):
    """The registry on one chain. Reading is inherited; every writing method sends one transaction and waits for it."""

    def __init__(self, opened: contract.Contract, sender: TransactionSender) -> None:
        super().__init__(opened.rpc, opened.chain_id, opened.registry_address)
        self._sender = sender

    @classmethod
    def connect(cls, rpc_url: str, expected_chain_id: int = 0, registry_address: str = "", *, home: Path) -> Chain:
        """Open a chain: it must be the expected one (0: any) and hold our contract's code.

        Args:
            rpc_url: an http(s) JSON-RPC endpoint.
            expected_chain_id: refused if the node answers another.
            registry_address: empty for the one that the package knows.
            home: see ``TransactionSender``.

        Raises:
            ConfigError: ``rpc_url`` is none.
            ChainError: no answer, another chain, or no contract of ours at the address.
        """
        opened = contract.connect(rpc_url, expected_chain_id, registry_address)
        return cls(opened, TransactionSender(opened.rpc, opened.chain_id, home))

    # ------------------------------------------------------------------ versions

    def publish(self, signer: Signer, release: ReleasePayload, alias: str = "") -> Receipt:
        """Release a version with all its variants, and point ``alias`` at it.

        Raises:
            ConfigError: something that the contract would refuse; nothing is sent.
            AlreadyExistsError: the version stands, or the alias is a version's name.
            NotPermittedError: the signer does not own the model.
        """
        return self._send(signer, _publish_call(release, alias))

    def estimate_publish(self, sender: str, release: ReleasePayload, alias: str = "") -> Estimate:
        """What ``publish`` would cost ``sender``; raises what it would raise, except for a lack of funds."""
        return self._sender.estimate(sender, self.registry_address, _publish_call(release, alias))

    def publish_by_sig(
        self, relayer: Signer, release: ReleasePayload, deadline: int, signature: bytes, alias: str = ""
    ) -> Receipt:
        """Release a version for its owner, who signed it (`citrate.registry.signatures.sign_release`).

        The ``relayer`` sends and pays; ``deadline`` is the last Unix second at which the owner's signature holds.

        Raises:
            NotPermittedError: the signature is not the owner's for the model's present nonce, or too old.
        """
        arguments: tuple[Argument, ...] = (release.publisher, release.encode(), _alias(alias), deadline, signature)
        return self._send(relayer, encode_call("publishBySig(address,bytes,string,uint256,bytes)", *arguments))

    def add_variants(
        self, signer: Signer, record: VersionRecord, manifest_sha256: str, variants: tuple[VariantRecord, ...]
    ) -> Receipt:
        """Add variants to a version that stands.

        Raises:
            AlreadyExistsError: the version has one of them.
            NotPermittedError: the signer does not own the model.
        """
        return self._send(signer, _addition_call(record, manifest_sha256, variants))

    def estimate_add_variants(
        self, record: VersionRecord, manifest_sha256: str, variants: tuple[VariantRecord, ...]
    ) -> Estimate:
        """What ``add_variants`` would cost the model's owner."""
        owner = self.owner_of(record.publisher, record.name)
        return self._sender.estimate(owner, self.registry_address, _addition_call(record, manifest_sha256, variants))

    def deprecate(self, signer: Signer, publisher: str, name: str, version: str, replacement_id: str = "") -> Receipt:
        """Mark a version as not to be used any more; the replacement can be changed later, the mark cannot.

        Raises:
            NotFoundError: no such version or replacement.
            NotPermittedError: the signer does not own the model.
        """
        arguments = (publisher, name, version, replacement_id or _NO_VERSION)
        return self._send(signer, encode_call("deprecate(address,string,string,bytes32)", *arguments))

    # ------------------------------------------------------------------ aliases and owners

    def set_alias(self, signer: Signer, publisher: str, name: str, alias: str, version: str) -> Receipt:
        """Point an alias at a version.

        Raises:
            NotFoundError: no such version.
            AlreadyExistsError: a version has this name.
            NotPermittedError: the signer does not own the model.
        """
        if not alias:
            raise ConfigError("the alias is empty", hint="citrate alias set REF NAME")
        arguments = (publisher, name, _alias(alias), version)
        return self._send(signer, encode_call("setAlias(address,string,string,string)", *arguments))

    def transfer(self, signer: Signer, publisher: str, name: str, to: str) -> Receipt:
        """Offer a model to ``to`` (the zero address withdraws the offer); it changes hands by ``accept``.

        Raises:
            NotPermittedError: the signer does not own the model.
        """
        if not ADDRESS_PATTERN.fullmatch(to):
            raise ConfigError(f"{to!r} is not an address", hint="an address is 0x and 40 hex digits")
        return self._send(signer, encode_call("transferModel(address,string,address)", publisher, name, to))

    def accept(self, signer: Signer, publisher: str, name: str) -> Receipt:
        """Take over a model that was offered to the signer.

        Raises:
            NotPermittedError: it was not.
        """
        return self._send(signer, encode_call("acceptModel(bytes32)", ids.model_id(publisher, name)))

    def _send(self, signer: Signer, data: bytes) -> Receipt:
        return self._sender.send(signer, self.registry_address, data)


def _publish_call(release: ReleasePayload, alias: str) -> bytes:
    return encode_call("publish(address,bytes,string)", release.publisher, release.encode(), _alias(alias))


def _addition_call(record: VersionRecord, manifest_sha256: str, variants: tuple[VariantRecord, ...]) -> bytes:
    addition = AdditionPayload(manifest_sha256, variants).encode()
    arguments: tuple[Argument, ...] = (record.publisher, record.name, record.version, addition)
    return encode_call("addVariants(address,string,string,bytes)", *arguments)


def _alias(alias: str) -> str:
    """The alias, if the contract takes it; empty for none."""
    if alias == LATEST or (alias and not ALIAS_PATTERN.fullmatch(alias)):
        raise ConfigError(f"{alias!r} cannot be an alias", hint=f"an alias is {ALIAS_PATTERN.pattern}, not {LATEST}")
    return alias


@contextlib.contextmanager
def _as_chain_error(tx_hash: str) -> Iterator[None]:
    """Turn what web3 and its HTTP library raise into a ``ChainError`` that names the transaction."""
    from requests.exceptions import RequestException
    from web3.exceptions import Web3Exception

    try:
        yield
    except (Web3Exception, RequestException, OSError) as error:
        text = error.args[0] if error.args else error
        raise ChainError(
            f"sending {tx_hash} failed: {str(text)[:300]}",
            hint="run the command again: it sends nothing twice",
            tx_hash=tx_hash,
        ) from error


def _ether(wei: int) -> str:
    return f"{wei / 10**18:.6g}"
