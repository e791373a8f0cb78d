"""The numba encoders write ggml's and MLX's bytes, on ordinary and on hostile weights, and are vectorised."""

from __future__ import annotations

import hashlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from ggml_oracle import quantize_chunk
from numpy.typing import NDArray

from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats import encoder_identity, encoding, ggml, mlx_affine
from citrate.formats.dtypes import to_bfloat16, to_float32
from citrate.formats.encoding import encode
from citrate.formats.gguf_file import NUMBERS, TYPES
from citrate.formats.mlx_affine import Affine
from citrate.formats.quantize import simple
from citrate.formats.quantize.jit import _cache_folder
from citrate.formats.safetensors_file import Tensor

KINDS = ["F16", "Q8_0", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]


def hostile(seed: int, rows: int = 1024) -> NDArray[np.float32]:
    """Sub-blocks of 32 that break quantizers: constant, nearly constant, sparse, denormal, ties, huge, one sign."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, 32)).astype(np.float32)
    scale = np.exp2(random.uniform(-150, 30, (rows, 1))).astype(np.float32)
    kind = random.integers(0, 12, rows)
    near = (1 + x * np.exp2(random.uniform(-26, -8, (rows, 1)))).astype(np.float32)
    shapes = [
        x * scale,
        np.broadcast_to(x[:, :1], x.shape),
        x[:, :1] * near,
        -np.abs(x[:, :1] * (1 + x * np.float32(1e-7))),
        np.abs(x),
        np.where(random.random(x.shape) < 0.9, 0, x * scale),
        x * np.float32(1e-40),
        np.full_like(x, -0.0),
        np.round(x * 4) / 4,
        np.broadcast_to(x[:, :1] * scale, x.shape),
        -np.abs(x[:, :1] * scale) * (1 + np.abs(x) * np.float32(1e-6)),
        x,
    ]
    for number, values in enumerate(shapes):
        x[kind == number] = values[kind == number]
    factor = np.array([1e-9, 1e4, 1, 1, 1, 1, 1, 1], np.float32)[random.integers(0, 8, rows // 8)].repeat(8)
    return np.ascontiguousarray((x * factor[:, None]).astype(np.float32).ravel())


def codes(type_name: str, values: NDArray[np.generic], dtype: str) -> NDArray[np.uint8]:
    return encoding._kernels().run(type_name, values)


@pytest.mark.parametrize("type_name", KINDS)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_encoders_write_the_bytes_of_ggml_on_hostile_weights(type_name: str, dtype: str) -> None:
    _, _, size = TYPES[NUMBERS[type_name]]
    for seed in range(12):
        weights = hostile(seed)
        source = to_bfloat16(weights) if dtype == "BF16" else weights
        ours = codes(type_name, source, dtype)
        theirs = quantize_chunk(type_name, np.ascontiguousarray(to_float32(source, dtype)))
        wrong = (ours.reshape(-1, size) != theirs.reshape(-1, size)).any(axis=1)
        assert not wrong.any(), f"seed {seed}: {wrong.sum()} of {wrong.size} blocks differ"


@pytest.mark.parametrize("type_name", KINDS)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_what_encoders_are_tried_against_are_the_bytes_of_ggml(type_name: str, dtype: str) -> None:
    wide = np.ascontiguousarray(to_float32(encoder_identity.weights(dtype), dtype))
    made = quantize_chunk(type_name, wide)
    assert hashlib.sha256(made.tobytes()).hexdigest() == encoder_identity.REFERENCE[type_name, dtype]
    assert ggml.quantize(type_name, wide).tobytes() == made.tobytes()


def test_encoders_are_tried_on_weights_that_quantizers_differ_on() -> None:
    weights = to_float32(encoder_identity.weights("F32"), "F32")
    rows = weights.reshape(-1, 32)
    assert np.isfinite(weights).all()
    assert ((weights != 0) & (np.abs(weights) < np.finfo(np.float32).tiny)).sum() > 100
    assert {np.signbit(zero) for zero in weights[weights == 0]} == {np.False_, np.True_}
    assert (rows == rows[:, :1]).all(axis=1).any() and (rows > 0).all(axis=1).any() and (rows < 0).all(axis=1).any()
    assert np.abs(weights).max() > 1e9


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU for which numba compiles an encoder otherwise: of each output one bit is another."""
    kernels = encoding._kernels()
    run = kernels.run

    def off(type_name: str, source: NDArray[np.generic]) -> NDArray[np.uint8]:
        out = run(type_name, source)
        out[5] ^= 1
        return out

    monkeypatch.setattr(kernels, "run", off)
    monkeypatch.setattr(encoding, "_chosen", {})


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("type_name", ["Q4_K", "Q8_0"])
def test_an_encoder_that_writes_other_bytes_gives_way_to_ggml(type_name: str, dtype: str, faulty: None) -> None:
    weights = np.random.default_rng(1).standard_normal(4096).astype(np.float32)
    source = to_bfloat16(weights) if dtype == "BF16" else weights
    made = encode(source, Tensor("w", dtype, (4096,), Path(), 0, source.nbytes), type_name)
    wanted = quantize_chunk(type_name, np.ascontiguousarray(to_float32(source, dtype)))
    assert np.array_equal(made.data, wanted)
    told = encoding.encoders()[type_name]
    assert told.name == "ggml" and "writes other bytes than ggml" in told.reason and "x86-64" not in told.reason
    assert encoding.arguments([type_name]) == {}, "the file is the same as everywhere"


