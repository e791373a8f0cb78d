"""`citrate lora`: adapters of models, whose adapters a model takes, and what a version was merged from."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import adapters, context
from citrate.core.adapters import PARENTS_MAX, WHOLE_BASIS_POINTS, Acceptance, LoraRecord, Parent
from citrate.core.errors import ConfigError

if TYPE_CHECKING:
    from citrate.facade import Registry

app = context.new_app(no_args_is_help=True)

Ref = Annotated[str, typer.Argument(metavar="REF", help="The model.")]


@app.callback()
def lora() -> None:
    """Adapters of models, whose adapters a model takes, and what a version was merged from."""


@app.command("list")
def list_(
    base: Annotated[str | None, typer.Option(metavar="REF", help="Only those trained on this version.")] = None,
) -> None:
    """List every adapter, newest first; proved complete at one block.

    Example: citrate lora list --base me/tiny-llama@1.0.0
    """
    registry = context.registry()
    found = registry.loras.adapters(registry.resolve_model(base, "are trained on models").version_id if base else "")
    rows = [
        {
            "ref": f"{item.creator}/{item.name}@{item.version}",
            "lora_id": item.id,
            "base_version_id": item.base,
            "created_at": item.created_at,
        }
        for item in found
    ]

    def human() -> None:
        context.table(
            [(item.name, item.version, f"{item.creator}/{item.name}@{item.version}") for item in found],
            ("NAME", "VERSION", "REFERENCE"),
        )

    context.emit({"adapters": rows}, human)


@app.command()
def accept(
    ref: Ref, whose: Annotated[str, typer.Argument(metavar="open|allow-list|closed", help="Whose adapters.")]
) -> None:
    """Say whose adapters a model takes from now on: everybody's, those of a list, or nobody's.

    Example: citrate lora accept me/tiny-llama allow-list
    """
    if whose not in list(Acceptance):
        raise ConfigError(f"{whose!r} is not known", hint=f"one of {', '.join(Acceptance)}")
    registry = context.registry()
    record = registry.resolve_model(ref, "take no adapters")
    receipt = registry.loras.set_acceptance(registry.signer(), record.model_id, Acceptance(whose))
    model = f"{record.publisher}/{record.name}"
    document: dict[str, object] = {"ref": model, "acceptance": whose, **context.change_document(receipt)}
    told = f"{model} takes adapters: {whose}"
    context.emit(document, lambda: context.say(told if receipt else f"{told} (unchanged)"))


@app.command()
def allow(
    ref: Ref,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The creator.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the creator off the list.")] = False,
) -> None:
    """Put a creator on a model's list, or take it off. The list counts while the model accepts `allow-list`.

    Example: citrate lora allow me/tiny-llama 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    registry = context.registry()
    record = registry.resolve_model(ref, "take no adapters")
    creator = registry.address_of(address)
    receipt = registry.loras.allow_creator(registry.signer(), record.model_id, creator, allowed=not remove)
    model = f"{record.publisher}/{record.name}"
    counts = registry.loras.acceptance_of(record.model_id)
    document: dict[str, object] = {
        "ref": model, "creator": creator, "allowed": not remove, "acceptance": counts,
        **context.change_document(receipt),
    }  # fmt: skip

    def human() -> None:
        context.say(
            f"{creator} {'is off' if remove else 'is on'} the list of {model}{'' if receipt else ' (unchanged)'}"
        )
        if counts is not Acceptance.ALLOW_LIST:
            context.talk(
                f"note: {model} is {counts}, so the list does not count: citrate lora accept {model} allow-list"
            )

    context.emit(document, human)


@app.command()
def merge(
    ref: Annotated[str, typer.Argument(metavar="REF", help="The version that resulted.")],
    adapter: Annotated[list[str], typer.Option(metavar="REF[=WEIGHT]", help="An adapter, weight such as 0.25.")],
) -> None:
    """Record from which adapters a version was merged; without weights in equal parts. Once for a version.

    Example: citrate lora merge me/merged@1.0.0 --adapter me/a=0.75 --adapter me/b=0.25
    """
    registry = context.registry()
    parents = _parents(registry, adapter)
    record = registry.resolve(ref)
    receipt = registry.loras.merge(registry.signer(), record.version_id, parents)
    merged = registry.loras.merge_of(record.version_id)
    document = {
        "ref": record.ref,
        "version_id": record.version_id,
        **adapters.merge_document(merged),
        **context.receipt_document(receipt),
        "gas_used": receipt.gas_used,
    }
    context.emit(document, lambda: context.say(f"{record.ref} was merged from {len(parents)} adapters"))


def _parents(registry: Registry, named: list[str]) -> list[Parent]:
    """The parents with their weights in basis points."""
    if not 1 <= len(named) <= PARENTS_MAX:
        raise ConfigError(f"a merge has 1 to {PARENTS_MAX} adapters, not {len(named)}", hint="--adapter REF=WEIGHT")
    parts = [text.rpartition("=") if "=" in text else (text, "", "") for text in named]
    if any(weight for _, _, weight in parts) and not all(weight for _, _, weight in parts):
        raise ConfigError("some adapters have a weight and some have none", hint="give each one, or none")
    weights = [_basis_points(weight) for _, _, weight in parts] if parts[0][2] else _equal(len(parts))
    found = [_adapter(registry, ref) for ref, _, _ in parts]
    return [Parent(each.lora_id, weight) for each, weight in zip(found, weights, strict=True)]


def _adapter(registry: Registry, ref: str) -> LoraRecord:
    record = registry.find(ref)
    if not isinstance(record, LoraRecord):
        raise ConfigError(f"{record.ref} is a model, not an adapter", hint="citrate lora list")
    return record


def _basis_points(weight: str) -> int:
    hint = "a weight is a part of 1 with at most four decimals, such as 0.25"
    try:
        points = Decimal(weight) * WHOLE_BASIS_POINTS
    except InvalidOperation:
        raise ConfigError(f"{weight!r} is no weight", hint=hint) from None
    if not points.is_finite() or points != points.to_integral_value() or points <= 0:
        raise ConfigError(f"{weight!r} is no weight", hint=hint)
    return int(points)


def _equal(count: int) -> list[int]:
    """Equal parts; what cannot be divided goes to the first ones, a basis point each."""
    each, rest = divmod(WHOLE_BASIS_POINTS, count)
    return [each + (place < rest) for place in range(count)]
