// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title Two days between what the authority decides and what then holds
/// @notice OpenZeppelin's timelock with everything decided: the authority proposes and cancels, anybody executes what
/// has waited for two days, and nobody but the timelock itself can change these roles or the delay.
/// @custom:security Warning: what the authority proposes is public for two days and certain after them. Whoever does not
/// agree has that long to stop using what it governs (see IPolicy: moderation and fee).
contract Timelock is TimelockController {
    constructor(address authority) TimelockController(2 days, _only(authority), _only(address(0)), address(0)) {}

    function _only(address account) private pure returns (address[] memory accounts) {
        accounts = new address[](1);
        accounts[0] = account;
    }
}
