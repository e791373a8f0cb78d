"""Predictions compared token by token: of every format, with an adapter and without, and what cannot be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from citrate.core.adapters import Applied
from citrate.core.errors import CitrateError, ConfigError, FormatError, NotFoundError, UnsupportedConversionError
from citrate.core.records import Format, Variant
from citrate.facade import Registry
from citrate.fine_tuning.comparing import Asked, compare
from citrate.formats import comparing, open_model
from citrate.formats.adapter_conversion import convert_adapter, open_updates
from citrate.formats.adapter_host import gguf_host
from citrate.formats.checks.divergence import mean_divergence
from citrate.formats.comparing import Subject, measure
from tests.adapter_dirs import write_adapter
from tests.inference.conftest import FolderSink

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("adapters_run")]

TEXTS = ("What is the capital of Norway?", "Anna has a red kite.", "On Friday Frank bakes an apple cake for Lucy.")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", lora_alpha=1)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(home=tmp_path / "home", offline=True)


def test_a_model_is_no_different_from_itself_and_a_little_from_its_variants(
    sample: Path, gguf: Path, variant_of_sample: Callable[[str], Path]
) -> None:
    source = Subject(sample, Format.SAFETENSORS)
    same = measure(source, source, TEXTS)
    assert (same.mean, same.largest, same.agreement, same.texts) == (0, 0, 1, 3)
    close = measure(source, Subject(gguf, Format.GGUF), TEXTS)
    coarse = measure(source, Subject(variant_of_sample("mlx:4bit"), Format.MLX), TEXTS)
    assert 0 < close.mean < 1e-3 < coarse.mean < 0.2 and close.mean < close.largest
    assert close.positions == coarse.positions == same.positions and 0.8 < coarse.agreement <= 1


def test_an_adapter_is_the_same_difference_beside_every_variant(
    sample: Path, adapter: Path, variant_of_sample: Callable[[str], Path], tmp_path: Path
) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    source = Subject(sample, Format.SAFETENSORS)
    adapted = Subject(sample, Format.SAFETENSORS, Applied(adapter))
    changed = measure(source, adapted, TEXTS)
    assert changed.mean > 0.001

    ids = [comparing._read(source, TEXTS[:1])[0]]
    network = AutoModelForCausalLM.from_pretrained(sample, dtype=torch.float32)
    with torch.inference_mode():
        wanted = peft.PeftModel.from_pretrained(network, adapter)(torch.tensor(ids)).logits[0].numpy()
    found = comparing.predictions(adapted, ids, wanted.shape[1])
    assert mean_divergence(wanted, found) < 1e-6, "what PEFT computes"

    for name, base in (("gguf:BF16", "gguf"), ("mlx", "mlx")):
        path, form = variant_of_sample(name), Format(base)
        made = tmp_path / base
        host = gguf_host(path) if form is Format.GGUF else None
        convert_adapter(open_updates(adapter), Variant(form, "F32" if host else ""), FolderSink(made), base=host)
        other = Subject(path, form, Applied(next(made.glob("*.gguf")) if host else made))
        assert measure(adapted, other, TEXTS).mean < 1e-4
        half = Subject(path, form, Applied(next(made.glob("*.gguf")) if host else made, 0.5))
        assert measure(source, half, TEXTS).mean < changed.mean


def test_the_mean_over_batches_is_the_mean_over_all(sample: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Subject(sample, Format.SAFETENSORS), Subject(gguf, Format.GGUF)
    whole, told = measure(*pair, TEXTS), list[int]()
    monkeypatch.setattr(comparing, "_VALUES_MAX", 1)  # every text by itself
    single = measure(*pair, TEXTS, lambda _stage, done, _total, _source="", /: told.append(done))
    assert told == [1, 2, 3]
    assert np.allclose(list(vars(single).values()), list(vars(whole).values()), rtol=0.05, atol=1e-6)


def test_two_models_are_compared_by_their_paths(registry: Registry, sample: Path, gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(TEXTS))
    (tmp_path / "s.jsonl").write_text('{"seed": 1, "a": 1, "b": 2}\n{"seed": 2, "a": 1, "b": 3}\n')
    adapter = write_adapter(tmp_path / "lora", lora_alpha=1)
    asked = Asked(str(sample), f"{gguf}::{adapter}=0.5", tmp_path / "p.txt", tmp_path / "s.jsonl")
    found = compare(registry, asked)
    assert (found.a.name, found.a.adapter, found.b.format) == ("tiny-llama", None, "gguf")
    assert found.b.adapter and (found.b.adapter.name, found.b.adapter.scale) == ("lora", "0.5")
    assert registry.store.has(found.b.adapter.cid) and found.scores and found.scores.verdict == "improves"
    assert found == compare(registry, asked), "the same again"


def other_words(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    document["model"]["vocab"] = {word: (at + 1) % 1000 if at < 1000 else at for word, at in vocabulary.items()}
    path.write_text(json.dumps(document))
    return folder


def fewer_words(folder: Path) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": 1000}))
    return folder


@pytest.mark.parametrize(
    ("change", "message"), [(other_words, "text 1 as other tokens"), (fewer_words, "vocabularies of 1,024 and 1,000")]
)
def test_models_that_read_otherwise_are_not_compared(
    change: Callable[[Path], Path], message: str, sample: Path, tmp_path: Path
) -> None:
    shutil.copytree(sample, tmp_path / "other")
    other = Subject(change(tmp_path / "other"), Format.SAFETENSORS)
    with pytest.raises(FormatError, match=message):
        measure(Subject(sample, Format.SAFETENSORS), other, ["Anna bakes an apple cake on Friday evening."])


def test_texts_are_never_cut(sample: Path) -> None:
    subject = Subject(sample, Format.SAFETENSORS)
    context = open_model(sample).config.context_length
    with pytest.raises(FormatError, match=f"text 2 has .* tokens, the context holds {context}"):
        measure(subject, subject, ["Short.", "word " * context])
    with pytest.raises(UnsupportedConversionError, match="no predictions"):
        measure(subject, Subject(sample, Format.TENSORRT_LLM), TEXTS)


@pytest.mark.parametrize(
    ("b", "prompts", "error", "message"),
    [
        ("{sample}::", "p.txt", ConfigError, "no model to compare"),
        ("::x", "p.txt", ConfigError, "no model to compare"),
        ("./none", "p.txt", NotFoundError, "no such file or folder"),
        ("{sample}::./none", "p.txt", NotFoundError, "no such folder"),
        ("{sample}", "none.txt", NotFoundError, "no such file"),
        ("{sample}", ".", FormatError, "cannot be read"),
        ("{sample}", "empty.txt", FormatError, "no prompts"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    b: str, prompts: str, error: type[CitrateError], message: str, registry: Registry, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.txt").write_text("Anna.")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(error, match=message) as raised:
        compare(registry, Asked(str(sample), b.format(sample=sample), tmp_path / prompts))
    assert "\n" not in raised.value.message and raised.value.hint
