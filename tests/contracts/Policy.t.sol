// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Policy} from "../../contracts/Policy.sol";
import {Timelock} from "../../contracts/Timelock.sol";
import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {IPolicy} from "../../contracts/interfaces/IPolicy.sol";
import {Folding} from "./Folding.sol";
import {RegistryTest} from "./RegistryTest.sol";

contract PolicyTest is RegistryTest, Folding {
    address private authority = vm.addr(0xA07);
    Timelock private timelock;
    Policy private policy;
    IModeration private first; // any contract will do here: nobody asks it
    IModeration private second;

    function setUp() public override {
        super.setUp();
        timelock = Timelock(create("Timelock", abi.encode(authority)));
        policy = Policy(create("Policy", abi.encode(authority, timelock)));
        first = IModeration(address(registry));
        second = IModeration(address(timelock));
    }

    function appoint(address by, IModeration moderation) private {
        vm.prank(by);
        policy.appoint(moderation);
    }

    function refuse(address by, IModeration moderation) private {
        vm.expectRevert(abi.encodeWithSelector(IPolicy.NotAuthority.selector, by));
        appoint(by, moderation);
    }

    function testBeginsWithNoModerationAndNoFee() public view {
        eq(address(policy.moderation()), address(0));
        (address recipient, uint256 basisPoints) = policy.fee();
        eq(recipient, address(0));
        eq(basisPoints, 0);
        eq(policy.authority(), authority);
        eq(policy.timelock(), address(timelock));
        eq(policy.changeRoot(), 0);
    }

    function testTheAuthorityAppointsTheFirstModerationAtOnceAndNoOther() public {
        appoint(authority, first);
        eq(address(policy.moderation()), address(first));
        refuse(authority, second);
        refuse(authority, IModeration(address(0)));
        appoint(address(timelock), second);
        eq(address(policy.moderation()), address(second));
    }

    function testAfterTheTimelockEndedModerationTheAuthorityHasToWaitToo() public {
        appoint(authority, first);
        appoint(address(timelock), IModeration(address(0)));
        eq(address(policy.moderation()), address(0));
        refuse(authority, first);
    }

    function testStrangersAppointNobody() public {
        refuse(stranger, first);
        refuse(address(this), first);
    }

    function testWhatHasNoCodeCannotModerate() public {
        vm.expectRevert(abi.encodeWithSelector(IPolicy.InvalidModeration.selector, buyer));
        appoint(authority, IModeration(buyer));
        appoint(authority, first);
    }

    function testOnlyTheTimelockSetsTheFee() public {
        vm.prank(authority);
        vm.expectRevert(abi.encodeWithSelector(IPolicy.NotAuthority.selector, authority));
        policy.setFee(buyer, 1);
        vm.prank(address(timelock));
        policy.setFee(buyer, 250);
        (address recipient, uint256 basisPoints) = policy.fee();
        eq(recipient, buyer);
        eq(basisPoints, 250);
        vm.prank(address(timelock));
        policy.setFee(address(0), 0);
    }

    function testFuzzTheFeeIsCappedAndPaidToSomebody(address recipient, uint256 basisPoints) public {
        vm.prank(address(timelock));
        bool invalid = basisPoints > 250 || basisPoints != 0 && recipient == address(0);
        if (invalid) vm.expectRevert(abi.encodeWithSelector(IPolicy.InvalidFee.selector, recipient, basisPoints));
        policy.setFee(recipient, basisPoints);
        (address setTo, uint256 set) = policy.fee();
        eq(setTo, invalid ? address(0) : recipient);
        eq(set, invalid ? 0 : basisPoints);
    }

    function testAFeeForNobodyAndAFeeJustAboveTheCapAreRefused() public {
        vm.prank(address(timelock));
        vm.expectRevert(abi.encodeWithSelector(IPolicy.InvalidFee.selector, address(0), 1));
        policy.setFee(address(0), 1);
        vm.prank(address(timelock));
        vm.expectRevert(abi.encodeWithSelector(IPolicy.InvalidFee.selector, buyer, 251));
        policy.setFee(buyer, 251);
        vm.prank(address(timelock)); // 65,537 cut to 16 bits would be 1
        vm.expectRevert(abi.encodeWithSelector(IPolicy.InvalidFee.selector, buyer, 65_537));
        policy.setFee(buyer, 65_537);
    }

    function testEveryChangeFolds() public {
        vm.recordLogs();
        vm.expectEmit(address(policy));
        emit IPolicy.ModerationAppointed(first);
        appoint(authority, first);
        vm.prank(address(timelock));
        vm.expectEmit(address(policy));
        emit IPolicy.FeeSet(buyer, 250);
        policy.setFee(buyer, 250);
        appoint(address(timelock), second);
        requireFolded(policy, 0, 3);
    }

    // ------------------------------------------------------------------------------------------------- the timelock

    function schedule(bytes memory call) private returns (bytes memory execution) {
        vm.prank(authority);
        timelock.schedule(address(policy), 0, call, 0, 0, 2 days);
        return abi.encodeCall(timelock.execute, (address(policy), 0, call, 0, 0));
    }

    function testWhatTheAuthorityProposesHoldsTwoDaysLaterByAnybodysHand() public {
        appoint(authority, first);
        bytes memory execution = schedule(abi.encodeCall(policy.appoint, (second)));
        vm.warp(START + 2 days - 1);
        vm.prank(stranger);
        (bool done,) = address(timelock).call(execution);
        require(!done, "too early");
        vm.warp(START + 2 days);
        vm.prank(stranger);
        (done,) = address(timelock).call(execution);
        require(done);
        eq(address(policy.moderation()), address(second));
    }

    function testTheAuthorityCancelsAndNobodyElse() public {
        bytes memory call = abi.encodeCall(policy.setFee, (buyer, 250));
        bytes memory execution = schedule(call);
        bytes32 id = timelock.hashOperation(address(policy), 0, call, 0, 0);
        vm.prank(stranger);
        (bool done,) = address(timelock).call(abi.encodeCall(timelock.cancel, (id)));
        require(!done);
        vm.prank(authority);
        timelock.cancel(id);
        vm.warp(START + 3 days);
        (done,) = address(timelock).call(execution);
        require(!done);
    }

    function testADelayBelowTwoDaysIsRefused() public {
        vm.prank(authority);
        vm.expectRevert(
            abi.encodeWithSelector(TimelockController.TimelockInsufficientDelay.selector, 2 days - 1, 2 days)
        );
        timelock.schedule(address(policy), 0, "", 0, 0, 2 days - 1);
    }

    function testNobodyAdministersTheTimelockButItself() public view {
        bytes32 admin = timelock.DEFAULT_ADMIN_ROLE();
        require(timelock.hasRole(admin, address(timelock)));
        require(!timelock.hasRole(admin, authority));
        require(!timelock.hasRole(admin, address(this)));
        require(timelock.hasRole(timelock.PROPOSER_ROLE(), authority));
        require(timelock.hasRole(timelock.CANCELLER_ROLE(), authority));
        require(timelock.hasRole(timelock.EXECUTOR_ROLE(), address(0)));
        require(!timelock.hasRole(timelock.PROPOSER_ROLE(), stranger));
        eq(timelock.getMinDelay(), 2 days);
    }
}
