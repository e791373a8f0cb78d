"""Read a pickle as data: its opcodes are followed on a stack of symbols, and nothing of it is ever imported or called.

A pickle is a program for a small stack machine (https://docs.python.org/3/library/pickletools.html), whose instructions
``GLOBAL`` and ``REDUCE`` import any name and call it. Here ``GLOBAL`` pushes the name, and ``REDUCE`` of all but a few
known names pushes a mark that says which name would have been called. The known ones rebuild tensors, and what they
yield says where a tensor lies, not what is in it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn, TypeAlias, cast

from citrate.core.errors import FormatError

STEPS_MAX = 500_000
"""A dozen thousand tensors; a second of work."""
_NAME_MAX = 500


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle imports."""

    name: str


@dataclass(frozen=True, slots=True)
class Called:
    """What calling ``name`` would have yielded. Nobody knows, since nobody calls it."""

    name: str


@dataclass(slots=True)
class Table:
    """A dictionary, as pairs in the order of their writing: keys may be anything."""

    pairs: list[tuple[Symbol, Symbol]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Persistent:
    """What lies outside the pickle, by its identification."""

    key: Symbol


Symbol: TypeAlias = Any
"""What lies on the stack: constants, tuples, lists, ``Table``, ``Global``, ``Called``, ``Persistent``, and whatever the
functions given to `run` make of them."""

Rebuild: TypeAlias = Callable[[tuple[Symbol, ...]], Symbol]
"""Makes a symbol of a call's arguments; ValueError if they are not what that name takes."""

_MARK = object()


class Bounded:
    """A file from which no more than ``left`` bytes are taken, whatever lengths it announces."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file = file
        self._left = left
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(min(self._left, 4096) + 1)
        self._take(len(line))
        if len(line) > 4096:
            raise ValueError("a line of more than 4096 bytes")
        return line

    def _take(self, size: int) -> None:
        if not 0 <= size <= self._left:
            raise ValueError(f"something of {size} bytes in it is longer than any checkpoint's")
        self._left -= size


def run(source: Bounded, rebuilds: Mapping[str, Rebuild], globals_: set[str]) -> Symbol:
    """Follow one pickle to its end.

    Args:
        source: where it begins; afterwards it stands behind the pickle.
        rebuilds: the names whose call has a meaning here.
        globals_: gets every name that the pickle imports, called or not.

    Returns:
        The symbol of what the pickle describes.

    Raises:
        FormatError: not a pickle, one that breaks off, or one of more steps than any checkpoint's.
    """
    machine = _Machine(rebuilds, globals_)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(BinaryIO, source))):
            if count > STEPS_MAX:
                raise ValueError(f"more than {STEPS_MAX} steps")
            machine.step(opcode.name, argument)
        return machine.pop()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise FormatError(f"not a readable pickle: {str(error)[:200] or type(error).__name__}") from error


class _Machine:
    """The stack and the memo."""

    def __init__(self, rebuilds: Mapping[str, Rebuild], globals_: set[str]) -> None:
        self._stack: list[Symbol] = []
        self._memo: dict[int, Symbol] = {}
        self._rebuilds = rebuilds
        self._globals = globals_

    def step(self, name: str, argument: Symbol) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the instruction {name} occurs in no checkpoint")

    def pop(self) -> Symbol:
        top = self._stack.pop()
        if top is _MARK:
            raise ValueError("a mark in the wrong place")
        return top

    def pop_to_mark(self) -> list[Symbol]:
        items: list[Symbol] = []
        while (top := self._stack.pop()) is not _MARK:
            items.append(top)
        return items[::-1]

    def push(self, symbol: Symbol) -> None:
        self._stack.append(symbol)

    def top(self) -> Symbol:
        if self._stack[-1] is _MARK:
            raise ValueError("a mark in the wrong place")
        return self._stack[-1]

    def remember(self, key: int) -> None:
        self._memo[key] = self.top()

    def recall(self, key: int) -> None:
        self._stack.append(self._memo[key])

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self.top()

    def name(self, module: Symbol, name: Symbol) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _NAME_MAX:
            raise ValueError("a name that is none")
        full = f"{module}.{name}"
        self._globals.add(full)
        self._stack.append(Global(full))

    def call(self, function: Symbol, arguments: Symbol) -> None:
        if not isinstance(function, Global):
            self._stack.append(Called(function.name if isinstance(function, Called) else "what is no name"))
        elif function.name in self._rebuilds and isinstance(arguments, tuple):
            self._stack.append(self._rebuilds[function.name](arguments))
        else:
            self._stack.append(Called(function.name))

    def build(self) -> None:
        """Set an object's state. An ordered dictionary's attributes are of no use here; anything else is not known."""
        self.pop()
        if not isinstance(self.top(), Table):
            self._stack[-1] = Called("__setstate__")

    def extend(self, items: list[Symbol]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Called):
            raise ValueError("items for what is no list")

    def set_items(self, items: list[Symbol]) -> None:
        target = self.top()
        if isinstance(target, Table):
            target.pairs.extend(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, Called):
            raise ValueError("entries for what is no dictionary")


def _pairs(items: list[Symbol]) -> Table:
    return Table(list(zip(items[::2], items[1::2], strict=True)))


def _last(machine: _Machine, count: int) -> tuple[Symbol, ...]:
    return tuple([machine.pop() for _ in range(count)][::-1])


def _stack_global(machine: _Machine, _argument: Symbol) -> None:
    machine.name(*_last(machine, 2))


def _global(machine: _Machine, argument: Symbol) -> None:
    machine.name(*argument.split(" ", 1))


def _instance(machine: _Machine, argument: Symbol) -> None:
    arguments = tuple(machine.pop_to_mark())
    _global(machine, argument)
    machine.call(machine.pop(), arguments)


def _object(machine: _Machine, _argument: Symbol) -> None:
    function, *arguments = machine.pop_to_mark()
    machine.call(function, tuple(arguments))


def _reduce(machine: _Machine, _argument: Symbol) -> None:
    machine.call(*_last(machine, 2))


def _new_with_keywords(machine: _Machine, _argument: Symbol) -> None:
    function, _, _ = _last(machine, 3)
    machine.call(Called(function.name) if isinstance(function, Global) else function, ())


def _no_buffers(_machine: _Machine, _argument: Symbol) -> NoReturn:
    raise ValueError("buffers outside the pickle occur in no checkpoint")


_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    )
)
_CONSTANTS: Mapping[str, Callable[[], Symbol]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": Table,
    "MARK": lambda: _MARK,
}
_STEPS: Mapping[str, Callable[[_Machine, Symbol], object]] = {
    "POP": lambda machine, _: machine._stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": lambda machine, _: machine.memoize(),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "FROZENSET": lambda machine, _: machine.push(machine.pop_to_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(_last(machine, 1)),
    "TUPLE2": lambda machine, _: machine.push(_last(machine, 2)),
    "TUPLE3": lambda machine, _: machine.push(_last(machine, 3)),
    "DICT": lambda machine, _: machine.push(_pairs(machine.pop_to_mark())),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(list(_last(machine, 2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "INST": _instance,
    "OBJ": _object,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "BUILD": lambda machine, _: machine.build(),
    "PERSID": lambda machine, argument: machine.push(Persistent(argument)),
    "BINPERSID": lambda machine, _: machine.push(Persistent(machine.pop())),
    "NEXT_BUFFER": _no_buffers,
    "READONLY_BUFFER": _no_buffers,
}
