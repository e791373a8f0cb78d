"""The processes of a run that train together: which of them this is, and what they tell each other.

A run of one process has no group, and every question is answered at once. Several on one machine meet in a file, so
that no port is raced for, and talk over the loopback interface.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from citrate.core.errors import ConfigError

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


def require_one_command() -> None:
    """Raise ConfigError where torchrun, or accelerate by it, has started the command: once for each process."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError(
            "train starts the processes of a run itself, and was started by torchrun",
            hint="run it without: world_size in the recipe says how many, accelerate: FILE has torchrun start them",
        )


def on_this_machine() -> dict[str, str]:
    """What gloo looks for in the environment of processes that are all on this machine, whoever starts them."""
    return {
        "GLOO_SOCKET_IFNAME": "lo0" if platform.system() == "Darwin" else "lo",
        "TORCH_GLOO_LAZY_INIT": "0",  # all connections at once: a replay may open none later
    }


def environment(rank: int, world: int) -> dict[str, str]:
    """What accelerate and torch look for in the environment of one of ``world`` processes on this machine."""
    return {
        **on_this_machine(),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
    }


def join(meeting: Path, device: str) -> None:
    """Meet the other processes of the environment's WORLD_SIZE, if there are any.

    Args:
        meeting: a file that does not exist when the first comes.
        device: ``cpu`` or ``cuda``.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return
    import torch.distributed as dist

    dist.init_process_group(
        BACKENDS[device], init_method=meeting.absolute().as_uri(), rank=int(os.environ["RANK"]), world_size=world
    )
    gathered(b"here")


def leave() -> None:
    """Part from the others, in order."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0. Process 0 writes the run's files and tells of it."""
    import torch.distributed as dist

    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many there are."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(data: bytes) -> list[bytes]:
    """What each of them has, in the order of their ranks; as many bytes from each."""
    if world() == 1:
        return [data]
    import torch
    import torch.distributed as dist

    mine = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    found = [torch.empty_like(mine) for _ in range(world())]
    dist.all_gather(found, mine)
    return [each.numpy().tobytes() for each in found]


def agreed(number: int) -> int:
    """The number that process 0 has."""
    return int.from_bytes(gathered(number.to_bytes(8, "big"))[0], "big")
