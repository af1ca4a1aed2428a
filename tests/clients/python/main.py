"""A real MCP client on the command line.

    main.py python-sdk-1|python-sdk-2 URL [options] list | call | twice | progress | limit | steps | load

The SDK is looked for in PORTCULLIS_CLIENT_PACKAGES/<name>, or beside this file.
Exit codes: 0 done, 1 refused or failed by the server, 2 wrong use, 3 no connection.
"""

import asyncio
import importlib
import logging
import os
import sys

SDKS = {"python-sdk-1": "sdk1", "python-sdk-2": "sdk2"}


def load_sdk(name: str):
    here = os.path.dirname(os.path.abspath(__file__))
    packages = os.environ.get("PORTCULLIS_CLIENT_PACKAGES", here)
    sys.path.insert(1, os.path.join(packages, name))
    return importlib.import_module(SDKS[name])


async def run(sdk, options) -> int:
    import commands
    import steps
    import wire
    from report import Refused, emit

    # A client that cannot answer must not say that it could: only in steps it is asked, and told.
    options.user = steps.User(options.unasked) if options.command == "steps" else None
    if options.command == "load":
        return await commands.load(sdk, options)
    recorder = wire.Recorder()
    code, problem = 3, None
    try:
        async with sdk.connect(options, recorder) as connection:
            emit("connected", **connection.info())
            try:
                caller = commands.Caller(connection, recorder, sdk.RPC_ERROR)
                run = steps.run if options.command == "steps" else commands.COMMANDS[options.command]
                code = await run(caller, options)
            except Refused as error:
                # Not raised through the SDK's task groups: they would wrap it.
                problem = error
    except wire.CannotSpeak:
        raise
    except Exception as error:
        problem = problem or wire.refused(error, recorder, sdk.RPC_ERROR)
    if problem:
        emit("error", **problem.as_event())
        code = 3 if problem.kind == "transport" else 1
    elif recorder.ended is not None:
        emit("ended", status=recorder.ended)
    return code


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in SDKS:
        print(__doc__, file=sys.stderr)
        return 2
    name = sys.argv[1]
    import options as command_line
    from report import note

    options = command_line.parse(sys.argv[2:], name)
    # The SDKs log what is reported here anyway.
    logging.basicConfig(level=os.environ.get("PORTCULLIS_CLIENT_LOG", "CRITICAL"))
    sdk = load_sdk(name)
    import wire

    wire.resolve_as_told(options.resolve)
    try:
        wire.trust(options)
        wire.headers(options)
    except OSError as error:
        note(f"{name}: a file that was named cannot be used: {error}")
        return 2
    try:
        return asyncio.run(run(sdk, options))
    except wire.CannotSpeak as error:
        note(f"{name}: {error}")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
