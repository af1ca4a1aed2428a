"""What a client can be told to do, for either SDK.

Each command prints events and answers with the exit code.
"""

import asyncio
import os
import stat
import statistics
import sys

import wire
from report import Refused, Stopwatch, emit

# Enough to see what went wrong; a load that fails all the time must not fill the disk.
MOST_ERRORS_PRINTED = 100


class Caller:
    """Makes calls on a connection and turns what they raise into `Refused`."""

    def __init__(self, connection, recorder: wire.Recorder, rpc_error: type):
        self.connection = connection
        self._recorder = recorder
        self._rpc_error = rpc_error

    async def call(self, options, progress=None) -> dict:
        watch = Stopwatch()
        self._recorder.take()
        try:
            answer = await self.connection.call(options.tool, options.arguments, progress)
        except Exception as error:
            raise wire.refused(error, self._recorder, self._rpc_error) from error
        return {"tool": options.tool, **answer, "ms": watch.ms}

    def refused(self, error: BaseException) -> Refused:
        """What was raised, in the one shape."""
        return error if isinstance(error, Refused) else wire.refused(error, self._recorder, self._rpc_error)

    async def page(self, cursor: str | None):
        self._recorder.take()
        try:
            return await self.connection.page(cursor)
        except Exception as error:
            raise wire.refused(error, self._recorder, self._rpc_error) from error


async def list_tools(caller: Caller, _options) -> int:
    names, pages, cursor = [], 0, None
    while True:
        found, cursor = await caller.page(cursor)
        names += found
        pages += 1
        if cursor is None:
            break
        if pages == 1000:
            raise Refused("rpc", "the list has no end")
    emit("tools", tools=names, pages=pages)
    return 0


async def call(caller: Caller, options) -> int:
    answer = await caller.call(options)
    emit("result", **answer)
    return int(answer["isError"])


async def twice(caller: Caller, options) -> int:
    return await call(caller, options) or await call(caller, options)


async def progress(caller: Caller, options) -> int:
    watch = Stopwatch()

    async def show(done, total, message) -> None:
        emit("progress", progress=done, total=total, message=message, ms=watch.ms)

    answer = await caller.call(options, show)
    emit("result", **answer)
    return int(answer["isError"])


async def limit(caller: Caller, options) -> int:
    """Calls until refused, waits as told, calls once more on the same connection."""
    done = refusals = 0
    wait = None
    for _ in range(options.calls):
        try:
            answer = await caller.call(options)
            done += not answer["isError"]
        except Refused as error:
            if error.kind == "transport":
                raise
            refusals += 1
            if wait is None:
                emit("refused", **error.as_event())
            wait = error.retry_after or wait or 1.0
    recovered = None
    if refusals:
        await asyncio.sleep(min(wait, options.patience))
        try:
            recovered = not (await caller.call(options))["isError"]
        except Refused as error:
            emit("refused", **error.as_event())
            recovered = False
    emit("summary", calls=options.calls, ok=done, refused=refusals, retryAfter=wait, recovered=recovered)
    return int(recovered is False)


class Tally:
    """What the clients of a load have seen."""

    def __init__(self):
        self.times: list[int] = []
        self.failures = 0
        self.connections = 0
        self.end = asyncio.Event()

    def connected(self, info: dict, seconds: float) -> None:
        """The time runs from the first connection on: starting an SDK can take seconds."""
        self.connections += 1
        emit("connected", **info)
        if self.connections == 1:
            asyncio.get_running_loop().call_later(seconds, self.end.set)

    def failed(self, error: Refused) -> None:
        self.failures += 1
        if self.failures <= MOST_ERRORS_PRINTED:
            emit("error", **error.as_event())

    def summary(self) -> dict:
        times = sorted(self.times)
        cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
        return {
            "calls": len(times) + self.failures,
            "ok": len(times),
            "failed": self.failures,
            "connections": self.connections,
            "p50Ms": round(cuts[49]) if times else None,
            "p99Ms": round(cuts[98]) if times else None,
            "maxMs": times[-1] if times else None,
        }


async def load(sdk, options) -> int:
    """Constant calls on connections of their own; one that breaks is made anew and counted."""
    tally = Tally()
    # A server that is never there must not keep the load for ever either.
    asyncio.get_running_loop().call_later(options.seconds + options.timeout, tally.end.set)
    watching = asyncio.create_task(_until_input_ends(tally.end))
    await asyncio.gather(*(_load_client(sdk, options, tally) for _ in range(options.clients)))
    watching.cancel()
    await asyncio.wait([watching])
    summary = tally.summary()
    emit("summary", **summary)
    return int(summary["failed"] > 0 or summary["ok"] == 0)


async def _load_client(sdk, options, tally: Tally) -> None:
    while not tally.end.is_set():
        recorder = wire.Recorder()
        try:
            async with sdk.connect(options, recorder) as connection:
                tally.connected(connection.info(), options.seconds)
                caller = Caller(connection, recorder, sdk.RPC_ERROR)
                await _call_until(caller, options, tally)
        except wire.CannotSpeak:
            raise
        except Exception as error:  # also the groups that the SDKs' task groups raise
            tally.failed(wire.refused(error, recorder, sdk.RPC_ERROR))
            await asyncio.sleep(0.2)


async def _call_until(caller: Caller, options, tally: Tally) -> None:
    while not tally.end.is_set():
        try:
            answer = await caller.call(options)
        except Refused as error:
            if error.kind == "transport":
                raise
            tally.failed(error)
        else:
            if answer["isError"]:
                tally.failed(Refused("tool", " ".join(answer["text"])))
            else:
                tally.times.append(answer["ms"])
        if options.pause:
            await asyncio.sleep(options.pause)


async def _until_input_ends(end: asyncio.Event) -> None:
    """A parent that goes away, or closes its pipe, ends the load; any other input leaves it to the time."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while await reader.read(4096):
            pass
        end.set()
    finally:
        transport.close()


COMMANDS = {"list": list_tools, "call": call, "twice": twice, "progress": progress, "limit": limit}
