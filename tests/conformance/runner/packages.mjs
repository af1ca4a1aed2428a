// The packages lie in the cache, not beside these files: they are required from there.

import { createRequire } from "node:module";
import path from "node:path";

export const packages = process.env.PORTCULLIS_CONFORMANCE_PACKAGES;
if (!packages) throw new Error("PORTCULLIS_CONFORMANCE_PACKAGES is not set: start this by tests/conformance/run");
const require = createRequire(path.join(packages, "package.json"));
export const YAML = require("yaml");
export const client = () => require("@modelcontextprotocol/client");
