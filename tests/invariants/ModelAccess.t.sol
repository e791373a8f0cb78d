// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ModelAccess} from "../../contracts/ModelAccess.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {AccessHandler} from "./AccessHandler.sol";
import {InvariantTest} from "./InvariantTest.sol";

/// Invariants 9, 10, 11 and 15 of sales: every wei has an owner, and what was bought stays bought.
contract ModelAccessInvariants is InvariantTest {
    ModelAccess private _access;
    AccessHandler private _handler;

    function setUp() external {
        ModelRegistry registry = new ModelRegistry();
        _handler = new AccessHandler(registry);
        _access = new ModelAccess(registry, _handler.policy());
        _handler.open(_access);
        bytes4[] memory selectors = new bytes4[](9);
        selectors[0] = _handler.setPrice.selector;
        selectors[1] = _handler.buy.selector;
        selectors[2] = _handler.gift.selector;
        selectors[3] = _handler.grant.selector;
        selectors[4] = _handler.withdraw.selector;
        selectors[5] = _handler.setFee.selector;
        selectors[6] = _handler.force.selector;
        selectors[7] = _handler.transferModel.selector;
        selectors[8] = _handler.pass.selector;
        target(_handler, selectors);
    }

    function invariantEveryWeiHasAnOwner() external view {
        requireClean(_handler);
        requireFolded(_handler, _access);
        require(address(_access).balance == _access.totalCredit() + _handler.forcedWei(), "9: balance and credits part");
        uint256 sum;
        for (uint256 i; i < 5; ++i) {
            address actor = _handler.actorAt(i);
            uint256 creditWei = _access.creditOf(actor);
            sum += creditWei;
            require(
                creditWei + _handler.withdrawnWei(actor) == _handler.creditedWei(actor),
                "11: credited and withdrawn do not give what is left"
            );
        }
        require(sum == _access.totalCredit(), "9: the credits do not add up");
        (bytes32 id, address account) = _handler.grants(_handler.turn());
        require(account == address(0) || _access.hasAccess(id, account), "access once granted is gone");
    }
}
