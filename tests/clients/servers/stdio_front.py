"""What stands before a server that speaks on its standard streams: each session gets a process of its own.

    stdio_front.py PORT PYTHONPATH MODULE [ARGUMENT]...

Only carries messages from one transport of the Python SDK 1.x to the other, and reads none of them. Listens on 127.0.0.1.
"""

import contextlib
import json
import sys
import uuid

import anyio
import uvicorn
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER, StreamableHTTPServerTransport
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

MOST_SESSIONS = 32


async def carry(source, target) -> None:
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for message in source:
            if not isinstance(message, Exception):
                await target.send(message)


def opens_session(body: bytes) -> bool:
    """Only `initialize` gets a process; whatever else comes without a session would leave one behind."""
    with contextlib.suppress(ValueError):
        message = json.loads(body)
        return isinstance(message, dict) and message.get("method") == "initialize"
    return False


def replayed(body: bytes, receive):
    """`receive` as if nobody had read the body yet."""
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def again():
        return unread.pop() if unread else await receive()

    return again


class Front:
    """The sessions, and the task group that they run in."""

    def __init__(self, command: StdioServerParameters):
        self.command = command
        self.sessions: dict[str, StreamableHTTPServerTransport] = {}
        self.tasks = None

    @contextlib.asynccontextmanager
    async def lifespan(self, _app):
        async with anyio.create_task_group() as tasks:
            self.tasks = tasks
            yield
            tasks.cancel_scope.cancel()

    async def run(self, name: str, transport, *, task_status) -> None:
        with contextlib.suppress(BaseExceptionGroup):
            # However a session ends, the others go on.
            async with transport.connect() as (read, write), stdio_client(self.command) as (answers, child):
                task_status.started()
                async with anyio.create_task_group() as pumps:
                    pumps.start_soon(carry, answers, write)
                    await carry(read, child)
                    pumps.cancel_scope.cancel()
        self.sessions.pop(name, None)

    async def handle(self, scope, receive, send) -> None:
        name = Request(scope).headers.get(MCP_SESSION_ID_HEADER)
        if name is None:
            body = await Request(scope, receive).body()
            receive = replayed(body, receive)
            if scope["method"] != "POST" or not opens_session(body):
                await Response("no session", status_code=400)(scope, receive, send)
                return
        if name is None and len(self.sessions) < MOST_SESSIONS:
            name = uuid.uuid4().hex
            self.sessions[name] = StreamableHTTPServerTransport(mcp_session_id=name)
            await self.tasks.start(self.run, name, self.sessions[name])
        if transport := self.sessions.get(name):
            await transport.handle_request(scope, receive, send)
        else:
            await Response(status_code=404 if name else 503)(scope, receive, send)


def main() -> None:
    port, packages, *module = sys.argv[1:]
    front = Front(StdioServerParameters(command=sys.executable, args=["-m", *module], env={"PYTHONPATH": packages}))
    app = Starlette(routes=[Mount("/", app=front.handle)], lifespan=front.lifespan)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
