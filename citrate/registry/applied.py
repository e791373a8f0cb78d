"""The adapter that a model is run with: found, verified, held against its base, and in the form that a runtime takes.

What is made for a runtime is derived from verified bytes, checked against them, and kept in the store as what was
pulled is: it makes way where room is needed, for it can be made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.adapters import SAFETENSORS, Applied, LoraRecord
from citrate.core.errors import (
    ConfigError,
    IntegrityError,
    NotFoundError,
    UnsupportedConversionError,
)
from citrate.core.records import Format
from citrate.core.sink import Progress
from citrate.formats import is_bare
from citrate.formats.adapter import MLX_WEIGHTS, WEIGHTS, Adapter, open_adapter, write
from citrate.formats.adapter_conversion import check_adapter, convert_adapter, is_adapter, open_updates
from citrate.formats.adapter_gguf import slots_of
from citrate.formats.adapter_host import FORMS, gguf_host, require_host
from citrate.formats.adapter_updates import Updates
from citrate.formats.adapter_weights import require_trained
from citrate.formats.conversion import converter_version
from citrate.formats.documents import inside
from citrate.formats.source import SourceModel
from citrate.registry import adapters, permission
from citrate.registry.store.pins import PULLED
from citrate.registry.unixfs import address

if TYPE_CHECKING:
    from citrate.registry.session import Session

SCALE_MAX = 100.0


@dataclass(frozen=True)
class Host:
    """The model that is run."""

    path: Path
    format: Format
    name: str
    """As the user named it."""
    sha256: str = ""
    """Of its bytes, as the chain has it; empty of a local path, which is hashed where that is asked for."""


@dataclass(frozen=True)
class Named:
    """An adapter as a user names it: ``REF``, ``DIR``, either with ``=SCALE``."""

    where: str
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Named:
        """Parse it; the whole text is the name where such a folder exists.

        Raises:
            ConfigError: the scale is no number, or not credible.
        """
        where, sign, tail = text.rpartition("=")
        if not sign or Path(text).exists():
            return cls(text)
        try:
            scale = float(tail)
        except ValueError:
            raise ConfigError(f"the scale {tail!r:.40} of the adapter is no number", hint="--adapter REF=0.5") from None
        if not abs(scale) <= SCALE_MAX:
            raise ConfigError(
                f"the scale {scale:g} of the adapter is not within {SCALE_MAX:g}", hint="1 adds it as it was trained"
            )
        return cls(where, scale)


@dataclass(frozen=True)
class Brought:
    """An adapter that is in the store, verified."""

    label: str
    """Its full reference, or the folder's name."""
    cid: str
    record: LoraRecord | None = None
    """The chain's; None of a folder's."""


@dataclass(frozen=True)
class Chosen:
    """The adapter for one run."""

    label: str
    """Its full reference, or the folder's name."""
    cid: str
    """Of its published form, whatever a runtime takes."""
    applied: Applied


