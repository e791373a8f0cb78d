// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A log that proves itself whole
/// @notice A node that serves logs can leave some out and nobody sees it. So every change that a contract tells by a
/// log is also rolled into one word of its state:
///
///     changeRoot = keccak256(changeRoot | topic0 | topic1 | ... | data)
///
/// over the topics and the data exactly as a node returns them. Who folds all logs of the contract up to a block, in
/// their order, and finds the root of that block has every change; the ABI is not needed. Only the logs of records are
/// not folded, because records are a chain of their own (`head`, `records`): `Published`, `VariantsAdded`,
/// `LoRARegistered` and `LoRAMerged`.
interface IChangeLog {
    /// @notice All changes so far, in one word; zero before the first.
    function changeRoot() external view returns (bytes32);
}
