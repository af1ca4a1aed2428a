// The TypeScript SDK `@modelcontextprotocol/sdk` 1.x: knows only sessions.

import { CannotSpeak } from "./wire.mjs";

export function load(require, version) {
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { ListToolsResultSchema, McpError } = require("@modelcontextprotocol/sdk/types.js");

  async function connect(options, recorder) {
    if (options.era === "stateless") throw new CannotSpeak("this SDK knows only sessions");
    const transport = new StreamableHTTPClientTransport(options.url, {
      fetch: recorder.fetch,
      requestInit: { headers: options.headers },
    });
    const client = new Client({ name: "portcullis-test-client", version: "1" });
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
      async close() {
        if (transport.sessionId) await transport.terminateSession();
        await client.close();
      },
    };
  }
  return { connect, isRpc: (error) => error instanceof McpError };
}
