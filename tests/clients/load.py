#!/usr/bin/env python3
"""Load on `sepllm serve`: many clients at once, prompts and answers of mixed lengths, some clients leave in the middle.

    load.py --model MODEL [--clients 64] [--duration 10] [--output FILE.json] [--no-memory] [--serve OPTIONS...]
    load.py --url http://127.0.0.1:8000 --name MODEL ...          a server that runs already; --pid N: its memory too
    load.py ... --uniform 64:128 --requests 32                    throughput: every prompt of 64 words, answers of 128 tokens

Prints tokens a second, times to the first token (p50, p95), times between tokens (p95), memory, and errors. Exit code 1 after an
error, and if memory grew over the last half. Needs only Python.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import raw_http
from checks import Checks
from server_process import Server, resident_bytes

MIB = 1 << 20
ALLOWED_GROWTH = 0.02  # of the memory at the half, and 8 MiB
WORDS = "the fox ran over a hill and saw that its river was deep, so it went back. A dog came, and they spoke of stones".split()
NO_END = {"0": -100, "2": -100}  # forbids the tokens that end an answer of SmolLM2, so that every answer has its full length


class Load:
    def __init__(self, args, host, port, name):
        self.args, self.host, self.port, self.name = args, host, port, name
        self.first, self.between = [], []  # seconds
        self.outcomes, self.errors = Counter(), []
        self.tokens = Counter()
        self.left_to_send = args.requests
        self.started = time.monotonic()
        self.until = self.started + (args.duration if args.requests is None else 1e9)

    def more(self):
        if self.left_to_send is not None:
            self.left_to_send -= 1
            return self.left_to_send >= 0
        return time.monotonic() < self.until

    def request(self, rng):
        """(path, body, events after which the client leaves or None)"""
        if self.args.uniform:
            words, new = map(int, self.args.uniform.split(":"))
            leave, stream, chat = None, self.args.stream, False
        else:
            words = rng.choice([5, 20, 60, 200, 800])
            new = rng.choice([1, 8, 32, 64, 128])
            stream, chat = rng.random() < 0.75, rng.random() < 0.4 and not self.args.no_chat
            leave = rng.randrange(0, 20) if stream and rng.random() < 0.15 else None
        text = " ".join(rng.choice(WORDS) for _ in range(words))
        body = {"model": self.name, "max_tokens": new, "temperature": rng.choice([0, 0.8]), "seed": rng.randrange(1000), "stream": stream}
        if self.args.uniform:
            body |= {"temperature": 0} | ({"logit_bias": NO_END} if self.args.no_end else {})
        if stream:
            body["stream_options"] = {"include_usage": True}
        if chat:
            return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": text}]}, leave
        return "/v1/completions", body | {"prompt": text}, leave

    async def client(self, number):
        rng = random.Random(self.args.seed * 1000 + number)
        while self.more():
            path, body, leave = self.request(rng)
            try:
                await self.one(path, body, leave)
            except Exception as error:
                self.errors.append(f"{type(error).__name__} {error}: {str(body)[:100]}")
                await asyncio.sleep(0.1)

    async def one(self, path, body, leave):
        sent = time.monotonic()
        answer = await asyncio.wait_for(raw_http.send(self.host, self.port, path, body), self.args.patience)
        try:
            if answer.status == 429:
                self.outcomes["429"] += 1
                await asyncio.sleep(0.2)
                return
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}: {(await answer.body())[:200]!r}")
            if body["stream"]:
                await self.stream(answer, sent, leave)
            else:
                self.count((await asyncio.wait_for(answer.json(), self.args.patience))["usage"])
                self.outcomes["whole"] += 1
        finally:
            answer.close()

    async def stream(self, answer, sent, leave):
        last, n_pieces, finished, usage = None, 0, False, None
        async for event in answer.events():
            if event == "[DONE]":
                finished = True
                break
            if "error" in event:
                raise RuntimeError(f"an error in the stream: {event['error']}")
            usage = event.get("usage") or usage
            if event["choices"] and (event["choices"][0].get("text") or event["choices"][0].get("delta", {}).get("content")):
                now = time.monotonic()
                (self.first if last is None else self.between).append(now - (last or sent))
                last, n_pieces = now, n_pieces + 1
            if leave is not None and n_pieces >= leave:
                self.tokens["of those that left"] += n_pieces
                self.outcomes["left"] += 1
                return
        if not finished:
            raise RuntimeError("the stream ended without [DONE]")
        self.count(usage or {"prompt_tokens": 0, "completion_tokens": n_pieces})
        self.outcomes["streamed"] += 1

    def count(self, usage):
        self.tokens["prompt"] += usage["prompt_tokens"]
        self.tokens["new"] += usage["completion_tokens"]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


async def watch(pid, samples):
    started = time.monotonic()
    while True:
        samples.append((time.monotonic() - started, resident_bytes(pid)))
        await asyncio.sleep(0.5)


async def run(args, host, port, name, pid):
    load = Load(args, host, port, name)
    samples = []
    watcher = asyncio.create_task(watch(pid, samples)) if pid else None
    await asyncio.gather(*(load.client(number) for number in range(args.clients)))
    seconds = time.monotonic() - load.started
    if watcher:
        watcher.cancel()
    return report(args, load, seconds, samples)


def report(args, load, seconds, samples):
    busy = [size for at, size in samples if size and at < seconds]
    third, last = busy[len(busy) // 2 : len(busy) * 3 // 4], busy[len(busy) * 3 // 4 :]
    return {
        "clients": args.clients,
        "seconds": seconds,
        "outcomes": dict(load.outcomes),
        "errors": load.errors,
        "new_tokens": load.tokens["new"],
        "prompt_tokens": load.tokens["prompt"],
        "new_tokens_per_second": (load.tokens["new"] + load.tokens["of those that left"]) / seconds,
        "prompt_tokens_per_second": load.tokens["prompt"] / seconds,
        "first_token_p50": percentile(load.first, 0.5),
        "first_token_p95": percentile(load.first, 0.95),
        "between_tokens_p50": percentile(load.between, 0.5),
        "between_tokens_p95": percentile(load.between, 0.95),
        "memory_third_quarter": max(third, default=0),
        "memory_last_quarter": max(last, default=0),
        "memory": [[round(at, 1), size] for at, size in samples[:: max(1, len(samples) // 200)]],
    }


def print_report(found):
    milliseconds = {key: f"{1e3 * found[key]:.0f} ms" for key in ("first_token_p50", "first_token_p95", "between_tokens_p50",
                                                                   "between_tokens_p95") if found[key] is not None}
    print(f"{found['clients']} clients, {found['seconds']:.1f} s: {found['outcomes']}, {found['new_tokens_per_second']:.1f} new tokens/s, "
          f"{found['prompt_tokens_per_second']:.1f} prompt tokens/s, {milliseconds}")
    print(f"memory: at most {found['memory_third_quarter'] / MIB:.1f} MiB in the third quarter, {found['memory_last_quarter'] / MIB:.1f} MiB "
          f"in the last one; {len(found['errors'])} errors {found['errors'][:3]}")


def judge(found, memory):
    check = Checks()
    check.equal(len(found["errors"]), 0, "errors")
    check.that(sum(found["outcomes"].values()) > 0, "requests were answered")
    if memory:
        limit = found["memory_third_quarter"] * (1 + ALLOWED_GROWTH) + 8 * MIB
        check.that(found["memory_last_quarter"] <= limit, "memory grew over the last half")
    return check


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model")
    options.add_argument("--url")
    options.add_argument("--name", default="")
    options.add_argument("--pid", type=int)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--duration", type=float, default=10, help="seconds")
    options.add_argument("--requests", type=int, help="this many requests instead of a duration")
    options.add_argument("--uniform", metavar="WORDS:TOKENS")
    options.add_argument("--stream", action="store_true", help="with --uniform: streamed answers")
    options.add_argument("--kv-memory", type=int, default=512, help="MiB for the caches; memory grows until kept prefixes fill them")
    options.add_argument("--no-chat", action="store_true", help="for a model without a chat template")
    options.add_argument("--no-end", action="store_true", help="with --uniform: no answer ends before its length (SmolLM2)")
    options.add_argument("--patience", type=float, default=300, help="seconds for an answer's head, or a whole answer")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--output", type=Path)
    options.add_argument("--no-memory", action="store_true")
    options.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="last: further options of sepllm serve")
    args = options.parse_args()
    if args.url:
        host, port = args.url.removeprefix("http://").rsplit(":", 1)
        found = asyncio.run(run(args, host, int(port), args.name, args.pid))
        check = judge(found, args.pid and not args.no_memory)
    else:
        with Server(args.model, "--max-queue", args.clients, "--kv-memory", args.kv_memory, *args.serve) as server:
            found = asyncio.run(run(args, server.host, server.port, server.model_id(), server.pid))
            check = judge(found, not args.no_memory)
            check.equal(server.terminate(), 0, "exit code of the server")
            for line in server.log_text().splitlines():
                check.that("Sanitizer" not in line, line)
    print_report(found)
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(check.end())


if __name__ == "__main__":
    main()
