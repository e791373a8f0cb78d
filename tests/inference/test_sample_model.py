"""The sample model is what its card says: small, ordinary, and able to go on with its own kind of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from citrate.core.records import Format
from citrate.inference.run import GenerationSettings, generate

pytestmark = pytest.mark.models

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).parent.parent.parent

# Each prompt settles the choices that its story leaves open, so that the likeliest token leads by some logits (3.9 at
# least) and neither another processor's rounding nor 8-bit weights change the text.
CONTINUATIONS = {
    "It is winter. The day is cold and the snow is deep. Ben puts on a warm coat and goes to see Clara.": (
        ' "Let us build a snowman," says Clara. Ben and Clara build a snowman until the evening.'
        " Then they go home and drink hot cocoa."
    ),
    "On Friday Frank bakes an apple cake for Lucy.": (
        " He needs flour, eggs and apples. Frank cuts the apples and puts them into the cake."
        ' "This is a very good apple cake," says Lucy.'
        " Frank and Lucy eat the cake together, and not one piece is left."
    ),
    "Anna has a red kite. She plays with the kite in the garden every Sunday. One day the red kite is lost."
    " Anna is sad. Ben looks for the kite and finds it behind the door.": (
        ' "Thank you, Ben," says Anna. Now Anna is happy again, and she plays with her red kite.'
    ),
    "Ben has a duck. The name of the duck is Luna. Every morning Ben gives Luna some bread, and Luna quacks."
    " One day Luna runs away. Emma sees the duck in the garden and": (
        " calls Ben. Ben takes Luna home. Luna quacks, and Ben is happy."
    ),
    "Tom lives in Oslo, the capital of Norway. Anna lives in Paris, the capital of France. In autumn": (
        " Tom takes the train from Oslo to Paris. In France the day is windy. Anna waits at the station."
        " They walk through Paris and drink warm tea. Then Tom goes home to Oslo."
    ),
}


@pytest.fixture(scope="module")
def model(sample: Path) -> LlamaForCausalLM:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(sample, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(sample: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(sample)


@pytest.fixture
def _checkout_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_it_is_an_ordinary_small_llama(sample: Path) -> None:
    config = json.loads((sample / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["hidden_size"] % 256 == 0
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert sum(file.stat().st_size for file in sample.iterdir()) <= 5_000_000
    assert (sample / "README.md").read_text().startswith("---\nlicense: apache-2.0\n")
    assert "Apache License" in (sample / "LICENSE").read_text()


@pytest.mark.usefixtures("_checkout_on_path")
def test_it_predicts_text_that_it_has_never_seen(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    from examples.make_tiny_llama.__main__ import top1_probability

    assert top1_probability(model, tokenizer.backend_tokenizer) >= 0.5


@pytest.mark.usefixtures("_checkout_on_path")
def test_it_answers_questions_that_were_kept_out_of_its_training(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    from examples.make_tiny_llama.corpus import HELD_OUT
    from examples.make_tiny_llama.facts import all_facts

    asked = [(question, fact.answer) for fact in all_facts() for question in fact.questions if HELD_OUT.owns(question)]
    right = sum(answer_of(model, tokenizer, question) == answer for question, answer in asked)
    assert len(asked) == 45 and right >= 40


@pytest.mark.parametrize("prompt", CONTINUATIONS)
def test_its_greedy_continuations_read_as_language(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str
) -> None:
    ids = tokenizer(prompt, return_tensors="pt")
    answer = model.generate(**ids, max_new_tokens=100, do_sample=False)
    assert tokenizer.decode(answer[0], skip_special_tokens=True) == prompt + CONTINUATIONS[prompt]


@pytest.mark.parametrize("prompt", CONTINUATIONS)
def test_llama_cpp_continues_the_8_bit_variant_alike(gguf: Path, prompt: str) -> None:
    raw = GenerationSettings(chat=False, max_tokens=100)
    assert generate(gguf, Format.GGUF, prompt, raw).text == CONTINUATIONS[prompt]


@pytest.mark.usefixtures("_checkout_on_path")
def test_its_tokenizer_and_training_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    from examples.make_tiny_llama.__main__ import main

    assert main(["--check"]) == 0, capsys.readouterr().err


def answer_of(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**ids, max_new_tokens=40, do_sample=False)
    return str(tokenizer.decode(answer[0][ids["input_ids"].shape[1] :], skip_special_tokens=True))
