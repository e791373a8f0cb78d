// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Moderation} from "../../contracts/Moderation.sol";
import {Catalogue, Refuser} from "./Catalogue.sol";

/// Reporters, voters and a guardian, and the statuses that were seen after each call.
contract ModerationHandler is Catalogue {
    uint256 public constant SUBJECTS = 8;

    Moderation public immutable moderation;
    Refuser private _refuser = new Refuser();
    mapping(bytes32 subject => IModeration.Status) public lastStatus;

    constructor(ModelRegistry registry_, ILoRARegistry loras) Catalogue(registry_) {
        moderation = new Moderation(registry_, loras, address(this));
    }

    // --------------------------------------------------------------------------------------------------- calls

    function stake(uint256 actor, uint256 amountWei) external folding(address(moderation)) {
        _stake(actorAt(actor), amountWei % 10 ether);
        _look();
    }

    /// 13: stake that voted in an open case does not leave.
    function unstake(uint256 actor, uint256 seed) external folding(address(moderation)) {
        address account = actorAt(actor);
        (uint256 staked,) = moderation.stakeOf(account);
        uint256 amountWei = seed % 8 == 0 ? staked + seed % 100 : staked * (seed % 100) / 100;
        uint256 before = account.balance;
        vm.prank(account);
        moderation.unstake(amountWei);
        note(account.balance == before + amountWei, "9: something else than the stake came back");
        for (uint256 id = moderation.caseCount(); id != 0; --id) {
            (uint256 weight,) = moderation.voteOf(id, account);
            note(weight == 0 || moderation.getCase(id).outcome != IModeration.Outcome.Open, "13: locked stake left");
        }
        _look();
    }

    function report(uint256 actor, uint256 which, uint256 seed) external folding(address(moderation)) {
        bytes32 subject = versionAt(which);
        address reporter = actorAt(actor);
        uint256 bondWei = moderation.bondOf(subject);
        uint256 sent = seed % 8 == 0 ? bondWei + 1 : bondWei;
        vm.deal(reporter, reporter.balance + sent);
        vm.prank(reporter);
        uint256 caseId = moderation.report{value: sent}(
            subject, seed % 2 == 0 ? 0x55 : 0x70, keccak256(abi.encode("evidence", seed % 64))
        );
        note(lastStatus[subject] == IModeration.Status.Active, "14: a subject with a case or without hope was reported");
        note(moderation.getCase(caseId).bondWei == bondWei, "14: the bond is another");
        _look();
    }

    function vote(uint256 actor, uint256 which, bool forRemoval) external folding(address(moderation)) {
        (uint256 caseId,) = moderation.caseOf(versionAt(which));
        for (uint256 i; caseId == 0 && i < SUBJECTS; ++i) (caseId,) = moderation.caseOf(versionAt(which + i));
        address voter = actorAt(actor);
        vm.prank(voter);
        moderation.vote(caseId, forRemoval);
        (uint256 weight,) = moderation.voteOf(caseId, voter);
        note(weight <= moderation.stakeAt(voter, moderation.getCase(caseId).snapshot), "12: more votes than stake before");
        _look();
    }

    function close(uint256 which) external folding(address(moderation)) {
        uint256 count = moderation.caseCount();
        uint256 caseId = 1 + which % count;
        for (uint256 i; moderation.getCase(caseId).closed && i < count; ++i) caseId = 1 + (which + i) % count;
        moderation.close(caseId);
        _look();
    }

    function lift(uint256 actor, uint256 which) external folding(address(moderation)) {
        if (moderation.caseCount() == 0) revert();
        bytes32 subject = moderation.getCase(moderation.caseCount() - which % 2 % moderation.caseCount()).subject;
        (uint256 caseId,) = moderation.caseOf(subject);
        IModeration.Status before = moderation.statusOf(subject);
        vm.prank(oftenThis(address(this), actor));
        moderation.lift(caseId);
        note(actor % 4 != 0 && before != IModeration.Status.Removed, "14: lifted by a stranger, or after the end");
        _look();
    }

    function withdraw(uint256 actor, uint256 seed) external folding(address(moderation)) {
        address account = actorAt(actor);
        for (uint256 i; moderation.creditOf(account) == 0 && i < ACTORS; ++i) account = actorAt(actor + i);
        address to = seed % 4 == 0 ? address(_refuser) : actorAt(seed / 4);
        (uint256 amountWei, uint256 before) = (moderation.creditOf(account), to.balance);
        vm.prank(account);
        moderation.withdraw(payable(to));
        note(to.balance == before + amountWei && moderation.creditOf(account) == 0, "11: not all of the credit, or more");
        _look();
    }

    function force(uint256 amountWei) external now_ {
        force(address(moderation), amountWei);
    }

    /// Time alone ends cases too.
    function wait_(uint256 seconds_) external {
        if (seconds_ % 3 == 0) clock += 7 days;
        pass(seconds_);
        _look();
    }

    /// Fails unless a subject is quarantined now: its line in the runner's table says how often one was.
    function quarantinedNow() external now_ {
        require(_count(IModeration.Status.Quarantined) != 0);
    }

    /// Fails unless a subject was removed: as above.
    function removedNow() external now_ {
        require(_count(IModeration.Status.Removed) != 0);
    }

    // --------------------------------------------------------------------------------------------------- parts

    function _stake(address account, uint256 amountWei) private {
        vm.deal(account, account.balance + amountWei);
        vm.prank(account);
        moderation.stake{value: amountWei}();
    }

    function _count(IModeration.Status status) private view returns (uint256 count) {
        for (uint256 i; i < SUBJECTS; ++i) if (moderation.statusOf(versionAt(i)) == status) ++count;
    }

    /// 14: only the transitions that IModeration draws, and what is removed stays removed. A removal comes from a
    /// quarantine alone, because its quorum is above the quarantine's.
    function _look() private {
        for (uint256 i; i < SUBJECTS; ++i) {
            bytes32 subject = versionAt(i);
            (IModeration.Status from, IModeration.Status to) = (lastStatus[subject], moderation.statusOf(subject));
            if (from == to) continue;
            note(from != IModeration.Status.Removed, "14: removed, and back");
            if (to == IModeration.Status.Flagged) {
                note(from == IModeration.Status.Active || from == IModeration.Status.Quarantined, "14: flagged from nowhere");
            }
            if (to == IModeration.Status.Quarantined) note(from == IModeration.Status.Flagged, "14: quarantined at once");
            if (to == IModeration.Status.Removed) note(from == IModeration.Status.Quarantined, "14: removed at once");
            lastStatus[subject] = to;
        }
    }
}
