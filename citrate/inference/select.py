"""Which variant suits a device and a task: a table of preferences, a memory formula, and a reason for everything.

Memory needed = weights x factor + key-value cache + overhead, where

* weights: the variant's size in bytes, as the chain records it;
* factor: 1 for inference; ``TRAINING_FACTOR`` for training;
* key-value cache: 16-bit, for ``context`` tokens (``Architecture.kv_cache_bytes``); inference only;
* overhead: the runtime's own memory, ``OVERHEAD_BYTES``, by format.

GB are 10^9 bytes throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from citrate.core.errors import NoCompatibleVariantError
from citrate.core.records import Architecture, Device, DeviceKind, Format, Selection, Task, Variant, VariantRecord

GB = 10**9

SMALL_MEMORY_BYTES = 16 * GB
"""Below it a CPU is given 4-bit weights, from it on 8-bit ones."""

TRAINING_FACTOR = 2.0
"""LoRA keeps the 16-bit weights once, frozen; adapter, optimizer state and activations are reckoned as much again."""

OVERHEAD_BYTES: Mapping[Format, int] = {
    Format.GGUF: 5 * GB // 10,
    Format.SAFETENSORS: 1 * GB,
    Format.MLX: 1 * GB,
    Format.TENSORRT_LLM: 2 * GB,
}
"""The resident memory measured of a model process besides weights and cache, rounded up, with room for the logits of a
batch where a vocabulary is large (docs/inference.md). TensorRT-LLM's is an estimate: CUDA context and workspace."""

_GGUF_UP_TO_8 = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_M", "Q3_K_S", "Q2_K")
_GGUF_UP_TO_4 = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_M", "Q3_K_S", "Q2_K")
_GGUF_WIDE = ("F16", "BF16", "F32")
_BEST_FIRST = (*_GGUF_UP_TO_8, *_GGUF_WIDE)
_SMALL_FIRST = (*_GGUF_UP_TO_4, "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", *_GGUF_WIDE)
_MLX = ("4bit", "4bit-g32", "4bit-g128", "3bit", "2bit", "5bit", "6bit", "8bit", "8bit-g32", "8bit-g128", "", "bf16")
_TENSORRT = ("nvfp4", "fp8", "w4a16_awq", "bf16")


@dataclass(frozen=True)
class Rule:
    """One line of the table: for this device, this format, its quantizations best first, and why."""

    format: Format
    why: str
    quantizations: tuple[str, ...] = ()
    """The order of preference; what is not named comes after, the larger first."""
    exact_arch: bool = False
    """Whether the variant's target must be the device's architecture."""


_SAFETENSORS = Rule(Format.SAFETENSORS, "SafeTensors runs everywhere through transformers")
_GGUF_CPU_SMALL = Rule(Format.GGUF, "llama.cpp is the fastest on a CPU; 4-bit weights below 16 GB", _SMALL_FIRST)
_GGUF_CPU = Rule(Format.GGUF, "llama.cpp is the fastest on a CPU; 8-bit weights from 16 GB on", _BEST_FIRST)

INFERENCE_RULES: Mapping[DeviceKind, tuple[Rule, ...]] = {
    DeviceKind.APPLE_SILICON: (
        Rule(Format.MLX, "MLX is the fastest on Apple silicon", _MLX),
        Rule(Format.GGUF, "llama.cpp uses the GPU through Metal", _BEST_FIRST),
        _SAFETENSORS,
    ),
    DeviceKind.NVIDIA: (
        Rule(Format.TENSORRT_LLM, "TensorRT-LLM is the fastest on its GPU architecture", _TENSORRT, exact_arch=True),
        Rule(Format.GGUF, "llama.cpp uses the GPU through CUDA", _BEST_FIRST),
        _SAFETENSORS,
    ),
    DeviceKind.AMD: (Rule(Format.GGUF, "llama.cpp uses the GPU through ROCm or Vulkan", _BEST_FIRST), _SAFETENSORS),
    DeviceKind.INTEL: (Rule(Format.GGUF, "llama.cpp uses the GPU through Vulkan or SYCL", _BEST_FIRST), _SAFETENSORS),
    DeviceKind.CPU: (_GGUF_CPU, _SAFETENSORS),
}
SMALL_CPU_RULES = (_GGUF_CPU_SMALL, _SAFETENSORS)
TRAINING_RULES = (Rule(Format.SAFETENSORS, "training starts from the unquantised SafeTensors weights"),)

_NEEDS: Mapping[Format, str] = {
    Format.MLX: "MLX needs Apple silicon",
    Format.TENSORRT_LLM: "TensorRT-LLM needs an NVIDIA GPU",
}

_INSTALL: Mapping[Format, str] = {
    Format.TENSORRT_LLM: "TensorRT-LLM is not installed here (install it beside citrate, as NVIDIA says)",
}


@dataclass(frozen=True)
class _Need:
    """The memory that a variant needs, term by term, in bytes."""

    weights: int
    cache: int
    overhead: int
    cache_note: str

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.overhead

    def __str__(self) -> str:
        return f"{gb(self.total)} (weights {gb(self.weights)} + {self.cache_note} + runtime {gb(self.overhead)})"


@dataclass(frozen=True)
class _Candidate:
    record: VariantRecord
    rule: Rule
    rank: tuple[int, int, int, str]
    need: _Need


