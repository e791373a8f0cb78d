// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {LoRARegistry} from "../../contracts/LoRARegistry.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Policy} from "../../contracts/Policy.sol";
import {TrainingLedger} from "../../contracts/TrainingLedger.sol";
import {Catalogue} from "./Catalogue.sol";
import {LoRAPayloads} from "./LoRAPayloads.sol";
import {Payloads} from "./Payloads.sol";

/// A moderation that says what it is told to say: every status at any time, worse than any real one behaves.
contract Verdicts {
    mapping(bytes32 subject => IModeration.Status) public statusOf;

    function set(bytes32 subject, IModeration.Status status) external {
        statusOf[subject] = status;
    }
}

/// Creators, owners of bases, relayers, and a policy that changes its moderation.
contract LoRAHandler is Catalogue {
    struct Request {
        address creator;
        bytes lora;
        uint256 deadline;
        bytes signature;
    }

    LoRARegistry public immutable loras;
    Policy public immutable policy;
    Verdicts[2] public verdicts;

    bytes32[] public loraIds;
    bytes32[] public results;
    /// What a LoRA or a merge read back as when it was recorded, but for what the ledger confirms.
    mapping(bytes32 id => bytes32) public recordedAs;
    mapping(address creator => mapping(uint256 day => uint256)) public accepted;
    mapping(address creator => uint256) public ever;
    mapping(address creator => mapping(uint256 nonce => bool)) private _used;
    Request private _request;

    constructor(ModelRegistry registry_) Catalogue(registry_) {
        policy = new Policy(address(this), address(this));
        loras = new LoRARegistry(registry_, new TrainingLedger(), policy);
        verdicts = [new Verdicts(), new Verdicts()];
    }

    function counts() external view returns (uint256 ofLoRAs, uint256 ofMerges) {
        return (loraIds.length, results.length);
    }

    // --------------------------------------------------------------------------------------------------- calls

    function registerLoRA(uint256 actor, uint256 seed) external folding(address(loras)) {
        address creator = actorAt(actor);
        (bytes memory lora, bytes32 base) = _lora(seed);
        vm.prank(oftenThis(creator, seed >> 3));
        _noteLoRA(loras.registerLoRA(creator, lora), creator, base, seed);
    }

    function registerLoRABySig(uint256 relayer, uint256 seed) external folding(address(loras)) {
        address creator = actorAt(seed >> 90);
        (bytes memory lora, bytes32 base) = _lora(seed);
        Request memory request = _signed(creator, keyOf(seed >> 90), lora, seed);
        uint256 nonce = ever[creator];
        uint256 before = vm.snapshotState();
        vm.prank(actorAt(relayer));
        bytes32 id = loras.registerLoRABySig(creator, lora, request.deadline, request.signature);
        bytes32 relayed = _stateOf(id, creator);
        vm.revertToState(before);
        vm.prank(creator);
        note(loras.registerLoRA(creator, lora) == id && _stateOf(id, creator) == relayed, "4: relayed differs from direct");
        note(!_used[creator][nonce], "5: a nonce was used twice");
        (_used[creator][nonce], _request) = (true, request);
        _noteLoRA(id, creator, base, seed);
    }

    function replay(uint256 relayer) external now_ {
        if (_request.creator == address(0)) return;
        vm.prank(actorAt(relayer));
        try loras.registerLoRABySig(_request.creator, _request.lora, _request.deadline, _request.signature) {
            note(false, "5: a signed request was accepted twice");
        } catch {}
    }

    /// 6: a creator in a hurry, on a base of its own that takes its LoRAs.
    function burst(uint256 actor, uint256 seed) external folding(address(loras)) {
        address creator = actorAt(actor);
        bytes32 base = versionAt(seed);
        (,, bytes32 digest) = registry.contentOf(base);
        for (uint256 i; i < 13; ++i) {
            uint256 one = (uint256(keccak256(abi.encode(seed, i))) << 16) | 0x402; // a size and a rank that are allowed
            vm.prank(creator);
            try loras.registerLoRA(creator, LoRAPayloads.lora(one, digest, base)) returns (bytes32 id) {
                _noteLoRA(id, creator, base, one);
            } catch {}
        }
    }

    function mergeLoRA(uint256 actor, uint256 which, uint256 seed) external folding(address(loras)) {
        bytes32 result = versionAt(which);
        bytes memory parents = _parents(seed);
        address sender = oftenThis(registry.getVersion(result).owner, actor);
        vm.prank(sender);
        loras.mergeLoRA(result, parents);
        ILoRARegistry.Merge memory merge = loras.getMerge(result);
        uint256 sum;
        for (uint256 i; i < merge.parents.length; ++i) {
            note(loras.baseOf(merge.parents[i].loraId) == merge.base, "7: parents of several bases");
            sum += merge.parents[i].basisPoints;
        }
        note(sum == 10_000 && merge.creator == sender && merge.parents.length <= 8, "7: a merge that should be refused");
        note(recordedAs[result] == 0, "3: a merge was recorded twice");
        recordedAs[result] = keccak256(abi.encode(merge));
        results.push(result);
    }

    function setAcceptance(uint256 actor, uint256 which, uint256 seed) external folding(address(loras)) {
        bytes32 modelId = ids[which % MODELS];
        uint256 acceptance = seed % 8 < 6 ? 0 : seed % 8 == 6 ? 2 : 1;
        vm.prank(oftenThis(registry.ownerOf(modelId), actor));
        loras.setAcceptance(modelId, ILoRARegistry.Acceptance(acceptance));
    }

    function allowCreator(uint256 actor, uint256 which, uint256 seed) external folding(address(loras)) {
        bytes32 modelId = ids[which % MODELS];
        vm.prank(oftenThis(registry.ownerOf(modelId), actor));
        loras.allowCreator(modelId, actorAt(seed / 4), seed % 4 != 0);
    }

    function deprecate(uint256 which, uint256 seed) external now_ {
        if (seed % 64 != 0) return;
        uint256 i = which % (2 * MODELS);
        vm.prank(registry.ownerOf(ids[i / 2]));
        registry.deprecate(actorAt(i / 2), Payloads.name(0), Payloads.version(i), 0);
    }

    /// Moderation says something about a version or a LoRA.
    function judge(uint256 which, uint256 seed) external now_ {
        bytes32 subject = seed % 2 == 0 || loraIds.length == 0 ? versionAt(which) : loraIds[which % loraIds.length];
        verdicts[seed / 2 % 2].set(subject, IModeration.Status(seed / 4 % 32 < 4 ? seed / 4 % 4 : 0));
    }

    /// 15: another moderation changes how things stand, and nothing else.
    function appoint(uint256 seed) external now_ {
        bytes32 before = published();
        policy.appoint(seed % 4 == 0 ? IModeration(address(0)) : IModeration(address(verdicts[seed % 2])));
        note(before == published(), "15: an appointment reached what is published");
    }

    // --------------------------------------------------------------------------------------------------- parts

    /// What moderation itself says of a version.
    function verdictOn(bytes32 subject) external view returns (IModeration.Status) {
        IModeration moderation = policy.moderation();
        return address(moderation) == address(0) ? IModeration.Status.Active : moderation.statusOf(subject);
    }

    function recorded(bytes32 loraId) public view returns (bytes32) {
        ILoRARegistry.LoRA memory lora = loras.getLoRA(loraId);
        if (lora.training.runId != 0) (lora.training.dataset, lora.training.recipe, lora.training.proofRoot) = (0, 0, 0);
        lora.training.confirmed = false;
        return keccak256(abi.encode(lora));
    }

    function _lora(uint256 seed) private view returns (bytes memory lora, bytes32 base) {
        base = versionAt(seed >> 32);
        (,, bytes32 digest) = registry.contentOf(base);
        lora = LoRAPayloads.lora(seed, seed % 11 == 0 ? ~digest : digest, base);
    }

    /// 6 and 7, told from outside: what the contract accepted, it may accept.
    function _noteLoRA(bytes32 id, address creator, bytes32 base, uint256 seed) private {
        ILoRARegistry.LoRA memory lora = loras.getLoRA(id);
        (bytes32 modelId, bool deprecated,) = registry.contentOf(base);
        (, IModeration.Status status) = loras.statusOf(base);
        note(!deprecated && status < IModeration.Status.Quarantined, "7: the base was not active");
        note(loras.accepts(modelId, creator), "7: the base takes no LoRAs of this creator");
        note(lora.sizeBytes == LoRAPayloads.sizeBytes(seed) && lora.sizeBytes <= 500_000_000, "7: the size");
        note(lora.rank == LoRAPayloads.rank(seed) && lora.rank >= 1 && lora.rank <= 4096, "7: the rank");
        note(lora.creator == creator && lora.base == base, "1: another creator or base");
        note(id == keccak256(abi.encode("LoRA", creator, lora.name, lora.version)), "1: the id does not recompute");
        note(recordedAs[id] == 0, "3: a LoRA was recorded twice");
        uint256 today = ++accepted[creator][clock / 1 days];
        note(today <= 10, "6: more than ten on one day");
        ++ever[creator];
        recordedAs[id] = recorded(id);
        loraIds.push(id);
    }

    /// Two parents of one base as a rule, of the LoRAs that are there.
    function _parents(uint256 seed) private view returns (bytes memory) {
        bytes32 first = loraIds[seed % loraIds.length];
        bytes32 second = loraIds[(seed >> 64) % loraIds.length];
        for (uint256 i; i < loraIds.length && (second == first || loras.baseOf(second) != loras.baseOf(first)); ++i) {
            second = loraIds[(i + (seed >> 64)) % loraIds.length];
        }
        if (seed % 8 == 0) return abi.encodePacked(first, uint16(10_000));
        if (second < first) (first, second) = (second, first);
        return abi.encodePacked(first, uint16(4000), second, seed % 9 == 0 ? uint16(5999) : uint16(6000));
    }

    function _signed(address creator, uint256 key, bytes memory lora, uint256 seed) private view returns (Request memory) {
        bytes32 kind = keccak256("RegisterLoRA(address creator,bytes lora,uint256 nonce,uint256 deadline)");
        uint256 deadline = seed % 17 == 0 ? clock - 1 : clock + 60;
        uint256 nonce = ever[creator] + (seed % 13 == 0 ? 1 : 0);
        bytes32 request = keccak256(abi.encode(kind, creator, keccak256(lora), nonce, deadline));
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Citrate LoRA"),
                keccak256("1"),
                block.chainid,
                address(loras)
            )
        );
        return Request(creator, lora, deadline, signature(key, keccak256(abi.encodePacked(hex"1901", domain, request))));
    }

    function _stateOf(bytes32 id, address creator) private view returns (bytes32) {
        (address newest, uint256 count) = loras.head();
        (uint256 today, uint256 all) = loras.countsOf(creator);
        return keccak256(abi.encode(newest, newest.code, count, today, all, loras.getLoRA(id), loras.changeRoot()));
    }
}
