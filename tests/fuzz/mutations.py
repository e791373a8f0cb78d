"""Damage inputs as an attacker or a bad disk would: bytes anywhere, and values of JSON documents."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable

_ODD_INTEGERS = (0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**53 + 1, 2**63 - 1, 2**64 - 1, 10**400)
_ODD_VALUES: tuple[object, ...] = (
    *_ODD_INTEGERS, None, True, False, "", "a" * 5000, "../../etc/passwd", "/etc/passwd", "\x00", "\ud800", "\u202e",
    1e308, -1e308, 1e-320, [], {}, [[]], {"a": {}}, [None] * 50, "1" * 5000, "{{ 1 }}", "é\u0301",
)  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` after one to eight small damages."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        rng.choice(_DAMAGES)(raw, rng)
    return bytes(raw)


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON document with one to four values replaced, moved, removed or repeated; at times its bytes are damaged."""
    if rng.random() < 0.25:
        return mutated(data, rng)
    document = json.loads(data)
    for _ in range(rng.randint(1, 4)):
        _change(document, rng)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def mutated_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header is damaged as JSON, with the right length in front; at times just its bytes."""
    if rng.random() < 0.3:
        return mutated(data, rng)
    (length,) = struct.unpack("<Q", data[:8])
    header = mutated_json(data[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


_FRAGMENTS = (
    """
{{ messages[0].content }} ~~ {{ messages }} ~~ {{ bos_token * 9 }} ~~ {% if messages %} ~~ {% endif %} ~~
{% else %} ~~ {% for m in messages %} ~~ {% for i in range(9) %} ~~ {% endfor %} ~~ {% break %} ~~
{% continue %} ~~ {% set x = x ~ x %} ~~ {% macro f(a, b=1) %} ~~ {% endmacro %} ~~ {{ f(f) }} ~~ {{ f(1) }} ~~
{% call f(1) %} ~~ {% endcall %} ~~ {% filter upper %} ~~ {% endfilter %} ~~ {{ self }} ~~ {{ self.x() }} ~~
{% block x %} ~~ {% endblock %} ~~ {% include 'x' %} ~~ {% extends x %} ~~ {{ x.__class__ }} ~~
{{ x|attr('__init__') }} ~~ {{ namespace(a=1).a }} ~~ {{ cycler(1, 2).next() }} ~~ {{ joiner() }} ~~
{{ lipsum(n=2) }} ~~ {{ '%d' % 'x' }} ~~ {{ '%s' % (1,) }} ~~ {{ '{0.a}'.format(1) }} ~~ {{ [1, 2][9] }} ~~
{{ 1 // 0 }} ~~ {{ 2 ** 99 }} ~~ {{ 'a' * -1 }} ~~ {{ none.a.b }} ~~ {{ raise_exception('x') }} ~~
{{ strftime_now('%Y') }} ~~ {# c #} ~~ {{ messages|tojson(indent=2) }} ~~
{{ messages|map(attribute='role')|list }} ~~ {{ x|default('y', true) }} ~~ {% raw %} ~~
{{ range(5)|batch(2)|list }} ~~ {{ 'a b'|wordwrap(0) }} ~~ {{ [3, 'a']|sort }} ~~ {{ {1: 2}|dictsort }} ~~
{{ 'x'|int }} ~~ {{ x is defined }} ~~ {{ 1 if }} ~~ {{ ~~ %} ~~ {% set a, b = 1 %} ~~ {% set x %} ~~
{% endset %} ~~ {{ x[::0] }}
""".strip()
    .replace("~~\n", "~~ ")
    .split(" ~~ ")
)


def mutated_template(data: bytes, rng: random.Random) -> bytes:
    """A chat template with pieces of other templates in it, or made of nothing else."""
    if rng.random() < 0.2:
        return mutated(data, rng)
    text = data.decode() if rng.random() < 0.5 else ""
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(_FRAGMENTS) + text[at:]
    return text.encode()


def _change(document: object, rng: random.Random) -> None:
    """Go down some way, and change what is there."""
    here = document
    while isinstance(here, dict | list) and here:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = rng.choice(keys)
        below = here[key]
        if isinstance(below, dict | list) and below and rng.random() < 0.8:
            here = below
            continue
        how = rng.random()
        if how < 0.6:
            here[key] = copy.deepcopy(rng.choice(_ODD_VALUES))
        elif how < 0.75:
            del here[key]
        elif isinstance(here, dict):
            here[rng.choice(["", "\x00", "../x", "weight_map", "type", str(key) * 2])] = copy.deepcopy(below)
        else:
            here.append(copy.deepcopy(below))
        return


def _flip(raw: bytearray, rng: random.Random) -> None:
    if raw:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def _set(raw: bytearray, rng: random.Random) -> None:
    if raw:
        raw[rng.randrange(len(raw))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(raw: bytearray, rng: random.Random) -> None:
    packed = struct.pack(rng.choice(("<Q", ">Q")), rng.choice(_ODD_INTEGERS[:10]) & 0xFFFF_FFFF_FFFF_FFFF)
    width = rng.choice((2, 4, 8))
    at = rng.randrange(max(1, len(raw)))
    raw[at : at + width] = packed[:width] if packed[0] or not packed[-1] else packed[-width:]


def _cut(raw: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(raw) + 1)
    del raw[first : first + rng.choice((1, 4, 8, 64, len(raw)))]


def _repeat(raw: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(raw) + 1)
    piece = raw[first : first + rng.choice((1, 8, 32, 256))]
    raw[first:first] = piece * rng.choice((1, 2, 50))


def _insert(raw: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(raw) + 1)
    raw[first:first] = rng.randbytes(rng.choice((1, 2, 9)))


def _move(raw: bytearray, rng: random.Random) -> None:
    first, to = rng.randrange(len(raw) + 1), rng.randrange(len(raw) + 1)
    piece = raw[first : first + 16]
    raw[to : to + len(piece)] = piece


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _set, _set, _number, _number, _cut, _repeat, _insert, _move
)  # fmt: skip
