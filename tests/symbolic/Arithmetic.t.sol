// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IPolicy} from "../../contracts/interfaces/IPolicy.sol";
import {LoRAPayload} from "../../contracts/libraries/LoRAPayload.sol";
import {ModelAccess} from "../../contracts/ModelAccess.sol";
import {Vm} from "./Packing.t.sol";

/// A registry and a policy that answer anything at all.
contract Answers {
    uint256 private _priceWei;
    address private _owner;
    address private _recipient;
    uint256 private _basisPoints;

    function set(uint256 priceWei, address owner, address recipient, uint256 basisPoints) external {
        (_priceWei, _owner, _recipient, _basisPoints) = (priceWei, owner, recipient, basisPoints);
    }

    function termsOf(bytes32) external view returns (bytes32, address, uint256, bool) {
        return (bytes32(uint256(1)), _owner, _priceWei, false);
    }

    function fee() external view returns (address, uint256) {
        return (_recipient, _basisPoints);
    }
}

contract ArithmeticChecks {
    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    Answers private _answers = new Answers();
    ModelAccess private _access = new ModelAccess(IModelRegistry(address(_answers)), IPolicy(address(_answers)));

    /// Whatever the policy says, the fee is at most 2.5 %, and none without a recipient: any recipient, any basis points, at
    /// a price of 10,000 ether. (Solvers do not come to an end with divisions of any price; the invariant tests try those.)
    function check_feeIsCapped(address recipient, uint256 basisPoints) external {
        uint256 feeWei = _fee(10_000 ether, recipient, basisPoints);
        uint256 capped = basisPoints < 250 ? basisPoints : 250;
        assert(feeWei == (recipient == address(0) ? 0 : capped * 1 ether));
    }

    /// What checkParents lets through adds up, ascends, and has no weight of zero: for two parents, of any bytes.
    function check_parentsAddUp(bytes32 first, uint16 a, bytes32 second, uint16 b) external view {
        try this.parents(abi.encodePacked(first, a, second, b)) returns (uint256 count) {
            assert(count == 2);
            assert(uint256(a) + b == 10_000 && a != 0 && b != 0);
            assert(first < second && first != 0);
        } catch {
            assert(uint256(a) + b != 10_000 || a == 0 || b == 0 || first >= second || first == 0);
        }
    }

    function parents(bytes calldata data) external pure returns (uint256) {
        return LoRAPayload.checkParents(data);
    }

    function _fee(uint256 priceWei, address recipient, uint256 basisPoints) private returns (uint256 feeWei) {
        _answers.set(priceWei, address(1), recipient, basisPoints);
        (, feeWei,) = _access.quote(bytes32(uint256(2)));
    }
}
