"""The real contracts on a real Anvil do what the models say, in every random sequence of operations.

After each operation every view of every contract is compared, and the code of every record. CITRATE_DIFFERENTIAL
says how many sequences are tried (CI: a minute's worth, always the same; more, and random ones, in `make test-deep`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.differential.encoding import ZERO, ZERO_WORD, Variant, digest, model_id, pack_release, pack_variants, text
from tests.differential.node import Node
from tests.differential.world import ACTORS, ALIASES, KEYS, NAMES, NOBODY, START, UNKNOWN, VERSIONS, World
from tests.fixtures_anvil import start_anvil, stop_anvil

EXAMPLES = int(os.environ.get("CITRATE_DIFFERENTIAL", "0"))
CI_EXAMPLES, STEPS = 18, 50

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0 if EXAMPLES else 900)]

# Scattered, because hypothesis prefers small and round numbers, and most choices below are remainders.
seeds = st.integers(0, 2**16 - 1).map(lambda n: int.from_bytes(digest("seed", n)[:2], "big"))
actors = st.integers(0, 3)
ETHER = 10**18


def variants_of(seed: int, letters: str) -> list[Variant]:
    """One to three variants."""
    chosen = sorted({letters[(seed + k * (1 + seed % 5)) % len(letters)] for k in range(1 + seed % 3)})
    return [
        Variant(
            1 + (seed + i) % 4,
            letter + "x" * (seed % 15),
            "" if seed % 2 else "sm90",
            0x55 if seed % 3 else 0x70,
            1 + seed,
            digest("cid", seed, i),
            digest("sha", seed, i),
        )
        for i, letter in enumerate(chosen)
    ]


def damaged(payload: bytes, seed: int) -> bytes:
    """The payload, one time in eight with a byte changed, cut off or added."""
    if seed % 8 != 3:
        return payload
    at = seed * 31 % len(payload)
    kind = seed // 8 % 3
    if kind == 0:
        return payload[:at] + bytes([payload[at] ^ (1 << seed % 7)]) + payload[at + 1 :]
    return payload[:at] if kind == 1 else payload + payload[at:]


def release_of(name: str, version: str, seed: int) -> bytes:
    price = bytes(4) if seed % 3 else (1 + seed % 500).to_bytes(3, "big") + bytes([seed % 19])
    return pack_release(name, digest("manifest", seed), price, version, "MIT", variants_of(seed, "abcdefgh"))


class Machine(RuleBasedStateMachine):
    """Random operations of a few actors."""

    base: World
    node: Node
    snapshot: object

    def __init__(self) -> None:
        super().__init__()
        type(self).snapshot = self.node.rpc.call("evm_snapshot")
        self.kept = (self.node.time, self.node.block)
        self.world = World.__new__(World)
        self.world.__dict__.update(_copy(self.base.__dict__))
        self.requests: list[list[object]] = []

    def teardown(self) -> None:
        assert self.node.rpc.call("evm_revert", self.snapshot)
        self.node.time, self.node.block = self.kept

    def step(self, actor: str, contract: str, function: str, arguments: list[object], model, value: int = 0) -> None:
        self.world.step(actor, contract, function, arguments, model, value)

    # ---- whom and what an operation is about; most often somebody who may

    def owner(self, mid: bytes, actor: int, fallback: str) -> str:
        models = self.world.registry.models
        return ACTORS[actor] if actor == 3 else models[mid].owner if mid in models else fallback

    def version(self, seed: int) -> bytes:
        known = self.world.version_ids()
        return known[seed % len(known)] if known and seed % 11 else UNKNOWN

    def known_version(self, seed: int) -> tuple[bytes, str, str, str]:
        vid = self.world.version_ids()[seed % len(self.world.version_ids())]
        found = self.world.registry.all_versions[vid]
        model = self.world.registry.models[found.model_id]
        return found.model_id, model.publisher, model.name, found.version

    def thing(self, seed: int) -> bytes:
        """A model or a version."""
        known = [*self.world.registry.models, *self.world.registry.all_versions]
        return known[seed % len(known)] if known and seed % 11 else UNKNOWN

    def subject(self, seed: int) -> bytes:
        known = [*self.world.registry.all_versions, *self.world.loras.loras]
        return known[seed % len(known)] if known and seed % 11 else UNKNOWN

    @property
    def has_versions(self) -> bool:
        return bool(self.world.registry.all_versions)

    # ---- models

    @rule(actor=actors, who=st.integers(0, 1), seed=seeds)
    def publish(self, actor: int, who: int, seed: int) -> None:
        publisher, name = ACTORS[who], NAMES[seed % 2]
        payload = damaged(release_of(name, VERSIONS[seed // 2 % 5], seed), seed // 7)
        alias = ["", "", "prod", "main", "latest", "Bad"][seed // 16 % 6] if len(payload) > 200 else ""
        if seed // 7 % 8 == 3:
            alias = ""  # behind a damaged payload there are zeros, so that it is clear what is read there
        sender = self.owner(model_id(publisher, name), actor, publisher)
        world = self.world
        self.step(
            sender,
            "ModelRegistry",
            "publish",
            [publisher, payload, alias],
            lambda now: world.registry.publish(now, sender, publisher, payload, alias),
        )

    @rule(relayer=actors, who=st.integers(0, 1), seed=seeds)
    def publish_by_sig(self, relayer: int, who: int, seed: int) -> None:
        world = self.world
        publisher, name = ACTORS[who], NAMES[seed % 2]
        payload = release_of(name, VERSIONS[seed // 2 % 5], seed)
        mid = model_id(publisher, name)
        owner = self.owner(mid, 0, publisher)
        signer = ACTORS[seed % 4] if seed % 9 == 0 else owner
        nonce = world.registry.nonce_of(mid) + (seed % 10 == 0)
        deadline = world.time + (0 if seed % 12 == 0 else 100)
        fields = {"publisher": "address", "release": "bytes", "aliasName": "string"}
        fields |= {"nonce": "uint256", "deadline": "uint256"}
        values = {"publisher": publisher, "release": payload, "aliasName": "", "nonce": nonce, "deadline": deadline}
        signature = world.sign(KEYS[ACTORS.index(signer)], "ModelRegistry", "Citrate", "Publish", fields, values)
        arguments: list[object] = [publisher, payload, "", deadline, signature]
        self.requests.append([relayer, who, seed])

        def model(now) -> None:
            _require_signed(world.registry.nonce_of(mid), now, owner, signer, nonce, deadline)
            world.registry.publish(now, owner, publisher, payload, "")

        self.step(ACTORS[relayer], "ModelRegistry", "publishBySig", arguments, model)

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, seed=seeds)
    def add_variants(self, actor: int, seed: int) -> None:
        mid, publisher, name, version = self.known_version(seed)
        version = version if seed % 13 else "9.9"
        payload = damaged(digest("more", seed) + pack_variants(variants_of(seed, "mnopqrstuvwxyzabc")), seed // 7)
        sender, world = self.owner(mid, actor, publisher), self.world
        self.step(
            sender,
            "ModelRegistry",
            "addVariants",
            [publisher, name, version, payload],
            lambda now: world.registry.add_variants(now, sender, publisher, name, version, payload),
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, seed=seeds)
    def set_alias(self, actor: int, seed: int) -> None:
        mid, publisher, name, version = self.known_version(seed)
        alias = (*ALIASES, "main", "prod", "latest", "-x", "a" * 33, "")[
            seed // 3 % 8 if seed % 3 == 0 else seed // 3 % 2
        ]
        sender, world = self.owner(mid, actor, publisher), self.world
        self.step(
            sender,
            "ModelRegistry",
            "setAlias",
            [publisher, name, alias, version],
            lambda now: world.registry.set_alias(now, sender, publisher, name, alias, version),
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, seed=seeds)
    def deprecate(self, actor: int, seed: int) -> None:
        mid, publisher, name, version = self.known_version(seed)
        replacement = ZERO_WORD if seed % 3 else self.version(seed // 3)
        sender, world = self.owner(mid, actor, publisher), self.world
        self.step(
            sender,
            "ModelRegistry",
            "deprecate",
            [publisher, name, version, replacement],
            lambda _: world.registry.deprecate(sender, publisher, name, version, replacement),
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, to=actors, seed=seeds)
    def transfer(self, actor: int, to: int, seed: int) -> None:
        mid, publisher, name, _ = self.known_version(seed)
        heir = ACTORS[to] if seed % 8 else ZERO
        sender, world = self.owner(mid, actor, publisher), self.world
        self.step(
            sender,
            "ModelRegistry",
            "transferModel",
            [publisher, name, heir],
            lambda _: world.registry.transfer_model(sender, publisher, name, heir),
        )
        if seed // 8 % 2:
            self.accept(actor, seed)

    @precondition(lambda self: any(model.pending != ZERO for model in self.world.registry.models.values()))
    @rule(actor=actors, seed=seeds)
    def accept(self, actor: int, seed: int) -> None:
        world = self.world
        offered = [mid for mid, model in world.registry.models.items() if model.pending != ZERO]
        mid = offered[seed % len(offered)] if offered else self.known_version(seed)[0]
        pending = world.registry.pending_owner_of(mid)
        sender = ACTORS[actor] if actor == 3 or pending == ZERO else pending
        self.step(sender, "ModelRegistry", "acceptModel", [mid], lambda _: world.registry.accept_model(sender, mid))

    # ---- adapters

    def lora_payload(self, seed: int) -> bytes:
        base = self.version(seed // 5)
        known = base in self.world.registry.all_versions
        content = self.world.registry.content_of(base)[2] if known and seed % 12 else UNKNOWN
        size = 500_000_001 if seed % 17 == 0 else 1 + seed
        rank = (8, 16, 4096, 4097, 0, 64, 32, 1)[seed // 3 % 8 if seed % 4 == 0 else 0]
        training = [
            b"\0",
            b"\1" + digest("data", seed) + digest("recipe", seed) + ZERO_WORD,
            b"\2" + (1 + seed % 3).to_bytes(8, "big"),
        ][seed % 3]
        names = text(NAMES[seed % 2]) + text(str(seed // 2 % 30)) + text("apache-2.0")
        where = bytes([0x70]) + size.to_bytes(4, "big") + digest("lora cid", seed) + digest("adapter", seed % 5)
        how = rank.to_bytes(2, "big") + (1 + seed).to_bytes(4, "big") + (seed | 1).to_bytes(2, "big")
        others = text("wte,out-proj" if seed % 5 == 0 else "")
        return damaged(content + base + names + where + how + others + seed.to_bytes(4, "big") + training, seed // 7)

    @rule(actor=actors, seed=seeds)
    def register_lora(self, actor: int, seed: int) -> None:
        creator, world = ACTORS[actor], self.world
        sender = ACTORS[seed % 4] if seed % 15 == 0 else creator
        payload = self.lora_payload(seed)
        self.step(
            sender,
            "LoRARegistry",
            "registerLoRA",
            [creator, payload],
            lambda now: world.loras.register(now, sender, creator, payload),
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, seed=seeds)
    def register_many(self, actor: int, seed: int) -> None:
        """One more than a creator may in a day, where its base takes them."""
        creator, world, base = ACTORS[actor], self.world, self.version(seed | 1)
        content = world.registry.content_of(base)[2] if base != UNKNOWN else UNKNOWN
        where = bytes([0x55]) + bytes([0, 0, 1, 0]) + digest("cid", seed) + digest("adapter", seed % 5)
        how = bytes([0, 8, 0, 0, 1, 0, 0, 1, 0]) + bytes(4) + b"\0"
        for i in range(11):
            names = text("many") + text(f"{seed}.{i}") + text("MIT")
            payload = content + base + names + where + how
            self.step(
                creator,
                "LoRARegistry",
                "registerLoRA",
                [creator, payload],
                lambda now, data=payload: world.loras.register(now, creator, creator, data),
            )

    @rule(relayer=actors, actor=actors, seed=seeds)
    def register_lora_by_sig(self, relayer: int, actor: int, seed: int) -> None:
        world, creator, payload = self.world, ACTORS[actor], self.lora_payload(seed | 7)
        nonce = world.loras.counts_of(creator, world.now)[1] + (seed % 10 == 0)
        deadline = world.time + (0 if seed % 12 == 0 else 100)
        signer = ACTORS[seed % 4] if seed % 9 == 0 else creator
        fields = {"creator": "address", "lora": "bytes", "nonce": "uint256", "deadline": "uint256"}
        values = {"creator": creator, "lora": payload, "nonce": nonce, "deadline": deadline}
        key = KEYS[ACTORS.index(signer)]
        signature = world.sign(key, "LoRARegistry", "Citrate LoRA", "RegisterLoRA", fields, values)

        def model(now) -> None:
            _require_signed(world.loras.counts_of(creator, now)[1], now, creator, signer, nonce, deadline)
            world.loras.register(now, creator, creator, payload)

        arguments: list[object] = [creator, payload, deadline, signature]
        self.step(ACTORS[relayer], "LoRARegistry", "registerLoRABySig", arguments, model)

    @precondition(lambda self: self.world.loras.loras)
    @rule(actor=actors, seed=seeds)
    def merge_lora(self, actor: int, seed: int) -> None:
        world = self.world
        first = list(world.loras.loras)[seed % len(world.loras.loras)]
        base = world.loras.base_of(first)
        same = sorted(lid for lid in world.loras.loras if world.loras.base_of(lid) == base or seed % 9 == 0)[
            : 1 + seed % 9
        ]
        weights = [10_000 // len(same)] * len(same)
        weights[-1] += 10_000 - sum(weights) + (seed % 10 == 0)
        payload = b"".join(lid + weight.to_bytes(2, "big") for lid, weight in zip(same, weights, strict=True))
        payload = damaged(payload, seed // 7)
        result = self.version(seed // 2)
        found = world.registry.all_versions.get(result)
        sender = self.owner(found.model_id, actor, ACTORS[0]) if found else ACTORS[actor]
        self.step(
            sender,
            "LoRARegistry",
            "mergeLoRA",
            [result, payload],
            lambda now: world.loras.merge(now, sender, result, payload),
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, seed=seeds)
    def set_acceptance(self, actor: int, seed: int) -> None:
        mid = self.known_version(seed)[0] if seed % 12 else UNKNOWN
        sender, world, acceptance = self.owner(mid, actor, ACTORS[0]), self.world, (0, 0, 1, 2)[seed // 4 % 4]
        self.step(
            sender,
            "LoRARegistry",
            "setAcceptance",
            [mid, acceptance],
            lambda _: world.loras.set_acceptance(sender, mid, acceptance),
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, creator=actors, seed=seeds)
    def allow_creator(self, actor: int, creator: int, seed: int) -> None:
        mid = self.known_version(seed)[0]
        sender, world, allowed = self.owner(mid, actor, ACTORS[0]), self.world, seed % 4 != 0
        self.step(
            sender,
            "LoRARegistry",
            "allowCreator",
            [mid, ACTORS[creator], allowed],
            lambda _: world.loras.allow_creator(sender, mid, ACTORS[creator], allowed),
        )

    # ---- training runs

    @rule(actor=actors, seed=seeds)
    def announce(self, actor: int, seed: int) -> None:
        world, sender = self.world, ACTORS[actor]
        base = ZERO_WORD if seed % 8 == 0 else digest("base", seed)
        if seed % 2 and self.has_versions:
            base = world.registry.content_of(world.version_ids()[seed % len(world.version_ids())])[2]
        words = [digest("recipe", seed), digest("data", seed), base]
        self.step(
            sender, "TrainingLedger", "announce", list(words), lambda now: world.ledger.announce(now, sender, *words)
        )

    @rule(actor=actors, seed=seeds)
    def commit(self, actor: int, seed: int) -> None:
        world, number = self.world, 1 + seed % (len(self.world.ledger.runs) + 1)
        run = world.ledger.runs.get(number)
        sender = run.trainer if run and actor != 3 else ACTORS[actor]
        words = [digest("proof", seed), ZERO_WORD if seed % 9 == 0 else digest("adapter", seed % 5)]
        self.step(
            sender,
            "TrainingLedger",
            "commit",
            [number, *words],
            lambda now: world.ledger.commit(now, sender, number, *words),
        )

    @rule(actor=actors, seed=seeds)
    def draw(self, actor: int, seed: int) -> None:
        world, number = self.world, 1 + seed % (len(self.world.ledger.runs) + 1)
        hash_of = world.node.hash_of
        self.step(
            ACTORS[actor], "TrainingLedger", "draw", [number], lambda now: world.ledger.draw(now, number, hash_of)
        )

    @rule(actor=actors, seed=seeds)
    def attest(self, actor: int, seed: int) -> None:
        world, number = self.world, 1 + seed % (len(self.world.ledger.runs) + 1)
        grade = seed // 3 % 5
        segments = 0 if grade == 4 or seed % 7 == 0 else 1 + seed
        report = ZERO_WORD if seed % 13 == 0 else digest("report", seed)
        self.step(
            ACTORS[actor],
            "TrainingLedger",
            "attest",
            [number, grade, segments, report],
            lambda now: world.ledger.attest(now, ACTORS[actor], number, grade, segments, report),
        )

    # ---- sales

    @rule(actor=actors, seed=seeds)
    def set_price(self, actor: int, seed: int) -> None:
        world, thing = self.world, self.thing(seed)
        mid = thing if thing in world.registry.models else None
        if thing in world.registry.all_versions:
            mid = world.registry.terms_of(thing)[0]
        sender = self.owner(mid, actor, ACTORS[0]) if mid else ACTORS[actor]
        price = (0, 1, 999, 10**15, 2**248 - 1, 2**248)[seed // 3 % 6]
        self.step(
            sender,
            "ModelAccess",
            "setPrice",
            [thing, price],
            lambda _: world.access.set_price(sender, thing, price),
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, seed=seeds)
    def buy(self, actor: int, seed: int) -> None:
        world, sender, thing = self.world, ACTORS[actor], self.thing(seed)
        priced = [t for t in self.world.access.prices if self.world.access.quote(t)[0]]
        thing = priced[seed % len(priced)] if priced and seed % 4 else thing
        known = thing != UNKNOWN
        price = min(world.access.quote(thing)[0], ETHER) if known else 5
        most, sent = price - (seed % 8 == 0 and price > 0), price + (seed // 3) % 3 - (seed % 9 == 0 and price > 0)
        to = (sender, ACTORS[seed % 4], ZERO)[0 if seed % 3 else (1 if seed % 6 else 2)]
        function = "buy" if to == sender else "gift"
        arguments: list[object] = [thing, most] if to == sender else [thing, to, most]
        self.step(
            sender,
            "ModelAccess",
            function,
            arguments,
            lambda now: world.access.sell(now, sender, sent, thing, to, most),
            sent,
        )

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, to=actors, seed=seeds)
    def grant(self, actor: int, to: int, seed: int) -> None:
        world, thing = self.world, self.thing(seed)
        mid = world.registry.terms_of(thing)[0] if thing in world.registry.all_versions else thing
        sender = self.owner(mid, actor, ACTORS[0])
        self.step(
            sender,
            "ModelAccess",
            "grant",
            [thing, ACTORS[to]],
            lambda now: world.access.grant(now, sender, thing, ACTORS[to]),
        )

    @precondition(lambda self: self.world.access.total_credit() or self.world.moderation.total_credit())
    @rule(actor=actors, seed=seeds, sales=st.booleans())
    def withdraw(self, actor: int, seed: int, sales: bool) -> None:
        world = self.world
        model = world.access if sales else world.moderation
        owed = [who for who, amount in model.credit.items() if amount and who != ZERO]
        sender = owed[seed % len(owed)] if owed and actor != 3 else ACTORS[actor]
        to = (sender, ACTORS[0], world.registry.address, ZERO, sender)[seed % 5]
        self.step(
            sender, "ModelAccess" if sales else "Moderation", "withdraw", [to], lambda _: model.withdraw(sender, to)
        )

    # ---- moderation and policy

    @rule(actor=actors, seed=seeds)
    def stake(self, actor: int, seed: int) -> None:
        world, amount = self.world, 0 if seed % 12 == 0 else seed % 40 * ETHER // 2 + 1
        sender = ACTORS[actor]
        self.step(sender, "Moderation", "stake", [], lambda now: world.moderation.stake(now, sender, amount), amount)

    @rule(actor=actors, seed=seeds)
    def unstake(self, actor: int, seed: int) -> None:
        world, sender = self.world, ACTORS[actor]
        staked = world.moderation.stakes[sender]
        amount = (staked, staked // 2, staked + 1, 0)[seed % 4]
        self.step(sender, "Moderation", "unstake", [amount], lambda now: world.moderation.unstake(now, sender, amount))

    @precondition(lambda self: self.has_versions)
    @rule(actor=actors, seed=seeds)
    def report(self, actor: int, seed: int) -> None:
        world, sender, subject = self.world, ACTORS[actor], self.subject(seed // 4)
        codec = (0x55, 0x70, 0x55, 0x12)[seed % 4 if seed % 16 == 3 else seed % 3]
        evidence = ZERO_WORD if seed % 19 == 0 else digest("evidence", seed % 5)
        # The bond of the block in which it will be mined: cases may end by then.
        ahead = type(world.now)(max(world.time, world.node.time) + 1, world.node.block + 1)
        bond = world.moderation.bond_of(subject, ahead) + (seed % 9 == 0)
        self.step(
            sender,
            "Moderation",
            "report",
            [subject, codec, evidence],
            lambda now: world.moderation.report(now, sender, bond, subject, codec, evidence),
            bond,
        )

    @precondition(lambda self: self.world.moderation.cases)
    @rule(actor=actors, seed=seeds, for_removal=st.booleans())
    def vote(self, actor: int, seed: int, for_removal: bool) -> None:
        world, sender, number = self.world, ACTORS[actor], seed % (len(self.world.moderation.cases) + 1)
        going_on = [i + 1 for i, c in enumerate(world.moderation.cases) if c.outcome(world.now) == 0]
        if going_on and seed % 4:
            number = going_on[seed // 4 % len(going_on)]
        if seed % 5 == 0:
            self.unstake((actor + 1) % 4, seed)  # so that quorum and quarantine fall with this vote
        self.step(
            sender,
            "Moderation",
            "vote",
            [number, for_removal],
            lambda now: world.moderation.vote(now, sender, number, for_removal),
        )
        if seed % 3 == 0:
            self.unstake(actor, seed // 3)  # what voted is locked

    @precondition(lambda self: self.world.moderation.cases)
    @rule(actor=actors, seed=seeds, lifted=st.booleans())
    def close(self, actor: int, seed: int, lifted: bool) -> None:
        world, number = self.world, 1 + seed % (len(self.world.moderation.cases) + 1)
        if not lifted:
            self.step(ACTORS[actor], "Moderation", "close", [number], lambda now: world.moderation.close(now, number))
            return
        sender = world.timelock if seed % 3 == 0 else ACTORS[actor]
        self.step(sender, "Moderation", "lift", [number], lambda now: world.moderation.lift(now, sender, number))

    @rule(actor=actors, seed=seeds)
    def appoint(self, actor: int, seed: int) -> None:
        world = self.world
        sender = ACTORS[actor] if seed % 3 == 0 else world.timelock
        moderation = (world.moderation_address, world.moderation_address, ZERO, NOBODY)[seed // 3 % 4]
        self.step(sender, "Policy", "appoint", [moderation], lambda _: world.policy.appoint(sender, moderation))

    @rule(actor=actors, seed=seeds)
    def set_fee(self, actor: int, seed: int) -> None:
        world = self.world
        sender = ACTORS[actor] if seed % 4 == 0 else world.timelock
        recipient, basis_points = (ZERO if seed % 7 == 0 else ACTORS[3]), seed // 4 % 260
        self.step(
            sender,
            "Policy",
            "setFee",
            [recipient, basis_points],
            lambda _: world.policy.set_fee(sender, recipient, basis_points),
        )

    # ---- time

    @rule(days=st.sampled_from([0, 0, 1, 7]), seconds=st.integers(1, 50_000), blocks=st.sampled_from([1, 1, 9, 300]))
    def wait(self, days: int, seconds: int, blocks: int) -> None:
        self.world.wait(86_400 * days + seconds, blocks)


def _require_signed(expected: int, now, owner: str, signer: str, nonce: int, deadline: int) -> None:
    from tests.differential.encoding import Refused

    if now.time > deadline:
        raise Refused("Expired", deadline)
    if signer != owner or nonce != expected:
        raise Refused("InvalidSignature", owner, expected)


def _copy(fields: dict[str, object]) -> dict[str, object]:
    """The models of a world, afresh, and the same node; links between the models stay links."""
    import copy

    node = fields["node"]
    shared = {"node": node, "tried": fields["tried"], "accepted": fields["accepted"]}
    return copy.deepcopy({k: v for k, v in fields.items() if k not in shared}, {id(node): node}) | shared


def populate(world: World) -> None:
    """Something of everything, so that few operations have nothing to act on."""
    registry, moderation, ledger = world.registry, world.moderation, world.ledger
    for i, version in enumerate(VERSIONS[:3]):
        publisher, payload = ACTORS[i % 2], release_of(NAMES[0], version, 3 + i)
        world.step(
            publisher,
            "ModelRegistry",
            "publish",
            [publisher, payload, ""],
            lambda now, p=publisher, data=payload: registry.publish(now, p, p, data, ""),
        )
    for i, actor in enumerate(ACTORS):
        amount = (4 + i) * ETHER
        world.step(actor, "Moderation", "stake", [], lambda now, a=actor, n=amount: moderation.stake(now, a, n), amount)
    words = [digest("recipe"), digest("data"), registry.content_of(world.version_ids()[0])[2]]
    world.step(ACTORS[1], "TrainingLedger", "announce", words, lambda now: ledger.announce(now, ACTORS[1], *words))
    word = digest("out")
    world.step(
        ACTORS[1], "TrainingLedger", "commit", [1, word, word], lambda now: ledger.commit(now, ACTORS[1], 1, word, word)
    )
    where = world.moderation_address
    world.step(ACTORS[0], "Policy", "appoint", [where], lambda _: world.policy.appoint(ACTORS[0], where))
    populate_money(world)


def populate_money(world: World) -> None:
    """A sale, a case that has ended and one that goes on."""
    access, moderation = world.access, world.moderation
    first, second, third = world.version_ids()
    for thing, owner in ((first, ACTORS[0]), (second, ACTORS[1])):
        world.step(
            owner, "ModelAccess", "setPrice", [thing, 999], lambda _, t=thing, o=owner: access.set_price(o, t, 999)
        )
    world.step(
        ACTORS[2],
        "ModelAccess",
        "buy",
        [first, 999],
        lambda now: access.sell(now, ACTORS[2], 1000, first, ACTORS[2], 999),
        1000,
    )
    for subject in (second, third):
        world.wait(4 * 86_400, 1)
        bond, evidence = moderation.bond_of(subject, world.now), digest("first evidence")
        world.step(
            ACTORS[3],
            "Moderation",
            "report",
            [subject, 0x55, evidence],
            lambda now, s=subject, b=bond, e=evidence: moderation.report(now, ACTORS[3], b, s, 0x55, e),
            bond,
        )
    world.wait(4 * 86_400, 12)
    finish(world)


def finish(world: World) -> None:
    """What random operations seldom come to: each of these has to succeed once."""
    access, moderation, ledger = world.access, world.moderation, world.ledger
    to, lock, verifier = ACTORS[0], world.timelock, ACTORS[2]
    world.step(to, "ModelAccess", "withdraw", [to], lambda _: access.withdraw(to, to))
    gift, second = [world.version_ids()[1], to, 999], world.version_ids()[1]
    world.step(to, "ModelAccess", "gift", gift, lambda now: access.sell(now, to, 999, second, to, 999), 999)
    world.step(to, "Moderation", "close", [1], lambda now: moderation.close(now, 1))
    world.step(lock, "Moderation", "lift", [2], lambda now: moderation.lift(now, lock, 2))
    world.step(ACTORS[3], "Moderation", "withdraw", [to], lambda _: moderation.withdraw(ACTORS[3], to))
    world.step(to, "TrainingLedger", "draw", [1], lambda now: ledger.draw(now, 1, world.node.hash_of))
    first, bond, evidence = (
        world.version_ids()[0],
        moderation.bond_of(world.version_ids()[0], world.now),
        digest("more"),
    )
    world.step(
        to,
        "Moderation",
        "report",
        [first, 0x70, evidence],
        lambda now: moderation.report(now, to, bond, first, 0x70, evidence),
        bond,
    )
    words = [1, 1, 7, digest("report")]
    world.step(verifier, "TrainingLedger", "attest", words, lambda now: ledger.attest(now, verifier, *words))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    anvil = start_anvil("--timestamp", str(START), "--gas-price", "0", "--block-base-fee-per-gas", "0", "--no-mining")
    try:
        world = World(Node(anvil.rpc, START))
        populate(world)
        yield world
    finally:
        stop_anvil(anvil)


def test_the_contracts_do_what_the_models_say(world: World) -> None:
    Machine.base, Machine.node = world, world.node
    world.compare()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or CI_EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    for name, tried in sorted(world.tried.items()):
        sys.stdout.write(f"{name:36}{tried:6}{world.accepted[name] / tried:8.0%}\n")
    writes = {
        f"{c.name}.{f.name}" for c in world.node.contracts.values() for f in c.functions.values() if not f.is_view
    }
    never = {name for name in writes if not name.startswith("Timelock.") and not world.accepted[name]}
    assert never == set(), "functions that no sequence called with success"


def test_every_view_is_compared(world: World) -> None:
    compared = {(contract, function) for contract, function, _, _ in world.views()}
    # What stands only where there is something already.
    compared |= {("TrainingLedger", "getRun"), ("Moderation", "voteOf"), ("Moderation", "getCase")}
    views = {(c.name, f.name) for c in world.node.contracts.values() for f in c.functions.values() if f.is_view}
    assert {v for v in views if v[0] != "Timelock"} - compared == set()
