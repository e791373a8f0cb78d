// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Alias} from "../../contracts/libraries/Alias.sol";
import {Chain} from "../../contracts/libraries/Chain.sol";
import {Ids} from "../../contracts/libraries/Ids.sol";
import {DAILY, Quota, nextDay} from "../../contracts/libraries/Quota.sol";
import {RecordBytes} from "../../contracts/libraries/RecordBytes.sol";
import {RecordLayout} from "../../contracts/libraries/RecordLayout.sol";

interface Vm {
    function assume(bool condition) external pure;
    function roll(uint256 number) external;
    function warp(uint256 time) external;
}

/// The quota's functions, each in a call of its own: within one call the compiler may read the clock once only.
contract Quotas {
    function charge(uint256 raw) external view returns (uint256) {
        return Quota.unwrap(Quota.wrap(raw).charge());
    }

    function midnight() external view returns (uint256) {
        return nextDay();
    }

    function counts(uint256 raw) external view returns (uint256 today, uint256 ever) {
        return (Quota.wrap(raw).today(), Quota.wrap(raw).ever());
    }
}

/// What is packed reads back, for every value: proved, not tried. Each check says where it is bounded.
contract PackingChecks {
    using RecordBytes for bytes;

    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    Quotas private _quotas = new Quotas();

    /// A chain of records: the newest, one more, the mark as it was. Count below 2^64 - 1.
    function check_chainAppends(uint256 raw, address record) external pure {
        Chain chain = Chain.wrap(raw);
        vm.assume(chain.count() < type(uint64).max);
        Chain longer = chain.append(record);
        assert(longer.newest() == record);
        assert(longer.count() == chain.count() + 1);
        assert(longer.isMarked() == chain.isMarked());
    }

    function check_chainMark(uint256 raw) external pure {
        Chain chain = Chain.wrap(raw);
        Chain marked = chain.mark();
        assert(marked.isMarked() && marked.newest() == chain.newest() && marked.count() == chain.count());
    }

    /// An alias: fewer than 2^48 - 1 changes, and blocks below 2^48.
    function check_aliasMoves(uint256 raw, address release, uint48 blockNumber) external {
        Alias entry = Alias.wrap(raw);
        vm.assume(entry.changes() < type(uint48).max);
        vm.roll(blockNumber);
        Alias moved = entry.moveTo(release);
        assert(moved.release() == release);
        assert(moved.changedAtBlock() == blockNumber);
        assert(moved.changes() == entry.changes() + 1);
    }

    /// A quota, whatever it was before: of an account that had fewer than 2^64 - 1 ever and fewer than ten on that day. At
    /// the first and the last second of three days; solvers do not divide a clock of any value.
    function check_quotaCharges(uint256 raw) external {
        uint256[3] memory days_ = [uint256(0), 20_833, type(uint24).max];
        for (uint256 i; i < 6; ++i) {
            vm.warp(days_[i / 2] * 1 days + (i % 2 == 0 ? 0 : 1 days - 1));
            (uint256 today, uint256 ever) = _quotas.counts(raw);
            if (today >= DAILY || ever == type(uint64).max) continue;
            (uint256 todayAfter, uint256 everAfter) = _quotas.counts(_quotas.charge(raw));
            assert(todayAfter == today + 1 && everAfter == ever + 1);
        }
    }

    /// What was charged on a day counts until its last second, and no longer.
    function check_quotaEndsAtMidnight(uint256 raw) external {
        vm.warp(20_833 days);
        uint256 charged = _quotas.charge(raw);
        (uint256 today,) = _quotas.counts(charged);
        assert(_quotas.midnight() == 20_834 days);
        vm.warp(20_834 days - 1);
        assert(_quotas.midnight() == 20_834 days);
        (uint256 late,) = _quotas.counts(charged);
        vm.warp(20_834 days);
        (uint256 after_,) = _quotas.counts(charged);
        assert(late == today && after_ == 0);
    }

    /// A record's header, and every byte behind it. The rest has the lengths that the runner is given.
    function check_recordReadsBack(uint8 code, address previous, address link, uint40 time, bytes calldata rest) external {
        vm.warp(time);
        bytes memory raw = RecordBytes.encode(code, previous, link, "lead", rest);
        assert(raw.isRecord() && raw.codeOf() == code && raw.timeOf() == time);
        assert(raw.previousOf() == previous && raw.linkOf() == link);
        assert(raw.length == RecordBytes.HEADER + 4 + rest.length);
        assert(keccak256(raw.slice(RecordBytes.HEADER, 4)) == keccak256("lead"));
        assert(keccak256(raw.slice(RecordBytes.HEADER + 4, rest.length)) == keccak256(rest));
    }

    /// A release's price: every mantissa with every exponent that is allowed.
    function check_priceReadsBack(bytes7 start, address previous, address publisher, bytes32 manifest, uint24 mantissa)
        external
        pure
    {
        vm.assume(start[0] == 0 && start[1] == 0x01); // a first release by its publisher
        for (uint8 exponent; exponent <= 60; ++exponent) {
            bytes memory name = abi.encodePacked(uint8(4), "tiny", manifest, mantissa, exponent);
            bytes memory raw = abi.encodePacked(start, previous, publisher, name, uint8(1), "1");
            assert(RecordLayout.priceOf(raw) == uint256(mantissa) * 10 ** exponent);
        }
    }

    /// Ids are the compiler's own encoding. Names have the lengths that the runner is given.
    function check_idsAreAbiEncoded(address publisher, bytes32 parent, bytes calldata name) external pure {
        assert(Ids.modelId(publisher, name) == keccak256(abi.encode(publisher, string(name))));
        assert(Ids.nameId(parent, name) == keccak256(abi.encode(parent, string(name))));
    }
}
