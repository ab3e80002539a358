#!/usr/bin/env python3
"""Writes task files for lm-evaluation-harness over local data, so that it runs without the network.

    make_tasks.py FOLDER [--data ../shared/data] [--documents 200] [--subject marketing] [--shots 5]

FOLDER gets NAME.yaml and NAME.jsonl for piqa, arc_easy, arc_challenge, sciq, winogrande, lambada, logiqa, mmlu_SUBJECT and
mmlu_SUBJECT_5shot, and for gsm8k, whose answers are generated, with the prompts, targets and metrics that the harness's own tasks of
these names have; the documents are the first ones of each file. (logiqa's choices are the letters: the files at hand have it so.) With
--shots N, the first N documents of each task whose examples are not in a file of their own are the examples of all others.
Use: lm_eval --include_path FOLDER --tasks local_piqa,... . Needs only Python.
"""

import argparse
import csv
import itertools
import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
ACCURACY = ["acc"]
NORMALISED = ["acc", "acc_norm"]
MMLU_PROMPT = "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"


def json_lines(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def piqa(data):
    for row in json_lines(data / "benchmarks/llm-foundry/piqa.jsonl"):
        yield {"query": row["query"].strip(), "choices": row["choices"], "gold": row["gold"]}


def arc(data, part):
    for row in json_lines(data / f"benchmarks/llm-foundry/arc_{part}.jsonl"):
        yield {"query": row["query"].strip(), "choices": row["choices"], "gold": row["gold"]}


def logiqa(data):
    for row in json_lines(data / "benchmarks/llm-foundry/logi_qa.jsonl"):
        yield {"query": row["query"].strip(), "choices": row["choices"], "gold": row["gold"]}


def sciq(data):
    for row in json_lines(data / "derived/sciq/sciq_validation.jsonl"):
        yield {key: row[key] for key in ("support", "question", "choices", "gold")}


def winogrande(data):
    for row in json_lines(data / "benchmarks/llm-foundry/winogrande.jsonl"):
        yield {"contexts": row["context_options"], "rest": row["continuation"], "gold": row["gold"]}


def lambada(data):
    for row in json_lines(data / "benchmarks/llm-foundry/lambada_openai.jsonl"):
        yield {"context": row["context"], "word": row["continuation"]}


def mmlu(path):
    with open(path, encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            yield {
                "question": row["question"],
                "choices": [row[f"choice{i}"] for i in range(4)],
                "gold": int(row["answer"]),
            }


def multiple_choice(text, metrics=NORMALISED, choices="{{choices}}", target="gold"):
    return {
        "output_type": "multiple_choice",
        "doc_to_text": text,
        "doc_to_choice": choices,
        "doc_to_target": target,
        "metric_list": [metric(name) for name in metrics],
    }


def metric(name, better="higher"):
    aggregation = "perplexity" if name == "perplexity" else "mean"
    return {"metric": name, "aggregation": aggregation, "higher_is_better": better == "higher"}


def mmlu_task(subject):
    task = multiple_choice(MMLU_PROMPT, ACCURACY, choices=["A", "B", "C", "D"])
    title = subject.replace("_", " ")
    task["description"] = f"The following are multiple choice questions (with answers) about {title}.\n\n"
    return task


def tasks(data, subject):
    """(name, documents, documents of examples or None, settings) of each task."""
    question = "{{query}}\nAnswer:"
    yield "piqa", piqa(data), None, multiple_choice(question)
    yield "arc_easy", arc(data, "easy"), None, multiple_choice(question)
    yield "arc_challenge", arc(data, "challenge"), None, multiple_choice(question)
    yield "sciq", sciq(data), None, multiple_choice("{{support.lstrip()}}\nQuestion: {{question}}\nAnswer:")
    # The blank is filled in the context, and the rest of the sentence is scored.
    yield "winogrande", winogrande(data), None, multiple_choice("gold", ACCURACY, choices="{{contexts}}", target="rest")
    yield "lambada", lambada(data), None, {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + word}}",
        "metric_list": [metric("perplexity", "lower"), metric("acc")],
    }
    yield "logiqa", logiqa(data), None, multiple_choice(question, ACCURACY)
    test = data / f"benchmarks/mmlu/test/{subject}_test.csv"
    yield f"mmlu_{subject}", mmlu(test), None, mmlu_task(subject)
    examples = mmlu(data / f"benchmarks/mmlu/dev/{subject}_dev.csv")
    few = mmlu_task(subject) | {"num_fewshot": 5, "fewshot_config": {"sampler": "first_n"}}
    yield f"mmlu_{subject}_5shot", mmlu(test), examples, few


def generation_tasks(data):
    """As tasks(), but of tasks whose answers are generated."""
    rows = ({"question": row["question"], "answer": row["answer"]} for row in json_lines(data / "benchmarks/gsm8k/test.jsonl"))
    ignored = [",", r"\$", "(?s).*#### ", r"\.$"]
    yield "gsm8k", rows, None, {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["Question:", "</s>", "<|im_end|>"], "do_sample": False, "temperature": 0.0},
        "metric_list": [metric("exact_match") | {"ignore_case": True, "ignore_punctuation": False, "regexes_to_ignore": ignored}],
    }


def write_lines(path, documents):
    with open(path, "w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps(document, ensure_ascii=False) + "\n")


def write_tasks(folder, data=DATA, documents=200, subject="marketing", generated=False, shots=0):
    """Writes the tasks that are scored, or those that are generated, into folder (made if missing) and returns their names in the harness."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, rows, examples, settings in generation_tasks(data) if generated else tasks(data, subject):
        files = {"test": str((folder / f"{name}.jsonl").resolve())}
        if shots and examples is None:
            examples = list(itertools.islice(rows, shots))
            settings |= {"num_fewshot": shots, "fewshot_config": {"sampler": "first_n"}}
        write_lines(files["test"], itertools.islice(rows, documents))
        task = {"task": f"local_{name}", "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
        if examples is not None:
            files["dev"] = str((folder / f"{name}_dev.jsonl").resolve())
            write_lines(files["dev"], examples)
            task["fewshot_split"] = "dev"
        task |= settings | {"metadata": {"version": 1.0}}
        # JSON is YAML too.
        (folder / f"{name}.yaml").write_text(json.dumps(task, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        names.append(task["task"])
    return names


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--documents", type=int, default=200)
    options.add_argument("--subject", default="marketing", help="MMLU subject that has enough documents (default: marketing)")
    options.add_argument("--shots", type=int, default=0, help="examples, the first documents of each task")
    args = options.parse_args()
    if not args.data.is_dir():
        sys.exit(f"skipped: {args.data} is not there")
    for generated in (False, True):
        print("\n".join(write_tasks(args.folder, args.data, args.documents, args.subject, generated, args.shots)))


if __name__ == "__main__":
    main()
