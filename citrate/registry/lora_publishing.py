"""Recording an adapter on chain: checked against its base, stored and pinned first, once, and never twice.

What the chain would refuse is looked for before anything is hashed: the base, whose adapters it takes, the quota.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.adapters import SAFETENSORS, Acceptance, Lora, Training
from citrate.core.errors import (
    AlreadyExistsError,
    CitrateError,
    ConfigError,
    NotFoundError,
    NotPermittedError,
)
from citrate.core.licences import require_derivable
from citrate.core.records import Artifact, VersionRecord
from citrate.core.sink import Progress
from citrate.formats import find_licence
from citrate.formats.adapter import WEIGHTS, Adapter, open_adapter, write
from citrate.formats.adapter_base import require_fits, tensor_shapes
from citrate.formats.adapter_weights import require_trained
from citrate.formats.documents import inside
from citrate.formats.licence import stated_spdx
from citrate.registry import lora_views, views
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.ids import model_id
from citrate.registry.keeping import kept
from citrate.registry.lora_payload import encode_lora, join_modules, split_modules
from citrate.registry.loras import QUOTA, lora_id
from citrate.registry.publish import next_version_hint

if TYPE_CHECKING:
    from citrate.registry.session import Session
    from citrate.registry.signer import Signer
    from citrate.registry.transactions import Receipt


@dataclass(frozen=True)
class Request:
    """What a creator asks for."""

    source: Path
    base: str
    """A reference of a model's version."""
    name: str
    version: str = "1.0.0"
    licence: str | None = None
    """SPDX; None for what the adapter's card or licence file says."""
    steps: int = 0
    training: Training | None = None
    """None: how it was trained is not told."""
    gateways: tuple[str, ...] = ()
    """Where the base's manifest is looked for, besides the settings' own."""


@dataclass(frozen=True)
class Registered:
    """What `register_lora` did, or with ``dry_run`` would do."""

    status: str
    """``published``, ``unchanged`` (the chain holds exactly this) or ``dry_run``."""
    creator: str
    """Empty in a dry run without a key."""
    lora: Lora
    base: VersionRecord
    artifact: Artifact
    left_out: tuple[str, ...]
    """Names in the source that were not published."""
    tx_hash: str = ""
    gas_used: int | None = None
    """Estimated in a dry run; None where no key says for whom."""
    fee_wei: int | None = None
    taken_up: bool = False
    """Whether an earlier command, which was cut off, had sent the transaction."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing was to be sent."""
        return self.status == "dry_run"

    @property
    def lora_id(self) -> str:
        """The LoRA's id; empty where no key says whose."""
        return lora_id(self.creator, self.lora.name, self.lora.version) if self.creator else ""

    @property
    def ref(self) -> str:
        """The full reference."""
        return f"{self.creator or 'me'}/{self.lora.name}@{self.lora.version}"


def register(session: Session, request: Request, *, dry_run: bool, progress: Progress) -> Registered:
    """Check an adapter against its base, store it, and record it in one transaction, unless the chain holds just that.

    Raises:
        FormatError: no adapter, or not one of this base.
        ConfigError: no licence, or something that cannot stand on chain.
        AlreadyExistsError: the creator's adapter of this name and version has other bytes.
        NotPermittedError: the base takes no adapters, or none of this creator.
        CitrateError: ten adapters of this creator were accepted today.
    """
    if not dry_run:
        session.start_chain()
        session.require_writable()
    base = session.resolve_model(request.base, "are trained on models")
    _require_base(base)
    adapter = open_adapter(request.source)
    licence = choose_licence(request)
    require_trained(inside(adapter.root, WEIGHTS))
    require_fits(adapter, session.manifest(base, request.gateways).architecture, _shapes_of(session, base))
    signer = _signer(session, dry_run)
    creator = signer.address if signer else ""
    if signer:
        _require_room(session, creator, base, request)
    with session.store.writer(bare=False) as sink:
        write(adapter, sink, progress)
        artifact = sink.commit()
    lora = _lora(request, base, adapter, licence, artifact)
    encode_lora(lora)
    told = Registered("dry_run", creator, lora, base, artifact, adapter.left_out)
    if signer is None:
        return told
    _require_run(session, lora, creator)
    if _stands(session, creator, lora):
        if not dry_run:
            session.store.pin(artifact.cid, _reason(lora))
        return replace(told, status="dry_run" if dry_run else "unchanged", gas_used=0, fee_wei=0)
    if dry_run:
        gas, fee = session.loras.estimate_register(creator, lora)
        return replace(told, gas_used=gas, fee_wei=fee)
    receipt = _send(session, signer, lora)
    if receipt is None:
        return replace(told, status="unchanged", gas_used=0, fee_wei=0)
    return replace(
        told,
        status="published",
        tx_hash=receipt.tx_hash,
        gas_used=receipt.gas_used,
        fee_wei=receipt.fee_wei,
        taken_up=receipt.taken_up,
    )


def choose_licence(request: Request) -> str:
    """Flag > card > LICENSE file; a flag that contradicts the card is refused.

    Raises:
        ConfigError: none found, or flag and card differ.
    """
    found = find_licence(request.source)
    if request.licence is None:
        if found is None:
            raise ConfigError(
                f"{request.source} names no licence: no front matter in README.md, no LICENSE file",
                hint="--license SPDX, for example --license apache-2.0",
            )
        return found.spdx
    spdx = stated_spdx(request.licence)
    if found is not None and found.origin == "card" and found.spdx != spdx:
        raise ConfigError(
            f"--license says {spdx}, the adapter's card says {found.spdx}",
            hint="make them agree: the licence goes on chain",
        )
    return spdx


