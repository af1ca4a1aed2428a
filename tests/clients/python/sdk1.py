"""The Python SDK `mcp` 1.x: knows only sessions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

import httpx
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client

import wire

RPC_ERROR = McpError


class Connection:
    """One client, connected."""

    def __init__(self, session: ClientSession, hello: types.InitializeResult):
        self._session = session
        self._hello = hello

    def info(self) -> dict:
        server = self._hello.serverInfo
        return {
            "sdk": f"python mcp {version('mcp')}",
            "era": "session",
            "protocol": self._hello.protocolVersion,
            "server": {"name": server.name, "version": server.version},
        }

    async def page(self, cursor: str | None) -> tuple[list[str], str | None]:
        result = await self._session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
        return [tool.name for tool in result.tools], result.nextCursor

    async def call(self, tool: str, arguments: dict, progress=None) -> dict:
        result = await self._session.call_tool(tool, arguments, progress_callback=progress)
        return {
            "isError": bool(result.isError),
            "text": [block.text for block in result.content if block.type == "text"],
            "structured": result.structuredContent,
        }


@asynccontextmanager
async def connect(options, recorder: wire.Recorder) -> AsyncIterator[Connection]:
    if options.era == "stateless":
        raise wire.CannotSpeak("this SDK knows only sessions")
    async with (
        httpx.AsyncClient(
            headers=wire.headers(options),
            verify=wire.trust(options),
            timeout=options.timeout,
            trust_env=False,
            event_hooks={"response": [recorder]},
        ) as http,
        streamable_http_client(options.url, http_client=http) as (read, write, _),
        ClientSession(read, write, read_timeout_seconds=timedelta(seconds=options.timeout)) as session,
    ):
        yield Connection(session, await session.initialize())
