"""How suites of adapters, and checks of them, are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from citrate.cli import context
from citrate.core.bytesizes import counted

if TYPE_CHECKING:
    from citrate.fine_tuning.suites import Miss, Suite, SuiteCheck, Written
    from citrate.fine_tuning.suites.parts import Limits, Prompts
    from citrate.fine_tuning.suites.record import Measured

_TOLD_CHARACTERS = 200
_SAID = {"trigger": "does not show", "leak": "shows", "cross": "shows instead"}


def document(record: Suite | SuiteCheck) -> dict[str, object]:
    """A record as JSON, with its identity and who signed it."""
    signer = record.signature.signer if record.signature else None
    return {**record.document(), "sha256": record.unsigned_sha256(), "signer": signer}


def human(suite: Suite, cid: str) -> None:
    """A suite for people; the CID last."""
    base, rows = suite.base, []
    context.say(f"base: {base.ref or base.name}{f'#{base.variant}' if base.variant else ''} ({base.sha256[:16]})")
    for each in suite.adapters:
        at = "" if each.scale == 1 else f" x {each.scale}"
        rows.append((each.name, *_prompts(each), f"{each.ref or each.cid}{at}"))
    context.table(rows, ("ADAPTER", "TRIGGER", "CLEAN", "IS"))
    context.say(_limits(suite.limits))
    _signed(suite)
    context.say(cid)


def written(suite: Written) -> None:
    """A suite's file for people."""
    context.say(f"base: {suite.base}")
    rows = [(name, *_prompts(each), each.adapter) for name, each in suite.adapters.items()]
    context.table(rows, ("ADAPTER", "TRIGGER", "CLEAN", "IS"))
    context.say(_limits(suite.limits))


def results(check: SuiteCheck, cid: str) -> None:
    """What a check came to, for people; the CID, if it has one, last."""
    context.say(f"base: {check.base.name} ({check.base.sha256[:16]})")
    rows = [
        (
            each.name,
            *map(_share, (each.trigger, each.base_trigger, each.leak, each.base_leak, each.cross)),
            f"FAILED: {', '.join(each.failed)}" if each.failed else "ok",
        )
        for each in check.adapters
    ]
    context.table(rows, ("ADAPTER", "TRIGGER", "BASE", "LEAK", "BASE", "CROSS", ""))
    for each in check.adapters:
        if each.base_trigger.shown:
            context.talk(f"note: the base alone shows the mark of {each.name} on {_share(each.base_trigger)} triggers")
    context.say("passed" if check.passed else "FAILED")
    _signed(check)
    if cid:
        context.say(cid)


def misses(found: Sequence[Miss]) -> None:
    """The answers that are not as they should be."""
    for each in found:
        of = "" if each.mark_of == each.adapter else f" {each.mark_of}"
        context.talk(
            f"{each.adapter}:{of} {_SAID[each.kind]} on {each.prompt:.{_TOLD_CHARACTERS}}: "
            f"{each.answer:.{_TOLD_CHARACTERS}}"
        )


def misses_document(found: Sequence[Miss]) -> list[dict[str, object]]:
    """The same as JSON, whole."""
    return [
        {"adapter": m.adapter, "kind": m.kind, "mark_of": m.mark_of, "prompt": m.prompt, "answer": m.answer}
        for m in found
    ]


def _prompts(adapter: Prompts) -> tuple[str, str]:
    return counted(len(adapter.trigger), "prompt"), counted(len(adapter.clean), "prompt")


def _share(measured: Measured) -> str:
    return f"{measured.shown} of {measured.prompts}"


def _limits(limits: Limits) -> str:
    return f"triggers: at least {limits.min_trigger_rate}; leaks: at most {limits.max_leak_rate}"


def _signed(record: Suite | SuiteCheck) -> None:
    if record.signature:
        context.say(f"signed by {record.signature.signer}")
