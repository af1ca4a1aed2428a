// Loaded into the Inspector before its own code: what --ca and --resolve ask for.

import { readFileSync } from "node:fs";

import { resolveAsTold, trust } from "./wire.mjs";

const { PORTCULLIS_CLIENT_CA: ca, PORTCULLIS_CLIENT_RESOLVE: resolve } = process.env;
trust(ca && readFileSync(ca, "utf8"));
resolveAsTold(new Map(JSON.parse(resolve ?? "[]")));
