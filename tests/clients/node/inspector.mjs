// The Inspector's command line, its answers translated into our events. It
// makes one connection per run, so it lists and calls and no more.

import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { emit, stopwatch } from "./report.mjs";
import { CannotSpeak } from "./wire.mjs";

const ERAS = { auto: "auto", session: "legacy", stateless: "modern" };
// Codes of its own for failures below HTTP.
const TRANSPORT = new Set(["unreachable", "timeout", "connect_timeout"]);

function methodArguments(options) {
  if (options.command === "list") return ["--method", "tools/list"];
  const args = ["--method", "tools/call", "--tool-name", options.tool];
  return [...args, "--tool-args-json", JSON.stringify(options.arguments)];
}

function execute(args, env, timeout) {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, args, { env, timeout, maxBuffer: 64 << 20 }, (error, stdout, stderr) =>
      resolve({ code: error ? (error.code ?? 3) : 0, stdout, stderr }),
    );
    child.stdin.end();
  });
}

// The last line that is JSON and has the member.
function lastJson(text, member) {
  for (const line of text.trim().split("\n").reverse()) {
    try {
      const value = JSON.parse(line);
      if (value && typeof value === "object" && member in value) return value[member];
    } catch {
      // A line for people.
    }
  }
  return undefined;
}

function reportResult(options, result, ms) {
  if (options.command === "list") {
    // It gathers the pages itself and does not tell how many there were.
    emit("tools", { tools: result.tools.map((tool) => tool.name), pages: null });
    return 0;
  }
  const text = result.content.filter((block) => block.type === "text").map((block) => block.text);
  emit("result", {
    tool: options.tool,
    isError: result.isError === true,
    text,
    structured: result.structuredContent ?? null,
    ms,
  });
  return result.isError === true ? 1 : 0;
}

function reportError(error, stderr) {
  const { code, message, status, cause, ...more } = error ?? { message: stderr.trim().slice(-500) };
  const transport = !error || TRANSPORT.has(code);
  const kind = transport ? "transport" : status === undefined ? "rpc" : "http";
  emit("error", { kind, message, code, status, cause, ...more });
  return transport ? 3 : 1;
}

export async function run(modules, version, options) {
  if (options.command !== "list" && options.command !== "call") {
    throw new CannotSpeak("the Inspector lists and calls; use another client");
  }
  const home = await mkdtemp(path.join(os.tmpdir(), "inspector-"));
  try {
    const preload = fileURLToPath(new URL("./inspector-preload.mjs", import.meta.url));
    const launcher = path.join(modules, "inspector", "clients", "launcher", "build", "index.js");
    const env = { ...process.env, HOME: home, PORTCULLIS_CLIENT_RESOLVE: JSON.stringify([...options.resolve]) };
    delete env.NODE_EXTRA_CA_CERTS;
    if (options.caFile) env.PORTCULLIS_CLIENT_CA = options.caFile;
    const ms = stopwatch();
    const { stdout, stderr } = await execute(
      [
        "--import", preload, launcher, "--cli", "--server-url", options.url.href, "--transport", "http",
        "--format", "json", "--quiet", "--stored-auth-only", "--connect-timeout", String(options.timeoutMs),
        "--protocol-era", ERAS[options.era],
        ...Object.entries(options.headers).flatMap(([name, value]) => ["--header", `${name}: ${value}`]),
        ...methodArguments(options),
      ],
      env,
      options.timeoutMs + 30_000,
    );
    const result = lastJson(stdout, "result");
    const client = { sdk: `inspector ${version("inspector")}`, era: null, protocol: null, server: null };
    if (result === undefined) return reportError(lastJson(stderr, "error"), stderr);
    emit("connected", client);
    return reportResult(options, result, ms());
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}
