// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {Payload} from "./Payload.sol";

/// @title How a record is laid out in the code of its account
/// @notice Writes and reads the layout that IModelRegistry states.
library RecordLayout {
    /// @dev As much of a release record as holds everything before its variants, whatever the lengths of its texts.
    uint256 private constant WITHOUT_VARIANTS = 288;
    uint256 private constant WITH_FIRST_VARIANT = 384;
    uint256 private constant WHOLE = type(uint256).max;

    uint256 private constant HEADER = 47;
    uint8 private constant BY_OTHER = 0x80;

    /// @dev A record, decoded. In an addition `lead`, `priceWei`, `version` and `licence` stay empty.
    struct Record {
        IModelRegistry.Kind kind;
        uint64 time;
        address previous; // in the registry
        address link;
        address sender; // 0 where the publisher was the owner
        string lead; // the model's name in a first release, the version before it in a later one
        bytes32 manifest;
        uint256 priceWei;
        string version;
        string licence;
    }

    /// @dev What is to stand in a record before the part that the caller sent.
    struct Draft {
        IModelRegistry.Kind kind;
        address link;
        address sender; // 0 where the publisher is the owner
        bytes lead; // in a later release the version before it, as a text; else empty
    }

    /// @dev Lays out a record; `rest` is the part that the caller sent and that the record keeps.
    function encode(address previous, Draft memory draft, bytes calldata rest) internal view returns (bytes memory record) {
        (address link, address sender, bytes memory lead) = (draft.link, draft.sender, draft.lead);
        uint256 code = uint256(draft.kind) | (sender == address(0) ? 0 : BY_OTHER);
        uint256 start = code << 240 | block.timestamp << 200; // 00, kind, time
        assembly ("memory-safe") {
            record := mload(0x40)
            let end := add(record, 32)
            // Each word is written over the empty end of the one before it. Shifting drops dirty high bits.
            mstore(end, start)
            mstore(add(end, 7), shl(96, previous))
            mstore(add(end, 27), shl(96, link))
            end := add(end, HEADER)
            if sender {
                mstore(end, shl(96, sender))
                end := add(end, 20)
            }
            mcopy(end, add(lead, 32), mload(lead))
            end := add(end, mload(lead))
            calldatacopy(end, rest.offset, rest.length)
            end := add(end, rest.length)
            mstore(record, sub(sub(end, record), 32))
            mstore(0x40, and(add(end, 31), not(31)))
        }
    }

    /// @dev What a later release keeps of the one before it.
    /// @return first The model's first release.
    /// @return version The version before it, as a text.
    function follow(address release) internal view returns (address first, bytes memory version) {
        unchecked {
            bytes memory raw = _load(release, WITHOUT_VARIANTS);
            first = _kind(raw) == IModelRegistry.Kind.FirstRelease ? release : _addressAt(raw, 27);
            uint256 pos = _manifestAt(raw) + 36;
            version = _slice(raw, pos, 1 + _byteAt(raw, pos));
        }
    }

    /// @dev Decodes the record of an account.
    function read(address account) internal view returns (Record memory r) {
        unchecked {
            bytes memory raw = _load(account, WITHOUT_VARIANTS);
            if (raw.length < HEADER || _byteAt(raw, 0) != 0) revert IModelRegistry.UnknownRecord(account);
            r.kind = _kind(raw);
            r.time = uint40(_wordAt(raw, 2) >> 216);
            r.previous = _addressAt(raw, 7);
            r.link = _addressAt(raw, 27);
            if (_byOther(raw)) r.sender = _addressAt(raw, HEADER);
            uint256 pos = _manifestAt(raw);
            r.manifest = bytes32(_wordAt(raw, pos));
            if (r.kind == IModelRegistry.Kind.Addition) return r;
            r.lead = _textAt(raw, _leadAt(raw));
            uint256 price = _wordAt(raw, pos + 32) >> 224;
            r.priceWei = (price >> 8) * 10 ** (price & 0xff);
            r.version = _textAt(raw, pos + 36);
            r.licence = _textAt(raw, _afterText(raw, pos + 36));
        }
    }

    /// @dev SHA-256 of the first variant of a release.
    function firstDigest(address release) internal view returns (bytes32) {
        unchecked {
            bytes memory raw = _load(release, WITH_FIRST_VARIANT);
            (, uint256 end) = Payload.variantAt(raw, _variantsAt(raw));
            return bytes32(_wordAt(raw, end - 32));
        }
    }

    /// @dev Both lists of variants ascend, so one walk along both finds a variant that is in both.
    function requireDisjoint(bytes memory addition, address account) internal view {
        unchecked {
            bytes memory raw = _load(account, WHOLE);
            uint256 i = 32; // behind the manifest
            uint256 j = _variantsAt(raw);
            while (i < addition.length && j < raw.length) {
                (bytes32 added, uint256 afterI) = Payload.variantAt(addition, i);
                (bytes32 present, uint256 afterJ) = Payload.variantAt(raw, j);
                if (added == present) revert IModelRegistry.DuplicateVariant(added);
                if (added < present) i = afterI;
                else j = afterJ;
            }
        }
    }

    /// @dev Decodes all variants of some records.
    function readVariants(address[] memory accounts) internal view returns (IModelRegistry.Variant[] memory list) {
        unchecked {
            bytes[] memory raws = new bytes[](accounts.length);
            uint256 total;
            for (uint256 i; i < accounts.length; ++i) {
                bytes memory raw = raws[i] = _load(accounts[i], WHOLE);
                for (uint256 pos = _variantsAt(raw); pos < raw.length; ++total) (, pos) = Payload.variantAt(raw, pos);
            }
            list = new IModelRegistry.Variant[](total);
            total = 0;
            for (uint256 i; i < raws.length; ++i) {
                uint256 pos = _variantsAt(raws[i]);
                while (pos < raws[i].length) pos = _readVariant(raws[i], pos, list[total++]);
            }
        }
    }

    function _readVariant(bytes memory raw, uint256 pos, IModelRegistry.Variant memory v) private pure returns (uint256) {
        unchecked {
            uint256 lengths = _byteAt(raw, pos + 1);
            v.format = _formatName(_byteAt(raw, pos));
            pos += 2;
            v.quantization = string(_slice(raw, pos, lengths >> 4));
            pos += lengths >> 4;
            v.target = string(_slice(raw, pos, lengths & 15));
            pos += lengths & 15;
            v.sizeBytes = uint48(_wordAt(raw, pos + 1) >> 208);
            v.cid = _cidText(_byteAt(raw, pos), _wordAt(raw, pos + 7));
            v.sha256Digest = bytes32(_wordAt(raw, pos + 39));
            return pos + 71;
        }
    }

    function _formatName(uint256 format) private pure returns (string memory) {
        if (format == 1) return "safetensors";
        if (format == 2) return "gguf";
        if (format == 3) return "mlx";
        return "tensorrt_llm";
    }

    /// @dev CIDv1 in base32: `b` and 58 characters for the 288 bits 01 | codec | 12 20 | digest (and two zero bits).
    function _cidText(uint256 codec, uint256 digest) private pure returns (string memory) {
        unchecked {
            bytes memory alphabet = "abcdefghijklmnopqrstuvwxyz234567";
            bytes memory text = new bytes(59);
            text[0] = "b";
            uint256 bits = (0x01001220 | codec << 16) << 224 | digest >> 32;
            for (uint256 i = 1; i <= 51; ++i) text[i] = alphabet[bits >> (256 - 5 * i) & 31];
            bits = digest << 2; // the last 33 bits are not in the text yet
            for (uint256 i = 52; i <= 58; ++i) text[i] = alphabet[bits >> (5 * (58 - i)) & 31];
            return string(text);
        }
    }

    function _kind(bytes memory raw) private pure returns (IModelRegistry.Kind) {
        return IModelRegistry.Kind(_byteAt(raw, 1) & 3);
    }

    function _byOther(bytes memory raw) private pure returns (bool) {
        return _byteAt(raw, 1) & BY_OTHER != 0;
    }

    /// @dev Where the name of a first release, or the version before a later one, stands.
    function _leadAt(bytes memory raw) private pure returns (uint256) {
        return _byOther(raw) ? HEADER + 20 : HEADER;
    }

    function _manifestAt(bytes memory raw) private pure returns (uint256 pos) {
        pos = _leadAt(raw);
        if (_kind(raw) != IModelRegistry.Kind.Addition) pos = _afterText(raw, pos);
    }

    function _variantsAt(bytes memory raw) private pure returns (uint256 pos) {
        unchecked {
            pos = _manifestAt(raw) + 32;
            if (_kind(raw) != IModelRegistry.Kind.Addition) pos = _afterText(raw, _afterText(raw, pos + 4));
        }
    }

    function _afterText(bytes memory raw, uint256 pos) private pure returns (uint256) {
        unchecked {
            return pos + 1 + _byteAt(raw, pos);
        }
    }

    function _load(address account, uint256 limit) private view returns (bytes memory raw) {
        uint256 size = account.code.length;
        if (size > limit) size = limit;
        raw = new bytes(size);
        assembly ("memory-safe") {
            extcodecopy(account, add(raw, 32), 0, size)
        }
    }

    /// @dev 32 bytes from `pos`; what lies behind the end is not defined.
    function _wordAt(bytes memory raw, uint256 pos) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(raw, 32), pos))
        }
    }

    function _byteAt(bytes memory raw, uint256 pos) private pure returns (uint256) {
        return _wordAt(raw, pos) >> 248;
    }

    function _addressAt(bytes memory raw, uint256 pos) private pure returns (address) {
        return address(uint160(_wordAt(raw, pos) >> 96));
    }

    function _textAt(bytes memory raw, uint256 pos) private pure returns (string memory) {
        unchecked {
            return string(_slice(raw, pos + 1, _byteAt(raw, pos)));
        }
    }

    function _slice(bytes memory raw, uint256 pos, uint256 n) private pure returns (bytes memory part) {
        part = new bytes(n);
        assembly ("memory-safe") {
            mcopy(add(part, 32), add(add(raw, 32), pos), n)
        }
    }
}
