#!/usr/bin/env node
// npm's solc, for tools that drive a native one (py-solc-x): answers --version and --standard-json, nothing else.
// No path is read but the input itself, so what is compiled is exactly what the input says.
import { readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

const solc = createRequire(import.meta.url)("solc");
const options = process.argv.slice(2);

if (options.includes("--version")) {
  print(`solc, the solidity compiler commandline interface\nVersion: ${solc.version().replace("Emscripten.clang", "Linux.g++")}\n`);
} else if (options.includes("--standard-json")) {
  print(solc.compile(readFileSync(0, "utf8"), { import: () => ({ error: "not in the input" }) }));
} else {
  console.error("only --version and --standard-json are supported");
  process.exitCode = 1;
}

/** console.log loses the end of long texts when stdout is a pipe and the process ends. */
function print(text) {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}
