// The TypeScript SDK `@modelcontextprotocol/sdk` 1.x: knows only sessions.

import { texts } from "./steps.mjs";
import { CannotSpeak } from "./wire.mjs";

export function load(require, version) {
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const types = require("@modelcontextprotocol/sdk/types.js");
  const { ListToolsResultSchema, McpError } = types;

  function hear(client, user) {
    if (!user.unasked) {
      client.setRequestHandler(types.ElicitRequestSchema, async ({ params }) => user.asked(params.message));
      client.setRequestHandler(types.CreateMessageRequestSchema, async ({ params }) => user.sampled(params.messages));
    }
    client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => user.logged(params));
    for (const schema of [
      types.ToolListChangedNotificationSchema,
      types.PromptListChangedNotificationSchema,
      types.ResourceListChangedNotificationSchema,
      types.ResourceUpdatedNotificationSchema,
    ]) {
      client.setNotificationHandler(schema, ({ method, params }) => user.told(method, params?.uri));
    }
  }

  async function connect(options, recorder) {
    if (options.era === "stateless") throw new CannotSpeak("this SDK knows only sessions");
    const transport = new StreamableHTTPClientTransport(options.url, {
      fetch: recorder.fetch,
      requestInit: { headers: options.headers },
    });
    const client = new Client({ name: "portcullis-test-client", version: "1" }, { capabilities: options.user?.capabilities ?? {} });
    if (options.user) hear(client, options.user);
    client.onerror = () => {};
    const limits = { timeout: options.timeoutMs };
    await client.connect(transport, limits);
    const server = client.getServerVersion();
    return {
      info: () => ({
        sdk: `typescript @modelcontextprotocol/sdk ${version("sdk")}`,
        era: "session",
        protocol: transport.protocolVersion,
        server: server ? { name: server.name, version: server.version } : null,
      }),
      async page(cursor) {
        const params = cursor === undefined ? {} : { cursor };
        const result = await client.request({ method: "tools/list", params }, ListToolsResultSchema, limits);
        return [result.tools.map((tool) => tool.name), result.nextCursor];
      },
      call: (tool, args, onprogress) =>
        client.callTool({ name: tool, arguments: args }, undefined, { ...limits, onprogress }),
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
        return (await client.readResource({ uri }, limits)).contents.map(({ text }) => text);
      },
      async complete(ref, argument) {
        return (await client.complete({ ref, argument }, limits)).completion.values;
      },
      logLevel: (level) => client.setLoggingLevel(level, limits),
      // News come to the session's handlers; only a resource has to be asked for.
      async listen(uri) {
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
  return { connect, isRpc: (error) => error instanceof McpError };
}
