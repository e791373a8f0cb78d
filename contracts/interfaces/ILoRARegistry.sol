// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "./IChangeLog.sol";
import {IModelRegistry} from "./IModelRegistry.sol";
import {IModeration} from "./IModeration.sol";
import {IPolicy} from "./IPolicy.sol";
import {ITrainingLedger} from "./ITrainingLedger.sol";

/// @title The registry of LoRA adapters and of what was merged from them
/// @notice A creator records an adapter: on which version of which model it was trained, where its bytes are, what they
/// are, and how it was trained. A model's owner records from which adapters a version was merged.
///
/// Ids: `loraId = keccak256(abi.encode("LoRA", creator, name, version))`; a merge is named by the id of the version that
/// resulted from it. The *content digest* of a base is `ModelRegistry.contentOf`.
///
/// ## Payload (what callers pass, packed, big-endian; texts, CID and digests as in IModelRegistry)
///
///     lora      base content digest 32 | base version id 32 | name text | version text | licence text
///             | codec 1 | size 4 | CID digest 32 | SHA-256 32
///             | rank 2 | alpha 4 | modules 2 | other modules text | steps 4 | training
///     training  00                                                    not told
///             | 01 | dataset 32 | recipe 32 | proof root 32           told by the creator
///             | 02 | run 8                                            told by a run of the TrainingLedger
///     parents   (loraId 32 | weight 2) 1..8 times, loraIds strictly ascending
///
///     name, version, licence   as in IModelRegistry
///     size           bytes, 1..500,000,000
///     rank           1..4096
///     alpha          thousandths, not zero
///     modules        bit 0 q_proj, 1 k_proj, 2 v_proj, 3 o_proj, 4 gate_proj, 5 up_proj, 6 down_proj, 7 embed_tokens,
///                    8 lm_head, 9 qkv_proj, 10 gate_up_proj, 11 query, 12 key, 13 value, 14 dense, 15 fc1
///     other modules  those that have no bit, as printable ASCII with commas between them, none of them empty; may have
///                    length 0, but not if no bit is set
///     dataset, recipe   not zero; the proof root may be (no proof was made)
///     run            a number of the ledger, not zero. It is not looked up: `getLoRA` says whether it confirms this LoRA
///     weight         basis points, not zero; all of them add up to 10,000
///
/// ## Records (the code of an account that nobody can change; big-endian)
///
///     00 1 | 01 1 | block time 5 | previous record 20 | creator 20 | lora without the base content digest
///     00 1 | 02 1 | block time 5 | previous record 20 | creator 20 | result version id 32 | base version id 32 | parents
///
/// Their addresses: as in IModelRegistry, from this contract, with salt `loraId`, or
/// `keccak256(abi.encode("Merge", resultVersionId))`.
interface ILoRARegistry is IChangeLog {
    /// @notice What a record holds.
    enum Kind {
        None,
        LoRA,
        Merge
    }

    /// @notice Whose LoRAs a model takes.
    enum Acceptance {
        Open,
        AllowList,
        Closed
    }

    /// @notice How a LoRA was trained. Zero is not told; `runId` 0 is no run.
    /// @param confirmed Whether the ledger's run is committed, by this LoRA's creator, on this base's content and with
    /// this LoRA's digest as its outcome. Always false without a run.
    struct Training {
        bytes32 dataset;
        bytes32 recipe;
        bytes32 proofRoot;
        uint64 runId;
        bool confirmed;
    }

    /// @notice One LoRA.
    /// @param base The version it was trained on.
    /// @param baseDigest That version's content digest: load the LoRA on no other bytes.
    /// @param alpha In thousandths.
    /// @param targetModules Names with commas between them.
    /// @param createdAt Unix seconds of the block.
    /// @param record The account that holds it.
    /// @custom:security Warning: all of it is the creator's claim, except that the base existed, was not deprecated,
    /// not quarantined, took this creator's LoRAs and had this digest when the LoRA was accepted. The contract has seen
    /// neither the bytes nor the training. Fetch by `cid`, then compare digest and size; use nothing before that.
    struct LoRA {
        address creator;
        string name;
        string version;
        string licence;
        bytes32 base;
        bytes32 baseDigest;
        string cid;
        bytes32 sha256Digest;
        uint64 sizeBytes;
        uint32 rank;
        uint32 alpha;
        string targetModules;
        uint32 steps;
        Training training;
        uint64 createdAt;
        address record;
    }

