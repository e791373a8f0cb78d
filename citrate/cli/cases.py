"""How cases of moderation are told."""

from __future__ import annotations

from citrate.cli import context, times
from citrate.core.amounts import ether
from citrate.registry.cases import Case, Outcome
from citrate.registry.moderation import Moderation


def document(case: Case, label: str) -> dict[str, object]:
    """A case as JSON; ``ref`` is its subject's id where the chain has no name for it."""
    return {
        "case": case.number,
        "subject": case.subject,
        "ref": label,
        "outcome": str(case.outcome),
        "quarantines": case.quarantines,
        "closed": case.closed,
        "reporter": case.reporter,
        "evidence": case.evidence,
        "bond_wei": case.bond_wei,
        "opened_at": case.opened_at,
        "deadline": case.deadline,
        "snapshot_block": case.snapshot,
        "total_stake_wei": case.total_stake_wei,
        "quorum_wei": case.quorum_wei,
        "quarantine_at_wei": case.quarantine_at_wei,
        "for_removal_wei": case.for_removal_wei,
        "against_wei": case.against_wei,
    }


def show(case: Case, label: str, now: int) -> None:
    """A case for people; ``now`` is the chain's time."""
    left = f", {times.span(case.deadline - now)} left" if case.outcome is Outcome.OPEN else ""
    voted = case.for_removal_wei + case.against_wei
    context.table(
        [
            ("case", str(case.number)),
            ("about", label),
            ("outcome", told(case)),
            ("deadline", times.utc(case.deadline) + left),
            ("remove", ether(case.for_removal_wei)),
            ("keep", ether(case.against_wei)),
            ("quorum", f"{ether(voted)} voted, {ether(case.quorum_wei)} needed"),
            ("quarantine", f"at {ether(case.quarantine_at_wei)} for removal, if more than against"),
            ("reporter", f"{case.reporter}, bond {ether(case.bond_wei)}"),
            ("evidence", case.evidence),
        ]
    )


def told(case: Case) -> str:
    """The outcome in words."""
    words = {
        Outcome.OPEN: "open, quarantined" if case.quarantines else "open, flagged",
        Outcome.UPHELD: "upheld: removed for ever",
        Outcome.REJECTED: "rejected",
        Outcome.NO_QUORUM: "no quorum",
        Outcome.LIFTED: "lifted by the guardian",
    }
    due = "" if case.closed or case.outcome is Outcome.OPEN else f"; citrate case close {case.number} pays the bond out"
    return words[case.outcome] + due


def emit(moderation: Moderation, case: Case, label: str, **more: object) -> None:
    """Print a case."""
    now = moderation.now()
    context.emit({**document(case, label), **more}, lambda: show(case, label, now))
