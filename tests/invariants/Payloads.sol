// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Random payloads, packed as plainly as the interfaces lay them out. Most are well formed.
library Payloads {
    function name(uint256 seed) internal pure returns (string memory) {
        return ["tiny", "m-2", "base_model"][seed % 3];
    }

    function version(uint256 seed) internal pure returns (string memory) {
        return ["1.0.0", "1.0.1", "1.1.0", "2.0.0-rc.1", "2", "main", "3.0+b", "4", "5", "6", "7", "8"][seed % 12];
    }

    /// Some are also versions' names.
    function aliasName(uint256 seed) internal pure returns (string memory) {
        return ["prod", "main", "staging", "2"][seed % 4];
    }

    function text(string memory value) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(bytes(value).length), value);
    }

    function variants(uint256 seed, uint256 least) internal pure returns (bytes memory packed) {
        bytes memory labels = "abcdefghijklmnopqrstuvwxyz";
        uint256 count = 1 + seed % 3;
        uint256 letter = least % 26;
        for (uint256 i; i < count && letter < 26; ++i) {
            bytes32 r = keccak256(abi.encode(seed, i));
            bytes1 codec = uint256(r) % 2 == 0 ? bytes1(0x55) : bytes1(0x70);
            packed = abi.encodePacked(packed, uint8(2), uint8(0x10), labels[letter], codec, uint48(uint256(r)) | 1, r, ~r);
            letter += 1 + uint256(r) % 4;
        }
    }

    function price(uint256 seed) internal pure returns (bytes4) {
        return seed % 3 == 0 ? bytes4(0) : bytes4(uint32((1 + seed % 9999) << 8 | seed % 16));
    }

    function release(uint256 seed, uint256 nameSeed, uint256 versionSeed) internal pure returns (bytes memory) {
        return abi.encodePacked(
            text(name(nameSeed)), manifest(seed), price(seed), text(version(versionSeed)), text("MIT"), variants(seed, 0)
        );
    }

    function manifest(uint256 seed) internal pure returns (bytes32) {
        return keccak256(abi.encode("manifest", seed));
    }

    function addition(uint256 seed) internal pure returns (bytes memory) {
        return abi.encodePacked(manifest(seed), variants(seed, seed >> 8));
    }
}
