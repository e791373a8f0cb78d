#!/usr/bin/env node
// Compiles the contracts into the package data that Python users need instead of a compiler.
//
//   node scripts/build_contracts.mjs           write citrate/registry/abi/
//   node scripts/build_contracts.mjs --check   fail if what is there differs from a fresh build
//
// Version and settings come from hardhat.config.js. The sources are found through the compiler itself, under the
// names they have in the repository and in npm, so no path of this machine gets into the output. Every contract is
// compiled alone, with just the sources it needs: its code, and so its address, depends on no other contract's.
import { readFileSync, writeFileSync, existsSync, mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { keccak256 } from "ethereum-cryptography/keccak.js";
import { SOLC_VERSION, settings } from "../hardhat.config.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const OUT = join(ROOT, "citrate", "registry", "abi");

/**
 * What is deployed, in the order in which it is. An argument of the constructor is the address of the contract of that
 * name, or `authority`: who governs. An immutable has the value of the constructor's parameter of the same name, or is
 * one of OpenZeppelin's EIP712.
 */
const STACK = [
  { name: "ModelRegistry", arguments: [] },
  { name: "TrainingLedger", arguments: [] },
  { name: "Timelock", arguments: ["authority"] },
  { name: "Policy", arguments: ["authority", "Timelock"] },
  { name: "LoRARegistry", arguments: ["ModelRegistry", "TrainingLedger", "Policy"] },
  { name: "ModelAccess", arguments: ["ModelRegistry", "Policy"] },
  { name: "Moderation", arguments: ["ModelRegistry", "LoRARegistry", "Timelock"] },
];

/** Nick Johnson's deterministic deployment proxy: the same address on every chain. */
const DEPLOYER = "0x4e59b44847b379578588920cA78FbF26c0B4956C";

const OUTPUTS = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences", "storageLayout"];
const EIP712 = ["_cachedDomainSeparator", "_cachedChainId", "_cachedThis", "_hashedName", "_hashedVersion", "_name", "_version"];

const hex = (bytes) => "0x" + Buffer.from(bytes).toString("hex");
const bytes = (text) => Buffer.from(text.replace(/^0x/, ""), "hex");
const hash = (data) => Buffer.from(keccak256(data));

async function main(check) {
  const files = { "stack.json": JSON.stringify(STACK.map(({ name }) => name), null, 2) + "\n" };
  for (const built of await inParallel(STACK)) Object.assign(files, built);
  const stale = [];
  for (const [file, text] of Object.entries(files)) {
    const path = join(OUT, file);
    if (existsSync(path) && readFileSync(path, "utf8") === text) continue;
    stale.push(file);
    if (!check) mkdirSync(OUT, { recursive: true }), writeFileSync(path, text);
  }
  if (!check) return console.log(stale.length ? `written: ${stale.join(", ")}` : "nothing to do: package data is up to date");
  if (!stale.length) return console.log("package data equals a fresh build");
  console.error(`differs from a fresh build: ${stale.join(", ")}\nrun: node scripts/build_contracts.mjs`);
  process.exitCode = 1;
}

/** The files of all contracts; each worker loads the compiler once and takes the next contract when it is free. */
async function inParallel(contracts) {
  const waiting = [...contracts];
  const built = [];
  const work = (worker) =>
    new Promise((resolve, reject) => {
      const next = () => (waiting.length ? worker.postMessage(waiting.shift()) : worker.terminate().then(resolve));
      worker.on("message", (files) => (built.push(files), next()));
      worker.on("error", reject);
      next();
    });
  const count = Math.min(availableParallelism(), 4, contracts.length);
  await Promise.all(Array.from({ length: count }, () => work(new Worker(new URL(import.meta.url), { workerData: "build" }))));
  return built;
}

/** The files of one contract: its artifact, and the compiler input from which anybody can make it again. */
function build(solc, contract) {
  const { name } = contract;
  const source = `contracts/${name}.sol`;
  const sources = closure(solc, source);
  const input = { language: "Solidity", sources, settings: { ...settings, outputSelection: { [source]: { [name]: OUTPUTS } } } };
  const { abi, evm, storageLayout } = compile(solc, input).contracts[source][name];
  const [wanted, given] = [parametersOf(abi).length, contract.arguments.length];
  if (wanted !== given) throw new Error(`${name}'s constructor has ${wanted} parameters, the stack names ${given}`);
  const bytecode = "0x" + evm.bytecode.object;
  const artifact = {
    contract: name,
    source,
    deployer: DEPLOYER,
    saltText: `citrate.${name}.v1`,
    salt: hex(hash(Buffer.from(`citrate.${name}.v1`))),
    ...constructor(contract, bytecode),
    compiler: { version: solc.version().replace(".Emscripten.clang", ""), settings },
    abi,
    bytecode,
    deployedBytecode: "0x" + evm.deployedBytecode.object,
    ...immutables(solc, contract, input, abi, evm.deployedBytecode.immutableReferences),
    storageLayout: withoutAstIds(storageLayout),
  };
  return { [`${name}.json`]: JSON.stringify(artifact, null, 2) + "\n", [`${name}.input.json`]: JSON.stringify(input) + "\n" };
}

/**
 * What the address follows from: itself where there are no arguments and it is the same for everybody, else Keccak's
 * state after the creation code, so that a reader hashes just the arguments.
 */
function constructor({ name, arguments: given }, bytecode) {
  if (given.length) return { arguments: given, creationState: hex(keccak256.create().update(bytes(bytecode)).state) };
  const initcodeHash = hash(bytes(bytecode));
  const packed = Buffer.concat([Buffer.from([0xff]), bytes(DEPLOYER), hash(Buffer.from(`citrate.${name}.v1`)), initcodeHash]);
  return { arguments: given, initcodeHash: hex(initcodeHash), address: checksum(hash(packed).subarray(12)) };
}

/**
 * By name: what an immutable holds (`argument`: the place of the constructor's argument) and where in the code. Those of
 * EIP712 follow from its `domain`, the name and version that the contract's constructor gives it.
 */
function immutables(solc, { name }, input, abi, references) {
  if (!Object.keys(references).length) return { immutables: {} };
  const { sources } = compile(solc, { ...input, settings: { ...input.settings, outputSelection: { "*": { "": ["ast"] } } } });
  const contracts = Object.values(sources).flatMap(({ ast }) => ast.nodes.filter(({ nodeType }) => nodeType === "ContractDefinition"));
  const members = contracts.flatMap((contract) => contract.nodes.map((node) => ({ ...node, of: contract.name })));
  const given = members.find((node) => node.of === name && node.kind === "constructor")?.modifiers ?? [];
  const eip712 = given.find(({ modifierName }) => modifierName.name === "EIP712")?.arguments.map(({ value }) => value);
  const parameters = parametersOf(abi);
  const found = Object.entries(references).map(([id, places]) => {
    const immutable = members.find((node) => node.id === Number(id)).name;
    const argument = parameters.indexOf(plain(immutable));
    if (argument < 0 && !(eip712 && EIP712.includes(immutable))) throw new Error(`${name}: nothing says what the immutable ${immutable} holds`);
    return [immutable, { ...(argument < 0 ? {} : { argument }), places }];
  });
  const sorted = Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)));
  return { ...(eip712 ? { domain: { name: eip712[0], version: eip712[1] } } : {}), immutables: sorted };
}

