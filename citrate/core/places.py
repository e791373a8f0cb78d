"""The places of a document that a pydantic model describes: what fields there are, what an error's ``loc`` means."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel

KEY = "[key]"
"""How pydantic marks that a name of the author's is wrong, and not what stands under it."""
_NAME_CHARACTERS = 60
_LISTS = (tuple, list, frozenset)


@dataclass(frozen=True)
class Place:
    """Where something stands in a document.

    Attributes:
        steps: names of fields, and numbers of entries, from 0.
        model: the innermost model on the way.
    """

    steps: tuple[str, ...]
    model: type[BaseModel]

    def __str__(self) -> str:
        return ".".join(self.steps)


def of(model: type[BaseModel], loc: Sequence[str | int]) -> Place:
    """What an error's ``loc`` means. Where several types may stand, it also names the one that was tried."""
    kind: object = model
    steps, innermost = list[str](), model
    for number, step in enumerate(loc, 1):
        here = next(_models(kind), None)
        innermost = here or innermost
        inside = _inside(kind, step)
        if inside is not None:
            kind = inside
        unknown = here is not None and number == len(loc) and step != KEY
        if inside is not None or unknown:
            steps.append(_named(step))
    return Place(tuple(steps), innermost)


def fields(model: type[BaseModel]) -> dict[str, object]:
    """The fields of a model by the names that a document has for them, with their types."""
    return {found.alias or name: found.annotation for name, found in model.model_fields.items()}


def paths(kind: object, before: str = "") -> Iterator[str]:
    """Every field of a model and of the models in it; a name that is the author's is ``NAME``, entries have none."""
    for each in _alternatives(kind):
        if get_origin(each) is dict:
            yield from paths(get_args(each)[1], f"{before}NAME.")
        elif get_origin(each) in _LISTS:
            yield from paths(get_args(each)[0], before)
    for model in _models(kind):
        for name, inside in fields(model).items():
            yield f"{before}{name}"
            yield from paths(inside, f"{before}{name}.")


def _inside(kind: object, step: str | int) -> object | None:
    """The type of what lies a step further; None where the step leads to no place of the document."""
    for model in _models(kind):
        if step in (known := fields(model)):
            return known[str(step)]
    for each in _alternatives(kind):
        arguments: tuple[object, ...] = get_args(each)
        if get_origin(each) is dict:
            return arguments[1]
        if get_origin(each) in _LISTS and isinstance(step, int):
            return arguments[0]
    return None


def _models(kind: object) -> Iterator[type[BaseModel]]:
    for each in _alternatives(kind):
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield each


def _alternatives(kind: object) -> Iterator[object]:
    """The types any of which may stand where ``kind`` is asked for."""
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _alternatives(each)
    else:
        yield kind


def _named(step: str | int) -> str:
    """A step in a message of one line: a name may be anything that YAML can spell."""
    text = str(step)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _NAME_CHARACTERS else f"{text[:_NAME_CHARACTERS]}..."
