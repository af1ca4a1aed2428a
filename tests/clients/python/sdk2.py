"""The Python SDK `mcp` 2.x: both eras, `server/discover` first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

import wire

RPC_ERROR = MCPError
MODES = {"auto": "auto", "session": "legacy", "stateless": LATEST_MODERN_VERSION}


class Connection:
    """One client, connected."""

    def __init__(self, client: Client):
        self._client = client

    def info(self) -> dict:
        client = self._client
        server = client.server_info
        modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
        return {
            "sdk": f"python mcp {version('mcp')}",
            "era": "stateless" if modern else "session",
            "protocol": client.protocol_version,
            "server": {"name": server.name, "version": server.version} if server else None,
        }

    async def page(self, cursor: str | None) -> tuple[list[str], str | None]:
        result = await self._client.list_tools(cursor=cursor, cache_mode="bypass")
        return [tool.name for tool in result.tools], result.next_cursor

    async def call(self, tool: str, arguments: dict, progress=None) -> dict:
        result = await self._client.call_tool(tool, arguments, progress_callback=progress)
        return {
            "isError": bool(result.is_error),
            "text": [block.text for block in result.content if block.type == "text"],
            "structured": result.structured_content,
        }


@asynccontextmanager
async def connect(options, recorder: wire.Recorder) -> AsyncIterator[Connection]:
    async with httpx2.AsyncClient(
        headers=wire.headers(options),
        verify=wire.trust(options),
        timeout=options.timeout,
        trust_env=False,
        event_hooks={"response": [recorder]},
    ) as http:
        client = Client(
            streamable_http_client(options.url, http_client=http),
            mode=MODES[options.era],
            read_timeout_seconds=options.timeout,
        )
        async with client:
            yield Connection(client)
