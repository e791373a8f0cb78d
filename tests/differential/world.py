"""All contracts twice: on a node, and as models. Every step goes to both, and then all that can be read is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from eth_abi import encode

from citrate.registry.ethereum import Account, encode_typed_data
from tests.differential.encoding import ZERO, Refused, digest, model_id, name_id
from tests.differential.lora_model import LedgerModel, LoRAModel
from tests.differential.money_model import AccessModel, ModerationModel, PolicyModel
from tests.differential.node import Function, Node
from tests.differential.registry_model import Now, RegistryModel

START = 1_900_000_000
KEYS = tuple(digest("actor", i) for i in range(4))
ACTORS = tuple(Account.from_key(key).address for key in KEYS)
NOBODY = Account.from_key(digest("nobody")).address
NAMES = ("tiny", "m-2")
VERSIONS = ("1.0.0", "1.1.0", "2", "main", "3.0+b")
ALIASES = ("prod", "main")
UNKNOWN = digest("unknown")

View = tuple[str, str, tuple[object, ...], Callable[[], object]]


@dataclass(frozen=True)
class Expected:
    """What a view returned when it was last compared, so that what did not change is not encoded again."""

    value: object
    raw: bytes


class World:
    """The models and the node that they are compared with."""

    def __init__(self, node: Node) -> None:
        self.node = node
        authority, deployer = ACTORS[0], NOBODY
        registry = node.deploy("ModelRegistry", deployer).address
        ledger = node.deploy("TrainingLedger", deployer).address
        self.timelock = node.deploy("Timelock", deployer, authority).address
        policy = node.deploy("Policy", deployer, authority, self.timelock).address
        loras = node.deploy("LoRARegistry", deployer, registry, ledger, policy).address
        access = node.deploy("ModelAccess", deployer, registry, policy).address
        self.moderation_address = node.deploy("Moderation", deployer, registry, loras, self.timelock).address
        for account in (*ACTORS, self.timelock):
            node.rpc.call("anvil_setBalance", account, hex(10**24))
        refusers = frozenset({registry, policy})
        self.registry = RegistryModel(registry)
        self.ledger = LedgerModel()
        self.loras = LoRAModel(loras, self.registry, self.ledger)
        self.policy = PolicyModel(authority, self.timelock, frozenset({self.moderation_address, access}))
        self.access = AccessModel(self.registry, self.policy, refusers)
        self.moderation = ModerationModel(self.timelock, self._owner_of_subject, refusers)
        self.time = node.time
        self._last: dict[tuple, Expected] = {}
        self.tried: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()

    @property
    def now(self) -> Now:
        return Now(self.node.time, self.node.block)

    # ---- steps

    def step(
        self,
        sender: str,
        contract: str,
        function: str,
        arguments: list[object],
        model: Callable[[Now], None],
        value: int = 0,
    ) -> None:
        """Send it, do it in the model, and compare how both ended and everything that can be read."""
        self.time = max(self.time, self.node.time) + 1
        told = self.node.send(sender, contract, function, arguments, value, self.time)
        foretold: Refused | None = None
        try:
            model(self.now)
        except Refused as refusal:
            foretold = refusal
        same = (told is None) == (foretold is None) and (told is None or told.args == foretold.args)  # type: ignore[union-attr]
        assert same, f"{contract}.{function}{arguments}: the contract {told!r}, the model {foretold!r}"
        self.loras.verdict = self.moderation.status_of if self.policy.moderation == self.moderation_address else None
        self.compare()
        self.tried[f"{contract}.{function}"] += 1
        self.accepted[f"{contract}.{function}"] += told is None

    def wait(self, seconds: int, blocks: int) -> None:
        self.time = max(self.time, self.node.time) + seconds + blocks
        self.node.mine(blocks, self.time)
        self.compare()

    def sign(self, key: bytes, contract: str, domain: str, kind: str, fields: dict[str, str], values: dict) -> bytes:
        """EIP-712, by eth-account."""
        where = {
            "name": domain,
            "version": "1",
            "chainId": 31337,
            "verifyingContract": self.node.contracts[contract].address,
        }
        types = {kind: [{"name": name, "type": type_} for name, type_ in fields.items()]}
        return bytes(Account.sign_message(encode_typed_data(where, types, values), key).signature)

    # ---- comparing

    def compare(self) -> None:
        views = list(self.views())
        contracts = self.node.contracts
        calls = [(contracts[c].address, _calldata(contracts[c].functions[f], a)) for c, f, a, _ in views]
        for (contract, function, arguments, expected), answer in zip(views, self.node.ask(calls), strict=True):
            self._compare_one(contract, function, arguments, expected, answer)
        self._compare_records()
        self._compare_balances()

    def _compare_one(
        self, contract: str, function: str, arguments: tuple, expected: Callable[[], object], answer: bytes | Refused
    ) -> None:
        where = f"{contract}.{function}{arguments}"
        try:
            value = expected()
        except Refused as refusal:
            assert isinstance(answer, Refused), f"{where}: the model {refusal!r}, the contract {answer!r}"
            assert answer.args == refusal.args, f"{where}: the model {refusal!r}, the contract {answer!r}"
            return
        assert isinstance(answer, bytes), f"{where}: the model {value!r}, the contract {answer!r}"
        last = self._last.get((contract, function, arguments))
        if last is None or last.value != value:
            outputs = self.node.contracts[contract].functions[function].outputs
            values = [value] if len(outputs) == 1 else list(value)  # type: ignore[call-overload]  # a tuple of outputs
            last = Expected(value, encode(outputs, values))
            self._last[contract, function, arguments] = last
        assert answer == last.raw, f"{where}: the model {value!r}, the contract 0x{answer.hex()}"

    def _compare_records(self) -> None:
        """The code of every account that holds a record, byte for byte."""
        records = [*self.registry.all_records, *self.loras.all_records]
        for record, code in zip(records, self.node.code([r.address for r in records]), strict=True):
            assert code == record.code, f"the record at {record.address}: {code.hex()}, the model {record.code.hex()}"

    def _compare_balances(self) -> None:
        held = {"ModelAccess": self.access.total_credit(), "Moderation": sum(self.moderation.totals())}
        for name, amount in held.items():
            assert self.node.balance(self.node.contracts[name].address) == amount, f"{name} holds another balance"

    # ---- every view of every contract, with every argument that is of interest

    def views(self) -> Iterator[View]:
        yield from self._registry_views()
        yield from self._lora_views()
        yield from self._ledger_views()
        yield from self._access_views()
        yield from self._moderation_views()
        yield from self._policy_views()

    def _owner_of_subject(self, subject: bytes) -> str:
        if subject in self.registry.all_versions:
            return str(self.registry.terms_of(subject)[1])
        return self.loras.creator_of(subject)

    def _registry_views(self) -> Iterator[View]:
        m, c = self.registry, "ModelRegistry"
        ids = [model_id(a, n) for a in ACTORS[:2] for n in NAMES] + [UNKNOWN]
        for publisher in ACTORS[:2]:
            for name in NAMES:
                for wanted in ("latest", *ALIASES, VERSIONS[0], "nothing"):
                    yield c, "resolve", (publisher, name, wanted), _call(m.resolve, publisher, name, wanted)
        for vid in [*m.all_versions, UNKNOWN]:
            for function, view in (("getVersion", m.get_version), ("termsOf", m.terms_of), ("contentOf", m.content_of)):
                yield c, function, (vid,), _call(view, vid)
            yield c, "getVariants", (vid,), _call(m.get_variants, vid)
        for mid in ids:
            for alias in ALIASES:
                yield c, "aliasOf", (mid, alias), _call(m.alias_of, mid, alias)
            yield c, "ownerOf", (mid,), _call(m.owner_of, mid)
            yield c, "pendingOwnerOf", (mid,), _call(m.pending_owner_of, mid)
            yield c, "nonceOf", (mid,), _call(m.nonce_of, mid)
        cursors = [ZERO, NOBODY] + [r.address for r in m.all_records[:: max(1, len(m.all_records) // 2)]]
        for cursor in cursors:
            for limit in (0, 2, 2**255):
                yield c, "records", (cursor, limit), _call(m.records, cursor, limit)
                yield c, "models", (cursor, limit), _call(m.models_page, cursor, limit)
                yield c, "versions", (ids[0], cursor, limit), _call(m.versions_page, ids[0], cursor, limit)
        yield c, "head", (), m.head
        yield c, "changeRoot", (), lambda: m.fold.root
        domain = (b"\x0f", "Citrate", "1", 31337, m.address, bytes(32), [])
        yield c, "eip712Domain", (), lambda: domain

    def _lora_views(self) -> Iterator[View]:
        m, c, now = self.loras, "LoRARegistry", self.now
        for thing in [*m.loras, *self.registry.all_versions, UNKNOWN]:
            yield c, "baseOf", (thing,), _call(m.base_of, thing)
            yield c, "creatorOf", (thing,), _call(m.creator_of, thing)
            yield c, "statusOf", (thing,), _call(m.status_of, thing, now)
        for thing in [*m.loras, UNKNOWN]:
            yield c, "getLoRA", (thing,), _call(m.get_lora, thing)
        for thing in [*self.registry.all_versions, UNKNOWN]:
            yield c, "getMerge", (thing,), _call(m.get_merge, thing)
        for actor in ACTORS:
            yield c, "countsOf", (actor,), _call(m.counts_of, actor, now)
        for mid in [*self.registry.models, UNKNOWN]:
            yield c, "acceptanceOf", (mid,), _call(m.acceptance_of, mid)
            for actor in ACTORS:
                yield c, "accepts", (mid, actor), _call(m.accepts, mid, actor)
        cursors = [ZERO, NOBODY] + [r.address for r in m.all_records[-2:-1]]
        for cursor in cursors:
            for limit in (0, 2, 2**255):
                yield c, "records", (cursor, limit), _call(m.records, cursor, limit)
        yield c, "head", (), m.head
        yield c, "changeRoot", (), lambda: m.fold.root
        domain = (b"\x0f", "Citrate LoRA", "1", 31337, m.address, bytes(32), [])
        yield c, "eip712Domain", (), lambda: domain
        for function, name in (("registry", "ModelRegistry"), ("ledger", "TrainingLedger"), ("policy", "Policy")):
            yield c, function, (), _call(self._address, name)

    def _ledger_views(self) -> Iterator[View]:
        m, c = self.ledger, "TrainingLedger"
        for number in [*m.runs, len(m.runs) + 1]:
            yield c, "getRun", (number,), _call(m.get_run, number)
            for cursor in (ZERO, *ACTORS[:2]):
                yield c, "attestations", (number, cursor, 2), _call(m.attestations, number, cursor, 2)
            for actor in ACTORS[:2]:
                yield c, "attestationOf", (number, actor), _call(m.attestation_of, number, actor)
        yield c, "runCount", (), m.run_count
        yield c, "changeRoot", (), lambda: m.fold.root

    def _access_views(self) -> Iterator[View]:
        m, c = self.access, "ModelAccess"
        for thing in [*self.registry.models, *self.registry.all_versions, UNKNOWN]:
            yield c, "quote", (thing,), _call(m.quote, thing)
            for actor in ACTORS[1:3]:
                yield c, "hasAccess", (thing, actor), _call(m.has_access, thing, actor)
                yield c, "grantedAt", (thing, actor), _call(m.granted_at, thing, actor)
        for actor in (*ACTORS, ZERO):
            yield c, "creditOf", (actor,), _call(m.credit_of, actor)
        yield c, "totalCredit", (), m.total_credit
        yield c, "MAX_FEE_BASIS_POINTS", (), lambda: 250
        yield c, "changeRoot", (), lambda: m.fold.root
        for function, name in (("registry", "ModelRegistry"), ("policy", "Policy")):
            yield c, function, (), _call(self._address, name)

    def _moderation_views(self) -> Iterator[View]:
        m, c, now = self.moderation, "Moderation", self.now
        for subject in [*self.registry.all_versions, *self.loras.loras, UNKNOWN]:
            yield c, "statusOf", (subject,), _call(m.status_of, subject, now)
            yield c, "caseOf", (subject,), _call(m.case_of, subject, now)
            yield c, "bondOf", (subject,), _call(m.bond_of, subject, now)
        for number in range(len(m.cases) + 2):
            yield c, "getCase", (number,), _call(m.get_case, number, now)
            for actor in ACTORS:
                yield c, "voteOf", (number, actor), _call(m.vote_of, number, actor)
        for actor in ACTORS:
            yield c, "stakeOf", (actor,), _call(m.stake_of, actor)
            yield c, "creditOf", (actor,), _call(m.credit_of, actor)
            for block in (now.block, now.block - 1, now.block - 3):
                yield c, "stakeAt", (actor, block), _call(m.stake_at, actor, block, now)
        yield c, "caseCount", (), m.case_count
        yield c, "totals", (), m.totals
        yield c, "changeRoot", (), lambda: m.fold.root
        yield c, "guardian", (), lambda: self.timelock
        for function, name in (("registry", "ModelRegistry"), ("loras", "LoRARegistry")):
            yield c, function, (), _call(self._address, name)

    def _policy_views(self) -> Iterator[View]:
        m, c = self.policy, "Policy"
        yield c, "moderation", (), lambda: m.moderation
        yield c, "fee", (), m.fee
        yield c, "authority", (), lambda: m.authority
        yield c, "timelock", (), lambda: m.timelock
        yield c, "changeRoot", (), lambda: m.fold.root

    def _address(self, name: str) -> str:
        return self.node.contracts[name].address

    def version_ids(self) -> list[bytes]:
        return list(self.registry.all_versions)

    def version_id(self, publisher: str, name: str, version: str) -> bytes:
        return name_id(model_id(publisher, name), version)


@cache
def _calldata(function: Function, arguments: tuple[object, ...]) -> bytes:
    """What asks a view; after every step it is the same, and encoding it takes longer than asking."""
    return function.call(arguments)


def _call(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)
