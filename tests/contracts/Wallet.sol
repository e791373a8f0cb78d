// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// A wallet that confirms one digest, as a multisig would; with `greedy` it tries a call meanwhile.
contract Wallet {
    bytes32 public confirmed;
    bytes private greedy;

    function confirm(bytes32 digest) external {
        confirmed = digest;
    }

    function beGreedy(bytes calldata call) external {
        greedy = call;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        if (greedy.length != 0) {
            (bool done,) = msg.sender.staticcall(greedy);
            require(!done, "written to while being asked");
        }
        return digest == confirmed ? this.isValidSignature.selector : bytes4(0);
    }
}
