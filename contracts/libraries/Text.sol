// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Character checks, 32 characters at a time
/// @notice A text is looked at as words of 32 bytes, without a loop over its characters. A check makes *flags*: a word
/// in which the top bit of each byte says whether that byte of the text is in a set. Sets are joined with `|`.
library Text {
    uint256 private constant EACH = 0x0101010101010101010101010101010101010101010101010101010101010101;
    uint256 private constant TOPS = EACH * 0x80;

    /// @dev `[a-z0-9][a-z0-9._-]*` of 1..max characters; with `plus`, `+` too is allowed after the first.
    function isName(bytes calldata text, uint256 max, bool plus) internal pure returns (bool) {
        unchecked {
            uint256 n = text.length;
            if (n == 0 || n > max) return false;
            uint256 first = _firstOf(n); // of the first word only
            for (uint256 pos; pos < n; pos += 32) {
                uint256 word = _wordAt(text, pos);
                (uint256 alphanumeric, uint256 others) = _classify(word, word);
                if (!plus) others &= ~_pluses(word);
                if ((first & ~alphanumeric) | (_flags(n - pos) & ~(alphanumeric | others)) != 0) return false;
                first = 0;
            }
            return true;
        }
    }

    /// @dev 1..max characters of printable ASCII.
    function isPrintable(bytes calldata text, uint256 max) internal pure returns (bool) {
        unchecked {
            if (text.length == 0 || text.length > max) return false;
            for (uint256 pos; pos < text.length; pos += 32) {
                uint256 word = _wordAt(text, pos);
                if (_flags(text.length - pos) & ~(_range(word & ~TOPS, 0x20, 0x7e) & ~word) != 0) return false;
            }
            return true;
        }
    }

    /// @dev Two adjoining labels of `first` and `second` characters at the start of a word, each empty or
    /// `[A-Za-z0-9][A-Za-z0-9._+-]*`. At most 32 characters in all.
    function areLabels(uint256 word, uint256 first, uint256 second) internal pure returns (bool) {
        unchecked {
            // 0x20 moves A-Z onto a-z, and nothing else onto them.
            (uint256 alphanumeric, uint256 others) = _classify(word, word | EACH * 0x20);
            uint256 starts = _firstOf(first) | (_firstOf(second) >> (8 * first));
            return (starts & ~alphanumeric) | (_flags(first + second) & ~(alphanumeric | others)) == 0;
        }
    }

    /// @dev Whether a name is the reserved one.
    function isLatest(bytes calldata name) internal pure returns (bool) {
        return name.length == 6 && _wordAt(name, 0) >> 208 == uint48(bytes6("latest"));
    }

    /// @param letters `word`, or `word` in lower case.
    /// @return alphanumeric Flags of a-z and 0-9.
    /// @return others Flags of - . _ and +
    function _classify(uint256 word, uint256 letters) private pure returns (uint256 alphanumeric, uint256 others) {
        uint256 seven = word & ~TOPS;
        alphanumeric = (_range(letters & ~TOPS, 0x61, 0x7a) | _range(seven, 0x30, 0x39)) & ~word;
        others = (_range(seven, 0x2d, 0x2e) | _range(seven, 0x5f, 0x5f) | _range(seven, 0x2b, 0x2b)) & ~word;
    }

    function _pluses(uint256 word) private pure returns (uint256) {
        return _range(word & ~TOPS, 0x2b, 0x2b);
    }

    /// @dev Flags the bytes in low..high. In `seven` all top bits are clear, so that no sum carries into the next byte.
    function _range(uint256 seven, uint256 low, uint256 high) private pure returns (uint256 flags) {
        unchecked {
            uint256 atLeastLow = seven + EACH * (0x80 - low);
            uint256 aboveHigh = seven + EACH * (0x7f - high);
            return atLeastLow & ~aboveHigh;
        }
    }

    /// @dev The flag of the first byte, if there are n > 0.
    function _firstOf(uint256 n) private pure returns (uint256 flag) {
        assembly ("memory-safe") {
            flag := shl(255, gt(n, 0))
        }
    }

    /// @dev Flags of the first n bytes (of all 32 where n is larger).
    function _flags(uint256 n) private pure returns (uint256) {
        unchecked {
            return TOPS ^ (TOPS >> (8 * n));
        }
    }

    /// @dev 32 bytes from `pos`; what lies behind the end of the text is not defined.
    function _wordAt(bytes calldata text, uint256 pos) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(text.offset, pos))
        }
    }
}
