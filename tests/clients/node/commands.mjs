// What a client can be told to do, for either SDK. Each command prints events
// and answers with the exit code.

import { fstatSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { emit, Refused, stopwatch } from "./report.mjs";
import { CannotSpeak, Recorder, refused } from "./wire.mjs";

// Enough to see what went wrong; a load that fails all the time must not fill the disk.
const MOST_ERRORS_PRINTED = 100;

// Makes calls on a connection and turns what they raise into `Refused`.
export class Caller {
  constructor(sdk, connection, recorder) {
    this.sdk = sdk;
    this.connection = connection;
    this.recorder = recorder;
  }

  async #judged(work) {
    this.recorder.take();
    try {
      return await work();
    } catch (error) {
      throw this.refused(error);
    }
  }

  // What was thrown, in the one shape.
  refused(error) {
    return refused(error, this.recorder, this.sdk.isRpc);
  }

  async call(options, onprogress) {
    const ms = stopwatch();
    const result = await this.#judged(() => this.connection.call(options.tool, options.arguments, onprogress));
    return {
      tool: options.tool,
      isError: result.isError === true,
      text: result.content.filter((block) => block.type === "text").map((block) => block.text),
      structured: result.structuredContent ?? null,
      ms: ms(),
    };
  }

  page(cursor) {
    return this.#judged(() => this.connection.page(cursor));
  }
}

async function list(caller) {
  const tools = [];
  let pages = 0;
  let cursor;
  do {
    const [names, next] = await caller.page(cursor);
    tools.push(...names);
    cursor = next;
    pages += 1;
    if (pages === 1000) throw new Refused("rpc", "the list has no end");
  } while (cursor !== undefined);
  emit("tools", { tools, pages });
  return 0;
}

async function call(caller, options) {
  const answer = await caller.call(options);
  emit("result", answer);
  return answer.isError ? 1 : 0;
}

async function twice(caller, options) {
  return (await call(caller, options)) || (await call(caller, options));
}

async function progress(caller, options) {
  const ms = stopwatch();
  const answer = await caller.call(options, (step) =>
    emit("progress", { progress: step.progress, total: step.total ?? null, message: step.message ?? null, ms: ms() }),
  );
  emit("result", answer);
  return answer.isError ? 1 : 0;
}

// Calls until refused, waits as told, calls once more on the same connection.
async function limit(caller, options) {
  let ok = 0;
  let count = 0;
  let wait;
  for (let i = 0; i < options.number; i += 1) {
    try {
      ok += (await caller.call(options)).isError ? 0 : 1;
    } catch (error) {
      if (error.kind === "transport") throw error;
      count += 1;
      if (wait === undefined) emit("refused", error.asEvent());
      wait = error.retryAfter ?? wait ?? 1;
    }
  }
  let recovered = null;
  if (count > 0) {
    await sleep(Math.min(wait, options.patience) * 1000);
    try {
      recovered = !(await caller.call(options)).isError;
    } catch (error) {
      emit("refused", error.asEvent());
      recovered = false;
    }
  }
  emit("summary", { calls: options.number, ok, refused: count, retryAfter: wait ?? null, recovered });
  return recovered === false ? 1 : 0;
}

export const COMMANDS = { list, call, twice, progress, limit };

// Constant calls on connections of their own; one that breaks is made anew and counted.
export async function load(sdk, options) {
  const tally = { times: [], failed: 0, connections: 0 };
  const end = new AbortController();
  // The time runs from the first connection on: starting an SDK can take
  // seconds. A server that is never there must not keep the load for ever either.
  const timers = [setTimeout(() => end.abort(), options.number * 1000 + options.timeoutMs)];
  tally.connected = (info) => {
    tally.connections += 1;
    emit("connected", info);
    if (tally.connections === 1) timers.push(setTimeout(() => end.abort(), options.number * 1000));
  };
  endWithInput(end);
  await Promise.all(Array.from({ length: options.clients }, () => loadClient(sdk, options, tally, end.signal)));
  timers.forEach(clearTimeout);
  const times = tally.times.sort((a, b) => a - b);
  const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? null;
  emit("summary", {
    calls: times.length + tally.failed,
    ok: times.length,
    failed: tally.failed,
    connections: tally.connections,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: times.at(-1) ?? null,
  });
  return tally.failed > 0 || times.length === 0 ? 1 : 0;
}

function failed(tally, error) {
  tally.failed += 1;
  if (tally.failed <= MOST_ERRORS_PRINTED) emit("error", error.asEvent());
}

async function loadClient(sdk, options, tally, signal) {
  while (!signal.aborted) {
    const recorder = new Recorder();
    let connection;
    try {
      connection = await sdk.connect(options, recorder);
      tally.connected(connection.info());
      await callUntil(new Caller(sdk, connection, recorder), options, tally, signal);
    } catch (error) {
      if (error instanceof CannotSpeak) throw error;
      failed(tally, refused(error, recorder, sdk.isRpc));
      await sleep(200);
    } finally {
      await connection?.close().catch(() => {});
    }
  }
}

async function callUntil(caller, options, tally, signal) {
  while (!signal.aborted) {
    try {
      const answer = await caller.call(options);
      if (answer.isError) failed(tally, new Refused("tool", answer.text.join(" ")));
      else tally.times.push(answer.ms);
    } catch (error) {
      if (error.kind === "transport") throw error;
      failed(tally, error);
    }
    if (options.pauseMs) await sleep(options.pauseMs);
  }
}

// A parent that goes away, or closes its pipe, ends the load; any other input leaves it to the time.
function endWithInput(end) {
  if (!fstatSync(0).isFIFO()) return;
  process.stdin.on("end", () => end.abort());
  process.stdin.on("error", () => {});
  process.stdin.resume();
  process.stdin.unref();
}
