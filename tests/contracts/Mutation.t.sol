// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

/// Damaged payloads: refused, or read back exactly as the plain decoder below reads them.
contract MutationTest is RegistryTest {
    struct Plain {
        string name;
        bytes32 manifest;
        string version;
        string licence;
        IModelRegistry.Variant[] variants;
    }

    function testFuzzDamagedReleaseIsRefusedOrReadsBackExactly(
        uint256 seed,
        uint8 count,
        uint16 place,
        bytes1 value,
        uint8 damage
    ) public {
        bytes memory payload = _damage(_random(seed, count % 5 + 1), place, value, damage % 5);
        _check(payload);
    }

    /// One changed byte at every place of a payload.
    function testEveryByteChanged() public {
        bytes memory payload = release("1.0.0");
        for (uint256 i; i < payload.length; ++i) {
            bytes1 kept = payload[i];
            bytes1[4] memory others = [bytes1(0), kept ^ 0x01, kept ^ 0x10, bytes1(0xff)];
            for (uint256 j; j < others.length; ++j) {
                payload[i] = others[j];
                _check(payload);
            }
            payload[i] = kept;
            if (i % 8 == 0) setUp();
        }
    }

    function _check(bytes memory payload) private {
        vm.prank(publisher);
        try registry.publish(publisher, payload, "") returns (bytes32 id) {
            _requireEqual(id, _decode(payload));
        } catch (bytes memory reason) {
            require(reason.length >= 4, "refused without an error");
            require(bytes4(reason) != 0x4e487b71, "a panic");
        }
    }

    function _requireEqual(bytes32 id, Plain memory plain) private view {
        IModelRegistry.Version memory v = registry.getVersion(id);
        eq(v.name, plain.name);
        eq(v.version, plain.version);
        eq(v.licence, plain.licence);
        eq(v.manifests[0], plain.manifest);
        IModelRegistry.Variant[] memory list = registry.getVariants(id);
        eq(list.length, plain.variants.length);
        for (uint256 i; i < list.length; ++i) {
            eq(list[i].quantization, plain.variants[i].quantization);
            eq(list[i].target, plain.variants[i].target);
            eq(list[i].sizeBytes, plain.variants[i].sizeBytes);
            eq(list[i].sha256Digest, plain.variants[i].sha256Digest);
        }
    }

    function _random(uint256 seed, uint256 count) private pure returns (bytes memory payload) {
        bytes memory alphabet = "abcdefghijklmnopqrstuvwxyz";
        for (uint256 i; i < count; ++i) {
            uint256 r = uint256(keccak256(abi.encode(seed, i)));
            bytes memory label = abi.encodePacked(alphabet[i], alphabet[r % 26]);
            payload = abi.encodePacked(payload, variant(2, string(label), r % 3 == 0 ? "" : "sm", r));
        }
        payload = abi.encodePacked(text("fuzz"), keccak256(abi.encode(seed)), FREE, text("1.0"), text("MIT"), payload);
    }

    /// damage: 0 none, 1 a byte changed, 2 cut off, 3 a byte inserted, 4 bytes appended
    function _damage(bytes memory payload, uint256 place, bytes1 value, uint256 damage) private pure returns (bytes memory) {
        place %= payload.length;
        if (damage == 1) payload[place] = value;
        if (damage == 2) return _slice(payload, 0, place);
        if (damage == 3) {
            return abi.encodePacked(_slice(payload, 0, place), value, _slice(payload, place, payload.length));
        }
        if (damage == 4) return abi.encodePacked(payload, _slice(payload, place, payload.length));
        return payload;
    }

    // The plain decoder: byte after byte, every place checked by the compiler's own bounds.

    function _decode(bytes memory data) private pure returns (Plain memory plain) {
        uint256 pos;
        (plain.name, pos) = _text(data, 0);
        plain.manifest = bytes32(_slice(data, pos, pos + 32));
        (plain.version, pos) = _text(data, pos + 36);
        (plain.licence, pos) = _text(data, pos);
        uint256 start = pos;
        uint256 count;
        for (; pos < data.length; ++count) (, pos) = _variant(data, pos);
        require(pos == data.length, "does not end at the end");
        plain.variants = new IModelRegistry.Variant[](count);
        pos = start;
        for (uint256 i; i < count; ++i) (plain.variants[i], pos) = _variant(data, pos);
    }

    function _variant(bytes memory data, uint256 pos) private pure returns (IModelRegistry.Variant memory v, uint256) {
        uint256 q = uint8(data[pos + 1]) / 16;
        uint256 t = uint8(data[pos + 1]) % 16;
        pos += 2;
        v.quantization = string(_slice(data, pos, pos + q));
        v.target = string(_slice(data, pos + q, pos + q + t));
        pos += q + t + 1;
        for (uint256 i; i < 6; ++i) v.sizeBytes = v.sizeBytes * 256 + uint8(data[pos + i]);
        v.sha256Digest = bytes32(_slice(data, pos + 38, pos + 70));
        return (v, pos + 70);
    }

    function _text(bytes memory data, uint256 pos) private pure returns (string memory, uint256) {
        uint256 end = pos + 1 + uint8(data[pos]);
        return (string(_slice(data, pos + 1, end)), end);
    }

    function _slice(bytes memory data, uint256 from, uint256 to) private pure returns (bytes memory part) {
        part = new bytes(to - from);
        for (uint256 i; i < part.length; ++i) part[i] = data[from + i];
    }
}
