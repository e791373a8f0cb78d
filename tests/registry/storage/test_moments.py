"""`kill -9` at 200 moments, a full disk at 50: nothing is half there, nothing reported is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
OPERATIONS = ("add", "pull", "convert", "gc", "import")
_IN_MEMORY = Path("/dev/shm")  # nothing is cut off from power here, so nothing needs a disk


def hit(fault: str, moments: int) -> Counter[str]:
    """Let a fault hit every operation at so many moments; returns how many by stage."""
    hits: Counter[str] = Counter()
    for operation in OPERATIONS:
        with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.exists() else None) as folder:
            done = subprocess.run(
                [sys.executable, "-m", "tests.registry.storage.moments", operation, folder, str(moments), fault],
                cwd=ROOT, capture_output=True, text=True, timeout=800, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        hits.update(json.loads(done.stdout))
    return hits


def test_a_kill_at_any_of_200_moments_leaves_nothing_partial_and_loses_nothing_reported() -> None:
    killed = hit("kill", 42)
    assert killed.total() >= 200, killed
    assert min(killed[stage] for stage in ("copying", "renaming", "indexing")) >= 20, killed


def test_a_disk_that_is_full_at_any_step_is_one_error_and_leaves_the_store_whole() -> None:
    full = hit("fill_up", 12)
    assert full.total() >= 50, full
