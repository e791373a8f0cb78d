// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModelRegistry} from "./RegistryTest.sol";
import {LoRATest} from "./LoRATest.sol";

contract LoRARegisterTest is LoRATest {
    function invalid(uint256 offset) private pure returns (bytes memory) {
        return fail(ILoRARegistry.InvalidLoRA.selector, offset);
    }

    /// Where the codec stands in a payload of `fields("0.1.0")`.
    uint256 private constant CODEC = 64 + 12 + 6 + 11;

    // ------------------------------------------------------------------------------------------------ what is kept

    function testReadsBackExactly() public {
        Fields memory f = fields("0.1.0");
        f.others = "wqkv,out.proj";
        f.training = told("dataset", "recipe", "proof");
        bytes32 id = send(pack(f));
        eq(id, loraIdOf(creator, "0.1.0"));
        ILoRARegistry.LoRA memory found = loras.getLoRA(id);
        eq(found.creator, creator);
        eq(found.name, "support-dpo");
        eq(found.version, "0.1.0");
        eq(found.licence, "apache-2.0");
        eq(found.base, base);
        eq(found.baseDigest, contentOf(base));
        eq(found.sha256Digest, f.sha);
        eq(found.sizeBytes, 83_951_104);
        eq(found.rank, 16);
        eq(found.alpha, 32_000);
        eq(found.targetModules, "q_proj,v_proj,wqkv,out.proj");
        eq(found.steps, 1_200);
        eq(found.training.dataset, "dataset");
        eq(found.training.recipe, "recipe");
        eq(found.training.proofRoot, "proof");
        eq(found.training.runId, 0);
        require(!found.training.confirmed);
        eq(found.createdAt, START);
        eq(loras.creatorOf(id), creator);
        eq(loras.baseOf(id), base);
    }

    /// The record is what the interface says: a header, and what was passed behind the base's digest.
    function testRecordIsAsStated() public {
        bytes32 first = register("0.1.0");
        bytes memory payload = lora("0.2.0");
        bytes32 id = send(payload);
        address record = loras.getLoRA(id).record;
        bytes memory tail = new bytes(payload.length - 32);
        for (uint256 i; i < tail.length; ++i) tail[i] = payload[i + 32];
        address before = loras.getLoRA(first).record;
        bytes memory header = abi.encodePacked(hex"0001", uint40(START), before, creator);
        require(keccak256(record.code) == keccak256(abi.encodePacked(header, tail)));
        bytes32 init = keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3");
        bytes32 place = keccak256(abi.encodePacked(hex"ff", address(loras), id, init));
        eq(record, address(uint160(uint256(place))));
    }

    function testCidIsTheTextThatIpfsToolsTake() public {
        Fields memory f = fields("0.1.0");
        f.codec = 0x55;
        f.cid = 0xb94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9; // SHA-256 of `hello world`
        eq(loras.getLoRA(send(pack(f))).cid, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    }

    function testEveryModuleHasItsName() public {
        Fields memory f = fields("0.1.0");
        f.modules = 0xffff;
        string memory names = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj,embed_tokens,lm_head,qkv_proj,"
            "gate_up_proj,query,key,value,dense,fc1";
        eq(loras.getLoRA(send(pack(f))).targetModules, names);
        f.version = "0.2.0";
        f.modules = 0x8000;
        eq(loras.getLoRA(send(pack(f))).targetModules, "fc1");
        f.version = "0.3.0";
        f.modules = 0;
        f.others = "all-linear";
        eq(loras.getLoRA(send(pack(f))).targetModules, "all-linear");
    }

    function testEmitsWhereTheRecordIs() public {
        bytes32 place = keccak256(
            abi.encodePacked(
                hex"ff", address(loras), loraIdOf(creator, "0.1.0"), keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3")
            )
        );
        vm.expectEmit(address(loras));
        emit ILoRARegistry.LoRARegistered(
            loraIdOf(creator, "0.1.0"), base, creator, address(uint160(uint256(place)))
        );
        register("0.1.0");
    }

    function testTheLongestTextsReadBack() public {
        Fields memory f = fields("v2345678901234567890123456789012");
        f.name = "a234567890123456789012345678901234567890123456789012345678901234";
        f.licence = f.name;
        bytes memory others = new bytes(255);
        for (uint256 i; i < 255; ++i) others[i] = i % 2 == 0 ? bytes1("x") : bytes1(",");
        f.others = string(others);
        f.training = told("dataset", "recipe", 0);
        f.size = 500_000_000;
        f.rank = 4096;
        ILoRARegistry.LoRA memory found = loras.getLoRA(send(pack(f)));
        eq(found.name, f.name);
        eq(found.version, f.version);
        eq(found.licence, f.licence);
        eq(found.targetModules, string.concat("q_proj,v_proj,", f.others));
        eq(found.sizeBytes, 500_000_000);
        eq(found.rank, 4096);
        eq(found.training.recipe, "recipe");
        (ILoRARegistry.Item[] memory items,) = loras.records(address(0), 1);
        eq(items[0].version, f.version);
    }

    function testTwoCreatorsUseTheSameName() public {
        register("0.1.0");
        bytes memory payload = lora("0.1.0");
        vm.prank(buyer);
        bytes32 id = loras.registerLoRA(buyer, payload);
        eq(id, loraIdOf(buyer, "0.1.0"));
        require(id != loraIdOf(creator, "0.1.0"));
    }

    // ------------------------------------------------------------------------------------------------ who and what

    /// What another account copies from the mempool does not work for it, and takes nothing from the creator.
    function testStolenTransactionIsRefused() public {
        bytes memory payload = lora("0.1.0");
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ILoRARegistry.NotCreator.selector, creator, stranger));
        loras.registerLoRA(creator, payload);
        vm.prank(stranger);
        eq(loras.creatorOf(loras.registerLoRA(stranger, payload)), stranger); // a LoRA of the stranger's own
        eq(loras.creatorOf(send(payload)), creator);
    }

    function testALoRAIsNeverReplaced() public {
        bytes32 id = register("0.1.0");
        bytes32 code = keccak256(loras.getLoRA(id).record.code);
        Fields memory f = fields("0.1.0");
        f.sha = "other bytes";
        bytes memory payload = pack(f);
        vm.prank(creator);
        vm.expectRevert(fail(ILoRARegistry.LoRATaken.selector, id));
        loras.registerLoRA{gas: 1_000_000}(creator, payload);
        require(keccak256(loras.getLoRA(id).record.code) == code);
        (, uint256 ever) = loras.countsOf(creator);
        eq(ever, 1);
    }

    function testTheBaseMustBeThere() public {
        Fields memory f = fields("0.1.0");
        f.base = "no such version";
        refuse(f, fail(IModelRegistry.UnknownVersion.selector, f.base));
    }

    function testALoRAIsNoBase() public {
        Fields memory f = fields("0.1.0");
        f.base = register("0.0.1");
        refuse(f, fail(IModelRegistry.UnknownVersion.selector, f.base));
    }

    function testTheBaseMustHaveTheContentItWasTrainedOn() public {
        Fields memory f = fields("0.1.0");
        f.digest = "other weights";
        bytes memory failure =
            abi.encodeWithSelector(ILoRARegistry.WrongBase.selector, base, f.digest, contentOf(base));
        refuse(f, failure);
        f.digest = contentOf(base);
        f.base = publish("1.1.0");
        failure = abi.encodeWithSelector(ILoRARegistry.WrongBase.selector, f.base, f.digest, contentOf(f.base));
        refuse(f, failure);
    }

    function testADeprecatedBaseIsRefusedAndOlderLoRAsStay() public {
        bytes32 id = register("0.1.0");
        vm.prank(publisher);
        registry.deprecate(publisher, NAME, "1.0.0", 0);
        refuse(lora("0.2.0"), fail(ILoRARegistry.BaseDeprecated.selector, base));
        eq(loras.getLoRA(id).baseDigest, contentOf(base));
    }

    function testUnknownIdsAreSaid() public {
        vm.expectRevert(fail(ILoRARegistry.UnknownLoRA.selector, bytes32("none")));
        loras.getLoRA("none");
        vm.expectRevert(fail(ILoRARegistry.UnknownLoRA.selector, base));
        loras.getLoRA(base);
        eq(loras.creatorOf("none"), address(0));
        eq(loras.baseOf("none"), 0);
        eq(loras.baseOf(base), 0);
    }

    // ------------------------------------------------------------------------------------------------- each field

    function testNamesAndLicenceAreChecked() public {
        Fields memory f = fields("0.1.0");
        f.name = "Support";
        refuse(f, fail(IModelRegistry.InvalidText.selector, 64));
        f.name = "";
        refuse(f, fail(IModelRegistry.InvalidText.selector, 64));
        f.name = "a2345678901234567890123456789012345678901234567890123456789012345";
        refuse(f, fail(IModelRegistry.InvalidText.selector, 64));
        f = fields("0.1 0");
        refuse(f, fail(IModelRegistry.InvalidText.selector, 76));
        f = fields("v23456789012345678901234567890123");
        refuse(f, fail(IModelRegistry.InvalidText.selector, 76));
        f = fields("latest");
        refuse(f, fail(IModelRegistry.ReservedName.selector));
        f = fields("0.1.0");
        f.licence = "";
        refuse(f, fail(IModelRegistry.InvalidText.selector, 82));
        f.licence = "MIT\n";
        refuse(f, fail(IModelRegistry.InvalidText.selector, 82));
    }

    function testCodecAndDigestsAreChecked() public {
        Fields memory f = fields("0.1.0");
        f.codec = 0x71;
        refuse(f, invalid(CODEC));
        f = fields("0.1.0");
        f.cid = 0;
        refuse(f, invalid(CODEC + 5));
        f = fields("0.1.0");
        f.sha = 0;
        refuse(f, invalid(CODEC + 37));
    }

    function testSizeHasItsBounds() public {
        Fields memory f = fields("0.1.0");
        f.size = 0;
        refuse(f, fail(ILoRARegistry.InvalidSize.selector, uint256(0)));
        f.size = 500_000_001;
        refuse(f, fail(ILoRARegistry.InvalidSize.selector, 500_000_001));
        f.size = type(uint32).max;
        refuse(f, fail(ILoRARegistry.InvalidSize.selector, type(uint32).max));
        f.size = 500_000_000;
        send(pack(f));
        f = fields("0.2.0");
        f.size = 1;
        send(pack(f));
    }

    function testRankHasItsBounds() public {
        Fields memory f = fields("0.1.0");
        f.rank = 0;
        refuse(f, fail(ILoRARegistry.InvalidRank.selector, uint256(0)));
        f.rank = 4097;
        refuse(f, fail(ILoRARegistry.InvalidRank.selector, 4097));
        f.rank = 4096;
        send(pack(f));
        f = fields("0.2.0");
        f.rank = 1;
        send(pack(f));
    }

    function testAlphaIsNotZero() public {
        Fields memory f = fields("0.1.0");
        f.alpha = 0;
        refuse(f, invalid(CODEC + 71));
    }

    function testModulesAreNamed() public {
        Fields memory f = fields("0.1.0");
        f.modules = 0;
        refuse(f, invalid(CODEC + 75));
        string[6] memory lists = [",", "a,", ",a", "a,,b", "a\nb", unicode"ä"];
        for (uint256 i; i < lists.length; ++i) {
            f.others = lists[i];
            refuse(f, fail(IModelRegistry.InvalidText.selector, CODEC + 77));
        }
        f.others = "a,b";
        send(pack(f));
    }

    function testTrainingIsOneOfThree() public {
        Fields memory f = fields("0.1.0");
        uint256 pos = CODEC + 82;
        f.training = hex"03";
        refuse(f, invalid(pos));
        f.training = told(0, "recipe", "proof");
        refuse(f, invalid(pos + 1));
        f.training = told("dataset", 0, "proof");
        refuse(f, invalid(pos + 33));
        f.training = byRun(0);
        refuse(f, invalid(pos + 1));
        f.training = told("dataset", "recipe", 0);
        send(pack(f));
    }

    function testPayloadEndsWhereItShould() public {
        Fields memory f = fields("0.1.0");
        uint256 end = CODEC + 83;
        bytes memory payload = pack(f);
        eq(payload.length, end);
        refuse(bytes.concat(payload, hex"00"), invalid(end));
        f.training = abi.encodePacked(byRun(7), hex"00");
        refuse(f, invalid(end + 8));
        f.training = abi.encodePacked(told("dataset", "recipe", "proof"), hex"00");
        refuse(f, invalid(end + 96));
        f.training = abi.encodePacked(uint8(1), bytes32("dataset"), bytes32("recipe"), bytes31("proof"));
        refuse(f, invalid(end + 95));
        f.training = "";
        refuse(f, invalid(end - 1));
    }

    /// Cut off anywhere: the error is about what is missing, never a panic, and nothing is left behind.
    function testCutOffAnywhereIsRefused() public {
        Fields memory f = fields("0.1.0");
        f.others = "wqkv";
        f.training = told("dataset", "recipe", "proof");
        bytes memory whole = pack(f);
        for (uint256 n; n < whole.length; ++n) {
            bytes memory part = new bytes(n);
            for (uint256 i; i < n; ++i) part[i] = whole[i];
            vm.prank(creator);
            (bool done, bytes memory reason) =
                address(loras).call(abi.encodeCall(loras.registerLoRA, (creator, part)));
            require(!done && reason.length >= 4 && bytes4(reason) != 0x4e487b71, "accepted or a panic");
        }
        (, uint256 count) = loras.head();
        eq(count, 0);
        send(whole);
    }

    /// With too little gas there is no LoRA; with enough it is whole; never anything between.
    function testGasLimitScanLeavesAWholeRecordOrNone() public {
        register("0.1.0");
        bytes memory call = abi.encodeCall(loras.registerLoRA, (creator, lora("0.2.0")));
        bytes32 id = loraIdOf(creator, "0.2.0");
        for (uint256 gas = 20_000;; gas += 500) {
            require(gas < 400_000, "never succeeded");
            vm.prank(creator);
            (bool done,) = address(loras).call{gas: gas}(call);
            (, uint256 count) = loras.head();
            (, uint256 ever) = loras.countsOf(creator);
            eq(count, done ? 2 : 1);
            eq(ever, count);
            if (done) break;
            eq(loras.creatorOf(id), address(0));
        }
        eq(loras.getLoRA(id).version, "0.2.0");
    }
}
