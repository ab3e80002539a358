"""The model type "sepllm" of lm-eval, next to lm-eval's own `hf` in float32 on the same requests."""

import json

import pytest

pytest.importorskip("torch")
lm_eval = pytest.importorskip("lm_eval")

import sepllm.lm_eval as adapter  # noqa: E402
from conftest import TEXT  # noqa: E402
from lm_eval.api.registry import get_model  # noqa: E402

CHOICE = """
task: local_choice
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
num_fewshot: 2
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ROLLING = """
task: local_rolling
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}]
"""
UNTIL = """
task: local_until
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 20, do_sample: false}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    words = TEXT.split()
    with open(folder / "documents.jsonl", "w", encoding="utf-8") as out:
        for i in range(8):
            at = 60 * i
            choices = [" " + " ".join(words[at + 20 + 7 * c:at + 22 + 7 * c]) for c in range(3)]
            out.write(json.dumps({"question": " ".join(words[at:at + 20]), "choices": choices, "gold": i % 3}) + "\n")
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'documents.jsonl'}}}}}\ntest_split: test\nfewshot_split: test\n"
    for name, task in (("choice", CHOICE), ("rolling", ROLLING), ("until", UNTIL)):
        (folder / f"local_{name}.yaml").write_text(task + data, encoding="utf-8")
    return folder


def run(tasks, model, arguments):
    results = lm_eval.simple_evaluate(
        model=model, model_args=arguments, tasks=["local_choice", "local_rolling", "local_until"], log_samples=True, batch_size=1,
        bootstrap_iters=0, task_manager=lm_eval.tasks.TaskManager(include_path=str(tasks), include_defaults=False))
    return results, {name: [s["resps"] for s in sorted(samples, key=lambda s: s["doc_id"])]
                     for name, samples in results["samples"].items()}


def numbers(value):
    """The numbers of nested answers."""
    if isinstance(value, (list, tuple)):
        return [x for item in value for x in numbers(item)]
    return [float(value)]


@pytest.fixture(scope="module")
def of_hf(tasks, path):
    return run(tasks, "hf", f"pretrained={path},dtype=float32,device=cpu")[1]


@pytest.mark.parametrize("fork", [True, False])
def test_answers_are_those_of_hf(tasks, path, of_hf, fork):
    results, ours = run(tasks, "sepllm", f"path={path},policy=full,fork={fork}")
    assert get_model("sepllm") is adapter.SepLm
    for name in ("local_choice", "local_rolling"):
        for a, b in zip(ours[name], of_hf[name], strict=True):
            assert numbers(a) == pytest.approx(numbers(b), abs=1e-3), name
    assert ours["local_until"] == of_hf["local_until"]
    assert results["config"]["kv_mean_share"] == pytest.approx(1.0)


def test_a_policy_and_forks_feed_less(tasks, path):
    forked, a = run(tasks, "sepllm", f"path={path},policy=sep,window=16")
    plain, b = run(tasks, "sepllm", f"path={path},policy=sep,window=16,fork=False")
    for name in ("local_choice", "local_rolling"):
        assert numbers(a[name]) == pytest.approx(numbers(b[name]), abs=1e-3)
    assert forked["config"]["kv_mean_share"] < 0.9 and forked["config"]["kv_peak_bytes"] > 0
    assert forked["config"]["fed_tokens"] < 0.7 * plain["config"]["fed_tokens"]


def test_texts_do_not_depend_on_how_many_are_generated_at_once(tasks, path, of_hf):
    for at_once in (1, 3, 8):
        _, ours = run(tasks, "sepllm", f"path={path},policy=full,at_once={at_once}")
        assert ours["local_until"] == of_hf["local_until"]
    assert adapter.SepLm(path, batch_size=16).at_once == 16
    assert adapter.SepLm(path, batch_size="1").at_once == adapter.SepLm(path, batch_size="auto").at_once == 8
