"""`citrate convert` writes a model or an adapter to a path: all of it, checked, or nothing."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import pytest

from citrate.core.errors import (
    AlreadyExistsError,
    CitrateError,
    ConfigError,
    FormatError,
    UnavailableError,
    UnsupportedConversionError,
)
from citrate.core.records import Variant
from citrate.formats.gguf_file import read_header
from citrate.registry.converting import Converted, convert_to_path
from tests.adapter_dirs import write_adapter

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"


def converted(source: Path, to: str, out: Path | None, base: Path | None = None) -> Converted:
    return convert_to_path(source, Variant.parse(to), out, "tensors", None, base)


def test_an_adapter_goes_to_mlx_and_llama_cpp_and_comes_back(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "Ädapter 1")
    mlx = converted(adapter, "mlx", tmp_path / "mlx")
    assert {path.name for path in mlx.path.iterdir()} == {"adapters.safetensors", "adapter_config.json"}
    assert [(check.name, check.value) for check in mlx.checks] == [("factors", "0")]
    back = converted(mlx.path, "safetensors", tmp_path / "back")
    once = converted(adapter, "safetensors", tmp_path / "once")
    weights = "adapter_model.safetensors"
    assert (back.path / weights).read_bytes() == (once.path / weights).read_bytes()
    config = json.loads((back.path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (8, 16.0, None)
    gguf = converted(adapter, "gguf", tmp_path / "lora.gguf", SAMPLE)
    header = read_header(gguf.path)
    assert (header.text("general.type"), header.text("general.name")) == ("adapter", "dapter-1")
    assert len(header.tensors) == 12, "two factors of two modules in three layers"


def test_an_adapter_without_a_name_of_its_own_is_called_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapter = write_adapter(tmp_path / "tuned")
    assert converted(adapter, "mlx", None).path == Path("tuned-mlx")
    assert converted(adapter, "gguf", None, SAMPLE).path == Path("tuned-F32.gguf")


@pytest.mark.parametrize(
    ("source", "to", "base", "kind", "message"),
    [
        ("adapter", "gguf", None, ConfigError, "needs its base"),
        ("adapter", "gguf:Q4_K_M", SAMPLE, UnsupportedConversionError, "cannot become gguf:Q4_K_M"),
        ("adapter", "mlx:4bit", None, UnsupportedConversionError, "cannot become mlx:4bit"),
        ("model", "gguf:Q8_0", SAMPLE, ConfigError, "--base is for adapters"),
        ("adapter", "mlx", Path("/nowhere"), CitrateError, "no such folder"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    source: str, to: str, base: Path | None, kind: type[CitrateError], message: str, tmp_path: Path
) -> None:
    folder = SAMPLE if source == "model" else write_adapter(tmp_path / "adapter")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=message):
        converted(folder, to, tmp_path / "out", base)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("out", ["model", "model/out", "model/new/out", "link/out", "model/../link/out", None])
def test_nothing_is_written_into_the_folder_that_is_converted(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be part of its next conversion. Without ``out`` the working folder is where it goes."""
    source = tmp_path / "model"
    shutil.copytree(SAMPLE, source)
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(source)
    before = sorted(source.iterdir())
    with pytest.raises(ConfigError, match=r"lies in .*, which it is made from$") as caught:
        converted(source, "safetensors", tmp_path / out if out else None)
    assert "--out" in caught.value.hint
    assert sorted(source.iterdir()) == before


def test_an_adapter_is_not_written_into_its_base(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    for folder in (adapter, SAMPLE):
        with pytest.raises(ConfigError, match="which it is made from"):
            converted(adapter, "gguf", folder / "lora.gguf", SAMPLE)
        assert not (folder / "lora.gguf").exists()


def test_a_folder_beside_the_source_may_begin_with_its_name(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    assert converted(adapter, "mlx", tmp_path / "adapter-mlx").path.is_dir()


def test_a_full_disk_names_the_place_and_not_the_store(tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, usual[1]))  # what is past it is refused as a full disk does
    try:
        with pytest.raises(UnavailableError) as caught:
            converted(SAMPLE, "safetensors", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert caught.value.message.startswith(f"no room for {tmp_path / 'out'}: ")
    assert caught.value.hint == "free some space, or write it elsewhere"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CitrateError, match="out cannot be written: a file stands where a folder should be"):
        converted(SAMPLE, "safetensors", tmp_path / "file" / "out")


def test_a_path_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        converted(write_adapter(tmp_path / "adapter"), "mlx", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_model_whose_tokenizer_breaks_its_library_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(SAMPLE, source)
    document = json.loads((source / "tokenizer.json").read_text())
    unknown = {"SpecialToken": {"id": "x", "type_id": 0}}
    template = {"type": "TemplateProcessing", "special_tokens": {}, "pair": [], "single": [unknown]}
    document["post_processor"] = template
    (source / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match=r"^tokenizer\.json cannot cut text: [^\n]+$"):
        converted(source, "safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [source]


def test_a_gguf_file_comes_with_what_encoded_its_weights(tmp_path: Path) -> None:
    made = converted(SAMPLE, "gguf:Q8_0", tmp_path / "out.gguf")
    assert {name: encoder.name for name, encoder in made.encoders.items()} == {"Q8_0": "numba"}
    assert converted(SAMPLE, "safetensors", tmp_path / "out").encoders == {}
