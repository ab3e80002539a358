#!/usr/bin/env python3
"""Caches that are chosen by attention scores, next to those that are chosen by rules, on one prefix with several questions.

    query_driven.py FOLDER --results results.jsonl [--documents 25] [--length 1024] [--questions 4] [--budgets 25,12] [--seed 1] [--threads N]
    query_driven.py FOLDER --results results.jsonl --only-table       prints the table again
    query_driven.py --check                                           checks the methods on a tiny random model

FOLDER: a Hugging Face folder of a model with rotary positions. A prefix (noise with one number for each of several keys) goes through
the model once, under full attention. Then each method keeps a share of its keys, and every question is asked on a copy of what is left.
Scores are of the answer: its negative log-likelihood per token, and whether each of its tokens is the most likely one.

    full             everything
    snapkv, seen     SnapKV: the keys that the last 32 tokens attend to most, smoothed by the maximum over 7 neighbours, for each KV head, and
                     the last 32 tokens; the first question was there when they were chosen
    snapkv, blind    the same; the last 32 tokens of the prefix choose, and no question is known
    h2o, seen        H2O: half of the budget for the keys that got most attention from all tokens, the first question's among them, for each KV
                     head, half for the newest
    h2o, blind       the same, without a question
    sink             the first 4 and the newest
    sep              the first 4, the separators and the newest; if the separators by themselves are more than the budget, the newest of them

"seen" methods are measured on the first question ("asked") and on the others ("next"). All this is after a prefix that was read under full
attention; the engine's own policies hold while it is read, too. Made for comparison only: the engine has no such policies, because they need
the scores of attention and cannot be undone. Needs torch, transformers; FOLDER's tokenizer.
"""

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path

import torch
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from page_part import mean_and_error, read_lines, replace_part

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tools/long_context"), str(REPOSITORY / "oracles")]
INIT, OBSERVED, POOL = 4, 32, 7
METHODS = ("full", "snapkv, seen", "snapkv, blind", "h2o, seen", "h2o, blind", "sink", "sep")


class Scores:
    """Per layer [kv_heads, tokens]: the attention that each key got from all queries, and from the last OBSERVED ones."""

    def __init__(self):
        self.all, self.last, self.on = {}, {}, False


SCORES = Scores()


def scored_attention(module, query, key, value, attention_mask, scaling=None, **_):
    """Eager causal attention that adds up what SCORES needs; query [1, heads, q, d], key [1, kv_heads, k, d]."""
    groups = query.shape[1] // key.shape[1]
    keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ keys.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : keys.shape[2]]
    else:
        ahead = keys.shape[2] - query.shape[2]
        scores = scores.masked_fill(torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool).triu(ahead + 1), -math.inf)
    weights = scores.softmax(-1)
    if SCORES.on:
        by_kv = weights[0].unflatten(0, (key.shape[1], groups)).mean(1)
        SCORES.all[module.layer_idx] = by_kv.sum(1)
        SCORES.last[module.layer_idx] = by_kv[:, -OBSERVED:].sum(1)
    return (weights @ values).transpose(1, 2).contiguous(), None


AttentionInterface.register("scored", scored_attention)


def read(model, ids):
    """A cache of the text, and the scores of its attention."""
    cache = DynamicCache(config=model.config)
    SCORES.on = True
    with torch.no_grad():
        model(torch.tensor([ids]), past_key_values=cache, use_cache=True)
    SCORES.on = False
    return cache, dict(SCORES.all), dict(SCORES.last)


def largest(scores, count):
    """Per head, the places of the largest scores, ascending: [heads, count]."""
    return scores.topk(count, -1).indices.sort(-1).values


def newest(n, count, heads):
    return torch.arange(n - count, n).expand(heads, count)


