// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {InvariantTest} from "./InvariantTest.sol";
import {Payloads} from "./Payloads.sol";
import {RegistryHandler} from "./RegistryHandler.sol";

/// Invariants 1 to 5: what is published stays as it was, and only its owner publishes.
contract ModelRegistryInvariants is InvariantTest {
    ModelRegistry private _registry;
    RegistryHandler private _handler;

    function setUp() external {
        _registry = new ModelRegistry();
        _handler = new RegistryHandler(_registry);
        bytes4[] memory selectors = new bytes4[](10);
        selectors[0] = _handler.publish.selector;
        selectors[1] = _handler.publishBySig.selector;
        selectors[2] = _handler.replay.selector;
        selectors[3] = _handler.republish.selector;
        selectors[4] = _handler.addVariants.selector;
        selectors[5] = _handler.setAlias.selector;
        selectors[6] = _handler.deprecate.selector;
        selectors[7] = _handler.transferModel.selector;
        selectors[8] = _handler.acceptModel.selector;
        selectors[9] = _handler.pass.selector;
        target(_handler, selectors);
        _handler.publish(1, 1 << 40); // so that no function begins with nothing to act on
    }

    /// After every call: nothing wrong was noted, the logs are whole, and a version, each in its turn, is as seen.
    function invariantPublishedStays() external view {
        requireClean(_handler);
        requireFolded(_handler, _registry);
        (uint256 versions,) = _handler.counts();
        _requireAsSeen(_handler.versionIds(_handler.turn() % versions));
    }

    /// After every run: every version and model, and the walk over all records.
    function afterInvariant() external view {
        (uint256 versions, uint256 models) = _handler.counts();
        for (uint256 i; i < versions; ++i) _requireAsSeen(_handler.versionIds(i));
        for (uint256 i; i < models; ++i) {
            bytes32 modelId = _handler.modelIds(i);
            require(_registry.pendingOwnerOf(modelId) == _handler.pendingOwnerOf(modelId), "2: offered to somebody else");
        }
        (address cursor, uint256 count) = _registry.head();
        require(count == _handler.records(), "a record too many or too few");
        uint256 walked;
        IModelRegistry.Item[] memory items;
        while (cursor != address(0)) {
            (items, cursor) = _registry.records(cursor, 50);
            walked += items.length;
        }
        require(walked == count, "the walk over all records missed some");
    }

    function _requireAsSeen(bytes32 id) private view {
        RegistryHandler.Seen memory seen = _handler.seen(id);
        IModelRegistry.Version memory v = _registry.getVersion(id);
        require(v.modelId == keccak256(abi.encode(v.publisher, v.name)), "1: the model's id does not recompute");
        require(id == keccak256(abi.encode(v.modelId, v.version)), "1: the version's id does not recompute");
        require(v.record == _accountOf(id), "1: the record's address does not recompute");
        require(keccak256(abi.encode(v.manifests)) == keccak256(abi.encode(seen.manifests)), "1: a manifest changed");
        require(keccak256(abi.encode(_registry.getVariants(id))) == seen.variants, "1: a variant changed");
        require(v.publisher == seen.publisher && v.createdAt == seen.createdAt, "2: publisher or time changed");
        require(v.owner != address(0) && v.owner == _handler.ownerOf(v.modelId), "2: the owner is another");
        require(v.senders.length == v.manifests.length, "1: a record without a sender");
    }

    function _accountOf(bytes32 salt) private view returns (address) {
        bytes32 initCodeHash = keccak256(hex"3d3d3d3d335afa3d5f5f3e3d5ff3");
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(_registry), salt, initCodeHash)))));
    }
}
