"""What every command shares: the global options, settings and facade, output, and how an error is told."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import TyperPath

from citrate.core.errors import NO_ROOM, ChainError, CitrateError, UnavailableError

if TYPE_CHECKING:
    from citrate.core.settings import Settings
    from citrate.facade import Registry
    from citrate.registry.chain import Receipt


INTERRUPTED = 130
"""What a command that the user stopped ends with: 128 + SIGINT, as a shell tells it."""
_JSON = "One JSON document on stdout."
_QUIET = "No talk on stderr."
_NETWORK = "The network, from citrate.toml (default: devnet)."
_HOME = "The folder that holds citrate's state."
_PROGRESS = "Tell progress in lines where stderr is no terminal."
_DEBUG = "Print the traceback of an error."


@dataclass
class State:
    """The global options of this run."""

    json: bool = False
    quiet: bool = False
    progress: bool = False
    debug: bool = False
    told: bool = False
    """Whether the JSON document, or a line of it, is on stdout."""
    on_its_way: str = ""
    """The transaction that had left when the user stopped the command."""
    flags: dict[str, object] = field(default_factory=dict)


_state = State()


def start(arguments: Sequence[str]) -> State:
    """A fresh state. ``--json`` and ``--debug`` are looked for at once, so that a usage error obeys them too."""
    global _state
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    _state = State(json="--json" in own, debug="--debug" in own)
    return _state


def new_app(**options: bool) -> typer.Typer:
    """A command's own Typer: plain help, no completion options."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, **options)  # type: ignore[arg-type]


def with_shared_options(command: TyperCommand | TyperGroup) -> TyperCommand | TyperGroup:
    """Give ``command``, and the commands below it, the global options, so that they may stand anywhere."""
    for param in command.params:
        if isinstance(param.type, TyperPath):
            param.type = _NamedPath()
    command.params.extend(typer.main.get_command(_shared).params)
    for child in getattr(command, "commands", {}).values():
        with_shared_options(child)
    return command


class _NamedPath(TyperPath):
    """A path that is not empty: what a shell makes of a variable that is not set would be the working folder."""

    def convert(self, value, param, ctx):  # type: ignore[no-untyped-def]  # typer vendors click's types
        if not os.fspath(value):
            self.fail("an empty path; the working folder is '.'", param, ctx)
        return super().convert(value, param, ctx)


def _keep(param: typer.CallbackParam, value: object) -> object:
    if value is None or value is False:
        return value
    if param.name in ("network", "home"):
        _state.flags[param.name] = value
    else:
        setattr(_state, str(param.name), True)
    return value


_shared = typer.Typer(add_completion=False)


