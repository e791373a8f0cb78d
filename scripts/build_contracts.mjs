#!/usr/bin/env node
// Compiles the contracts into the package data that Python users need instead of a compiler.
//
//   node scripts/build_contracts.mjs           write citrate/registry/abi/
//   node scripts/build_contracts.mjs --check   fail if what is there differs from a fresh build
//
// Version and settings come from hardhat.config.js. The sources are found through the compiler itself, under the
// names they have in the repository and in npm, so no path of this machine gets into the output.
import { readFileSync, writeFileSync, existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { keccak256 } from "ethereum-cryptography/keccak.js";
import { SOLC_VERSION, settings } from "../hardhat.config.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const OUT = join(ROOT, "citrate", "registry", "abi");

/** The contracts that are deployed at the same address on every chain. Add a name and its salt here. */
const CONTRACTS = [{ name: "ModelRegistry", salt: "citrate.ModelRegistry.v1" }];

/** Nick Johnson's deterministic deployment proxy: the same address on every chain. */
const DEPLOYER = "0x4e59b44847b379578588920cA78FbF26c0B4956C";

const OUTPUTS = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences", "storageLayout"];

const hex = (bytes) => "0x" + Buffer.from(bytes).toString("hex");
const bytes = (text) => Buffer.from(text.replace(/^0x/, ""), "hex");
const hash = (data) => Buffer.from(keccak256(data));

function main(check) {
  const solc = createRequire(import.meta.url)("solc");
  if (!solc.version().startsWith(SOLC_VERSION + "+")) throw new Error(`solc ${SOLC_VERSION} is wanted, npm installed ${solc.version()}`);
  const stale = [];
  for (const contract of CONTRACTS) {
    for (const [file, text] of Object.entries(build(solc, contract))) {
      const path = join(OUT, file);
      if (existsSync(path) && readFileSync(path, "utf8") === text) continue;
      stale.push(file);
      if (!check) mkdirSync(OUT, { recursive: true }), writeFileSync(path, text);
    }
  }
  if (!check) return console.log(stale.length ? `written: ${stale.join(", ")}` : "nothing to do: package data is up to date");
  if (!stale.length) return console.log("package data equals a fresh build");
  console.error(`differs from a fresh build: ${stale.join(", ")}\nrun: node scripts/build_contracts.mjs`);
  process.exitCode = 1;
}

/** The files of one contract: its artifact, and the compiler input from which anybody can make it again. */
function build(solc, { name, salt }) {
  const source = `contracts/${name}.sol`;
  const sources = closure(solc, source);
  const input = { language: "Solidity", sources, settings: { ...settings, outputSelection: { [source]: { [name]: OUTPUTS } } } };
  const output = compile(solc, input, () => ({ error: "not in the input" }));
  const { abi, evm, storageLayout } = output.contracts[source][name];
  const bytecode = "0x" + evm.bytecode.object;
  const saltBytes = hash(Buffer.from(salt));
  const initcodeHash = hash(bytes(bytecode));
  const artifact = {
    contract: name,
    address: checksum(hash(Buffer.concat([Buffer.from([0xff]), bytes(DEPLOYER), saltBytes, initcodeHash])).subarray(12)),
    deployer: DEPLOYER,
    salt: hex(saltBytes),
    saltText: salt,
    initcodeHash: hex(initcodeHash),
    compiler: { version: solc.version().replace(".Emscripten.clang", ""), settings },
    abi,
    bytecode,
    deployedBytecode: "0x" + evm.deployedBytecode.object,
    immutableReferences: evm.deployedBytecode.immutableReferences,
    storageLayout: withoutAstIds(storageLayout),
  };
  return { [`${name}.json`]: JSON.stringify(artifact, null, 2) + "\n", [`${name}.input.json`]: JSON.stringify(input) + "\n" };
}

/** All sources that `source` needs, in byte order of their names. */
function closure(solc, source) {
  const found = {};
  const read = (name) => {
    const path = name.startsWith("contracts/") ? join(ROOT, name) : join(ROOT, "node_modules", name);
    if (!existsSync(path)) return { error: `${name} is not there` };
    found[name] = { content: readFileSync(path, "utf8") };
    return { contents: found[name].content };
  };
  const sources = { [source]: { content: read(source).contents } };
  compile(solc, { language: "Solidity", sources, settings: { outputSelection: {} } }, read);
  return Object.fromEntries(Object.keys(found).sort().map((name) => [name, found[name]]));
}

function compile(solc, input, read) {
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
  const errors = (output.errors ?? []).filter((e) => e.severity === "error");
  if (errors.length) throw new Error(errors.map((e) => e.formattedMessage).join("\n"));
  return output;
}

/** Storage layout as a reader compares it: the compiler's internal numbers of declarations removed. */
function withoutAstIds({ storage, types }) {
  const plain = (value) => JSON.parse(JSON.stringify(value).replace(/\)\d+_/g, ")_"), (key, v) => (key === "astId" ? undefined : v));
  return plain({ storage, types });
}

function checksum(address) {
  const lower = address.toString("hex");
  const digits = hash(Buffer.from(lower)).toString("hex");
  return "0x" + [...lower].map((c, i) => (parseInt(digits[i], 16) >= 8 ? c.toUpperCase() : c)).join("");
}

main(process.argv.includes("--check"));
