// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {LoRATest} from "./LoRATest.sol";
import {IModelRegistry} from "./RegistryTest.sol";

/// Whose LoRAs a model takes.
contract LoRAAcceptanceTest is LoRATest {
    function notAccepted() private view returns (bytes memory) {
        return fail(ILoRARegistry.NotAccepted.selector, modelId, creator);
    }

    function notOwner(address caller) private view returns (bytes memory) {
        return fail(IModelRegistry.NotOwner.selector, modelId, caller);
    }

    function allow(address who, bool allowed) private {
        vm.prank(publisher);
        loras.allowCreator(modelId, who, allowed);
    }

    function testAModelIsOpenUntilItsOwnerSaysOtherwise() public {
        require(loras.acceptanceOf(modelId) == ILoRARegistry.Acceptance.Open);
        require(loras.accepts(modelId, creator));
        register("0.1.0");
    }

    function testAClosedModelTakesNone() public {
        setAcceptance(ILoRARegistry.Acceptance.Closed);
        allow(creator, true); // the list does not open what is closed
        require(!loras.accepts(modelId, creator));
        refuse(lora("0.1.0"), notAccepted());
        setAcceptance(ILoRARegistry.Acceptance.Open);
        register("0.1.0");
    }

    function testAModelWithAListTakesThoseOnIt() public {
        setAcceptance(ILoRARegistry.Acceptance.AllowList);
        refuse(lora("0.1.0"), notAccepted());
        allow(creator, true);
        require(loras.accepts(modelId, creator));
        require(!loras.accepts(modelId, buyer));
        register("0.1.0");
        allow(creator, false);
        refuse(lora("0.2.0"), notAccepted());
    }

    function testEveryVersionOfTheModelIsMeant() public {
        setAcceptance(ILoRARegistry.Acceptance.Closed);
        base = publish("1.1.0");
        refuse(lora("0.1.0"), notAccepted());
    }

    function testAnotherModelIsNot() public {
        setAcceptance(ILoRARegistry.Acceptance.Closed);
        vm.prank(publisher);
        base = registry.publish(publisher, release("other", "m", FREE, "1.0.0", four(5)), "");
        register("0.1.0");
    }

    function testOnlyTheOwnerDecides() public {
        vm.prank(stranger);
        vm.expectRevert(notOwner(stranger));
        loras.setAcceptance(modelId, ILoRARegistry.Acceptance.Closed);
        vm.prank(stranger);
        vm.expectRevert(notOwner(stranger));
        loras.allowCreator(modelId, stranger, true);
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownModel.selector, bytes32("none")));
        loras.setAcceptance("none", ILoRARegistry.Acceptance.Closed);
    }

    function testWhatWasDecidedSurvivesATransferAndTheNewOwnerChangesIt() public {
        setAcceptance(ILoRARegistry.Acceptance.Closed);
        transfer();
        refuse(lora("0.1.0"), notAccepted());
        vm.prank(publisher);
        vm.expectRevert(notOwner(publisher));
        loras.setAcceptance(modelId, ILoRARegistry.Acceptance.Open);
        vm.prank(buyer);
        loras.setAcceptance(modelId, ILoRARegistry.Acceptance.Open);
        register("0.1.0");
    }

    function testEveryChangeFoldsAndRecordsDoNot() public {
        vm.recordLogs();
        vm.expectEmit(address(loras));
        emit ILoRARegistry.AcceptanceSet(modelId, ILoRARegistry.Acceptance.AllowList);
        setAcceptance(ILoRARegistry.Acceptance.AllowList);
        vm.expectEmit(address(loras));
        emit ILoRARegistry.CreatorAllowed(modelId, creator, true);
        allow(creator, true);
        register("0.1.0");
        merge(publish("2.0.0"), abi.encodePacked(loraIdOf(creator, "0.1.0"), uint16(10_000)));
        allow(creator, false);
        requireFolded(loras, 0, 3);
    }
}