@_shared.command()
def _shared_options(
    json: Annotated[bool, typer.Option("--json", callback=_keep, expose_value=False, help=_JSON)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", callback=_keep, expose_value=False, help=_QUIET)] = False,
    progress: Annotated[bool, typer.Option("--progress", callback=_keep, expose_value=False, help=_PROGRESS)] = False,
    network: Annotated[
        str | None, typer.Option(callback=_keep, expose_value=False, metavar="NAME", help=_NETWORK)
    ] = None,
    home: Annotated[str | None, typer.Option(callback=_keep, expose_value=False, metavar="DIR", help=_HOME)] = None,
    debug: Annotated[bool, typer.Option("--debug", callback=_keep, expose_value=False, help=_DEBUG)] = False,
) -> None:
    """The template whose options every command gets."""


# ---------------------------------------------------------------- settings and facade


def settings(**flags: object) -> Settings:
    """The settings of this run; ``flags`` are the command's own (``None``: not given)."""
    from citrate.core.settings import Settings

    return Settings.load({**_state.flags, **flags})


def registry(**flags: object) -> Registry:
    """The facade over this run's settings; it asks for a key's password on a terminal."""
    from citrate.facade import Registry

    _talk_of_waiting()
    return Registry(settings(**flags), ask_password=_ask_password if on_terminal() else None, notify=talk)


def _talk_of_waiting() -> None:
    """Say it where a source is waited for, or another process."""
    import logging

    class Talk(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            talk(record.getMessage())

    for name in ("citrate.sources", "citrate.store"):
        log = logging.getLogger(name)
        if not log.handlers:
            log.addHandler(Talk())
            log.setLevel(logging.INFO)


def on_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Ask on the terminal; no is the default."""
    return typer.confirm(question, default=False, err=True)


def _ask_password(question: str, confirm: bool) -> str:
    return str(typer.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True))


# ---------------------------------------------------------------- output


def emit(document: Mapping[str, object], human: Callable[[], None]) -> None:
    """Print the result: one JSON document, or what ``human`` prints."""
    if _state.json:
        print(_json(document, indent=2))  # noqa: T201
        _state.told = True
    else:
        human()
    sys.stdout.flush()


def _json(
    document: Mapping[str, object], indent: int | None = None, default: Callable[[object], str] | None = None
) -> str:
    """JSON as people read it; in ASCII where a text holds half a character, which UTF-8 cannot say."""
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=default)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent, default=default)
    return text


def receipt_document(receipt: Receipt | None) -> dict[str, object]:
    """How a document tells of its transaction: hash (null: none was sent), and whether an earlier command sent it."""
    return {"tx_hash": receipt and receipt.tx_hash, "taken_up": bool(receipt and receipt.taken_up)}


def change_document(receipt: Receipt | None) -> dict[str, object]:
    """The same of a change, which may stand already."""
    return {"status": "changed" if receipt else "unchanged", **receipt_document(receipt)}


def emit_line(document: Mapping[str, object]) -> None:
    """One line of JSON at once, for the commands that go on: the document of a gateway, the events of a mirror."""
    print(json.dumps(document), flush=True)  # noqa: T201
    _state.told = True


def say(text: str = "") -> None:
    """A line of data on stdout. Control characters are shown, never sent to the terminal."""
    print(printable(text))  # noqa: T201


def talk(text: str) -> None:
    """A line of talk on stderr."""
    if not _state.quiet:
        sys.stdout.flush()  # on a terminal the two streams keep their order
        print(printable(text), file=sys.stderr)  # noqa: T201


def stream(text: str) -> None:
    """A piece of generated text on stdout, at once; nothing with ``--json``."""
    if not _state.json:
        sys.stdout.write(printable(text, keep="\n\t"))
        sys.stdout.flush()


def wants_json() -> bool:
    """Whether this run prints JSON."""
    return _state.json


def wants_bars() -> bool:
    """Whether bars may be drawn: on a terminal only, and not when asked to be quiet."""
    return sys.stderr.isatty() and not _state.quiet


def wants_progress_lines() -> bool:
    """Whether progress is told in lines: where it was asked for, and no bar can be drawn."""
    return _state.progress and not sys.stderr.isatty() and not _state.quiet


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Aligned columns on stdout, the last one unpadded."""
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not lines:
        return
    widths = [max(len(printable(line[i])) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [printable(cell).ljust(width) for cell, width in zip(line[:-1], widths, strict=False)]
        print("  ".join([*cells, printable(line[-1])]).rstrip())  # noqa: T201


def printable(text: str, keep: str = "") -> str:
    """The text with its control characters shown instead of sent."""
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


# ---------------------------------------------------------------- errors


def fail(state: State, error: CitrateError) -> NoReturn:
    """Tell an error that citrate raised on purpose: one line, the next command, its exit code."""
    if state.debug:
        raise error
    _end(state, type(error).__name__, error, error.exit_code)


def fail_unexpected(state: State, error: Exception) -> NoReturn:
    """Usage errors (exit 2), the operating system's refusals, and faults of ours (exit 1, with the way to report)."""
    exit_code = getattr(error, "exit_code", None)
    formatted = getattr(error, "format_message", None)
    if type(error).__name__ == "NoArgsIsHelpError" and formatted is not None and not state.json:
        print("\n".join(map(printable, str(formatted()).splitlines())), file=sys.stderr)  # noqa: T201
        sys.exit(exit_code)
    if exit_code is not None and formatted is not None:  # click's own errors, which typer vendors
        usage = getattr(getattr(error, "ctx", None), "command_path", "citrate")
        failure = CitrateError(str(formatted()), hint=f"{usage} --help")
        kind = "UsageError"
    elif isinstance(error, OSError):
        full = error.errno in NO_ROOM
        hint = "free some space, or write it elsewhere" if full else "check that path and its permissions"
        failure = CitrateError(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), hint=hint)
        kind, exit_code = type(error).__name__, UnavailableError.exit_code if full else 1
    else:
        failure = CitrateError(f"a fault in citrate: {type(error).__name__}: {error}", hint="run again with --debug")
        kind, exit_code = "InternalError", 1
    if state.debug:
        raise error
    _end(state, kind, failure, int(exit_code))


def stopped_while_sending(tx_hash: str) -> None:
    """Remember what `interrupted` has to name: typer makes a mere exit code of the interrupt itself."""
    _state.on_its_way = tx_hash


def interrupted(state: State) -> NoReturn:
    """Tell that the user stopped the command, unless its document is out already (a gateway's, say)."""
    if state.on_its_way:
        left = ChainError(
            f"interrupted while {state.on_its_way} was on its way",
            hint="it may still get into a block; run the command again: it takes it up",
            tx_hash=state.on_its_way,
        )
        _end(state, "Interrupted", left, INTERRUPTED)
    if not state.json or state.told:
        talk("interrupted")
        sys.exit(INTERRUPTED)
    again = CitrateError("interrupted", hint="run it again: what is stored is used again")
    _end(state, "Interrupted", again, INTERRUPTED)


def _end(state: State, kind: str, error: CitrateError, exit_code: int) -> NoReturn:
    if state.json:
        body = {"type": kind, "message": error.message, "hint": error.hint, "details": {**error.done, **error.details}}
        _last_words({"error": body})
    else:
        print(f"error: {printable(error.message)}", file=sys.stderr)  # noqa: T201
        print(f"hint:  {printable(error.hint)}", file=sys.stderr)  # noqa: T201
    with suppress(OSError):
        sys.stdout.flush()
    sys.exit(exit_code)


def _last_words(document: Mapping[str, object]) -> None:
    """Print an error's JSON; stdout itself may be what failed."""
    with suppress(OSError):
        print(_json(document, default=str), flush=True)  # noqa: T201
