"""Do a training run, and keep what came of it: its proof, its inputs, its place in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.core import canonical
from citrate.core.adapters import Training
from citrate.core.errors import ConfigError, FormatError, IntegrityError
from citrate.fine_tuning.inputs import Prepared
from citrate.fine_tuning.told import TOLD, Told
from citrate.formats.documents import read_bounded
from citrate.training import durable, health, holding, process, proof
from citrate.training.health import HEALTH, Health
from citrate.training.proof import Proof, Record, require_equal
from citrate.training.rows import Method
from citrate.training.run import ANNOUNCED, BEFORE

if TYPE_CHECKING:
    from citrate.core.records import VersionRecord
    from citrate.facade import Registry

_ANNOUNCED_MAX_BYTES = 256
_PARTS = (proof.PROOF, proof.RECIPE, proof.LEAVES, "log.jsonl", HEALTH)


@dataclass(frozen=True)
class Trained:
    """A run that has ended."""

    out: Path
    adapter: Path
    proof: Proof
    proof_cid: str
    dataset_cid: str
    final_loss: float
    health: Health
    run_id: int = 0
    """The ledger's, if it was announced."""
    base_ref: str = ""
    """``publisher/name@version`` of what it was trained on; empty for a folder."""


def train(
    registry: Registry,
    prepared: Prepared,
    out: Path,
    *,
    announce: bool = False,
    threads: int = 1,
    on_step: Callable[[Mapping[str, Any]], None] = lambda _: None,
    on_notes: Callable[[Sequence[str]], None] = lambda _: None,
) -> Trained:
    """Do a run, or go on with it; keep its proof and its dataset in the store, pinned.

    Args:
        registry: whose store keeps them.
        prepared: the recipe and its inputs.
        out: the run's folder.
        announce: record the run in the ledger before it begins, and what came out of it when it has ended.
        threads: of torch.
        on_step: called with the fields of `run.Step`.
        on_notes: called before the first step with what a user should know of the rows, and of an announcement.

    Raises:
        AlreadyExistsError: the folder holds another run.
        TrainingError: the run cannot be done, or broke off; what stands before its last checkpoint is kept. Or another
            command is at work in its folder.
    """
    with holding.held(out) as lock:
        run_id = _announced(registry, prepared, out) if announce else 0
        if not announce and (earlier := _earlier(out)):
            on_notes([f"this run was announced (run {earlier}): with --announce its outcome is recorded, too"])
        found = process.train(
            prepared.bound, prepared.files, out, on_step,
            on_notes=on_notes, threads=threads, lock=lock, accelerate=prepared.accelerate,
        )  # fmt: skip
        require_whole(Record(out), out / "adapter", hint="train again with another --out")
        return _kept(registry, prepared, out, found, run_id)


def require_whole(record: Record, adapter: Path, hint: str = "") -> None:
    """Nothing is told of a run, and no CID given to its proof, that is not as it was written, maybe long ago.

    Args:
        record: the run's.
        adapter: its outcome.
        hint: what to do about another adapter.

    Raises:
        FormatError: a part is missing or malformed.
        IntegrityError: a part is not what the proof says.
    """
    record.check()
    claimed = record.proof.weights_sha256
    require_equal("the adapter is not the run's outcome", "adapter", claimed, weights_of(adapter), hint=hint)


def _kept(registry: Registry, prepared: Prepared, out: Path, found: Proof, run_id: int) -> Trained:
    """Keep what a run that has ended relies on, say beside the adapter where it is, and in the ledger what came out."""
    from citrate.registry.unixfs import SourceFile

    with registry.store.writer(bare=False) as sink:
        parts = [SourceFile.of(path.relative_to(out).as_posix(), path, path.lstat()) for path in proof_files(out)]
        sink.copy(parts, lambda _: None)
        proof_cid = sink.commit().cid
    kept = ((proof_cid, "training proof"), (prepared.dataset_cid, "dataset"), (prepared.reward_cid, "reward model"))
    for cid, reason in kept:
        if cid:
            registry.store.pin(cid, reason)
    adapter = out / "adapter"
    told = Told(proof_cid, prepared.dataset_cid, prepared.base_ref, run_id, prepared.reward_cid)
    durable.write(adapter / TOLD, told.to_bytes())
    if run_id:
        _commit(registry, run_id, found, adapter)
    log = health.read_log(out / "log.jsonl", found.steps)
    went = Health.parse(read_bounded(out / HEALTH, health.HEALTH_MAX_BYTES))
    loss, base = log[-1].loss, prepared.base_ref
    return Trained(out, adapter, found, proof_cid, prepared.dataset_cid, loss, went, run_id, base)


