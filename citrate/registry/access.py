"""What versions and models cost, who has paid, and what sellers are owed (`IModelAccess.sol`).

The bytes of every model are public. Access is a receipt that honest clients and services ask for, see docs/trust.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from citrate.core.amounts import ether, typed
from citrate.core.errors import AlreadyExistsError, CitrateError, NotPermittedError
from citrate.core.records import Reference, VersionRecord
from citrate.registry.abi_codec import encode_call
from citrate.registry.access_views import Quote, granted_at, has_access, quote
from citrate.registry.artifacts import MODEL_ACCESS
from citrate.registry.credits import Withdrawal, credit_of, withdraw
from citrate.registry.receipts import event
from citrate.registry.views import NOWHERE

if TYPE_CHECKING:
    from citrate.registry.chain import Receipt
    from citrate.registry.session import Session

_GRANTED = "AccessGranted(bytes32,address,address,uint256,uint256,address)"


class Ground(StrEnum):
    """Why an account has access."""

    FREE = "free"
    OWNER = "owner"
    VERSION = "version"
    """It was bought for this version, or given."""
    MODEL = "model"
    """It was bought for the model with all its versions, or given."""


@dataclass(frozen=True)
class Terms:
    """What a version costs, alone and with its whole model, and how one account stands to it."""

    record: VersionRecord
    version: Quote
    model: Quote
    account: str
    """Whose access the rest tells; empty if nobody's was asked for."""
    ground: Ground | None
    """None: no access."""
    granted_at: int
    """When access was bought or given, in Unix seconds; 0 if it was neither."""
    block_number: int

    @property
    def has_access(self) -> bool:
        """Whether the account may use the version."""
        return self.ground is not None


@dataclass(frozen=True)
class Offer:
    """What can be bought."""

    id: str
    label: str
    """The version's full reference, or ``publisher/name`` for a model as a whole."""
    quote: Quote
    has_access: bool
    """Whether the account that asked has it already."""


@dataclass(frozen=True)
class Purchase:
    """What `Access.buy`, `gift` or `grant` did."""

    id: str
    label: str
    """As in ``Offer``."""
    account: str
    price_wei: int
    """What was paid in all; 0 where nothing was."""
    fee_wei: int
    receipt: Receipt | None
    """None: the account had access already, and nothing was paid."""


# ---------------------------------------------------------------------------------------------------- what one does


