"""The Python SDK `mcp` 2.x: both eras, `server/discover` first."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.subscriptions import event_to_notification
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

import wire

# Log levels and subscriptions of sessions are what is tried here.
warnings.simplefilter("ignore", MCPDeprecationWarning)

RPC_ERROR = MCPError
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
MODES = {"auto": "auto", "session": "legacy", "stateless": LATEST_MODERN_VERSION}


class Connection:
    """One client, connected."""

    def __init__(self, client: Client):
        self._client = client

    def info(self) -> dict:
        client = self._client
        server = client.server_info
        return {
            "sdk": f"python mcp {version('mcp')}",
            "era": "stateless" if self._modern else "session",
            "protocol": client.protocol_version,
            "server": {"name": server.name, "version": server.version} if server else None,
        }

    async def page(self, cursor: str | None) -> tuple[list[str], str | None]:
        result = await self._client.list_tools(cursor=cursor, cache_mode="bypass")
        return [tool.name for tool in result.tools], result.next_cursor

    @property
    def _modern(self) -> bool:
        return self._client.protocol_version in MODERN_PROTOCOL_VERSIONS

    async def call(self, tool: str, arguments: dict, progress=None, log_level: str | None = None) -> dict:
        meta = {LOG_LEVEL: log_level} if log_level and self._modern else None
        result = await self._client.call_tool(tool, arguments, progress_callback=progress, meta=meta)
        return {
            "isError": bool(result.is_error),
            "text": [block.text for block in result.content if block.type == "text"],
            "structured": result.structured_content,
        }

    async def prompts(self) -> list[str]:
        return [prompt.name for prompt in (await self._client.list_prompts()).prompts]

    async def prompt(self, name: str, arguments: dict) -> list[str]:
        result = await self._client.get_prompt(name, arguments)
        return [message.content.text for message in result.messages if message.content.type == "text"]

    async def resources(self) -> tuple[list[str], list[str]]:
        resources = (await self._client.list_resources()).resources
        templates = (await self._client.list_resource_templates()).resource_templates
        return [str(found.uri) for found in resources], [found.uri_template for found in templates]

    async def read(self, uri: str) -> list[str]:
        contents = (await self._client.read_resource(uri, cache_mode="bypass")).contents
        return [part.text for part in contents if hasattr(part, "text")]

    async def complete(self, prompt: str | None, template: str | None, argument: str, value: str) -> list[str]:
        ref = (
            types.PromptReference(type="ref/prompt", name=prompt)
            if prompt
            else types.ResourceTemplateReference(type="ref/resource", uri=template)
        )
        return (await self._client.complete(ref, {"name": argument, "value": value})).completion.values

    async def log_level(self, level: str) -> None:
        """In the stateless era each call says it for itself."""
        if not self._modern:
            await self._client.session.set_logging_level(level)

    @asynccontextmanager
    async def listening(self, uri: str | None, heard) -> AsyncIterator[None]:
        if not self._modern:
            if uri:
                await self._client.session.subscribe_resource(uri)
            yield
            if uri:
                await self._client.session.unsubscribe_resource(uri)
            return
        async with self._client.listen(tools_list_changed=True, resource_subscriptions=[uri] if uri else []) as news:
            reading = asyncio.create_task(_read(news, heard))
            try:
                yield
            finally:
                reading.cancel()
                await asyncio.wait([reading])


async def _read(news, heard) -> None:
    async for event in news:
        heard(event_to_notification(event, {}).method, getattr(event, "uri", None))


def _callbacks(user) -> dict:
    if user is None:
        return {}

    async def elicited(_context, params):
        return types.ElicitResult(**user.asked(params.message))

    async def sampled(_context, params):
        words = types.TextContent(type="text", text=user.sampled(params.messages[0].content.text))
        return types.CreateMessageResult(role="assistant", content=words, model="none")

    async def logged(params) -> None:
        user.logged(params.level, params.data)

    async def told(message) -> None:
        if method := getattr(message, "method", None):
            user.told(method, getattr(message.params, "uri", None))

    asked = {} if user.unasked else {"elicitation_callback": elicited, "sampling_callback": sampled}
    return {**asked, "logging_callback": logged, "message_handler": told}


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
            **_callbacks(options.user),
        )
        async with client:
            yield Connection(client)
