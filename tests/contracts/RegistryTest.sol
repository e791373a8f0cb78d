// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";

/// The part of the test runner's cheat codes that these tests use.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function addr(uint256 key) external pure returns (address);
    function assume(bool condition) external pure;
    function chainId(uint256 id) external;
    function expectEmit(address emitter) external;
    function expectRevert(bytes calldata data) external;
    function getCode(string calldata name) external view returns (bytes memory);
    function getRecordedLogs() external returns (Log[] memory);
    function prank(address sender) external;
    function recordLogs() external;
    function roll(uint256 number) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function toString(uint256 value) external pure returns (string memory);
    function warp(uint256 time) external;
}

/// What the tests of each action share: actors, a registry, and a payload encoder that is as plain as the layout.
abstract contract RegistryTest {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    string internal constant NAME = "tiny-llama";
    bytes4 internal constant FREE = 0;
    uint256 internal constant START = 1_800_000_000;

    uint256 internal publisherKey = 0xA11CE;
    address internal publisher = vm.addr(0xA11CE);
    address internal stranger = vm.addr(0xBAD);
    address internal buyer = vm.addr(0xB0B);

    ModelRegistry internal registry;
    bytes32 internal modelId;

    function setUp() public virtual {
        vm.warp(START);
        registry = ModelRegistry(create("ModelRegistry", ""));
        modelId = keccak256(abi.encode(publisher, NAME));
    }

    /// Creates a contract of ours from its own compilation. `new` would put its code into each of some thirty tests, and
    /// the compiler would make and optimise it thirty times.
    function create(string memory name, bytes memory arguments) internal returns (address payable made) {
        uint256 free;
        assembly ("memory-safe") {
            free := mload(0x40)
        }
        bytes memory code = bytes.concat(vm.getCode(string.concat(name, ".sol:", name)), arguments);
        assembly ("memory-safe") {
            made := create(0, add(code, 32), mload(code))
            mstore(0x40, free) // a test that begins anew a thousand times must not keep a thousand copies
        }
        require(made != address(0), string.concat(name, " was not created"));
    }

    // ------------------------------------------------------------------------------------------------- payloads

    function text(string memory value) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(bytes(value).length), value);
    }

    function key(uint8 format, string memory quantization, string memory target) internal pure returns (bytes memory) {
        uint8 lengths = uint8(bytes(quantization).length << 4 | bytes(target).length);
        return abi.encodePacked(format, lengths, quantization, target);
    }

    function variant(uint8 format, string memory quantization, string memory target, uint256 seed)
        internal
        pure
        returns (bytes memory)
    {
        bytes32 cid = keccak256(abi.encode("cid", seed));
        bytes32 digest = keccak256(abi.encode("sha", seed));
        uint48 size = uint48(uint256(cid)) | 1;
        return abi.encodePacked(key(format, quantization, target), uint8(0x70), size, cid, digest);
    }

    function four(uint256 seed) internal pure returns (bytes memory) {
        return abi.encodePacked(
            variant(1, "", "", seed),
            variant(2, "Q4_K_M", "", seed + 1),
            variant(3, "4bit", "", seed + 2),
            variant(4, "fp8", "sm90", seed + 3)
        );
    }

    function release(string memory name, bytes32 manifest, bytes4 price, string memory version, bytes memory variants)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked(text(name), manifest, price, text(version), text("apache-2.0"), variants);
    }

    function release(string memory version) internal pure returns (bytes memory) {
        return release(NAME, manifestOf(version), FREE, version, four(uint256(manifestOf(version))));
    }

    function addition(string memory manifest, bytes memory variants) internal pure returns (bytes memory) {
        return abi.encodePacked(manifestOf(manifest), variants);
    }

    function manifestOf(string memory version) internal pure returns (bytes32) {
        return keccak256(bytes(version)); // no sha256: calling a precompile would use up a prank
    }

    // --------------------------------------------------------------------------------------------------- actions

    function versionIdOf(string memory version) internal view returns (bytes32) {
        return keccak256(abi.encode(modelId, version));
    }

    function publish(string memory version) internal returns (bytes32) {
        vm.prank(publisher);
        return registry.publish(publisher, release(version), "");
    }

    function publishExpecting(bytes memory payload, bytes memory failure) internal {
        vm.prank(publisher);
        vm.expectRevert(failure);
        registry.publish(publisher, payload, "");
    }

    /// Hands the model to `buyer`.
    function transfer() internal {
        vm.prank(publisher);
        registry.transferModel(publisher, NAME, buyer);
        vm.prank(buyer);
        registry.acceptModel(modelId);
    }

    // ---------------------------------------------------------------------------------------------------- checks

    function eq(uint256 a, uint256 b) internal pure {
        require(a == b, "numbers differ");
    }

    function eq(bytes32 a, bytes32 b) internal pure {
        require(a == b, "words differ");
    }

    function eq(address a, address b) internal pure {
        require(a == b, "addresses differ");
    }

    function eq(string memory a, string memory b) internal pure {
        require(keccak256(bytes(a)) == keccak256(bytes(b)), string.concat("texts differ: ", a, " / ", b));
    }

    function fail(bytes4 selector) internal pure returns (bytes memory) {
        return abi.encodePacked(selector);
    }

    function fail(bytes4 selector, uint256 a) internal pure returns (bytes memory) {
        return abi.encodePacked(selector, a);
    }

    function fail(bytes4 selector, bytes32 a) internal pure returns (bytes memory) {
        return abi.encodePacked(selector, a);
    }

    function fail(bytes4 selector, bytes32 a, address b) internal pure returns (bytes memory) {
        return abi.encodePacked(selector, abi.encode(a, b));
    }
}