class Access:
    """Prices, purchases and sellers' credit, by reference. Every writing method sends one transaction or none.

    Args:
        session: the home and the chain.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def terms(self, ref: str | Reference, account: str = "") -> Terms:
        """What a version costs, and whether ``account`` (empty: nobody is asked about) has access to it.

        Raises:
            NotFoundError: no such version.
            ChainError: the chain has no ModelAccess.
        """
        record = self._record(ref)
        chain = self._session.chain
        block = chain.pin()
        prices = (quote(record.version_id), quote(record.model_id))
        if not account:
            version, model = chain.read_two(*prices, block)
            return Terms(record, version, model, "", None, 0, block.number)
        rights = (has_access(record.version_id, account), has_access(record.model_id, account))
        times = (granted_at(record.version_id, account), granted_at(record.model_id, account))
        found = chain.outcomes([*prices, *rights, *times], block)
        version, model = (chain.value(view, outcome) for view, outcome in zip(prices, found[:2], strict=True))
        may, _ = (chain.value(view, outcome) for view, outcome in zip(rights, found[2:4], strict=True))
        own, whole = (chain.value(view, outcome) for view, outcome in zip(times, found[4:], strict=True))
        ground = _ground(account, version, may, own)
        return Terms(record, version, model, account, ground, own or whole, block.number)

    def set_price(self, ref: str | Reference, price_wei: int, *, model: bool = False) -> tuple[str, Receipt | None]:
        """Ask another price for a version, or for its model as a whole; 0 makes the version free, takes the model
        off sale. Returns what it holds for (see ``Offer.label``) and the receipt; None: it is the price already, and
        nothing was sent.

        Raises:
            NotPermittedError: the active key does not own the model.
        """
        id_, label = _subject(self._record(ref), model)
        chain = self._session.chain

        def stands() -> bool:
            return chain.read(quote(id_), chain.pin()).price_wei == price_wei

        data = encode_call("setPrice(bytes32,uint256)", id_, price_wei)
        return label, chain.send_change(self._session.signer(), MODEL_ACCESS, data, stands=stands)

    def buy(self, ref: str | Reference, max_price_wei: int, *, model: bool = False) -> Purchase:
        """Buy access for the active key, for at most ``max_price_wei``; nothing is sent if it has access.

        Raises:
            NotPermittedError: the price is above the maximum.
            CitrateError: the model is not for sale as a whole, or the key cannot pay.
        """
        return self._buy(ref, "", max_price_wei, model)

    def gift(self, ref: str | Reference, to: str, max_price_wei: int, *, model: bool = False) -> Purchase:
        """Buy access for somebody else; as ``buy``."""
        return self._buy(ref, self._session.address_of(to), max_price_wei, model)

    def grant(self, ref: str | Reference, to: str, *, model: bool = False) -> Purchase:
        """Give access for nothing; nothing is sent to who has it.

        Raises:
            NotPermittedError: the active key does not own the model.
        """
        record = self._record(ref)
        id_, label = _subject(record, model)
        account, chain = self._session.address_of(to), self._session.chain
        # not `hasAccess`: who may use a version that is free today is to keep it when it is sold
        times = chain.read_two(granted_at(id_, account), granted_at(record.model_id, account), chain.pin())
        if any(times):
            return Purchase(id_, label, account, 0, 0, None)
        try:
            receipt = self._send(encode_call("grant(bytes32,address)", id_, account))
        except AlreadyExistsError:  # somebody gave or bought it at the same time
            return Purchase(id_, label, account, 0, 0, None)
        return Purchase(id_, label, account, 0, 0, receipt)

    def offer(self, ref: str | Reference, account: str = "", *, model: bool = False) -> Offer:
        """What access costs now, and whether ``account`` (empty: nobody) has it already."""
        id_, label = _subject(self._record(ref), model)
        chain = self._session.chain
        asked, has = chain.read_two(quote(id_), has_access(id_, account or NOWHERE), chain.pin())
        return Offer(id_, label, asked, bool(account) and has)

    def withdraw(self, to: str = "") -> Withdrawal:
        """Pay out all that the active key is owed for sales; ``to`` is empty for its own address.

        Raises:
            CitrateError: nothing is owed, or the receiver refuses the money.
        """
        where = self._session.address_of(to) if to else ""
        signer = self._session.signer()
        return withdraw(self._session.chain, signer, MODEL_ACCESS, where)

    def credit_of(self, account: str) -> int | None:
        """What an account is owed for sales, in wei; None if the chain has no ModelAccess."""
        chain = self._session.chain
        return chain.read_if_there(credit_of(MODEL_ACCESS, account), chain.pin())

    # ------------------------------------------------------------------ parts

    def _record(self, ref: str | Reference) -> VersionRecord:
        return self._session.resolve_model(ref, "have no price: who may read one may use it")

    def _buy(self, ref: str | Reference, to: str, max_price_wei: int, model: bool) -> Purchase:
        signer = self._session.signer()
        account = to or signer.address
        offer = self.offer(ref, account, model=model)
        id_, label, price_wei = offer.id, offer.label, offer.quote.price_wei
        if offer.has_access:
            return Purchase(id_, label, account, 0, 0, None)
        require_price(offer, max_price_wei, model=model)
        # What is sent is the price as it was read, and the most that is paid: a price raised meanwhile is refused.
        if to:
            data = encode_call("gift(bytes32,address,uint256)", id_, to, price_wei)
        else:
            data = encode_call("buy(bytes32,uint256)", id_, price_wei)
        try:
            receipt = self._session.chain.send(signer, MODEL_ACCESS, data, price_wei)
        except AlreadyExistsError:  # another purchase for the account came first, and this one paid nothing
            return Purchase(id_, label, account, 0, 0, None)
        return Purchase(id_, label, account, *self._paid(receipt), receipt)

    def _send(self, data: bytes) -> Receipt:
        signer = self._session.signer()
        return self._session.chain.send(signer, MODEL_ACCESS, data)

    def _paid(self, receipt: Receipt) -> tuple[int, int]:
        """Price and fee as they were in the block: the price may have fallen since it was read."""
        granted = event(self._session.chain, receipt, MODEL_ACCESS, _GRANTED).data
        return granted.number(0), granted.number(1)


def _subject(record: VersionRecord, model: bool) -> tuple[str, str]:
    """The id that is sold, and its label."""
    return (record.model_id, f"{record.publisher}/{record.name}") if model else (record.version_id, record.ref)


def require_price(offer: Offer, max_price_wei: int, *, model: bool) -> None:
    """Refuse a purchase that the contract would refuse.

    Raises:
        CitrateError: the model is not for sale as a whole.
        NotPermittedError: the price is above the maximum.
    """
    price_wei = offer.quote.price_wei
    if not price_wei and model:
        raise CitrateError(f"{offer.label} is not for sale as a whole", hint="without --model you buy one version")
    if price_wei > max_price_wei:
        raise NotPermittedError(
            f"{offer.label} costs {ether(price_wei)}, more than {ether(max_price_wei)}",
            hint=f"--max {typed(price_wei)} agrees to it",
        )


def _ground(account: str, version: Quote, may: bool, own: int) -> Ground | None:
    if not may:
        return None
    if not version.price_wei:
        return Ground.FREE
    if account.lower() == version.seller.lower():
        return Ground.OWNER
    return Ground.VERSION if own else Ground.MODEL
