// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "./IChangeLog.sol";
import {ICredits} from "./ICredits.sol";
import {IModelRegistry} from "./IModelRegistry.sol";
import {IPolicy} from "./IPolicy.sol";

/// @title Who has paid for what
/// @notice The owner of a model asks a price for a version, or for the model with all its versions, and takes what was
/// paid when it likes. An *id* here is a modelId or a versionId.
///
/// The price of a version is the one it was published with until its owner sets another. A model as a whole is for sale
/// once its owner sets a price for it. A free version needs nothing here and costs nothing here.
/// @custom:security Warning: the bytes of every model are public on IPFS. Access here is a receipt: citrate's client
/// refuses to pull what was not paid for, a licence may refer to it, and a service can ask `hasAccess` before it serves.
/// It hides nothing, and nobody who has the CID needs it. Keep bytes secret by encrypting them before publication.
/// @custom:security Warning: access once bought stays, whatever the owner does with price or model later. It belongs to
/// an address and cannot be passed on.
interface IModelAccess is IChangeLog, ICredits {
    /// @notice The owner asks another price.
    event PriceSet(bytes32 indexed id, uint256 priceWei);
    /// @notice An account has access from now on.
    /// @param payer Who paid, or the owner who gave it.
    /// @param priceWei What was paid in all, the fee included; 0 for what the owner gave.
    /// @param seller Who was credited with the price less the fee; zero for what the owner gave.
    event AccessGranted(
        bytes32 indexed id, address indexed account, address indexed payer, uint256 priceWei, uint256 feeWei, address seller
    );

    // NotOwner is that of IModelRegistry; the rest of the errors of money are in ICredits. An amount that is too large to
    // be kept is OpenZeppelin's SafeCastOverflowedUintDowncast.

    /// @notice There is neither a model nor a version of this id.
    error UnknownId(bytes32 id);
    /// @notice The version is free, or the model as a whole is not for sale.
    error NotForSale(bytes32 id);
    /// @notice The price is above what the buyer agreed to.
    error PriceAboveMaximum(uint256 priceWei, uint256 maxPriceWei);
    /// @notice Less was sent than the price.
    error Underpaid(uint256 priceWei, uint256 sentWei);
    /// @notice The account was granted access to this, or to the model it is a version of; nothing is paid twice.
    error AlreadyGranted(bytes32 id, address account);

    /// @notice Ask a price from now on. By the model's owner.
    /// @param priceWei Of a version: 0 makes it free. Of a model: 0 takes it off sale as a whole. Below 2^248.
    function setPrice(bytes32 id, uint256 priceWei) external;

    /// @notice Buy access. What is sent above the price is credited to the sender. The seller is who owns the model when
    /// this is mined. Nobody is called but registry and policy, so no seller can prevent a purchase.
    /// @param maxPriceWei The most the buyer agrees to pay, whatever the price has become when this is mined.
    function buy(bytes32 id, uint256 maxPriceWei) external payable;

    /// @notice Buy access for somebody else.
    function gift(bytes32 id, address to, uint256 maxPriceWei) external payable;

    /// @notice Give access for nothing. By the model's owner.
    function grant(bytes32 id, address to) external;

    /// @notice What access costs now.
    /// @return priceWei 0: the version is free, or the model is not for sale as a whole.
    /// @return feeWei The part of it that is the protocol's.
    /// @return seller Who would be credited with the rest.
    function quote(bytes32 id) external view returns (uint256 priceWei, uint256 feeWei, address seller);

    /// @notice Whether an account may use a version (it is free, the account owns its model, or has access to it or to
    /// the model) or a model as a whole (the account owns it or has access to it).
    function hasAccess(bytes32 id, address account) external view returns (bool);

    /// @notice When an account got access to just this id, in Unix seconds; 0 if it did not.
    function grantedAt(bytes32 id, address account) external view returns (uint256);

    /// @notice The sum of all credits; the contract never holds less.
    function totalCredit() external view returns (uint256 amountWei);

    /// @notice No fee is ever above this part of the price, in basis points, whatever the policy says.
    // solhint-disable-next-line func-name-mixedcase
    function MAX_FEE_BASIS_POINTS() external view returns (uint256);

    /// @notice The registry of the models.
    function registry() external view returns (IModelRegistry);

    /// @notice Where the fee is set.
    function policy() external view returns (IPolicy);
}
