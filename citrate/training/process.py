"""The parent's side of ``worker``: start it in the recipe's profile, follow it, and end it with ourselves."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from citrate.core import errors
from citrate.core.confinement import endings
from citrate.core.errors import CitrateError, TrainingError
from citrate.training import accelerating, holding, ranks, run
from citrate.training.determinism import Profile, profile
from citrate.training.proof import Proof
from citrate.training.recipe import Bound

_TALK_BYTES = 2000
_LAST_WORDS_S = 30.0
"""How long the other processes of a run are heard when one has lost another; whoever does not hang says why at once."""
_END_S = 30.0
"""How long a process that was told to end is waited for."""
_OF_THE_USER = ("OMP_", "MKL_", "OPENBLAS_")
"""Variables that change bits, and are recorded nowhere: those of the profile count."""


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
    bound: Bound,
    files: Files,
    out: Path,
    on_step: Callable[[Mapping[str, Any]], None],
    *,
    on_notes: Callable[[Sequence[str]], None] = lambda _: None,
    threads: int = 1,
    lock: int | None = None,
    accelerate: str = "",
) -> Proof:
    """Do a run in processes of its own, as many as the recipe's ``world_size``; see ``run.train``.

    A run that has ended starts none.

    Args:
        bound: the recipe.
        files: its inputs.
        out: the run's folder.
        on_step: called with the fields of ``run.Step`` after each step.
        on_notes: called before the first with what a user should know of the rows.
        threads: of torch, of each process; in an exact profile they do not change the result.
        lock: the folder's, where the caller holds it (``holding.held``); it is held meanwhile in any case.
        accelerate: a configuration by which accelerate starts the processes (``accelerating.Configuration.text``);
            the recipe's own, where it is bound to one. Empty: we start them.

    Raises:
        CitrateError: as the worker tells.
        TrainingError: it died; what was committed before its last checkpoint is kept. Or another command is at it.
    """
    request = {"do": "train", "recipe": bound.to_bytes().decode(), "out": str(out.absolute()), **files.request()}
    with holding.held(out) if lock is None else nullcontext(lock) as held:
        if (found := run.ended(bound, out)) is not None:
            return found
        for event in _events(request, bound, threads, lock=held, accelerate=accelerate or bound.accelerate):
            if event["event"] == "step":
                on_step(event)
            elif event["event"] == "notes":
                on_notes(event["notes"])
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
    for event in _events(request, bound, threads):
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
    alone = bound.model_copy(update={"recipe": bound.recipe.model_copy(update={"world_size": 1})})
    for _ in _events(request, alone, 1):
        pass


def _events(
    request: dict[str, Any], bound: Bound, threads: int, *, lock: int | None = None, accelerate: str = ""
) -> Iterator[dict[str, Any]]:
    """What the worker tells, up to ``done``; nothing of it is left running."""
    wanted = profile(bound.recipe.determinism)
    request = {**request, "threads": threads, "device": wanted.device, "parent_pid": os.getpid()}
    with (
        tempfile.TemporaryDirectory(prefix="citrate-run-", ignore_cleanup_errors=True) as scratch,
        _Workers(lock) as workers,
    ):
        environment, world = _environment(wanted, threads, scratch), bound.recipe.world_size
        if accelerate:
            workers.launch(request, accelerate, Path(scratch), environment, world)
        else:
            meeting = str(Path(scratch) / "meeting") if world > 1 else None
            for rank in range(world):
                own = ranks.environment(rank, world) if world > 1 else {}
                workers.start({**request, "meeting": meeting}, {**environment, **own})
        yield from workers.events()


def _environment(wanted: Profile, threads: int, scratch: str) -> dict[str, str]:
    """What the processes of a run know of ours: no keys, and nothing that would change the run and stands nowhere."""
    kept = endings.environment(os.environ, scratch)
    ours = {name: value for name, value in kept.items() if not name.startswith(_OF_THE_USER)}
    if wanted.device == "cuda":
        ours |= {name: value for name, value in os.environ.items() if name.startswith("NCCL_")}
    alone = {"PYTHONSAFEPATH": "1"}  # the working folder is not searched for modules
    counts = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return {**ours, **alone, **wanted.environment, **counts}


class _Workers:
    """The processes of a run, followed together. The first that tells an error, or dies, ends them all.

    ``lock``: that of the run's folder, which they hold with us and as long as they live.
    """

    def __init__(self, lock: int | None) -> None:
        self._lock = lock
        self._end: socket.socket | None = None
        """Ours of what accelerate's processes have as their stdin; None where we start them ourselves."""
        self._found: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._talks: list[_Talk] = []
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
        if self._end is not None:
            self._end.close()
        for talk in self._talks:
            talk.join()
        for reader in self._readers:
            reader.join(_END_S)

    def start(self, request: dict[str, Any], environment: Mapping[str, str]) -> None:
        """Start a worker and hand it its request."""
        process = self._spawn([sys.executable, "-m", "citrate.training.worker"], environment)
        assert process.stdin
        with suppress(BrokenPipeError):  # it died: its end is told by whoever reads it
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()

    def launch(
        self, request: dict[str, Any], configuration: str, scratch: Path, environment: Mapping[str, str], world: int
    ) -> None:
        """Have accelerate start the workers; they read their request from a file.

        Nothing of ours reaches them, in sessions of their own, but their stdin: a socket on which each finds the lock
        of the run's folder, and whose end, with us or before, is theirs.
        """
        assert self._lock is not None, "what accelerate starts is training"
        path, asked = scratch / "accelerate.yaml", scratch / "request.json"
        path.write_text(configuration)  # JSON is YAML
        asked.write_text(json.dumps({**request, "launched": True}))
        launcher, options = accelerating.launcher(configuration, path)
        command = [*launcher, "-m", "citrate.training.worker", str(asked)]
        self._end, theirs = socket.socketpair()
        with theirs:
            self._spawn(command, {**environment, **ranks.on_this_machine(), **options}, theirs.fileno())
        with suppress(ConnectionError):  # it died: its end is told by whoever reads it
            for _ in range(world):
                socket.send_fds(self._end, [b"l"], [self._lock])

    def events(self) -> Iterator[dict[str, Any]]:
        """What they tell, in the order in which it comes."""
        while True:
            rank, event = self._found.get()
            if event is None or event["event"] == "error":
                raise self._why(rank, event)
            yield event
            if event["event"] == "done":
                return

    def _why(self, rank: int, event: dict[str, Any] | None) -> CitrateError:
        """The error that came first: a process whose neighbour died only tells that it lost it."""
        if event is not None and not _lost_another(event):
            return _error(event)
        if self._end is not None:
            return self._why_of_launched(event)
        told = {rank: event}  # the first word of each: that it died, if it said none
        with suppress(queue.Empty):
            while len(told) < len(self._processes):
                other, word = self._found.get(timeout=_LAST_WORDS_S)
                if word is None or word["event"] == "error":
                    told.setdefault(other, word)
        errors_told = [word for word in told.values() if word is not None]
        own = [word for word in errors_told if not _lost_another(word)]
        dead = [number for number, word in told.items() if word is None]
        if own or not dead:
            return _error((own or errors_told)[0])
        return _death(self._processes[dead[0]].wait(), self._talks[dead[0]])

    def _why_of_launched(self, event: dict[str, Any] | None) -> CitrateError:
        """What one of accelerate's processes tells of its own; where all only lost another, accelerate says which."""
        lost = event
        with suppress(queue.Empty):
            while event is not None:
                if event["event"] == "error":
                    if not _lost_another(event):
                        return _error(event)
                    lost = event
                _, event = self._found.get(timeout=_LAST_WORDS_S)
        if event is None or lost is None:
            return _death(self._processes[0].wait(), self._talks[0])
        return _error(lost)

    def _spawn(
        self, command: list[str], environment: Mapping[str, str], stdin: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to pass on: the child must not die in the middle of a checkpoint
            pass_fds=() if self._lock is None else (self._lock,),
        )
        assert process.stdout and process.stderr
        self._processes.append(process)
        self._talks.append(_Talk(process.stderr))
        reader = threading.Thread(target=self._read, args=(len(self._processes) - 1, process.stdout), daemon=True)
        reader.start()
        self._readers.append(reader)
        return process

    def _read(self, rank: int, stream: IO[bytes]) -> None:
        for line in stream:
            with suppress(ValueError):  # accelerate's own words
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    self._found.put((rank, event))
        self._processes[rank].wait()
        if self._processes[rank].returncode != 0 or rank == 0:
            self._found.put((rank, None))


