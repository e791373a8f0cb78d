// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Handler} from "./Handler.sol";
import {Payloads} from "./Payloads.sol";

/// A registry with a few models of the actors, for the contracts that live on top of it; and ether that nobody sent.
abstract contract Catalogue is Handler {
    uint256 internal constant MODELS = 4;

    ModelRegistry public immutable registry;

    /// MODELS models, then two versions of each.
    bytes32[] public ids;
    uint256 public forcedWei;

    constructor(ModelRegistry registry_) {
        registry = registry_;
        present();
        for (uint256 i; i < MODELS; ++i) ids.push(modelIdAt(i));
        for (uint256 i; i < 2 * MODELS; ++i) {
            vm.prank(actorAt(i / 2));
            ids.push(registry.publish(actorAt(i / 2), Payloads.release(i + 1, 0, i), ""));
        }
    }

    function idCount() public view returns (uint256) {
        return ids.length;
    }

    function modelIdAt(uint256 i) internal view returns (bytes32) {
        return keccak256(abi.encode(actorAt(i), Payloads.name(0)));
    }

    function versionAt(uint256 which) public view returns (bytes32) {
        return ids[MODELS + which % (2 * MODELS)];
    }

    function modelOf(bytes32 id) public view returns (bytes32) {
        for (uint256 i; i < MODELS; ++i) if (ids[i] == id) return id;
        return registry.getVersion(id).modelId;
    }

    /// Everything that no policy may ever change, of all models.
    function published() internal view returns (bytes32 hash) {
        for (uint256 i = MODELS; i < ids.length; ++i) {
            hash = keccak256(abi.encode(hash, registry.getVersion(ids[i]), registry.getVariants(ids[i])));
        }
    }

    /// Hands a model to another actor, who takes it.
    function transferModel(uint256 which, uint256 to) external now_ {
        address heir = actorAt(to);
        bytes32 modelId = ids[which % MODELS];
        vm.prank(registry.ownerOf(modelId));
        registry.transferModel(actorAt(which % MODELS), Payloads.name(0), heir);
        vm.prank(heir);
        registry.acceptModel(modelId);
    }

    function force(address victim, uint256 amountWei) internal {
        amountWei %= 1 ether;
        vm.deal(address(this), amountWei);
        new Bomb{value: amountWei}(payable(victim));
        forcedWei += amountWei;
    }
}

/// Ether that arrives without a call.
contract Bomb {
    constructor(address payable victim) payable {
        selfdestruct(victim);
    }
}

/// An account that takes no ether.
contract Refuser {}
