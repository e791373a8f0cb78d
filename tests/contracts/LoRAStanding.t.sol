// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {LoRATest, Standings} from "./LoRATest.sol";

/// How LoRAs and merges stand with moderation: never better than their bases.
contract LoRAStandingTest is LoRATest {
    Standings private standings;
    bytes32 private id;
    bytes32 private result;
    bytes32 private resultOfResult;

    /// id was trained on base; result was merged from it; a LoRA on result gave resultOfResult.
    function setUp() public override {
        super.setUp();
        id = register("0.1.0");
        result = publish("2.0.0");
        merge(result, abi.encodePacked(id, uint16(10_000)));
    }

    function statusOf(bytes32 subject) private view returns (IModeration.Status status) {
        (, status) = loras.statusOf(subject);
    }

    function stands(bytes32 subject, IModeration.Status expected) private view {
        require(statusOf(subject) == expected, "another standing");
    }

    function notGood(bytes32 subject, IModeration.Status status) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILoRARegistry.NotInGoodStanding.selector, subject, status);
    }

    function testWithoutModerationEverythingIsActive() public view {
        (bool moderated, IModeration.Status status) = loras.statusOf(id);
        require(!moderated && status == IModeration.Status.Active);
    }

    function testModerationThatEndedIsNotAskedAnyMore() public {
        standings = moderate();
        standings.set(base, IModeration.Status.Removed);
        vm.prank(timelock);
        policy.appoint(IModeration(address(0)));
        (bool moderated, IModeration.Status status) = loras.statusOf(id);
        require(!moderated && status == IModeration.Status.Active);
        register("0.2.0");
    }

    /// All sixteen combinations of a LoRA's own standing and its base's.
    function testALoRAStandsAsTheWorseOfItselfAndItsBase() public {
        standings = moderate();
        for (uint256 own; own < 4; ++own) {
            for (uint256 its; its < 4; ++its) {
                standings.set(id, IModeration.Status(own));
                standings.set(base, IModeration.Status(its));
                (bool moderated, IModeration.Status status) = loras.statusOf(id);
                require(moderated);
                eq(uint256(status), own > its ? own : its);
                stands(result, IModeration.Status(its)); // its parents' own standing is not its own
                stands(base, IModeration.Status(its));
            }
        }
    }

    function testAMergeStandsAsTheWorseOfItselfAndItsBase() public {
        standings = moderate();
        standings.set(base, IModeration.Status.Quarantined);
        stands(result, IModeration.Status.Quarantined);
        standings.set(result, IModeration.Status.Removed);
        stands(result, IModeration.Status.Removed);
        stands(base, IModeration.Status.Quarantined);
    }

    /// A LoRA reaches the base of its base, and so is never better than its base.
    function testALoRAOnAMergeStandsNoBetterThanTheMergesBase() public {
        bytes32 first = base;
        base = result;
        bytes32 onMerge = register("0.2.0");
        standings = moderate();
        standings.set(first, IModeration.Status.Quarantined);
        stands(result, IModeration.Status.Quarantined);
        stands(onMerge, IModeration.Status.Quarantined);
        refuse(lora("0.3.0"), notGood(result, IModeration.Status.Quarantined));
    }

    /// The owner of both merges each from the other: the look ends all the same.
    function testARingOfMergesEnds() public {
        base = result;
        bytes32 onMerge = register("0.2.0");
        merge(versionIdOf("1.0.0"), abi.encodePacked(onMerge, uint16(10_000)));
        eq(loras.baseOf(result), versionIdOf("1.0.0"));
        eq(loras.baseOf(versionIdOf("1.0.0")), result);
        standings = moderate();
        standings.set(result, IModeration.Status.Quarantined);
        stands(versionIdOf("1.0.0"), IModeration.Status.Quarantined);
        stands(id, IModeration.Status.Quarantined);
        stands(onMerge, IModeration.Status.Quarantined);
    }

    function testAFlaggedBaseTakesLoRAsAndAWorseOneDoesNot() public {
        standings = moderate();
        standings.set(base, IModeration.Status.Flagged);
        register("0.2.0");
        standings.set(base, IModeration.Status.Quarantined);
        refuse(lora("0.3.0"), notGood(base, IModeration.Status.Quarantined));
        standings.set(base, IModeration.Status.Removed);
        refuse(lora("0.3.0"), notGood(base, IModeration.Status.Removed));
        standings.set(base, IModeration.Status.Active);
        register("0.3.0");
    }

    function testAMergeTakesNoParentInBadStanding() public {
        bytes32 other = register("0.2.0");
        bytes memory parents = halves(id, other);
        bytes32 next = publish("3.0.0");
        standings = moderate();
        standings.set(other, IModeration.Status.Quarantined);
        refuseMerge(next, parents, notGood(other, IModeration.Status.Quarantined));
        standings.set(other, IModeration.Status.Flagged);
        standings.set(base, IModeration.Status.Removed);
        refuseMerge(next, parents, notGood(base, IModeration.Status.Removed));
        standings.set(base, IModeration.Status.Active);
        merge(next, parents);
    }

    /// What was accepted stays as it is, whatever moderation says later.
    function testRecordsStayReadable() public {
        bytes32 code = keccak256(loras.getLoRA(id).record.code);
        standings = moderate();
        standings.set(id, IModeration.Status.Removed);
        standings.set(base, IModeration.Status.Removed);
        require(keccak256(loras.getLoRA(id).record.code) == code);
        eq(loras.getMerge(result).base, base);
    }
}
