"""The errors of LoRARegistry that ModelRegistry does not have."""

from __future__ import annotations

from citrate.core.errors import AlreadyExistsError, CitrateError, ConfigError, NotFoundError, NotPermittedError
from citrate.registry.reverts.refusal import PAYLOAD, Refusal, Table

TABLE: Table = {
    "NotCreator(address,address)": Refusal(
        NotPermittedError, "{1} cannot register a LoRA of {0}", "citrate key list; citrate key use ADDRESS"
    ),
    "UnknownLoRA(bytes32)": Refusal(NotFoundError, "there is no LoRA {0}", "citrate lora list"),
    "UnknownMerge(bytes32)": Refusal(
        NotFoundError, "no merge is recorded for the version {0}", "citrate lora merge REF records one"
    ),
    "LoRATaken(bytes32)": Refusal(
        AlreadyExistsError, "this LoRA stands already, and a LoRA is never replaced", "choose the next --version"
    ),
    "MergeTaken(bytes32)": Refusal(
        AlreadyExistsError,
        "it is recorded already from what the version {0} was merged",
        "a merge is recorded once: publish a new version",
    ),
    "InvalidResult(bytes32)": Refusal(
        ConfigError, "the parents were trained on {0} itself: it cannot have resulted from them", "name another version"
    ),
    "BaseDeprecated(bytes32)": Refusal(
        NotPermittedError, "the base {0} is deprecated and takes no LoRAs", "citrate show BASE names its replacement"
    ),
    "NotInGoodStanding(bytes32,uint8)": Refusal(
        NotPermittedError, "{0} is {1:status}", "citrate case show REF tells why; use another base or parent"
    ),
    "WrongBase(bytes32,bytes32,bytes32)": Refusal(
        ConfigError,
        "the content of the base {0} is {2}, and the LoRA was trained on {1}",
        "name the version it was trained on: --base REF",
    ),
    "NotAccepted(bytes32,address)": Refusal(
        NotPermittedError,
        "this model takes no LoRAs of {1}",
        "citrate show REF tells whose it takes; its owner may change that",
    ),
    "QuotaExceeded(address,uint256)": Refusal(
        CitrateError, "{0} had ten LoRAs accepted today, which is the limit", "the next day begins at 00:00 UTC"
    ),
    "InvalidSize(uint256)": Refusal(ConfigError, "a LoRA has 1 to 500,000,000 bytes, not {0}", PAYLOAD),
    "InvalidRank(uint256)": Refusal(ConfigError, "the rank of a LoRA is 1 to 4096, not {0}", PAYLOAD),
    "InvalidLoRA(uint256)": Refusal(
        ConfigError, "the contract refuses what stands at byte {0} of the payload", PAYLOAD
    ),
    "InvalidParents(uint256)": Refusal(ConfigError, "a merge has one to eight parents", "name up to eight adapters"),
    "InvalidParentOrder(bytes32)": Refusal(ConfigError, "the parent {0} is out of order or there twice", PAYLOAD),
    "InvalidWeights(uint256)": Refusal(
        ConfigError, "the weights add up to {0:percent}, or one of them is zero", "they must add up to 100 %"
    ),
    "OtherBase(bytes32,bytes32)": Refusal(
        ConfigError, "the parent {0} was trained on another base: {1}", "merge LoRAs of one base"
    ),
}
