// What differs between two runs, and what was expected to. Pure.

// The checks of a scenario by id. An id can come several times, under several names: each name's outcomes
// count, how often it had them does not (the gateway has exchanges of its own with a server it watches).
// Lines of the suite's log among the checks (INFO and never anything else) do not.
function byId(checks) {
  const found = new Map();
  for (const { id, name, status, errorMessage } of checks) {
    const all = found.get(id) ?? [];
    all.push({ name, status, errorMessage });
    found.set(id, all);
  }
  return found;
}

const onlyInfo = (all) => (all ?? []).every(({ status }) => status === "INFO");
const outcomes = (all) => [...new Set((all ?? []).map(({ name, status }) => `${name} ${status}`))].sort().join("\n");

function shown(all) {
  if (!all) return "absent";
  const counts = new Map();
  for (const { status } of all) counts.set(status, (counts.get(status) ?? 0) + 1);
  return [...counts].sort().map(([status, count]) => (count > 1 ? `${count} ${status}` : status)).join(", ");
}

// `direct` and `through` are maps from scenario to checks.
export function differences(leg, direct, through) {
  const found = [];
  for (const scenario of [...new Set([...direct.keys(), ...through.keys()])].sort()) {
    const left = byId(direct.get(scenario) ?? []);
    const right = byId(through.get(scenario) ?? []);
    for (const check of new Set([...left.keys(), ...right.keys()])) {
      const [before, after] = [left.get(check), right.get(check)];
      if ((onlyInfo(before) && onlyInfo(after)) || outcomes(before) === outcomes(after)) continue;
      const message = (after ?? before).map((one) => one.errorMessage).find(Boolean);
      found.push({ leg, scenario, check, direct: shown(before), through: shown(after), message });
    }
  }
  return found;
}

export const entry = ({ leg, scenario, check }) => `${leg} ${scenario} ${check}`;

// `groups` as in differences.yaml; only what is about the legs that ran is judged.
export function judge(found, groups, legs) {
  const expected = new Map();
  for (const { feature, differences: lines } of groups) {
    for (const line of lines ?? []) {
      if (expected.has(line)) throw new Error(`differences.yaml has this twice: ${line}`);
      if (line.split(" ").length !== 3) throw new Error(`differences.yaml: not "LEG SCENARIO CHECK": ${line}`);
      expected.set(line, feature);
    }
  }
  const seen = new Set(found.map(entry));
  return {
    differences: found.map((one) => ({ ...one, feature: expected.get(entry(one)) ?? null })),
    unexpected: found.filter((one) => !expected.has(entry(one))),
    stale: [...expected.keys()].filter((line) => legs.has(line.split(" ")[0]) && !seen.has(line)),
  };
}

export function countOf(scenarios) {
  const counts = { scenarios: scenarios.size, SUCCESS: 0, FAILURE: 0, WARNING: 0, SKIPPED: 0 };
  for (const checks of scenarios.values()) for (const { status } of checks) if (status in counts) counts[status]++;
  return counts;
}
