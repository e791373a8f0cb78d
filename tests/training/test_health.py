"""What a run's log says of how it went, and how it is drawn."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from citrate.cli import health as told
from citrate.core.errors import FormatError, IntegrityError
from citrate.fine_tuning.verifying import checked_health
from citrate.training import health
from citrate.training.health import Health, Logged, summarise
from citrate.training.lengths import RowCount
from citrate.training.plot import svg
from citrate.training.proof import Record
from citrate.training.recipe import Recipe
from citrate.training.run import Step
from tests.training.conftest import SETTINGS

RECIPE = Recipe.model_validate({**SETTINGS, "steps": 300})


def log(losses: list[float], norms: list[float] | None = None, rewards: list[float] | None = None) -> list[Logged]:
    return [
        Logged(
            step=at + 1,
            loss=loss,
            grad_norm=norms[at] if norms else 0.5,
            learning_rate=1e-4,
            tokens=8,
            reward=rewards[at] if rewards else None,
        )
        for at, loss in enumerate(losses)
    ]


def falling(steps: int) -> list[float]:
    noise = random.Random(1)
    return [4 * 0.99**step + noise.uniform(0, 0.2) for step in range(steps)]


def test_a_run_without_trouble() -> None:
    found = summarise(log(falling(300)), RECIPE, RowCount(10, 1, 2, 64))
    assert (found.steps, found.spikes, found.not_finite, found.grad_norm.clipped) == (300, (), 0, 0)
    assert float(found.loss.begin) > 3 and float(found.loss.end) < 0.6
    assert len(found.curve) == 240 and found.curve[-1].step == 300
    assert Health.parse(found.to_bytes()) == found and found.row_count == RowCount(10, 1, 2, 64)
    assert b"context" not in found.to_bytes(), "it is told of rows that are past it"
    beyond = RowCount(10, 0, 0, 64, 3, 32)
    assert Health.parse(summarise(log(falling(300)), RECIPE, beyond).to_bytes()).row_count == beyond


def test_spikes_are_found_and_one_does_not_hide_the_next() -> None:
    losses, norms = falling(300), [0.5 + 0.01 * (step % 3) for step in range(300)]
    losses[100] = losses[101] = 9.0
    norms[200] = 2.5
    found = summarise(log(losses, norms), RECIPE, None)
    assert [(spike.step, spike.what) for spike in found.spikes] == [(101, "loss"), (102, "loss"), (201, "grad_norm")]
    assert found.grad_norm.largest == "2.5" and found.grad_norm.largest_step == 201 and found.grad_norm.clipped == 1


def test_a_tiny_deviation_makes_no_spike() -> None:
    assert summarise(log([0.1] * 50 + [0.11] + [0.1] * 50), RECIPE, None).spikes == ()


def test_the_loss_of_reinforcement_cannot_spike_and_its_reward_is_kept() -> None:
    wanted = {**SETTINGS, "method": "grpo", "reinforcement": {"reward_model": "-"}, "steps": 60, "batch_size": 4}
    del wanted["max_length"]  # it is of rows that are cut
    found = summarise(log([0.0] * 50 + [5.0] * 10, rewards=[0.5] * 60), Recipe.model_validate(wanted), None)
    assert found.spikes == () and found.curve[0].reward == "0.5"


def test_scripts_are_told_the_reward_that_people_are(capsys: pytest.CaptureFixture[str]) -> None:
    found = summarise(log([1.0] * 40, rewards=[-4.0 + step / 20 for step in range(40)]), RECIPE, None)
    assert told.health_document(found)["reward"] == {"begin": "-3.925", "end": "-2.125"}
    told.talk(found)
    assert "reward -3.925 to -2.125" in capsys.readouterr().err
    assert told.health_document(summarise(log([1.0] * 40), RECIPE, None))["reward"] is None


def test_what_is_no_number_is_counted() -> None:
    found = summarise(log([1.0, float("nan"), 1.0, float("inf")]), RECIPE, None)
    assert found.not_finite == 2 and Health.parse(found.to_bytes()).loss.last == "inf"
    ElementTree.fromstring(svg(found, "x"))


def test_a_drawing_is_whole_xml_and_marks_spikes() -> None:
    losses = falling(300)
    losses[100] = 9.0
    found = summarise(log(losses, rewards=losses), RECIPE, None)
    drawn = svg(found, 'a <b> & "c"')
    root = ElementTree.fromstring(drawn)
    assert drawn == svg(found, 'a <b> & "c"')
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names.count("polyline") == 3 and names.count("circle") == 1
    assert "a &lt;b&gt; &amp;" in drawn


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"{}", "schema is missing"), (b'{"schema":"citrate.training-health/1","steps":0}', "steps is 0: more than 0")],
)
def test_what_is_no_health(data: bytes, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        Health.parse(data)


@pytest.mark.models
@pytest.mark.xdist_group("training")
def test_the_health_of_a_run_is_what_its_log_says(done: tuple[Path, list[Step]], copy: Path) -> None:
    found = checked_health(Record(copy))
    assert found.steps == 6 and found.row_count == RowCount(29, 0, 0, 64)
    path = copy / health.HEALTH
    path.write_bytes(path.read_bytes().replace(b'"clipped":', b'"clipped":1'))
    with pytest.raises(IntegrityError, match="health is not what its log says"):
        checked_health(Record(copy))
    lines = (copy / "log.jsonl").read_bytes().splitlines()
    for wrong in (lines[:-1], [*lines, lines[0]], [b"{}", *lines[1:]], [lines[1], *lines[1:]]):
        (copy / "log.jsonl").write_bytes(b"".join(line + b"\n" for line in wrong))
        with pytest.raises(FormatError, match=r"log\.jsonl has"):
            checked_health(Record(copy))


def test_a_line_of_the_log_has_no_seconds() -> None:
    line = Step(1, 0.5, 1.0, 1e-4, 8, 3.25).to_line()
    assert json.loads(line) == {"step": 1, "loss": 0.5, "grad_norm": 1.0, "learning_rate": 1e-4, "tokens": 8}
