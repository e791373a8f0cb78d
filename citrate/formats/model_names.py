"""What a model's name says: ``llama-3.1-8b-instruct`` is a Llama 3.1 of eight billion weights that takes instructions.

The rules are those by which llama.cpp's converter fills in a GGUF file's ``general.basename`` and its neighbours
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#gguf-naming-convention). They are heuristics: where they see
nothing but words, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

_VERSION = re.compile(r"(v|iter)?\d+([.]\d+)*", re.IGNORECASE)
_ENCODING = re.compile(r"i?q\d(_\w)*|b?fp?(16|32)", re.IGNORECASE)
_SIZE = re.compile(r"((A|\d+x)?\d+([._]\d+)?[KMBT]\d?|small|mini|medium|large|x?xl)", re.IGNORECASE)
_TUNED = re.compile(r"chat|instruct|vision|lora", re.IGNORECASE)
_AS_IT_STANDS = re.compile(r"v\d+(?:\.\d+)*|\d.*")
_POWERS = {"K": 1, "M": 2, "B": 3, "T": 4}
_UNITS = ((1e12, 1e-12, "T"), (1e9, 1e-9, "B"), (1e6, 1e-6, "M"), (0.0, 1e-3, "K"))


@dataclass(frozen=True)
class NameParts:
    """What a name says; empty where it says nothing."""

    basename: str = ""
    finetune: str = ""
    version: str = ""
    size_label: str = ""


class _Role(Enum):
    NONE = auto()
    VERSION = auto()
    ENCODING = auto()
    SIZE = auto()
    TUNED = auto()


def parts_of(name: str, parameters: int) -> NameParts:
    """The parts of a model's name.

    Args:
        name: without its owner; a name with spaces is a sentence, and has no parts.
        parameters: the weights that the model has.
    """
    if " " in name:
        return NameParts()
    read = [_read(word, first=not i, parameters=parameters) for i, word in enumerate(filter(None, name.split("-")))]
    words, roles = [word for word, _ in read], _without_words_for_sizes(read)
    start = _end_of_base(words, roles)
    version = [w for w, role in zip(words[start:], roles[start:], strict=True) if role is _Role.VERSION]
    sizes = dict.fromkeys(w for w, role in zip(words, roles, strict=True) if role is _Role.SIZE)
    tuned = [w for w, role in zip(words[start:], roles[start:], strict=True) if role in (_Role.TUNED, _Role.NONE)]
    if not (version or sizes or tuned):
        return NameParts()
    return NameParts("-".join(words[:start]), "-".join(tuned), "-".join(version), "-".join(sizes))


def rounded_size(parameters: int) -> str:
    """A number of weights as people say it: ``8.0B``, ``137M``, with two digits at least."""
    scale, unit = next((scale, unit) for above, scale, unit in _UNITS if parameters > above or not above)
    value = parameters * scale
    return f"{value:.{max(2 - len(str(round(value)).lstrip('0')), 0)}f}{unit}"


def title_of(name: str) -> str:
    """A name as a title: words in lower case get a capital, but for versions and numbers."""
    words = name.strip().replace("-", " ").split()
    return " ".join(w.title() if w.islower() and not _AS_IT_STANDS.fullmatch(w) else w for w in words)


def _read(word: str, *, first: bool, parameters: int) -> tuple[str, _Role]:
    """A word of a name as it is written down, and what it is."""
    if _VERSION.fullmatch(word):
        return word, _Role.VERSION
    if _ENCODING.fullmatch(word):
        return word.upper(), _Role.ENCODING
    if not first and _SIZE.fullmatch(word):
        return _size(word.replace("_", "."), parameters)
    return word, _Role.TUNED if not first and _TUNED.fullmatch(word) else _Role.NONE


def _size(word: str, parameters: int) -> tuple[str, _Role]:
    """``7b1`` is 7.1B; a size that the model does not nearly have is something else."""
    if word[-1].isdecimal():
        word = f"{word[:-2]}.{word[-1]}{word[-2]}"
    if len(word) > 1 and word[-2].isdecimal():
        word = word[:-1] + word[-1].upper()
    try:
        stated = float(word[:-1]) * 1000 ** _POWERS.get(word[-1], -1)
    except ValueError:  # ``small``, ``8x7B``, ``A3B``
        return word, _Role.SIZE
    if parameters and abs(stated - parameters) > 7 * parameters // 8:  # the length of a context, say
        return word[:-1] + word[-1].lower(), _Role.TUNED
    return word, _Role.SIZE


def _without_words_for_sizes(read: Sequence[tuple[str, _Role]]) -> list[_Role]:
    """The roles; ``small`` and its like are none where a number says the size."""
    numbered = any(role is _Role.SIZE and any(map(str.isdecimal, word)) for word, role in read)
    return [_Role.NONE if numbered and role is _Role.SIZE and word.isalpha() else role for word, role in read]


def _end_of_base(words: Sequence[str], roles: Sequence[_Role]) -> int:
    """How many words at the start are the name of the base model; a version at the very end is the model's own."""
    end = 0
    while end < len(words) and (roles[end] is _Role.VERSION or (roles[end] is _Role.NONE and words[end][0].isalpha())):
        end += 1
    while end == len(words) and end and roles[end - 1] is _Role.VERSION:
        words, end = words[:-1], end - 1
    return end
