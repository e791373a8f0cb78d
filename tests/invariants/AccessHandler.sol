// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ModelAccess} from "../../contracts/ModelAccess.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Policy} from "../../contracts/Policy.sol";
import {Catalogue, Refuser} from "./Catalogue.sol";

/// Sellers, buyers and a timelock that plays with the fee. What was credited and paid out is counted here once more.
contract AccessHandler is Catalogue {
    struct Grant {
        bytes32 id;
        address account;
    }

    ModelAccess public access;
    Policy public immutable policy;
    Refuser private _refuser = new Refuser();

    mapping(address account => uint256) public creditedWei;
    mapping(address account => uint256) public withdrawnWei;
    Grant[] private _grants;

    constructor(ModelRegistry registry_) Catalogue(registry_) {
        policy = new Policy(address(this), address(this));
    }

    function open(ModelAccess access_) external {
        access = access_;
    }

    function grants(uint256 which) external view returns (bytes32 id, address account) {
        if (_grants.length == 0) return (0, address(0));
        Grant memory one = _grants[which % _grants.length];
        return (one.id, one.account);
    }

    // --------------------------------------------------------------------------------------------------- calls

    function setPrice(uint256 actor, uint256 which, uint256 priceWei) external folding(address(access)) {
        bytes32 id = ids[which % idCount()];
        uint256 scale = priceWei % 16;
        if (scale == 0) priceWei = 0;
        else if (scale != 1) priceWei %= 1 ether;
        vm.prank(oftenThis(_ownerOf(id), actor));
        access.setPrice(id, priceWei);
        (uint256 now_Wei,,) = access.quote(id);
        note(now_Wei == priceWei, "10: the price is not what was set");
    }

    function buy(uint256 actor, uint256 which, uint256 seed) external folding(address(access)) {
        bytes32 id = ids[which % idCount()];
        address buyer = actorAt(actor);
        _buy(id, buyer, buyer, seed);
    }

    function gift(uint256 actor, uint256 which, uint256 seed) external folding(address(access)) {
        bytes32 id = ids[which % idCount()];
        _buy(id, actorAt(actor), address(uint160(uint256(keccak256(abi.encode(seed % 512))))), seed);
    }

    function grant(uint256 actor, uint256 which, uint256 seed) external folding(address(access)) {
        bytes32 id = ids[which % idCount()];
        address to = address(uint160(uint256(keccak256(abi.encode(seed % 512)))));
        uint256 credit = access.totalCredit();
        vm.prank(oftenThis(_ownerOf(id), actor));
        access.grant(id, to);
        note(credit == access.totalCredit(), "10: a gift of the owner moved money");
        _grants.push(Grant(id, to));
    }

    function withdraw(uint256 actor, uint256 seed) external folding(address(access)) {
        address account = actorAt(actor);
        for (uint256 i; access.creditOf(account) == 0 && i < ACTORS; ++i) account = actorAt(actor + i);
        address to = seed % 4 == 0 ? address(_refuser) : actorAt(seed / 4);
        uint256 amountWei = access.creditOf(account);
        uint256 before = to.balance;
        vm.prank(account);
        access.withdraw(payable(to));
        note(to.balance == before + amountWei, "11: something else than the credit was paid out");
        note(access.creditOf(account) == 0, "11: credit is left after a withdrawal");
        withdrawnWei[account] += amountWei;
    }

    /// 15: what the policy changes reaches neither what is published nor what is owed.
    function setFee(uint256 seed) external now_ {
        bytes32 before = published();
        uint256 owed = access.totalCredit();
        policy.setFee(seed % 8 == 0 ? address(0) : actorAt(seed / 8), seed % 8 == 0 ? 0 : seed % 300);
        note(before == published() && owed == access.totalCredit(), "15: a fee reached more than the next sale");
    }

    function force(uint256 amountWei) external now_ {
        force(address(access), amountWei);
    }

    // --------------------------------------------------------------------------------------------------- parts

    function _ownerOf(bytes32 id) private view returns (address) {
        return registry.ownerOf(modelOf(id));
    }

    /// 10: seller and fee get the price to the wei, the rest goes back, and no more than the maximum is paid.
    function _buy(bytes32 id, address payer, address to, uint256 seed) private {
        (uint256 priceWei, uint256 feeWei, address seller) = access.quote(id);
        uint256 maximum = seed % 6 == 0 ? priceWei / 2 : priceWei + seed % 1000;
        uint256 sent = seed % 7 == 0 ? priceWei / 2 : priceWei + (seed >> 8) % 1000;
        (address recipient,) = policy.fee();
        uint256[3] memory before = [access.creditOf(seller), access.creditOf(recipient), access.creditOf(payer)];
        uint256 total = access.totalCredit();
        vm.deal(payer, sent);
        vm.prank(payer);
        if (payer == to) access.buy{value: sent}(id, maximum);
        else access.gift{value: sent}(id, to, maximum);
        note(priceWei <= maximum, "10: more was paid than the buyer agreed to");
        note(feeWei * 10_000 <= priceWei * access.MAX_FEE_BASIS_POINTS(), "10: the fee is above the cap");
        note(access.totalCredit() == total + sent && payer.balance == 0, "10: what was sent and what was credited differ");
        creditedWei[seller] += priceWei - feeWei;
        if (feeWei != 0) creditedWei[recipient] += feeWei;
        creditedWei[payer] += sent - priceWei;
        if (seller != recipient && seller != payer && recipient != payer) {
            note(access.creditOf(seller) == before[0] + priceWei - feeWei, "10: the seller got something else");
            note(access.creditOf(recipient) == before[1] + feeWei, "10: the fee is another");
            note(access.creditOf(payer) == before[2] + sent - priceWei, "10: the change is another");
        }
        _grants.push(Grant(id, to));
    }
}
