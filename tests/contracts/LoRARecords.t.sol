// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {LoRATest} from "./LoRATest.sol";
import {IModelRegistry} from "./RegistryTest.sol";

/// Looks like a record of the registry and is none.
contract Forged {
    constructor(bytes memory code) {
        assembly {
            return(add(code, 32), mload(code))
        }
    }
}

/// Everything there is, without a log.
contract LoRARecordsTest is LoRATest {
    function testNothingYet() public view {
        (address newest, uint256 count) = loras.head();
        eq(newest, address(0));
        eq(count, 0);
        (ILoRARegistry.Item[] memory items, address next) = loras.records(address(0), 10);
        eq(items.length, 0);
        eq(next, address(0));
    }

    /// LoRAs of two creators and merges in any order: the walk from the head has all of them, whatever the page's size.
    function testFuzzAWalkIsComplete(uint256 seed, uint8 page) public {
        bytes32[] memory expected = new bytes32[](24);
        bytes32 last;
        for (uint256 i; i < expected.length; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            if (seed % 3 == 0 && last != 0) {
                expected[i] = publish(string.concat("m", vm.toString(i)));
                merge(expected[i], abi.encodePacked(last, uint16(10_000)));
            } else {
                address by = seed % 2 == 0 ? creator : buyer;
                bytes memory payload = lora(vm.toString(i));
                vm.prank(by);
                expected[i] = last = loras.registerLoRA(by, payload);
            }
            skip(3 hours);
        }
        requireWalk(expected, uint256(page) % 30 + 1);
    }

    function requireWalk(bytes32[] memory expected, uint256 limit) private view {
        (address next, uint256 left) = loras.head();
        eq(left, expected.length);
        while (next != address(0)) {
            ILoRARegistry.Item[] memory items;
            (items, next) = loras.records(next, limit);
            require(items.length != 0 && items.length <= limit);
            for (uint256 i; i < items.length; ++i) requireItem(items[i], expected[--left]);
        }
        eq(left, 0);
    }

    function requireItem(ILoRARegistry.Item memory item, bytes32 id) private view {
        eq(item.id, id);
        eq(item.base, loras.baseOf(id));
        if (item.kind == ILoRARegistry.Kind.LoRA) {
            ILoRARegistry.LoRA memory one = loras.getLoRA(id);
            require(item.record == one.record && item.creator == one.creator && item.createdAt == one.createdAt);
            eq(item.name, one.name);
            eq(item.version, one.version);
        } else {
            ILoRARegistry.Merge memory merged = loras.getMerge(id);
            require(item.record == merged.record && item.creator == publisher && item.createdAt == merged.createdAt);
            require(bytes(item.name).length == 0 && bytes(item.version).length == 0);
        }
    }

    function testAPageEndsAtFiveHundred() public {
        for (uint256 i; i < 502; ++i) {
            if (i % 10 == 0) skip(1 days);
            register(vm.toString(i));
        }
        (ILoRARegistry.Item[] memory items, address next) = loras.records(address(0), type(uint256).max);
        eq(items.length, 500);
        eq(items[0].version, "501");
        (items, next) = loras.records(next, 500);
        eq(items.length, 2);
        eq(items[1].version, "0");
        eq(next, address(0));
    }

    function testALimitOfZeroSaysWhereItStands() public {
        register("0.1.0");
        (ILoRARegistry.Item[] memory items, address next) = loras.records(address(0), 0);
        eq(items.length, 0);
        (address newest,) = loras.head();
        eq(next, newest);
    }

    function testWhatIsNoRecordOfThisRegistryIsNoCursor() public {
        bytes32 id = register("0.1.0");
        address record = loras.getLoRA(id).record;
        bytes memory code = record.code;
        refuseCursor(address(new Forged(code))); // the same bytes at another address
        refuseCursor(address(registry));
        refuseCursor(stranger);
        refuseCursor(registry.getVersion(base).record);
        refuseCursor(address(new Forged(bytes.concat(hex"0001", new bytes(44)))));
        refuseCursor(address(new Forged(bytes.concat(hex"0002", new bytes(45)))));
        refuseCursor(address(new Forged(bytes.concat(hex"0001", new bytes(77), hex"ff"))));
        (, address next) = loras.records(record, 1);
        eq(next, address(0));
    }

    function refuseCursor(address cursor) private {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, cursor));
        loras.records(cursor, 1);
    }

    function testCallsToTheRegistrysFallbackAreRefused() public {
        (bool done,) = address(loras).call("");
        require(!done);
        (done,) = address(loras).call{value: 0}(hex"12345678");
        require(!done);
        register("0.1.0");
        (done,) = address(loras).call("");
        require(!done);
    }
}
