// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITrainingLedger} from "../../contracts/interfaces/ITrainingLedger.sol";
import {TrainingLedger} from "../../contracts/TrainingLedger.sol";
import {InvariantTest} from "./InvariantTest.sol";
import {LedgerHandler} from "./LedgerHandler.sol";

/// Our own: the ledger proves order, so no step is ever taken twice, out of turn or back.
contract TrainingLedgerInvariants is InvariantTest {
    TrainingLedger private _ledger;
    LedgerHandler private _handler;

    function setUp() external {
        _handler = new LedgerHandler();
        _ledger = _handler.ledger();
        bytes4[] memory selectors = new bytes4[](5);
        selectors[0] = _handler.announce.selector;
        selectors[1] = _handler.commit.selector;
        selectors[2] = _handler.draw.selector;
        selectors[3] = _handler.attest.selector;
        selectors[4] = _handler.mine.selector;
        target(_handler, selectors);
        _handler.announce(0, 1);
    }

    function invariantStepsAreNeverTakenBack() external view {
        requireClean(_handler);
        requireFolded(_handler, _ledger);
        require(_ledger.runCount() == _handler.runs(), "a run too many or too few");
        uint256 runId = 1 + _handler.turn() % _handler.runs();
        require(_handler.announced(runId) == _handler.announcedAs(runId), "an announcement changed");
        ITrainingLedger.Run memory run = _ledger.getRun(runId);
        if (_handler.committedAs(runId) == 0) {
            require(run.committedAt == 0 && run.proofRoot == 0 && run.adapter == 0, "committed by nobody");
        } else {
            require(_handler.committed(runId) == _handler.committedAs(runId), "a commitment changed");
        }
        require(run.seed == _handler.seedOf(runId), "a seed changed");
        _requireAttestations(runId, run.attestations);
    }

    /// Newest first, each as its verifier left it, none twice and none lost.
    function _requireAttestations(uint256 runId, uint256 count) private view {
        address[] memory verifiers = _handler.verifiers(runId);
        require(verifiers.length == count, "an attestation too many or too few");
        ITrainingLedger.Attestation[] memory items = _ledger.attestations(runId, address(0), 500);
        require(items.length == count, "the list has lost an attestation");
        for (uint256 i; i < count; ++i) {
            require(items[i].verifier == verifiers[count - 1 - i], "attestations are not newest first");
            require(keccak256(abi.encode(items[i])) == _handler.attestedAs(runId, items[i].verifier), "an attestation changed");
        }
    }
}
