// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "../../contracts/interfaces/IChangeLog.sol";
import {Handler} from "./Handler.sol";

/// What the invariant tests of all contracts share: which functions the runner calls at random.
abstract contract InvariantTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    FuzzSelector[] private _targets;
    address[] private _contracts;

    /// Read by the runner.
    function targetSelectors() external view returns (FuzzSelector[] memory) {
        return _targets;
    }

    /// Read by the runner, which would call everything else too.
    function targetContracts() external view returns (address[] memory) {
        return _contracts;
    }

    function target(Handler handler, bytes4[] memory selectors) internal {
        _targets.push(FuzzSelector(address(handler), selectors));
        _contracts.push(address(handler));
    }

    function requireClean(Handler handler) internal view {
        require(block.timestamp == handler.clock(), "the runner forgot the time");
        require(bytes(handler.violation()).length == 0, handler.violation());
    }

    /// A mirror that has folded every log has the contract's own root.
    function requireFolded(Handler handler, IChangeLog log) internal view {
        require(handler.folded() == log.changeRoot(), "a change was not told, or told otherwise");
    }
}
