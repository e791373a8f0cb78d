"""The sample model, and its variants made by citrate's own converters once a session."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.core.records import FileEntry, Variant
from citrate.core.sink import Buffer
from citrate.formats import convert, open_model

ROOT = Path(__file__).parent.parent.parent


class FolderFile:
    """One file of a `FolderSink`."""

    def __init__(self, root: Path, name: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        self._name, self._file, self._hash = name, (root / name).open("wb"), hashlib.sha256()

    def write(self, data: Buffer) -> None:
        self._file.write(data)
        self._hash.update(data)

    def close(self) -> FileEntry:
        size = self._file.tell()
        self._file.close()
        return FileEntry(self._name, size, self._hash.hexdigest(), cid="")


class FolderSink:
    """A sink that is a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: str, size_bytes: int | None = None) -> FolderFile:
        del size_bytes
        return FolderFile(self.root, path)


@pytest.fixture(scope="session")
def sample() -> Path:
    return ROOT / "examples/tiny-llama"


@pytest.fixture(scope="session")
def variant_of_sample(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Convert the sample model to a variant; the path is what `generate` takes."""
    made: dict[str, Path] = {}

    def path(text: str) -> Path:
        if text not in made:
            folder = tmp_path_factory.mktemp("variant")
            conversion = convert(open_model(sample), Variant.parse(text), FolderSink(folder), name="tiny-llama")
            made[text] = next(folder.glob("*.gguf")) if conversion.bare else folder
        return made[text]

    return path


@pytest.fixture(scope="session")
def gguf(variant_of_sample: Callable[[str], Path]) -> Path:
    return variant_of_sample("gguf:Q8_0")
