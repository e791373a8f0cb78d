// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, ModelRegistry, RegistryTest} from "./RegistryTest.sol";
import {Wallet} from "./Wallet.sol";

contract PublishBySigTest is RegistryTest {
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    function digestOf(address owner, bytes memory payload, string memory aliasName, uint256 nonce, uint256 deadline)
        private
        view
        returns (bytes32)
    {
        bytes32 kind = keccak256("Publish(address publisher,bytes release,string aliasName,uint256 nonce,uint256 deadline)");
        bytes32 request = keccak256(abi.encode(kind, owner, keccak256(payload), keccak256(bytes(aliasName)), nonce, deadline));
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Citrate"),
                keccak256("1"),
                block.chainid,
                address(registry)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, request));
    }

    function signed(uint256 signer, bytes memory payload, uint256 nonce) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signer, digestOf(publisher, payload, "", nonce, START + 60));
        return abi.encodePacked(r, s, v);
    }

    function send(bytes memory payload, bytes memory signature) private returns (bytes32) {
        vm.prank(stranger);
        return registry.publishBySig(publisher, payload, "", START + 60, signature);
    }

    function refuse(bytes memory payload, bytes memory signature, bytes memory failure) private {
        vm.prank(stranger);
        vm.expectRevert(failure);
        registry.publishBySig(publisher, payload, "", START + 60, signature);
    }

    function invalid(address signer, uint256 nonce) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IModelRegistry.InvalidSignature.selector, signer, nonce);
    }

    function testAnyoneCanSendWhatTheOwnerSigned() public {
        bytes memory payload = release("1.0.0");
        bytes32 id = send(payload, signed(publisherKey, payload, 0));
        eq(id, versionIdOf("1.0.0"));
        eq(registry.getVersion(id).senders[0], publisher);
        payload = release("1.1.0");
        send(payload, signed(publisherKey, payload, 1));
        eq(registry.nonceOf(modelId), 2);
    }

    function testRelayedLeavesTheSameRecordAsDirect() public {
        bytes memory payload = release("1.0.0");
        bytes memory signature = signed(publisherKey, payload, 0);
        bytes32 relayed = send(payload, signature);
        bytes memory code = registry.getVersion(relayed).record.code;
        setUp();
        publish("1.0.0");
        require(keccak256(code) == keccak256(registry.getVersion(relayed).record.code));
    }

    function testReplayIsRefused() public {
        bytes memory payload = release("1.0.0");
        bytes memory signature = signed(publisherKey, payload, 0);
        send(payload, signature);
        refuse(payload, signature, invalid(publisher, 1));
    }

    function testAnyPublicationVoidsWhatWasSignedBefore() public {
        publish("1.0.0");
        bytes memory payload = release("1.1.0");
        bytes memory signature = signed(publisherKey, payload, 1);
        publish("1.0.1");
        refuse(payload, signature, invalid(publisher, 2));
    }

    function testEveryFieldIsSigned() public {
        bytes memory payload = release("1.0.0");
        bytes memory signature = signed(publisherKey, payload, 0);
        refuse(release("1.0.1"), signature, invalid(publisher, 0));
        vm.expectRevert(invalid(publisher, 0));
        registry.publishBySig(publisher, payload, "prod", START + 60, signature);
        vm.expectRevert(invalid(publisher, 0));
        registry.publishBySig(publisher, payload, "", START + 61, signature);
        vm.expectRevert(invalid(stranger, 0));
        registry.publishBySig(stranger, payload, "", START + 60, signature);
    }

    function testExpiredRequestIsRefusedAndTheDeadlineItselfIsNot() public {
        bytes memory payload = release("1.0.0");
        bytes memory signature = signed(publisherKey, payload, 0);
        vm.warp(START + 61);
        refuse(payload, signature, fail(IModelRegistry.Expired.selector, START + 60));
        vm.warp(START + 60);
        send(payload, signature);
    }

    function testAnotherChainsSignatureIsRefused() public {
        bytes memory payload = release("1.0.0");
        bytes memory signature = signed(publisherKey, payload, 0);
        vm.chainId(block.chainid + 1);
        refuse(payload, signature, invalid(publisher, 0));
        send(payload, signed(publisherKey, payload, 0));
    }

    function testAnotherRegistrysSignatureIsRefused() public {
        bytes memory payload = release("1.0.0");
        bytes memory signature = signed(publisherKey, payload, 0);
        registry = ModelRegistry(create("ModelRegistry", ""));
        refuse(payload, signature, invalid(publisher, 0));
    }

    function testStrangersSignatureIsRefused() public {
        bytes memory payload = release("1.0.0");
        refuse(payload, signed(0xBAD, payload, 0), invalid(publisher, 0));
        refuse(payload, "", invalid(publisher, 0));
        refuse(payload, new bytes(65), invalid(publisher, 0));
    }

    function testMirroredSignatureIsRefused() public {
        bytes memory payload = release("1.0.0");
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(publisherKey, digestOf(publisher, payload, "", 0, START + 60));
        bytes memory mirrored = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        refuse(payload, mirrored, invalid(publisher, 0));
    }

    function testAfterATransferTheNewOwnerSigns() public {
        publish("1.0.0");
        transfer();
        bytes memory payload = release("1.1.0");
        refuse(payload, signed(publisherKey, payload, 1), invalid(buyer, 1));
        bytes32 id = send(payload, signed(0xB0B, payload, 1));
        eq(registry.getVersion(id).senders[0], buyer);
    }

    function testWalletContractSigns() public {
        Wallet wallet = new Wallet();
        bytes memory payload = release("1.0.0");
        vm.expectRevert(invalid(address(wallet), 0));
        registry.publishBySig(address(wallet), payload, "", START + 60, "");
        wallet.confirm(digestOf(address(wallet), payload, "", 0, START + 60));
        bytes32 id = registry.publishBySig(address(wallet), payload, "", START + 60, "");
        eq(registry.getVersion(id).publisher, address(wallet));
    }

    function testWalletCannotPublishWhileItIsAsked() public {
        Wallet wallet = new Wallet();
        bytes memory payload = release("1.0.0");
        wallet.beGreedy(abi.encodeCall(registry.publish, (address(wallet), release("0.9.0"), "")));
        wallet.confirm(digestOf(address(wallet), payload, "", 0, START + 60));
        registry.publishBySig(address(wallet), payload, "", START + 60, "");
        (, uint256 count) = registry.head();
        eq(count, 1);
    }

    function testMalformedReleaseIsRefusedThoughSigned() public {
        bytes memory payload = hex"";
        refuse(payload, signed(publisherKey, payload, 0), fail(IModelRegistry.InvalidText.selector, uint256(0)));
        payload = hex"ff61";
        refuse(payload, signed(publisherKey, payload, 0), fail(IModelRegistry.InvalidText.selector, uint256(0)));
    }

    function testDomainIsPublished() public view {
        (, string memory name, string memory version, uint256 chain, address at_,,) = registry.eip712Domain();
        eq(name, "Citrate");
        eq(version, "1");
        eq(chain, block.chainid);
        eq(at_, address(registry));
    }
}
