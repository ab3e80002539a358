"""What the `tokenizers` library's BpeTrainer makes of a small text: vocabulary, merges and ids. The text is made here, with
many words of equal counts (so that ties decide), runs of one letter, and characters of 1 to 4 bytes.

Writes bpe_training/golden.json."""

import json
import os
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bpe_training")
#        vocabulary, least count, special tokens
CASES = [(300, 2, ["<|endoftext|>"]), (520, 2, ["<|endoftext|>"]), (700, 1, []), (2000, 3, ["<pad>", "the", "<|end|>"])]


def make_documents():
    rng = random.Random(7)
    syllables = "ba be bi bo ka ke ki ko ra re ri ro the an er on aa aaa st".split()
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(120)]
    others = ["\u00e9t\u00e9", "\u4f60\u597d", "\U0001f600", "na\u00efve", "don't", "we'll", "1234", "12", "!!!", "--", "#", "\u00a0"]
    documents = []
    for _ in range(12):
        text = ""
        for _ in range(40):
            text += rng.choice(words) if rng.random() < 0.85 else rng.choice(others)
            text += rng.choice([" ", " ", " ", " ", "  ", ", ", ". ", "\n", "\n\n", "\t"])
        documents.append(text)
    return documents + ["a" * 23, " " * 9, "", "\n", "bababababa babababa"]


def main():
    documents = make_documents()
    cases = []
    for vocab_size, min_frequency, specials in CASES:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(
            documents,
            trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=specials,
                                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        model = json.loads(tokenizer.to_str())["model"]
        pieces = sorted(model["vocab"], key=model["vocab"].get)
        assert [model["vocab"][piece] for piece in pieces] == list(range(len(pieces)))
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        cases.append({"vocab_size": vocab_size, "min_frequency": min_frequency, "specials": specials, "pieces": pieces,
                      "merges": merges, "ids": [tokenizer.encode(text).ids for text in documents]})
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "golden.json"), "w") as f:
        json.dump({"documents": documents, "cases": cases}, f, ensure_ascii=True)
        f.write("\n")


if __name__ == "__main__":
    main()
