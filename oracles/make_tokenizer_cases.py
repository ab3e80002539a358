#!/usr/bin/env python3
"""Makes tests/golden/tokenizers/cases.json: small tokenizers with every kind of step that we read, and what the
`tokenizers` library makes of a few texts with them. Needs: tokenizers.

The vocabularies are trained here without any pre-tokenizer, so that merges run across words: a cut in the wrong
place changes the ids.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

OUT = Path(__file__).resolve().parents[1] / "tests/golden/tokenizers/cases.json"

TEXTS = [
    "",
    " ",
    "Hello world",
    " Hello  world, it's 12345 days!\n\n  They'LL go... (isn't it?)",
    "a\tb \n c   \n",
    "caf\u00e9 cafe\u0301 na\u00efve \u212b\ufb01 \u1112\u1161\u11ab \u0958 \u03a3\u03c3 \u0130",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \U0001f600\u200d\U0001f525 \u00b2\u00bd \u0663\u0664",
    "'s 't''re\u2019s \u00a0x\u3000y\u2028z \x00\x00 \x7f",
    "the the the the  the   the",
    "<s>Hello<x> <y>the</y><z> <z> az <z>a  <l>  x  <r>  y",
    "$100+2=<3>|^~`@#_a_b_",
]

# Characters whose class depends on the version of Unicode, or on whose idea of a word it is. Not trained on.
NEWER = "a\U000105c7a 1\U00010d44\U00011de0 x\ua7ce\ua7da"  # letters and digits of 16.0 and 17.0
NEW_MARKS = ["e\u07fd\u0301 ", "a\u08d4\u0301\u0345\u0898 \U0001e4ec\u0327"]  # of 9.0 and later
MARKS_AND_WORDS = "a\u200cb \u24b6c \u00b2\u00bd\u2460 \U00010d44_\u203f\u0903"
MORE_TEXTS = {
    "gpt2": [NEWER],
    "gpt2 with prefix space": ["\nfoo", "\tx", "\u00a0x", " x", "\u3000", "\n"],
    "prefix space behind added tokens": ["\nfoo<s>\nfoo<s> x<s>\tx<x>y</y>\u00a0z<l>\nw<r>\nv"],
    "prefix space behind a split": ["the\nthe the\tthethe"],
    "llama3": [NEWER],
    "qwen2": [NEWER, *NEW_MARKS],
    "tekken": [NEWER, "HelloWorld aBC//\n/x \u01c5\u02b0\u0301A\u0301b \u00c9t\u00c9"],
    "falcon": [NEWER, " \u2e43. ", "a\u2e43\u2e44b"],
    "punctuation Isolated": ["a\u2e43b\u2e44c\u16fed\u00a7\u20ac"],
    "individual digits": [NEWER],
    "split at words": [NEWER, MARKS_AND_WORDS],
    "split at classes": [NEWER, MARKS_AND_WORDS, "ab1f g-h \u4e00\u3001\u3005\U000323b0"],
    "lines": [NEWER],
    "added tokens": [
        "a\u200c<z>", "\u24b6<z>", "\u00b2<z>", "\u2460<z>", "\u0301<z>", "_<z>", "-<z>", "<z>\u200d", "<z>\u0903",
        "<z>\U000105c7", "\ua7ce<z>",
    ],
    "NFC": NEW_MARKS, "NFD": NEW_MARKS, "NFKC": NEW_MARKS, "NFKD": NEW_MARKS,
    "Lowercase": ["\ua7cb\ua7ce\ua7da \U00010d50\U00016ea0\u1c89 \u0130\u03a3"],
}

# For steps that look at kinds of characters of their own.
CHARACTER_TEXTS = [
    "Hello w\u00f6rld",
    "a\u200db\u0085c\ufffd\x00d \u4e2d\u6587 e\u0301\u0327\u20dd x\u0488 \u0903z",
    "\u200b\ufeff\u2028x\u2581y\x01z\x0b\x7f\u1680 \u00a0\u3000",
    "don't stop, e.g. now--OK? \u24b6\u2160 a_b\u203fc",
    "lower lowest newer wider low_low low",
    "\u212bngstr\u00f6m \u1e9b\u0323 \u0130stanbul \u03a3\u03a3",
]

ISOLATED = {"add_prefix_space": False, "trim_offsets": True}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (  # Mistral NeMo and later
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sequence(kind, *steps):
    return {"type": "Sequence", kind: list(steps)}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def train(byte_level_alphabet, mark=False):
    """(vocab, merges) over the texts, each a single word."""
    tokenizer = Tokenizer(models.BPE())
    texts = [t.replace(" ", "\u2581") for t in TEXTS] if mark else TEXTS
    alphabet = []
    if byte_level_alphabet:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=520, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def train_words(pre_tokenizer, **settings):
    """(vocab, merges) over words, whose pieces have a suffix or prefix."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizer
    # z and what is not ASCII stays unknown.
    texts = [text.replace("z", "").encode("ascii", "ignore").decode() for text in TEXTS + CHARACTER_TEXTS]
    trainer = trainers.BpeTrainer(
        vocab_size=330, min_frequency=1, special_tokens=["<unk>"], show_progress=False, **settings
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def document(model, normalizer=None, pre_tokenizer=None, decoder=None, post_processor=None, added=()):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def bpe(vocab, merges, **settings):
    base = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
    }
    return {**base, **settings, "vocab": vocab, "merges": merges}


