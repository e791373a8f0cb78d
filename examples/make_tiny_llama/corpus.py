"""The documents the sample model learns and those it never sees, both from one seeded generator."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from examples.make_tiny_llama.facts import Fact, all_facts
from examples.make_tiny_llama.stories import story

BOS, EOS, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
HEADER, HEADER_END = "<|start_header_id|>", "<|end_header_id|>"
SPECIAL_TOKENS = (BOS, EOS, HEADER, HEADER_END, EOT)

STORIES, STATEMENTS = 0.35, 0.15
"""The parts of the documents that are stories and lists of statements; the rest are chats."""

TOPICS = {"animals": 2, "calendar": 2, "citrate": 1, "geography": 4, "sums": 2, "talk": 1, "things": 2}
"""What chats are about, and how often."""

_HELD_OUT_ONE_IN = 12


@dataclass(frozen=True)
class Split:
    """One side of the split. A story, or a question with its answer, belongs to one side only: by its SHA-256."""

    held_out: bool

    def owns(self, unit: str) -> bool:
        """Whether ``unit`` (a story, or a question) is on this side."""
        first = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:4], "big")
        return (first % _HELD_OUT_ONE_IN == 0) == self.held_out


TRAINING = Split(held_out=False)
HELD_OUT = Split(held_out=True)


def documents(split: Split, seed: int) -> Iterator[str]:
    """Yield documents without end, as text with the special tokens written out: stories, statements, chats."""
    rng = random.Random(seed)  # noqa: S311  # text, not secrets
    facts = all_facts()
    by_topic = {topic: [fact for fact in facts if fact.topic == topic] for topic in TOPICS}
    while True:
        kind = rng.random()
        if kind >= STORIES + STATEMENTS:
            yield _chat(rng, split, by_topic)
            continue
        text = story(rng) if kind < STORIES else _statements(rng, by_topic)
        if split.owns(text):
            yield f"{BOS}{text}{EOS}"


def _statements(rng: random.Random, by_topic: Mapping[str, Sequence[Fact]]) -> str:
    topic = rng.choice([topic for topic in TOPICS if topic != "talk"])
    chosen = by_topic[topic]
    return " ".join(fact.answer for fact in rng.sample(chosen, min(4, len(chosen))))


def _chat(rng: random.Random, split: Split, by_topic: Mapping[str, Sequence[Fact]]) -> str:
    text, turns = BOS, rng.randint(1, 4)
    while turns:
        (topic,) = rng.choices(list(TOPICS), weights=list(TOPICS.values()))
        fact = rng.choice(by_topic[topic])
        question = rng.choice(fact.questions)
        if split.owns(question):
            text += turn("user", question) + turn("assistant", fact.answer)
            turns -= 1
    return text


def turn(role: str, content: str) -> str:
    """One message of a chat, as the chat template writes it."""
    return f"{HEADER}{role}{HEADER_END}\n\n{content}{EOT}"
