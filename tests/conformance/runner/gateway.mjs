// The gateway before one MCP server, on loopback: alone, or as replicas behind a front.

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { randomBytes } from "node:crypto";

import { openFront } from "./front.mjs";
import { end, freePort, start, until } from "./processes.mjs";

const READY_MS = 20_000;
const PEERS = "replicas.portcullis.test";

// Open to everybody on this machine: what is tested is the protocol, and the suite has no credential.
function configuration({ publicPort, frontPort, adminPort, statusPort, upstream, peer }) {
  const port = frontPort ?? publicPort;
  return {
    formatVersion: 1,
    gateway: {
      id: "conformance",
      name: "conformance",
      namespace: "conformance",
      profile: "Development",
      // As the suite calls it; its origin, too, is then one of ours.
      publicHost: `127.0.0.1:${port}`,
    },
    listen: {
      public: { address: `127.0.0.1:${publicPort}`, plaintext: { reason: "loopback only" } },
      metrics: `127.0.0.1:${adminPort}`,
      status: { address: `127.0.0.1:${statusPort}` },
      ...(peer ? { peer } : {}),
    },
    ...(peer ? { sessionKeys: { sealWith: "k1", keys: [{ id: "k1", file: "session-key" }] } } : {}),
    auth: { anonymous: { reason: "the suite has no credential" } },
    rules: [
      {
        name: "everything",
        action: "Allow",
        principals: { method: "anonymous" },
        servers: ["*"],
        tools: ["*"],
        prompts: ["*"],
        resources: ["*"],
      },
    ],
    features: {
      prompts: true,
      resources: true,
      completions: true,
      elicitation: true,
      sampling: true,
      roots: true,
      logging: true,
      subscriptions: true,
    },
    limits: { maxSessionsPerClient: 1000, maxStreamsPerClient: 1000 },
    servers: [
      { name: "fixture", namespace: "conformance", prefix: "fixture", url: upstream, addressPolicy: "Loopback" },
    ],
    telemetry: { logLevel: "info" },
    shutdown: { grace: "0s", deadline: "2s" },
  };
}

async function process_(folder, name, config, { hosts, address }) {
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${name}.yaml`);
  writeFileSync(file, JSON.stringify(config, null, 1));
  const serve = [process.env.PORTCULLIS_GATEWAY, "serve", "--config", file];
  // A hosts file of its own, in a mount namespace of its own, tells a replica where the others are.
  const [command, ...args] = hosts
    ? ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, ...serve]
    : serve;
  const child = start(command, args, {
    log: path.join(folder, `${name}.log`),
    env: address ? { POD_IP: address } : {},
  });
  let gone = false;
  child.ended.finally(() => (gone = true)).catch(() => {});
  try {
    await until(`${name} before ${config.servers[0].url}`, READY_MS, async () => {
      if (gone) return true;
      const ready = await fetch(`http://${config.listen.metrics}/readyz`);
      if (!ready.ok) return false;
      const status = await (await fetch(`http://${config.listen.status.address}/status`)).json();
      return status.servers.every((server) => server.verified);
    });
  } catch (error) {
    await end(child);
    throw error;
  }
  if (gone) throw new Error(`${name} ended at once: see ${path.join(folder, name)}.log`);
  return child;
}

// Opens `count` replicas; with more than one there is a front. `url` is where the server is then found.
export async function openGateway(folder, upstream, count = 1) {
  const children = [];
  let front;
  const close = async () => {
    await front?.close();
    await Promise.all(children.map((child) => end(child)));
  };
  try {
    if (count > 1) {
      // Ports first: the front's stands in every replica's configuration.
      const publicPorts = [];
      for (let index = 0; index < count; index++) publicPorts.push(await freePort());
      front = await openFront(publicPorts);
      const peerPort = await freePort("127.0.7.1");
      const addresses = publicPorts.map((_, index) => `127.0.7.${index + 1}`);
      mkdirSync(folder, { recursive: true });
      writeFileSync(path.join(folder, "session-key"), randomBytes(32));
      const hosts = path.join(folder, "hosts");
      writeFileSync(hosts, `127.0.0.1 localhost\n${addresses.map((address) => `${address} ${PEERS}\n`).join("")}`);
      for (const [index, publicPort] of publicPorts.entries()) {
        const config = configuration({
          publicPort,
          frontPort: front.port,
          adminPort: await freePort(),
          statusPort: await freePort(),
          upstream,
          peer: { address: `${addresses[index]}:${peerPort}`, service: PEERS },
        });
        children.push(await process_(folder, `gateway-${index + 1}`, config, { hosts, address: addresses[index] }));
      }
      // Each asks once a second who the others are.
      await new Promise((done) => setTimeout(done, 1500));
      return { url: `http://127.0.0.1:${front.port}/servers/fixture/mcp`, close };
    }
    const publicPort = await freePort();
    const config = configuration({ publicPort, adminPort: await freePort(), statusPort: await freePort(), upstream });
    children.push(await process_(folder, "gateway", config, {}));
    return { url: `http://127.0.0.1:${publicPort}/servers/fixture/mcp`, close };
  } catch (error) {
    await close();
    throw error;
  }
}
