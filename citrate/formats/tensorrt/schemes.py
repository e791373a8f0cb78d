"""The quantizations that TensorRT-LLM runs fast on an architecture, as ModelOpt makes and lays them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from citrate.core.canonical import Json
from citrate.formats.configuration import Config


@dataclass(frozen=True)
class Scheme:
    """One quantization."""

    name: str
    """As a variant spells it."""
    algorithm: str
    """As ``hf_quant_config.json`` spells it."""
    recipe: str
    """ModelOpt's configuration."""
    targets: tuple[str, ...]
    """The GPU architectures whose tensor cores compute in it; the bytes are the same for each."""
    group: int
    """Weights of a row that share a scale; 0: one scale a tensor."""
    bytes_per_weight: int
    """Memory that ModelOpt takes: 16-bit weights, quantised copies, what the search for scales keeps; measured 3.4, 2.6
    and 6.2 on 365 million weights."""
    packed: int
    """Weights in an element of the stored matrix."""
    limit: str
    """Mean divergence in nats from the source, activations rounded as well."""


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("fp8", "FP8", "FP8_DEFAULT_CFG", ("sm89", "sm90"), 0, 4, 1, "0.05"),
        Scheme("nvfp4", "NVFP4", "NVFP4_DEFAULT_CFG", ("sm100", "sm120"), 16, 4, 2, "0.4"),
        Scheme("w4a16_awq", "W4A16_AWQ", "INT4_AWQ_CFG", ("sm80", "sm86"), 128, 8, 2, "0.3"),
    )
}
"""The linear layers of every transformer block; embedding and output matrix stay as they are."""


def by_algorithm(algorithm: Json) -> Scheme | None:
    """The scheme that ``quant_algo`` of a checkpoint names; None for another."""
    return next((scheme for scheme in SCHEMES.values() if scheme.algorithm == algorithm), None)


def is_checkpoint(config: Config) -> bool:
    """Whether a config.json says that ModelOpt quantised the weights beside it."""
    quantization = config.document.get("quantization_config")
    return isinstance(quantization, dict) and quantization.get("quant_method") == "modelopt"
