from __future__ import annotations

import dataclasses

import pytest

from citrate.core.errors import NoCompatibleVariantError
from citrate.core.records import Architecture, Device, DeviceKind, Task, Variant, VariantRecord
from citrate.inference.select import GB, OVERHEAD_BYTES, TRAINING_FACTOR, select

LLAMA_8B = Architecture(
    name="llama",
    class_name="LlamaForCausalLM",
    parameters=8_030_261_248,
    context_length=131_072,
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocab_size=128_256,
)
SIZES_GB = {
    "safetensors": 16.1,
    "gguf:F16": 16.1,
    "gguf:Q8_0": 8.5,
    "gguf:Q5_K_M": 5.7,
    "gguf:Q4_K_M": 4.9,
    "gguf:Q2_K": 3.2,
    "mlx:4bit": 4.5,
    "mlx:4bit-g32": 5.0,
    "mlx:8bit": 8.5,
    "mlx": 16.1,
    "tensorrt_llm:fp8@sm90": 8.6,
    "tensorrt_llm:fp8@sm89": 8.6,
    "tensorrt_llm:nvfp4@sm100": 5.0,
}


def published(*names: str) -> list[VariantRecord]:
    return [
        VariantRecord(Variant.parse(name), cid=f"cid-{name}", sha256="0" * 64, size_bytes=int(SIZES_GB[name] * GB))
        for name in names or SIZES_GB
    ]


def device(kind: str, gb: float, arch: str = "") -> Device:
    return Device(DeviceKind(kind), int(gb * GB), arch)


def without(*formats: str) -> tuple[str, ...]:
    return tuple(name for name in SIZES_GB if not name.startswith(formats))


@pytest.mark.parametrize(
    ("machine", "names", "expected", "because"),
    [
        (device("apple_silicon", 24), (), "mlx:4bit", "MLX is the fastest on Apple silicon"),
        (device("apple_silicon", 24), ("mlx", "mlx:8bit", "mlx:4bit-g32"), "mlx:4bit-g32", "MLX is the fastest"),
        (device("apple_silicon", 24), ("mlx", "mlx:8bit"), "mlx:8bit", "MLX is the fastest"),
        (device("apple_silicon", 24), without("mlx"), "gguf:Q8_0", "Metal"),
        (device("apple_silicon", 24), ("safetensors",), "safetensors", "no gguf variant is published"),
        (device("nvidia", 80, "sm90"), (), "tensorrt_llm:fp8@sm90", "TensorRT-LLM is the fastest"),
        (device("nvidia", 24, "sm89"), (), "tensorrt_llm:fp8@sm89", "TensorRT-LLM is the fastest"),
        (device("nvidia", 24, "sm100"), (), "tensorrt_llm:nvfp4@sm100", "TensorRT-LLM is the fastest"),
        (device("nvidia", 24, "sm86"), (), "gguf:Q8_0", "is for sm89, this GPU is sm86"),
        (device("nvidia", 24), (), "gguf:Q8_0", "architecture is unknown"),
        (device("nvidia", 24, "sm90"), without("tensorrt_llm"), "gguf:Q8_0", "no tensorrt_llm variant is published"),
        (device("nvidia", 24, "sm86"), without("tensorrt_llm", "gguf"), "safetensors", "no gguf variant is published"),
        (device("nvidia", 8, "sm90"), (), "gguf:Q5_K_M", "CUDA"),
        (device("cpu", 15.9), (), "gguf:Q4_K_M", "4-bit weights below 16 GB"),
        (device("cpu", 16), (), "gguf:Q8_0", "8-bit weights from 16 GB on"),
        (device("cpu", 64), (), "gguf:Q8_0", "8-bit weights from 16 GB on"),
        (device("cpu", 4.5), (), "gguf:Q2_K", "4-bit weights below 16 GB"),
        (device("cpu", 15.9), ("gguf:Q5_K_M", "gguf:Q8_0"), "gguf:Q5_K_M", "4-bit weights below 16 GB"),
        (device("cpu", 32), ("gguf:Q5_K_M", "gguf:Q4_K_M"), "gguf:Q5_K_M", "8-bit weights from 16 GB on"),
        (device("cpu", 32), without("gguf"), "safetensors", "no gguf variant is published"),
        (device("amd", 24, "gfx1100"), (), "gguf:Q8_0", "ROCm or Vulkan"),
        (device("intel", 12), (), "gguf:Q8_0", "Vulkan"),
        (device("amd", 24), without("gguf"), "safetensors", "no gguf variant is published"),
    ],
)
def test_each_device_gets_the_best_variant_that_fits_and_hears_why(
    machine: Device, names: tuple[str, ...], expected: str, because: str
) -> None:
    choice = select(published(*names), machine, architecture=LLAMA_8B)
    assert str(choice.variant) == expected
    assert because in choice.reason
    assert "cache of 4096 tokens" in choice.reason


