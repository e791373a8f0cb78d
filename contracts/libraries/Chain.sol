// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The newest of a chain of records, how many there are, and a mark, in one slot
/// @notice `newest 160 | count 64 | marked 1`, from the lowest bit. A chain that is zero has no record yet.
type Chain is uint256;

using {newest, count, isMarked, mark, append} for Chain global;

uint256 constant COUNT_ONE = 1 << 160;
uint256 constant MARK = 1 << 224;

function newest(Chain chain) pure returns (address) {
    return address(uint160(Chain.unwrap(chain)));
}

function count(Chain chain) pure returns (uint64) {
    return uint64(Chain.unwrap(chain) >> 160);
}

function isMarked(Chain chain) pure returns (bool) {
    return Chain.unwrap(chain) & MARK != 0;
}

function mark(Chain chain) pure returns (Chain) {
    return Chain.wrap(Chain.unwrap(chain) | MARK);
}

/// @dev 2^64 records are out of reach: the count does not overflow.
function append(Chain chain, address record) pure returns (Chain) {
    unchecked {
        uint256 others = Chain.unwrap(chain) & ~uint256(type(uint160).max);
        return Chain.wrap(others + COUNT_ONE + uint160(record));
    }
}
