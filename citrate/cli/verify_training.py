"""`citrate verify-training`: do parts of somebody's training run again, and grade how well they agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citrate.cli import arguments, context, health, progress
from citrate.core.errors import ConfigError

if TYPE_CHECKING:
    from citrate.fine_tuning import Verified
    from citrate.training.health import Health

app = context.new_app()

_SAID = {
    "exact": "every hash of every step is equal",
    "numeric": "equal within rounding",
    "functional": "other rounding; behaves alike on the recipe's prompts",
    "attested": "nothing replayed",
}


@app.command()
def verify_training(
    where: Annotated[str, typer.Argument(metavar="REF_OR_DIR", help="A registered adapter, or a run's folder.")],
    segments: Annotated[int, typer.Option(min=0, help="How many segments to replay; 0: only compare.")] = 3,
    all_: Annotated[bool, typer.Option("--all", help="Replay all of it.")] = False,
    seed: Annotated[str, typer.Option(metavar="HEX", help="Choose the segments; default: the ledger's draw.")] = "",
    base: Annotated[str, typer.Option(metavar="REF|DIR", help="The base, where the run does not say it.")] = "",
    dataset: Annotated[str, typer.Option(metavar="CID|DIR", help="The dataset, where the run does not say it.")] = "",
    reward: Annotated[str, typer.Option(metavar="CID|DIR", help="Its reward model, where it does not say it.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
) -> None:
    """Hold a run's parts against each other and the chain, replay segments, and grade. Exit 3 if one disagrees.

    Example: citrate verify-training me/tiny-lora --segments 5
    """
    from citrate import fine_tuning

    with progress.bars() as on_progress:
        claimed = fine_tuning.claim(
            context.registry(),
            where,
            base=base,
            dataset=dataset,
            reward=reward,
            seed=_hex(seed),
            gateways=from_ or (),
            allow=arguments.allowed(allow),
            progress=on_progress,
        )
        verified = fine_tuning.verify(claimed, segments=None if all_ else segments, threads=threads)
    beside = [f"{name} is not of the run, and was not looked at" for name in claimed.not_of_the_run]
    beside += [
        f"equal bits are not asked for: {why}"
        for why in sorted({each["elsewhere"] for each in verified.segments})
        if why
    ]
    document = {
        **_document(verified),
        "notes": [*health.notes(claimed.health), *beside],
        "health": health.health_document(claimed.health),
    }
    context.emit(document, lambda: _human(verified, claimed.health, beside))
    if verified.grade is None:
        raise typer.Exit(3)


def _hex(seed: str) -> str:
    try:
        return bytes.fromhex(seed.removeprefix("0x")).hex()
    except ValueError as error:
        raise ConfigError(f"the seed {seed!r} is not hex", hint="for example --seed 5eed") from error


def _document(verified: Verified) -> dict[str, object]:
    keys = ("first_step", "last_step", "ok", "exact", "differs", "error", "kl", "effect")
    return {
        "grade": str(verified.grade) if verified.grade else None,
        "seed": verified.seed,
        "seed_by": verified.seed_by,
        "segments": [{key: each[key] for key in keys} for each in verified.segments],
        "of_segments": verified.of,
    }


def _human(verified: Verified, went: Health, beside: list[str]) -> None:
    context.table([_row(each) for each in verified.segments], ("STEPS", "", ""))
    context.talk(f"{len(verified.segments)} of {verified.of} segments, seed {verified.seed} ({verified.seed_by})")
    health.talk(went)
    for each in beside:
        context.talk(f"note: {each}")
    if verified.grade is None:
        context.say("DISAGREES: this is not how the adapter was made")
    else:
        context.say(f"{verified.grade}: {_SAID[verified.grade]}")


def _row(each: Mapping[str, Any]) -> tuple[str, str, str]:
    said = "exact" if each["exact"] else f"error {each['error']:.1e} of the update; {each['differs']}"
    if each["kl"] is not None:
        said += f"; predictions off by {each['kl']:.1e} nats, the segment moved them by {each['effect']:.1e}"
    return f"{each['first_step']}-{each['last_step']}", "ok" if each["ok"] else "DIFFERS", said
