"""Slither over contracts/: any finding of medium or high impact fails unless triage.toml accepts it with a reason.

    python tools/security/slither.py

It analyses what Hardhat compiles, with the legacy code generator because that is quicker and gives the same syntax
tree, in a build of its own without the tests, which would be three quarters of the time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "cache" / "slither"
TRIAGE = Path(__file__).with_name("triage.toml")
FAILING = ("Medium", "High")
_CONFIG = """import config from "../../hardhat.config.js";
const paths = { ...config.paths, artifacts: "cache/slither/artifacts", cache: "cache/slither/cache" };
export default { ...config, paths };
"""


@dataclass(frozen=True, order=True)
class Finding:
    """One finding, told by what it is about and not by its line."""

    check: str
    where: str
    impact: str = ""
    text: str = ""


@dataclass(frozen=True)
class Accepted:
    """An entry of triage.toml: findings of one check in one function, or of one wording."""

    check: str
    where: str
    text: str

    def covers(self, finding: Finding) -> bool:
        if finding.check != self.check:
            return False
        return finding.where == self.where if self.where else re.search(self.text, finding.text) is not None


def main() -> int:
    accepted = _accepted()
    found = sorted(_found())
    failing = [f for f in found if f.impact in FAILING]
    open_findings = [f for f in failing if not any(a.covers(f) for a in accepted)]
    stale = [a for a in accepted if not any(a.covers(f) for f in found)]
    for finding in open_findings:
        print(f"{finding.impact}: {finding.check} in {finding.where}\n  {finding.text}", file=sys.stderr)
    for entry in stale:
        print(f"triage.toml accepts what is not found: {entry.check} in {entry.where or entry.text}", file=sys.stderr)
    counts = f"{len(open_findings)} open, {len(failing) - len(open_findings)} accepted"
    print(f"slither: of medium or high impact {counts}; {len(found) - len(failing)} of low impact")
    return 1 if open_findings or stale else 0


def _accepted() -> list[Accepted]:
    entries = tomllib.loads(TRIAGE.read_text())["accepted"]
    if not all(entry["reason"].strip() for entry in entries):
        raise SystemExit("triage.toml: every accepted finding needs a reason")
    return [Accepted(entry["check"], entry.get("where", ""), entry.get("text", "")) for entry in entries]


def _found() -> list[Finding]:
    tools = [ROOT / ".venv-security" / "bin", ROOT / "tools" / "node" / "node_modules" / ".bin"]
    environment = {**os.environ, "PATH": os.pathsep.join([*map(str, tools), os.environ["PATH"]])}
    _build(environment)
    report = HOME / "report.json"
    report.unlink(missing_ok=True)
    command = ["slither", ".", "--hardhat-ignore-compile", "--json", str(report), "--fail-none"]
    command += [
        "--hardhat-artifacts-directory",
        "cache/slither/artifacts",
        "--hardhat-cache-directory",
        "cache/slither",
    ]
    command += ["--filter-paths", "node_modules|tests", "--exclude-informational", "--exclude-optimization"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if not report.exists():
        raise SystemExit(f"slither did not finish:\n{run.stderr[-2000:]}")
    answer = json.loads(report.read_text())
    if not answer["success"]:
        raise SystemExit(f"slither failed: {answer['error']}")
    return [_finding(detected) for detected in answer["results"].get("detectors", [])]


def _build(environment: dict[str, str]) -> None:
    shutil.rmtree(HOME, ignore_errors=True)  # slither reads every build it finds there
    HOME.mkdir(parents=True)
    config = HOME / "hardhat.config.js"
    config.write_text(_CONFIG)
    command = ["npx", "--no", "--", "hardhat", "--config", str(config), "--build-profile", "legacy"]
    command += ["build", "--no-tests", "--force"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"hardhat build failed:\n{(run.stdout + run.stderr)[-2000:]}")


def _finding(detected: Any) -> Finding:  # slither's own JSON
    elements = detected["elements"]
    where = _name(elements[0]) if elements else "the sources"
    return Finding(detected["check"], where, detected["impact"], " ".join(detected["description"].split()))


def _name(element: Any) -> str:
    """``Contract.function(types)``, and for a variable of it ``Contract.function(types).variable``."""
    fields = element.get("type_specific_fields", {})
    parent = fields.get("parent")
    own = fields.get("signature", element["name"]) if element["type"] in ("function", "event") else element["name"]
    if element["type"] == "node":
        return _name(parent)
    return f"{_name(parent)}.{own}" if parent else own


if __name__ == "__main__":
    sys.exit(main())
