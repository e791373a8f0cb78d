// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ChangeLog} from "../../contracts/ChangeLog.sol";
import {Folding} from "./Folding.sol";
import {RegistryTest, Vm} from "./RegistryTest.sol";

/// Logs of every shape.
contract Changes is ChangeLog {
    function one(bytes32 selector, bytes32 a, bytes memory data) external {
        _log(selector, a, data);
    }

    function two(bytes32 selector, bytes32 a, bytes32 b, bytes memory data) external {
        _log(selector, a, b, data);
    }

    function three(bytes32 selector, bytes32 a, bytes32 b, bytes32 c, bytes memory data) external {
        _log(selector, a, b, c, data);
    }

    /// Memory in use before and after the log stays as it is.
    function between(bytes32 selector, bytes memory data) external returns (bytes memory before, bytes memory behind) {
        before = bytes.concat(data, "before");
        _log(selector, selector, data);
        behind = bytes.concat(data, "behind");
    }

    function topicOfDirty(uint256 dirt) external pure returns (bytes32) {
        address account;
        assembly {
            account := or(shl(160, dirt), 0x1111)
        }
        return _topic(account);
    }
}

contract ChangeLogTest is RegistryTest, Folding {
    Changes private changes;

    function setUp() public override {
        super.setUp();
        changes = new Changes();
    }

    function testNothingChangedIsZero() public view {
        eq(changes.changeRoot(), 0);
        eq(registry.changeRoot(), 0);
    }

    function testFuzzLogsOfEveryShapeFold(bytes32 s, bytes32 a, bytes32 b, bytes32 c, bytes memory data) public {
        vm.assume(!isOfRecord(s));
        vm.recordLogs();
        changes.one(s, a, data);
        changes.two(s, a, b, data);
        changes.three(s, a, b, c, data);
        changes.one(s, a, "");
        changes.three(s, a, b, c, "");
        requireFolded(changes, 0, 5);
    }

    function testFuzzTheLogIsWhatWasSaid(bytes32 s, bytes32 a, bytes32 b, bytes32 c, bytes memory data) public {
        vm.recordLogs();
        changes.one(s, a, data);
        requireLog(abi.encodePacked(s, a), data);
        changes.two(s, a, b, data);
        requireLog(abi.encodePacked(s, a, b), data);
        changes.three(s, a, b, c, data);
        requireLog(abi.encodePacked(s, a, b, c), data);
    }

    function requireLog(bytes memory topics, bytes memory data) private {
        bytes memory found;
        Vm.Log[] memory logs = vm.getRecordedLogs();
        require(logs.length == 1, "not one log");
        for (uint256 i; i < logs[0].topics.length; ++i) found = bytes.concat(found, logs[0].topics[i]);
        require(keccak256(found) == keccak256(topics), "topics differ");
        require(keccak256(logs[0].data) == keccak256(data), "data differs");
    }

    function testFuzzMemoryStaysAsItIs(bytes32 s, bytes memory data) public {
        (bytes memory before, bytes memory behind) = changes.between(s, data);
        require(keccak256(before) == keccak256(bytes.concat(data, "before")));
        require(keccak256(behind) == keccak256(bytes.concat(data, "behind")));
    }

    function testFuzzDirtyAddressBitsDoNotReachATopic(uint96 dirt) public view {
        eq(changes.topicOfDirty(dirt), bytes32(uint256(0x1111)));
    }

    /// A log left out, doubled or moved gives another root.
    function testOrderAndNumberCount() public {
        changes.one("a", "b", "c");
        changes.one("d", "e", "f");
        bytes32 root = changes.changeRoot();
        Changes other = new Changes();
        other.one("d", "e", "f");
        other.one("a", "b", "c");
        require(other.changeRoot() != root);
        other = new Changes();
        other.one("a", "b", "c");
        require(other.changeRoot() != root);
        other.one("d", "e", "f");
        eq(other.changeRoot(), root);
        other.one("d", "e", "f");
        require(other.changeRoot() != root);
    }

    function testReleasesAndAdditionsLeaveTheRootAlone() public {
        publish("1.0.0");
        vm.prank(publisher);
        registry.addVariants(publisher, NAME, "1.0.0", addition("more", variant(2, "Q8_0", "", 9)));
        eq(registry.changeRoot(), 0);
    }

    function testAliasesFold() public {
        vm.recordLogs();
        vm.prank(publisher);
        registry.publish(publisher, release("1.0.0"), "staging");
        publish("1.1.0");
        vm.prank(publisher);
        registry.setAlias(publisher, NAME, "a-name-of-exactly-32-characters.", "1.0.0");
        vm.prank(publisher);
        registry.setAlias(publisher, NAME, "staging", "1.1.0");
        requireFolded(registry, 0, 3);
    }

    function testDeprecationsFold() public {
        publish("1.0.0");
        publish("1.1.0");
        vm.recordLogs();
        vm.prank(publisher);
        registry.deprecate(publisher, NAME, "1.0.0", 0);
        vm.prank(publisher);
        registry.deprecate(publisher, NAME, "1.0.0", versionIdOf("1.1.0"));
        requireFolded(registry, 0, 2);
    }

    function testTransfersFold() public {
        publish("1.0.0");
        vm.recordLogs();
        transfer();
        bytes32 root = registry.changeRoot();
        requireFolded(registry, 0, 2);
        vm.prank(buyer);
        registry.transferModel(publisher, NAME, publisher);
        vm.prank(buyer);
        registry.transferModel(publisher, NAME, address(0));
        requireFolded(registry, root, 2);
    }

    function testRefusedChangeLeavesTheRootAlone() public {
        publish("1.0.0");
        vm.prank(stranger);
        (bool done,) =
            address(registry).call(abi.encodeCall(registry.setAlias, (publisher, NAME, "prod", "1.0.0")));
        require(!done);
        eq(registry.changeRoot(), 0);
    }
}
