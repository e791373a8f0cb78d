// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "./IChangeLog.sol";

/// @title The registry of models
/// @notice A publisher names a model, releases versions of it and says for each variant of a version where its bytes
/// are (CID), what they are (SHA-256) and how many. One transaction a release, one `eth_call` a question, and nothing
/// that a client needs lives in event logs alone.
///
/// Words: a *model* is a name owned by a publisher; a *version* is an immutable release of it; a *variant* is one
/// format + quantization + target of a version; an *alias* is a movable name for a version; a *record* is what one
/// `publish` or `addVariants` left on chain.
///
/// Ids: `modelId = keccak256(abi.encode(publisher, name))`, `versionId = keccak256(abi.encode(modelId, version))`, for
/// ever, whoever owns the model later.
///
/// ## Payloads (what callers pass, packed, big-endian)
///
/// A *text* is a length byte and that many characters.
///
///     release   name text | manifest SHA-256 32 | price 4 | version text | licence text | variant, variant, ...
///     addition  manifest SHA-256 32 | variant, variant, ...
///     variant   format 1 | lengths 1 | quantization | target | codec 1 | size 6 | CID digest 32 | SHA-256 32
///
///     name          [a-z0-9][a-z0-9._-]{0,63}
///     version       [a-z0-9][a-z0-9._+-]{0,31}, not `latest`, not an alias of the model
///     licence       1..64 printable ASCII characters (0x20..0x7e)
///     price         mantissa 3 | exponent 1: mantissa * 10^exponent wei, exponent <= 60; free is four zero bytes
///     format        1 safetensors, 2 gguf, 3 mlx, 4 tensorrt_llm
///     lengths       length of quantization << 4 | length of target; each 0..15
///     quantization, target   empty, or [A-Za-z0-9][A-Za-z0-9._+-]*
///     codec         0x55 raw or 0x70 dag-pb; the CID is version 1 with a SHA-256 multihash
///     size          bytes, not zero
///     digests       not zero
///     variants      1..64 a record, in strictly ascending order of everything before the codec, zero-padded on the
///                   right to 32 bytes; 1..16 records a version
///
/// ## Records (the code of an account that nobody can change; big-endian)
///
///     00 1 | kind 1 | block time 5 | previous record of the registry 20 | link 20 | ...
///     kind 1, first release:    link = publisher;               ... release
///     kind 2, later release:    link = model's first release;   ... version text of the release before it | release
///                                                                   without the name
///     kind 3, added variants:   link = their release;           ... addition
///
/// 0x80 is added to the kind where somebody else than the publisher owned the model; the owner's address (20) then
/// comes right after the link. Addresses of records: CREATE2 from this contract, init code
/// `3d3d3d3d335afa3d5f5f3e3d5ff3`, salt `versionId` for a release and `keccak256(abi.encode(versionId, k))` for its
/// k-th addition, k = 1..15.
///
/// Aliases, deprecations and transfers are covered by `changeRoot` (IChangeLog), releases and additions by `head`.
interface IModelRegistry is IChangeLog {
    /// @notice What a record holds.
    enum Kind {
        None,
        FirstRelease,
        Release,
        Addition
    }

    /// @notice One variant: its name in three parts, where its bytes are and what they are.
    /// @param format `safetensors`, `gguf`, `mlx` or `tensorrt_llm`.
    /// @param cid CIDv1 as text (base32), as every IPFS tool takes it.
    /// @param sha256Digest SHA-256 of the file; of a directory, that of the listing `LC_ALL=C sha256sum` prints for it.
    /// @custom:security Warning: CID, digest and size are the publisher's claims. The contract has seen no byte of the
    /// variant. Fetch by `cid`, then compare digest and size; use nothing before that.
    struct Variant {
        string format;
        string quantization;
        string target;
        string cid;
        bytes32 sha256Digest;
        uint64 sizeBytes;
    }

    /// @notice One version, all of it but its variants.
    /// @param publisher The address under which the model was named; stays after a transfer.
    /// @param owner Who may write now.
    /// @param priceWei The price its owner asked at publishing; 0 = free.
    /// @param createdAt Unix seconds of the block of its release.
    /// @param replacement The version to use instead, if deprecated and if there is one; else 0.
    /// @param record The account that holds its release record.
    /// @param manifests SHA-256 of the manifest in each record of the version, oldest first; the last one is current.
    /// @param senders Who owned the model when each of those records was written: its sender, or its signer.
    /// @custom:security Warning: a price is a wish. The bytes are public on IPFS; nothing here keeps them secret.
    struct Version {
        bytes32 modelId;
        address publisher;
        address owner;
        string name;
        string version;
        string licence;
        uint256 priceWei;
        uint64 createdAt;
        bool deprecated;
        bytes32 replacement;
        address record;
        bytes32[] manifests;
        address[] senders;
    }

