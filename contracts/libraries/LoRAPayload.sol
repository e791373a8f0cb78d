// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../interfaces/ILoRARegistry.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {Cid} from "./Cid.sol";
import {Packed} from "./Packed.sol";
import {Text} from "./Text.sol";

/// @title Checks of what is passed to the registry of LoRAs
/// @notice The layouts are in ILoRARegistry. Nothing is accepted that would not read back exactly.
/// @dev Sums are unchecked, as in Packed.
library LoRAPayload {
    using Packed for bytes;

    uint256 private constant MAX_SIZE_BYTES = 500_000_000;
    uint256 private constant MAX_RANK = 4096;
    uint256 private constant MAX_PARENTS = 8;
    uint256 private constant ALL_BASIS_POINTS = 10_000;

    /// @dev Bytes of a parent: its id and its weight.
    uint256 internal constant PARENT = 34;

    /// @dev What a LoRA's training begins with: nothing told, three hashes, or a run of the ledger.
    uint256 internal constant BY_CREATOR = 1;
    uint256 internal constant BY_RUN = 2;

    /// @dev Checks a LoRA.
    /// @return loraId From the creator, and the name and version in it.
    function check(address creator, bytes calldata data) internal pure returns (bytes32 loraId) {
        unchecked {
            uint256 pos;
            (loraId, pos) = _checkNames(creator, data);
            (bytes calldata licence, uint256 content) = data.text(pos);
            if (!Text.isPrintable(licence, 64)) revert IModelRegistry.InvalidText(pos);
            _checkContent(data, content);
            _checkTraining(data, _checkModules(data, content + 75) + 4);
        }
    }

    /// @dev The base content digest and the base version id.
    function baseOf(bytes calldata data) internal pure returns (bytes32 digest, bytes32 base) {
        return (bytes32(data.word(0)), bytes32(data.word(32)));
    }

    /// @dev Checks a list of parents, all but whether there are such LoRAs.
    /// @return count 1..8
    function checkParents(bytes calldata data) internal pure returns (uint256 count) {
        unchecked {
            count = data.length / PARENT;
            if (count == 0 || count > MAX_PARENTS || data.length != count * PARENT) {
                revert ILoRARegistry.InvalidParents(data.length);
            }
            bool isZero;
            uint256 sum;
            bytes32 previous;
            for (uint256 i; i < count; ++i) {
                (bytes32 loraId, uint256 weight) = parentAt(data, i);
                if (loraId <= previous) revert ILoRARegistry.InvalidParentOrder(loraId);
                previous = loraId;
                if (weight == 0) isZero = true;
                sum += weight;
            }
            if (isZero || sum != ALL_BASIS_POINTS) revert ILoRARegistry.InvalidWeights(sum);
        }
    }

    function parentAt(bytes calldata data, uint256 i) internal pure returns (bytes32 loraId, uint256 basisPoints) {
        unchecked {
            return (bytes32(data.word(i * PARENT)), data.word(i * PARENT + 32) >> 240);
        }
    }

    /// @return loraId From the creator, and the name and version.
    /// @return next Where the licence is.
    function _checkNames(address creator, bytes calldata data) private pure returns (bytes32 loraId, uint256 next) {
        (bytes calldata name, uint256 pos) = data.text(64);
        if (!Text.isName(name, 64, false)) revert IModelRegistry.InvalidText(64);
        bytes calldata version;
        (version, next) = data.text(pos);
        if (!Text.isName(version, 32, true)) revert IModelRegistry.InvalidText(pos);
        if (Text.isLatest(version)) revert IModelRegistry.ReservedName();
        loraId = keccak256(abi.encode("LoRA", creator, string(name), string(version)));
    }

    /// @dev codec 1 | size 4 | CID digest 32 | SHA-256 32 | rank 2 | alpha 4
    function _checkContent(bytes calldata data, uint256 pos) private pure {
        unchecked {
            uint256 word = data.word(pos);
            uint256 codec = word >> 248;
            if (codec != Cid.RAW && codec != Cid.DAG_PB) revert ILoRARegistry.InvalidLoRA(pos);
            uint256 sizeBytes = uint32(word >> 216);
            if (sizeBytes == 0 || sizeBytes > MAX_SIZE_BYTES) revert ILoRARegistry.InvalidSize(sizeBytes);
            if (data.word(pos + 5) == 0) revert ILoRARegistry.InvalidLoRA(pos + 5);
            if (data.word(pos + 37) == 0) revert ILoRARegistry.InvalidLoRA(pos + 37);
            word = data.word(pos + 69);
            uint256 rank = word >> 240;
            if (rank == 0 || rank > MAX_RANK) revert ILoRARegistry.InvalidRank(rank);
            if (uint32(word >> 208) == 0) revert ILoRARegistry.InvalidLoRA(pos + 71);
        }
    }

    /// @dev modules 2 | other modules text
    /// @return next Where the steps are.
    function _checkModules(bytes calldata data, uint256 pos) private pure returns (uint256 next) {
        unchecked {
            bytes calldata others;
            (others, next) = data.text(pos + 2);
            if (next > data.length) revert ILoRARegistry.InvalidLoRA(pos + 2);
            if (others.length != 0) {
                if (!_isList(others)) revert IModelRegistry.InvalidText(pos + 2);
            } else if (data.word(pos) >> 240 == 0) {
                revert ILoRARegistry.InvalidLoRA(pos);
            }
        }
    }

    /// @dev Printable, and no name between the commas is empty.
    function _isList(bytes calldata names) private pure returns (bool) {
        if (!Text.isPrintable(names, 255)) return false;
        bytes1 previous = ",";
        for (uint256 i; i < names.length; ++i) {
            if (names[i] == "," && previous == ",") return false;
            previous = names[i];
        }
        return previous != ",";
    }

    /// @dev From `pos` to the end there must be what the first byte says.
    function _checkTraining(bytes calldata data, uint256 pos) private pure {
        unchecked {
            uint256 kind = data.word(pos) >> 248;
            uint256 end = pos + 1;
            if (kind == BY_CREATOR) {
                end += 96;
                if (data.word(pos + 1) == 0) revert ILoRARegistry.InvalidLoRA(pos + 1);
                if (data.word(pos + 33) == 0) revert ILoRARegistry.InvalidLoRA(pos + 33);
            } else if (kind == BY_RUN) {
                end += 8;
                if (data.word(pos + 1) >> 192 == 0) revert ILoRARegistry.InvalidLoRA(pos + 1);
            } else if (kind != 0) {
                revert ILoRARegistry.InvalidLoRA(pos);
            }
            if (end != data.length) revert ILoRARegistry.InvalidLoRA(end < data.length ? end : data.length);
        }
    }
}
