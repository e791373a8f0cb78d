"""What goes into a merge, on this machine and verified; its weights and its licences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from citrate import formats
from citrate.core.adapters import LoraRecord
from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.core.licences import require_derivable
from citrate.core.records import Format, Variant, VersionRecord
from citrate.core.sink import Progress
from citrate.formats.merging_record import Parent

if TYPE_CHECKING:
    from citrate.facade import Registry

SAFETENSORS = Variant(Format.SAFETENSORS)
_WEIGHT_MAX = 1_000_000


@dataclass(frozen=True)
class Named:
    """A parent as it is named: ``REF`` or ``DIR``, and its weight, if it has one of its own."""

    text: str
    weight: Decimal | None = None

    @classmethod
    def parse(cls, text: str) -> Named:
        """Parse ``REF|DIR[=WEIGHT]``.

        Raises:
            ConfigError: the weight is no number, zero, or absurd.
        """
        if "=" not in text or Path(text).is_dir():
            return cls(text)
        name, _, number = text.rpartition("=")
        hint = "REF=WEIGHT, a number such as 0.3 with at most nine decimals; without weights all count alike"
        try:
            weight = Decimal(number)
        except InvalidOperation:
            raise ConfigError(f"{number[:40]!r} is no weight", hint=hint) from None
        if not weight.is_finite() or not weight or abs(weight) > _WEIGHT_MAX or weight != round(weight, 9):
            raise ConfigError(f"{number[:40]!r} is no weight that can be used", hint=hint)
        return cls(name, weight)


@dataclass(frozen=True)
class Found:
    """A parent on this machine."""

    named: str
    path: Path
    parent: Parent
    licence: str
    """Empty where a folder states none."""
    digests: frozenset[str]
    """All by which it may be called."""
    base: str = ""
    """The version that a registered adapter was trained on."""
    base_sha256: str = ""
    """That version's content."""


def shares(named: Sequence[Named]) -> list[Decimal]:
    """The weights of all: those without one have equal parts of what the others leave of 1.

    Raises:
        ConfigError: nothing is left for them, or all together are nothing.
    """
    given = [each.weight for each in named if each.weight is not None]
    open_ = len(named) - len(given)
    left = 1 - sum(given, Decimal(0))
    if open_ and left <= 0:
        raise ConfigError(
            f"the weights that are given leave nothing for {open_} of {len(named)}", hint="give each one, or none"
        )
    part = round(left / open_, 9).normalize() if open_ else Decimal(0)
    weights = [part if each.weight is None else each.weight for each in named]
    if not sum(weights):
        raise ConfigError("the weights add up to zero", hint="REF=WEIGHT, such as 0.3")
    return weights


def licence_of(parents: Sequence[Found], wanted: str | None) -> str:
    """The licence of what is made of ``parents``: theirs, if they agree; else ``wanted``. Empty: none states one.

    Raises:
        NotPermittedError: one forbids derivatives.
        ConfigError: they differ, and none is wanted; or they agree, and another is.
    """
    for found in parents:
        require_derivable(found.named, found.licence, "merge without it, or ask its publisher")
    stated = {found.licence: found.named for found in reversed(parents) if found.licence}
    if wanted is not None:
        spdx = formats.stated_spdx(wanted)
        if len(stated) == 1 and spdx not in stated:
            raise ConfigError(
                f"every parent that states a licence is under {next(iter(stated))}: a merge is no reason for {spdx}",
                hint="leave out --license",
            )
        return spdx
    if len(stated) > 1:
        told = ", ".join(f"{name} is under {licence}" for licence, name in reversed(stated.items()))
        raise ConfigError(
            f"the licences differ: {told}", hint="--license SPDX, one that all of them allow for what is made of them"
        )
    return next(iter(stated), "")


