#!/usr/bin/env python3
"""Compares the documents of tasks.py with those that lm-evaluation-harness makes for RULER, with the same words and the same
random numbers.

    check_ruler.py MODEL_FOLDER [--lengths 1024,4096] [--documents 5]

Exit code 1 if a document differs. Needs lm-eval, transformers, scipy and numpy; the packages that the harness takes its words from
(wonderwords, nltk) are replaced by the words of tasks.py.
"""

import argparse
import importlib.metadata
import random
import sys
import types
from pathlib import Path

from tasks import ADJECTIVES, KEYS, NOUNS, Maker, words_of

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = words_of(REPOSITORY / "apps/alice.txt")


def replace_packages():
    class RandomWord:
        _categories = {"noun": WORDS, "adjective": WORDS, "verb": WORDS, "nouns": NOUNS, "adjectives": ADJECTIVES, "verbs": []}

    wonderwords = types.ModuleType("wonderwords")
    wonderwords.RandomWord = RandomWord
    nltk = types.ModuleType("nltk")
    nltk.sent_tokenize = lambda text: [text]
    nltk.data = types.SimpleNamespace(find=lambda name: name)
    sys.modules.update(wonderwords=wonderwords, nltk=nltk)
    version = importlib.metadata.version
    importlib.metadata.version = lambda name: "9.9" if name == "nltk" else version(name)


def harness_documents(task, tokenizer, length, count):
    """As the harness makes them, but `count` instead of 500, and seeded as Maker is."""
    from lm_eval.tasks.ruler import cwe_utils, fwe_utils, niah_utils, vt_utils
    from lm_eval.tasks.ruler.prepare_niah import generate_samples, get_haystack

    random.seed(1)
    if task == "vt":
        vt_utils.np.random.randint = random.randrange  # one source of random numbers instead of two
        shot = vt_utils.sys_vartrack_w_noise_random(tokenizer=tokenizer, num_samples=1, max_seq_length=500, incremental=5)[0]
        return vt_utils.sys_vartrack_w_noise_random(tokenizer=tokenizer, num_samples=count, max_seq_length=length,
                                                    icl_example=shot)
    if task == "cwe":
        cwe_utils.RNG = random.Random(42)
        cwe_utils.WORDS = sorted(set(WORDS))
        cwe_utils.RNG.shuffle(cwe_utils.WORDS)
        return cwe_utils.sys_word_pair_random(num_samples=count, max_seq_length=length, tokenizer=tokenizer)
    if task == "fwe":
        return fwe_utils.sys_kwext(tokenizer=tokenizer, max_seq_length=length, num_samples=count)
    kinds = {"niah_single_1": ("repeat", "words", "numbers"), "niah_multikey_2": ("needle", "words", "numbers"),
             "niah_multikey_3": ("needle", "uuids", "uuids")}[task]
    return generate_samples(get_haystack(type_haystack=kinds[0]), tokenizer, max_seq_length=length, type_haystack=kinds[0],
                            type_needle_k=kinds[1], type_needle_v=kinds[2], template=niah_utils.TEMPLATE, num_samples=count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--lengths", default="1024,4096")
    parser.add_argument("--documents", type=int, default=5)
    args = parser.parse_args()
    replace_packages()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    n_tokens = lambda text: len(tokenizer(text).input_ids)
    from lm_eval.tasks.ruler import prepare_niah
    assert prepare_niah.WORDS == KEYS
    different = 0
    for task in ("niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe"):
        for length in map(int, args.lengths.split(",")):
            theirs = harness_documents(task, tokenizer, length, args.documents)
            ours = Maker(n_tokens, length, WORDS, seed=1).documents(task, args.documents)
            for a, b in zip(ours, theirs, strict=True):
                for key in ("input", "outputs", "gen_prefix", "max_length"):
                    if a[key] == b[key]:
                        continue
                    different += 1
                    if different <= 3:
                        at = next((i for i, (x, y) in enumerate(zip(a[key], b[key])) if x != y), -1) if key != "max_length" else 0
                        print(f"{task} {length} document {a['index']}: {key} differs at {at}: "
                              f"{str(a[key])[max(0, at - 60):at + 60]!r} / {str(b[key])[max(0, at - 60):at + 60]!r}")
            print(f"{task} {length}: {len(theirs)} documents compared, {different} differences so far", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
