// A real MCP client on the command line.
//
//   main.mjs typescript-sdk-1|typescript-sdk-2|inspector URL [options] COMMAND
//
// The packages are in PORTCULLIS_CLIENT_PACKAGES/node. Exit codes: 0 done,
// 1 refused or failed by the server, 2 wrong use, 3 no connection.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import * as commands from "./commands.mjs";
import { parse, Usage } from "./options.mjs";
import { emit } from "./report.mjs";
import * as steps from "./steps.mjs";
import { CannotSpeak, Recorder, refused, resolveAsTold, trust } from "./wire.mjs";

const SDKS = { "typescript-sdk-1": "./sdk1.mjs", "typescript-sdk-2": "./sdk2.mjs" };

async function run(sdk, options) {
  // A client that cannot answer must not say that it could: only in steps it is asked, and told.
  options.user = options.command === "steps" ? new steps.User(options.unasked) : undefined;
  if (options.command === "load") return commands.load(sdk, options);
  const recorder = new Recorder();
  let connection;
  try {
    connection = await sdk.connect(options, recorder);
    emit("connected", connection.info());
    const caller = new commands.Caller(sdk, connection, recorder);
    const run = options.command === "steps" ? steps.run : commands.COMMANDS[options.command];
    const code = await run(caller, options);
    await connection.close();
    if (recorder.ended !== undefined) emit("ended", { status: recorder.ended });
    return code;
  } catch (error) {
    if (error instanceof CannotSpeak) throw error;
    const problem = refused(error, recorder, sdk.isRpc);
    emit("error", problem.asEvent());
    await connection?.close().catch(() => {});
    return problem.kind === "transport" ? 3 : 1;
  }
}

async function main([name, ...args]) {
  const packages = process.env.PORTCULLIS_CLIENT_PACKAGES;
  if (!packages || !(name in SDKS || name === "inspector")) {
    throw new Usage("set PORTCULLIS_CLIENT_PACKAGES and name typescript-sdk-1, typescript-sdk-2 or inspector");
  }
  const options = parse(args);
  const modules = path.join(packages, "node", "node_modules", "@modelcontextprotocol");
  const version = (module) => JSON.parse(readFileSync(path.join(modules, module, "package.json"), "utf8")).version;
  if (name === "inspector") return (await import("./inspector.mjs")).run(modules, version, options);
  trust(options.ca);
  resolveAsTold(options.resolve);
  const { load } = await import(SDKS[name]);
  return run(load(createRequire(path.join(packages, "node", "package.json")), version), options);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof Usage || error instanceof CannotSpeak || error.code === "ENOENT")) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
// Pooled connections would keep the process for a while.
process.stdout.write("", () => process.exit());
