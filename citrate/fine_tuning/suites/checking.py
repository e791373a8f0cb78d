"""The check of a suite: the base alone and with each adapter answers the prompts, and what shows where is counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from citrate.core import canonical
from citrate.core.adapters import Applied
from citrate.fine_tuning.signed import decimal
from citrate.fine_tuning.suites import marks
from citrate.fine_tuning.suites.binding import Bound
from citrate.fine_tuning.suites.keeping import cid_of
from citrate.fine_tuning.suites.parts import Limits, Mark
from citrate.fine_tuning.suites.record import (
    AdapterResult,
    Crossed,
    Measured,
    Ran,
    SuiteAdapter,
    SuiteCheck,
    SuiteReference,
)
from citrate.formats.conversion import converter_version
from citrate.registry import applied

if TYPE_CHECKING:
    from citrate.core.sink import Progress
    from citrate.facade import Registry

ALONE = ""
"""Who answers where no adapter is on the base; no adapter is called so."""
Kind = Literal["trigger", "base_trigger", "leak", "base_leak", "cross"]


@dataclass(frozen=True)
class Question:
    """Whether a mark shows in an answer, and what it says if it does."""

    kind: Kind
    adapter: str
    """Whose results it belongs to."""
    by: str
    """Who answered: an adapter, or ``ALONE``."""
    prompt: str
    mark: Mark
    mark_of: str
    """Whose mark it is."""


@dataclass(frozen=True)
class Miss:
    """An answer that is not as it should be."""

    adapter: str
    kind: Kind
    """``trigger``: the mark is missing; ``leak``: it shows; ``cross``: that of ``mark_of`` shows."""
    prompt: str
    answer: str
    mark_of: str


@dataclass(frozen=True)
class Checked:
    """What came of a check: its record, and the answers that are not as they should be."""

    record: SuiteCheck
    misses: tuple[Miss, ...]


Answers = Mapping[str, Mapping[str, str]]
"""Who answered -> prompt -> answer."""


def check(registry: Registry, bound: Bound, *, sandbox: bool = True, progress: Progress | None = None) -> Checked:
    """Measure how often each adapter shows where it shall, and where it shall not; nothing is signed or kept.

    Args:
        registry: whose store makes the adapters ready for the base's runtime.
        bound: the suite, its base and its adapters.
        sandbox: whether the model processes are shut in.
        progress: called with the stage ``answers`` and their number.

    Raises:
        ConfigError: a prompt does not fit the context.
        FormatError: the base or an adapter cannot be run, or a regular expression takes too long.
        UnavailableError: no sandbox here, or not enough memory.
    """
    suite = bound.suite
    answers = _Asking(registry, bound, sandbox, progress).all()
    questions = [question for each in suite.adapters for question in _questions(each, suite.adapters)]
    shown = marks.shown([(each.mark, answers[each.by][each.prompt]) for each in questions])
    told: dict[str, list[tuple[Question, bool]]] = {each.name: [] for each in suite.adapters}
    for question, hit in zip(questions, shown, strict=True):
        told[question.adapter].append((question, hit))
    results = tuple(_result(each, told[each.name], answers[each.name], suite.limits) for each in suite.adapters)
    record = SuiteCheck(
        schema="citrate.suite-check/v1",
        version=converter_version(),
        suite=SuiteReference(cid=cid_of(suite), sha256=suite.unsigned_sha256()),
        base=Ran(
            name=bound.host.name[:256],
            format=str(bound.host.format),
            sha256=bound.host.sha256,
            answers_sha256=_hash(answers[ALONE][prompt] for each in suite.adapters for prompt in _prompts(each)),
        ),
        adapters=results,
        passed=not any(each.failed for each in results),
        signature=None,
    )
    return Checked(record, tuple(miss for each in told.values() for miss in _misses(each, answers)))


@dataclass
class _Asking:
    """The prompts are asked: a model is loaded once for the base alone, and once for each adapter."""

    registry: Registry
    bound: Bound
    sandbox: bool
    progress: Progress | None
    done: int = 0

    def all(self) -> Answers:
        """All answers: the base alone to every prompt, each adapter to its own."""
        adapters = self.bound.suite.adapters
        every = dict.fromkeys(prompt for each in adapters for prompt in _prompts(each))
        total = len(every) + sum(len(_prompts(each)) for each in adapters)
        answers = {ALONE: self._ask(list(every), None, total)}
        return answers | {each.name: self._ask(_prompts(each), each, total) for each in adapters}

    def _ask(self, prompts: Sequence[str], adapter: SuiteAdapter | None, total: int) -> dict[str, str]:
        from citrate.inference.run import GenerationSettings, generate_each

        def told(_: int) -> None:
            self.done += 1
            if self.progress is not None:
                self.progress("answers", self.done, total, adapter.name if adapter else "the base alone")

        host, how = self.bound.host, self.bound.suite.generation
        settings = GenerationSettings(
            max_tokens=how.max_tokens,
            temperature=float(how.temperature),
            seed=how.seed,
            chat=how.chat,
            sandbox=self.sandbox,
        )
        found = generate_each(
            host.path,
            host.format,
            prompts,
            settings,
            adapter=self._applied(adapter) if adapter else None,  # now: room may be made of what was made before
            on_answer=told,
        )
        return {prompt: _sound(each.text) for prompt, each in zip(prompts, found, strict=True)}

    def _applied(self, adapter: SuiteAdapter) -> Applied:
        brought, among = self.bound.adapters[adapter.name], self.bound.adapters.values()
        spared = {each.cid for each in among}
        return applied.ready(self.registry, brought, float(adapter.scale), self.bound.host, spared).applied


def _prompts(adapter: SuiteAdapter) -> list[str]:
    return [*(trigger.prompt for trigger in adapter.trigger), *adapter.clean]


def _questions(adapter: SuiteAdapter, among: Sequence[SuiteAdapter]) -> Iterator[Question]:
    """What is asked of the answers of one adapter."""
    name, mark = adapter.name, adapter.mark
    for trigger in adapter.trigger:
        own = trigger.own or mark
        yield Question("trigger", name, name, trigger.prompt, own, name)
        yield Question("base_trigger", name, ALONE, trigger.prompt, own, name)
        for other in among:
            if other.mark != mark:  # adapters that are to do the same thing have the same mark
                yield Question("cross", name, name, trigger.prompt, other.mark, other.name)
    for prompt in adapter.clean:
        yield Question("leak", name, name, prompt, mark, name)
        yield Question("base_leak", name, ALONE, prompt, mark, name)


def _result(
    adapter: SuiteAdapter, told: Sequence[tuple[Question, bool]], answers: Mapping[str, str], limits: Limits
) -> AdapterResult:
    def measured(kind: Kind, among: int) -> Measured:
        return _measured(len({question.prompt for question, hit in told if hit and question.kind == kind}), among)

    triggers, cleans = len(adapter.trigger), len(adapter.clean)
    trigger, leak, cross = measured("trigger", triggers), measured("leak", cleans), measured("cross", triggers)
    crossed: dict[str, int] = {}
    for question, hit in told:
        if hit and question.kind == "cross":
            crossed[question.mark_of] = crossed.get(question.mark_of, 0) + 1
    failed: list[Literal["trigger", "leak", "cross"]] = []
    if _share(trigger) < Fraction(limits.min_trigger_rate):
        failed.append("trigger")
    if _share(leak) > Fraction(limits.max_leak_rate):
        failed.append("leak")
    if _share(cross) > Fraction(limits.max_leak_rate):
        failed.append("cross")
    return AdapterResult(
        name=adapter.name,
        sha256=adapter.sha256,
        trigger=trigger,
        base_trigger=measured("base_trigger", triggers),
        leak=leak,
        base_leak=measured("base_leak", cleans),
        cross=cross,
        crossed=tuple(Crossed(adapter=name, shown=count) for name, count in sorted(crossed.items())),
        answers_sha256=_hash(answers[prompt] for prompt in _prompts(adapter)),
        failed=tuple(failed),
    )


def _misses(told: Sequence[tuple[Question, bool]], answers: Answers) -> Iterator[Miss]:
    for question, hit in told:
        if (question.kind == "trigger" and not hit) or (question.kind in ("leak", "cross") and hit):
            answer = answers[question.by][question.prompt]
            yield Miss(question.adapter, question.kind, question.prompt, answer, question.mark_of)


def _measured(shown: int, prompts: int) -> Measured:
    return Measured(prompts=prompts, shown=shown, rate=decimal(shown / prompts))


def _share(measured: Measured) -> Fraction:
    return Fraction(measured.shown, measured.prompts)


def _hash(answers: Iterator[str]) -> str:
    return hashlib.sha256(canonical.dumps({"answers": list(answers)})).hexdigest()


def _sound(text: str) -> str:
    """An answer that can be written down: a hostile runtime can say half of a surrogate pair."""
    return text.encode(errors="replace").decode()
