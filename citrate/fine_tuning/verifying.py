"""Verify a run that somebody says they did: collect its parts, hold them against each other, replay."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.core.adapters import Grade, LoraRecord
from citrate.core.errors import ConfigError, FormatError, IntegrityError, NotFoundError, TrainingError
from citrate.core.records import VersionRecord
from citrate.core.sink import Progress
from citrate.fine_tuning.inputs import Model, model_named
from citrate.fine_tuning.running import require_base, require_whole
from citrate.fine_tuning.told import TOLD, Told
from citrate.formats.adapter import open_adapter
from citrate.formats.adapter_config import CONFIG
from citrate.formats.documents import read_bounded
from citrate.training import health, process, proof
from citrate.training.dataset import Card
from citrate.training.health import Health
from citrate.training.process import Files
from citrate.training.proof import Proof, Record, require_equal
from citrate.training.recipe import Backend
from citrate.training.rows import Method

if TYPE_CHECKING:
    from citrate.facade import Registry

_SEGMENTS = 3
_WITHOUT_EFFECT = frozenset({
    "peft_version", "inference_mode", "qalora_group_size",
    "fan_in_fan_out",  # PEFT sees for itself how a base lies, and says so here
    "target_modules", "modules_to_save",  # held against the weights by whoever opens an adapter
})  # fmt: skip
"""Settings that change nothing of an adapter whose weights are there. All others are the recipe's, or empty."""


@dataclass(frozen=True)
class Claim:
    """A run that somebody says they did, with all its parts here: what is to be verified."""

    record: Record
    adapter: Path
    files: Files
    health: Health
    """How it went, as its log has it."""
    seed: str
    """From which the segments are drawn."""
    seed_by: str
    """Who drew it: ``ledger``, ``you``, or ``random``."""
    not_of_the_run: tuple[str, ...] = ()
    """Files and folders that lie where the run's are, and that nothing says anything of."""


@dataclass(frozen=True)
class Verified:
    """What the replay came to. ``grade`` is None where a segment disagrees."""

    grade: Grade | None
    seed: str
    seed_by: str
    segments: tuple[Mapping[str, Any], ...]
    of: int
    """How many segments the run has."""


@dataclass(frozen=True)
class _Found:
    """A run where it lies."""

    adapter: Path
    folder: Path
    """Of its record."""
    told: Told
    """Where the adapter says that its inputs are."""
    chain: LoraRecord | None = None
    """What the chain says of it; None of a folder's."""


@dataclass(frozen=True)
class _Sources:
    """Where a run's parts are fetched from."""

    registry: Registry
    gateways: tuple[str, ...]
    allow: frozenset[str]
    progress: Progress | None

    def model(self, named: str, backend: Backend = Backend.TRL) -> Model:
        """A model by its reference or its folder; raises as ``inputs.model_named``."""
        return model_named(self.registry, named, Path(), self.gateways, self.allow, self.progress, backend)

    def folder(self, cid: str, what: str) -> Path:
        """What a CID names, for a reason; raises as ``Registry.folder``."""
        return self.registry.folder(cid, what, self.gateways, self.progress)


