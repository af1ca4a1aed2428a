// A front that gives each request to the next replica and keeps nothing back.

import http from "node:http";
import { once } from "node:events";

const HOP_BY_HOP = new Set(["connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"]);

function passed(rawHeaders) {
  const kept = [];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (!HOP_BY_HOP.has(rawHeaders[index].toLowerCase())) kept.push(rawHeaders[index], rawHeaders[index + 1]);
  }
  return kept;
}

export async function openFront(ports) {
  const agent = new http.Agent({ keepAlive: true });
  let turn = 0;
  const server = http.createServer((request, response) => {
    const port = ports[turn++ % ports.length];
    const { method, url: path } = request;
    const out = http.request({ agent, host: "127.0.0.1", port, method, path, headers: passed(request.rawHeaders) });
    out.on("response", (answer) => {
      response.writeHead(answer.statusCode, passed(answer.rawHeaders));
      response.flushHeaders();
      answer.on("error", () => response.destroy());
      answer.pipe(response);
    });
    out.on("error", (error) => {
      if (response.headersSent) response.destroy();
      else response.writeHead(502, { "content-type": "text/plain" }).end(`front: ${error.message}`);
    });
    // Whoever leaves is gone for the replica too.
    response.on("close", () => out.destroy());
    request.pipe(out);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: server.address().port,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      agent.destroy();
    },
  };
}
