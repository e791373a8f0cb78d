// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LoRARegistry} from "../../contracts/LoRARegistry.sol";
import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {LoRATest} from "./LoRATest.sol";
import {IModelRegistry} from "./RegistryTest.sol";
import {Wallet} from "./Wallet.sol";

contract LoRABySigTest is LoRATest {
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    uint256 private constant DEADLINE = START + 60;

    function digestOf(address who, bytes memory payload, uint256 nonce, uint256 deadline) private view returns (bytes32) {
        bytes32 kind = keccak256("RegisterLoRA(address creator,bytes lora,uint256 nonce,uint256 deadline)");
        bytes32 request = keccak256(abi.encode(kind, who, keccak256(payload), nonce, deadline));
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Citrate LoRA"),
                keccak256("1"),
                block.chainid,
                address(loras)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, request));
    }

    function signed(uint256 signer, bytes memory payload, uint256 nonce) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signer, digestOf(creator, payload, nonce, DEADLINE));
        return abi.encodePacked(r, s, v);
    }

    function relay(bytes memory payload, bytes memory signature) private returns (bytes32) {
        vm.prank(stranger);
        return loras.registerLoRABySig(creator, payload, DEADLINE, signature);
    }

    function refuseRelay(bytes memory payload, bytes memory signature, bytes memory failure) private {
        vm.prank(stranger);
        vm.expectRevert(failure);
        loras.registerLoRABySig(creator, payload, DEADLINE, signature);
    }

    function invalid(address signer, uint256 nonce) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IModelRegistry.InvalidSignature.selector, signer, nonce);
    }

    function testAnyoneCanSendWhatTheCreatorSigned() public {
        bytes memory payload = lora("0.1.0");
        bytes32 id = relay(payload, signed(creatorKey, payload, 0));
        eq(loras.creatorOf(id), creator);
        payload = lora("0.2.0");
        relay(payload, signed(creatorKey, payload, 1));
        (uint256 today, uint256 ever) = loras.countsOf(creator);
        eq(today, 2);
        eq(ever, 2);
        (today, ever) = loras.countsOf(stranger); // the sender is charged nothing
        eq(today + ever, 0);
    }

    function testRelayedLeavesTheSameRecordAsDirect() public {
        LoRARegistry other = LoRARegistry(create("LoRARegistry", abi.encode(registry, ledger, policy)));
        bytes memory payload = lora("0.1.0");
        bytes32 id = relay(payload, signed(creatorKey, payload, 0));
        vm.prank(creator);
        eq(other.registerLoRA(creator, payload), id);
        require(keccak256(loras.getLoRA(id).record.code) == keccak256(other.getLoRA(id).record.code));
    }

    function testReplayIsRefused() public {
        bytes memory payload = lora("0.1.0");
        bytes memory signature = signed(creatorKey, payload, 0);
        relay(payload, signature);
        refuseRelay(payload, signature, invalid(creator, 1));
    }

    function testAnyRegistrationVoidsWhatWasSignedBefore() public {
        bytes memory payload = lora("0.2.0");
        bytes memory signature = signed(creatorKey, payload, 0);
        register("0.1.0");
        refuseRelay(payload, signature, invalid(creator, 1));
    }

    function testAnotherChainsSignatureIsRefused() public {
        bytes memory payload = lora("0.1.0");
        bytes memory signature = signed(creatorKey, payload, 0);
        vm.chainId(5);
        refuseRelay(payload, signature, invalid(creator, 0));
    }

    function testAnotherRegistrysSignatureIsRefused() public {
        bytes memory payload = lora("0.1.0");
        bytes memory signature = signed(creatorKey, payload, 0);
        loras = LoRARegistry(create("LoRARegistry", abi.encode(registry, ledger, policy)));
        refuseRelay(payload, signature, invalid(creator, 0));
    }

    function testAnotherCreatorsSignatureIsRefused() public {
        bytes memory payload = lora("0.1.0");
        refuseRelay(payload, signed(publisherKey, payload, 0), invalid(creator, 0));
        bytes memory signature = signed(creatorKey, payload, 0);
        vm.prank(stranger); // the creator's signature does not make the stranger, or the publisher, a creator
        vm.expectRevert(invalid(stranger, 0));
        loras.registerLoRABySig(stranger, payload, DEADLINE, signature);
        vm.expectRevert(invalid(address(0), 0));
        loras.registerLoRABySig(address(0), payload, DEADLINE, new bytes(65));
    }

    function testEveryFieldIsSigned() public {
        bytes memory payload = lora("0.1.0");
        bytes memory signature = signed(creatorKey, payload, 0);
        for (uint256 i; i < payload.length; i += 7) {
            bytes memory changed = bytes.concat(payload);
            changed[i] ^= 0x01;
            refuseRelay(changed, signature, invalid(creator, 0));
        }
        vm.prank(stranger);
        vm.expectRevert(invalid(creator, 0));
        loras.registerLoRABySig(creator, payload, DEADLINE + 1, signature);
        relay(payload, signature);
    }

    function testExpiredRequestIsRefusedAndTheDeadlineItselfIsNot() public {
        bytes memory payload = lora("0.1.0");
        bytes memory signature = signed(creatorKey, payload, 0);
        vm.warp(DEADLINE + 1);
        refuseRelay(payload, signature, fail(IModelRegistry.Expired.selector, DEADLINE));
        vm.warp(DEADLINE);
        relay(payload, signature);
    }

    function testMirroredSignatureIsRefused() public {
        bytes memory payload = lora("0.1.0");
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(creatorKey, digestOf(creator, payload, 0, DEADLINE));
        bytes memory mirrored = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        refuseRelay(payload, mirrored, invalid(creator, 0));
        refuseRelay(payload, "", invalid(creator, 0));
    }

    function testMalformedLoRAIsRefusedThoughSigned() public {
        Fields memory f = fields("0.1.0");
        f.rank = 0;
        bytes memory payload = pack(f);
        refuseRelay(payload, signed(creatorKey, payload, 0), fail(ILoRARegistry.InvalidRank.selector, uint256(0)));
    }

    function testWalletContractSigns() public {
        Wallet wallet = new Wallet();
        creator = address(wallet);
        bytes memory payload = lora("0.1.0");
        refuseRelay(payload, "", invalid(creator, 0));
        wallet.confirm(digestOf(creator, payload, 0, DEADLINE));
        eq(loras.creatorOf(relay(payload, "")), creator);
        refuseRelay(payload, "", invalid(creator, 1));
    }

    /// The wallet is asked by a static call: while it answers it can register nothing, not even under its own name.
    function testWalletCannotRegisterWhileItIsAsked() public {
        Wallet wallet = new Wallet();
        creator = address(wallet);
        bytes memory payload = lora("0.1.0");
        wallet.confirm(digestOf(creator, payload, 0, DEADLINE));
        wallet.beGreedy(abi.encodeCall(loras.registerLoRA, (creator, lora("0.2.0"))));
        eq(loras.creatorOf(relay(payload, "")), creator);
        (, uint256 count) = loras.head();
        eq(count, 1);
    }

    function testDomainIsPublished() public view {
        (, string memory name, string memory version, uint256 chainId, address verifier,,) = loras.eip712Domain();
        eq(name, "Citrate LoRA");
        eq(version, "1");
        eq(chainId, block.chainid);
        eq(verifier, address(loras));
    }
}
