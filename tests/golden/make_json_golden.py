"""What Python's json makes of many texts, valid and not: src/base/json.h promises to read as it does.

Writes json/python.json:
- `values`: [text, indent 1 of what was read], or [text, null] where Python refuses it. Surrogates are left out of these.
- `numbers`: [text, float.hex() of what was read].
- `lines`: [hex of a line that claims to be JSON, its "text" with U+FFFD in place of what is no character (bytes as
  Python's decode(errors="replace") has it, lone surrogates as tiktoken has it: by way of UTF-16)], or null where there is
  none.
- `changes`: for some texts every cut, deletion and replacement by each character of an alphabet: a string of 1 and 0 that
  says which of them Python reads, in that order."""

import json
import os

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "json", "python.json")

TEXTS = r"""
null | true | 0 | -0 | 12 | -7 | 9223372036854775807 | -9223372036854775808 | 18446744073709551615 | "" | "a" | [] | {}
[ ] | { } | [[],{}] | {"a":1} | {"b":1,"a":[true,null,"x"]} | {"a":{"a":1},"b":{"a":2}} | [1,2,3] | [1, [2, [3]]]
{"a":1,"a":2} | {"a":1,"b":2,"a":3} | {"a":{"b":1},"a":{"c":2}} | [{"x":{"b":1,"c":{},"b":2}}] | {"a":1,"\u0061":2}
NaN | Infinity | -Infinity | [NaN, Infinity, -Infinity] | {"a": NaN, "b": 1} | {"a": [0.5, Infinity]} | 1e999 | -1e999
-NaN | nan | Nan | inf | infinity | +Infinity | - | -- | +1 | 01 | -01 | 1. | .5 | 1.e5 | 1e | 1e+ | 0x10 | 1_000 | 1e5x
"\"\\\/\b\f\n\r\t" | "\u00e9\u4f60" | "\ud83d\ude00" | "\x41" | "\u12" | "\u12g4" | "\u-123" | "\u 123" | "\" | "a | 'a'
[1,] | [,1] | [1 2] | [1,,2] | {"a"} | {"a":} | {"a":1,} | {,} | {a:1} | {"a" 1} | {"a":1 "b":2} | {1:2} | ] | } | [ | {
{"a":1}} | [1]] | {} x | 1 2 | "a" "b" | tru | truely | nulll | [tru] | [true false] | // | {"a":/**/1}
"""

CONTROLS = ['"a\nb"', '"a\tb"', '"\x7f"', '"\x00"', "\x00", "{}\x00", "\x0b1", "\xa01", "\f{}", "\r\n\t {} \r\n", "", " ", '"\x1f"']

NUMBERS = """0.0 -0.0 0.1 1.0 3.14159 1e5 1E5 1e+5 1e-5 1.5e300 5e-324 2e-324 1e-400 2.2250738585072014e-308 1.7976931348623157e308
1.7976931348623159e308 1e999 123456789012345678 0.30000000000000004 9007199254740993.0 18446744073709551616
-9223372036854775809 100000000000000000000000 8.5e-1 72057594037927945.0 1e23 8.41e21 4.35 0.000001""".split()

CHANGED = [
    '{"text": "on\\u00e9\\n", "id": -1.5e3, "l": [1, NaN, {"a": null}], "t": true}',
    '[ -Infinity ,\n "\\"", {"k":{}}, [ ] ]',
]
ALPHABET = '{}[]:,"\\ \n-+.eE0aNu\x01é'


LINES = [
    b'{"text": "a\\ud83d b"}',
    b'{"text": "\\ud83d\\ude00 \\ude00\\ud83d"}',
    b'{"text": "\\ud83d\\ud83d\\ude00", "id": "\\udc00"}',
    b'{"text": "ok", "id": "\\udc00"}',
    b'{"text": "caf\xe9 \xff\xfe"}',
    b'{"text": "\xe2\x82 \xe2\x82\xac \xf0\x9f\x98 \xed\xa0\xbd \xc0\xaf \xf4\x90\x80\x80"}',
    b'{"text": "ok", "id": "\xff"}',
    b'{"te\xffxt": "x"}',
    b'{"text": "\xff',
    b'{"text": null}',
    b'{"text": 1}',
    b'{"text": ["a"]}',
    b'{"body": "a"}',
    b'["text"]',
    b'"text"',
    b"text",
    b'{"text": "a"} {"text": "b"}',
    b'{"text": "a", "text": "b"}',
    b'{"text": "a", "text": null}',
    b'{"text": "a", "x": -Infinity}',
    b'{"text": NaN}',
    b'{"text": "a\tb"}',
    b'{"text": "a\x00"}',
    b'\xff{"text": "a"}',
    b'{"text": ""}',
]


def text_of(line):
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    text = value.get("text") if isinstance(value, dict) else None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(text, str) else None


def read(text):
    return json.loads(text.encode("utf-8", "surrogatepass"))


def reads(text):
    try:
        read(text)
        return True
    except ValueError:
        return False


def changes(text):
    for n in range(len(text) + 1):
        yield text[:n]
    for at in range(len(text)):
        yield text[:at] + text[at + 1 :]
        for c in ALPHABET:
            yield text[:at] + c + text[at + 1 :]


def main():
    texts = [t.strip() for line in TEXTS.strip().split("\n") for t in line.split(" | ")] + CONTROLS
    texts.append("{" + ",".join(f'"k{i % 40}": {i}' for i in range(100)) + "}")
    values = [[t, json.dumps(read(t), indent=1, ensure_ascii=False) if reads(t) else None] for t in texts]
    golden = {
        "values": values,
        "numbers": [[n, float(read(n)).hex()] for n in NUMBERS],
        "lines": [[line.hex(), text_of(line)] for line in LINES],
        "alphabet": ALPHABET,
        "changes": [[t, "".join("01"[reads(c)] for c in changes(t))] for t in CHANGED],
    }
    with open(OUT, "w", encoding="utf-8") as f:
        json.dump(golden, f, indent=1, ensure_ascii=False)
        f.write("\n")


main()
