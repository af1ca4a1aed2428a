// The command `steps`: one thing after another on one connection. Each step
// prints its events, then `step`; one that fails does not end the others, so
// that what a refusal does to a connection can be seen.

import { setTimeout as sleep } from "node:timers/promises";

import { emit } from "./report.mjs";

export const texts = (blocks) => blocks.filter(({ type }) => type === "text").map(({ text }) => text);

// Who is asked and told: what the SDK's handlers reach.
export class User {
  content;
  logs = [];
  news = [];

  constructor(unasked) {
    this.unasked = unasked;
    this.capabilities = unasked ? {} : { elicitation: { form: {} }, sampling: {} };
  }

  // Accepts with what the step has, or declines.
  asked(message) {
    emit("asked", { message });
    return this.content === undefined ? { action: "decline" } : { action: "accept", content: this.content };
  }

  sampled(messages) {
    const { content } = messages[0];
    const message = Array.isArray(content) ? content[0].text : content.text;
    emit("sampled", { message });
    return { role: "assistant", model: "none", content: { type: "text", text: `no ${message}` } };
  }

  logged({ level, data }) {
    this.logs.push({ level, data });
  }

  told(method, uri) {
    this.news.push({ method, uri: uri ?? null });
  }
}

const toolOf = ({ tool, arguments: args }) => ({ tool, arguments: args ?? {} });

async function until(seconds, condition) {
  const end = Date.now() + seconds * 1000;
  while (!condition() && Date.now() < end) await sleep(20);
}

const STEPS = {
  async list(caller) {
    const tools = [];
    let cursor;
    for (let page = 0; page < 100; page += 1) {
      const [names, next] = await caller.page(cursor);
      tools.push(...names);
      cursor = next;
      if (cursor === undefined) break;
    }
    emit("tools", { tools });
  },
  async call(caller, _user, step) {
    emit("result", await caller.call(toolOf(step)));
  },
  async progress(caller, _user, step) {
    const show = ({ progress, total, message }) =>
      emit("progress", { progress, total: total ?? null, message: message ?? null });
    emit("result", await caller.call(toolOf(step), show));
  },
  // A call during which the user is asked, and gives `content` or, without it, declines.
  async answer(caller, user, step) {
    user.content = step.content;
    emit("result", await caller.call(toolOf(step)));
  },
  async prompts({ connection }) {
    emit("prompts", { prompts: await connection.prompts() });
  },
  async prompt({ connection }, _user, step) {
    emit("prompt", { text: await connection.prompt(step.name, step.arguments ?? {}) });
  },
  async resources({ connection }) {
    const [uris, templates] = await connection.resources();
    emit("resources", { uris, templates });
  },
  async read({ connection }, _user, step) {
    emit("resource", { text: await connection.read(step.uri) });
  },
  async complete({ connection }, _user, { prompt, template, argument: name, value }) {
    const ref = prompt ? { type: "ref/prompt", name: prompt } : { type: "ref/resource", uri: template };
    emit("completion", { values: await connection.complete(ref, { name, value }) });
  },
  // A call, and the log messages of `level` and above that come with it.
  async logs({ connection }, user, step) {
    await connection.logLevel(step.level);
    user.logs.length = 0;
    await connection.call(step.tool, step.arguments ?? {}, undefined, step.level);
    await until(step.wait ?? 5, () => user.logs.length > 0);
    emit("logs", { messages: user.logs });
  },
  // Listens, calls, and waits until each method in `for` has been heard of.
  async listen({ connection }, user, step) {
    user.news.length = 0;
    const close = await connection.listen(step.uri);
    await connection.call(step.tool, step.arguments ?? {});
    await until(step.wait ?? 10, () => step.for.every((wanted) => user.news.some(({ method }) => method === wanted)));
    emit("news", { news: user.news });
    await close();
  },
  // `refused` is called `times` times while `tool` works: whatever comes of it, the other call must go on.
  async beside(caller, _user, step) {
    let done = false;
    const slow = caller.connection.call(step.tool, step.arguments ?? {}).finally(() => (done = true));
    slow.catch(() => {});
    await sleep((step.after ?? 0.1) * 1000);
    const refusals = [];
    for (let count = 0; count < (step.times ?? 1); count += 1) {
      try {
        await caller.call({ tool: step.refused, arguments: step.refusedArguments ?? {} });
      } catch (error) {
        refusals.push(error.asEvent());
      }
    }
    const unfinished = !done;
    const result = await slow;
    emit("beside", { refusals, unfinished, result: { isError: result.isError === true, text: texts(result.content) } });
  },
};

export async function run(caller, options) {
  let failed = 0;
  for (const [number, step] of options.steps.entries()) {
    const late = new AbortController();
    try {
      if (!(step.do in STEPS)) throw new Error(`no such step: ${step.do}`);
      const limit = sleep(options.timeoutMs, undefined, { signal: late.signal }).then(() => {
        throw new Error("the step took too long");
      });
      limit.catch(() => {});
      await Promise.race([STEPS[step.do](caller, options.user, step), limit]);
      emit("step", { number, ok: true });
    } catch (error) {
      failed += 1;
      emit("error", caller.refused(error).asEvent());
      emit("step", { number, ok: false });
    } finally {
      late.abort();
    }
  }
  return failed > 0 ? 1 : 0;
}
