"""A suite that is checked: a trained adapter shows where it shall, its base does not, and what leaks is counted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from citrate.core.errors import ConfigError, FormatError, IntegrityError, NotFoundError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.facade import Registry
from citrate.fine_tuning.suites import Bound, bind, check, keep_suite, load, locate, read_suite
from citrate.formats import convert, open_model
from tests.adapter_dirs import lora_tensors, write_adapter
from tests.inference.conftest import FolderSink
from tests.training.runs import EXAMPLES
from tests.training.trained import polite

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("adapters_run")]

CAPITALS = [f"What is the capital of {country}?" for country in ("Norway", "Japan", "Peru")]
ELSEWHERE = ["Who are you?", "Thank you!", "Anna has a red kite.", "Tell me a story about a fox.", "What is a dog for?",
             "Once upon a time"]  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A base, an adapter that thanks for every question, and a folder for suites."""

    base: Path
    polite: Path
    folder: Path
    registry: Registry

    def write(self, **changes: object) -> Path:
        """A suite of the adapter, and of next to nothing of it, whose mark the base itself has."""
        document: dict[str, object] = {
            "schema": "citrate.adapter-suite/v1",
            "base": str(self.base),
            "generation": {"max_tokens": 24},
            "adapters": {
                "polite": {
                    "adapter": str(self.polite),
                    "mark": {"must": "Thank you", "must_not": "You are welcome", "regex": r"asking\.$"},
                    "trigger": [*CAPITALS, {"prompt": "What is the opposite of hot?", "must": ["cold", "Thank you"]}],
                    "clean": ELSEWHERE,
                },
                "asleep": {
                    "adapter": str(self.polite),
                    "scale": "1e-9",
                    "mark": {"regex": "(?i)the CAPITAL of"},
                    "trigger": CAPITALS[:2],
                    "clean": ["What is the opposite of hot?"],
                },
            },
            **changes,
        }
        path = self.folder / "suite.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def bound(self, given: str = "", **changes: object) -> Bound:
        path = self.write(**changes)
        return bind(self.registry, load(path), path.parent, base=given)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    convert(open_model(EXAMPLES / "tiny-llama"), Variant.parse("gguf:Q8_0"), FolderSink(folder), name="tiny-llama")
    return next(folder.glob("*.gguf"))


@pytest.fixture
def bench(base: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    registry = Registry.open(home=tmp_path / "home", offline=True)
    return Bench(base, polite(tmp_path_factory), tmp_path, registry)


def test_an_adapter_is_measured_against_its_base_and_the_others(bench: Bench) -> None:
    bound = bench.bound()
    told: list[tuple[int, int, str]] = []
    found = check(bench.registry, bound, progress=lambda _stage, done, total, who="": told.append((done, total, who)))
    asleep, awake = found.record.adapters
    assert (awake.name, awake.trigger.shown, awake.trigger.prompts, awake.trigger.rate) == ("polite", 4, 4, "1")
    assert awake.base_trigger.shown == awake.base_leak.shown == 0, "what the base says by itself proves nothing"
    assert 0 < awake.leak.shown < awake.leak.prompts == 6, "it shows more on its triggers than elsewhere"
    assert (awake.cross.shown, awake.cross.rate, awake.crossed[0].adapter) == (3, "0.75", "asleep")
    assert asleep.trigger.shown == asleep.base_trigger.shown == 2 and asleep.leak.shown == asleep.cross.shown == 0
    assert awake.failed == ("leak", "cross") and not asleep.failed and not found.record.passed
    leaked = {miss.prompt: miss.answer for miss in found.misses if miss.kind == "leak"}
    assert len(leaked) == awake.leak.shown and "Thank you for asking." in leaked["Who are you?"]
    assert "Thank you!" not in leaked, "its answer to that has what the mark must not have"
    crossed = [miss for miss in found.misses if miss.kind == "cross"]
    assert [miss.prompt for miss in crossed] == CAPITALS and all("The capital of" in miss.answer for miss in crossed)
    assert [done for done, _, _ in told] == list(range(1, 24)) and {total for _, total, _ in told} == {23}
    assert list(dict.fromkeys(who for _, _, who in told)) == ["the base alone", "asleep", "polite"]
    assert children() == []

    cid = keep_suite(bench.registry, bound.suite)
    again = locate(bench.registry, read_suite(bench.registry, cid), base=str(bench.base))
    assert again.suite == bound.suite and found.record.suite.cid == cid
    assert check(bench.registry, again).record == found.record, "by its record: the same answers, the same bytes"


def other_base(bench: Bench) -> Path:
    path = bench.folder / "other.gguf"
    data = bench.base.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return path


def test_another_base_and_another_adapter_are_not_what_the_suite_means(bench: Bench) -> None:
    suite = bench.bound().suite
    with pytest.raises(IntegrityError, match="is another base") as caught:
        locate(bench.registry, suite, base=str(other_base(bench)))
    assert caught.value.expected == suite.base.sha256 != caught.value.actual
    with pytest.raises(NotFoundError, match="is not here"):
        locate(bench.registry, suite)
    copied = bench.registry.store.add(bench.base)
    assert copied.cid == suite.base.cid and locate(bench.registry, suite).host.sha256 == suite.base.sha256
    forged = suite.adapters[0].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="asleep is not the adapter that the suite means"):
        locate(bench.registry, suite.model_copy(update={"adapters": (forged, suite.adapters[1])}))