def claim(
    registry: Registry,
    where: str,
    *,
    base: str = "",
    dataset: str = "",
    reward: str = "",
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
        reward: the reward model: a CID, a reference or a folder, where the run does not say it.
        seed: hex; empty: the ledger's, or a random one.
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of what is fetched.

    Raises:
        NotFoundError: no such run, or a part of it is nowhere.
        IntegrityError: a part is not what another part, or the chain, says.
    """
    sources = _Sources(registry, tuple(gateways), allow, progress)
    found = _in_folder(sources, Path(where)) if Path(where).is_dir() else _on_chain(sources, where)
    record, told = Record(found.folder), found.told
    went = _held_together(record, found.adapter)
    seed_by = (seed, "you") if seed else None
    if found.chain is not None:
        recorded = _require_as_recorded(registry, record, found.chain)
        base = base or variant_of(recorded, record.proof)
        seed_by = seed_by or _drawn(registry, found.chain)
    files = _inputs(
        sources, record, went, base=base or told.base, dataset=dataset or told.dataset_cid,
        reward=reward or told.reward_cid,
    )  # fmt: skip
    chosen = seed_by or (secrets.token_hex(32), "random")
    return Claim(record, found.adapter, files, went, *chosen, not_of_the_run=_not_of_the_run(record, found.adapter))


def _held_together(record: Record, adapter: Path) -> Health:
    """Hold a run's record, its log and its outcome against each other; returns how it went, as its log has it."""
    require_whole(record, adapter)
    went = checked_health(record)
    require_configured_as_trained(adapter, record)
    return went


def _inputs(sources: _Sources, record: Record, went: Health, *, base: str, dataset: str, reward: str) -> Files:
    """Fetch what a run was trained on; each part is the one that its record names."""
    bound, proved = record.bound, record.proof
    model = sources.model(base or _missing("base"), bound.recipe.backend)
    require_equal(
        "the base is not the one that was trained on", "base", proved.base_sha256, model.sha256,
        hint="--base REF or DIR names that one",
    )  # fmt: skip
    card, rows = sources.registry.dataset(
        dataset or _missing("dataset"), gateways=sources.gateways, progress=sources.progress
    )
    require_equal(
        "the dataset is not the one that was trained on", "dataset", proved.dataset_root, card.root,
        hint="--dataset CID or DIR names that one",
    )  # fmt: skip
    _require_rows(went, record, card)
    if bound.recipe.reinforcement is None:
        return Files(model.path, rows)
    judge = _reward_model(sources, reward or _missing("reward"))
    require_equal(
        "the reward model is not the run's", "reward model", bound.reward_sha256, judge.sha256,
        hint="--reward CID or DIR names the run's",
    )  # fmt: skip
    return Files(model.path, rows, judge.path)


def require_configured_as_trained(adapter: Path, record: Record) -> None:
    """Weights are the run's outcome only together with what says how, and where, they are put on a model.

    Raises:
        IntegrityError: the adapter's configuration says anything that its recipe does not.
    """
    recipe, found = record.bound.recipe, {"init_lora_weights": True, **open_adapter(adapter).config}
    trained: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if recipe.method is Method.REWARD else "CAUSAL_LM",
        "r": recipe.lora.rank,
        "lora_alpha": recipe.lora.alpha,
        "lora_dropout": float(recipe.lora.dropout),
        "bias": "none",
        "use_dora": recipe.lora.dora,
        "use_rslora": recipe.lora.rslora,
        "init_lora_weights": True,  # others (pissa, olora) have PEFT change the base itself when it loads the adapter
    }
    for key in sorted((found.keys() | trained.keys()) - _WITHOUT_EFFECT):
        wanted, value = trained.get(key), found.get(key)
        if value != wanted and (value or wanted):
            said = "the adapter is not configured as its recipe trains one"
            raise IntegrityError(said, path=f"adapter/{CONFIG}: {key}", expected=str(wanted), actual=str(value)[:200])


def _require_rows(went: Health, record: Record, card: Card) -> None:
    """What health tells of rows beside what is cut of them, which the replay counts again."""
    if went.rows is not None:
        told, limit = f"{went.rows.rows} rows", record.bound.recipe.max_length
        require_equal("the run's health tells of other rows", health.HEALTH, f"{card.rows} rows", told)
        require_equal(
            "the run's health tells of another max_length", health.HEALTH, str(limit), str(went.rows.max_length)
        )


def _not_of_the_run(record: Record, adapter: Path) -> tuple[str, ...]:
    folder, segments = record.folder / proof.CHECKPOINTS, range(1, record.bound.recipe.segments)
    kept = {record.checkpoint(record.segment(number)[0]).name for number in segments}
    others = sorted(path.name for path in folder.iterdir() if path.name not in kept) if folder.is_dir() else []
    found = open_adapter(adapter)
    beside = found.left_out
    if not record.bound.accelerate:  # which writes the tokenizer's files, too
        beside = tuple(sorted([*beside, *(each.name for each in found.companions if each.name != TOLD)]))
    return tuple([f"adapter/{name}" for name in beside] + [f"{proof.CHECKPOINTS}/{name}" for name in others])


