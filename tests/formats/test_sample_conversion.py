"""The sample model becomes every variant, passes every gate, and keeps what its text needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import Convert

from citrate.core.records import Format
from citrate.formats import DEFAULT_VARIANTS, SourceModel, check, find_licence, open_model, possible_variants

pytestmark = pytest.mark.models

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"
PROMPT = "The opposite of big is"
_GENERATE = (
    "import sys; from llama_cpp import Llama\n"
    "m = Llama(sys.argv[1], n_ctx=128, verbose=False, seed=0)\n"
    "print(m(sys.argv[2], max_tokens=3, temperature=0.0)['choices'][0]['text'], end='')"
)


@pytest.fixture(scope="module")
def sample() -> SourceModel:
    return open_model(SAMPLE)


def test_every_default_variant_is_possible(sample: SourceModel) -> None:
    assert set(DEFAULT_VARIANTS) <= set(possible_variants(sample))
    assert sample.findings == ()
    licence = find_licence(SAMPLE)
    assert licence is not None
    assert licence.text


def test_every_variant_passes_every_gate(sample: SourceModel, converted: Convert) -> None:
    for variant in possible_variants(sample):
        if variant.format is Format.TENSORRT_LLM:  # made by NVIDIA's tool, which takes its time: test_tensorrt_llm.py
            continue
        path, conversion = converted(sample, str(variant))
        results = (*conversion.checks, *check(sample, variant, path))
        assert all(result.passed for result in results)
        assert "not run" not in {result.value for result in results}


def test_the_quantized_file_continues_as_the_full_one(sample: SourceModel, converted: Convert) -> None:
    texts = set()
    for variant in ("gguf:BF16", "gguf:Q8_0"):
        path, _ = converted(sample, variant)
        command = [sys.executable, "-c", _GENERATE, str(path), PROMPT]
        texts.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(texts) == 1
    assert next(iter(texts)).strip()
