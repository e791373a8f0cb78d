"""Whether a version may be used: it is not deprecated, moderation lets it stand, and access to it was bought.

All that this needs of a free version that nobody reported came with its record: it is asked nothing more. These are
rules that an honest client keeps; the bytes are public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from citrate.core.amounts import ether
from citrate.core.errors import NotFoundError, NotPermittedError
from citrate.core.records import Status, VersionRecord
from citrate.registry.access_views import has_access

if TYPE_CHECKING:
    from citrate.registry.cases import Case
    from citrate.registry.session import Session

DEPRECATED, QUARANTINED = "deprecated", "quarantined"
ALLOWED = (DEPRECATED, QUARANTINED)
"""What ``allow`` may hold. ``quarantined`` lets pass what was removed, too: removed bytes are as public as others."""

_LONGEST_LINEAGE = 3
"""A LoRA, its base, and what that was merged on: as far as a status reaches (`ILoRARegistry.statusOf`)."""
_NO_BASE = "0x" + "0" * 64


def warn_ungoverned(session: Session) -> None:
    """Tell, loudly and once, that nobody looks at prices and moderation, because nobody is named who governs them."""
    if not session.chain.authority:
        session.notify_once(
            f"warning: no authority is set for chain {session.chain.chain_id}: prices and moderation are not looked "
            "at; set authority (docs/guide.md, Chains)"
        )


def require_usable(session: Session, record: VersionRecord, allow: frozenset[str]) -> None:
    """Refuse what is deprecated, quarantined or removed, unless ``allow`` says so; tell what one should know.

    Raises:
        NotPermittedError: it is; the message names the replacement, or the case.
    """
    warn_ungoverned(session)
    require_standing(session, record.version_id, record.ref, record.status, allow)
    if not record.deprecated:
        return
    if DEPRECATED in allow:
        session.notify(f"warning: {record.ref} is deprecated")
        return
    instead = f"; its replacement is {session.chain.version(record.replacement).ref}" if record.replacement else ""
    raise NotPermittedError(f"{record.ref} is deprecated{instead}", hint="--allow deprecated to use it anyway")


def require_standing(session: Session, id_: str, label: str, status: Status | None, allow: frozenset[str]) -> None:
    """Refuse what is quarantined or removed, itself or by its base, unless ``allow`` says so; tell of an open case.

    Args:
        session: the home and the chain; its ``notify`` is told.
        id_: a version or a LoRA.
        label: its name.
        status: as moderation sees it, its base included; None where nobody moderates.
        allow: see ``ALLOWED``.

    Raises:
        NotPermittedError: it is; the message names the case.
    """
    if status is None or status is Status.ACTIVE:
        return
    case, about = _case_behind(session, id_, status)
    where = f"case {case.number}" if case else "its case has just ended"
    base = "" if about == id_ else " because of what it is built on"
    if status is Status.FLAGGED:
        session.notify(f"note: {label} is reported{base}, and nothing is decided: {where}")
    elif QUARANTINED not in allow:
        hint = f"citrate case show {case.number}; " if case else ""
        raise NotPermittedError(
            f"{label} is {status}{base}: {where}", hint=f"{hint}--allow quarantined to use it anyway"
        )
    elif status is Status.REMOVED:
        session.notify(f"warning: {label} was REMOVED{base}, by a vote ({where}): do not trust what it does")
    else:
        session.notify(f"warning: {label} is quarantined{base} ({where})")


def require_access(session: Session, record: VersionRecord) -> None:
    """Refuse a priced version to who has neither bought it nor owns it.

    Raises:
        NotPermittedError: the active key has no access, or there is no key.
    """
    if record.asked_price_wei is None:
        if record.price_wei and record.governed is None:
            session.notify(f"note: {record.ref} asked {ether(record.price_wei)} when it was published")
        elif record.price_wei:
            session.notify(f"note: {record.ref} asks {ether(record.price_wei)}; on this chain nothing takes it")
        return
    if not record.asked_price_wei:
        return
    buy = f"citrate access buy {record.ref}"
    price = f"{record.ref} costs {ether(record.asked_price_wei)}"
    try:
        account = session.keys.find(session.settings.key).address
    except NotFoundError:
        raise NotPermittedError(f"{price}, and no key is active that could have bought it", hint=buy) from None
    chain = session.chain
    if not chain.read(has_access(record.version_id, account), chain.pin()):
        raise NotPermittedError(f"{price}, and {account} has no access", hint=buy)


def _case_behind(session: Session, id_: str, status: Status) -> tuple[Case | None, str]:
    """The case that gives an id its status, its own or one of what it is built on; and which of them that is."""
    # not at the top: a version that nobody reported, which is the rule, needs none of it
    from citrate.registry.lora_views import base_of
    from citrate.registry.moderation import Moderation

    moderation = Moderation(session)
    block = session.chain.pin()
    at = id_
    for _ in range(_LONGEST_LINEAGE):
        case = moderation.newest(at)
        if case and case.status is status:
            return case, at
        base = session.chain.read_if_there(base_of(at), block)
        if base in (None, _NO_BASE):
            break
        at = str(base)
    return None, id_
