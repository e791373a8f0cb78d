// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

/// What a LoRA is bound to: the first variant of a version's release record.
contract ContentTest is RegistryTest {
    function digestOf(string memory version) private view returns (bytes32 digest) {
        (,, digest) = registry.contentOf(versionIdOf(version));
    }

    function testIsTheSafetensorsOfTheRelease() public {
        bytes32 id = publish("1.0.0");
        eq(digestOf("1.0.0"), registry.getVariants(id)[0].sha256Digest);
        eq(registry.getVariants(id)[0].format, "safetensors");
        publish("1.1.0");
        eq(digestOf("1.1.0"), registry.getVariants(versionIdOf("1.1.0"))[0].sha256Digest);
        require(digestOf("1.0.0") != digestOf("1.1.0"));
    }

    function testIsTheFirstVariantWhereThereAreNoSafetensors() public {
        vm.prank(publisher);
        registry.publish(publisher, release(NAME, "m", FREE, "1.0.0", variant(3, "4bit", "", 7)), "");
        eq(digestOf("1.0.0"), keccak256(abi.encode("sha", uint256(7))));
    }

    function testVariantsAddedLaterDoNotChangeIt() public {
        vm.prank(publisher);
        registry.publish(publisher, release(NAME, "m", FREE, "1.0.0", variant(3, "4bit", "", 7)), "");
        vm.prank(publisher);
        registry.addVariants(publisher, NAME, "1.0.0", addition("more", variant(1, "", "", 8)));
        eq(digestOf("1.0.0"), keccak256(abi.encode("sha", uint256(7))));
        vm.expectRevert(
            fail(IModelRegistry.UnknownVersion.selector, keccak256(abi.encode(versionIdOf("1.0.0"), uint256(1))))
        );
        registry.contentOf(keccak256(abi.encode(versionIdOf("1.0.0"), uint256(1))));
    }

    /// The longest texts and key there can be, by another owner: the digest is at its farthest from the start.
    function testIsReadFromTheLongestRecord() public {
        string memory long = "a234567890123456789012345678901234567890123456789012345678901234";
        string memory version = "v2345678901234567890123456789012";
        bytes memory first = variant(2, "q23456789012345", "t23456789012345", 3);
        bytes memory variants = bytes.concat(first, variant(3, "4bit", "", 4));
        bytes memory payload =
            abi.encodePacked(text(long), manifestOf("m"), FREE, text(version), text(long), variants);
        vm.prank(publisher);
        registry.publish(publisher, payload, "");
        modelId = keccak256(abi.encode(publisher, long));
        eq(digestOf(version), keccak256(abi.encode("sha", uint256(3))));
        vm.prank(publisher);
        registry.transferModel(publisher, long, buyer);
        vm.prank(buyer);
        registry.acceptModel(modelId);
        payload = abi.encodePacked(text(long), manifestOf("m"), FREE, text("v2345678901234567890123456789013"), text(long), variants);
        vm.prank(buyer);
        registry.publish(publisher, payload, "");
        eq(digestOf("v2345678901234567890123456789013"), keccak256(abi.encode("sha", uint256(3))));
    }

    function testSaysTheRestAsTermsOfDoes() public {
        publish("1.0.0");
        publish("1.1.0");
        requireLikeTerms("1.0.0", publisher);
        transfer();
        vm.prank(buyer);
        registry.deprecate(publisher, NAME, "1.1.0", 0);
        requireLikeTerms("1.0.0", buyer);
        requireLikeTerms("1.1.0", buyer);
    }

    function requireLikeTerms(string memory version, address expected) private view {
        (bytes32 id, bool deprecated,) = registry.contentOf(versionIdOf(version));
        (bytes32 termsId, address termsOwner,, bool termsDeprecated) = registry.termsOf(versionIdOf(version));
        require(id == termsId && deprecated == termsDeprecated);
        require(id == modelId && termsOwner == expected);
    }

    function testUnknownVersionIsRefused() public {
        publish("1.0.0");
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, versionIdOf("9")));
        registry.contentOf(versionIdOf("9"));
    }

    function testCostsTheSameAfterManyReleases() public {
        publish("1.0.0");
        publish("1.0.1");
        uint256 before = gasOfContent(versionIdOf("1.0.1"));
        for (uint256 i = 2; i < 100; ++i) publish(string.concat("1.", vm.toString(i)));
        require(gasOfContent(versionIdOf("1.99")) < before + 100);
    }

    function gasOfContent(bytes32 id) private view returns (uint256 used) {
        used = gasleft();
        registry.contentOf(id);
        used -= gasleft();
    }
}
