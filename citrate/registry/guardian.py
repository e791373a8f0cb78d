"""How a case is lifted: by the guardian, a timelock, so that everybody sees it coming.

The authority schedules the call, and after the timelock's delay anybody executes it (OpenZeppelin's
TimelockController). Nothing is sent from here: the authority is a wallet of many signers as a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.core.errors import CitrateError
from citrate.registry import cases
from citrate.registry.abi_codec import encode_call
from citrate.registry.artifacts import MODERATION, TIMELOCK
from citrate.registry.cases import Case, Outcome
from citrate.registry.views import View

if TYPE_CHECKING:
    from citrate.registry.chain import Chain

_NONE = "0x" + "0" * 64
"""No predecessor; and the salt, because one case is lifted once."""


@dataclass(frozen=True)
class Call:
    """A transaction for somebody else to send."""

    to: str
    data: str


@dataclass(frozen=True)
class Lift:
    """The two calls by which the timelock ends a case, each from whom it takes."""

    case: Case
    proposer: str
    delay_s: int
    schedule: Call
    """By the proposer."""
    execute: Call
    """By anybody, ``delay_s`` after the first and before the case's deadline."""


def lift(chain: Chain, case: Case) -> Lift:
    """The two calls that end a case.

    Args:
        chain: asking the moderation contract that holds the case.
        case: as it stands.

    Raises:
        CitrateError: the case has ended, or ends before the timelock could.
    """
    seen = f"citrate case show {case.number}"
    if case.outcome is not Outcome.OPEN:
        raise CitrateError(f"case {case.number} has ended: {case.outcome}", hint=seen)
    block = chain.pin()
    timelock, proposer = chain.read_two(cases.guardian(), cases.authority(), block)
    delay_s = chain.with_contract(TIMELOCK, timelock).read(_min_delay(), block)
    if block.timestamp + delay_s >= case.deadline:
        raise CitrateError(
            f"case {case.number} ends before the timelock could lift it: that takes {delay_s // 3600} hours", hint=seen
        )
    call = (chain.require(MODERATION), 0, encode_call("lift(uint256)", case.number), _NONE, _NONE)
    schedule = encode_call("schedule(address,uint256,bytes,bytes32,bytes32,uint256)", *call, delay_s)
    execute = encode_call("execute(address,uint256,bytes,bytes32,bytes32)", *call)
    return Lift(case, proposer, delay_s, Call(timelock, "0x" + schedule.hex()), Call(timelock, "0x" + execute.hex()))


def _min_delay() -> View[int]:
    return View(TIMELOCK, encode_call("getMinDelay()"), lambda frame: frame.number(0))
