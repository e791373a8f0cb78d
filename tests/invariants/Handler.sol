// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "../../contracts/interfaces/IChangeLog.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {Vm} from "./Vm.sol";

/// What the random callers of all contracts share: actors, a clock, a memory of what went wrong, and the fold of all
/// logs that a mirror would make.
///
/// A handler's function makes one call and lets it fail: the runner counts calls and failures of each function, and a
/// failure leaves nothing behind, here as there. What must never happen is not reverted but noted (`note`), because the
/// runner goes on after a revert.
abstract contract Handler {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    uint256 internal constant ACTORS = 5;

    /// What must never have happened; empty as long as it did not.
    string public violation;
    /// The fold of all changes that the contract's logs told.
    bytes32 public folded;

    address[ACTORS] private _actors;
    uint256 public clock = 1_800_000_000;
    uint256 internal blocks = 1;

    constructor() {
        for (uint256 i; i < ACTORS; ++i) _actors[i] = vm.addr(keyOf(i));
    }

    function keyOf(uint256 actor) internal pure returns (uint256) {
        return 0xAC7000 + actor % ACTORS;
    }

    function actorAt(uint256 actor) public view returns (address) {
        return _actors[actor % ACTORS];
    }

    /// One actor in four is somebody; else it is who may.
    function oftenThis(address allowed, uint256 seed) internal view returns (address) {
        return seed % 4 == 0 ? actorAt(seed / 4) : allowed;
    }

    /// Time passes: seconds, minutes, days; and blocks with it.
    function pass(uint256 seconds_) public {
        uint256 scale = seconds_ % 8;
        clock += scale == 0 ? 1 days + seconds_ % 5 days : scale < 4 ? seconds_ % 3 hours : seconds_ % 60;
        blocks += 1 + seconds_ % 3;
        present();
    }

    /// To be called at the beginning of every function: the runner forgets the time between calls.
    function present() internal {
        vm.warp(clock);
        vm.roll(blocks);
    }

    modifier now_() {
        blocks += 1;
        present();
        _;
    }

    /// Folds the logs of a call into `folded`, as IChangeLog says, but for those of records.
    modifier folding(address emitter) {
        blocks += 1;
        present();
        vm.recordLogs();
        _;
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter == emitter && !_ofRecord(logs[i].topics[0])) {
                folded = keccak256(abi.encodePacked(folded, logs[i].topics, logs[i].data));
            }
        }
    }

    function _ofRecord(bytes32 topic) private pure returns (bool) {
        return topic == IModelRegistry.Published.selector || topic == IModelRegistry.VariantsAdded.selector
            || topic == ILoRARegistry.LoRARegistered.selector || topic == ILoRARegistry.LoRAMerged.selector;
    }

    /// Grows with every call: whose turn it is to be looked at.
    function turn() external view returns (uint256) {
        return blocks;
    }

    function note(bool holds, string memory what) internal {
        if (!holds && bytes(violation).length == 0) violation = what;
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
