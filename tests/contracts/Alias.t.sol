// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

contract AliasTest is RegistryTest {
    function setUp() public override {
        super.setUp();
        vm.roll(100);
        publish("1.0.0");
        publish("1.1.0");
    }

    function set(string memory aliasName, string memory version) private {
        vm.prank(publisher);
        registry.setAlias(publisher, NAME, aliasName, version);
    }

    function refuse(string memory aliasName, string memory version, bytes memory failure) private {
        vm.prank(publisher);
        vm.expectRevert(failure);
        registry.setAlias(publisher, NAME, aliasName, version);
    }

    function testAliasMovesAndItsSlotCountsTheChanges() public {
        set("prod", "1.0.0");
        eq(registry.resolve(publisher, NAME, "prod"), versionIdOf("1.0.0"));
        vm.roll(200);
        vm.expectEmit(address(registry));
        emit IModelRegistry.AliasSet(modelId, versionIdOf("1.1.0"), "prod", 100, 2);
        set("prod", "1.1.0");
        eq(registry.resolve(publisher, NAME, "prod"), versionIdOf("1.1.0"));
        vm.roll(300);
        vm.expectEmit(address(registry));
        emit IModelRegistry.AliasSet(modelId, versionIdOf("1.0.0"), "prod", 200, 3);
        set("prod", "1.0.0");
        (bytes32 id, string memory version, uint256 changedAt, uint256 changes) = registry.aliasOf(modelId, "prod");
        eq(id, versionIdOf("1.0.0"));
        eq(version, "1.0.0");
        eq(changedAt, 300);
        eq(changes, 3);
    }

    function testFirstChangeNamesNoBlockBeforeIt() public {
        vm.expectEmit(address(registry));
        emit IModelRegistry.AliasSet(modelId, versionIdOf("1.0.0"), "prod", 0, 1);
        set("prod", "1.0.0");
    }

    function testTwoChangesInOneBlock() public {
        set("prod", "1.0.0");
        vm.expectEmit(address(registry));
        emit IModelRegistry.AliasSet(modelId, versionIdOf("1.1.0"), "prod", 100, 2);
        set("prod", "1.1.0");
    }

    function testAliasesOfTwoModelsDoNotMeet() public {
        set("prod", "1.0.0");
        vm.prank(publisher);
        registry.publish(publisher, release("other", "m", FREE, "9", four(1)), "prod");
        eq(registry.resolve(publisher, NAME, "prod"), versionIdOf("1.0.0"));
        bytes32 other = keccak256(abi.encode(keccak256(abi.encode(publisher, "other")), "9"));
        eq(registry.resolve(publisher, "other", "prod"), other);
    }

    function testAliasCannotTakeAVersionsName() public {
        refuse("1.1.0", "1.0.0", fail(IModelRegistry.NameTaken.selector, versionIdOf("1.1.0")));
        refuse("1.0.0", "1.0.0", fail(IModelRegistry.NameTaken.selector, versionIdOf("1.0.0")));
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.NameTaken.selector, versionIdOf("2")));
        registry.publish(publisher, release("2"), "2");
    }

    function testLatestIsNoAlias() public {
        refuse("latest", "1.0.0", fail(IModelRegistry.ReservedName.selector));
    }

    function testMalformedAliasIsRefused() public {
        string[7] memory bad = ["", "Prod", "-prod", ".prod", "a+b", "a b", "a23456789012345678901234567890123"];
        for (uint256 i; i < bad.length; ++i) {
            refuse(bad[i], "1.0.0", abi.encodeWithSelector(IModelRegistry.InvalidAlias.selector, bad[i]));
        }
    }

    function testOnlyTheOwnerAndOnlyToAVersionThatStands() public {
        vm.prank(stranger);
        vm.expectRevert(fail(IModelRegistry.NotOwner.selector, modelId, stranger));
        registry.setAlias(publisher, NAME, "prod", "1.0.0");
        refuse("prod", "9", fail(IModelRegistry.UnknownVersion.selector, versionIdOf("9")));
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownModel.selector, keccak256(abi.encode(publisher, "none"))));
        registry.setAlias(publisher, "none", "prod", "1.0.0");
    }

    function testUnknownAliasAndModelAreToldApart() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownAlias.selector, modelId, "nope"));
        registry.resolve(publisher, NAME, "nope");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownAlias.selector, modelId, "nope"));
        registry.aliasOf(modelId, "nope");
        vm.expectRevert(fail(IModelRegistry.UnknownModel.selector, keccak256(abi.encode(stranger, NAME))));
        registry.resolve(stranger, NAME, "latest");
    }

    function testLatestIsTheNewestThatIsNotDeprecated() public {
        publish("1.2.0");
        eq(registry.resolve(publisher, NAME, "latest"), versionIdOf("1.2.0"));
        deprecate("1.2.0");
        eq(registry.resolve(publisher, NAME, "latest"), versionIdOf("1.1.0"));
        deprecate("1.0.0");
        eq(registry.resolve(publisher, NAME, "latest"), versionIdOf("1.1.0"));
        deprecate("1.1.0");
        eq(registry.resolve(publisher, NAME, "latest"), versionIdOf("1.2.0"));
        publish("1.3.0");
        eq(registry.resolve(publisher, NAME, "latest"), versionIdOf("1.3.0"));
    }

    function deprecate(string memory version) private {
        vm.prank(publisher);
        registry.deprecate(publisher, NAME, version, 0);
    }
}
