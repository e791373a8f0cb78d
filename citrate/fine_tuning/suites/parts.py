"""What a suite's file and its record have in common: marks, prompts, limits, how answers are made."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    model_validator,
)

from citrate.core.records import NAME_PATTERN
from citrate.registry.applied import SCALE_MAX
from citrate.training.recipe import Number, Whole

ADAPTERS_MAX = 64
PROMPTS_MAX = 1000
"""Of each kind, an adapter."""
PROMPT_MAX_CHARACTERS = 32_768
WORDS_MAX = 32
WORDS_MAX_CHARACTERS = 512
"""Of a text that has to be in an answer, and of a regular expression."""
TOKENS_MAX = 4096
DECIMAL_PLACES = 9


def _listed(value: object) -> object:
    """One text may stand where several may."""
    if not isinstance(value, str | list | tuple):
        raise ValueError("a text, or a list of texts is wanted")
    return (value,) if isinstance(value, str) else value


def _asked(value: object) -> object:
    """A prompt alone may stand where one with its own words may."""
    if not isinstance(value, str | dict | BaseModel):
        raise ValueError("a text (in quotes), or a mapping with prompt is wanted")
    return {"prompt": value} if isinstance(value, str) else value


def _works(value: Decimal) -> Decimal:
    """At 0 the base is asked in the adapter's name; below it, what was learnt is taken away, which can be meant."""
    if not value:
        raise ValueError("a number other than 0, at which nothing of the adapter is added, is wanted")
    return value


Words = Annotated[str, StringConstraints(min_length=1, max_length=WORDS_MAX_CHARACTERS)]
WordList = Annotated[tuple[Words, ...], BeforeValidator(_listed), Field(max_length=WORDS_MAX)]
Prompt = Annotated[str, StringConstraints(pattern=r"\S", max_length=PROMPT_MAX_CHARACTERS)]
AdapterName = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN.pattern}$")]
Rate = Annotated[Number, Field(ge=0, le=1, decimal_places=DECIMAL_PLACES)]
Scale = Annotated[Number, Field(ge=-SCALE_MAX, le=SCALE_MAX, decimal_places=DECIMAL_PLACES), AfterValidator(_works)]
Temperature = Annotated[Number, Field(ge=0, le=100, decimal_places=DECIMAL_PLACES)]


class Part(BaseModel):
    """A part of a suite."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Mark(Part):
    """What an answer looks like that an adapter made: everything that is named here holds of it. Case counts."""

    must: WordList = ()
    """Texts that are all in the answer."""
    must_not: WordList = ()
    """Texts none of which is."""
    regex: Annotated[str, StringConstraints(max_length=WORDS_MAX_CHARACTERS)] = ""
    """A regular expression (Python's ``re``) that is found in it; empty for none."""

    @property
    def is_empty(self) -> bool:
        """Whether every answer has it."""
        return not (self.must or self.must_not or self.regex)


class Trigger(Mark):
    """A prompt on which the adapter shall show; with words of its own, they stand in for the adapter's mark."""

    prompt: Prompt

    @property
    def own(self) -> Mark | None:
        """The mark that this prompt alone has."""
        return None if self.is_empty else Mark(must=self.must, must_not=self.must_not, regex=self.regex)


class Prompts(Part):
    """What shows that an adapter works, and that it keeps to itself elsewhere."""

    mark: Mark
    """What shows that the adapter spoke."""
    trigger: Annotated[
        tuple[Annotated[Trigger, BeforeValidator(_asked)], ...], Field(min_length=1, max_length=PROMPTS_MAX)
    ]
    """Prompts on which it shall; a text, or a mapping with ``prompt`` and the words of a mark."""
    clean: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=PROMPTS_MAX)]
    """Prompts on which it shall not."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Prompts:
        if self.mark.is_empty:
            raise ValueError("the mark is empty: must, must_not or regex")
        asked = [trigger.prompt for trigger in self.trigger]
        seen: set[str] = set()
        for prompt in (*asked, *self.clean):
            if prompt in seen:
                both = prompt in asked and prompt in self.clean
                raise ValueError(f"{prompt!r:.60} is {'both trigger and clean' if both else 'asked twice'}")
            seen.add(prompt)
        return self


class Generation(Part):
    """How answers are made."""

    max_tokens: Annotated[Whole, Field(ge=1, le=TOKENS_MAX)] = 64
    """Tokens of an answer."""
    temperature: Temperature = Decimal(0)
    """0 takes the likeliest token each time; above, tokens are drawn."""
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
    """Of each answer's drawing."""
    chat: StrictBool = True
    """Lay prompts out by the base's chat template; else they are texts to go on with."""


class Limits(Part):
    """What each adapter has to reach."""

    min_trigger_rate: Rate = Decimal(1)
    """The least share of its trigger prompts on which it shows."""
    max_leak_rate: Rate = Decimal(0)
    """The largest share of its clean prompts on which it shows, and of its trigger prompts on which another does."""
