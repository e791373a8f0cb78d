// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title How many of something an account did today, and how many ever, in one slot
/// @notice `day 24 | in that day 8 | ever 64`, from the lowest bit. A day is one of UTC: Unix seconds / 86,400.
type Quota is uint256;

using {today, ever, charge} for Quota global;

/// @dev How many are allowed in a day.
uint256 constant DAILY = 10;

/// @dev The Unix second at which the next day begins.
function nextDay() view returns (uint256) {
    return (block.timestamp / 1 days + 1) * 1 days;
}

function today(Quota quota) view returns (uint256) {
    return uint24(Quota.unwrap(quota)) == block.timestamp / 1 days ? uint8(Quota.unwrap(quota) >> 24) : 0;
}

function ever(Quota quota) pure returns (uint64) {
    return uint64(Quota.unwrap(quota) >> 32);
}

/// @dev One more. The caller has seen that `today` is below what is allowed; 2^64 are out of reach, and so is the year
/// 47,900, in which the days no longer fit.
function charge(Quota quota) view returns (Quota) {
    unchecked {
        return Quota.wrap((uint256(quota.ever()) + 1) << 32 | (quota.today() + 1) << 24 | block.timestamp / 1 days);
    }
}
