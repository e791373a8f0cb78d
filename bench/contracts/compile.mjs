#!/usr/bin/env node
// Standard JSON through the compiler whose soljson.js is named: compile.mjs SOLJSON INPUT OUTPUT. For versions that are
// not the project's own, which tools/solc/solc.mjs drives. No path is read but the input itself.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const require = createRequire(import.meta.url);
const [soljson, input, output] = process.argv.slice(2);
const solc = require("solc/wrapper")(require(resolve(soljson)));
writeFileSync(output, solc.compile(readFileSync(input, "utf8"), { import: () => ({ error: "not in the input" }) }));
