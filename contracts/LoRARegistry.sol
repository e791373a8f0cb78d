// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {ChangeLog} from "./ChangeLog.sol";
import {ILoRARegistry} from "./interfaces/ILoRARegistry.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IModeration} from "./interfaces/IModeration.sol";
import {IPolicy} from "./interfaces/IPolicy.sol";
import {ITrainingLedger} from "./interfaces/ITrainingLedger.sol";
import {Chain} from "./libraries/Chain.sol";
import {LoRALayout} from "./libraries/LoRALayout.sol";
import {LoRAPayload} from "./libraries/LoRAPayload.sol";
import {DAILY, Quota, nextDay} from "./libraries/Quota.sol";
import {RecordAccounts} from "./libraries/RecordAccounts.sol";
import {RecordBytes} from "./libraries/RecordBytes.sol";

/// @title The registry of LoRA adapters and of what was merged from them
/// @notice What it promises stands in ILoRARegistry. It has no owner, no settings and no way to be changed.
/// @dev Everything outside is only asked (`view`, so by STATICCALL): nothing can come back in during a write.
contract LoRARegistry is ILoRARegistry, ChangeLog, RecordAccounts, EIP712 {
    using LoRALayout for bytes;
    using RecordBytes for bytes;

    bytes32 private constant REGISTER_TYPEHASH =
        keccak256("RegisterLoRA(address creator,bytes lora,uint256 nonce,uint256 deadline)");
    uint256 private constant MAX_PAGE = 500;

    /// @dev As much of a record as holds its base; and as much as holds its names, whatever their lengths.
    uint256 private constant WITH_BASE = RecordBytes.HEADER + 64;
    uint256 private constant WITH_NAMES = RecordBytes.HEADER + 130;

    /// @inheritdoc ILoRARegistry
    IModelRegistry public immutable registry;
    /// @inheritdoc ILoRARegistry
    ITrainingLedger public immutable ledger;
    /// @inheritdoc ILoRARegistry
    IPolicy public immutable policy;

    /// @dev All records.
    Chain private _head;
    mapping(address creator => Quota) private _quotas;
    mapping(bytes32 modelId => Acceptance) private _acceptances;
    mapping(bytes32 modelId => mapping(address creator => bool)) private _allowed;

    constructor(IModelRegistry registry_, ITrainingLedger ledger_, IPolicy policy_) EIP712("Citrate LoRA", "1") {
        (registry, ledger, policy) = (registry_, ledger_, policy_);
    }

    // --------------------------------------------------------------------------------------------------- writing

    /// @inheritdoc ILoRARegistry
    function registerLoRA(address creator, bytes calldata lora) external returns (bytes32) {
        if (msg.sender != creator) revert NotCreator(creator, msg.sender);
        return _register(creator, lora);
    }

    /// @inheritdoc ILoRARegistry
    function registerLoRABySig(address creator, bytes calldata lora, uint256 deadline, bytes calldata signature)
        external
        returns (bytes32)
    {
        if (block.timestamp > deadline) revert IModelRegistry.Expired(deadline);
        uint256 nonce = _quotas[creator].ever();
        bytes32 request = keccak256(abi.encode(REGISTER_TYPEHASH, creator, keccak256(lora), nonce, deadline));
        if (!SignatureChecker.isValidSignatureNowCalldata(creator, _hashTypedDataV4(request), signature)) {
            revert IModelRegistry.InvalidSignature(creator, nonce);
        }
        return _register(creator, lora);
    }

    /// @inheritdoc ILoRARegistry
    function mergeLoRA(bytes32 result, bytes calldata parents) external returns (address record) {
        (bytes32 modelId, address owner,,) = registry.termsOf(result);
        if (msg.sender != owner) revert IModelRegistry.NotOwner(modelId, msg.sender);
        bytes32 base = _checkParents(parents);
        if (base == result) revert InvalidResult(result);
        record = _append(_mergeSalt(result), Kind.Merge, msg.sender, bytes.concat(result, base), parents);
        if (record == address(0)) revert MergeTaken(result);
        emit LoRAMerged(result, base, msg.sender, record);
    }

    /// @inheritdoc ILoRARegistry
    function setAcceptance(bytes32 modelId, Acceptance acceptance) external {
        _requireOwner(modelId);
        _acceptances[modelId] = acceptance;
        _log(AcceptanceSet.selector, modelId, abi.encode(acceptance));
    }

    /// @inheritdoc ILoRARegistry
    function allowCreator(bytes32 modelId, address creator, bool allowed) external {
        _requireOwner(modelId);
        _allowed[modelId][creator] = allowed;
        _log(CreatorAllowed.selector, modelId, _topic(creator), abi.encode(allowed));
    }

    // --------------------------------------------------------------------------------------------------- reading

    /// @inheritdoc ILoRARegistry
    function getLoRA(bytes32 loraId) external view returns (LoRA memory lora) {
        lora = _requireLoRA(loraId, RecordBytes.WHOLE).readLoRA();
        lora.record = _recordAccount(loraId);
        (,, lora.baseDigest) = registry.contentOf(lora.base);
        if (lora.training.runId != 0) _confirm(lora);
    }

    /// @inheritdoc ILoRARegistry
    function getMerge(bytes32 result) external view returns (Merge memory merge) {
        address record = _recordAccount(_mergeSalt(result));
        if (record.code.length == 0) revert UnknownMerge(result);
        merge = RecordBytes.load(record, RecordBytes.WHOLE).readMerge();
        merge.record = record;
    }

    /// @inheritdoc ILoRARegistry
    function baseOf(bytes32 id) public view returns (bytes32 base) {
        bytes memory raw = _loadStart(id);
        return raw.isLoRA() ? raw.baseOf() : _mergeBase(id);
    }

    /// @inheritdoc ILoRARegistry
    function creatorOf(bytes32 loraId) external view returns (address creator) {
        bytes memory raw = _loadStart(loraId);
        if (raw.isLoRA()) creator = raw.linkOf();
    }

    /// @inheritdoc ILoRARegistry
    function statusOf(bytes32 id) external view returns (bool moderated, IModeration.Status status) {
        IModeration moderation = policy.moderation();
        if (address(moderation) == address(0)) return (false, status);
        status = _standing(moderation, id);
        bytes memory raw = _loadStart(id);
        if (raw.isLoRA()) status = _worse(status, _standing(moderation, raw.baseOf()));
        return (true, status);
    }

    /// @inheritdoc ILoRARegistry
    function countsOf(address creator) external view returns (uint256 today, uint256 ever) {
        return (_quotas[creator].today(), _quotas[creator].ever());
    }

    /// @inheritdoc ILoRARegistry
    function acceptanceOf(bytes32 modelId) external view returns (Acceptance) {
        return _acceptances[modelId];
    }

    /// @inheritdoc ILoRARegistry
    function accepts(bytes32 modelId, address creator) public view returns (bool) {
        Acceptance acceptance = _acceptances[modelId];
        return acceptance == Acceptance.Open || acceptance == Acceptance.AllowList && _allowed[modelId][creator];
    }

    /// @inheritdoc ILoRARegistry
    function head() external view returns (address record, uint256 count) {
        return (_head.newest(), _head.count());
    }

    /// @inheritdoc ILoRARegistry
    function records(address cursor, uint256 limit) external view returns (Item[] memory items, address next) {
        next = cursor == address(0) ? _head.newest() : cursor;
        items = new Item[](limit < MAX_PAGE ? limit : MAX_PAGE);
        uint256 used;
        for (; used < items.length && next != address(0); ++used) next = _describe(next, items[used]);
        assembly ("memory-safe") {
            mstore(items, used)
        }
    }

    // -------------------------------------------------------------------------------------------------- the core

    function _register(address creator, bytes calldata lora) private returns (bytes32 loraId) {
        loraId = LoRAPayload.check(creator, lora);
        Quota quota = _quotas[creator];
        if (quota.today() == DAILY) revert QuotaExceeded(creator, nextDay());
        _quotas[creator] = quota.charge();
        (bytes32 digest, bytes32 base) = LoRAPayload.baseOf(lora);
        _requireBase(creator, base, digest);
        address record = _append(loraId, Kind.LoRA, creator, "", lora[32:]);
        if (record == address(0)) revert LoRATaken(loraId);
        emit LoRARegistered(loraId, base, creator, record);
    }

    /// @dev A base that is there, of this content, not deprecated, in good standing, and of a model that takes this
    /// creator's LoRAs.
    function _requireBase(address creator, bytes32 base, bytes32 expected) private view {
        (bytes32 modelId, bool deprecated, bytes32 digest) = registry.contentOf(base);
        if (digest != expected) revert WrongBase(base, expected, digest);
        if (deprecated) revert BaseDeprecated(base);
        if (!accepts(modelId, creator)) revert NotAccepted(modelId, creator);
        IModeration moderation = policy.moderation();
        if (address(moderation) != address(0)) _requireGood(base, _standing(moderation, base));
    }

    /// @dev That there are these LoRAs, of one base, and in good standing.
    function _checkParents(bytes calldata parents) private view returns (bytes32 base) {
        uint256 count = LoRAPayload.checkParents(parents);
        IModeration moderation = policy.moderation();
        for (uint256 i; i < count; ++i) {
            (bytes32 loraId,) = LoRAPayload.parentAt(parents, i);
            bytes32 itsBase = _requireLoRA(loraId, WITH_BASE).baseOf();
            if (i == 0) base = itsBase;
            if (itsBase != base) revert OtherBase(loraId, itsBase);
            if (address(moderation) != address(0)) _requireGood(loraId, moderation.statusOf(loraId));
        }
        if (address(moderation) != address(0)) _requireGood(base, _standing(moderation, base));
    }

    function _append(bytes32 salt, Kind kind, address link, bytes memory lead, bytes calldata rest)
        private
        returns (address record)
    {
        Chain all = _head;
        record = _createRecord(salt, RecordBytes.encode(uint256(kind), all.newest(), link, lead, rest));
        _head = all.append(record);
    }

    /// @dev How a version stands: as itself, or as the base of what it was merged from if that stands worse.
    function _standing(IModeration moderation, bytes32 version) private view returns (IModeration.Status status) {
        status = moderation.statusOf(version);
        bytes32 base = _mergeBase(version);
        if (base != 0) status = _worse(status, moderation.statusOf(base));
    }

    /// @dev What runs say about a LoRA's training holds if the ledger confirms that it is this LoRA's.
    function _confirm(LoRA memory lora) private view {
        Training memory training = lora.training;
        if (training.runId > ledger.runCount()) return;
        ITrainingLedger.Run memory run = ledger.getRun(training.runId);
        training.confirmed = run.committedAt != 0 && run.trainer == lora.creator && run.base == lora.baseDigest
            && run.adapter == lora.sha256Digest;
        if (!training.confirmed) return;
        (training.dataset, training.recipe, training.proofRoot) = (run.dataset, run.recipe, run.proofRoot);
    }

    /// @dev A cursor comes from outside: what is not a record of this registry must not be read as one.
    function _describe(address record, Item memory item) private view returns (address previous) {
        bytes memory raw = RecordBytes.load(record, WITH_NAMES);
        bytes32 salt;
        if (raw.isLoRA()) {
            item.kind = Kind.LoRA;
            (item.name, item.version) = raw.nameOf();
            salt = item.id = keccak256(abi.encode("LoRA", raw.linkOf(), item.name, item.version));
        } else if (raw.isMerge()) {
            item.kind = Kind.Merge;
            item.id = raw.resultOf();
            salt = _mergeSalt(item.id);
        }
        if (salt == 0 || _recordAccount(salt) != record) revert IModelRegistry.UnknownRecord(record);
        item.record = record;
        item.base = raw.baseOf();
        item.creator = raw.linkOf();
        item.createdAt = raw.timeOf();
        return raw.previousOf();
    }

    // ------------------------------------------------------------------------------------------------ small parts

    function _mergeSalt(bytes32 result) private pure returns (bytes32) {
        return keccak256(abi.encode("Merge", result));
    }

    function _loadStart(bytes32 id) private view returns (bytes memory) {
        return RecordBytes.load(_recordAccount(id), WITH_BASE);
    }

    /// @dev The base of what a version was merged from; zero if it was not.
    function _mergeBase(bytes32 result) private view returns (bytes32 base) {
        bytes memory raw = _loadStart(_mergeSalt(result));
        if (raw.length != 0) base = raw.baseOf();
    }

    /// @dev An id from outside may be the salt of a merge: there is a record, but no LoRA.
    function _requireLoRA(bytes32 loraId, uint256 limit) private view returns (bytes memory raw) {
        raw = RecordBytes.load(_recordAccount(loraId), limit);
        if (!raw.isLoRA()) revert UnknownLoRA(loraId);
    }

    function _requireOwner(bytes32 modelId) private view {
        if (msg.sender != registry.ownerOf(modelId)) revert IModelRegistry.NotOwner(modelId, msg.sender);
    }

    /// @dev Flagged stops nobody.
    function _requireGood(bytes32 id, IModeration.Status status) private pure {
        if (status >= IModeration.Status.Quarantined) revert NotInGoodStanding(id, status);
    }

    function _worse(IModeration.Status a, IModeration.Status b) private pure returns (IModeration.Status) {
        return a > b ? a : b;
    }
}
