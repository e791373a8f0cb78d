"""Gas of every write to the contracts, as real transactions on Anvil, compared with a committed snapshot.

    python bench/gas.py            measure and print, beside bench/gas-snapshot.json
    python bench/gas.py --check    the same, and fail on any difference from the snapshot
    python bench/gas.py --write    the same, and write the snapshot

Each part is measured on a chain of its own, with all contracts deployed and moderation appointed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

import gas_loras
import gas_models
import gas_policy
from gas_bench import ROOT, Bench, anvil

SNAPSHOT = ROOT / "bench" / "gas-snapshot.json"
PARTS: tuple[Callable[[Bench], None], ...] = (gas_models.measure, gas_loras.measure, gas_policy.measure)
GOALS = gas_models.GOALS | gas_loras.GOALS | gas_policy.GOALS


def show(gas: dict[str, int], before: dict[str, int]) -> None:
    for label in [*gas, *(label for label in before if label not in gas)]:
        now, then, goal = gas.get(label), before.get(label), GOALS.get(label)
        change = "" if now == then else f"{(now or 0) - (then or 0):+,}"
        met = "" if goal is None or now is None else f"goal {goal:,} ({(now - goal) / goal:+.1%})"
        print(f"{label:58}{'gone' if now is None else f'{now:,}':>12}  {change:>10}  {met}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail on any difference from the snapshot")
    parser.add_argument("--write", action="store_true", help="write the snapshot")
    arguments = parser.parse_args()
    gas: dict[str, int] = {}
    for measure in PARTS:
        with anvil() as web3:
            bench = Bench(web3)
            measure(bench)
            gas |= bench.gas
    before = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    show(gas, before)
    if arguments.write:
        SNAPSHOT.write_text(json.dumps(gas, indent=2) + "\n")
        return 0
    if arguments.check and gas != before:
        print(
            "\ngas differs from bench/gas-snapshot.json; if that is meant: python bench/gas.py --write", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
