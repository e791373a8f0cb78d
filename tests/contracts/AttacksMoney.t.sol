// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ICredits} from "../../contracts/interfaces/ICredits.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IModelAccess, IModeration, MoneyTest} from "./MoneyTest.sol";

/// An account that is a contract: it calls what it is told, and when it is paid it calls what was planned for then.
contract Actor {
    struct Call {
        address target;
        uint256 value;
        bytes data;
        bool done;
        bytes answer;
    }

    Call[] public planned;
    bool public refuses;

    function act(address target, uint256 value, bytes calldata data) external {
        (bool done, bytes memory answer) = target.call{value: value}(data);
        if (done) return;
        assembly {
            revert(add(answer, 32), mload(answer))
        }
    }

    function plan(address target, uint256 value, bytes calldata data) external {
        planned.push(Call(target, value, data, false, ""));
    }

    function refuse(bool refuses_) external {
        refuses = refuses_;
    }

    function wasDone(uint256 i) external view returns (bool, bytes memory) {
        return (planned[i].done, planned[i].answer);
    }

    receive() external payable {
        require(!refuses, "no money, please");
        for (uint256 i; i < planned.length; ++i) {
            if (planned[i].done || planned[i].answer.length != 0) continue;
            (planned[i].done, planned[i].answer) = planned[i].target.call{value: planned[i].value}(planned[i].data);
        }
    }

    /// As an ERC-1271 wallet: it confirms everything, after it has tried what was planned.
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        for (uint256 i; i < planned.length; ++i) {
            (bool done,) = planned[i].target.staticcall(planned[i].data);
            require(!done, "moved while being asked");
        }
        return this.isValidSignature.selector;
    }
}

/// Leaves its ether to an account that cannot refuse it.
contract Forcer {
    constructor(address payable heir) payable {
        selfdestruct(heir);
    }
}