    /// @notice One record in a list: of the registry, of its models (their first records) or of a model's versions.
    /// @param publisher The address under which the model was named.
    /// @param versionId The version that was released, or to which variants were added.
    /// @param createdAt Unix seconds of the record's block.
    /// @param deprecated Whether that version is deprecated now.
    struct Item {
        address record;
        Kind kind;
        bytes32 modelId;
        bytes32 versionId;
        address publisher;
        string name;
        string version;
        uint64 createdAt;
        bool deprecated;
    }

    // ---------------------------------------------------------------------------------------------------- events

    /// @notice A version was released.
    event Published(bytes32 indexed modelId, bytes32 indexed versionId, address record);

    /// @notice Variants were added to a version.
    event VariantsAdded(bytes32 indexed modelId, bytes32 indexed versionId, address record);

    /// @notice An alias was set or moved.
    /// @param previousBlock The block of the change before this one; 0 if there was none.
    /// @param changes How often the alias has been set, this time included: a history read backwards from `aliasOf`
    /// is complete exactly when it counts down to 1.
    event AliasSet(
        bytes32 indexed modelId, bytes32 indexed versionId, string aliasName, uint256 previousBlock, uint256 changes
    );

    /// @notice A version was deprecated, or its replacement changed.
    event Deprecated(bytes32 indexed modelId, bytes32 indexed versionId, bytes32 replacement);

    /// @notice The owner offers the model to `to`; 0 withdraws the offer.
    event TransferStarted(bytes32 indexed modelId, address indexed from, address indexed to);

    /// @notice `to` took the model over.
    event Transferred(bytes32 indexed modelId, address indexed to);

    // ---------------------------------------------------------------------------------------------------- errors
    // `offset` counts bytes from the start of the payload that the caller passed.

    /// @notice The caller (or the one for whom it was signed) does not own the model.
    error NotOwner(bytes32 modelId, address caller);
    /// @notice The model was not offered to the caller.
    error NotPendingOwner(bytes32 modelId, address caller);
    /// @notice No version of this model was ever published.
    error UnknownModel(bytes32 modelId);
    /// @notice There is no such version.
    error UnknownVersion(bytes32 versionId);
    /// @notice The model has neither a version nor an alias of this name.
    error UnknownAlias(bytes32 modelId, string aliasName);
    /// @notice The cursor is no record of this registry (or, in `versions`, no release of this model).
    error UnknownRecord(address record);
    /// @notice The version is there; a version is never replaced.
    error VersionTaken(bytes32 versionId);
    /// @notice The name is that of an alias (publishing) or of a version (setting an alias) of the model.
    /// @param nameId `keccak256(abi.encode(modelId, name))`.
    error NameTaken(bytes32 nameId);
    /// @notice `latest` is computed and can be neither a version nor an alias.
    error ReservedName();
    /// @notice The alias is empty, too long or has a character outside `[a-z0-9][a-z0-9._-]{0,31}`.
    error InvalidAlias(string aliasName);
    /// @notice A version cannot replace itself.
    error InvalidReplacement(bytes32 versionId);
    /// @notice The text at `offset` is empty, too long, cut off or has a character that is not allowed there.
    error InvalidText(uint256 offset);
    /// @notice The price has an exponent above 60, or is a zero other than four zero bytes.
    error InvalidPrice(bytes4 price);
    /// @notice The payload ends before the variant at `offset` does (and there must be one).
    error InvalidLength(uint256 offset);
    /// @notice The variant at `offset` has a format, codec, size or digest that is not allowed.
    error InvalidVariant(uint256 offset);
    /// @notice The manifest's digest is zero.
    error InvalidManifest();
    /// @notice The variant at `offset` does not come after the one before it.
    error InvalidOrder(uint256 offset);
    /// @notice More than 64 variants in one record.
    error TooManyVariants();
    /// @notice The version has 16 records already.
    error TooManyRecords(bytes32 versionId);
    /// @notice The version has this variant already.
    /// @param key Format, lengths, quantization and target, zero-padded.
    error DuplicateVariant(bytes32 key);
    /// @notice The signed request is too old.
    error Expired(uint256 deadline);
    /// @notice The signature is not one of `signer` for this request and `nonce`, the only one valid now.
    error InvalidSignature(address signer, uint256 nonce);
    /// @notice The record could not be stored: not enough gas.
    error RecordFailed();

    // --------------------------------------------------------------------------------------------------- writing

    /// @notice Release a version with all its variants; the first one creates the model.
    /// @param publisher The address under which the model is named. The caller must own the model: the publisher does,
    /// until a transfer.
    /// @param release The packed release, see above.
    /// @param aliasName An alias to point at it in the same transaction; empty for none.
    /// @custom:security Warning: names are unique per publisher only. `0xabc.../llama` says nothing about who made
    /// Llama; trust addresses, not names.
    function publish(address publisher, bytes calldata release, string calldata aliasName)
        external
        returns (bytes32 versionId);

