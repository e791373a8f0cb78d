// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A registry that keeps all text and all digests as strings in storage
/// @notice What gas is compared with (bench/gas_others.py), never deployed. It keeps the data of a release and of a LoRA,
/// an index of each and nothing else: no checks of what is passed, no signatures, aliases, quota, moderation.
contract Strings {
    struct Variant {
        string format;
        string quantization;
        string target;
        string cid;
        string sha256Digest;
        uint256 sizeBytes;
    }

    struct Release {
        string name;
        string version;
        string licence;
        string manifest;
        uint256 priceWei;
        Variant[] variants;
    }

    struct LoRA {
        bytes32 base;
        string baseDigest;
        string name;
        string version;
        string licence;
        string cid;
        string sha256Digest;
        uint256 sizeBytes;
        uint256 rank;
        uint256 alpha;
        string targetModules;
        uint256 steps;
        string dataset;
        string recipe;
        string proofRoot;
    }

    struct Author {
        address account;
        uint256 createdAt;
    }

    error Exists(bytes32 id);
    error Unknown(bytes32 id);

    event Registered(bytes32 indexed id, address indexed account);

    mapping(bytes32 id => Author) public authors;
    mapping(bytes32 modelOrCreator => bytes32[]) public versions;
    bytes32[] public all;

    mapping(bytes32 id => Release) private _releases;
    mapping(bytes32 id => LoRA) private _loras;

    function publish(Release calldata release) external {
        bytes32 model = keccak256(abi.encode(msg.sender, release.name));
        bytes32 id = keccak256(abi.encode(model, release.version));
        _register(id, model);
        _releases[id] = release;
    }

    function registerLoRA(LoRA calldata lora) external {
        if (authors[lora.base].createdAt == 0) revert Unknown(lora.base);
        bytes32 id = keccak256(abi.encode("LoRA", msg.sender, lora.name, lora.version));
        _register(id, bytes32(uint256(uint160(msg.sender))));
        _loras[id] = lora;
    }

    function getRelease(bytes32 id) external view returns (Release memory) {
        return _releases[id];
    }

    function getLoRA(bytes32 id) external view returns (LoRA memory) {
        return _loras[id];
    }

    function _register(bytes32 id, bytes32 index) private {
        if (authors[id].createdAt != 0) revert Exists(id);
        authors[id] = Author(msg.sender, block.timestamp);
        versions[index].push(id);
        all.push(id);
        emit Registered(id, msg.sender);
    }
}
