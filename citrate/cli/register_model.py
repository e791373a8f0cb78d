"""`citrate register-model`: a model directory becomes a version on chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress, published
from citrate.core import amounts
from citrate.core.records import PROFILE

app = context.new_app()


@app.command()
def register_model(
    source: Annotated[Path, typer.Argument(help="A model directory, as `hf download --local-dir` leaves it.")],
    name: Annotated[str, typer.Option(help="The model's name: a-z 0-9 . _ -, at most 64.")],
    version: Annotated[str, typer.Option(help="The version's name.")] = "1.0.0",
    license_: Annotated[str | None, typer.Option("--license", help="SPDX id; default: the model's card.")] = None,
    variants: Annotated[str | None, typer.Option(help="Comma-separated, such as safetensors,gguf:Q4_K_M.")] = None,
    alias: Annotated[str, typer.Option(help="Let this alias name the new version.")] = "",
    price: Annotated[str, typer.Option(help="Such as 0.01ether; 0 is free.")] = "0",
    checks: Annotated[str | None, typer.Option(help="full or tensors; default: by the model's size.")] = None,
    profile: Annotated[str, typer.Option(help=arguments.PROFILE_HELP)] = PROFILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Convert and tell; send nothing, start nothing.")] = False,
) -> None:
    """Convert a model to its variants, check them, store them, and record all in one transaction.

    Example: citrate register-model ./tiny-llama --name tiny-llama --version 1.0.0
    """
    with progress.bars() as on_progress:
        result = context.registry().register_model(
            source,
            name=name,
            version=version,
            licence=license_,
            variants=arguments.variants(variants),
            alias=alias,
            price_wei=amounts.parse(price),
            checks=arguments.check_level(checks),
            profile=profile,
            dry_run=dry_run,
            progress=on_progress,
        )
    published.show(result)