contract AttacksMoneyTest is MoneyTest {
    Actor private actor;

    function setUp() public override {
        super.setUp();
        actor = new Actor();
        bank.deal(address(actor), 100 ether);
    }

    /// What was planned was tried while the contract was paying, and refused.
    function requireRefused(uint256 i, bytes4 selector) private view {
        (bool done, bytes memory answer) = actor.wasDone(i);
        require(!done && answer.length >= 4, "went through");
        require(bytes4(answer) == selector, "refused for another reason");
    }

    function requireDone(uint256 i) private view {
        (bool done,) = actor.wasDone(i);
        require(done, "refused");
    }

    bytes4 private constant REENTERED = ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;

    // --------------------------------------------------------------------------------------------------- re-entering

    function testReenteringWithdrawerIsPaidOnce() public {
        bytes memory withdraw = abi.encodeCall(access.withdraw, (payable(address(actor))));
        vm.prank(publisher);
        registry.transferModel(publisher, NAME, address(actor));
        actor.act(address(registry), 0, abi.encodeCall(registry.acceptModel, (modelId)));
        buy(buyer, priced, 1 ether);
        buy(stranger, priced, 1 ether);
        vm.prank(alice);
        access.buy{value: 6 ether}(priced, 1 ether); // five more to steal
        actor.plan(address(access), 0, withdraw);
        actor.act(address(access), 0, withdraw);
        requireRefused(0, REENTERED);
        eq(address(actor).balance, 103 ether);
        eq(access.creditOf(alice), 5 ether);
        eq(access.totalCredit(), 5 ether);
        requireSolvent();
    }

    function testReenteringBuyerPaysForWhatItGets() public {
        bytes memory buying = abi.encodeCall(access.buy, (priced, 1 ether));
        setPrice(free, 2 ether);
        actor.plan(address(access), 2 ether, abi.encodeCall(access.buy, (free, 2 ether)));
        actor.plan(address(access), 1 ether, buying);
        actor.plan(address(access), 0, abi.encodeCall(access.withdraw, (payable(address(actor)))));
        actor.act(address(access), 3 ether, buying); // two ether too much
        actor.act(address(access), 0, abi.encodeCall(access.withdraw, (payable(address(actor)))));
        requireDone(0);
        requireRefused(1, IModelAccess.AlreadyGranted.selector);
        requireRefused(2, REENTERED);
        eq(address(actor).balance, 97 ether);
        eq(access.creditOf(publisher), 3 ether);
        eq(access.totalCredit(), 3 ether);
        requireSolvent();
    }

    function testReenteringSellerChangesNoSaleThatWasMade() public {
        vm.prank(publisher);
        registry.transferModel(publisher, NAME, address(actor));
        actor.act(address(registry), 0, abi.encodeCall(registry.acceptModel, (modelId)));
        actor.plan(address(access), 0, abi.encodeCall(access.setPrice, (priced, 50 ether)));
        actor.plan(address(access), 0, abi.encodeCall(access.grant, (priced, buyer)));
        buy(buyer, priced, 1 ether); // the seller is not called
        (bool done, bytes memory answer) = actor.wasDone(0);
        require(!done && answer.length == 0);
        actor.act(address(access), 0, abi.encodeCall(access.withdraw, (payable(address(actor)))));
        requireDone(0);
        requireRefused(1, IModelAccess.AlreadyGranted.selector);
        eq(address(actor).balance, 101 ether);
        eq(access.totalCredit(), 0);
    }

    function testReenteringUnstakerGetsItsStakeOnce() public {
        stake(alice, 50 ether);
        actor.act(address(moderation), 10 ether, abi.encodeCall(moderation.stake, ()));
        nextBlock();
        uint256 id = report(priced);
        actor.plan(address(moderation), 0, abi.encodeCall(moderation.unstake, (10 ether)));
        actor.plan(address(moderation), 0, abi.encodeCall(moderation.withdraw, (payable(address(actor)))));
        actor.plan(address(moderation), 0, abi.encodeCall(moderation.vote, (id, true)));
        actor.plan(address(moderation), 1 ether, abi.encodeCall(moderation.stake, ()));
        actor.act(address(moderation), 0, abi.encodeCall(moderation.unstake, (10 ether)));
        requireRefused(0, REENTERED);
        requireRefused(1, REENTERED);
        requireRefused(2, IModeration.NoVotes.selector); // the stake is gone before it is paid
        requireDone(3);
        (uint256 staked,) = moderation.stakeOf(address(actor));
        eq(staked, 1 ether);
        eq(address(actor).balance, 99 ether);
        requireSolvent();
    }

    function testReenteringReporterIsPaidItsBondOnce() public {
        bytes memory reporting = abi.encodeCall(moderation.report, (priced, 0x70, keccak256("a")));
        actor.act(address(moderation), 0.05 ether, reporting);
        wait(7 days + 1);
        moderation.close(1);
        stake(alice, 50 ether);
        bytes memory withdraw = abi.encodeCall(moderation.withdraw, (payable(address(actor))));
        actor.plan(address(moderation), 0, withdraw);
        actor.plan(address(moderation), 0, abi.encodeCall(moderation.close, (1)));
        actor.act(address(moderation), 0, withdraw);
        requireRefused(0, REENTERED);
        requireRefused(1, IModeration.CaseClosed.selector);
        eq(address(actor).balance, 100 ether);
        requireSolvent();
    }

    function testReenteringErc1271SignerMovesNoMoney() public {
        buy(buyer, priced, 1 ether);
        actor.plan(address(access), 0, abi.encodeCall(access.withdraw, (payable(address(actor)))));
        actor.plan(address(access), 0, abi.encodeCall(access.buy, (priced, 1 ether)));
        actor.plan(address(moderation), 0, abi.encodeCall(moderation.unstake, (1)));
        actor.act(address(moderation), 1 ether, abi.encodeCall(moderation.stake, ()));
        bytes memory payload = release("1.0.0");
        registry.publishBySig(address(actor), payload, "", START + 60, "");
        requireSolvent();
    }

    // ------------------------------------------------------------------------------------------------ failing receivers

    function testASellerThatRefusesMoneyBlocksOnlyItself() public {
        vm.prank(publisher);
        registry.transferModel(publisher, NAME, address(actor));
        actor.act(address(registry), 0, abi.encodeCall(registry.acceptModel, (modelId)));
        actor.refuse(true);
        setFee(250);
        buy(buyer, priced, 1 ether);
        vm.prank(stranger);
        access.buy{value: 2 ether}(priced, 1 ether);
        vm.expectRevert(abi.encodeWithSignature("Error(string)", "no money, please"));
        actor.act(address(access), 0, abi.encodeCall(access.withdraw, (payable(address(actor)))));
        eq(access.creditOf(address(actor)), 1.95 ether);
        vm.prank(stranger);
        access.withdraw(payable(stranger));
        vm.prank(treasury);
        access.withdraw(payable(treasury));
        actor.act(address(access), 0, abi.encodeCall(access.withdraw, (payable(alice)))); // and it can send it elsewhere
        eq(alice.balance, RICH + 1.95 ether);
        eq(access.totalCredit(), 0);
    }

    function testAStakerThatRefusesMoneyKeepsItsStakeAndBlocksNobody() public {
        actor.act(address(moderation), 10 ether, abi.encodeCall(moderation.stake, ()));
        stake(alice, 10 ether);
        actor.refuse(true);
        vm.expectRevert(abi.encodeWithSignature("Error(string)", "no money, please"));
        actor.act(address(moderation), 0, abi.encodeCall(moderation.unstake, (10 ether)));
        (uint256 staked,) = moderation.stakeOf(address(actor));
        eq(staked, 10 ether);
        unstake(alice, 10 ether);
        actor.refuse(false);
        actor.act(address(moderation), 0, abi.encodeCall(moderation.unstake, (10 ether)));
    }

    function testAnOwnerThatRefusesMoneyDoesNotStopARejectionFromBeingClosed() public {
        lora = registerLoRA(address(actor));
        actor.refuse(true);
        stake(alice, 10 ether);
        nextBlock();
        vote(alice, report(lora), false);
        wait(7 days + 1);
        moderation.close(1);
        eq(moderation.creditOf(address(actor)), 0.05 ether);
    }

    // ---------------------------------------------------------------------------------------------------- forced ether

    function testForcedEtherChangesNothing() public {
        buy(buyer, priced, 1 ether);
        stake(alice, 10 ether);
        bytes32 root = keccak256(abi.encode(access.changeRoot(), moderation.changeRoot()));
        new Forcer{value: 7 ether}(payable(address(access)));
        new Forcer{value: 7 ether}(payable(address(moderation)));
        eq(address(access).balance, 8 ether);
        eq(access.totalCredit(), 1 ether);
        (uint256 staked, uint256 bonded, uint256 credit) = moderation.totals();
        eq(staked + bonded + credit, 10 ether);
        eq(keccak256(abi.encode(access.changeRoot(), moderation.changeRoot())), root);
        vm.prank(publisher);
        access.withdraw(payable(publisher));
        unstake(alice, 10 ether);
        eq(address(access).balance, 7 ether); // for ever
        eq(address(moderation).balance, 7 ether);
        vm.prank(publisher);
        vm.expectRevert(fail(ICredits.NothingToWithdraw.selector, publisher));
        access.withdraw(payable(publisher));
    }

    // ------------------------------------------------------------------------------------------------- running ahead

    function testAnOwnerThatRaisesThePriceBeforeAPurchaseIsMinedGetsNothing() public {
        (uint256 shown,,) = access.quote(priced);
        setPrice(priced, 2 ether);
        vm.prank(buyer);
        vm.expectRevert(fail(IModelAccess.PriceAboveMaximum.selector, 2 ether, shown));
        access.buy{value: 3 ether}(priced, shown);
        eq(access.totalCredit(), 0);
    }

    function testAnOwnerThatLowersThePriceIsPaidTheLowerOne() public {
        setPrice(priced, 0.4 ether);
        buy(buyer, priced, 1 ether);
        eq(access.creditOf(publisher), 0.4 ether);
        eq(access.creditOf(buyer), 0.6 ether);
    }

    function testATransferBetweenQuoteAndPurchasePaysTheNewOwner() public {
        (,, address seller) = access.quote(priced);
        eq(seller, publisher);
        transfer();
        buy(stranger, priced, 1 ether);
        eq(access.creditOf(publisher), 0);
        eq(access.creditOf(buyer), 1 ether);
        vm.prank(publisher);
        vm.expectRevert(fail(IModelRegistry.NotOwner.selector, modelId, publisher));
        access.setPrice(priced, 0);
    }

    function testAPriceStaysAfterATransferUntilTheNewOwnerSetsAnother() public {
        setPrice(priced, 3 ether);
        transfer();
        (uint256 price,, address seller) = access.quote(priced);
        eq(price, 3 ether);
        eq(seller, buyer);
        vm.prank(buyer);
        access.setPrice(priced, 4 ether);
    }

    /// Who buys for the buyer just before it does has paid for it; the buyer's own call fails and costs no price.
    function testAGiftAheadOfAPurchaseCostsTheGiver() public {
        vm.prank(stranger);
        access.gift{value: 1 ether}(priced, buyer, 1 ether);
        vm.expectRevert(fail(IModelAccess.AlreadyGranted.selector, priced, buyer));
        buy(buyer, priced, 1 ether);
        require(access.hasAccess(priced, buyer));
        eq(buyer.balance, RICH);
    }

    function testAStrangersDepositsDoNotStandInAnybodysWay() public {
        for (uint160 i = 1; i <= 200; ++i) {
            vm.prank(stranger);
            access.gift{value: 1 ether}(priced, address(0xD00D0000 + i), 1 ether);
        }
        uint256 gas = gasleft();
        buy(buyer, priced, 1 ether);
        require(gas - gasleft() < 120_000, "dearer with every sale");
        vm.prank(publisher);
        access.withdraw(payable(publisher));
        eq(publisher.balance, RICH + 201 ether);
    }

    /// The registry's answer can be cut short by a caller that sends little gas. Then nothing happens at all.
    function testTooLittleGasNeverSellsForAnotherPriceOrToAnotherSeller() public {
        setFee(250);
        bool sold;
        for (uint256 gas = 5_000; !sold; gas += 500) {
            vm.prank(buyer);
            (sold,) = address(access).call{value: 1 ether, gas: gas}(abi.encodeCall(access.buy, (priced, 1 ether)));
            require(gas < 200_000, "never sold");
        }
        eq(access.creditOf(publisher), 0.975 ether);
        eq(access.creditOf(treasury), 0.025 ether);
    }
}
