// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModeration} from "../../contracts/interfaces/IModeration.sol";
import {IPolicy} from "../../contracts/interfaces/IPolicy.sol";
import {Policy} from "../../contracts/Policy.sol";
import {Timelock} from "../../contracts/Timelock.sol";
import {Handler} from "./Handler.sol";

/// Something with code that could be appointed.
contract Candidate {}

/// An authority that proposes and cancels, strangers who execute, and everybody who tries it directly.
contract PolicyHandler is Handler {
    struct Proposal {
        bytes call;
        bytes32 salt;
        uint256 proposedAt;
        bool gone; // executed or cancelled
    }

    Timelock public immutable timelock;
    Policy public immutable policy;
    address[2] private _candidates = [address(new Candidate()), address(new Candidate())];
    Proposal[] private _proposals;
    bool private _begun;

    /// What the policy must say now.
    address public moderation;
    address public recipient;
    uint256 public basisPoints;

    constructor() {
        timelock = new Timelock(actorAt(0));
        policy = new Policy(actorAt(0), address(timelock));
    }

    // --------------------------------------------------------------------------------------------------- calls

    function propose(uint256 actor, uint256 seed) external now_ {
        bytes memory call = _call(seed);
        bytes32 salt = bytes32(_proposals.length);
        uint256 delay = seed % 5 == 0 ? 2 days - 1 : 2 days + seed % 60;
        vm.prank(oftenThis(actorAt(0), actor));
        timelock.schedule(address(policy), 0, call, 0, salt, delay);
        note(delay >= 2 days, "15: a change in less than two days");
        _proposals.push(Proposal(call, salt, clock, false));
    }

    function execute(uint256 actor, uint256 which) external folding(address(policy)) {
        Proposal storage p = _proposals[_waiting(which, which % 8 == 0 ? 0 : 2 days)];
        vm.prank(actorAt(actor));
        timelock.execute(address(policy), 0, p.call, 0, p.salt);
        note(!p.gone && clock >= p.proposedAt + 2 days, "15: executed twice, or before two days were over");
        p.gone = true;
        if (bytes4(p.call) == IPolicy.appoint.selector) (moderation, _begun) = (address(policy.moderation()), true);
        else (recipient, basisPoints) = policy.fee();
    }

    function cancel(uint256 actor, uint256 which) external now_ {
        if (which % 4 != 0) return;
        Proposal storage p = _proposals[_waiting(which, 0)];
        bytes32 id = timelock.hashOperation(address(policy), 0, p.call, 0, p.salt);
        vm.prank(oftenThis(actorAt(0), actor));
        timelock.cancel(id);
        p.gone = true;
    }

    /// Nobody but the timelock changes anything, except the authority the very first appointment.
    function directly(uint256 actor, uint256 seed) external folding(address(policy)) {
        vm.prank(actorAt(actor));
        (bool done,) = address(policy).call(_call(seed));
        if (!done) return;
        note(!_begun && actor % ACTORS == 0 && bytes4(_call(seed)) == IPolicy.appoint.selector, "15: past the timelock");
        (moderation, _begun) = (address(policy.moderation()), true);
    }

    /// Nobody gives itself a role in the timelock.
    function grantRole(uint256 actor, uint256 seed) external now_ {
        bytes32 role = seed % 2 == 0 ? timelock.PROPOSER_ROLE() : timelock.DEFAULT_ADMIN_ROLE();
        vm.prank(actorAt(actor));
        try timelock.grantRole(role, actorAt(seed / 2)) {
            note(false, "15: a role was given past the timelock");
        } catch {}
    }

    // --------------------------------------------------------------------------------------------------- parts

    function _call(uint256 seed) private view returns (bytes memory) {
        if (seed % 2 == 0) return abi.encodeCall(IPolicy.setFee, (actorAt(seed >> 8), (seed >> 16) % 300));
        address candidate = seed % 3 == 0 ? address(0) : seed % 17 == 0 ? actorAt(seed) : _candidates[(seed >> 8) % 2];
        return abi.encodeCall(IPolicy.appoint, (IModeration(candidate)));
    }

    /// A proposal that is not gone and so old, as a rule.
    function _waiting(uint256 which, uint256 age) private view returns (uint256) {
        for (uint256 k; k < _proposals.length; ++k) {
            Proposal storage p = _proposals[(which % 1000 + k) % _proposals.length];
            if (!p.gone && clock >= p.proposedAt + age) return (which % 1000 + k) % _proposals.length;
        }
        return which % _proposals.length;
    }
}
