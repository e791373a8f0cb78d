// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

contract PublishTest is RegistryTest {
    function testFirstReleaseReadsBackExactly() public {
        bytes32 id = publish("1.0.0");
        eq(id, versionIdOf("1.0.0"));
        IModelRegistry.Version memory v = registry.getVersion(id);
        eq(v.modelId, modelId);
        eq(v.publisher, publisher);
        eq(v.owner, publisher);
        eq(v.name, NAME);
        eq(v.version, "1.0.0");
        eq(v.licence, "apache-2.0");
        eq(v.priceWei, 0);
        eq(v.createdAt, START);
        require(!v.deprecated && v.replacement == 0);
        eq(v.manifests.length, 1);
        eq(v.manifests[0], manifestOf("1.0.0"));
        eq(v.senders.length, 1);
        eq(v.senders[0], publisher);
        IModelRegistry.Variant[] memory list = registry.getVariants(id);
        eq(list.length, 4);
        eq(list[0].format, "safetensors");
        eq(list[1].format, "gguf");
        eq(list[1].quantization, "Q4_K_M");
        eq(list[2].format, "mlx");
        eq(list[3].format, "tensorrt_llm");
        eq(list[3].quantization, "fp8");
        eq(list[3].target, "sm90");
        for (uint256 i; i < 4; ++i) {
            uint256 seed;
            unchecked {
                seed = uint256(manifestOf("1.0.0")) + i;
            }
            eq(list[i].sha256Digest, keccak256(abi.encode("sha", seed)));
            eq(list[i].sizeBytes, uint48(uint256(keccak256(abi.encode("cid", seed)))) | 1);
        }
    }

    function testLaterReleasesKeepTheModelsNameAndPublisher() public {
        publish("1.0.0");
        vm.warp(START + 60);
        IModelRegistry.Version memory v = registry.getVersion(publish("1.1.0"));
        eq(v.modelId, modelId);
        eq(v.publisher, publisher);
        eq(v.name, NAME);
        eq(v.version, "1.1.0");
        eq(v.createdAt, START + 60);
        eq(v.senders[0], publisher);
        eq(registry.nonceOf(modelId), 2);
    }

    /// The CID of `hello world` as a raw block, as every IPFS tool prints it.
    function testCidIsTheTextThatIpfsToolsTake() public {
        bytes32 digest = sha256("hello world");
        bytes memory raw = abi.encodePacked(key(2, "F16", ""), uint8(0x55), uint48(11), digest, digest);
        vm.prank(publisher);
        bytes32 id = registry.publish(publisher, release(NAME, "m", FREE, "1", raw), "");
        eq(registry.getVariants(id)[0].cid, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    }

    function testDagPbCidToo() public {
        // The empty directory's block: 0a 02 08 01
        bytes32 digest = sha256(hex"0a020801");
        bytes memory directory = abi.encodePacked(key(1, "", ""), uint8(0x70), uint48(11), digest, digest);
        vm.prank(publisher);
        bytes32 id = registry.publish(publisher, release(NAME, "m", FREE, "1", directory), "");
        eq(registry.getVariants(id)[0].cid, "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
    }

    function testPriceIsDecodedToWei() public {
        bytes4[4] memory codes = [bytes4(0x00000110), 0x00000100, 0xffffff00, 0xffffff3c];
        uint256[4] memory prices = [uint256(1e16), 1, 16_777_215, 16_777_215e60];
        for (uint256 i; i < 4; ++i) {
            string memory version = string(abi.encodePacked(bytes1(uint8(0x30 + i))));
            vm.prank(publisher);
            bytes32 id = registry.publish(publisher, release(NAME, "m", codes[i], version, four(i)), "");
            eq(registry.getVersion(id).priceWei, prices[i]);
        }
    }

    function testTermsForOtherContracts() public {
        publish("1.0.0");
        bytes memory priced = release(NAME, "m", 0x00000110, "1.1.0", four(1));
        vm.prank(publisher);
        bytes32 id = registry.publish(publisher, priced, "");
        transfer();
        vm.prank(buyer);
        registry.deprecate(publisher, NAME, "1.1.0", 0);
        (bytes32 model, address owner, uint256 priceWei, bool deprecated) = registry.termsOf(id);
        eq(model, modelId);
        eq(owner, buyer);
        eq(priceWei, 1e16);
        require(deprecated);
        (,, priceWei, deprecated) = registry.termsOf(versionIdOf("1.0.0"));
        require(priceWei == 0 && !deprecated);
        vm.expectRevert(fail(IModelRegistry.UnknownVersion.selector, versionIdOf("9")));
        registry.termsOf(versionIdOf("9"));
    }

    function testEmitsPublishedWithTheRecord() public {
        publish("1.0.0");
        address second = address(uint160(uint256(keccak256(abi.encodePacked(
            hex"ff", address(registry), versionIdOf("2.0.0"), keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3")
        )))));
        vm.expectEmit(address(registry));
        emit IModelRegistry.Published(modelId, versionIdOf("2.0.0"), second);
        publish("2.0.0");
        eq(registry.getVersion(versionIdOf("2.0.0")).record, second);
    }

    function testSixtyFourVariantsWithMaximalStringsReadBack() public {
        bytes memory all;
        for (uint8 i; i < 64; ++i) all = abi.encodePacked(all, _largest(i));
        string memory name = "a234567890123456789012345678901234567890123456789012345678901._-";
        string memory version = "1.0.0+build.20261121-abcdefg_hij";
        string memory licence = "LicenseRef-0123456789 0123456789 0123456789 0123456789 ~~~~~~~~~";
        vm.prank(publisher);
        bytes32 id = registry.publish(
            publisher,
            abi.encodePacked(text(name), bytes32("m"), bytes4(0), text(version), text(licence), all),
            "abcdefghijklmnopqrstuvwxyz.-_012"
        );
        IModelRegistry.Version memory v = registry.getVersion(id);
        eq(v.name, name);
        eq(v.version, version);
        eq(v.licence, licence);
        IModelRegistry.Variant[] memory list = registry.getVariants(id);
        eq(list.length, 64);
        for (uint8 i; i < 64; ++i) {
            eq(list[i].quantization, _maximal(i));
            eq(list[i].target, "sm90_-.abcdefgh");
            eq(list[i].sizeBytes, type(uint48).max);
        }
    }

    /// 15 characters, the last one from an alphabet in ascending order
    function _maximal(uint8 i) private pure returns (string memory) {
        bytes memory alphabet = "+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
        return string(abi.encodePacked("Q12345678901+.", alphabet[i]));
    }

    function _largest(uint8 i) private pure returns (bytes memory) {
        bytes memory name = key(2, _maximal(i), "sm90_-.abcdefgh");
        return abi.encodePacked(name, uint8(0x55), type(uint48).max, bytes32("c"), bytes32("s"));
    }

    // ------------------------------------------------------------------------------------------------- refusals

    function testStrangerCannotPublishUnderAPublishersName() public {
        vm.prank(stranger);
        vm.expectRevert(fail(IModelRegistry.NotOwner.selector, modelId, stranger));
        registry.publish(publisher, release("1.0.0"), "");
    }

    function testSameNameOfAnotherPublisherIsAnotherModel() public {
        publish("1.0.0");
        vm.prank(stranger);
        bytes32 id = registry.publish(stranger, release("1.0.0"), "");
        require(id != versionIdOf("1.0.0"));
        eq(registry.getVersion(id).publisher, stranger);
    }

    function testVersionIsNeverReplaced() public {
        publish("1.0.0");
        bytes memory other = release(NAME, "other", FREE, "1.0.0", four(9));
        publishExpecting(other, fail(IModelRegistry.VersionTaken.selector, versionIdOf("1.0.0")));
        publish("1.1.0");
        publishExpecting(other, fail(IModelRegistry.VersionTaken.selector, versionIdOf("1.0.0")));
        eq(registry.getVersion(versionIdOf("1.0.0")).manifests[0], manifestOf("1.0.0"));
        (, uint256 count) = registry.head();
        eq(count, 2);
    }

    /// A release sent twice must not burn the gas that CREATE2 would take.
    function testReleaseSentTwiceIsRefusedCheaply() public {
        publish("1.0.0");
        bytes memory payload = release("1.0.0");
        vm.prank(publisher);
        uint256 before = gasleft();
        try registry.publish(publisher, payload, "") {
            revert("a version was replaced");
        } catch {}
        require(before - gasleft() < 30_000, "costs too much");
    }

    function testVersionCannotTakeAnAliasName() public {
        publish("1.0.0");
        vm.prank(publisher);
        registry.setAlias(publisher, NAME, "prod", "1.0.0");
        publishExpecting(release("prod"), fail(IModelRegistry.NameTaken.selector, versionIdOf("prod")));
    }

    function testLatestIsNoVersion() public {
        publishExpecting(release("latest"), fail(IModelRegistry.ReservedName.selector));
        publish("latest-1");
        publish("lates");
        publish("latesu");
    }

    function testNameOutsideItsLengthsIsRefused() public {
        bytes memory failure = fail(IModelRegistry.InvalidText.selector, uint256(0));
        publishExpecting(release("", "m", FREE, "1", four(1)), failure);
        string memory long = "a2345678901234567890123456789012345678901234567890123456789012345";
        publishExpecting(release(long, "m", FREE, "1", four(1)), failure);
        publishExpecting("", failure);
        publishExpecting(hex"05616263", failure); // cut off
    }

    function testVersionOutsideItsLengthsIsRefused() public {
        bytes memory failure = fail(IModelRegistry.InvalidText.selector, 1 + bytes(NAME).length + 36);
        publishExpecting(release(NAME, "m", FREE, "", four(1)), failure);
        publishExpecting(release(NAME, "m", FREE, "123456789012345678901234567890123", four(1)), failure);
        publishExpecting(release(NAME, "m", FREE, "+1", four(1)), failure);
    }

    function testLicenceMustBePrintableAndPresent() public {
        bytes memory start = abi.encodePacked(text(NAME), bytes32("m"), FREE, text("1"));
        bytes memory failure = fail(IModelRegistry.InvalidText.selector, start.length);
        string memory long = "12345678901234567890123456789012345678901234567890123456789012345";
        publishExpecting(abi.encodePacked(start, text(""), four(1)), failure);
        publishExpecting(abi.encodePacked(start, text(long), four(1)), failure);
        publishExpecting(abi.encodePacked(start, hex"034d4954"), fail(IModelRegistry.InvalidLength.selector, start.length + 4));
        publishExpecting(abi.encodePacked(start, hex"024d1f", four(1)), failure);
        publishExpecting(abi.encodePacked(start, hex"024d7f", four(1)), failure);
        publishExpecting(abi.encodePacked(start, hex"024d80", four(1)), failure);
    }

    function testManifestMustNotBeZero() public {
        publishExpecting(release(NAME, 0, FREE, "1", four(1)), fail(IModelRegistry.InvalidManifest.selector));
    }

    function testPriceMustHaveOneSpellingOfZeroAndNotOverflow() public {
        bytes4[3] memory codes = [bytes4(0x00000001), 0x0000003d, 0xffffff3d];
        for (uint256 i; i < 3; ++i) {
            bytes memory failure = abi.encodeWithSelector(IModelRegistry.InvalidPrice.selector, codes[i]);
            publishExpecting(release(NAME, "m", codes[i], "1", four(1)), failure);
        }
    }

    function testVariantsMustBeThereAndComplete() public {
        bytes memory start = release(NAME, "m", FREE, "1", "");
        bytes memory failure = fail(IModelRegistry.InvalidLength.selector, start.length);
        publishExpecting(start, failure);
        bytes memory one = variant(2, "Q8_0", "", 1);
        for (uint256 cut = 1; cut < one.length; ++cut) {
            bytes memory part = new bytes(one.length - cut);
            for (uint256 i; i < part.length; ++i) part[i] = one[i];
            publishExpecting(abi.encodePacked(start, part), failure);
        }
        publishExpecting(
            abi.encodePacked(start, one, hex"00"), fail(IModelRegistry.InvalidLength.selector, start.length + one.length)
        );
    }

    function testFormatCodecSizeAndDigestsAreChecked() public {
        bytes32 some = "some";
        _refuse(abi.encodePacked(key(0, "", ""), uint8(0x55), uint48(1), some, some));
        _refuse(abi.encodePacked(key(5, "", ""), uint8(0x55), uint48(1), some, some));
        _refuse(abi.encodePacked(key(255, "", ""), uint8(0x55), uint48(1), some, some));
        _refuse(abi.encodePacked(key(1, "", ""), uint8(0x54), uint48(1), some, some));
        _refuse(abi.encodePacked(key(1, "", ""), uint8(0x71), uint48(1), some, some));
        _refuse(abi.encodePacked(key(1, "", ""), uint8(0x55), uint48(0), some, some));
        _refuse(abi.encodePacked(key(1, "", ""), uint8(0x55), uint48(1), bytes32(0), some));
        _refuse(abi.encodePacked(key(1, "", ""), uint8(0x55), uint48(1), some, bytes32(0)));
    }

    function _refuse(bytes memory bad) private {
        bytes memory start = release(NAME, "m", FREE, "1", "");
        publishExpecting(abi.encodePacked(start, bad), fail(IModelRegistry.InvalidVariant.selector, start.length));
    }

    function testVariantsMustAscendSoThatNoneIsThereTwice() public {
        bytes memory start = release(NAME, "m", FREE, "1", "");
        bytes memory a = variant(2, "Q4_K_M", "", 1);
        bytes memory b = variant(2, "Q8_0", "", 2);
        publishExpecting(abi.encodePacked(start, b, b), fail(IModelRegistry.InvalidOrder.selector, start.length + b.length));
        // shorter first: the length stands before the characters
        publishExpecting(abi.encodePacked(start, a, b), fail(IModelRegistry.InvalidOrder.selector, start.length + a.length));
        vm.prank(publisher);
        registry.publish(publisher, abi.encodePacked(start, b, a), "");
    }

    function testSixtyFiveVariantsAreTooMany() public {
        bytes memory all;
        for (uint8 i; i < 65; ++i) all = abi.encodePacked(all, variant(2, string(abi.encodePacked("q", i / 10 + 48, i % 10 + 48)), "", i));
        publishExpecting(release(NAME, "m", FREE, "1", all), fail(IModelRegistry.TooManyVariants.selector));
    }

    function testAliasOfTheSameTransaction() public {
        vm.prank(publisher);
        bytes32 id = registry.publish(publisher, release("1.0.0"), "prod");
        eq(registry.resolve(publisher, NAME, "prod"), id);
    }
}
