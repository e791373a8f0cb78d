"""The registry of adapters, and the ledger of training runs, as plain dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from eth_abi import encode
from eth_utils import keccak

from tests.differential.encoding import ZERO, ZERO_WORD, Fold, Refused, account, cid_text, lora_id, record_code
from tests.differential.payloads import LoRA, parse_lora, parse_parents
from tests.differential.registry_model import Now, RegistryModel

DAY = 86_400
OPEN, ALLOW_LIST, CLOSED = range(3)
ACTIVE, FLAGGED, QUARANTINED, REMOVED = range(4)
NONE, ATTESTED = 0, 4


@dataclass
class Adapter:
    creator: str
    content: LoRA
    time: int
    record: str


@dataclass
class Merge:
    creator: str
    base: bytes
    parents: list[tuple[bytes, int]]
    time: int
    record: str


@dataclass
class Listed:
    address: str
    kind: int
    id: bytes
    code: bytes


class LoRAModel:
    """Every write and every view of LoRARegistry. ``verdict`` is the appointed moderation's answer, or None."""

    def __init__(self, address: str, registry: RegistryModel, ledger: LedgerModel) -> None:
        self.address = address
        self.registry = registry
        self.ledger = ledger
        self.verdict: Callable[[bytes, Now], int] | None = None
        self.loras: dict[bytes, Adapter] = {}
        self.merges: dict[bytes, Merge] = {}
        self.all_records: list[Listed] = []
        self.accepted: dict[str, list[int]] = {}
        self.acceptances: dict[bytes, int] = {}
        self.allowed: dict[tuple[bytes, str], bool] = {}
        self.fold = Fold()

    # ---- writing

    def register(self, now: Now, sender: str, creator: str, payload: bytes) -> None:
        if sender != creator:
            raise Refused("NotCreator", creator, sender)
        lora = parse_lora(payload)
        lid = lora_id(creator, lora.name, lora.version)
        if self.counts_of(creator, now)[0] == 10:
            raise Refused("QuotaExceeded", creator, (now.time // DAY + 1) * DAY)
        mid, deprecated, content = self.registry.content_of(lora.base)
        if content != lora.base_digest:
            raise Refused("WrongBase", lora.base, lora.base_digest, content)
        if deprecated:
            raise Refused("BaseDeprecated", lora.base)
        if not self.accepts(mid, creator):
            raise Refused("NotAccepted", mid, creator)
        self._require_good(lora.base, self._standing(lora.base, now))
        if lid in self.loras:
            raise Refused("LoRATaken", lid)
        record = self._append(1, lid, lid, now, creator, payload[32:])
        self.loras[lid] = Adapter(creator, lora, now.time, record)
        self.accepted.setdefault(creator, []).append(now.time // DAY)

    def merge(self, now: Now, sender: str, result: bytes, payload: bytes) -> None:
        mid, owner, _, _ = self.registry.terms_of(result)
        if sender != owner:
            raise Refused("NotOwner", mid, sender)
        parents = parse_parents(payload)
        base = ZERO_WORD
        for i, (lid, _) in enumerate(parents):
            if lid not in self.loras:
                raise Refused("UnknownLoRA", lid)
            its_base = self.loras[lid].content.base
            base = its_base if i == 0 else base
            if its_base != base:
                raise Refused("OtherBase", lid, its_base)
            self._require_good(lid, self._own_status(lid, now))
        self._require_good(base, self._standing(base, now))
        if base == result:
            raise Refused("InvalidResult", result)
        if result in self.merges:
            raise Refused("MergeTaken", result)
        salt = keccak(encode(["string", "bytes32"], ["Merge", result]))
        record = self._append(2, salt, result, now, sender, result + base + payload)
        self.merges[result] = Merge(sender, base, parents, now.time, record)

    def set_acceptance(self, sender: str, mid: bytes, acceptance: int) -> None:
        self._require_owner(sender, mid)
        self.acceptances[mid] = acceptance
        self.fold.log("AcceptanceSet(bytes32,uint8)", [mid], ["uint8"], [acceptance])

    def allow_creator(self, sender: str, mid: bytes, creator: str, allowed: bool) -> None:
        self._require_owner(sender, mid)
        self.allowed[mid, creator] = allowed
        self.fold.log("CreatorAllowed(bytes32,address,bool)", [mid, creator], ["bool"], [allowed])

    # ---- reading

    def get_lora(self, lid: bytes) -> tuple:
        if lid not in self.loras:
            raise Refused("UnknownLoRA", lid)
        adapter = self.loras[lid]
        lora = adapter.content
        digest = self.registry.content_of(lora.base)[2]
        training = (lora.dataset, lora.recipe, lora.proof_root, lora.run, False)
        run = self.ledger.runs.get(lora.run)
        if run and run.committed_at and (run.trainer, run.base, run.adapter) == (adapter.creator, digest, lora.sha256):
            training = (run.dataset, run.recipe, run.proof_root, lora.run, True)
        names = (adapter.creator, lora.name, lora.version, lora.licence, lora.base, digest)
        content = (cid_text(lora.codec, lora.cid), lora.sha256, lora.size_bytes, lora.rank, lora.alpha, lora.modules)
        return (*names, *content, lora.steps, training, adapter.time, adapter.record)

    def get_merge(self, result: bytes) -> tuple:
        if result not in self.merges:
            raise Refused("UnknownMerge", result)
        merge = self.merges[result]
        return merge.creator, result, merge.base, merge.parents, merge.time, merge.record

    def base_of(self, thing: bytes) -> bytes:
        if thing in self.loras:
            return self.loras[thing].content.base
        return self.merges[thing].base if thing in self.merges else ZERO_WORD

    def creator_of(self, lid: bytes) -> str:
        return self.loras[lid].creator if lid in self.loras else ZERO

    def status_of(self, thing: bytes, now: Now) -> tuple:
        if self.verdict is None:
            return False, ACTIVE
        status = self._standing(thing, now)
        if thing in self.loras:
            status = max(status, self._standing(self.loras[thing].content.base, now))
        return True, status

    def counts_of(self, creator: str, now: Now) -> tuple:
        days = self.accepted.get(creator, [])
        return days.count(now.time // DAY), len(days)

    def acceptance_of(self, mid: bytes) -> int:
        return self.acceptances.get(mid, OPEN)

    def accepts(self, mid: bytes, creator: str) -> bool:
        listed = self.acceptance_of(mid) == ALLOW_LIST and self.allowed.get((mid, creator), False)
        return self.acceptance_of(mid) == OPEN or listed

    def head(self) -> tuple:
        return (self.all_records[-1].address if self.all_records else ZERO), len(self.all_records)

    def records(self, cursor: str, limit: int) -> tuple:
        backwards = self.all_records[::-1]
        if cursor != ZERO:
            at = next((i for i, r in enumerate(backwards) if r.address == cursor), None)
            if at is None:
                if limit:
                    raise Refused("UnknownRecord", cursor)
                return [], cursor
            backwards = backwards[at:]
        rest = backwards[min(limit, 500) :]
        return [self._item(r) for r in backwards[: min(limit, 500)]], rest[0].address if rest else ZERO

    # ---- parts

    def _item(self, listed: Listed) -> tuple:
        if listed.kind == 2:
            merge = self.merges[listed.id]
            return listed.address, 2, listed.id, merge.base, merge.creator, "", "", merge.time
        adapter = self.loras[listed.id]
        lora = adapter.content
        return listed.address, 1, listed.id, lora.base, adapter.creator, lora.name, lora.version, adapter.time

    def _append(self, kind: int, salt: bytes, thing: bytes, now: Now, link: str, rest: bytes) -> str:
        where = account(self.address, salt)
        self.all_records.append(Listed(where, kind, thing, record_code(kind, now.time, self.head()[0], link, rest)))
        return where

    def _own_status(self, thing: bytes, now: Now) -> int:
        return ACTIVE if self.verdict is None else self.verdict(thing, now)

    def _standing(self, version: bytes, now: Now) -> int:
        status = self._own_status(version, now)
        if version in self.merges:
            status = max(status, self._own_status(self.merges[version].base, now))
        return status

    def _require_good(self, thing: bytes, status: int) -> None:
        if status >= QUARANTINED:
            raise Refused("NotInGoodStanding", thing, status)

    def _require_owner(self, sender: str, mid: bytes) -> None:
        if sender != self.registry.owner_of(mid):
            raise Refused("NotOwner", mid, sender)


@dataclass
class Run:
    trainer: str
    recipe: bytes
    dataset: bytes
    base: bytes
    announced_at: int
    proof_root: bytes = ZERO_WORD
    adapter: bytes = ZERO_WORD
    seed: bytes = ZERO_WORD
    committed_at: int = 0
    target_block: int = 0
    misses: int = 0
    words: dict[str, tuple] = field(default_factory=dict)


class LedgerModel:
    """Every write and every view of TrainingLedger."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self.fold = Fold()

    def announce(self, now: Now, sender: str, recipe: bytes, dataset: bytes, base: bytes) -> None:
        if not (any(recipe) and any(dataset) and any(base)):
            raise Refused("InvalidDigest")
        number = len(self.runs) + 1
        self.runs[number] = Run(sender, recipe, dataset, base, now.time)
        signature = "RunAnnounced(uint256,address,bytes32,bytes32,bytes32)"
        self.fold.log(signature, [number, sender], ["bytes32"] * 3, [recipe, dataset, base])

    def commit(self, now: Now, sender: str, number: int, proof_root: bytes, adapter: bytes) -> None:
        run = self._run(number)
        if sender != run.trainer:
            raise Refused("NotTrainer", number, sender)
        if run.committed_at:
            raise Refused("AlreadyCommitted", number)
        if not (any(proof_root) and any(adapter)):
            raise Refused("InvalidDigest")
        run.proof_root, run.adapter = proof_root, adapter
        run.committed_at, run.target_block = now.time, now.block + 8
        types = ["bytes32", "bytes32", "uint256"]
        self.fold.log(
            "RunCommitted(uint256,bytes32,bytes32,uint256)", [number], types, [proof_root, adapter, now.block + 8]
        )

    def draw(self, now: Now, number: int, hash_of_block: Callable[[int], bytes]) -> None:
        run = self._committed(number)
        if any(run.seed):
            raise Refused("AlreadyChallenged", number)
        if now.block <= run.target_block:
            raise Refused("TooEarly", run.target_block)
        if now.block - run.target_block > 256:
            run.misses, run.target_block = run.misses + 1, now.block + 8
            self.fold.log("ChallengeMissed(uint256,uint256)", [number], ["uint256"], [run.target_block])
            return
        run.seed = keccak(encode(["uint256", "bytes32"], [number, hash_of_block(run.target_block)]))
        self.fold.log("RunChallenged(uint256,bytes32)", [number], ["bytes32"], [run.seed])

    def attest(self, now: Now, sender: str, number: int, grade: int, segments: int, report: bytes) -> None:
        run = self._committed(number)
        if sender == run.trainer:
            raise Refused("SelfAttestation", number)
        if grade == NONE or (grade == ATTESTED) != (segments == 0):
            raise Refused("InvalidAttestation")
        if not any(report):
            raise Refused("InvalidDigest")
        if segments and not any(run.seed):
            raise Refused("NotChallenged", number)
        if sender in run.words:
            raise Refused("AlreadyAttested", number, sender)
        run.words[sender] = (sender, grade, segments, now.time, report)
        types = ["uint8", "uint256", "bytes32"]
        self.fold.log(
            "RunAttested(uint256,address,uint8,uint256,bytes32)", [number, sender], types, [grade, segments, report]
        )

    def run_count(self) -> int:
        return len(self.runs)

    def get_run(self, number: int) -> tuple:
        run = self._run(number)
        words = (run.trainer, run.recipe, run.dataset, run.base, run.proof_root, run.adapter, run.seed)
        return (*words, run.announced_at, run.committed_at, run.target_block, run.misses, len(run.words))

    def attestations(self, number: int, cursor: str, limit: int) -> list:
        words = list(self._run(number).words.values())[::-1]
        if cursor != ZERO:
            at = next((i for i, word in enumerate(words) if word[0] == cursor), None)
            if at is None:
                raise Refused("NotAttested", number, cursor)
            words = words[at + 1 :]
        return words[: min(limit, 500)]

    def attestation_of(self, number: int, verifier: str) -> tuple:
        return self._run(number).words.get(verifier, (verifier, 0, 0, 0, ZERO_WORD))

    def _run(self, number: int) -> Run:
        if number not in self.runs:
            raise Refused("UnknownRun", number)
        return self.runs[number]

    def _committed(self, number: int) -> Run:
        run = self._run(number)
        if not run.committed_at:
            raise Refused("NotCommitted", number)
        return run
