"""A dataset: canonical rows, one Merkle root over them, and a card that says what they are.

Written through a ``Sink``, so that the same folder becomes an object of the store:

::

    rows.jsonl      a row a line, canonical JSON
    dataset.json    the card, canonical JSON
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from citrate.core import canonical, faults
from citrate.core.errors import FormatError, IntegrityError, NotFoundError, StoreError
from citrate.core.sink import Progress, Sink
from citrate.formats.licence import LICENCE_MAX, stated_spdx
from citrate.training import merkle
from citrate.training.rows import Method, Row, Shape, canonical_row, shape_of
from citrate.training.teaching import Teaching

ROWS = "rows.jsonl"
CARD = "dataset.json"
ROW_MAX_BYTES = 4 << 20
CARD_MAX_BYTES = 64 << 10
_REPORT_ROWS = 1000
_A_ROW_A_LINE = "a row a line (JSON Lines), not one JSON document"
_CHANGED = "the folder was changed: fetch the dataset by its CID, or make another of its rows by citrate dataset add"
_HINT = "what each method wants of a row: citrate dataset add --help"


class Card(BaseModel):
    """What is known of a dataset. ``root``: the Merkle root (RFC 6962) over its canonical rows, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["citrate.dataset/1"] = Field(alias="schema")
    method: Method
    columns: tuple[str, ...]
    conversational: bool
    rows: Annotated[int, Field(gt=0)]
    root: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    licence: Annotated[str, StringConstraints(min_length=1, max_length=LICENCE_MAX)]

    def to_bytes(self) -> bytes:
        """The card as it is stored."""
        return canonical.dumps(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def parse(cls, data: bytes) -> Card:
        """Read a card.

        Raises:
            FormatError: not canonical JSON, or not a card.
        """
        try:
            return cls.model_validate(canonical.loads(data))
        except ValidationError as error:
            raise FormatError(f"the dataset's card is wrong: {faults.first(error, cls).message}") from error


def write(source: Path, method: Method, licence: str, sink: Sink, progress: Progress | None = None) -> Card:
    """Check the rows of a JSONL file and write the dataset; nothing is kept of it if a row is wrong.

    Args:
        source: JSON Lines, UTF-8; empty lines are passed over.
        method: what the rows are for.
        licence: an SPDX identifier, or a card's name for one; stored as SPDX writes it.
        sink: takes ``rows.jsonl`` and ``dataset.json``.
        progress: called with the stage ``rows`` and bytes read.

    Raises:
        NotFoundError: no such file.
        ConfigError: the licence is none, or too long.
        FormatError: a row is malformed, too long, not what the method wants, or teaches nothing; the message tells its
            line. Or all rows together are not enough.
        StoreError: the file cannot be read, or the sink cannot take it.
    """
    size_bytes, licence = _size(source), stated_spdx(licence)
    tree, shape, teaching = merkle.Growing(), None, Teaching()
    with _opened(source) as file:
        out = sink.open(ROWS)
        for line, row in _rows(file, source.name):
            found = _checked(row, method, source.name, line)
            if shape is None:
                shape, first = found, line
            elif found != shape:
                raise FormatError(
                    f"{source.name}, line {line}: holds {found}, and line {first} {shape}",
                    hint="all rows of a dataset have one shape: split the file",
                )
            with _told_of(source.name, line):
                teaching.see(row)
                data = canonical_row(row)
            tree.add(data)
            out.write(data + b"\n")
            if progress is not None and len(tree) % _REPORT_ROWS == 0:
                progress("rows", file.tell(), size_bytes)
        out.close()
    if shape is None:
        raise FormatError(f"{source.name} has no rows", hint="a row is a line of JSON")
    teaching.require_enough(source.name)
    card = Card(
        schema="citrate.dataset/1",
        method=method,
        columns=shape.columns,
        conversational=shape.conversational,
        rows=len(tree),
        root=tree.root().hex(),
        licence=licence,
    )
    described = sink.open(CARD)
    described.write(card.to_bytes())
    described.close()
    return card


def read(folder: Path) -> Card:
    """Read a dataset and hold its rows against its card.

    Raises:
        NotFoundError: the folder has no dataset.
        FormatError: the card or a row is malformed.
        IntegrityError: the rows are not those of the card.
    """
    path = folder / CARD
    if not path.is_file() or not (folder / ROWS).is_file():
        raise NotFoundError(f"{folder} is not a dataset", hint="make one: citrate dataset add FILE --method sft")
    if path.stat().st_size > CARD_MAX_BYTES:
        raise FormatError(f"{CARD} is larger than {CARD_MAX_BYTES >> 10} KiB")
    card = Card.parse(path.read_bytes())
    tree = merkle.Growing()
    for line, row in rows(folder):
        data = canonical_row(row)
        found = _checked(row, card.method, ROWS, line)
        if found != Shape(card.columns, card.conversational):
            raise IntegrityError(
                f"{ROWS}, line {line} is no row of this dataset",
                path=ROWS, expected=str(Shape(card.columns, card.conversational)), actual=str(found), hint=_CHANGED,
            )  # fmt: skip
        tree.add(data)
    if len(tree) != card.rows:
        raise IntegrityError(
            "the number of rows is not that of the dataset's card",
            path=ROWS,
            expected=str(card.rows),
            actual=str(len(tree)),
            hint=_CHANGED,
        )  # fmt: skip
    if tree.root().hex() != card.root:
        raise IntegrityError(
            "the rows are not those of the dataset's card",
            path=ROWS,
            expected=card.root,
            actual=tree.root().hex(),
            hint=_CHANGED,
        )
    return card


def require_teaching(folder: Path) -> None:
    """Hold the rows of a dataset against what a run learns from them; nobody may have, of a folder made by hand.

    Raises:
        FormatError: a row teaches nothing (the message tells its line), or all together are not enough.
    """
    teaching = Teaching()
    for line, row in rows(folder):
        with _told_of(ROWS, line):
            teaching.see(row)
    teaching.require_enough(ROWS)


def rows(folder: Path) -> Iterator[tuple[int, Row]]:
    """Each row of a dataset with its line, from 1.

    Raises:
        FormatError: a line is no row.
    """
    with _opened(folder / ROWS) as file:
        yield from _rows(file, ROWS)


def _rows(file: BinaryIO, name: str) -> Iterator[tuple[int, Row]]:
    line = 0
    while data := file.readline(ROW_MAX_BYTES + 1):
        line += 1
        if len(data) > ROW_MAX_BYTES:
            raise FormatError(f"{name}, line {line}: longer than {ROW_MAX_BYTES >> 20} MiB", hint=_HINT)
        if data.strip():
            yield line, _parsed(data, name, line)


def _parsed(data: bytes, name: str, line: int) -> Row:
    try:
        row = json.loads(data.decode("utf-8-sig" if line == 1 else "utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}, line {line}: is not UTF-8", hint=_HINT) from error
    except RecursionError as error:
        raise FormatError(f"{name}, line {line}: nested too deeply", hint=_HINT) from error
    except json.JSONDecodeError as error:
        hint = _A_ROW_A_LINE if line == 1 else _HINT
        raise FormatError(f"{name}, line {line}: is no JSON ({error})", hint=hint) from error
    except ValueError as error:
        raise FormatError(f"{name}, line {line}: {error}", hint=_HINT) from error
    if not isinstance(row, dict):
        raise FormatError(f"{name}, line {line}: is no JSON object", hint=_A_ROW_A_LINE if line == 1 else _HINT)
    return row


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key stands twice")
    return row


def _checked(row: Row, method: Method, name: str, line: int) -> Shape:
    with _told_of(name, line):
        return shape_of(row, method)


@contextmanager
def _told_of(name: str, line: int) -> Iterator[None]:
    """Name the line in what is wrong with its row."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{name}, line {line}: {error.message}", hint=_HINT) from error


def _size(source: Path) -> int:
    if not source.exists():
        raise NotFoundError(f"no such file: {source}")
    if not source.is_file():
        raise FormatError(f"{source} is not a file", hint="a dataset is one file of JSON lines")
    return source.stat().st_size


def _opened(source: Path) -> BinaryIO:
    try:
        return source.open("rb", buffering=1 << 20)
    except OSError as error:
        raise StoreError(f"cannot read {source}: {error.strerror}", hint="check its permissions") from error