def select(
    variants: Sequence[VariantRecord],
    device: Device,
    task: Task = Task.INFERENCE,
    *,
    architecture: Architecture | None = None,
    context: int = 4096,
) -> Selection:
    """Choose the variant for ``device`` and ``task``; the same input always gives the same answer.

    Args:
        variants: what the version offers. Whether the version itself may be used is the caller's question.
        device: what to choose for; its memory bounds the choice.
        task: inference or training.
        architecture: for the size of the key-value cache; None leaves it out, and the reason says so.
        context: tokens of prompt and answer that must fit.

    Raises:
        NoCompatibleVariantError: nothing suits; ``reasons`` has one entry a variant, the hint says what would help.
    """
    rules = _rules(device, task)
    rejected: dict[Variant, str] = {}
    candidates: list[_Candidate] = []
    for record in sorted(variants, key=lambda record: record.variant):
        rule, refusal = _match(record.variant, rules, device, task)
        if rule is None:
            rejected[record.variant] = refusal
            continue
        need = _need(record, task, architecture, context)
        candidates.append(_Candidate(record, rule, _rank(record, rules, rule), need))
    candidates.sort(key=lambda candidate: candidate.rank)
    fitting = [c for c in candidates if c.need.total <= device.memory_bytes]
    for candidate in candidates:
        if candidate not in fitting:
            rejected[candidate.record.variant] = f"needs {candidate.need}, there are {gb(device.memory_bytes)}"
    if not fitting:
        raise _nothing(device, task, rejected, candidates)
    chosen = fitting[0]
    for other in fitting[1:]:
        rejected[other.record.variant] = _second_best(other, chosen)
    return Selection(chosen.record.variant, _reason(chosen, rules, rejected, device), device, rejected)


def gb(size_bytes: int) -> str:
    """A size in GB with two significant digits, never rounded down to nothing: ``4.7 GB``, ``0.0046 GB``."""
    value = size_bytes / GB
    return f"{value:.0f} GB" if value >= 100 else f"{value:.1f} GB" if value >= 1 else f"{value:.2g} GB"


def _rules(device: Device, task: Task) -> tuple[Rule, ...]:
    if task is Task.TRAINING:
        return TRAINING_RULES
    if device.kind is DeviceKind.CPU and device.memory_bytes < SMALL_MEMORY_BYTES:
        return SMALL_CPU_RULES
    return INFERENCE_RULES[device.kind]


def _match(variant: Variant, rules: Sequence[Rule], device: Device, task: Task) -> tuple[Rule | None, str]:
    """The rule that admits ``variant``, or why none does."""
    rule = next((rule for rule in rules if rule.format is variant.format), None)
    if rule is None:
        if task is Task.TRAINING:
            return None, "training starts from the unquantised SafeTensors weights"
        return (
            None,
            f"{_NEEDS.get(variant.format, f'{variant.format} does not run there')}, this device is {device.kind}",
        )
    if variant.format in device.lacks:
        return None, _INSTALL[variant.format]
    if rule.exact_arch and variant.target != device.arch:
        if not device.arch:
            return None, f"is for {variant.target}, and the GPU's architecture is unknown (give it with --arch)"
        return None, f"is for {variant.target or 'an unnamed architecture'}, this GPU is {device.arch}"
    return rule, ""


def _rank(record: VariantRecord, rules: Sequence[Rule], rule: Rule) -> tuple[int, int, int, str]:
    known = rule.quantizations
    quantization = record.variant.quantization
    place = known.index(quantization) if quantization in known else len(known)
    return rules.index(rule), place, -record.size_bytes, str(record.variant)


def _need(record: VariantRecord, task: Task, architecture: Architecture | None, context: int) -> _Need:
    overhead = OVERHEAD_BYTES[record.variant.format]
    if task is Task.TRAINING:
        return _Need(int(record.size_bytes * TRAINING_FACTOR), 0, overhead, "no cache in training")
    if architecture is None:
        return _Need(record.size_bytes, 0, overhead, "cache not counted: architecture unknown")
    cache = architecture.kv_cache_bytes(context)
    tokens = min(context, architecture.context_length or context)
    return _Need(record.size_bytes, cache, overhead, f"cache of {tokens} tokens {gb(cache)}")


def _second_best(other: _Candidate, chosen: _Candidate) -> str:
    if other.rule is chosen.rule:
        return f"would fit ({gb(other.need.total)}); {chosen.record.variant} comes first here"
    return f"would fit ({gb(other.need.total)}); {chosen.record.variant.format} comes first on this device"


def _reason(chosen: _Candidate, rules: Sequence[Rule], rejected: Mapping[Variant, str], device: Device) -> str:
    missing = []
    for rule in rules[: rules.index(chosen.rule)]:
        refusals = [f"{variant} {why}" for variant, why in rejected.items() if variant.format is rule.format]
        missing.append(refusals[0] if refusals else f"no {rule.format} variant is published")
    memory = f"needs {chosen.need} of {gb(device.memory_bytes)}"
    return "; ".join([chosen.rule.why, *missing, memory])


def _nothing(
    device: Device, task: Task, rejected: Mapping[Variant, str], candidates: Sequence[_Candidate]
) -> NoCompatibleVariantError:
    where = f"{device.kind}{f' {device.arch}' if device.arch else ''} with {gb(device.memory_bytes)}"
    hint = f"publish one that does: {', '.join(rule.format for rule in _rules(device, task))}"
    if candidates:
        least = min(candidates, key=lambda candidate: candidate.need.total)
        hint = f"the smallest, {least.record.variant}, needs {gb(least.need.total)}"
        if device.kind is not DeviceKind.CPU:
            hint += "; or choose for the processor's memory: --device cpu"
    reasons = {str(variant): why for variant, why in rejected.items()}
    return NoCompatibleVariantError(f"no variant suits {task} on {where}", reasons=reasons, hint=hint)
