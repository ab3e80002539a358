#!/usr/bin/env python3
"""Makes tests/golden/tokenizers/character_classes.json: which of all code points the `tokenizers` library takes for a
letter, a digit, white space and so on, in each of its steps. Needs: tokenizers. Takes a few minutes.

A set is written as lengths of runs in turn, from U+0000 on: so many code points not in it, so many in it, so many
not, ... Surrogates count as not in it. Lower case is a list of [code point, lower case].
"""

import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUT = Path(__file__).resolve().parents[1] / "tests/golden/tokenizers/character_classes.json"
COUNT = 0x110000
CODE_POINTS = [c for c in range(COUNT) if not 0xD800 <= c <= 0xDFFF]


def members(test):
    return {c for c in CODE_POINTS if test(chr(c))}


def matched(pattern):
    """Characters that match a regular expression: two of them are cut apart."""
    step = pre_tokenizers.Split(Regex(pattern), "isolated")
    return members(lambda c: len(step.pre_tokenize_str(c + c)) == 2)


def isolated(step):
    return members(lambda c: len(step.pre_tokenize_str(c + c)) == 2)


def removed(normalizer):
    return members(lambda c: normalizer.normalize_str(c) == "")


def changed(normalizer):
    return members(lambda c: normalizer.normalize_str(c) != c)


def bert(**settings):
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return normalizers.BertNormalizer(**{**off, **settings})


def word_characters():
    """Characters before which a token that is a word by itself is not seen."""
    tokenizer = Tokenizer(models.BPE({"?": 0}, [], unk_token="?"))
    tokenizer.add_tokens([AddedToken("qzq", single_word=True)])
    return members(lambda c: "qzq" not in tokenizer.encode(c + "qzq").tokens)


def runs(members_of_set):
    lengths, inside, length = [], False, 0
    for c in range(COUNT):
        if (c in members_of_set) != inside:
            lengths.append(length)
            inside, length = not inside, 0
        length += 1
    return [*lengths, length]


def sets():
    for pattern in (r"\p{L}", r"\p{N}", r"\s", r"\w", r"\d", r"\p{P}", r"\p{S}", r"\p{M}", r"\p{Lu}", r"\p{Ll}",
                    r"\p{Lm}", r"\p{Lo}", r"\p{Mn}", r"\p{Han}", r"\P{L}", r"[^\p{L}\p{N}]", r"[\P{N}a]",
                    r"[\w]", r"\W", r"[\W]", r"\p{Punct}", "[[:punct:]]", "[[:alpha:]]", "[[:alnum:]]"):
        yield f"regex {pattern}", matched(pattern)
    yield "Digits", isolated(pre_tokenizers.Digits(True))
    yield "Punctuation", isolated(pre_tokenizers.Punctuation())
    yield "single_word", word_characters()
    yield "StripAccents", removed(normalizers.StripAccents())
    yield "BertNormalizer strip_accents", removed(bert(strip_accents=True))
    yield "BertNormalizer clean_text", removed(bert(clean_text=True))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, changed(getattr(normalizers, form)())
    # Marks whose class is neither 0 nor above that of U+0345 (240) change places with it.
    nfd = normalizers.NFD()
    yield "reordered", members(lambda c: nfd.normalize_str("\u0345" + c).endswith("\u0345"))


def main():
    lowercase = normalizers.Lowercase()
    lower = [[c, ord(low)] for c in CODE_POINTS if len(low := lowercase.normalize_str(chr(c))) == 1 and low != chr(c)]
    value = {
        "library": f"tokenizers {tokenizers.__version__}",
        "sets": {name: runs(chosen) for name, chosen in sets()},
        "lower case": lower,
    }
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(v, separators=(',', ':'))}" for name, v in value["sets"].items())
    OUT.write_text(
        f'{{"library":{json.dumps(value["library"])},\n"sets":{{\n{lines}\n}},\n'
        f'"lower case":{json.dumps(lower, separators=(",", ":"))}\n}}\n'
    )


if __name__ == "__main__":
    main()
