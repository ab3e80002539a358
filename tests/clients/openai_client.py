#!/usr/bin/env python3
"""The official OpenAI client against `sepllm serve`: sync and async, streamed and not, every parameter that it can send.

    openai_client.py --model MODEL [--serve OPTIONS...]

Starts its own servers. Exit code 1 if a check fails. Needs: openai (clients.txt).
"""

import asyncio
import sys
import time

import openai

from checks import Checks, parser, start

CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
STORY = "Once upon a time there was a fox. The fox"
IGNORED = {  # parameters that do not change what an answer means
    "user": "somebody",
    "safety_identifier": "somebody",
    "prompt_cache_key": "key",
    "store": False,
    "metadata": {"a": "b"},
    "service_tier": "auto",
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "modalities": ["text"],
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def models(check, client, name):
    found = client.models.list().data
    check.that(name in [model.id for model in found], "models.list names the model")
    check.equal(found[0].object, "model", "object of a model")
    check.equal(client.models.retrieve(name).id, name, "models.retrieve")
    check.raises(openai.NotFoundError, lambda: client.models.retrieve("nobody"), "models.retrieve of an unknown model")


def completions(check, client, name):
    def create(**settings):
        return client.completions.create(**({"model": name, "prompt": STORY, "max_tokens": 12, "temperature": 0} | settings))

    first = create()
    check.equal(first.object, "text_completion", "object of a completion")
    check.that(first.choices[0].text, "a completion has text")
    check.equal(first.choices[0].finish_reason, "length", "finish reason of a completion")
    check.equal(first.usage.completion_tokens, 12, "tokens of a completion")
    check.equal(first.usage.total_tokens, first.usage.prompt_tokens + 12, "total tokens")
    check.equal(create().choices[0].text, first.choices[0].text, "a greedy completion again")
    check.equal(create(max_tokens=openai.omit).usage.completion_tokens, 16, "tokens of a completion without max_tokens")

    ids = client.post("/tokenize", body={"prompt": STORY}, cast_to=object)["tokens"]
    for prompt, count in ((STORY, 1), ([STORY, "The sea"], 2), (ids, 1), ([ids, ids[:5]], 2)):
        done = create(prompt=prompt)
        check.equal(len(done.choices), count, f"choices of the prompt {prompt}")
        check.equal([choice.index for choice in done.choices], list(range(count)), "indices of choices")
        check.equal(done.choices[0].text, first.choices[0].text, f"text of the prompt {prompt}")

    word = first.choices[0].text.split()[2]
    stopped = create(stop=word).choices[0]
    check.equal(stopped.finish_reason, "stop", "finish reason after a stop string")
    check.equal(stopped.text, first.choices[0].text[: first.choices[0].text.index(word)], "text before a stop string")
    check.equal(create(stop=["@@@", word]).choices[0].text, stopped.text, "several stop strings")
    check.equal(create(stop=None).choices[0].text, first.choices[0].text, "stop null")

    several = create(n=3, temperature=1.2, seed=7, top_p=0.9).choices
    again = create(n=3, temperature=1.2, seed=7, top_p=0.9).choices
    check.equal(len(several), 3, "choices of n=3")
    check.equal([c.text for c in several], [c.text for c in again], "the same seed gives the same texts")
    check.that(len({c.text for c in several}) > 1, "choices differ")
    check.equal(create(best_of=1).choices[0].text, first.choices[0].text, "best_of 1")


def scores(check, client, name):
    def create(**settings):
        return client.completions.create(**({"model": name, "prompt": STORY, "temperature": 0} | settings))

    ids = client.post("/tokenize", body={"prompt": STORY}, cast_to=object)["tokens"]
    for new in (0, 1, 4):
        done = create(max_tokens=new, echo=True, logprobs=2)
        choice, logprobs = done.choices[0], done.choices[0].logprobs
        check.that(choice.text.startswith(STORY), f"echo with {new} new tokens begins with the prompt")
        for what in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            check.equal(len(getattr(logprobs, what)), len(ids) + new, f"length of {what} with {new} new tokens")
        check.equal(logprobs.token_logprobs[0], None, "score of the first token")
        check.that(all(score <= 0 for score in logprobs.token_logprobs[1:]), "scores are at most 0")
        check.equal("".join(logprobs.tokens), choice.text, "the tokens make up the text")
        check.equal([choice.text[at:].startswith(token) for at, token in zip(logprobs.text_offset, logprobs.tokens)],
                    [True] * len(logprobs.tokens), "text offsets")
        for token, score, top in list(zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs))[1:]:
            check.that(score <= max(top.values()), "no score is above the most likely token's")
            check.that(top.get(token) == score, f"the chosen token {token!r} is among the most likely ones, with the same value")
        for score, top in list(zip(logprobs.token_logprobs, logprobs.top_logprobs))[len(ids) :]:
            check.equal(score, max(top.values()), "score of a greedy token")
    check.equal(create(max_tokens=2).choices[0].logprobs, None, "no scores unless asked")


