"""Records of suites and of checks in the store, and out of it again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from citrate.core import canonical
from citrate.core.errors import FormatError
from citrate.fine_tuning.signed import SignedRecord, block, keep
from citrate.fine_tuning.suites.record import Suite, SuiteCheck
from citrate.registry import cid as cids

if TYPE_CHECKING:
    from citrate.facade import Registry

PINNED = "adapter suite"
_WHENCE = "citrate suite add prints a suite's CID"
Record = TypeVar("Record", bound=SignedRecord)


def cid_of(record: SignedRecord) -> str:
    """The CID that a record has in any store."""
    return cids.of(cids.RAW, record.encode())


def signed(registry: Registry, record: Record) -> Record:
    """A record, signed with the active key.

    Raises:
        NotFoundError: there is no key, and this is no devnet.
    """
    return record.signed(registry.signer(), registry.registry_address)


def keep_suite(registry: Registry, suite: Suite) -> str:
    """Keep a suite, and what of it can be had nowhere else: the adapters that are not registered; returns its CID."""
    for adapter in suite.adapters:
        if adapter.ref is None:
            registry.store.pin(adapter.cid, PINNED)
    return keep(registry, suite, PINNED)


def keep_check(registry: Registry, check: SuiteCheck, suite: Suite) -> str:
    """Keep the record of a check, and the suite that it names; returns its CID."""
    keep_suite(registry, suite)
    return keep(registry, check, "suite check")


def read_suite(registry: Registry, cid: str, gateways: Iterable[str] = ()) -> Suite:
    """A suite by its CID, fetched where it is not here; its signature, if it has one, is its signer's.

    Raises:
        FormatError: no CID, or no suite.
        IntegrityError: another signed it than it says.
        StoreError: no source has it.
    """
    found = show(registry, cid, gateways)
    if not isinstance(found, Suite):
        raise FormatError("this is the record of a check, not a suite", hint=f"citrate suite check {found.suite.cid}")
    return found


def show(registry: Registry, cid: str, gateways: Iterable[str] = ()) -> Suite | SuiteCheck:
    """A suite or a check by its CID; raises as ``read_suite``."""
    data = block(registry, cid, gateways)
    if len(data) > Suite.MAX_BYTES:
        raise FormatError("this is no adapter suite", hint=_WHENCE)
    try:
        schema = canonical.loads(data).get("schema")
    except FormatError as error:
        raise FormatError("this is no adapter suite", hint=_WHENCE) from error
    found = SuiteCheck.parse(data) if schema == "citrate.suite-check/v1" else Suite.parse(data)
    if found.signature is not None:
        found.require_signature()
    return found
