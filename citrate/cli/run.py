"""`citrate run`: generate text with a verified model, in a child process without network."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.core.errors import ConfigError

app = context.new_app()


@app.command()
def run(
    model: Annotated[str, typer.Argument(metavar="REF_OR_PATH", help="A reference, or a model file or folder.")],
    prompt: Annotated[str | None, typer.Argument(help="The prompt; default: stdin.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="At most so many tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="For temperatures above 0.")] = 0,
    adapter: Annotated[
        str | None, typer.Option(metavar="REF_OR_DIR[=SCALE]", help="An adapter that was trained on this model.")
    ] = None,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    offline: Annotated[bool | None, typer.Option("--offline", help="Use what this machine has.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
    no_sandbox: Annotated[bool, typer.Option("--no-sandbox", help="Load the model without the sandbox.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Complete the prompt as it is: no chat template.")] = False,
) -> None:
    """Generate text; it streams to stdout. A reference is pulled and verified first.

    Example: citrate run me/tiny-llama "Tell me a story about a fox." --max-tokens 60
    """
    from citrate.inference.run import GenerationSettings, generate

    text = prompt if prompt is not None else (sys.stdin.read() if not sys.stdin.isatty() else "")
    if not text.strip():
        raise ConfigError("no prompt", hint='citrate run REF "a prompt", or a prompt on stdin')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError("the prompt is not UTF-8", hint="convert it first, for example with iconv") from None
    settings = GenerationSettings(
        max_tokens=max_tokens, temperature=temperature, seed=seed, chat=not raw, sandbox=not no_sandbox
    )
    registry = context.registry(offline=offline)
    with progress.bars() as on_progress:
        found = registry.locate(model, gateways=from_ or (), allow=arguments.allowed(allow), progress=on_progress)
        more = None
        if adapter is not None:
            more = registry.adapter(
                adapter, found, gateways=from_ or (), allow=arguments.allowed(allow), progress=on_progress
            )
    generation = generate(
        found.path,
        found.format,
        text,
        settings,
        adapter=more.applied if more else None,
        on_text=context.stream,
    )
    document: dict[str, object] = {
        "text": generation.text,
        "tokens": generation.tokens,
        "tokens_per_s": round(generation.tokens_per_s, 2),
        "time_to_first_token_s": round(generation.time_to_first_token_s, 3),
        "variant": found.variant or None,
        "adapter": {"name": more.label, "scale": more.applied.scale} if more else None,
    }

    def human() -> None:
        context.say()
        name = f"{found.variant or found.path.name}{f' + {more.label}' if more else ''}"
        context.talk(f"{name}: {generation.tokens} tokens, {generation.tokens_per_s:.1f} a second")

    context.emit(document, human)