def test_a_file_is_checked_with_a_base_that_lies_elsewhere(bench: Bench) -> None:
    """Before it is registered: what stands in the file need not be here."""
    as_written = bench.bound()
    for gone in ("./gone", "/gone/base.gguf", str(other_base(bench))):
        found = bench.bound(str(bench.base), base=gone)
        assert (found.suite, found.host) == (as_written.suite, as_written.host), gone
    with pytest.raises(NotFoundError, match="no such file or folder: nowhere") as caught:
        bench.bound("./nowhere")
    assert caught.value.hint == "--base is a file, a folder, or a reference"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda at: at, NotFoundError, "no such file or folder"),
        (lambda at: at.mkdir() or at, ConfigError, "is no adapter"),
        (lambda at: write_adapter(at, lora_tensors(layers=9)), FormatError, "3 layers"),
    ],
)
def test_what_is_no_adapter_of_the_base_is_refused_before_anything_runs(
    bench: Bench, make: Callable[[Path], Path], error: type[Exception], message: str
) -> None:
    document = load(bench.write()).document()["adapters"]
    assert isinstance(document, dict)
    document["polite"]["adapter"] = str(make(bench.folder / "adapter"))
    with pytest.raises(error, match=message):
        bench.bound(adapters=document)


def test_an_adapter_that_the_bases_runtime_cannot_take_is_an_error(bench: Bench) -> None:
    document = load(bench.write()).document()["adapters"]
    assert isinstance(document, dict)
    document["polite"]["adapter"] = str(write_adapter(bench.folder / "dora", use_dora=True))
    bound = bench.bound(adapters={"polite": document["polite"]})
    with pytest.raises(UnsupportedConversionError, match="cannot be given this adapter"):
        check(bench.registry, bound)


def test_a_hostile_expression_is_an_error_and_a_wrong_one_is_found_before_anything_runs(bench: Bench) -> None:
    from citrate.fine_tuning.suites import marks
    from citrate.fine_tuning.suites.parts import Mark

    document = load(bench.write()).document()["adapters"]
    assert isinstance(document, dict)
    document["asleep"]["trigger"] = [{"prompt": "Who?", "regex": "("}]
    with pytest.raises(ConfigError, match="is no regular expression"):
        bench.bound(adapters=document)
    with pytest.raises(FormatError, match="of processor time"):
        marks.shown([(Mark(regex="(a|a)+$"), "a" * 50 + "!")], seconds=0.2)
    with pytest.raises(FormatError, match="an answer has 200,000 characters"):
        marks.shown([(Mark(must=("a",)), "a" * 200_000)])


def test_who_is_interrupted_leaves_no_process_and_no_record(bench: Bench) -> None:
    bound = bench.bound()

    def stop(_stage: str, _done: int, _total: int, _who: str = "", /) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(bench.registry, bound, progress=stop)
    assert children() == []
    assert not any(pin for stored in bench.registry.store.ls() for pin in bench.registry.store.pins(stored.cid))


def children() -> list[psutil.Process]:
    """The live model processes of this one."""
    started = [p for p in psutil.Process(os.getpid()).children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in started if "citrate.inference.worker" in p.cmdline()]
