"""The errors of Policy, of the Timelock, and of what the contracts use of OpenZeppelin."""

from __future__ import annotations

from citrate.core.errors import ChainError, CitrateError, ConfigError, NotPermittedError
from citrate.registry.reverts.refusal import AGAIN, Refusal, Table

_DAMAGED = Refusal(ChainError, "the contract is damaged", "citrate doctor")
_OUT_OF_RANGE = Refusal(ConfigError, "the number {1} is too large for what it is", "name a smaller one")
_TIMELOCKED = "the authority proposes, two days pass, and then anybody executes"

TABLE: Table = {
    "NotAuthority(address)": Refusal(NotPermittedError, "{0} does not govern here", _TIMELOCKED),
    "InvalidFee(address,uint256)": Refusal(
        ConfigError, "a fee of {1:percent} to {0} is not allowed", "at most 2.5 %, to somebody"
    ),
    "InvalidModeration(address)": Refusal(
        ConfigError, "there is no contract at {0} that could moderate", "deploy it first: citrate deploy-contracts"
    ),
    "TimelockInsufficientDelay(uint256,uint256)": Refusal(
        ConfigError, "a delay of {0} s is below the {1} s that are due", _TIMELOCKED
    ),
    "TimelockInvalidOperationLength(uint256,uint256,uint256)": Refusal(
        ConfigError, "the proposal has {0} targets, {1} calls and {2} values", "it needs as many of each"
    ),
    "TimelockUnexpectedOperationState(bytes32,bytes32)": Refusal(
        CitrateError, "the proposal {0} is not in the state that this needs", _TIMELOCKED
    ),
    "TimelockUnexecutedPredecessor(bytes32)": Refusal(
        CitrateError, "the proposal {0} has to be executed first", "execute it, then run this again"
    ),
    "TimelockUnauthorizedCaller(address)": Refusal(
        NotPermittedError, "only the timelock itself can do that, not {0}", _TIMELOCKED
    ),
    "AccessControlUnauthorizedAccount(address,bytes32)": Refusal(
        NotPermittedError, "{0} has not the role {1} in the timelock", _TIMELOCKED
    ),
    "AccessControlBadConfirmation()": Refusal(NotPermittedError, "a role is given up by who has it only", _TIMELOCKED),
    "AddressEmptyCode(address)": Refusal(ConfigError, "there is no contract at {0}", "check the address"),
    "FailedCall()": Refusal(
        CitrateError, "the contract that was called refused without a reason", "check the address and the amount"
    ),
    "InsufficientBalance(uint256,uint256)": Refusal(
        ChainError, "the contract has {0:ether} and owes {1:ether}", "citrate doctor"
    ),
    "ReentrancyGuardReentrantCall()": Refusal(
        NotPermittedError, "a contract called back while it was being served", "use a wallet that does not"
    ),
    "CheckpointUnorderedInsertion()": Refusal(ChainError, "the chain's block numbers went back", AGAIN),
    "SafeCastOverflowedUintDowncast(uint8,uint256)": _OUT_OF_RANGE,
    "SafeCastOverflowedIntDowncast(uint8,int256)": _OUT_OF_RANGE,
    "SafeCastOverflowedIntToUint(int256)": Refusal(
        ConfigError, "the number {0} is too large for what it is", "name a smaller one"
    ),
    "SafeCastOverflowedUintToInt(uint256)": Refusal(
        ConfigError, "the number {0} is too large for what it is", "name a smaller one"
    ),
    "InvalidShortString()": _DAMAGED,
    "StringTooLong(string)": _DAMAGED,
}
