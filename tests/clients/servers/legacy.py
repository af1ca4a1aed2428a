"""A server of the first revision, HTTP with SSE, on the Python SDK 1.x.

Listens on 127.0.0.1, on the port that is its argument; the stream is /sse.
"""

import sys
import weakref

import anyio
import uvicorn
from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

server = FastMCP("legacy", log_level="ERROR")
core = server._mcp_server  # FastMCP itself knows no log levels
levels = weakref.WeakKeyDictionary()


class Name(BaseModel):
    """What is asked for."""

    name: str


@server.tool()
def echo(message: str) -> str:
    """Gives the message back."""
    return f"Echo: {message}"


@server.tool()
async def slow(ctx: Context, steps: int = 3, seconds: float = 0.6) -> str:
    """Takes its time and tells how far it is."""
    for step in range(1, steps + 1):
        await anyio.sleep(seconds / steps)
        await ctx.report_progress(step, steps, f"step {step}")
    return f"{steps} steps"


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks the user for a name."""
    answer = await ctx.elicit("What is your name?", Name)
    return f"Hello {answer.data.name}" if answer.action == "accept" else f"No name: {answer.action}"


@core.set_logging_level()
async def set_level(level: str) -> None:
    levels[core.request_context.session] = level


@server.tool()
async def log(ctx: Context) -> str:
    """Writes a debug message and a warning, or only the warning where that is the session's level."""
    if levels.get(ctx.session) != "warning":
        await ctx.debug("in detail")
    await ctx.warning("take care")
    return "logged"


if __name__ == "__main__":
    uvicorn.run(server.sse_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