def _death(code: int, talk: _Talk) -> TrainingError:
    """What is said of a process that ended without a word. A negative code is the signal that killed it."""
    again = "run it again: it goes on after its last checkpoint"
    memory = f"{again}; where memory ran out, halve batch_size and double accumulation"
    if code < 0:
        return TrainingError(f"a training process was killed ({signal.Signals(-code).name})", hint=memory)
    said = talk.end()
    hint = memory if "SIGKILL" in said else again  # of a process that accelerate had started
    return TrainingError(f"the training process died (exit {code}): {said}", hint=hint)


def _lost_another(event: Mapping[str, Any]) -> bool:
    """Whether an error says no more than that another process of the run is gone."""
    text = str(event["message"]).lower()
    return "gloo" in text or "connection closed by peer" in text or "nccl" in text


class _Talk:
    """The end of what a process says, read so that it never waits for us."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._said = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while piece := self._stream.read1(1 << 16):  # type: ignore[attr-defined]  # a pipe is buffered
            self._said = (self._said + piece)[-_TALK_BYTES:]

    def end(self) -> str:
        """The last line of it; torchrun ends with a ruler."""
        self.join()
        lines = [each.strip() for each in self._said.decode(errors="replace").splitlines()]
        return next((each[:300] for each in reversed(lines) if each.strip("=-")), "it said nothing")

    def join(self) -> None:
        """Wait until all of it is read."""
        self._thread.join(10)


def _error(event: Mapping[str, Any]) -> CitrateError:
    """The worker's error as its own type."""
    kind = getattr(errors, event["type"], TrainingError)
    details = {key: value for key, value in event["details"].items() if kind is errors.IntegrityError}
    found: CitrateError = kind(event["message"], hint=event["hint"], **details)
    return found
