"""What is offered for a gas (EIP-1559): first, and again when no block takes it. All amounts are wei a gas."""

from __future__ import annotations

from dataclasses import dataclass

from citrate.core.errors import ChainError
from citrate.registry.rpc import Call, JsonRpc, RpcError, quantity

GWEI = 10**9
_RAISE = (9, 8)
"""Nodes take a transaction in another's place from 10 % more on (geth), some from 12.5 %."""


@dataclass(frozen=True)
class Market:
    """The newest block's base fee, and the tip that nodes ask for."""

    base_fee_wei: int
    tip_wei: int
    block_number: int = 0
    block_hash: str = ""


@dataclass(frozen=True)
class Fees:
    """What a transaction offers: the most for a gas, tip included, and the tip."""

    max_fee_wei: int
    tip_wei: int


QUESTIONS: tuple[Call, Call] = (("eth_getBlockByNumber", ["latest", False]), ("eth_maxPriorityFeePerGas", []))
"""What a node is asked; `read` takes the answers."""


def read(block: object, tip: object) -> Market:
    """Read the answers to ``QUESTIONS``.

    Raises:
        ChainError: no answer, or a chain without a base fee.
    """
    for answer in (block, tip):
        if isinstance(answer, RpcError):
            raise answer
    if not isinstance(block, dict) or "baseFeePerGas" not in block:
        raise ChainError("this chain has no base fee (EIP-1559)", hint="use a chain that has had its London upgrade")
    base_fee, number = quantity(block["baseFeePerGas"]), quantity(block.get("number"))
    return Market(base_fee, quantity(tip), number, str(block.get("hash")))  # type: ignore[arg-type]  # quantity checks


def ask(node: JsonRpc) -> Market:
    """What a gas costs now."""
    return read(*node.batch(QUESTIONS))


def first(market: Market, cap_wei: int = 0) -> Fees:
    """Twice the base fee at most, so that six full blocks may follow, plus the tip; not above the cap (0: none).

    Raises:
        ChainError: the chain asks more than the cap.
    """
    wanted = Fees(2 * market.base_fee_wei + market.tip_wei, market.tip_wei)
    if not cap_wei or wanted.max_fee_wei <= cap_wei:
        return wanted
    if market.base_fee_wei > cap_wei:
        raise ChainError(
            f"a gas costs {market.base_fee_wei / GWEI:g} gwei now, more than max_fee_gwei = {cap_wei / GWEI:g}",
            hint="wait until the chain is less busy, or raise max_fee_gwei: citrate config show",
        )
    return Fees(cap_wei, min(market.tip_wei, cap_wei))


def raised(offered: Fees, market: Market, cap_wei: int = 0) -> Fees | None:
    """An offer that may take the place of ``offered``; None if the cap forbids it."""
    wanted = Fees(2 * market.base_fee_wei + market.tip_wei, market.tip_wei)
    least = Fees(_more(offered.max_fee_wei), _more(offered.tip_wei))
    better = Fees(max(wanted.max_fee_wei, least.max_fee_wei), max(wanted.tip_wei, least.tip_wei))
    if cap_wei and better.max_fee_wei > cap_wei:
        if least.max_fee_wei > cap_wei:
            return None
        better = Fees(cap_wei, max(least.tip_wei, min(better.tip_wei, cap_wei - market.base_fee_wei)))
    return Fees(better.max_fee_wei, min(better.tip_wei, better.max_fee_wei))


def _more(amount: int) -> int:
    """At least an eighth more, and one."""
    over, under = _RAISE
    return max(-(-amount * over // under), amount + 1)
