"""The errors of ModelRegistry; those of owners, names, texts and signatures are everybody's."""

from __future__ import annotations

from citrate.core.errors import (
    AlreadyExistsError,
    ChainError,
    CitrateError,
    ConfigError,
    NotFoundError,
    NotPermittedError,
)
from citrate.registry.reverts.refusal import AGAIN, PAYLOAD, Refusal, Table

TABLE: Table = {
    "NotOwner(bytes32,address)": Refusal(
        NotPermittedError, "{1} does not own this model", "citrate key list; citrate key use ADDRESS"
    ),
    "NotPendingOwner(bytes32,address)": Refusal(
        NotPermittedError, "the model was not offered to {1}", "ask its owner to offer it to you first"
    ),
    "UnknownModel(bytes32)": Refusal(NotFoundError, "there is no such model", "citrate list"),
    "UnknownVersion(bytes32)": Refusal(NotFoundError, "there is no version {0}", "citrate list"),
    "UnknownAlias(bytes32,string)": Refusal(
        NotFoundError, "the model has neither a version nor an alias {1!r}", "citrate show REF lists both"
    ),
    "UnknownRecord(address)": Refusal(ChainError, "the chain has no record at {0}: it was reorganised", AGAIN),
    "VersionTaken(bytes32)": Refusal(
        AlreadyExistsError, "this version stands already, and a version is never replaced", "choose the next --version"
    ),
    "NameTaken(bytes32)": Refusal(
        AlreadyExistsError, "the model has a version or an alias of this name", "choose another name"
    ),
    "ReservedName()": Refusal(
        ConfigError, "'latest' names neither a version nor an alias", "it always is the newest release"
    ),
    "InvalidAlias(string)": Refusal(
        ConfigError, "{0!r} cannot be an alias", "1 to 32 of a-z 0-9 . _ -, beginning with a letter or digit"
    ),
    "InvalidReplacement(bytes32)": Refusal(
        ConfigError, "a version cannot replace itself", "name another --replacement"
    ),
    "InvalidText(uint256)": Refusal(ConfigError, "the contract refuses the text at byte {0} of the payload", PAYLOAD),
    "InvalidPrice(bytes4)": Refusal(ConfigError, "the contract refuses the price {0}", PAYLOAD),
    "InvalidLength(uint256)": Refusal(ConfigError, "the payload is cut off at byte {0}", PAYLOAD),
    "InvalidVariant(uint256)": Refusal(
        ConfigError, "the contract refuses the variant at byte {0} of the payload", PAYLOAD
    ),
    "InvalidManifest()": Refusal(ConfigError, "the manifest's digest is zero", PAYLOAD),
    "InvalidOrder(uint256)": Refusal(ConfigError, "the variant at byte {0} is out of order or there twice", PAYLOAD),
    "TooManyVariants()": Refusal(ConfigError, "more than 64 variants in one record", "add the others afterwards"),
    "TooManyRecords(bytes32)": Refusal(
        CitrateError, "this version has had variants added 15 times, which is the limit", "publish a new version"
    ),
    "DuplicateVariant(bytes32)": Refusal(
        AlreadyExistsError, "the version has this variant already", "variants are never changed: publish a new version"
    ),
    "Expired(uint256)": Refusal(NotPermittedError, "the signed request was valid until {0:time} only", "sign it again"),
    "InvalidSignature(address,uint256)": Refusal(
        NotPermittedError, "this is no signature of {0} for nonce {1}", "sign the request again with the owner's key"
    ),
    "RecordFailed()": Refusal(ChainError, "the transaction had too little gas to store its record", AGAIN),
}
