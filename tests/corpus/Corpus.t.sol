// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {LoRARegistry} from "../../contracts/LoRARegistry.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Policy} from "../../contracts/Policy.sol";
import {TrainingLedger} from "../../contracts/TrainingLedger.sol";

interface Vm {
    function addr(uint256 key) external pure returns (address);
    function parseBytes(string calldata text) external pure returns (bytes memory);
    function prank(address sender) external;
    function readFile(string calldata path) external view returns (string memory);
    function revertToState(uint256 id) external returns (bool);
    function snapshotState() external returns (uint256 id);
    function split(string calldata text, string calldata delimiter) external pure returns (string[] memory);
    function warp(uint256 time) external;
}

/// Every payload of payloads.txt meets the verdict that the Python model gave it, error arguments included; and payloads
/// damaged further are refused with an error of ours, or stored byte for byte.
contract CorpusTest {
    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    address private _publisher = vm.addr(0xA11CE);
    address private _creator = vm.addr(0xB0B);
    bytes32 private _base = keccak256(abi.encode(keccak256(abi.encode(_publisher, "base")), "1.0.0"));
    bytes32 private _result = keccak256(abi.encode(keccak256(abi.encode(_publisher, "base")), "2.0.0"));
    ModelRegistry private _registry = new ModelRegistry();
    LoRARegistry private _loras =
        new LoRARegistry(_registry, new TrainingLedger(), new Policy(address(this), address(this)));

    struct Line {
        bytes32 kind;
        bytes payload;
        bytes verdict;
        string what;
    }

    Line[] private _lines;

    function setUp() external {
        vm.warp(1_800_000_000);
        string[] memory lines = vm.split(vm.readFile("tests/corpus/payloads.txt"), "\n");
        for (uint256 i; i + 1 < lines.length; ++i) {
            string[] memory fields = vm.split(lines[i], " ");
            bytes32 kind = keccak256(bytes(fields[0]));
            bytes memory payload = vm.parseBytes(fields[1]);
            if (kind == keccak256("given-release")) {
                vm.prank(_publisher);
                _registry.publish(_publisher, payload, "");
            } else if (kind == keccak256("given-lora")) {
                vm.prank(_publisher);
                _loras.registerLoRA(_publisher, payload);
            } else {
                bytes memory verdict;
                if (keccak256(bytes(fields[2])) != keccak256("accepted")) verdict = vm.parseBytes(fields[2]);
                _lines.push(Line(kind, payload, verdict, lines[i]));
            }
        }
    }

    function testEveryPayloadMeetsItsVerdict() external {
        require(_lines.length > 300, "where is the corpus?");
        for (uint256 i; i < _lines.length; ++i) {
            Line memory line = _lines[i];
            uint256 before = vm.snapshotState();
            (bool done, bytes memory answer) = _send(line.kind, line.payload);
            if (done) require(line.verdict.length == 0, string.concat("accepted: ", line.what));
            else require(keccak256(answer) == keccak256(line.verdict), string.concat("refused otherwise: ", line.what));
            if (done) _requireStored(line.kind, line.payload);
            vm.revertToState(before);
        }
    }

    function testFuzzDamagedFurtherIsRefusedOrStoredByteForByte(uint256 which, uint256 place, bytes1 value, uint8 damage)
        external
    {
        Line memory line = _lines[which % _lines.length];
        if (line.payload.length == 0) return;
        bytes memory payload = _damage(line.payload, place % line.payload.length, value, damage % 3);
        (bool done, bytes memory answer) = _send(line.kind, payload);
        if (done) return _requireStored(line.kind, payload);
        require(answer.length >= 4 && bytes4(answer) != 0x4e487b71, "refused without an error of ours");
    }

    function _send(bytes32 kind, bytes memory payload) private returns (bool done, bytes memory answer) {
        if (kind == keccak256("lora")) {
            vm.prank(_creator);
            return address(_loras).call(abi.encodeCall(ILoRARegistry.registerLoRA, (_creator, payload)));
        }
        vm.prank(_publisher);
        if (kind == keccak256("release")) {
            return address(_registry).call(abi.encodeCall(IModelRegistry.publish, (_publisher, payload, "")));
        }
        if (kind == keccak256("addition")) {
            bytes memory call = abi.encodeCall(IModelRegistry.addVariants, (_publisher, "base", "1.0.0", payload));
            return address(_registry).call(call);
        }
        return address(_loras).call(abi.encodeCall(ILoRARegistry.mergeLoRA, (_result, payload)));
    }

    /// The record ends in the payload, but for a LoRA's base digest and for the name in a later release of `base`. What it
    /// holds can be read.
    function _requireStored(bytes32 kind, bytes memory payload) private view {
        bool ofModels = kind == keccak256("release") || kind == keccak256("addition");
        (address record,) = ofModels ? _registry.head() : _loras.head();
        uint256 dropped = kind == keccak256("lora") ? 32 : 0;
        if (kind == keccak256("release") && uint8(record.code[1]) == 2) dropped = 1 + uint8(payload[0]);
        uint256 kept = payload.length - dropped;
        bytes memory code = record.code;
        for (uint256 i = 1; i <= kept; ++i) {
            require(code[code.length - i] == payload[payload.length - i], "stored otherwise");
        }
        if (ofModels) {
            (IModelRegistry.Item[] memory items,) = _registry.records(record, 1);
            _registry.getVersion(items[0].versionId);
            require(_registry.getVariants(items[0].versionId).length != 0);
        } else {
            (ILoRARegistry.Item[] memory items,) = _loras.records(record, 1);
            if (items[0].kind == ILoRARegistry.Kind.LoRA) _loras.getLoRA(items[0].id);
            else _loras.getMerge(items[0].id);
        }
    }

    /// damage: 0 a byte changed, 1 cut off, 2 a byte put in
    function _damage(bytes memory payload, uint256 place, bytes1 value, uint256 damage) private pure returns (bytes memory) {
        if (damage == 0) {
            payload[place] = value;
            return payload;
        }
        bytes memory start = new bytes(place);
        for (uint256 i; i < place; ++i) start[i] = payload[i];
        if (damage == 1) return start;
        bytes memory end = new bytes(payload.length - place);
        for (uint256 i; i < end.length; ++i) end[i] = payload[place + i];
        return bytes.concat(start, value, end);
    }
}
