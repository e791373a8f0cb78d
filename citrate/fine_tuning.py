"""Training runs from the registry and back: inputs pulled and verified, the run done or replayed, its parts stored.

This is where training, which sees neither chain nor store, meets both.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate import formats
from citrate.core import canonical
from citrate.core.adapters import Grade, LoraRecord, Training
from citrate.core.errors import ConfigError, FormatError, IntegrityError, NotFoundError, NotPermittedError
from citrate.core.records import Format, Variant
from citrate.core.sink import Progress
from citrate.formats.documents import read_bounded
from citrate.training import process, proof, recipe, rows
from citrate.training.dataset import Card
from citrate.training.process import Files
from citrate.training.proof import Proof, Record, require_equal
from citrate.training.recipe import Bound, Recipe

if TYPE_CHECKING:
    from citrate.facade import Registry

TOLD = "training.json"
"""Beside an adapter's weights: where its proof and its dataset are."""
ANNOUNCED = "announced.json"
"""In a run's folder: the ledger's run."""
_TOLD_MAX_BYTES = 4096
_SAFETENSORS = Variant(Format.SAFETENSORS)
_PARTS = (proof.PROOF, proof.RECIPE, proof.LEAVES, "log.jsonl")
_SEGMENTS = 3


@dataclass(frozen=True)
class Prepared:
    """A recipe with its inputs on this machine, verified."""

    bound: Bound
    files: Files
    dataset_cid: str


@dataclass(frozen=True)
class Trained:
    """A run that has ended."""

    out: Path
    adapter: Path
    proof: Proof
    proof_cid: str
    dataset_cid: str
    final_loss: float
    run_id: int = 0
    """The ledger's, if it was announced."""


@dataclass(frozen=True)
class Told:
    """What an adapter says of its training: the CIDs of its proof and dataset; its base's reference and the ledger's
    run, if any."""

    proof_cid: str
    dataset_cid: str
    base: str = ""
    run_id: int = 0

    def to_bytes(self) -> bytes:
        """As it lies beside the weights."""
        document = {"schema": "citrate.training/1", "proof": self.proof_cid, "dataset": self.dataset_cid}
        if self.base:
            document["base"] = self.base
        if self.run_id:
            document["run"] = str(self.run_id)
        return canonical.dumps(document)

    @classmethod
    def read(cls, adapter: Path) -> Told | None:
        """What stands beside an adapter; None where it says nothing.

        Raises:
            FormatError: it is malformed.
        """
        if not (adapter / TOLD).is_file():
            return None
        found = canonical.loads(read_bounded(adapter / TOLD, _TOLD_MAX_BYTES))
        texts = {key: value for key, value in found.items() if isinstance(value, str)}
        known = {"schema", "proof", "dataset", "base", "run"}
        run = texts.get("run", "0")
        wrong = texts != found or not set(found) <= known or texts.get("schema") != "citrate.training/1"
        if wrong or not (run.isascii() and run.isdecimal() and len(run) < 20):
            raise FormatError(f"{TOLD} is not what a training run writes")
        return cls(texts.get("proof", ""), texts.get("dataset", ""), texts.get("base", ""), int(run))


