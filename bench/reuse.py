"""How much of what a reader has need not be fetched again: with leaves of 1 MiB, and cut at tensors.

    python bench/reuse.py [--layers 2] [--folder DIR]

A generated Llama in bfloat16 (505 MB with two layers) is pulled; then a reader who has it pulls what follows it: the
same with one layer changed and a longer header, the same in two shards, and the same as GGUF by our own converter.
What is counted is what came from the publisher's gateway. The ceiling is the bytes of those tensors, and of other
files, that are equal to one that the reader has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import big_llama
import numpy as np
from harness import machine

from citrate.core.records import PROFILE, TENSOR_PROFILE, Artifact, Variant
from citrate.formats import convert, gguf_file, open_model, safetensors_file
from citrate.formats.dtypes import to_bfloat16
from citrate.formats.safetensors_file import Planned, header_bytes
from citrate.registry import gateway
from citrate.registry.fetching import fetch_artifact
from citrate.registry.sources import GatewaySource
from citrate.registry.store import Store

GGUFS = {"as GGUF BF16": Variant.parse("gguf:BF16"), "as GGUF F16: every weight changes": Variant.parse("gguf:F16")}


@dataclass(frozen=True)
class Reuse:
    """Of one model that follows another: bytes in all, and how many need not be fetched."""

    what: str
    size_bytes: int
    ceiling_bytes: int
    fixed_bytes: int
    tensor_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where 5 GB may be written; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report(compare(Path(folder), arguments.layers))


def report(rows: list[Reuse]) -> None:
    """Print a table and, as the last line, the same as JSON."""
    print(f"## Bytes of what follows that a reader need not fetch\n{machine()}")
    print(f"{'':42}      MB  ceiling  1 MiB leaves  cut at tensors")
    for row in rows:
        shares = [100 * part / row.size_bytes for part in (row.ceiling_bytes, row.fixed_bytes, row.tensor_bytes)]
        print(f"{row.what:42} {row.size_bytes / 1e6:7.0f} {shares[0]:7.1f}% {shares[1]:12.1f}% {shares[2]:14.1f}%")
    print(json.dumps([row.__dict__ for row in rows]))


def compare(folder: Path, layers: int) -> list[Reuse]:
    first, following = generate(folder / "models", layers)
    known = parts(first)
    found = {profile: pulls(folder / "stores", profile, first, following) for profile in (PROFILE, TENSOR_PROFILE)}
    rows = []
    for what in [*following, *GGUFS]:
        model = folder / "stores" / str(GGUFS[what]) if what in GGUFS else following[what]
        ceiling = sum(size for digest, size in parts(model).items() if digest in known)
        (size, fixed), (_, cut) = (found[profile][what] for profile in found)
        rows.append(Reuse(what, size, ceiling, fixed, cut))
    return rows


# ---------------------------------------------------------------------- models


def generate(root: Path, layers: int) -> tuple[Path, dict[str, Path]]:
    """A model, and the models that follow it, in folders."""
    root.mkdir()
    base = big_llama.make(root / "made", layers)
    headers = [safetensors_file.read_header(path) for path in sorted(base.glob("*.safetensors"))]
    tensors = [Planned(tensor.name, tensor.dtype, tensor.shape) for header in headers for tensor in header]
    changed = {tensor.name for tensor in tensors if tensor.name.startswith(f"model.layers.{layers - 1}.")}
    half = len(tensors) // 2
    one, longer = {"format": "pt"}, {"format": "pt", "note": "a new version " * 20}
    first = write(base, root / "first", [tensors], set(), one)
    following = {
        "one layer changed, and a longer header": write(base, root / "changed", [tensors], changed, longer),
        "in two shards": write(base, root / "shards", [tensors[:half], tensors[half:]], set(), one),
    }
    shutil.rmtree(base)
    return first, following


def write(base: Path, root: Path, shards: list[list[Planned]], changed: set[str], metadata: dict[str, str]) -> Path:
    """A model folder with each tensor's own random values, others where it is in ``changed``."""
    root.mkdir()
    for name in ("config.json", "README.md", "tokenizer.json"):
        shutil.copy(base / name, root)
    weight_map = {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        weight_map |= {tensor.name: name for tensor in tensors}
        with (root / name).open("wb") as file:
            file.write(header_bytes(tensors, metadata))
            for tensor in tensors:
                seed = hashlib.sha256(f"{tensor.name} {tensor.name in changed}".encode()).digest()
                random = np.random.default_rng(int.from_bytes(seed[:8], "big"))
                file.write(to_bfloat16(random.standard_normal(tensor.size_bytes // 2, np.float32)).data)
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (root / "model.safetensors.index.json").write_text(json.dumps(index))
    return root


def parts(model: Path) -> dict[bytes, int]:
    """The SHA-256 of each tensor of a model, and of each other file, with its bytes."""
    found: dict[bytes, int] = {}
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        places = [(0, path.stat().st_size)]
        if path.suffix == ".safetensors":
            places = [(tensor.offset, tensor.size_bytes) for tensor in safetensors_file.read_header(path)]
        elif path.suffix == ".gguf":
            places = [(tensor.offset, tensor.size_bytes) for tensor in gguf_file.read_header(path).tensors]
        with path.open("rb") as file:
            for offset, size in places:
                file.seek(offset)
                found[hashlib.sha256(file.read(size)).digest()] = size
    return found


# ---------------------------------------------------------------------- pulls


def pulls(root: Path, profile: str, first: Path, following: dict[str, Path]) -> dict[str, tuple[int, int]]:
    """Publish all, let a reader who has ``first`` pull each of the others; gives size and bytes that were not sent."""
    publisher, reader = Store(root / "publisher"), Store(root / "reader")
    models = {what: publisher.add(path, profile=profile) for what, path in following.items()}
    models |= {
        what: as_gguf(publisher, first, variant, profile, root / str(variant)) for what, variant in GGUFS.items()
    }
    base = publisher.add(first, profile=profile)
    found = {}
    with served(publisher) as url:
        fetch_artifact(base, reader, [GatewaySource(url)])
        for what, artifact in models.items():
            fetched = fetch_artifact(artifact, reader, [GatewaySource(url)]).fetched_bytes
            found[what] = (artifact.size_bytes, max(0, artifact.size_bytes - fetched))
            reader.remove(artifact.cid)
    shutil.rmtree(publisher.root)
    shutil.rmtree(reader.root)
    return found


def as_gguf(store: Store, model: Path, variant: Variant, profile: str, out: Path) -> Artifact:
    """The model as GGUF in the store, and a copy of it in ``out``."""
    with store.writer(bare=True, profile=profile) as sink:
        convert(open_model(model), variant, sink, name="reuse")
        artifact = sink.commit()
    out.mkdir(exist_ok=True)
    shutil.copyfile(store.get(artifact.cid), out / "model.gguf")
    return artifact


@contextmanager
def served(store: Store) -> Iterator[str]:
    """The store's gateway on a thread."""
    ready, urls = threading.Event(), list[str]()

    def started(url: str) -> None:
        urls.append(url)
        ready.set()

    server, listener = gateway.make_server(store, "127.0.0.1", 0, None, started)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    ready.wait(30)
    try:
        yield urls[0]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


if __name__ == "__main__":
    main()
