"""The SafeTensors variant: the source's weights, cleaned surroundings, loaded right by transformers and mlx-lm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from edit_model import edited, with_header
from tiny_models import Convert

from citrate.formats import inspect, open_model
from citrate.formats.safetensors_file import read_header


@pytest.mark.parametrize("fixture", ["llama", "tied_llama"])
def test_weights_are_passed_on_byte_for_byte(fixture: str, request: pytest.FixtureRequest, converted: Convert) -> None:
    model = open_model(request.getfixturevalue(fixture))
    artifact, _ = converted(model, "safetensors")
    written = open_model(artifact)
    assert {tensor.name for tensor in written.tensors} == {tensor.name for tensor in model.tensors}
    for theirs in model.tensors:
        ours = written.tensor(theirs.name)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert _data(ours.path, ours.offset, ours.size_bytes) == _data(theirs.path, theirs.offset, theirs.size_bytes)


def _data(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def test_transformers_loads_it_and_computes_the_same(llama: Path, converted: Convert) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    artifact, _ = converted(open_model(llama), "safetensors")
    ids = AutoTokenizer.from_pretrained(artifact)("def main(): pass", return_tensors="pt").input_ids
    with torch.inference_mode():
        wanted, found = (
            AutoModelForCausalLM.from_pretrained(root, dtype=torch.float32)(ids).logits for root in (llama, artifact)
        )
    assert torch.equal(wanted, found)


def test_mlx_lm_reads_the_rotary_parameters_that_transformers_5_hides(llama: Path, converted: Convert) -> None:
    import mlx.core as mx
    import torch
    from mlx_lm.utils import load_model
    from transformers import AutoModelForCausalLM

    artifact, _ = converted(open_model(llama), "safetensors")
    config = json.loads((artifact / "config.json").read_text())
    assert config["rope_theta"] == 50000.0
    assert config["rope_scaling"]["rope_type"] == config["rope_parameters"]["rope_type"] == "llama3"
    ids = list(range(5, 300, 3))
    network, _ = load_model(artifact)
    network.set_dtype(mx.float32)
    found = np.array(network(mx.array([ids])).astype(mx.float32))[0]
    with torch.inference_mode():
        reference = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
        wanted = reference(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(found - wanted).max() < 1e-4


def test_local_paths_and_foreign_metadata_are_dropped(llama: Path, tmp_path: Path, converted: Convert) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(_name_or_path="/home/me/x", note="~/secret/y"))
    with_header(root / "model.safetensors", lambda header: header.update(__metadata__={"path": "/home/me/x"}))
    settings = root / "tokenizer_config.json"
    document = json.loads(settings.read_text()) | {"name_or_path": "/home/me/tokenizer", "auto_map": {"a": "b"}}
    settings.write_text(json.dumps(document))
    model = open_model(root)
    assert any("local paths (_name_or_path, note)" in finding for finding in model.findings)
    artifact, _ = converted(model, "safetensors")
    for path in artifact.iterdir():
        assert b"/home/me" not in path.read_bytes()
        assert b"~/secret" not in path.read_bytes()
    assert json.loads((artifact / "tokenizer_config.json").read_text())["eos_token"] == "<|end|>"


def test_every_other_architecture_is_passed_on(llama: Path, tmp_path: Path, converted: Convert) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(architectures=["SomethingNew"]))
    model = open_model(root)
    assert model.architecture.name == "other"
    artifact, _ = converted(model, "safetensors")
    assert inspect(artifact).parameters == inspect(llama).parameters


def test_threads_and_folder_do_not_change_a_byte(tied_llama: Path, converted: Convert) -> None:
    model = open_model(tied_llama)
    first, _ = converted(model, "safetensors", threads=1)
    second, _ = converted(model, "safetensors", threads=4)
    assert sorted(p.name for p in first.iterdir()) == sorted(p.name for p in second.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_cleaned_directory_cleans_to_itself(tied_llama: Path, converted: Convert, tmp_path: Path) -> None:
    first, _ = converted(open_model(tied_llama), "safetensors", threads=1)
    second, _ = converted(open_model(first), "safetensors", threads=2)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_offsets_start_at_a_multiple_of_eight(llama: Path, converted: Convert) -> None:
    artifact, _ = converted(open_model(llama), "safetensors")
    assert read_header(artifact / "model.safetensors")[0].offset % 8 == 0
