// The one place where the compiler's version and settings stand.
import { fileURLToPath } from "node:url";
import { defineConfig } from "hardhat/config";

export const SOLC_VERSION = "0.8.37";

const solc = {
  version: SOLC_VERSION,
  // Absolute, or Hardhat looks for a download: npm's solc is the compiler.
  path: fileURLToPath(new URL("./node_modules/solc/soljson.js", import.meta.url)),
};

/** What is deployed. No metadata hash, so that the code depends on the sources' meaning and nothing else. */
export const settings = {
  viaIR: true,
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

export default defineConfig({
  solidity: {
    profiles: {
      default: { ...solc, settings },
      // The other code generator: a bug that shows in one of them only must fail a test.
      legacy: { ...solc, settings: { ...settings, viaIR: false } },
    },
  },
  paths: { tests: { solidity: "./tests/contracts" } },
  test: { solidity: { fuzz: { runs: 256, seed: "0xc174a7e" } } },
});
