"""The ledger of training runs: announced before they start, committed when they end, challenged and attested.

``Chain.ledger`` is one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from citrate.core.adapters import Attestation, Grade, TrainingRun
from citrate.core.errors import ConfigError
from citrate.registry.abi_codec import Argument, Frame, encode_call
from citrate.registry.artifacts import TRAINING_LEDGER
from citrate.registry.contract import Block
from citrate.registry.ids import checksum
from citrate.registry.packing import digest
from citrate.registry.receipts import event
from citrate.registry.record_chain import require_whole
from citrate.registry.standing import hash_at, known
from citrate.registry.views import NOWHERE, PAGE, View

if TYPE_CHECKING:
    from citrate.registry.chain import Chain
    from citrate.registry.signer import Signer
    from citrate.registry.transactions import Receipt

T = TypeVar("T")

_ANNOUNCED = "RunAnnounced(uint256,address,bytes32,bytes32,bytes32)"


class Ledger:
    """TrainingLedger on one chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    # ------------------------------------------------------------------ reading

    def run(self, run_id: int, block: Block | None = None) -> TrainingRun:
        """One run.

        Raises:
            NotFoundError: there is none of this number.
        """
        return self._chain.read(get_run(run_id), block or self._chain.pin())

    def runs(self, newest: int = 100) -> tuple[TrainingRun, ...]:
        """The newest runs, newest first."""
        block = self._chain.pin()
        count = self._chain.read(run_count(), block)
        asked = [get_run(run_id) for run_id in range(count, max(0, count - newest), -1)]
        outcomes = self._chain.outcomes(asked, block)
        return tuple(self._chain.value(view, outcome) for view, outcome in zip(asked, outcomes, strict=True))

    def attestations(self, run_id: int) -> tuple[Attestation, ...]:
        """Every attestation of a run, newest first, counted against the contract's own count.

        Raises:
            NotFoundError: there is no such run.
            ChainError: the node's answers do not add up.
        """
        block = self._chain.pin()
        count = self.run(run_id, block).attestations
        found: list[Attestation] = []
        cursor = NOWHERE
        while len(found) < count:
            page = self._chain.read(attestations_of(run_id, cursor), block)
            require_whole(bool(page), "attestations")
            found += page
            cursor = page[-1].verifier
        require_whole(len(found) == count == len({each.verifier for each in found}), "attestations")
        return tuple(found)

    # ------------------------------------------------------------------ writing

    def announce(self, signer: Signer, *, recipe: str, dataset: str, base_sha256: str) -> tuple[int, Receipt]:
        """Announce a run before it starts; the signer becomes its trainer.

        Returns:
            The run's number, and the transaction.
        """
        arguments = [_word(recipe, "recipe"), _word(dataset, "dataset"), _word(base_sha256, "base")]
        receipt = self._send(signer, "announce(bytes32,bytes32,bytes32)", *arguments)
        told = event(self._chain, receipt, TRAINING_LEDGER, _ANNOUNCED)
        return int(told.topics[0], 16), receipt

    def commit(self, signer: Signer, run_id: int, *, proof_root: str, adapter_sha256: str) -> Receipt:
        """Commit to what came out of the signer's run. Once.

        Raises:
            AlreadyExistsError: it is committed.
            NotPermittedError: another one announced it.
        """
        arguments = (run_id, _word(proof_root, "proof"), _word(adapter_sha256, "adapter"))
        return self._send(signer, "commit(uint256,bytes32,bytes32)", *arguments)

    def draw(self, signer: Signer, run_id: int) -> Receipt:
        """Fix the seed of a committed run; a target block too long ago is replaced by a new one, and counted."""
        return self._send(signer, "draw(uint256)", run_id)

    def attest(self, signer: Signer, run_id: int, grade: Grade, *, segments: int, report_sha256: str) -> Receipt:
        """Say what the replay of a run came to. Once for each verifier, never the trainer.

        Raises:
            AlreadyExistsError: the signer has attested it.
            NotPermittedError: it is the signer's own run.
        """
        if not 0 <= segments < 1 << 32:
            raise ConfigError(f"{segments} segments cannot be", hint="--segments is how many were replayed")
        arguments = (run_id, list(Grade).index(grade) + 1, segments, _word(report_sha256, "report"))
        return self._send(signer, "attest(uint256,uint8,uint32,bytes32)", *arguments)

    def _send(self, signer: Signer, signature: str, *arguments: Argument) -> Receipt:
        return self._chain.send(signer, TRAINING_LEDGER, encode_call(signature, *arguments))


def get_run(run_id: int) -> View[TrainingRun]:
    """One run."""
    return _view(lambda frame: _run(run_id, frame), "getRun(uint256)", run_id)


def run_count() -> View[int]:
    """How many runs there are: they are 1..count."""
    return _view(lambda frame: frame.number(0), "runCount()")


def attestations_of(run_id: int, cursor: str) -> View[tuple[Attestation, ...]]:
    """Attestations of a run, newest first, after that of the verifier ``cursor``."""
    return _view(
        lambda frame: tuple(_attestation(row) for row in frame.rows(0, 5)),
        "attestations(uint256,address,uint256)",
        run_id,
        cursor,
        PAGE,
    )


def _run(run_id: int, row: Frame) -> TrainingRun:
    return TrainingRun(
        run_id=run_id,
        trainer=checksum(row.address(0)),
        recipe=row.word(1)[2:],
        dataset=row.word(2)[2:],
        base_sha256=row.word(3)[2:],
        proof_root=hash_at(row, 4),
        adapter_sha256=hash_at(row, 5),
        seed=hash_at(row, 6),
        announced_at=row.number(7),
        committed_at=row.number(8),
        target_block=row.number(9),
        misses=row.number(10),
        attestations=row.number(11),
    )


def _attestation(row: Frame) -> Attestation:
    grade = known([None, *Grade], row.number(1), "grade")
    require_whole(grade is not None, "attestations")
    assert grade is not None
    return Attestation(checksum(row.address(0)), grade, row.number(2), row.number(3), row.word(4)[2:])


def _word(sha256: str, what: str) -> str:
    return "0x" + digest(sha256, what).hex()


def _view(decode: Callable[[Frame], T], signature: str, *arguments: Argument) -> View[T]:
    return View(TRAINING_LEDGER, encode_call(signature, *arguments), decode)
