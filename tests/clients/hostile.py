#!/usr/bin/env python3
"""Sends hostile requests to `sepllm serve`: lengths, types, numbers, encodings, half-sent bodies, slow senders, and clients that
leave at every stage.

    hostile.py --model MODEL [--requests 1000] [--seed 1] [--seconds 10] [--no-memory] [--slow 35] [--serve OPTIONS...]

Each request must be answered by 4xx or its connection closed, and after every 20 of them a good request must get the answer that
it got at first. The second half must not make the server's memory grow (--no-memory: not checked, as for sanitizers), slow senders
must be thrown out within --slow seconds, and the server must end with 0. Exit code 1 otherwise. Needs only Python.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import raw_http
from checks import Checks, parser, start
from hostile_requests import CHAT, COMPLETE, GOOD, raw

MIB = 1 << 20
ALLOWED_GROWTH = 12 * MIB  # what allocators keep; a leak of one small request body a time would be more
LONG = {"prompt": "Once upon a time", "max_tokens": 2000, "temperature": 1, "logit_bias": {"0": -100, "2": -100}}


class Hostile:
    def __init__(self, server, check, seed, seconds):
        self.host, self.port, self.folder = server.host, server.port, Path(server.model).resolve().parent
        self.check, self.random, self.seconds = check, random.Random(seed), seconds
        self.outcomes = Counter()

    async def one(self):
        stage = self.random.choices(["complete", "half", "leave"], [6, 1, 2])[0]
        maker = self.random.choice(COMPLETE)
        seeded = random.Random(self.random.random())
        try:
            if stage == "complete":
                await self.complete(maker, seeded)
            elif stage == "half":
                await self.half(maker, seeded)
            else:
                await self.leave(seeded)
        except OSError:  # a reset is an end of the connection too
            self.outcomes["reset"] += 1

    async def complete(self, maker, seeded):
        """A whole request: 4xx, or closed."""
        data = maker(seeded)
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(data)
            # An answer may come, and the connection end, before everything is sent.
            with contextlib.suppress(OSError):
                await asyncio.wait_for(writer.drain(), self.seconds)
            if maker.__name__ == "http_heads":
                writer.write_eof()  # some of them promise more than they send
            await self.judge(reader, writer, data)
        finally:
            raw_http.close(writer)

    async def judge(self, reader, writer, data):
        shown = f"{data[:100]!r}...{data[-160:]!r}"
        try:
            answer = await asyncio.wait_for(raw_http.read_answer(reader, writer), self.seconds)
            body = await asyncio.wait_for(answer.body(), self.seconds)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.outcomes["closed"] += 1
            return
        except TimeoutError:
            self.check.that(False, f"neither an answer nor an end in {self.seconds} s: {shown}")
            return
        self.outcomes[answer.status] += 1
        self.check.that(400 <= answer.status < 500, f"status {answer.status}: {shown} -> {body[:200]!r}")
        if answer.headers.get("content-type", "").startswith("application/json") and body:
            error = json.loads(body).get("error", {})
            said = error.get("message", "")
            self.check.that(said and "type" in error and "code" in error, f"an error object: {shown} -> {body[:200]!r}")
            self.check.that(str(self.folder) not in said, f"no paths in {error}")

    async def half(self, maker, seeded):
        """Only a part of a request, then an end of sending or of the connection."""
        data = seeded.choice([maker(seeded), raw("/v1/completions", json.dumps(GOOD))])
        data = data[: seeded.randrange(1, len(data))]
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            with contextlib.suppress(OSError):
                writer.write(data)
                await asyncio.wait_for(writer.drain(), self.seconds)
            how = seeded.choice(["eof", "close", "reset"])
            if how == "eof":
                writer.write_eof()
                await self.judge(reader, writer, data)
            elif how == "reset":
                raw_http.reset(writer)
            self.outcomes[f"half, {how}"] += 1
        finally:
            raw_http.close(writer)

    async def leave(self, seeded):
        """A good request whose client leaves: at once, in the queue, in the prompt, or in the middle of the answer."""
        stream = seeded.random() < 0.5
        body = seeded.choice([LONG, LONG | {"prompt": "The fox ran. " * seeded.randrange(1, 800)}, LONG | {"n": 3}, CHAT | {"max_tokens": 500}])
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            if seeded.random() < 0.9:
                writer.write(raw_http.request_bytes(path, body | {"stream": stream}))
                await writer.drain()
            if stream and seeded.random() < 0.5:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(seeded.randrange(1, 2000)), 2)
            else:
                await asyncio.sleep(seeded.random() * 0.5)
            if seeded.random() < 0.5:
                raw_http.reset(writer)
            self.outcomes["left"] += 1
        finally:
            raw_http.close(writer)

    async def slow(self, limit):
        """Sends a byte now and then; the server must end the connection within limit seconds."""
        started = time.monotonic()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            data = raw("/v1/completions", json.dumps(GOOD))[: self.random.choice([1, 10, 60, 10_000]) ]
            for byte in data[:-1]:
                with contextlib.suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(1), 0.5):
                        break
                    self.outcomes["slow, answered"] += 1
                    return
                writer.write(bytes([byte]))
                if time.monotonic() > started + limit:
                    self.check.that(False, f"a slow sender still has its connection after {limit} s")
                    return
            else:
                await asyncio.wait_for(reader.read(), started + limit - time.monotonic())
            self.outcomes["slow, closed"] += 1
        except OSError:
            self.outcomes["slow, closed"] += 1
        except TimeoutError:
            self.check.that(False, f"a slow sender still has its connection after {limit} s")
        finally:
            raw_http.close(writer)

    async def good(self):
        """The text of a good request. Requests whose clients have left may still be in the queue for a moment."""
        for _ in range(100):
            status, body = await asyncio.wait_for(raw_http.call(self.host, self.port, "/v1/completions", GOOD), 60)
            if status != 429:
                break
            await asyncio.sleep(0.1)
        return body["choices"][0]["text"] if status == 200 else (status, body)

    async def many(self, count, expected):
        done = 0
        while done < count:
            size = min(20, count - done)
            await asyncio.gather(*(self.one() for _ in range(size)))
            done += size
            self.check.equal(await self.good(), expected, f"a good request after {done} hostile ones")


async def run(server, check, args):
    hostile = Hostile(server, check, args.seed, args.seconds)
    expected = await hostile.good()
    slow = [asyncio.create_task(hostile.slow(args.slow)) for _ in range(8)]
    started = time.monotonic()
    await hostile.many(args.requests // 2, expected)
    await asyncio.gather(*slow)
    middle = server.resident_bytes()
    await hostile.many(args.requests - args.requests // 2, expected)
    await asyncio.sleep(1)
    end = server.resident_bytes()
    print(f"{args.requests} hostile requests in {time.monotonic() - started:.0f} s: {dict(sorted(hostile.outcomes.items(), key=str))}")
    print(f"resident memory: {middle / MIB:.1f} MiB after the first half, {end / MIB:.1f} MiB at the end")
    if not args.no_memory:
        check.that(end - middle < ALLOWED_GROWTH, f"memory grew by {(end - middle) / MIB:.1f} MiB in the second half")


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--requests", type=int, default=1000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=10, help="within which an answer or an end must come")
    options.add_argument("--slow", type=float, default=40, help="seconds after which slow senders must be gone")
    options.add_argument("--no-memory", action="store_true")
    args = options.parse_args()
    check = Checks()
    with start(args, "--kv-memory", 64, "--parallel", 4) as server:
        asyncio.run(run(server, check, args))
        check.equal(server.terminate(), 0, "exit code of the server")
        for line in server.log_text().splitlines():
            check.that("Sanitizer" not in line, line)
    sys.exit(check.end())


if __name__ == "__main__":
    main()
