// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Money that waits for its owner
/// @notice Whoever is to be paid is credited and takes the money when it likes. So no payment depends on anybody's
/// readiness to receive, and a receiver that fails hurts only itself.
interface ICredits {
    /// @notice Credit was paid out.
    event Withdrawn(address indexed account, address indexed to, uint256 amountWei);

    /// @notice Access or money for the zero address.
    error InvalidAccount();
    /// @notice There is nothing to pay out.
    error NothingToWithdraw(address account);

    /// @notice Pay out all of the caller's credit.
    /// @param to Where to; the caller's own address as a rule.
    function withdraw(address payable to) external;

    /// @notice What an account can withdraw.
    function creditOf(address account) external view returns (uint256 amountWei);
}
