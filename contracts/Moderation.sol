// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ILoRARegistry} from "./interfaces/ILoRARegistry.sol";
import {IModelAccess} from "./interfaces/IModelAccess.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IModeration} from "./interfaces/IModeration.sol";
import {Cid} from "./libraries/Cid.sol";
import {Stakes} from "./libraries/Stakes.sol";

/// @title What is wrong with a version or a LoRA, and who decides
/// @notice What it promises stands in IModeration. It has no owner and no way to be changed; a policy that appoints
/// another moderation leaves the stakes, bonds and credits here as they are.
contract Moderation is Stakes {
    using SafeCast for uint256;

    /// @dev Long enough that who looks once a week has a say; the least time for which a voter's stake is locked.
    uint256 private constant VOTING_PERIOD = 7 days;
    /// @dev Far above the gas of a report, far below what keeps an honest reporter away.
    uint256 private constant MIN_BOND_WEI = 0.05 ether;
    /// @dev The bond doubles with every case that fails, up to 51.2 ether: more would end all reports of a subject.
    uint256 private constant MAX_DOUBLINGS = 10;
    /// @dev A fifth of all stake has to vote; few do in any such system, and more would let absence decide.
    uint256 private constant QUORUM_DIVISOR = 5;
    /// @dev While there is little stake, this much has to vote: so a quorum of nothing is impossible.
    uint256 private constant MIN_QUORUM_WEI = 5 ether;
    /// @dev A twentieth quarantines at once: a quarantine is short, can be outvoted and is what stops harm.
    uint256 private constant QUARANTINE_DIVISOR = 20;
    uint256 private constant MIN_QUARANTINE_WEI = 2 ether;

    enum State {
        Standing, // how the case stands follows from time and votes
        PaidOut,
        Lifted // and paid out
    }

    /// @dev One case. Its number is its key.
    struct Entry {
        bytes32 subject;
        bytes32 evidenceDigest;
        address reporter;
        uint96 totalStakeWei;
        uint96 forRemovalWei;
        uint96 againstWei;
        uint40 openedAt;
        uint8 evidenceCodec;
        uint8 doublings; // of the bond
        State state;
    }

    struct Subject {
        uint64 newestCase;
        uint64 failedCases; // that were paid out
    }

    struct Vote {
        uint96 weightWei;
        bool forRemoval;
    }

    /// @inheritdoc IModeration
    IModelRegistry public immutable registry;
    /// @inheritdoc IModeration
    ILoRARegistry public immutable loras;
    /// @inheritdoc IModeration
    address public immutable guardian;

    // These two share the slot of the total stake: a report writes one slot of sums.
    uint96 private _bondedWei;
    uint64 private _caseCount;
    mapping(uint256 caseId => Entry) private _cases;
    mapping(uint256 caseId => mapping(address account => Vote)) private _votes;
    mapping(bytes32 subject => Subject) private _subjects;
    /// @dev In which block some evidence was brought against a subject; 0: never. Also the place of the case's snapshot.
    mapping(bytes32 evidenceId => uint256 blockNumber) private _broughtAt;

    constructor(IModelRegistry registry_, ILoRARegistry loras_, address guardian_) {
        (registry, loras, guardian) = (registry_, loras_, guardian_);
    }

    // --------------------------------------------------------------------------------------------------- writing

    /// @inheritdoc IModeration
    function report(bytes32 subject, uint8 evidenceCodec, bytes32 evidenceDigest)
        external
        payable
        returns (uint256 caseId)
    {
        if (evidenceCodec != Cid.RAW && evidenceCodec != Cid.DAG_PB || evidenceDigest == 0) revert InvalidEvidence();
        if (_ownerOf(subject) == address(0)) revert IModelAccess.UnknownId(subject);
        uint256 failed = _endNewest(subject);
        uint256 bondWei = _bondAfter(failed);
        if (msg.value != bondWei) revert WrongBond(bondWei, msg.value);
        bytes32 evidenceId = _evidenceId(subject, evidenceDigest);
        if (_broughtAt[evidenceId] != 0) revert EvidenceUsed(evidenceDigest);
        _broughtAt[evidenceId] = block.number;
        caseId = ++_caseCount;
        _bondedWei += uint96(bondWei);
        _subjects[subject].newestCase = uint64(caseId);
        Entry storage c = _cases[caseId];
        (c.subject, c.evidenceDigest, c.evidenceCodec) = (subject, evidenceDigest, evidenceCodec);
        (c.reporter, c.openedAt) = (msg.sender, block.timestamp.toUint40());
        c.totalStakeWei = uint96(_totalStakeAt(block.number - 1));
        c.doublings = uint8(_doublings(failed));
        _log(
            Reported.selector,
            bytes32(caseId),
            subject,
            _topic(msg.sender),
            abi.encode(bondWei, block.timestamp + VOTING_PERIOD, evidenceCodec, evidenceDigest)
        );
    }

    /// @inheritdoc IModeration
    function vote(uint256 caseId, bool forRemoval) external {
        Entry storage c = _requireOpen(caseId);
        if (_votes[caseId][msg.sender].weightWei != 0) revert AlreadyVoted(caseId, msg.sender);
        uint256 weightWei = _lock(msg.sender, _snapshotOf(c), _deadlineOf(c));
        if (weightWei == 0) revert NoVotes(caseId, msg.sender);
        _votes[caseId][msg.sender] = Vote(uint96(weightWei), forRemoval);
        if (forRemoval) c.forRemovalWei += uint96(weightWei);
        else c.againstWei += uint96(weightWei);
        // Else who stakes much for one block and reports the subject itself would set a quorum that nobody reaches.
        uint256 total = _totalStake();
        if (total < c.totalStakeWei) c.totalStakeWei = uint96(total);
        _log(Voted.selector, bytes32(caseId), _topic(msg.sender), abi.encode(forRemoval, weightWei));
    }

    /// @inheritdoc IModeration
    function close(uint256 caseId) external {
        Entry storage c = _requireCase(caseId);
        Outcome outcome = _outcomeOf(c);
        if (outcome == Outcome.Open) revert CaseGoesOn(caseId, _deadlineOf(c));
        if (c.state != State.Standing) revert CaseClosed(caseId);
        _payOut(caseId, c, outcome);
    }

    /// @inheritdoc IModeration
    function lift(uint256 caseId) external {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        _payOut(caseId, _requireOpen(caseId), Outcome.Lifted);
    }

    // --------------------------------------------------------------------------------------------------- reading

    /// @inheritdoc IModeration
    function statusOf(bytes32 subject) external view returns (Status) {
        uint256 caseId = _subjects[subject].newestCase;
        if (caseId == 0) return Status.Active;
        Entry storage c = _cases[caseId];
        Outcome outcome = _outcomeOf(c);
        if (outcome == Outcome.Upheld) return Status.Removed;
        if (outcome != Outcome.Open) return Status.Active;
        bool quarantined = c.forRemovalWei >= _quarantineAt(c) && c.forRemovalWei > c.againstWei;
        return quarantined ? Status.Quarantined : Status.Flagged;
    }

    /// @inheritdoc IModeration
    function getCase(uint256 caseId) external view returns (Case memory) {
        Entry storage c = _requireCase(caseId);
        return Case({
            subject: c.subject,
            reporter: c.reporter,
            evidence: Cid.text(c.evidenceCodec, c.evidenceDigest),
            bondWei: MIN_BOND_WEI << c.doublings,
            openedAt: c.openedAt,
            deadline: uint64(_deadlineOf(c)),
            snapshot: uint64(_snapshotOf(c)),
            totalStakeWei: c.totalStakeWei,
            quorumWei: _quorum(c),
            quarantineAtWei: _quarantineAt(c),
            forRemovalWei: c.forRemovalWei,
            againstWei: c.againstWei,
            outcome: _outcomeOf(c),
            closed: c.state != State.Standing
        });
    }

    /// @inheritdoc IModeration
    function caseCount() external view returns (uint256) {
        return _caseCount;
    }

    /// @inheritdoc IModeration
    function caseOf(bytes32 subject) external view returns (uint256 caseId, uint256 failed) {
        return (_subjects[subject].newestCase, _failedCases(subject));
    }

    /// @inheritdoc IModeration
    function bondOf(bytes32 subject) external view returns (uint256 bondWei) {
        return _bondAfter(_failedCases(subject));
    }

    /// @inheritdoc IModeration
    function voteOf(uint256 caseId, address account) external view returns (uint256 weightWei, bool forRemoval) {
        Vote memory v = _votes[caseId][account];
        return (v.weightWei, v.forRemoval);
    }

    /// @inheritdoc IModeration
    function totals() external view returns (uint256 stakedWei, uint256 bondedWei, uint256 creditWei) {
        return (_totalStake(), _bondedWei, _totalCredit());
    }

    // -------------------------------------------------------------------------------------------------- the core

    /// @dev How a case stands follows from the time and the votes, so that nobody has to do anything for it to end.
    function _outcomeOf(Entry storage c) private view returns (Outcome) {
        if (c.state == State.Lifted) return Outcome.Lifted;
        if (block.timestamp <= _deadlineOf(c)) return Outcome.Open;
        (uint256 forRemovalWei, uint256 againstWei) = (c.forRemovalWei, c.againstWei);
        if (forRemovalWei + againstWei < _quorum(c)) return Outcome.NoQuorum;
        return forRemovalWei > againstWei ? Outcome.Upheld : Outcome.Rejected;
    }

    /// @dev A subject whose newest case is open or was upheld cannot be reported; one that ended otherwise is paid out.
    /// @return failed How many of its cases failed.
    function _endNewest(bytes32 subject) private returns (uint256 failed) {
        uint256 caseId = _subjects[subject].newestCase;
        if (caseId != 0) {
            Entry storage c = _cases[caseId];
            Outcome outcome = _outcomeOf(c);
            if (outcome == Outcome.Open) revert CaseOpen(subject, caseId);
            if (outcome == Outcome.Upheld) revert AlreadyRemoved(subject);
            if (c.state == State.Standing) _payOut(caseId, c, outcome);
        }
        return _subjects[subject].failedCases;
    }

    /// @dev Credits the bond; nobody is called, so nobody can prevent it.
    function _payOut(uint256 caseId, Entry storage c, Outcome outcome) private {
        c.state = outcome == Outcome.Lifted ? State.Lifted : State.PaidOut;
        bytes32 subject = c.subject;
        if (outcome != Outcome.Upheld) ++_subjects[subject].failedCases;
        address beneficiary = c.reporter;
        if (outcome == Outcome.Rejected) {
            beneficiary = _ownerOf(subject);
            if (beneficiary == address(0)) beneficiary = guardian;
        }
        uint256 bondWei = MIN_BOND_WEI << c.doublings;
        _bondedWei -= uint96(bondWei);
        _credit(beneficiary, bondWei);
        _log(Closed.selector, bytes32(caseId), subject, abi.encode(outcome, beneficiary));
    }

    /// @dev Who answers for a subject; zero if there is no such subject. Too little gas cannot make it answer zero where
    /// more would name an owner: what is left of a call that ran out (a 64th) is too little to go on.
    function _ownerOf(bytes32 subject) private view returns (address) {
        try registry.termsOf(subject) returns (bytes32, address owner, uint256, bool) {
            return owner;
        } catch {}
        try loras.creatorOf(subject) returns (address creator) {
            return creator;
        } catch {
            return address(0);
        }
    }

    // ------------------------------------------------------------------------------------------------ small parts

    function _requireCase(uint256 caseId) private view returns (Entry storage c) {
        c = _cases[caseId];
        if (c.reporter == address(0)) revert UnknownCase(caseId);
    }

    function _requireOpen(uint256 caseId) private view returns (Entry storage c) {
        c = _requireCase(caseId);
        if (_outcomeOf(c) != Outcome.Open) revert CaseEnded(caseId);
    }

    /// @dev The last second in which votes count.
    function _deadlineOf(Entry storage c) private view returns (uint256) {
        return c.openedAt + VOTING_PERIOD;
    }

    /// @dev The block before the report.
    function _snapshotOf(Entry storage c) private view returns (uint256) {
        return _broughtAt[_evidenceId(c.subject, c.evidenceDigest)] - 1;
    }

    function _quorum(Entry storage c) private view returns (uint256) {
        return Math.max(Math.ceilDiv(c.totalStakeWei, QUORUM_DIVISOR), MIN_QUORUM_WEI);
    }

    function _quarantineAt(Entry storage c) private view returns (uint256) {
        return Math.max(Math.ceilDiv(c.totalStakeWei, QUARANTINE_DIVISOR), MIN_QUARANTINE_WEI);
    }

    /// @dev Evidence is used up for one subject only: else a stranger could use up anybody's by a report of its own.
    function _evidenceId(bytes32 subject, bytes32 evidenceDigest) private pure returns (bytes32) {
        return keccak256(abi.encode(subject, evidenceDigest));
    }

    /// @dev A newest case that has failed counts, whether or not it was paid out.
    function _failedCases(bytes32 subject) private view returns (uint256 failed) {
        Subject memory s = _subjects[subject];
        failed = s.failedCases;
        Entry storage c = _cases[s.newestCase];
        if (s.newestCase == 0 || c.state != State.Standing) return failed;
        Outcome outcome = _outcomeOf(c);
        if (outcome != Outcome.Open && outcome != Outcome.Upheld) ++failed;
    }

    function _bondAfter(uint256 failed) private pure returns (uint256) {
        return MIN_BOND_WEI << _doublings(failed);
    }

    function _doublings(uint256 failed) private pure returns (uint256) {
        return Math.min(failed, MAX_DOUBLINGS);
    }
}
