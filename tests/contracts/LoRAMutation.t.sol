// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {LoRATest} from "./LoRATest.sol";

/// Damaged LoRAs: refused, or read back exactly as the plain decoder below reads them.
contract LoRAMutationTest is LoRATest {
    function testFuzzDamagedLoRAIsRefusedOrReadsBackExactly(
        uint256 seed,
        uint16 place,
        bytes1 value,
        uint8 damage
    ) public {
        check(damaged(random(seed), place, value, damage % 5));
    }

    /// One changed byte at every place of payloads of all three kinds of training.
    function testEveryByteChanged() public {
        Fields memory f = fields("0.1.0");
        f.others = "wqkv,x";
        changeEach(pack(f));
        f.training = told("dataset", "recipe", "proof");
        changeEach(pack(f));
        f.training = byRun(3);
        changeEach(pack(f));
    }

    function changeEach(bytes memory payload) private {
        for (uint256 i; i < payload.length; ++i) {
            bytes1 kept = payload[i];
            bytes1[4] memory others = [bytes1(0), kept ^ 0x01, kept ^ 0x10, bytes1(0xff)];
            for (uint256 j; j < others.length; ++j) {
                payload[i] = others[j];
                check(payload);
            }
            payload[i] = kept;
        }
    }

    function check(bytes memory payload) private {
        skip(86_400); // a day's quota for each; and a gas limit, because a name that is taken costs all there is
        vm.prank(creator);
        try loras.registerLoRA{gas: 3_000_000}(creator, payload) returns (bytes32 id) {
            requireEqual(id, payload);
        } catch (bytes memory reason) {
            require(reason.length >= 4, "refused without an error");
            require(bytes4(reason) != 0x4e487b71, "a panic");
        }
    }

    function requireEqual(bytes32 id, bytes memory payload) private view {
        Fields memory f = decode(payload);
        require(keccak256(pack(f)) == keccak256(payload), "the test's own decoder is wrong");
        ILoRARegistry.LoRA memory found = loras.getLoRA(id);
        eq(id, keccak256(abi.encode("LoRA", creator, f.name, f.version)));
        eq(found.base, f.base);
        eq(found.baseDigest, f.digest);
        eq(found.name, f.name);
        eq(found.version, f.version);
        eq(found.licence, f.licence);
        eq(found.sizeBytes, f.size);
        eq(found.sha256Digest, f.sha);
        eq(found.rank, f.rank);
        eq(found.alpha, f.alpha);
        eq(found.steps, f.steps);
        eq(found.targetModules, modulesOf(f.modules, f.others));
        bytes memory training = found.training.runId != 0
            ? byRun(found.training.runId)
            : found.training.dataset != 0
                ? told(found.training.dataset, found.training.recipe, found.training.proofRoot)
                : bytes(hex"00");
        require(keccak256(training) == keccak256(f.training), "training differs");
    }

    function modulesOf(uint256 bits, string memory others) private pure returns (string memory names) {
        string[16] memory all = [
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens",
            "lm_head", "qkv_proj", "gate_up_proj", "query", "key", "value", "dense", "fc1"
        ];
        for (uint256 i; i < 16; ++i) if ((bits / 2 ** i) % 2 == 1) names = join(names, all[i]);
        if (bytes(others).length != 0) names = join(names, others);
    }

    function join(string memory a, string memory b) private pure returns (string memory) {
        return bytes(a).length == 0 ? b : string.concat(a, ",", b);
    }

    function random(uint256 seed) private view returns (bytes memory) {
        Fields memory f = fields(vm.toString(seed % 1000));
        f.modules = uint16(seed >> 16);
        f.rank = uint16(seed >> 32) % 4096 + 1;
        f.alpha = uint32(seed >> 64) | 1;
        f.steps = uint32(seed >> 96);
        f.size = uint32(seed >> 128) % 500_000_000 + 1;
        if (seed >> 200 & 1 == 1) f.others = "Wqkv,mlp.fc_in";
        if (f.modules == 0) f.modules = 1;
        if (seed >> 201 & 3 == 1) f.training = told("dataset", "recipe", bytes32(seed & 1));
        if (seed >> 201 & 3 == 2) f.training = byRun(uint64(seed) | 1);
        return pack(f);
    }

    /// damage: 0 none, 1 a byte changed, 2 cut off, 3 a byte inserted, 4 bytes appended
    function damaged(bytes memory payload, uint256 place, bytes1 value, uint256 damage)
        private
        pure
        returns (bytes memory)
    {
        place %= payload.length;
        if (damage == 1) payload[place] = value;
        if (damage == 2) return part(payload, 0, place);
        if (damage == 3) return bytes.concat(part(payload, 0, place), value, part(payload, place, payload.length));
        if (damage == 4) return bytes.concat(payload, part(payload, place, payload.length));
        return payload;
    }

    // The plain decoder: every place checked by the compiler's own bounds.

    function decode(bytes memory data) private pure returns (Fields memory f) {
        f.digest = bytes32(part(data, 0, 32));
        f.base = bytes32(part(data, 32, 64));
        uint256 pos;
        (f.name, pos) = textAt(data, 64);
        (f.version, pos) = textAt(data, pos);
        (f.licence, pos) = textAt(data, pos);
        f.codec = uint8(data[pos]);
        f.size = uint32(numberAt(data, pos + 1, 4));
        f.cid = bytes32(part(data, pos + 5, pos + 37));
        f.sha = bytes32(part(data, pos + 37, pos + 69));
        f.rank = uint16(numberAt(data, pos + 69, 2));
        f.alpha = uint32(numberAt(data, pos + 71, 4));
        f.modules = uint16(numberAt(data, pos + 75, 2));
        (f.others, pos) = textAt(data, pos + 77);
        f.steps = uint32(numberAt(data, pos, 4));
        f.training = part(data, pos + 4, data.length);
    }

    function numberAt(bytes memory data, uint256 pos, uint256 n) private pure returns (uint256 number) {
        for (uint256 i; i < n; ++i) number = number * 256 + uint8(data[pos + i]);
    }

    function textAt(bytes memory data, uint256 pos) private pure returns (string memory, uint256) {
        uint256 end = pos + 1 + uint8(data[pos]);
        return (string(part(data, pos + 1, end)), end);
    }

    function part(bytes memory data, uint256 from, uint256 to) private pure returns (bytes memory cut) {
        cut = new bytes(to - from);
        for (uint256 i; i < cut.length; ++i) cut[i] = data[from + i];
    }
}
