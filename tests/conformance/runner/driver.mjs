// The client under test of the client legs: started by the suite once per scenario, with the address of the
// scenario's server as its last argument. With PORTCULLIS_CONFORMANCE_CONTROL it goes there through a gateway.

import { client as load } from "./packages.mjs";

const STATELESS = "2026-07-28";
const upstream = process.argv.at(-1);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const stateless = process.env.PORTCULLIS_CONFORMANCE_DRIVER === STATELESS;
const control = process.env.PORTCULLIS_CONFORMANCE_CONTROL;

const { Client, StreamableHTTPClientTransport } = load();

async function gateway(method) {
  const response = await fetch(`${control}?upstream=${encodeURIComponent(upstream)}`, { method });
  const text = await response.text();
  if (!response.ok) throw new Error(`no gateway: ${text}`);
  return text;
}

function create() {
  const client = new Client(
    { name: "portcullis-conformance-driver", version: "1" },
    {
      capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
      versionNegotiation: { mode: stateless ? { pin: STATELESS } : "legacy" },
    },
  );
  client.setRequestHandler("elicitation/create", async ({ params }) => ({
    action: "accept",
    content: "confirmed" in params.requestedSchema.properties ? { confirmed: true } : {},
  }));
  client.setRequestHandler("sampling/createMessage", async () => ({
    role: "assistant",
    model: "none",
    content: { type: "text", text: "sampled" },
  }));
  client.setRequestHandler("roots/list", async () => ({ roots: [] }));
  return client;
}

// What the scenarios want to be called with; others are called by their schemas.
function calls(tools) {
  if (context.toolCalls) return context.toolCalls;
  const rich = tools.find(({ name }) => name === "json_schema_2020_12_tool");
  const known = {
    add_numbers: { a: 5, b: 3 },
    json_schema_echo: { schema: rich?.inputSchema },
  };
  return tools
    .filter((tool) => tool !== rich)
    .map(({ name, inputSchema }) => ({ name, arguments: known[name] ?? sample(inputSchema) }));
}

function sample({ properties = {}, required = [] }) {
  const values = { string: "text", number: 1, integer: 1, boolean: true, object: {}, array: [] };
  return Object.fromEntries(required.map((name) => [name, values[properties[name]?.type] ?? "text"]));
}

// A failure of one step must not keep the others from being looked at.
async function step(what, run) {
  try {
    return await run();
  } catch (error) {
    process.stderr.write(`${scenario}: ${what}: ${error.stack}\n`);
    process.exitCode = 1;
    return undefined;
  }
}

async function drive(url) {
  const client = create();
  await client.connect(new StreamableHTTPClientTransport(new URL(url)), { timeout: 10_000 });
  const can = client.getServerCapabilities() ?? {};
  const limits = { timeout: 10_000 };
  if (can.tools || scenario === "initialize") {
    const { tools = [] } = (await step("tools/list", () => client.listTools({}, limits))) ?? {};
    if (scenario === "json-schema-ref-no-deref") return client.close();
    for (const call of calls(tools)) await step(`tools/call ${call.name}`, () => client.callTool(call, limits));
  }
  if (can.resources) {
    const { resources = [] } = (await step("resources/list", () => client.listResources({}, limits))) ?? {};
    for (const { uri } of resources) await step(`resources/read ${uri}`, () => client.readResource({ uri }, limits));
  }
  if (can.prompts) {
    const { prompts = [] } = (await step("prompts/list", () => client.listPrompts({}, limits))) ?? {};
    for (const { name } of prompts) await step(`prompts/get ${name}`, () => client.getPrompt({ name }, limits));
  }
  return client.close();
}

await step("drive", async () => {
  const url = control ? await gateway("POST") : upstream;
  try {
    await drive(url);
  } finally {
    if (control) await gateway("DELETE");
  }
});
process.exit();
