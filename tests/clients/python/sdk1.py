"""The Python SDK `mcp` 1.x: knows only sessions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

import httpx
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl

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

    async def call(self, tool: str, arguments: dict, progress=None, log_level: str | None = None) -> dict:
        # The level was set for the whole session: see `log_level`.
        result = await self._session.call_tool(tool, arguments, progress_callback=progress)
        return {
            "isError": bool(result.isError),
            "text": [block.text for block in result.content if block.type == "text"],
            "structured": result.structuredContent,
        }

    async def prompts(self) -> list[str]:
        return [prompt.name for prompt in (await self._session.list_prompts()).prompts]

    async def prompt(self, name: str, arguments: dict) -> list[str]:
        result = await self._session.get_prompt(name, arguments)
        return [message.content.text for message in result.messages if message.content.type == "text"]

    async def resources(self) -> tuple[list[str], list[str]]:
        resources = (await self._session.list_resources()).resources
        templates = (await self._session.list_resource_templates()).resourceTemplates
        return [str(found.uri) for found in resources], [found.uriTemplate for found in templates]

    async def read(self, uri: str) -> list[str]:
        return [part.text for part in (await self._session.read_resource(AnyUrl(uri))).contents if hasattr(part, "text")]

    async def complete(self, prompt: str | None, template: str | None, argument: str, value: str) -> list[str]:
        ref = (
            types.PromptReference(type="ref/prompt", name=prompt)
            if prompt
            else types.ResourceTemplateReference(type="ref/resource", uri=template)
        )
        return (await self._session.complete(ref, {"name": argument, "value": value})).completion.values

    async def log_level(self, level: str) -> None:
        await self._session.set_logging_level(level)

    @asynccontextmanager
    async def listening(self, uri: str | None, _heard) -> AsyncIterator[None]:
        """News come to the session's message handler; only a resource has to be asked for."""
        if uri:
            await self._session.subscribe_resource(AnyUrl(uri))
        yield
        if uri:
            await self._session.unsubscribe_resource(AnyUrl(uri))


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
        if isinstance(message, types.ServerNotification):
            user.told(message.root.method, getattr(message.root.params, "uri", None))

    asked = {} if user.unasked else {"elicitation_callback": elicited, "sampling_callback": sampled}
    return {**asked, "logging_callback": logged, "message_handler": told}


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
        ClientSession(read, write, read_timeout_seconds=timedelta(seconds=options.timeout), **_callbacks(options.user)) as session,
    ):
        yield Connection(session, await session.initialize())