def chat(check, client, name):
    def create(**settings):
        return client.chat.completions.create(**({"model": name, "messages": CAPITAL, "max_tokens": 24, "temperature": 0} | settings))

    first = create()
    message = first.choices[0].message
    check.equal(first.object, "chat.completion", "object of a chat completion")
    check.equal(message.role, "assistant", "role of the answer")
    check.that("Paris" in message.content, f"the capital is named: {message.content!r}")
    check.that(first.id and first.created > 1_600_000_000 and first.model == name, "id, time and model")
    check.equal(create(**IGNORED, extra_body={"unknown_field": 1}).choices[0].message.content, message.content, "ignored parameters")
    check.equal(create(max_tokens=openai.omit, max_completion_tokens=24).choices[0].message.content, message.content,
                "max_completion_tokens")
    check.equal(create(max_completion_tokens=3, max_tokens=openai.omit).usage.completion_tokens, 3, "max_completion_tokens 3")
    parts = [{"role": "user", "content": [{"type": "text", "text": CAPITAL[0]["content"]}]}]
    check.equal(create(messages=parts).choices[0].message.content, message.content, "content in parts")
    check.equal(create(tools=TOOLS, tool_choice="auto").choices[0].message.tool_calls, None, "tools are not called")
    check.equal(create(tools=TOOLS, tool_choice="none").choices[0].finish_reason, first.choices[0].finish_reason, "tool_choice none")
    system = [{"role": "system", "content": "Answer with one word."}, *CAPITAL, {"role": "assistant", "content": "Paris."},
              {"role": "user", "content": "And of Italy?"}]
    check.that(create(messages=system).choices[0].message.content, "roles system, assistant and user")

    scored = create(logprobs=True, top_logprobs=3)
    entries = scored.choices[0].logprobs.content
    ended = scored.choices[0].finish_reason == "stop"  # by a token that is counted, and is no part of the answer
    check.equal(len(entries), scored.usage.completion_tokens - ended, "scores of an answer")
    check.equal(b"".join(bytes(entry.bytes) for entry in entries).decode(), scored.choices[0].message.content, "bytes of the tokens")
    check.that(all(len(entry.top_logprobs) == 3 for entry in entries), "three most likely tokens")
    check.that(all(entry.top_logprobs[0].logprob == entry.logprob for entry in entries), "greedy tokens are the most likely ones")
    check.equal(create(logprobs=True).choices[0].logprobs.content[0].top_logprobs, [], "no most likely tokens unless asked")

    allowed = client.post("/tokenize", body={"prompt": " yes"}, cast_to=object)["tokens"][0]
    forced = create(logit_bias={str(allowed): 100}, max_tokens=3).choices[0].message.content
    check.equal(forced, " yes" * 3, "logit_bias forces a token")
    begins = client.post("/tokenize", body={"prompt": entries[0].token}, cast_to=object)["tokens"]
    forbidden = create(logit_bias={str(begins[0]): -100}).choices[0].message.content
    check.that(not forbidden.startswith(entries[0].token), f"logit_bias forbids a token: {forbidden!r}")
    for penalty in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}, {"frequency_penalty": -2.0, "presence_penalty": -2.0}):
        check.that(create(**penalty).choices[0].message.content, f"an answer with {penalty}")
    repeated = create(messages=[{"role": "user", "content": "Say yes a hundred times"}], max_tokens=40)
    varied = create(messages=[{"role": "user", "content": "Say yes a hundred times"}], max_tokens=40, frequency_penalty=2.0)
    check.that(words(varied) >= words(repeated), "a frequency penalty makes the words vary")
    seeds = [create(temperature=1.5, seed=seed).choices[0].message.content for seed in (1, 1, 2)]
    check.that(seeds[0] == seeds[1] and seeds[0] != seeds[2], "seeds")
    check.equal(len(create(n=2, temperature=1).choices), 2, "n=2")


def words(done):
    return len(set(done.choices[0].message.content.lower().split()))


