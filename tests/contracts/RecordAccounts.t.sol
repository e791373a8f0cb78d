// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RecordAccounts} from "../../contracts/libraries/RecordAccounts.sol";
import {RecordLayout} from "../../contracts/libraries/RecordLayout.sol";
import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

/// Records of any bytes.
contract Accounts is RecordAccounts {
    function create(bytes32 salt, bytes memory data) external returns (address) {
        return _createRecord(salt, data);
    }

    function createTwo(bytes memory a, bytes memory b) external returns (address, address) {
        return (_createRecord("a", a), _createRecord("b", b));
    }

    function accountOf(bytes32 salt) external view returns (address) {
        return _recordAccount(salt);
    }

    function encode(address previous, address link, address sender, bytes calldata rest) external view returns (bytes memory) {
        return RecordLayout.encode(previous, RecordLayout.Draft(IModelRegistry.Kind.Release, link, sender, hex"0131"), rest);
    }

    /// The addresses come with dirt above their 160 bits, as unmasked slots and calldata could leave them.
    function encodeDirty(uint256 dirt, bytes calldata rest) external view returns (bytes memory) {
        address previous;
        RecordLayout.Draft memory draft;
        assembly {
            previous := or(shl(160, dirt), 0x1111)
            mstore(add(draft, 32), or(shl(160, dirt), 0x2222))
            mstore(add(draft, 64), or(shl(160, dirt), 0x3333))
        }
        draft.kind = IModelRegistry.Kind.Release;
        draft.lead = hex"0131";
        return RecordLayout.encode(previous, draft, rest);
    }
}

contract RecordAccountsTest is RegistryTest {
    Accounts private accounts;

    function setUp() public override {
        super.setUp();
        accounts = new Accounts();
    }

    function testFuzzEveryByteIsStored(bytes32 salt, bytes memory data) public {
        data = abi.encodePacked(hex"00", data);
        address account = accounts.create(salt, data);
        eq(account, accounts.accountOf(salt));
        require(keccak256(account.code) == keccak256(data));
    }

    function testTwoRecordsInOneTransactionDoNotMix() public {
        (address a, address b) = accounts.createTwo(hex"00aaaaaa", abi.encodePacked(hex"00", new bytes(1000)));
        require(keccak256(a.code) == keccak256(hex"00aaaaaa"));
        require(keccak256(b.code) == keccak256(new bytes(1001)));
        (a, b) = new Accounts().createTwo(new bytes(1001), hex"00bb");
        require(keccak256(b.code) == keccak256(hex"00bb"));
    }

    function testTakenAccountIsSaidAndStaysAsItIs() public {
        accounts.create("a", hex"0001");
        eq(accounts.create{gas: 1_000_000}("a", hex"0002"), address(0));
        eq(accounts.create{gas: 1_000_000}("a", hex"0001"), address(0));
        require(keccak256(accounts.accountOf("a").code) == keccak256(hex"0001"));
    }

    function testNobodyReadsFromTheCallBackOutsideARecordsCreation() public {
        (bool done,) = address(accounts).call("");
        require(!done);
        accounts.create("a", hex"0001");
        (done,) = address(accounts).call("");
        require(!done);
        (done,) = address(registry).call(hex"12345678");
        require(!done);
        (done,) = address(registry).call{value: 1}("");
        require(!done);
    }

    function testRecordDoesNothingWhenCalled() public {
        publish("1.0.0");
        address record = registry.getVersion(versionIdOf("1.0.0")).record;
        bytes32 code = keccak256(record.code);
        (bool done, bytes memory answer) = record.call(abi.encodeCall(registry.head, ()));
        require(done && answer.length == 0);
        require(keccak256(record.code) == code);
    }

    function testFuzzDirtyAddressBitsDoNotReachARecord(uint96 dirt, bytes calldata rest) public view {
        bytes memory clean = accounts.encode(address(0x1111), address(0x2222), address(0x3333), rest);
        require(keccak256(accounts.encodeDirty(dirt, rest)) == keccak256(clean));
        require(
            keccak256(clean)
                == keccak256(
                    abi.encodePacked(
                        hex"0082", uint40(block.timestamp), address(0x1111), address(0x2222), address(0x3333), hex"0131", rest
                    )
                )
        );
    }

    /// With too little gas there is no record; with enough it is whole; never anything between.
    function testGasLimitScanLeavesAWholeRecordOrNone() public {
        publish("1.0.0");
        bytes memory call = abi.encodeCall(registry.publish, (publisher, release("1.1.0"), "prod"));
        bytes32 id = versionIdOf("1.1.0");
        uint256 succeeded;
        for (uint256 gas = 20_000; succeeded < 3; gas += 250) {
            require(gas < 400_000, "never succeeded");
            vm.prank(publisher);
            (bool done,) = address(registry).call{gas: gas}(call);
            (address newest, uint256 count) = registry.head();
            if (!done) {
                eq(count, 1);
                continue;
            }
            ++succeeded;
            eq(count, 2);
            eq(registry.getVersion(id).record, newest);
            eq(registry.getVariants(id).length, 4);
            eq(registry.resolve(publisher, NAME, "prod"), id);
            super.setUp();
            publish("1.0.0");
        }
    }

    function testTooLittleGasForTheRecordIsSaid() public {
        bytes memory large = new bytes(6000);
        bool said;
        for (uint256 gas = 100_000; gas < 1_400_000; gas += 20_000) {
            try accounts.create{gas: gas}("a", large) {
                break;
            } catch (bytes memory reason) {
                said = said || bytes4(reason) == IModelRegistry.RecordFailed.selector;
            }
        }
        require(said, "RecordFailed was never said");
        eq(accounts.accountOf("a").code.length, 6000);
    }
}
