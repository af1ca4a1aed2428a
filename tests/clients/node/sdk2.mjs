// The TypeScript SDK `@modelcontextprotocol/client` 2.x: both eras. Its own
// default is to open a session; `auto` here asks first, as its users can.

const MODERN = "2026-07-28";
const MODES = { auto: "auto", session: "legacy", stateless: { pin: MODERN } };

export function load(require, version) {
  const { Client, StreamableHTTPClientTransport, ProtocolError } = require("@modelcontextprotocol/client");

  async function connect(options, recorder) {
    const transport = new StreamableHTTPClientTransport(options.url, {
      fetch: recorder.fetch,
      requestInit: { headers: options.headers },
    });
    const client = new Client(
      { name: "portcullis-test-client", version: "1" },
      { versionNegotiation: { mode: MODES[options.era] } },
    );
    client.onerror = () => {};
    const limits = { timeout: options.timeoutMs };
    await client.connect(transport, limits);
    const server = client.getServerVersion();
    return {
      info: () => ({
        sdk: `typescript @modelcontextprotocol/client ${version("client")}`,
        era: client.getProtocolEra() === "modern" ? "stateless" : "session",
        protocol: client.getNegotiatedProtocolVersion(),
        server: server ? { name: server.name, version: server.version } : null,
      }),
      // With a cursor the SDK asks for one page; without one it would gather all.
      async page(cursor) {
        const result = await client.request({ method: "tools/list", params: cursor === undefined ? {} : { cursor } }, limits);
        return [result.tools.map((tool) => tool.name), result.nextCursor];
      },
      call: (name, args, onprogress) => client.callTool({ name, arguments: args }, { ...limits, onprogress }),
      async close() {
        if (transport.sessionId) await transport.terminateSession();
        await client.close();
      },
    };
  }
  return { connect, isRpc: (error) => ProtocolError.isInstance(error) };
}
