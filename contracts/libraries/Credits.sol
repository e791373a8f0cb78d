// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ChangeLog} from "../ChangeLog.sol";
import {ICredits} from "../interfaces/ICredits.sol";

/// @title Credits, and the one way out for them
/// @notice What it promises stands in ICredits.
/// @dev The contract that inherits it credits only what it received in the same call or held for somebody before.
abstract contract Credits is ChangeLog, ICredits, ReentrancyGuardTransient {
    mapping(address account => uint256 amountWei) private _credits;
    uint256 private _totalWei;

    /// @inheritdoc ICredits
    function withdraw(address payable to) external nonReentrant {
        if (to == address(0)) revert InvalidAccount();
        uint256 amountWei = _credits[msg.sender];
        if (amountWei == 0) revert NothingToWithdraw(msg.sender);
        _credits[msg.sender] = 0;
        _totalWei -= amountWei;
        _log(Withdrawn.selector, _topic(msg.sender), _topic(to), abi.encode(amountWei));
        Address.sendValue(to, amountWei);
    }

    /// @inheritdoc ICredits
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    function _credit(address account, uint256 amountWei) internal {
        if (amountWei == 0) return;
        _credits[account] += amountWei;
        _totalWei += amountWei;
    }

    function _totalCredit() internal view returns (uint256) {
        return _totalWei;
    }
}
