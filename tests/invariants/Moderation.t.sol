// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Moderation} from "../../contracts/Moderation.sol";
import {InvariantTest} from "./InvariantTest.sol";
import {ModerationHandler} from "./ModerationHandler.sol";

/// Invariants 9, 12, 13 and 14: every wei has an owner, votes are stake, and every case ends.
contract ModerationInvariants is InvariantTest {
    Moderation private _moderation;
    ModerationHandler private _handler;

    function setUp() external {
        _handler = new ModerationHandler(new ModelRegistry(), ILoRARegistry(address(new Nothing())));
        _moderation = _handler.moderation();
        bytes4[] memory selectors = new bytes4[](11);
        selectors[0] = _handler.stake.selector;
        selectors[1] = _handler.unstake.selector;
        selectors[2] = _handler.report.selector;
        selectors[3] = _handler.vote.selector;
        selectors[4] = _handler.close.selector;
        selectors[5] = _handler.lift.selector;
        selectors[6] = _handler.withdraw.selector;
        selectors[7] = _handler.force.selector;
        selectors[8] = _handler.wait_.selector;
        selectors[9] = _handler.quarantinedNow.selector;
        selectors[10] = _handler.removedNow.selector;
        target(_handler, selectors);
        for (uint256 i; i < 5; ++i) _handler.stake(i, 4 ether + i);
    }

    function invariantStakesVotesAndCases() external view {
        requireClean(_handler);
        requireFolded(_handler, _moderation);
        _requireEveryWei();
        uint256 count = _moderation.caseCount();
        if (count != 0) _requireCase(1 + _handler.turn() % count);
        _requireOneOpenCase(_handler.versionAt(_handler.turn()));
    }

    /// 9: the balance is stakes, bonds and credits, and what was forced in.
    function _requireEveryWei() private view {
        (uint256 staked, uint256 bonded, uint256 credit) = _moderation.totals();
        require(address(_moderation).balance == staked + bonded + credit + _handler.forcedWei(), "9: a wei too few or many");
        uint256 stakes;
        for (uint256 i; i < 5; ++i) {
            (uint256 one,) = _moderation.stakeOf(_handler.actorAt(i));
            stakes += one;
        }
        require(stakes == staked, "9: the stakes do not add up");
        uint256 bonds;
        for (uint256 id = _moderation.caseCount(); id != 0; --id) {
            IModeration.Case memory c = _moderation.getCase(id);
            if (!c.closed) bonds += c.bondWei;
        }
        require(bonds == bonded, "9: the bonds do not add up");
    }

    /// 12, 13, and that every case ends by its deadline.
    function _requireCase(uint256 caseId) private view {
        IModeration.Case memory c = _moderation.getCase(caseId);
        uint256[2] memory tally;
        for (uint256 i; i < 5; ++i) {
            address voter = _handler.actorAt(i);
            (uint256 weight, bool forRemoval) = _moderation.voteOf(caseId, voter);
            tally[forRemoval ? 0 : 1] += weight;
            require(weight <= _moderation.stakeAt(voter, c.snapshot), "12: more votes than stake before the case");
            (uint256 staked, uint256 until) = _moderation.stakeOf(voter);
            if (c.outcome == IModeration.Outcome.Open && weight != 0) {
                require(staked >= weight && until >= c.deadline, "13: stake of an open case is gone or free");
            }
        }
        require(tally[0] == c.forRemovalWei && tally[1] == c.againstWei, "12: the tally is not the sum of the votes");
        require(c.outcome != IModeration.Outcome.Open || block.timestamp <= c.deadline, "14: a case goes on for ever");
        require(c.deadline == c.openedAt + 7 days, "14: a deadline was moved");
    }

    /// 14, and that each case which did not end in removal doubles the bond.
    function _requireOneOpenCase(bytes32 subject) private view {
        (uint256 open, uint256 failed) = (0, 0);
        for (uint256 id = _moderation.caseCount(); id != 0; --id) {
            IModeration.Case memory c = _moderation.getCase(id);
            if (c.subject != subject) continue;
            if (c.outcome == IModeration.Outcome.Open) ++open;
            else if (c.outcome != IModeration.Outcome.Upheld) ++failed;
        }
        require(open <= 1, "14: two open cases of one subject");
        (, uint256 told) = _moderation.caseOf(subject);
        require(told == failed, "14: failed cases are counted otherwise");
        require(_moderation.bondOf(subject) == 0.05 ether << (failed < 10 ? failed : 10), "14: the bond does not double");
    }
}

/// No LoRA registry: it answers nothing, and Moderation must live with it.
contract Nothing {}
