"""Accelerate configurations: what is taken, what is refused, and what of them is hashed."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path

import pytest

from citrate.core.adapters import Grade
from citrate.core.errors import BackendMissingError, ConfigError, NotFoundError, TrainingError
from citrate.fine_tuning.verifying import Claim, checked_health, verify
from citrate.training import accelerating, dataset, process, ranks, recipe, run, worker
from citrate.training.process import Files
from citrate.training.proof import Record
from citrate.training.recipe import Recipe
from citrate.training.stepping import Inputs
from tests.training.conftest import SETTINGS
from tests.training.runs import BASE_SHA256

FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config: {fsdp_version: 2, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP, fsdp_offload_params: false}
mixed_precision: bf16
num_machines: 1
num_processes: 8
"""
DEEPSPEED = """
distributed_type: DEEPSPEED
deepspeed_config: {zero_stage: 3, gradient_clipping: 1.0, offload_param_device: cpu}
mixed_precision: bf16
num_processes: 8
"""
GPUS = {
    **SETTINGS,
    "accelerate": "a.yaml",
    "world_size": 8,
    "checkpoint_every": 6,
    "determinism": "citrate/cuda",
    "precision": "bfloat16",
}
BAD = {
    "a key": ("commands: [reboot]", "commands is not taken"),
    "machines": ("num_machines: 2", "runs of several machines"),
    "another number": ("num_processes: 4", "num_processes is not 8"),
    "another type": ("distributed_type: TPU", "distributed_type is one of NO, MULTI_CPU, MULTI_GPU, FSDP, DEEPSPEED"),
    "processors": ("distributed_type: MULTI_CPU", "MULTI_CPU is not for the recipe's profile citrate/cuda"),
    "mpirun": ("mpirun_config: {mpirun_hostfile: /etc/hosts}", "mpirun_config is not taken"),
    "another place": ("compute_environment: AMAZON_SAGEMAKER", "another machine"),
    "another precision": ("mixed_precision: fp16", "mixed_precision is not the recipe's bfloat16"),
    "the processor": ("use_cpu: true", "use_cpu is not"),
    "another file": ("deepspeed_config: {deepspeed_config_file: /etc/x.json}", "names another file"),
}


@pytest.mark.parametrize("text", [FSDP, DEEPSPEED])
def test_it_is_bound_by_its_content(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    wanted = Recipe.model_validate(GPUS)
    found = accelerating.read(path, wanted)
    path.write_text("# a comment\n" + text)
    assert accelerating.read(path, wanted) == found and json.loads(found.text)["num_processes"] == 8
    assert found.decides
    bound = recipe.bind(wanted, base_sha256="a" * 64, dataset_root="b" * 64, accelerate=found.text)
    assert recipe.Bound.parse(bound.to_bytes()) == bound and b"a.yaml" not in bound.to_bytes()
    path.write_text(text.replace("bf16", "bf16 # the same"))
    assert accelerating.read(path, wanted) == found


@pytest.mark.parametrize("name", BAD)
def test_what_contradicts_the_recipe_is_refused(name: str, tmp_path: Path) -> None:
    line, said = BAD[name]
    key = line.partition(":")[0]
    kept = [each for each in DEEPSPEED.splitlines() if not each.startswith(key)]
    (tmp_path / "a.yaml").write_text("\n".join([*kept, line]))
    with pytest.raises(ConfigError, match=r"a\.yaml") as error:
        accelerating.read(tmp_path / "a.yaml", Recipe.model_validate(GPUS))
    assert said in error.value.message and error.value.hint


def test_files_that_are_none(tmp_path: Path) -> None:
    wanted = Recipe.model_validate(GPUS)
    with pytest.raises(NotFoundError, match="no such accelerate configuration"):
        accelerating.read(tmp_path / "a.yaml", wanted)
    for data, said in ((b"- 1", "no accelerate configuration"), (b"a: [", "is not taken"), (b" " * 70000, "larger")):
        (tmp_path / "a.yaml").write_bytes(data)
        with pytest.raises(ConfigError, match=said):
            accelerating.read(tmp_path / "a.yaml", wanted)


CPUS = {**SETTINGS, "accelerate": "a.yaml", "world_size": 2}
"""Its checkpoints are kept on the way: ``checkpoint_every`` is 2 of 6."""
MULTI_CPU = "distributed_type: MULTI_CPU\nuse_cpu: true\nmixed_precision: 'no'\nnum_processes: 2\n"


def test_on_processors_it_only_starts_the_recipes_own_run(tmp_path: Path) -> None:
    written = "tpu_env: []\ntpu_use_cluster: false\ndynamo_config: {}\ngpu_ids: all\n"
    (tmp_path / "a.yaml").write_text(MULTI_CPU + written)
    found = accelerating.read(tmp_path / "a.yaml", Recipe.model_validate(CPUS))
    assert not found.decides
    named = [Recipe.model_validate({**CPUS, "accelerate": name}) for name in ("a.yaml", None)]
    bound = [recipe.bind(each, base_sha256="a" * 64, dataset_root="b" * 64) for each in named]
    assert bound[0] == bound[1] and bound[0].sha256 == bound[1].sha256


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({}, "dynamo_config: {dynamo_backend: INDUCTOR}", "dynamo_config is not taken on a processor"),
        ({}, "enable_cpu_affinity: true", "enable_cpu_affinity is not taken on a processor"),
        ({"world_size": 1}, "num_processes: 1", "MULTI_CPU is of 2 to 64 processes"),
        ({"world_size": 65}, "num_processes: 65", "MULTI_CPU is of 2 to 64 processes"),
        ({}, "distributed_type: FSDP", "FSDP wants a GPU"),
        ({}, "distributed_type: 'NO'", "distributed_type NO is one process"),
    ],
)
def test_what_a_processor_does_not_take(changes: dict[str, object], more: str, said: str, tmp_path: Path) -> None:
    key = more.partition(":")[0]
    kept = [each for each in MULTI_CPU.splitlines() if not each.startswith(key)]
    (tmp_path / "a.yaml").write_text("\n".join([*kept, more]))
    with pytest.raises(ConfigError) as error:
        accelerating.read(tmp_path / "a.yaml", Recipe.model_validate({**CPUS, **changes}))
    assert said in error.value.message