def added_tokens(first_id, vocab):
    def token(k, content, **flags):
        base = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        return {"id": vocab.get(content, first_id + k), "content": content, **base, **flags}

    return [
        token(0, "<s>", special=True),
        token(1, "<x>", special=True, normalized=True),
        token(2, "<z>", single_word=True),
        token(3, "<l>", lstrip=True),
        token(4, "<r>", rstrip=True, special=True),
        token(5, "  "),
        token(6, "</y>", normalized=True),
    ]


def tokenizers():
    """Yields (name, tokenizer.json as a value)."""
    vocab, merges = train(True)
    model = bpe(vocab, merges)
    decoder = {"type": "ByteLevel", **ISOLATED, "use_regex": True}

    def bytes_with(*steps, **more):
        return document(model, pre_tokenizer=sequence("pretokenizers", *steps), decoder=decoder, **more)

    yield "gpt2", document(model, pre_tokenizer=byte_level(), decoder=decoder)
    yield "gpt2 with prefix space", document(model, pre_tokenizer=byte_level(prefix=True), decoder=decoder)
    yield "prefix space behind added tokens", document(
        model, None, byte_level(prefix=True), decoder, added=added_tokens(len(vocab), vocab)
    )
    yield "prefix space behind a split", bytes_with(
        split({"String": "the"}, "MergedWithPrevious"), byte_level(prefix=True)
    )
    yield "bytes without regex", document(model, pre_tokenizer=byte_level(regex=False), decoder=decoder)
    yield "llama3", bytes_with(split({"Regex": LLAMA3}, "Isolated"), byte_level(regex=False))
    yield "llama3 inverted", bytes_with(split({"Regex": LLAMA3}, "Removed", True), byte_level(regex=False))
    yield "qwen2", bytes_with(
        split({"Regex": QWEN2}, "Isolated"), byte_level(regex=False), normalizer={"type": "NFC"},
        added=added_tokens(len(vocab), vocab),
    )
    tekken = bpe(vocab, merges[: len(merges) // 2], ignore_merges=True)
    yield "tekken", document(
        tekken, pre_tokenizer=sequence("pretokenizers", split({"Regex": TEKKEN}, "Isolated"), byte_level(regex=False)),
        decoder=decoder,
    )
    yield "falcon", bytes_with(
        {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(),
        {"type": "Digits", "individual_digits": False}, split({"Regex": "[0-9][0-9][0-9]"}, "Isolated"),
    )
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            name = f"split {behavior}{' inverted' if invert else ''}"
            yield name, bytes_with(split({"Regex": r"\s|[\p{P}e]"}, behavior, invert), byte_level(regex=False))
        yield f"punctuation {behavior}", bytes_with(
            {"type": "Punctuation", "behavior": behavior}, byte_level(regex=False)
        )
    yield "split at a string", bytes_with(split({"String": "the"}, "MergedWithPrevious"), byte_level(regex=False))
    yield "split at words", bytes_with(split({"Regex": r"\w+|\S"}, "Isolated"), byte_level(regex=False))
    yield "split at classes", bytes_with(
        split({"Regex": r"[^\W\d_]+|\P{N}\b|\h|\p{Punct}|[[:punct:]]|\p{Han}|\p{^Letter}\p{nonspacing mark}*"}, "Isolated"),
        byte_level(regex=False),
    )
    yield "individual digits", bytes_with({"type": "Digits", "individual_digits": True}, byte_level())
    yield "lines", bytes_with(split({"Regex": r"^\s*\S|.$"}, "Isolated"), byte_level(regex=False))
    yield "ignore merges", document(
        bpe(vocab, merges[: len(merges) // 2], ignore_merges=True), pre_tokenizer=byte_level(), decoder=decoder
    )
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield form, document(model, {"type": form}, byte_level(), decoder)
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    yield "strip and replace", document(
        model,
        sequence("normalizers", strip, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}),
        byte_level(), decoder,
    )
    yield "added tokens", document(model, {"type": "NFC"}, byte_level(), decoder, added=added_tokens(len(vocab), vocab))
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [added_tokens(len(vocab), vocab)[0]["id"]], "tokens": ["<s>"]}},
    }
    yield "template", document(
        model, None, byte_level(), decoder, sequence("processors", byte_level(), template), added_tokens(len(vocab), vocab)
    )

    marked_vocab, marked_merges = train(False, mark=True)
    base = {"<unk>": 0, **{f"<0x{b:02X}>": b + 1 for b in range(256)}}
    shown = [p for p in marked_vocab if not ("\u4e00" <= p <= "\u9fff")]  # these fall back to bytes
    for piece in sorted(shown, key=marked_vocab.get):
        base[piece] = len(base)
    kept = [m for m in marked_merges if all(p in base for p in (m[0], m[1], m[0] + m[1]))]
    fallback = bpe(base, kept, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    llama2_decoder = sequence(
        "decoders", back, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    )
    prepend = sequence("normalizers", {"type": "Prepend", "prepend": "\u2581"}, mark)
    yield "llama2", document(fallback, prepend, None, llama2_decoder, added=added_tokens(len(base), base))
    yield "gemma", document(
        fallback, mark, split({"String": " "}, "MergedWithPrevious"),
        sequence("decoders", back, {"type": "ByteFallback"}, {"type": "Fuse"}), added=added_tokens(len(base), base),
    )
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            step = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}
            yield f"metaspace {scheme}{' split' if cut else ''}", document(
                fallback, None, step, sequence("decoders", {"type": "ByteFallback"}, step), added=added_tokens(len(base), base)
            )
    no_bytes = {p: k for k, p in enumerate(["<unk>", *shown])}
    for fuse in (False, True):
        unknown = bpe(no_bytes, kept, unk_token="<unk>", fuse_unk=fuse)
        yield f"unknown characters{' fused' if fuse else ''}", document(unknown, mark, None, sequence("decoders", back, {"type": "Fuse"}))
    yield "unknown characters dropped", document(
        bpe(no_bytes, kept), mark, None, sequence("decoders", back, {"type": "Fuse"})
    )

def all_tokenizers():
    """Yields (name, tokenizer.json as a value, texts)."""
    for name, value in tokenizers():
        yield name, value, [*TEXTS, *MORE_TEXTS.get(name, ())]
    more = [*TEXTS, *CHARACTER_TEXTS, "lowest" * 12]
    for name, value in [*character_tokenizers(), *word_tokenizers()]:
        yield name, value, more


def character_tokenizers():
    """Steps that tell characters by their kinds, and tokens around a text."""
    vocab, merges = train(True)
    model = bpe(vocab, merges)
    decoder = {"type": "ByteLevel", **ISOLATED, "use_regex": True}
    more = {"added": added_tokens(len(vocab), vocab)}

    def words(*steps):
        steps = sequence("pretokenizers", *steps, byte_level(regex=False))
        return document(model, pre_tokenizer=steps, decoder=decoder, **more)

    for kind in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        yield kind, words({"type": kind})
    yield "CharDelimiterSplit", words({"type": "CharDelimiterSplit", "delimiter": "e"})
    yield "Whitespace, Digits", words({"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": True})

    def normal(*steps):
        return document(model, sequence("normalizers", *steps), byte_level(), decoder, **more)

    yield "StripAccents", normal({"type": "StripAccents"})
    yield "StripAccents after NFKD", normal({"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"})
    yield "Nmt", normal({"type": "Nmt"})
    for clean, chinese, accents, lower in (
        (False, False, None, True), (True, True, None, True), (True, False, None, False), (False, True, None, False),
        (False, False, True, False), (True, True, False, True)):
        step = {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
                "strip_accents": accents, "lowercase": lower}
        yield f"BertNormalizer {clean} {chinese} {accents} {lower}", normal(step)
    yield "ByteLevel normalizer", document(model, {"type": "ByteLevel"}, None, decoder, **more)
    yield "ByteLevel normalizer, split", document(
        model, {"type": "ByteLevel"}, split({"Regex": "[\u0100-\u0120]|\\d"}, "MergedWithNext"), decoder, **more)

    ids = {token["content"]: token["id"] for token in more["added"]}
    ends = {"sep": ["</y>", ids["</y>"]], "cls": ["<s>", ids["<s>"]]}
    roberta = {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}
    bert = {"type": "BertProcessing", **ends}
    yield "RobertaProcessing", document(model, None, byte_level(), decoder, roberta, **more)
    yield "BertProcessing", document(
        model, None, byte_level(), decoder, sequence("processors", byte_level(), bert), **more)


def word_tokenizers():
    """Pieces that tell by a suffix or prefix where in a word they stand."""
    bert = pre_tokenizers.BertPreTokenizer()
    lower = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
             "lowercase": True}
    for prefix, suffix in ((None, "</w>"), ("##", None), ("##", "</w>")):
        settings = {}
        if prefix:
            settings["continuing_subword_prefix"] = prefix
        if suffix:
            settings["end_of_word_suffix"] = suffix
        decoder = {"type": "BPEDecoder", "suffix": suffix or "##"}
        vocab, merges = train_words(bert, **settings)
        for unk in ("<unk>", None):
            model = bpe(vocab, merges, unk_token=unk, **settings)
            name = f"pieces {prefix}a{suffix}, unknown {unk}"
            yield name, document(model, lower, {"type": "BertPreTokenizer"}, decoder, added=added_tokens(len(vocab), vocab))
        fallback = dict(vocab)
        for b in range(256):
            fallback.setdefault(f"<0x{b:02X}>", len(fallback))
        yield f"pieces {prefix}a{suffix}, bytes", document(
            bpe(fallback, merges, byte_fallback=True, **settings), None, {"type": "Whitespace"}, decoder)
        vocab, merges = train_words(pre_tokenizers.ByteLevel(add_prefix_space=False), **settings)
        yield f"bytes {prefix}a{suffix}", document(
            bpe(vocab, merges, unk_token="<unk>", **settings), None, byte_level(),
            {"type": "ByteLevel", **ISOLATED, "use_regex": True})
    long = bpe(*train_words(bert, end_of_word_suffix="</w>"), unk_token="<unk>", end_of_word_suffix="</w>",
               ignore_merges=True, fuse_unk=True)
    yield "pieces a</w>, ignore merges", document(long, None, {"type": "WhitespaceSplit"}, {"type": "BPEDecoder", "suffix": "</w>"})


def main():
    result = []
    for name, value, texts in all_tokenizers():
        tokenizer = Tokenizer.from_str(json.dumps(value))
        cases = []
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            framed = tokenizer.encode(text, add_special_tokens=True).ids
            cases.append({"text": text, "ids": ids, "framed": framed, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
        plain = Tokenizer.from_str(json.dumps(value))
        plain.encode_special_tokens = True
        for case in cases:
            case["plain"] = plain.encode(case["text"], add_special_tokens=False).ids
            for key in ("framed", "plain"):
                if case[key] == case["ids"]:
                    del case[key]  # the same
        result.append({"name": name, "tokenizer": value, "cases": cases})
    # Many tokenizers share a model: it is written once, under its number.
    models_by_text = {}
    for entry in result:
        text = json.dumps(entry["tokenizer"]["model"], separators=(",", ":"))
        entry["tokenizer"]["model"] = models_by_text.setdefault(text, len(models_by_text))
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in result)
    shared = ",\n".join(models_by_text)
    OUT.write_text(f'{{"models":[\n{shared}\n],"tokenizers":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
