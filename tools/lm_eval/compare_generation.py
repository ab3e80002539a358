#!/usr/bin/env python3
"""Generates the answers of a task of lm-evaluation-harness by its own `hf` backend and by `sepllm serve`, and compares the texts.

    compare_generation.py FOLDER [--limit 10] [--new-tokens 48] [--concurrent 4]

FOLDER: a Hugging Face folder of a chat model. gsm8k is answered twice by each side, in float32 and greedily: as plain text (generate_until of
`local-completions`) and as a chat (`local-chat-completions` and apply_chat_template). All texts must be the same. Exit code 1 otherwise.
Needs: lm-eval[api]==0.4.13, torch, transformers.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/clients"))

import harness
import lm_eval
from lm_eval.models.openai_completions import LocalChatCompletion
from lm_eval.tasks import TaskManager
from make_tasks import write_tasks
from server_process import Server


def answers(model, folder, name, args, chat):
    """The texts of all documents, and the metrics."""
    done = lm_eval.simple_evaluate(
        model=model, tasks=[name], task_manager=TaskManager(include_path=str(folder), include_defaults=False), limit=args.limit,
        log_samples=True, bootstrap_iters=0, apply_chat_template=chat, gen_kwargs={"max_gen_toks": args.new_tokens})
    samples = sorted(done["samples"][name], key=lambda sample: sample["doc_id"])
    metrics = {key: value for key, value in done["results"][name].items() if key.startswith("exact_match,")}
    return [sample["resps"][0][0] for sample in samples], metrics


def server_model(server, args, chat):
    settings = {"model": server.model_id(), "num_concurrent": args.concurrent, "max_length": 2048, "timeout": 3600}
    if chat:
        return LocalChatCompletion(base_url=f"{server.url}/v1/chat/completions", **settings)
    return harness.server_model(server.url, server.model_id(), str(args.folder), args.concurrent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--concurrent", type=int, default=4)
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as temporary, Server(args.folder, "--exact", "--weights", "f32") as server:
        name, = write_tasks(Path(temporary), documents=args.limit, generated=True)
        hf = harness.hf_model(args.folder, {"policy": "full"}, [], 1)
        for chat in (False, True):
            theirs, metrics = answers(hf, temporary, name, args, chat)
            ours, same_metrics = answers(server_model(server, args, chat), temporary, name, args, chat)
            different = [k for k, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
            print(f"{'chat' if chat else 'text'}: {len(ours)} answers, {sum(map(len, ours))} characters, {len(different)} differ, {same_metrics}")
            for k in different[:3]:
                print(f"  document {k}\n    hf:     {theirs[k]!r}\n    server: {ours[k]!r}")
            good &= not different and metrics == same_metrics and any(ours)
    sys.exit(not good)


if __name__ == "__main__":
    main()
