"""`citrate compare`: how much two models differ on given texts, and by scores over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.core.errors import ConfigError

if TYPE_CHECKING:
    from citrate.fine_tuning.comparison import Comparison, Side

app = context.new_app()


@app.command()
def compare(
    a: Annotated[str | None, typer.Argument(metavar="MODEL[::ADAPTER]", help="What is compared with.")] = None,
    b: Annotated[str | None, typer.Argument(metavar="MODEL[::ADAPTER]", help="What is compared.")] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="A text a line; .jsonl: text or prompt.")] = None,
    scores: Annotated[Path | None, typer.Option(metavar="FILE", help='JSON Lines of {"seed", "a", "b"}.')] = None,
    min_abs: Annotated[float, typer.Option("--min-abs", help="Least difference of the means.")] = 0.0,
    min_rel: Annotated[float, typer.Option("--min-rel", help="Least difference over the mean of A.")] = 0.0,
    min_z: Annotated[float, typer.Option("--min-z", help="Least difference over its standard error.")] = 2.0,
    sign: Annotated[bool, typer.Option("--sign", help="Sign the record and keep it; prints its CID.")] = False,
    show: Annotated[str | None, typer.Option(metavar="CID", help="Verify a signed record and print it.")] = None,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    offline: Annotated[bool | None, typer.Option("--offline", help="Use what this machine has.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
) -> None:
    """Compare the predictions of two models, token by token, on your texts: KL divergence and agreement.

    A model is a reference (name the variant: #safetensors) or a path; ::ADAPTER puts an adapter on it.

    Example: citrate compare me/tiny#safetensors me/tiny#gguf:Q4_K_M --prompts prompts.txt --sign
    """
    from citrate.fine_tuning import comparing
    from citrate.training.scores import Thresholds

    registry, gateways = context.registry(offline=offline), from_ or ()
    if show is not None:
        if a or b or prompts or sign or scores:
            raise ConfigError("--show prints a record, and nothing is measured", hint="citrate compare --show CID")
        _print(*comparing.show(registry, show, gateways=gateways), show)
        return
    if not a or not b or prompts is None:
        raise ConfigError("two models and --prompts FILE are compared", hint="citrate compare A B --prompts FILE")
    if scores is None and (min_abs, min_rel, min_z) != (0.0, 0.0, 2.0):
        raise ConfigError("thresholds judge scores, and there are none", hint="--scores FILE")
    asked = comparing.Asked(a, b, prompts, scores, Thresholds(min_abs, min_rel, min_z))
    with progress.bars() as on_progress:
        found = comparing.compare(
            registry, asked, gateways=gateways, allow=arguments.allowed(allow), progress=on_progress
        )
    cid = ""
    if sign:
        found, cid = comparing.sign_and_keep(registry, found)
    _print(found, found.signature.signer if found.signature else "", cid)


def _print(found: Comparison, signer: str, cid: str) -> None:
    def human() -> None:
        measured, texts = found.divergence, found.prompts
        context.say(f"a: {_name(found.a)}")
        context.say(f"b: {_name(found.b)}")
        context.say(f"on {texts.texts} texts, {texts.positions} tokens")
        context.say(f"KL(a || b): {measured.mean} nats a token, at most {measured.largest}")
        context.say(f"  of the first token after a text: {measured.first_token} nats")
        context.say(f"same likeliest token: {measured.agreement}; after a text: {measured.first_token_agreement}")
        if found.scores:
            told = found.scores
            context.say(
                f"scores: {told.mean_a} and {told.mean_b}, z {told.z}; b wins {told.wins} of {told.seeds} seeds"
            )
            context.say(f"  {told.ties} ties: {told.verdict}")
        if signer:
            context.say(f"signed by {signer}")
        if cid:
            context.say(cid)

    context.emit({**found.document(), "cid": cid or None}, human)


def _name(side: Side) -> str:
    on = f" + {side.adapter.name} x {side.adapter.scale}" if side.adapter else ""
    return f"{side.name}{on} ({side.sha256[:16]})"