# ---------------------------------------------------------------------- before anything is sent


def _require_base(base: VersionRecord) -> None:
    if base.deprecated:
        raise NotPermittedError(
            f"the base {base.ref} is deprecated and takes no adapters", hint=f"citrate show {base.ref}"
        )
    if base.quarantined:
        raise NotPermittedError(
            f"the base {base.ref} is {base.status} and takes no adapters", hint=f"citrate case show {base.ref}"
        )
    require_derivable(base.ref, base.licence, "an adapter is a derivative: ask its publisher for another licence")


def _require_room(session: Session, creator: str, base: VersionRecord, request: Request) -> None:
    """Refuse what the chain would refuse, before anything is hashed: one round trip."""
    chain, block = session.chain, session.chain.pin()
    chain.require(LORA_REGISTRY)
    accepts, counts = lora_views.accepts(base.model_id, creator), lora_views.counts_of(creator)
    models = views.nonce_of(model_id(creator, request.name))
    standing = lora_views.creator_of(lora_id(creator, request.name, request.version))
    outcomes = chain.outcomes([accepts, counts, models, standing], block)
    if chain.value(models, outcomes[2]):
        raise AlreadyExistsError(
            f"{creator} has a model of the name {request.name}, and a reference would mean that",
            hint="choose another --name for the adapter",
        )
    if chain.value(standing, outcomes[3]):
        return  # it stands already: then nothing is going to be sent
    if not chain.value(accepts, outcomes[0]):
        raise _not_accepted(session, creator, base)
    if chain.value(counts, outcomes[1]).today >= QUOTA:
        raise CitrateError(
            f"{creator} had {QUOTA} adapters accepted today, which is the limit",
            hint="the next day begins at 00:00 UTC",
        )


def _not_accepted(session: Session, creator: str, base: VersionRecord) -> NotPermittedError:
    """Why a model does not take a creator's adapters, and who can change that."""
    model = f"{base.publisher}/{base.name}"
    if session.loras.acceptance_of(base.model_id) is Acceptance.CLOSED:
        message, change = f"{model} is closed: it takes nobody's adapters", f"citrate lora accept {model} open"
    else:
        message = f"{model} takes no adapters of {creator}, who is not on its list"
        change = f"citrate lora allow {model} {creator}"
    if session.chain.owner_of(base.publisher, base.name) == creator:
        return NotPermittedError(f"{message}, not even its owner's", hint=change)
    return NotPermittedError(message, hint=f"its owner can change that: {change}")


def _require_run(session: Session, lora: Lora, creator: str) -> None:
    """A run of the ledger that is linked must be the creator's own, on this base, with this adapter as its outcome."""
    if not lora.training.run_id:
        return
    run = session.ledger.run(lora.training.run_id)
    pairs = (
        ("trainer", run.trainer.lower(), creator.lower()),
        ("base", run.base_sha256, lora.base_sha256),
        ("adapter", run.adapter_sha256 or lora.sha256, lora.sha256),
    )
    for what, told, own in pairs:
        if told != own:
            raise ConfigError(
                f"run {run.run_id} has the {what} {told}, this adapter has {own}",
                hint=f"citrate ledger show {run.run_id}",
            )
    if not run.committed_at:
        session.notify(f"note: run {run.run_id} is not committed, so it confirms the adapter only after that")


def _signer(session: Session, dry_run: bool) -> Signer | None:
    if not dry_run:
        return session.signer()
    try:
        return session.signer_at_rest()
    except NotFoundError:
        session.notify("no key yet: whose adapter it is and what it costs are not told (citrate key new)")
        return None


def _shapes_of(session: Session, base: VersionRecord) -> dict[str, tuple[int, ...]]:
    """The base's tensors, where its safetensors variant is stored here; else none."""
    for variant in base.variants:
        if variant.variant == SAFETENSORS and session.store.has(variant.cid):
            return dict(tensor_shapes(session.store.get(variant.cid)))
    return {}


def _lora(request: Request, base: VersionRecord, adapter: Adapter, licence: str, artifact: Artifact) -> Lora:
    return Lora(
        name=request.name,
        version=request.version,
        licence=licence,
        base=base.version_id,
        base_sha256=base.variants[0].sha256,  # what the registry's contentOf says: its release's first variant
        cid=artifact.cid,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        rank=adapter.rank,
        alpha_thousandths=adapter.alpha_thousandths,
        target_modules=join_modules(*split_modules(adapter.target_modules)),
        steps=request.steps,
        training=request.training or Training(),
    )


def _stands(session: Session, creator: str, lora: Lora) -> bool:
    """Whether the chain holds exactly this adapter.

    Raises:
        AlreadyExistsError: it holds another one of this name and version.
    """
    try:
        record = session.loras.get(lora_id(creator, lora.name, lora.version))
    except NotFoundError:
        return False
    there = record.lora
    told = there.training
    if lora.training.run_id == told.run_id and told.run_id:  # what the run says is not told twice
        there = replace(there, training=lora.training)
    if there == lora:
        return True
    differ = next(name for name, value in vars(lora).items() if vars(there)[name] != value)
    raise AlreadyExistsError(f"{record.ref} stands with another {differ}", hint=next_version_hint(lora.version))


# ---------------------------------------------------------------------- sending


def _send(session: Session, signer: Signer, lora: Lora) -> Receipt | None:
    """Record it; None if another run of the same came first."""
    with kept(session.store, [lora.cid], _reason(lora)):
        try:
            return session.loras.register(signer, lora)
        except AlreadyExistsError:
            if _stands(session, signer.address, lora):
                return None
            raise


def _reason(lora: Lora) -> str:
    return f"published {lora.name}@{lora.version}"
