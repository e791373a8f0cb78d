// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title CIDs as text
/// @notice Version 1, SHA-256 multihash; as every IPFS tool takes them.
library Cid {
    uint256 internal constant RAW = 0x55;
    uint256 internal constant DAG_PB = 0x70;

    /// @dev `b` and 58 characters of base32 for the 288 bits 01 | codec | 12 20 | digest (and two zero bits).
    /// @param codec One byte below 0x80, so that it is its own varint.
    function text(uint256 codec, bytes32 digest) internal pure returns (string memory) {
        unchecked {
            bytes memory alphabet = "abcdefghijklmnopqrstuvwxyz234567";
            bytes memory characters = new bytes(59);
            characters[0] = "b";
            uint256 bits = (0x01001220 | codec << 16) << 224 | uint256(digest) >> 32;
            for (uint256 i = 1; i <= 51; ++i) characters[i] = alphabet[bits >> (256 - 5 * i) & 31];
            bits = uint256(digest) << 2; // the last 33 bits are not in the text yet
            for (uint256 i = 52; i <= 58; ++i) characters[i] = alphabet[bits >> (5 * (58 - i)) & 31];
            return string(characters);
        }
    }
}
