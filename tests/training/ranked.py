"""Several processes of a run, forked from one that has imported everything: what a test of them would else pay each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from citrate.training import ranks
from citrate.training.determinism import profile
from citrate.training.proof import Record
from citrate.training.recipe import Bound
from citrate.training.stepping import Inputs

WORLD = 2


@dataclass(frozen=True)
class Work:
    """What the processes do: train into ``out``, or replay the segment ``number`` of it.

    ``dies_at``: the step after which process 0 is killed.
    """

    bound: bytes
    inputs: Inputs
    out: Path
    scratch: Path
    dies_at: int = 0
    number: int = -1


def server() -> ForkServerContext:
    """The process that they are forked from; its environment is that of a run's own processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.preload"])
    before = dict(os.environ)
    try:
        os.environ.update(profile("citrate/cpu-avx2-fp32").environment, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def command(context: ForkServerContext, work: Work) -> int | None:
    """Train by the launcher, as a command does that is killed when it is told of the step ``dies_at``."""
    process = context.Process(target=_be_a_command, args=(work,))
    process.start()
    process.join(200)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def reach_for_the_network(context: ForkServerContext, work: Work) -> str:
    """Have a worker's replay, in place of training, open a socket; returns what came of it."""
    work.scratch.mkdir()
    process = context.Process(target=_reach, args=(work,))
    process.start()
    process.join()
    return (work.scratch / "found").read_text()


def start(context: ForkServerContext, work: Work) -> list[BaseProcess]:
    """Start both; wait with ``finish``."""
    work.scratch.mkdir()
    found: list[BaseProcess] = [context.Process(target=_be, args=(rank, work)) for rank in range(WORLD)]
    for process in found:
        process.start()
    return found


def finish(processes: list[BaseProcess]) -> list[int | None]:
    """How each ended; when the first has, the others are given half a minute."""
    processes[0].join(300)
    for process in processes:
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _be(rank: int, work: Work) -> None:
    import torch

    from citrate.core.confinement import sandbox
    from citrate.training import run
    from citrate.training.replay import replay

    os.environ.update(ranks.environment(rank, WORLD))
    torch.set_num_threads(1)
    ranks.join(work.scratch / "meeting", "cpu")

    def after(step: run.Step) -> None:
        if step.step == work.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if work.number < 0:
        run.train(Bound.parse(work.bound), work.inputs, work.out, after)
        return
    sandbox.go_offline()
    found = replay(Record(work.out), work.number, work.inputs, work.out / "adapter", work.scratch / f"work{rank}")
    (work.scratch / f"found{rank}").write_text(f"{found.ok} {found.exact} {found.differs}")


def _be_a_command(work: Work) -> None:
    from citrate.training import process
    from citrate.training.process import Files

    os.environ.update(CITRATE_PRIVATE_KEY="0x5ec12e7", ACCELERATE_MIXED_PRECISION="bf16", WORLD_SIZE="7", RANK="3")

    def after(step: Mapping[str, Any]) -> None:
        if step["step"] == work.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    process.train(Bound.parse(work.bound), Files(work.inputs.base, work.inputs.dataset), work.out, after)


def _reach(work: Work) -> None:
    from citrate.training import replay, worker
    from citrate.training.replay import Replayed

    def reaching(*_: object) -> Replayed:
        try:
            socket.socket().close()
            found = "a socket"
        except PermissionError:
            found = "nothing"
        return Replayed(1, 2, ok=True, exact=True, differs=found, error=0)

    replay.replay = reaching  # type: ignore[assignment]  # in this process only
    request = {
        "proof": str(work.out), "segments": [0], "adapter": str(work.out / "adapter"), "threads": 1, "device": "cpu",
        "base": str(work.inputs.base), "dataset": str(work.inputs.dataset),
    }  # fmt: skip
    told: list[object] = []
    worker._replay(request, lambda _, **fields: told.append(fields.get("differs")))
    (work.scratch / "found").write_text(str(told[0]))
