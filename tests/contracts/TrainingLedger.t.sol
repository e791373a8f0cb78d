// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TrainingLedger} from "../../contracts/TrainingLedger.sol";
import {ITrainingLedger} from "../../contracts/interfaces/ITrainingLedger.sol";
import {Folding} from "./Folding.sol";
import {RegistryTest} from "./RegistryTest.sol";

/// `height` is kept here, because a compiler may read the block's number only once in a function.
contract TrainingLedgerTest is RegistryTest, Folding {
    address private trainer = vm.addr(0x7EA1);
    uint256 private height = 1_000;
    TrainingLedger private ledger;

    function setUp() public override {
        super.setUp();
        vm.roll(height);
        ledger = TrainingLedger(create("TrainingLedger", ""));
    }

    function advance(uint256 blocks) private {
        height += blocks;
        vm.roll(height);
    }

    function announce() private returns (uint256) {
        vm.prank(trainer);
        return ledger.announce("recipe", "dataset", "base");
    }

    function commit(uint256 runId) private {
        vm.prank(trainer);
        ledger.commit(runId, "proof", "adapter");
    }

    function challenged() private returns (uint256 runId) {
        runId = announce();
        commit(runId);
        advance(9);
        require(ledger.draw(runId) != 0);
    }

    function attest(address verifier, uint256 runId, ITrainingLedger.Grade grade, uint32 segments) private {
        vm.prank(verifier);
        ledger.attest(runId, grade, segments, keccak256(abi.encode(verifier)));
    }

    function refuseAttest(address by, uint256 runId, ITrainingLedger.Grade grade, uint32 segments, bytes memory failure)
        private
    {
        vm.prank(by);
        vm.expectRevert(failure);
        ledger.attest(runId, grade, segments, "report");
    }

    // ------------------------------------------------------------------------------------------ announce and commit

    function testRunsAreNumberedFromOneInTheirOrder() public {
        eq(ledger.runCount(), 0);
        eq(announce(), 1);
        vm.prank(stranger);
        eq(ledger.announce("r", "d", "b"), 2);
        eq(ledger.runCount(), 2);
        eq(ledger.getRun(2).trainer, stranger);
    }

    function testARunReadsBackAtEveryStage() public {
        uint256 runId = announce();
        ITrainingLedger.Run memory run = ledger.getRun(runId);
        eq(run.trainer, trainer);
        eq(run.recipe, "recipe");
        eq(run.dataset, "dataset");
        eq(run.base, "base");
        eq(run.announcedAt, START);
        eq(run.committedAt, 0);
        eq(run.targetBlock, 0);
        vm.warp(START + 3600);
        commit(runId);
        run = ledger.getRun(runId);
        eq(run.proofRoot, "proof");
        eq(run.adapter, "adapter");
        eq(run.announcedAt, START);
        eq(run.committedAt, START + 3600);
        require(run.targetBlock > height, "the challenge is known at the commitment");
        eq(run.seed, 0);
        eq(run.recipe, "recipe");
    }

    function testUnknownRunsAreSaid() public {
        bytes memory failure = fail(ITrainingLedger.UnknownRun.selector, uint256(1));
        vm.expectRevert(failure);
        ledger.getRun(1);
        vm.expectRevert(failure);
        ledger.commit(1, "p", "a");
        vm.expectRevert(failure);
        ledger.draw(1);
        vm.expectRevert(failure);
        ledger.attest(1, ITrainingLedger.Grade.Attested, 0, "r");
        vm.expectRevert(failure);
        ledger.attestations(1, address(0), 1);
        vm.expectRevert(failure);
        ledger.attestationOf(1, stranger);
        vm.expectRevert(fail(ITrainingLedger.UnknownRun.selector, uint256(0)));
        ledger.getRun(0);
    }

    function testDigestsSaySomething() public {
        bytes memory failure = fail(ITrainingLedger.InvalidDigest.selector);
        vm.expectRevert(failure);
        ledger.announce(0, "dataset", "base");
        vm.expectRevert(failure);
        ledger.announce("recipe", 0, "base");
        vm.expectRevert(failure);
        ledger.announce("recipe", "dataset", 0);
        eq(ledger.runCount(), 0);
        uint256 runId = announce();
        vm.prank(trainer);
        vm.expectRevert(failure);
        ledger.commit(runId, 0, "adapter");
        vm.prank(trainer);
        vm.expectRevert(failure);
        ledger.commit(runId, "proof", 0);
        commit(runId);
        vm.prank(stranger);
        vm.expectRevert(failure);
        ledger.attest(runId, ITrainingLedger.Grade.Attested, 0, 0);
    }

    function testOnlyTheTrainerCommitsAndOnce() public {
        uint256 runId = announce();
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ITrainingLedger.NotTrainer.selector, runId, stranger));
        ledger.commit(runId, "p", "a");
        commit(runId);
        vm.prank(trainer);
        vm.expectRevert(fail(ITrainingLedger.AlreadyCommitted.selector, runId));
        ledger.commit(runId, "another proof", "another adapter");
        eq(ledger.getRun(runId).proofRoot, "proof");
    }

    // -------------------------------------------------------------------------------------------------- the seed

    function testTheSeedComesFromABlockAfterTheCommitment() public {
        uint256 runId = announce();
        vm.expectRevert(fail(ITrainingLedger.NotCommitted.selector, runId));
        ledger.draw(runId);
        commit(runId);
        uint256 target = ledger.getRun(runId).targetBlock;
        while (height < target) {
            vm.expectRevert(fail(ITrainingLedger.TooEarly.selector, target));
            ledger.draw(runId);
            advance(1);
        }
        vm.expectRevert(fail(ITrainingLedger.TooEarly.selector, target)); // its own hash is not there yet
        ledger.draw(runId);
        advance(1);
        vm.prank(stranger);
        bytes32 seed = ledger.draw(runId);
        eq(seed, keccak256(abi.encode(runId, blockhash(target))));
        require(blockhash(target) != 0);
        eq(ledger.getRun(runId).seed, seed);
        vm.expectRevert(fail(ITrainingLedger.AlreadyChallenged.selector, runId));
        ledger.draw(runId);
    }

    function testTheHashLastsForTheLast256Blocks() public {
        uint256 runId = announce();
        commit(runId);
        uint256 target = ledger.getRun(runId).targetBlock;
        advance(target + 256 - height);
        require(ledger.draw(runId) != 0);
        eq(ledger.getRun(runId).misses, 0);
    }

    function testAMissedBlockNamesAnotherAndIsCounted() public {
        uint256 runId = announce();
        commit(runId);
        for (uint256 i = 1; i < 4; ++i) {
            advance(ledger.getRun(runId).targetBlock + 257 - height);
            eq(ledger.draw(runId), 0);
            ITrainingLedger.Run memory run = ledger.getRun(runId);
            eq(run.misses, i);
            eq(run.seed, 0);
            require(run.targetBlock > height);
            vm.expectRevert(fail(ITrainingLedger.TooEarly.selector, run.targetBlock));
            ledger.draw(runId);
        }
        advance(ledger.getRun(runId).targetBlock + 1 - height);
        require(ledger.draw(runId) != 0);
        eq(ledger.getRun(runId).misses, 3);
    }

    function testTwoRunsOfOneBlockHaveDifferentSeeds() public {
        uint256 one = announce();
        uint256 two = announce();
        commit(one);
        commit(two);
        advance(9);
        require(ledger.draw(one) != ledger.draw(two));
    }

    // ---------------------------------------------------------------------------------------------- attestations

    function testAnAttestationReadsBack() public {
        uint256 runId = challenged();
        vm.warp(START + 7200);
        attest(stranger, runId, ITrainingLedger.Grade.Exact, 4);
        ITrainingLedger.Attestation memory found = ledger.attestationOf(runId, stranger);
        eq(found.verifier, stranger);
        require(found.grade == ITrainingLedger.Grade.Exact);
        eq(found.segments, 4);
        eq(found.attestedAt, START + 7200);
        eq(found.report, keccak256(abi.encode(stranger)));
        require(ledger.attestationOf(runId, buyer).grade == ITrainingLedger.Grade.None);
        eq(ledger.getRun(runId).attestations, 1);
    }

    function testAReplayNeedsTheSeedAndSegments() public {
        uint256 runId = announce();
        refuseAttest(
            stranger, runId, ITrainingLedger.Grade.Exact, 4, fail(ITrainingLedger.NotCommitted.selector, runId)
        );
        commit(runId);
        refuseAttest(
            stranger, runId, ITrainingLedger.Grade.Exact, 4, fail(ITrainingLedger.NotChallenged.selector, runId)
        );
        advance(9);
        ledger.draw(runId);
        bytes memory failure = fail(ITrainingLedger.InvalidAttestation.selector);
        refuseAttest(stranger, runId, ITrainingLedger.Grade.Exact, 0, failure);
        refuseAttest(stranger, runId, ITrainingLedger.Grade.Numeric, 0, failure);
        refuseAttest(stranger, runId, ITrainingLedger.Grade.Functional, 0, failure);
        refuseAttest(stranger, runId, ITrainingLedger.Grade.Attested, 1, failure);
        refuseAttest(stranger, runId, ITrainingLedger.Grade.None, 0, failure);
        refuseAttest(stranger, runId, ITrainingLedger.Grade.None, 1, failure);
        attest(stranger, runId, ITrainingLedger.Grade.Functional, 1);
    }

    function testAWordWithoutAReplayNeedsNoSeed() public {
        uint256 runId = announce();
        refuseAttest(
            stranger, runId, ITrainingLedger.Grade.Attested, 0, fail(ITrainingLedger.NotCommitted.selector, runId)
        );
        commit(runId);
        attest(stranger, runId, ITrainingLedger.Grade.Attested, 0);
    }

    function testATrainerDoesNotAttestItsOwnRun() public {
        uint256 runId = challenged();
        refuseAttest(
            trainer, runId, ITrainingLedger.Grade.Exact, 4, fail(ITrainingLedger.SelfAttestation.selector, runId)
        );
    }

    function testAVerifierAttestsOnce() public {
        uint256 runId = challenged();
        attest(stranger, runId, ITrainingLedger.Grade.Attested, 0);
        bytes memory failure = abi.encodeWithSelector(ITrainingLedger.AlreadyAttested.selector, runId, stranger);
        refuseAttest(stranger, runId, ITrainingLedger.Grade.Exact, 4, failure);
        attest(stranger, challenged(), ITrainingLedger.Grade.Exact, 4); // another run
    }

    /// Everybody's word, newest first, in pages of any size, without a log.
    function testFuzzAttestationsAreListed(uint8 count, uint8 page) public {
        uint256 runId = challenged();
        uint256 limit = uint256(page) % 7 + 1;
        for (uint256 i; i < count % 20; ++i) attest(vm.addr(i + 1), runId, ITrainingLedger.Grade.Exact, 1);
        eq(ledger.getRun(runId).attestations, count % 20);
        uint256 left = count % 20;
        address cursor;
        while (true) {
            ITrainingLedger.Attestation[] memory items = ledger.attestations(runId, cursor, limit);
            require(items.length <= limit);
            if (items.length == 0) break;
            for (uint256 i; i < items.length; ++i) eq(items[i].verifier, vm.addr(left--));
            cursor = items[items.length - 1].verifier;
        }
        eq(left, 0);
    }

    function testAPageEndsAtFiveHundred() public {
        uint256 runId = challenged();
        for (uint256 i; i < 501; ++i) {
            attest(address(uint160(i + 10_000)), runId, ITrainingLedger.Grade.Exact, 1);
        }
        eq(ledger.attestations(runId, address(0), type(uint256).max).length, 500);
        eq(ledger.attestations(runId, address(10_001), 500).length, 1);
        eq(ledger.attestations(runId, address(10_000), 500).length, 0);
    }

    /// A cursor that is nobody's must not look like the end of the list.
    function testACursorThatIsNoVerifierIsRefused() public {
        uint256 runId = challenged();
        attest(stranger, runId, ITrainingLedger.Grade.Exact, 1);
        vm.expectRevert(abi.encodeWithSelector(ITrainingLedger.NotAttested.selector, runId, buyer));
        ledger.attestations(runId, buyer, 1);
    }

    // ---------------------------------------------------------------------------------------------- completeness

    function testEveryChangeFolds() public {
        vm.recordLogs();
        vm.expectEmit(address(ledger));
        emit ITrainingLedger.RunAnnounced(1, trainer, "recipe", "dataset", "base");
        announce();
        vm.expectEmit(address(ledger));
        emit ITrainingLedger.RunCommitted(1, "proof", "adapter", height + 8);
        commit(1);
        advance(300);
        vm.expectEmit(address(ledger));
        emit ITrainingLedger.ChallengeMissed(1, height + 8);
        ledger.draw(1);
        advance(9);
        vm.expectEmit(address(ledger));
        emit ITrainingLedger.RunChallenged(1, keccak256(abi.encode(uint256(1), blockhash(height - 1))));
        ledger.draw(1);
        vm.expectEmit(address(ledger));
        emit ITrainingLedger.RunAttested(
            1, stranger, ITrainingLedger.Grade.Exact, 4, keccak256(abi.encode(stranger))
        );
        attest(stranger, 1, ITrainingLedger.Grade.Exact, 4);
        requireFolded(ledger, 0, 5);
    }
}
