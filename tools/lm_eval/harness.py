"""Runs lm-evaluation-harness inside Python and keeps what a comparison needs: each document's log-likelihoods, the metrics, and
the time spent in the model. Needs: lm-eval[api], torch, transformers."""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "oracles"))
from program import additive, visible


class MaskedHF(HFLM):
    """The harness's own `hf` backend, under a static policy: the 4-D mask of the policy's definition goes to the model."""

    def __init__(self, policy, separators, **settings):
        super().__init__(**settings)
        self.policy, self.separators = policy, separators

    def _model_call(self, inps, attn_mask=None, labels=None):
        masks = torch.stack([visible(ids, self.policy, self.separators) for ids in inps.tolist()])
        with torch.no_grad():
            return self.model(inps, attention_mask=additive(masks).to(self.model.dtype)).logits


def hf_model(folder, policy, separators, batch, dtype="float32"):
    settings = {"pretrained": str(folder), "dtype": dtype, "device": "cpu", "batch_size": batch}
    if policy["policy"] == "full":
        return HFLM(**settings)
    return MaskedHF(policy, separators, **settings)


def server_model(url, name, tokenizer, concurrent, batch=1, max_length=2048):
    """tokenizer: a Hugging Face folder, or "remote": the server's own."""
    chosen = {"tokenizer_backend": "remote"} if tokenizer == "remote" else {"tokenizer": tokenizer, "tokenizer_backend": "huggingface"}
    return LocalCompletionsAPI(base_url=f"{url}/v1/completions", model=name, num_concurrent=concurrent, batch_size=batch,
                               max_length=max_length + 1, timeout=3600, **chosen)


def timed(model):
    """Makes the model add up the seconds of its log-likelihood calls in model.seconds and count the requests."""
    model.seconds, model.n_requests = 0.0, 0
    inner = model.loglikelihood

    def loglikelihood(requests, **settings):
        started = time.monotonic()
        results = inner(requests, **settings)
        model.seconds += time.monotonic() - started
        model.n_requests += len(requests)
        return results

    model.loglikelihood = loglikelihood
    return model


def evaluate(model, folder, names, limit=None):
    """{task: {"metrics": {name: value}, "documents": [[[log-likelihood, greedy], ...], ...], "seconds", "requests"}}"""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    timed(model)
    found = {}
    for name in names:
        before = model.seconds, model.n_requests
        done = lm_eval.simple_evaluate(model=model, tasks=[name], task_manager=manager, limit=limit, log_samples=True,
                                       bootstrap_iters=0)
        metrics = {key.split(",")[0]: value for key, value in done["results"][name].items()
                   if key.endswith(",none") and isinstance(value, float)}
        samples = sorted(done["samples"][name], key=lambda sample: sample["doc_id"])
        found[name] = {
            "metrics": metrics,
            "documents": [[[float(score), bool(greedy)] for score, greedy in pairs_of(sample)] for sample in samples],
            "seconds": model.seconds - before[0],
            "requests": model.n_requests - before[1],
        }
        print(f"{name}: {found[name]['seconds']:.1f} s, {found[name]['requests']} requests, {metrics}", flush=True)
    return found


def pairs_of(sample):
    """(log-likelihood, greedy) of each request of a document; a task with one request has no list around its pair."""
    answers = sample["filtered_resps"]
    return [answers] if isinstance(answers, tuple) else [pair if isinstance(pair, tuple) else pair[0] for pair in answers]
