"""What a case of moderation is about: a version or an adapter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.core.adapters import LoraRecord
from citrate.core.errors import NotFoundError
from citrate.core.records import Reference
from citrate.registry import lora_views, views

if TYPE_CHECKING:
    from citrate.registry.chain import Chain
    from citrate.registry.session import Session

_ID = re.compile(r"0x[0-9a-f]{64}")


@dataclass(frozen=True)
class Subject:
    """A version or a LoRA."""

    id: str
    label: str
    """Its full reference; the id, if that is all that is known."""


def find(session: Session, ref: str | Reference) -> Subject:
    """The version or LoRA that a reference or an id (``0x`` and 64 digits) names.

    Raises:
        NotFoundError: no such reference; an id is taken as it is.
    """
    if isinstance(ref, str) and _ID.fullmatch(ref):
        return Subject(ref, labels(session.chain, [ref])[ref])
    record = session.find(ref)
    return Subject(record.lora_id if isinstance(record, LoraRecord) else record.version_id, record.ref)


def labels(chain: Chain, ids: Iterable[str]) -> Mapping[str, str]:
    """The reference of each version id or LoRA id, asked for together; the id itself where the chain has neither."""
    wanted, block = list(dict.fromkeys(ids)), chain.pin()
    versions = [views.get_version(id_) for id_ in wanted]
    loras = [lora_views.get_lora(id_, block.number) for id_ in wanted]
    outcomes = chain.outcomes([*versions, *loras], block)
    found = {id_: id_ for id_ in wanted}
    for id_, version, outcome in zip(wanted, versions, outcomes, strict=False):
        with suppress(NotFoundError):
            found[id_] = chain.value(version, outcome).ref
    for id_, lora, outcome in zip(wanted, loras, outcomes[len(wanted) :], strict=True):
        with suppress(NotFoundError):
            record = chain.value_if_there(lora, outcome)
            found[id_] = record.ref if record else found[id_]
    return found
