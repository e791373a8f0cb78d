"""Checkpoints as torch.save writes them, made of a safetensors model; and pickles that want to do harm."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path


def pickled(source: Path, root: Path, *, shards: int = 1, legacy: bool = False, tied: bool = False) -> Path:
    """The model at ``source`` with its weights in pytorch_model.bin, or in ``shards`` files and an index."""
    import torch
    from safetensors.torch import load_file

    shutil.copytree(source, root, ignore=shutil.ignore_patterns("*.safetensors*"))
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(source.glob("*.safetensors")):
        weights |= load_file(path)
    if tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    names, files = sorted(weights), [f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin" for i in range(shards)]
    placed = {name: files[i * shards // len(names)] for i, name in enumerate(names)}
    if shards == 1:
        torch.save(weights, root / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        return root
    for file in files:
        part = {name: weights[name] for name in names if placed[name] == file}
        torch.save(part, root / file, _use_new_zipfile_serialization=not legacy)
    (root / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return root


def archive(pickle_: bytes, path: Path, entries: Mapping[str, bytes] | None = None) -> None:
    """A zip archive as torch writes it, around any pickle."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {"data.pkl": pickle_, "version": b"3\n", "byteorder": b"little", **(entries or {})}.items():
            file.writestr(f"archive/{name}", data)


class Reduced:
    """What pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def _getattr_chain(marker: str) -> bytes:
    """builtins.getattr(__import__('os'), 'system')('touch ...'), by instructions alone."""
    return b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'touch " + marker.encode() + b"'\ntR."


def harmful(marker: Path) -> dict[str, bytes]:
    """Pickles that would make the file ``marker`` or do other harm, by what they try."""
    touch = f"touch {marker}"
    connect = Reduced(eval, f"__import__('socket').create_connection(('127.0.0.1', 9)) or open({str(marker)!r}, 'w')")
    stack_global = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(touch)]) + touch.encode() + b"\x85R."
    hidden = pickletools.optimize(pickle.dumps({"a": Reduced(os.system, touch)}, protocol=4))
    return {
        "os.system": pickle.dumps(Reduced(os.system, touch), protocol=2),
        "os.system by the stack": stack_global,
        "os.system inside a dictionary": hidden,
        "builtins.eval": pickle.dumps({"w": connect}, protocol=2),
        "builtins.exec": pickle.dumps(Reduced(exec, f"open({str(marker)!r}, 'w')"), protocol=2),
        "a chain of getattr": _getattr_chain(str(marker)),
        "an instance by INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "a class by OBJ": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",
        "a state by BUILD": b"ctypes\nSimpleNamespace\n)R}S'a'\ncos\nsystem\nsb.",
        "torch.load of another file": b"ctorch.serialization\nload\n(S'" + str(marker).encode() + b"'\ntR.",
        "webbrowser.open": b"cwebbrowser\nopen\n(S'http://127.0.0.1:9'\ntR.",
        "numpy's loader": b"cnumpy\nload\n(S'" + str(marker).encode() + b"'\nNI01\ntR.",
    }


def broken() -> dict[str, bytes]:
    """Pickles that are damaged, endless or too large, by what is wrong."""
    return {
        "empty": b"",
        "cut off": pickle.dumps({"a": [1, 2, 3]}, protocol=2)[:-4],
        "no pickle": b"weights",
        "a string of 2^62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b".",
        "a number of 2^31 bytes": b"\x8b" + struct.pack("<i", (1 << 31) - 1) + b".",
        "a negative length": b"\x8b" + struct.pack("<i", -5) + b".",
        "five million steps": b"]" + b"K\x010" * 2_500_000 + b".",
        "a million nested lists": b"]" * 1_000_000 + b"a" * 999_999 + b".",
        "a list in itself": b"]q\x00h\x00a.",
        "nothing on the stack": b"R.",
        "a mark where a value is wanted": b"(R.",
        "a memo that is not there": b"h\x07.",
        "an extension": b"\x82\x01.",
        "a buffer from outside": b"\x80\x05\x97.",
        "doubling tuples": b"K\x01" + b"2\x86" * 300 + b".",
    }


def numbers(path: Path) -> Mapping[str, object]:
    """torch's own reading of a checkpoint."""
    import torch

    return dict(torch.load(path, weights_only=True))
