"""What lies beside an adapter's weights: where its proof and its inputs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from citrate.core import canonical
from citrate.core.errors import FormatError
from citrate.formats.documents import read_bounded

TOLD = "training.json"
TOLD_MAX_BYTES = 4096


@dataclass(frozen=True)
class Told:
    """What an adapter says of its training: the CIDs of its proof, dataset and reward model; its base's reference and
    the ledger's run. What does not apply is empty."""

    proof_cid: str
    dataset_cid: str
    base: str = ""
    run_id: int = 0
    reward_cid: str = ""

    def to_bytes(self) -> bytes:
        """As it lies beside the weights."""
        document = {"schema": "citrate.training/1", "proof": self.proof_cid, "dataset": self.dataset_cid}
        if self.base:
            document["base"] = self.base
        if self.run_id:
            document["run"] = str(self.run_id)
        if self.reward_cid:
            document["reward"] = self.reward_cid
        return canonical.dumps(document)

    @classmethod
    def read(cls, adapter: Path) -> Told | None:
        """What stands beside an adapter; None where it says nothing.

        Raises:
            FormatError: it is malformed.
        """
        if not (adapter / TOLD).is_file():
            return None
        return cls.parse(read_bounded(adapter / TOLD, TOLD_MAX_BYTES))

    @classmethod
    def parse(cls, data: bytes) -> Told:
        """Read it from its bytes.

        Raises:
            FormatError: it is malformed.
        """
        found = canonical.loads(data)
        texts = {key: value for key, value in found.items() if isinstance(value, str)}
        known = {"schema", "proof", "dataset", "base", "run", "reward"}
        run = texts.get("run", "0")
        wrong = texts != found or not set(found) <= known or texts.get("schema") != "citrate.training/1"
        if wrong or not (run.isascii() and run.isdecimal() and len(run) < 20):
            raise FormatError(f"{TOLD} is not what a training run writes")
        return cls(
            texts.get("proof", ""), texts.get("dataset", ""), texts.get("base", ""), int(run), texts.get("reward", "")
        )
