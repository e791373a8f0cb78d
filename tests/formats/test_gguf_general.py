"""A model as people publish it, with a full card and generation settings: llama.cpp's converter says the same of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from edit_model import edited
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cpp_reference import ReferenceConverter
from tiny_models import FolderSink

from citrate.core.errors import CitrateError
from citrate.core.records import Variant
from citrate.formats import check, convert, open_model
from citrate.formats.gguf_file import GgufHeader, GgufValue, Kind, header_bytes, padded, plan, read_header
from citrate.formats.gguf_general import general
from citrate.formats.gguf_writing import _writing_order
from citrate.formats.model_names import rounded_size

CARD = """---
license: other
license_name: llama3.1
license_link: LICENSE
author: The Example Lab
description: |
  Answers questions.
  In two lines.
language:
- en
- no
- de
tags:
- text-generation
- llama
more:
\tindented: with a tab
pipeline_tag: text-generation
base_model:
- example-lab/Llama-3.1-8B
- https://huggingface.co/example-lab/Other-7B-v0.2
- https://example.org/models/third
- name: By Hand
  author: Somebody
  version: v9
datasets:
- example-lab/questions-v1.2
- wiki
model_url: https://example.org/model
doi: 10.1234/abcd
---
# A card

With text.
"""
GENERATION = {
    "temperature": 0.6,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.05,
    "do_sample": True,
    "eos_token_id": [1, 2],
    "mirostat": None,
}
Told = dict[str, GgufValue]


@pytest.fixture(scope="module")
def published(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the name of a published model of its size, in lower case as the registry has it."""
    size = rounded_size(open_model(llama).architecture.parameters).lower()
    root = edited(llama, tmp_path_factory.mktemp("published") / f"llama-3.1-{size}-instruct-v0.2")
    (root / "README.md").write_text(CARD)
    (root / "LICENSE").write_text("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT")
    (root / "generation_config.json").write_text(json.dumps(GENERATION))
    return root


def ours(source: Path, out: Path, quantization: str = "F16", licence: str = "") -> Path:
    model = open_model(source).licensed(licence)
    name = source.name.lower()
    convert(model, Variant.parse(f"gguf:{quantization}"), FolderSink(out), name=name, threads=1)
    return out / f"{name}-{quantization}.gguf"


def told(path: Path) -> Told:
    return {key: value for key, value in read_header(path).metadata.items() if key.startswith("general.")}


def test_what_is_said_comes_from_card_settings_and_name(published: Path, tmp_path: Path) -> None:
    path = ours(published, tmp_path)
    said = {key.removeprefix("general."): value.value for key, value in told(path).items()}
    assert said["basename"] == "llama-3.1"
    assert (said["finetune"], said["version"]) == ("instruct", "v0.2")
    assert str(said["size_label"]).endswith("M")
    assert said["license"] == "LicenseRef-llama-3.1" and said["license.name"] == "llama3.1"
    assert said["tags"] == ("text-generation", "llama", "text-generation")
    assert said["languages"] == ("en", "no", "de")
    assert said["base_model.count"] == 4 and said["base_model.0.repo_url"] == (
        "https://huggingface.co/example-lab/Llama-3.1-8B"
    )
    assert said["base_model.3.author"] == "Somebody"
    assert said["dataset.0.version"] == "v1.2"
    assert said["sampling.top_k"] == 40 and said["sampling.penalty_repeat"] == pytest.approx(1.05)
    assert "sampling.mirostat" not in said


def test_what_the_card_spells_as_no_text_or_as_a_path_is_left_out(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "named")
    card = "license: mit\nversion: 1.0\nauthor: [a, b]\nbase_model: /home/me/base\ntags: [1, true, x]\nlanguage: no\n"
    (root / "README.md").write_text(f"---\n{card}---\n")
    (root / "generation_config.json").write_text(json.dumps({"top_k": 1e9, "temperature": "hot", "min_p": True}))
    path = ours(root, tmp_path / "out")
    said = told(path)
    assert said["general.tags"].value == ("x",)
    assert said["general.base_model.count"].value == 0
    absent = ("version", "author", "languages", "sampling.top_k", "sampling.temp", "sampling.min_p")
    assert not [key for key in absent if f"general.{key}" in said]
    assert b"/home/me" not in path.read_bytes()


