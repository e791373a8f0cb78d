"""Pickled checkpoints give the tensors that torch reads from them; of a pickle that wants more, nothing happens."""

from __future__ import annotations

import json
import os
import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from pickled_models import archive, broken, harmful, numbers, pickled
from tiny_models import Convert

from citrate.core.errors import FormatError
from citrate.formats import inspect, open_model
from citrate.formats.checkpoint import read_checkpoints
from citrate.formats.streaming import read_bytes


@pytest.mark.models
@pytest.mark.parametrize(("shards", "legacy"), [(1, False), (1, True), (3, False), (2, True)])
def test_every_weight_is_the_one_that_torch_reads(shards: int, legacy: bool, llama: Path, tmp_path: Path) -> None:
    import torch

    root = pickled(llama, tmp_path / "m", shards=shards, legacy=legacy)
    model = open_model(root)
    wanted: dict[str, object] = {}
    for path in root.glob("*.bin"):
        wanted |= numbers(path)
    assert {tensor.name for tensor in model.tensors} == set(wanted)
    for tensor in model.tensors:
        theirs = wanted[tensor.name]
        assert isinstance(theirs, torch.Tensor)
        assert tensor.shape == tuple(theirs.shape)
        ours = read_bytes(tensor, 0, tensor.size_bytes)
        assert ours.tobytes() == theirs.contiguous().view(torch.uint8).numpy().tobytes()
    assert any("nothing was unpickled" in finding for finding in model.findings)
    assert not any("not published" in finding for finding in model.findings)


