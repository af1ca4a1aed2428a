"""What both SDKs need below MCP: trust, names, headers, and a note of what HTTP answered."""

import contextlib
import json
import socket
import ssl

from report import Refused


class CannotSpeak(Exception):
    """The SDK does not know what was asked of it."""


def token(options) -> str | None:
    if options.token_file:
        with open(options.token_file, encoding="ascii") as file:
            return file.read().strip()
    return options.token


def headers(options) -> list[tuple[str, str]]:
    found = list(options.header)
    if bearer := token(options):
        found.append(("Authorization", f"Bearer {bearer}"))
    return found


def trust(options) -> ssl.SSLContext:
    """Only the given CA, or what the machine trusts."""
    return ssl.create_default_context(cafile=options.ca)


def resolve_as_told(pairs: list[tuple[str, str]]) -> None:
    """Answers look-ups of these names by hand, as curl's --resolve does."""
    if not pairs:
        return
    known = dict(pairs)
    original = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        name = host.decode() if isinstance(host, bytes) else host
        return original(known.get((name or "").lower(), host), *arguments, **named)

    socket.getaddrinfo = getaddrinfo


class Recorder:
    """The newest HTTP failure and the answer to DELETE.

    The SDKs report some failures as a JSON-RPC error of their own making; what
    the server really said is here.
    """

    def __init__(self):
        self.failure: dict | None = None
        self.ended: int | None = None

    async def __call__(self, response) -> None:
        if response.request.method == "DELETE":
            self.ended = response.status_code
        elif response.request.method == "POST" and response.status_code >= 400:
            await response.aread()
            self.failure = {
                "status": response.status_code,
                "retryAfter": response.headers.get("retry-after"),
                "challenge": response.headers.get("www-authenticate"),
                "rpc": _rpc_error(response.content),
            }

    def take(self) -> dict:
        failure, self.failure = self.failure or {}, None
        return failure


def _rpc_error(body: bytes) -> dict | None:
    with contextlib.suppress(ValueError):
        message = json.loads(body)
        if isinstance(message, dict) and isinstance(message.get("error"), dict):
            return message["error"]
    return None


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions inside (nested) groups; task groups wrap what they raise."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


def refused(error: BaseException, recorder: Recorder, rpc_error: type) -> Refused:
    """One shape for what an SDK raised."""
    failure = recorder.take()
    http = {key: failure.get(key) for key in ("status", "retryAfter", "challenge")}
    if sent := failure.get("rpc"):
        return Refused("rpc", str(sent.get("message")), code=sent.get("code"), data=sent.get("data"), **http)
    if failure:
        return Refused("http", f"HTTP status {failure['status']}", **http)
    found = leaves(error)
    for leaf in found:
        if isinstance(leaf, rpc_error):
            return Refused("rpc", leaf.error.message, code=leaf.error.code, data=leaf.error.data)
    leaf = found[0]
    return Refused("transport", f"{type(leaf).__name__}: {leaf}")