def test_the_licence_is_the_one_that_it_is_published_under(published: Path, tmp_path: Path) -> None:
    path = ours(published, tmp_path, "Q8_0", licence="LicenseRef-mine")
    assert told(path)["general.license"].value == "LicenseRef-mine"
    variant = Variant.parse("gguf:Q8_0")
    check(open_model(published).licensed("LicenseRef-mine"), variant, path, level="tensors")


FIELDS = ("license", "license_name", "author", "version", "model_type", "base_model", "datasets", "tags", "language")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def rewritten(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose card and settings change with every example."""
    return edited(llama, tmp_path_factory.mktemp("rewritten") / "m")


@settings(max_examples=60)
@given(
    card=st.dictionaries(st.sampled_from(FIELDS), VALUES),
    generation=st.dictionaries(st.sampled_from(list(GENERATION)), VALUES),
)
def test_whatever_a_card_says_is_written_or_refused(
    card: dict[str, object], generation: dict[str, object], rewritten: Path
) -> None:
    folder = rewritten
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card, allow_unicode=True)}---\n")
    (folder / "generation_config.json").write_text(json.dumps(generation, default=str))
    try:
        keys = general(open_model(folder), "m", 1000)
    except CitrateError:
        return
    (folder / "header.gguf").write_bytes(header_bytes(keys, []))
    shown = read_header(folder / "header.gguf").metadata
    assert shown.keys() == keys.keys() and "general.name" in shown


reference = pytest.mark.xdist_group("llama_cpp_reference")


@reference
@pytest.mark.servers
@pytest.mark.models
def test_the_whole_file_is_the_converters_but_for_the_spelling_of_the_licence(
    published: Path, tmp_path: Path, reference_converter: ReferenceConverter
) -> None:
    theirs = reference_converter.convert(
        published, tmp_path / "theirs.gguf", outtype="f16", name=published.name, pre="smaug-bpe"
    )
    wanted, header = theirs.read_bytes(), read_header(theirs)
    assert header.text("general.license") == "other"
    keys = {**header.metadata, "general.license": GgufValue(Kind.STRING, "LicenseRef-llama-3.1")}
    tensors = sorted(header.tensors, key=lambda tensor: _writing_order(tensor.name))
    sizes = [(tensor.name, tensor.shape, tensor.type_name) for tensor in tensors]
    data = [wanted[t.offset :][: t.size_bytes].ljust(padded(t.size_bytes), b"\0") for t in tensors]
    assert ours(published, tmp_path).read_bytes() == header_bytes(keys, plan(sizes)) + b"".join(data)


@reference
@pytest.mark.servers
@pytest.mark.models
def test_a_folder_with_capitals_and_a_private_name_differs_in_the_keys_that_the_docs_list(
    published: Path, tmp_path: Path, reference_converter: ReferenceConverter
) -> None:
    size = published.name.split("-")[2].upper()
    root = edited(
        published,
        tmp_path / f"Llama-3.1-{size}-Instruct-v0.2",
        lambda document: document.update(_name_or_path=f"example-lab/Llama-3.1-{size}-Instruct-v0.2"),
    )
    theirs = reference_converter.convert(
        root, tmp_path / "theirs.gguf", outtype="bf16", name=root.name.lower(), pre="smaug-bpe"
    )
    differing = _differing(read_header(theirs), read_header(ours(root, tmp_path, "BF16")))
    assert differing == {"general.license", "general.basename", "general.finetune", "general.organization"}


def _differing(first: GgufHeader, second: GgufHeader) -> set[str]:
    keys = first.metadata.keys() | second.metadata.keys()
    return {key for key in keys if first.metadata.get(key) != second.metadata.get(key)}
