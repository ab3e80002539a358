#!/usr/bin/env python3
"""LangChain's ChatOpenAI against `sepllm serve`.

    langchain_client.py --model MODEL [--serve OPTIONS...]

Exit code 1 if a check fails. Needs: langchain-openai (clients.txt).
"""

import asyncio
import sys

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

from checks import Checks, parser, start

QUESTION = "What is the capital of France? Answer in one sentence."


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return "sunny"


def messages(check, model):
    answer = model.invoke(QUESTION)
    check.that("Paris" in answer.content, f"invoke: {answer.content!r}")
    check.equal(answer.usage_metadata["total_tokens"],
                answer.usage_metadata["input_tokens"] + answer.usage_metadata["output_tokens"], "usage")
    check.that(answer.response_metadata["finish_reason"] in ("stop", "length"), "finish reason")
    history = [SystemMessage("Answer with one word."), HumanMessage(QUESTION), AIMessage("Paris"), HumanMessage("And of Italy?")]
    check.that(model.invoke(history).content, "a history of messages")
    check.equal([m.content for m in model.batch([QUESTION, QUESTION])], [answer.content] * 2, "batch")
    check.equal("".join(chunk.content for chunk in model.stream(QUESTION)), answer.content, "stream")
    total = None
    for chunk in model.stream(QUESTION, stream_usage=True):
        total = chunk if total is None else total + chunk
    check.equal(total.usage_metadata["output_tokens"], answer.usage_metadata["output_tokens"], "usage of a stream")
    return answer.content


def settings(check, model, whole):
    scored = model.bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    check.that(scored.response_metadata["logprobs"]["content"][0]["top_logprobs"], "log-probabilities")
    check.that("Paris" not in model.invoke(QUESTION, stop=["Paris"]).content, "stop")
    check.equal(model.bind_tools([weather]).invoke(QUESTION).tool_calls, [], "tools are not called")
    chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | model | StrOutputParser()
    check.equal(chain.invoke({"question": QUESTION}), whole, "a chain")
    check.raises(openai.BadRequestError, lambda: model.bind(top_p=7).invoke(QUESTION), "a wrong setting")


async def asynchronous(check, model, whole):
    check.equal((await model.ainvoke(QUESTION)).content, whole, "ainvoke")
    check.equal("".join([chunk.content async for chunk in model.astream(QUESTION)]), whole, "astream")
    many = await asyncio.gather(*(model.ainvoke(QUESTION) for _ in range(4)))
    check.equal([answer.content for answer in many], [whole] * 4, "four ainvoke together")


def main():
    args = parser(__doc__.splitlines()[0]).parse_args()
    check = Checks()
    with start(args) as server:
        common = {"base_url": f"{server.url}/v1", "api_key": "none", "model": server.model_id(), "temperature": 0, "max_retries": 0}
        model = ChatOpenAI(**common, max_tokens=24, seed=1)
        whole = None
        with check.part("messages"):
            whole = messages(check, model)
        with check.part("settings"):
            settings(check, model, whole)
        with check.part("asynchronous"):
            asyncio.run(asynchronous(check, model, whole))
        with check.part("completions"):
            completion = OpenAI(**common, max_tokens=8)
            text = completion.invoke("Once upon a time")
            check.that(text, "the completion model")
            check.equal("".join(completion.stream("Once upon a time")), text, "stream of the completion model")
    check.equal(server.exit_code, 0, "exit code of the server")
    sys.exit(check.end())


if __name__ == "__main__":
    main()