    /// @notice `publish` for an owner who signed; anyone may send it.
    /// @param deadline Last Unix second at which it may be mined.
    /// @param signature EIP-712, by the owner, of `Publish(address publisher,bytes release,string aliasName,
    /// uint256 nonce,uint256 deadline)` in the domain `Citrate`, `1`; or what the owner's ERC-1271 wallet accepts.
    /// @custom:security Warning: the nonce is the number of versions of the model, so any other publication, direct or
    /// relayed, voids what was signed before it. The sender chooses whether and when a request is mined.
    function publishBySig(
        address publisher,
        bytes calldata release,
        string calldata aliasName,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32 versionId);

    /// @notice Add variants to a version that stands. What it has is never changed or removed.
    /// @param addition The packed addition, see above: the new manifest and the new variants only.
    /// @custom:security Warning: variants added after a transfer come from the new owner; `Version.senders` says who.
    function addVariants(address publisher, string calldata name, string calldata version, bytes calldata addition)
        external
        returns (address record);

    /// @notice Point an alias at a version.
    /// @custom:security Warning: the owner can move an alias at any time, without notice. Pin a version id for anything
    /// that must not change.
    function setAlias(address publisher, string calldata name, string calldata aliasName, string calldata version)
        external;

    /// @notice Mark a version as not to be used any more. It stays readable; the mark cannot be taken back, the
    /// replacement can be changed.
    /// @param replacement The version to use instead, of any model; 0 for none.
    /// @custom:security Warning: the replacement is the owner's advice; it may belong to somebody else.
    function deprecate(address publisher, string calldata name, string calldata version, bytes32 replacement) external;

    /// @notice Offer the model to `to`, who becomes its owner by `acceptModel`; 0 withdraws the offer.
    /// @custom:security Warning: the new owner can publish versions, move aliases and deprecate under the publisher's
    /// address. Published versions stay as they are.
    function transferModel(address publisher, string calldata name, address to) external;

    /// @notice Take over a model that was offered to the caller.
    function acceptModel(bytes32 modelId) external;

    // --------------------------------------------------------------------------------------------------- reading
    // Reading from a contract: `termsOf`, `getVersion` and `ownerOf` cost the same after any number of releases. `resolve` of
    // `latest` walks back over deprecated releases; the paginated views are for `eth_call`.

    /// @notice The version behind a version's name or an alias. `latest` is the newest release that is not
    /// deprecated, or the newest if all are.
    /// @custom:security Warning: what an alias or `latest` names may change in the next block.
    function resolve(address publisher, string calldata name, string calldata aliasOrVersion)
        external
        view
        returns (bytes32 versionId);

    /// @notice One version.
    function getVersion(bytes32 versionId) external view returns (Version memory);

    /// @notice What other contracts need of a version, at two thirds of the cost of `getVersion`.
    function termsOf(bytes32 versionId)
        external
        view
        returns (bytes32 modelId, address owner, uint256 priceWei, bool deprecated);

    /// @notice What a LoRA is bound to, at the same cost after any number of releases.
    /// @return modelId The version's model.
    /// @return deprecated Whether the version is deprecated now.
    /// @return contentDigest SHA-256 of the first variant in the version's release record: of the safetensors where
    /// there are any, because variants ascend by format. Variants added later do not change it.
    function contentOf(bytes32 versionId)
        external
        view
        returns (bytes32 modelId, bool deprecated, bytes32 contentDigest);

    /// @notice Every variant of a version, in the order of its records.
    function getVariants(bytes32 versionId) external view returns (Variant[] memory);

    /// @notice Where an alias points, and where its history ends.
    /// @return versionId The version it points at.
    /// @return version That version's name.
    /// @return changedAtBlock Block of the newest `AliasSet`; each event names the block of the one before it.
    /// @return changes How many there are.
    function aliasOf(bytes32 modelId, string calldata aliasName)
        external
        view
        returns (bytes32 versionId, string memory version, uint256 changedAtBlock, uint256 changes);

    /// @notice Who may write to the model.
    function ownerOf(bytes32 modelId) external view returns (address);

    /// @notice To whom the model is offered; 0 if to nobody.
    function pendingOwnerOf(bytes32 modelId) external view returns (address);

    /// @notice How many versions the model has: the nonce that the next signed request must carry; 0 for a new model.
    function nonceOf(bytes32 modelId) external view returns (uint256);

    /// @notice The newest record and how many there are.
    function head() external view returns (address record, uint256 count);

    /// @notice Every record, releases and additions, from `cursor` (0: the newest) back, at most `limit` (and 500).
    /// @return items Newest first.
    /// @return next The cursor of the next page; 0 at the end. A walk from `head` in one block that ends with 0 after
    /// `count` items has missed none.
    function records(address cursor, uint256 limit) external view returns (Item[] memory items, address next);

    /// @notice Every model, newest first. `limit` (at most 500) counts the records looked at, so a page may be empty.
    function models(address cursor, uint256 limit) external view returns (Item[] memory items, address next);

    /// @notice Every version of a model, newest first, at most `limit` (and 500).
    function versions(bytes32 modelId, address cursor, uint256 limit)
        external
        view
        returns (Item[] memory items, address next);
}
