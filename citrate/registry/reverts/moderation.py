"""The errors of Moderation that no other contract has."""

from __future__ import annotations

from citrate.core.errors import AlreadyExistsError, CitrateError, ConfigError, NotFoundError, NotPermittedError
from citrate.registry.reverts.refusal import PAYLOAD, Refusal, Table

TABLE: Table = {
    "UnknownCase(uint256)": Refusal(NotFoundError, "there is no case {0}", "citrate case list"),
    "CaseOpen(bytes32,uint256)": Refusal(
        AlreadyExistsError, "case {1} on this is open already", "citrate vote {1} keep, or remove, takes part in it"
    ),
    "AlreadyRemoved(bytes32)": Refusal(CitrateError, "{0} is removed already, for ever", "citrate case show {0}"),
    "WrongBond(uint256,uint256)": Refusal(
        ConfigError, "the bond must be exactly {0:ether}, not {1:ether}", "citrate report REF --bond {0:typed}"
    ),
    "InvalidEvidence()": Refusal(ConfigError, "the evidence's CID is not one that can stand on chain", PAYLOAD),
    "EvidenceUsed(bytes32)": Refusal(
        AlreadyExistsError, "this evidence was brought before", "bring new evidence, or vote in the case that has it"
    ),
    "CaseEnded(uint256)": Refusal(CitrateError, "case {0} has ended", "citrate case show {0}"),
    "CaseGoesOn(uint256,uint256)": Refusal(
        CitrateError, "case {0} goes on until {1:time}", "citrate case close {0} after that"
    ),
    "CaseClosed(uint256)": Refusal(AlreadyExistsError, "case {0} is paid out already", "citrate case show {0}"),
    "NoVotes(uint256,address)": Refusal(
        NotPermittedError,
        "{1} had no stake before case {0} was reported, or has none now",
        "citrate stake add AMOUNT counts in the cases reported after it",
    ),
    "AlreadyVoted(uint256,address)": Refusal(
        AlreadyExistsError, "{1} has voted in case {0}, and a vote is never changed", "citrate case show {0}"
    ),
    "StakeLocked(address,uint256)": Refusal(
        NotPermittedError, "the stake of {0} voted, and stays until {1:time}", "citrate stake show"
    ),
    "InsufficientStake(address,uint256)": Refusal(
        NotPermittedError, "{0} has staked {1:ether} only", "citrate stake show"
    ),
    "BlockNotOver(uint256)": Refusal(
        CitrateError, "what is staked at the end of block {0} is not certain yet", "ask again after that block"
    ),
    "InvalidAmount()": Refusal(ConfigError, "an amount of zero", "name an amount, such as 1ether"),
    "NotGuardian(address)": Refusal(
        NotPermittedError, "only the guardian lifts a case, not {0}", "citrate case lift CASE prints what it must send"
    ),
}