    /// @notice One parent of a merge.
    struct Parent {
        bytes32 loraId;
        uint16 basisPoints;
    }

    /// @notice From what a version was merged.
    /// @param creator Who owned the resulting version's model when the merge was recorded.
    struct Merge {
        address creator;
        bytes32 result;
        bytes32 base;
        Parent[] parents;
        uint64 createdAt;
        address record;
    }

    /// @notice One record in a list.
    /// @param id The loraId, or the version that resulted from a merge.
    /// @param name, version Empty for a merge.
    struct Item {
        address record;
        Kind kind;
        bytes32 id;
        bytes32 base;
        address creator;
        string name;
        string version;
        uint64 createdAt;
    }

    // ---------------------------------------------------------------------------------------------------- events

    /// @notice A LoRA was accepted.
    event LoRARegistered(bytes32 indexed loraId, bytes32 indexed base, address indexed creator, address record);
    /// @notice It was recorded from which LoRAs a version was merged.
    event LoRAMerged(bytes32 indexed result, bytes32 indexed base, address indexed creator, address record);
    /// @notice A model takes other people's LoRAs, those of a list, or none.
    event AcceptanceSet(bytes32 indexed modelId, Acceptance acceptance);
    /// @notice A creator was put on a model's list, or taken off it.
    event CreatorAllowed(bytes32 indexed modelId, address indexed creator, bool allowed);

    // ---------------------------------------------------------------------------------------------------- errors
    // Errors of texts, signatures, owners and lists are those of IModelRegistry. `offset` counts from the payload's start.

    /// @notice The caller is not the creator.
    error NotCreator(address creator, address caller);
    /// @notice There is no such LoRA.
    error UnknownLoRA(bytes32 loraId);
    /// @notice No merge is recorded for this version.
    error UnknownMerge(bytes32 result);
    /// @notice The creator has a LoRA of this name and version, and a LoRA is never replaced.
    error LoRATaken(bytes32 loraId);
    /// @notice It is recorded already from what this version was merged.
    error MergeTaken(bytes32 result);
    /// @notice The parents were trained on this very version: it cannot have resulted from them.
    error InvalidResult(bytes32 result);
    /// @notice The base is deprecated.
    error BaseDeprecated(bytes32 base);
    /// @notice The base or a parent is quarantined or removed.
    error NotInGoodStanding(bytes32 id, IModeration.Status status);
    /// @notice The base's content is not what the LoRA was trained on.
    error WrongBase(bytes32 base, bytes32 expected, bytes32 actual);
    /// @notice The base's model takes no LoRAs, or none of this creator.
    error NotAccepted(bytes32 modelId, address creator);
    /// @notice The creator had ten LoRAs accepted in this UTC day.
    /// @param until Unix second at which the next day begins.
    error QuotaExceeded(address creator, uint256 until);
    /// @notice The size is zero or above 500,000,000 bytes.
    error InvalidSize(uint256 sizeBytes);
    /// @notice The rank is zero or above 4096.
    error InvalidRank(uint256 rank);
    /// @notice The field at `offset` has a value that is not allowed there, or the payload ends before or after it should.
    error InvalidLoRA(uint256 offset);
    /// @notice There are none or more than eight parents, or the list is cut off.
    error InvalidParents(uint256 bytesLength);
    /// @notice The parent does not come after the one before it.
    error InvalidParentOrder(bytes32 loraId);
    /// @notice A weight is zero, or the weights add up to something else than 10,000.
    error InvalidWeights(uint256 sum);
    /// @notice The parent was trained on another base than the first one.
    error OtherBase(bytes32 loraId, bytes32 base);

    // --------------------------------------------------------------------------------------------------- writing

