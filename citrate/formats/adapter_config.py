"""adapter_config.json as it is published: what it names is what the weights hold, and nothing in it names code.

PEFT matches an entry of ``target_modules`` with the end of a module's path, and runs a text there as a regular
expression over every module's path. Published are lists only, so that no stranger's expression is run.
Source: PEFT's `check_target_module_exists` and `LoraConfig` (https://huggingface.co/docs/peft).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.formats.configuration import strip_private

CONFIG = "adapter_config.json"
_CODE_KEYS = ("auto_mapping", "megatron_config", "megatron_core")
"""Each names a Python module that PEFT imports."""
_CLASSIFIERS = ("classifier", "score")
"""PEFT names both for every classifier, which has one of them."""
_SAVE_AGAIN = "save the adapter again with PEFT, or make the two agree"


def published(document: Mapping[str, Json], updated: Collection[str], whole: Collection[str]) -> Mapping[str, Json]:
    """The configuration without local paths and code, its sets in a fixed order, and true to the weights.

    Args:
        document: adapter_config.json.
        updated: the paths of the modules that have an update.
        whole: the paths of the modules of which the adapter brings tensors as a whole.

    Raises:
        FormatError: it names modules that the weights do not have, or leaves out one that they have.
    """
    kept = {key: value for key, value in strip_private(document).items() if key not in _CODE_KEYS}
    for key, value in kept.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            kept[key] = sorted(value)  # type: ignore[type-var]  # all are text
    kept["target_modules"] = _targets(document.get("target_modules"), updated)
    kept["modules_to_save"] = _saved(document.get("modules_to_save"), whole)
    return kept


def require_published(found: Mapping[str, Json], expected: Mapping[str, Json]) -> None:
    """Check that a configuration that somebody else published names no code, and the modules as we would.

    Args:
        found: as it came.
        expected: what ``published`` makes of it.

    Raises:
        FormatError: another one; the message says which setting.
    """
    for key in _CODE_KEYS:
        if found.get(key) not in (None, "megatron.core"):
            raise FormatError(f"{CONFIG} names code in {key}", hint="it was not published by citrate: do not load it")
    for key in ("target_modules", "modules_to_save"):
        value = found.get(key)
        named = sorted(map(str, value)) if isinstance(value, list) else value
        if named != expected[key]:
            raise FormatError(
                f"{CONFIG}: {key} is not what the weights hold", hint="it was not published by citrate: do not load it"
            )


def _targets(named: Json, updated: Collection[str]) -> list[Json]:
    """The entries of ``target_modules``, or every module's path where a regular expression stands there."""
    if named is None or isinstance(named, str):
        return [*sorted(updated)]
    entries = _names(named, "target_modules")
    for entry in entries:
        if not any(_matches(path, entry) for path in updated):
            raise FormatError(
                f"{CONFIG}: target_modules names {entry[:80]!r}, of which the weights hold no update", hint=_SAVE_AGAIN
            )
    for path in sorted(updated):
        if not any(_matches(path, entry) for entry in entries):
            raise FormatError(
                f"the weights hold an update of {path}, which target_modules does not name", hint=_SAVE_AGAIN
            )
    return [*entries]


def _saved(named: Json, whole: Collection[str]) -> list[Json] | None:
    """The entries of ``modules_to_save`` of which there are tensors."""
    if named is None:
        return None
    entries = _names(named, "modules_to_save")
    there = [entry for entry in entries if any(entry in path.split(".") for path in whole)]
    for entry in entries:
        if entry not in there and not (entry in _CLASSIFIERS and set(_CLASSIFIERS) & set(there)):
            raise FormatError(
                f"{CONFIG}: modules_to_save names {entry[:80]!r}, of which the weights hold nothing", hint=_SAVE_AGAIN
            )
    return [*there]


def _matches(path: str, entry: str) -> bool:
    return path == entry or path.endswith(f".{entry}")


def _names(value: Json, key: str) -> list[str]:
    names = [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []
    if not isinstance(value, list) or len(names) != len(value):
        raise FormatError(f"{CONFIG}: {key} is no list of names", hint=_SAVE_AGAIN)
    return sorted(set(names))
