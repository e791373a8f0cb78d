"""Every kind of bad model directory is refused with one line and a hint, before a byte is converted."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
from edit_model import edited, with_header
from tiny_models import Convert

from citrate.core.errors import FormatError, NotFoundError
from citrate.formats import open_model


def refused(path: Path, match: str) -> FormatError:
    with pytest.raises(FormatError, match=match) as raised:
        open_model(path)
    assert "\n" not in raised.value.message
    return raised.value


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        open_model(tmp_path / "nothing")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "save_pretrained" in refused(tmp_path, "not a model directory").hint


def test_a_file_instead_of_a_folder(llama: Path) -> None:
    refused(llama / "config.json", "is not a folder")


@pytest.mark.parametrize("name", ["consolidated.00.pth", "model.pt", "weights.bin", "model.pkl"])
def test_pickles_under_names_that_no_loader_knows_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"\x80\x04.")
    assert "pytorch_model.bin" in refused(tmp_path, "pickled weights under a name").hint


def test_a_lora_adapter_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    assert "register-lora" in refused(tmp_path, "LoRA adapter").hint


def test_a_truncated_shard(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    os.truncate(root / "model.safetensors", 1 << 20)
    assert "download" in refused(root, "truncated").hint
    os.truncate(root / "model.safetensors", 100)
    refused(root, "truncated")
    os.truncate(root / "model.safetensors", 3)
    refused(root, "truncated")


def test_bytes_after_the_last_tensor(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    with (root / "model.safetensors").open("ab") as file:
        file.write(b"smuggled")
    refused(root, "8 bytes that belong to no tensor")


def test_a_missing_shard(tied_llama: Path, tmp_path: Path) -> None:
    root = edited(tied_llama, tmp_path / "m")
    (root / "model-00002-of-00002.safetensors").unlink()
    refused(root, "shard model-00002-of-00002.safetensors is missing")


@pytest.mark.parametrize("name", ["pytorch_model.bin.index.json", "model.safetensors.index.json"])
def test_a_link_to_an_index_that_is_gone(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).symlink_to("gone")
    refused(tmp_path, "no pytorch_model.bin|not a model directory")


def test_shards_without_an_index(tied_llama: Path, tmp_path: Path) -> None:
    root = edited(tied_llama, tmp_path / "m")
    (root / "model.safetensors.index.json").unlink()
    refused(root, "shards but no model.safetensors.index.json")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.bin"])
def test_an_index_that_leads_elsewhere(name: str, tied_llama: Path, tmp_path: Path) -> None:
    root = edited(tied_llama, tmp_path / "m")
    shutil.copy(root / "model-00001-of-00002.safetensors", tmp_path / "secret.safetensors")
    path = root / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], name)
    path.write_text(json.dumps(index))
    refused(root, "not a plain file name")


def test_an_index_that_disagrees_with_its_shards(tied_llama: Path, tmp_path: Path) -> None:
    root = edited(tied_llama, tmp_path / "m")
    path = root / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"].pop("model.norm.weight")
    path.write_text(json.dumps(index))
    refused(root, "disagree on tensor 'model.norm.weight'")


def test_a_link_out_of_the_folder(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        path = root / name
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
        refused(root, "leads outside the model directory")
        path.unlink()
        (tmp_path / name).rename(path)


def test_a_snapshot_of_the_hugging_face_cache_is_opened(llama: Path, tmp_path: Path) -> None:
    root = tmp_path / "models--x--y" / "snapshots" / "abc"
    root.mkdir(parents=True)
    blobs = tmp_path / "models--x--y" / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(llama.iterdir())):
        shutil.copy(path, blobs / f"{number:064x}")
        (root / path.name).symlink_to(Path("../../blobs") / f"{number:064x}")
    assert open_model(root).shards == ("model.safetensors",)


def test_a_pipe_is_not_read(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    (root / "tokenizer.json").unlink()
    os.mkfifo(root / "tokenizer.json")
    refused(root, "not a regular file")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", -1),
        ("hidden_size", "256"),
        ("num_attention_heads", 2.5),
        ("vocab_size", 10**12),
        ("head_dim", True),
    ],
)
def test_a_configuration_that_no_model_has(key: str, value: object, llama: Path, tmp_path: Path) -> None:
    refused(edited(llama, tmp_path / "m", lambda config: config.update({key: value})), key)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": NaN}', '{"a": -1e999}', '{"a": 1, "a": 2}', "[" * 100_000, "\xff"])
def test_a_configuration_that_is_no_json(text: str, llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    (root / "config.json").write_text(text, encoding="latin-1")
    refused(root, "config.json")


def _first(header: dict[str, dict[str, object]]) -> dict[str, object]:
    return next(entry for name, entry in header.items() if name != "__metadata__")


def _overlap(header: dict[str, dict[str, object]]) -> None:
    names = [name for name in header if name != "__metadata__"]
    same = [n for n in names if header[n]["shape"] == header[names[-1]]["shape"]]
    header[same[0]]["data_offsets"] = header[same[1]]["data_offsets"]


def _huge(header: dict[str, dict[str, object]]) -> None:
    _first(header)["shape"] = [2**62, 4]


def _negative(header: dict[str, dict[str, object]]) -> None:
    _first(header)["shape"] = [-1, 4]


def _longer(header: dict[str, dict[str, object]]) -> None:
    _first(header)["shape"] = [1 << 20, 1 << 20]


def _dtype(header: dict[str, dict[str, object]]) -> None:
    _first(header)["dtype"] = "F128"


def _extra(header: dict[str, dict[str, object]]) -> None:
    _first(header)["x"] = 1


def _name(header: dict[str, dict[str, object]]) -> None:
    header["a\nb"] = header.pop("model.norm.weight")


@pytest.mark.parametrize("edit", [_overlap, _huge, _negative, _longer, _dtype, _extra, _name])
def test_a_hostile_safetensors_header(edit: object, llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    with_header(root / "model.safetensors", edit)  # type: ignore[arg-type]
    refused(root, "model.safetensors")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 50) + b'{"a":{},"a":{}}'.ljust(50),
        struct.pack("<Q", 0),
        b"",
        struct.pack("<Q", 5000) + b'{"a":' * 1000,
    ],
)
def test_a_safetensors_file_that_is_none(data: bytes, llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    (root / "model.safetensors").write_bytes(data)
    refused(root, "safetensors|no tensors")


@pytest.mark.parametrize("bits", [0x7F80, 0x7FC0, 0xFF80])
def test_a_weight_that_is_not_finite_is_named(bits: int, llama: Path, tmp_path: Path, converted: Convert) -> None:
    root = edited(llama, tmp_path / "m")
    tensor = open_model(root).tensor("model.layers.1.mlp.up_proj.weight")
    with tensor.path.open("r+b") as file:
        file.seek(tensor.offset + 2 * 12345)
        file.write(struct.pack("<H", bits))
    for variant in ("safetensors", "gguf:Q4_K_M", "mlx:4bit"):
        with pytest.raises(FormatError, match=r"model\.layers\.1\.mlp\.up_proj\.weight.*NaN or infinite"):
            converted(open_model(root), variant)


def test_a_tensor_of_another_shape_than_the_configuration(llama: Path, tmp_path: Path, converted: Convert) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(intermediate_size=1024))
    with pytest.raises(FormatError, match=r"has shape .* config\.json says"):
        converted(open_model(root), "gguf:Q8_0")


@pytest.mark.parametrize("stated", [1, 3])
def test_another_number_of_layers_than_the_configuration(
    stated: int, llama: Path, tmp_path: Path, converted: Convert
) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(num_hidden_layers=stated))
    with pytest.raises(FormatError, match=f"^config.json says {stated} layers, the tensors have 2$") as raised:
        converted(open_model(root), "mlx:4bit")
    assert "num_hidden_layers" in raised.value.hint and "download" not in raised.value.hint


@pytest.mark.parametrize(
    ("was", "becomes", "message", "hint"),
    [
        ("model.layers.0.input_layernorm.weight", "model.layers.0.z", "input_layernorm.weight' is missing", "download"),
        ("model.layers.1.input_layernorm.weight", "a", "'a' is none of a LlamaForCausalLM", "do not belong together"),
    ],
)
def test_a_tensor_under_another_name(
    was: str, becomes: str, message: str, hint: str, llama: Path, tmp_path: Path, converted: Convert
) -> None:
    root = edited(llama, tmp_path / "m")
    with_header(root / "model.safetensors", lambda header: header.update({becomes: header.pop(was)}))
    with pytest.raises(FormatError, match=message) as raised:
        converted(open_model(root), "mlx:4bit")
    assert hint in raised.value.hint


def test_code_and_pickles_are_left_out_with_a_finding(llama: Path, tmp_path: Path, converted: Convert) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(auto_map={"AutoModel": "evil.Model"}))
    (root / "evil.py").write_text("raise SystemExit('executed')")
    (root / "training_args.bin").write_bytes(b"\x80\x04.")
    model = open_model(root)
    assert any("evil.py" in finding for finding in model.findings)
    assert any("auto_map" in finding for finding in model.findings)
    artifact, _ = converted(model, "safetensors")
    assert not list(artifact.glob("*.py")) + list(artifact.glob("*.bin"))
    assert "auto_map" not in (artifact / "config.json").read_text()


def _header_file(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("what", "data", "match"),
    [
        ("UTF-16", _header_file(HEADER.decode().encode("utf-16")) + bytes(4), "not valid JSON"),
        ("UTF-32", _header_file(HEADER.decode().encode("utf-32")) + bytes(4), "not valid JSON"),
        ("a byte order mark", _header_file(b"\xef\xbb\xbf" + HEADER) + bytes(4), "not valid JSON"),
        ("broken UTF-8", _header_file(HEADER.replace(b'"a"', b'"\xc3"')) + bytes(4), "not valid JSON"),
        ("half a surrogate pair", _header_file(HEADER.replace(b'"a"', b'"\\ud800"')) + bytes(4), "name"),
        ("a header of 40 MiB", _header_file(b" " * (40 << 20)), "not credible"),
        ("nine million values", _header_file(b'{"a":[' + b"0," * (9 << 20) + b"0]}"), "values"),
        ("a number of 5,000 digits", _header_file(HEADER.replace(b"[1]", b"[" + b"9" * 5000 + b"]")), "not valid JSON"),
        ("deep nesting", _header_file(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "not valid JSON"),
        ("a gap", _header_file(HEADER.replace(b"[0,4]", b"[4,8]")) + bytes(8), "leaves a hole"),
        ("a float for a size", _header_file(HEADER.replace(b"[1]", b"[1.0]")) + bytes(4), "impossible size"),
        ("metadata that is no text", _header_file(b'{"__metadata__":{"a":1}}'), "malformed __metadata__"),
        ("F4 that ends within a byte", _header_file(HEADER.replace(b"F32", b"F4")) + bytes(4), "within a byte"),
        ("nine dimensions", _header_file(HEADER.replace(b"[1]", b"[1,1,1,1,1,1,1,1,1]")) + bytes(4), "9 dimensions"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_headers_that_other_readers_take(what: str, data: bytes, match: str, llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    (root / "model.safetensors").write_bytes(data)
    refused(root, match)


def test_a_scalar_and_an_empty_tensor_are_tensors(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(architectures=["SomethingNew"]))
    entries = {"s": ([], 4), "e": ([0, 5], 0), "v": ([2], 8)}
    header, at = {}, 0
    for name, (shape, size) in entries.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    (root / "model.safetensors").write_bytes(_header_file(json.dumps(header).encode()) + bytes(at))
    assert {tensor.name: tensor.elements for tensor in open_model(root).tensors} == {"s": 1, "e": 0, "v": 2}


def test_a_tensor_in_two_shards(tied_llama: Path, tmp_path: Path) -> None:
    root = edited(tied_llama, tmp_path / "m")
    shards = sorted(root.glob("*.safetensors"))
    shutil.copy(shards[0], shards[1])
    refused(root, "stands in two shards")
