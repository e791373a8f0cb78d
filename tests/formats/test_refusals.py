"""What cannot be converted rightly is refused in half a sentence, and malformed tokenizers are named."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edit_model import edited
from family_models import bge_m3, minilm, mistral, qwen2

from citrate.core.errors import FormatError
from citrate.core.records import Variant
from citrate.formats import open_model, why_impossible
from citrate.formats.vocabulary_ends import ends_of

pytestmark = pytest.mark.models
GGUF = Variant.parse("gguf:Q8_0")
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    builders = {"mistral": mistral, "qwen2": qwen2, "minilm": minilm, "bge-m3": bge_m3}
    roots = {name: tmp_path_factory.mktemp(name) for name in builders}
    for name, build in builders.items():
        build(roots[name])
        assert why_impossible(open_model(roots[name]), GGUF) == ""
    return roots


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("mistral", {"sliding_window": 64}, "sliding window of 64 tokens"),
        ("mistral", {"model_type": "mixtral"}, "model_type is 'mixtral'"),
        ("qwen2", {"use_sliding_window": True}, "attends to a sliding window"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "do not attend to the whole text"),
        ("qwen2", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("qwen2", {"max_position_embeddings": None}, "max_position_embeddings"),
        ("qwen2", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "original_max_position_embeddings"),
        ("qwen2", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16}}, "YaRN .* beta_fast"),
        ("qwen2", {"rope_parameters": {"rope_type": "llama3", "factor": 4.0}}, "rope type 'llama3'"),
        ("qwen2", {"partial_rotary_factor": 0.5}, "only part of each head"),
        ("qwen2", {"quantization_config": {"bits": 4}}, "quantised already"),
        ("qwen2", {"vocab_size": 0}, "does not say vocab_size"),
        ("qwen2", {"num_hidden_layers": None}, "does not say num_hidden_layers"),
        ("qwen2", {"head_dim": None, "num_attention_heads": 4096}, "heads do not divide"),
        ("minilm", {"max_position_embeddings": 0}, "does not say max_position_embeddings"),
        ("minilm", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("minilm", {"position_embedding_type": "relative_key"}, "positions are not absolute"),
        ("minilm", {"is_decoder": True}, "set up as a decoder"),
        ("minilm", {"architectures": ["BertForMaskedLM"]}, "citrate converts LlamaForCausalLM"),
    ],
)
def test_a_configuration_that_cannot_be_expressed(
    name: str, changes: dict[str, object], reason: str, models: dict[str, Path], tmp_path: Path
) -> None:
    root = edited(models[name], tmp_path / "m", config=lambda document: document.update(changes))
    assert re.search(reason, why_impossible(open_model(root), GGUF))


def rewritten(path: Path, edit: Edit) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "edit", "reason"),
    [
        ("qwen2", lambda d: d["model"].update(type="WordLevel"), "is a 'WordLevel'"),
        ("qwen2", lambda d: d["added_tokens"][0].update(lstrip=True), "swallows spaces"),
        ("qwen2", lambda d: d.update(normalizer={"type": "Lowercase"}), "normalizes text"),
        ("mistral", lambda d: d["pre_tokenizer"].update(split=True), "treats spaces"),
        ("minilm", lambda d: d["model"].update(continuing_subword_prefix="@@"), "does not mark pieces"),
        ("minilm", lambda d: d["normalizer"].update(clean_text=False), "keeps characters"),
        ("minilm", lambda d: d.update(normalizer=None), "does not normalise text as BERT"),
        ("bge-m3", lambda d: d["model"].update(byte_fallback=True), "falls back to bytes"),
        ("bge-m3", lambda d: d.update(normalizer={"type": "NFKC"}), "normalises text"),
        ("bge-m3", lambda d: d["pre_tokenizer"]["pretokenizers"].pop(0), "treats spaces"),
    ],
)
def test_a_tokenizer_that_cannot_be_expressed(
    name: str, edit: Edit, reason: str, models: dict[str, Path], tmp_path: Path
) -> None:
    root = edited(models[name], tmp_path / "m")
    rewritten(root / "tokenizer.json", edit)
    assert re.search(reason, why_impossible(open_model(root), GGUF))


def short_table(document: dict[str, Any]) -> None:
    document["normalizer"]["precompiled_charsmap"] = base64.b64encode(b"\xff\xff\xff\x7f" + bytes(8)).decode()


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("qwen2", lambda d: d["model"]["merges"].append(["a", "b", "c"]), "malformed merge"),
        ("qwen2", lambda d: d["model"]["vocab"].update({"new": 1 << 40}), "not below the model's vocab_size"),
        ("qwen2", lambda d: d["added_tokens"].append(7), "malformed added token"),
        ("minilm", lambda d: d["model"].update(vocab=[]), "no vocabulary"),
        ("bge-m3", lambda d: d["model"]["vocab"].__setitem__(7, ["x"]), "malformed piece"),
        ("bge-m3", lambda d: d["model"]["vocab"].__setitem__(7, ["x", "y"]), "malformed piece"),
        ("bge-m3", lambda d: d["model"]["vocab"].__setitem__(7, ["x", 1e300]), "malformed piece"),
        ("bge-m3", lambda d: d["model"].update(unk_id=-1), "token id -1"),
        ("bge-m3", lambda d: d["normalizer"].update(precompiled_charsmap="?"), "not base64"),
        ("bge-m3", short_table, "precompiled_charsmap is malformed"),
    ],
)
def test_a_malformed_tokenizer(name: str, edit: Edit, message: str, models: dict[str, Path], tmp_path: Path) -> None:
    root = edited(models[name], tmp_path / "m")
    rewritten(root / "tokenizer.json", edit)
    with pytest.raises(FormatError, match=message):
        why_impossible(open_model(root), GGUF)


@pytest.mark.parametrize("identifier", [True, -1, 1 << 40, "0", None])
def test_an_added_token_that_the_model_cannot_have_is_refused_whoever_reads_it(
    identifier: object, models: dict[str, Path]
) -> None:
    """Where SentencePiece's own file is read, nobody else looks at the added tokens."""
    config = open_model(models["bge-m3"]).config
    document: Any = {"added_tokens": [{"content": "<s>", "id": identifier}]}
    with pytest.raises(FormatError, match="is not below the model's vocab_size"):
        ends_of(document, {"bos_token": "<s>"}, config)


@pytest.mark.parametrize("length", [-1, 0.5, 1e20])
def test_a_context_that_no_model_had_is_refused(length: float, models: dict[str, Path], tmp_path: Path) -> None:
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6, "original_max_position_embeddings": length}
    root = edited(models["qwen2"], tmp_path / "m", lambda document: document.update(rope_parameters=rope))
    with pytest.raises(FormatError, match=r"original_max_position_embeddings = .* is not credible"):
        why_impossible(open_model(root), GGUF)


def test_pooling_that_llama_cpp_does_not_have(models: dict[str, Path], tmp_path: Path) -> None:
    root = edited(models["minilm"], tmp_path / "m")
    (root / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    assert "pools the vectors" in why_impossible(open_model(root), GGUF)
    (root / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]))
    assert "adds a 'Dense' layer" in why_impossible(open_model(root), GGUF)
    (root / "modules.json").write_text("{}")
    with pytest.raises(FormatError, match=r"modules\.json is not a JSON array"):
        why_impossible(open_model(root), GGUF)


def test_pooling_outside_the_folder_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    root = edited(models["minilm"], tmp_path / "m")
    (tmp_path / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (root / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": ".."}]))
    with pytest.raises(FormatError, match="leads outside"):
        why_impossible(open_model(root), GGUF)
