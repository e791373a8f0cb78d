// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LoRARegistry} from "../../contracts/LoRARegistry.sol";
import {Policy} from "../../contracts/Policy.sol";
import {TrainingLedger} from "../../contracts/TrainingLedger.sol";
import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {Folding} from "./Folding.sol";
import {RegistryTest} from "./RegistryTest.sol";

/// A moderation that says what a test wants; the real one is tested with its own cases.
contract Standings {
    mapping(bytes32 id => IModeration.Status) public statusOf;

    function set(bytes32 id, IModeration.Status status) external {
        statusOf[id] = status;
    }
}

/// What the tests of LoRAs share: the contracts, a creator, and a payload encoder that is as plain as the layout.
/// `time` is kept here, because a compiler may read the block's only once in a function.
abstract contract LoRATest is RegistryTest, Folding {
    struct Fields {
        bytes32 digest;
        bytes32 base;
        string name;
        string version;
        string licence;
        uint8 codec;
        uint32 size;
        bytes32 cid;
        bytes32 sha;
        uint16 rank;
        uint32 alpha;
        uint16 modules;
        string others;
        uint32 steps;
        bytes training;
    }

    uint256 internal creatorKey = 0xC4EA704;
    address internal creator = vm.addr(0xC4EA704);
    address internal authority = vm.addr(0xA07);
    address internal timelock = vm.addr(0x71E);
    uint256 internal time = START;

    TrainingLedger internal ledger;
    Policy internal policy;
    LoRARegistry internal loras;
    bytes32 internal base;

    function setUp() public virtual override {
        super.setUp();
        vm.roll(1_000);
        ledger = TrainingLedger(create("TrainingLedger", ""));
        policy = Policy(create("Policy", abi.encode(authority, timelock)));
        loras = LoRARegistry(create("LoRARegistry", abi.encode(registry, ledger, policy)));
        base = publish("1.0.0");
    }

    // ------------------------------------------------------------------------------------------------- payloads

    function contentOf(bytes32 version) internal view returns (bytes32) {
        return registry.getVariants(version)[0].sha256Digest;
    }

    /// A LoRA with nothing unusual; digests follow from its version.
    function fields(string memory version) internal view returns (Fields memory f) {
        f.digest = contentOf(base);
        f.base = base;
        f.name = "support-dpo";
        f.version = version;
        f.licence = "apache-2.0";
        f.codec = 0x70;
        f.size = 83_951_104;
        f.cid = keccak256(abi.encode("lora cid", version));
        f.sha = keccak256(abi.encode("lora sha", version));
        f.rank = 16;
        f.alpha = 32_000;
        f.modules = 5;
        f.steps = 1_200;
        f.training = hex"00";
    }

    function pack(Fields memory f) internal pure returns (bytes memory) {
        bytes memory names = abi.encodePacked(f.digest, f.base, text(f.name), text(f.version), text(f.licence));
        bytes memory content = abi.encodePacked(f.codec, f.size, f.cid, f.sha);
        return abi.encodePacked(names, content, f.rank, f.alpha, f.modules, text(f.others), f.steps, f.training);
    }

    function lora(string memory version) internal view returns (bytes memory) {
        return pack(fields(version));
    }

    function told(bytes32 dataset, bytes32 recipe, bytes32 proofRoot) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(1), dataset, recipe, proofRoot);
    }

    function byRun(uint64 runId) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(2), runId);
    }

    function loraIdOf(address who, string memory version) internal pure returns (bytes32) {
        return keccak256(abi.encode("LoRA", who, "support-dpo", version));
    }

    /// Two ids in the order in which they must stand.
    function ascending(bytes32 a, bytes32 b) internal pure returns (bytes32, bytes32) {
        return a < b ? (a, b) : (b, a);
    }

    /// Two parents with half the weight each.
    function halves(bytes32 a, bytes32 b) internal pure returns (bytes memory) {
        (a, b) = ascending(a, b);
        return abi.encodePacked(a, uint16(5_000), b, uint16(5_000));
    }

    // --------------------------------------------------------------------------------------------------- actions

    function send(bytes memory payload) internal returns (bytes32) {
        vm.prank(creator);
        return loras.registerLoRA(creator, payload);
    }

    function register(string memory version) internal returns (bytes32) {
        return send(lora(version));
    }

    function refuse(bytes memory payload, bytes memory failure) internal {
        vm.prank(creator);
        vm.expectRevert(failure);
        loras.registerLoRA(creator, payload);
    }

    function refuse(Fields memory f, bytes memory failure) internal {
        refuse(pack(f), failure);
    }

    function merge(bytes32 result, bytes memory parents) internal returns (address) {
        vm.prank(publisher);
        return loras.mergeLoRA(result, parents);
    }

    function refuseMerge(bytes32 result, bytes memory parents, bytes memory failure) internal {
        vm.prank(publisher);
        vm.expectRevert(failure);
        loras.mergeLoRA(result, parents);
    }

    /// Appoints a moderation that says what a test wants.
    function moderate() internal returns (Standings standings) {
        standings = new Standings();
        vm.prank(authority);
        policy.appoint(IModeration(address(standings)));
    }

    function setAcceptance(ILoRARegistry.Acceptance acceptance) internal {
        vm.prank(publisher);
        loras.setAcceptance(modelId, acceptance);
    }

    function skip(uint256 secondsLater) internal {
        time += secondsLater;
        vm.warp(time);
    }
}
