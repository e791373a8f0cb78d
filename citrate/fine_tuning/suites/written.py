"""A suite as its author writes it: YAML, with base and adapters named by where they are."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from citrate.core import faults
from citrate.core.errors import ConfigError, NotFoundError
from citrate.fine_tuning.suites.parts import (
    ADAPTERS_MAX,
    AdapterName,
    Generation,
    Limits,
    Part,
    Prompts,
    Scale,
)
from citrate.training import yaml_once

FILE_MAX_BYTES = 1 << 20
_HINT = "every field is described in docs/training.md; an example is in examples/suites"

Place = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class WrittenAdapter(Prompts):
    """An adapter and its prompts."""

    adapter: Place
    """A reference, or a folder (relative to the file)."""
    scale: Scale = Decimal(1)
    """By how much of what it was trained for it is added."""


class Written(Part):
    """A suite's file. See docs/training.md for examples."""

    schema_: Literal["citrate.adapter-suite/v1"] = Field(alias="schema")
    base: Place
    """What the adapters are put on: a reference, or a file or folder (relative to the file)."""
    adapters: Annotated[dict[AdapterName, WrittenAdapter], Field(min_length=1, max_length=ADAPTERS_MAX)]
    """The adapters by the names that the suite gives them."""
    generation: Generation = Generation()
    limits: Limits = Limits()

    def document(self) -> dict[str, object]:
        """As JSON."""
        return self.model_dump(mode="json", by_alias=True)


def load(path: Path) -> Written:
    """Read a suite's file.

    Raises:
        NotFoundError: no such file.
        ConfigError: not YAML, a name that stands twice (with its line), or a field that is unknown, missing or wrong
            (with its place).
    """
    if not path.is_file():
        raise NotFoundError(f"no such suite: {path}", hint="an example is in examples/suites")
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    if len(data) > FILE_MAX_BYTES:
        raise ConfigError(f"{path.name} has more than {FILE_MAX_BYTES >> 20} MiB", hint="make two suites of it")
    try:
        document = yaml_once.load(data)
    except yaml_once.NotYamlError as error:
        raise ConfigError(f"{path.name} {error}", hint=_HINT) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name} is not a suite: a mapping of fields is wanted", hint=_HINT)
    try:
        return Written.model_validate(document)
    except ValidationError as error:
        fault = faults.first(error, Written)
        raise ConfigError(f"{path.name}: {fault.message}", hint=fault.hint or _HINT) from error
