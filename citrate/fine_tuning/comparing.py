"""Two models of the registry or of this machine, compared on given texts; what came out, as a record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.core.sink import Progress
from citrate.fine_tuning.comparison import (
    AdapterSide,
    Comparison,
    Side,
    Texts,
    divergence_of,
    scores_of,
    texts_of,
)
from citrate.fine_tuning.signed import block, decimal, keep
from citrate.formats.comparing import Subject, measure
from citrate.formats.conversion import converter_version
from citrate.registry.unixfs import address
from citrate.training import scores
from citrate.training.scores import Pair, Thresholds

if TYPE_CHECKING:
    from citrate.facade import Registry

BETWEEN = "::"
"""Stands between a model and the adapter on it: neither a reference nor, usually, a path holds it."""
PINNED = "comparison"
_FILE_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Asked:
    """What is compared, on what, and by whose scores."""

    a: str
    """``MODEL`` or ``MODEL::ADAPTER``, each a reference or a path; the adapter with ``=SCALE`` or without."""
    b: str
    prompts: Path
    scores: Path | None = None
    """JSON Lines of seed and both scores; None: predictions only."""
    thresholds: Thresholds = field(default_factory=Thresholds)


def compare(
    registry: Registry,
    asked: Asked,
    *,
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Comparison:
    """Measure how two models differ; nothing is signed or kept.

    Raises:
        NotFoundError: a model, an adapter or a file is not there.
        NotPermittedError, IntegrityError, StoreError: as ``Registry.pull``.
        FormatError: the models, the prompts or the scores cannot be compared.
    """
    prompts = _read(asked.prompts)
    texts = texts_of(prompts, json_lines=asked.prompts.suffix in (".jsonl", ".ndjson"))
    pairs: tuple[Pair, ...] = ()
    told = b""
    if asked.scores:
        told = _read(asked.scores)
        pairs = scores.read(told)
    gateways = tuple(gateways)
    sides = [_side(registry, text, gateways, allow, progress) for text in (asked.a, asked.b)]
    (first, a), (second, b) = sides
    found = measure(first, second, texts, progress)
    return Comparison(
        schema="citrate.comparison/1",
        version=converter_version(),
        a=a,
        b=b,
        prompts=Texts(sha256=hashlib.sha256(prompts).hexdigest(), texts=found.texts, positions=found.positions),
        divergence=divergence_of(found),
        scores=scores_of(scores.judge(pairs, asked.thresholds), asked.thresholds, told) if pairs else None,
        signature=None,
    )


def sign_and_keep(registry: Registry, comparison: Comparison) -> tuple[Comparison, str]:
    """Sign a comparison with the active key, keep it as a pinned block, and tell its CID.

    Raises:
        NotFoundError: there is no key, and this is no devnet.
    """
    signed = comparison.signed(registry.signer(), registry.registry_address)
    return signed, keep(registry, signed, PINNED)


def show(registry: Registry, cid: str, *, gateways: Iterable[str] = ()) -> tuple[Comparison, str]:
    """A comparison by its CID, fetched where it is not here, and who signed it.

    Raises:
        FormatError: no CID, or no comparison.
        IntegrityError: the signature is not the signer's, or there is none.
        StoreError: no source has it.
    """
    comparison = Comparison.parse(block(registry, cid, gateways))
    return comparison, comparison.require_signature()


def _side(
    registry: Registry, text: str, gateways: tuple[str, ...], allow: frozenset[str], progress: Progress | None
) -> tuple[Subject, Side]:
    model, between, adapter = text.partition(BETWEEN)
    if not model or (between and not adapter):
        raise ConfigError(f"{text!r:.80} is no model to compare", hint=f"MODEL, or MODEL{BETWEEN}ADAPTER")
    found = registry.locate(model, gateways=gateways, allow=allow, progress=progress)
    chosen = registry.adapter(adapter, found, gateways=gateways, allow=allow, progress=progress) if adapter else None
    on = None
    if chosen:
        on = AdapterSide(name=chosen.label[:256], cid=chosen.cid, scale=decimal(chosen.applied.scale))
    is_path = not found.variant
    side = Side(
        name=(found.path.resolve().name if is_path else f"{model.partition('#')[0]}#{found.variant}")[:256],
        format=str(found.format),
        sha256=found.sha256 or address(found.path).sha256,
        adapter=on,
    )
    return Subject(found.path, found.format, chosen.applied if chosen else None), side


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _FILE_MAX_BYTES:
            raise FormatError(f"{path} has more than {_FILE_MAX_BYTES >> 20} MiB", hint="compare on fewer texts")
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {path}", hint="--prompts FILE, a text a line") from None
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}", hint="--prompts FILE, a text a line") from error
