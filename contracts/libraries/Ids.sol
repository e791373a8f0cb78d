// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Ids of models and of what is named inside them
/// @notice All ids are `keccak256(abi.encode(parent, name))`: a model's parent is its publisher's address, a version's
/// and an alias's is the model. Spelled out here because the compiler's own encoding costs three times as much, and a
/// publication needs three ids.
library Ids {
    function modelId(address publisher, bytes calldata name) internal pure returns (bytes32) {
        return nameId(bytes32(uint256(uint160(publisher))), name);
    }

    function nameId(bytes32 parent, bytes calldata name) internal pure returns (bytes32 id) {
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, parent)
            mstore(add(start, 32), 64) // where the text begins
            mstore(add(start, 64), name.length)
            let text := add(start, 96)
            mstore(add(text, and(name.length, not(31))), 0) // the padding of its last word
            calldatacopy(text, name.offset, name.length)
            id := keccak256(start, add(96, and(add(name.length, 31), not(31))))
        }
    }
}
