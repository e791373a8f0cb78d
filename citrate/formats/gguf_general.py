"""The ``general.*`` keys of a GGUF file: how the model likes to be sampled, what it is called, whose it is, under which
licence, and what it was made from.

They are those of llama.cpp's converter, read from the same places: generation_config.json, the front matter of the
card, and the model's name. Only what is published beside the weights is read, so that the file comes out again of the
published SafeTensors variant: ``_name_or_path`` of config.json says nothing here, and the name that a model is
published under stands for the folder's. What the card spells as anything but text is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from citrate.core.canonical import Json
from citrate.formats.card import front_matter
from citrate.formats.configuration import is_local_path
from citrate.formats.documents import parse_object
from citrate.formats.gguf_file import GgufValue, Kind, array
from citrate.formats.licence import find_licence
from citrate.formats.model_names import parts_of, rounded_size, title_of
from citrate.formats.source import SourceModel

_SAMPLING: Sequence[tuple[str, Kind, tuple[str, ...]]] = (
    # key, its type, and generation_config.json's names for it, the first that is there
    ("sequence", Kind.STRING, ("sequence",)),
    ("top_k", Kind.INT32, ("top_k",)),
    ("top_p", Kind.FLOAT32, ("top_p",)),
    ("min_p", Kind.FLOAT32, ("min_p",)),
    ("xtc_probability", Kind.FLOAT32, ("xtc_probability",)),
    ("xtc_threshold", Kind.FLOAT32, ("xtc_threshold",)),
    ("temp", Kind.FLOAT32, ("temperature",)),
    ("penalty_last_n", Kind.INT32, ("penalty_last_n",)),
    ("penalty_repeat", Kind.FLOAT32, ("penalty_repeat", "repetition_penalty")),
    ("mirostat", Kind.INT32, ("mirostat",)),
    ("mirostat_tau", Kind.FLOAT32, ("mirostat_tau",)),
    ("mirostat_eta", Kind.FLOAT32, ("mirostat_eta",)),
)
_BEFORE_LICENCE: Mapping[str, tuple[str, ...]] = {
    # key -> the card's fields, the first that says something
    "author": ("author", "model_author", "model_creator"),
    "version": ("version", "model_version"),
    "organization": ("organization", "model_organization"),
    "finetune": ("finetune", "model_finetune"),
    "basename": ("basename", "model_basename", "model_type"),
    "description": ("description", "model_description"),
    "size_label": ("size_label", "model_size_label"),
}
_BEHIND_LICENCE: Mapping[str, tuple[str, ...]] = {
    "license.name": ("license_name",),
    "license.link": ("license_link",),
    **{f"source.{what}": (what, f"model_{what}") for what in ("url", "doi", "uuid", "repo_url")},
}
_RELATED = ("name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url")
_BASES = ("base_model", "base_models", "base_model_sources")
_DATASETS = ("datasets", "dataset", "dataset_sources")
_RELATED_MAX = 256
_ON_THE_HUB = re.compile(r"https?://huggingface\.co/([^/]+/[^/]+)")
_INT32 = range(-(1 << 31), 1 << 31)
_FLOAT32_MAX = 3.4e38


def general(model: SourceModel, name: str, parameters: int) -> dict[str, GgufValue]:
    """The keys behind ``general.type``, in the order in which llama.cpp's converter writes them.

    Args:
        model: the source; its licence is the one that it is published under.
        name: what it is called there.
        parameters: the weights that the file holds.

    Raises:
        FormatError: the card or generation_config.json is malformed.
    """
    card = front_matter(model.root)
    keys = {"name": _text(name), **_stated(card, name, parameters)}
    licence = licence_of(model)
    if licence:
        keys["license"] = _text(licence)
    keys |= {key: _text(value) for key, fields in _BEHIND_LICENCE.items() if (value := _first(card, fields))}
    keys |= _related(card, "base_model", _BASES, parameters)
    keys |= _related(card, "dataset", _DATASETS, parameters)
    for key, fields in (("tags", ("tags", "pipeline_tag")), ("languages", ("languages", "language"))):
        words = tuple(word for field in fields for word in _words(card.get(field)))
        if words:
            keys[key] = array(Kind.STRING, words)
    return {f"general.{key}": value for key, value in {**_sampling(model), **keys}.items()}


def licence_of(model: SourceModel) -> str:
    """The licence that the model is published under, else what its card or LICENSE file says; empty for none."""
    found = None if model.licence else find_licence(model.root)
    return found.spdx if found else model.licence


def _sampling(model: SourceModel) -> dict[str, GgufValue]:
    """What generation_config.json asks for, as far as it is of the type that llama.cpp reads."""
    companion = next((each for each in model.companions if each.name == "generation_config.json"), None)
    document = parse_object(companion.read(), companion.name) if companion else {}
    found: dict[str, GgufValue] = {}
    for key, kind, names in _SAMPLING:
        value = next((document[name] for name in names if name in document), None)
        if _fits(kind, value):
            assert isinstance(value, int | float | str)
            found[f"sampling.{key}"] = GgufValue(kind, value)
    return found


def _fits(kind: Kind, value: Json) -> bool:
    if kind is Kind.STRING:
        return isinstance(value, str) and value != ""
    if isinstance(value, bool):
        return False
    if kind is Kind.INT32:
        return isinstance(value, int) and value in _INT32
    return isinstance(value, int | float) and abs(value) <= _FLOAT32_MAX


def _stated(card: Mapping[str, object], name: str, parameters: int) -> dict[str, GgufValue]:
    """What the card says of the model itself, and where it is silent the parts of the name."""
    parts = parts_of(name, parameters)
    implied = {"version": parts.version, "finetune": parts.finetune, "basename": parts.basename}
    implied["size_label"] = parts.size_label or (rounded_size(parameters) if parameters else "")
    said = {key: _first(card, fields) or implied.get(key, "") for key, fields in _BEFORE_LICENCE.items()}
    return {key: _text(value) for key, value in said.items() if value}


def _related(card: Mapping[str, object], key: str, fields: Sequence[str], parameters: int) -> dict[str, GgufValue]:
    """The models or data sets that the card names, each with what its name or entry says."""
    field = next((field for field in fields if field in card), None)
    if field is None:
        return {}
    stated = card[field]
    entries = stated if isinstance(stated, list) else [stated] if isinstance(stated, str) else []
    named = [entry for entry in entries if not (isinstance(entry, str) and is_local_path(entry))][:_RELATED_MAX]
    keys = {f"{key}.count": GgufValue(Kind.UINT32, len(named))}
    for index, entry in enumerate(named):
        about = _about(entry, parameters)
        keys |= {f"{key}.{index}.{what}": _text(about[what]) for what in _RELATED if about.get(what)}
    return keys


def _about(entry: object, parameters: int) -> Mapping[str, str]:
    """What one entry says: an identifier as on the hub, an address, or fields of its own."""
    if isinstance(entry, dict):
        return {key: value for key, value in entry.items() if isinstance(value, str) and not is_local_path(value)}
    if not isinstance(entry, str):
        return {}
    if not entry.startswith(("http://", "https://", "ssh://")):
        owner, name = _halves(entry)
        address = {"repo_url": f"https://huggingface.co/{owner}/{name}"} if owner else {}
        return {**_of_name(owner, name, parameters), **address}
    on_hub = _ON_THE_HUB.fullmatch(entry)
    return {**(_of_name(*_halves(on_hub[1]), parameters) if on_hub else {}), "repo_url": entry}


def _of_name(owner: str, name: str, parameters: int) -> dict[str, str]:
    return {"name": title_of(name), "organization": title_of(owner), "version": parts_of(name, parameters).version}


def _halves(identifier: str) -> tuple[str, str]:
    """Owner and name; a sentence is a name, and what begins with a dot is no owner."""
    if " " in identifier or "/" not in identifier:
        return "", identifier
    owner, _, name = identifier.partition("/")
    return "" if owner.startswith(".") else owner, name


def _first(card: Mapping[str, object], fields: Sequence[str]) -> str:
    """The first of ``fields`` that is text, but no path of somebody's machine."""
    values = (card.get(field) for field in fields)
    return next((v for v in values if isinstance(v, str) and v and not is_local_path(v)), "")


def _words(stated: object) -> Iterator[str]:
    """A word or a list of words; what is neither is left out, and paths of somebody's machine are."""
    for word in stated if isinstance(stated, list) else [stated]:
        if isinstance(word, str) and not is_local_path(word):
            yield word


def _text(value: str) -> GgufValue:
    return GgufValue(Kind.STRING, value)
