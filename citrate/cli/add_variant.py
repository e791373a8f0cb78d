"""`citrate add-variant`: more variants for a version that stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress, published
from citrate.core.errors import ConfigError
from citrate.core.records import PROFILE

app = context.new_app()


@app.command()
def add_variant(
    ref: Annotated[str, typer.Argument(metavar="REF", help="The version.")],
    variants: Annotated[str, typer.Option(help="Comma-separated, such as gguf:F16.")],
    source: Annotated[Path | None, typer.Option(help="The model directory; default: the safetensors variant.")] = None,
    checks: Annotated[str | None, typer.Option(help="full or tensors; default: by the model's size.")] = None,
    profile: Annotated[str, typer.Option(help=arguments.PROFILE_HELP)] = PROFILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Convert and tell; send nothing.")] = False,
    allow: Annotated[str | None, typer.Option(help="quarantined")] = None,
) -> None:
    """Convert more variants for a version and record them; those that stand are never changed.

    Example: citrate add-variant me/tiny-llama@1.0.0 --variants gguf:F16
    """
    wanted = arguments.variants(variants)
    if wanted is None:
        raise ConfigError("--variants is empty", hint="citrate add-variant --help")
    with progress.bars() as on_progress:
        result = context.registry().add_variants(
            ref,
            wanted,
            source=source,
            checks=arguments.check_level(checks),
            profile=profile,
            dry_run=dry_run,
            allow=arguments.allowed(allow),
            progress=on_progress,
        )
    published.show(result)
