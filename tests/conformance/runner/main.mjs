// Runs the legs one after the other, compares, prints, and says whether it is as differences.yaml has it.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { countOf, differences, judge } from "./compare.mjs";
import { baseline, LEGS, runBaseline, runLeg } from "./legs.mjs";
import { YAML } from "./packages.mjs";
import { prune, table } from "./report.mjs";

const LIST = fileURLToPath(new URL("../differences.yaml", import.meta.url));

const { values } = parseArgs({
  options: {
    leg: { type: "string", multiple: true },
    out: { type: "string", default: process.env.PORTCULLIS_CONFORMANCE_RESULTS },
    prune: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
  },
});

const say = (text) => process.stderr.write(`conformance: ${text}\n`);

async function timed(name, run) {
  const folder = path.join(values.out, name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const started = Date.now();
  let count = 0;
  const progress = (scenario) => {
    count++;
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${name}: ${count} ${scenario}`);
  };
  const scenarios = await run(folder, progress);
  const seconds = (Date.now() - started) / 1000;
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  return { scenarios, seconds };
}

// What fails without a gateway proves nothing.
function sound(name, scenarios) {
  const faults = [...scenarios].flatMap(([scenario, checks]) =>
    checks.filter(({ status }) => status === "FAILURE").map(({ id, errorMessage }) => ({ scenario, id, errorMessage })));
  if (faults.length > 0) throw new Error(`${name} fails without a gateway: ${JSON.stringify(faults, null, 2)}`);
}

async function run() {
  const names = values.leg ?? Object.keys(LEGS);
  for (const name of names) if (!LEGS[name]) throw new Error(`no such leg: ${name}`);
  const groups = YAML.parse(readFileSync(LIST, "utf8")) ?? [];
  const directs = new Map();
  const result = { legs: {}, differences: [] };
  const found = [];
  for (const name of names) {
    const leg = LEGS[name];
    const base = baseline(leg);
    if (!directs.has(base)) {
      const direct = await timed(base, (folder, progress) => runBaseline(leg, folder, progress));
      directs.set(base, direct.scenarios);
      sound(base, direct.scenarios);
      result.legs[base] = { ...countOf(direct.scenarios), seconds: direct.seconds };
      say(summary(base, result.legs[base]));
    }
    const through = await timed(name, (folder, progress) => runLeg(leg, folder, progress));
    const differing = differences(name, directs.get(base), through.scenarios);
    found.push(...differing);
    result.legs[name] = { ...countOf(through.scenarios), seconds: through.seconds, differences: differing.length };
    say(summary(name, result.legs[name]));
  }
  const verdict = judge(found, groups, new Set(names));
  Object.assign(result, verdict);
  writeFileSync(path.join(values.out, "result.json"), `${JSON.stringify(result, null, 2)}\n`);
  process.stdout.write(table(verdict));
  if (values.prune && verdict.stale.length > 0) {
    writeFileSync(LIST, prune(readFileSync(LIST, "utf8"), verdict.stale));
    say(`struck ${verdict.stale.length} lines from differences.yaml`);
    verdict.stale = [];
  }
  say(`written: ${path.join(values.out, "result.json")}`);
  return verdict.unexpected.length + verdict.stale.length === 0 ? 0 : 1;
}

function summary(name, { scenarios, SUCCESS, FAILURE, WARNING, seconds, differences: count }) {
  const differing = count === undefined ? "" : `, ${count} checks differ`;
  return `${name}: ${scenarios} scenarios, ${SUCCESS} passed, ${FAILURE} failed, ${WARNING} warnings${differing}; ${seconds.toFixed(1)} s`;
}

if (values.list) {
  for (const [name, { what }] of Object.entries(LEGS)) process.stdout.write(`${name.padEnd(20)} ${what}\n`);
  process.exit(0);
}
try {
  process.exit(await run());
} catch (error) {
  say(error.stack);
  process.exit(2);
}
