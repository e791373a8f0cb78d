"""Random calls against all contracts, invariants checked after each of them, and how many of the calls succeeded.

    python tools/security/invariants.py            at least 100,000 calls in all
    python tools/security/invariants.py --deep     at least 1,000,000

Half of them with the code that is deployed, half with what the compiler's other code generator makes of it. Fails if an
invariant does not hold, and if fewer than 10 % of any function's calls succeed: calls that are all refused would prove
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPTH = 200
CALLS, DEEP_CALLS = 100_000, 1_000_000
LEAST_SUCCESS, LEAST_SEEN = 0.10, 0.02
PIPELINES: tuple[list[str], ...] = ([], ["--legacy"])


@dataclass
class Result:
    """What all suites came to."""

    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deep", action="store_true", help=f"{DEEP_CALLS:,} calls instead of {CALLS:,}")
    parser.add_argument("--match", default="*", help="only the suites in tests/invariants/MATCH.t.sol")
    arguments = parser.parse_args()
    wanted = DEEP_CALLS if arguments.deep else CALLS
    suites = len(list((ROOT / "tests" / "invariants").glob(f"{arguments.match}.t.sol")))
    if not suites:
        raise SystemExit(f"no suite is called {arguments.match}")
    runs = -(-wanted // (DEPTH * suites * len(PIPELINES)))
    result = Result()
    for pipeline in PIPELINES:
        _run(arguments.match, runs, pipeline, result)
    poor = _show(result)
    for line in result.broken:
        print(line, file=sys.stderr)
    for function in poor:
        print(f"too few of the calls of {function} succeeded", file=sys.stderr)
    total = result.calls.total()
    if total < wanted:
        print(f"{total:,} calls are fewer than {wanted:,}", file=sys.stderr)
    return 1 if poor or result.broken or total < wanted else 0


def _run(match: str, runs: int, pipeline: list[str], result: Result) -> None:
    environment = {"FOUNDRY_TEST": "tests/invariants", "FOUNDRY_INVARIANT_SHOW_METRICS": "true"}
    environment |= {"FOUNDRY_INVARIANT_RUNS": str(runs), "FOUNDRY_INVARIANT_DEPTH": str(DEPTH)}
    command = ["node", "tools/security/foundry.mjs", *pipeline, "forge", "test", "--json"]
    command += ["--match-path", f"tests/invariants/{match}.t.sol"]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        suites = json.loads(run.stdout)
    except ValueError:
        raise SystemExit(f"forge did not run:\n{run.stdout[-3000:]}") from None
    for suite, answer in suites.items():
        for test, outcome in answer["test_results"].items():
            if outcome["status"] != "Success":
                why = f"{outcome.get('reason')}\n{json.dumps(outcome.get('counterexample'), indent=1)[:4000]}"
                result.broken.append(f"{suite} {test} {' '.join(pipeline)}: {why}")
            for name, count in outcome["kind"].get("Invariant", {}).get("metrics", {}).items():
                result.calls[name] += count["calls"]
                result.failed[name] += count["reverts"]


def _show(result: Result) -> list[str]:
    """Print the table; return the functions of which too few calls succeeded."""
    poor = []
    print(f"{'function':50}{'calls':>10}{'succeeded':>11}")
    for name in sorted(result.calls):
        calls, succeeded = result.calls[name], result.calls[name] - result.failed[name]
        short = name.rpartition(":")[2]
        print(f"{short:50}{calls:>10,}{succeeded / calls:>11.1%}")
        # ...Now calls no contract: it says how often a state that is hard to come by was there.
        if succeeded < (LEAST_SEEN if name.endswith("Now") else LEAST_SUCCESS) * calls:
            poor.append(short)
    print(f"{'all':50}{result.calls.total():>10,}")
    return poor


if __name__ == "__main__":
    sys.exit(main())
