// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

contract DeprecateTest is RegistryTest {
    function setUp() public override {
        super.setUp();
        publish("1.0.0");
        publish("1.1.0");
    }

    function deprecate(string memory version, bytes32 replacement) private {
        vm.prank(publisher);
        registry.deprecate(publisher, NAME, version, replacement);
    }

    function testDeprecatedVersionStaysReadable() public {
        bytes32 id = versionIdOf("1.0.0");
        bytes memory variants = abi.encode(registry.getVariants(id));
        vm.expectEmit(address(registry));
        emit IModelRegistry.Deprecated(modelId, id, 0);
        deprecate("1.0.0", 0);
        IModelRegistry.Version memory v = registry.getVersion(id);
        require(v.deprecated && v.replacement == 0);
        require(keccak256(abi.encode(registry.getVariants(id))) == keccak256(variants));
        require(!registry.getVersion(versionIdOf("1.1.0")).deprecated);
    }

    function testReplacementCanBeNamedAndChangedButTheMarkStays() public {
        bytes32 id = versionIdOf("1.0.0");
        deprecate("1.0.0", versionIdOf("1.1.0"));
        eq(registry.getVersion(id).replacement, versionIdOf("1.1.0"));
        deprecate("1.0.0", 0);
        require(registry.getVersion(id).deprecated && registry.getVersion(id).replacement == 0);
    }

    function testReplacementMustBeAnotherVersionThatStands() public {
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.InvalidReplacement.selector, versionIdOf("1.0.0")));
        registry.deprecate(publisher, NAME, "1.0.0", versionIdOf("1.0.0"));
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, versionIdOf("9")));
        registry.deprecate(publisher, NAME, "1.0.0", versionIdOf("9"));
        // the mark for "no replacement" is no version
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, bytes32(uint256(1))));
        registry.deprecate(publisher, NAME, "1.0.0", bytes32(uint256(1)));
    }

    function testOnlyTheOwnerDeprecatesAndOnlyWhatStands() public {
        vm.prank(stranger);
        vm.expectRevert(fail(IModelRegistry.NotOwner.selector, modelId, stranger));
        registry.deprecate(publisher, NAME, "1.0.0", 0);
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, versionIdOf("9")));
        registry.deprecate(publisher, NAME, "9", 0);
    }
}
