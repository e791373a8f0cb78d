// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILoRARegistry} from "../../contracts/interfaces/ILoRARegistry.sol";
import {LoRATest} from "./LoRATest.sol";

/// Ten LoRAs a creator and UTC day.
contract LoRAQuotaTest is LoRATest {
    uint256 private constant DAY = 86_400;
    uint256 private sent;

    function setUp() public override {
        super.setUp();
        time = START / DAY * DAY + DAY / 2; // noon
        vm.warp(time);
    }

    function registerSome(uint256 count) private {
        for (uint256 i; i < count; ++i) register(vm.toString(sent++));
    }

    function spent(uint256 until) private view returns (bytes memory) {
        return abi.encodeWithSelector(ILoRARegistry.QuotaExceeded.selector, creator, until);
    }

    function counts(uint256 today, uint256 ever) private view {
        (uint256 itsToday, uint256 itsEver) = loras.countsOf(creator);
        eq(itsToday, today);
        eq(itsEver, ever);
    }

    function testTheEleventhOfADayIsRefused() public {
        registerSome(10);
        counts(10, 10);
        refuse(lora("more"), spent((START / DAY + 1) * DAY));
        counts(10, 10);
    }

    /// Ten before midnight and ten after: calendar days, as the interface says.
    function testMidnight() public {
        uint256 midnight = (START / DAY + 1) * DAY;
        vm.warp(midnight - 2);
        registerSome(9);
        vm.warp(midnight - 1);
        registerSome(1);
        refuse(lora("more"), spent(midnight));
        vm.warp(midnight);
        counts(0, 10);
        registerSome(9);
        counts(9, 19);
        vm.warp(midnight + 1);
        registerSome(1);
        counts(10, 20);
        refuse(lora("more"), spent(midnight + DAY));
        vm.warp(midnight + DAY - 1);
        refuse(lora("more"), spent(midnight + DAY));
        vm.warp(midnight + DAY);
        registerSome(1);
        counts(1, 21);
    }

    function testADayWithNoneGivesNothingForTheNext() public {
        registerSome(3);
        skip(5 * DAY);
        registerSome(10);
        counts(10, 13);
        refuse(lora("more"), spent(time / DAY * DAY + DAY));
    }

    function testOneCreatorDoesNotUseUpAnothers() public {
        registerSome(10);
        bytes memory payload = lora("1");
        vm.prank(buyer);
        loras.registerLoRA(buyer, payload);
    }

    function testTheSignerIsChargedByAnyPath() public {
        registerSome(10);
        bytes memory payload = lora("more");
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(creatorKey, digestOf(payload, 10));
        bytes memory signature = abi.encodePacked(r, s, v);
        vm.prank(stranger);
        vm.expectRevert(spent((START / DAY + 1) * DAY));
        loras.registerLoRABySig(creator, payload, 2 ** 40, signature);
        skip(DAY);
        vm.prank(stranger);
        loras.registerLoRABySig(creator, payload, 2 ** 40, signature);
        counts(1, 11);
    }

    function digestOf(bytes memory payload, uint256 nonce) private view returns (bytes32) {
        bytes32 kind = keccak256("RegisterLoRA(address creator,bytes lora,uint256 nonce,uint256 deadline)");
        bytes32 request = keccak256(abi.encode(kind, creator, keccak256(payload), nonce, uint256(2 ** 40)));
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Citrate LoRA"),
                keccak256("1"),
                block.chainid,
                address(loras)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, request));
    }

    function testRefusedLoRAsAreNotCounted() public {
        Fields memory f = fields("0");
        f.rank = 0;
        for (uint256 i; i < 12; ++i) refuse(f, fail(ILoRARegistry.InvalidRank.selector, uint256(0)));
        f = fields("0");
        f.digest = "other";
        for (uint256 i; i < 12; ++i) {
            refuse(f, abi.encodeWithSelector(ILoRARegistry.WrongBase.selector, base, f.digest, contentOf(base)));
        }
        counts(0, 0);
        registerSome(10);
    }

    /// Any steps in time, any creators: never more than ten in one day.
    function testFuzzNeverMoreThanTenADay(uint256 seed) public {
        uint256 day;
        uint256 inDay;
        for (uint256 i; i < 60; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            if (seed % 7 == 0) skip(seed % (2 * DAY));
            if (time / DAY != day) (day, inDay) = (time / DAY, 0);
            bytes memory payload = lora(vm.toString(i));
            vm.prank(creator);
            (bool done,) = address(loras).call(abi.encodeCall(loras.registerLoRA, (creator, payload)));
            require(done == (inDay < 10), "not what ten a day gives");
            if (done) ++inDay;
        }
    }
}
