// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {ChangeLog} from "./ChangeLog.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {Alias} from "./libraries/Alias.sol";
import {Chain} from "./libraries/Chain.sol";
import {Ids} from "./libraries/Ids.sol";
import {Payload} from "./libraries/Payload.sol";
import {RecordAccounts} from "./libraries/RecordAccounts.sol";
import {RecordLayout} from "./libraries/RecordLayout.sol";
import {Text} from "./libraries/Text.sol";

/// @title The registry of models
/// @notice What it promises stands in IModelRegistry. It has no owner, no settings and no way to be changed.
contract ModelRegistry is IModelRegistry, ChangeLog, RecordAccounts, EIP712 {
    bytes32 private constant PUBLISH_TYPEHASH =
        keccak256("Publish(address publisher,bytes release,string aliasName,uint256 nonce,uint256 deadline)");
    bytes32 private constant NO_REPLACEMENT = bytes32(uint256(1));
    uint256 private constant MAX_RECORDS = 16;
    uint256 private constant MAX_PAGE = 500;

    /// @dev All records.
    Chain private _head;
    /// @dev The releases of a model; marked once it was transferred. Until then the publisher owns it. Their count is the
    /// nonce of signed requests, which so costs nothing.
    mapping(bytes32 modelId => Chain) private _models;
    mapping(bytes32 modelId => address) private _owners;
    mapping(bytes32 modelId => address) private _pendingOwners;
    /// @dev A version and an alias of the same name have the same id, so that a look shows whether a name is taken.
    mapping(bytes32 nameId => Alias) private _aliases;
    mapping(bytes32 versionId => bytes32) private _replacements;

    constructor() EIP712("Citrate", "1") {}

    // --------------------------------------------------------------------------------------------------- writing

    /// @inheritdoc IModelRegistry
    function publish(address publisher, bytes calldata release, string calldata aliasName) external returns (bytes32) {
        return _publish(publisher, release, aliasName, msg.sender);
    }

    /// @inheritdoc IModelRegistry
    function publishBySig(
        address publisher,
        bytes calldata release,
        string calldata aliasName,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32) {
        if (block.timestamp > deadline) revert Expired(deadline);
        bytes32 modelId = Ids.modelId(publisher, Payload.nameOf(release));
        Chain model = _models[modelId];
        address signer = _owner(modelId, publisher, model);
        uint256 nonce = model.count();
        bytes32 request = keccak256(
            abi.encode(PUBLISH_TYPEHASH, publisher, keccak256(release), keccak256(bytes(aliasName)), nonce, deadline)
        );
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, _hashTypedDataV4(request), signature)) {
            revert InvalidSignature(signer, nonce);
        }
        return _publish(publisher, release, aliasName, signer);
    }

    /// @inheritdoc IModelRegistry
    function addVariants(address publisher, string calldata name, string calldata version, bytes calldata addition)
        external
        returns (address record)
    {
        bytes32 modelId = _requireOwner(publisher, name);
        bytes32 versionId = Ids.nameId(modelId, bytes(version));
        Payload.checkAddition(addition);
        address[] memory earlier = _recordsOf(versionId);
        if (earlier.length == MAX_RECORDS) revert TooManyRecords(versionId);
        for (uint256 i; i < earlier.length; ++i) RecordLayout.requireDisjoint(addition, earlier[i]);
        RecordLayout.Draft memory draft = RecordLayout.Draft(Kind.Addition, earlier[0], address(0), "");
        if (msg.sender != publisher) draft.sender = msg.sender;
        record = _append(_saltOf(versionId, earlier.length), draft, addition);
        emit VariantsAdded(modelId, versionId, record);
    }

    /// @inheritdoc IModelRegistry
    function setAlias(address publisher, string calldata name, string calldata aliasName, string calldata version)
        external
    {
        bytes32 modelId = _requireOwner(publisher, name);
        bytes32 versionId = Ids.nameId(modelId, bytes(version));
        _setAlias(modelId, versionId, _requireVersion(versionId), aliasName);
    }

    /// @inheritdoc IModelRegistry
    function deprecate(address publisher, string calldata name, string calldata version, bytes32 replacement) external {
        bytes32 modelId = _requireOwner(publisher, name);
        bytes32 versionId = Ids.nameId(modelId, bytes(version));
        _requireVersion(versionId);
        if (replacement == versionId) revert InvalidReplacement(versionId);
        if (replacement != 0) _readRelease(replacement);
        _replacements[versionId] = replacement == 0 ? NO_REPLACEMENT : replacement;
        _log(Deprecated.selector, modelId, versionId, abi.encode(replacement));
    }

    /// @inheritdoc IModelRegistry
    function transferModel(address publisher, string calldata name, address to) external {
        bytes32 modelId = _requireOwner(publisher, name);
        _pendingOwners[modelId] = to;
        _log(TransferStarted.selector, modelId, _topic(msg.sender), _topic(to), "");
    }

    /// @inheritdoc IModelRegistry
    function acceptModel(bytes32 modelId) external {
        if (_pendingOwners[modelId] != msg.sender) revert NotPendingOwner(modelId, msg.sender);
        delete _pendingOwners[modelId];
        _owners[modelId] = msg.sender;
        _models[modelId] = _models[modelId].mark();
        _log(Transferred.selector, modelId, _topic(msg.sender), "");
    }

    // --------------------------------------------------------------------------------------------------- reading

    /// @inheritdoc IModelRegistry
    function resolve(address publisher, string calldata name, string calldata aliasOrVersion)
        external
        view
        returns (bytes32)
    {
        bytes32 modelId = Ids.modelId(publisher, bytes(name));
        Chain model = _requireModel(modelId);
        if (Text.isLatest(bytes(aliasOrVersion))) return _latest(modelId, model.newest());
        bytes32 nameId = Ids.nameId(modelId, bytes(aliasOrVersion));
        if (_exists(nameId)) return nameId;
        Alias found = _aliases[nameId];
        if (found.changes() == 0) revert UnknownAlias(modelId, aliasOrVersion);
        return _versionId(modelId, found.release());
    }

    /// @inheritdoc IModelRegistry
    function getVersion(bytes32 versionId) external view returns (Version memory v) {
        RecordLayout.Record memory release = _readRelease(versionId);
        address[] memory accounts = _recordsOf(versionId);
        (v.modelId, v.publisher, v.name) = _modelOf(release);
        v.owner = _owner(v.modelId, v.publisher, _models[v.modelId]);
        v.version = release.version;
        v.licence = release.licence;
        v.priceWei = release.priceWei;
        v.createdAt = release.time;
        v.record = accounts[0];
        bytes32 replacement = _replacements[versionId];
        v.deprecated = replacement != 0;
        if (replacement != NO_REPLACEMENT) v.replacement = replacement;
        v.manifests = new bytes32[](accounts.length);
        v.senders = new address[](accounts.length);
        for (uint256 i; i < accounts.length; ++i) {
            RecordLayout.Record memory r = RecordLayout.read(accounts[i]);
            v.manifests[i] = r.manifest;
            v.senders[i] = r.sender == address(0) ? v.publisher : r.sender;
        }
    }

    /// @inheritdoc IModelRegistry
    function termsOf(bytes32 versionId)
        external
        view
        returns (bytes32 modelId, address owner, uint256 priceWei, bool deprecated)
    {
        bytes memory release = _loadRelease(versionId);
        (owner, modelId) = RecordLayout.modelOf(release);
        owner = _owner(modelId, owner, _models[modelId]);
        return (modelId, owner, RecordLayout.priceOf(release), _replacements[versionId] != 0);
    }

    /// @inheritdoc IModelRegistry
    function contentOf(bytes32 versionId)
        external
        view
        returns (bytes32 modelId, bool deprecated, bytes32 contentDigest)
    {
        bytes memory release = _loadRelease(versionId);
        (, modelId) = RecordLayout.modelOf(release);
        return (modelId, _replacements[versionId] != 0, RecordLayout.firstDigest(release));
    }

    /// @inheritdoc IModelRegistry
    function getVariants(bytes32 versionId) external view returns (Variant[] memory) {
        _readRelease(versionId);
        return RecordLayout.readVariants(_recordsOf(versionId));
    }

    /// @inheritdoc IModelRegistry
    function aliasOf(bytes32 modelId, string calldata aliasName)
        external
        view
        returns (bytes32 versionId, string memory version, uint256 changedAtBlock, uint256 changes)
    {
        Alias found = _aliases[Ids.nameId(modelId, bytes(aliasName))];
        if (found.changes() == 0) revert UnknownAlias(modelId, aliasName);
        version = RecordLayout.read(found.release()).version;
        return (_nameId(modelId, version), version, found.changedAtBlock(), found.changes());
    }

    /// @inheritdoc IModelRegistry
    function ownerOf(bytes32 modelId) external view returns (address) {
        Chain model = _requireModel(modelId);
        (, address publisher,) = _modelOf(RecordLayout.read(model.newest()));
        return _owner(modelId, publisher, model);
    }

    /// @inheritdoc IModelRegistry
    function pendingOwnerOf(bytes32 modelId) external view returns (address) {
        return _pendingOwners[modelId];
    }

    /// @inheritdoc IModelRegistry
    function nonceOf(bytes32 modelId) external view returns (uint256) {
        return _models[modelId].count();
    }

    /// @inheritdoc IModelRegistry
    function head() external view returns (address record, uint256 count) {
        return (_head.newest(), _head.count());
    }

    /// @inheritdoc IModelRegistry
    function records(address cursor, uint256 limit) external view returns (Item[] memory, address) {
        return _walk(cursor == address(0) ? _head.newest() : cursor, limit);
    }

    /// @inheritdoc IModelRegistry
    function models(address cursor, uint256 limit) external view returns (Item[] memory, address) {
        return _walk(cursor == address(0) ? _head.newest() : cursor, limit);
    }

    /// @inheritdoc IModelRegistry
    function versions(bytes32 modelId, address cursor, uint256 limit)
        external
        view
        returns (Item[] memory items, address next)
    {
        (items, next) = _walk(cursor == address(0) ? _requireModel(modelId).newest() : cursor, limit);
        if (items.length == 0) return (items, next);
        if (items[0].modelId != modelId || items[0].kind == Kind.Addition) revert UnknownRecord(cursor);
    }

    // -------------------------------------------------------------------------------------------------- the core

    function _publish(address publisher, bytes calldata release, string calldata aliasName, address by)
        private
        returns (bytes32 versionId)
    {
        bytes32 modelId;
        uint256 nameEnd;
        (modelId, versionId, nameEnd) = Payload.checkRelease(publisher, release);
        Chain model = _models[modelId];
        if (by != _owner(modelId, publisher, model)) revert NotOwner(modelId, by);
        RecordLayout.Draft memory draft = RecordLayout.Draft(Kind.FirstRelease, publisher, address(0), "");
        if (by != publisher) draft.sender = by;
        if (model.count() != 0) {
            _requireFree(model, versionId);
            draft.kind = Kind.Release;
            (draft.link, draft.lead) = RecordLayout.follow(model.newest());
            release = release[nameEnd:];
        }
        address record = _append(versionId, draft, release);
        _models[modelId] = model.append(record);
        emit Published(modelId, versionId, record);
        if (bytes(aliasName).length != 0) _setAlias(modelId, versionId, record, aliasName);
    }

    function _append(bytes32 salt, RecordLayout.Draft memory draft, bytes calldata rest) private returns (address record) {
        Chain all = _head;
        record = _createRecord(salt, RecordLayout.encode(all.newest(), draft, rest));
        if (record == address(0)) revert VersionTaken(salt);
        _head = all.append(record);
    }

    /// @dev The usual collision, a release sent twice, is found here for nothing; the others in `_append`, where
    /// CREATE2 has taken the gas, because a look at an account that is not the model's newest costs every release 2,600.
    function _requireFree(Chain model, bytes32 versionId) private view {
        if (model.newest() == _recordAccount(versionId)) revert VersionTaken(versionId);
        if (_aliases[versionId].changes() != 0) revert NameTaken(versionId);
    }

    function _setAlias(bytes32 modelId, bytes32 versionId, address release, string calldata aliasName) private {
        if (Text.isLatest(bytes(aliasName))) revert ReservedName();
        if (!Text.isName(bytes(aliasName), 32, false)) revert InvalidAlias(aliasName);
        bytes32 aliasId = Ids.nameId(modelId, bytes(aliasName));
        Alias before = _aliases[aliasId];
        if (before.changes() == 0 && _exists(aliasId)) revert NameTaken(aliasId);
        Alias moved = before.moveTo(release);
        _aliases[aliasId] = moved;
        bytes memory data = abi.encode(aliasName, before.changedAtBlock(), moved.changes());
        _log(AliasSet.selector, modelId, versionId, data);
    }

    /// @dev What `records`, `models` and `versions` have in common; it looks at which of them was called, because the
    /// compiler would make three copies of it for three values of an argument.
    function _walk(address cursor, uint256 limit) private view returns (Item[] memory items, address next) {
        if (limit > MAX_PAGE) limit = MAX_PAGE;
        items = new Item[](limit);
        uint256 used;
        unchecked {
            for (next = cursor; limit != 0 && next != address(0); --limit) {
                RecordLayout.Record memory r = RecordLayout.read(next);
                Item memory item = items[used];
                _describe(next, r, item);
                if (msg.sig != this.models.selector || r.kind == Kind.FirstRelease) ++used;
                next = msg.sig == this.versions.selector ? _before(item.modelId, r) : r.previous;
            }
        }
        assembly ("memory-safe") {
            mstore(items, used)
        }
    }

    function _describe(address record, RecordLayout.Record memory r, Item memory item) private view {
        item.record = record;
        item.kind = r.kind;
        item.createdAt = r.time;
        if (r.kind == Kind.Addition) r = RecordLayout.read(r.link);
        (item.modelId, item.publisher, item.name) = _modelOf(r);
        item.version = r.version;
        item.versionId = _nameId(item.modelId, r.version);
        _requireRecordOf(item.versionId, record);
        item.deprecated = _replacements[item.versionId] != 0;
    }

    // ------------------------------------------------------------------------------------------------ small parts

    function _nameId(bytes32 modelId, string memory name) private pure returns (bytes32) {
        return keccak256(abi.encode(modelId, name));
    }

    /// @dev The salt of a version's k-th record.
    function _saltOf(bytes32 versionId, uint256 k) private pure returns (bytes32) {
        return k == 0 ? versionId : keccak256(abi.encode(versionId, k));
    }

    function _owner(bytes32 modelId, address publisher, Chain model) private view returns (address) {
        return model.isMarked() ? _owners[modelId] : publisher;
    }

    function _requireOwner(address publisher, string calldata name) private view returns (bytes32 modelId) {
        modelId = Ids.modelId(publisher, bytes(name));
        Chain model = _requireModel(modelId);
        if (msg.sender != _owner(modelId, publisher, model)) revert NotOwner(modelId, msg.sender);
    }

    function _requireModel(bytes32 modelId) private view returns (Chain model) {
        model = _models[modelId];
        if (model.count() == 0) revert UnknownModel(modelId);
    }

    function _requireVersion(bytes32 versionId) private view returns (address release) {
        release = _recordAccount(versionId);
        if (release.code.length == 0) revert UnknownVersion(versionId);
    }

    function _readRelease(bytes32 versionId) private view returns (RecordLayout.Record memory) {
        return RecordLayout.decode(_loadRelease(versionId));
    }

    /// @dev An id from outside may be the salt of an addition: there is a record, but no version.
    function _loadRelease(bytes32 versionId) private view returns (bytes memory release) {
        release = RecordLayout.loadRelease(_recordAccount(versionId));
        if (!RecordLayout.isRelease(release)) revert UnknownVersion(versionId);
    }

    /// @dev A cursor comes from outside: what is not a record of this registry must not be read as one.
    function _requireRecordOf(bytes32 versionId, address record) private view {
        for (uint256 k; k < MAX_RECORDS; ++k) if (_recordAccount(_saltOf(versionId, k)) == record) return;
        revert UnknownRecord(record);
    }

    /// @dev Every record of a version, its release first.
    function _recordsOf(bytes32 versionId) private view returns (address[] memory list) {
        unchecked {
            list = new address[](MAX_RECORDS);
            uint256 used;
            for (; used < MAX_RECORDS; ++used) {
                list[used] = _recordAccount(_saltOf(versionId, used));
                if (list[used].code.length == 0) break;
            }
            if (used == 0) revert UnknownVersion(versionId);
            assembly ("memory-safe") {
                mstore(list, used)
            }
        }
    }

    /// @dev The model of a release: its publisher and name stand in the model's first record.
    function _modelOf(RecordLayout.Record memory release)
        private
        view
        returns (bytes32 modelId, address publisher, string memory name)
    {
        RecordLayout.Record memory first = release;
        if (release.kind == Kind.Release) first = RecordLayout.read(release.link);
        (publisher, name) = (first.link, first.lead);
        modelId = keccak256(abi.encode(publisher, name));
    }

    /// @dev The release of the same model before `release`; 0 if that was the first.
    function _before(bytes32 modelId, RecordLayout.Record memory release) private view returns (address) {
        return release.kind == Kind.Release ? _recordAccount(_nameId(modelId, release.lead)) : address(0);
    }

    function _versionId(bytes32 modelId, address release) private view returns (bytes32) {
        return _nameId(modelId, RecordLayout.read(release).version);
    }

    function _latest(bytes32 modelId, address newest) private view returns (bytes32 versionId) {
        for (address release = newest; release != address(0);) {
            RecordLayout.Record memory r = RecordLayout.read(release);
            versionId = _nameId(modelId, r.version);
            if (_replacements[versionId] == 0) return versionId;
            release = _before(modelId, r);
        }
        return _versionId(modelId, newest);
    }
}
