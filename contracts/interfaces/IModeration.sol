// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "./IChangeLog.sol";
import {ICredits} from "./ICredits.sol";
import {ILoRARegistry} from "./ILoRARegistry.sol";
import {IModelRegistry} from "./IModelRegistry.sol";

/// @title What is wrong with a version or a LoRA, and who decides
/// @notice Anybody reports, with evidence and a bond. Who staked before the report votes, weighted by stake. A *subject*
/// is a versionId or a loraId. Cases are numbered 1, 2, ... .
///
///     Active --report--> Flagged <--votes--> Quarantined
///        ^                  |                    |
///        +--- deadline: rejected, no quorum, or lifted by the guardian ---+
///                           +--- deadline: upheld ---> Removed (for ever)
///
/// While a case is open the subject is *flagged*, which stops nobody; it is *quarantined* while the votes for removal
/// reach `quarantineAt` and outweigh those against. After the deadline the votes alone say how the case ended, whether
/// or not anybody has called `close`, which only pays out.
///
/// A case is *upheld* if a quorum voted and more of it for removal than against, *rejected* if a quorum voted otherwise;
/// without a quorum it decides nothing. The bond goes back to the reporter, except from a case that was rejected: then
/// it goes to who owns the subject. Every case that does not end in removal doubles the bond for the next one on the
/// same subject, from 0.05 up to 51.2 ether.
///
/// A case runs for 7 days; votes count through its last second. A quorum is a fifth of all stake, at least 5 ether; a
/// quarantine needs a twentieth, at least 2 ether.
/// @custom:security Warning: a removal removes nothing. The record, its id and its bytes stay; clients that follow this
/// contract refuse them unless told otherwise.
/// @custom:security Warning: stake can be bought, and votes with it. Weight is linear because anything else is beaten by
/// splitting an account. The guardian (a timelock) can end a case before its deadline, and can neither begin nor
/// prolong one, nor undo a removal.
/// @custom:security Warning: while little is staked, little decides: who alone has 5 ether staked can have anything
/// removed that the guardian does not lift within 7 days. Trust a removal as much as the stake behind it; `getCase` says
/// how much voted. A policy can appoint another moderation, for which nothing is removed yet.
/// @custom:security Warning: a publisher can report its own version, with poor evidence, and so have the next bond
/// doubled. Votes are on the subject, not on the evidence: vote for the removal of what is bad, whoever reported it.
interface IModeration is IChangeLog, ICredits {
    /// @notice How a subject stands, best first.
    enum Status {
        Active,
        Flagged,
        Quarantined,
        Removed
    }

    /// @notice How a case stands or ended.
    enum Outcome {
        Open,
        Upheld,
        Rejected,
        NoQuorum,
        Lifted
    }

    /// @notice One case.
    /// @param evidence CIDv1 of the evidence, as text.
    /// @param bondWei What the reporter put at stake.
    /// @param snapshot The block whose stakes count as votes: the one before the report.
    /// @param totalStakeWei What quorum and quarantine are parts of: all stake at the snapshot, or the least that there
    /// was at a vote since. So stake that left without voting keeps nobody from reaching a quorum.
    /// @param quorumWei The least stake that has to vote.
    /// @param quarantineAtWei The least stake for removal that quarantines.
    /// @param outcome As it follows from the time and the votes.
    /// @param closed Whether the bond was paid out.
    struct Case {
        bytes32 subject;
        address reporter;
        string evidence;
        uint256 bondWei;
        uint64 openedAt;
        uint64 deadline;
        uint64 snapshot;
        uint256 totalStakeWei;
        uint256 quorumWei;
        uint256 quarantineAtWei;
        uint256 forRemovalWei;
        uint256 againstWei;
        Outcome outcome;
        bool closed;
    }

    event Staked(address indexed account, uint256 amountWei);
    event Unstaked(address indexed account, uint256 amountWei);
    /// @notice A case was opened.
    event Reported(
        uint256 indexed caseId,
        bytes32 indexed subject,
        address indexed reporter,
        uint256 bondWei,
        uint256 deadline,
        uint8 evidenceCodec,
        bytes32 evidenceDigest
    );
    event Voted(uint256 indexed caseId, address indexed voter, bool forRemoval, uint256 weightWei);
    /// @notice The case is paid out.
    /// @param beneficiary Who was credited with the bond.
    event Closed(uint256 indexed caseId, bytes32 indexed subject, Outcome outcome, address beneficiary);

