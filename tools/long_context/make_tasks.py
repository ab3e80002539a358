#!/usr/bin/env python3
"""Writes long-context tasks (tasks.py) as files for lm-evaluation-harness and for run.py, without the network.

    make_tasks.py FOLDER --tokenizer MODEL_FOLDER [--lengths 1024,2048,4096] [--documents 25] [--tasks niah_single_1,...]
                         [--question after|before] [--seed 1]

FOLDER gets NAME_LENGTH.jsonl and NAME_LENGTH.yaml; with --question before, NAME_LENGTH_q. Lengths are counted by the tokenizer.json of
MODEL_FOLDER, and include the tokens of the answer. Use: lm_eval --include_path FOLDER --tasks long_niah_single_1_1024,... .
Needs the package tokenizers.
"""

import argparse
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

from tasks import NEW_TOKENS, Maker, question_first, words_of

REPOSITORY = Path(__file__).resolve().parents[2]
PROCESS = '''def process_results(doc, results):
    import re
    text = re.sub(r"[\\x00-\\x1f]", "\\n", results[0].strip()).strip().lower()
    return {"found": sum(o.lower() in text for o in doc["outputs"]) / len(doc["outputs"])}
'''


def task_file(folder, name, task):
    return {
        "task": f"long_{name}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / f"{name}.jsonl").resolve())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{input}}",
        "doc_to_target": "{{outputs}}",
        "gen_prefix": "{{gen_prefix}}",
        "target_delimiter": " ",
        "generation_kwargs": {"do_sample": False, "temperature": 0.0, "max_gen_toks": NEW_TOKENS[task], "until": []},
        "metric_list": [{"metric": "found", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--lengths", default="1024,2048,4096")
    parser.add_argument("--documents", type=int, default=25)
    parser.add_argument("--tasks", default=",".join(NEW_TOKENS))
    parser.add_argument("--question", choices=["after", "before"], default="after")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    unknown = set(args.tasks.split(",")) - set(NEW_TOKENS)
    if unknown:
        sys.exit(f"unknown tasks {sorted(unknown)}; there are {', '.join(NEW_TOKENS)}")
    if min(map(int, args.lengths.split(","))) < 1024:
        sys.exit("the shortest length is 1024: the example of vt takes up to 500 tokens")
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    n_tokens = lambda text: len(tokenizer.encode(text).ids)
    words = words_of(REPOSITORY / "apps/alice.txt")
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "found.py").write_text(PROCESS)
    for task in args.tasks.split(","):
        for length in map(int, args.lengths.split(",")):
            documents = Maker(n_tokens, length, words, args.seed).documents(task, args.documents)
            name = f"{task}_{length}"
            if args.question == "before":
                documents = [question_first(d) for d in documents]
                name += "_q"
            with open(args.folder / f"{name}.jsonl", "w", encoding="utf-8") as out:
                for document in documents:
                    out.write(json.dumps(document, ensure_ascii=False) + "\n")
            text = json.dumps(task_file(args.folder, name, task), indent=1)
            text = text[:-2] + ',\n "process_results": !function found.process_results\n}\n'
            (args.folder / f"{name}.yaml").write_text(text, encoding="utf-8")
            longest = max(d["length"] for d in documents)
            print(f"{name}: {len(documents)} documents, at most {longest} tokens", flush=True)


if __name__ == "__main__":
    main()
