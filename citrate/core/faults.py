"""What is wrong with a document that somebody wrote: where, what stands there, and what is wanted there.

pydantic finds it. What it says of it ("Input should be a valid tuple") is for who wrote the model; who wrote the
document knows fields, lists and text. Every kind of error that a model of ours can raise has its sentence in ``_SAID``;
a test walks the models for kinds that have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from citrate.core import places
from citrate.core.places import Place
from citrate.core.records import NAME_PATTERN
from citrate.core.spelling import meant

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TOLD_CHARACTERS, _TOLD_ENTRIES = 60, 3
_FORMS = {
    r"\S": "more than spaces",
    f"^{NAME_PATTERN.pattern}$": "a name (1 to 64 of a-z, 0-9, '.', '_', '-', the first a letter or digit)",
    r"^[0-9a-f]{64}$": "64 digits of lower-case hex",
}
"""What a pattern asks for, in words."""


@dataclass(frozen=True)
class Fault:
    """The first thing that is wrong with a document.

    Attributes:
        message: one line: the place, what stands there, what is wanted.
        hint: what was probably meant, or what is known there; empty where the message says it all.
    """

    message: str
    hint: str = ""


def first(error: ValidationError, model: type[BaseModel], elsewhere: Mapping[str, str] | None = None) -> Fault:
    """The first fault that pydantic found in a document of ``model``.

    Args:
        error: pydantic's.
        model: which said so.
        elsewhere: what other tools call fields of the model, and the fields' paths.
    """
    found = _telling(error.errors(include_url=False))
    place = places.of(model, found["loc"])
    if found["type"] == "extra_forbidden":
        return Fault(f"{place} is no field that is known", _meant(place, model, elsewhere or {}))
    where, said = str(place), _said(found)
    if found["loc"] and found["loc"][-1] == places.KEY:
        where = f"{'.'.join(place.steps[:-1])}: a name"
    message = f"{where}{said}" if said.startswith(":") else f"{where} {said}"
    return Fault(message.removeprefix(": ").strip(), _choice(found))


def _telling(found: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first error; where a field is missing, an unknown one in its place says more: it is the same, misspelt."""
    first = found[0]
    if first["type"] == "missing":
        unknown = (
            each for each in found if each["type"] == "extra_forbidden" and each["loc"][:-1] == first["loc"][:-1]
        )
        return next(unknown, first)
    return first


def _said(found: ErrorDetails) -> str:
    """A fault as the rest of a sentence that begins with its place."""
    sentence = _SAID.get(found["type"])
    if sentence is None:  # no model of ours raises it; pydantic's words are better than none
        return f": {found['msg']}"
    return sentence(found.get("ctx", {}), found["input"])


_Context = Mapping[str, object]
_Sentence = Callable[[_Context, object], str]


def _wanted(what: str) -> _Sentence:
    def said(ctx: _Context, value: object) -> str:
        limits = {name: _limit(limit) for name, limit in ctx.items()}
        return f"is {_told(value)}: {what.format(**limits)} is wanted"

    return said


def _limit(limit: object) -> str:
    """A limit as one would write it; decimals come as the text of their Python."""
    return f"{limit:g}" if isinstance(limit, float) else str(limit).removeprefix("Decimal('").removesuffix("')")


def _text(_: _Context, value: object) -> str:
    """YAML reads ``yes``, ``1.0`` and ``2026-01-01`` as something else unless they are quoted."""
    plain = value is not None and not isinstance(value, Mapping | list | tuple)
    return f"is {_told(value)}: text is wanted{', in quotes' if plain else ''}"


def _form(ctx: _Context, value: object) -> str:
    pattern = str(ctx["pattern"])
    return f"is {_told(value)}: {_FORMS.get(pattern, f'the form {pattern}')} is wanted"


def _one_of(ctx: _Context, value: object) -> str:
    *others, last = _choices(ctx)
    wanted = f"{', '.join(others)} or {last}" if others else last
    return f"is {_told(value)}: {wanted} is wanted"