@pytest.mark.parametrize("kind", list(DeviceKind))
def test_training_takes_safetensors_on_every_device(kind: DeviceKind) -> None:
    choice = select(published(), Device(kind, 80 * GB), Task.TRAINING, architecture=LLAMA_8B)
    assert str(choice.variant) == "safetensors"
    assert choice.rejected[Variant.parse("gguf:Q8_0")] == "training starts from the unquantised SafeTensors weights"


def test_training_needs_the_stated_multiple_of_the_weights() -> None:
    records = published("safetensors")
    need = int(records[0].size_bytes * TRAINING_FACTOR) + OVERHEAD_BYTES[records[0].variant.format]
    assert select(records, Device(DeviceKind.NVIDIA, need, "sm90"), Task.TRAINING)
    with pytest.raises(NoCompatibleVariantError):
        select(records, Device(DeviceKind.NVIDIA, need - 1, "sm90"), Task.TRAINING)


def test_the_memory_formula_holds_to_the_byte() -> None:
    (record,) = published("gguf:Q4_K_M")
    need = record.size_bytes + LLAMA_8B.kv_cache_bytes(8192) + OVERHEAD_BYTES[record.variant.format]
    assert LLAMA_8B.kv_cache_bytes(8192) == 1 << 30
    assert select([record], Device(DeviceKind.CPU, need), architecture=LLAMA_8B, context=8192)
    with pytest.raises(NoCompatibleVariantError) as caught:
        select([record], Device(DeviceKind.CPU, need - 1), architecture=LLAMA_8B, context=8192)
    assert "cache of 8192 tokens 1.1 GB" in caught.value.reasons["gguf:Q4_K_M"]


def test_without_an_architecture_the_reason_says_that_no_cache_was_counted() -> None:
    assert "cache not counted" in select(published(), device("cpu", 16)).reason


def test_every_variant_but_the_chosen_one_has_its_reason() -> None:
    choice = select(published(), device("cpu", 7), architecture=LLAMA_8B)
    assert {str(v) for v in choice.rejected} == set(SIZES_GB) - {"gguf:Q4_K_M"}
    reasons = {str(variant): why for variant, why in choice.rejected.items()}
    assert reasons["gguf:Q2_K"].startswith("would fit (") and "gguf:Q4_K_M comes first" in reasons["gguf:Q2_K"]
    assert "there are 7.0 GB" in reasons["gguf:Q8_0"]
    assert reasons["mlx:4bit"] == "MLX needs Apple silicon, this device is cpu"
    assert reasons["tensorrt_llm:fp8@sm90"] == "TensorRT-LLM needs an NVIDIA GPU, this device is cpu"


def test_too_little_memory_says_what_would_do() -> None:
    with pytest.raises(NoCompatibleVariantError) as caught:
        select(published(), device("nvidia", 1, "sm90"), architecture=LLAMA_8B)
    assert caught.value.message == "no variant suits inference on nvidia sm90 with 1.0 GB"
    assert "the smallest, gguf:Q2_K, needs 4.2 GB" in caught.value.hint
    assert "--device cpu" in caught.value.hint
    assert set(caught.value.reasons) == set(SIZES_GB)


def test_no_variant_for_the_device_says_which_would_be() -> None:
    with pytest.raises(NoCompatibleVariantError) as caught:
        select(published("mlx:4bit", "tensorrt_llm:fp8@sm90"), device("cpu", 64))
    assert caught.value.hint == "publish one that does: gguf, safetensors"


def test_the_order_of_the_records_does_not_matter() -> None:
    records = published()
    twin = dataclasses.replace(records[2], variant=Variant.parse("gguf:Q8_X"))
    for kind in DeviceKind:
        forward = select([*records, twin], Device(kind, 24 * GB), architecture=LLAMA_8B)
        backward = select([twin, *reversed(records)], Device(kind, 24 * GB), architecture=LLAMA_8B)
        assert (forward.variant, forward.reason) == (backward.variant, backward.reason)
