"""`citrate pull`: fetch and verify."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.cli.sizes import human_size

app = context.new_app()


@app.command()
def pull(
    ref: Annotated[str, typer.Argument(metavar="REF", help="publisher/name[@version|:alias][#variant]")],
    out: Annotated[Path | None, typer.Option(help="Copy the verified files into this folder.")] = None,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    offline: Annotated[bool | None, typer.Option("--offline", help="Use what this machine has.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
    include: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Only these files, into --out.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="All but these, into --out.")] = None,
    max_rate: Annotated[str | None, typer.Option(metavar="RATE", help="Bytes a second: 20MB. [max_rate]")] = None,
) -> None:
    """Fetch a variant and verify every byte against the chain; the last line is the path.

    All sources are asked at once. What the store has, of whatever version, is not fetched again.

    Example: citrate pull 0xf39F.../tiny-llama#gguf:Q4_K_M --from http://127.0.0.1:8480
    """
    started = time.monotonic()
    with progress.bars() as on_progress:
        pulled = context.registry(offline=offline, max_rate=max_rate).pull(
            ref, out=out, gateways=from_ or (), allow=arguments.allowed(allow), progress=on_progress,
            include=include or (), exclude=exclude or (),
        )  # fmt: skip
    seconds = time.monotonic() - started
    record = pulled.variant
    document: dict[str, object] = {
        "path": str(pulled.path),
        "variant": str(record.variant),
        "cid": record.cid,
        "sha256": record.sha256,
        "size_bytes": record.size_bytes,
        "source": pulled.source,
        "seconds": round(seconds, 3),
        "fetched_bytes": pulled.fetched_bytes,
        "dropped": list(pulled.dropped),
    }
    if pulled.files:
        document["files"] = [
            {"path": file.path, "cid": file.cid, "sha256": file.sha256, "size_bytes": file.size_bytes}
            for file in pulled.files
        ]

    def human() -> None:
        for name in pulled.dropped:
            context.talk(f"{name} gave wrong bytes and was left")
        size = human_size(sum(file.size_bytes for file in pulled.files) or record.size_bytes)
        context.talk(f"{record.variant}, {size}, verified, from {pulled.source} in {seconds:.1f} s")
        context.say(str(pulled.path))

    context.emit(document, human)
