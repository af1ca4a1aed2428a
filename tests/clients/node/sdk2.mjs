// The TypeScript SDK `@modelcontextprotocol/client` 2.x: both eras. Its own
// default is to open a session; `auto` here asks first, as its users can.

import { texts } from "./steps.mjs";

const LOG_LEVEL = "io.modelcontextprotocol/logLevel";
const MODERN = "2026-07-28";
const MODES = { auto: "auto", session: "legacy", stateless: { pin: MODERN } };

export function load(require, version) {
  const { Client, StreamableHTTPClientTransport, ProtocolError } = require("@modelcontextprotocol/client");

  function hear(client, user) {
    if (!user.unasked) {
      client.setRequestHandler("elicitation/create", async ({ params }) => user.asked(params.message));
      client.setRequestHandler("sampling/createMessage", async ({ params }) => user.sampled(params.messages));
    }
    client.setNotificationHandler("notifications/message", ({ params }) => user.logged(params));
    for (const kind of ["tools/list_changed", "prompts/list_changed", "resources/list_changed", "resources/updated"]) {
      client.setNotificationHandler(`notifications/${kind}`, ({ method, params }) => user.told(method, params?.uri));
    }
  }

  async function connect(options, recorder) {
    const transport = new StreamableHTTPClientTransport(options.url, {
      fetch: recorder.fetch,
      requestInit: { headers: options.headers },
    });
    const client = new Client(
      { name: "portcullis-test-client", version: "1" },
      { versionNegotiation: { mode: MODES[options.era] }, capabilities: options.user?.capabilities ?? {} },
    );
    if (options.user) hear(client, options.user);
    client.onerror = () => {};
    const limits = { timeout: options.timeoutMs };
    await client.connect(transport, limits);
    const modern = client.getProtocolEra() === "modern";
    const server = client.getServerVersion();
    return {
      info: () => ({
        sdk: `typescript @modelcontextprotocol/client ${version("client")}`,
        era: modern ? "stateless" : "session",
        protocol: client.getNegotiatedProtocolVersion(),
        server: server ? { name: server.name, version: server.version } : null,
      }),
      // With a cursor the SDK asks for one page; without one it would gather all.
      async page(cursor) {
        const result = await client.request({ method: "tools/list", params: cursor === undefined ? {} : { cursor } }, limits);
        return [result.tools.map((tool) => tool.name), result.nextCursor];
      },
      call(name, args, onprogress, logLevel) {
        const _meta = modern && logLevel ? { _meta: { [LOG_LEVEL]: logLevel } } : {};
        return client.callTool({ name, arguments: args, ..._meta }, { ...limits, onprogress });
      },
      async prompts() {
        return (await client.listPrompts({}, limits)).prompts.map(({ name }) => name);
      },
      async prompt(name, args) {
        return texts((await client.getPrompt({ name, arguments: args }, limits)).messages.map(({ content }) => content));
      },
      async resources() {
        const { resources } = await client.listResources({}, limits);
        const { resourceTemplates } = await client.listResourceTemplates({}, limits);
        return [resources.map(({ uri }) => uri), resourceTemplates.map(({ uriTemplate }) => uriTemplate)];
      },
      async read(uri) {
        return (await client.readResource({ uri }, { ...limits, cacheMode: "reload" })).contents.map(({ text }) => text);
      },
      async complete(ref, argument) {
        return (await client.complete({ ref, argument }, limits)).completion.values;
      },
      // In the stateless era each call says it for itself.
      async logLevel(level) {
        if (!modern) await client.setLoggingLevel(level, limits);
      },
      async listen(uri) {
        if (modern) {
          const news = await client.listen({ toolsListChanged: true, ...(uri ? { resourceSubscriptions: [uri] } : {}) }, limits);
          return () => news.close();
        }
        if (uri) await client.subscribeResource({ uri }, limits);
        return async () => {
          if (uri) await client.unsubscribeResource({ uri }, limits);
        };
      },
      async close() {
        if (transport.sessionId) await transport.terminateSession();
        await client.close();
      },
    };
  }
  return { connect, isRpc: (error) => ProtocolError.isInstance(error) };
}
