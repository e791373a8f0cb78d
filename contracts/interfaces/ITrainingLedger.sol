// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "./IChangeLog.sol";

/// @title The ledger of training runs
/// @notice A trainer announces a run before it starts, commits to what came out, and is then told by a later block
/// which parts a verifier will replay. Verifiers attest what they found. The ledger judges nothing: it proves order.
///
///     announced --commit--> committed --draw, some blocks later--> challenged
///
/// Runs are numbered 1, 2, ... in the order of their announcement.
/// @custom:security Warning: an attestation is its verifier's word. Anybody can attest; ask who did.
/// @custom:security Warning: a number names another run after a reorganisation that drops its announcement. Who links
/// to a run compares trainer, base and adapter too, as `LoRARegistry` does.
interface ITrainingLedger is IChangeLog {
    /// @notice How well a replay agreed.
    /// @dev Exact: every leaf equal. Numeric: other hardware, within tolerance. Functional: the same behaviour on a
    /// committed set of prompts. Attested: nothing was replayed.
    enum Grade {
        None,
        Exact,
        Numeric,
        Functional,
        Attested
    }

    /// @notice One training run. What has not happened yet is zero.
    /// @param recipe SHA-256 of the recipe's canonical JSON.
    /// @param dataset Merkle root over the dataset's canonical rows.
    /// @param base Content digest of the base model.
    /// @param proofRoot Merkle root over the leaves of the training steps (RFC 6962).
    /// @param adapter Content digest of what came out.
    /// @param seed From which a verifier draws the segments to replay.
    /// @param announcedAt Unix seconds.
    /// @param committedAt Unix seconds.
    /// @param targetBlock The block whose hash gives the seed.
    /// @param misses How often that hash was gone before anybody drew. More than a few: the trainer may be choosing.
    /// @param attestations How many there are.
    struct Run {
        address trainer;
        bytes32 recipe;
        bytes32 dataset;
        bytes32 base;
        bytes32 proofRoot;
        bytes32 adapter;
        bytes32 seed;
        uint64 announcedAt;
        uint64 committedAt;
        uint64 targetBlock;
        uint32 misses;
        uint32 attestations;
    }

    /// @notice What a verifier found.
    /// @param segments How many parts were replayed.
    /// @param report SHA-256 of the verifier's report, which is also its CID (raw).
    struct Attestation {
        address verifier;
        Grade grade;
        uint32 segments;
        uint64 attestedAt;
        bytes32 report;
    }

    /// @notice A run is about to start.
    event RunAnnounced(
        uint256 indexed runId, address indexed trainer, bytes32 recipe, bytes32 dataset, bytes32 base
    );
    /// @notice A run has ended; the hash of `targetBlock` will say what is replayed.
    event RunCommitted(uint256 indexed runId, bytes32 proofRoot, bytes32 adapter, uint256 targetBlock);
    /// @notice The seed is known.
    event RunChallenged(uint256 indexed runId, bytes32 seed);
    /// @notice The hash of the target block was gone: another block was named.
    event ChallengeMissed(uint256 indexed runId, uint256 targetBlock);
    /// @notice A verifier says what the replay of a run came to.
    event RunAttested(
        uint256 indexed runId, address indexed verifier, Grade grade, uint256 segments, bytes32 report
    );

    /// @notice There is no such run.
    error UnknownRun(uint256 runId);
    /// @notice Only the trainer commits a run.
    error NotTrainer(uint256 runId, address caller);
    /// @notice The run is committed already, and a commitment is never changed.
    error AlreadyCommitted(uint256 runId);
    /// @notice The run is not committed yet.
    error NotCommitted(uint256 runId);
    /// @notice The seed is known already.
    error AlreadyChallenged(uint256 runId);
    /// @notice The run has no seed yet, so nobody can have replayed what it asks for.
    error NotChallenged(uint256 runId);
    /// @notice The hash of this block is wanted, and it is not there yet.
    error TooEarly(uint256 targetBlock);
    /// @notice A digest that must say something is zero.
    error InvalidDigest();
    /// @notice The grade is none, or it claims a replay of no segment, or an attestation without a replay claims some.
    error InvalidAttestation();
    /// @notice A trainer does not attest its own run.
    error SelfAttestation(uint256 runId);
    /// @notice This verifier has attested the run.
    error AlreadyAttested(uint256 runId, address verifier);
    /// @notice The cursor is nobody who attested the run.
    error NotAttested(uint256 runId, address verifier);

    /// @notice Announce a run before it starts: the caller becomes its trainer.
    /// @param recipe, dataset, base See `Run`; none of them zero.
    function announce(bytes32 recipe, bytes32 dataset, bytes32 base) external returns (uint256 runId);

    /// @notice Commit to what came out of the caller's run. Once. Neither digest is zero.
    function commit(uint256 runId, bytes32 proofRoot, bytes32 adapter) external;

    /// @notice Fix the seed of a committed run from the hash of its target block. Anybody may, in the 256 blocks after
    /// it; who comes later names a new target block instead, and that is counted.
    /// @return seed `keccak256(abi.encode(runId, blockhash(targetBlock)))`; zero where a new target was named.
    /// @custom:security Warning: who produces the target block can choose among a few hashes, and a trainer who is the
    /// only one to look can let a seed lapse. Verifiers should draw, and look at `misses`.
    /// @custom:security Warning: who announces and commits the same training several times can show the run whose seed suits
    /// best. Look at all runs of a trainer with this recipe, and replay more segments where there are many.
    /// @custom:security Warning: on a rollup, block numbers and hashes are what its sequencer makes of them.
    function draw(uint256 runId) external returns (bytes32 seed);

    /// @notice Say what the replay of a run came to. Once for each verifier, never the trainer. `Attested` needs no
    /// seed and has no segments; every other grade needs both. The report's digest is not zero.
    function attest(uint256 runId, Grade grade, uint32 segments, bytes32 report) external;

    /// @notice How many runs there are: they are 1..count.
    function runCount() external view returns (uint256);

    /// @notice One run.
    function getRun(uint256 runId) external view returns (Run memory);

    /// @notice Attestations of a run, newest first.
    /// @param cursor The verifier after whose attestation to go on; zero to begin with the newest.
    /// @param limit At most so many, and never more than 500.
    /// @return items None where there are none left.
    function attestations(uint256 runId, address cursor, uint256 limit) external view returns (Attestation[] memory items);

    /// @notice What one verifier said; `Grade.None` if nothing.
    function attestationOf(uint256 runId, address verifier) external view returns (Attestation memory);
}
