"""What the chain says: models, versions, aliases, changes, and which variant suits a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from citrate.core.errors import UnavailableError
from citrate.core.records import Reference, Selection, Task, VariantRecord, VersionRecord, variant_of
from citrate.registry.session import Session

if TYPE_CHECKING:
    from citrate.registry.chain import AliasChange
    from citrate.registry.changes import ChangeCursor, Proved
    from citrate.registry.queries import ModelSummary
    from citrate.registry.views import AliasTarget, RecordItem


class Reading(Session):
    """Questions to the registry; nothing is fetched but a version's manifest."""

    def models(self) -> tuple[ModelSummary, ...]:
        """Every model of the registry, newest first, proved complete at one block."""
        return self.chain.models()

    def versions(self, record: VersionRecord) -> tuple[RecordItem, ...]:
        """Every version of a record's model, newest first, proved complete at one block."""
        return self.chain.versions(record.model_id)

    def aliases(self, record: VersionRecord) -> tuple[AliasTarget, ...]:
        """The aliases of a record's model and where they point now."""
        return self.chain.aliases(record.publisher, record.name)

    def owner(self, record: VersionRecord) -> str:
        """Who may write to a record's model."""
        return self.chain.owner_of(record.publisher, record.name)

    def alias_log(self, ref: str | Reference) -> tuple[AliasChange, ...]:
        """Every change of the alias that ``ref`` names, oldest first; complete, or an error."""
        named = self.reference(ref)
        return self.chain.alias_log(named.publisher, named.name, named.alias)

    def changes(self, contract: str, *, cursor: ChangeCursor | None = None, tag: str = "") -> Proved:
        """Every change of a contract that its records do not tell, proved whole at one block.

        Args:
            contract: its name, such as ``ModelRegistry``.
            cursor: what was proved before; only what came after it is read.
            tag: ``latest``, ``safe`` or ``finalized``; empty: the latest block of a devnet, else the finalized one.

        Raises:
            ChainError: the node's logs are not whole; the message names the blocks.
        """
        from citrate.registry.audit import prove_one

        return prove_one(self, contract, cursor, tag)

    def select(
        self,
        ref: str | Reference,
        *,
        device: str | None = None,
        arch: str = "",
        memory_gb: float | None = None,
        task: Task | str = Task.INFERENCE,
        allow: frozenset[str] = frozenset(),
        gateways: Iterable[str] = (),
    ) -> Selection:
        """The variant of a version for a device (default: this machine) and task, and why.

        Raises:
            NotPermittedError: the version is deprecated or quarantined, and ``allow`` does not say so.
            NoCompatibleVariantError: nothing suits; a reason for each variant.
        """
        from citrate.registry import permission

        named = self.reference(ref)
        record = self.resolve(named)
        permission.require_usable(self, record, allow)
        among = [variant_of(record, named.variant)] if named.variant else record.variants
        return self._select(record, among, device, arch, memory_gb, Task(task), gateways)

    def _select(
        self,
        record: VersionRecord,
        among: Sequence[VariantRecord],
        device: str | None,
        arch: str,
        memory_gb: float | None,
        task: Task,
        gateways: Iterable[str],
    ) -> Selection:
        from citrate.inference.device import parse_device, probe
        from citrate.inference.select import select

        asked = device or arch or memory_gb is not None
        machine = parse_device(device or probe().kind, arch, memory_gb) if asked else probe()
        try:
            architecture = self.manifest(record, gateways).architecture
        except UnavailableError:
            architecture = None  # `select` says in its reason that the KV cache is not counted
        return select(among, machine, task, architecture=architecture)
