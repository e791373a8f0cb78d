// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "./interfaces/IChangeLog.sol";

/// @title Logs that are also folded into one word of state
/// @notice What it promises stands in IChangeLog. A contract that inherits it tells changes by `_log` and never by `emit`,
/// except those of its records.
/// @dev One function emits and rolls, from the same words and bytes, so that the two cannot differ.
abstract contract ChangeLog is IChangeLog {
    bytes32 private _changeRoot;

    /// @inheritdoc IChangeLog
    function changeRoot() external view returns (bytes32) {
        return _changeRoot;
    }

    /// @dev An event with one indexed argument. `data` is `abi.encode` of the arguments that are not indexed.
    function _log(bytes32 selector, bytes32 a, bytes memory data) internal {
        _log(2, selector, a, 0, 0, data);
    }

    function _log(bytes32 selector, bytes32 a, bytes32 b, bytes memory data) internal {
        _log(3, selector, a, b, 0, data);
    }

    function _log(bytes32 selector, bytes32 a, bytes32 b, bytes32 c, bytes memory data) internal {
        _log(4, selector, a, b, c, data);
    }

    /// @dev An indexed address is the word that ends in it.
    function _topic(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    /// @param count How many topics there are, the selector included: 2..4.
    function _log(uint256 count, bytes32 selector, bytes32 a, bytes32 b, bytes32 c, bytes memory data) private {
        bytes32 root = _changeRoot;
        assembly ("memory-safe") {
            // root | topics | data, behind all memory in use; the data is written over the topics that are not there
            let start := mload(0x40)
            mstore(start, root)
            mstore(add(start, 32), selector)
            mstore(add(start, 64), a)
            mstore(add(start, 96), b)
            mstore(add(start, 128), c)
            let content := add(start, shl(5, add(count, 1)))
            let size := mload(data)
            mcopy(content, add(data, 32), size)
            root := keccak256(start, sub(add(content, size), start))
            switch count
            case 2 { log2(content, size, selector, a) }
            case 3 { log3(content, size, selector, a, b) }
            default { log4(content, size, selector, a, b, c) }
        }
        _changeRoot = root;
    }
}
