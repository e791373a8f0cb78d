"""Writing to the registry: one method an action, each of which sends one transaction and waits for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import ConfigError, NotFoundError
from citrate.core.records import ADDRESS_PATTERN, ALIAS_PATTERN, LATEST, VariantRecord, VersionRecord
from citrate.registry import contract, ids
from citrate.registry.abi_codec import Argument, encode_call
from citrate.registry.alias_log import AliasChange
from citrate.registry.artifacts import MODEL_REGISTRY
from citrate.registry.queries import ChainReader, ModelSummary
from citrate.registry.record_chain import Cursor, NewRecords
from citrate.registry.views import AliasTarget, Head, RecordItem

if TYPE_CHECKING:  # what sends is imported when something is sent: most commands only read
    from citrate.core.settings import Settings
    from citrate.registry.payload import ReleasePayload
    from citrate.registry.signer import Signer
    from citrate.registry.transactions import Estimate, Receipt, TransactionSender

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
]

_NO_VERSION = "0x" + "0" * 64


class Chain(ChainReader):
    """The registry on one chain. Reading is inherited; every writing method sends one transaction and waits for it."""

    def __init__(self, opened: contract.Contract, make_sender: Callable[[], TransactionSender]) -> None:
        where = (opened.rpc, opened.chain_id, opened.registry_address)
        super().__init__(*where, opened.authority, is_set=opened.is_set)
        self._make_sender = make_sender

    @cached_property
    def _sender(self) -> TransactionSender:
        return self._make_sender()

    @classmethod
    def connect(
        cls,
        rpc_url: str,
        expected_chain_id: int = 0,
        registry_address: str = "",
        authority: str = "",
        *,
        home: Path,
        settings: Settings | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> Chain:
        """Open a chain: it must be the expected one (0: any) and hold our contract's code.

        Args:
            rpc_url: an http(s) JSON-RPC endpoint.
            expected_chain_id: refused if the node answers another.
            registry_address: empty for the one that the package knows.
            authority: who governs the other contracts; empty for whom the package knows.
            home: where the key's turn and outbox are; see ``TransactionSender``.
            settings: how transactions are sent (confirmations, finality, fees); None: the defaults.
            notify: told what happens by itself.

        Raises:
            ConfigError: ``rpc_url`` is none, or ``authority`` no address.
            ChainError: no answer, another chain, or no contract of ours at the address.
        """
        opened = contract.connect(rpc_url, expected_chain_id, registry_address, authority)

        def make_sender() -> TransactionSender:
            from citrate.registry.delivery import Sending
            from citrate.registry.transactions import TransactionSender

            sending = Sending.of(settings) if settings else None
            return TransactionSender(opened.rpc, opened.chain_id, home, sending, notify)

        return cls(opened, make_sender)

    # ------------------------------------------------------------------ versions

    def publish(self, signer: Signer, release: ReleasePayload, alias: str = "") -> Receipt:
        """Release a version with all its variants, and point ``alias`` at it.

        Raises:
            ConfigError: something that the contract would refuse; nothing is sent.
            AlreadyExistsError: the version stands, or the alias is a version's name.
            NotPermittedError: the signer does not own the model.
        """
        return self.send(signer, MODEL_REGISTRY, _publish_call(release, alias))

    def estimate_publish(self, sender: str, release: ReleasePayload, alias: str = "") -> Estimate:
        """What ``publish`` would cost ``sender``; raises what it would raise, except for a lack of funds."""
        return self.estimate(sender, MODEL_REGISTRY, _publish_call(release, alias))

    def publish_by_sig(
        self, relayer: Signer, release: ReleasePayload, deadline: int, signature: bytes, alias: str = ""
    ) -> Receipt:
        """Release a version for its owner, who signed it (`citrate.registry.signatures.sign_release`).

        The ``relayer`` sends and pays; ``deadline`` is the last Unix second at which the owner's signature holds.

        Raises:
            NotPermittedError: the signature is not the owner's for the model's present nonce, or too old.
        """
        arguments: tuple[Argument, ...] = (release.publisher, release.encode(), _alias(alias), deadline, signature)
        return self.send(
            relayer, MODEL_REGISTRY, encode_call("publishBySig(address,bytes,string,uint256,bytes)", *arguments)
        )

    def add_variants(
        self, signer: Signer, record: VersionRecord, manifest_sha256: str, variants: tuple[VariantRecord, ...]
    ) -> Receipt:
        """Add variants to a version that stands.

        Raises:
            AlreadyExistsError: the version has one of them.
            NotPermittedError: the signer does not own the model.
        """
        return self.send(signer, MODEL_REGISTRY, _addition_call(record, manifest_sha256, variants))

    def estimate_add_variants(
        self, record: VersionRecord, manifest_sha256: str, variants: tuple[VariantRecord, ...]
    ) -> Estimate:
        """What ``add_variants`` would cost the model's owner."""
        owner = self.owner_of(record.publisher, record.name)
        return self.estimate(owner, MODEL_REGISTRY, _addition_call(record, manifest_sha256, variants))

    def deprecate(self, signer: Signer, publisher: str, name: str, version: str, replacement_id: str = "") -> Receipt:
        """Mark a version as not to be used any more; the replacement can be changed later, the mark cannot.

        Raises:
            NotFoundError: no such version or replacement.
            NotPermittedError: the signer does not own the model.
        """
        arguments = (publisher, name, version, replacement_id or _NO_VERSION)
        return self.send(signer, MODEL_REGISTRY, encode_call("deprecate(address,string,string,bytes32)", *arguments))

    # ------------------------------------------------------------------ aliases and owners

    def set_alias(self, signer: Signer, publisher: str, name: str, alias: str, version: str) -> Receipt:
        """Point an alias at a version.

        Raises:
            NotFoundError: no such version.
            AlreadyExistsError: a version has this name.
            NotPermittedError: the signer does not own the model.
        """
        return self.send(signer, MODEL_REGISTRY, _alias_call(publisher, name, alias, version))

    def move_alias(self, signer: Signer, record: VersionRecord, alias: str) -> Receipt | None:
        """As ``set_alias``; nothing is sent (None) where the alias points at the version."""

        def stands() -> bool:
            try:
                return self.alias_of(record.publisher, record.name, alias).version_id == record.version_id
            except NotFoundError:
                return False

        data = _alias_call(record.publisher, record.name, alias, record.version)
        return self.send_change(signer, MODEL_REGISTRY, data, stands=stands)

    def transfer(self, signer: Signer, publisher: str, name: str, to: str) -> Receipt:
        """Offer a model to ``to`` (the zero address withdraws the offer); it changes hands by ``accept``.

        Raises:
            NotPermittedError: the signer does not own the model.
        """
        if not ADDRESS_PATTERN.fullmatch(to):
            raise ConfigError(f"{to!r} is not an address", hint="an address is 0x and 40 hex digits")
        return self.send(
            signer, MODEL_REGISTRY, encode_call("transferModel(address,string,address)", publisher, name, to)
        )

    def accept(self, signer: Signer, publisher: str, name: str) -> Receipt:
        """Take over a model that was offered to the signer.

        Raises:
            NotPermittedError: it was not.
        """
        return self.send(signer, MODEL_REGISTRY, encode_call("acceptModel(bytes32)", ids.model_id(publisher, name)))

    # ------------------------------------------------------------------ any contract of ours

    def send(self, signer: Signer, contract_name: str, data: bytes, value_wei: int = 0) -> Receipt:
        """Send one transaction to a contract of ours, whose code is compared first, and wait for it.

        Raises:
            CitrateError: the contract refuses it (nothing was sent), or the signer cannot pay for it.
            ConfigError, ChainError: the chain does not have the contract, does not answer, or does not take it in time.
        """
        return self._sender.send(signer, self.require(contract_name), data, value=value_wei)

    def send_change(
        self, signer: Signer, contract_name: str, data: bytes, *, stands: Callable[[], bool]
    ) -> Receipt | None:
        """As ``send``, but nothing is sent (None) where the contract says already what it would be told.

        What a command that was cut off sent is taken up all the same: it would else be taken for the next one's that
        means the same change. If the change was undone since, it is sent anew.
        """
        to = self.require(contract_name)
        if stands() and not self._sender.is_untold(signer.address, to, data):
            return None
        receipt = self._sender.send(signer, to, data)
        return self._sender.send(signer, to, data) if receipt.taken_up and not stands() else receipt

    def estimate(self, sender: str, contract_name: str, data: bytes, value_wei: int = 0) -> Estimate:
        """What ``send`` would cost ``sender``; raises what it would raise, except for a lack of funds."""
        return self._sender.estimate(sender, self.require(contract_name), data, value=value_wei)


def _publish_call(release: ReleasePayload, alias: str) -> bytes:
    return encode_call("publish(address,bytes,string)", release.publisher, release.encode(), _alias(alias))


def _alias_call(publisher: str, name: str, alias: str, version: str) -> bytes:
    if not alias:
        raise ConfigError("the alias is empty", hint="citrate alias set REF NAME")
    return encode_call("setAlias(address,string,string,string)", publisher, name, _alias(alias), version)


def _addition_call(record: VersionRecord, manifest_sha256: str, variants: tuple[VariantRecord, ...]) -> bytes:
    from citrate.registry.payload import AdditionPayload

    addition = AdditionPayload(manifest_sha256, variants).encode()
    arguments: tuple[Argument, ...] = (record.publisher, record.name, record.version, addition)
    return encode_call("addVariants(address,string,string,bytes)", *arguments)


def _alias(alias: str) -> str:
    """The alias, if the contract takes it; empty for none."""
    if alias == LATEST or (alias and not ALIAS_PATTERN.fullmatch(alias)):
        raise ConfigError(f"{alias!r} cannot be an alias", hint=f"an alias is {ALIAS_PATTERN.pattern}, not {LATEST}")
    return alias
