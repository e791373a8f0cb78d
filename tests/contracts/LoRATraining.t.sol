// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {LoRATest} from "./LoRATest.sol";

/// A LoRA and the ledger's run it names.
contract LoRATrainingTest is LoRATest {
    function announce(address trainer, bytes32 digest) private returns (uint64 runId) {
        vm.prank(trainer);
        return uint64(ledger.announce("recipe", "dataset", digest));
    }

    function commit(uint64 runId, bytes32 adapter) private {
        address trainer = ledger.getRun(runId).trainer;
        vm.prank(trainer);
        ledger.commit(runId, "proof", adapter);
    }

    function registerBy(uint64 runId) private returns (bytes32) {
        Fields memory f = fields("0.1.0");
        f.training = byRun(runId);
        return send(pack(f));
    }

    function requireUnconfirmed(bytes32 id, uint64 runId) private view {
        ILoRARegistry.Training memory training = loras.getLoRA(id).training;
        eq(training.runId, runId);
        require(!training.confirmed);
        eq(training.dataset, 0);
        eq(training.recipe, 0);
        eq(training.proofRoot, 0);
    }

    function testAConfirmedRunTellsTheTraining() public {
        uint64 runId = announce(creator, contentOf(base));
        commit(runId, fields("0.1.0").sha);
        ILoRARegistry.Training memory training = loras.getLoRA(registerBy(runId)).training;
        eq(training.runId, runId);
        require(training.confirmed);
        eq(training.dataset, "dataset");
        eq(training.recipe, "recipe");
        eq(training.proofRoot, "proof");
    }

    function testARunIsConfirmedOnlyWhenItIsCommitted() public {
        uint64 runId = announce(creator, contentOf(base));
        bytes32 id = registerBy(runId);
        requireUnconfirmed(id, runId);
        commit(runId, fields("0.1.0").sha);
        require(loras.getLoRA(id).training.confirmed);
    }

    function testAnotherTrainersRunConfirmsNothing() public {
        uint64 runId = announce(stranger, contentOf(base));
        commit(runId, fields("0.1.0").sha);
        requireUnconfirmed(registerBy(runId), runId);
    }

    function testARunOnAnotherBaseConfirmsNothing() public {
        uint64 runId = announce(creator, contentOf(publish("1.1.0")));
        commit(runId, fields("0.1.0").sha);
        requireUnconfirmed(registerBy(runId), runId);
    }

    function testARunWithAnotherOutcomeConfirmsNothing() public {
        uint64 runId = announce(creator, contentOf(base));
        commit(runId, "another adapter");
        requireUnconfirmed(registerBy(runId), runId);
    }

    /// A number that names no run yet is accepted, and never makes the LoRA unreadable.
    function testARunThatIsNotThereConfirmsNothing() public {
        bytes32 id = registerBy(1);
        requireUnconfirmed(id, 1);
        announce(stranger, contentOf(base));
        requireUnconfirmed(id, 1);
        Fields memory f = fields("0.2.0");
        f.training = byRun(type(uint64).max);
        requireUnconfirmed(send(pack(f)), type(uint64).max);
    }
}
