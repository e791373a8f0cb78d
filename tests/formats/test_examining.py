"""A look at a model tells what is odd about its files, and runs nothing of them."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
from edit_model import edited
from pickled_models import Reduced
from tiny_models import Convert

from citrate.core.errors import FormatError
from citrate.formats import examine, inspect, open_model
from citrate.formats.gguf_file import GgufValue, Kind, array, header_bytes, plan


def test_a_sound_model_has_no_findings_and_an_example_of_a_message(llama: Path) -> None:
    found = examine(llama, deep=True)
    assert found.findings == ()
    assert "<|start|>user\nWhat is a CID?<|end|>" in found.chat_template_example


def test_everything_odd_about_a_folder_is_told(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(auto_map={"AutoModel": "evil.Model"}))
    marker = tmp_path / "executed"
    (root / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    (root / "training_args.bin").write_bytes(pickle.dumps(Reduced(os.system, f"touch {marker}")))
    (root / "optimizer.pt").write_bytes(b"\x80\x04\x95nonsense")
    (root / ".netrc").write_text("secret")
    (root / "notes\x1b[31m.txt").write_text("x")
    (root / "secrets").symlink_to("/etc/hostname")
    (root / "install.sh").write_text("#!/bin/sh")
    (root / "install.sh").chmod(0o755)
    os.mkfifo(root / "pipe")
    (root / "LICENSE").write_text("MIT License. Permission is hereby granted, free of charge, without restriction")
    (root / "chat_template.jinja").write_text("{{ ''.__class__ }}{{ messages[0].content }}")
    findings = examine(root).findings
    for expected in (
        "custom code is neither run nor published: evil.py",
        "auto_map",
        "training_args.bin is a pickle that would import 1 names (posix.system)",
        "optimizer.pt is no pickle of weights",
        "links that leave the folder: secrets",
        "hidden files: .netrc",
        "marked as programs: install.sh",
        "pipes, sockets or devices: pipe",
        "the card says Apache-2.0, the LICENSE file reads like MIT",
        "reaches for __class__",
    ):
        assert any(expected in finding for finding in findings), (expected, findings)
    assert not marker.exists()


def test_weights_that_are_no_numbers_are_found_when_all_are_read(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    tensor = open_model(root).tensor("model.norm.weight")
    with tensor.path.open("r+b") as file:
        file.seek(tensor.offset)
        file.write(struct.pack("<H", 0x7F80))
    assert examine(root).findings == ()
    assert examine(root, deep=True).findings == ("NaN or infinite weights: model.norm.weight",)


@pytest.mark.parametrize("variant", ["gguf:Q4_K_M", "gguf:F16"])
def test_a_gguf_file_is_looked_over_too(variant: str, llama: Path, converted: Convert) -> None:
    path, _ = converted(open_model(llama), variant)
    found = examine(path, deep=True)
    assert found.findings == () and "What is a CID?" in found.chat_template_example
    header = inspect(path)
    assert header.chat_template_example == ""
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert any("1000 bytes behind the last tensor" in finding for finding in examine(path).findings)


def test_infinite_scales_of_quantised_weights_are_found(tmp_path: Path) -> None:
    for type_name, columns, at in (("Q8_0", 64, 34), ("Q4_K", 256, 2), ("Q6_K", 256, 208), ("F32", 8, 4)):
        tensors = plan([("w", (columns, 1), type_name)])
        data = bytearray(tensors[0].size_bytes)
        meta = {
            "general.architecture": GgufValue(Kind.STRING, "llama"),
            "general.license": GgufValue(Kind.STRING, "mit"),
        }
        path = tmp_path / f"{type_name}.gguf"
        path.write_bytes(header_bytes(meta, tensors) + data)
        assert examine(path, deep=True).findings == ()
        data[at : at + 4] = struct.pack("<f", float("inf")) if type_name == "F32" else struct.pack("<HH", 0x7C00, 0)
        path.write_bytes(header_bytes(meta, tensors) + data[: tensors[0].size_bytes])
        assert examine(path, deep=True).findings == ("NaN or infinite weights: w",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", GgufValue(Kind.UINT32, 600)),
        ("llama.block_count", GgufValue(Kind.INT32, -1)),
        ("llama.expert_count", GgufValue(Kind.UINT32, 100_000)),
        ("llama.context_length", GgufValue(Kind.UINT32, 1 << 31)),
        ("llama.vocab_size", GgufValue(Kind.UINT64, 1 << 60)),
        ("tokenizer.ggml.scores", array(Kind.FLOAT32, [0.0])),
        ("tokenizer.ggml.token_type", array(Kind.INT32, [1] * 4)),
        ("general.architecture", GgufValue(Kind.STRING, "")),
    ],
)
def test_what_brings_llama_cpp_down_is_refused_before_it_sees_it(key: str, value: GgufValue, tmp_path: Path) -> None:
    sound = {
        "general.architecture": GgufValue(Kind.STRING, "llama"),
        "llama.block_count": GgufValue(Kind.UINT32, 2),
        "tokenizer.ggml.tokens": array(Kind.STRING, ["a", "b", "c"]),
    }
    path = tmp_path / "x.gguf"
    path.write_bytes(header_bytes(sound, []))
    assert inspect(path).architecture.layers == 2
    path.write_bytes(header_bytes({**sound, key: value}, []))
    with pytest.raises(FormatError, match=r"credible|tokens|architecture") as caught:
        inspect(path)
    assert caught.value.hint


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.gguf")
    with pytest.raises(FormatError, match="neither a model folder nor a GGUF file"):
        inspect(tmp_path / "x.gguf")


def test_a_tokenizer_that_says_nothing_is_a_finding(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    (root / "tokenizer.json").write_text("{}")
    (told,) = [line for line in examine(root).findings if "tokenizer.json" in line]
    assert "no vocabulary" in told


def test_a_folder_with_too_many_entries_is_refused(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citrate.formats.documents.ENTRIES_MAX", 20)
    root = edited(llama, tmp_path / "m")
    for number in range(20):
        (root / f"{number}.txt").write_text("")
    for look in (open_model, inspect, examine):
        with pytest.raises(FormatError, match="more than 20 entries"):
            look(root)


def test_the_document_is_json(llama: Path) -> None:
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(examine(llama))))["chat_template_example"]
