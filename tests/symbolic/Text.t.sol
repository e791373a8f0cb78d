// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Text} from "../../contracts/libraries/Text.sol";

/// The checks of 32 characters at a time say what a look at each character says. Texts of the lengths that the runner is
/// given, and of one more word, with every byte of any value.
contract TextChecks {
    function check_names(bytes calldata text, bool plus) external pure {
        uint256 ok = 1;
        for (uint256 i; i < text.length; ++i) ok &= _inName(uint8(text[i]), i, plus ? 1 : 0);
        bool expected = ok == 1 && text.length != 0 && text.length <= 32;
        assert(Text.isName(text, 32, plus) == expected);
    }

    function check_printable(bytes calldata text) external pure {
        uint256 ok = 1;
        for (uint256 i; i < text.length; ++i) ok &= _between(uint8(text[i]), 0x20, 0x7e);
        assert(Text.isPrintable(text, 64) == (ok == 1 && text.length != 0 && text.length <= 64));
    }

    /// Two labels of three and four characters; the bytes behind them do not matter.
    function check_labels(bytes32 word) external pure {
        uint256 ok = 1;
        for (uint256 i; i < 7; ++i) ok &= _inLabel(uint8(word[i]), i == 0 || i == 3 ? 1 : 0);
        assert(Text.areLabels(uint256(word), 3, 4) == (ok == 1));
    }

    function check_latest(bytes calldata text) external pure {
        assert(Text.isLatest(text) == (text.length == 6 && bytes6(text) == bytes6("latest")));
    }

    // One and zero instead of true and false: a branch for each character would be 2^32 paths.

    function _inName(uint256 c, uint256 place, uint256 plus) private pure returns (uint256) {
        uint256 others = _between(c, 0x2d, 0x2e) | _between(c, 0x5f, 0x5f) | (_between(c, 0x2b, 0x2b) & plus);
        return _between(c, 0x61, 0x7a) | _between(c, 0x30, 0x39) | (place == 0 ? 0 : others);
    }

    function _inLabel(uint256 c, uint256 first) private pure returns (uint256) {
        uint256 others = _between(c, 0x2d, 0x2e) | _between(c, 0x5f, 0x5f) | _between(c, 0x2b, 0x2b);
        uint256 letters = _between(c, 0x61, 0x7a) | _between(c, 0x41, 0x5a) | _between(c, 0x30, 0x39);
        return letters | (first == 1 ? 0 : others);
    }

    function _between(uint256 c, uint256 low, uint256 high) private pure returns (uint256 is_) {
        assembly ("memory-safe") {
            is_ := iszero(or(lt(c, low), gt(c, high)))
        }
    }
}
