"""The sample model's tokenizer: byte-level BPE with the split pattern, special tokens and chat layout of Llama 3."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from examples.make_tiny_llama.corpus import BOS, EOT, SPECIAL_TOKENS, TRAINING, documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 1024
TRAINING_DOCUMENTS = 12_000

# The pattern that llama.cpp calls `llama-bpe`: another one would tokenize differently there.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{%- endif %}"
)


def build() -> Tokenizer:
    """Train the tokenizer. The same versions of the library give the same bytes."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))  # as llama.cpp does for `llama-bpe`
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_plain_texts(), trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the text gives {tokenizer.get_vocab_size()} tokens, not {VOCAB_SIZE}")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BOS} $A",
                pair=f"{BOS} $A {BOS} $B",
                special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
            ),
        ]
    )
    return tokenizer


def as_transformers(tokenizer: Tokenizer, context_length: int) -> PreTrainedTokenizerFast:
    """Wrap the tokenizer as transformers saves it: with the chat template and what each special token is for."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOT, model_max_length=context_length
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _plain_texts() -> list[str]:
    texts = list(islice(documents(TRAINING, seed=1), TRAINING_DOCUMENTS))
    for token in SPECIAL_TOKENS:
        texts = [text.replace(token, "\n\n") for text in texts]
    return texts
