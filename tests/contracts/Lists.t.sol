// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

contract ListsTest is RegistryTest {
    /// Two models, three releases and an addition, a minute apart.
    function _fill() private {
        publish("1.0.0");
        vm.warp(START + 60);
        bytes memory payload = release("other", "m", FREE, "0.1", four(1));
        vm.prank(stranger);
        registry.publish(stranger, payload, "");
        vm.warp(START + 120);
        publish("1.1.0");
        vm.warp(START + 180);
        vm.prank(publisher);
        registry.addVariants(publisher, NAME, "1.0.0", addition("two", variant(2, "Q8_0", "", 1)));
        vm.prank(publisher);
        registry.deprecate(publisher, NAME, "1.0.0", 0);
    }

    function testWalkFromTheHeadMissesNoRecord() public {
        _fill();
        (address newest, uint256 count) = registry.head();
        (IModelRegistry.Item[] memory items, address next) = registry.records(address(0), 500);
        eq(items.length, count);
        eq(count, 4);
        eq(next, address(0));
        eq(items[0].record, newest);
        require(items[0].kind == IModelRegistry.Kind.Addition);
        require(items[1].kind == IModelRegistry.Kind.Release);
        require(items[2].kind == IModelRegistry.Kind.FirstRelease);
        require(items[3].kind == IModelRegistry.Kind.FirstRelease);
        eq(items[0].versionId, versionIdOf("1.0.0"));
        eq(items[0].version, "1.0.0");
        eq(items[0].modelId, modelId);
        require(items[0].deprecated && items[3].deprecated && !items[1].deprecated);
        eq(items[1].versionId, versionIdOf("1.1.0"));
        eq(items[2].publisher, stranger);
        eq(items[2].name, "other");
        for (uint256 i; i < 4; ++i) eq(items[i].createdAt, START + 180 - 60 * i);
    }

    function testPagesJoinToTheWholeWhateverTheirSize() public {
        _fill();
        (IModelRegistry.Item[] memory all,) = registry.records(address(0), 500);
        for (uint256 limit = 1; limit < 6; ++limit) {
            uint256 seen;
            address cursor;
            do {
                IModelRegistry.Item[] memory page;
                (page, cursor) = registry.records(cursor, limit);
                for (uint256 i; i < page.length; ++i) eq(page[i].record, all[seen++].record);
            } while (cursor != address(0));
            eq(seen, all.length);
        }
    }

    function testModelsAreTheirFirstReleases() public {
        _fill();
        (IModelRegistry.Item[] memory items, address next) = registry.models(address(0), 500);
        eq(items.length, 2);
        eq(next, address(0));
        eq(items[0].name, "other");
        eq(items[1].name, NAME);
        eq(items[1].record, registry.getVersion(versionIdOf("1.0.0")).record);
        // two records looked at, none of them a first release
        (items, next) = registry.models(address(0), 2);
        eq(items.length, 0);
        (items,) = registry.models(next, 1);
        eq(items[0].name, "other");
    }

    function testVersionsOfAModelNewestFirst() public {
        _fill();
        (IModelRegistry.Item[] memory items, address next) = registry.versions(modelId, address(0), 500);
        eq(items.length, 2);
        eq(next, address(0));
        eq(items[0].version, "1.1.0");
        eq(items[1].version, "1.0.0");
        (items, next) = registry.versions(modelId, address(0), 1);
        eq(items.length, 1);
        (items, next) = registry.versions(modelId, next, 1);
        eq(items[0].version, "1.0.0");
        eq(next, address(0));
    }

    function testEmptyRegistryHasEmptyLists() public {
        (IModelRegistry.Item[] memory items, address next) = registry.records(address(0), 10);
        eq(items.length, 0);
        eq(next, address(0));
        (, uint256 count) = registry.head();
        eq(count, 0);
        vm.expectRevert(fail(IModelRegistry.UnknownModel.selector, modelId));
        registry.versions(modelId, address(0), 10);
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, versionIdOf("1")));
        registry.getVersion(versionIdOf("1"));
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, versionIdOf("1")));
        registry.getVariants(versionIdOf("1"));
        eq(registry.nonceOf(modelId), 0);
        eq(registry.pendingOwnerOf(modelId), address(0));
    }

    function testLimitIsBoundedAndZeroGivesNothing() public {
        _fill();
        (IModelRegistry.Item[] memory items,) = registry.records(address(0), type(uint256).max);
        eq(items.length, 4);
        address next;
        (items, next) = registry.records(address(0), 0);
        (address newest,) = registry.head();
        eq(items.length, 0);
        eq(next, newest);
    }

    function testCursorThatIsNoRecordIsRefused() public {
        _fill();
        _refuse(stranger);
        _refuse(address(registry));
        _refuse(address(this));
        // A forgery: the code of a record at an address that is not the record's.
        address forged = address(new Forgery(registry.getVersion(versionIdOf("1.0.0")).record.code));
        _refuse(forged);
        (address newest,) = registry.head();
        _refuse(address(new Forgery(newest.code)));
        _refuse(address(new Forgery(registry.getVersion(versionIdOf("1.1.0")).record.code)));
        // records of another model, and an addition, are no versions of this one
        (IModelRegistry.Item[] memory items,) = registry.records(address(0), 10);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, items[2].record));
        registry.versions(modelId, items[2].record, 10);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, items[0].record));
        registry.versions(modelId, items[0].record, 10);
    }

    function _refuse(address cursor) private {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, cursor));
        registry.records(cursor, 10);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, cursor));
        registry.models(cursor, 10);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownRecord.selector, cursor));
        registry.versions(modelId, cursor, 10);
    }

    function testReadingCostsTheSameAfterAThousandReleases() public {
        publish("first");
        publish("second");
        publish("third");
        uint256 version = this.gasOfGetVersion("third");
        uint256 owner = this.gasOfOwnerOf();
        for (uint256 i; i < 1000; ++i) {
            bytes memory number = abi.encodePacked("v", bytes1(uint8(48 + i / 100)), bytes1(uint8(48 + i / 10 % 10)), bytes1(uint8(48 + i % 10)));
            bytes memory payload = release(NAME, bytes32(i + 1), FREE, string(number), variant(1, "", "", i));
            vm.prank(publisher);
            registry.publish(publisher, payload, "");
        }
        publish("after");
        require(this.gasOfGetVersion("after") < version + 500, "getVersion became dearer");
        require(this.gasOfOwnerOf() < owner + 500, "ownerOf became dearer");
        eq(registry.nonceOf(modelId), 1004);
        uint256 seen;
        address cursor;
        IModelRegistry.Item[] memory page;
        do {
            // a node's usual limit for a call is 50 million
            (page, cursor) = registry.versions{gas: 20_000_000}(modelId, cursor, 10_000);
            require(page.length <= 500, "a page without a bound");
            seen += page.length;
        } while (cursor != address(0));
        eq(seen, 1004);
        eq(page[page.length - 1].version, "first");
    }

    /// Called from outside, so that this test's own memory does not count.
    function gasOfGetVersion(string calldata version) external view returns (uint256) {
        bytes32 id = versionIdOf(version);
        uint256 before = gasleft();
        registry.getVersion(id);
        return before - gasleft();
    }

    function gasOfOwnerOf() external view returns (uint256) {
        uint256 before = gasleft();
        registry.ownerOf(modelId);
        return before - gasleft();
    }
}

/// An account with any code.
contract Forgery {
    constructor(bytes memory code) {
        assembly {
            return(add(code, 32), mload(code))
        }
    }
}
