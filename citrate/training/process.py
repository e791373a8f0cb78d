"""The parent's side of ``worker``: start it in the recipe's profile, follow it, and end it with ourselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from citrate.core import errors
from citrate.core.errors import CitrateError, TrainingError
from citrate.training.determinism import Profile, profile
from citrate.training.proof import Proof
from citrate.training.recipe import Bound

_TALK_BYTES = 2000


@dataclass(frozen=True)
class Files:
    """Where a run's inputs lie, verified. ``reward``: the reward model, where the method wants one."""

    base: Path
    dataset: Path
    reward: Path | None = None

    def request(self) -> dict[str, str | None]:
        """As the worker reads it."""
        return {
            "base": str(self.base.absolute()),
            "dataset": str(self.dataset.absolute()),
            "reward": str(self.reward.absolute()) if self.reward else None,
        }


def train(
    bound: Bound, files: Files, out: Path, on_step: Callable[[Mapping[str, Any]], None], *, threads: int = 1
) -> Proof:
    """Do a run in a process of its own; see ``run.train``.

    Args:
        bound: the recipe.
        files: its inputs.
        out: the run's folder.
        on_step: called with the fields of ``run.Step`` after each step.
        threads: of torch; in an exact profile they do not change the result.

    Raises:
        CitrateError: as the worker tells.
        TrainingError: it died; what was committed before its last checkpoint is kept.
    """
    request = {"do": "train", "recipe": bound.to_bytes().decode(), "out": str(out.absolute()), **files.request()}
    for event in _events(request, profile(bound.recipe.determinism), threads):
        if event["event"] == "step":
            on_step(event)
        elif event["event"] == "done":
            return Proof.parse(event["proof"].encode())
    raise TrainingError("training ended without a result")


def replay(
    bound: Bound, folder: Path, segments: tuple[int, ...], files: Files, adapter: Path, *, threads: int = 1
) -> Iterator[Mapping[str, Any]]:
    """Do segments of a run again in a process of its own; yields the fields of ``replay.Replayed`` of each.

    Raises:
        CitrateError: as the worker tells.
        TrainingError: it died.
    """
    request = {
        "do": "replay",
        "proof": str(folder.absolute()),
        "segments": list(segments),
        "adapter": str(adapter.absolute()),
        **files.request(),
    }
    for event in _events(request, profile(bound.recipe.determinism), threads):
        if event["event"] == "segment":
            yield event


def merge_reward_model(bound: Bound, base: Path, adapter: Path, out: Path) -> None:
    """Merge a reward run's outcome into its base, in a process of its own; see ``reward_model.merge``.

    Raises:
        CitrateError: as the worker tells.
        TrainingError: it died.
    """
    request = {
        "do": "merge",
        "base": str(base.absolute()),
        "adapter": str(adapter.absolute()),
        "out": str(out.absolute()),
        "precision": bound.recipe.precision,
    }
    for _ in _events(request, profile(bound.recipe.determinism), 1):
        pass


def _events(request: dict[str, Any], wanted: Profile, threads: int) -> Iterator[dict[str, Any]]:
    environment = {**os.environ, **wanted.environment, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", "citrate.training.worker"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to pass on: the child must not die in the middle of a checkpoint
    )
    assert process.stdin and process.stdout and process.stderr
    talk = _Talk(process.stderr)
    try:
        process.stdin.write(json.dumps({**request, "threads": threads, "device": wanted.device}).encode() + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "error":
                raise _error(event)
            yield event
            if event["event"] == "done":
                return
        raise TrainingError(
            f"the training process died (exit {process.wait()}): {talk.end()}",
            hint="run it again: it goes on after its last checkpoint",
        )
    finally:
        process.kill()
        process.wait()
        talk.join()


class _Talk:
    """The end of what a process says, read so that it never waits for us."""

    def __init__(self, stream: IO[bytes]) -> None:
        import threading

        self._stream, self._said = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while piece := self._stream.read1(1 << 16):  # type: ignore[attr-defined]  # a pipe is buffered
            self._said = (self._said + piece)[-_TALK_BYTES:]

    def end(self) -> str:
        """The last line of it."""
        self.join()
        lines = self._said.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def join(self) -> None:
        self._thread.join(10)


def _error(event: Mapping[str, Any]) -> CitrateError:
    """The worker's error as its own type."""
    kind = getattr(errors, event["type"], TrainingError)
    details = {key: value for key, value in event["details"].items() if kind is errors.IntegrityError}
    found: CitrateError = kind(event["message"], hint=event["hint"], **details)
    return found
