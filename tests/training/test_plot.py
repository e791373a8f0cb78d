"""A run's curves as SVG and PNG: one drawing, two forms."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from citrate.cli import health as told
from citrate.core.errors import ConfigError, StoreError
from citrate.training.health import Health, summarise
from citrate.training.plot import Drawing, Label, Line, Mark, drawing
from citrate.training.raster import png
from tests.training.test_health import RECIPE, falling, log

RED, BLACK, WHITE = (0xD6, 0x27, 0x28), (0, 0, 0), (255, 255, 255)


def went() -> Health:
    losses = falling(300)
    losses[100] = 9.0
    return summarise(log(losses, rewards=losses), RECIPE, None)


class Pixels:
    """A PNG, read by the letter of its standard: signature, three chunks with their sums, rows without a filter."""

    def __init__(self, data: bytes) -> None:
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        at, chunks = 8, dict[bytes, bytes]()
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
            assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + body),)
            chunks[kind], at = body, at + 12 + length
        assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
        self.width, self.height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        assert form == [8, 2, 0, 0, 0]
        raw, length = zlib.decompress(chunks[b"IDAT"]), self.width * 3 + 1
        assert len(raw) == self.height * length
        self.rows = [raw[row * length : (row + 1) * length] for row in range(self.height)]
        assert {row[0] for row in self.rows} == {0}

    def at(self, x: int, y: int) -> tuple[int, ...]:
        return tuple(self.rows[y][1 + x * 3 : 4 + x * 3])

    def inked(self, x: range, y: range) -> list[str]:
        """A part of the page, a text a row: ``#`` where it is black."""
        return ["".join("#" if self.at(column, row) == BLACK else "." for column in x) for row in y]


def test_a_png_shows_what_the_svg_shows() -> None:
    found = drawing(went(), "polite")
    data = png(found)
    assert data == png(drawing(went(), "polite")), "equal runs give equal bytes"
    pixels = Pixels(data)
    assert (pixels.width, pixels.height) == (2 * found.width, 2 * found.height)
    marks = [shape for shape in found.shapes if isinstance(shape, Mark)]
    assert len(marks) == 1 and marks[0].step == 101
    assert pixels.at(round(2 * marks[0].x), round(2 * marks[0].y)) == RED
    for line in (shape for shape in found.shapes if isinstance(shape, Line)):
        colour = tuple(bytes.fromhex(line.colour[1:]))
        seen = [pixels.at(min(round(2 * x), pixels.width - 1), round(2 * y)) for x, y in line.points]
        assert sum(each == colour for each in seen) >= len(seen) / 2, "but for what is drawn over it"
    assert pixels.at(pixels.width - 1, pixels.height - 1) == WHITE


def test_letters_are_where_they_belong() -> None:
    page = Drawing(40, 20, (Label(2, 10, "l1"), Label(38, 10, "T", at_end=True), Label(0, 19, "\u00e9")))
    pixels = Pixels(png(page))
    assert pixels.inked(range(4, 14, 2), range(6, 20, 2)) == ["#...."] * 6 + ["#####"], "an L, two dots a dot"
    assert pixels.inked(range(16, 26, 2), range(6, 20, 2))[0] == "..#.."
    assert pixels.inked(range(64, 74, 2), range(6, 20, 2)) == ["#####", *["..#.."] * 6]
    assert pixels.inked(range(0, 10, 2), range(24, 38, 2)) == ["#####", *["#...#"] * 5, "#####"], "no letter of ours"


def test_what_lies_outside_the_page_is_left_out() -> None:
    page = Drawing(4, 4, (Line(((-50.0, 2.0), (50.0, 2.0)), "#000000", 1), Mark(6, 5, 1), Label(-9, 50, "W")))
    pixels = Pixels(png(page))
    assert [pixels.at(x, 4) for x in range(3)] == [BLACK] * 3 and pixels.at(0, 0) == WHITE


@pytest.mark.parametrize("name", ["curves.png", "CURVES.PNG", "curves.svg"])
def test_the_name_says_which_form_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    told.require_drawable(path)
    told.draw(went(), "polite", path)
    assert path.read_bytes().startswith(b"<svg " if name.endswith("svg") else b"\x89PNG")


def test_what_cannot_be_drawn_is_told_beforehand(tmp_path: Path) -> None:
    told.require_drawable(None)
    with pytest.raises(ConfigError, match="neither SVG nor PNG"):
        told.require_drawable(tmp_path / "x.pdf")
    with pytest.raises(ConfigError, match="no such folder"):
        told.require_drawable(tmp_path / "no" / "x.png")
    with pytest.raises(StoreError, match="cannot write"):
        told.draw(went(), "polite", tmp_path)
