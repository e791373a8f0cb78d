// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {LoRATest} from "./LoRATest.sol";
import {IModelRegistry} from "./RegistryTest.sol";

contract MergeTest is LoRATest {
    bytes32 private a;
    bytes32 private b;
    bytes32 private result;

    function setUp() public override {
        super.setUp();
        (a, b) = ascending(register("0.1.0"), register("0.2.0"));
        result = publish("2.0.0");
    }

    function pair(uint16 first, uint16 second) private view returns (bytes memory) {
        return abi.encodePacked(a, first, b, second);
    }

    function testReadsBackExactly() public {
        address record = merge(result, pair(2_500, 7_500));
        ILoRARegistry.Merge memory found = loras.getMerge(result);
        eq(found.creator, publisher);
        eq(found.result, result);
        eq(found.base, base);
        eq(found.createdAt, START);
        eq(found.record, record);
        eq(found.parents.length, 2);
        eq(found.parents[0].loraId, a);
        eq(found.parents[0].basisPoints, 2_500);
        eq(found.parents[1].loraId, b);
        eq(found.parents[1].basisPoints, 7_500);
        eq(loras.baseOf(result), base);
        eq(loras.creatorOf(result), address(0));
    }

    function testRecordIsAsStated() public {
        address record = merge(result, pair(2_500, 7_500));
        (ILoRARegistry.Item[] memory items,) = loras.records(address(0), 2);
        bytes memory header = abi.encodePacked(hex"0002", uint40(START), items[1].record, publisher);
        require(keccak256(record.code) == keccak256(abi.encodePacked(header, result, base, pair(2_500, 7_500))));
        bytes32 salt = keccak256(abi.encode("Merge", result));
        bytes32 init = keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3");
        bytes32 place = keccak256(abi.encodePacked(hex"ff", address(loras), salt, init));
        eq(record, address(uint160(uint256(place))));
    }

    function testEmits() public {
        bytes32 salt = keccak256(abi.encode("Merge", result));
        bytes32 place =
            keccak256(abi.encodePacked(hex"ff", address(loras), salt, keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3")));
        vm.expectEmit(address(loras));
        emit ILoRARegistry.LoRAMerged(result, base, publisher, address(uint160(uint256(place))));
        merge(result, pair(5_000, 5_000));
    }

    /// One to eight parents with random weights, in one walk.
    function testFuzzParentsReadBack(uint256 seed) public {
        uint256 count = seed % 8 + 1;
        bytes32[] memory ids = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            ids[i] = register(vm.toString(i));
            for (uint256 j = i; j > 0 && ids[j] < ids[j - 1]; --j) (ids[j], ids[j - 1]) = (ids[j - 1], ids[j]);
        }
        bytes memory parents;
        uint256 left = 10_000;
        uint256[] memory weights = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            weights[i] = i + 1 == count ? left : seed % (left - (count - i - 1)) + 1;
            left -= weights[i];
            parents = abi.encodePacked(parents, ids[i], uint16(weights[i]));
        }
        merge(result, parents);
        ILoRARegistry.Parent[] memory found = loras.getMerge(result).parents;
        eq(found.length, count);
        for (uint256 i; i < count; ++i) {
            eq(found[i].loraId, ids[i]);
            eq(found[i].basisPoints, weights[i]);
        }
    }

    function testOnlyTheOwnerOfTheResultsModelMerges() public {
        bytes memory failure = fail(IModelRegistry.NotOwner.selector, modelId, creator);
        vm.prank(creator);
        vm.expectRevert(failure);
        loras.mergeLoRA(result, pair(5_000, 5_000));
        transfer();
        refuseMerge(result, pair(5_000, 5_000), fail(IModelRegistry.NotOwner.selector, modelId, publisher));
        vm.prank(buyer);
        loras.mergeLoRA(result, pair(5_000, 5_000));
        eq(loras.getMerge(result).creator, buyer);
    }

    function testTheResultMayBelongToAnotherModelThanTheBase() public {
        bytes memory payload = release("mine", "m", FREE, "1.0.0", four(7));
        vm.prank(creator);
        result = registry.publish(creator, payload, "");
        vm.prank(creator);
        loras.mergeLoRA(result, pair(5_000, 5_000));
        eq(loras.getMerge(result).base, base);
    }

    function testTheResultMustBeAVersion() public {
        refuseMerge("none", pair(5_000, 5_000), fail(IModelRegistry.UnknownVersion.selector, bytes32("none")));
        refuseMerge(a, pair(5_000, 5_000), fail(IModelRegistry.UnknownVersion.selector, a));
    }

    function testTheResultIsNotTheBase() public {
        refuseMerge(base, pair(5_000, 5_000), fail(ILoRARegistry.InvalidResult.selector, base));
    }

    function testAMergeIsNeverReplaced() public {
        merge(result, pair(5_000, 5_000));
        bytes memory parents = pair(1, 9_999);
        vm.prank(publisher);
        vm.expectRevert(fail(ILoRARegistry.MergeTaken.selector, result));
        loras.mergeLoRA{gas: 1_000_000}(result, parents);
        eq(loras.getMerge(result).parents[0].basisPoints, 5_000);
    }

    function testParentsAreOneToEight() public {
        refuseMerge(result, "", fail(ILoRARegistry.InvalidParents.selector, uint256(0)));
        refuseMerge(result, new bytes(33), fail(ILoRARegistry.InvalidParents.selector, uint256(33)));
        refuseMerge(result, new bytes(35), fail(ILoRARegistry.InvalidParents.selector, uint256(35)));
        refuseMerge(result, new bytes(9 * 34), fail(ILoRARegistry.InvalidParents.selector, uint256(9 * 34)));
    }

    function testParentsAscendSoNoneIsThereTwice() public {
        bytes memory failure = fail(ILoRARegistry.InvalidParentOrder.selector, a);
        refuseMerge(result, abi.encodePacked(a, uint16(5_000), a, uint16(5_000)), failure);
        refuseMerge(result, abi.encodePacked(b, uint16(5_000), a, uint16(5_000)), failure);
        failure = fail(ILoRARegistry.InvalidParentOrder.selector, bytes32(0));
        refuseMerge(result, abi.encodePacked(bytes32(0), uint16(10_000)), failure);
    }

    function testWeightsAddUpAndNoneIsZero() public {
        refuseMerge(result, pair(5_000, 4_999), fail(ILoRARegistry.InvalidWeights.selector, uint256(9_999)));
        refuseMerge(result, pair(5_000, 5_001), fail(ILoRARegistry.InvalidWeights.selector, uint256(10_001)));
        refuseMerge(result, pair(0, 10_000), fail(ILoRARegistry.InvalidWeights.selector, uint256(10_000)));
        refuseMerge(result, pair(65_535, 65_535), fail(ILoRARegistry.InvalidWeights.selector, uint256(131_070)));
    }

    function testParentsMustBeLoRAs() public {
        bytes32 none = bytes32(uint256(1));
        bytes memory parents = abi.encodePacked(none, uint16(10_000));
        refuseMerge(result, parents, fail(ILoRARegistry.UnknownLoRA.selector, none));
        parents = abi.encodePacked(base, uint16(10_000));
        refuseMerge(result, parents, fail(ILoRARegistry.UnknownLoRA.selector, base));
        merge(result, pair(5_000, 5_000));
        bytes32 salt = keccak256(abi.encode("Merge", result)); // there is a record here, but no LoRA
        parents = abi.encodePacked(salt, uint16(10_000));
        refuseMerge(publish("3.0.0"), parents, fail(ILoRARegistry.UnknownLoRA.selector, salt));
        eq(loras.baseOf(salt), 0);
        eq(loras.creatorOf(salt), address(0));
        vm.expectRevert(fail(ILoRARegistry.UnknownLoRA.selector, salt));
        loras.getLoRA(salt);
    }

    function testParentsHaveOneBase() public {
        base = publish("1.1.0");
        bytes32 other = register("0.3.0");
        (bytes32 first, bytes32 second) = ascending(a, other);
        bytes32 itsBase = loras.baseOf(second);
        bytes memory failure = abi.encodeWithSelector(ILoRARegistry.OtherBase.selector, second, itsBase);
        refuseMerge(result, abi.encodePacked(first, uint16(5_000), second, uint16(5_000)), failure);
    }

    function testAVersionThatIsNoMergeIsSaid() public {
        vm.expectRevert(fail(ILoRARegistry.UnknownMerge.selector, result));
        loras.getMerge(result);
        vm.expectRevert(fail(ILoRARegistry.UnknownMerge.selector, a));
        loras.getMerge(a);
    }

    function testADeprecatedBaseDoesNotHinderAMerge() public {
        vm.prank(publisher);
        registry.deprecate(publisher, NAME, "1.0.0", 0);
        merge(result, pair(5_000, 5_000));
    }

    /// Damaged lists: refused, or read back exactly.
    function testFuzzDamagedParents(uint16 place, bytes1 value, bytes memory more) public {
        bytes memory parents = pair(2_500, 7_500);
        parents[place % parents.length] = value;
        if (more.length % 3 == 0) parents = bytes.concat(parents, more);
        vm.prank(publisher);
        try loras.mergeLoRA(result, parents) {
            ILoRARegistry.Parent[] memory found = loras.getMerge(result).parents;
            bytes memory again;
            for (uint256 i; i < found.length; ++i) {
                again = abi.encodePacked(again, found[i].loraId, found[i].basisPoints);
            }
            require(keccak256(again) == keccak256(parents));
        } catch (bytes memory reason) {
            require(reason.length >= 4 && bytes4(reason) != 0x4e487b71, "a panic");
        }
    }
}
