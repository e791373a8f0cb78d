"""`kill -9` at 200 moments: nothing partial is visible, nothing that was reported is lost, the next run finishes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OPERATIONS = ("add", "pull", "convert", "gc", "import")
MOMENTS = 42
"""Of each operation."""
_IN_MEMORY = Path("/dev/shm")  # nothing is cut off from power here, so nothing needs a disk


@pytest.mark.timeout(600)
def test_a_kill_at_any_of_200_moments_leaves_nothing_partial_and_loses_nothing_reported() -> None:
    killed: Counter[str] = Counter()
    for operation in OPERATIONS:
        with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.exists() else None) as folder:
            done = subprocess.run(
                [sys.executable, "-m", "tests.registry.storage.kill_moments", operation, folder, str(MOMENTS)],
                cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        killed.update(json.loads(done.stdout))
    assert killed.total() >= 200, killed
    assert min(killed[stage] for stage in ("copying", "renaming", "indexing")) >= 20, killed
