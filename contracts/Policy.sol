// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ChangeLog} from "./ChangeLog.sol";
import {IModeration} from "./interfaces/IModeration.sol";
import {IPolicy} from "./interfaces/IPolicy.sol";

/// @title What may change, and who may change it
/// @notice What it promises stands in IPolicy.
contract Policy is IPolicy, ChangeLog {
    uint256 private constant MAX_FEE_BASIS_POINTS = 250;

    /// @inheritdoc IPolicy
    address public immutable authority;
    /// @inheritdoc IPolicy
    address public immutable timelock;

    /// @inheritdoc IPolicy
    IModeration public moderation;
    /// @dev Whether anything was ever appointed: from then on only the timelock appoints, also after an appointment of none.
    bool private _begun;
    address private _recipient;
    uint16 private _basisPoints;

    constructor(address authority_, address timelock_) {
        (authority, timelock) = (authority_, timelock_);
    }

    /// @inheritdoc IPolicy
    function appoint(IModeration moderation_) external {
        if (msg.sender != timelock && (msg.sender != authority || _begun)) revert NotAuthority(msg.sender);
        if (address(moderation_) != address(0) && address(moderation_).code.length == 0) revert InvalidModeration(moderation_);
        (moderation, _begun) = (moderation_, true);
        _log(ModerationAppointed.selector, _topic(address(moderation_)), "");
    }

    /// @inheritdoc IPolicy
    function setFee(address recipient, uint256 basisPoints) external {
        if (msg.sender != timelock) revert NotAuthority(msg.sender);
        if (basisPoints > MAX_FEE_BASIS_POINTS || basisPoints != 0 && recipient == address(0)) {
            revert InvalidFee(recipient, basisPoints);
        }
        (_recipient, _basisPoints) = (recipient, uint16(basisPoints));
        _log(FeeSet.selector, _topic(recipient), abi.encode(basisPoints));
    }

    /// @inheritdoc IPolicy
    function fee() external view returns (address recipient, uint256 basisPoints) {
        return (_recipient, _basisPoints);
    }
}
