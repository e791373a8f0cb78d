from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from citrate.core.errors import FormatError
from citrate.inference import chat

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def test_the_sample_models_template_lays_out_one_user_message(sample: Path) -> None:
    template = (sample / "chat_template.jinja").read_text()
    assert chat.render(template, " Hello! ", {"bos_token": "<|begin_of_text|>"}) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_the_template_of_transformers_and_ours_agree(sample: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sample)
    messages = [{"role": "user", "content": "What is a CID?"}]
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert chat.render(tokenizer.chat_template, "What is a CID?", {"bos_token": tokenizer.bos_token}) == theirs


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}{{ ().__class__.__bases__[0].__subclasses__()[0] }}",
        "{{ messages.append(1) }}",
        "{% set x = cycler.__init__.__globals__.os.popen('id') %}{{ x }}",
        "{{ raise_exception('system messages only') }}",
        "{% for",
        "{{ 1 / 0 }}",
        "{{ messages[3].content.upper() }}",
        "{{ missing.attribute.deeper }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "x" * (chat.MAX_TEMPLATE_CHARS + 1),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_hostile_or_broken_template_is_one_line(template: str) -> None:
    with pytest.raises(FormatError) as caught:
        chat.render(template, "hi", TOKENS)
    assert "chat template" in caught.value.message and "\n" not in caught.value.message
    assert "--raw" in caught.value.hint


def test_a_template_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MAX_SECONDS", 0.3)
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(FormatError, match="does not end"):
        chat.render(endless, "hi", TOKENS)


def test_features_that_published_templates_use() -> None:
    template = (
        "{%- for m in messages %}{% if m.role != 'user' %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}\n"
        "{% if tools %}no{% endif %}{{ bos_token }}{{ strftime_now('%Y') | length }}"
    )
    assert chat.render(template, "<é>", TOKENS) == '{"role": "user", "content": "<é>"}<s>4'


def test_rendering_does_not_import_a_runtime() -> None:
    code = (
        "import sys, citrate.inference.chat, citrate.inference.run, citrate.inference.select, citrate.inference.device;"
    )
    code += "print([m for m in ('torch', 'transformers', 'llama_cpp', 'mlx', 'jinja2', 'pynvml') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
