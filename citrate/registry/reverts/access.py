"""The errors of ModelAccess that ModelRegistry does not have; some of them are Moderation's too."""

from __future__ import annotations

from citrate.core.errors import AlreadyExistsError, CitrateError, ConfigError, NotFoundError, NotPermittedError
from citrate.registry.reverts.refusal import Refusal, Table

TABLE: Table = {
    "UnknownId(bytes32)": Refusal(NotFoundError, "there is nothing with the id {0}", "citrate list"),
    "NotForSale(bytes32)": Refusal(
        CitrateError, "{0} is not for sale: it is free, or sold by version only", "citrate access show REF"
    ),
    "PriceAboveMaximum(uint256,uint256)": Refusal(
        NotPermittedError,
        "the price is {0:ether} now, above the agreed {1:ether}",
        "citrate access show REF; buy again",
    ),
    "Underpaid(uint256,uint256)": Refusal(
        NotPermittedError, "the price is {0:ether} now, and {1:ether} was sent", "citrate access show REF; buy again"
    ),
    "AlreadyGranted(bytes32,address)": Refusal(
        AlreadyExistsError, "{1} has access already", "nothing is paid twice: citrate access show REF"
    ),
    "InvalidAccount()": Refusal(ConfigError, "the zero address is nobody's", "name an account"),
    "NothingToWithdraw(address)": Refusal(
        CitrateError, "{0} has nothing to withdraw", "citrate stake show tells what a key is owed"
    ),
}