@dataclass(frozen=True)
class Fetching:
    """How parents are found: folders where they lie, references pulled and verified."""

    registry: Registry
    gateways: tuple[str, ...] = ()
    allow: frozenset[str] = frozenset()
    progress: Progress | None = None

    def model(self, text: str, kind: str) -> Found:
        """A model in safetensors; ``kind`` is ``base`` or ``model``.

        Raises:
            NotFoundError: no such folder or version.
            ConfigError: the reference is an adapter's.
            NotPermittedError, IntegrityError, StoreError: as `Registry.pull`.
        """
        folder = _folder(text)
        if folder is not None:
            return self._model_folder(text, folder, kind)
        record = self.registry.find(self.registry.reference(text))
        if not isinstance(record, VersionRecord):
            raise ConfigError(f"{record.ref} is an adapter, not a model", hint="--adapter REF, with --base REF")
        ref = replace(self.registry.reference(text), variant=SAFETENSORS)
        pulled = self.registry.pull(ref, gateways=self.gateways, allow=self.allow, progress=self.progress)
        parent = Parent(kind, pulled.variant.sha256, id=record.version_id, ref=record.ref)
        digests = frozenset(variant.sha256 for variant in record.variants)
        return Found(text, pulled.path, parent, record.licence, digests)

    def adapter(self, text: str) -> Found:
        """An adapter.

        Raises:
            NotFoundError: no such folder or adapter.
            ConfigError: the reference is a model's.
            NotPermittedError, IntegrityError, StoreError: as `Registry.pull`.
        """
        folder = _folder(text)
        if folder is not None:
            return _adapter_folder(text, folder)
        record = self.registry.find(self.registry.reference(text))
        if not isinstance(record, LoraRecord):
            raise ConfigError(f"{record.ref} is a model, not an adapter", hint="--model REF, or citrate lora list")
        path = self.registry.pull(text, gateways=self.gateways, allow=self.allow, progress=self.progress).path
        lora = record.lora
        parent = Parent("adapter", lora.sha256, id=record.lora_id, ref=record.ref)
        return Found(text, path, parent, lora.licence, frozenset([lora.sha256]), lora.base, lora.base_sha256)

    def _model_folder(self, text: str, folder: Path, kind: str) -> Found:
        from citrate.registry.unixfs import address

        found = formats.inspect(folder)
        if found.format != Format.SAFETENSORS:
            raise FormatError(
                f"{text} is {found.format}: merging wants safetensors", hint="citrate pull REF#safetensors"
            )
        sha256 = address(folder, progress=self.progress).sha256
        spdx = found.licence.spdx if found.licence else ""
        return Found(text, folder, Parent(kind, sha256), spdx, frozenset([sha256]))


def require_trained_on(adapter: Found, base: Found) -> None:
    """Refuse a registered adapter of another base.

    Raises:
        FormatError: it was trained on other bytes.
    """
    if adapter.base and adapter.base != base.parent.id and adapter.base_sha256 not in base.digests:
        raise FormatError(
            f"{adapter.named} was trained on another base (SHA-256 {adapter.base_sha256[:16]}…)"
            f" than {base.named} (SHA-256 {base.parent.sha256[:16]}…)",
            hint=f"citrate show {adapter.named} names its base",
        )


def _adapter_folder(text: str, folder: Path) -> Found:
    from citrate.formats.adapter import WEIGHTS, open_adapter
    from citrate.registry.adapters import published_digest
    from citrate.registry.unixfs import address

    peft = (folder / WEIGHTS).exists()
    # as the registry would tell it; of another form than the registry's own, the folder's as it is
    sha256 = published_digest(open_adapter(folder)) if peft else address(folder).sha256
    licence = formats.find_licence(folder)
    return Found(text, folder, Parent("adapter", sha256), licence.spdx if licence else "", frozenset([sha256]))


def _folder(text: str) -> Path | None:
    """The folder that a text names; None where it is a reference."""
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if text.startswith(("/", "./", "../", "~")):
        raise NotFoundError(f"no such folder: {text}")
    return None
