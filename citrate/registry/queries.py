"""Questions to the registry: each is answered from one block, and every list is proved to be whole.

Nothing here imports an Ethereum library: that alone would take longer than a whole `resolve`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from citrate.core.errors import ChainError, NotFoundError
from citrate.core.records import VariantRecord, VersionRecord
from citrate.registry import ids, rpc, views
from citrate.registry.abi_codec import encode_call
from citrate.registry.access_views import Quote, quote
from citrate.registry.alias_log import AliasChange, alias_log, aliases
from citrate.registry.contract import OBEYED, Block, Contract, Outcome
from citrate.registry.record_chain import Cursor, NewRecords, require_whole, since
from citrate.registry.rpc import RpcError
from citrate.registry.standing import Standing, standing_of
from citrate.registry.views import NOWHERE, AliasTarget, Head, RecordItem, VersionRow, View

_ERC1271_MAGIC = "0x1626ba7e" + "0" * 56


@dataclass(frozen=True)
class ModelSummary:
    """A model with all its releases, newest first."""

    model_id: str
    publisher: str
    name: str
    versions: tuple[RecordItem, ...]

    @property
    def latest(self) -> RecordItem:
        """What ``latest`` names: the newest release that is not deprecated, or the newest if all are."""
        return next((version for version in self.versions if not version.deprecated), self.versions[0])


class ChainReader(Contract):
    """The registry on one chain, for reading."""

    # ------------------------------------------------------------------ one version

    def resolve(self, publisher: str, name: str, version_or_alias: str) -> VersionRecord:
        """The record behind a version's name, an alias, or ``latest``.

        Raises:
            NotFoundError: no such model, version or alias; the hint lists what comes close.
            ChainError: the chain does not answer, or with something else than our contract's data.
        """
        block = self.pin()
        # Most references name a version, whose id follows from its name: ask for it before knowing what the name is.
        guess = ids.version_id(ids.model_id(publisher, name), version_or_alias)
        named, asked = views.resolve(publisher, name, version_or_alias), _Asked.of(guess)
        found, *outcomes = self.outcomes([named, *asked], block)
        try:
            version_id = self.value(named, found)
        except NotFoundError as error:
            raise self._with_suggestions(error, publisher, name, version_or_alias, block) from None
        if version_id != guess:  # an alias
            return self.version(version_id, block)
        return self._record(guess, asked, outcomes, block)

    def version(self, version_id: str, block: Block | None = None) -> VersionRecord:
        """The record of a version id.

        Raises:
            NotFoundError: there is none.
        """
        block = block or self.pin()
        asked = _Asked.of(version_id)
        return self._record(version_id, asked, self.outcomes(asked, block), block)

    def _record(self, version_id: str, asked: _Asked, outcomes: Sequence[Outcome], block: Block) -> VersionRecord:
        row, variants = self.value(asked.row, outcomes[0]), self.value(asked.variants, outcomes[1])
        standing = self.value_if_there(asked.standing, outcomes[2])
        if standing and standing.status is None:  # nobody moderates: is that our contracts' word?
            self.require_ours(*OBEYED)
        price = self.value_if_there(asked.price, outcomes[3])
        if standing is None and price is None:
            self.require_governed()
        looked_at = standing is not None and price is not None
        return replace(
            _record(version_id, row, variants, block),
            governed=looked_at if self.authority else None,
            status=standing.status if standing else None,
            asked_price_wei=price.price_wei if price else None,
        )

    # ------------------------------------------------------------------ lists

    def models(self) -> tuple[ModelSummary, ...]:
        """Every model with its versions, newest first, from a walk over all records of one block.

        Raises:
            ChainError: the node's answers do not add up.
        """
        return _by_model(self.records_since().entries)

    def versions(self, model_id: str) -> tuple[RecordItem, ...]:
        """Every release of a model, newest first, counted against the contract's own count.

        Raises:
            NotFoundError: no such model.
            ChainError: the node's answers do not add up.
        """
        block = self.pin()
        page, count = self.read_two(views.versions(model_id, NOWHERE), views.nonce_of(model_id), block)
        found = list(page.items)
        while page.next != NOWHERE and page.items:
            page = self.read(views.versions(model_id, page.next), block)
            found += page.items
        require_whole(len(found) == count == len({item.version_id for item in found}), "versions")
        return tuple(found)

    def records_since(self, cursor: Cursor | None = None) -> NewRecords[RecordItem]:
        """Every record after ``cursor`` (all of them without one), proved whole; see `citrate.registry.record_chain`.

        Raises:
            ChainError: the node's answers do not add up.
        """
        return since(self, views.head(), views.records, cursor)

    # ------------------------------------------------------------------ aliases, owners

    def alias_of(self, publisher: str, name: str, alias: str) -> AliasTarget:
        """Where an alias points.

        Raises:
            NotFoundError: no such alias.
        """
        return self.read(views.alias_of(ids.model_id(publisher, name), alias), self.pin())

    def aliases(self, publisher: str, name: str) -> tuple[AliasTarget, ...]:
        """The aliases of a model that the node's logs tell of, by name; see `citrate.registry.alias_log.aliases`."""
        return aliases(self, ids.model_id(publisher, name))

    def alias_log(self, publisher: str, name: str, alias: str) -> tuple[AliasChange, ...]:
        """Every change of an alias, oldest first; see `citrate.registry.alias_log`.

        Raises:
            NotFoundError: no such alias.
            ChainError: the node leaves out a log entry.
        """
        return alias_log(self, ids.model_id(publisher, name), alias)

    def owner_of(self, publisher: str, name: str) -> str:
        """Who may write to a model.

        Raises:
            NotFoundError: no such model.
        """
        return self.read(views.owner_of(ids.model_id(publisher, name)), self.pin())

    def pending_owner_of(self, publisher: str, name: str) -> str:
        """To whom a model is offered; empty if to nobody."""
        return self.read(views.pending_owner_of(ids.model_id(publisher, name)), self.pin())

    def nonce_of(self, publisher: str, name: str) -> int:
        """How many versions a model has: the nonce of the next signed request, 0 for a new model."""
        return self.read(views.nonce_of(ids.model_id(publisher, name)), self.pin())

    def head(self) -> Head:
        """The newest record and how many there are."""
        return self.read(views.head(), self.pin())

    def has_code(self, address: str) -> bool:
        """Whether a contract lives at ``address`` (a wallet that signs by ERC-1271, say)."""
        return bool(rpc.unhex(self.rpc.call("eth_getCode", address, "latest")))

    def is_valid_signature(self, wallet: str, digest: bytes, signature: bytes) -> bool:
        """Whether a contract wallet confirms a signature now (ERC-1271)."""
        data = encode_call("isValidSignature(bytes32,bytes)", "0x" + digest.hex(), signature)
        try:
            answer = self.rpc.call("eth_call", {"to": wallet, "data": "0x" + data.hex()}, "latest")
        except RpcError as error:
            if error.is_revert:
                return False
            raise
        return answer == _ERC1271_MAGIC

    def _with_suggestions(
        self, error: NotFoundError, publisher: str, name: str, version: str, block: Block
    ) -> NotFoundError:
        """The same error, naming what there is."""
        try:
            items = self.read(views.versions(ids.model_id(publisher, name), NOWHERE), block).items
        except NotFoundError:
            newest = self.read(views.records(NOWHERE), block).items
            own = list(dict.fromkeys(item.name for item in newest if item.publisher.lower() == publisher.lower()))
            hint = _suggest("models of this publisher", name, own) or error.hint
            return NotFoundError(f"there is no model {publisher}/{name}", hint=hint)
        hint = _suggest("versions", version, [item.version for item in items])
        return NotFoundError(f"{publisher}/{name} has neither a version nor an alias {version!r}", hint=hint)


