// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {Cid} from "./Cid.sol";
import {Ids} from "./Ids.sol";
import {Packed} from "./Packed.sol";
import {Text} from "./Text.sol";

/// @title Checks of what callers pass
/// @notice The layouts are in IModelRegistry. Nothing is accepted that would not read back exactly.
/// @dev Sums are unchecked, as in Packed.
library Payload {
    using Packed for bytes;

    uint256 private constant MAX_VARIANTS = 64;
    uint256 private constant MAX_PRICE_EXPONENT = 60;
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
            (text, afterName) = data.text(0);
            if (!Text.isName(text, 64, false)) revert IModelRegistry.InvalidText(0);
            modelId = Ids.modelId(publisher, text);
            _checkManifest(data, afterName);
            _checkPrice(data.word(afterName + 32) >> 224);
            uint256 pos = afterName + 36;
            uint256 next;
            (text, next) = data.text(pos);
            if (!Text.isName(text, 32, true)) revert IModelRegistry.InvalidText(pos);
            if (Text.isLatest(text)) revert IModelRegistry.ReservedName();
            versionId = Ids.nameId(modelId, text);
            (text, pos) = data.text(next);
            if (!Text.isPrintable(text, 64)) revert IModelRegistry.InvalidText(next);
            _checkVariants(data, pos);
        }
    }

    /// @dev The name in a release that is yet to be checked; empty if it is cut off.
    function nameOf(bytes calldata data) internal pure returns (bytes calldata name) {
        (name,) = data.text(0);
    }

    /// @dev Checks an addition.
    function checkAddition(bytes calldata data) internal pure {
        _checkManifest(data, 0);
        _checkVariants(data, data.length < 32 ? data.length : 32);
    }

    /// @dev The key of the variant at `pos` (all of it before the codec, zero-padded), and where the next one begins.
    function variantAt(bytes memory data, uint256 pos) internal pure returns (bytes32 key, uint256 next) {
        unchecked {
            uint256 word;
            assembly ("memory-safe") {
                word := mload(add(add(data, 32), pos))
            }
            uint256 n = _keyLength(word);
            return (bytes32(_start(word, n)), pos + n + AFTER_KEY);
        }
    }

    function _checkManifest(bytes calldata data, uint256 pos) private pure {
        if (data.word(pos) == 0) revert IModelRegistry.InvalidManifest();
    }

    function _checkPrice(uint256 price) private pure {
        uint256 exponent = price & 0xff;
        if (exponent > MAX_PRICE_EXPONENT || price == exponent && price != 0) {
            revert IModelRegistry.InvalidPrice(bytes4(uint32(price)));
        }
    }

    /// @dev From `pos` to the end there must be 1 to 64 variants. Because keys ascend, no variant is there twice.
    function _checkVariants(bytes calldata data, uint256 pos) private pure {
        unchecked {
            uint256 previous; // smaller than any key, since a key begins with a format
            uint256 count;
            do {
                uint256 word = data.word(pos);
                uint256 n = _keyLength(word);
                uint256 next = pos + n + AFTER_KEY;
                if (next > data.length) revert IModelRegistry.InvalidLength(pos);
                if (!_isVariant(data, word >> 248, pos + n)) revert IModelRegistry.InvalidVariant(pos);
                uint256 lengths = uint8(word >> 240);
                if (!Text.areLabels(word << 16, lengths >> 4, lengths & 15)) revert IModelRegistry.InvalidText(pos);
                uint256 key = _start(word, n);
                if (key <= previous) revert IModelRegistry.InvalidOrder(pos);
                previous = key;
                pos = next;
                ++count;
            } while (pos < data.length);
            if (count > MAX_VARIANTS) revert IModelRegistry.TooManyVariants();
        }
    }

    /// @dev All conditions in one expression: this runs for each variant, and a jump costs more than a comparison.
    /// @param pos Where the codec is.
    function _isVariant(bytes calldata data, uint256 format, uint256 pos) private pure returns (bool ok) {
        (uint256 raw, uint256 dagPb) = (Cid.RAW, Cid.DAG_PB);
        assembly ("memory-safe") {
            let content := add(data.offset, pos)
            let word := calldataload(content)
            let codec := shr(248, word)
            let size := and(shr(200, word), 0xffffffffffff)
            ok := and(lt(sub(format, 1), FORMATS), or(eq(codec, raw), eq(codec, dagPb)))
            ok := and(and(ok, gt(size, 0)), and(gt(calldataload(add(content, 7)), 0), gt(calldataload(add(content, 39)), 0)))
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
    function _start(uint256 word, uint256 n) private pure returns (uint256) {
        unchecked {
            return word & ~(type(uint256).max >> (8 * n));
        }
    }
}
