"""Two processes train together: killed, they go on to the same bytes; replayed without network, every hash is equal."""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from citrate.core.adapters import Grade
from citrate.core.errors import AlreadyExistsError, TrainingError
from citrate.fine_tuning.verifying import Claim, checked_health, verify
from citrate.training import accelerating, dataset, holding, process, recipe
from citrate.training.determinism import profile
from citrate.training.process import Files
from citrate.training.proof import Record
from citrate.training.recipe import Bound, Recipe
from citrate.training.stepping import Inputs
from tests.training import ranked
from tests.training.conftest import SETTINGS
from tests.training.ranked import Work
from tests.training.runs import BASE_SHA256, edit_tensors, forge, log_of, with_leaf
from tests.training.test_run import hashes

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    return ranked.server()


@pytest.fixture(scope="module")
def both(rows: Path) -> Bound:
    wanted = Recipe.model_validate({**SETTINGS, "world_size": 2, "steps": 4})
    return recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)


@pytest.fixture(scope="module")
def together(
    server: ForkServerContext, both: Bound, base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two processes that has ended."""
    folder = tmp_path_factory.mktemp("together")
    work = Work(both.to_bytes(), Inputs(base, rows), folder / "out", folder / "scratch")
    assert ranked.finish(ranked.start(server, work)) == [0, 0]
    return folder / "out"


def replayed(server: ForkServerContext, out: Path, number: int, inputs: Inputs, scratch: Path) -> str:
    work = Work(b"", inputs, out, scratch, number=number)
    assert ranked.finish(ranked.start(server, work)) == [0, 0]
    return (scratch / "found0").read_text()


def test_two_processes_make_one_run(together: Path, both: Bound, done: tuple[Path, list[object]]) -> None:
    record = Record(together)
    record.check()
    assert record.bound == both and len(log_of(together)) == 4
    one = Record(done[0])
    assert record.leaves[0].batch != one.leaves[0].batch, "each had its own rows"
    assert log_of(together)[0]["tokens"] > log_of(done[0])[0]["tokens"]  # type: ignore[operator]  # numbers


def test_killed_they_go_on_to_the_same_bytes(
    server: ForkServerContext, together: Path, both: Bound, base: Path, rows: Path, tmp_path: Path
) -> None:
    work = Work(both.to_bytes(), Inputs(base, rows), tmp_path / "out", tmp_path / "a", dies_at=3)
    assert ranked.finish(ranked.start(server, work))[0] == -9
    assert not (tmp_path / "out" / "proof.json").exists()
    again = Work(both.to_bytes(), Inputs(base, rows), tmp_path / "out", tmp_path / "b")
    assert ranked.finish(ranked.start(server, again)) == [0, 0]
    assert hashes(tmp_path / "out") == hashes(together)


def test_a_command_that_is_killed_takes_its_processes_along_and_the_next_goes_on_to_the_same_bytes(
    server: ForkServerContext, together: Path, both: Bound, base: Path, rows: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """By the launcher, with what a user's environment may hold, which neither reaches them nor changes anything."""
    work = Work(both.to_bytes(), Inputs(base, rows), tmp_path / "out", tmp_path / "a", dies_at=3)
    assert ranked.command(server, work) == -9
    monkeypatch.setattr(holding, "_PATIENCE_S", 60)
    with holding.held(tmp_path / "out"):
        assert not (tmp_path / "out" / "proof.json").exists()
    again = Work(both.to_bytes(), Inputs(base, rows), tmp_path / "out", tmp_path / "b")
    assert ranked.finish(ranked.start(server, again)) == [0, 0]
    assert hashes(tmp_path / "out") == hashes(together)


def test_accelerate_starts_the_same_run(together: Path, both: Bound, base: Path, rows: Path, tmp_path: Path) -> None:
    """By a configuration as accelerate writes one, and torchrun; no process goes on without the folder's lock."""
    from accelerate.commands.config.config_args import ClusterConfig

    configuration = ClusterConfig(
        compute_environment="LOCAL_MACHINE", distributed_type="MULTI_CPU", mixed_precision="no", use_cpu=True,
        debug=False, num_processes=2, same_network=True, tpu_env=[],
    )  # fmt: skip
    configuration.to_yaml_file(tmp_path / "a.yaml")
    wanted = Recipe.model_validate({**SETTINGS, "world_size": 2, "steps": 4, "accelerate": "a.yaml"})
    started = accelerating.read(tmp_path / "a.yaml", wanted)
    assert recipe.bind(wanted, base_sha256=both.base_sha256, dataset_root=both.dataset_root) == both
    told: list[int] = []
    process.train(
        both, Files(base, rows), tmp_path / "out", lambda step: told.append(step["step"]), accelerate=started.text
    )
    assert told == [1, 2, 3, 4]
    assert hashes(tmp_path / "out") == hashes(together), "every file of the record"


@pytest.mark.skipif(platform.system() != "Linux", reason="macOS has no such call")
def test_who_replays_a_strangers_run_opens_no_socket(
    server: ForkServerContext, done: tuple[Path, list[object]], base: Path, rows: Path, tmp_path: Path
) -> None:
    work = Work(b"", Inputs(base, rows), done[0], tmp_path / "scratch")
    assert ranked.reach_for_the_network(server, work) == "nothing"


def test_what_the_processes_of_a_run_know_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CITRATE_PRIVATE_KEY", "CITRATE_KEY_PASSWORD", "WORLD_SIZE", "ACCELERATE_USE_FSDP", "MKL_CBWR"):
        monkeypatch.setenv(name, "theirs")
    found = process._environment(profile("citrate/cpu-avx2-fp32"), 3, str(tmp_path))
    assert "theirs" not in found.values() and found["PATH"] == os.environ["PATH"]
    assert (found["MKL_CBWR"], found["OMP_NUM_THREADS"]) == ("AVX2,STRICT", "3")


def test_they_are_replayed_bit_for_bit_without_network(
    server: ForkServerContext, together: Path, base: Path, rows: Path, tmp_path: Path
) -> None:
    assert replayed(server, together, 1, Inputs(base, rows), tmp_path / "scratch") == "True True "


def test_a_forged_generator_of_the_second_process_is_found(
    server: ForkServerContext, together: Path, base: Path, rows: Path, tmp_path: Path
) -> None:
    shutil.copytree(together, tmp_path / "copy")

    def change(tensors: dict[str, object]) -> None:
        tensors["rank1/python"][-1] -= 1  # type: ignore[index]  # a tensor, whose last number is a position

    forged = edit_tensors(tmp_path / "copy" / "checkpoints" / "step-00000002" / "rng.safetensors", change)
    forge(tmp_path / "copy", leaves=with_leaf(Record(tmp_path / "copy"), 2, rng=forged))
    found = replayed(server, tmp_path / "copy", 1, Inputs(base, rows), tmp_path / "scratch")
    assert found == "False False step 3: rng"


@pytest.mark.parametrize(("code", "said"), [(-9, r"was killed \(SIGKILL\)"), (1, r"died \(exit 1\): it said nothing")])
def test_what_is_said_of_a_process_that_died(code: int, said: str) -> None:
    found = process._death(code, process._Talk(io.BytesIO()))
    assert re.search(said, found.message) and "goes on after its last checkpoint" in found.hint


def test_a_strangers_recipe_does_not_start_more_processes_than_this_machine_can_bear(
    together: Path, both: Bound, base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(together, tmp_path / "copy")
    record = forge(
        tmp_path / "copy", bound=both.model_copy(update={"recipe": both.recipe.model_copy(update={"world_size": 64})})
    )
    claimed = Claim(record, together / "adapter", Files(base, rows), checked_health(record), "5eed", "you")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    with pytest.raises(TrainingError, match="is of 64 processes, and this machine has 16 processors"):
        verify(claimed)
    assert verify(claimed, segments=0).grade == Grade.ATTESTED


def test_an_error_of_one_process_ends_both(both: Bound, base: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(AlreadyExistsError, match="exists and is not empty"):
        process.train(both, Files(base, rows), tmp_path / "out", lambda _: None)
