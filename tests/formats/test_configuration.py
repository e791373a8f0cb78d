"""config.json is published with what its author wrote: rotary parameters are respelled only where every loader reads
both spellings, and what belongs to the author's machine goes, however deep it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edit_model import edited
from tiny_models import Convert

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.core.records import Variant
from citrate.formats import check, open_model, why_impossible
from citrate.formats.companions import companion
from citrate.formats.configuration import (
    RESPELLED,
    Config,
    canonical_document,
    carries_code,
    is_local_path,
    local_paths,
    strip_private,
)
from citrate.formats.families import FAMILIES
from citrate.formats.families.family import Output

_BY_KIND: dict[str, Json] = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
GEMMA_3: dict[str, Json] = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "rope_parameters": _BY_KIND,
}
OLDER_GEMMA_3: dict[str, Json] = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
MODERN_BERT: dict[str, Json] = {
    "architectures": ["ModernBertModel"],
    "model_type": "modernbert",
    "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 160000.0} for kind in _BY_KIND},
}


def config(document: dict[str, Json]) -> Config:
    return Config(document, str(document["architectures"]), str(document["model_type"]), 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("document", [GEMMA_3, OLDER_GEMMA_3, MODERN_BERT])
def test_rotary_parameters_of_other_classes_are_passed_on_as_they_are(document: dict[str, Json]) -> None:
    assert canonical_document(config(document)) == document


def test_the_decoders_that_are_converted_are_those_that_are_respelled() -> None:
    assert {family.name for family in FAMILIES if family.output is Output.LOGITS} == set(RESPELLED)


def test_a_decoder_that_rotates_in_more_than_one_way_is_passed_on_and_not_converted(
    llama: Path, tmp_path: Path
) -> None:
    model = open_model(edited(llama, tmp_path / "m", lambda document: document.update(rope_parameters=_BY_KIND)))
    assert canonical_document(model.config)["rope_parameters"] == _BY_KIND
    assert "rope_theta" not in canonical_document(model.config)
    for variant in ("gguf:Q8_0", "mlx:4bit", "tensorrt_llm:fp8@sm90"):
        assert why_impossible(model, Variant.parse(variant)) == "its layers rotate in more than one way"


@pytest.mark.models
@pytest.mark.parametrize("older", [False, True])
def test_transformers_reads_of_a_published_gemma_3_what_it_reads_of_the_source(
    older: bool, llama: Path, tmp_path: Path, converted: Convert
) -> None:
    from transformers import AutoConfig

    def change(document: dict[str, object]) -> None:
        document.pop("rope_parameters")
        document.update(OLDER_GEMMA_3 if older else GEMMA_3)

    root = edited(llama, tmp_path / "m", change)
    path, _ = converted(open_model(root), "safetensors")
    theirs, ours = (AutoConfig.from_pretrained(folder).rope_parameters for folder in (root, path))
    assert theirs == ours
    assert {kind: values["rope_theta"] for kind, values in ours.items()} == {
        "full_attention": 1000000.0,
        "sliding_attention": 10000.0,
    }


def test_a_key_that_a_published_config_has_beside_its_sources_fails_the_metadata(
    llama: Path, tmp_path: Path, converted: Convert
) -> None:
    model = open_model(edited(llama, tmp_path / "m", lambda document: document.update(GEMMA_3)))
    path, _ = converted(model, "safetensors")
    document = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**document, "rope_theta": 10000.0}))
    with pytest.raises(FormatError, match=r"check 'metadata' failed for safetensors: 1 faults.* rope_theta is 10000"):
        check(model, Variant.parse("safetensors"), path, level="tensors")


NESTED: dict[str, Json] = {
    "architectures": ["X"],
    "_name_or_path": "owner/model",
    "id2label": {"0": "/a/abbey", "1": "/a/airfield"},
    "text_config": {
        "_name_or_path": "/home/me/language",
        "auto_map": {"AutoConfig": "configuration_x.Own"},
        "hidden_size": 8,
        "inner": [{"cache": "/home/me/cache", "kept": 1}],
    },
}


def test_what_is_private_goes_however_deep_it_lies() -> None:
    assert strip_private(NESTED) == {
        "architectures": ["X"],
        "id2label": {"0": "/a/abbey", "1": "/a/airfield"},
        "text_config": {"hidden_size": 8, "inner": [{"kept": 1}]},
    }
    assert carries_code(NESTED) and not carries_code(strip_private(NESTED))
    assert local_paths(NESTED) == ["text_config._name_or_path", "text_config.inner.cache"]


def test_nothing_private_of_an_inner_configuration_is_published(
    llama: Path, tmp_path: Path, converted: Convert
) -> None:
    root = edited(llama, tmp_path / "m", lambda document: document.update(NESTED))
    settings = json.loads((root / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {"5": {"content": "/ab/", "special": False}}
    settings["processor"] = {"tokenizer_file": "/home/me/tokenizer.json", "auto_map": {"a": "b"}}
    (root / "tokenizer_config.json").write_text(json.dumps(settings))
    model = open_model(root)
    assert any("custom code (auto_map)" in finding for finding in model.findings)
    assert any("text_config.inner.cache" in finding for finding in model.findings)
    path, _ = converted(model, "safetensors")
    for file in path.glob("*.json"):
        assert not any(word in file.read_text() for word in ("/home/me", "auto_map", "_name_or_path")), file.name
    kept = companion(path, "tokenizer_config.json")
    assert kept is not None
    assert json.loads(kept.read())["added_tokens_decoder"]["5"]["content"] == "/ab/"


@pytest.mark.parametrize("text", ["/home/me", "/a/b", "~/x", "~me/x", "C:\\models", "d:/models"])
def test_a_path_is_one(text: str) -> None:
    assert is_local_path(text)


@pytest.mark.parametrize(
    "text", ["", "/", "//", "///", "/models", "</s>", "/ a/", "https://a/b", "owner/name", "~", "a:b"]
)
def test_what_only_looks_like_a_path_is_none(text: str) -> None:
    assert not is_local_path(text)


def test_a_configuration_that_is_nested_without_end_is_refused() -> None:
    document: dict[str, Json] = {}
    for _ in range(100):
        document = {"a": document}
    with pytest.raises(FormatError, match="nested more than 64 deep"):
        strip_private(document)
