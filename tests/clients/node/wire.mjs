// What both SDKs need below MCP: trust, names, and a note of what HTTP answered.

import dns from "node:dns";
import tls from "node:tls";

import { Refused } from "./report.mjs";

export class CannotSpeak extends Error {}

// Only the given CA, or what Node trusts.
export function trust(ca) {
  if (ca) tls.setDefaultCACertificates([ca]);
}

// Answers look-ups of these names by hand, as curl's --resolve does.
export function resolveAsTold(known) {
  if (known.size === 0) return;
  const original = dns.lookup;
  dns.lookup = (host, ...rest) => original(known.get(host.toLowerCase()) ?? host, ...rest);
}

// Notes the newest HTTP failure and the answer to DELETE: the SDKs report some
// failures in words of their own.
export class Recorder {
  #failure;
  ended;

  fetch = async (url, init) => {
    const response = await fetch(url, init);
    const method = init?.method ?? "GET";
    if (method === "DELETE") this.ended = response.status;
    if (method === "POST" && response.status >= 400) {
      this.#failure = {
        status: response.status,
        retryAfter: response.headers.get("retry-after"),
        challenge: response.headers.get("www-authenticate"),
        rpc: rpcError(await response.clone().text()),
      };
    }
    return response;
  };

  take() {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }
}

function rpcError(body) {
  try {
    const error = JSON.parse(body)?.error;
    return error !== null && typeof error === "object" ? error : undefined;
  } catch {
    return undefined;
  }
}

function innermost(error) {
  let inner = error;
  while (inner?.cause instanceof Error) inner = inner.cause;
  return inner;
}

// One shape for what an SDK raised; `isRpc` knows the SDK's own error class.
export function refused(error, recorder, isRpc) {
  if (error instanceof Refused) return error;
  const failure = recorder.take();
  if (failure?.rpc) {
    const { rpc, ...http } = failure;
    return new Refused("rpc", String(rpc.message), { code: rpc.code, data: rpc.data, ...http });
  }
  if (failure) return new Refused("http", `HTTP status ${failure.status}`, failure);
  if (isRpc(error)) {
    return new Refused("rpc", error.message.replace(/^MCP error -?\d+: /, ""), { code: error.code, data: error.data });
  }
  const inner = innermost(error);
  return new Refused("transport", `${inner?.name ?? "Error"}: ${inner?.message ?? error}`, {
    cause: typeof inner?.code === "string" ? inner.code : undefined,
  });
}
