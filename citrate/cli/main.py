"""The `citrate` command: a table of commands, loaded one at a time, and the one error boundary.

`citrate --help` must not pay for what a command needs, so a command's module is imported when it is called; the
table holds the one line that the overview prints. stdout is data, stderr is talk.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Protocol

import typer
from typer.core import TyperCommand, TyperGroup

import citrate
from citrate.cli import context
from citrate.cli.stopping import Stopping
from citrate.core.errors import CitrateError, InterruptedSendingError

COMMANDS = {
    "doctor": ("doctor", "what is installed, reachable, missing, and the command that mends each"),
    "devnet": ("devnet", "the local chain: up, status, down, reset, fund"),
    "key": ("key", "encrypted keystores: new, import, list, use"),
    "config": ("config", "every setting and where it came from"),
    "register-model": ("register_model", "convert, check, store and record a model in one transaction"),
    "add-variant": ("add_variant", "more variants for a version that stands"),
    "alias": ("alias", "move an alias; its history"),
    "deprecate": ("deprecate", "mark a version as superseded; never delete"),
    "transfer": ("transfer", "hand a model over, in two steps"),
    "register-lora": ("register_lora", "check, store and record a LoRA adapter in one transaction"),
    "lora": ("lora", "adapters: list, accept, allow; record what a version was merged from"),
    "merge": ("merge", "adapters into their base, or models into one"),
    "dataset": ("dataset", "training data: add, show"),
    "suite": ("suite", "adapters of one base as one record, and what shows where: add, show, check"),
    "train": ("train", "fine-tune a base by a recipe, every step committed to"),
    "verify-training": ("verify_training", "replay parts of a training run, and grade them"),
    "ledger": ("ledger", "training runs: announce, commit, draw, attest, show, list"),
    "access": ("access", "what a model costs, buying it, and what sellers are owed"),
    "report": ("report", "report a model that should not be used, with evidence and a bond"),
    "vote": ("vote", "decide a reported case, by stake"),
    "stake": ("stake", "the stake that votes: add, withdraw, show"),
    "case": ("case", "the reported cases: show, list, close, lift, withdraw"),
    "list": ("list", "what the registry holds"),
    "search": ("search", "find models by text"),
    "show": ("show", "one model: versions, aliases, licence, price, lineage, variants"),
    "resolve": ("resolve", "the chain's record of a version; nothing is downloaded"),
    "select": ("select", "the variant for a device and task, and why"),
    "pull": ("pull", "fetch and verify; the last line is the path"),
    "verify": ("verify", "re-hash files against the chain's record"),
    "verify-conversion": ("verify_conversion", "make a variant again from its source and compare"),
    "run": ("run", "generate text with a verified model"),
    "compare": ("compare", "how much two models differ on your texts"),
    "add": ("add", "content-address a file or folder into the store"),
    "cat": ("cat", "print a file of the store, verified"),
    "store": ("store", "the embedded store: ls, verify, where, export, pin, gc"),
    "push": ("push", "copy a version to Kubo or a pinning service"),
    "gateway": ("gateway", "serve the embedded store as a trustless IPFS gateway"),
    "convert": ("convert", "one conversion, checked"),
    "inspect": ("inspect", "what a model is; nothing is executed"),
    "sync": ("sync", "a validator's mirror: follow the chain, fetch, verify, pin"),
    "audit": ("audit", "prove that the node told every change of the contracts"),
    "deploy-contracts": ("deploy_contracts", "put the contracts on a chain"),
    "verify-contracts": ("verify_contracts", "recompile the contracts and compare them with the chain's"),
}


class Formatter(Protocol):
    """What is used of click's HelpFormatter."""

    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class _ReaderLeftError(Exception):
    """Whoever read our output closed it, as ``head`` does: the command has nothing more to do."""


class _Commands(TyperGroup):
    """The top level: lists from the table, imports on use. Typer vendors click, whose types have no public name."""

    def list_commands(self, _ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"citrate.cli.{COMMANDS[cmd_name][0]}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return context.with_shared_options(command)  # type: ignore[arg-type]

    def invoke(self, ctx: object) -> object:
        try:
            code = super().invoke(ctx)  # type: ignore[arg-type]  # see above: no public name
            sys.stdout.flush()
        except InterruptedSendingError as stop:
            context.stopped_while_sending(stop.tx_hash)
            raise
        except BrokenPipeError as error:  # typer would make it exit 1
            raise _ReaderLeftError from error
        return code

    def format_commands(self, _ctx: object, formatter: Formatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


app = typer.Typer(cls=_Commands, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@app.callback(
    invoke_without_command=True,
    epilog="A reference is publisher/name[@version|:alias][#variant]; publisher is an address, a name from "
    "[addresses] in citrate.toml, or 'me'. Start with: citrate register-model DIR --name NAME",
)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """An on-chain model registry with IPFS storage: publish once, fetch anywhere, verify every byte."""
    if version:
        context.say(citrate.__version__)
    elif ctx.invoked_subcommand is None and context.wants_json():
        ctx.fail("no command is given")
    elif ctx.invoked_subcommand is None:
        for line in ctx.get_help().splitlines():
            context.say(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    state = context.start(arguments)
    command = context.with_shared_options(typer.main.get_command(app))  # type: ignore[arg-type]
    stopping = Stopping()
    try:
        with stopping:
            # what a command ends with by `typer.Exit(code)` comes back as the call's value
            code = command(list(arguments), prog_name="citrate", standalone_mode=False)
        sys.exit(code)
    except CitrateError as error:
        context.fail(state, error)
    except (KeyboardInterrupt, typer.Abort):
        try:
            context.interrupted(state)
        finally:
            stopping.pass_on()
    except _ReaderLeftError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered must not fail once more at the exit
        sys.exit(141)
    except Exception as error:  # noqa: BLE001  # the boundary: usage errors and faults end here, once
        context.fail_unexpected(state, error)


if __name__ == "__main__":
    main()
