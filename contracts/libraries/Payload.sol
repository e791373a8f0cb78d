// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {Ids} from "./Ids.sol";
import {Text} from "./Text.sol";

/// @title Checks of what callers pass
/// @notice The layouts are in IModelRegistry. Nothing is accepted that would not read back exactly.
library Payload {
    uint256 internal constant MAX_VARIANTS = 64;
    uint256 private constant MAX_PRICE_EXPONENT = 60;
    uint256 private constant CODEC_RAW = 0x55;
    uint256 private constant CODEC_DAG_PB = 0x70;
    uint256 private constant FORMATS = 4;

    /// @dev Bytes of a variant behind its key: codec, size, CID digest, SHA-256.
    uint256 private constant AFTER_KEY = 71;

    /// @dev Checks a release.
    /// @return modelId From the publisher and the name in it.
    /// @return versionId From the model and the version in it.
    /// @return afterName Where the part begins that every release record keeps.
    function checkRelease(address publisher, bytes calldata data)
        internal
        pure
        returns (bytes32 modelId, bytes32 versionId, uint256 afterName)
    {
        unchecked {
            bytes calldata text;
            (text, afterName) = _text(data, 0);
            if (!Text.isName(text, 64, false)) revert IModelRegistry.InvalidText(0);
            modelId = Ids.modelId(publisher, text);
            _checkManifest(data, afterName);
            _checkPrice(bytes4(bytes32(_word(data, afterName + 32))));
            uint256 pos = afterName + 36;
            uint256 next;
            (text, next) = _text(data, pos);
            if (!Text.isName(text, 32, true)) revert IModelRegistry.InvalidText(pos);
            if (isLatest(text)) revert IModelRegistry.ReservedName();
            versionId = Ids.nameId(modelId, text);
            (text, pos) = _text(data, next);
            if (!Text.isPrintable(text, 64)) revert IModelRegistry.InvalidText(next);
            _checkVariants(data, pos);
        }
    }

    /// @dev The name in a release that is yet to be checked; empty if it is cut off.
    function nameOf(bytes calldata data) internal pure returns (bytes calldata name) {
        (name,) = _text(data, 0);
    }

    /// @dev Checks an addition.
    function checkAddition(bytes calldata data) internal pure {
        unchecked {
            _checkManifest(data, 0);
            _checkVariants(data, 32);
        }
    }

    function isLatest(bytes calldata name) internal pure returns (bool) {
        return name.length == 6 && bytes6(name) == "latest";
    }

    /// @dev The place after the variant at `pos`, and its key: all of it before the codec, zero-padded.
    function variantAt(bytes memory data, uint256 pos) internal pure returns (bytes32 key, uint256 next) {
        unchecked {
            uint256 word;
            assembly ("memory-safe") {
                word := mload(add(add(data, 32), pos))
            }
            uint256 n = _keyLength(word);
            return (bytes32(_head(word, n)), pos + n + AFTER_KEY);
        }
    }

    function _checkManifest(bytes calldata data, uint256 pos) private pure {
        if (_word(data, pos) == 0) revert IModelRegistry.InvalidDigest(pos);
    }

    function _checkPrice(bytes4 price) private pure {
        uint256 mantissa = uint32(price) >> 8;
        uint256 exponent = uint8(uint32(price));
        if (exponent > MAX_PRICE_EXPONENT || (mantissa == 0 && exponent != 0)) revert IModelRegistry.InvalidPrice(price);
    }

    /// @dev From `pos` to the end there must be 1 to 64 variants. Because keys ascend, no variant is there twice.
    function _checkVariants(bytes calldata data, uint256 pos) private pure {
        unchecked {
            uint256 previous; // smaller than any key, since a key begins with a format
            uint256 count;
            do {
                uint256 key = _checkKey(data, pos);
                if (key <= previous) revert IModelRegistry.InvalidOrder(pos);
                previous = key;
                pos = _checkContent(data, pos, pos + _keyLength(key));
                ++count;
            } while (pos < data.length);
            if (count > MAX_VARIANTS) revert IModelRegistry.TooManyVariants();
        }
    }

    function _checkKey(bytes calldata data, uint256 pos) private pure returns (uint256 key) {
        unchecked {
            uint256 word = _word(data, pos);
            uint256 n = _keyLength(word);
            if (pos + n + AFTER_KEY > data.length) revert IModelRegistry.InvalidLength(pos);
            uint256 format = word >> 248;
            if (format == 0 || format > FORMATS) revert IModelRegistry.InvalidFormat(pos);
            uint256 lengths = uint8(word >> 240);
            if (!Text.areLabels(word << 16, lengths >> 4, lengths & 15)) revert IModelRegistry.InvalidText(pos);
            return _head(word, n);
        }
    }

    /// @param pos Where the variant begins, for errors.
    /// @param content Where its codec is.
    function _checkContent(bytes calldata data, uint256 pos, uint256 content) private pure returns (uint256 next) {
        unchecked {
            uint256 word = _word(data, content);
            uint256 codec = word >> 248;
            if (codec != CODEC_RAW && codec != CODEC_DAG_PB) revert IModelRegistry.InvalidCodec(pos);
            if (uint48(word >> 200) == 0) revert IModelRegistry.InvalidSize(pos);
            if (_word(data, content + 7) == 0 || _word(data, content + 39) == 0) revert IModelRegistry.InvalidDigest(pos);
            return content + AFTER_KEY;
        }
    }

    /// @dev 2..32
    function _keyLength(uint256 word) private pure returns (uint256) {
        unchecked {
            uint256 lengths = uint8(word >> 240);
            return 2 + (lengths >> 4) + (lengths & 15);
        }
    }

    /// @dev The first n (1..32) bytes of a word.
    function _head(uint256 word, uint256 n) private pure returns (uint256) {
        return word & ~(type(uint256).max >> (8 * n));
    }

    /// @dev The text at `pos`, empty where it would not fit: every check of a text refuses an empty one.
    function _text(bytes calldata data, uint256 pos) private pure returns (bytes calldata text, uint256 next) {
        unchecked {
            next = pos + 1 + uint8(bytes1(bytes32(_word(data, pos))));
            if (next > data.length) return (data[0:0], pos);
            return (data[pos + 1:next], next);
        }
    }

    /// @dev What lies behind the end of the payload is not zero; whoever reads there must notice by its length.
    function _word(bytes calldata data, uint256 pos) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, pos))
        }
    }
}