def _few(what: str) -> _Sentence:
    def said(ctx: _Context, value: object) -> str:
        has = len(value) if isinstance(value, str | Mapping | list | tuple) else 0
        return f"has {has:,} {what}: {ctx['min_length']:,} are the least" if has else "is empty"

    return said


def _many(what: str) -> _Sentence:
    return lambda ctx, _: f"has too many {what}: {ctx['max_length']:,} are the most"


def _own(ctx: _Context, value: object) -> str:
    """A validator's words: what ``is wanted`` in place of a value; else what is wrong with a part as a whole."""
    words = str(ctx["error"])
    return f"is {_told(value)}: {words}" if words.endswith(" is wanted") else f": {words}"


_WHOLE, _NUMBER, _LIST = _wanted("a whole number"), _wanted("a number"), _wanted("a list")
_YES_OR_NO, _FIELDS = _wanted("true or false"), _wanted("a mapping of fields")
_SAID: Mapping[str, _Sentence] = {
    "missing": lambda _ctx, _: "is missing",
    "extra_forbidden": lambda _ctx, _: "is no field that is known",
    "invalid_key": lambda _ctx, _: "is no field that is known: the name of a field is text",
    "value_error": _own,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "decimal_max_places": _wanted("a number of {decimal_places} decimals at most"),
    "greater_than": _wanted("more than {gt}"),
    "greater_than_equal": _wanted("{ge} or more"),
    "less_than": _wanted("less than {lt}"),
    "less_than_equal": _wanted("{le} or less"),
    "bool_type": _YES_OR_NO,
    "bool_parsing": _YES_OR_NO,
    "string_type": _text,
    "string_unicode": lambda _ctx, _: "is text that is no Unicode",
    "string_too_short": _few("characters"),
    "string_too_long": _many("characters"),
    "string_pattern_mismatch": _form,
    "literal_error": _one_of,
    "enum": _one_of,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "too_short": _few("entries"),
    "too_long": _many("entries"),
    "dict_type": _FIELDS,
    "model_type": _FIELDS,
    "model_attributes_type": _FIELDS,
}


def _told(value: object) -> str:
    """What stands at a place, in a few words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | BaseModel):
        return "a mapping"
    if isinstance(value, list | tuple):
        few = len(value) <= _TOLD_ENTRIES and not any(isinstance(each, Mapping | list | tuple) for each in value)
        return f"[{', '.join(map(_told, value))}]" if few else "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _TOLD_CHARACTERS else f"{text[:_TOLD_CHARACTERS]}..."


def _choices(ctx: _Context) -> list[str]:
    """What pydantic spells ``'linear', 'cosine' or 'constant'``."""
    return [each.strip("'") for each in str(ctx["expected"]).replace(" or ", ", ").split(", ")]


def _choice(found: ErrorDetails) -> str:
    """The choice that was probably meant."""
    if found["type"] not in ("literal_error", "enum") or not isinstance(found["input"], str):
        return ""
    choice = meant(found["input"], _choices(found.get("ctx", {})))
    return f"did you mean {choice}?" if choice else ""


def _meant(place: Place, model: type[BaseModel], elsewhere: Mapping[str, str]) -> str:
    """What was probably meant by an unknown field: that very name in another place or tool, or a like one."""
    *before, name = place.steps
    here, everywhere = list(places.fields(place.model)), list(places.paths(model))
    names = [path.rpartition(".")[2] for path in everywhere]
    near, far = meant(name, here), meant(name, names)
    likely = (
        *([elsewhere[name]] if name in elsewhere else []),
        *(path for path, other in zip(everywhere, names, strict=True) if other == name),
        *([".".join((*before, near))] if near else []),
        *(path for path, other in zip(everywhere, names, strict=True) if far and other == far),
    )
    return f"did you mean {likely[0]}?" if likely else f"known there: {', '.join(here)}"
