#!/usr/bin/env python3
"""Answers long-context tasks (make_tasks.py) with `sepllm serve` under several policies, and prints the scores.

    run.py FOLDER --model M --out results.jsonl [--policies policies.json] [--tasks NAME,...] [--limit 25] [--page PAGE]
           [--only-page] [--serve OPTION...]

FOLDER: what make_tasks.py wrote. policies.json: {"name": {the "sepllm" object of config.json}, ...}; without it full, sep, sink,
fixed, sep-stream and sink-stream. Each answer is a line of results.jsonl; what is there already, of the same model and the same
policy, is not asked again, so the command can be interrupted and continued. Only Python is needed.
"""

import argparse
import json
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests/clients"), str(REPOSITORY / "tools")]

from page_part import mean_and_error, read_lines, replace_part
from server_process import Server
from tasks import NEW_TOKENS, score

POLICIES = {
    "full": {"policy": "full"},
    "sep n=64": {"policy": "sep", "window": 64},
    "sep n=256": {"policy": "sep", "window": 256},
    "sink n=256": {"policy": "sink", "window": 256},
    "fixed n=64": {"policy": "fixed", "window": 64, "interval": 8},
    "sep-stream": {"policy": "sep-stream"},
    "sink-stream": {"policy": "sink-stream"},
}


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=3600) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"the server refused the request: {error.read().decode(errors='replace')}")


def ask(server, policy, document, new_tokens):
    started = time.monotonic()
    answer = post(f"{server.url}/v1/completions", {
        "model": server.model_id(), "prompt": f"{document['input'].rstrip()} {document['gen_prefix']}",
        "max_tokens": new_tokens, "temperature": 0, "sepllm": policy})
    text, kv = answer["choices"][0]["text"], answer["usage"]["sepllm"]
    return {"text": text, "score": score(text, document["outputs"]), "prompt_tokens": answer["usage"]["prompt_tokens"],
            "mean_keys": kv["kv_mean_keys"], "kv_bytes": kv["kv_bytes"], "kv_full_bytes": kv["kv_full_bytes"],
            "seconds": round(time.monotonic() - started, 3)}


def table(results):
    """Markdown: a row for each task and policy that has all documents which another policy has."""
    out = ["| task | policy | documents | found | prompt tokens | mean keys | KV of full | seconds |",
           "|---|---|---|---|---|---|---|---|"]
    groups = {}
    for r in results:
        groups.setdefault((r["task"], r["policy"]), []).append(r)
    tasks, most = list(dict.fromkeys(task for task, _ in groups)), {}
    for (task, _), rows in groups.items():
        most[task] = max(most.get(task, 0), len(rows))
    whole = {key: rows for key, rows in groups.items() if len(rows) == most[key[0]]}
    for (task, policy), rows in sorted(whole.items(), key=lambda item: tasks.index(item[0][0])):
        mean, error = mean_and_error([r["score"] for r in rows])
        average = lambda key: sum(r[key] for r in rows) / len(rows)
        out.append(f"| {task} | {policy} | {len(rows)} | {100 * mean:.1f} ± {100 * error:.1f} % | {average('prompt_tokens'):.0f} | "
                   f"{average('mean_keys'):.0f} | {100 * average('kv_bytes') / average('kv_full_bytes'):.0f} % | "
                   f"{average('seconds'):.1f} |")
    return "\n".join(out)


def measure(args, policies, results):
    """Adds what is missing to results and to the file."""
    names = args.tasks.split(",") if args.tasks else sorted(path.stem for path in args.folder.glob("*.jsonl"))
    tasks = {name: next((task for task in NEW_TOKENS if name.startswith(task + "_")), None) for name in names}
    for name, task in tasks.items():
        if task is None or not (args.folder / f"{name}.jsonl").exists():
            sys.exit(f"{args.folder}: no task {name} of make_tasks.py")
    done = {(r["task"], r["policy"], r["index"]) for r in results}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends, too
    with Server(Path(args.model), *args.serve) as server, open(args.out, "a", encoding="utf-8") as out:
        for name in names:
            documents = read_lines(args.folder / f"{name}.jsonl")[: args.limit]
            for label, policy in policies.items():
                for document in documents:
                    if (name, label, document["index"]) in done:
                        continue
                    result = {"model": Path(args.model).name, "task": name, "policy": label, "settings": policy, "index": document["index"],
                              **ask(server, policy, document, NEW_TOKENS[tasks[name]])}
                    out.write(json.dumps(result, ensure_ascii=False) + "\n")
                    out.flush()
                    results.append(result)
                print(f"{name}, {label}: done", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policies", type=Path)
    parser.add_argument("--tasks", help="names of make_tasks.py's files, as in niah_single_1_1024; all if left out")
    parser.add_argument("--page", type=Path, help="a Markdown page that gets the table")
    parser.add_argument("--name", default="long contexts", help="of the table in the page")
    parser.add_argument("--only-page", action="store_true", help="the table of what was measured; FOLDER is not read")
    parser.add_argument("--limit", type=int, default=25)
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="last: further options of sepllm serve")
    args = parser.parse_args()
    policies = json.loads(args.policies.read_text()) if args.policies else POLICIES
    model = Path(args.model).name
    results = [r for r in read_lines(args.out) if r.get("model") == model and policies.get(r["policy"]) == r["settings"]]
    if not args.only_page:
        measure(args, policies, results)
    names = args.tasks.split(",") if args.tasks else list(dict.fromkeys(r["task"] for r in results))
    own = table([r for r in results if r["task"] in names])
    print(own)
    if args.page:
        replace_part(args.page, "long_context/run.py", f"{model} {args.name}", f"### {model}, {args.name}\n\n{own}")


if __name__ == "__main__":
    main()
