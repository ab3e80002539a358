"""What hostile.py sends: makers of requests, each of which must be answered by 4xx or by the end of the connection."""

import json

GOOD = {"prompt": "The fox ran over the hill.", "max_tokens": 2, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2, "temperature": 0}
HUGE = ["9" * 400, "1e999", "-1e999", "18446744073709551616", "-9223372036854775809", "1e308", "NaN", "Infinity", "-0.5"]
WRONG_TYPES = ['"x"', "[]", "{}", "[[[1]]]", "true"]
RAW_FIELDS = {  # values (as JSON text) that are wrong for a field, beside those of a wrong type
    "max_tokens": ["-1", "-9223372036854775808", "1.5", *HUGE],
    "temperature": ["-1", "1e30", "1e999", "-1e999", "NaN"],
    "top_p": ["-0.1", "1.01", "1e999", "NaN"],
    "n": ["0", "-1", "1000000", "1.5", *HUGE],
    "best_of": ["-1", "1000000", *HUGE],
    "logprobs": ["-1", "100000", "2147483648", "1.5", *HUGE],
    "presence_penalty": ["-3", "3", "1e999"],
    "frequency_penalty": ["-3", "3", "NaN"],
    "seed": ["1.5", "1e999", "9" * 400],
}


def raw(path, body, **headers):
    """The bytes of a POST request whose Content-Length is right."""
    body = body if isinstance(body, bytes) else body.encode()
    fields = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(body))} | headers
    return f"POST {path} HTTP/1.1\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode() + b"\r\n" + body


def with_field(base, name, value):
    """base as JSON text, one field of which is the JSON text `value`."""
    rest = json.dumps({key: v for key, v in base.items() if key != name})
    return rest[:-1] + f', "{name}": {value}}}'


def numbers(random):
    name = random.choice(list(RAW_FIELDS))
    # Some clients write logprobs: true where a number is meant.
    value = random.choice(RAW_FIELDS[name] + WRONG_TYPES[: -1 if name == "logprobs" else None])
    return raw("/v1/completions", with_field(GOOD, name, value))


def chat_numbers(random):
    name, value = random.choice([
        *((name, value) for name in ("max_tokens", "max_completion_tokens", "n") for value in [*RAW_FIELDS["n"], *WRONG_TYPES]),
        *(("top_logprobs", value) for value in RAW_FIELDS["logprobs"]), *(("logprobs", value) for value in ["5", '"x"', "[]"]),
        *(("stream", value) for value in ["5", '"yes"', "[]", "{}"]), *(("stream_options", value) for value in ["5", '"x"', "[1]"]),
        *(("messages", value) for value in ["5", '"x"', "{}", "[]", "[5]", "[[]]", "null", '[{"role": 5}]', '[{"content": "x"}]']),
        ("messages", json.dumps([{"role": "user", "content": [{"type": "audio"}]}])),
        ("messages", json.dumps([{"role": "user", "content": {"deep": [[[[]]]]}}])),
        ("tools", "5"), ("tool_choice", '"required"'), ("response_format", '{"type": "json_object5"}'),
    ])
    return raw("/v1/chat/completions", with_field(CHAT, name, value))


def amounts(random):
    name, value = random.choice([
        ("stop", ["x"] * 10_000), ("stop", [5]), ("stop", {"a": 1}), ("stop", ["x" * 1_000_000]),
        ("logit_bias", {str(i): 1 for i in range(49_000)}), ("logit_bias", {"-1": 1}), ("logit_bias", {"999999999": 1}),
        ("logit_bias", {"1": "x"}), ("logit_bias", {"9" * 50: 1}), ("logit_bias", [1]), ("logit_bias", {"1": 1e30}),
        ("prompt", ["x"] * 100_000), ("prompt", []), ("prompt", [[]]), ("prompt", [[1], "x"]), ("prompt", [1, "x"]), ("prompt", [[1.5]]),
        ("prompt", [10**12]), ("prompt", [[-1]]), ("prompt", [[[1]]]), ("prompt", {"a": 1}), ("prompt", 5), ("prompt", [True]),
        ("model", "x" * 100_000), ("model", 5), ("model", "../../etc/passwd"), ("suffix", "end"), ("echo", "yes"), ("stream", 3),
        ("sepllm", 5), ("sepllm", {"policy": "../x"}), ("sepllm", {"window": -5}), ("sepllm", {"window": 1e30}), ("sepllm", {"nobody": 1}),
        ("sepllm", {"policy": "sep-stream", "capacity": -1}), ("sepllm", {"policy": "sep-stream", "seps": 2**62, "capacity": 2**63}),
        ("sepllm", {"model": "/etc/passwd"}), ("sepllm", {"policy": ["sep"]}), ("prompt", [1] * 3_000_000),
    ])
    return raw("/v1/completions", json.dumps(GOOD | {name: value}))


def encodings(random):
    body = json.dumps(GOOD)
    return raw(random.choice(["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/apply-template"]), random.choice([
        b"", b" ", b"null", b"5", b'"x"', b"[]", b"{", b'{"prompt": ', b"{}}", body.encode()[:-1], body.encode() + b"x",
        body.encode("utf-16"), b"\xef\xbb\xbf" * 3 + body.encode(), b'{"prompt": "\xff\xfe"}', b'{"prompt": "\xed\xa0\x80", "content": "\xed\xa0\x80"}',
        b'{"prompt": "\\ud800", "content": "\\ud800", "messages": [{"role": "user", "content": "\\ud800"}]}', b'{"prompt": "\\u12"}', b"\x00" * 100,
        b'{"prompt": "a\nb"}', b"[" * 100_000, b'{"a":' * 50_000, b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"{'prompt': 'x'}",
        b'{"prompt": "x",}', b'{"prompt": 01}', bytes(random.randrange(256) for _ in range(random.randrange(1, 300))),
        b'{"tokens": [1e30]}', b'{"tokens": ["x"]}', b'{"tokens": [-1]}', b'{"tokens": 5}', b'{"prompt": 5, "content": 5, "tokens": {}}',
    ]))


def http_heads(random):
    length = b"Content-Length: "
    return random.choice([
        b"\r\n\r\n\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + length + b"-1\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\n" + length + b"x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + length + b"99999999999999999999999\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + length + b"1099511627776\r\n\r\n{}",
        b"POST /v1/completions HTTP/1.1\r\n" + length + b"5\r\n" + length + b"6\r\n\r\n{}{}{}",
        b"POST /v1/completions HTTP/1.1\r\n" + length + b"2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{}",
        b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n" + b"x" * 100,
        b"POST /v1/completions HTTP/1.1\r\n" + length + b"5\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 200, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 20,
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%zz%%% HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n", b"DELETE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::bad/nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff\xfe\xfd" * 50 + b"\r\n\r\n",
    ])


def other_routes(random):
    path, body = random.choice([
        ("/tokenize", {}), ("/tokenize", {"prompt": 5}), ("/tokenize", {"content": None}), ("/detokenize", {"tokens": [10**9]}),
        ("/detokenize", {"tokens": ["1"]}), ("/detokenize", {"tokens": [-1]}), ("/detokenize", {}), ("/apply-template", {}),
        ("/apply-template", {"messages": 5}), ("/apply-template", {"messages": [{"role": "user"}]}), ("/v1/nothing", {}), ("/metrics", {}),
        ("/slots", {}), ("/health", {"a": 1}), ("/tokenizer_info", []), ("/v1/embeddings", {"input": "x"}), ("/v1/models/x/y/z", {}),
    ])
    return raw(path, json.dumps(body))


COMPLETE = [numbers, chat_numbers, amounts, encodings, http_heads, other_routes]