def snapkv(last, n, budget):
    """last: [heads, tokens] summed attention of the observed tokens; only the first n tokens are kept or dropped."""
    recent = min(OBSERVED, budget // 2)
    pooled = torch.nn.functional.max_pool1d(last[None, :, : n - recent], POOL, 1, POOL // 2)[0]
    return torch.cat([largest(pooled, budget - recent), newest(n, recent, last.shape[0])], 1)


def h2o(scores, n, budget):
    recent = budget // 2
    return torch.cat([largest(scores[:, : n - recent], budget - recent), newest(n, recent, scores.shape[0])], 1)


def by_rule(ids, budget, separators, heads):
    """The first INIT, the newest, and the separators in between that fit."""
    n = len(ids)
    marks = [i for i in range(INIT, n) if ids[i] in separators]
    if separators:
        recent = max(budget // 4, budget - INIT - len(marks))
        kept = set(range(min(INIT, n))) | set(range(n - recent, n))
        for i in reversed(marks):
            if len(kept) == budget:
                break
            kept.add(i)
        i = n - recent - 1
        while len(kept) < budget:  # marks inside the window leave room
            kept.add(i)
            i -= 1
    else:
        kept = set(range(INIT)) | set(range(n - (budget - INIT), n))
    return torch.tensor(sorted(kept)).expand(heads, budget)


def shortened(cache, places, config):
    """A copy of the cache that holds only these places: per layer [kv_heads, kept]."""
    out = DynamicCache(config=config)
    for layer, kept in enumerate(places):
        pick = kept[None, :, :, None].expand(1, kept.shape[0], kept.shape[1], cache.layers[layer].keys.shape[-1])
        out.update(cache.layers[layer].keys.gather(2, pick), cache.layers[layer].values.gather(2, pick), layer)
    return out


def answer_scores(model, cache, n, question, answer):
    """Mean NLL of the answer's tokens after the question, and whether all are the most likely ones. The cache is changed."""
    ids = torch.tensor([question + answer])
    positions = torch.arange(n, n + ids.shape[1])[None]
    with torch.no_grad():
        logits = model(ids, past_key_values=cache, position_ids=positions, use_cache=True).logits[0, len(question) - 1 : -1]
    right = torch.tensor(answer)
    nll = torch.nn.functional.cross_entropy(logits.float(), right)
    return float(nll), bool((logits.argmax(-1) == right).all())


def choose(method, scored, plain, ids, budget, separators, n_layers):
    """Places that the method keeps, per layer [kv_heads, kept]. scored: (cache, all, last) of the prefix with the first question; plain: of the
    prefix only."""
    n = len(ids)
    kind, seen = method.split(",")[0], method.endswith("seen")
    _, everything, last = scored if seen else plain
    heads = everything[0].shape[0]
    if method == "full":
        return [newest(n, n, heads)] * n_layers
    if kind == "snapkv":
        return [snapkv(last[layer], n, budget) for layer in range(n_layers)]
    if kind == "h2o":
        return [h2o(everything[layer][:, :n], n, budget) for layer in range(n_layers)]
    return [by_rule(ids, budget, separators if kind == "sep" else set(), heads)] * n_layers


def document(rng, n_tokens, length, n_questions):
    """A prefix with a number for each of some keys, and (question, answer) pairs."""
    from tasks import KEYS, NOISE

    keys = rng.sample(KEYS, n_questions)
    values = [str(rng.randint(10**6, 10**7 - 1)) for _ in keys]
    needles = [f"The special magic number for {key} is {value}." for key, value in zip(keys, values)]
    count = (length - n_tokens(" ".join(needles))) // n_tokens(" " + NOISE)
    sentences = [NOISE] * count
    for needle, place in zip(needles, sorted(rng.sample(range(count), n_questions), reverse=True)):
        sentences.insert(place, needle)
    text = ("Some special magic numbers are hidden within the following text. Make sure to memorize them. I will quiz you about the "
            f"numbers afterwards.\n{' '.join(sentences)}\n")
    questions = [(f"What is the special magic number for {key} mentioned in the provided text? The special magic number for {key} mentioned in "
                  "the provided text is", f" {value}.") for key, value in zip(keys, values)]
    rng.shuffle(questions)
    return text, questions


def measure(model, encode, separators, text, questions, budgets, n_layers):
    """Rows of one document: {method, budget, question: "asked" or "next", nll, found}."""
    ids = encode(text)
    pairs = [(encode(q), encode(a)) for q, a in questions]
    plain, scored = read(model, ids), read(model, ids + pairs[0][0])
    for budget in budgets:
        for method in METHODS:
            if method == "full" and budget != budgets[0]:
                continue
            kept = choose(method, scored, plain, ids, len(ids) * budget // 100, separators, n_layers)
            for k, (question, answer) in enumerate(pairs):
                nll, found = answer_scores(model, shortened(plain[0], kept, model.config), len(ids), question, answer)
                yield {"method": method, "budget": 100 if method == "full" else budget, "question": "next" if k else "asked",
                       "tokens": len(ids), "kept": kept[0].shape[1], "nll": round(nll, 4), "found": found}


def table(rows):
    """Markdown. Questions of one document share a prefix, so the standard errors are those of the documents' means."""
    out = ["| keys kept | method | question | documents | answer found | loss of the answer | compared with the first question |",
           "|---|---|---|---|---|---|---|"]
    groups = {}
    for r in rows:
        groups.setdefault((r["budget"], r["method"], r["question"]), {}).setdefault(r["document"], []).append(r)
    by_document = lambda own, key: {d: sum(float(r[key]) for r in some) / len(some) for d, some in own.items()}
    for (budget, method, question), own in groups.items():
        nll, found = by_document(own, "nll"), by_document(own, "found")
        first = by_document(groups[budget, method, "asked"], "nll")
        change = [nll[d] - first[d] for d in nll if d in first] if question == "next" else []
        text = "{:+.2f} ± {:.2f}".format(*mean_and_error(change)) if change else ""
        share, error = mean_and_error(list(found.values()))
        out.append(f"| {budget} % | {method} | {question} | {len(own)} | {100 * share:.0f} ± {100 * error:.0f} % | "
                   "{:.2f} ± {:.2f} | {} |".format(*mean_and_error(list(nll.values())), text))
    return "\n".join(out)


def run(args):
    from program import separators_of

    rows = read_lines(args.results)
    if not args.only_table:
        if args.threads:
            torch.set_num_threads(args.threads)
        tokenizer = AutoTokenizer.from_pretrained(args.folder)
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
        model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32, attn_implementation="scored").eval()
        separators, budgets = set(separators_of(args.folder)), [int(b) for b in args.budgets.split(",")]
        done = {r["document"] for r in rows}
        with open(args.results, "a", encoding="utf-8") as out:
            for k in (k for k in range(args.documents) if k not in done):
                started = time.process_time()
                text, questions = document(random.Random(args.seed * 1000 + k), lambda t: len(encode(t)), args.length, args.questions)
                own = [{"document": k, **r} for r in measure(model, encode, separators, text, questions, budgets, model.config.num_hidden_layers)]
                out.writelines(json.dumps(r) + "\n" for r in own)
                out.flush()
                rows += own
                print(f"document {k}: {time.process_time() - started:.0f} s of CPU", file=sys.stderr, flush=True)
    print(table(rows))
    if args.page and rows:
        replace_part(args.page, "query_driven.py", Path(args.folder).name,
                     f"### {Path(args.folder).name}: one prefix, several questions\n\n{table(rows)}")


def check():
    """Methods against definitions, on a tiny model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                         attn_implementation="scored")
    model = LlamaForCausalLM(config).eval()
    for p in model.parameters():
        p.data.mul_(6.0)  # so that attention is not flat
    rng = random.Random(1)
    ids, question, answer = ([rng.randrange(61) for _ in range(n)] for n in (90, 9, 4))
    separators, n, budget = {3, 5, 8}, 90, 40
    eager = LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), "attn_implementation": "eager"})).eval()
    eager.config._attn_implementation = "eager"
    eager.load_state_dict(model.state_dict())
    plain, scored = read(model, ids), read(model, ids + question)

    def reference(mask):
        """NLL of the answer by one pass of the whole text, whose question and answer see of the prefix only mask [n]."""
        whole = torch.tensor([ids + question + answer])
        see = torch.ones(whole.shape[1], whole.shape[1]).tril().bool()
        see[n:, :n] &= mask
        bias = torch.zeros(see.shape).masked_fill(~see, torch.finfo(torch.float32).min)[None, None]
        with torch.no_grad():
            logits = eager(whole, attention_mask=bias).logits[0, n + len(question) - 1 : -1]
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor(answer)))

    for method in ("full", "sink", "sep"):
        kept = choose(method, scored, plain, ids, budget, separators, 3)
        mask = torch.zeros(n, dtype=torch.bool)
        mask[kept[0][0]] = True
        ours, _ = answer_scores(model, shortened(plain[0], kept, config), n, question, answer)
        assert abs(ours - reference(mask)) < 1e-4, (method, ours, reference(mask))
        assert int(mask.sum()) == (n if method == "full" else budget), method
        if method == "sep":
            assert all(mask[i] for i in range(n) if i < INIT or ids[i] in separators)
    with torch.no_grad():
        maps = eager(torch.tensor([ids + question]), output_attentions=True).attentions
    for layer, weights in enumerate(maps):
        for head in range(2):
            own = weights[0, 2 * head : 2 * head + 2].mean(0)
            total = own.sum(0)[:n]
            heavy = sorted(sorted(range(n - budget // 2), key=lambda i: -total[i])[: budget // 2]) + list(range(n - budget // 2, n))
            assert choose("h2o, seen", scored, plain, ids, budget, separators, 3)[layer][head].tolist() == heavy
            last = own[-OBSERVED:].sum(0)
            recent = budget // 2
            pooled = [max(last[max(0, i - 3) : min(n - recent, i + 4)]) for i in range(n - recent)]
            want = sorted(pooled, reverse=True)[budget - recent - 1]
            kept = choose("snapkv, seen", scored, plain, ids, budget, separators, 3)[layer][head].tolist()
            assert kept[-recent:] == list(range(n - recent, n)) and all(pooled[i] >= want - 1e-6 for i in kept[:-recent])
            assert len(set(kept)) == budget
    everything = [newest(n, n, 2)] * 3
    ours, _ = answer_scores(model, shortened(scored[0], everything, config), n, question, answer)
    assert abs(ours - reference(torch.ones(n, dtype=torch.bool))) < 1e-4
    print("ok: what is kept, and the loss of the answer on it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--documents", type=int, default=25)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--budgets", default="25,12")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        check()
    elif args.folder and args.results:
        run(args)
    else:
        parser.error("FOLDER and --results, or --check")


if __name__ == "__main__":
    main()