def merged(done: Trained, prepared: Prepared) -> Path:
    """The reward model that a reward run ended with, merged into its base, in the run's folder: what ``grpo`` and
    ``rloo`` take. Made now, unless it is there.

    Raises:
        ConfigError: the run is of another method.
        TrainingError: they cannot be merged.
    """
    require_reward(prepared.bound.recipe.method)
    out = done.out / "merged"
    with holding.held(done.out):
        if not out.is_dir():
            process.merge_reward_model(prepared.bound, prepared.files.base, done.adapter, out)
    return out


def require_reward(method: Method) -> None:
    """Raise ConfigError unless a run of ``method`` ends with a reward model."""
    if method != Method.REWARD:
        raise ConfigError(
            f"only reward models are merged here, and this run is {method}",
            hint="merge the adapter of a finished run: citrate merge --help",
        )


def _earlier(out: Path) -> int:
    """The ledger's run that an earlier command announced; 0: none did."""
    path = out / ANNOUNCED
    if not path.exists():
        return 0
    run = canonical.loads(read_bounded(path, _ANNOUNCED_MAX_BYTES)).get("run")
    if not (isinstance(run, str) and run.isascii() and run.isdecimal()):
        raise FormatError(f"{path} does not name a run of the ledger", hint="choose another --out")
    return int(run)


def _announced(registry: Registry, prepared: Prepared, out: Path) -> int:
    """The ledger's run for a run: announced now, or by an earlier command that did not finish."""
    if earlier := _earlier(out):
        return earlier
    if not prepared.base_ref:
        raise ConfigError("a run can be announced on a registered base only", hint="base: a reference, in the recipe")
    if any(entry.name not in BEFORE for entry in out.iterdir()):
        raise ConfigError(f"the run in {out} has begun: it is too late to announce it", hint="choose another --out")
    digest = registry.resolve_model(prepared.base_ref.partition("#")[0], "are trained on models").variants[0].sha256
    bound = prepared.bound
    run_id, _ = registry.ledger.announce(
        registry.signer(), recipe=bound.sha256, dataset=bound.dataset_root, base_sha256=digest
    )
    durable.write(out / ANNOUNCED, canonical.dumps({"run": str(run_id)}))
    return run_id


def _commit(registry: Registry, run_id: int, found: Proof, adapter: Path) -> None:
    from citrate.formats.adapter import open_adapter
    from citrate.registry.adapters import published_digest

    if registry.ledger.run(run_id).committed_at:
        return
    digest = published_digest(open_adapter(adapter))
    registry.ledger.commit(registry.signer(), run_id, proof_root=found.root, adapter_sha256=digest)


def training_of(registry: Registry, adapter: Path, base: str) -> tuple[Training, int] | None:
    """What is recorded of how an adapter was made, and its steps, from the proof that it names; None if it names none.

    Args:
        registry: whose store has the proof.
        adapter: the folder.
        base: the reference of what it is to be recorded on.

    Raises:
        NotFoundError: the proof is not in the store.
        IntegrityError: the proof is not this adapter's, or of a run on another base.
    """
    told = Told.read(adapter)
    if told is None or not told.proof_cid:
        return None
    found = Record(registry.store.get(told.proof_cid)).proof
    require_equal("the adapter is not its run's outcome", TOLD, found.weights_sha256, weights_of(adapter))
    require_base(found, registry.resolve_model(base, "are trained on models"))
    if told.run_id:  # the ledger says the rest
        return Training(run_id=told.run_id), found.steps
    return Training(found.dataset_root, found.recipe_sha256, found.root), found.steps


def require_base(found: Proof, base: VersionRecord) -> None:
    """Raise IntegrityError unless a run was trained on one of a version's variants, byte for byte."""
    contents = {str(variant.variant): variant.sha256 for variant in base.variants}
    if found.base_sha256 not in contents.values():
        raise IntegrityError(
            f"the run was not trained on {base.ref}",
            path="base",
            expected=contents.get("safetensors", next(iter(contents.values()), "")),
            actual=found.base_sha256,
            hint="a folder differs from what is registered of it: train with base: the reference, in the recipe",
        )


def proof_files(out: Path) -> Iterator[Path]:
    """The files of a run that are its proof, with paths relative to its folder."""
    yield from (out / name for name in _PARTS)
    yield from sorted(path for path in (out / proof.CHECKPOINTS).rglob("*") if path.is_file())


def weights_of(adapter: Path) -> str:
    """The hash of an adapter's tensors, as a run's last step commits to it."""
    from citrate.formats.adapter import WEIGHTS
    from citrate.training import checkpoint
    from citrate.training.commitment import tensors_sha256

    return tensors_sha256(checkpoint.load(adapter, WEIGHTS))
