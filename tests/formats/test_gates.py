"""Each gate fails what is really broken, and says which gate, which variant, where, the limit and the value."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import family_models
import numpy as np
import pytest
from tiny_models import Convert, FolderSink

from citrate.core.errors import BackendMissingError, ConfigError, FormatError, UnavailableError
from citrate.core.records import Variant
from citrate.formats import (
    SourceModel,
    check,
    checking,
    convert,
    default_check_level,
    gguf,
    open_model,
    require_checkable,
)
from citrate.formats.checks import memory, network, reference
from citrate.formats.checks.divergence import mean_divergence
from citrate.formats.gguf_file import GgufHeader, GgufValue, header_bytes, plan, read_header

pytestmark = pytest.mark.models

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"
Q8_0 = Variant.parse("gguf:Q8_0")
Keys = dict[str, GgufValue]


@pytest.fixture(scope="module")
def sample() -> SourceModel:
    return open_model(SAMPLE)


@pytest.fixture(scope="module")
def sound(sample: SourceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    convert(sample, Q8_0, FolderSink(root), name="tiny")
    return root / "tiny-Q8_0.gguf"


def rewritten(path: Path, header: GgufHeader, keys: Keys, out: Path) -> Path:
    """The same tensors behind other metadata."""
    sizes = [(tensor.name, tensor.shape, tensor.type_name) for tensor in header.tensors]
    out.write_bytes(header_bytes(keys, plan(sizes)) + path.read_bytes()[header.tensors[0].offset :])
    return out


def _other_pre(keys: Keys) -> None:
    keys["tokenizer.ggml.pre"] = replace(keys["tokenizer.ggml.pre"], value="gpt-2")


def _other_theta(keys: Keys) -> None:
    keys["llama.rope.freq_base"] = replace(keys["llama.rope.freq_base"], value=500000.0)


def _fewer_merges(keys: Keys) -> None:
    merges = keys["tokenizer.ggml.merges"]
    assert isinstance(merges.value, tuple)
    keys["tokenizer.ggml.merges"] = replace(merges, value=merges.value[: len(merges.value) // 2])


def _other_template(keys: Keys) -> None:
    keys["tokenizer.chat_template"] = replace(keys["tokenizer.chat_template"], value="{{ messages[0].content }}")


METADATA: dict[str, tuple[Callable[[Keys], None], str]] = {
    "a wrong pre-tokenizer": (
        _other_pre,
        r"check 'tokens' failed for gguf:Q8_0: \d+ of \d+ lines, limit 0; the first is line \d+ \(\w+\): '",
    ),
    "half of the merges": (_fewer_merges, r"check 'tokens' failed for gguf:Q8_0: \d+ of \d+ lines, limit 0; the first"),
    "a wrong rope theta": (
        _other_theta,
        r"check 'metadata' failed for gguf:Q8_0: 1 faults, limit 0; .* llama.rope.freq_base is 500000.0, the source",
    ),
    "another chat template": (_other_template, r"check 'metadata' failed .* tokenizer.chat_template is"),
    "no licence": (lambda keys: keys.pop("general.license"), r"check 'metadata' failed .* general.license is missing"),
}


@pytest.mark.parametrize("fault", METADATA)
def test_a_file_that_says_something_else_fails(fault: str, sample: SourceModel, sound: Path, tmp_path: Path) -> None:
    change, message = METADATA[fault]
    header = read_header(sound)
    keys = dict(header.metadata)
    change(keys)
    with pytest.raises(FormatError, match=message):
        check(sample, Q8_0, rewritten(sound, header, keys, tmp_path / "broken.gguf"), level="tensors")


def test_a_truncated_vocabulary_fails(sample: SourceModel, sound: Path, tmp_path: Path) -> None:
    header = read_header(sound)
    keys = dict(header.metadata)
    for name in ("tokens", "token_type"):
        values = keys[f"tokenizer.ggml.{name}"]
        assert isinstance(values.value, tuple)
        keys[f"tokenizer.ggml.{name}"] = replace(values, value=values.value[:900])
    with pytest.raises(FormatError, match=r"check '(tokens|metadata)' failed for gguf:Q8_0|llama\.cpp cannot use"):
        check(sample, Q8_0, rewritten(sound, header, keys, tmp_path / "broken.gguf"), level="tensors")


def test_a_wrong_rope_theta_fails_the_logits_too(
    sample: SourceModel, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = read_header(sound)
    keys = dict(header.metadata)
    _other_theta(keys)
    monkeypatch.setattr(gguf, "faults", lambda *_: [])
    with pytest.raises(FormatError, match=r"check 'logits' failed for gguf:Q8_0: distance \d\.\d+, limit 0\.01"):
        check(sample, Q8_0, rewritten(sound, header, keys, tmp_path / "broken.gguf"))


def swapped(path: Path, out: Path, first: str, second: str) -> Path:
    """A file in which two tensors of one shape have changed places."""
    tensors = {tensor.name: tensor for tensor in read_header(path).tensors}
    data = bytearray(path.read_bytes())
    a, b = tensors[first], tensors[second]
    one, other = (bytes(data[t.offset : t.offset + t.size_bytes]) for t in (a, b))
    data[a.offset : a.offset + a.size_bytes], data[b.offset : b.offset + b.size_bytes] = other, one
    out.write_bytes(data)
    return out


def test_swapped_tensors_fail_the_logits(sample: SourceModel, sound: Path, tmp_path: Path) -> None:
    broken = swapped(sound, tmp_path / "broken.gguf", "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight")
    with pytest.raises(FormatError, match=r"check 'logits' failed for gguf:Q8_0: distance \d\.\d+, limit 0\.01"):
        check(sample, Q8_0, broken)


def test_a_scale_that_is_no_number_fails_the_logits(sample: SourceModel, sound: Path, tmp_path: Path) -> None:
    data = bytearray(sound.read_bytes())
    tensor = next(t for t in read_header(sound).tensors if t.name == "blk.0.attn_output.weight")
    data[tensor.offset : tensor.offset + 2] = np.float16(np.nan).tobytes()
    (tmp_path / "broken.gguf").write_bytes(data)
    with pytest.raises(FormatError, match=r"check 'logits' failed for gguf:Q8_0: distance nan, limit 0\.01"):
        check(sample, Q8_0, tmp_path / "broken.gguf")


def test_swapped_tensors_of_an_encoder_fail_the_embedding(tmp_path: Path, converted: Convert) -> None:
    source = tmp_path / "source"
    source.mkdir()
    family_models.minilm(source)
    model = open_model(source)
    path, _ = converted(model, "gguf:F16")
    broken = swapped(path, tmp_path / "broken.gguf", "blk.2.attn_v.weight", "blk.3.attn_v.weight")
    with pytest.raises(FormatError, match=r"check 'embedding' failed for gguf:F16: distance .*, limit 0\.0001"):
        check(model, Variant.parse("gguf:F16"), broken)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_a_weight_that_is_no_number_or_too_large_names_its_tensor(value: float, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    root = tmp_path / "m"
    shutil.copytree(SAMPLE, root)
    tensors = load_file(root / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 7] = value
    save_file(tensors, root / "model.safetensors", metadata={"format": "pt"})
    model = open_model(root)
    said = "too large for F16" if value == 1e5 else "NaN or infinite"
    with pytest.raises(FormatError, match=rf"tensor 'model.layers.1.mlp.up_proj.weight' holds .*{said}"):
        convert(model, Variant.parse("gguf:F16"), FolderSink(tmp_path / "out"))


def _planted(artifact: Path, name: str, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads((artifact / name).read_text())
    change(document)
    (artifact / name).write_text(json.dumps(document))


def test_a_folder_that_says_something_else_fails(sample: SourceModel, converted: Convert) -> None:
    path, _ = converted(sample, "safetensors")
    variant = Variant.parse("safetensors")
    _planted(path, "config.json", lambda document: document["rope_parameters"].update(rope_theta=5.0))  # type: ignore[attr-defined]
    with pytest.raises(FormatError, match=r"check 'metadata' failed for safetensors: .* config.json: rope_parameters"):
        check(sample, variant, path, level="tensors")
    (path / "config.json").unlink()
    path, _ = converted(sample, "safetensors", threads=1)
    (path / "LICENSE").unlink()
    with pytest.raises(FormatError, match=r"check 'metadata' failed .* LICENSE is missing"):
        check(sample, variant, path, level="tensors")
    path, _ = converted(sample, "mlx:8bit")
    _planted(path, "tokenizer.json", lambda document: document["model"]["merges"].pop())  # type: ignore[index]
    with pytest.raises(FormatError, match=r"check '(tokens|metadata)' failed for mlx:8bit"):
        check(sample, Variant.parse("mlx:8bit"), path, level="tensors")


def test_a_comparison_that_does_not_fit_is_refused_before_anything_is_read(
    sample: SourceModel, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = memory.needed_bytes(sample)
    assert needed < 2 << 30
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    assert default_check_level(sample, Q8_0) == "tensors"
    with pytest.raises(UnavailableError, match="GB of memory"):
        require_checkable(sample, Q8_0, "full")
    require_checkable(sample, Q8_0, None)
    monkeypatch.setattr(gguf, "tokenize", lambda *_: pytest.fail("was read"))
    with pytest.raises(UnavailableError, match=r"takes .* GB of memory, there are .* GB") as raised:
        check(sample, Q8_0, sound)
    assert "--checks tensors" in str(raised.value.hint)


SHOWN = {"llama_cpp": "llama-cpp-python", "modelopt": "nvidia-modelopt"}


def _without(*packages: str) -> Callable[[str], object]:
    return lambda name: None if name in packages else object()


@pytest.mark.parametrize(
    ("package", "variant", "level", "hint"),
    [
        ("torch", "safetensors", "full", "pip install 'citrate[training]', or use --checks tensors"),
        ("transformers", "gguf:Q8_0", "full", "pip install 'citrate[training]', or use --checks tensors"),
        ("mlx", "mlx:4bit", "full", "pip install 'citrate[mlx]', or use --checks tensors"),
        ("llama_cpp", "gguf:Q8_0", None, "pip install 'citrate[gguf]'"),
        ("modelopt", "tensorrt_llm:fp8@sm90", None, "pip install 'citrate[nvidia]'"),
        ("tokenizers", "mlx:4bit", "tensors", "pip install 'citrate[gguf]'"),
    ],
)
def test_what_checks_need_and_is_missing_is_named_before_anything_is_converted(
    package: str, variant: str, level: str | None, hint: str, sample: SourceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking.importlib.util, "find_spec", _without(package))
    with pytest.raises(
        BackendMissingError, match=f"{variant} cannot be checked without {SHOWN.get(package, package)}"
    ) as raised:
        require_checkable(sample, Variant.parse(variant), level)
    assert raised.value.hint == hint
    assert default_check_level(sample, Variant.parse(variant)) == "tensors"


def test_another_format_is_compared_where_one_lacks_what_it_needs(
    sample: SourceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking.importlib.util, "find_spec", _without("mlx"))
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 50)
    levels = [default_check_level(sample, Variant.parse(text)) for text in ("safetensors", "gguf:Q8_0", "mlx:4bit")]
    assert levels == ["full", "full", "tensors"]
    with pytest.raises(ConfigError, match="unknown check level"):
        require_checkable(sample, Q8_0, "half")


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("safetensors", "model.layers.1.mlp.up_proj.weight"),
        ("mlx", "model.layers.1.mlp.up_proj.weight"),
        ("mlx:4bit", "model.norm.weight"),
    ],
)
def test_one_byte_of_a_weight_that_is_passed_on_fails_the_tensors(
    variant: str, name: str, sample: SourceModel, converted: Convert
) -> None:
    path, _ = converted(sample, variant)
    same = [
        result for result in check(sample, Variant.parse(variant), path, level="tensors") if result.name == "tensors"
    ]
    assert [(result.value, result.limit) for result in same] == [("0", "0")]
    tensor = open_model(path).tensor(name)
    with tensor.path.open("r+b") as file:
        file.seek(tensor.offset + tensor.size_bytes - 1)
        last = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([last[0] ^ 0x80]))  # the sign
    with pytest.raises(FormatError, match=f"check 'tensors' failed for {variant}: tensor {name} is not the source's"):
        check(sample, Variant.parse(variant), path, level="tensors")


def test_layer_by_layer_is_the_whole_model_with_one_layer_in_memory(sample: SourceModel) -> None:
    import torch

    made = network.built(sample.config, pooled=False)
    weights, held = reference.source_weights(sample), []

    def watched(name: str) -> Callable[[], network.Pieces]:
        def read() -> network.Pieces:
            real = (other for other, parameter in made.named_parameters() if not parameter.is_meta)
            held.append({other.split(".")[2] for other in real if "layers." in other})
            return weights[name]()

        return read

    sequences = [list(range(5, 60)), list(range(100, 130))]
    found = network.evaluate(made, {name: watched(name) for name in weights}, sequences, "")
    assert all(len(layers) <= 1 for layers in held)
    assert all(parameter.is_meta for parameter in made.parameters())
    whole = network.materialized(network.built(sample.config, pooled=False), weights)
    with torch.inference_mode():
        wanted = torch.cat([whole(torch.tensor([ids])).logits[0] for ids in sequences]).numpy()
    assert mean_divergence(wanted, found) < 1e-9
