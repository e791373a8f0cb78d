"""Money that a contract owes to accounts, which they withdraw: sales at ModelAccess, bonds at Moderation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.registry.abi_codec import encode_call
from citrate.registry.receipts import event
from citrate.registry.views import View

if TYPE_CHECKING:
    from citrate.registry.chain import Chain, Receipt
    from citrate.registry.signer import Signer


@dataclass(frozen=True)
class Withdrawal:
    """A credit that was paid out."""

    account: str
    to: str
    amount_wei: int
    receipt: Receipt


def credit_of(contract_name: str, account: str) -> View[int]:
    """What an account can withdraw from a contract, in wei."""
    return View(contract_name, encode_call("creditOf(address)", account), lambda frame: frame.number(0))


def withdraw(chain: Chain, signer: Signer, contract_name: str, to: str = "") -> Withdrawal:
    """Pay out all that a contract owes to a key.

    Args:
        chain: where the contract is.
        signer: the key.
        contract_name: ModelAccess or Moderation.
        to: an address; empty for the key's own.

    Raises:
        CitrateError: there is nothing to withdraw, or the receiver refuses the money.
    """
    to = to or signer.address
    receipt = chain.send(signer, contract_name, encode_call("withdraw(address)", to))
    amount = event(chain, receipt, contract_name, "Withdrawn(address,address,uint256)").data.number(0)
    return Withdrawal(signer.address, to, amount, receipt)
