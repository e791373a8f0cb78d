// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Handler} from "./Handler.sol";
import {Payloads} from "./Payloads.sol";

/// Everybody who writes to the ModelRegistry, and what each version must read back as ever after.
contract RegistryHandler is Handler {
    /// A version as it was when it was released, and every manifest that was added since.
    struct Seen {
        address publisher;
        string name;
        string version;
        uint256 createdAt;
        bytes32[] manifests;
        bytes32 variants; // hash of all variants that were there after the newest change
        uint256 variantCount;
    }

    struct Request {
        address publisher;
        bytes release;
        uint256 deadline;
        bytes signature;
        bytes32 modelId;
        uint256 nonce;
    }

    bytes32 private constant PUBLISH =
        keccak256("Publish(address publisher,bytes release,string aliasName,uint256 nonce,uint256 deadline)");

    ModelRegistry public immutable registry;

    bytes32[] public versionIds;
    bytes32[] public modelIds;
    uint256 public records;
    mapping(bytes32 versionId => Seen) private _seen;
    mapping(bytes32 modelId => address) public ownerOf;
    mapping(bytes32 modelId => address) public pendingOwnerOf;
    mapping(bytes32 modelId => mapping(uint256 nonce => bool)) private _used;
    Request private _request;

    constructor(ModelRegistry registry_) {
        registry = registry_;
    }

    function seen(bytes32 versionId) external view returns (Seen memory) {
        return _seen[versionId];
    }

    function counts() external view returns (uint256 versions, uint256 models) {
        return (versionIds.length, modelIds.length);
    }

    // --------------------------------------------------------------------------------------------------- calls

    function publish(uint256 actor, uint256 seed) external folding(address(registry)) {
        address publisher = actorAt(seed >> 16);
        bytes32 modelId = modelIdOf(publisher, seed);
        bytes memory payload = Payloads.release(seed, seed >> 24, seed >> 32);
        address owner = ownerOf[modelId] == address(0) ? publisher : ownerOf[modelId];
        vm.prank(oftenThis(owner, actor));
        bytes32 id = registry.publish(publisher, payload, seed % 5 == 0 ? Payloads.aliasName(seed >> 40) : "");
        _noteRelease(id, modelId, publisher, seed);
    }

    function publishBySig(uint256 relayer, uint256 seed) external folding(address(registry)) {
        address publisher = actorAt(seed >> 16);
        bytes32 modelId = modelIdOf(publisher, seed);
        Request memory request = _signed(publisher, modelId, Payloads.release(seed, seed >> 24, seed >> 32), seed);
        uint256 before = vm.snapshotState();
        vm.prank(actorAt(relayer));
        bytes32 id = registry.publishBySig(publisher, request.release, "", request.deadline, request.signature);
        _requireSameDirectly(before, id, request);
        note(!_used[modelId][request.nonce], "5: a nonce was used twice");
        _used[modelId][request.nonce] = true;
        _request = request;
        _noteRelease(id, modelId, publisher, seed);
    }

    /// What was signed once is accepted once.
    function replay(uint256 relayer) external now_ {
        if (_request.publisher == address(0)) return;
        vm.prank(actorAt(relayer));
        try registry.publishBySig(_request.publisher, _request.release, "", _request.deadline, _request.signature) {
            note(false, "5: a signed request was accepted twice");
        } catch {}
    }

    /// A version that is there is never published again, by nobody, with no content.
    function republish(uint256 actor, uint256 which, uint256 seed) external now_ {
        if (versionIds.length == 0) return;
        bytes32 id = versionIds[which % versionIds.length];
        Seen storage s = _seen[id];
        bytes memory payload = abi.encodePacked(
            Payloads.text(s.name), Payloads.manifest(seed), bytes4(0), Payloads.text(s.version), Payloads.text("MIT"),
            Payloads.variants(seed, 0)
        );
        bytes32 before = keccak256(abi.encode(registry.getVersion(id), registry.getVariants(id)));
        (address newest,) = registry.head();
        vm.prank(oftenThis(ownerOf[modelIdOf(s.publisher, s.name)], actor));
        try registry.publish(s.publisher, payload, "") {
            note(false, "3: a version was published twice");
        } catch {}
        (address newestAfter,) = registry.head();
        note(newest == newestAfter, "3: a refused release changed the head");
        note(before == keccak256(abi.encode(registry.getVersion(id), registry.getVariants(id))), "3: a refused release changed it");
    }

    function addVariants(uint256 actor, uint256 which, uint256 seed) external folding(address(registry)) {
        bytes32 id = versionIds[which % versionIds.length];
        Seen storage s = _seen[id];
        vm.prank(oftenThis(ownerOf[modelIdOf(s.publisher, s.name)], actor));
        registry.addVariants(s.publisher, s.name, s.version, Payloads.addition(seed));
        uint256 count = registry.getVariants(id).length;
        note(count > s.variantCount, "1: variants became fewer");
        s.manifests.push(Payloads.manifest(seed));
        (s.variants, s.variantCount) = (keccak256(abi.encode(registry.getVariants(id))), count);
        ++records;
    }

    function setAlias(uint256 actor, uint256 which, uint256 seed) external folding(address(registry)) {
        bytes32 id = versionIds[which % versionIds.length];
        Seen storage s = _seen[id];
        vm.prank(oftenThis(ownerOf[modelIdOf(s.publisher, s.name)], actor));
        registry.setAlias(s.publisher, s.name, Payloads.aliasName(seed), s.version);
        note(registry.resolve(s.publisher, s.name, Payloads.aliasName(seed)) == id, "an alias points elsewhere");
    }

    function deprecate(uint256 actor, uint256 which, uint256 seed) external folding(address(registry)) {
        Seen storage s = _seen[versionIds[which % versionIds.length]];
        bytes32 replacement = seed % 3 == 0 ? versionIds[seed % versionIds.length] : bytes32(0);
        vm.prank(oftenThis(ownerOf[modelIdOf(s.publisher, s.name)], actor));
        registry.deprecate(s.publisher, s.name, s.version, replacement);
    }

    function transferModel(uint256 actor, uint256 which, uint256 to) external folding(address(registry)) {
        bytes32 modelId = modelIds[which % modelIds.length];
        Seen storage s = _seen[_anyVersionOf(modelId)];
        address heir = to % 8 == 0 ? address(0) : actorAt(to);
        vm.prank(oftenThis(ownerOf[modelId], actor));
        registry.transferModel(s.publisher, s.name, heir);
        pendingOwnerOf[modelId] = heir;
    }

    function acceptModel(uint256 actor, uint256 which) external folding(address(registry)) {
        bytes32 modelId = modelIds[which % modelIds.length];
        for (uint256 i; pendingOwnerOf[modelId] == address(0) && i < modelIds.length; ++i) modelId = modelIds[i];
        address heir = oftenThis(pendingOwnerOf[modelId], actor);
        if (heir == address(0)) heir = actorAt(actor); // nobody sends from the zero address
        vm.prank(heir);
        registry.acceptModel(modelId);
        note(heir == pendingOwnerOf[modelId], "2: somebody took a model that was not offered");
        (ownerOf[modelId], pendingOwnerOf[modelId]) = (heir, address(0));
    }

    // --------------------------------------------------------------------------------------------------- parts

    function modelIdOf(address publisher, string memory name) public pure returns (bytes32) {
        return keccak256(abi.encode(publisher, name));
    }

    function modelIdOf(address publisher, uint256 seed) private pure returns (bytes32) {
        return modelIdOf(publisher, Payloads.name(seed >> 24));
    }

    function _anyVersionOf(bytes32 modelId) private view returns (bytes32) {
        for (uint256 i; i < versionIds.length; ++i) {
            Seen storage s = _seen[versionIds[i]];
            if (modelIdOf(s.publisher, s.name) == modelId) return versionIds[i];
        }
        revert("a model without a version");
    }

    function _noteRelease(bytes32 id, bytes32 modelId, address publisher, uint256 seed) private {
        Seen storage s = _seen[id];
        note(s.createdAt == 0, "3: a version was published twice");
        if (ownerOf[modelId] == address(0)) {
            modelIds.push(modelId);
            ownerOf[modelId] = publisher;
        }
        versionIds.push(id);
        (s.publisher, s.name, s.version) = (publisher, Payloads.name(seed >> 24), Payloads.version(seed >> 32));
        s.createdAt = clock;
        s.manifests.push(Payloads.manifest(seed));
        s.variantCount = registry.getVariants(id).length;
        s.variants = keccak256(abi.encode(registry.getVariants(id)));
        ++records;
    }

    function _signed(address publisher, bytes32 modelId, bytes memory release, uint256 seed)
        private
        view
        returns (Request memory)
    {
        uint256 key = seed % 6 == 0 ? keyOf(seed >> 50) : _keyOfOwner(modelId, publisher);
        uint256 nonce = registry.nonceOf(modelId) + (seed % 7 == 0 ? 1 : 0);
        uint256 deadline = seed % 9 == 0 ? clock - 1 : clock + 60;
        bytes32 request = keccak256(abi.encode(PUBLISH, publisher, keccak256(release), keccak256(""), nonce, deadline));
        bytes memory proof = signature(key, keccak256(abi.encodePacked(hex"1901", _domain(), request)));
        return Request(publisher, release, deadline, proof, modelId, nonce);
    }

    function _keyOfOwner(bytes32 modelId, address publisher) private view returns (uint256) {
        address owner = ownerOf[modelId] == address(0) ? publisher : ownerOf[modelId];
        for (uint256 i; i < ACTORS; ++i) if (actorAt(i) == owner) return keyOf(i);
        revert("an owner that is no actor");
    }

    function _domain() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Citrate"),
                keccak256("1"),
                block.chainid,
                address(registry)
            )
        );
    }

    /// 4: goes back, publishes the same directly, compares everything, and leaves that in place.
    function _requireSameDirectly(uint256 before, bytes32 id, Request memory request) private {
        bytes32 relayed = _stateOf(id, request.modelId);
        address owner = registry.ownerOf(request.modelId);
        vm.revertToState(before);
        vm.prank(owner);
        bytes32 direct = registry.publish(request.publisher, request.release, "");
        note(direct == id && _stateOf(id, request.modelId) == relayed, "4: relayed differs from direct");
    }

    function _stateOf(bytes32 id, bytes32 modelId) private view returns (bytes32) {
        (address newest, uint256 count) = registry.head();
        bytes memory views = abi.encode(registry.getVersion(id), registry.getVariants(id), registry.changeRoot());
        return keccak256(
            abi.encode(newest, count, newest.code, registry.nonceOf(modelId), registry.ownerOf(modelId), views)
        );
    }
}
