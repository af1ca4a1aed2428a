// The table, and the list that shrinks. Pure.

import { entry } from "./compare.mjs";

const COLUMNS = ["leg", "scenario", "check", "direct", "through", "feature"];

export function table({ differences, unexpected, stale }) {
  const rows = differences.map((one) => ({ ...one, feature: one.feature ?? "NOT LISTED" }));
  const width = (column) => Math.max(column.length, ...rows.map((row) => row[column].length));
  const widths = Object.fromEntries(COLUMNS.map((column) => [column, width(column)]));
  const line = (row) => COLUMNS.map((column) => row[column].padEnd(widths[column])).join("  ").trimEnd();
  const lines = rows.length === 0 ? [] : [line(Object.fromEntries(COLUMNS.map((column) => [column, column]))), ...rows.map(line)];
  for (const one of unexpected) lines.push("", `not listed: ${entry(one)}`, `  ${one.message ?? `${one.direct} -> ${one.through}`}`);
  if (stale.length > 0) lines.push("", "listed, and no longer different (strike them: --prune):", ...stale.map((one) => `  ${one}`));
  lines.push("", `${differences.length} differences, ${unexpected.length} not listed, ${stale.length} listed in vain`, "");
  return lines.join("\n");
}

// Strikes lines `- LEG SCENARIO CHECK`, and groups that have none left stay for their reason to be read once more.
export function prune(text, stale) {
  const gone = new Set(stale);
  return text
    .split("\n")
    .filter((line) => !gone.has(/^\s*- (.+)$/.exec(line)?.[1]?.trim()))
    .join("\n");
}
