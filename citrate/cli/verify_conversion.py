"""`citrate verify-conversion`: make a variant again and compare it with what is published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress

if TYPE_CHECKING:
    from citrate.registry.manifest import VariantEntry

app = context.new_app()


@app.command()
def verify_conversion(
    ref: Annotated[str, typer.Argument(metavar="REF#VARIANT", help="The variant, such as me/tiny-llama#gguf:Q4_K_M.")],
    source: Annotated[
        Path | None, typer.Option(help="The directory it was made from; default: the version's safetensors variant.")
    ] = None,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
) -> None:
    """Convert a published variant again and compare every file's SHA-256. Exit 3 if one differs.

    Example: citrate verify-conversion me/tiny-llama@1.0.0#gguf:Q4_K_M
    """
    with progress.bars() as on_progress:
        made = context.registry().verify_conversion(
            ref,
            source=source,
            gateways=from_ or (),
            allow=arguments.allowed(allow),
            progress=on_progress,
            begin=_tell_version,
        )
    document: dict[str, object] = {
        "ref": f"{made.ref}#{made.variant}",
        "ok": made.ok,
        "source": made.source,
        "source_sha256": made.recorded_source_sha256,
        "converter": {"name": made.converter, "recorded": made.recorded_version, "installed": made.installed_version},
        "files": [
            {"path": f.path, "ok": f.ok, "expected": f.expected or None, "actual": f.actual or None} for f in made.files
        ],
    }

    def human() -> None:
        for file in made.files:
            context.say(f"{'ok ' if file.ok else 'BAD'}  {file.path}")
            if not file.ok:
                context.say(f"     published {file.expected or 'no such file'}")
                context.say(f"     made      {file.actual or 'no such file'}")
        context.say("ok" if made.ok else "NOT what this source is converted to")

    context.emit(document, human)
    if not made.ok:
        raise typer.Exit(3)


def _tell_version(entry: VariantEntry, installed: str) -> None:
    recorded = entry.converter.version
    if recorded != installed:
        context.talk(
            f"warning: it was made by {entry.converter.name} {recorded}, this is {installed}: "
            "other bytes may come of that alone"
        )
