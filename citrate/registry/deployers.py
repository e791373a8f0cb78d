"""Who sends a deployment: a key, or the development account that a local node holds the key of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, NotFoundError
from citrate.core.settings import DEVNET_CHAIN_ID, Settings
from citrate.registry import deployments, rpc
from citrate.registry.contract import refused, require_chain
from citrate.registry.deploy import Deployed, Deployment, Sender
from citrate.registry.ids import checksum
from citrate.registry.rpc import JsonRpc, RpcError
from citrate.registry.stack import ANVIL_ACCOUNT

if TYPE_CHECKING:
    from citrate.registry.keys import Keys
    from citrate.registry.signer import Signer
    from citrate.registry.transactions import TransactionSender

_RECEIPT_TIMEOUT_S = 15.0
_ANYBODY = "0x" + "0" * 39 + "1"
"""Whose transactions a dry run estimates where there is no key."""


def deploy_with_key(
    rpc_url: str,
    settings: Settings,
    keys: Keys,
    *,
    dry_run: bool = False,
    told: Callable[[str], None] | None = None,
) -> Deployed:
    """Deploy what a chain lacks, paid by the active key; on a local development chain by the node's own account.

    The key is unlocked only if there is something for it to send.

    Args:
        rpc_url: the chain.
        settings: the expected chain id (0 takes any), who governs, how transactions are sent.
        keys: the home's.
        dry_run: only say what would be sent; needs no key.
        told: called with a line for each step that is taken.

    Raises:
        ConfigError: nobody is named who governs.
        NotFoundError: there is no key to pay with.
        CitrateError: the chain lacks the deployment proxy, or the key cannot pay.
        ChainError: another chain, or no answer.
    """
    node = JsonRpc(rpc_url)
    chain_id = require_chain(node, settings.chain_id)
    authority = deployments.authority_on(chain_id, rpc_url, settings.authority)
    deployment = Deployment(node, chain_id, authority, settings.model_registry, told)
    if dry_run:
        return deployment.plan(_payer(keys, settings.key))
    if deployment.is_complete():
        return Deployed(authority, deployment.contracts)
    local = chain_id == DEVNET_CHAIN_ID and rpc.is_loopback(rpc_url)
    senders: list[Sender] = [UnlockedSender(node, account) for account in _unlocked(node)] if local else []
    is_authority = _payer(keys, settings.key).lower() == authority.lower()
    if is_authority or (deployment.missing() and not senders):
        senders.append(_key_sender(node, chain_id, settings, keys, told))
    return deployment.run(senders)


def _key_sender(
    node: JsonRpc, chain_id: int, settings: Settings, keys: Keys, told: Callable[[str], None] | None
) -> KeySender:
    from citrate.registry.delivery import Sending
    from citrate.registry.transactions import TransactionSender

    entry = keys.for_writing(settings.key, chain_id=chain_id, rpc_url=node.url)
    signer = keys.unlock(entry, chain_id=chain_id, rpc_url=node.url)
    return KeySender(TransactionSender(node, chain_id, settings.home, Sending.of(settings), told), signer)


def deploy_locally(node: JsonRpc) -> Deployed:
    """Deploy everything on a local development chain, governed and paid by Anvil's first account.

    Raises:
        ChainError: the chain does not answer, or does not hold that account's key.
    """
    return Deployment(node, DEVNET_CHAIN_ID, ANVIL_ACCOUNT).run([UnlockedSender(node, ANVIL_ACCOUNT)])


def _payer(keys: Keys, key: str) -> str:
    try:
        return keys.find(key).address
    except NotFoundError:
        return _ANYBODY


def _unlocked(node: JsonRpc) -> list[str]:
    accounts = node.call("eth_accounts")
    return [checksum(str(account)) for account in accounts] if isinstance(accounts, list) else []


class KeySender(Sender):
    """Sends as a key; a chain's finality is waited for."""

    def __init__(self, sender: TransactionSender, signer: Signer) -> None:
        self._sender = sender
        self._signer = signer

    @property
    def address(self) -> str:
        """The key's."""
        return self._signer.address

    def require_funds(self, gas: int) -> None:
        """See ``Sender.require_funds``."""
        self._sender.require_funds(self._signer.address, gas)

    def send(self, to: str, data: bytes) -> tuple[str, int]:
        """See ``Sender.send``."""
        receipt = self._sender.send(self._signer, to, data)
        return receipt.tx_hash, receipt.gas_used


class UnlockedSender(Sender):
    """Sends from a development account that a local node itself holds the key of."""

    def __init__(self, node: JsonRpc, address: str) -> None:
        self._rpc = node
        self._address = address

    @property
    def address(self) -> str:
        """The account."""
        return self._address

    def require_funds(self, gas: int) -> None:
        """See ``Sender.require_funds``; the node made its accounts' money up."""

    def send(self, to: str, data: bytes) -> tuple[str, int]:
        """See ``Sender.send``; a local node mines as soon as it can."""
        try:
            tx_hash = self._rpc.call(
                "eth_sendTransaction", {"from": self._address, "to": to, "data": "0x" + data.hex()}
            )
        except RpcError as error:
            raise refused(error) from None
        receipt = self._receipt(tx_hash)
        if not isinstance(receipt, dict) or receipt.get("status") != "0x1":
            raise ChainError("the local chain took no deployment", hint="citrate devnet reset", tx_hash=str(tx_hash))
        return str(tx_hash), rpc.quantity(receipt.get("gasUsed"))

    def _receipt(self, tx_hash: Json) -> Json:
        deadline = time.monotonic() + _RECEIPT_TIMEOUT_S
        while time.monotonic() < deadline:
            receipt = self._rpc.call("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                return receipt
            time.sleep(0.02)
        return None
