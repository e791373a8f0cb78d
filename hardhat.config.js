// The one place where the compiler's version and settings stand.
import { readdirSync } from "node:fs";
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

// The tests themselves are compiled as quickly as the compiler can. They create contracts from those contracts' own
// compilation (RegistryTest.create), so that what is tested is what is deployed.
const quick = { ...solc, settings: { ...settings, viaIR: false, optimizer: { enabled: false } } };
const tests = readdirSync(new URL("./tests/contracts", import.meta.url)).filter((name) => name.endsWith(".sol"));
const overrides = Object.fromEntries(tests.map((name) => [`tests/contracts/${name}`, quick]));

export default defineConfig({
  solidity: {
    profiles: {
      default: { compilers: [{ ...solc, settings }], overrides },
      // The other code generator: a bug that shows in one of them only must fail a test.
      legacy: { compilers: [{ ...solc, settings: { ...settings, viaIR: false } }], overrides },
    },
  },
  paths: { tests: { solidity: "./tests/contracts" } },
  test: { solidity: { fuzz: { runs: 256, seed: "0xc174a7e" } } },
});
