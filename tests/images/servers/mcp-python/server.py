"""A small MCP server on the Python SDK: the upstream that speaks both eras.

Its tools are there to let a test see what arrived: which headers, on which
instance, how many calls were cancelled. Settings are environment variables:
MCP_HOST, MCP_PORT, MCP_JSON_RESPONSE=1 (plain JSON instead of an event stream),
MCP_TLS_CERT and MCP_TLS_KEY (PEM files; without them it speaks plain HTTP).
"""

import os
import socket
from collections import Counter
from typing import Annotated

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse

# A test that asks for more has a mistake; the server must not help it along.
MOST_BYTES = 32 * 1024 * 1024
LONGEST_SECONDS = 300.0

server = MCPServer(
    name="mcp-python",
    title="Python test server",
    version="1",
    instructions="Shows what reached it.",
    log_level="WARNING",
)
seen: Counter[str] = Counter()


@server.tool()
def echo(message: str) -> str:
    """Gives the message back."""
    seen["echo"] += 1
    return f"Echo: {message}"


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    seen["add"] += 1
    return a + b


@server.tool()
async def slow(
    ctx: Context,
    steps: Annotated[int, Field(ge=1, le=1000)] = 3,
    seconds: Annotated[float, Field(ge=0, le=LONGEST_SECONDS)] = 1.0,
) -> str:
    """Takes its time and tells how far it is."""
    seen["slow"] += 1
    try:
        for step in range(1, steps + 1):
            await anyio.sleep(seconds / steps)
            await ctx.report_progress(step, steps, f"step {step}")
    except anyio.get_cancelled_exc_class():
        seen["cancelled"] += 1
        raise
    return f"{steps} steps"


@server.tool()
def headers(ctx: Context) -> dict[str, str]:
    """The HTTP headers that this call came with."""
    seen["headers"] += 1
    request = ctx.request_context.request
    if not isinstance(request, Request):
        raise ToolError("this call did not come by HTTP")
    return {name: ", ".join(request.headers.getlist(name)) for name in request.headers}


@server.tool()
def counts() -> dict[str, int]:
    """How often each tool began here, and how many slow calls were cancelled."""
    return dict(seen)


@server.tool()
def instance() -> str:
    """Which process answers."""
    return f"{socket.gethostname()}/{os.getpid()}"


@server.tool()
def large(size: Annotated[int, Field(ge=0, le=MOST_BYTES)]) -> str:
    """A text of that many bytes."""
    return "x" * size


@server.tool()
def fail(message: str = "as asked") -> str:
    """Fails, as a tool does: with a result that says so."""
    raise ToolError(message)


@server.custom_route("/healthz", methods=["GET"])
async def health(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def main() -> None:
    app = server.streamable_http_app(
        json_response=os.environ.get("MCP_JSON_RESPONSE") == "1",
        # Whoever runs it names it: any Host is right.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    uvicorn.run(
        app,
        host=os.environ.get("MCP_HOST", "0.0.0.0"),
        port=int(os.environ.get("MCP_PORT", "8000")),
        ssl_certfile=os.environ.get("MCP_TLS_CERT"),
        ssl_keyfile=os.environ.get("MCP_TLS_KEY"),
        log_level="warning",
        # Streams that a client leaves open must not hold up a pod's end.
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
