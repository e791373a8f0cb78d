// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IModelAccess} from "./interfaces/IModelAccess.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IPolicy} from "./interfaces/IPolicy.sol";
import {Credits} from "./libraries/Credits.sol";

/// @title Who has paid for what
/// @notice What it promises stands in IModelAccess. It has no owner and no way to be changed; of the policy it asks the
/// fee and nothing else.
contract ModelAccess is Credits, IModelAccess {
    /// @inheritdoc IModelAccess
    uint256 public constant MAX_FEE_BASIS_POINTS = 250;
    uint256 private constant BASIS_POINTS = 10_000;

    /// @dev What an owner asks. 248 bits, so that times the fee's basis points it stays within 256.
    struct Price {
        uint248 amountWei;
        bool isSet;
    }

    /// @dev What is asked for an id now.
    struct Offer {
        bytes32 modelId; // the id itself where that is a model
        address seller;
        uint256 priceWei;
    }

    /// @inheritdoc IModelAccess
    IModelRegistry public immutable registry;
    /// @inheritdoc IModelAccess
    IPolicy public immutable policy;

    mapping(bytes32 id => Price) private _prices;
    mapping(bytes32 id => mapping(address account => uint256 time)) private _grants;

    constructor(IModelRegistry registry_, IPolicy policy_) {
        (registry, policy) = (registry_, policy_);
    }

    // --------------------------------------------------------------------------------------------------- writing

    /// @inheritdoc IModelAccess
    function setPrice(bytes32 id, uint256 priceWei) external {
        _requireOwner(_offerOf(id));
        _prices[id] = Price(SafeCast.toUint248(priceWei), true);
        _log(PriceSet.selector, id, abi.encode(priceWei));
    }

    /// @inheritdoc IModelAccess
    function buy(bytes32 id, uint256 maxPriceWei) external payable {
        _sell(id, msg.sender, maxPriceWei);
    }

    /// @inheritdoc IModelAccess
    function gift(bytes32 id, address to, uint256 maxPriceWei) external payable {
        _sell(id, to, maxPriceWei);
    }

    /// @inheritdoc IModelAccess
    function grant(bytes32 id, address to) external {
        Offer memory offer = _offerOf(id);
        _requireOwner(offer);
        _grant(id, offer.modelId, to);
        _log(AccessGranted.selector, id, _topic(to), _topic(msg.sender), abi.encode(0, 0, address(0)));
    }

    // --------------------------------------------------------------------------------------------------- reading

    /// @inheritdoc IModelAccess
    function quote(bytes32 id) external view returns (uint256 priceWei, uint256 feeWei, address seller) {
        Offer memory offer = _offerOf(id);
        (feeWei,) = _feeOn(offer.priceWei);
        return (offer.priceWei, feeWei, offer.seller);
    }

    /// @inheritdoc IModelAccess
    function hasAccess(bytes32 id, address account) external view returns (bool) {
        Offer memory offer = _offerOf(id);
        if (account == offer.seller || _isGranted(id, offer.modelId, account)) return true;
        return id != offer.modelId && offer.priceWei == 0;
    }

    /// @inheritdoc IModelAccess
    function grantedAt(bytes32 id, address account) external view returns (uint256) {
        return _grants[id][account];
    }

    /// @inheritdoc IModelAccess
    function totalCredit() external view returns (uint256) {
        return _totalCredit();
    }

    // -------------------------------------------------------------------------------------------------- the core

    /// @dev Everything that was sent becomes credit, so what comes in and what is owed cannot part.
    function _sell(bytes32 id, address account, uint256 maxPriceWei) private {
        Offer memory offer = _offerOf(id);
        uint256 priceWei = offer.priceWei;
        if (priceWei == 0) revert NotForSale(id);
        if (priceWei > maxPriceWei) revert PriceAboveMaximum(priceWei, maxPriceWei);
        if (priceWei > msg.value) revert Underpaid(priceWei, msg.value);
        _grant(id, offer.modelId, account);
        (uint256 feeWei, address recipient) = _feeOn(priceWei);
        _credit(offer.seller, priceWei - feeWei);
        _credit(recipient, feeWei);
        _credit(msg.sender, msg.value - priceWei);
        bytes memory data = abi.encode(priceWei, feeWei, offer.seller);
        _log(AccessGranted.selector, id, _topic(account), _topic(msg.sender), data);
    }

    function _grant(bytes32 id, bytes32 modelId, address account) private {
        if (account == address(0)) revert InvalidAccount();
        if (_isGranted(id, modelId, account)) revert AlreadyGranted(id, account);
        _grants[id][account] = block.timestamp;
    }

    // ------------------------------------------------------------------------------------------------ small parts

    /// @dev What the registry knows as neither a version nor a model is nothing. A caller that leaves too little gas for
    /// the registry's answer ends at `UnknownId` too, and has changed nothing.
    function _offerOf(bytes32 id) private view returns (Offer memory offer) {
        Price memory price = _prices[id];
        try registry.termsOf(id) returns (bytes32 modelId, address owner, uint256 initialWei, bool) {
            return Offer(modelId, owner, price.isSet ? price.amountWei : initialWei);
        } catch {}
        try registry.ownerOf(id) returns (address owner) {
            return Offer(id, owner, price.amountWei);
        } catch {
            revert UnknownId(id);
        }
    }

    function _requireOwner(Offer memory offer) private view {
        if (msg.sender != offer.seller) revert IModelRegistry.NotOwner(offer.modelId, msg.sender);
    }

    function _isGranted(bytes32 id, bytes32 modelId, address account) private view returns (bool) {
        return _grants[id][account] != 0 || _grants[modelId][account] != 0;
    }

    /// @dev Rounded down, in favour of the seller. A price is below 2^248: nothing overflows.
    function _feeOn(uint256 priceWei) private view returns (uint256 feeWei, address recipient) {
        uint256 basisPoints;
        (recipient, basisPoints) = policy.fee();
        if (recipient == address(0)) return (0, recipient);
        return (priceWei * Math.min(basisPoints, MAX_FEE_BASIS_POINTS) / BASIS_POINTS, recipient);
    }
}