def prepare(
    registry: Registry,
    wanted: Recipe,
    beside: Path,
    *,
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Prepared:
    """Get a recipe's inputs and name them by their content.

    Args:
        registry: where they come from.
        wanted: the recipe.
        beside: the folder that its relative paths start from.
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of what is fetched.

    Raises:
        NotFoundError, NotPermittedError, IntegrityError, StoreError: as `Registry.pull` and `Registry.dataset`.
        ConfigError: the dataset is not for the method.
    """
    base, base_sha256 = _model(registry, wanted.base, beside, gateways, allow, progress)
    folder, card = _dataset(registry, wanted, beside, gateways, progress)
    reward, reward_sha256 = None, ""
    if wanted.reinforcement is not None:
        reward, reward_sha256 = _model(registry, wanted.reinforcement.reward_model, beside, gateways, allow, progress)
    bound = recipe.bind(wanted, base_sha256=base_sha256, dataset_root=card.root, reward_sha256=reward_sha256)
    return Prepared(bound, Files(base, folder, reward), registry.store.add(folder).cid)


def train(
    registry: Registry,
    prepared: Prepared,
    out: Path,
    *,
    base: str = "",
    announce: bool = False,
    threads: int = 1,
    on_step: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Trained:
    """Do a run, or go on with it; keep its proof and its dataset in the store, pinned.

    Args:
        registry: whose store keeps them.
        prepared: the recipe and its inputs.
        out: the run's folder.
        base: the reference of the base, if it has one, for whoever verifies.
        announce: record the run in the ledger before it begins, and what came out of it when it has ended.
        threads: of torch.
        on_step: called with the fields of `run.Step`.

    Raises:
        AlreadyExistsError: the folder holds another run.
        TrainingError: the run cannot be done, or broke off; what stands before its last checkpoint is kept.
    """
    run_id = _announced(registry, prepared, out, base) if announce else 0
    losses: list[float] = []

    def after(step: Mapping[str, Any]) -> None:
        losses.append(float(step["loss"]))
        on_step(step)

    found = process.train(prepared.bound, prepared.files, out, after, threads=threads)
    with registry.store.writer(bare=False) as sink:
        for path in proof_files(out):
            file = sink.open(path.relative_to(out).as_posix(), path.stat().st_size)
            file.write(path.read_bytes())
            file.close()
        proof_cid = sink.commit().cid
    for cid, reason in ((proof_cid, "training proof"), (prepared.dataset_cid, "dataset")):
        registry.store.pin(cid, reason)
    adapter = out / "adapter"
    (adapter / TOLD).write_bytes(Told(proof_cid, prepared.dataset_cid, base, run_id).to_bytes())
    if run_id:
        _commit(registry, run_id, found, adapter)
    last = losses[-1] if losses else _last_loss(out)
    return Trained(out, adapter, found, proof_cid, prepared.dataset_cid, last, run_id)


def _announced(registry: Registry, prepared: Prepared, out: Path, base: str) -> int:
    """The ledger's run for a run: announced now, or by an earlier command that did not finish."""
    path = out / ANNOUNCED
    if path.exists():
        return int(canonical.loads(path.read_bytes())["run"])  # type: ignore[arg-type]  # we wrote it
    if not base:
        raise ConfigError("a run can be announced on a registered base only", hint="base: a reference, in the recipe")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"the run in {out} has begun: it is too late to announce it", hint="choose another --out")
    digest = registry.resolve_model(base.partition("#")[0], "are trained on models").variants[0].sha256
    bound = prepared.bound
    run_id, _ = registry.ledger.announce(
        registry.signer(), recipe=bound.sha256, dataset=bound.dataset_root, base_sha256=digest
    )
    out.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical.dumps({"run": str(run_id)}))
    return run_id


def _commit(registry: Registry, run_id: int, found: Proof, adapter: Path) -> None:
    from citrate.formats.adapter import open_adapter
    from citrate.registry.adapters import published_digest

    if registry.ledger.run(run_id).committed_at:
        return
    digest = published_digest(open_adapter(adapter))
    registry.ledger.commit(registry.signer(), run_id, proof_root=found.root, adapter_sha256=digest)


def training_of(registry: Registry, adapter: Path) -> tuple[Training, int] | None:
    """What is recorded of how an adapter was made, and its steps, from the proof that it names; None if it names none.

    Raises:
        NotFoundError: the proof is not in the store.
        IntegrityError: the proof is not this adapter's.
    """
    told = Told.read(adapter)
    if told is None or not told.proof_cid:
        return None
    found = Record(registry.store.get(told.proof_cid)).proof
    require_equal("the adapter is not its run's outcome", TOLD, found.weights_sha256, weights_of(adapter))
    if told.run_id:  # the ledger says the rest
        return Training(run_id=told.run_id), found.steps
    return Training(found.dataset_root, found.recipe_sha256, found.root), found.steps


def proof_files(out: Path) -> Iterator[Path]:
    """The files of a run that are its proof, with paths relative to its folder."""
    yield from (out / name for name in _PARTS)
    yield from sorted(path for path in (out / proof.CHECKPOINTS).rglob("*") if path.is_file())


# ---------------------------------------------------------------------- verifying


@dataclass(frozen=True)
class Claim:
    """A run that somebody says they did, with all its parts here: what is to be verified."""

    record: Record
    adapter: Path
    files: Files
    seed: str
    """From which the segments are drawn."""
    seed_by: str
    """Who drew it: ``ledger``, ``you``, or ``random``."""


