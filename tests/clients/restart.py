#!/usr/bin/env python3
"""Ends `sepllm serve` in the middle of its work: kill -9, SIGTERM, and SIGTERM twice.

    restart.py --model MODEL [--serve OPTIONS...]

After kill -9 each client sees an ended connection, and a server on the same port serves again. After SIGTERM every running answer is
finished, no new one begins, and the exit code is 0. A second SIGTERM ends at once. Exit code 1 otherwise. Needs only Python.
"""

import asyncio
import signal
import sys
import time

import raw_http
from checks import Checks, parser, start

STREAM = {"prompt": "Once upon a time", "temperature": 0, "stream": True, "logit_bias": {"0": -100, "2": -100}}


async def follow(server, started, max_tokens):
    """How a streamed answer ended: "done", or the kind of the error. started is set at the first piece of text."""
    pieces = 0
    try:
        answer = await raw_http.send(server.host, server.port, "/v1/completions", STREAM | {"max_tokens": max_tokens})
        if answer.status != 200:
            return f"status {answer.status}"
        async for event in answer.events():
            if event == "[DONE]":
                return "done"
            if "error" in event:
                return f"error {event['error']}"
            pieces += 1
            if pieces == 2:
                started.set()
        return "ended early"
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        return type(error).__name__


async def followers(server, count, max_tokens):
    """Tasks of count streams, all of which have begun."""
    begun = [asyncio.Event() for _ in range(count)]
    tasks = [asyncio.create_task(follow(server, event, max_tokens)) for event in begun]
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in begun)), 120)
    return tasks


async def killed(check, args):
    with start(args) as server:
        port = server.port
        tasks = await followers(server, 4, 4000)
        server.kill()
        ends = await asyncio.wait_for(asyncio.gather(*tasks), 5)
        check.that(all(end not in ("done", "status 200") for end in ends), f"clients see that the connection has ended: {ends}")
    with start(args, "--port", port) as server:
        check.equal(server.port, port, "the same port")
        status, body = await raw_http.call(server.host, server.port, "/v1/completions", {"prompt": "The fox", "max_tokens": 2})
        check.that(status == 200 and body["choices"], "the restarted server serves")


async def terminated(check, args):
    with start(args, "--parallel", 4, "--drain-timeout", 120) as server:
        tasks = await followers(server, 4, 100)
        waiting = [asyncio.create_task(follow(server, asyncio.Event(), 20)) for _ in range(4)]
        await asyncio.sleep(0.3)
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        try:
            status, _ = await asyncio.wait_for(raw_http.call(server.host, server.port, "/health"), 5)
            check.equal(status, 503, "/health of a server that ends")
        except OSError:
            pass  # it takes no new connections, which is as clear
        late = await asyncio.wait_for(follow(server, asyncio.Event(), 2), 30)
        check.that(late != "done", f"no new answer begins: {late}")
        check.equal(await asyncio.wait_for(asyncio.gather(*tasks), 120), ["done"] * 4, "running answers are finished")
        check.equal(await asyncio.wait_for(asyncio.gather(*waiting), 120), ["done"] * 4, "queued answers are finished")
        check.equal(server.wait(), 0, "exit code after SIGTERM")


async def terminated_twice(check, args):
    with start(args) as server:
        tasks = await followers(server, 2, 4000)
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        check.equal(server.process.poll(), None, "the server waits for running answers")
        second = time.monotonic()
        server.signal(signal.SIGTERM)
        server.wait(10)
        check.that(time.monotonic() - second < 3, "a second SIGTERM ends at once")
        ends = await asyncio.gather(*tasks)
        check.that("done" not in ends, f"answers were cut: {ends}")


async def timed_out(check, args):
    with start(args, "--drain-timeout", 1) as server:
        tasks = await followers(server, 2, 4000)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        server.wait(20)
        check.that(time.monotonic() - began < 5, "the drain ends after its time")
        await asyncio.gather(*tasks)


def main():
    args = parser(__doc__.splitlines()[0]).parse_args()
    check = Checks()
    for part in (killed, terminated, terminated_twice, timed_out):
        with check.part(part.__name__):
            asyncio.run(part(check, args))
    sys.exit(check.end())


if __name__ == "__main__":
    main()
