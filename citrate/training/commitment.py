"""What a training run commits to at every step: the hashes of what decided it and of what came out.

A leaf is canonical JSON of these hashes; the proof's root is the Merkle root over the leaves, a leaf a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from citrate.core import canonical
from citrate.core.errors import FormatError

if TYPE_CHECKING:
    import torch

_KEYS = {"step", "batch", "weights", "optimizer", "rng"}


@dataclass(frozen=True)
class Leaf:
    """One optimizer step, from 1. All hashes are SHA-256, hex.

    Attributes:
        batch: of every tensor that the model was given in this step.
        weights: of the trained weights after it.
        optimizer: of the optimizer's state after it.
        rng: of the states of all random generators after it.
    """

    step: int
    batch: str
    weights: str
    optimizer: str
    rng: str

    def to_bytes(self) -> bytes:
        """As it is hashed."""
        return canonical.dumps(asdict(self))

    @classmethod
    def parse(cls, data: bytes) -> Leaf:
        """Read a leaf.

        Raises:
            FormatError: it is none.
        """
        document = canonical.loads(data)
        step = document.get("step")
        texts = [document.get(key) for key in ("batch", "weights", "optimizer", "rng")]
        if set(document) != _KEYS or not isinstance(step, int) or isinstance(step, bool) or step < 1:
            raise FormatError("not a step of a training proof")
        if not all(isinstance(text, str) and len(text) == 64 for text in texts):
            raise FormatError("not a step of a training proof: its hashes are none")
        return cls(step, *map(str, texts))


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The hash of named tensors: for each in byte order of the names ``name|dtype|shape|`` and its bytes in row order,
    little-endian."""
    digest = hashlib.sha256()
    for name in sorted(tensors, key=str.encode):
        update(digest, name, tensors[name])
    return digest.hexdigest()


def update(digest: hashlib._Hash, name: str, tensor: torch.Tensor) -> None:
    """Add one named tensor to a hash."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    shape = ",".join(map(str, plain.shape))
    digest.update(f"{name}|{str(plain.dtype).removeprefix('torch.')}|{shape}|".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)


def rng_tensors() -> dict[str, torch.Tensor]:
    """The states of Python's, numpy's and torch's random generators, as tensors."""
    import random

    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    assert version == 3 and gauss is None, "nobody draws normal numbers from Python's generator"
    state = np.random.get_state(legacy=True)
    assert isinstance(state, tuple)
    _, keys, position, has_gauss, cached = state
    states = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        states |= {f"cuda{at}": state for at, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_rng(states: Mapping[str, torch.Tensor]) -> None:
    """Put the random generators into states that ``rng_tensors`` gave."""
    import random

    import numpy as np
    import torch

    random.setstate((3, tuple(states["python"].tolist()), None))
    position, has_gauss = states["numpy_position"].tolist()
    words = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, position, has_gauss, float(states["numpy_gauss"][0])))
    torch.random.set_rng_state(states["torch"])
    devices = sorted((name for name in states if name.startswith("cuda")), key=lambda name: int(name[4:]))
    if devices and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([states[name] for name in devices])


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """An optimizer's state as tensors, ``parameter/state``; ``names`` are those of its parameters, in its order."""
    import torch

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{name}/{key}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for name, parameter in zip(names, parameters, strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }
