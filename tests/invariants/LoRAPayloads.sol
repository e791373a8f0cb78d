// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Payloads} from "./Payloads.sol";

/// Random payloads of the LoRARegistry, packed as plainly as ILoRARegistry lays them out. Most are well formed.
library LoRAPayloads {
    function version(uint256 seed) internal pure returns (string memory) {
        bytes memory digits = new bytes(3);
        for (uint256 i; i < 3; ++i) digits[i] = bytes1(uint8(0x30 + seed / 10 ** i % 10));
        return string(digits);
    }

    function sizeBytes(uint256 seed) internal pure returns (uint32) {
        if (seed % 16 == 0) return 500_000_001;
        if (seed % 16 == 1) return 500_000_000;
        return uint32(1 + seed % 1e8);
    }

    function rank(uint256 seed) internal pure returns (uint16) {
        return [0, 1, 4096, 4097, 8, 16, 32, 64, 8, 16, 32, 64][(seed >> 8) % 12];
    }

    function lora(uint256 seed, bytes32 digest, bytes32 base) internal pure returns (bytes memory) {
        bytes32 r = keccak256(abi.encode("lora", seed));
        bytes memory names = abi.encodePacked(
            Payloads.text(Payloads.name(seed >> 16)), Payloads.text(version(seed >> 24)), Payloads.text("MIT")
        );
        bytes memory content = abi.encodePacked(uint8(0x55), sizeBytes(seed), r, ~r, rank(seed), uint32(1 + seed % 64000));
        return abi.encodePacked(digest, base, names, content, uint16(3), uint8(0), uint32(seed), training(seed));
    }

    function training(uint256 seed) internal pure returns (bytes memory) {
        if (seed % 3 == 0) return hex"00";
        bytes32 r = keccak256(abi.encode("training", seed));
        if (seed % 3 == 1) return abi.encodePacked(uint8(1), r, ~r, bytes32(0));
        return abi.encodePacked(uint8(2), uint64(1 + seed % 4));
    }
}
