// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelAccess} from "../../contracts/interfaces/IModelAccess.sol";
import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {LoRARegistry} from "../../contracts/LoRARegistry.sol";
import {ModelAccess} from "../../contracts/ModelAccess.sol";
import {Moderation} from "../../contracts/Moderation.sol";
import {Policy} from "../../contracts/Policy.sol";
import {Folding} from "./Folding.sol";
import {RegistryTest} from "./RegistryTest.sol";

/// Cheat codes that only tests of money use.
interface Bank {
    function deal(address account, uint256 amountWei) external;
}

/// What the tests of access and of moderation share: the stack, accounts with money, and steps in time.
/// `time` and `height` are kept here, because a compiler may read the block's only once in a function.
abstract contract MoneyTest is RegistryTest, Folding {
    Bank internal constant bank = Bank(address(vm));
    bytes4 internal constant ONE_ETHER = 0x00000112; // mantissa 1, exponent 18
    uint256 internal constant RICH = 1_000_000 ether;

    address internal authority = vm.addr(0xA07);
    address internal timelock = vm.addr(0x71E);
    address internal treasury = vm.addr(0x7EA);
    address internal reporter = vm.addr(0x4E9);
    address internal alice = vm.addr(0xA11);
    address internal bob = vm.addr(0xB0BB);

    Policy internal policy;
    ModelAccess internal access;
    LoRARegistry internal loras;
    Moderation internal moderation;
    bytes32 internal priced;
    bytes32 internal free;
    bytes32 internal lora; // Bob's, on `free`
    uint256 internal time = START;
    uint256 internal height = 1_000;

    function setUp() public virtual override {
        super.setUp();
        vm.roll(height);
        policy = Policy(create("Policy", abi.encode(authority, timelock)));
        access = ModelAccess(create("ModelAccess", abi.encode(registry, policy)));
        loras = LoRARegistry(create("LoRARegistry", abi.encode(registry, create("TrainingLedger", ""), policy)));
        moderation = Moderation(create("Moderation", abi.encode(registry, loras, timelock)));
        vm.prank(authority);
        policy.appoint(moderation);
        priced = publishFor("1.0.0", ONE_ETHER);
        free = publish("0.9.0");
        lora = registerLoRA(bob);
        address[8] memory rich = [publisher, stranger, buyer, authority, timelock, reporter, alice, bob];
        for (uint256 i; i < rich.length; ++i) bank.deal(rich[i], RICH);
        bank.deal(address(this), RICH);
    }

    function publishFor(string memory version, bytes4 price) internal returns (bytes32) {
        vm.prank(publisher);
        return registry.publish(publisher, release(NAME, manifestOf(version), price, version, four(1)), "");
    }

    /// A LoRA with nothing unusual, on `free`.
    function registerLoRA(address creator) internal returns (bytes32) {
        bytes memory payload = abi.encodePacked(registry.getVariants(free)[0].sha256Digest, free);
        payload = bytes.concat(payload, text("tuned"), text("1"), text("apache-2.0"));
        payload = bytes.concat(payload, hex"7000001000", keccak256("cid"), keccak256("sha")); // codec and size
        payload = bytes.concat(payload, hex"0010", hex"00007d00", hex"0005", hex"00", hex"00000064", hex"00");
        vm.prank(creator);
        return loras.registerLoRA(creator, payload);
    }

    function setFee(uint256 basisPoints) internal {
        vm.prank(timelock);
        policy.setFee(treasury, basisPoints);
    }

    function setPrice(bytes32 id, uint256 priceWei) internal {
        vm.prank(publisher);
        access.setPrice(id, priceWei);
    }

    function buy(address account, bytes32 id, uint256 valueWei) internal {
        vm.prank(account);
        access.buy{value: valueWei}(id, valueWei);
    }

    function wait(uint256 duration) internal {
        time += duration;
        vm.warp(time);
        nextBlock();
    }

    function nextBlock() internal {
        vm.roll(++height);
    }

    // ------------------------------------------------------------------------------------------------- moderation

    function stake(address account, uint256 amountWei) internal {
        vm.prank(account);
        moderation.stake{value: amountWei}();
    }

    function unstake(address account, uint256 amountWei) internal {
        vm.prank(account);
        moderation.unstake(amountWei);
    }

    /// Opens a case with evidence of its own.
    function report(bytes32 subject) internal returns (uint256) {
        return report(reporter, subject, keccak256(abi.encode("evidence", moderation.caseCount())));
    }

    function report(address account, bytes32 subject, bytes32 digest) internal returns (uint256) {
        uint256 bond = moderation.bondOf(subject);
        vm.prank(account);
        return moderation.report{value: bond}(subject, 0x70, digest);
    }

    function vote(address account, uint256 caseId, bool forRemoval) internal {
        vm.prank(account);
        moderation.vote(caseId, forRemoval);
    }

    function requireStatus(bytes32 subject, IModeration.Status status) internal view {
        require(moderation.statusOf(subject) == status, "not that status");
    }

    function requireOutcome(uint256 caseId, IModeration.Outcome outcome) internal view {
        require(moderation.getCase(caseId).outcome == outcome, "not that outcome");
    }

    // ----------------------------------------------------------------------------------------------------- checks

    function fail(bytes4 selector, uint256 a, uint256 b) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a, b);
    }

    function fail(bytes4 selector, uint256 a, address b) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a, b);
    }

    function fail(bytes4 selector, address a) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a);
    }

    function fail(bytes4 selector, address a, uint256 b) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a, b);
    }

    function fail(bytes4 selector, bytes32 a, uint256 b) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a, b);
    }

    /// Nothing is owed that is not there.
    function requireSolvent() internal view {
        require(address(access).balance >= access.totalCredit(), "access owes more than it holds");
        (uint256 staked, uint256 bonded, uint256 credit) = moderation.totals();
        require(address(moderation).balance >= staked + bonded + credit, "moderation owes more than it holds");
    }
}
