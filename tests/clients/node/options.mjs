// The command line that every client understands; the Python clients' is the same.

import { readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

const ERAS = ["auto", "session", "stateless"];
const WITH_TOOL = { call: 0, twice: 0, progress: 0, limit: 1, load: 1 };

export class Usage extends Error {}

const USAGE = `URL [--token T | --token-file F] [--ca FILE] [--resolve HOST:ADDRESS]... [--header NAME:VALUE]...
    [--era auto|session|stateless] [--timeout SECONDS] [--unasked] COMMAND
  list | call TOOL [JSON] | twice TOOL [JSON] | progress TOOL [JSON]
  steps JSON | limit N TOOL [JSON] [--patience SECONDS] | load SECONDS TOOL [JSON] [--clients N] [--pause SECONDS]`;

function positive(text, name) {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new Usage(`${name} must be a number above zero`);
  return value;
}

function pair(text, what) {
  const colon = text.indexOf(":");
  if (colon < 1) throw new Usage(`${what} is NAME:VALUE`);
  return [text.slice(0, colon).trim(), text.slice(colon + 1).trim()];
}

function jsonObject(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Usage(`not JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new Usage("arguments are a JSON object");
  }
  return value;
}

function stepsOf(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Usage(`not JSON: ${error.message}`);
  }
  const sound = Array.isArray(value) && value.every((step) => typeof step?.do === "string");
  if (!sound) throw new Usage('steps are a JSON array of {"do": NAME, ...}');
  return value;
}

export function parse(args) {
  let found;
  try {
    found = parseArgs({
      args,
      allowPositionals: true,
      options: {
        token: { type: "string" },
        "token-file": { type: "string" },
        ca: { type: "string" },
        resolve: { type: "string", multiple: true, default: [] },
        header: { type: "string", multiple: true, default: [] },
        era: { type: "string", default: "auto" },
        timeout: { type: "string", default: "30" },
        patience: { type: "string", default: "30" },
        clients: { type: "string", default: "1" },
        pause: { type: "string" },
        unasked: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new Usage(`${error.message}\n${USAGE}`);
  }
  const { values, positionals } = found;
  const [url, command, ...rest] = positionals;
  if (!url || !URL.canParse(url) || !(command === "list" || command === "steps" || command in WITH_TOOL)) throw new Usage(USAGE);
  if (!ERAS.includes(values.era)) throw new Usage(`an era is one of ${ERAS.join(", ")}`);
  if (values.token && values["token-file"]) throw new Usage("--token or --token-file, not both");

  const options = {
    url: new URL(url),
    command,
    era: values.era,
    timeoutMs: positive(values.timeout, "--timeout") * 1000,
    patience: positive(values.patience, "--patience"),
    unasked: values.unasked,
    clients: Math.floor(positive(values.clients, "--clients")),
    pauseMs: values.pause === undefined ? 0 : Number(values.pause) * 1000,
    caFile: values.ca && path.resolve(values.ca),
    ca: values.ca && readFileSync(values.ca, "utf8"),
    resolve: new Map(values.resolve.map((text) => pair(text, "--resolve")).map(([h, a]) => [h.toLowerCase(), a])),
    headers: Object.fromEntries(values.header.map((text) => pair(text, "--header"))),
  };
  const token = values["token-file"] ? readFileSync(values["token-file"], "ascii").trim() : values.token;
  if (token) options.headers.Authorization = `Bearer ${token}`;

  if (command === "list") {
    if (rest.length) throw new Usage(USAGE);
    return options;
  }
  if (command === "steps") {
    if (rest.length !== 1) throw new Usage(USAGE);
    return { ...options, steps: stepsOf(rest[0]) };
  }
  if (WITH_TOOL[command]) options.number = positive(rest.shift(), command === "limit" ? "N" : "SECONDS");
  const [tool, json, ...more] = rest;
  if (!tool || more.length) throw new Usage(USAGE);
  return { ...options, tool, arguments: json === undefined ? {} : jsonObject(json) };
}
