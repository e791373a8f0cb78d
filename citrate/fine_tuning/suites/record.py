"""The record of a suite, and the record of what a check of it came to: canonical JSON, signed as `signed` tells.

A suite is named by its content: base and adapters by their digests, so that wherever they are fetched from, what is
measured is what the author meant. References and CIDs say where to look.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from citrate.core.records import ADDRESS_PATTERN, NAME_PATTERN, VERSION_PATTERN
from citrate.fine_tuning.signed import CidText, Count, Decimal, Document, Name, Sha256, SignedRecord
from citrate.fine_tuning.suites.parts import ADAPTERS_MAX, AdapterName, Generation, Limits, Prompts, Scale
from citrate.registry.dag import CHUNK_BYTES

Id = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
_REF = rf"^{ADDRESS_PATTERN.pattern}/{NAME_PATTERN.pattern}@{VERSION_PATTERN.pattern}$"
FullRef = Annotated[str, Field(pattern=_REF)]
"""A record comes from anybody: what stands here is never a path."""


class Base(Document):
    """What the adapters are put on. A registered version is named by its content: its first variant."""

    name: Name
    sha256: Sha256
    cid: CidText
    ref: FullRef | None
    """``publisher/name@version``; None of what is not registered, and so the next two."""
    version_id: Id | None
    variant: Name | None
    """The variant to measure on; None for the one that suits the machine."""


class SuiteAdapter(Prompts):
    """An adapter, by its published form, and its prompts."""

    name: AdapterName
    sha256: Sha256
    cid: CidText
    ref: FullRef | None
    """``creator/name@version``; None of what is not registered, and so the id."""
    lora_id: Id | None
    scale: Scale


class Suite(SignedRecord):
    """The whole record; its identity is ``unsigned_sha256``."""

    KIND: ClassVar[str] = "AdapterSuite"
    CALLED: ClassVar[str] = "adapter suite"
    WHENCE: ClassVar[str] = "citrate suite add"
    MAX_BYTES: ClassVar[int] = CHUNK_BYTES

    schema_: Literal["citrate.adapter-suite/v1"] = Field(alias="schema")
    base: Base
    adapters: Annotated[tuple[SuiteAdapter, ...], Field(min_length=1, max_length=ADAPTERS_MAX)]
    """By name."""
    generation: Generation
    limits: Limits

    @model_validator(mode="after")
    def _has_one_order(self) -> Suite:
        names = [adapter.name for adapter in self.adapters]
        if names != sorted(set(names)):
            raise ValueError("the adapters are not in the order of their names, each once")
        return self


class Measured(Document):
    """How often something showed."""

    prompts: Count
    shown: Count
    rate: Decimal
    """``shown`` of ``prompts``."""


class Crossed(Document):
    """Another adapter whose mark showed although it was not loaded."""

    adapter: AdapterName
    shown: Count


class AdapterResult(Document):
    """What was measured of one adapter."""

    name: AdapterName
    sha256: Sha256
    trigger: Measured
    """The adapter, on its trigger prompts: the more the better."""
    base_trigger: Measured
    """The base alone on them: what it shows by itself proves nothing of the adapter."""
    leak: Measured
    """The adapter, on its clean prompts."""
    base_leak: Measured
    cross: Measured
    """Marks of other adapters, on its trigger prompts."""
    crossed: tuple[Crossed, ...]
    """Whose; only those that showed."""
    answers_sha256: Sha256
    """Of the canonical JSON of its answers, trigger prompts first: who measures again can compare."""
    failed: tuple[Literal["trigger", "leak", "cross"], ...]
    """What is not within the suite's limits."""


class Ran(Document):
    """The base as it was run."""

    name: Name
    format: Name
    sha256: Sha256
    """Of the variant, or of the files."""
    answers_sha256: Sha256
    """Of its answers alone, to each adapter's prompts in their order."""


class SuiteReference(Document):
    """The suite that was checked."""

    cid: CidText
    sha256: Sha256
    """Without its signature."""


class SuiteCheck(SignedRecord):
    """The whole record of a check."""

    KIND: ClassVar[str] = "SuiteCheck"
    CALLED: ClassVar[str] = "suite check"
    WHENCE: ClassVar[str] = "citrate suite check --sign"
    MAX_BYTES: ClassVar[int] = CHUNK_BYTES

    schema_: Literal["citrate.suite-check/v1"] = Field(alias="schema")
    version: Name
    """Of citrate, which measured."""
    suite: SuiteReference
    base: Ran
    adapters: Annotated[tuple[AdapterResult, ...], Field(min_length=1, max_length=ADAPTERS_MAX)]
    """As in the suite."""
    passed: bool
    """Whether every adapter is within the limits."""
