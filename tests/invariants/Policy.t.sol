// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Policy} from "../../contracts/Policy.sol";
import {InvariantTest} from "./InvariantTest.sol";
import {PolicyHandler} from "./PolicyHandler.sol";

/// Invariant 15 of the policy itself: nothing changes but through the timelock, and the fee is never above its cap.
contract PolicyInvariants is InvariantTest {
    Policy private _policy;
    PolicyHandler private _handler;

    function setUp() external {
        _handler = new PolicyHandler();
        _policy = _handler.policy();
        bytes4[] memory selectors = new bytes4[](6);
        selectors[0] = _handler.propose.selector;
        selectors[1] = _handler.execute.selector;
        selectors[2] = _handler.cancel.selector;
        selectors[3] = _handler.directly.selector;
        selectors[4] = _handler.grantRole.selector;
        selectors[5] = _handler.pass.selector;
        target(_handler, selectors);
        _handler.pass(1);
    }

    function invariantOnlyTheTimelockChangesAnything() external view {
        requireClean(_handler);
        requireFolded(_handler, _policy);
        (address recipient, uint256 basisPoints) = _policy.fee();
        require(address(_policy.moderation()) == _handler.moderation(), "15: another moderation");
        require(recipient == _handler.recipient() && basisPoints == _handler.basisPoints(), "15: another fee");
        require(basisPoints <= 250 && (basisPoints == 0 || recipient != address(0)), "10: the fee is above the cap");
        require(_policy.authority() == _handler.actorAt(0), "15: another authority");
        require(_policy.timelock() == address(_handler.timelock()), "15: another timelock");
    }
}
