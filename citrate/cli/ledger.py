"""`citrate ledger`: training runs, announced before they start and attested by who replayed them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import arguments, context, times
from citrate.core.adapters import Attestation, Grade, TrainingRun
from citrate.core.errors import ConfigError

app = context.new_app(no_args_is_help=True)

Run = Annotated[int, typer.Argument(metavar="RUN", min=1, help="The run's number.")]


@app.callback()
def ledger() -> None:
    """Training runs, announced before they start, committed when they end, and attested by who replayed them."""


@app.command()
def announce(
    base: Annotated[str, typer.Option(metavar="REF", help="The model version that is trained on.")],
    recipe: Annotated[str, typer.Option(metavar="HASH", help="SHA-256 of the recipe's canonical JSON.")],
    dataset: Annotated[str, typer.Option(metavar="ROOT", help="Merkle root of the dataset.")],
) -> None:
    """Announce a training run before it starts; prints its number.

    Example: citrate ledger announce --base me/tiny-llama --recipe 9f86d0... --dataset 2c26b4...
    """
    wanted = {"recipe": arguments.hash_of(recipe, "--recipe"), "dataset": arguments.hash_of(dataset, "--dataset")}
    registry = context.registry()
    digest = registry.resolve_model(base, "are trained on models").variants[0].sha256
    run_id, receipt = registry.ledger.announce(registry.signer(), base_sha256=digest, **wanted)
    document = {
        **_document(registry.ledger.run(run_id)),
        **context.receipt_document(receipt),
        "gas_used": receipt.gas_used,
    }
    context.emit(document, lambda: context.say(str(run_id)))


@app.command()
def commit(
    run: Run,
    proof: Annotated[str, typer.Option(metavar="ROOT", help="Merkle root of the training steps.")],
    adapter: Annotated[str, typer.Option(metavar="DIR|SHA256", help="What came out.")],
) -> None:
    """Commit to what came out of a run: the proof and the adapter, as `register-lora` will record it. Once.

    Example: citrate ledger commit 1 --proof 4e0740... --adapter ./adapter
    """
    root = arguments.hash_of(proof, "--proof")
    digest = _adapter_digest(adapter)
    registry = context.registry()
    receipt = registry.ledger.commit(registry.signer(), run, proof_root=root, adapter_sha256=digest)
    found = registry.ledger.run(run)
    document = {**_document(found), **context.receipt_document(receipt), "gas_used": receipt.gas_used}
    context.emit(
        document, lambda: context.say(f"run {run} is committed; block {found.target_block} says what to replay")
    )


@app.command()
def draw(run: Run) -> None:
    """Fix what a verifier replays of a committed run, from the hash of its target block. Anybody may.

    Example: citrate ledger draw 1
    """
    registry = context.registry()
    receipt = registry.ledger.draw(registry.signer(), run)
    found = registry.ledger.run(run)
    document = {**_document(found), **context.receipt_document(receipt), "gas_used": receipt.gas_used}

    def human() -> None:
        if not found.seed:
            context.talk(
                f"the hash of the target block was gone (miss {found.misses}): block {found.target_block} is next"
            )
        context.say(found.seed or "no seed yet")

    context.emit(document, human)


@app.command()
def attest(
    run: Run,
    grade: Annotated[str, typer.Option(metavar="|".join(Grade), help="How well the replay agreed.")],
    report: Annotated[str, typer.Option(metavar="FILE|SHA256", help="The verifier's report.")],
    segments: Annotated[int, typer.Option(min=0, help="How many parts were replayed.")] = 0,
) -> None:
    """Say what the replay of somebody else's run came to. Once.

    Example: citrate ledger attest 1 --grade exact --segments 4 --report ./report.json
    """
    if grade not in list(Grade):
        raise ConfigError(f"--grade {grade!r} is not known", hint=f"one of {', '.join(Grade)}")
    registry = context.registry()
    path = Path(report)
    if path.is_file():
        stored = registry.store.put_block(path.read_bytes())
        registry.store.pin(stored, f"report of run {run}")
        digest = registry.store.artifact(stored).sha256
    else:
        digest = arguments.hash_of(report, "--report")
    receipt = registry.ledger.attest(registry.signer(), run, Grade(grade), segments=segments, report_sha256=digest)
    document: dict[str, object] = {
        "run": run,
        "grade": grade,
        "segments": segments,
        "report_sha256": digest,
        **context.receipt_document(receipt),
        "gas_used": receipt.gas_used,
    }
    context.emit(document, lambda: context.say(f"run {run}: {grade}, {segments} segments"))


@app.command()
def show(run: Run) -> None:
    """Print a run and what verifiers say of it.

    Example: citrate ledger show 1
    """
    registry = context.registry()
    found = registry.ledger.run(run)
    said = registry.ledger.attestations(run)
    document = {**_document(found), "attested": [_attestation(each) for each in said]}

    def human() -> None:
        context.table([(key, "" if value is None else str(value)) for key, value in _document(found).items()])
        rows = [(each.verifier, each.grade, str(each.segments), times.utc(each.attested_at)) for each in said]
        if rows:
            context.table(rows, ("VERIFIER", "GRADE", "SEGMENTS", "WHEN"))

    context.emit(document, human)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 100,
) -> None:
    """List the newest runs.

    Example: citrate ledger list
    """
    runs = context.registry().ledger.runs(limit)
    context.emit(
        {"runs": [_document(run) for run in runs]},
        lambda: context.table(
            [(str(run.run_id), run.state, str(run.attestations), run.trainer) for run in runs],
            ("RUN", "STATE", "ATTESTATIONS", "TRAINER"),
        ),
    )


def _document(run: TrainingRun) -> dict[str, object]:
    return {
        "run": run.run_id,
        "state": run.state,
        "trainer": run.trainer,
        "base_sha256": run.base_sha256,
        "recipe": run.recipe,
        "dataset": run.dataset,
        "proof_root": run.proof_root or None,
        "adapter_sha256": run.adapter_sha256 or None,
        "announced_at": run.announced_at,
        "committed_at": run.committed_at or None,
        "target_block": run.target_block or None,
        "misses": run.misses,
        "seed": run.seed or None,
        "attestations": run.attestations,
    }


def _attestation(each: Attestation) -> dict[str, object]:
    return {
        "verifier": each.verifier,
        "grade": each.grade,
        "segments": each.segments,
        "report_sha256": each.report_sha256,
        "attested_at": each.attested_at,
    }


def _adapter_digest(text: str) -> str:
    """The digest of an adapter directory as `register-lora` publishes it, or one that is given."""
    path = Path(text)
    if not text or not path.is_dir():
        return arguments.hash_of(text, "--adapter")
    from citrate.formats.adapter import open_adapter
    from citrate.registry.adapters import published_digest

    return published_digest(open_adapter(path))
