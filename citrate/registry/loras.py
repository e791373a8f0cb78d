"""Adapters, merges and whose adapters a model takes: LoRARegistry, for reading and for writing.

``Chain.loras`` is one of these. Lists are proved whole as those of models are (`citrate.registry.record_chain`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from citrate.core.adapters import Acceptance, Lora, LoraRecord, MergeRecord, Parent
from citrate.core.errors import ChainError, ConfigError, NotFoundError
from citrate.core.records import ADDRESS_PATTERN
from citrate.registry import lora_views
from citrate.registry.abi_codec import Argument, encode, encode_call
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.contract import OBEYED, Block
from citrate.registry.ids import keccak
from citrate.registry.lora_payload import encode_lora, encode_parents
from citrate.registry.lora_views import LORA, Counts, LoraItem
from citrate.registry.record_chain import Cursor, NewRecords, require_whole, since
from citrate.registry.standing import standing_of
from citrate.registry.views import NOWHERE

if TYPE_CHECKING:
    from citrate.registry.chain import Chain
    from citrate.registry.signer import Signer
    from citrate.registry.transactions import Estimate, Receipt

QUOTA = 10
"""LoRAs that are accepted of a creator in a UTC day."""


def lora_id(creator: str, name: str, version: str) -> str:
    """``keccak256(abi.encode("LoRA", address creator, string name, string version))``."""
    return "0x" + keccak(encode(["string", "address", "string", "string"], "LoRA", creator, name, version)).hex()


class Loras:
    """LoRARegistry on one chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    # ------------------------------------------------------------------ reading

    def get(self, wanted: str, block: Block | None = None) -> LoraRecord:
        """The LoRA of an id, and how it stands.

        Raises:
            NotFoundError: there is none.
            ConfigError, ChainError: the chain does not have LoRARegistry, or does not answer.
        """
        block = block or self._chain.pin()
        asked, standing = lora_views.get_lora(wanted, block.number), standing_of(wanted)
        record, found = self._chain.read_two(asked, standing, block)
        if lora_id(record.creator, record.lora.name, record.lora.version) != wanted:
            raise ChainError(f"the node answered another LoRA than {wanted}", hint="check rpc_url")
        if found.status is None:  # nobody moderates: is that our contracts' word?
            self._chain.require_ours(*OBEYED)
        return replace(record, status=found.status)

    def resolve(self, creator: str, name: str, version: str = "") -> LoraRecord:
        """The LoRA of a name; without a version the newest one of it.

        Raises:
            NotFoundError: there is none; the hint lists what comes close.
        """
        if version:
            try:
                return self.get(lora_id(creator, name, version))
            except NotFoundError:
                return self.get(self._newest(creator, name, version).id)
        return self.get(self._newest(creator, name, "").id)

    def _newest(self, creator: str, name: str, version: str) -> LoraItem:
        """The newest LoRA of a name, from a walk that ends where it is found."""
        block = self._chain.pin()
        head = self._chain.read_if_there(lora_views.lora_head(), block)
        names: dict[str, None] = {}
        at, left = (head.record, head.count) if head else (NOWHERE, 0)
        while at != NOWHERE:
            page = self._chain.read(lora_views.lora_records(at), block)
            left -= len(page.items)
            require_whole(bool(page.items) and left >= 0, "adapters")
            for item in page.items:
                if item.kind == LORA and item.creator.lower() == creator.lower():
                    if item.name == name and version in ("", item.version):
                        return item
                    names[f"{item.name}@{item.version}" if version else item.name] = None
            at = page.next
        wanted = f"{name}@{version}" if version else name
        close = difflib.get_close_matches(wanted, list(names), n=5, cutoff=0.4) or list(names)[:5]
        hint = f"adapters of this creator: {', '.join(close)}" if close else ""
        raise NotFoundError(f"there is no adapter {creator}/{wanted}", hint=hint)

    def records_since(self, cursor: Cursor | None = None) -> NewRecords[LoraItem]:
        """Every record after ``cursor`` (all of them without one), proved whole.

        Raises:
            ChainError: the node's answers do not add up.
        """
        return since(self._chain, lora_views.lora_head(), lora_views.lora_records, cursor)

    def adapters(self, base: str = "") -> tuple[LoraItem, ...]:
        """Every LoRA (of one base version), newest first, proved whole; none where the chain has no LoRARegistry.

        Raises:
            ConfigError: nobody is named who governs the chain, so that where LoRARegistry would be is not known.
        """
        if LORA_REGISTRY not in self._chain.addresses:
            self._chain.require(LORA_REGISTRY)
        if not self._chain.find(LORA_REGISTRY):
            self._chain.require_governed()
            return ()
        entries = reversed(self.records_since().entries)
        return tuple(item for item in entries if item.kind == LORA and base in ("", item.base))

    def merge_of(self, result: str) -> MergeRecord:
        """From what a version was merged.

        Raises:
            NotFoundError: nobody has recorded it.
        """
        return self._chain.read(lora_views.get_merge(result), self._chain.pin())

    def merge_if_any(self, result: str) -> MergeRecord | None:
        """From what a version was merged; None if nobody has recorded it, or the chain has no LoRARegistry."""
        view = lora_views.get_merge(result)
        outcome = self._chain.outcomes([view], self._chain.pin())[0]
        try:
            return self._chain.value_if_there(view, outcome)
        except NotFoundError:
            return None

    def counts_of(self, creator: str) -> Counts:
        """How many LoRAs of a creator were accepted today (UTC) and ever."""
        return self._chain.read(lora_views.counts_of(creator), self._chain.pin())

    def acceptance_of(self, model_id: str) -> Acceptance:
        """Whose LoRAs a model takes."""
        return self._chain.read(lora_views.acceptance_of(model_id), self._chain.pin())

    def acceptance_if_any(self, model_id: str) -> Acceptance | None:
        """Whose LoRAs a model takes; None if the chain has no LoRARegistry."""
        return self._chain.read_if_there(lora_views.acceptance_of(model_id), self._chain.pin())

    def room_for(self, creator: str, model_id: str) -> tuple[bool, Counts]:
        """Whether a model takes a creator's LoRAs now, and how many of the creator's were accepted, in one question."""
        return self._chain.read_two(
            lora_views.accepts(model_id, creator), lora_views.counts_of(creator), self._chain.pin()
        )

    # ------------------------------------------------------------------ writing

    def register(self, signer: Signer, lora: Lora) -> Receipt:
        """Record a LoRA of the signer's.

        Raises:
            ConfigError: something that the contract would refuse; nothing is sent.
            AlreadyExistsError: the signer has a LoRA of this name and version.
            NotPermittedError: the base is deprecated or quarantined, or its model does not take the signer's LoRAs.
            CitrateError: ten were accepted today.
        """
        return self._chain.send(signer, LORA_REGISTRY, _register_call(signer.address, lora))

    def estimate_register(self, creator: str, lora: Lora) -> Estimate:
        """What ``register`` would cost; raises what it would raise, except for a lack of funds."""
        return self._chain.estimate(creator, LORA_REGISTRY, _register_call(creator, lora))

    def register_by_sig(self, relayer: Signer, creator: str, lora: Lora, deadline: int, signature: bytes) -> Receipt:
        """Record a LoRA for its creator, who signed it (`citrate.registry.signatures.sign_lora`).

        The ``relayer`` sends and pays; ``deadline`` is the last Unix second at which the signature holds.

        Raises:
            NotPermittedError: the signature is not the creator's for the present nonce, or too old.
        """
        arguments: tuple[Argument, ...] = (creator, encode_lora(lora), deadline, signature)
        data = encode_call("registerLoRABySig(address,bytes,uint256,bytes)", *arguments)
        return self._chain.send(relayer, LORA_REGISTRY, data)

    def merge(self, signer: Signer, result: str, parents: Iterable[Parent]) -> Receipt:
        """Record from which LoRAs a version was merged. The signer owns the version's model; once for a version.

        Raises:
            ConfigError: weights or parents that the contract would refuse; nothing is sent.
            AlreadyExistsError: it is recorded already.
        """
        data = encode_call("mergeLoRA(bytes32,bytes)", result, encode_parents(parents))
        return self._chain.send(signer, LORA_REGISTRY, data)

    def set_acceptance(self, signer: Signer, model_id: str, acceptance: Acceptance) -> Receipt | None:
        """Say whose LoRAs a model takes from now on. The signer owns the model. None: it is so, nothing was sent."""
        data = encode_call("setAcceptance(bytes32,uint8)", model_id, list(Acceptance).index(acceptance))
        return self._chain.send_change(
            signer, LORA_REGISTRY, data, stands=lambda: self.acceptance_of(model_id) is acceptance
        )

    def allow_creator(self, signer: Signer, model_id: str, creator: str, *, allowed: bool = True) -> Receipt | None:
        """Put a creator on a model's list, or take it off. The signer owns the model.

        Returns:
            None where the list counts and says so already: nothing was sent. What a list says that does not count (the
            model is open or closed) the contract does not tell, so that it is said again.
        """
        if not ADDRESS_PATTERN.fullmatch(creator):
            raise ConfigError(f"{creator!r} is not an address", hint="an address is 0x and 40 hex digits")
        if int(creator, 16) == 0:
            raise ConfigError("the zero address is nobody's", hint="citrate lora allow REF ADDRESS")

        def stands() -> bool:
            asked = (lora_views.acceptance_of(model_id), lora_views.accepts(model_id, creator))
            acceptance, taken = self._chain.read_two(*asked, self._chain.pin())
            return acceptance is Acceptance.ALLOW_LIST and taken == allowed

        data = encode_call("allowCreator(bytes32,address,bool)", model_id, creator, allowed)
        return self._chain.send_change(signer, LORA_REGISTRY, data, stands=stands)


def _register_call(creator: str, lora: Lora) -> bytes:
    return encode_call("registerLoRA(address,bytes)", creator, encode_lora(lora))
