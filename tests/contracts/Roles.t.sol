// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IModeration, MoneyTest} from "./MoneyTest.sol";

/// Who may call what: every function that writes, by every kind of account.
contract RolesTest is MoneyTest {
    uint256 private caseId;

    /// By everybody else a call fails, and with just this error.
    function only(address may, address target, uint256 value, bytes memory call, bytes4 failure) private {
        address[8] memory all = [publisher, buyer, stranger, authority, timelock, treasury, reporter, address(policy)];
        for (uint256 i; i < all.length; ++i) {
            if (all[i] == may) continue;
            bank.deal(all[i], RICH);
            vm.prank(all[i]);
            (bool done, bytes memory answer) = target.call{value: value}(call);
            require(!done && bytes4(answer) == failure, "not refused for who it is");
        }
        vm.prank(may);
        (bool allowed,) = target.call{value: value}(call);
        require(allowed, "refused");
    }

    /// Everybody may, and nobody's call stands in another's way.
    function anybody(address target, uint256 value, bytes memory call) private {
        address[7] memory all = [publisher, buyer, stranger, authority, timelock, treasury, reporter];
        for (uint256 i; i < all.length; ++i) {
            bank.deal(all[i], RICH);
            vm.prank(all[i]);
            (bool done,) = target.call{value: value}(call);
            require(done, "refused");
        }
    }

    function testOnlyTheOwnerPricesAVersionAndAModel() public {
        bytes4 failure = IModelRegistry.NotOwner.selector;
        only(publisher, address(access), 0, abi.encodeCall(access.setPrice, (priced, 5)), failure);
        only(publisher, address(access), 0, abi.encodeCall(access.setPrice, (modelId, 5)), failure);
        transfer();
        only(buyer, address(access), 0, abi.encodeCall(access.setPrice, (priced, 6)), failure);
        only(buyer, address(access), 0, abi.encodeCall(access.setPrice, (modelId, 6)), failure);
    }

    function testOnlyTheOwnerGivesAccess() public {
        bytes4 failure = IModelRegistry.NotOwner.selector;
        only(publisher, address(access), 0, abi.encodeCall(access.grant, (priced, alice)), failure);
        only(publisher, address(access), 0, abi.encodeCall(access.grant, (modelId, alice)), failure);
        transfer();
        only(buyer, address(access), 0, abi.encodeCall(access.grant, (priced, bob)), failure);
    }

    function testOnlyTheGuardianLifts() public {
        caseId = report(priced);
        only(
            timelock, address(moderation), 0, abi.encodeCall(moderation.lift, (caseId)), IModeration.NotGuardian.selector
        );
    }

    function testAnybodyBuysStakesAndTakesBack() public {
        anybody(address(access), 1 ether, abi.encodeCall(access.buy, (priced, 1 ether)));
        anybody(address(moderation), 1 ether, abi.encodeCall(moderation.stake, ()));
        nextBlock();
        caseId = report(priced);
        anybody(address(moderation), 0, abi.encodeCall(moderation.vote, (caseId, true)));
        vm.warp(START + 7 days + 1);
        anybody(address(moderation), 0, abi.encodeCall(moderation.unstake, (1 ether)));
    }

    function testAnybodyReportsAndCloses() public {
        address[3] memory some = [stranger, authority, publisher];
        for (uint256 i; i < 3; ++i) {
            uint256 id = report(some[i], priced, bytes32(i + 1));
            wait(7 days + 1);
            vm.prank(some[2 - i]);
            moderation.close(id);
        }
        eq(moderation.caseCount(), 3);
    }

    /// Neither the authority, the timelock, the policy nor a deployer can reach prices, credits, stakes or access.
    function testNoFunctionIsLeftForAnybodyElse() public {
        buy(buyer, priced, 1 ether);
        stake(alice, 3 ether);
        string[10] memory names = [
            "pause()", "setPolicy(address)", "setOwner(address)", "transferOwnership(address)", "sweep(address)",
            "upgradeTo(address)", "revoke(bytes32,address)", "setGuardian(address)", "rescue(uint256)", "kill()"
        ];
        for (uint256 i; i < names.length; ++i) {
            bytes memory call = abi.encodePacked(bytes4(keccak256(bytes(names[i]))), abi.encode(timelock, timelock));
            vm.prank(timelock);
            (bool done,) = address(access).call(call);
            require(!done);
            vm.prank(timelock);
            (done,) = address(moderation).call(call);
            require(!done);
        }
    }
}