@pytest.mark.models
def test_every_type_that_torch_saves_is_read_where_it_lies(tmp_path: Path) -> None:
    import torch

    weights = {
        "matrix": torch.arange(6.0).reshape(2, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "slice": torch.arange(16).to(torch.bfloat16).reshape(4, 4)[1:3],
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16)},
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.bool, torch.int8, torch.uint8, torch.float64)},
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.int16, torch.int32, torch.half, torch.complex64)},
    }
    torch.save(weights, tmp_path / "x.bin")
    (found,) = read_checkpoints(tmp_path, ["x.bin"])
    data = (tmp_path / "x.bin").read_bytes()
    assert found.refusal == "" and {tensor.name for tensor in found.tensors} == set(weights)
    for tensor in found.tensors:
        theirs = weights[tensor.name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert data[tensor.offset : tensor.offset + tensor.size_bytes] == theirs, tensor.name


@pytest.mark.models
@pytest.mark.parametrize("variant", ["gguf:Q8_0", "safetensors"])
def test_a_pickled_model_converts_to_the_same_bytes(
    variant: str, llama: Path, tmp_path: Path, converted: Convert
) -> None:
    root = pickled(llama, tmp_path / "m", shards=2)
    first, _ = converted(open_model(llama), variant, threads=1)
    second, _ = converted(open_model(root), variant, threads=2)
    for path in sorted(first.rglob("*")) if first.is_dir() else [first]:
        assert path.read_bytes() == (second / path.name if first.is_dir() else second).read_bytes(), path.name


@pytest.mark.models
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_model_is_inspected_as_the_one_that_it_holds(legacy: bool, llama: Path, tmp_path: Path) -> None:
    found, wanted = inspect(pickled(llama, tmp_path / "m", legacy=legacy)), inspect(llama)
    assert (found.format, found.architecture, found.dtypes) == ("safetensors", wanted.architecture, wanted.dtypes)
    assert any("nothing was unpickled" in finding for finding in found.findings)


@pytest.mark.models
def test_a_tied_output_matrix_is_left_out_and_others_keep_their_names(tied_llama: Path, tmp_path: Path) -> None:
    root = pickled(tied_llama, tmp_path / "m", tied=True)
    assert "lm_head.weight" not in {tensor.name for tensor in open_model(root).tensors}
    config = json.loads((root / "config.json").read_text()) | {"tie_word_embeddings": False}
    (root / "config.json").write_text(json.dumps(config))
    assert "lm_head.weight" in {tensor.name for tensor in open_model(root).tensors}


@pytest.mark.models
def test_safetensors_are_preferred(llama: Path, tmp_path: Path) -> None:
    root = pickled(llama, tmp_path / "m")
    shutil.copy(llama / "model.safetensors", root)
    model = open_model(root)
    assert model.shards == ("model.safetensors",)
    assert "pytorch_model.bin" in " ".join(model.findings)


def test_a_harmful_pickle_is_refused_and_nothing_of_it_happens(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        names = []
        for number, (what, data) in enumerate(harmful(marker).items()):
            data = data.replace(b"127.0.0.1', 9", f"127.0.0.1', {port}".encode())
            archive(data, tmp_path / f"{number}.bin")
            (tmp_path / f"{number}-bare.bin").write_bytes(data)
            names += [(what, f"{number}.bin"), (what, f"{number}-bare.bin")]
        for (what, name), found in zip(names, read_checkpoints(tmp_path, [name for _, name in names]), strict=True):
            assert found.refusal, (what, name)
            assert not found.tensors and found.globals, (what, name)
        with pytest.raises(TimeoutError):
            listening.accept()
    assert not marker.exists()


def test_what_a_pickle_would_import_is_named(llama: Path, tmp_path: Path) -> None:
    root = tmp_path / "m"
    shutil.copytree(llama, root, ignore=shutil.ignore_patterns("*.safetensors"))
    archive(harmful(tmp_path / "executed")["os.system"], root / "pytorch_model.bin")
    with pytest.raises(FormatError, match=r"wants to import (posix|nt|os)\.system") as caught:
        open_model(root)
    assert "safetensors" in caught.value.hint
    with pytest.raises(FormatError, match=r"\.system"):
        inspect(root)
    assert not (tmp_path / "executed").exists()


def test_a_broken_pickle_is_one_line_in_bounded_time(tmp_path: Path) -> None:
    for number, data in enumerate(broken().values()):
        archive(data, tmp_path / f"{number}.bin")
    names = [f"{number}.bin" for number in range(len(broken()))]
    for what, found in zip(broken(), read_checkpoints(tmp_path, names), strict=True):
        assert found.refusal and "\n" not in found.refusal and not found.tensors, what


def test_archives_that_are_not_as_torch_writes_them_are_refused(tmp_path: Path) -> None:
    good = b"\x80\x02}q\x00."
    archive(good, tmp_path / "script.bin", {"code/model.py": b"import os"})
    archive(good, tmp_path / "big-endian.bin", {"byteorder": b"big"})
    with zipfile.ZipFile(tmp_path / "bomb.bin", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 50_000_000)
    with zipfile.ZipFile(tmp_path / "two.bin", "w") as file:
        file.writestr("a/data.pkl", good)
        file.writestr("b/data.pkl", good)
    with zipfile.ZipFile(tmp_path / "twice.bin", "w") as file:
        file.writestr("a/data.pkl", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a/data.pkl", good)
    whole = (tmp_path / "script.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:-30])
    (tmp_path / "wide.bin").write_bytes(whole[:-10] + b"\xff\xff\xff\xff" + whole[-6:])
    (tmp_path / "local.bin").write_bytes(b"PK\x03\x04" + b"\0" * 26 + whole[30:])
    expected = {
        "script.bin": "TorchScript",
        "big-endian.bin": "little-endian",
        "bomb.bin": "compressed",
        "two.bin": "not one that torch.save wrote",
        "twice.bin": "stands twice",
        "cut.bin": "damaged",
        "wide.bin": "damaged",
        "local.bin": "",
    }
    for (name, why), found in zip(expected.items(), read_checkpoints(tmp_path, list(expected)), strict=True):
        assert why in found.refusal and (found.refusal or not found.tensors), (name, found.refusal)


@pytest.mark.models
def test_tensors_that_do_not_fit_their_storage_are_refused(tmp_path: Path) -> None:
    import torch

    torch.save({"w": torch.zeros(4, 4)}, tmp_path / "x.bin")
    data = (tmp_path / "x.bin").read_bytes()
    huge = data.replace(b"K\x04K\x04\x86", b"K\x7fK\x7f\x86", 1).replace(b"K\x04K\x01\x86", b"K\x7fK\x01\x86", 1)
    (tmp_path / "huge.bin").write_bytes(huge)
    torch.save({"w": torch.zeros(3, 4).t()}, tmp_path / "view.bin")
    torch.save({"w": torch.zeros(2), "step": 5}, tmp_path / "state.bin")
    torch.save([torch.zeros(2)], tmp_path / "list.bin")
    torch.save({"w": torch.zeros(2).to_sparse()}, tmp_path / "sparse.bin")
    (tmp_path / "short.bin").write_bytes(data[:200])
    names = ["huge.bin", "view.bin", "state.bin", "list.bin", "sparse.bin", "short.bin"]
    why = ["reaches past its data", "view with strides", "is no tensor", "no dictionary", "wants to import", "damaged"]
    for expected, found in zip(why, read_checkpoints(tmp_path, names), strict=True):
        assert expected in found.refusal and not found.tensors


def test_a_shard_outside_the_folder_is_refused(llama: Path, tmp_path: Path) -> None:
    root = tmp_path / "m"
    shutil.copytree(llama, root, ignore=shutil.ignore_patterns("*.safetensors"))
    archive(b"\x80\x02}q\x00.", tmp_path / "outside.bin")
    for shard in ("../outside.bin", str(tmp_path / "outside.bin"), "sub/outside.bin"):
        index = {"weight_map": {"w": shard}}
        (root / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        with pytest.raises(FormatError, match="not a plain file name"):
            open_model(root)
    (root / "pytorch_model.bin.index.json").unlink()
    os.symlink(tmp_path / "outside.bin", root / "pytorch_model.bin")
    with pytest.raises(FormatError, match="leads outside"):
        open_model(root)