def checked_health(record: Record) -> Health:
    """What a run says of how it went; the log says the same.

    Raises:
        FormatError: it or the log is malformed.
        IntegrityError: the log does not say so.
    """
    claimed = Health.parse(read_bounded(record.folder / health.HEALTH, health.HEALTH_MAX_BYTES))
    log = health.read_log(record.folder / "log.jsonl", record.proof.steps)
    found = health.summarise(log, record.bound.recipe, claimed.row_count)
    require_equal(
        "the run's health is not what its log says",
        health.HEALTH,
        hashlib.sha256(claimed.to_bytes()).hexdigest(),
        hashlib.sha256(found.to_bytes()).hexdigest(),
    )
    return claimed


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
    if claimed.record.bound.accelerate:
        segments = 0  # what accelerate shards is not kept, and is nowhere done again bit for bit
    chosen = tuple(range(of)) if segments is None else proof.choose(claimed.seed, of, segments)
    found: list[Mapping[str, Any]] = []
    if chosen:
        _require_processors(claimed.record.bound.recipe.world_size)
        for each in process.replay(
            claimed.record.bound, claimed.record.folder, chosen, claimed.files, claimed.adapter, threads=threads
        ):
            found.append(each)
            on_segment(each)
    return Verified(_grade(found), claimed.seed, claimed.seed_by, tuple(found), of)


def _require_processors(processes: int) -> None:
    """Somebody else's recipe says how many processes are started here: not many more than there are processors."""
    have = os.cpu_count() or 1
    if processes > 2 * have:
        raise TrainingError(
            f"the run is of {processes} processes, and this machine has {have} processors",
            hint="--segments 0 compares without replaying; a larger machine replays",
        )


def _grade(found: list[Mapping[str, Any]]) -> Grade | None:
    if not found:
        return Grade.ATTESTED
    if not all(each["ok"] for each in found):
        return None
    if all(each["exact"] for each in found):
        return Grade.EXACT
    return Grade.NUMERIC if all(each["kl"] is None for each in found) else Grade.FUNCTIONAL


def _in_folder(sources: _Sources, folder: Path) -> _Found:
    """The run of a run's folder, or of an adapter's."""
    adapter = folder / "adapter" if (folder / proof.PROOF).is_file() else folder
    told = Told.read(adapter) or Told("", "")
    if adapter != folder:
        return _Found(adapter, folder, told)
    if not told.proof_cid:
        raise NotFoundError(f"{folder} is no training run, and says of none", hint="citrate train writes one")
    return _Found(adapter, sources.folder(told.proof_cid, "training proof"), told)


def _on_chain(sources: _Sources, ref: str) -> _Found:
    """The run of a registered adapter."""
    registry = sources.registry
    record = registry.find(registry.reference(ref))
    if not isinstance(record, LoraRecord):
        raise FormatError(f"{record.ref} is a model, not an adapter: it says of no training run")
    if not record.lora.training.proof_root:
        raise NotFoundError(f"{record.ref} has no training proof", hint="its creator made none, or did not record it")
    adapter = registry.pull(ref, gateways=sources.gateways, allow=sources.allow, progress=sources.progress).path
    told = Told.read(adapter)
    if told is None or not told.proof_cid:
        raise NotFoundError(f"{record.ref} does not say where its training proof is", hint="ask its creator for it")
    return _Found(adapter, sources.folder(told.proof_cid, "training proof"), told, record)


def _require_as_recorded(registry: Registry, record: Record, chain: LoraRecord) -> VersionRecord:
    """Hold a run against what the chain records of its adapter; returns the base's record."""
    told = chain.lora.training
    for what, wanted, found in (
        ("the proof's root", told.proof_root, record.proof.root),
        ("the recipe", told.recipe, record.proof.recipe_sha256),
        ("the dataset", told.dataset, record.proof.dataset_root),
    ):
        require_equal(f"{what} is not what the chain records of {chain.ref}", proof.PROOF, wanted, found)
    base = registry.chain.version(chain.lora.base)
    require_base(record.proof, base)
    return base


def variant_of(base: VersionRecord, trained: Proof) -> str:
    """The reference of a version's variant that a run was trained on, which ``require_base`` has found in it."""
    variants = {each.sha256: each.variant for each in base.variants}
    return f"{base.ref}#{variants[trained.base_sha256]}"


def _drawn(registry: Registry, chain: LoraRecord) -> tuple[str, str] | None:
    """The seed that the ledger drew for an adapter's run, if it has one."""
    if not chain.lora.training.run_id:
        return None
    seed = registry.ledger.run(chain.lora.training.run_id).seed
    return (seed.removeprefix("0x"), "ledger") if seed else None


def _reward_model(sources: _Sources, named: str) -> Model:
    if named.startswith("baf") and "/" not in named:
        named = str(sources.folder(named, "reward model"))
    return sources.model(named)


def _missing(what: str) -> str:
    raise ConfigError(f"the run does not say where its {what} is", hint=f"name it: --{what}")