def streams(check, client, name):
    settings = {"model": name, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(messages=CAPITAL, **settings)
    chunks = list(client.chat.completions.create(messages=CAPITAL, stream=True, **settings))
    check_chat_chunks(check, chunks, whole)
    check.that(all(chunk.usage is None for chunk in chunks), "no usage in a stream unless asked")
    asked = list(client.chat.completions.create(messages=CAPITAL, stream=True, stream_options={"include_usage": True}, **settings))
    check.equal(asked[-1].choices, [], "the usage chunk has no choices")
    check.equal(asked[-1].usage.completion_tokens, whole.usage.completion_tokens, "usage of a stream")
    check.that(all(chunk.usage is None for chunk in asked[:-1]), "usage only in the last chunk")
    check_chat_chunks(check, asked[:-1], whole)
    scored = list(client.chat.completions.create(messages=CAPITAL, stream=True, logprobs=True, top_logprobs=2, **settings))
    entries = [entry for chunk in scored for choice in chunk.choices if choice.logprobs for entry in choice.logprobs.content]
    check.equal(b"".join(bytes(entry.bytes) for entry in entries).decode(), whole.choices[0].message.content, "scores of a stream")

    text = client.completions.create(prompt=STORY, **settings).choices[0].text
    pieces = list(client.completions.create(prompt=STORY, stream=True, **settings))
    check.equal("".join(piece.choices[0].text for piece in pieces), text, "a streamed completion")
    check.equal(pieces[-1].choices[0].finish_reason, "length", "finish reason of a streamed completion")
    check.that(all(piece.object == "text_completion" for piece in pieces), "object of a streamed completion")
    both = list(client.completions.create(prompt=[STORY, "The sea"], n=2, stream=True, **settings))
    texts = {}
    for chunk in both:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    check.equal(sorted(texts), [0, 1, 2, 3], "two prompts with n=2 in one stream")
    check.equal(texts[0], text, "the first of four streamed choices")


def check_chat_chunks(check, chunks, whole):
    check.that(all(chunk.object == "chat.completion.chunk" and chunk.id == chunks[0].id for chunk in chunks), "object and id")
    check.equal(chunks[0].choices[0].delta.role, "assistant", "the first chunk has the role")
    check.equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), whole.choices[0].message.content, "a streamed chat")
    check.equal([chunk.choices[0].finish_reason for chunk in chunks[:-1]], [None] * (len(chunks) - 1), "no finish reason before the end")
    check.equal(chunks[-1].choices[0].finish_reason, whole.choices[0].finish_reason, "finish reason of a stream")
    check.that(not chunks[-1].choices[0].delta.content, "the last delta is empty")


def policies(check, client, name):
    long = "The fox ran over the hill. It saw a dog, and it was afraid. " * 60  # longer than a chunk of a prompt

    def create(more="", **policy):
        return client.completions.create(model=name, prompt=long + more, max_tokens=4, temperature=0, extra_body={"sepllm": policy} if policy else {})

    full, stream = create(), create(policy="sep-stream", seps=16, window=32, capacity=96)
    check.that(stream.usage.model_extra["sepllm"]["kv_bytes"] < full.usage.model_extra["sepllm"]["kv_bytes"], "a policy of a request")
    check.that(0 < stream.usage.model_extra["sepllm"]["kv_full_share"] < 1, "share of the full cache")
    again = create(policy="sep-stream", seps=16, window=32, capacity=96)
    check.equal(again.choices[0].text, stream.choices[0].text, "the same text again")
    longer = create(more="Then it ran home.", policy="sep-stream", seps=16, window=32, capacity=96)
    # (The end of the prompt is written in other tokens when it continues; marks are about 256 tokens apart.)
    check.that(longer.usage.prompt_tokens_details.cached_tokens > 700, f"cached tokens of a longer prompt: {longer.usage}")
    check.raises(openai.BadRequestError, lambda: create(policy="nothing"), "an unknown policy")


