// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Character checks, 32 characters at a time
/// @notice A text is checked as words of 32 bytes without a loop. Every check makes *flags*: a word in which the top
/// bit of a byte says whether that byte of the text is in a set of characters. Sets are joined with `|`.
library Text {
    uint256 private constant EACH = 0x0101010101010101010101010101010101010101010101010101010101010101;
    uint256 private constant TOPS = EACH * 0x80;

    /// @dev `[a-z0-9][a-z0-9._-]*` of 1..max characters, max <= 64.
    function isName(bytes calldata text, uint256 max) internal pure returns (bool) {
        return _isNameWith(text, max, "."); // nothing more
    }

    /// @dev `[a-z0-9][a-z0-9._+-]*` of 1..max characters, max <= 64.
    function isVersion(bytes calldata text, uint256 max) internal pure returns (bool) {
        return _isNameWith(text, max, "+");
    }

    /// @dev 1..max characters 0x20..0x7e, max <= 64.
    function isPrintable(bytes calldata text, uint256 max) internal pure returns (bool) {
        uint256 n = text.length;
        if (n == 0 || n > max) return false;
        if (!_all(_range(_word(text, 0), 0x20, 0x7e), 0, n < 32 ? n : 32)) return false;
        return n <= 32 || _all(_range(_word(text, 32), 0x20, 0x7e), 0, n - 32);
    }

    /// @dev Two adjoining labels inside one word, each empty or `[A-Za-z0-9][A-Za-z0-9._+-]*`: `first` characters from
    /// byte `pos`, then `second` characters. pos + first + second <= 32.
    function areLabels(uint256 word, uint256 pos, uint256 first, uint256 second) internal pure returns (bool) {
        unchecked {
            uint256 alphanumeric = _range(word, "A", "Z") | _lowerOrDigit(word);
            uint256 starts = (first == 0 ? 0 : _mask(pos, 1)) | (second == 0 ? 0 : _mask(pos + first, 1));
            if (starts & ~alphanumeric != 0) return false;
            return _all(alphanumeric | _punctuation(word, "+"), pos, first + second);
        }
    }

    /// @dev `extra` is one more character that is allowed after the first.
    function _isNameWith(bytes calldata text, uint256 max, bytes1 extra) private pure returns (bool) {
        uint256 n = text.length;
        if (n == 0 || n > max) return false;
        uint256 word = _word(text, 0);
        uint256 flags = _lowerOrDigit(word);
        if (flags >> 255 == 0) return false; // the first character
        if (!_all(flags | _punctuation(word, extra), 0, n < 32 ? n : 32)) return false;
        if (n <= 32) return true;
        word = _word(text, 32);
        return _all(_lowerOrDigit(word) | _punctuation(word, extra), 0, n - 32);
    }

    function _lowerOrDigit(uint256 word) private pure returns (uint256 flags) {
        return _range(word, "a", "z") | _range(word, "0", "9");
    }

    function _punctuation(uint256 word, bytes1 extra) private pure returns (uint256 flags) {
        return _range(word, "-", ".") | _range(word, "_", "_") | _range(word, extra, extra);
    }

    /// @dev Flags of the bytes in low..high, both below 0x80. No byte carries into its neighbour, because the top bits
    /// are cleared first: at most 0x7f + 0x80. A byte of 0x80 and above is never flagged.
    function _range(uint256 word, bytes1 low, bytes1 high) private pure returns (uint256 flags) {
        unchecked {
            uint256 seven = word & ~TOPS;
            uint256 atLeastLow = seven + EACH * (0x80 - uint8(low));
            uint256 aboveHigh = seven + EACH * (0x7f - uint8(high));
            return atLeastLow & ~aboveHigh & ~word & TOPS;
        }
    }

    /// @dev Whether all of the n bytes from byte `pos` are flagged.
    function _all(uint256 flags, uint256 pos, uint256 n) private pure returns (bool) {
        return _mask(pos, n) & ~flags == 0;
    }

    /// @dev The flags of the n bytes from byte `pos`, pos + n <= 32.
    function _mask(uint256 pos, uint256 n) private pure returns (uint256) {
        unchecked {
            return (TOPS >> (8 * pos)) & ~(TOPS >> (8 * (pos + n)));
        }
    }

    /// @dev The 32 bytes from byte `pos`; what lies behind the text is not zero, so mask it.
    function _word(bytes calldata text, uint256 pos) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(text.offset, pos))
        }
    }
}
