// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry, RegistryTest} from "./RegistryTest.sol";

/// The registry looks at 32 characters at a time; here a loop looks at one, and both must agree.
contract NamesTest is RegistryTest {
    function isLowerOrDigit(bytes1 c) private pure returns (bool) {
        return (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
    }

    function isName(bytes memory name, bytes memory marks) private pure returns (bool) {
        if (name.length == 0 || !isLowerOrDigit(name[0])) return false;
        for (uint256 i = 1; i < name.length; ++i) {
            bool good = isLowerOrDigit(name[i]);
            for (uint256 j; j < marks.length; ++j) good = good || name[i] == marks[j];
            if (!good) return false;
        }
        return true;
    }

    function isLabel(bytes memory label) private pure returns (bool) {
        bytes memory lower = new bytes(label.length);
        for (uint256 i; i < label.length; ++i) {
            lower[i] = label[i] >= "A" && label[i] <= "Z" ? bytes1(uint8(label[i]) + 32) : label[i];
        }
        return label.length == 0 || isName(lower, "._+-");
    }

    function isPrintable(bytes memory licence) private pure returns (bool) {
        for (uint256 i; i < licence.length; ++i) if (uint8(licence[i]) < 0x20 || uint8(licence[i]) > 0x7e) return false;
        return licence.length != 0;
    }

    function accepted(bytes memory payload) private returns (bool) {
        vm.prank(publisher);
        try registry.publish(publisher, payload, "") {
            return true;
        } catch (bytes memory reason) {
            require(bytes4(reason) == IModelRegistry.InvalidText.selector, "refused for another reason");
            return false;
        }
    }

    function withName(bytes memory name) private pure returns (bytes memory) {
        return abi.encodePacked(uint8(name.length), name, bytes32("m"), FREE, text("1"), text("MIT"), four(1));
    }

    function withVersion(bytes memory version) private pure returns (bytes memory) {
        return abi.encodePacked(text(NAME), bytes32("m"), FREE, uint8(version.length), version, text("MIT"), four(1));
    }

    function withLicence(bytes memory licence) private pure returns (bytes memory) {
        return abi.encodePacked(text(NAME), bytes32("m"), FREE, text("1"), uint8(licence.length), licence, four(1));
    }

    function withLabels(bytes memory quantization, bytes memory target) private pure returns (bytes memory) {
        bytes memory name = key(2, string(quantization), string(target));
        bytes memory one = abi.encodePacked(name, uint8(0x55), uint48(1), bytes32("c"), bytes32("s"));
        return release(NAME, "m", FREE, "1", one);
    }

    /// `length` characters that are allowed, and one that may not be, at `place`.
    function around(uint8 length, uint8 place, bytes1 character) private pure returns (bytes memory word) {
        word = new bytes(length);
        for (uint256 i; i < length; ++i) word[i] = "k";
        if (length != 0) word[place % length] = character;
    }

    function testFuzzNameIsCheckedCharacterByCharacter(uint8 length, uint8 place, bytes1 character) public {
        bytes memory name = around(length % 66, place, character);
        require(accepted(withName(name)) == (name.length <= 64 && isName(name, "._-")));
    }

    function testFuzzVersionIsCheckedCharacterByCharacter(uint8 length, uint8 place, bytes1 character) public {
        bytes memory version = around(length % 34, place, character);
        require(accepted(withVersion(version)) == (version.length <= 32 && isName(version, "._+-")));
    }

    function testFuzzLicenceIsCheckedCharacterByCharacter(uint8 length, uint8 place, bytes1 character) public {
        bytes memory licence = around(length % 66, place, character);
        require(accepted(withLicence(licence)) == (licence.length <= 64 && isPrintable(licence)));
    }

    function testFuzzLabelsAreCheckedCharacterByCharacter(uint8 a, uint8 b, uint8 placeA, uint8 placeB, bytes1 x, bytes1 y)
        public
    {
        bytes memory quantization = around(a % 16, placeA, x);
        bytes memory target = around(b % 16, placeB, y);
        require(accepted(withLabels(quantization, target)) == (isLabel(quantization) && isLabel(target)));
    }

    function testFuzzAliasIsCheckedCharacterByCharacter(uint8 length, uint8 place, bytes1 character) public {
        publish("1.0.0");
        bytes memory name = around(length % 34, place, character);
        vm.prank(publisher);
        bool good = name.length <= 32 && isName(name, "._-");
        if (!good) vm.expectRevert(abi.encodeWithSelector(IModelRegistry.InvalidAlias.selector, string(name)));
        registry.setAlias(publisher, NAME, string(name), "1.0.0");
    }

    /// Not random: each of the 256 characters at each place where the words of a name begin and end.
    function testEveryCharacterAtTheEdgesOfTheWords() public {
        uint8[7] memory places = [0, 1, 30, 31, 32, 33, 63];
        for (uint256 c; c < 256; ++c) {
            for (uint256 i; i < places.length; ++i) {
                bytes memory name = around(64, places[i], bytes1(uint8(c)));
                // a model each, since a version is never replaced
                name[40] = bytes1(uint8(0x61 + i));
                require(accepted(withName(name)) == isName(name, "._-"));
            }
            if (c % 16 == 15) setUp();
        }
    }

    function testEveryCharacterInALabel() public {
        for (uint256 c; c < 256; ++c) {
            for (uint8 place; place < 15; place += 7) {
                bytes memory label = around(15, place, bytes1(uint8(c)));
                setUp();
                require(accepted(withLabels(label, "")) == isLabel(label));
                setUp();
                require(accepted(withLabels("q", label)) == isLabel(label));
            }
        }
    }
}
