// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChangeLog} from "./IChangeLog.sol";
import {IModeration} from "./IModeration.sol";

/// @title What may change, and who may change it
/// @notice Two things only: which contract moderates, and the fee on sales. Both are changed by the timelock, so that
/// everybody sees a change two days before it holds. Nothing here reaches names, owners, published bytes or credits.
/// @custom:security Warning: the authority proposes what the timelock executes. A captured authority can appoint a
/// moderation that flags what it likes or refuses new LoRAs, and can raise the fee up to the cap; after two days.
interface IPolicy is IChangeLog {
    /// @notice Another contract moderates from now on.
    event ModerationAppointed(IModeration indexed moderation);
    /// @notice Sales from now on pay another fee.
    event FeeSet(address indexed recipient, uint256 basisPoints);

    /// @notice The caller is neither the timelock nor, for the first appointment, the authority.
    error NotAuthority(address caller);
    /// @notice The fee is above the cap, or is to be paid to nobody.
    error InvalidFee(address recipient, uint256 basisPoints);
    /// @notice There is no contract at this address, so nobody could ask it.
    error InvalidModeration(IModeration moderation);

    /// @notice Name the contract that moderates; the zero address ends moderation. By the timelock; the first time
    /// also by the authority, at once, because a deployment has to begin somewhere.
    function appoint(IModeration moderation) external;

    /// @notice Set the fee on sales. By the timelock.
    /// @param basisPoints 0..250 hundredths of a percent of the price.
    function setFee(address recipient, uint256 basisPoints) external;

    /// @notice The contract that moderates; zero if none does.
    function moderation() external view returns (IModeration);

    /// @notice The fee on sales.
    function fee() external view returns (address recipient, uint256 basisPoints);

    /// @notice Who proposes, and who appoints the first moderation.
    function authority() external view returns (address);

    /// @notice The contract through which everything here changes.
    function timelock() external view returns (address);
}