    // UnknownId is that of IModelAccess. A stake that is too large to be kept is OpenZeppelin's
    // SafeCastOverflowedUintDowncast.

    /// @notice There is no such case.
    error UnknownCase(uint256 caseId);
    /// @notice The subject has an open case already.
    error CaseOpen(bytes32 subject, uint256 caseId);
    /// @notice The subject was removed; there is nothing left to report.
    error AlreadyRemoved(bytes32 subject);
    /// @notice The bond must be exactly this.
    error WrongBond(uint256 requiredWei, uint256 sentWei);
    /// @notice The evidence's codec is not raw or dag-pb, or its digest is zero.
    error InvalidEvidence();
    /// @notice The same evidence was brought against this subject before.
    error EvidenceUsed(bytes32 evidenceDigest);
    /// @notice The case has ended.
    error CaseEnded(uint256 caseId);
    /// @notice The case goes on until then.
    error CaseGoesOn(uint256 caseId, uint256 deadline);
    /// @notice The case is paid out already.
    error CaseClosed(uint256 caseId);
    /// @notice The account had no stake before the report, or has none now.
    error NoVotes(uint256 caseId, address account);
    /// @notice The account has voted in this case.
    error AlreadyVoted(uint256 caseId, address account);
    /// @notice The stake cannot leave before then: it voted in a case.
    error StakeLocked(address account, uint256 until);
    /// @notice More is asked for than is staked.
    error InsufficientStake(address account, uint256 stakedWei);
    /// @notice What is staked at the end of that block is not certain yet.
    error BlockNotOver(uint256 blockNumber);
    /// @notice An amount of zero.
    error InvalidAmount();
    /// @notice Only the guardian lifts.
    error NotGuardian(address caller);

    /// @notice Stake what is sent. It can vote in cases that are reported in later blocks.
    function stake() external payable;

    /// @notice Take stake back; not while a case the caller voted in has its deadline ahead.
    function unstake(uint256 amountWei) external;

    /// @notice Report a subject. What is sent is the bond, exactly `bondOf(subject)`.
    /// @param evidenceCodec, evidenceDigest The CIDv1 of the evidence: codec 0x55 or 0x70, SHA-256. The same evidence
    /// serves once against a subject, and may serve against several.
    function report(bytes32 subject, uint8 evidenceCodec, bytes32 evidenceDigest)
        external
        payable
        returns (uint256 caseId);

    /// @notice Vote in an open case, once, with the lesser of the stake before the report and the stake now. The whole
    /// stake stays until the case's deadline.
    function vote(uint256 caseId, bool forRemoval) external;

    /// @notice Pay out a case that has ended. By anybody; a new report does it too.
    function close(uint256 caseId) external;

    /// @notice End a case before its deadline. By the guardian.
    function lift(uint256 caseId) external;

    /// @notice How a subject itself stands. `LoRARegistry.statusOf` also looks at its base.
    function statusOf(bytes32 subject) external view returns (Status);

    /// @notice One case.
    function getCase(uint256 caseId) external view returns (Case memory);

    /// @notice How many cases there are: they are 1..count.
    function caseCount() external view returns (uint256);

    /// @notice The newest case of a subject (0: none), and how many of its cases did not end in removal.
    function caseOf(bytes32 subject) external view returns (uint256 caseId, uint256 failed);

    /// @notice The bond of the next report of a subject.
    function bondOf(bytes32 subject) external view returns (uint256 bondWei);

    /// @notice With what weight an account voted; 0 if it did not.
    function voteOf(uint256 caseId, address account) external view returns (uint256 weightWei, bool forRemoval);

    /// @notice What an account has staked, and until when (Unix seconds) it cannot leave; 0 or the past: it can.
    function stakeOf(address account) external view returns (uint256 amountWei, uint256 lockedUntil);

    /// @notice What an account had staked at the end of a block before this one.
    function stakeAt(address account, uint256 blockNumber) external view returns (uint256 amountWei);

    /// @notice All stake, all bonds of cases that are not closed, and all credits; the contract never holds less.
    function totals() external view returns (uint256 stakedWei, uint256 bondedWei, uint256 creditWei);

    /// @notice Who may lift.
    function guardian() external view returns (address);

    /// @notice The registry of the models.
    function registry() external view returns (IModelRegistry);

    /// @notice The registry of the LoRAs.
    function loras() external view returns (ILoRARegistry);
}
