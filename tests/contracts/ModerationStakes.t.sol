// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IModeration, MoneyTest} from "./MoneyTest.sol";

contract ModerationStakesTest is MoneyTest {
    function requireStake(address account, uint256 amount, uint256 until) private view {
        (uint256 amountWei, uint256 lockedUntil) = moderation.stakeOf(account);
        eq(amountWei, amount);
        eq(lockedUntil, until);
    }

    function requireTotal(uint256 amount) private view {
        (uint256 staked,,) = moderation.totals();
        eq(staked, amount);
        eq(address(moderation).balance, amount);
    }

    function testStakeIsAddedAndTakenBack() public {
        vm.expectEmit(address(moderation));
        emit IModeration.Staked(alice, 3 ether);
        stake(alice, 3 ether);
        stake(alice, 4 ether);
        stake(bob, 1 ether);
        requireStake(alice, 7 ether, 0);
        requireTotal(8 ether);
        vm.expectEmit(address(moderation));
        emit IModeration.Unstaked(alice, 5 ether);
        unstake(alice, 5 ether);
        requireStake(alice, 2 ether, 0);
        requireTotal(3 ether);
        eq(alice.balance, RICH - 2 ether);
        unstake(alice, 2 ether);
        unstake(bob, 1 ether);
        requireTotal(0);
        eq(alice.balance, RICH);
    }

    function testNothingIsNotStaked() public {
        vm.expectRevert(fail(IModeration.InvalidAmount.selector));
        stake(alice, 0);
        vm.expectRevert(fail(IModeration.InvalidAmount.selector));
        unstake(alice, 0);
    }

    function testNobodyTakesBackMoreThanIsStaked() public {
        stake(alice, 2 ether);
        stake(bob, 5 ether);
        vm.expectRevert(fail(IModeration.InsufficientStake.selector, alice, 2 ether));
        unstake(alice, 2 ether + 1);
        vm.expectRevert(fail(IModeration.InsufficientStake.selector, stranger, uint256(0)));
        unstake(stranger, 1);
        vm.expectRevert(fail(IModeration.InsufficientStake.selector, alice, 2 ether));
        unstake(alice, type(uint256).max);
    }

    function testTheStakeOfABlockIsThatAtItsEnd() public {
        uint256 first = height;
        stake(alice, 1 ether);
        stake(alice, 1 ether);
        unstake(alice, 0.5 ether);
        nextBlock();
        eq(moderation.stakeAt(alice, first - 1), 0);
        eq(moderation.stakeAt(alice, first), 1.5 ether);
        stake(alice, 1 ether);
        nextBlock();
        nextBlock();
        eq(moderation.stakeAt(alice, first + 1), 2.5 ether);
        eq(moderation.stakeAt(alice, first + 2), 2.5 ether);
        eq(moderation.stakeAt(bob, first), 0);
    }

    function testTheBlockThatGoesOnHasNoStakeYet() public {
        stake(alice, 1 ether);
        uint256[3] memory blocks = [height, height + 1, type(uint256).max];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IModeration.BlockNotOver.selector, blocks[i]));
            moderation.stakeAt(alice, blocks[i]);
        }
    }

    /// Against a plain list of what was staked after each block.
    function testFuzzThePastIsReadExactly(uint8[40] memory steps) public {
        uint256 first = height;
        uint256[40] memory past;
        uint256 staked;
        for (uint256 i; i < 40; ++i) {
            uint256 amount = steps[i] % 64;
            if (amount != 0 && steps[i] >= 128 && amount <= staked) {
                unstake(alice, amount);
                staked -= amount;
            } else if (amount != 0 && steps[i] < 128) {
                stake(alice, amount);
                staked += amount;
            }
            past[i] = staked;
            nextBlock();
        }
        for (uint256 i; i < 40; ++i) eq(moderation.stakeAt(alice, first + i), past[i]);
        requireTotal(staked);
    }

    function testFuzzAStakeIsKeptExactlyOrRefused(uint256 amount) public {
        amount %= 1 << 128;
        if (amount == 0) amount = 1;
        bank.deal(alice, amount);
        bool tooLarge = amount >= 1 << 96;
        if (tooLarge) vm.expectRevert(overflow(amount));
        stake(alice, amount);
        requireStake(alice, tooLarge ? 0 : amount, 0);
        nextBlock();
        eq(moderation.stakeAt(alice, height - 1), tooLarge ? 0 : amount);
    }

    function testAllStakesTogetherAreNotCutOff() public {
        uint256 limit = 1 << 96;
        bank.deal(alice, limit);
        stake(alice, limit - 1);
        vm.expectRevert(overflow(limit)); // cut off it would be nothing
        stake(bob, 1);
        vm.expectRevert(overflow(limit + 1 ether - 1));
        stake(bob, 1 ether);
        unstake(alice, 1);
        stake(bob, 1);
        requireTotal(limit - 1);
    }

    /// The largest tallies there can be are counted right.
    function testTheLargestVoteIsNotCutOff() public {
        uint256 limit = 1 << 96;
        bank.deal(alice, limit);
        stake(alice, limit - 1 - 1 ether);
        stake(bob, 1 ether);
        nextBlock();
        uint256 id = report(priced);
        vote(alice, id, true);
        vote(bob, id, false);
        IModeration.Case memory c = moderation.getCase(id);
        eq(c.totalStakeWei, limit - 1);
        eq(c.forRemovalWei, limit - 1 - 1 ether);
        eq(c.quorumWei, (limit + 3) / 5);
        requireStatus(priced, IModeration.Status.Quarantined);
        wait(7 days + 1);
        requireOutcome(id, IModeration.Outcome.Upheld);
    }

    function overflow(uint256 value) private pure returns (bytes memory) {
        return abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 96, value);
    }

    // ---------------------------------------------------------------------------------------------------- the lock

    function testStakeThatVotedStaysUntilTheDeadlineIsOver() public {
        stake(alice, 10 ether);
        nextBlock();
        uint256 id = report(priced);
        vote(alice, id, true);
        uint256 deadline = START + 7 days;
        requireStake(alice, 10 ether, deadline);
        vm.expectRevert(fail(IModeration.StakeLocked.selector, alice, deadline));
        unstake(alice, 1);
        vm.warp(deadline);
        vm.expectRevert(fail(IModeration.StakeLocked.selector, alice, deadline));
        unstake(alice, 1);
        vm.warp(deadline + 1);
        unstake(alice, 10 ether);
    }

    function testStakeAddedToALockedOneIsLockedWithIt() public {
        stake(alice, 10 ether);
        nextBlock();
        vote(alice, report(priced), true);
        stake(alice, 5 ether);
        vm.expectRevert(fail(IModeration.StakeLocked.selector, alice, START + 7 days));
        unstake(alice, 5 ether);
    }

    function testTheLatestDeadlineCounts() public {
        stake(alice, 10 ether);
        nextBlock();
        uint256 early = report(priced);
        wait(1 days);
        uint256 late = report(free);
        vote(alice, late, true);
        vote(alice, early, true); // does not shorten the lock
        requireStake(alice, 10 ether, START + 8 days);
        wait(6 days + 1);
        vm.expectRevert(fail(IModeration.StakeLocked.selector, alice, START + 8 days));
        unstake(alice, 1);
        wait(1 days);
        unstake(alice, 10 ether);
    }

    function testALiftDoesNotShortenTheLock() public {
        stake(alice, 10 ether);
        nextBlock();
        uint256 id = report(priced);
        vote(alice, id, true);
        vm.prank(timelock);
        moderation.lift(id);
        vm.expectRevert(fail(IModeration.StakeLocked.selector, alice, START + 7 days));
        unstake(alice, 1);
    }
}
