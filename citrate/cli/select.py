"""`citrate select`: the variant for a device and task, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import arguments, context
from citrate.cli.sizes import human_size

app = context.new_app()


@app.command()
def select(
    ref: Annotated[str, typer.Argument(metavar="REF", help="The version.")],
    device: Annotated[
        str | None, typer.Option(help="cpu, apple_silicon, nvidia, amd or intel; default: this one.")
    ] = None,
    arch: Annotated[str, typer.Option(help="Such as sm90.")] = "",
    memory_gb: Annotated[float | None, typer.Option(help="Memory the model may use.")] = None,
    task: Annotated[str, typer.Option(help="inference or training.")] = "inference",
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to ask.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
) -> None:
    """Choose the variant of a version for a device and a task, and say why, and why not the others.

    Example: citrate select me/tiny-llama --device nvidia --arch sm90 --memory-gb 80
    """
    choice = context.registry().select(
        ref,
        device=device,
        arch=arch,
        memory_gb=memory_gb,
        task=arguments.task(task),
        gateways=from_ or (),
        allow=arguments.allowed(allow),
    )
    machine = choice.device
    document: dict[str, object] = {
        "variant": str(choice.variant),
        "reason": choice.reason,
        "device": {
            "kind": str(machine.kind),
            "arch": machine.arch or None,
            "memory_bytes": machine.memory_bytes,
            "name": machine.name,
        },
        "rejected": [{"variant": str(variant), "reason": reason} for variant, reason in choice.rejected.items()],
    }

    def human() -> None:
        arch_text = f" {machine.arch}" if machine.arch else ""
        context.say(f"device    {machine.kind}{arch_text}, {human_size(machine.memory_bytes)}")
        context.say(f"why       {choice.reason}")
        for variant, reason in choice.rejected.items():
            context.say(f"not       {variant}: {reason}")
        context.say(str(choice.variant))

    context.emit(document, human)
