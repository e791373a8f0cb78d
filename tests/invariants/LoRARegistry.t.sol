// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {LoRARegistry} from "../../contracts/LoRARegistry.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {InvariantTest} from "./InvariantTest.sol";
import {LoRAHandler} from "./LoRAHandler.sol";

/// Invariants 3 to 8 and 15 of adapters: what is recorded stays, ten a day, and never better than its base.
contract LoRARegistryInvariants is InvariantTest {
    LoRARegistry private _loras;
    LoRAHandler private _handler;

    function setUp() external {
        _handler = new LoRAHandler(new ModelRegistry());
        _loras = _handler.loras();
        bytes4[] memory selectors = new bytes4[](11);
        selectors[0] = _handler.registerLoRA.selector;
        selectors[1] = _handler.registerLoRABySig.selector;
        selectors[2] = _handler.replay.selector;
        selectors[3] = _handler.burst.selector;
        selectors[4] = _handler.mergeLoRA.selector;
        selectors[5] = _handler.setAcceptance.selector;
        selectors[6] = _handler.allowCreator.selector;
        selectors[7] = _handler.deprecate.selector;
        selectors[8] = _handler.judge.selector;
        selectors[9] = _handler.appoint.selector;
        selectors[10] = _handler.pass.selector;
        target(_handler, selectors);
        _handler.burst(0, 1);
    }

    function invariantAdaptersAndMerges() external view {
        requireClean(_handler);
        requireFolded(_handler, _loras);
        (uint256 ofLoRAs, uint256 ofMerges) = _handler.counts();
        (, uint256 count) = _loras.head();
        require(count == ofLoRAs + ofMerges, "a record too many or too few");
        if (ofLoRAs != 0) _requireLoRA(_handler.loraIds(_handler.turn() % ofLoRAs));
        if (ofMerges != 0) _requireMerge(_handler.results(_handler.turn() % ofMerges));
        for (uint256 i; i < 5; ++i) {
            address creator = _handler.actorAt(i);
            (uint256 today, uint256 ever) = _loras.countsOf(creator);
            require(today == _handler.accepted(creator, block.timestamp / 1 days), "6: the day's count is another");
            require(today <= 10 && ever == _handler.ever(creator), "6: more than ten, or miscounted");
        }
    }

    function afterInvariant() external view {
        (uint256 ofLoRAs, uint256 ofMerges) = _handler.counts();
        for (uint256 i; i < ofLoRAs; ++i) _requireLoRA(_handler.loraIds(i));
        uint256 walked;
        ILoRARegistry.Item[] memory items;
        (address cursor,) = _loras.head();
        while (cursor != address(0)) {
            (items, cursor) = _loras.records(cursor, 7);
            walked += items.length;
            for (uint256 i; i < items.length; ++i) require(_handler.recordedAs(items[i].id) != 0, "a record of nothing");
        }
        require(walked == ofLoRAs + ofMerges, "the walk over all records missed some");
    }

    function _requireLoRA(bytes32 id) private view {
        require(_handler.recorded(id) == _handler.recordedAs(id), "1: a LoRA changed");
        (, IModeration.Status ofBase) = _loras.statusOf(_loras.baseOf(id));
        _requireNoBetter(id, ofBase);
    }

    function _requireMerge(bytes32 result) private view {
        require(keccak256(abi.encode(_loras.getMerge(result))) == _handler.recordedAs(result), "1: a merge changed");
        _requireNoBetter(result, _handler.verdictOn(_loras.baseOf(result)));
    }

    /// 8: a LoRA against how its base stands, that base's own base included; a merge against its base itself, no farther
    /// (ILoRARegistry.statusOf says why).
    function _requireNoBetter(bytes32 id, IModeration.Status ofBase) private view {
        (bool moderated, IModeration.Status status) = _loras.statusOf(id);
        require(status >= ofBase, "8: better than its base");
        require(moderated || status == IModeration.Status.Active, "8: judged by nobody");
    }
}
