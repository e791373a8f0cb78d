"""Determinism profiles: under which settings a replay of a training run is bit for bit.

A profile is a promise about one kind of hardware. Its variables must stand in the environment before torch is imported,
so training runs in a process of its own (``worker``). Which settings decide the bits was measured: the instruction set,
the precision, the split of the batch, attention, the optimizer's implementation and the number of processes do; the
number of threads of one process does not, in this profile.

MLX's wheel for x86-64 chooses nothing by the processor (its matrices are multiplied by the reference BLAS, in one
thread), but the C library's exponential has a variant with FMA: which there is on every processor with AVX2, so that
is what is told of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from citrate.core.errors import ConfigError


@dataclass(frozen=True)
class Profile:
    """How a run is made repeatable. ``exact``: whether a replay elsewhere is expected to have the same bits.

    ``precision``: the one that it promises that of; empty: any.
    """

    name: str
    device: str
    """``cpu``, ``cuda``, or ``gpu``: what MLX calls Metal's."""
    exact: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    precision: str = ""
    backend: str = "trl"
    """Of the recipes that it is for."""


_EVERYWHERE = {
    "PYTHONHASHSEED": "0",  # PEFT keeps its targets in a set
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "OMP_DYNAMIC": "FALSE",
    "MKL_DYNAMIC": "FALSE",
}
_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2,STRICT", "ONEDNN_MAX_CPU_ISA": "AVX2"}

_PROFILES = (
    Profile("citrate/cpu-avx2-fp32", "cpu", exact=True, environment={**_EVERYWHERE, **_AVX2}, precision="float32"),
    Profile("citrate/cpu", "cpu", exact=False, environment=_EVERYWHERE),
    Profile("citrate/cuda", "cuda", exact=False, environment={**_EVERYWHERE, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}),
    Profile("citrate/mlx-cpu", "cpu", exact=True, environment={**_EVERYWHERE, **_AVX2}, backend="mlx"),
    Profile("citrate/mlx-gpu", "gpu", exact=False, environment=_EVERYWHERE, backend="mlx"),
)
PROFILES: Mapping[str, Profile] = {each.name: each for each in _PROFILES}


def profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROFILES:
        raise ConfigError(f"no determinism profile {name!r}", hint=f"one of: {', '.join(PROFILES)}")
    return PROFILES[name]
