"""From a suite's file, or its record, to base and adapters on this machine: verified, held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import IntegrityError, NotFoundError
from citrate.fine_tuning.suites import marks
from citrate.fine_tuning.suites.keeping import PINNED
from citrate.fine_tuning.suites.parts import Mark, Prompts
from citrate.fine_tuning.suites.record import Base, Suite, SuiteAdapter
from citrate.fine_tuning.suites.written import Written, WrittenAdapter
from citrate.registry import applied
from citrate.registry.applied import Brought, Host
from citrate.registry.unixfs import address

if TYPE_CHECKING:
    from citrate.core.sink import Progress
    from citrate.facade import Registry


_OF_PATHS = ("/", "./", "../", "~")
"""What begins so is no reference."""
_BESIDE = "paths in a suite are relative to its file"


@dataclass(frozen=True)
class Bound:
    """A suite with its base and adapters on this machine."""

    suite: Suite
    host: Host
    adapters: Mapping[str, Brought]
    """By the names that the suite gives them."""


@dataclass(frozen=True)
class Binding:
    """How base and adapters are found.

    Attributes:
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of what is hashed and fetched.
    """

    registry: Registry
    gateways: tuple[str, ...] = ()
    allow: frozenset[str] = frozenset()
    progress: Progress | None = None

    def written_base(self, place: str | Path, given: str = "") -> tuple[Base, Host]:
        """The base that a file names, a path or a reference, and what it is.

        What is ``given`` stands in for a path, which names no content; of a registered base it must be the bytes.
        """
        if given and isinstance(place, Path):
            return self.written_base(_placed(given, Path(), "--base is a file, a folder, or a reference"))
        if isinstance(place, Path):
            host = self._host(str(place))
            found = address(place, progress=self.progress)
            name = place.resolve().name[:256]
            return Base(name=name, sha256=found.sha256, cid=found.cid, ref=None, version_id=None, variant=None), host
        named = self.registry.reference(place)
        record = self.registry.resolve_model(place, "are put on models")
        first = record.variants[0]
        variant = str(named.variant) if named.variant else None
        base = Base(
            name=f"{record.publisher}/{record.name}",
            sha256=first.sha256,
            cid=first.cid,
            ref=record.ref,
            version_id=record.version_id,
            variant=variant,
        )
        return base, self.base(base, given)

    def base(self, base: Base, given: str) -> Host:
        """The base of a record, or what is ``given`` in its place, if it is the same."""
        if given:
            host = self._host(given)
            if host.sha256 not in (base.sha256, *self._variants(base)):
                raise _another(given, base, host.sha256)
            return host
        if base.ref is not None:
            return self._registered(base)
        if not self.registry.store.has(base.cid) and not self.registry.sources(self.gateways):
            raise NotFoundError(
                f"the suite's base {base.name} (SHA-256 {base.sha256}) is not here", hint="name it: --base PATH"
            )
        path = self.registry.folder(base.cid, "base of an adapter suite", self.gateways, self.progress)
        host = self._host(str(path))
        if host.sha256 != base.sha256:
            raise _another(base.cid, base, host.sha256)
        return replace(host, name=base.name)

    def adapter(self, where: str, host: Host) -> Brought:
        """An adapter of a reference or a folder, in the store; it fits the base."""
        brought = applied.bring(
            self.registry, where, host, gateways=self.gateways, allow=self.allow, progress=self.progress
        )
        applied.require_fits(self.registry, brought, host)
        return brought

    def recorded(self, adapter: SuiteAdapter, host: Host) -> Brought:
        """An adapter of a record: the same bytes, and by the chain the same LoRA."""
        if adapter.ref is not None:
            brought = self.adapter(adapter.ref, host)
        else:
            self.registry.folder(adapter.cid, PINNED, self.gateways, self.progress)
            brought = Brought(adapter.name, adapter.cid)
            applied.require_fits(self.registry, brought, host)
        lora_id = brought.record.lora_id if brought.record else None
        found = self.registry.store.artifact(brought.cid).sha256
        if (brought.cid, found, lora_id) != (adapter.cid, adapter.sha256, adapter.lora_id):
            raise _changed(adapter, found)
        return brought

    def _registered(self, base: Base) -> Host:
        digests, named = self._variants(base), _named(base)
        host = self._host(named)
        if host.sha256 not in digests:  # a folder of that name lies here
            raise _another(named, base, host.sha256)
        return host

    def _host(self, model: str) -> Host:
        """A model that is located, with its digest."""
        found = self.registry.locate(model, gateways=self.gateways, allow=self.allow, progress=self.progress)
        if found.variant:
            return Host(found.path, found.format, f"{model.partition('#')[0]}#{found.variant}", found.sha256)
        sha256 = address(found.path, progress=self.progress).sha256
        return Host(found.path, found.format, found.path.resolve().name, sha256)

    def _variants(self, base: Base) -> tuple[str, ...]:
        """The digests of all variants of a registered base, which must be the one that the suite means."""
        if base.ref is None:
            return ()
        record = self.registry.resolve(base.ref)
        first = record.variants[0]
        if (record.version_id, first.sha256, first.cid) != (base.version_id, base.sha256, base.cid):
            raise _another(base.ref, base, first.sha256)
        return tuple(variant.sha256 for variant in record.variants)


def bind(
    registry: Registry,
    written: Written,
    beside: Path,
    *,
    base: str = "",
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Bound:
    """Name a written suite's base and adapters by their content. The adapters are in the store then, and unpinned.

    Args:
        registry: where they come from.
        written: the suite.
        beside: the folder that its relative paths start from.
        base: a reference or a path to take the base from: instead of the path that the suite names, or as what lies
            there of the registered base that it names.
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of what is hashed and fetched.

    Raises:
        NotFoundError, NotPermittedError, StoreError: as `Registry.locate` and `Registry.adapter`.
        IntegrityError: a byte is not what the chain says, ``base`` is not the registered base, or an adapter was
            trained on another.
        FormatError: an adapter does not fit the base.
        ConfigError: a regular expression is none.
    """
    marks.require_sound(_marks(written.adapters.values()))
    binding = Binding(registry, tuple(gateways), allow, progress)
    found, host = binding.written_base(_placed(written.base, beside, here=not base), base)
    places = {name: str(_placed(each.adapter, beside)) for name, each in sorted(written.adapters.items())}
    brought = {name: binding.adapter(place, host) for name, place in places.items()}
    suite = Suite(
        schema="citrate.adapter-suite/v1",
        base=found,
        adapters=tuple(_recorded(registry, name, written.adapters[name], each) for name, each in brought.items()),
        generation=written.generation,
        limits=written.limits,
        signature=None,
    )
    suite.encode()  # says so if it is too large, before anything is run
    return Bound(suite, host, brought)


def locate(
    registry: Registry,
    suite: Suite,
    *,
    base: str = "",
    gateways: Iterable[str] = (),
    allow: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Bound:
    """Get a suite's base and adapters to this machine, by what its record says.

    Args:
        registry: where they come from.
        suite: its record.
        base: a reference or a path to take the base from; it must be the one that the suite means.
        gateways: where to fetch from, besides the settings' own.
        allow: ``deprecated``, ``quarantined``.
        progress: told of what is hashed and fetched.

    Raises:
        NotFoundError: the base is not here, and nobody is there to ask.
        IntegrityError: ``base``, or what the chain says now, is not what the suite means.
        NotPermittedError, StoreError, FormatError: as ``bind``.
    """
    marks.require_sound(_marks(suite.adapters))
    binding = Binding(registry, tuple(gateways), allow, progress)
    host = binding.base(suite.base, base)
    return Bound(suite, host, {each.name: binding.recorded(each, host) for each in suite.adapters})


def _recorded(registry: Registry, name: str, written: WrittenAdapter, found: Brought) -> SuiteAdapter:
    return SuiteAdapter(
        name=name,
        sha256=registry.store.artifact(found.cid).sha256,
        cid=found.cid,
        ref=found.record.ref if found.record else None,
        lora_id=found.record.lora_id if found.record else None,
        scale=written.scale,
        mark=written.mark,
        trigger=written.trigger,
        clean=written.clean,
    )


def _marks(adapters: Iterable[Prompts]) -> Iterable[Mark]:
    for adapter in adapters:
        yield adapter.mark
        yield from adapter.trigger


def _placed(text: str, beside: Path, hint: str = _BESIDE, *, here: bool = True) -> str | Path:
    """What is named by ``text``: the path where there is one, else a reference. ``here``: it has to be there."""
    path, is_path = beside / Path(text).expanduser(), text.startswith(_OF_PATHS)
    if is_path and here and not path.exists():
        raise NotFoundError(f"no such file or folder: {path}", hint=hint)
    return path if is_path or path.exists() else text


def _named(base: Base) -> str:
    return f"{base.ref}#{base.variant}" if base.variant else str(base.ref)


def _another(given: str, base: Base, found: str) -> IntegrityError:
    return IntegrityError(
        f"the suite is one of {base.ref or base.name} (SHA-256 {base.sha256}), and {given} is another base ({found})",
        path=given,
        expected=base.sha256,
        actual=found,
        hint="its adapters were made for that base only: name it with --base",
    )


def _changed(adapter: SuiteAdapter, found: str) -> IntegrityError:
    return IntegrityError(
        f"{adapter.ref or adapter.name} is not the adapter that the suite means",
        path=adapter.name,
        expected=adapter.sha256,
        actual=found,
        hint="the suite was made on another chain, or by somebody who lies",
    )
