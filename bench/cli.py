"""What a command costs before it does anything: `citrate --help` (goal 150 ms) and `resolve` (goal 250 ms + the RPC).

The floor is `python -c pass`; `hf --help` stands beside as what users of the field know. `resolve` includes its RPC, to
an Anvil on this machine (five requests, some milliseconds).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CITRATE = [str(Path(sys.executable).with_name("citrate"))]
RUNS = 15


def seconds(command: list[str], env: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "CITRATE_HOME": home}
        model = str(ROOT / "examples" / "tiny-llama")
        register = [*CITRATE, "register-model", model, "--name", "tiny", "--variants", "safetensors", "--json"]
        ref = json.loads(subprocess.run(register, env=env, check=True, capture_output=True).stdout)["ref"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "hf --help": [str(Path(sys.executable).with_name("hf")), "--help"],
            "citrate --help": [*CITRATE, "--help"],
            "citrate resolve": [*CITRATE, "resolve", ref],
        }
        try:
            times: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(RUNS + 1):
                for name, command in commands.items():
                    times[name].append(seconds(command, env))
        finally:
            subprocess.run([*CITRATE, "devnet", "down"], env=env, check=True, capture_output=True)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {RUNS} runs each, alternating, after one warm-up")
    print(f"{'command':<18}{'min ms':>9}{'median':>9}{'max':>9}")
    for name, found in times.items():
        counted = [1000 * value for value in found[1:]]
        print(f"{name:<18}{min(counted):9.0f}{statistics.median(counted):9.0f}{max(counted):9.0f}")


if __name__ == "__main__":
    main()