@dataclass(frozen=True)
class Verified:
    """What the replay came to. ``grade`` is None where a segment disagrees."""

    grade: Grade | None
    seed: str
    seed_by: str
    segments: tuple[Mapping[str, Any], ...]
    of: int
    """How many segments the run has."""


def claim(
    registry: Registry,
    where: str,
    *,
    base: str = "",
    dataset: str = "",
    seed: str = "",
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Claim:
    """Collect a run's parts and hold them against each other and against the chain; nothing is replayed.

    Args:
        registry: where they come from.
        where: a registered adapter's reference, a run's folder, or an adapter's folder.
        base: a reference or a folder, where the run does not say it.
        dataset: a CID or a folder, where the run does not say it.
        seed: hex; empty: the ledger's, or a random one.
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of what is fetched.

    Raises:
        NotFoundError: no such run, or a part of it is nowhere.
        IntegrityError: a part is not what another part, or the chain, says.
    """
    chosen = (seed, "you") if seed else (secrets.token_hex(32), "random")
    if Path(where).is_dir():
        adapter, folder, told = _from_folder(registry, Path(where), gateways)
        chain = None
    else:
        adapter, folder, told, chain = _from_chain(registry, where, gateways, allow, progress)
    record = Record(folder)
    record.check()
    require_equal("the adapter is not the run's outcome", "adapter", record.proof.weights_sha256, weights_of(adapter))
    if chain is not None:
        _require_as_recorded(record, chain)
        base = base or _base_of(registry, chain)
        chosen = _drawn(registry, chain) or chosen
    base_path, base_sha256 = _model(registry, base or told.base or _missing("base"), Path(), gateways, allow, progress)
    require_equal("the base is not the one that was trained on", "base", record.proof.base_sha256, base_sha256)
    named = dataset or told.dataset_cid or _missing("dataset")
    card, rows_folder = registry.dataset(named, gateways=gateways, progress=progress)
    require_equal("the dataset is not the one that was trained on", "dataset", record.proof.dataset_root, card.root)
    return Claim(record, adapter, Files(base_path, rows_folder), *chosen)


def verify(
    claimed: Claim, *, segments: int | None = _SEGMENTS, threads: int = 1,
    on_segment: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Verified:  # fmt: skip
    """Replay segments of a run, chosen by its seed, in a process without network.

    Args:
        claimed: the run.
        segments: how many; None: all.
        threads: of torch.
        on_segment: called with the fields of `replay.Replayed`.

    Raises:
        TrainingError: a segment cannot be done here.
    """
    of = claimed.record.bound.recipe.segments
    chosen = tuple(range(of)) if segments is None else proof.choose(claimed.seed, of, segments)
    found: list[Mapping[str, Any]] = []
    if chosen:
        for each in process.replay(
            claimed.record.bound, claimed.record.folder, chosen, claimed.files, claimed.adapter, threads=threads
        ):
            found.append(each)
            on_segment(each)
    return Verified(_grade(found), claimed.seed, claimed.seed_by, tuple(found), of)


def weights_of(adapter: Path) -> str:
    """The hash of an adapter's tensors, as a run's last step commits to it."""
    from citrate.formats.adapter import WEIGHTS
    from citrate.training import checkpoint
    from citrate.training.commitment import tensors_sha256

    return tensors_sha256(checkpoint.load(adapter, WEIGHTS))


def _grade(found: list[Mapping[str, Any]]) -> Grade | None:
    if not found:
        return Grade.ATTESTED
    if not all(each["ok"] for each in found):
        return None
    return Grade.EXACT if all(each["exact"] for each in found) else Grade.NUMERIC


def _from_folder(registry: Registry, folder: Path, gateways: Iterable[str]) -> tuple[Path, Path, Told]:
    adapter = folder / "adapter" if (folder / proof.PROOF).is_file() else folder
    told = Told.read(adapter) or Told("", "")
    if adapter != folder:
        return adapter, folder, told
    if not told.proof_cid:
        raise NotFoundError(f"{folder} is no training run, and says of none", hint="citrate train writes one")
    return adapter, registry.folder(told.proof_cid, "training proof", gateways), told


def _from_chain(
    registry: Registry, ref: str, gateways: Iterable[str], allow: frozenset[str], progress: Progress | None
) -> tuple[Path, Path, Told, LoraRecord]:
    record = registry.find(registry.reference(ref))
    if not isinstance(record, LoraRecord):
        raise FormatError(f"{record.ref} is a model, not an adapter: it says of no training run")
    if not record.lora.training.proof_root:
        raise NotFoundError(f"{record.ref} has no training proof", hint="its creator made none, or did not record it")
    adapter = registry.pull(ref, gateways=gateways, allow=allow, progress=progress).path
    told = Told.read(adapter)
    if told is None or not told.proof_cid:
        raise NotFoundError(f"{record.ref} does not say where its training proof is", hint="ask its creator for it")
    folder = registry.folder(told.proof_cid, "training proof", gateways, progress)
    return adapter, folder, told, record


def _require_as_recorded(record: Record, chain: LoraRecord) -> None:
    told = chain.lora.training
    for what, wanted, found in (
        ("the proof's root", told.proof_root, record.proof.root),
        ("the recipe", told.recipe, record.proof.recipe_sha256),
        ("the dataset", told.dataset, record.proof.dataset_root),
    ):
        require_equal(f"{what} is not what the chain records of {chain.ref}", proof.PROOF, wanted, found)


def _base_of(registry: Registry, chain: LoraRecord) -> str:
    base = registry.chain.version(chain.lora.base)
    return f"{base.ref}#{_SAFETENSORS}"


def _drawn(registry: Registry, chain: LoraRecord) -> tuple[str, str] | None:
    """The seed that the ledger drew for an adapter's run, if it has one."""
    if not chain.lora.training.run_id:
        return None
    seed = registry.ledger.run(chain.lora.training.run_id).seed
    return (seed.removeprefix("0x"), "ledger") if seed else None


def _missing(what: str) -> str:
    raise ConfigError(f"the run does not say where its {what} is", hint=f"name it: --{what}")


# ---------------------------------------------------------------------- inputs


def _model(
    registry: Registry,
    named: str,
    beside: Path,
    gateways: Iterable[str],
    allow: frozenset[str],
    progress: Progress | None,
) -> tuple[Path, str]:
    """The folder of a model that can be trained on, and the SHA-256 that names it."""
    from citrate.registry.unixfs import address

    path = beside / Path(named).expanduser()
    if not path.is_dir():
        if named.startswith(("/", "./", "../", "~")):
            raise NotFoundError(f"no such folder: {path}")
        ref = replace(registry.reference(named), variant=_SAFETENSORS)
        _require_derivable(registry, named)
        pulled = registry.pull(ref, gateways=gateways, allow=allow, progress=progress)
        return pulled.path, pulled.variant.sha256
    found = formats.inspect(path)
    if found.format != Format.SAFETENSORS:
        raise FormatError(f"{path} is {found.format}: training wants safetensors", hint="citrate pull REF#safetensors")
    return path, address(path, progress=progress).sha256


def _require_derivable(registry: Registry, named: str) -> None:
    licence = registry.resolve(named.partition("#")[0]).licence
    if "-nd" in licence.lower():
        raise NotPermittedError(
            f"the licence of {named}, {licence}, forbids derivatives",
            hint="train on another base, or ask its publisher",
        )


def _dataset(
    registry: Registry, wanted: Recipe, beside: Path, gateways: Iterable[str], progress: Progress | None
) -> tuple[Path, Card]:
    path = beside / Path(wanted.dataset).expanduser()
    if path.is_file():
        raise ConfigError(
            f"{wanted.dataset} is a file of rows, not a dataset",
            hint=f"citrate dataset add {wanted.dataset} --method {wanted.method} --license SPDX prints its CID",
        )
    where = path if path.is_dir() else wanted.dataset
    card, folder = registry.dataset(where, gateways=gateways, progress=progress)
    if not rows.takes(wanted.method, card.columns):
        raise ConfigError(
            f"the dataset has {' + '.join(card.columns)}, which {wanted.method} does not take",
            hint="citrate dataset add --help lists what each method wants",
        )
    return folder, card


def _last_loss(out: Path) -> float:
    import json

    lines = (out / "log.jsonl").read_bytes().splitlines()
    if not lines:
        raise IntegrityError("the run's log is empty", path="log.jsonl", expected="a line a step", actual="nothing")
    return float(json.loads(lines[-1])["loss"])
