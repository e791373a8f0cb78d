"""Several processes of a run, forked from one that has imported everything: what a test of them would else pay each."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from citrate.training import ranks
from citrate.training.proof import Record
from citrate.training.recipe import Bound
from citrate.training.trainers import Inputs

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
    """The process that they are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.preload"])
    return context


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
