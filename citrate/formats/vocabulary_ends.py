"""The special tokens of a GGUF file, and which of them the tokenizer puts around a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from citrate.core.canonical import Json
from citrate.formats.configuration import Config
from citrate.formats.vocabulary_tokens import token_id

_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class Ends:
    """Ids of special tokens, and whether each is added to a text; ``bos`` -> ..., in llama.cpp's order."""

    ids: Mapping[str, int]
    added: Mapping[str, bool]


def ends_of(document: Mapping[str, Json], settings: Mapping[str, Json], config: Config) -> Ends:
    """Read them from tokenizer.json, tokenizer_config.json (``settings``) and config.json, in that order of trust.

    BERT's tokenizers open a text with ``cls`` and close it with ``sep``; to llama.cpp these are its ``bos`` and
    ``eos``.

    Raises:
        FormatError: an added token has an id that the model does not have.
    """
    contents = {name: _content(settings.get(f"{name}_token")) for name in _NAMES}
    contents["bos"] = contents["bos"] or contents["cls"]
    contents["eos"] = contents["eos"] or contents["sep"]
    added: dict[str, bool] = {}
    for step in _steps(document):
        _apply(step, contents, added)
    for name in ("bos", "eos", "sep"):
        stated = settings.get(f"add_{name}_token")
        if isinstance(stated, bool):
            added.setdefault(name, stated)
    return Ends(_ids(document, contents, config), added)


def _apply(step: Mapping[str, Json], contents: dict[str, str], added: dict[str, bool]) -> None:
    """What one step of the post-processor says about the ends; a token that nothing else names is named by it."""
    kind = step.get("type")
    if kind == "ByteLevel":
        added.setdefault("bos", False)
        added.setdefault("eos", False)
    elif kind == "RobertaProcessing":
        added |= {"bos": True, "eos": True, "sep": True}
    elif kind == "TemplateProcessing":
        single, pair = _pieces(step.get("single")), _pieces(step.get("pair"))
        first = single[0] if len(single) > 1 else ""
        last = single[-1] if len(single) > 1 else ""
        contents["bos"], contents["eos"] = contents["bos"] or first, contents["eos"] or last
        if first:
            added["bos"] = first in (contents["bos"], contents["cls"])
        if last:
            added["eos"] = last in (contents["eos"], contents["sep"])
        _apply_pair(pair, first, last, contents, added)


def _apply_pair(pair: list[str], first: str, last: str, contents: Mapping[str, str], added: dict[str, bool]) -> None:
    """Whether a separator of its own stands between two texts (which are empty strings here)."""
    inner = pair[1:] if first and pair[:1] == [first] else pair
    inner = inner[:-1] if last and inner[-1:] == [last] else inner
    if len(inner) > 2 and inner[0] == inner[-1] == "":
        between = inner[1:-1]
        separators = [token in (contents["sep"], contents["eos"]) for token in between]
        added["sep"] = (separators[0] and not last) or (len(between) == 2 and separators[1])


def _ids(document: Mapping[str, Json], contents: Mapping[str, str], config: Config) -> dict[str, int]:
    """The tokenizer's word first, as far as the token was added; then config.json's."""
    entries = document.get("added_tokens")
    known: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else []:
        content = entry.get("content") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and isinstance(content, str):
            known.setdefault(content, token_id(entry.get("id"), config.vocab_size))
    found = {name: known[content] for name, content in contents.items() if content in known}
    for name in _NAMES:
        index = config.document.get(f"{name}_token_id")
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < config.vocab_size:
            found.setdefault(name, index)
    return found


def _steps(document: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    processor = document.get("post_processor")
    steps = processor.get("processors", [processor]) if isinstance(processor, dict) else []
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _pieces(template: Json) -> list[str]:
    """A template as a list: the content of each special token, an empty string for each text."""
    pieces: list[str] = []
    for piece in template if isinstance(template, list) else []:
        token = piece.get("SpecialToken") if isinstance(piece, dict) else None
        content = token.get("id") if isinstance(token, dict) else ""
        pieces.append(content if isinstance(content, str) else "")
    return pieces


def _content(stated: Json) -> str:
    content = stated.get("content") if isinstance(stated, dict) else stated
    return content if isinstance(content, str) else ""
