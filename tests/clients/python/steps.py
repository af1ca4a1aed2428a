"""The command `steps`: one thing after another on one connection. Each step prints its events, then `step`; one that fails
does not end the others, so that what a refusal does to a connection can be seen."""

import asyncio
import time
from types import SimpleNamespace

from report import Refused, emit


class User:
    """Who is asked and told: what the SDK's callbacks reach."""

    def __init__(self, unasked: bool):
        self.unasked = unasked
        self.content: dict | None = None
        self.logs: list[dict] = []
        self.news: list[dict] = []

    def asked(self, message: str) -> dict:
        """Accepts with what the step has, or declines."""
        emit("asked", message=message)
        if self.content is None:
            return {"action": "decline"}
        return {"action": "accept", "content": self.content}

    def sampled(self, message: str) -> str:
        emit("sampled", message=message)
        return f"no {message}"

    def logged(self, level: str, data) -> None:
        self.logs.append({"level": level, "data": data})

    def told(self, method: str, uri) -> None:
        if method.endswith("/list_changed") or method.endswith("/updated"):
            self.news.append({"method": method, "uri": None if uri is None else str(uri)})


def _tool(step: dict, key: str = "tool") -> SimpleNamespace:
    return SimpleNamespace(tool=step[key], arguments=step.get("arguments", {}))


async def _until(seconds: float, condition) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return condition()


async def _list(caller, _user, _step):
    names, cursor = [], None
    for _ in range(100):
        found, cursor = await caller.page(cursor)
        names += found
        if cursor is None:
            break
    emit("tools", tools=names)


async def _call(caller, _user, step):
    emit("result", **await caller.call(_tool(step)))


async def _progress(caller, _user, step):
    async def show(done, total, message) -> None:
        emit("progress", progress=done, total=total, message=message)

    emit("result", **await caller.call(_tool(step), show))


async def _answer(caller, user, step):
    """A call during which the user is asked, and gives `content` or, without it, declines."""
    user.content = step.get("content")
    await _call(caller, user, step)


async def _prompts(caller, _user, _step):
    emit("prompts", prompts=await caller.connection.prompts())


async def _prompt(caller, _user, step):
    emit("prompt", text=await caller.connection.prompt(step["name"], step.get("arguments", {})))


async def _resources(caller, _user, _step):
    uris, templates = await caller.connection.resources()
    emit("resources", uris=uris, templates=templates)


async def _read(caller, _user, step):
    emit("resource", text=await caller.connection.read(step["uri"]))


async def _complete(caller, _user, step):
    values = await caller.connection.complete(step.get("prompt"), step.get("template"), step["argument"], step["value"])
    emit("completion", values=values)


async def _logs(caller, user, step):
    """A call, and the log messages of `level` and above that come with it."""
    await caller.connection.log_level(step["level"])
    user.logs.clear()
    await caller.connection.call(step["tool"], step.get("arguments", {}), log_level=step["level"])
    await _until(step.get("wait", 5), lambda: user.logs)
    emit("logs", messages=user.logs)


async def _listen(caller, user, step):
    """Listens, calls, and waits until each method in `for` has been heard of."""
    user.news.clear()
    async with caller.connection.listening(step.get("uri"), user.told):
        await caller.connection.call(step["tool"], step.get("arguments", {}))
        await _until(step.get("wait", 10), lambda: set(step["for"]) <= {news["method"] for news in user.news})
    emit("news", news=user.news)


async def _beside(caller, _user, step):
    """`refused` is called `times` times while `tool` works: whatever comes of it, the other call must go on."""
    slow = asyncio.create_task(caller.connection.call(step["tool"], step.get("arguments", {})))
    await asyncio.sleep(step.get("after", 0.1))
    refusals = []
    for _ in range(step.get("times", 1)):
        try:
            await caller.call(SimpleNamespace(tool=step["refused"], arguments=step.get("refusedArguments", {})))
        except Refused as error:
            refusals.append(error.as_event())
    unfinished = not slow.done()
    emit("beside", refusals=refusals, unfinished=unfinished, result=await slow)


STEPS = {
    "list": _list,
    "call": _call,
    "progress": _progress,
    "answer": _answer,
    "prompts": _prompts,
    "prompt": _prompt,
    "resources": _resources,
    "read": _read,
    "complete": _complete,
    "logs": _logs,
    "listen": _listen,
    "beside": _beside,
}


async def run(caller, options) -> int:
    failed = 0
    for number, step in enumerate(options.steps):
        try:
            await asyncio.wait_for(STEPS[step["do"]](caller, options.user, step), options.timeout)
        except Exception as error:
            failed += 1
            emit("error", **caller.refused(error).as_event())
            emit("step", number=number, ok=False)
        else:
            emit("step", number=number, ok=True)
    return int(failed > 0)
