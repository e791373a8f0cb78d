// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "../../contracts/interfaces/IChangeLog.sol";
import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {Vm} from "./RegistryTest.sol";

/// What a mirror does: it folds the logs of a contract that are not those of records, knowing no ABI.
abstract contract Folding {
    Vm private constant VM = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    /// The root of all logs since `VM.recordLogs()` of one contract, from `root` on.
    function fold(address emitter, bytes32 root) internal returns (bytes32, uint256 folded) {
        Vm.Log[] memory logs = VM.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter != emitter || isOfRecord(logs[i].topics[0])) continue;
            bytes memory topics;
            for (uint256 k; k < logs[i].topics.length; ++k) topics = bytes.concat(topics, logs[i].topics[k]);
            root = keccak256(abi.encodePacked(root, topics, logs[i].data));
            ++folded;
        }
        return (root, folded);
    }

    /// Runs nothing itself: call `VM.recordLogs()` before the changes and this after them.
    function requireFolded(IChangeLog log, bytes32 before, uint256 expected) internal {
        (bytes32 root, uint256 folded) = fold(address(log), before);
        require(folded == expected, "not as many changes as expected");
        require(root == log.changeRoot(), "the root is not that of the logs");
        require(expected == 0 || root != before, "the root has not moved");
    }

    function isOfRecord(bytes32 topic) internal pure returns (bool) {
        return topic == IModelRegistry.Published.selector || topic == IModelRegistry.VariantsAdded.selector
            || topic == ILoRARegistry.LoRARegistered.selector || topic == ILoRARegistry.LoRAMerged.selector;
    }
}