class _Asked(NamedTuple):
    """What makes up a version's record, asked of three contracts in one round trip."""

    row: View[VersionRow]
    variants: View[tuple[VariantRecord, ...]]
    standing: View[Standing]
    price: View[Quote]

    @classmethod
    def of(cls, version_id: str) -> _Asked:
        of_registry = views.get_version(version_id), views.get_variants(version_id)
        return cls(*of_registry, standing_of(version_id), quote(version_id))


def _record(version_id: str, row: VersionRow, variants: tuple[VariantRecord, ...], block: Block) -> VersionRecord:
    if ids.version_id(ids.model_id(row.publisher, row.name), row.version) != version_id:
        raise ChainError(f"the node answered another version than {version_id}", hint="check rpc_url")
    return VersionRecord(
        model_id=row.model_id,
        version_id=version_id,
        publisher=row.publisher,
        name=row.name,
        version=row.version,
        licence=row.licence,
        manifest_sha256=row.manifests[-1],
        manifest_history=row.manifests,
        signers=row.senders,
        price_wei=row.price_wei,
        created_at=row.created_at,
        deprecated=row.deprecated,
        replacement=row.replacement,
        variants=variants,
        block_number=block.number,
    )


def _by_model(oldest_first: tuple[RecordItem, ...]) -> tuple[ModelSummary, ...]:
    releases: dict[str, list[RecordItem]] = {}
    for item in reversed(oldest_first):
        if item.kind != views.ADDITION:
            releases.setdefault(item.model_id, []).append(item)
    return tuple(
        ModelSummary(model_id, items[0].publisher, items[0].name, tuple(items)) for model_id, items in releases.items()
    )


def _suggest(what: str, wanted: str, there: list[str]) -> str:
    if not there:
        return ""
    close = difflib.get_close_matches(wanted, there, n=5, cutoff=0.4)
    return f"{what}: {', '.join(close or there[:5])}"
