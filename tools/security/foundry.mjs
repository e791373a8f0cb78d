#!/usr/bin/env node
// Runs a tool that needs Foundry's compiler front end (forge, halmos, slither) with the settings of hardhat.config.js:
//
//     node tools/security/foundry.mjs [--legacy | --plain] COMMAND ARGUMENT...
//
// Hardhat is the toolchain, and what the compiler is told stands in its configuration alone. From there it is handed on
// through FOUNDRY_* variables, so that there is no second configuration to keep in step. --legacy takes the other code
// generator; --plain takes that one without the optimizer, which is how coverage maps code to branches.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { settings } from "../../hardhat.config.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PIPELINES = {
  "--legacy": { FOUNDRY_VIA_IR: "false", out: "legacy" },
  "--plain": { FOUNDRY_VIA_IR: "false", FOUNDRY_OPTIMIZER: "false", out: "plain" },
  default: { FOUNDRY_VIA_IR: String(settings.viaIR), out: "default" },
};

const command = process.argv.slice(2);
const { out, ...pipeline } = PIPELINES[command[0] in PIPELINES ? command.shift() : "default"];
const home = join(ROOT, "cache", "foundry", out);
mkdirSync(home, { recursive: true });
const tools = [join(ROOT, "tools/node/node_modules/.bin"), join(ROOT, "tools/security/node_modules/.bin"), join(ROOT, ".venv-security/bin")];
const { status, error } = spawnSync(command[0], command.slice(1), {
  cwd: ROOT,
  stdio: "inherit",
  env: {
    FOUNDRY_SRC: "contracts",
    FOUNDRY_TEST: "tests/contracts",
    FOUNDRY_LIBS: '["node_modules"]',
    FOUNDRY_SOLC: join(ROOT, "tools/solc/solc.mjs"),
    FOUNDRY_OFFLINE: "true",
    FOUNDRY_EVM_VERSION: settings.evmVersion,
    FOUNDRY_OPTIMIZER: String(settings.optimizer.enabled),
    FOUNDRY_OPTIMIZER_RUNS: String(settings.optimizer.runs),
    FOUNDRY_BYTECODE_HASH: settings.metadata.bytecodeHash,
    FOUNDRY_CBOR_METADATA: String(settings.metadata.appendCBOR),
    FOUNDRY_GAS_LIMIT: "9223372036854775807", // a test may use more than a block: Hardhat's runner has no limit either
    FOUNDRY_OUT: join(home, "out"),
    FOUNDRY_CACHE_PATH: join(home, "cache"),
    FOUNDRY_CONFIG: join(ROOT, "tools/security/foundry.toml"),
    FOUNDRY_LINT_LINT_ON_BUILD: "false",
    FOUNDRY_FUZZ_SEED: "0xc174a7e",
    ...pipeline,
    ...process.env,
    PATH: [...tools, process.env.PATH].join(delimiter),
  },
});
if (error) console.error(`${command[0]}: ${error.message}; run: make setup-security`);
process.exitCode = status ?? 1;
