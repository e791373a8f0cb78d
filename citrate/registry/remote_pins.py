"""Pinning services that a Kubo node knows: what they keep, they fetch from the node.

Kubo speaks the services' own protocol (https://ipfs.github.io/pinning-services-api-spec/) and holds their tokens in its
configuration, of which it shows them to nobody: citrate names a service, and never sees its token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum

from citrate.core.errors import CitrateError, NotFoundError, NotPermittedError, StoreError
from citrate.core.sink import Progress
from citrate.registry.kubo import Kubo

WAIT_S = 3600.0
"""How long a service may take by default, counted anew whenever something of it changes."""
_POLL_FIRST_S, _POLL_MAX_S = 0.25, 5.0
_REFUSED = re.compile(r": 40[123] [A-Z]")
"""How Kubo ends what a service said with HTTP 401, 402 or 403."""
_NAME_MAX_CHARS = 255


class PinStatus(StrEnum):
    """What a service says of a pin."""

    ABSENT = "absent"
    FAILED = "failed"
    QUEUED = "queued"
    PINNING = "pinning"
    PINNED = "pinned"


_REPORTED = (PinStatus.QUEUED, PinStatus.PINNING, PinStatus.PINNED, PinStatus.FAILED)


class RemotePins:
    """The pins at one service.

    Args:
        kubo: the node that knows the service and has the blocks.
        service: its name there.
    """

    def __init__(self, kubo: Kubo, service: str) -> None:
        self._kubo = kubo
        self.service = service

    def status(self, cid: str) -> PinStatus:
        """How far the service is with a pin; the best where it was asked more than once.

        Raises:
            NotFoundError: the node does not know the service.
            NotPermittedError: the service refuses its token, or wants to be paid.
            StoreError: the node or the service does not answer.
        """
        answers = self._ask("ls", cid, status=list(_REPORTED))
        told = [answer.get("Status") for answer in answers if answer.get("Cid") == cid]
        found = [PinStatus.ABSENT, *(status for status in _REPORTED if status in told)]
        return max(found, key=list(PinStatus).index)

    def request(self, cid: str, name: str) -> PinStatus:
        """Ask the service to pin a DAG, unless it does already or is about to; returns at once.

        Args:
            cid: the DAG's root.
            name: what the service shows beside it.

        Raises:
            NotFoundError: as ``status``.
            NotPermittedError: as ``status``.
            StoreError: as ``status``.
        """
        status = self.status(cid)
        if status in (PinStatus.ABSENT, PinStatus.FAILED):
            if status is PinStatus.FAILED:
                self._ask("rm", cid, status=[PinStatus.FAILED], force="true")
            self._ask("add", cid, name=name[:_NAME_MAX_CHARS], background="true")
            status = self.status(cid)
        return status

    def wait(
        self, cids: Iterable[str], timeout_s: float = WAIT_S, progress: Progress | None = None
    ) -> Mapping[str, PinStatus]:
        """Wait until the service has pinned everything.

        Args:
            cids: what was requested.
            timeout_s: how long nothing may change.
            progress: called with the stage ``pin``, in objects.

        Raises:
            StoreError: the service failed to pin one, forgot one, or changed nothing for too long; or as ``status``.
        """
        found = {cid: self.status(cid) for cid in cids}
        poll_s, deadline = _POLL_FIRST_S, time.monotonic() + timeout_s
        while True:
            done = sum(status is PinStatus.PINNED for status in found.values())
            if progress is not None:
                progress("pin", done, len(found))
            for cid, status in found.items():
                if status in (PinStatus.FAILED, PinStatus.ABSENT):
                    raise self._broken(cid, status)
            if done == len(found):
                return found
            if time.monotonic() > deadline:
                raise self._late(found, timeout_s)
            time.sleep(min(poll_s, max(0.0, deadline - time.monotonic())))
            now = {cid: status if status is PinStatus.PINNED else self.status(cid) for cid, status in found.items()}
            poll_s = min(_POLL_MAX_S, poll_s * 1.5)
            if now != found:
                found, poll_s, deadline = now, _POLL_FIRST_S, time.monotonic() + timeout_s

    def _broken(self, cid: str, status: PinStatus) -> StoreError:
        what = "failed to pin" if status is PinStatus.FAILED else "no longer knows of"
        return StoreError(
            f"{self.service} {what} {cid}",
            hint="it fetches from your node: is that reachable from outside? the service's own page may say more; "
            "the same command asks again",
            cid=cid,
        )

    def _late(self, found: Mapping[str, PinStatus], timeout_s: float) -> StoreError:
        cid, status = next((cid, status) for cid, status in found.items() if status is not PinStatus.PINNED)
        return StoreError(
            f"{self.service} still has {cid} {status} after {timeout_s:.0f} s",
            hint="it goes on there: --status shows how far it is, and the same command waits again",
            cid=cid,
        )

    def remove(self, cid: str) -> bool:
        """Take every pin of a DAG, and every request for one, away; False if there was none.

        Raises:
            NotFoundError: as ``status``.
            NotPermittedError: as ``status``.
            StoreError: as ``status``.
        """
        if self.status(cid) is PinStatus.ABSENT:
            return False
        self._ask("rm", cid, status=list(_REPORTED), force="true")
        return True

    def _ask(self, verb: str, cid: str, **options: str | list[PinStatus]) -> list[Mapping[str, str]]:
        named, found = ((cid,), {}) if verb == "add" else ((), {"cid": cid})
        try:
            answers = self._kubo.call(
                f"pin/remote/{verb}", *named, options={"service": self.service, **found, **options}, about=cid
            )
        except StoreError as error:
            raise self._told(error, cid) from error
        return [answer for answer in answers if isinstance(answer, dict)]

    def _told(self, error: StoreError, cid: str) -> CitrateError:
        if "service not known" in error.message:
            known = ", ".join(services(self._kubo)) or "none"
            return NotFoundError(
                f"{self._kubo.name} knows no pinning service {self.service!r}",
                hint=f"it knows: {known}; ipfs pin remote service add NAME ENDPOINT KEY teaches it one",
            )
        said = error.message.partition(" refused: ")[2] or error.message
        message = f"pinning service {self.service}: {said}"
        if _REFUSED.search(error.message):
            return NotPermittedError(
                message, hint="its token is in the Kubo node's configuration; ipfs pin remote service add sets it anew"
            )
        return StoreError(message, hint="ipfs pin remote service ls --stat asks it without citrate", cid=cid)


def services(kubo: Kubo) -> tuple[str, ...]:
    """The names of the services that a node knows.

    Raises:
        StoreError: it does not answer.
    """
    (answer,) = kubo.call("pin/remote/service/ls")
    return tuple(str(row["Service"]) for row in answer["RemoteServices"])
