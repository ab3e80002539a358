#!/usr/bin/env python3
"""LlamaIndex's OpenAILike against `sepllm serve`, as a completion model (its default) and as a chat model.

    llama_index_client.py --model MODEL [--serve OPTIONS...]

Exit code 1 if a check fails. Needs: llama-index-llms-openai-like (llama_index.txt).
"""

import asyncio
import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

from checks import Checks, parser, start

STORY = "Once upon a time there was a fox. The fox"
CAPITAL = [ChatMessage(role="system", content="Answer in one sentence."), ChatMessage(role="user", content="What is the capital of France?")]


def complete(check, model):
    text = model.complete(STORY).text
    check.that(text, "complete")
    streamed = list(model.stream_complete(STORY))
    check.equal("".join(piece.delta for piece in streamed), text, "stream_complete")
    check.equal(streamed[-1].text, text, "the last text of stream_complete")
    return text


async def complete_async(check, model, text):
    check.equal((await model.acomplete(STORY)).text, text, "acomplete")
    check.equal("".join([piece.delta async for piece in await model.astream_complete(STORY)]), text, "astream_complete")


def chat(check, model):
    text = model.chat(CAPITAL).message.content
    check.that("Paris" in text, f"chat: {text!r}")
    check.equal("".join(piece.delta for piece in model.stream_chat(CAPITAL)), text, "stream_chat")
    return text


async def chat_async(check, model, text):
    check.equal((await model.achat(CAPITAL)).message.content, text, "achat")
    check.equal("".join([piece.delta async for piece in await model.astream_chat(CAPITAL)]), text, "astream_chat")


def main():
    args = parser(__doc__.splitlines()[0]).parse_args()
    check = Checks()
    with start(args) as server:
        common = {"api_base": f"{server.url}/v1", "api_key": "none", "model": server.model_id(), "temperature": 0, "max_tokens": 24,
                  "max_retries": 0}
        for name, settings, sync, later in (("complete", {}, complete, complete_async), ("chat", {"is_chat_model": True}, chat, chat_async)):
            with check.part(name):
                model = OpenAILike(**common, **settings)
                asyncio.run(later(check, model, sync(check, model)))
        with check.part("defaults"):
            plain = OpenAILike(api_base=f"{server.url}/v1", api_key="none", model=server.model_id())
            check.that(plain.complete(STORY).text, "complete with the client's own defaults")
    check.equal(server.exit_code, 0, "exit code of the server")
    sys.exit(check.end())


if __name__ == "__main__":
    main()