const parametersOf = (abi) => (abi.find(({ type }) => type === "constructor")?.inputs ?? []).map(({ name }) => plain(name));

/** A name without the underscores and capitals that tell a parameter from an immutable. */
const plain = (name) => name.replace(/^_+|_+$/g, "").toLowerCase();

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

function compile(solc, input, read = () => ({ error: "not in the input" })) {
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
  const errors = (output.errors ?? []).filter((e) => e.severity === "error");
  if (errors.length) throw new Error(errors.map((e) => e.formattedMessage).join("\n"));
  return output;
}

/** Storage layout as a reader compares it: the compiler's internal numbers of declarations removed. */
function withoutAstIds({ storage, types }) {
  const readable = (value) => JSON.parse(JSON.stringify(value).replace(/\)\d+_/g, ")_"), (key, v) => (key === "astId" ? undefined : v));
  return readable({ storage, types });
}

function checksum(address) {
  const lower = address.toString("hex");
  const digits = hash(Buffer.from(lower)).toString("hex");
  return "0x" + [...lower].map((c, i) => (parseInt(digits[i], 16) >= 8 ? c.toUpperCase() : c)).join("");
}

if (isMainThread) {
  await main(process.argv.includes("--check"));
} else if (workerData === "build") {
  const solc = createRequire(import.meta.url)("solc");
  if (!solc.version().startsWith(SOLC_VERSION + "+")) throw new Error(`solc ${SOLC_VERSION} is wanted, npm installed ${solc.version()}`);
  parentPort.on("message", (contract) => parentPort.postMessage(build(solc, contract)));
}
