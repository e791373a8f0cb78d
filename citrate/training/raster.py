"""A drawing as PNG: dots, zlib and three chunks (https://www.w3.org/TR/png-3/).

Two dots a pixel each way, no smoothing. Letters are of five by seven dots, capitals only; a character that is none of
these is a box.
"""

from __future__ import annotations

import math
import struct
import zlib

from citrate.training.plot import SPIKE, SPIKE_RADIUS_PX, Drawing, Label, Line

_SCALE = 2
_ROWS, _COLUMNS = 7, 5
_INK = "#000000"
_BOX = "vhhhhhv"
_FONT = {
    " ": "0000000", ".": "00000cc", "-": "000e000", "+": "044v440", "/": "01248g0", ":": "0cc0cc0", "@": "eh1dlle",
    "_": "000000v", "#": "aavavaa", "0": "ehjlphe", "1": "4c4444e", "2": "eh1248v", "3": "v2421he", "4": "26aiv22",
    "5": "vgu11he", "6": "68guhhe", "7": "v124888", "8": "ehhehhe", "9": "ehhf12c", "A": "ehhvhhh", "B": "uhhuhhu",
    "C": "ehggghe", "D": "sihhhis", "E": "vgguggv", "F": "vgguggg", "G": "ehgnhhf", "H": "hhhvhhh", "I": "e44444e",
    "J": "72222ic", "K": "hikokih", "L": "ggggggv", "M": "hrllhhh", "N": "hhpljhh", "O": "ehhhhhe", "P": "uhhuggg",
    "Q": "ehhhlid", "R": "uhhukih", "S": "fgge11u", "T": "v444444", "U": "hhhhhhe", "V": "hhhhha4", "W": "hhhllla",
    "X": "hha4ahh", "Y": "hhha444", "Z": "v1248gv",
}  # fmt: skip
"""A row of dots each, top down, as a digit of base 32 whose highest bit is the leftmost dot."""


def png(drawing: Drawing) -> bytes:
    """The drawing as a PNG file; equal drawings give equal bytes."""
    dots = _Dots(drawing.width * _SCALE, drawing.height * _SCALE)
    for shape in drawing.shapes:
        if isinstance(shape, Line):
            for (x1, y1), (x2, y2) in zip(shape.points, shape.points[1:], strict=False):
                dots.stroke((x1 * _SCALE, y1 * _SCALE), (x2 * _SCALE, y2 * _SCALE), shape.width * _SCALE, shape.colour)
        elif isinstance(shape, Label):
            _write(dots, shape)
        else:
            dots.disc(shape.x * _SCALE, shape.y * _SCALE, SPIKE_RADIUS_PX * _SCALE, SPIKE)
    return dots.encode()


class _Dots:
    """A white page of dots."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._bytes = bytearray(b"\xff" * (width * height * 3))

    def disc(self, x: float, y: float, radius: float, colour: str) -> None:
        """Fill the dots whose middle is within ``radius`` of a place."""
        for row in range(int(y - radius), int(y + radius) + 1):
            half = math.sqrt(max(0.0, radius**2 - (row + 0.5 - y) ** 2))
            self._fill(row, math.ceil(x - half - 0.5), math.floor(x + half - 0.5) + 1, colour)

    def stroke(self, begin: tuple[float, float], end: tuple[float, float], width: float, colour: str) -> None:
        """A line as discs side by side, half a dot apart."""
        across, down = end[0] - begin[0], end[1] - begin[1]
        count = max(1, round(2 * max(abs(across), abs(down))))
        for number in range(count + 1):
            part = number / count
            self.disc(begin[0] + across * part, begin[1] + down * part, max(width / 2, 0.71), colour)

    def square(self, x: int, y: int, size: int, colour: str) -> None:
        """Fill a square from its top left dot."""
        for row in range(y, y + size):
            self._fill(row, x, x + size, colour)

    def _fill(self, row: int, first: int, last: int, colour: str) -> None:
        """Dots of a row; what lies outside the page is left out."""
        first, last = max(first, 0), min(last, self._width)
        if 0 <= row < self._height and first < last:
            at = row * self._width
            self._bytes[(at + first) * 3 : (at + last) * 3] = bytes.fromhex(colour[1:]) * (last - first)

    def encode(self) -> bytes:
        """As PNG: 8 bits a colour, every row unfiltered."""
        length = self._width * 3
        rows = (b"\0" + self._bytes[row * length : (row + 1) * length] for row in range(self._height))
        header = struct.pack(">IIBBBBB", self._width, self._height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _write(dots: _Dots, label: Label) -> None:
    size = max(1, round(label.size * _SCALE / 11))  # dots of a letter's dot: seven of them are a capital of 11 px
    step = (_COLUMNS + 1) * size
    text = label.text.upper()
    left = round(label.x * _SCALE) - (len(text) * step if label.at_end else 0)
    top = round(label.y * _SCALE) - _ROWS * size
    for place, character in enumerate(text):
        for row, digit in enumerate(_FONT.get(character, _BOX)):
            for column in range(_COLUMNS):
                if int(digit, 32) >> (_COLUMNS - 1 - column) & 1:
                    dots.square(left + place * step + column * size, top + row * size, size, _INK)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
