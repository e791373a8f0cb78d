// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

contract AddVariantsTest is RegistryTest {
    function setUp() public override {
        super.setUp();
        publish("1.0.0");
    }

    function add(string memory manifest, bytes memory variants) private returns (address) {
        vm.prank(publisher);
        return registry.addVariants(publisher, NAME, "1.0.0", addition(manifest, variants));
    }

    function refuse(bytes memory payload, bytes memory failure) private {
        vm.prank(publisher);
        vm.expectRevert(failure);
        registry.addVariants(publisher, NAME, "1.0.0", payload);
    }

    function testAddedVariantsFollowTheOldOnesWhichStay() public {
        bytes memory before = abi.encode(registry.getVariants(versionIdOf("1.0.0")));
        add("two", variant(2, "Q8_0", "", 100));
        add("three", abi.encodePacked(variant(2, "F16", "", 101), variant(2, "Q5_K_M", "", 102)));
        IModelRegistry.Variant[] memory list = registry.getVariants(versionIdOf("1.0.0"));
        eq(list.length, 7);
        eq(list[4].quantization, "Q8_0");
        eq(list[5].quantization, "F16");
        eq(list[6].quantization, "Q5_K_M");
        IModelRegistry.Variant[] memory old = new IModelRegistry.Variant[](4);
        for (uint256 i; i < 4; ++i) old[i] = list[i];
        require(keccak256(abi.encode(old)) == keccak256(before));
    }

    function testManifestsAndSendersAreListedOldestFirst() public {
        add("two", variant(2, "Q8_0", "", 100));
        transfer();
        vm.prank(buyer);
        registry.addVariants(publisher, NAME, "1.0.0", addition("three", variant(2, "F16", "", 101)));
        IModelRegistry.Version memory v = registry.getVersion(versionIdOf("1.0.0"));
        eq(v.manifests.length, 3);
        eq(v.manifests[0], manifestOf("1.0.0"));
        eq(v.manifests[1], manifestOf("two"));
        eq(v.manifests[2], manifestOf("three"));
        eq(v.senders[0], publisher);
        eq(v.senders[1], publisher);
        eq(v.senders[2], buyer);
        eq(v.publisher, publisher);
        eq(v.owner, buyer);
    }

    function testEmitsVariantsAddedWithTheRecord() public {
        bytes32 salt = keccak256(abi.encode(versionIdOf("1.0.0"), uint256(1)));
        address record = address(uint160(uint256(keccak256(abi.encodePacked(
            hex"ff", address(registry), salt, keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3")
        )))));
        vm.expectEmit(address(registry));
        emit IModelRegistry.VariantsAdded(modelId, versionIdOf("1.0.0"), record);
        eq(add("two", variant(2, "Q8_0", "", 100)), record);
    }

    function testVariantIsNeverReplaced() public {
        add("two", abi.encodePacked(variant(2, "F16", "", 1), variant(2, "Q8_0", "", 2)));
        bytes4 selector = IModelRegistry.DuplicateVariant.selector;
        refuse(addition("x", variant(1, "", "", 9)), fail(selector, bytes32(key(1, "", ""))));
        refuse(addition("x", variant(4, "fp8", "sm90", 9)), fail(selector, bytes32(key(4, "fp8", "sm90"))));
        refuse(addition("x", variant(2, "Q8_0", "", 9)), fail(selector, bytes32(key(2, "Q8_0", ""))));
        bytes memory withOneNew = abi.encodePacked(variant(2, "F16", "", 9), variant(2, "F32", "", 9));
        refuse(addition("x", withOneNew), fail(selector, bytes32(key(2, "F16", ""))));
        eq(registry.getVariants(versionIdOf("1.0.0")).length, 6);
    }

    /// Any two ascending sets: the addition is refused exactly if they meet, and names the first common one.
    function testFuzzAdditionIsRefusedExactlyIfTheSetsMeet(uint16 first, uint16 second) public {
        vm.assume(first != 0 && second != 0);
        vm.prank(publisher);
        bytes32 id = registry.publish(publisher, release(NAME, "m", FREE, "2.0.0", set(first)), "");
        bytes memory payload = addition("x", set(second));
        uint16 common = first & second;
        vm.prank(publisher);
        if (common != 0) {
            bytes memory name = key(2, letter(lowest(common)), "");
            vm.expectRevert(fail(IModelRegistry.DuplicateVariant.selector, bytes32(name)));
        }
        registry.addVariants(publisher, NAME, "2.0.0", payload);
        eq(registry.getVariants(id).length, bits(first) + (common == 0 ? bits(second) : 0));
    }

    function testSixteenRecordsAVersion() public {
        for (uint8 i; i < 15; ++i) add("more", variant(2, letter(i), "", i));
        refuse(addition("x", variant(2, "z", "", 9)), fail(IModelRegistry.TooManyRecords.selector, versionIdOf("1.0.0")));
        IModelRegistry.Version memory v = registry.getVersion(versionIdOf("1.0.0"));
        eq(v.manifests.length, 16);
        eq(registry.getVariants(versionIdOf("1.0.0")).length, 19);
    }

    /// The account of an addition has a salt of its own, which somebody may take for a version's id.
    function testAdditionIsNoVersion() public {
        add("two", variant(2, "Q8_0", "", 100));
        bytes32 salt = keccak256(abi.encode(versionIdOf("1.0.0"), uint256(1)));
        bytes memory failure = fail(IModelRegistry.UnknownVersion.selector, salt);
        vm.expectRevert(failure);
        registry.getVersion(salt);
        vm.expectRevert(failure);
        registry.getVariants(salt);
        vm.expectRevert(failure);
        registry.termsOf(salt);
        vm.prank(publisher);
        vm.expectRevert(failure);
        registry.deprecate(publisher, NAME, "1.0.0", salt);
    }

    function testOnlyTheOwnerAddsAndOnlyToAVersionThatStands() public {
        bytes memory payload = addition("x", variant(2, "Q8_0", "", 9));
        vm.prank(stranger);
        vm.expectRevert(fail(IModelRegistry.NotOwner.selector, modelId, stranger));
        registry.addVariants(publisher, NAME, "1.0.0", payload);
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, versionIdOf("1.0.1")));
        registry.addVariants(publisher, NAME, "1.0.1", payload);
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownModel.selector, keccak256(abi.encode(publisher, "other"))));
        registry.addVariants(publisher, "other", "1.0.0", payload);
        transfer();
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.NotOwner.selector, modelId, publisher));
        registry.addVariants(publisher, NAME, "1.0.0", payload);
    }

    function testAdditionIsCheckedAsAReleaseIs() public {
        refuse("", fail(IModelRegistry.InvalidManifest.selector));
        refuse(abi.encodePacked(bytes32(0), variant(2, "a", "", 1)), fail(IModelRegistry.InvalidManifest.selector));
        refuse(abi.encodePacked(bytes32("m")), fail(IModelRegistry.InvalidLength.selector, uint256(32)));
        refuse(abi.encodePacked(bytes31("m")), fail(IModelRegistry.InvalidLength.selector, uint256(31)));
        refuse(addition("x", variant(2, "-a", "", 1)), fail(IModelRegistry.InvalidText.selector, uint256(32)));
        refuse(addition("x", variant(9, "a", "", 1)), fail(IModelRegistry.InvalidVariant.selector, uint256(32)));
        bytes memory one = variant(2, "a", "", 1);
        refuse(
            addition("x", abi.encodePacked(one, one)), fail(IModelRegistry.InvalidOrder.selector, uint256(32 + one.length))
        );
    }

    function letter(uint256 i) private pure returns (string memory) {
        return string(abi.encodePacked(bytes1(uint8(0x61 + i))));
    }

    function set(uint16 members) private pure returns (bytes memory variants) {
        for (uint256 i; i < 16; ++i) {
            if (members >> i & 1 != 0) variants = abi.encodePacked(variants, variant(2, letter(i), "", i));
        }
    }

    function lowest(uint16 members) private pure returns (uint256 i) {
        while (members >> i & 1 == 0) ++i;
    }

    function bits(uint16 members) private pure returns (uint256 count) {
        for (uint256 i; i < 16; ++i) count += members >> i & 1;
    }
}
