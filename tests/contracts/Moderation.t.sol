// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICredits} from "../../contracts/interfaces/ICredits.sol";
import {IModelAccess, IModeration, MoneyTest} from "./MoneyTest.sol";

contract ModerationTest is MoneyTest {
    uint256 private constant PERIOD = 7 days;
    bytes32 private constant EVIDENCE = keccak256("evidence");

    /// Alice and Bob may vote, with 60 and 40 ether: a quorum is 20, a quarantine begins at 5.
    function setUp() public override {
        super.setUp();
        stake(alice, 60 ether);
        stake(bob, 40 ether);
        nextBlock();
    }

    function requireCase(bytes32 subject, uint256 caseId, uint256 failed) private view {
        (uint256 newest, uint256 count) = moderation.caseOf(subject);
        eq(newest, caseId);
        eq(count, failed);
    }

    function requireRefused(bytes memory failure, bytes32 subject, uint256 bond, uint8 codec, bytes32 digest) private {
        vm.prank(reporter);
        vm.expectRevert(failure);
        moderation.report{value: bond}(subject, codec, digest);
    }

    function testKnowsItsRegistriesAndItsGuardian() public view {
        eq(address(moderation.registry()), address(registry));
        eq(address(moderation.loras()), address(loras));
        eq(moderation.guardian(), timelock);
        eq(moderation.caseCount(), 0);
    }

    // --------------------------------------------------------------------------------------------------- reporting

    function testAReportOpensACaseAndFlags() public {
        requireStatus(priced, IModeration.Status.Active);
        requireCase(priced, 0, 0);
        vm.prank(reporter);
        vm.expectEmit(address(moderation));
        emit IModeration.Reported(1, priced, reporter, 0.05 ether, START + PERIOD, 0x70, EVIDENCE);
        eq(moderation.report{value: 0.05 ether}(priced, 0x70, EVIDENCE), 1);
        requireStatus(priced, IModeration.Status.Flagged);
        requireStatus(free, IModeration.Status.Active);
        requireCase(priced, 1, 0);
        eq(moderation.caseCount(), 1);
        IModeration.Case memory c = moderation.getCase(1);
        eq(c.subject, priced);
        eq(c.reporter, reporter);
        eq(c.bondWei, 0.05 ether);
        eq(c.openedAt, START);
        eq(c.deadline, START + PERIOD);
        eq(c.snapshot, height - 1);
        eq(c.totalStakeWei, 100 ether);
        eq(c.quorumWei, 20 ether);
        eq(c.quarantineAtWei, 5 ether);
        eq(c.forRemovalWei, 0);
        eq(c.againstWei, 0);
        require(c.outcome == IModeration.Outcome.Open);
        require(!c.closed);
    }

    /// The same two CIDs by another encoder (Python's base64.b32encode of 01, codec, 12 20 and the digest).
    function testEvidenceReadsBackAsACid() public {
        bytes32 digest = 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f;
        report(reporter, priced, digest);
        eq(moderation.getCase(1).evidence, "bafybeiaaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4");
        vm.prank(reporter);
        moderation.report{value: 0.05 ether}(free, 0x55, ~digest);
        eq(moderation.getCase(2).evidence, "bafkreih77367z6727h4pp5xv6tz7f4pq57xo33hl5lu6rz7g4xsohyxb4a");
    }

    function testALoRAIsASubjectToo() public {
        report(lora);
        requireStatus(lora, IModeration.Status.Flagged);
    }

    function testALoRAStandsNoBetterThanItsBaseAndItsBaseNoWorseForIt() public {
        vote(alice, report(lora), true);
        requireStanding(lora, IModeration.Status.Quarantined);
        requireStanding(free, IModeration.Status.Active);
        wait(PERIOD + 1);
        requireStanding(lora, IModeration.Status.Removed);
        bytes32 other = registerLoRA(alice);
        vote(bob, report(free), true);
        requireStanding(other, IModeration.Status.Quarantined);
        requireStatus(other, IModeration.Status.Active); // itself
        wait(PERIOD + 1);
        requireStanding(other, IModeration.Status.Removed);
    }

    function requireStanding(bytes32 id, IModeration.Status status) private view {
        (bool moderated, IModeration.Status effective) = loras.statusOf(id);
        require(moderated && effective == status, "not that standing");
    }

    function testWhatNobodyPublishedCannotBeReported() public {
        bytes32 id = keccak256("nothing");
        requireRefused(fail(IModelAccess.UnknownId.selector, id), id, 0.05 ether, 0x70, EVIDENCE);
        requireRefused(fail(IModelAccess.UnknownId.selector, modelId), modelId, 0.05 ether, 0x70, EVIDENCE);
        requireStatus(id, IModeration.Status.Active);
    }

    function testEvidenceIsACid() public {
        bytes memory failure = fail(IModeration.InvalidEvidence.selector);
        for (uint256 codec; codec < 256; ++codec) {
            if (codec != 0x55 && codec != 0x70) requireRefused(failure, priced, 0.05 ether, uint8(codec), EVIDENCE);
        }
        requireRefused(failure, priced, 0.05 ether, 0x70, 0);
    }

    function testTheBondIsExact() public {
        uint256 bond = 0.05 ether;
        requireRefused(fail(IModeration.WrongBond.selector, bond, bond - 1), priced, bond - 1, 0x70, EVIDENCE);
        requireRefused(fail(IModeration.WrongBond.selector, bond, bond + 1), priced, bond + 1, 0x70, EVIDENCE);
        requireRefused(fail(IModeration.WrongBond.selector, bond, uint256(0)), priced, 0, 0x70, EVIDENCE);
        report(priced);
    }

    function testThereIsOneOpenCaseASubject() public {
        report(priced);
        requireRefused(fail(IModeration.CaseOpen.selector, priced, 1), priced, 0.05 ether, 0x70, EVIDENCE);
        vm.warp(START + PERIOD); // the last second
        requireRefused(fail(IModeration.CaseOpen.selector, priced, 1), priced, 0.05 ether, 0x70, EVIDENCE);
        eq(report(free), 2);
    }

    function testEvidenceServesOnceASubject() public {
        report(reporter, priced, EVIDENCE);
        report(reporter, free, EVIDENCE); // what is wrong with both
        wait(PERIOD + 1);
        requireRefused(fail(IModeration.EvidenceUsed.selector, EVIDENCE), priced, 0.1 ether, 0x70, EVIDENCE);
        requireRefused(fail(IModeration.EvidenceUsed.selector, EVIDENCE), priced, 0.1 ether, 0x55, EVIDENCE);
        report(priced);
    }

    // ------------------------------------------------------------------------------------------------------ voting

    function testAVoteCountsWhatWasAndIsStaked() public {
        uint256 id = report(priced);
        vm.prank(alice);
        vm.expectEmit(address(moderation));
        emit IModeration.Voted(id, alice, true, 60 ether);
        moderation.vote(id, true);
        vote(bob, id, false);
        IModeration.Case memory c = moderation.getCase(id);
        eq(c.forRemovalWei, 60 ether);
        eq(c.againstWei, 40 ether);
        (uint256 weight, bool forRemoval) = moderation.voteOf(id, alice);
        eq(weight, 60 ether);
        require(forRemoval);
        (weight, forRemoval) = moderation.voteOf(id, bob);
        eq(weight, 40 ether);
        require(!forRemoval);
        (weight,) = moderation.voteOf(id, stranger);
        eq(weight, 0);
    }

    function testOneVotesOnce() public {
        uint256 id = report(priced);
        vote(alice, id, true);
        vm.expectRevert(fail(IModeration.AlreadyVoted.selector, id, alice));
        vote(alice, id, true);
        vm.expectRevert(fail(IModeration.AlreadyVoted.selector, id, alice));
        vote(alice, id, false);
    }

    function testWhoHasNoStakeHasNoVote() public {
        uint256 id = report(priced);
        vm.expectRevert(fail(IModeration.NoVotes.selector, id, stranger));
        vote(stranger, id, true);
    }

    function testThereIsNoCaseZeroAndNoneBeyondTheCount() public {
        report(priced);
        uint256[3] memory ids = [uint256(0), 2, type(uint256).max];
        for (uint256 i; i < 3; ++i) {
            bytes memory failure = abi.encodeWithSelector(IModeration.UnknownCase.selector, ids[i]);
            vm.expectRevert(failure);
            moderation.getCase(ids[i]);
            vm.expectRevert(failure);
            vote(alice, ids[i], true);
            vm.expectRevert(failure);
            moderation.close(ids[i]);
            vm.prank(timelock);
            vm.expectRevert(failure);
            moderation.lift(ids[i]);
        }
    }

    function testAQuarantineBeginsAtItsThresholdAndEndsWhenOutvoted() public {
        stake(stranger, 4 ether);
        stake(buyer, 1 ether);
        stake(authority, 5 ether);
        nextBlock();
        uint256 id = report(priced);
        eq(moderation.getCase(id).quarantineAtWei, 5.5 ether);
        vote(stranger, id, true);
        vote(buyer, id, true);
        requireStatus(priced, IModeration.Status.Flagged); // 5 of 5.5
        vote(authority, id, true);
        requireStatus(priced, IModeration.Status.Quarantined);
        vote(bob, id, false);
        requireStatus(priced, IModeration.Status.Flagged); // 10 against 40
        vote(alice, id, true);
        requireStatus(priced, IModeration.Status.Quarantined); // 70 against 40
    }

    function testAsManyAgainstAsForIsNoQuarantineAndNoRemoval() public {
        stake(stranger, 60 ether);
        nextBlock();
        uint256 id = report(priced);
        vote(alice, id, true);
        requireStatus(priced, IModeration.Status.Quarantined);
        vote(stranger, id, false);
        requireStatus(priced, IModeration.Status.Flagged);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.Rejected);
        requireStatus(priced, IModeration.Status.Active);
    }

    function testLittleStakeHasSmallestThresholds() public {
        unstake(alice, 60 ether);
        unstake(bob, 34 ether); // 6 ether: a fifth of them is 1.2
        nextBlock();
        IModeration.Case memory c = moderation.getCase(report(priced));
        eq(c.quorumWei, 5 ether);
        eq(c.quarantineAtWei, 2 ether);
    }

    function testThresholdsAreRoundedUp() public {
        stake(alice, 1);
        nextBlock();
        IModeration.Case memory c = moderation.getCase(report(priced));
        eq(c.quorumWei, 20 ether + 1);
        eq(c.quarantineAtWei, 5 ether + 1);
    }

    // ------------------------------------------------------------------------------------------------------ ending

    function testUpheldIsRemovedWhetherOrNotAnybodyClosesIt() public {
        uint256 id = report(priced);
        vote(alice, id, true);
        vote(bob, id, false);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.Upheld);
        requireStatus(priced, IModeration.Status.Removed);
        requireCase(priced, id, 0);
        vm.expectEmit(address(moderation));
        emit IModeration.Closed(id, priced, IModeration.Outcome.Upheld, reporter);
        moderation.close(id);
        requireStatus(priced, IModeration.Status.Removed);
        requireCase(priced, id, 0);
        eq(moderation.creditOf(reporter), 0.05 ether);
    }

    function testRejectedPaysTheOwnerOfTheVersion() public {
        uint256 id = report(priced);
        vote(alice, id, false);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.Rejected);
        requireStatus(priced, IModeration.Status.Active);
        transfer(); // who owns it when the case is closed
        vm.expectEmit(address(moderation));
        emit IModeration.Closed(id, priced, IModeration.Outcome.Rejected, buyer);
        moderation.close(id);
        eq(moderation.creditOf(buyer), 0.05 ether);
        eq(moderation.creditOf(publisher), 0);
    }

    function testRejectedPaysTheCreatorOfTheLoRA() public {
        uint256 id = report(lora);
        vote(alice, id, false);
        wait(PERIOD + 1);
        moderation.close(id);
        eq(moderation.creditOf(bob), 0.05 ether);
    }

    function testTooFewVotesDecideNothingAndTheBondGoesBack() public {
        stake(stranger, 20 ether);
        nextBlock();
        uint256 id = report(priced); // a quorum is 24
        vote(stranger, id, true);
        requireStatus(priced, IModeration.Status.Quarantined);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.NoQuorum);
        requireStatus(priced, IModeration.Status.Active);
        moderation.close(id);
        eq(moderation.creditOf(reporter), 0.05 ether);
        requireCase(priced, id, 1);
    }

    function testTheQuorumItselfIsEnoughAndAWeiLessIsNot() public {
        unstake(alice, 20 ether);
        stake(stranger, 20 ether - 1);
        stake(buyer, 1);
        nextBlock();
        uint256 id = report(priced);
        eq(moderation.getCase(id).quorumWei, 20 ether);
        vote(stranger, id, true);
        uint256 other = report(free);
        vote(stranger, other, true);
        vote(buyer, other, true);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.NoQuorum);
        requireOutcome(other, IModeration.Outcome.Upheld);
    }

    function testACaseIsClosedOnceAndNotBeforeItsEnd() public {
        uint256 id = report(priced);
        bytes memory failure = fail(IModeration.CaseGoesOn.selector, id, START + PERIOD);
        vm.expectRevert(failure);
        moderation.close(id);
        vm.warp(START + PERIOD);
        vm.expectRevert(failure);
        moderation.close(id);
        vm.warp(START + PERIOD + 1);
        require(!moderation.getCase(id).closed);
        moderation.close(id);
        require(moderation.getCase(id).closed);
        vm.expectRevert(abi.encodeWithSelector(IModeration.CaseClosed.selector, id));
        moderation.close(id);
    }

    function testANewReportPaysOutTheCaseBefore() public {
        report(priced);
        wait(PERIOD + 1);
        requireCase(priced, 1, 1);
        vm.expectEmit(address(moderation));
        emit IModeration.Closed(1, priced, IModeration.Outcome.NoQuorum, reporter);
        report(alice, priced, keccak256("more"));
        requireCase(priced, 2, 1);
        eq(moderation.creditOf(reporter), 0.05 ether);
        (, uint256 bonded, uint256 credit) = moderation.totals();
        eq(bonded, 0.1 ether);
        eq(credit, 0.05 ether);
        vm.expectRevert(abi.encodeWithSelector(IModeration.CaseClosed.selector, 1));
        moderation.close(1);
        requireOutcome(1, IModeration.Outcome.NoQuorum);
    }

    function testTheBondDoublesWithEveryCaseThatFailsUpToItsCap() public {
        uint256 bond = 0.05 ether;
        for (uint256 failed; failed < 13; ++failed) {
            requireCase(priced, failed, failed);
            eq(moderation.bondOf(priced), bond);
            uint256 id = report(priced);
            eq(moderation.getCase(id).bondWei, bond);
            eq(moderation.bondOf(priced), bond); // an open case has not failed
            wait(PERIOD + 1);
            if (failed < 10) bond *= 2;
            eq(moderation.bondOf(priced), bond);
            if (failed % 2 == 0) moderation.close(id);
            eq(moderation.bondOf(priced), bond); // paid out or not
        }
        eq(bond, 51.2 ether);
        eq(moderation.bondOf(free), 0.05 ether);
        requireSolvent();
    }

    // ----------------------------------------------------------------------------------------------------- lifting

    function testTheGuardianEndsACaseAndTheBondGoesBack() public {
        uint256 id = report(priced);
        vote(alice, id, true);
        requireStatus(priced, IModeration.Status.Quarantined);
        vm.prank(timelock);
        vm.expectEmit(address(moderation));
        emit IModeration.Closed(id, priced, IModeration.Outcome.Lifted, reporter);
        moderation.lift(id);
        requireStatus(priced, IModeration.Status.Active);
        requireOutcome(id, IModeration.Outcome.Lifted);
        requireCase(priced, id, 1);
        eq(moderation.creditOf(reporter), 0.05 ether);
        eq(moderation.bondOf(priced), 0.1 ether);
        require(moderation.getCase(id).closed);
        vm.expectRevert(abi.encodeWithSelector(IModeration.CaseEnded.selector, id));
        vote(bob, id, true);
        vm.expectRevert(abi.encodeWithSelector(IModeration.CaseClosed.selector, id));
        moderation.close(id);
        wait(PERIOD + 1);
        requireOutcome(id, IModeration.Outcome.Lifted);
        requireStatus(priced, IModeration.Status.Active);
    }

    function testAfterALiftTheSubjectCanBeReportedAgainAtOnce() public {
        uint256 id = report(priced);
        vm.prank(timelock);
        moderation.lift(id);
        eq(report(priced), 2);
        requireStatus(priced, IModeration.Status.Flagged);
        eq(moderation.getCase(2).bondWei, 0.1 ether);
    }

    // ----------------------------------------------------------------------------------------------------- credits

    function testCreditIsPaidOut() public {
        report(priced);
        wait(PERIOD + 1);
        moderation.close(1);
        vm.prank(reporter);
        vm.expectEmit(address(moderation));
        emit ICredits.Withdrawn(reporter, treasury, 0.05 ether);
        moderation.withdraw(payable(treasury));
        eq(treasury.balance, 0.05 ether);
        (uint256 staked, uint256 bonded, uint256 credit) = moderation.totals();
        eq(staked, 100 ether);
        eq(bonded, 0);
        eq(credit, 0);
        eq(address(moderation).balance, 100 ether);
    }

    // ---------------------------------------------------------------------------------------------------- the root

    function testEveryChangeFolds() public {
        bytes32 root = moderation.changeRoot();
        vm.recordLogs();
        stake(stranger, 3 ether);
        unstake(stranger, 1 ether);
        report(priced);
        vote(alice, 1, true);
        vote(bob, 1, false);
        vm.prank(timelock);
        moderation.lift(1);
        report(lora);
        wait(PERIOD + 1);
        report(lora); // closes the case before: two changes
        vm.prank(reporter);
        moderation.withdraw(payable(reporter));
        requireFolded(moderation, root, 10);
    }
}
