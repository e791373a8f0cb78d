// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {Cid} from "./Cid.sol";
import {Payload} from "./Payload.sol";
import {RecordBytes} from "./RecordBytes.sol";

/// @title How the records of models are laid out
/// @notice Writes and reads the layout that IModelRegistry states.
library RecordLayout {
    using RecordBytes for bytes;

    /// @dev As much of a release record as holds everything before its variants, whatever the lengths of its texts.
    uint256 private constant WITHOUT_VARIANTS = 288;
    uint256 private constant WITH_FIRST_VARIANT = 384;
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
    function encode(address previous, Draft memory draft, bytes calldata rest) internal view returns (bytes memory) {
        (uint256 code, bytes memory lead) = (uint256(draft.kind), draft.lead);
        if (draft.sender != address(0)) {
            code |= BY_OTHER;
            lead = bytes.concat(bytes20(draft.sender), lead);
        }
        return RecordBytes.encode(code, previous, draft.link, lead, rest);
    }

    /// @dev What a later release keeps of the one before it.
    /// @return first The model's first release.
    /// @return version The version before it, as a text.
    function follow(address release) internal view returns (address first, bytes memory version) {
        unchecked {
            bytes memory raw = RecordBytes.load(release, WITHOUT_VARIANTS);
            first = _kind(raw) == IModelRegistry.Kind.FirstRelease ? release : raw.linkOf();
            uint256 pos = _manifestAt(raw) + 36;
            version = raw.slice(pos, 1 + raw.byteAt(pos));
        }
    }

    /// @dev Decodes the record of an account.
    function read(address account) internal view returns (Record memory) {
        bytes memory raw = RecordBytes.load(account, WITHOUT_VARIANTS);
        if (!raw.isRecord()) revert IModelRegistry.UnknownRecord(account);
        return decode(raw);
    }

    /// @dev Decodes a record, of which the variants may be cut off.
    function decode(bytes memory raw) internal pure returns (Record memory r) {
        unchecked {
            r.kind = _kind(raw);
            r.time = raw.timeOf();
            r.previous = raw.previousOf();
            r.link = raw.linkOf();
            if (_byOther(raw)) r.sender = raw.addressAt(RecordBytes.HEADER);
            uint256 pos = _manifestAt(raw);
            r.manifest = bytes32(raw.wordAt(pos));
            if (r.kind == IModelRegistry.Kind.Addition) return r;
            r.lead = raw.textAt(_leadAt(raw));
            r.priceWei = priceOf(raw);
            r.version = raw.textAt(pos + 36);
            r.licence = raw.textAt(raw.afterText(pos + 36));
        }
    }

    /// @dev As much of a record as is asked for below.
    function loadRelease(address account) internal view returns (bytes memory) {
        return RecordBytes.load(account, WITH_FIRST_VARIANT);
    }

    function isRelease(bytes memory raw) internal pure returns (bool) {
        return raw.isRecord() && _kind(raw) != IModelRegistry.Kind.Addition;
    }

    /// @dev Under whose address the model of a release was named, and the model.
    function modelOf(bytes memory release) internal view returns (address publisher, bytes32 modelId) {
        bytes memory first = release;
        if (_kind(release) == IModelRegistry.Kind.Release) first = RecordBytes.load(release.linkOf(), WITHOUT_VARIANTS);
        publisher = first.linkOf();
        modelId = keccak256(abi.encode(publisher, first.textAt(_leadAt(first))));
    }

    function priceOf(bytes memory release) internal pure returns (uint256) {
        unchecked {
            uint256 price = release.wordAt(_manifestAt(release) + 32) >> 224;
            return (price >> 8) * 10 ** (price & 0xff);
        }
    }

    /// @dev SHA-256 of the first variant of a release.
    function firstDigest(bytes memory release) internal pure returns (bytes32) {
        unchecked {
            (, uint256 end) = Payload.variantAt(release, _variantsAt(release));
            return bytes32(release.wordAt(end - 32));
        }
    }

    /// @dev Both lists of variants ascend, so one walk along both finds a variant that is in both.
    function requireDisjoint(bytes memory addition, address account) internal view {
        unchecked {
            bytes memory raw = RecordBytes.load(account, RecordBytes.WHOLE);
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
                bytes memory raw = raws[i] = RecordBytes.load(accounts[i], RecordBytes.WHOLE);
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
            uint256 lengths = raw.byteAt(pos + 1);
            v.format = _formatName(raw.byteAt(pos));
            pos += 2;
            v.quantization = string(raw.slice(pos, lengths >> 4));
            pos += lengths >> 4;
            v.target = string(raw.slice(pos, lengths & 15));
            pos += lengths & 15;
            v.sizeBytes = uint48(raw.wordAt(pos + 1) >> 208);
            v.cid = Cid.text(raw.byteAt(pos), bytes32(raw.wordAt(pos + 7)));
            v.sha256Digest = bytes32(raw.wordAt(pos + 39));
            return pos + 71;
        }
    }

    function _formatName(uint256 format) private pure returns (string memory) {
        if (format == 1) return "safetensors";
        if (format == 2) return "gguf";
        if (format == 3) return "mlx";
        return "tensorrt_llm";
    }

    function _kind(bytes memory raw) private pure returns (IModelRegistry.Kind) {
        return IModelRegistry.Kind(raw.codeOf() & 3);
    }

    function _byOther(bytes memory raw) private pure returns (bool) {
        return raw.codeOf() & BY_OTHER != 0;
    }

    /// @dev Where the name of a first release, or the version before a later one, stands.
    function _leadAt(bytes memory raw) private pure returns (uint256) {
        return _byOther(raw) ? RecordBytes.HEADER + 20 : RecordBytes.HEADER;
    }

    function _manifestAt(bytes memory raw) private pure returns (uint256 pos) {
        pos = _leadAt(raw);
        if (_kind(raw) != IModelRegistry.Kind.Addition) pos = raw.afterText(pos);
    }

    function _variantsAt(bytes memory raw) private pure returns (uint256 pos) {
        unchecked {
            pos = _manifestAt(raw) + 32;
            if (_kind(raw) != IModelRegistry.Kind.Addition) pos = raw.afterText(raw.afterText(pos + 4));
        }
    }
}
