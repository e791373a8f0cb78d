"""Accelerate configurations: what is refused, and that one that is taken starts the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from citrate.core.adapters import Grade
from citrate.core.errors import ConfigError, NotFoundError
from citrate.fine_tuning.verifying import Claim, checked_health, verify
from citrate.training import accelerating, dataset, process, recipe
from citrate.training.process import Files
from citrate.training.proof import Record
from citrate.training.recipe import Recipe
from tests.training.conftest import SETTINGS
from tests.training.runs import BASE_SHA256, log_of

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
    "another type": ("distributed_type: TPU", "distributed_type is one of NO, MULTI_GPU, FSDP, DEEPSPEED"),
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
    assert accelerating.read(path, wanted) == found and json.loads(found)["num_processes"] == 8
    bound = recipe.bind(wanted, base_sha256="a" * 64, dataset_root="b" * 64, accelerate=found)
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


@pytest.mark.models
@pytest.mark.xdist_group("training")
def test_accelerate_starts_a_run(base: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("distributed_type: 'NO'\nuse_cpu: true\nmixed_precision: 'no'\nnum_processes: 1\n")
    wanted = Recipe.model_validate({**SETTINGS, "accelerate": "a.yaml", "steps": 2, "checkpoint_every": 2})
    configuration = accelerating.read(tmp_path / "a.yaml", wanted)
    root = dataset.read(rows).root
    bound = recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=root, accelerate=configuration)
    told: list[int] = []
    found = process.train(bound, Files(base, rows), tmp_path / "out", lambda step: told.append(step["step"]))
    Record(tmp_path / "out").check()
    assert told == [1, 2] and len(log_of(tmp_path / "out")) == found.steps == 2
    record = Record(tmp_path / "out")
    claimed = Claim(record, tmp_path / "out" / "adapter", Files(base, rows), checked_health(record), "5eed", "you")
    verified = verify(claimed, segments=None)
    assert (verified.grade, verified.segments) == (Grade.ATTESTED, ()), "what accelerate shards is not replayed"