def test_what_is_sharded_has_no_checkpoints_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FSDP)
    wanted = Recipe.model_validate({**GPUS, "checkpoint_every": 5})
    with pytest.raises(ConfigError, match="FSDP wants checkpoint_every: 6 or more"):
        accelerating.read(tmp_path / "a.yaml", wanted)
    with pytest.raises(ValueError, match="checkpoint_every is steps or more with accelerate"):
        recipe.bind(wanted, base_sha256="a" * 64, dataset_root="b" * 64, accelerate="{}")


@pytest.mark.parametrize(
    ("launched", "hint"), [(True, "train it where"), (False, "determinism: citrate/cpu-avx2-fp32")]
)
def test_what_is_for_gpus_alone_is_not_sent_to_a_processor(
    launched: bool, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="wants a GPU") as error:
        worker._require_device({"device": "cuda", "launched": launched})
    assert error.value.hint.startswith(hint)


def test_a_command_that_torchrun_started_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks.require_one_command()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ConfigError, match="was started by torchrun") as error:
        ranks.require_one_command()
    assert "world_size" in error.value.hint


LOST = {"event": "error", "type": "TrainingError", "message": "gloo: closed by peer", "hint": "", "details": {}}
OWN = {**LOST, "message": "there is not enough memory for a step"}
RULER = "=" * 60
DIED = f"exitcode  : -9 (pid: 7)\n  traceback : Signal 9 (SIGKILL) received by PID 7\n{RULER}"


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ([LOST, OWN], "there is not enough memory for a step", ""),
        ([LOST], r"died \(exit 1\): traceback : Signal 9 \(SIGKILL\) received by PID 7", "halve batch_size"),
        ([None], r"Signal 9 \(SIGKILL\)", "halve batch_size"),
    ],
)
def test_of_several_processes_the_first_reason_is_told(
    words: list[dict[str, object] | None], said: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One speaks for all of them, accelerate, and ends last."""
    monkeypatch.setattr(process, "_LAST_WORDS_S", 300)
    ours, theirs = socket.socketpair()
    with theirs, process._Workers(None) as workers:
        workers._end = ours
        first, *rest = words
        for word in rest:
            workers._found.put((0, word))
        workers._spawn([sys.executable, "-c", f"import sys; sys.stderr.write({DIED!r}); sys.exit(1)"], os.environ)
        found = workers._why(0, first)
    assert re.search(said, found.message) and hint in found.hint


@pytest.mark.models
@pytest.mark.xdist_group("training")
def test_what_accelerate_shards_is_attested(base: Path, rows: Path, tmp_path: Path) -> None:
    """As far as it goes on a processor, where accelerate shards nothing."""
    wanted = Recipe.model_validate({**SETTINGS, "accelerate": "a.yaml", "steps": 2, "checkpoint_every": 2})
    root = dataset.read(rows).root
    bound = recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=root, accelerate='{"distributed_type":"FSDP"}')
    run.train(bound, Inputs(base, rows), tmp_path / "out", lambda _: None)
    record = Record(tmp_path / "out")
    record.check()
    claimed = Claim(record, tmp_path / "out" / "adapter", Files(base, rows), checked_health(record), "5eed", "you")
    verified = verify(claimed, segments=None)
    assert (verified.grade, verified.segments) == (Grade.ATTESTED, ()), "what accelerate shards is not replayed"


def test_a_launcher_that_lacks_deepspeed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(BackendMissingError, match="wants DeepSpeed") as error:
        accelerating.launcher('{"distributed_type":"DEEPSPEED"}', tmp_path / "file.yaml")
    assert error.value.hint == "pip install deepspeed"
