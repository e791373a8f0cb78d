// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Where an alias points, the block of its last change and the number of its changes, in one slot
/// @notice `release record 160 | block 48 | changes 48`, from the lowest bit. Zero: never set.
type Alias is uint256;

using {release, changedAtBlock, changes, moveTo} for Alias global;

function release(Alias entry) pure returns (address) {
    return address(uint160(Alias.unwrap(entry)));
}

function changedAtBlock(Alias entry) pure returns (uint256) {
    return uint48(Alias.unwrap(entry) >> 160);
}

function changes(Alias entry) pure returns (uint256) {
    return Alias.unwrap(entry) >> 208;
}

/// @dev Neither 2^48 blocks nor 2^48 changes of one alias can be reached.
function moveTo(Alias entry, address newRelease) view returns (Alias) {
    unchecked {
        return Alias.wrap((entry.changes() + 1) << 208 | block.number << 160 | uint160(newRelease));
    }
}
