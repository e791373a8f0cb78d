// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../interfaces/ILoRARegistry.sol";
import {Cid} from "./Cid.sol";
import {LoRAPayload} from "./LoRAPayload.sol";
import {RecordBytes} from "./RecordBytes.sol";

/// @title How the records of LoRAs and merges are laid out
/// @notice Reads the layout that ILoRARegistry states; `RecordBytes.encode` writes it.
library LoRALayout {
    using RecordBytes for bytes;

    uint256 private constant MODULES = 16;

    function isLoRA(bytes memory raw) internal pure returns (bool) {
        return raw.isRecord() && raw.codeOf() == uint256(ILoRARegistry.Kind.LoRA);
    }

    function isMerge(bytes memory raw) internal pure returns (bool) {
        return raw.isRecord() && raw.codeOf() == uint256(ILoRARegistry.Kind.Merge);
    }

    /// @dev The base version of a LoRA or a merge.
    function baseOf(bytes memory raw) internal pure returns (bytes32) {
        return bytes32(raw.wordAt(isMerge(raw) ? RecordBytes.HEADER + 32 : RecordBytes.HEADER));
    }

    /// @dev The version that resulted from a merge.
    function resultOf(bytes memory raw) internal pure returns (bytes32) {
        return bytes32(raw.wordAt(RecordBytes.HEADER));
    }

    function nameOf(bytes memory raw) internal pure returns (string memory name, string memory version) {
        uint256 pos = RecordBytes.HEADER + 32;
        return (raw.textAt(pos), raw.textAt(raw.afterText(pos)));
    }

    /// @dev All of a LoRA that its record holds; `lora.record`, `lora.baseDigest` and what a run says stay empty.
    function readLoRA(bytes memory raw) internal pure returns (ILoRARegistry.LoRA memory lora) {
        unchecked {
            lora.creator = raw.linkOf();
            lora.createdAt = raw.timeOf();
            lora.base = baseOf(raw);
            (lora.name, lora.version) = nameOf(raw);
            uint256 pos = raw.afterText(raw.afterText(RecordBytes.HEADER + 32));
            lora.licence = raw.textAt(pos);
            pos = raw.afterText(pos);
            lora.cid = Cid.text(raw.byteAt(pos), bytes32(raw.wordAt(pos + 5)));
            lora.sizeBytes = uint32(raw.wordAt(pos + 1) >> 224);
            lora.sha256Digest = bytes32(raw.wordAt(pos + 37));
            lora.rank = uint16(raw.wordAt(pos + 69) >> 240);
            lora.alpha = uint32(raw.wordAt(pos + 71) >> 224);
            lora.targetModules = _modules(raw.wordAt(pos + 75) >> 240, raw.textAt(pos + 77));
            pos = raw.afterText(pos + 77);
            lora.steps = uint32(raw.wordAt(pos) >> 224);
            _readTraining(raw, pos + 4, lora.training);
        }
    }

    /// @dev All of a merge but its account.
    function readMerge(bytes memory raw) internal pure returns (ILoRARegistry.Merge memory merge) {
        unchecked {
            merge.creator = raw.linkOf();
            merge.createdAt = raw.timeOf();
            merge.result = resultOf(raw);
            merge.base = baseOf(raw);
            uint256 pos = RecordBytes.HEADER + 64;
            merge.parents = new ILoRARegistry.Parent[]((raw.length - pos) / LoRAPayload.PARENT);
            for (uint256 i; i < merge.parents.length; ++i) {
                merge.parents[i].loraId = bytes32(raw.wordAt(pos));
                merge.parents[i].basisPoints = uint16(raw.wordAt(pos + 32) >> 240);
                pos += LoRAPayload.PARENT;
            }
        }
    }

    function _readTraining(bytes memory raw, uint256 pos, ILoRARegistry.Training memory training) private pure {
        unchecked {
            uint256 kind = raw.byteAt(pos);
            if (kind == LoRAPayload.BY_CREATOR) {
                training.dataset = bytes32(raw.wordAt(pos + 1));
                training.recipe = bytes32(raw.wordAt(pos + 33));
                training.proofRoot = bytes32(raw.wordAt(pos + 65));
            } else if (kind == LoRAPayload.BY_RUN) {
                training.runId = uint64(raw.wordAt(pos + 1) >> 192);
            }
        }
    }

    /// @dev The names of the set bits, from the lowest, and then the others, with commas between them.
    function _modules(uint256 bits, string memory others) private pure returns (string memory names) {
        for (uint256 i; i < MODULES; ++i) {
            if (bits >> i & 1 == 0) continue;
            names = bytes(names).length == 0 ? _module(i) : string.concat(names, ",", _module(i));
        }
        if (bits == 0) return others;
        if (bytes(others).length != 0) names = string.concat(names, ",", others);
    }

    function _module(uint256 i) private pure returns (string memory) {
        string[MODULES] memory names = [
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
            "embed_tokens",
            "lm_head",
            "qkv_proj",
            "gate_up_proj",
            "query",
            "key",
            "value",
            "dense",
            "fc1"
        ];
        return names[i];
    }
}
