"""An accelerate configuration that a recipe names: read, checked, and passed on to accelerate's launcher.

accelerate starts the processes of such a run and shards what the file says (FSDP, DeepSpeed): then the file is bound to
the recipe by its content. On processors it only starts them, and says nothing that the recipe does not: such a run is
the recipe's own, byte for byte. What is refused is what would read another file, start another program, or contradict
the recipe.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from citrate.core import canonical
from citrate.core.canonical import Json
from citrate.core.errors import BackendMissingError, ConfigError, FormatError, NotFoundError
from citrate.training import yaml_once
from citrate.training.determinism import profile
from citrate.training.recipe import WORLD_MAX, Recipe

_MAX_BYTES = 64 << 10
_ON_PROCESSORS = ("NO", "MULTI_CPU")
_TYPES = (*_ON_PROCESSORS, "MULTI_GPU", "FSDP", "DEEPSPEED")
_KEYS = {
    "compute_environment", "debug", "deepspeed_config", "distributed_type", "downcast_bf16", "dynamo_config",
    "enable_cpu_affinity", "fp8_config", "fsdp_config", "gpu_ids", "machine_rank", "main_training_function",
    "mixed_precision", "num_machines", "num_processes", "parallelism_config", "rdzv_backend", "same_network", "use_cpu",
}  # fmt: skip
_EMPTY = {"mpirun_config", "tpu_env", "tpu_use_cluster", "tpu_use_sudo"}
"""What `accelerate config` writes into every file, and what says nothing as long as it is empty or false."""
_DECIDING = {
    "deepspeed_config", "dynamo_config", "enable_cpu_affinity", "fp8_config", "fsdp_config", "gpu_ids",
    "parallelism_config",
}  # fmt: skip
"""What would change a run on processors, or is not meant for one."""
_PRECISION = {"float32": "no", "bfloat16": "bf16"}
_HINT = "accelerate config writes such a file; docs/training.md says what a recipe takes of it"
_TORCHRUN = {"PET_STANDALONE": "1", "PET_LOCAL_ADDR": "127.0.0.1"}
"""torchrun's options: a port that is free, where two runs would else meet at the same one; and on this machine only."""


@dataclass(frozen=True)
class Configuration:
    """What accelerate's launcher is to read, as canonical JSON.

    ``decides``: whether it says more than the recipe, so that it is part of what is hashed; such a run is not replayed.
    """

    text: str
    decides: bool


def read(path: Path, recipe: Recipe) -> Configuration:
    """Read and check a configuration.

    Raises:
        NotFoundError: no such file.
        ConfigError: not YAML, a key that is not taken, or it contradicts the recipe; the message names it.
    """
    if not path.is_file():
        raise NotFoundError(f"no such accelerate configuration: {path}", hint=_HINT)
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path.name} is larger than a configuration can be", hint=_HINT)
    try:
        document = yaml_once.load(path.read_bytes())
        if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
            raise ConfigError(f"{path.name} is no accelerate configuration: a mapping of fields is wanted", hint=_HINT)
        _check(document, recipe, path.name)
        decides = profile(recipe.determinism).device != "cpu"
        return Configuration(canonical.dumps(_plain(document)).decode(), decides)
    except (yaml_once.NotYamlError, FormatError) as error:
        raise ConfigError(f"{path.name} is not taken: it {error}", hint=_HINT) from error


def launcher(text: str, path: Path) -> tuple[list[str], Mapping[str, str]]:
    """The command that has accelerate start a run by a configuration at ``path``, and what its environment has to hold.

    accelerate knows several processes on processors by ``mpirun`` only, and without it starts one of them, silently.
    ``--multi_gpu`` is its word for torchrun, whose processes are told by the worker that they are on processors.

    Raises:
        BackendMissingError: the configuration wants DeepSpeed, and it is not installed.
    """
    kind = canonical.loads(text.encode())["distributed_type"]
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise BackendMissingError("the recipe's accelerate file wants DeepSpeed", hint="pip install deepspeed")
    torchrun = ["--multi_gpu"] if kind == "MULTI_CPU" else []
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path), *torchrun], _TORCHRUN


def _check(document: dict[str, Json], recipe: Recipe, name: str) -> None:
    unknown = sorted(key for key, value in document.items() if key not in _KEYS and (value or key not in _EMPTY))
    deciding = sorted(key for key in _DECIDING if document.get(key) not in (None, False, {}, "all"))
    kind, device = document.get("distributed_type"), profile(recipe.determinism).device
    processes, precision = document.get("num_processes", 1), document.get("mixed_precision", "no")
    deepspeed = document.get("deepspeed_config")
    wanted = (
        (not unknown, f"{', '.join(unknown)} is not taken"),
        (document.get("compute_environment", "LOCAL_MACHINE") == "LOCAL_MACHINE", "it is for another machine"),
        (document.get("num_machines", 1) == 1, "runs of several machines are not in this release"),
        (kind in _TYPES, f"distributed_type is one of {', '.join(_TYPES)}"),
        (processes == recipe.world_size, f"num_processes is not {recipe.world_size}, the recipe's world_size"),
        (kind != "NO" or recipe.world_size == 1, "distributed_type NO is one process"),
        (kind != "MULTI_CPU" or 1 < recipe.world_size <= WORLD_MAX, f"MULTI_CPU is of 2 to {WORLD_MAX} processes"),
        (kind != "MULTI_CPU" or device == "cpu", f"MULTI_CPU is not for the recipe's profile {recipe.determinism}"),
        (kind in _ON_PROCESSORS or device == "cuda",
         f"{kind} wants a GPU, and the recipe's profile is {recipe.determinism}"),
        (device == "cuda" or not deciding, f"{', '.join(deciding)} is not taken on a processor"),
        (device == "cpu" or recipe.checkpoint_every >= recipe.steps, f"{kind} wants checkpoint_every: {recipe.steps} or"
         " more in the recipe: what accelerate shards is not kept on the way"),
        (bool(document.get("use_cpu", False)) == (device == "cpu"), "use_cpu is not the recipe's profile"),
        (precision == _PRECISION[recipe.precision], f"mixed_precision is not the recipe's {recipe.precision}"),
        (not isinstance(deepspeed, dict) or not any(key.endswith(("_file", "hostfile")) for key in deepspeed),
         "deepspeed_config names another file: write its settings here"),
    )  # fmt: skip
    for holds, message in wanted:
        if not holds:
            raise ConfigError(f"{name}: {message}", hint=_HINT)


def _plain(value: Json) -> dict[str, Json]:
    """Without floats, which have no canonical spelling: as text."""
    found = _spelled(value)
    assert isinstance(found, dict)
    return found


def _spelled(value: Json) -> Json:
    if isinstance(value, dict):
        return {str(key): _spelled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    return str(value) if isinstance(value, float) else value
