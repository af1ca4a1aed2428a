#!/usr/bin/env python3
"""front.py LISTEN:PORT TARGET:PORT: the load balancer a cloud would bring: every connection goes on to the Service as it is."""

import asyncio
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def main(listen: str, target: str) -> None:
    host, port = target.rsplit(":", 1)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 10)
        except OSError as error:
            print(f"no connection to {target}: {error}", file=sys.stderr, flush=True)
            writer.close()
            return
        await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))
        onward[1].close()
        writer.close()

    address, port_here = listen.rsplit(":", 1)
    server = await asyncio.start_server(connection, address, int(port_here))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
