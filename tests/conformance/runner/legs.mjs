// The legs: what is run, and what it is compared with.

import { once } from "node:events";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { openGateway } from "./gateway.mjs";
import { end, start, until } from "./processes.mjs";
import { clientLeg, serverLeg } from "./suite.mjs";

const SESSIONS = "2025-11-25";
const STATELESS = "2026-07-28";
const file = (name) => fileURLToPath(new URL(name, import.meta.url));

// `eras` is what the fixture speaks, `replicas` how many gateways stand before it.
const server = (revision, eras, replicas, what) => ({ kind: "server", revision, eras, replicas, what });

// The suite's servers speak `revision`, the driver speaks `driver`.
const client = (revision, driver, what) => ({ kind: "client", revision, driver, what });

export const LEGS = {
  "plain-2025": server(SESSIONS, "both", 1, "the server set of 2025-11-25 through one gateway"),
  "plain-2026": server(STATELESS, "both", 1, "the server set of 2026-07-28 through one gateway"),
  "replicas-2025": server(SESSIONS, "both", 2, "the same through two replicas, request by request in turn"),
  "replicas-2026": server(STATELESS, "both", 2, "the same through two replicas, request by request in turn"),
  "sessions-2025": server(SESSIONS, "session", 1, "the server set of 2025-11-25 with a server that knows only sessions: nothing to bridge"),
  "bridged-2025": server(SESSIONS, "stateless", 1, "the server set of 2025-11-25 with a server that knows no sessions behind the gateway"),
  "bridged-2026": server(STATELESS, "session", 1, "the server set of 2026-07-28 with a server that knows only sessions behind the gateway"),
  "client-2025": client(SESSIONS, SESSIONS, "the client set of 2025-11-25, less OAuth, with the gateway in between"),
  "client-2026": client(STATELESS, STATELESS, "the client set of 2026-07-28, less OAuth, with the gateway in between"),
  "client-bridged-2025": client(SESSIONS, STATELESS, "the client set of 2025-11-25 with a stateless client before the gateway"),
  "client-bridged-2026": client(STATELESS, SESSIONS, "the client set of 2026-07-28 with a client of sessions before the gateway"),
};

// What a leg is compared with: the same revision and role without a gateway.
export const baseline = ({ kind, revision }) => `direct-${kind}-${revision.slice(0, 4)}`;

export async function runBaseline({ kind, revision }, folder, progress) {
  if (kind === "client") return runClients({ revision, driver: revision, folder, progress, through: false });
  return withFixture("both", folder, (url) => serverLeg({ folder, url, revision, progress }));
}

export async function runLeg(leg, folder, progress) {
  const { kind, revision, eras, replicas } = leg;
  if (kind === "client") return runClients({ revision, driver: leg.driver, folder, progress, through: true });
  return withFixture(eras, folder, async (upstream) => {
    const gateway = await openGateway(folder, upstream, replicas);
    try {
      return await serverLeg({ folder, url: gateway.url, revision, progress });
    } finally {
      await gateway.close();
    }
  });
}

async function withFixture(eras, folder, use) {
  let url;
  const child = start(process.execPath, [file("../fixture/main.mjs"), "--eras", eras], {
    log: path.join(folder, "fixture.log"),
    lines: (line) => {
      url ??= JSON.parse(line).url;
    },
  });
  try {
    await until("the fixture", 15_000, () => url);
    return await use(url);
  } finally {
    await end(child);
  }
}

// The suite starts the driver once per scenario, with the address of a server of its own. The driver
// asks here for a gateway before it, so that the gateway belongs to this process.
async function runClients({ revision, driver, folder, progress, through }) {
  const gateways = new Map();
  let count = 0;
  const control = http.createServer(async (request, response) => {
    const upstream = new URL(request.url, "http://control").searchParams.get("upstream");
    try {
      if (request.method === "DELETE") {
        await gateways.get(upstream)?.close();
        gateways.delete(upstream);
        response.writeHead(204).end();
      } else {
        const gateway = await openGateway(path.join(folder, `gateway-${++count}`), upstream);
        gateways.set(upstream, gateway);
        response.end(gateway.url);
      }
    } catch (error) {
      response.writeHead(502).end(error.message);
    }
  });
  control.listen(0, "127.0.0.1");
  await once(control, "listening");
  const env = { PORTCULLIS_CONFORMANCE_DRIVER: driver };
  if (through) env.PORTCULLIS_CONFORMANCE_CONTROL = `http://127.0.0.1:${control.address().port}/`;
  try {
    return await clientLeg({ folder, revision, command: `${process.execPath} ${file("driver.mjs")}`, env, progress });
  } finally {
    control.closeAllConnections();
    control.close();
    await Promise.all([...gateways.values()].map((gateway) => gateway.close()));
  }
}
