// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICredits} from "../../contracts/interfaces/ICredits.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IPolicy} from "../../contracts/interfaces/IPolicy.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IModelAccess, ModelAccess, MoneyTest} from "./MoneyTest.sol";

/// A policy that asks whatever it likes.
contract GreedyPolicy {
    address private immutable _recipient;
    uint256 private immutable _basisPoints;

    constructor(address recipient, uint256 basisPoints) {
        (_recipient, _basisPoints) = (recipient, basisPoints);
    }

    function fee() external view returns (address, uint256) {
        return (_recipient, _basisPoints);
    }
}

contract ModelAccessTest is MoneyTest {
    function requireQuote(bytes32 id, uint256 price, uint256 fee, address seller) private view {
        (uint256 priceWei, uint256 feeWei, address to) = access.quote(id);
        eq(priceWei, price);
        eq(feeWei, fee);
        eq(to, seller);
    }

    function testKnowsItsRegistryItsPolicyAndItsCap() public view {
        eq(address(access.registry()), address(registry));
        eq(address(access.policy()), address(policy));
        eq(access.MAX_FEE_BASIS_POINTS(), 250);
        eq(access.changeRoot(), 0);
        eq(access.totalCredit(), 0);
    }

    // ----------------------------------------------------------------------------------------------------- prices

    function testAVersionCostsWhatItWasPublishedWithUntilItsOwnerSetsAnother() public {
        requireQuote(priced, 1 ether, 0, publisher);
        requireQuote(free, 0, 0, publisher);
        vm.prank(publisher);
        vm.expectEmit(address(access));
        emit IModelAccess.PriceSet(priced, 2 ether);
        access.setPrice(priced, 2 ether);
        requireQuote(priced, 2 ether, 0, publisher);
        setPrice(free, 3);
        requireQuote(free, 3, 0, publisher);
        setPrice(priced, 0);
        requireQuote(priced, 0, 0, publisher);
    }

    function testAModelIsForSaleOnceItHasAPrice() public {
        requireQuote(modelId, 0, 0, publisher);
        vm.expectRevert(fail(IModelAccess.NotForSale.selector, modelId));
        buy(buyer, modelId, 1 ether);
        setPrice(modelId, 5 ether);
        requireQuote(modelId, 5 ether, 0, publisher);
        buy(buyer, modelId, 5 ether);
        setPrice(modelId, 0);
        vm.expectRevert(fail(IModelAccess.NotForSale.selector, modelId));
        buy(stranger, modelId, 5 ether);
    }

    function testWhatIsNeitherModelNorVersionIsUnknown() public {
        bytes32 id = keccak256("nothing");
        bytes memory failure = fail(IModelAccess.UnknownId.selector, id);
        vm.expectRevert(failure);
        access.setPrice(id, 1);
        vm.expectRevert(failure);
        access.buy{value: 1}(id, 1);
        vm.expectRevert(failure);
        access.gift{value: 1}(id, bob, 1);
        vm.expectRevert(failure);
        access.grant(id, bob);
        vm.expectRevert(failure);
        access.quote(id);
        vm.expectRevert(failure);
        access.hasAccess(id, bob);
        eq(access.grantedAt(id, bob), 0);
    }

    /// The record of an addition has a salt that looks like an id.
    function testTheSaltOfAnAdditionIsNoId() public {
        vm.prank(publisher);
        registry.addVariants(publisher, NAME, "1.0.0", addition("more", variant(2, "Q8_0", "", 9)));
        bytes32 salt = keccak256(abi.encode(priced, uint256(1)));
        vm.expectRevert(fail(IModelAccess.UnknownId.selector, salt));
        access.quote(salt);
    }

    function testFuzzAPriceIsKeptExactlyOrRefused(uint256 priceWei) public {
        uint256 limit = 1 << 248;
        if (priceWei >= limit) vm.expectRevert(tooLarge(priceWei));
        setPrice(priced, priceWei);
        (uint256 asked,,) = access.quote(priced);
        eq(asked, priceWei < limit ? priceWei : 1 ether);
    }

    function testAPriceAtTheEdgeIsNotCutOff() public {
        uint256 limit = 1 << 248;
        setFee(250);
        setPrice(priced, limit - 1);
        (uint256 asked, uint256 fee,) = access.quote(priced);
        eq(asked, limit - 1);
        eq(fee, (limit - 1) / 40);
        vm.expectRevert(tooLarge(limit));
        setPrice(priced, limit);
        vm.expectRevert(tooLarge(limit + 1 ether)); // cut off it would be 1 ether
        setPrice(priced, limit + 1 ether);
    }

    function tooLarge(uint256 value) private pure returns (bytes memory) {
        return abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 248, value);
    }

    // ----------------------------------------------------------------------------------------------------- buying

    function testABuyerHasAccessForEverAndTheSellerTheMoney() public {
        require(!access.hasAccess(priced, buyer));
        vm.prank(buyer);
        vm.expectEmit(address(access));
        emit IModelAccess.AccessGranted(priced, buyer, buyer, 1 ether, 0, publisher);
        access.buy{value: 1 ether}(priced, 1 ether);
        require(access.hasAccess(priced, buyer));
        require(!access.hasAccess(priced, stranger));
        eq(access.grantedAt(priced, buyer), START);
        eq(access.creditOf(publisher), 1 ether);
        eq(access.totalCredit(), 1 ether);
        eq(address(access).balance, 1 ether);
        setPrice(priced, 9 ether);
        require(access.hasAccess(priced, buyer));
    }

    function testAModelCoversAllItsVersionsAndAVersionOnlyItself() public {
        setPrice(free, 1 ether);
        buy(buyer, priced, 1 ether);
        require(!access.hasAccess(free, buyer));
        require(!access.hasAccess(modelId, buyer));
        setPrice(modelId, 2 ether);
        buy(buyer, modelId, 2 ether); // what was paid for a version does not stand against it
        require(access.hasAccess(free, buyer));
        require(access.hasAccess(modelId, buyer));
        eq(access.grantedAt(free, buyer), 0);
        vm.expectRevert(fail(IModelAccess.AlreadyGranted.selector, free, buyer));
        buy(buyer, free, 1 ether);
        bytes32 later = publishFor("2.0.0", ONE_ETHER);
        require(access.hasAccess(later, buyer));
    }

    function testWhatIsFreeNeedsNothingAndTakesNothing() public {
        require(access.hasAccess(free, stranger));
        require(access.hasAccess(free, address(0)));
        vm.expectRevert(fail(IModelAccess.NotForSale.selector, free));
        buy(buyer, free, 1 ether);
        vm.expectRevert(fail(IModelAccess.NotForSale.selector, free));
        access.buy(free, 0);
        setPrice(free, 1);
        require(!access.hasAccess(free, stranger));
        setPrice(free, 0);
        require(access.hasAccess(free, stranger));
    }

    function testTheOwnerHasAccessWhileItIsTheOwner() public {
        require(access.hasAccess(priced, publisher));
        require(access.hasAccess(modelId, publisher));
        transfer();
        require(!access.hasAccess(priced, publisher));
        require(!access.hasAccess(modelId, publisher));
        require(access.hasAccess(priced, buyer));
        require(access.hasAccess(modelId, buyer));
    }

    function testAnOwnerCanKeepAccessBeyondATransfer() public {
        vm.prank(publisher);
        access.grant(modelId, publisher);
        transfer();
        require(access.hasAccess(priced, publisher));
    }

    function testNothingIsPaidTwice() public {
        buy(buyer, priced, 1 ether);
        bytes memory failure = fail(IModelAccess.AlreadyGranted.selector, priced, buyer);
        vm.expectRevert(failure);
        buy(buyer, priced, 1 ether);
        vm.prank(stranger);
        vm.expectRevert(failure);
        access.gift{value: 1 ether}(priced, buyer, 1 ether);
        vm.prank(publisher);
        vm.expectRevert(failure);
        access.grant(priced, buyer);
        eq(access.totalCredit(), 1 ether);
    }

    function testTooLittleAndTooHighAreRefusedAndExactIsNot() public {
        vm.expectRevert(fail(IModelAccess.Underpaid.selector, 1 ether, 1 ether - 1));
        access.buy{value: 1 ether - 1}(priced, 1 ether);
        vm.expectRevert(fail(IModelAccess.PriceAboveMaximum.selector, 1 ether, 1 ether - 1));
        access.buy{value: 1 ether}(priced, 1 ether - 1);
        vm.expectRevert(fail(IModelAccess.Underpaid.selector, 1 ether, uint256(0)));
        access.buy(priced, type(uint256).max);
        access.buy{value: 1 ether}(priced, 1 ether);
    }

    function testWhatIsAboveThePriceIsTheSenders() public {
        vm.prank(buyer);
        access.buy{value: 3 ether}(priced, 1 ether);
        eq(access.creditOf(buyer), 2 ether);
        eq(access.creditOf(publisher), 1 ether);
        vm.prank(stranger);
        access.gift{value: 5 ether}(priced, alice, 1 ether);
        eq(access.creditOf(stranger), 4 ether); // the giver's, not the receiver's
        eq(access.creditOf(alice), 0);
        eq(access.totalCredit(), 8 ether);
    }

    function testAGiftIsPaidByOneAndUsedByAnother() public {
        vm.prank(stranger);
        vm.expectEmit(address(access));
        emit IModelAccess.AccessGranted(priced, buyer, stranger, 1 ether, 0, publisher);
        access.gift{value: 1 ether}(priced, buyer, 1 ether);
        require(access.hasAccess(priced, buyer));
        require(!access.hasAccess(priced, stranger));
    }

    function testTheOwnerGivesForNothing() public {
        vm.prank(publisher);
        vm.expectEmit(address(access));
        emit IModelAccess.AccessGranted(priced, buyer, publisher, 0, 0, address(0));
        access.grant(priced, buyer);
        vm.prank(publisher);
        access.grant(modelId, stranger);
        require(access.hasAccess(priced, buyer));
        require(access.hasAccess(priced, stranger));
        eq(access.totalCredit(), 0);
    }

    function testNobodyIsTheZeroAddress() public {
        bytes memory failure = fail(ICredits.InvalidAccount.selector);
        vm.prank(publisher);
        vm.expectRevert(failure);
        access.grant(priced, address(0));
        vm.expectRevert(failure);
        access.gift{value: 1 ether}(priced, address(0), 1 ether);
        vm.expectRevert(failure);
        access.withdraw(payable(address(0)));
    }

    // ------------------------------------------------------------------------------------------------------- fees

    function testFuzzSellerAndFeeAddUpToThePrice(uint96 priceWei, uint16 basisPoints, uint96 above) public {
        uint256 price = uint256(priceWei) + 1;
        uint256 points = basisPoints % 251;
        setFee(points);
        setPrice(priced, price);
        bank.deal(buyer, price + above);
        vm.prank(buyer);
        access.buy{value: price + above}(priced, price);
        eq(access.creditOf(publisher) + access.creditOf(treasury), price);
        eq(access.creditOf(treasury), price * points / 10_000);
        eq(access.creditOf(buyer), above);
        eq(access.totalCredit(), price + above);
        eq(address(access).balance, price + above);
    }

    function testFuzzNoPolicyTakesMoreThanTheCap(uint256 basisPoints, uint96 priceWei) public {
        IPolicy greedy = IPolicy(address(new GreedyPolicy(treasury, basisPoints)));
        access = ModelAccess(create("ModelAccess", abi.encode(registry, greedy)));
        setPrice(priced, priceWei);
        (uint256 price, uint256 fee,) = access.quote(priced);
        require(fee <= price * 250 / 10_000);
        if (basisPoints >= 250) eq(fee, price * 250 / 10_000);
    }

    function testAFeeForNobodyIsNotTaken() public {
        access = ModelAccess(create("ModelAccess", abi.encode(registry, new GreedyPolicy(address(0), 250))));
        requireQuote(priced, 1 ether, 0, publisher);
        buy(buyer, priced, 1 ether);
        eq(access.creditOf(publisher), 1 ether);
        eq(access.creditOf(address(0)), 0);
    }

    function testAFeeIsQuotedAndTakenAsItIsWhenMined() public {
        setFee(250);
        requireQuote(priced, 1 ether, 0.025 ether, publisher);
        buy(buyer, priced, 1 ether);
        eq(access.creditOf(treasury), 0.025 ether);
        setFee(0);
        buy(stranger, priced, 1 ether);
        eq(access.creditOf(treasury), 0.025 ether);
        eq(access.creditOf(publisher), 1.975 ether);
    }

    // ------------------------------------------------------------------------------------------------- withdrawals

    function testCreditIsPaidOutOnceAndWherever() public {
        buy(buyer, priced, 1 ether);
        vm.prank(publisher);
        vm.expectEmit(address(access));
        emit ICredits.Withdrawn(publisher, treasury, 1 ether);
        access.withdraw(payable(treasury));
        eq(treasury.balance, 1 ether);
        eq(access.creditOf(publisher), 0);
        eq(access.totalCredit(), 0);
        eq(address(access).balance, 0);
        vm.prank(publisher);
        vm.expectRevert(fail(ICredits.NothingToWithdraw.selector, publisher));
        access.withdraw(payable(treasury));
    }

    function testNobodyWithdrawsWhatIsAnothers() public {
        buy(buyer, priced, 1 ether);
        vm.prank(stranger);
        vm.expectRevert(fail(ICredits.NothingToWithdraw.selector, stranger));
        access.withdraw(payable(stranger));
        eq(access.creditOf(publisher), 1 ether);
    }

    function testEtherThatBuysNothingIsNotTaken() public {
        (bool taken,) = address(access).call{value: 1}("");
        require(!taken);
        (taken,) = address(access).call{value: 1}(abi.encodeCall(access.setPrice, (priced, 1)));
        require(!taken);
    }

    // ---------------------------------------------------------------------------------------------------- the root

    function testEveryChangeFolds() public {
        setFee(100);
        vm.recordLogs();
        setPrice(modelId, 3 ether);
        buy(buyer, priced, 1 ether);
        vm.prank(stranger);
        access.gift{value: 4 ether}(modelId, alice, 3 ether);
        vm.prank(publisher);
        access.grant(free, bob);
        vm.prank(publisher);
        access.withdraw(payable(publisher));
        requireFolded(access, 0, 5);
    }

    function testARefusedChangeDoesNotMoveTheRoot() public {
        setPrice(modelId, 3 ether);
        bytes32 root = access.changeRoot();
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotOwner.selector, modelId, address(this)));
        access.setPrice(modelId, 1);
        eq(access.changeRoot(), root);
    }
}
