// Runs the suite's command line and reads what it wrote.

import { readdirSync, readFileSync, rmSync, mkdirSync } from "node:fs";
import path from "node:path";

import { YAML, packages } from "./packages.mjs";
import { finish, start } from "./processes.mjs";

const SUITE = path.join(packages, "node_modules/@modelcontextprotocol/conformance");
const SCENARIO_MS = 10_000;
const LEG_MS = 300_000;
const CLIENT_MS = 60_000;

// checks.json of each scenario; the folders end in the time.
function read(folder, prefix) {
  const scenarios = new Map();
  const pattern = new RegExp(`^${prefix}(.+)-\\d{4}-\\d{2}-\\d{2}T[0-9-]+Z$`);
  for (const name of readdirSync(folder, { recursive: true }).sort()) {
    if (path.basename(name) !== "checks.json") continue;
    const scenario = pattern.exec(path.dirname(name))?.[1];
    if (!scenario) throw new Error(`no scenario's folder: ${name}`);
    scenarios.set(scenario, JSON.parse(readFileSync(path.join(folder, name), "utf8")));
  }
  return scenarios;
}

export async function serverLeg({ folder, url, revision, progress }) {
  const checks = path.join(folder, "checks");
  rmSync(checks, { recursive: true, force: true });
  mkdirSync(checks, { recursive: true });
  const child = start(
    process.execPath,
    [path.join(SUITE, "dist/index.js"), "server", "--url", url, "--requirements", revision, "--timeout", `${SCENARIO_MS}`,
      "--output-dir", checks],
    {
      log: path.join(folder, "suite.log"),
      lines: (line) => {
        const scenario = /^=== Running scenario: (.+) ===$/.exec(line)?.[1];
        if (scenario) progress(scenario);
      },
    },
  );
  const code = await finish(child, LEG_MS);
  if (code === null) throw new Error(`the suite did not finish within ${LEG_MS / 1000} s: ${folder}/suite.log`);
  const scenarios = read(checks, "server-");
  if (scenarios.size === 0) throw new Error(`the suite wrote no checks: ${folder}/suite.log`);
  return scenarios;
}

// What a client has to pass, less what is about OAuth.
export function clientScenarios(revision) {
  const text = readFileSync(path.join(SUITE, "requirements", `${revision}.yaml`), "utf8");
  const { client, not_scored } = YAML.parse(text);
  return [...client, ...not_scored.filter(({ leg }) => leg === "client").map(({ scenario }) => scenario)]
    .filter((scenario) => !scenario.startsWith("auth/"));
}

export async function clientLeg({ folder, revision, command, env, progress }) {
  const checks = path.join(folder, "checks");
  rmSync(checks, { recursive: true, force: true });
  mkdirSync(checks, { recursive: true });
  for (const scenario of clientScenarios(revision)) {
    progress(scenario);
    const child = start(
      process.execPath,
      [path.join(SUITE, "dist/index.js"), "client", "--command", command, "--scenario", scenario, "--spec-version", revision,
        "--force", "--timeout", "30000", "--output-dir", checks],
      { log: path.join(folder, "suite.log"), env },
    );
    if ((await finish(child, CLIENT_MS)) === null) throw new Error(`${scenario} did not finish: ${folder}/suite.log`);
  }
  return read(checks, "");
}
