// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ChangeLog} from "./ChangeLog.sol";
import {ITrainingLedger} from "./interfaces/ITrainingLedger.sol";

/// @title The ledger of training runs
/// @notice What it promises stands in ITrainingLedger. It has no owner, no settings and no way to be changed.
contract TrainingLedger is ITrainingLedger, ChangeLog {
    /// @dev From a commitment to the block that says what is replayed: long enough that a chain seldom drops so many
    /// blocks, and that who produces one block cannot know the hash of that one.
    uint256 private constant DELAY_BLOCKS = 8;
    uint256 private constant MAX_PAGE = 500;

    /// @dev `newest` is the verifier who attested last; the attestations are a list, each naming the one before it.
    struct Entry {
        address trainer;
        uint48 announcedAt;
        uint48 committedAt;
        address newest;
        uint48 targetBlock;
        uint32 attestations;
        uint16 misses;
        bytes32 recipe;
        bytes32 dataset;
        bytes32 base;
        bytes32 proofRoot;
        bytes32 adapter;
        bytes32 seed;
    }

    struct Statement {
        address before; // the verifier who attested before this one
        Grade grade;
        uint32 segments;
        uint48 attestedAt;
        bytes32 report;
    }

    /// @inheritdoc ITrainingLedger
    uint256 public runCount;
    mapping(uint256 runId => Entry) private _runs;
    mapping(uint256 runId => mapping(address verifier => Statement)) private _statements;

    // --------------------------------------------------------------------------------------------------- writing

    /// @inheritdoc ITrainingLedger
    function announce(bytes32 recipe, bytes32 dataset, bytes32 base) external returns (uint256 runId) {
        if (recipe == 0 || dataset == 0 || base == 0) revert InvalidDigest();
        runId = ++runCount;
        Entry storage run = _runs[runId];
        (run.trainer, run.announcedAt) = (msg.sender, uint48(block.timestamp));
        (run.recipe, run.dataset, run.base) = (recipe, dataset, base);
        _log(RunAnnounced.selector, bytes32(runId), _topic(msg.sender), abi.encode(recipe, dataset, base));
    }

    /// @inheritdoc ITrainingLedger
    function commit(uint256 runId, bytes32 proofRoot, bytes32 adapter) external {
        Entry storage run = _requireRun(runId);
        if (msg.sender != run.trainer) revert NotTrainer(runId, msg.sender);
        if (run.committedAt != 0) revert AlreadyCommitted(runId);
        if (proofRoot == 0 || adapter == 0) revert InvalidDigest();
        uint256 targetBlock = block.number + DELAY_BLOCKS;
        (run.committedAt, run.targetBlock) = (uint48(block.timestamp), uint48(targetBlock));
        (run.proofRoot, run.adapter) = (proofRoot, adapter);
        _log(RunCommitted.selector, bytes32(runId), abi.encode(proofRoot, adapter, targetBlock));
    }

    /// @inheritdoc ITrainingLedger
    function draw(uint256 runId) external returns (bytes32 seed) {
        Entry storage run = _requireCommitted(runId);
        if (run.seed != 0) revert AlreadyChallenged(runId);
        uint256 targetBlock = run.targetBlock;
        if (block.number <= targetBlock) revert TooEarly(targetBlock);
        bytes32 hash = blockhash(targetBlock);
        if (hash == 0) {
            targetBlock = block.number + DELAY_BLOCKS;
            run.targetBlock = uint48(targetBlock);
            if (run.misses != type(uint16).max) ++run.misses;
            _log(ChallengeMissed.selector, bytes32(runId), abi.encode(targetBlock));
        } else {
            seed = keccak256(abi.encode(runId, hash));
            run.seed = seed;
            _log(RunChallenged.selector, bytes32(runId), abi.encode(seed));
        }
    }

    /// @inheritdoc ITrainingLedger
    function attest(uint256 runId, Grade grade, uint32 segments, bytes32 report) external {
        Entry storage run = _requireCommitted(runId);
        if (msg.sender == run.trainer) revert SelfAttestation(runId);
        if (grade == Grade.None || (grade == Grade.Attested) != (segments == 0)) revert InvalidAttestation();
        if (report == 0) revert InvalidDigest();
        if (segments != 0 && run.seed == 0) revert NotChallenged(runId);
        Statement storage statement = _statements[runId][msg.sender];
        if (statement.grade != Grade.None) revert AlreadyAttested(runId, msg.sender);
        (statement.before, statement.grade, statement.segments) = (run.newest, grade, segments);
        (statement.attestedAt, statement.report) = (uint48(block.timestamp), report);
        run.newest = msg.sender;
        ++run.attestations;
        _log(RunAttested.selector, bytes32(runId), _topic(msg.sender), abi.encode(grade, segments, report));
    }

    // --------------------------------------------------------------------------------------------------- reading

    /// @inheritdoc ITrainingLedger
    function getRun(uint256 runId) external view returns (Run memory) {
        Entry storage run = _requireRun(runId);
        return Run({
            trainer: run.trainer,
            recipe: run.recipe,
            dataset: run.dataset,
            base: run.base,
            proofRoot: run.proofRoot,
            adapter: run.adapter,
            seed: run.seed,
            announcedAt: run.announcedAt,
            committedAt: run.committedAt,
            targetBlock: run.targetBlock,
            misses: run.misses,
            attestations: run.attestations
        });
    }

    /// @inheritdoc ITrainingLedger
    function attestations(uint256 runId, address cursor, uint256 limit)
        external
        view
        returns (Attestation[] memory items)
    {
        address verifier = _requireRun(runId).newest;
        if (cursor != address(0)) {
            if (_statements[runId][cursor].grade == Grade.None) revert NotAttested(runId, cursor);
            verifier = _statements[runId][cursor].before;
        }
        items = new Attestation[](limit < MAX_PAGE ? limit : MAX_PAGE);
        uint256 used;
        for (; used < items.length && verifier != address(0); ++used) {
            items[used] = _read(runId, verifier);
            verifier = _statements[runId][verifier].before;
        }
        assembly ("memory-safe") {
            mstore(items, used)
        }
    }

    /// @inheritdoc ITrainingLedger
    function attestationOf(uint256 runId, address verifier) external view returns (Attestation memory) {
        _requireRun(runId);
        return _read(runId, verifier);
    }

    // ------------------------------------------------------------------------------------------------ small parts

    function _requireRun(uint256 runId) private view returns (Entry storage run) {
        run = _runs[runId];
        if (run.trainer == address(0)) revert UnknownRun(runId);
    }

    function _requireCommitted(uint256 runId) private view returns (Entry storage run) {
        run = _requireRun(runId);
        if (run.committedAt == 0) revert NotCommitted(runId);
    }

    function _read(uint256 runId, address verifier) private view returns (Attestation memory) {
        Statement storage statement = _statements[runId][verifier];
        return Attestation({
            verifier: verifier,
            grade: statement.grade,
            segments: statement.segments,
            attestedAt: statement.attestedAt,
            report: statement.report
        });
    }
}
