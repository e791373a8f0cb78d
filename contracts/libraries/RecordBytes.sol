// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The bytes of a record: how each begins, and how to read in them
/// @notice A record begins with `00 | code 1 | block time 5 | previous record 20 | link 20`, big-endian. The code says what
/// it holds, and the link whom or what it concerns; both belong to the registry that wrote it.
library RecordBytes {
    uint256 internal constant WHOLE = type(uint256).max;

    /// @dev Where the part begins that is not the same for every record.
    uint256 internal constant HEADER = 47;

    /// @dev Lays out a record: its header, `lead`, and `rest`, which the caller sent.
    function encode(uint256 code, address previous, address link, bytes memory lead, bytes calldata rest)
        internal
        view
        returns (bytes memory record)
    {
        uint256 start = code << 240 | block.timestamp << 200; // 00, code, time
        assembly ("memory-safe") {
            record := mload(0x40)
            let end := add(record, 32)
            // Each word is written over the empty end of the one before it. Shifting drops dirty high bits.
            mstore(end, start)
            mstore(add(end, 7), shl(96, previous))
            mstore(add(end, 27), shl(96, link))
            end := add(end, HEADER)
            mcopy(end, add(lead, 32), mload(lead))
            end := add(end, mload(lead))
            calldatacopy(end, rest.offset, rest.length)
            end := add(end, rest.length)
            mstore(record, sub(sub(end, record), 32))
            mstore(0x40, and(add(end, 31), not(31)))
        }
    }

    /// @dev The first `limit` bytes of an account's code, or all of it if it is shorter.
    function load(address account, uint256 limit) internal view returns (bytes memory raw) {
        uint256 size = account.code.length;
        if (size > limit) size = limit;
        raw = new bytes(size);
        assembly ("memory-safe") {
            extcodecopy(account, add(raw, 32), 0, size)
        }
    }

    /// @dev Whether these can be the bytes of a record; whose record it is they do not say.
    function isRecord(bytes memory raw) internal pure returns (bool) {
        return raw.length >= HEADER && byteAt(raw, 0) == 0;
    }

    function codeOf(bytes memory raw) internal pure returns (uint256) {
        return byteAt(raw, 1);
    }

    /// @dev Unix seconds.
    function timeOf(bytes memory raw) internal pure returns (uint64) {
        return uint40(wordAt(raw, 2) >> 216);
    }

    function previousOf(bytes memory raw) internal pure returns (address) {
        return addressAt(raw, 7);
    }

    function linkOf(bytes memory raw) internal pure returns (address) {
        return addressAt(raw, 27);
    }

    /// @dev 32 bytes from `pos`; what lies behind the end is not defined.
    function wordAt(bytes memory raw, uint256 pos) internal pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(raw, 32), pos))
        }
    }

    function byteAt(bytes memory raw, uint256 pos) internal pure returns (uint256) {
        return wordAt(raw, pos) >> 248;
    }

    function addressAt(bytes memory raw, uint256 pos) internal pure returns (address) {
        return address(uint160(wordAt(raw, pos) >> 96));
    }

    function textAt(bytes memory raw, uint256 pos) internal pure returns (string memory) {
        unchecked {
            return string(slice(raw, pos + 1, byteAt(raw, pos)));
        }
    }

    function afterText(bytes memory raw, uint256 pos) internal pure returns (uint256) {
        unchecked {
            return pos + 1 + byteAt(raw, pos);
        }
    }

    function slice(bytes memory raw, uint256 pos, uint256 n) internal pure returns (bytes memory part) {
        part = new bytes(n);
        assembly ("memory-safe") {
            mcopy(add(part, 32), add(add(raw, 32), pos), n)
        }
    }
}
