// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITrainingLedger} from "../../contracts/interfaces/ITrainingLedger.sol";
import {TrainingLedger} from "../../contracts/TrainingLedger.sol";
import {Handler} from "./Handler.sol";

/// Trainers and verifiers. Each step of a run is kept as it was when it was taken.
contract LedgerHandler is Handler {
    TrainingLedger public immutable ledger = new TrainingLedger();

    uint256 public runs;
    mapping(uint256 runId => bytes32) public announcedAs;
    mapping(uint256 runId => bytes32) public committedAs;
    mapping(uint256 runId => bytes32) public seedOf;
    mapping(uint256 runId => address[]) private _verifiers;
    mapping(uint256 runId => mapping(address verifier => bytes32)) public attestedAs;

    function verifiers(uint256 runId) external view returns (address[] memory) {
        return _verifiers[runId];
    }

    // --------------------------------------------------------------------------------------------------- calls

    function announce(uint256 actor, uint256 seed) external folding(address(ledger)) {
        bytes32 r = keccak256(abi.encode(seed));
        vm.prank(actorAt(actor));
        uint256 runId = ledger.announce(r, seed % 8 == 0 ? bytes32(0) : ~r, bytes32(seed | 1));
        note(runId == ++runs, "runs are not numbered in their order");
        announcedAs[runId] = announced(runId);
    }

    function commit(uint256 actor, uint256 which, uint256 seed) external folding(address(ledger)) {
        uint256 runId = 1 + which % runs;
        for (uint256 i; committedAs[runId] != 0 && i < runs; ++i) runId = 1 + (which + i) % runs;
        address trainer = ledger.getRun(runId).trainer;
        vm.prank(oftenThis(trainer, actor));
        ledger.commit(runId, bytes32(seed | 1), keccak256(abi.encode(seed)));
        note(committedAs[runId] == 0, "a commitment was changed");
        committedAs[runId] = committed(runId);
    }

    function draw(uint256 actor, uint256 which) external folding(address(ledger)) {
        uint256 runId = 1 + which % runs;
        for (uint256 i; (committedAs[runId] == 0 || seedOf[runId] != 0) && i < runs; ++i) runId = 1 + (which + i) % runs;
        ITrainingLedger.Run memory before = ledger.getRun(runId);
        vm.prank(actorAt(actor));
        bytes32 seed = ledger.draw(runId);
        ITrainingLedger.Run memory run = ledger.getRun(runId);
        note(committedAs[runId] != 0 && seedOf[runId] == 0, "a seed without a commitment, or a second one");
        note(block.number > before.targetBlock, "a seed before its block");
        if (seed == 0) note(run.misses == before.misses + 1 && run.targetBlock > block.number, "a miss that is not counted");
        else note(seed == run.seed && run.misses == before.misses && run.targetBlock == before.targetBlock, "another seed");
        seedOf[runId] = seed;
    }

    function attest(uint256 actor, uint256 which, uint256 seed) external folding(address(ledger)) {
        uint256 runId = 1 + which % runs;
        for (uint256 i; committedAs[runId] == 0 && i < runs; ++i) runId = 1 + (which + i) % runs;
        address verifier = actorAt(actor);
        uint32 segments = seed % 3 == 0 ? 0 : uint32(seed);
        ITrainingLedger.Grade grade = ITrainingLedger.Grade(seed % 3 == 0 && seed % 5 != 0 ? 4 : seed % 5);
        vm.prank(verifier);
        ledger.attest(runId, grade, segments, keccak256(abi.encode(seed)));
        note(verifier != ledger.getRun(runId).trainer, "a trainer attested its own run");
        note(segments == 0 || seedOf[runId] != 0, "a replay of what nobody asked for");
        note(attestedAs[runId][verifier] == 0, "a verifier attested twice");
        attestedAs[runId][verifier] = keccak256(abi.encode(ledger.attestationOf(runId, verifier)));
        _verifiers[runId].push(verifier);
    }

    /// Blocks pass, some so many that the hash of the target block is gone.
    function mine(uint256 seed) external {
        blocks += seed % 4 == 0 ? 300 : seed % 12;
        pass(seed);
    }

    // --------------------------------------------------------------------------------------------------- parts

    function announced(uint256 runId) public view returns (bytes32) {
        ITrainingLedger.Run memory run = ledger.getRun(runId);
        return keccak256(abi.encode(run.trainer, run.recipe, run.dataset, run.base, run.announcedAt));
    }

    function committed(uint256 runId) public view returns (bytes32) {
        ITrainingLedger.Run memory run = ledger.getRun(runId);
        return keccak256(abi.encode(run.proofRoot, run.adapter, run.committedAt));
    }
}
