"""LLaVA and Stable Diffusion XL: inspected, written as clean SafeTensors; every other variant refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_models import Convert

from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import check, inspect, open_model, possible_variants, require_possible
from citrate.registry.conversions import Conversions
from citrate.registry.publish import Release, Request, prepare
from citrate.registry.store import Store
from tests.passed_on_models import make_sdxl


@pytest.fixture
def sdxl(tmp_path: Path) -> Path:
    return make_sdxl(tmp_path / "sdxl")


def test_a_pipeline_is_inspected(sdxl: Path) -> None:
    found = inspect(sdxl)
    assert (found.architecture.name, found.architecture.class_name) == ("sdxl", "StableDiffusionXLPipeline")
    assert (found.parameters, found.dtypes, found.output) == (7 * 128, ("F16",), "")
    assert found.licence is not None
    (finding,) = found.findings
    assert "unet/pipeline.py" in finding
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in finding


def test_a_pipeline_is_written_clean_with_every_part(sdxl: Path, converted: Convert) -> None:
    model = open_model(sdxl)
    path, _ = converted(model, "safetensors")
    written = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert written == set(model.files) | {"unet/diffusion_pytorch_model.safetensors.index.json"}
    assert "vae/diffusion_pytorch_model.fp16.safetensors" not in written
    assert "unet/pipeline.py" not in written
    for shard in model.shards:
        theirs, ours = load_file(sdxl / shard), load_file(path / shard)
        assert all(np.array_equal(theirs[name], ours[name]) for name in theirs.keys() | ours.keys())
    assert b"/home/me" not in b"".join(file.read_bytes() for file in path.rglob("*.json"))
    assert open_model(path).files == model.files
    tokens, same, *_, outputs = check(model, Variant.parse("safetensors"), path)
    assert (tokens.value, outputs.value) == ("not run", "not run")
    assert (same.name, same.value, same.limit) == ("tensors", "0", "0")


def test_weights_of_half_precision_get_the_name_that_loaders_look_for(sdxl: Path, converted: Convert) -> None:
    (sdxl / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    path, _ = converted(open_model(sdxl), "safetensors")
    assert (path / "vae" / "diffusion_pytorch_model.safetensors").exists()


@pytest.mark.parametrize("variant", ["gguf:Q4_K_M", "mlx:4bit", "tensorrt_llm:fp8@sm90"])
def test_a_pipeline_refuses_other_variants_with_a_reason(variant: str, sdxl: Path) -> None:
    with pytest.raises(UnsupportedConversionError, match="pipelines that make pictures") as raised:
        require_possible(open_model(sdxl), Variant.parse(variant))
    assert raised.value.hint == "possible: safetensors"


def _missing(root: Path) -> None:
    for file in (root / "vae").iterdir():
        file.unlink()
    (root / "vae").rmdir()


def _outside(root: Path) -> None:
    _missing(root)
    (root / "vae").symlink_to("/etc")


def _pickled(root: Path) -> None:
    for file in (root / "vae").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


def _index(root: Path) -> None:
    path = root / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(path.read_text().replace("diffusion_pytorch_model-00001", "../vae/diffusion_pytorch_model-00001"))


def _part(root: Path) -> None:
    path = root / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "../../etc": ["diffusers", "X"]}))


def _named_alike(root: Path) -> None:
    for path in (root / "vae").glob("*.safetensors*"):
        path.unlink()
    (root / "vae" / "diffusion_pytorch_model.safetensors.part").write_bytes(b"")


def _nameless(root: Path) -> None:
    (root / "model_index.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_missing, "part 'vae' is missing"),
        (_outside, "part 'vae' is missing"),
        (_pickled, "is a pickle that is not used"),
        (_index, "not a plain file name"),
        (_named_alike, "vae has no diffusion_pytorch_model.safetensors"),
        (_part, "parts that no pipeline has"),
        (_nameless, "does not say _class_name"),
    ],
)
def test_a_damaged_pipeline_is_refused(damage: object, message: str, sdxl: Path) -> None:
    damage(sdxl)  # type: ignore[operator]
    with pytest.raises(FormatError, match=message):
        open_model(sdxl)


@pytest.mark.models
@pytest.mark.parametrize("part", ["", "unet"])
def test_a_folder_with_too_many_entries_is_refused(part: str, sdxl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citrate.formats.documents.ENTRIES_MAX", 30)
    open_model(sdxl)
    for number in range(30):
        (sdxl / part / f"{number}.txt").write_text("")
    with pytest.raises(FormatError, match=f"{part} has more than 30 entries"):
        open_model(sdxl)


def test_llava_is_passed_on(tmp_path: Path, converted: Convert) -> None:
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig, LlavaNextForConditionalGeneration

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(vocab_size=128, **sizes)
    vision = CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=32, **sizes)
    config = LlavaNextConfig(text_config=text, vision_config=vision, image_token_index=5)
    torch.manual_seed(0)
    LlavaNextForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(tmp_path / "llava")
    model = open_model(tmp_path / "llava")
    assert (model.architecture.name, model.architecture.layers) == ("llava", 2)
    assert [str(variant) for variant in possible_variants(model)] == ["safetensors"]
    path, _ = converted(model, "safetensors")
    assert (path / "model.safetensors").stat().st_size > 0
    refused = {
        "gguf:Q8_0": "second file",
        "mlx:4bit": "no models that see",
        "tensorrt_llm:fp8@sm90": "makes no TensorRT-LLM checkpoints of models that see",
    }
    for variant, reason in refused.items():
        with pytest.raises(UnsupportedConversionError, match=reason):
            require_possible(model, Variant.parse(variant))


def test_a_pipeline_is_prepared_for_publishing_and_its_index_counts_as_its_source(sdxl: Path, tmp_path: Path) -> None:
    def prepared() -> Release:
        request = Request(sdxl, "painter", licence="openrail++", checks="tensors")
        return prepare(request, Store(tmp_path / "store"), Conversions(tmp_path / "conversions"), lambda *_: None)

    release = prepared()
    assert [str(variant.variant) for variant in release.variants] == ["safetensors"]
    assert release == prepared()
    index = json.loads((sdxl / "model_index.json").read_text())
    (sdxl / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}))
    assert prepared().manifest.lineage != release.manifest.lineage
