"""Coverage of contracts/ by the Solidity tests, lines and branches; fails where either is below 95 % in any file.

    python tools/security/coverage.py

Nothing is excluded. It is forge that measures, because Hardhat's own coverage knows no branches; forge compiles without
the optimizer for it. Functions outside a contract or library (the packed types Alias, Chain and Quota) it does not
see: each of them must be called in tests/symbolic, which proves what it does for every value.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "cache" / "foundry" / "lcov.info"
LEAST = 0.95


@dataclass
class File:
    """How much of a file the tests ran."""

    name: str
    lines: int = 0
    lines_hit: int = 0
    branches: int = 0
    branches_hit: int = 0
    missing: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        return self.lines_hit >= LEAST * self.lines and self.branches_hit >= LEAST * self.branches


def main() -> int:
    files = _parse(_measure())
    unseen = [name for name in _with_code() if name not in {f.name for f in files}]
    print(f"{'':42}{'lines':>18}{'branches':>18}")
    for file in files:
        print(
            f"{file.name:42}{_ratio(file.lines_hit, file.lines)}{_ratio(file.branches_hit, file.branches)}"
            f"{'' if not file.missing else '  not run: ' + ', '.join(file.missing)}"
        )
    total = [sum(getattr(f, n) for f in files) for n in ("lines_hit", "lines", "branches_hit", "branches")]
    print(f"{'all':42}{_ratio(total[0], total[1])}{_ratio(total[2], total[3])}")
    unproved = {name: _unproved(name) for name in unseen}
    for name, functions in unproved.items():
        print(f"{name:42}  functions outside a contract{': proved' if not functions else ''}")
    low = [f"coverage of {f.name} is below {LEAST:.0%}" for f in files if not f.enough]
    low += [f"{name}: {f} is not called in tests/symbolic" for name, functions in unproved.items() for f in functions]
    print("\n".join(low), file=sys.stderr)
    return 1 if low or not files else 0


def _measure() -> str:
    command = ["node", "tools/security/foundry.mjs", "--plain", "forge", "coverage", "--report", "lcov"]
    command += ["--report-file", str(REPORT), "--no-match-coverage", "node_modules|tests"]
    environment = {**os.environ, "FOUNDRY_FUZZ_RUNS": "32"}  # what is random adds no lines
    REPORT.unlink(missing_ok=True)
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if run.returncode or not REPORT.exists():
        raise SystemExit(f"forge coverage failed:\n{(run.stdout + run.stderr)[-3000:]}")
    return REPORT.read_text()


def _parse(report: str) -> list[File]:
    """Read LCOV (geninfo(1))."""
    files = []
    for block in report.split("end_of_record"):
        fields = [line.partition(":")[::2] for line in block.split()]
        name = next((value for key, value in fields if key == "SF"), "")
        if not name:
            continue
        lines = [value.split(",") for key, value in fields if key == "DA"]
        branches = [value.split(",") for key, value in fields if key == "BRDA"]
        not_run = {int(v[0]) for v in lines if v[1] == "0"} | {int(v[0]) for v in branches if v[3] in ("0", "-")}
        files.append(
            File(
                name,
                len(lines),
                sum(v[1] != "0" for v in lines),
                len(branches),
                sum(v[3] not in ("0", "-") for v in branches),
                tuple(map(str, sorted(not_run))),
            )
        )
    return sorted(files, key=lambda f: f.name)


def _with_code() -> list[str]:
    paths = sorted((ROOT / "contracts").rglob("*.sol"))
    return [str(p.relative_to(ROOT)) for p in paths if re.search(r"^\s*function [^;]*\{", p.read_text(), re.M | re.S)]


def _unproved(name: str) -> list[str]:
    """The functions of a file that no symbolic check calls."""
    checks = "".join(path.read_text() for path in (ROOT / "tests" / "symbolic").glob("*.sol"))
    functions = re.findall(r"^function (\w+)", (ROOT / name).read_text(), re.M)
    return [function for function in functions if not re.search(rf"\b{function}\(", checks)]


def _ratio(hit: int, count: int) -> str:
    return f"{f'{hit}/{count}':>11}{hit / count if count else 1:>7.1%}"


if __name__ == "__main__":
    sys.exit(main())
