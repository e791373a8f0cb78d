"""The errors of TrainingLedger."""

from __future__ import annotations

from citrate.core.errors import (
    AlreadyExistsError,
    ChainError,
    CitrateError,
    ConfigError,
    NotFoundError,
    NotPermittedError,
)
from citrate.registry.reverts.refusal import AGAIN, Refusal, Table

_SHOW = "citrate ledger show {0}"

TABLE: Table = {
    "UnknownRun(uint256)": Refusal(NotFoundError, "there is no training run {0}", "citrate ledger list"),
    "NotTrainer(uint256,address)": Refusal(
        NotPermittedError, "{1} did not announce run {0}", "citrate key list; citrate key use ADDRESS"
    ),
    "AlreadyCommitted(uint256)": Refusal(
        AlreadyExistsError, "run {0} is committed already, and a commitment is never changed", _SHOW
    ),
    "NotCommitted(uint256)": Refusal(CitrateError, "run {0} is not committed yet", "citrate ledger commit {0} --help"),
    "AlreadyChallenged(uint256)": Refusal(AlreadyExistsError, "run {0} has its seed already", _SHOW),
    "NotChallenged(uint256)": Refusal(
        CitrateError, "run {0} has no seed yet, so nobody can have replayed it", "citrate ledger draw {0}"
    ),
    "TooEarly(uint256)": Refusal(
        CitrateError,
        "the seed comes from block {0}, which is not there yet",
        "run it again in a few blocks; on a devnet any transaction makes one, and time makes none",
    ),
    "InvalidDigest()": Refusal(ConfigError, "a digest is zero", "name the SHA-256 of the bytes meant"),
    "InvalidAttestation()": Refusal(
        ConfigError,
        "a replay needs segments and a grade, and an attestation without a replay has no segments",
        "citrate ledger attest RUN --grade exact --segments N --report SHA256",
    ),
    "SelfAttestation(uint256)": Refusal(
        NotPermittedError, "run {0} is the signer's own, and nobody attests for himself", "ask somebody to verify it"
    ),
    "AlreadyAttested(uint256,address)": Refusal(AlreadyExistsError, "{1} has attested run {0} already", _SHOW),
    "NotAttested(uint256,address)": Refusal(
        ChainError, "the chain has no attestation of run {0} by {1}: it was reorganised", AGAIN
    ),
}