def test_without_ggml_nothing_is_written_by_an_encoder_that_is_not_proved(
    faulty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise BackendMissingError("GGUF needs llama-cpp-python", hint="pip install 'citrate[gguf]'")

    monkeypatch.setattr(ggml, "library", missing)
    with pytest.raises(BackendMissingError, match="llama-cpp-python"):
        encoding.written("Q6_K", np.ones(256, np.float32))


def test_ggml_that_writes_other_bytes_too_is_told(faulty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_identity, "REFERENCE", {})
    encoding.written("Q5_0", np.ones(32, np.float32))
    assert encoding.encoders()["Q5_0"].reason.endswith("and ggml here others than on x86-64")
    assert encoding.arguments(["F32", "Q5_0"])["encoder"].startswith("ggml on "), "lineage says so"
    assert encoding.arguments(["F32", "Q8_0"]) == {}, "but not of a file without that type"


def test_encoders_here_are_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_chosen", {})
    for type_name in KINDS:
        encoding.written(type_name, np.ones(256, np.float32))
    assert {encoder.name for encoder in encoding.encoders().values()} == {"numba"}


@pytest.mark.parametrize("type_name", KINDS)
def test_a_tile_that_is_not_full_gives_the_same_bytes(type_name: str) -> None:
    weights = hostile(99, rows=8 * 11)  # eleven super-blocks: one tile and three
    whole = codes(type_name, weights, "F32")
    _, block, size = TYPES[NUMBERS[type_name]]
    parts = [codes(type_name, weights[i : i + 256], "F32") for i in range(0, weights.size, 256)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.size == weights.size // block * size


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_affine_groups_are_those_of_mlx(bits: int, group: int) -> None:
    import mlx.core as mx

    for seed in range(6):
        weights = hostile(seed, rows=512)
        weights[~np.isfinite(weights) | (np.abs(weights) > 1e30)] = 0
        rows = mx.array(weights.reshape(-1, group))
        wanted = [np.array(part) for part in mx.quantize(rows, group_size=group, bits=bits)]
        made = mlx_affine.encode(weights, "F32", Affine(bits, group))
        for ours, theirs in zip((made.codes, made.scales, made.biases), wanted, strict=True):
            assert np.array_equal(ours, theirs.ravel())
        assert np.array_equal(
            made.decoded, mlx_affine.decode(*(made.codes, made.scales, made.biases), "F32", Affine(bits, group))
        )


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_groups_of_every_width_are_decoded_as_mlx_decodes_them(bits: int, dtype: str) -> None:
    import mlx.core as mx

    kind = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}[dtype]
    weights = mx.array(np.random.default_rng(bits).standard_normal((48, 256)).astype(np.float32)).astype(kind)
    for group in (32, 64, 128):
        parts = mx.quantize(weights, group_size=group, bits=bits)
        wanted = mx.dequantize(*parts, group_size=group, bits=bits).view(mx.uint32 if dtype == "F32" else mx.uint16)
        codes, *ends = (np.array(part.view(mx.uint32 if part.itemsize == 4 else mx.uint16)) for part in parts)
        raw = [end.ravel().view(np.float32) if dtype == "F32" else end.ravel() for end in ends]
        found = mlx_affine.decode(codes.ravel(), *raw, dtype, Affine(bits, group))
        assert np.array_equal(found.view(np.array(wanted).dtype), np.array(wanted).ravel())


def test_halves_are_widened_as_ieee_754_says() -> None:
    every = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    finite = every[np.isfinite(every.view(np.float16))]
    ours = np.empty(finite.size, np.float32)
    simple.decode_f16(finite, ours)
    assert np.array_equal(ours.view(np.uint32), ggml.decode("F16", finite.view(np.uint8), finite.size).view(np.uint32))


def test_a_weight_too_large_for_half_precision_is_refused() -> None:
    weights = np.full(256, 70000.0, np.float32)
    with pytest.raises(FormatError, match="tensor 'w' holds a weight too large for F16"):
        encode(weights, Tensor("w", "F32", (256,), Path(), 0, 1024), "F16")


PACKED = re.compile(
    r"v?(mul|add|sub|div|max|min)ps\s.*[xyz]mm|v?p(add|srl|sra)d\s.*[yz]mm"  # x86-64
    r"|f(mul|add|sub|div)\s+v\d+\.4s"  # ARM
)


_FLAT = (np.ones(2048, np.float32), np.zeros(8192, np.uint8))
_GROUPS = (np.zeros(256, np.uint32), np.ones(32, np.float32), np.ones(32, np.float32))
CALLS: dict[str, tuple[object, ...]] = {
    # module and kernel -> arguments of a call
    "k_min.encode_k_min": (*_FLAT, 0, 8, 15, np.float32(-1), 20, 144),
    "k_sym.encode_k_sym": (*_FLAT, 0, 8, np.float32(-32), np.float32(31)),
    "simple.encode_f16": (_FLAT[0], np.zeros(2048, np.uint16), 0, 2048),
    "simple.encode_q8_0": (*_FLAT, 0, 64),
    "simple.encode_q5_0": (*_FLAT, 0, 64),
    "simple.encode_q5_1": (*_FLAT, 0, 64),
    "affine.encode_affine": (_FLAT[0], *_GROUPS, 64, 4, 0, 32),
    "affine.decode_affine": (*_GROUPS, 64, 4, np.empty(2048, np.float32)),
}


@pytest.mark.parametrize("kernel", CALLS)
def test_kernels_are_vectorised(kernel: str) -> None:
    """Packed instructions do the work, and none that rounds once where C rounds twice."""
    module, _, entry = kernel.partition(".")
    cached = getattr(importlib.import_module(f"citrate.formats.quantize.{module}"), entry)
    fresh = numba.njit(nogil=True, error_model="numpy", fastmath=False)(
        cached.py_func
    )  # a cached one keeps no assembly
    fresh(*CALLS[kernel])
    (assembly,) = fresh.inspect_asm().values()
    assert len(PACKED.findall(assembly)) >= 4, "the kernel fell back to scalar code"
    assert "fmadd" not in assembly
    assert "fmla" not in assembly


def test_machine_code_is_kept_outside_the_package() -> None:
    import citrate.formats.quantize as package

    folder = _cache_folder()
    assert folder
    assert not folder.startswith(str(package.__path__[0]))


_WITH_BLAS = """
import sys
import numpy as np
from citrate.formats import merging_kernels
merging_kernels.added(np.ones(4, np.float32), np.ones(4, np.float32), np.ones(4, np.float32))
assert "scipy.linalg" not in sys.modules
import numba
print(numba.njit(lambda a: np.dot(a, a))(np.eye(2))[0, 0])
"""


def test_kernels_leave_numbas_blas_to_whoever_calls_it() -> None:
    done = subprocess.run([sys.executable, "-c", _WITH_BLAS], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1.0", done.stderr
