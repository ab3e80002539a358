#!/usr/bin/env python3
"""One long conversation with `sepllm serve`: each request sends all of it again, as chat clients do.

    turns.py --model MODEL [--turns 200] [--new-tokens 24] [--output FOLDER] [--policy sep-stream] [--serve OPTIONS...]

Under sep-stream memory and time to the first token must stay flat, and nothing may be processed again but the new turn. Writes
turns.json and turns.svg (time to the first token, tokens processed, memory, by turn) into --output. Exit code 1 otherwise.
Needs only Python.
"""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

import raw_http
from checks import Checks, parser, start

MIB = 1 << 20
SUBJECTS = ["foxes", "rivers", "stones", "bread", "winter", "ships", "music", "bees", "maps", "clocks"]
SLACK = 64  # tokens: an answer's last tokens are written anew, in another tokenisation, when the client sends them back


async def turn(server, messages, new_tokens):
    body = {"messages": messages, "max_tokens": new_tokens, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    sent = time.monotonic()
    answer = await raw_http.send(server.host, server.port, "/v1/chat/completions", body)
    first, text, usage = None, "", None
    try:
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {await answer.body()!r}")
        async for event in answer.events():
            if event == "[DONE]":
                break
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                if choice["delta"].get("content"):
                    first = first or time.monotonic() - sent
                    text += choice["delta"]["content"]
    finally:
        answer.close()
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    found = {"first_token": first or time.monotonic() - sent, "prompt_tokens": usage["prompt_tokens"], "cached_tokens": cached,
             "new_tokens": usage["completion_tokens"], "kv_bytes": usage.get("sepllm", {}).get("kv_bytes", 0),
             "memory": server.resident_bytes()}
    return text, found


async def conversation(server, turns, new_tokens):
    messages, rows = [], []
    for number in range(turns):
        subject = SUBJECTS[number % len(SUBJECTS)]
        messages.append({"role": "user", "content": f"Question {number}: tell me one more thing about {subject}, please."})
        text, row = await turn(server, messages, new_tokens)
        messages.append({"role": "assistant", "content": text})
        rows.append(row)
    return rows


def judge(check, rows, streaming):
    for number, (before, row) in enumerate(zip(rows, rows[1:]), start=1):
        added = row["prompt_tokens"] - before["prompt_tokens"]
        processed = row["prompt_tokens"] - row["cached_tokens"]
        check.that(processed <= added + SLACK, f"turn {number}: {processed} tokens processed, {added} are new")
    if not streaming:
        return
    count = len(rows)
    early, late = rows[count // 4 : count // 2], rows[-(count // 4) :]
    slower = statistics.median(r["first_token"] for r in late) / statistics.median(r["first_token"] for r in early)
    # A busy machine makes it vary; a prompt that is processed again would take a hundred times as long.
    check.that(slower < 3, f"time to the first token grew by a factor of {slower:.2f}")
    grown = max(r["memory"] for r in late) - max(r["memory"] for r in early)
    check.that(grown < 8 * MIB, f"memory grew by {grown / MIB:.1f} MiB")
    check.that(late[-1]["kv_bytes"] <= max(r["kv_bytes"] for r in early), "the cache grew")


def panel(top, rows, title, values):
    """An SVG group: one value per turn as a line, with its largest value written at the axis."""
    width, height, largest = 560, 110, max(values) or 1
    points = " ".join(f"{60 + width * i / max(1, len(rows) - 1):.1f},{top + height - height * v / largest:.1f}" for i, v in enumerate(values))
    return (f'<text x="60" y="{top - 8}">{title}</text><text x="54" y="{top + 8}" text-anchor="end">{largest:,.0f}</text>'
            f'<text x="54" y="{top + height}" text-anchor="end">0</text>'
            f'<path d="M60 {top}V{top + height}H{60 + width}" fill="none" stroke="#888"/>'
            f'<polyline points="{points}" fill="none" stroke="#1f6fb2" stroke-width="1.5"/>')


def plot(rows, policy):
    panels = [("time to the first token (ms)", [1e3 * r["first_token"] for r in rows]),
              ("tokens processed of the prompt", [r["prompt_tokens"] - r["cached_tokens"] for r in rows]),
              ("tokens of the conversation", [r["prompt_tokens"] for r in rows]),
              ("memory of the server (MiB)", [r["memory"] / MIB for r in rows])]
    drawn = "".join(panel(50 + 160 * i, rows, *one) for i, one in enumerate(panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {60 + 160 * len(panels)}" font-family="sans-serif" font-size="11">'
            f'<rect width="100%" height="100%" fill="white"/><text x="60" y="20">{len(rows)} turns, {policy}</text>{drawn}</svg>\n')


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--turns", type=int, default=200)
    options.add_argument("--new-tokens", type=int, default=24)
    options.add_argument("--policy", default="sep-stream")
    options.add_argument("--output", type=Path)
    args = options.parse_args()
    check = Checks()
    with start(args, "--policy", args.policy) as server:
        rows = asyncio.run(conversation(server, args.turns, args.new_tokens))
        judge(check, rows, args.policy.endswith("-stream"))
        check.equal(server.terminate(), 0, "exit code of the server")
    quarter = len(rows) // 4 or 1
    for name, part in (("first", rows[:quarter]), ("last", rows[-quarter:])):
        print(f"{name} {quarter} turns: first token {1e3 * statistics.median(r['first_token'] for r in part):.0f} ms (median), "
              f"{statistics.median(r['prompt_tokens'] - r['cached_tokens'] for r in part):.0f} of {part[-1]['prompt_tokens']} tokens "
              f"processed, memory {max(r['memory'] for r in part) / MIB:.1f} MiB, cache {part[-1]['kv_bytes'] / MIB:.2f} MiB")
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "turns.json").write_text(json.dumps(rows) + "\n")
        (args.output / "turns.svg").write_text(plot(rows, args.policy))
    sys.exit(check.end())


if __name__ == "__main__":
    main()
