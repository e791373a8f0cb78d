"""Every error citrate raises on purpose, and the exit code each one ends a command with.

::

    CitrateError                    .hint: the next command to run      exit 1
    ├── ConfigError                 a setting, flag or argument is wrong      2
    ├── NotFoundError               no such name, version, file, key          4
    ├── AlreadyExistsError          taken, and what is there differs          1
    ├── NotPermittedError           the caller may not do this                1
    ├── UnavailableError            something we need does not answer         5
    │   ├── ChainError              .tx_hash                                  5
    │   └── StoreError              .cid                                      5
    ├── IntegrityError              .path .expected .actual                   3
    ├── FormatError                 the input is not what it claims to be     1
    │   ├── UnsupportedConversionError                                        1
    │   ├── BackendMissingError     an extra is not installed                 1
    │   └── NoCompatibleVariantError .reasons                                 1
    └── TrainingError                                                         1

An ``IntegrityError`` is never retried and never softened to a warning: a byte is not what the chain says.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""The system's numbers for a disk, a quota or a file that is full."""


class CitrateError(Exception):
    """The root: one line for the user, and a hint that names the next command."""

    exit_code: ClassVar[int] = 1
    usual_hint: ClassVar[str] = "citrate doctor looks at the installation, the home and the chain"
    """Told where the error itself knows no better one."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.done: Mapping[str, object] = {}
        """What was done before it, such as the transactions that were sent; told with ``details``."""

    @property
    def details(self) -> Mapping[str, object]:
        """The typed fields of this error, for ``--json``."""
        return {}


class ConfigError(CitrateError):
    """A setting, flag or argument that cannot be used as given."""

    usual_hint = "citrate config show tells every setting and where it comes from"

    exit_code = 2


class NotFoundError(CitrateError):
    """No such model, version, alias, variant, file, object or key."""

    usual_hint = "check the spelling; citrate list and citrate store ls show what there is"

    exit_code = 4


class AlreadyExistsError(CitrateError):
    """The name or version is taken, and what it holds differs from what was offered."""


class NotPermittedError(CitrateError):
    """The caller is not the owner, may not read, or has not paid."""


class UnavailableError(CitrateError):
    """A server, device or tool that the command needs does not answer."""

    exit_code = 5


class ChainError(UnavailableError):
    """The chain does not answer, answers for another chain, or refused a transaction."""

    def __init__(self, message: str, *, hint: str = "", tx_hash: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tx_hash = tx_hash

    @property
    def details(self) -> Mapping[str, object]:
        return {"tx_hash": self.tx_hash} if self.tx_hash else {}


class InterruptedSendingError(KeyboardInterrupt):
    """The user stopped the program (Ctrl-C) while ``tx_hash`` was on its way: it may still get into a block.

    No ``CitrateError``: what handles errors must not take a stop for one.
    """

    def __init__(self, tx_hash: str) -> None:
        super().__init__(f"interrupted; the transaction {tx_hash} may still get into a block")
        self.tx_hash = tx_hash


class StoreError(UnavailableError):
    """No source has the bytes, or a store refused to take them."""

    usual_hint = "citrate pull REF --from URL names a gateway that has the bytes"

    def __init__(self, message: str, *, hint: str = "", cid: str = "") -> None:
        super().__init__(message, hint=hint)
        self.cid = cid

    @property
    def details(self) -> Mapping[str, object]:
        return {"cid": self.cid} if self.cid else {}


class IntegrityError(CitrateError):
    """Bytes that are not what the chain (or the manifest it commits to) says they are."""

    usual_hint = "these bytes are not used; fetch them from another source with --from URL"

    exit_code = 3

    def __init__(self, message: str, *, path: str, expected: str, actual: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.expected = expected
        self.actual = actual

    @property
    def details(self) -> Mapping[str, object]:
        return {"path": self.path, "expected": self.expected, "actual": self.actual}


class FormatError(CitrateError):
    """The input is not a model, is damaged, or carries something that must not be loaded."""

    usual_hint = "download the model again if it was cut off; citrate inspect PATH tells what it is"


class UnsupportedConversionError(FormatError):
    """This architecture cannot be written in that format; the message lists what is possible."""


class BackendMissingError(FormatError):
    """The work needs an optional package; the hint names the extra to install."""


class NoCompatibleVariantError(FormatError):
    """No variant of the version suits the device and task; ``reasons`` says why for each."""

    def __init__(self, message: str, *, reasons: Mapping[str, str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reasons = dict(reasons)

    @property
    def details(self) -> Mapping[str, object]:
        return {"reasons": self.reasons}


class TrainingError(CitrateError):
    """A training run could not start or did not finish."""


def not_written(path: Path, error: OSError) -> CitrateError:
    """The error to tell where a path of the user's could not be written; no room is exit 5, as in the store."""
    if error.errno in NO_ROOM:
        return UnavailableError(f"no room for {path}: {error.strerror}", hint="free some space, or write it elsewhere")
    in_the_way = error.errno in (errno.EEXIST, errno.ENOTDIR)
    why = "a file stands where a folder should be" if in_the_way else error.strerror
    return CitrateError(f"{path} cannot be written: {why}", hint="choose another place for it")
