// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The registry of Strings.sol, written with care: digests are words, numbers share words
/// @notice What gas is compared with (bench/gas_others.py), never deployed. Of a CID its digest is kept, and its codec.
contract Words {
    struct Variant {
        bytes32 cidDigest;
        bytes32 sha256Digest;
        uint64 sizeBytes;
        uint8 codec;
        uint8 format;
        bytes15 quantization;
        bytes7 target;
    }

    struct Release {
        string name;
        string version;
        string licence;
        bytes32 manifest;
        uint256 priceWei;
        Variant[] variants;
    }

    struct LoRA {
        bytes32 base;
        bytes32 baseDigest;
        string name;
        string version;
        string licence;
        bytes32 cidDigest;
        bytes32 sha256Digest;
        uint64 sizeBytes;
        uint8 codec;
        uint32 rank;
        uint32 alpha;
        uint16 modules;
        uint32 steps;
        bytes32 dataset;
        bytes32 recipe;
        bytes32 proofRoot;
    }

    struct Author {
        address account;
        uint64 createdAt;
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
        authors[id] = Author(msg.sender, uint64(block.timestamp));
        versions[index].push(id);
        all.push(id);
        emit Registered(id, msg.sender);
    }
}
