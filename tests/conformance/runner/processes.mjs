// Processes that are never left behind: whoever starts one here gets it ended with the runner.

import { spawn } from "node:child_process";
import { createWriteStream, existsSync } from "node:fs";
import { once } from "node:events";
import net from "node:net";

const running = new Set();
// Has the kernel end them where the runner cannot: when it is killed outright.
const BOUND = existsSync("/usr/bin/setpriv") ? ["/usr/bin/setpriv", "--pdeathsig", "KILL"] : [];

// Output goes to the file `log`; `lines` gets standard output line by line too.
export function start(command, args, { log, env = {}, lines } = {}) {
  const [program, ...words] = [...BOUND, command, ...args];
  const child = spawn(program, words, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
  running.add(child);
  child.ended = once(child, "close").finally(() => running.delete(child));
  child.ended.catch(() => {});
  child.stdin.on("error", () => {});
  const file = createWriteStream(log, { flags: "a" });
  child.stderr.pipe(file, { end: false });
  child.stdout.pipe(file, { end: false });
  child.once("close", () => file.end());
  if (lines) {
    let rest = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop();
      parts.forEach(lines);
    });
  }
  return child;
}

// Asks it to end, then makes it.
export async function end(child, patienceMs = 3000) {
  if (!running.has(child)) return;
  child.kill("SIGTERM");
  const hard = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await child.ended.catch(() => {});
  clearTimeout(hard);
}

// Runs to its end, or to the deadline: then the exit code is null.
export async function finish(child, deadlineMs) {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end(child);
  }, deadlineMs);
  const [code] = await child.ended;
  clearTimeout(timer);
  return late ? null : code;
}

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(2));

export async function until(what, deadlineMs, probe) {
  const deadline = Date.now() + deadlineMs;
  for (let last; ; ) {
    try {
      const found = await probe();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${deadlineMs} ms${last ? ` (${last.message})` : ""}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export async function freePort(host = "127.0.0.1") {
  const server = net.createServer().listen(0, host);
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
