"""Every family's GGUF files are llama.cpp's own, whole, but for the metadata keys that docs/formats.md lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from family_models import DECODERS, ENCODERS
from ggml_oracle import model_quantize_all
from llama_cpp_reference import ReferenceConverter
from tiny_models import Convert, FolderSink

from citrate.core.records import Variant
from citrate.formats import SourceModel, check, convert_all, inspect, open_model, why_impossible
from citrate.formats.gguf_file import GgufHeader, GgufValue, Kind, header_bytes, padded, plan, read_header
from citrate.formats.gguf_writing import _writing_order
from citrate.formats.mixtures import MIXTURES
from citrate.formats.sentencepiece_file import UNIGRAM_NAME

pytestmark = [pytest.mark.servers, pytest.mark.models, pytest.mark.xdist_group("llama_cpp_reference")]

NAMED_OTHERWISE = ("general.basename", "general.finetune", "general.organization")
"""Only where the folder has capitals or config.json a private name: see test_gguf_general.py."""
OTHERWISE = {"general.license": "Apache-2.0"}
OTHERWISE_BY_FAMILY = {"bert": {"tokenizer.ggml.pre": "default"}}
DEVIATIONS = {
    "mistral": ["tokens: spaces in front"],
    "qwen2": ["tokens: letters in parts"],
    "qwen3": ["tokens: letters in parts"],
    "bert": ["tokens: vowel signs, Korean syllables and words of over 100 characters"],
    "xlm-roberta": ["tokens: letters in parts and rare spaces"],
}
BESIDE_ITS_OWN_FILE = ["tokens: letters in parts and rare spaces, <mask>"]
WHOLE = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
QUANTIZED = {name: mixture.file_type for name, mixture in MIXTURES.items() if name not in WHOLE}


@dataclass(frozen=True)
class Made:
    """A family's model, our files of it, and llama.cpp's, by quantization."""

    model: SourceModel
    ours: dict[str, Path]
    theirs: dict[str, Path]


@pytest.fixture(scope="module", params={**DECODERS, **ENCODERS})
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, reference_converter: ReferenceConverter
) -> Made:
    build, pre = {**DECODERS, **ENCODERS}[request.param]
    return make(tmp_path_factory.mktemp(request.param), build, pre, reference_converter)


def make(root: Path, build: object, pre: str, converter: ReferenceConverter) -> Made:
    source = root / "source"
    source.mkdir()
    build(source)  # type: ignore[operator]
    model = open_model(source)
    sinks = {Variant.parse(f"gguf:{name}"): FolderSink(root / "ours") for name in MIXTURES}
    convert_all(model, sinks, name="tiny", threads=2)
    theirs = {
        name: converter.convert(source, root / f"{name}.gguf", outtype=outtype, name="tiny", pre=pre)
        for name, outtype in WHOLE.items()
    }
    theirs |= {name: root / f"{name}.gguf" for name in QUANTIZED}
    model_quantize_all(theirs[model.source_dtype], {theirs[name]: number for name, number in QUANTIZED.items()})
    ours = {name: root / "ours" / f"tiny-{name}.gguf" for name in MIXTURES}
    return Made(model, ours, theirs)


def test_every_quantization_is_the_file_that_llama_cpp_makes(made: Made) -> None:
    family = made.model.architecture.name
    for name in QUANTIZED:
        wanted, header = made.theirs[name].read_bytes(), read_header(made.theirs[name])
        sizes = [(tensor.name, tensor.shape, tensor.type_name) for tensor in header.tensors]
        start = header.tensors[0].offset
        assert made.ours[name].read_bytes() == header_bytes(edited(header, family), plan(sizes)) + wanted[start:], name


def test_every_unquantized_file_is_what_the_converter_makes_with_tensors_in_the_quantizers_order(made: Made) -> None:
    family = made.model.architecture.name
    for name in WHOLE:
        wanted, header = made.theirs[name].read_bytes(), read_header(made.theirs[name])
        tensors = sorted(header.tensors, key=lambda tensor: _writing_order(tensor.name))
        sizes = [(tensor.name, tensor.shape, tensor.type_name) for tensor in tensors]
        parts = [
            wanted[tensor.offset :][: tensor.size_bytes].ljust(padded(tensor.size_bytes), b"\0") for tensor in tensors
        ]
        assert made.ours[name].read_bytes() == header_bytes(edited(header, family), plan(sizes)) + b"".join(parts), name


def test_tokens_and_predictions_are_those_of_transformers(made: Made) -> None:
    tokens, *between, complete, outputs = check(made.model, Variant.parse("gguf:Q8_0"), made.ours["Q8_0"])
    assert (tokens.name, tokens.value) == ("tokens", "0")
    kind, embeds = made.model.architecture.name, outputs.name == "embedding"
    deviations = BESIDE_ITS_OWN_FILE if (made.model.root / UNIGRAM_NAME).exists() else DEVIATIONS.get(kind, [])
    assert [result.name for result in between] == deviations + ([] if embeds else ["round trip"])
    assert embeds == (kind in ("bert", "xlm-roberta"))
    assert (complete.name, complete.value) == ("metadata", "0")
    assert outputs.limit


def test_inspect_tells_the_family(made: Made) -> None:
    name = made.model.architecture.name
    assert name != "other"
    source, written = inspect(made.model.root), inspect(made.ours["Q4_K_M"])
    assert source.architecture.name == name
    assert written.architecture.layers == made.model.architecture.layers
    assert source.output == written.output == ("embedding" if name in ("bert", "xlm-roberta") else "logits")


def test_mlx_arrays_predict_like_the_source(made: Made, converted: Convert) -> None:
    variant = Variant.parse("mlx:4bit")
    if made.model.architecture.name in ("bert", "xlm-roberta"):
        assert "mlx-lm runs no encoders" in why_impossible(made.model, variant)
        return
    path, _ = converted(made.model, str(variant))
    assert {result.name for result in check(made.model, variant, path)} == {
        "tokens",
        "round trip",
        "metadata",
        "tensors",
        "logits",
    }


def edited(header: GgufHeader, family: str) -> dict[str, GgufValue]:
    """The metadata of llama.cpp's file as ours has it."""
    keys = dict(header.metadata)
    for name, text in {**OTHERWISE, **OTHERWISE_BY_FAMILY.get(family, {})}.items():
        assert name in keys
        keys[name] = GgufValue(Kind.STRING, text)
    return keys


def test_the_differing_keys_stand_in_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    differing = {*NAMED_OTHERWISE, *OTHERWISE, *(name for keys in OTHERWISE_BY_FAMILY.values() for name in keys)}
    assert len(differing) <= 5
    assert all(f"`{name}`" in docs for name in differing)
