#!/usr/bin/env python3
"""Many idle connections must not slow down a busy one.

    idle.py --model MODEL [--connections 200] [--serve OPTIONS...]

Opens connections that are kept alive after a first request, then compares the time of small requests with and without them.
Exit code 1 if it more than doubles and grows by more than 20 ms, or if a connection is lost. Needs only Python.
"""

import asyncio
import statistics
import sys
import time

import raw_http
from checks import Checks, parser, start

GOOD = {"prompt": "The fox ran over the hill.", "max_tokens": 1, "temperature": 0}


async def keep_alive(server):
    """A connection on which one request was answered."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    return reader, writer, await ask(reader, writer)


async def ask(reader, writer):
    writer.write(raw_http.request_bytes("/health"))
    await writer.drain()
    answer = await asyncio.wait_for(raw_http.read_answer(reader, writer), 10)
    await answer.body()
    return answer.status


async def seconds_of(server, count=40):
    times = []
    for _ in range(count):
        began = time.monotonic()
        status, _body = await raw_http.call(server.host, server.port, "/v1/completions", GOOD)
        times.append(time.monotonic() - began if status == 200 else 1e9)
    return statistics.median(times)


async def run(server, check, connections):
    alone = await seconds_of(server)
    idle = [await keep_alive(server) for _ in range(connections)]
    check.equal([status for _, _, status in idle], [200] * connections, "first answers")
    among = await seconds_of(server)
    print(f"a small request: {1e3 * alone:.1f} ms, with {connections} idle connections {1e3 * among:.1f} ms (medians)")
    check.that(among < max(2 * alone, alone + 0.02), "idle connections slow down others")
    check.equal([await ask(reader, writer) for reader, writer, _ in idle], [200] * connections, "answers after the pause")
    for _, writer, _ in idle:
        raw_http.close(writer)


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--connections", type=int, default=200)
    args = options.parse_args()
    check = Checks()
    with start(args) as server:
        asyncio.run(run(server, check, args.connections))
        check.equal(server.terminate(), 0, "exit code of the server")
    sys.exit(check.end())


if __name__ == "__main__":
    main()