def choose(
    session: Session,
    named: Named,
    host: Host,
    *,
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Chosen:
    """Get an adapter ready for the model that is run.

    Raises:
        NotFoundError: no such adapter.
        NotPermittedError: it is quarantined, and ``allow`` does not say so.
        IntegrityError: a byte of it is not what the chain says, or it was trained on another model than ``host``.
        FormatError: no adapter, a damaged or untrained one, or one that does not fit the model.
        UnsupportedConversionError: the runtime of the model's format cannot be given it.
    """
    brought = bring(session, named.where, host, gateways=gateways, allow=allow, progress=progress)
    return ready(session, brought, named.scale, host)


def bring(
    session: Session,
    where: str,
    host: Host,
    *,
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Brought:
    """Get an adapter, of a reference or a folder, into the store; raises as ``choose``, before it is held against the
    model's tensors."""
    path = Path(where).expanduser()
    if path.exists() or where.startswith(("/", "./", "../", "~")):
        return Brought(path.resolve().name, _of_folder(session, path))
    record = _record(session, where)
    permission.require_standing(session, record.lora_id, record.ref, record.status, allow)
    _require_base(session, record, host)
    adapters.pull(session, record, session.sources(gateways), progress)
    return Brought(record.ref, record.lora.cid, record)


def require_fits(session: Session, brought: Brought, host: Host) -> Adapter:
    """The adapter, opened, every update of which has its place in the model.

    Raises:
        FormatError: it has not, or the adapter is damaged.
        UnsupportedConversionError: no adapter is put on models of this format.
    """
    adapter = open_adapter(session.store.get(brought.cid))
    require_host(adapter, host.path, host.format)
    return adapter


def ready(
    session: Session, brought: Brought, scale: float, host: Host, spared: Collection[str] = frozenset()
) -> Chosen:
    """An adapter of the store in the form that the model's runtime takes; raises as ``choose``.

    Where room is made for that form, what is ``spared`` stays, and the adapter itself.
    """
    adapter = require_fits(session, brought, host)
    path = _for_runtime(session, adapter, brought.cid, host, {brought.cid, *spared})
    return Chosen(brought.label, brought.cid, Applied(path, scale))


def _record(session: Session, ref: str) -> LoraRecord:
    found = session.find(ref)
    if not isinstance(found, LoraRecord):
        raise ConfigError(
            f"{found.ref} is a model, not an adapter", hint="citrate lora list tells what adapters there are"
        )
    return found


def _require_base(session: Session, record: LoraRecord, host: Host) -> None:
    """Refuse another model than the one that the adapter was trained on: some variant of that very version."""
    base = session.chain.version(record.lora.base)
    sha256 = host.sha256 or address(host.path).sha256
    digests = {variant.sha256 for variant in base.variants}
    if sha256 in digests and record.lora.base_sha256 in digests:
        return
    expected = record.lora.base_sha256
    raise IntegrityError(
        f"{record.ref} was trained on {base.ref} (sha256 {expected}), and {host.name} is another model ({sha256})",
        path=host.name,
        expected=expected,
        actual=sha256,
        hint=f"citrate run {base.ref} --adapter {record.ref}",
    )


def _of_folder(session: Session, path: Path) -> str:
    """Keep a local adapter, of PEFT or mlx-lm, as one that was pulled would be; returns its CID."""
    if not path.exists():
        raise NotFoundError(f"no such folder: {path.absolute()}", hint="an adapter is a folder, or a reference")
    if not path.is_dir() or not is_adapter(path):
        raise ConfigError(
            f"{path} is no adapter", hint="an adapter is a folder with adapter_config.json, or a reference"
        )
    mlx = (path / MLX_WEIGHTS).exists() and not (path / WEIGHTS).exists()
    with session.store.writer(bare=False) as sink:
        if mlx:
            convert_adapter(open_updates(path), SAFETENSORS, sink)
        else:
            adapter = open_adapter(path)
            require_trained(inside(adapter.root, WEIGHTS))
            write(adapter, sink, lambda *_: None)
        return sink.commit().cid


def _for_runtime(session: Session, adapter: Adapter, cid: str, host: Host, spared: Collection[str]) -> Path:
    """The adapter's files as the runtime of ``host`` takes them."""
    wanted, store = FORMS[host.format], session.store
    if wanted == SAFETENSORS:
        return adapter.root
    updates = _updates(adapter, host)
    base = gguf_host(host.path) if host.format is Format.GGUF else None
    reason = f"{PULLED}{cid} as {wanted} by {converter_version()} for {_naming(updates, base)}"
    made = store.pinned_for(reason)
    if made:
        try:
            return store.get(made)
        except IntegrityError:
            store.set_aside(made)  # it is made again, below
    store.make_room(sum(file.stat().st_size for file in adapter.root.iterdir()), spared)
    with store.writer(bare=is_bare(wanted)) as sink:
        convert_adapter(updates, wanted, sink, base=base)
        artifact = sink.commit()
    path = store.get(artifact.cid)
    check_adapter(updates, wanted, path, base)
    store.pin(artifact.cid, reason)
    return path


def _updates(adapter: Adapter, host: Host) -> Updates:
    try:
        return open_updates(adapter.root)
    except UnsupportedConversionError as error:
        raise UnsupportedConversionError(
            f"{host.format} cannot be given this adapter: {error.message.partition(': ')[2]}",
            hint="run the safetensors variant, on which PEFT itself puts it: REF#safetensors",
        ) from error


def _naming(updates: Updates, base: SourceModel | None) -> str:
    """What a conversion depends on besides the adapter: how the base's tensors are called and reordered."""
    slots = sorted(slots_of(updates, base).items()) if base else []
    return hashlib.sha256(repr(slots).encode()).hexdigest()[:16]