    /// @notice Record a LoRA. At most ten a creator and UTC day.
    /// @param lora The packed LoRA, see above.
    /// @custom:security Warning: the quota is per address, and addresses cost nothing: it slows a careless program, not
    /// an attacker. It counts calendar days, so twenty are possible within minutes around midnight UTC.
    function registerLoRA(address creator, bytes calldata lora) external returns (bytes32 loraId);

    /// @notice `registerLoRA` for a creator who signed; anyone may send it. The quota charges the creator.
    /// @param deadline Last Unix second at which it may be mined.
    /// @param signature EIP-712, by the creator, of `RegisterLoRA(address creator,bytes lora,uint256 nonce,
    /// uint256 deadline)` in the domain `Citrate LoRA`, `1`; or what the creator's ERC-1271 wallet accepts.
    /// @custom:security Warning: the nonce is the number of the creator's LoRAs, so any other registration voids what
    /// was signed before it.
    function registerLoRABySig(address creator, bytes calldata lora, uint256 deadline, bytes calldata signature)
        external
        returns (bytes32 loraId);

    /// @notice Record from which LoRAs a version was merged. The caller owns the version's model. Once for a version.
    /// @param result The version that resulted; not the base.
    /// @param parents The packed parents, see above; LoRAs of one base, none quarantined or removed.
    /// @custom:security Warning: a merge is lineage, told by the owner of the result. Nobody merged anything on chain.
    function mergeLoRA(bytes32 result, bytes calldata parents) external returns (address record);

    /// @notice Say whose LoRAs a model takes from now on; `Open` before this is first called. By the model's owner.
    /// @custom:security Warning: this concerns what is recorded here. Nobody can forbid to train on public bytes.
    function setAcceptance(bytes32 modelId, Acceptance acceptance) external;

    /// @notice Put a creator on a model's list, or take it off. By the model's owner.
    function allowCreator(bytes32 modelId, address creator, bool allowed) external;

    // --------------------------------------------------------------------------------------------------- reading

    /// @notice One LoRA, with the whole of its training.
    function getLoRA(bytes32 loraId) external view returns (LoRA memory);

    /// @notice From what a version was merged.
    function getMerge(bytes32 result) external view returns (Merge memory);

    /// @notice The version a LoRA was trained on, or the base of a merge's parents; zero for every other id.
    function baseOf(bytes32 id) external view returns (bytes32 base);

    /// @notice Who answers for a LoRA; zero if there is no such LoRA.
    function creatorOf(bytes32 loraId) external view returns (address creator);

    /// @notice How an id stands with moderation: a merged version as the worse of itself and its base, any other version as
    /// itself, a LoRA as the worse of itself and its base.
    /// @dev So a look at a LoRA reaches the base of its base, and no farther, whatever was merged from what: it costs the
    /// same for every id, and an owner who records a ring of merges gains nothing.
    /// @return moderated Whether a moderation contract is appointed; without one everything is `Active`.
    function statusOf(bytes32 id) external view returns (bool moderated, IModeration.Status status);

    /// @notice How many LoRAs of a creator were accepted in this UTC day, and how many ever: the nonce of the next
    /// signed request.
    function countsOf(address creator) external view returns (uint256 today, uint256 ever);

    /// @notice Whose LoRAs a model takes.
    function acceptanceOf(bytes32 modelId) external view returns (Acceptance);

    /// @notice Whether a model takes this creator's LoRAs now.
    function accepts(bytes32 modelId, address creator) external view returns (bool);

    /// @notice The newest record and how many there are.
    function head() external view returns (address record, uint256 count);

    /// @notice Records from `cursor` (zero: the newest) back in time. `next` is the cursor of the next page; zero at the end.
    /// @param limit At most so many, and never more than 500.
    function records(address cursor, uint256 limit) external view returns (Item[] memory items, address next);

    /// @notice The registry of the models.
    function registry() external view returns (IModelRegistry);

    /// @notice The ledger of training runs.
    function ledger() external view returns (ITrainingLedger);

    /// @notice Where the moderation is appointed.
    function policy() external view returns (IPolicy);
}
