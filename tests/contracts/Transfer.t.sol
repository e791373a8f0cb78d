// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

contract TransferTest is RegistryTest {
    function setUp() public override {
        super.setUp();
        publish("1.0.0");
    }

    function testTakesTwoStepsAndThePublisherStays() public {
        vm.prank(publisher);
        vm.expectEmit(address(registry));
        emit IModelRegistry.TransferStarted(modelId, publisher, buyer);
        registry.transferModel(publisher, NAME, buyer);
        eq(registry.ownerOf(modelId), publisher);
        eq(registry.pendingOwnerOf(modelId), buyer);
        vm.prank(buyer);
        vm.expectEmit(address(registry));
        emit IModelRegistry.Transferred(modelId, buyer);
        registry.acceptModel(modelId);
        eq(registry.ownerOf(modelId), buyer);
        eq(registry.pendingOwnerOf(modelId), address(0));
        eq(registry.getVersion(versionIdOf("1.0.0")).publisher, publisher);
        eq(registry.getVersion(versionIdOf("1.0.0")).senders[0], publisher);
    }

    function testOldOwnerCanDoNothingMore() public {
        transfer();
        bytes memory failure = fail(IModelRegistry.NotOwner.selector, modelId, publisher);
        publishExpecting(release("2.0.0"), failure);
        vm.prank(publisher);
        vm.expectRevert(failure);
        registry.setAlias(publisher, NAME, "prod", "1.0.0");
        vm.prank(publisher);
        vm.expectRevert(failure);
        registry.deprecate(publisher, NAME, "1.0.0", 0);
        vm.prank(publisher);
        vm.expectRevert(failure);
        registry.transferModel(publisher, NAME, publisher);
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.NotPendingOwner.selector, modelId, publisher));
        registry.acceptModel(modelId);
    }

    function testNewOwnersReleasesSayWhoSentThem() public {
        transfer();
        bytes memory payload = release("2.0.0");
        vm.prank(buyer);
        bytes32 id = registry.publish(publisher, payload, "");
        IModelRegistry.Version memory v = registry.getVersion(id);
        eq(v.publisher, publisher);
        eq(v.senders[0], buyer);
        eq(v.name, NAME);
        eq(registry.getVariants(id).length, 4);
        // the release after one by another owner finds its predecessor too
        payload = release("3.0.0");
        vm.prank(buyer);
        registry.publish(publisher, payload, "");
        (IModelRegistry.Item[] memory items,) = registry.versions(modelId, address(0), 10);
        eq(items.length, 3);
        eq(items[1].version, "2.0.0");
        eq(items[2].version, "1.0.0");
    }

    function testModelCanComeBackToItsPublisher() public {
        transfer();
        vm.prank(buyer);
        registry.transferModel(publisher, NAME, publisher);
        vm.prank(publisher);
        registry.acceptModel(modelId);
        eq(registry.getVersion(publish("2.0.0")).senders[0], publisher);
    }

    function testOfferCanBeWithdrawnAndNobodyElseCanTakeIt() public {
        vm.prank(publisher);
        registry.transferModel(publisher, NAME, buyer);
        vm.prank(stranger);
        vm.expectRevert(fail(IModelRegistry.NotPendingOwner.selector, modelId, stranger));
        registry.acceptModel(modelId);
        vm.prank(publisher);
        registry.transferModel(publisher, NAME, address(0));
        vm.prank(buyer);
        vm.expectRevert(fail(IModelRegistry.NotPendingOwner.selector, modelId, buyer));
        registry.acceptModel(modelId);
    }

    function testStrangerCannotOfferAndThereMustBeAModel() public {
        vm.prank(stranger);
        vm.expectRevert(fail(IModelRegistry.NotOwner.selector, modelId, stranger));
        registry.transferModel(publisher, NAME, stranger);
        bytes32 none = keccak256(abi.encode(publisher, "none"));
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.UnknownModel.selector, none));
        registry.transferModel(publisher, "none", stranger);
        vm.expectRevert(fail(IModelRegistry.UnknownModel.selector, none));
        registry.ownerOf(none);
    }
}
