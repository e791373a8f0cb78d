"""The process that trains or replays: its environment is the recipe's determinism profile before torch is imported.

``python -m citrate.training.worker`` reads one request, a line of JSON, on its stdin, and writes a line of JSON for
each event on its stdout: ``notes``, ``step`` and ``segment`` on the way, ``done`` or ``error`` at the end. What
libraries print goes to stderr. Of several processes each has the request; the first tells, any may tell an error.
Started by accelerate, they read it from the file that is their argument.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from citrate.core.confinement import sandbox
from citrate.core.errors import CitrateError, TrainingError
from citrate.training import ranks

Tell = Callable[..., None]


def main() -> int:
    """Answer the request on stdin; returns the exit code."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(event: str, **fields: object) -> None:
        out.write(json.dumps({"event": event, **fields}) + "\n")
        out.flush()

    request = json.loads(Path(sys.argv[1]).read_bytes() if sys.argv[1:] else sys.stdin.buffer.readline())
    _end_with_our_command(request)
    try:
        _meet(request)
        {"train": _train, "replay": _replay, "merge": _merge}[request["do"]](request, tell)
    except CitrateError as error:
        tell("error", type=type(error).__name__, message=error.message, hint=error.hint, details=error.details)
        return 1
    except ImportError as error:
        tell(
            "error", type="BackendMissingError", message=str(error), hint="pip install 'citrate[training]'", details={}
        )
        return 1
    ranks.leave()
    return 0


def _end_with_our_command(request: dict[str, Any]) -> None:
    """Outlive it by nothing: what we would still write, a command that goes on with the run does not expect.

    The kernel ends us where it can (Linux), the end of our stdin everywhere. Below accelerate, which is our parent and
    outlives the command, stdin is a socket, which has the lock of the run's folder for us.
    """
    if request.get("launched"):
        _take_the_lock()
        threading.Thread(target=_end_with_socket, daemon=True).start()
        return
    sandbox.die_with_parent(request["parent_pid"])
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_with_stdin, daemon=True).start()


def _take_the_lock() -> None:
    """Hold the run's folder as our command does, until we end. It sends as many as there are of us, one each."""
    with socket.socket(fileno=os.dup(0)) as ours:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:  # the command has ended
        os._exit(1)


def _end_with_socket() -> None:
    hung_up = select.poll()
    hung_up.register(0, select.POLLHUP)  # what is still in it may be for another
    while not any(found & select.POLLHUP for _, found in hung_up.poll()):
        pass
    os._exit(1)


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # what stands in a buffer is not written any more


def _meet(request: dict[str, Any]) -> None:
    """Meet the run's other processes: those that our parent started, or those that accelerate did."""
    if request.get("launched"):
        from accelerate import PartialState  # type: ignore[import-untyped]  # it ships no types

        PartialState(cpu=request["device"] == "cpu")
    elif request.get("meeting"):
        ranks.join(Path(request["meeting"]), request["device"])


def _train(request: dict[str, Any], tell: Tell) -> None:
    from citrate.training.recipe import Bound
    from citrate.training.run import train

    _threads(request)
    bound = Bound.parse(request["recipe"].encode())
    proof = train(
        bound,
        _inputs(request),
        Path(request["out"]),
        lambda step: tell("step", **asdict(step)),
        lambda notes: tell("notes", notes=notes),
    )
    if ranks.rank() == 0:
        tell("done", proof=proof.to_bytes().decode())


def _replay(request: dict[str, Any], tell: Tell) -> None:
    from citrate.training.proof import Record
    from citrate.training.replay import replay

    _threads(request)
    record, inputs = Record(Path(request["proof"])), _inputs(request)
    sandbox.go_offline()  # a replay has all it needs; macOS has no such call, and HF_HUB_OFFLINE everywhere
    for number in request["segments"]:
        with tempfile.TemporaryDirectory() as work:
            found = replay(record, number, inputs, Path(request["adapter"]), Path(work))
            if ranks.rank() == 0:
                tell("segment", **asdict(found))
    if ranks.rank() == 0:
        tell("done")


def _merge(request: dict[str, Any], tell: Tell) -> None:
    from citrate.training.reward_model import merge

    _threads(request)
    merge(Path(request["base"]), Path(request["adapter"]), Path(request["out"]), request["precision"])
    tell("done")


def _inputs(request: dict[str, Any]) -> Any:
    from citrate.training.stepping import Inputs

    reward = request.get("reward")
    return Inputs(Path(request["base"]), Path(request["dataset"]), Path(reward) if reward else None)


def _threads(request: dict[str, Any]) -> None:
    import logging
    import warnings

    import torch

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(int(request["threads"]))
    _require_device(request)


def _require_device(request: dict[str, Any]) -> None:
    """What shards by an accelerate configuration is for GPUs alone: there another profile is no way out."""
    import torch

    if request["device"] == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "the recipe wants a GPU, and torch finds none",
            hint="train it where torch finds GPUs: what its accelerate file says is for them alone"
            if request.get("launched")
            else "determinism: citrate/cpu-avx2-fp32",
        )


if __name__ == "__main__":
    sys.exit(main())
