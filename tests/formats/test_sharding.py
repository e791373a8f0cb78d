"""One sharding for every source, in the order in which safetensors' own writer lays a file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from edit_model import edited
from tiny_models import Convert, make_llama

from citrate.formats import open_model, safetensors, sharding
from citrate.formats.safetensors_file import Tensor, read_header
from citrate.formats.sharding import sharded


def tensor(name: str, size: int, dtype: str = "F32") -> Tensor:
    return Tensor(name, dtype, (size // 4,), Path("x"), 0, size)


def test_layers_stay_together_in_natural_order_and_files_below_the_limit() -> None:
    tensors = [tensor(f"model.layers.{layer}.{part}", 400) for layer in range(12) for part in ("b", "a")]
    shards = sharded([tensor("lm_head.weight", 5000), *tensors, tensor("model.norm", 4)], 2400)
    assert [name for name, _ in shards] == [f"model-{n:05d}-of-00006.safetensors" for n in range(1, 7)]
    assert [found.name for found in shards[0][1]] == ["lm_head.weight"]
    assert all(sum(found.size_bytes for found in shard) <= 2400 for _, shard in shards[1:])
    layers = [{int(found.name.split(".")[2]) for found in shard if "layers" in found.name} for _, shard in shards[1:5]]
    assert layers == [set(range(first, first + 3)) for first in (0, 3, 6, 9)]


def test_the_order_of_the_source_does_not_matter() -> None:
    tensors = [tensor(f"l.{n}.w", 40 + 4 * n) for n in range(30)]
    assert sharded(tensors, 300) == sharded(tensors[::-1], 300)


def test_a_file_is_laid_out_as_safetensors_own_writer_does_it(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    kinds = ("bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32", "float64", "int64")
    arrays = {f"{name}.{kind}": np.ones(3, kind) for kind in (*kinds, "uint64", "complex64") for name in ("z", "a")}
    save_file(arrays, tmp_path / "theirs.safetensors")
    theirs = read_header(tmp_path / "theirs.safetensors")
    ((_, ours),) = sharded(theirs[::-1])
    assert [found.name for found in ours] == [found.name for found in theirs]


@pytest.mark.models
def test_a_models_bytes_do_not_depend_on_how_its_source_is_cut(tmp_path: Path, converted: Convert) -> None:
    roots = [make_llama(tmp_path / shard, shard=shard) for shard in ("5GB", "900KB")]
    assert [len(open_model(root).shards) > 1 for root in roots] == [False, True]
    for number, root in enumerate(roots):
        artifact, _ = converted(open_model(root), "safetensors", threads=number + 1)
        found = (artifact / "model.safetensors").read_bytes()
        assert found == (tmp_path / "5GB" / "model.safetensors").read_bytes()
        assert not list(artifact.glob("*.index.json"))


def test_the_index_of_many_files_names_every_tensor_once(
    llama: Path, converted: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors, "sharded", lambda tensors: sharding.sharded(tensors, 500_000))
    model = open_model(llama)
    artifact, _ = converted(model, "safetensors")
    index = json.loads((artifact / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": model.size_bytes}
    assert set(index["weight_map"]) == {found.name for found in model.tensors}
    assert len(set(index["weight_map"].values())) > 3
    assert open_model(artifact).size_bytes == model.size_bytes


def test_types_of_less_than_a_byte_are_passed_on(llama: Path, tmp_path: Path, converted: Convert) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(architectures=["SomethingNew"]))
    entries = {"a": ("F4", [2, 3], 3), "b": ("F6_E2M3", [4], 3), "c": ("C64", [2], 16), "d": ("F8_E8M0", [5], 5)}
    header, at = {}, 0
    for name, (dtype, shape, size) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (root / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(range(at)))
    model = open_model(root)
    assert model.architecture.parameters == 6 + 4 + 2 + 5
    artifact, _ = converted(model, "safetensors")
    for found in read_header(artifact / "model.safetensors"):
        theirs = model.tensor(found.name)
        data = [x.path.read_bytes()[x.offset : x.offset + x.size_bytes] for x in (found, theirs)]
        assert data[0] == data[1] and found.shape == theirs.shape
