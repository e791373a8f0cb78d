// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Reading what a caller packed
/// @dev Sums are unchecked: a payload is shorter than a transaction, and what is added to a place in it below 256.
library Packed {
    /// @dev The text (a length byte and that many characters) at `pos`, empty where it would not fit.
    function text(bytes calldata data, uint256 pos) internal pure returns (bytes calldata characters, uint256 next) {
        unchecked {
            uint256 n = word(data, pos) >> 248;
            next = pos + 1 + n;
            if (next > data.length) n = 0;
            assembly ("memory-safe") {
                characters.offset := add(add(data.offset, pos), 1)
                characters.length := n
            }
        }
    }

    /// @dev What lies behind the end of the payload is not zero; whoever reads there must notice by its length.
    function word(bytes calldata data, uint256 pos) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(data.offset, pos))
        }
    }
}