def errors(check, client, name):
    def bad(kind, message, **settings):
        chat = "messages" in settings
        create = client.chat.completions.create if chat else client.completions.create
        prompt = {} if chat or "prompt" in settings else {"prompt": STORY}
        check.raises(kind, lambda: create(**({"model": name, "max_tokens": 2} | prompt | settings)), message)

    wrong = [{"max_tokens": -1}, {"temperature": -1}, {"temperature": 1000}, {"top_p": -0.5}, {"top_p": 1.5}, {"n": 0}, {"n": 100000},
             {"logprobs": -1}, {"logprobs": 1000}, {"presence_penalty": 5}, {"frequency_penalty": -5}, {"suffix": "end"},
             {"prompt": []}, {"prompt": [10**9]}, {"prompt": [-1]}, {"prompt": [1.5]}, {"logit_bias": {"x": 1}},
             {"logit_bias": {"1": 1000}}, {"stop": ["x"] * 1000}, {"stop": 5}, {"best_of": 5, "n": 2}, {"seed": "x"}]
    for settings in wrong:
        bad(openai.BadRequestError, f"a completion with {str(settings)[:60]}", **settings)
    wrong = [{"messages": []}, {"messages": [{"role": "nobody", "content": "x"}]}, {"messages": [{"role": "user", "content": 5}]},
             {"messages": CAPITAL, "top_logprobs": 3}, {"messages": CAPITAL, "logprobs": True, "top_logprobs": 21},
             {"messages": CAPITAL, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
             {"messages": CAPITAL, "tools": TOOLS, "tool_choice": "required"},
             {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}]
    for settings in wrong:
        bad(openai.BadRequestError, f"a chat with {str(settings)[:120]}", **settings)
    bad(openai.NotFoundError, "an unknown model", model="nobody")
    check.raises(openai.NotFoundError, lambda: client.embeddings.create(model=name, input="x"), "embeddings are not there")
    try:
        client.completions.create(model=name, prompt=STORY, max_tokens=-5)
    except openai.BadRequestError as error:
        check.equal(error.param, "max_tokens", "param of an error")
        check.that(error.type and "max_tokens" in str(error), "type and message of an error")
    raw = client.completions.with_raw_response.create(model=name, prompt=STORY, max_tokens=1)
    check.that(raw.headers.get("x-request-id"), "x-request-id")


def leaving(check, client, name, server):
    """A client that leaves in the middle of a stream stops its request."""
    stream = client.completions.create(model=name, prompt=STORY, max_tokens=4000, temperature=1, stream=True,
                                       extra_body={"logit_bias": {"0": -100, "2": -100}})
    for _, _chunk in zip(range(3), stream):
        pass
    stream.close()
    until = time.monotonic() + 5
    while time.monotonic() < until and busy(server):
        time.sleep(0.05)
    check.equal(busy(server), 0, "requests that run after the client has left")
    check.that(client.completions.create(model=name, prompt=STORY, max_tokens=2).choices[0].text, "the next request")


def busy(server):
    for line in text_of(server, "/metrics").splitlines():
        if line.startswith("vllm:num_requests_running"):
            return int(float(line.split()[-1]))
    raise RuntimeError("/metrics does not have vllm:num_requests_running")


def text_of(server, path):
    import urllib.request

    with urllib.request.urlopen(server.url + path, timeout=30) as answer:
        return answer.read().decode()


async def asynchronous(check, url, name):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        prompts = [f"{STORY} number {i} went to" for i in range(8)]

        async def complete(prompt):
            done = await client.completions.create(model=name, prompt=prompt, max_tokens=16, temperature=0)
            return done.choices[0].text

        async def streamed(prompt):
            stream = await client.completions.create(model=name, prompt=prompt, max_tokens=16, temperature=0, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])

        alone = [await complete(prompt) for prompt in prompts]
        check.equal(await asyncio.gather(*map(complete, prompts)), alone, "eight requests together")
        check.equal(await asyncio.gather(*map(streamed, prompts)), alone, "eight streams together")
        chat = await client.chat.completions.create(model=name, messages=CAPITAL, max_tokens=24, temperature=0)
        stream = await client.chat.completions.create(model=name, messages=CAPITAL, max_tokens=24, temperature=0, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        check.equal(text, chat.choices[0].message.content, "an asynchronous chat")


def keys_and_queue(check, args):
    with start(args, "--api-key", "secret", "--api-key", "other", "--parallel", 1, "--max-queue", 1) as server:
        check.raises(openai.AuthenticationError, lambda: openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong").models.list(), "a wrong key")
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="other", max_retries=0)
        name = client.models.list().data[0].id
        check.that(client.completions.create(model=name, prompt=STORY, max_tokens=1).choices, "a right key")

        async def many():
            async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0) as several:
                calls = [several.completions.create(model=name, prompt=STORY, max_tokens=100) for _ in range(8)]
                return await asyncio.gather(*calls, return_exceptions=True)

        done = asyncio.run(many())
        refused = [error for error in done if isinstance(error, openai.RateLimitError)]
        check.that(refused and len(refused) < 8, "a full queue refuses")
        check.that(all("retry-after" in error.response.headers for error in refused), "Retry-After")
        check.that(all(not isinstance(answer, Exception) or isinstance(answer, openai.RateLimitError) for answer in done),
                   f"no other errors: {[answer for answer in done if isinstance(answer, Exception)][:2]}")


def main():
    args = parser(__doc__.splitlines()[0]).parse_args()
    check = Checks()
    with start(args) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        name = server.model_id()
        for part in (models, completions, scores, chat, streams, policies, errors):
            with check.part(part.__name__):
                part(check, client, name)
        with check.part("leaving"):
            leaving(check, client, name, server)
        with check.part("asynchronous"):
            asyncio.run(asynchronous(check, server.url, name))
        check.equal(server.terminate(), 0, "exit code of the server")
    with check.part("keys_and_queue"):
        keys_and_queue(check, args)
    sys.exit(check.end())


if __name__ == "__main__":
    main()
