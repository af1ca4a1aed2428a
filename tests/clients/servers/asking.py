"""A server on the Python SDK 2.x, of both eras, with what a server can ask and tell: questions, progress, log messages,
prompts, completions, resources that change.

Listens on 127.0.0.1, on the port that is its argument.
"""

import sys
import warnings
from typing import Annotated

import anyio
import uvicorn
from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import Completion, CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel, Field

# Log messages are what is tried here.
warnings.simplefilter("ignore", MCPDeprecationWarning)
server = MCPServer(name="asking", version="1", log_level="ERROR")
COLOURS = ("red", "green", "grey")
changes = 0


class Name(BaseModel):
    """What is asked for."""

    name: str = Field(description="How you are called")


def who() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


def poem() -> Sample:
    words = TextContent(type="text", text="a poem, please")
    return Sample([SamplingMessage(role="user", content=words)], max_tokens=20)


@server.tool()
def echo(message: str) -> str:
    """Gives the message back."""
    return f"Echo: {message}"


@server.tool()
async def slow(ctx: Context, steps: Annotated[int, Field(ge=1, le=100)] = 3, seconds: Annotated[float, Field(ge=0, le=60)] = 0.6) -> str:
    """Takes its time and tells how far it is."""
    for step in range(1, steps + 1):
        await anyio.sleep(seconds / steps)
        await ctx.report_progress(step, steps, f"step {step}")
    return f"{steps} steps"


@server.tool()
def ask(answer: Annotated[ElicitationResult[Name], Resolve(who)]) -> str:
    """Asks the user for a name."""
    if isinstance(answer, AcceptedElicitation):
        return f"Hello {answer.data.name}"
    return f"No name: {answer.action}"


@server.tool()
def write(answer: Annotated[CreateMessageResult, Resolve(poem)]) -> str:
    """Asks the client's model for a poem."""
    return f"The model says: {answer.content.text}"


@server.tool()
async def log(ctx: Context) -> str:
    """Writes a debug message and a warning."""
    await ctx.debug("in detail")
    await ctx.warning("take care")
    return "logged"


@server.tool()
async def change(ctx: Context) -> str:
    """Changes the counter, and makes a tool come or go: the lists change too."""
    global changes
    changes += 1
    if changes % 2:
        server.add_tool(lambda: "here", name="passing", description="Comes and goes.")
    else:
        server.remove_tool("passing")
    await ctx.notify_resource_updated("count://changes")
    await ctx.notify_tools_changed()
    return str(changes)


@server.tool()
def rare() -> str:
    """The gateway lets nobody call it twice."""
    return "rare"


@server.tool()
def forbidden() -> str:
    """Nobody may call it: the gateway must refuse."""
    return "called"


@server.resource("count://changes")
def count() -> str:
    """How often something changed."""
    return str(changes)


@server.resource("colour://{name}")
def colour(name: str) -> str:
    """A colour."""
    return f"the colour {name}"


@server.prompt()
def greet(name: str, colour: str = "red") -> str:
    """Words to begin with."""
    return f"Greet {name} in {colour}"


@server.completion()
async def complete(_ref, argument, _context) -> Completion:
    return Completion(values=[found for found in COLOURS if found.startswith(argument.value)], has_more=False)


if __name__ == "__main__":
    uvicorn.run(
        server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1
    )
