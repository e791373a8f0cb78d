"""An accelerate configuration that a recipe names: read, checked, and bound to the recipe by its content.

accelerate starts the processes of such a run and shards what the file says (FSDP, DeepSpeed). It is passed on as it is;
what is refused is what would read another file, start another program, or contradict the recipe.
"""

from __future__ import annotations

from pathlib import Path

from citrate.core import canonical
from citrate.core.canonical import Json
from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.training import yaml_once
from citrate.training.determinism import profile
from citrate.training.recipe import Recipe

_MAX_BYTES = 64 << 10
_TYPES = ("NO", "MULTI_GPU", "FSDP", "DEEPSPEED")
_KEYS = {
    "compute_environment", "debug", "deepspeed_config", "distributed_type", "downcast_bf16", "dynamo_config",
    "enable_cpu_affinity", "fp8_config", "fsdp_config", "gpu_ids", "machine_rank", "main_training_function",
    "mixed_precision", "num_machines", "num_processes", "parallelism_config", "rdzv_backend", "same_network", "use_cpu",
}  # fmt: skip
_PRECISION = {"float32": "no", "bfloat16": "bf16"}
_HINT = "accelerate config writes such a file; docs/training.md says what a recipe takes of it"


def read(path: Path, recipe: Recipe) -> str:
    """Read and check a configuration; returns it as canonical JSON.

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
        return canonical.dumps(_plain(document)).decode()
    except (yaml_once.NotYamlError, FormatError) as error:
        raise ConfigError(f"{path.name} is not taken: it {error}", hint=_HINT) from error


def _check(document: dict[str, Json], recipe: Recipe, name: str) -> None:
    unknown = sorted(set(document) - _KEYS)
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
        (kind == "NO" or device == "cuda", f"{kind} wants a GPU, and the recipe's profile is {recipe.determinism}"),
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
