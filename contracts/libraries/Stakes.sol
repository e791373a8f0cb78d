// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IModeration} from "../interfaces/IModeration.sol";
import {Credits} from "./Credits.sol";

/// @title Who has staked how much, now and at the end of any block before
/// @notice What it promises stands in IModeration.
/// @dev Amounts have 96 bits (79 thousand million ether): more is refused, never cut off.
abstract contract Stakes is Credits, IModeration {
    using Checkpoints for Checkpoints.Trace208;
    using SafeCast for uint256;

    /// @dev The stake now and the lock in one slot, so that a vote reads and writes one; the past is in the traces.
    struct Account {
        uint96 stakedWei;
        uint40 lockedUntil;
    }

    mapping(address account => Account) private _accounts;
    mapping(address account => Checkpoints.Trace208) private _past;
    Checkpoints.Trace208 private _pastTotal;
    uint96 private _stakedWei;

    /// @inheritdoc IModeration
    function stake() external payable {
        if (msg.value == 0) revert InvalidAmount();
        _setStake(_accounts[msg.sender].stakedWei + msg.value, _stakedWei + msg.value);
        _log(Staked.selector, _topic(msg.sender), abi.encode(msg.value));
    }

    /// @inheritdoc IModeration
    function unstake(uint256 amountWei) external nonReentrant {
        Account memory account = _accounts[msg.sender];
        if (amountWei == 0) revert InvalidAmount();
        if (block.timestamp <= account.lockedUntil) revert StakeLocked(msg.sender, account.lockedUntil);
        if (amountWei > account.stakedWei) revert InsufficientStake(msg.sender, account.stakedWei);
        _setStake(account.stakedWei - amountWei, _stakedWei - amountWei);
        _log(Unstaked.selector, _topic(msg.sender), abi.encode(amountWei));
        Address.sendValue(payable(msg.sender), amountWei);
    }

    /// @inheritdoc IModeration
    function stakeOf(address account) external view returns (uint256 amountWei, uint256 lockedUntil) {
        return (_accounts[account].stakedWei, _accounts[account].lockedUntil);
    }

    /// @inheritdoc IModeration
    function stakeAt(address account, uint256 blockNumber) external view returns (uint256 amountWei) {
        if (blockNumber >= block.number) revert BlockNotOver(blockNumber);
        return _stakeAt(account, blockNumber);
    }

    /// @dev Locks a voter's stake.
    /// @return weightWei What it counts: the lesser of the stake at the end of the block `snapshot` and the stake now.
    function _lock(address voter, uint256 snapshot, uint256 until) internal returns (uint256 weightWei) {
        Account memory account = _accounts[voter];
        weightWei = _stakeAt(voter, snapshot);
        if (account.stakedWei < weightWei) weightWei = account.stakedWei;
        if (until > account.lockedUntil) _accounts[voter].lockedUntil = until.toUint40();
    }

    function _totalStake() internal view returns (uint256) {
        return _stakedWei;
    }

    /// @param blockNumber Of a block before this one.
    function _totalStakeAt(uint256 blockNumber) internal view returns (uint256) {
        return _pastTotal.upperLookupRecent(blockNumber.toUint48());
    }

    function _stakeAt(address account, uint256 blockNumber) private view returns (uint256) {
        return _past[account].upperLookupRecent(blockNumber.toUint48());
    }

    function _setStake(uint256 ofSender, uint256 total) private {
        _stakedWei = total.toUint96(); // and so fits each part of it
        _accounts[msg.sender].stakedWei = uint96(ofSender);
        uint48 key = block.number.toUint48();
        _past[msg.sender].push(key, uint96(ofSender));
        _pastTotal.push(key, uint96(total));
    }
}
