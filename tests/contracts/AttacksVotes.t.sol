// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {Timelock} from "../../contracts/Timelock.sol";
import {IModeration, IModelAccess, Moderation, MoneyTest, Policy} from "./MoneyTest.sol";

/// A registry of LoRAs that has as many as a test wants, can forget, and can break down.
contract Creators {
    mapping(bytes32 loraId => address) private _creators;
    bool private _broken;

    function set(bytes32 loraId, address creator) external {
        _creators[loraId] = creator;
    }

    function breakDown() external {
        _broken = true;
    }

    function creatorOf(bytes32 loraId) external view returns (address) {
        require(!_broken, "broken");
        return _creators[loraId];
    }
}

/// Stakes, reports and votes in one transaction, as with money lent for its length.
contract FlashStaker {
    function attack(Moderation moderation, bytes32 subject) external payable returns (bool voted) {
        moderation.stake{value: msg.value - 0.05 ether}();
        uint256 id = moderation.report{value: 0.05 ether}(subject, 0x70, keccak256("flash"));
        (voted,) = address(moderation).call(abi.encodeCall(moderation.vote, (id, true)));
        moderation.unstake(msg.value - 0.05 ether);
    }

    receive() external payable {}
}

contract AttacksVotesTest is MoneyTest {
    uint256 private constant PERIOD = 7 days;
    uint256 private constant DEADLINE = START + PERIOD;

    /// Alice and Bob are honest and vote for removal of what is bad.
    function setUp() public override {
        super.setUp();
        stake(alice, 60 ether);
        stake(bob, 40 ether);
        nextBlock();
    }

    /// Moderation beside a registry that the real one would not be.
    function besides(Creators creators) private {
        moderation = Moderation(create("Moderation", abi.encode(registry, creators, timelock)));
        stake(alice, 60 ether);
        stake(bob, 40 ether);
        nextBlock();
    }

    function account(uint256 i) private pure returns (address) {
        return address(uint160(0xACC0000 + i));
    }

    // -------------------------------------------------------------------------------------------- stake of a moment

    function testFlashStakeHasNoVote() public {
        FlashStaker flash = new FlashStaker();
        require(!flash.attack{value: 10_000.05 ether}(moderation, priced), "voted with lent money");
        requireStatus(priced, IModeration.Status.Flagged);
        eq(address(flash).balance, 10_000 ether);
    }

    function testStakeOfTheReportsBlockHasNoVote() public {
        stake(stranger, 1_000 ether);
        uint256 id = report(priced);
        stake(stranger, 1_000 ether);
        nextBlock();
        vm.expectRevert(fail(IModeration.NoVotes.selector, id, stranger));
        vote(stranger, id, true);
        stake(alice, 1_000 ether); // nor does what an old staker adds
        vote(alice, id, true);
        eq(moderation.getCase(id).forRemovalWei, 60 ether);
    }

    function testStakeVoteUnstakeIsRefusedUntilTheCaseIsOver() public {
        uint256 id = report(priced);
        vote(alice, id, false);
        vm.expectRevert(fail(IModeration.StakeLocked.selector, alice, DEADLINE));
        unstake(alice, 60 ether);
        vm.warp(DEADLINE + 1);
        unstake(alice, 60 ether);
        requireOutcome(id, IModeration.Outcome.Rejected); // the vote of a stake that has left still counts
    }

    function testUnstakeThenVoteCountsWhatIsLeft() public {
        uint256 id = report(priced);
        unstake(alice, 59 ether);
        vote(alice, id, false);
        eq(moderation.getCase(id).againstWei, 1 ether);
        unstake(bob, 40 ether);
        vm.expectRevert(fail(IModeration.NoVotes.selector, id, bob));
        vote(bob, id, false);
    }

    function testUnstakeAndStakeAgainCountsTheLesserOnce() public {
        uint256 id = report(priced);
        unstake(alice, 60 ether);
        stake(alice, 500 ether);
        vote(alice, id, false);
        eq(moderation.getCase(id).againstWei, 60 ether);
    }

    function testStakeMovedToASecondAccountAfterTheSnapshotVotesOnce() public {
        uint256 id = report(priced);
        unstake(alice, 60 ether);
        stake(stranger, 60 ether);
        nextBlock();
        vm.expectRevert(fail(IModeration.NoVotes.selector, id, stranger));
        vote(stranger, id, true);
        vm.expectRevert(fail(IModeration.NoVotes.selector, id, alice));
        vote(alice, id, true);
    }

    function testFuzzSplitAccountsWeighWhatOneDoes(uint8[12] memory parts) public {
        uint256 sum;
        for (uint256 i; i < 12; ++i) {
            sum += uint256(parts[i]) + 1;
            bank.deal(account(i), RICH);
            stake(account(i), uint256(parts[i]) + 1);
        }
        stake(stranger, sum);
        nextBlock();
        uint256 id = report(priced);
        for (uint256 i; i < 12; ++i) vote(account(i), id, true);
        vote(stranger, id, false);
        IModeration.Case memory c = moderation.getCase(id);
        eq(c.forRemovalWei, c.againstWei);
    }

    // ------------------------------------------------------------------------------------------------------- quorums

    function testWhereNobodyStakesNothingIsRemoved() public {
        unstake(alice, 60 ether);
        unstake(bob, 40 ether);
        nextBlock();
        uint256 id = report(priced);
        eq(moderation.getCase(id).totalStakeWei, 0);
        eq(moderation.getCase(id).quorumWei, 5 ether);
        requireStatus(priced, IModeration.Status.Flagged); // zero for is not a threshold of zero
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.NoQuorum);
        requireStatus(priced, IModeration.Status.Active);
    }

    function testAllOfALittleStakeIsNoQuorum() public {
        unstake(alice, 60 ether);
        unstake(bob, 35 ether + 1);
        nextBlock();
        uint256 id = report(priced);
        vote(bob, id, true);
        requireStatus(priced, IModeration.Status.Quarantined);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.NoQuorum);
    }

    /// Otherwise a publisher with money for one block would keep its model from ever being removed.
    function testStakingForOneBlockAndReportingOneselfDoesNotRaiseTheQuorumForGood() public {
        stake(publisher, 100_000 ether);
        nextBlock();
        uint256 id = report(publisher, priced, keccak256("nothing wrong here"));
        unstake(publisher, 100_000 ether);
        eq(moderation.getCase(id).quorumWei, 20_020 ether);
        vote(alice, id, true);
        eq(moderation.getCase(id).totalStakeWei, 100 ether);
        eq(moderation.getCase(id).quorumWei, 20 ether);
        requireStatus(priced, IModeration.Status.Quarantined);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.Upheld);
    }

    function testStakeOfTheReportsBlockDoesNotRaiseTheQuorum() public {
        stake(publisher, 100_000 ether);
        uint256 id = report(priced);
        eq(moderation.getCase(id).totalStakeWei, 100 ether);
        eq(moderation.getCase(id).quorumWei, 20 ether);
    }

    function testStakeThatComesLaterDoesNotRaiseTheQuorum() public {
        uint256 id = report(priced);
        stake(publisher, 100_000 ether);
        nextBlock();
        vote(alice, id, true);
        eq(moderation.getCase(id).totalStakeWei, 100 ether);
        eq(moderation.getCase(id).quorumWei, 20 ether);
    }

    function testFuzzVotesAreNeverMoreThanTheStakeTheyAreMeasuredBy(uint8[8] memory amounts, uint8[8] memory leave) public {
        for (uint256 i; i < 8; ++i) {
            bank.deal(account(i), RICH);
            stake(account(i), uint256(amounts[i]) + 1);
        }
        nextBlock();
        uint256 id = report(priced);
        for (uint256 i; i < 8; ++i) {
            uint256 part = uint256(leave[i]) % (uint256(amounts[i]) + 1);
            if (part != 0) unstake(account(i), part);
            vote(account(i), id, i % 2 == 0);
            IModeration.Case memory c = moderation.getCase(id);
            require(c.forRemovalWei + c.againstWei <= c.totalStakeWei);
        }
    }

    // --------------------------------------------------------------------------------------------------------- edges

    function testTheLastSecondCountsAndTheOneAfterDoesNot() public {
        uint256 id = report(priced);
        stake(stranger, 1);
        vm.warp(DEADLINE - 1);
        vote(alice, id, true);
        requireOutcome(id, IModeration.Outcome.Open);
        vm.warp(DEADLINE);
        requireOutcome(id, IModeration.Outcome.Open);
        requireStatus(priced, IModeration.Status.Quarantined);
        vm.warp(DEADLINE + 1);
        vm.expectRevert(abi.encodeWithSelector(IModeration.CaseEnded.selector, id));
        vote(bob, id, false);
        requireOutcome(id, IModeration.Outcome.Upheld);
        vm.warp(DEADLINE);
        vote(bob, id, false); // the same vote a second earlier
    }

    function testALiftAfterTheDeadlineIsRefused() public {
        uint256 id = report(priced);
        vote(alice, id, true);
        vm.warp(DEADLINE + 1);
        bytes memory failure = abi.encodeWithSelector(IModeration.CaseEnded.selector, id);
        vm.prank(timelock);
        vm.expectRevert(failure);
        moderation.lift(id);
        moderation.close(id);
        vm.prank(timelock);
        vm.expectRevert(failure);
        moderation.lift(id);
        requireStatus(priced, IModeration.Status.Removed);
    }

    function testALiftInTheLastSecondHolds() public {
        uint256 id = report(priced);
        vote(alice, id, true);
        vm.warp(DEADLINE);
        vm.prank(timelock);
        moderation.lift(id);
        vm.warp(DEADLINE + 1);
        requireStatus(priced, IModeration.Status.Active);
        vm.prank(timelock);
        vm.expectRevert(abi.encodeWithSelector(IModeration.CaseEnded.selector, id));
        moderation.lift(id);
    }

    function testRemovedIsTerminal() public {
        uint256 id = report(priced);
        vote(alice, id, true);
        wait(PERIOD + 1);
        bytes memory removed = fail(IModeration.AlreadyRemoved.selector, priced);
        vm.prank(reporter);
        vm.expectRevert(removed);
        moderation.report{value: 0.05 ether}(priced, 0x70, keccak256("again"));
        moderation.close(id);
        vm.prank(reporter);
        vm.expectRevert(removed);
        moderation.report{value: 0.05 ether}(priced, 0x70, keccak256("again"));
        transfer();
        unstake(alice, 60 ether);
        unstake(bob, 40 ether);
        wait(3_650 days);
        vm.prank(timelock);
        vm.expectRevert(abi.encodeWithSelector(IModeration.CaseEnded.selector, id));
        moderation.lift(id);
        requireStatus(priced, IModeration.Status.Removed);
    }

    function testTheGuardianNeitherBeginsNorProlongs() public {
        vm.prank(timelock);
        vm.expectRevert(abi.encodeWithSelector(IModeration.WrongBond.selector, 0.05 ether, 0));
        moderation.report(priced, 0x70, keccak256("for nothing"));
        uint256 id = report(priced);
        vm.expectRevert(abi.encodeWithSelector(IModeration.NoVotes.selector, id, timelock));
        vote(timelock, id, true);
        eq(moderation.getCase(id).deadline, DEADLINE);
    }

    function testOneVotesInTwoCasesAtOnceWithTheSameStake() public {
        uint256 one = report(priced);
        wait(1 days);
        uint256 two = report(free);
        vote(alice, one, true);
        vote(alice, two, false);
        eq(moderation.getCase(one).forRemovalWei, 60 ether);
        eq(moderation.getCase(two).againstWei, 60 ether);
        (, uint256 until) = moderation.stakeOf(alice);
        eq(until, DEADLINE + 1 days);
        vm.warp(DEADLINE + 1);
        vm.expectRevert(fail(IModeration.StakeLocked.selector, alice, DEADLINE + 1 days));
        unstake(alice, 1);
    }

    // -------------------------------------------------------------------------------------------- in anybody's way

    function testEvidenceThatAStrangerUsedUpElsewhereStillServes() public {
        bytes32 digest = keccak256("evidence");
        report(stranger, free, digest); // seen in the queue and sent ahead, against something else
        report(reporter, priced, digest);
        requireStatus(priced, IModeration.Status.Flagged);
    }

    function testAFloodOfCasesMakesNothingDearer() public {
        Creators creators = new Creators();
        besides(creators);
        uint256 first = report(priced);
        uint256 before = gasOfVote(alice, first);
        for (uint256 i; i < 100; ++i) {
            bytes32 subject = keccak256(abi.encode(i));
            creators.set(subject, stranger);
            report(stranger, subject, bytes32(i + 1));
        }
        uint256 then = gasOfVote(bob, first);
        require(then <= before, "a vote is dearer after other cases");
        uint256 gas = gasleft();
        moderation.statusOf(priced);
        require(gas - gasleft() < 15_000, "so is a look");
    }

    function gasOfVote(address voter, uint256 caseId) private returns (uint256 gas) {
        vm.prank(voter);
        gas = gasleft();
        moderation.vote(caseId, true);
        return gas - gasleft();
    }

    /// A history is searched by halving: a thousand blocks with a stake in each cost a report little more.
    function testDustStakedInManyBlocksMakesAReportLittleDearer() public {
        uint256 gas = gasleft();
        report(priced);
        uint256 before = gas - gasleft();
        for (uint256 i; i < 1_000; ++i) {
            stake(stranger, 1);
            nextBlock();
        }
        gas = gasleft();
        report(free);
        require(gas - gasleft() < before + 15_000, "the past is walked, not searched");
    }

    function testTooLittleGasNeverPaysARejectedBondToAnotherThanTheOwner() public {
        uint256 id = report(priced);
        vote(alice, id, false);
        wait(PERIOD + 1);
        bool closed;
        for (uint256 gas = 5_000; !closed; gas += 500) {
            (closed,) = address(moderation).call{gas: gas}(abi.encodeCall(moderation.close, (id)));
            require(gas < 300_000, "never closed");
        }
        eq(moderation.creditOf(publisher), 0.05 ether);
    }

    function testARegistryThatForgetsOrBreaksDoesNotStopARejectionFromBeingClosed() public {
        Creators creators = new Creators();
        besides(creators);
        creators.set(lora, bob);
        uint256 id = report(lora);
        vote(alice, id, false);
        bytes32 other = keccak256("other lora");
        creators.set(other, stranger);
        uint256 second = report(other);
        vote(alice, second, false);
        wait(PERIOD + 1);
        creators.set(lora, address(0));
        moderation.close(id);
        eq(moderation.creditOf(timelock), 0.05 ether);
        creators.breakDown();
        moderation.close(second);
        eq(moderation.creditOf(timelock), 0.1 ether);
        vm.prank(reporter);
        vm.expectRevert(fail(IModelAccess.UnknownId.selector, lora));
        moderation.report{value: 0.1 ether}(lora, 0x70, keccak256("while it is broken"));
    }

    // --------------------------------------------------------------------------------------------------- replacement

    function testReplacingTheModerationLeavesOldStakesBondsAndCreditsWithdrawable() public {
        Timelock lock = Timelock(create("Timelock", abi.encode(authority)));
        policy = Policy(create("Policy", abi.encode(authority, lock)));
        vm.prank(authority);
        policy.appoint(moderation);
        uint256 running = report(priced);
        vote(alice, running, true);
        uint256 ended = report(free);
        vm.prank(timelock);
        moderation.lift(ended);
        Moderation next = Moderation(create("Moderation", abi.encode(registry, loras, lock)));
        bytes memory call = abi.encodeCall(policy.appoint, (next));
        vm.prank(authority);
        lock.schedule(address(policy), 0, call, 0, 0, 2 days);
        wait(2 days);
        lock.execute(address(policy), 0, call, 0, 0);
        eq(address(policy.moderation()), address(next));
        require(policy.moderation().statusOf(priced) == IModeration.Status.Active);
        vm.prank(reporter);
        moderation.withdraw(payable(reporter));
        unstake(bob, 40 ether);
        wait(5 days + 1);
        moderation.close(running);
        vm.prank(reporter);
        moderation.withdraw(payable(reporter));
        unstake(alice, 60 ether);
        eq(address(moderation).balance, 0);
        eq(reporter.balance, RICH);
        eq(registry.getVersion(priced).owner, publisher); // and of records, nothing has changed
    }

    function testTwoModerationsKnowNothingOfEachOther() public {
        Moderation next = Moderation(create("Moderation", abi.encode(registry, loras, timelock)));
        report(priced);
        require(next.statusOf(priced) == IModeration.Status.Active);
        eq(next.caseCount(), 0);
    }
}
