"""A proxy that says no, in the ways a gateway does.

It stands between a client and a server so that what the clients make of a
refusal can be checked without a gateway.
"""

import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODERN = "2026-07-28"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class Rules:
    """Which calls pass: `burst` of them, then none for `pause` seconds."""

    def __init__(self, token: str | None = None, burst: int | None = None, pause: float = 1.0):
        self.token = token
        self.burst = burst
        self.pause = pause
        self._left = burst
        self._closed_at: float | None = None
        self._lock = threading.Lock()

    def pass_call(self) -> bool:
        if self.burst is None:
            return True
        with self._lock:
            if self._closed_at is not None and time.monotonic() - self._closed_at >= self.pause:
                self._left, self._closed_at = self.burst, None
            if self._left == 0:
                self._closed_at = self._closed_at or time.monotonic()
                return False
            self._left -= 1
            return True


def start(upstream_port: int, rules: Rules) -> ThreadingHTTPServer:
    """Serves on a free loopback port until shut down."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _refuse_call(self, message: dict) -> None:
            error = {"code": 4290, "message": "too many calls", "data": {"reason": "RateLimited", "retryAfter": rules.pause}}
            body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode()
            headers = {"Content-Type": "application/json", "Retry-After": str(round(rules.pause))}
            # The stateless era has the status; in a session it would end the older SDKs' connection.
            stateless = self.headers.get("Mcp-Protocol-Version") == MODERN
            self._answer(429 if stateless else 200, body, headers)

        def _relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if rules.token and self.headers.get("Authorization") != f"Bearer {rules.token}":
                self._answer(401, b"", {"WWW-Authenticate": 'Bearer resource_metadata="http://127.0.0.1/x"'})
                return
            message = json.loads(body) if body else {}
            if message.get("method") == "tools/call" and not rules.pass_call():
                self._refuse_call(message)
                return
            upstream = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            upstream.request(self.command, self.path, body or None, headers)
            response = upstream.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := response.read1(65536):
                self.wfile.write(piece)
            upstream.close()
            self.close_connection = True

        do_POST = do_GET = do_DELETE = _relay

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """A client that went away is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
