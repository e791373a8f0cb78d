"""A run is committed to step by step, goes on where it was interrupted, and ends with the same bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from pathlib import Path

import pytest

from citrate.core.errors import AlreadyExistsError, FormatError, IntegrityError, TrainingError, UnavailableError
from citrate.formats.adapter import open_adapter
from citrate.training import dataset, recipe, run, trainers
from citrate.training.commitment import Leaf
from citrate.training.proof import Record
from citrate.training.recipe import Bound, Recipe
from citrate.training.replay import replay
from citrate.training.rows import Method
from citrate.training.run import Step
from citrate.training.stepping import Inputs
from tests.training.conftest import SETTINGS, make_rows
from tests.training.runs import BASE_SHA256, EXAMPLES, edit_tensors, log_of, with_leaf

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_ends_with_a_clean_adapter_and_a_record_that_fits(done: tuple[Path, list[Step]], bound: Bound) -> None:
    out, steps = done
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(step.loss) and step.grad_norm > 0 for step in steps)
    assert [line["loss"] for line in log_of(out)] == [step.loss for step in steps]
    record = Record(out)
    record.check()
    assert record.bound == bound and record.proof.environment.packages["trl"]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    assert sorted(path.name for path in (out / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    adapter = open_adapter(out / "adapter")
    assert (adapter.rank, adapter.target_modules) == (4, ("q_proj", "v_proj"))
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert str(Path.cwd()).encode() not in everything and str(out).encode() not in everything, "a local path leaked"
    suffixes = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".jsonl", ".safetensors"}, "no pickles"


def test_a_run_that_has_ended_is_not_done_again(
    done: tuple[Path, list[Step]], base: Path, rows: Path, bound: Bound
) -> None:
    again: list[Step] = []
    found = run.train(bound, Inputs(base, rows), done[0], again.append)
    assert found == Record(done[0]).proof and again == []


def test_a_recipe_that_never_did_a_step_gives_way(base: Path, rows: Path, bound: Bound, tmp_path: Path) -> None:
    def changed(**settings: object) -> Bound:
        return bound.model_copy(update={"recipe": bound.recipe.model_copy(update={"steps": 2, **settings})})

    lost = changed(lora=bound.recipe.lora.model_copy(update={"targets": ("nosuch",)}))
    with pytest.raises(TrainingError, match="nosuch"):
        run.train(lost, Inputs(base, rows), tmp_path / "out", lambda _: None)
    assert run.train(changed(), Inputs(base, rows), tmp_path / "out", lambda _: None).steps == 2
    (tmp_path / "out" / "leaves.jsonl").unlink()
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    with pytest.raises(AlreadyExistsError, match="the run of another recipe"):
        run.train(lost, Inputs(base, rows), tmp_path / "out", lambda _: None)
    assert {path.name for path in (tmp_path / "out").iterdir()} == kept, "a run that lost its leaves loses no more"


@pytest.mark.parametrize("stop_at", [3, 5])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    done: tuple[Path, list[Step]], base: Path, rows: Path, bound: Bound, tmp_path: Path, stop_at: int
) -> None:
    class Killed(BaseException):
        pass

    def kill(step: Step) -> None:
        if step.step == stop_at:
            raise Killed

    with pytest.raises(Killed):
        run.train(bound, Inputs(base, rows), tmp_path / "out", kill)
    with (tmp_path / "out" / "leaves.jsonl").open("ab") as torn:
        torn.write(b'{"batch":"torn')
    told: list[Step] = []
    run.train(bound, Inputs(base, rows), tmp_path / "out", told.append)
    assert told[0].step == stop_at, "goes on after the last checkpoint"
    assert hashes(tmp_path / "out") == hashes(done[0])


def test_a_damaged_checkpoint_is_not_gone_on_from(
    done: tuple[Path, list[Step]], copy: Path, base: Path, rows: Path, bound: Bound
) -> None:
    for name in ("proof.json",):
        (copy / name).unlink()
    shutil.rmtree(copy / "adapter")

    def nudge(tensors: dict[str, object]) -> None:
        first = sorted(tensors)[0]
        tensors[first] = tensors[first] + 1e-3  # type: ignore[operator]  # a tensor

    edit_tensors(copy / "checkpoints" / "step-00000004" / "adapter_model.safetensors", nudge)
    told: list[Step] = []
    run.train(bound, Inputs(base, rows), copy, told.append)
    assert told[0].step == 3 and hashes(copy) == hashes(done[0])


def test_another_recipe_does_not_take_over_a_folder(
    done: tuple[Path, list[Step]], base: Path, rows: Path, bound: Bound, tmp_path: Path
) -> None:
    other = bound.model_copy(update={"recipe": bound.recipe.model_copy(update={"seed": 8})})
    with pytest.raises(AlreadyExistsError, match="another recipe"):
        run.train(other, Inputs(base, rows), done[0], lambda _: None)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(AlreadyExistsError, match="not empty"):
        run.train(bound, Inputs(base, rows), tmp_path, lambda _: None)


def test_a_loss_that_is_no_number_ends_the_run_and_what_was_before_it_can_be_gone_on_from(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    wild = {**SETTINGS, "optimizer": {"learning_rate": "1e27"}, "lora": {}, "checkpoint_every": 1}
    bound = recipe.bind(Recipe.model_validate(wild), base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)
    said = r"^the loss is (nan|inf) at step 2: training stopped; the state after step 1 is kept$"
    told: list[int] = []
    for _ in range(2):
        with pytest.raises(TrainingError, match=said) as error:
            run.train(bound, Inputs(base, rows), tmp_path / "out", lambda step: told.append(step.step))
        assert "learning_rate" in error.value.hint
        assert not (tmp_path / "out" / "proof.json").exists() and not (tmp_path / "out" / "adapter").exists()
    assert told == [1], "the second time it went on after the state that was kept"


def test_a_run_that_could_not_end_is_not_begun(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citrate.formats.adapter.ADAPTER_MAX_BYTES", 1 << 20)
    wanted = Recipe.model_validate({**SETTINGS, "lora": {"rank": 4096}})
    bound = recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)
    told: list[Step] = []
    with pytest.raises(TrainingError, match=r"this run could not end: .* and the registry takes") as error:
        run.train(bound, Inputs(base, rows), tmp_path / "out", told.append)
    assert told == [] and "lora.rank" in error.value.hint


def test_all_is_on_the_disk_before_the_proof_says_so(
    done: tuple[Path, list[Step]], copy: Path, base: Path, rows: Path, bound: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "proof.json").unlink()
    fsync, synced = os.fsync, set[int]()

    def record(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def last_of_all(self: Path, target: Path) -> Path:
        if target.name == "proof.json":
            begun = ("work", "checkpoints")
            written = [path for path in copy.rglob("*") if path.relative_to(copy).parts[0] not in begun]
            assert {path.name for path in written if path.stat().st_ino not in synced} <= {"recipe.json"}
            assert len(written) >= 7
        os.rename(self, target)
        return target

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "rename", last_of_all)
    run.train(bound, Inputs(base, rows), copy, lambda _: None)
    monkeypatch.undo()
    assert hashes(copy) == hashes(done[0])


OTHERS = {
    "bfloat16": {
        "precision": "bfloat16", "determinism": "citrate/cpu", "accumulation": 2,
        "schedule": {"kind": "cosine", "warmup_steps": 1},
    },
    "nf4": {"quantization": "nf4", "schedule": {"kind": "constant"}},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_go_on_to_the_same_bytes_and_are_replayed(
    name: str, done: tuple[Path, list[Step]], base: Path, rows: Path, tmp_path: Path
) -> None:
    wanted = Recipe.model_validate({**SETTINGS, "steps": 4, **OTHERS[name]})
    bound = recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)
    inputs = Inputs(base, rows)
    run.train(bound, inputs, tmp_path / "a", lambda _: None)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "proof.json").unlink()
    told: list[Step] = []
    run.train(bound, inputs, tmp_path / "b", told.append)
    assert [step.step for step in told] == [3, 4] and hashes(tmp_path / "a") == hashes(tmp_path / "b")
    record = Record(tmp_path / "a")
    assert ("bitsandbytes" in record.proof.environment.packages) == (name == "nf4")
    assert log_of(tmp_path / "a")[0]["loss"] != log_of(done[0])[0]["loss"], "another base's, or another batch's"
    (tmp_path / "work").mkdir()
    found = replay(record, 1, inputs, tmp_path / "a" / "adapter", tmp_path / "work")
    assert found.ok and found.exact, found.differs


METHODS = {
    Method.DPO: ("polite-pairs", {"preference": {"beta": "0.2", "loss": "ipo"}}),
    Method.REWARD: ("polite-pairs", {}),
    Method.KTO: ("polite-labels", {"lora": {"rank": 4, "alpha": 8, "dora": True, "rslora": True}}),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_goes_on_to_the_same_bytes(method: Method, base: Path, tmp_path: Path) -> None:
    name, changes = METHODS[method]
    (tmp_path / "rows").mkdir()
    rows = make_rows(tmp_path / "rows", EXAMPLES / "datasets" / f"{name}.jsonl", method)
    wanted = Recipe.model_validate({**SETTINGS, "method": method, "steps": 4, **changes})
    bound = recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)
    inputs = Inputs(base, rows)
    run.train(bound, inputs, tmp_path / "a", lambda _: None)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "proof.json").unlink()
    told: list[Step] = []
    run.train(bound, inputs, tmp_path / "b", told.append)
    assert [step.step for step in told] == [3, 4]
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    health = json.loads((tmp_path / "a" / "health.json").read_bytes())
    assert health["rows"]["rows"] == dataset.read(rows).rows


def test_a_leaf_is_what_it_says() -> None:
    leaf = Leaf(3, "a" * 64, "b" * 64, "c" * 64, "d" * 64)
    assert Leaf.parse(leaf.to_bytes()) == leaf


def test_a_record_whose_parts_contradict_each_other(copy: Path) -> None:
    record = Record(copy)
    leaves = with_leaf(record, 3, rng="e" * 64)
    (copy / "leaves.jsonl").write_bytes(b"".join(leaf.to_bytes() + b"\n" for leaf in leaves))
    with pytest.raises(IntegrityError, match="the root over the steps"):
        Record(copy).check()


STATES = {
    "a field": lambda state: {**state, "stateful_callbacks": {"TrainerControl": {}}},
    "another value": lambda state: {**state, "logging_steps": 500},
    "a fraction": lambda state: {**state, "max_steps": 6.0},
    "another step": lambda state: {**state, "global_step": 4.0},
    "text": lambda state: {**state, "epoch": "nan"},
    "no number": lambda state: {**state, "epoch": float("nan")},
    "a size": lambda state: {**state, "log_history": [{"loss": 1}] * 1000},
}


@pytest.mark.parametrize("name", STATES)
def test_what_stands_beside_the_tensors_of_a_checkpoint_is_what_a_run_writes(copy: Path, name: str) -> None:
    path = copy / "checkpoints" / "step-00000004" / "trainer_state.json"
    state = STATES[name](json.loads(path.read_bytes()))
    path.write_text(json.dumps(state, sort_keys=True) + "\n")
    with pytest.raises(FormatError, match=r"the checkpoint step-00000004 has (a|no readable) trainer_state\.json"):
        Record(copy).check()


def test_memory_that_runs_out_says_which_setting_to_change() -> None:
    import torch

    with pytest.raises(TrainingError, match="not enough memory for a step") as error, run.steps_told():
        torch.empty(1 << 60)
    assert "batch_size" in error.value.hint
    with pytest.raises(TrainingError, match="not enough memory for a step"), run.steps_told():
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("kind", ["MemoryError", "torch.OutOfMemoryError", "RuntimeError"])
def test_memory_that_runs_out_before_the_first_step_says_so_too(
    kind: str, base: Path, rows: Path, bound: Bound, tmp_path: Path
) -> None:
    import torch

    raised = {"torch.OutOfMemoryError": torch.OutOfMemoryError, "MemoryError": MemoryError}.get(kind, RuntimeError)

    class Exhausting:
        def __init__(self, **_: object) -> None:
            raise raised("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    with pytest.raises(TrainingError, match="not enough memory for the base and the rows") as error:
        trainers.build(bound.recipe, Inputs(base, rows), tmp_path, Exhausting)  # type: ignore[arg-type]  # no trainer
    assert "nf4" in error.value.hint


def test_a_full_disk_is_not_told_as_a_fault_of_the_training() -> None:
    with pytest.raises(UnavailableError, match="training failed: No space left") as error, run.steps_told():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "free some space" in error.value.hint
