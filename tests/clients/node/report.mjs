// What a client prints: one JSON object a line, the same for every client.

// A call that came back as an error, whoever raised it, in one shape. `kind` is
// `rpc` for a JSON-RPC error that the server sent, `http` for an HTTP status
// without one, `transport` for everything below that.
export class Refused extends Error {
  constructor(kind, message, details = {}) {
    super(message);
    this.kind = kind;
    this.details = Object.fromEntries(Object.entries(details).filter(([, value]) => value != null));
  }

  // Seconds to wait, by the header or by the error's data.
  get retryAfter() {
    const value = Number(this.details.retryAfter ?? this.details.data?.retryAfter ?? Number.NaN);
    return Number.isFinite(value) ? value : undefined;
  }

  asEvent() {
    return { kind: this.kind, message: this.message, ...this.details };
  }
}

export function emit(event, members) {
  process.stdout.write(`${JSON.stringify({ event, ...members })}\n`);
}

export function stopwatch() {
  const start = performance.now();
  return () => Math.round(performance.now() - start);
}
