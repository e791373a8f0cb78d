// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";

/// @title Records as the code of accounts
/// @notice A record is written once and read for ever, so it is stored as contract code, where a byte costs a
/// third of what it costs in a storage slot. Its account is created by CREATE2 with a salt made from the record's id and an
/// init code that is always the same, so the record's address follows from the id and no slot has to point at it.
///
/// CREATE2 hashes the init code into the address: the record cannot be inside it. Instead the init code calls its
/// creator back, and the creator's `fallback` answers with the bytes, which wait in transient storage meanwhile.
///
/// A record begins with 00 (STOP): calling its account does nothing, and it can never destroy itself.
abstract contract RecordAccounts {
    /// @dev PUSH-free, with RETURNDATASIZE as the zero: staticcall(gas, caller, 0, 0, 0, 0);
    /// returndatacopy(0, 0, returndatasize); return(0, returndatasize)
    bytes14 private constant INIT_CODE = 0x3d3d3d3d335afa3d5f5f3e3d5ff3;
    bytes32 private constant INIT_CODE_HASH = keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3");

    /// @dev Answers the init code of a record while `_createRecord` holds its bytes; everything else is refused.
    fallback() external {
        assembly ("memory-safe") {
            let size := tload(0)
            if iszero(size) { revert(0, 0) }
            // Words wait under the keys 1, 2, ... This frame ends here, so all of memory is ours.
            for { let i := shr(5, add(size, 31)) } i { i := sub(i, 1) } { mstore(shl(5, sub(i, 1)), tload(i)) }
            return(0, size)
        }
    }

    /// @dev Stores `data`, which begins with 00, as the code of the account that `salt` gives.
    /// @return account Its address; all of `data` is there. Zero if that account was there before.
    function _createRecord(bytes32 salt, bytes memory data) internal returns (address account) {
        bytes32 initCode = INIT_CODE;
        assembly ("memory-safe") {
            let size := mload(data)
            for { let i := shr(5, add(size, 31)) } i { i := sub(i, 1) } { tstore(i, mload(add(data, shl(5, i)))) }
            tstore(0, size)
            mstore(0, initCode)
            account := create2(0, 0, 14, salt)
            tstore(0, 0)
        }
        // A call back that runs out of gas gives an account without code, and CREATE2 reports success.
        if (account.code.length == data.length) return account;
        if (account != address(0) || !_exists(salt)) revert IModelRegistry.RecordFailed();
    }

    function _recordAccount(bytes32 salt) internal view returns (address account) {
        bytes32 initCodeHash = INIT_CODE_HASH;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, or(shl(160, 0xff), address()))
            mstore(add(free, 32), salt)
            mstore(add(free, 64), initCodeHash)
            account := and(keccak256(add(free, 11), 85), 0xffffffffffffffffffffffffffffffffffffffff)
        }
    }

    function _exists(bytes32 salt) internal view returns (bool) {
        return _recordAccount(salt).code.length != 0;
    }
}
