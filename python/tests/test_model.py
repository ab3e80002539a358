"""Models, sessions and texts: what the program gives for the same, and what callers may do wrong."""

import gc
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import sepllm
from sepllm import Policy

SEP = Policy.sep(window=32, prefill_chunk=64)


def test_scores_are_the_programs(model, program, path, ids, tmp_path):
    text = model.tokenizer.decode(ids)
    (tmp_path / "text").write_text(text, encoding="utf-8")
    program("score", "--model", path, "--text", tmp_path / "text", "--nll-out", tmp_path / "nll", "--policy", "sep",
            "--window", 32, "--prefill-chunk", 64)
    expected = np.loadtxt(tmp_path / "nll")
    nll = model.score(text, SEP)
    assert nll.dtype == np.float64 and np.isnan(nll[0])
    np.testing.assert_allclose(nll[1:], expected, rtol=1e-6)  # the file has rounded figures


def test_texts_are_the_programs(model, program, path):
    prompt = "Once upon a time"
    expected = json.loads(program("generate", "--model", path, "--prompt", prompt, "-n", 40, "--temp", 0.8, "--seed", 3,
                                  "--policy", "sep", "--window", 32, "--json"))
    policy = Policy.sep(window=32)
    options = {"temperature": 0.8, "seed": 3, "policy": policy}
    whole = model.generate(prompt, 40, **options)
    assert whole.text == expected["text"] and whole.ids.tolist() == expected["ids"]
    assert whole.finish_reason == expected["finish_reason"]
    stream = model.generate(prompt, 40, stream=True, **options)
    pieces = list(stream)
    assert len(pieces) > 5 and "".join(pieces) == expected["text"] == stream.result.text


def test_a_stop_string_ends_the_text(model):
    whole = model.generate("Once upon a time", 60).text
    stop = whole[30:36]
    cut = model.generate("Once upon a time", 60, stop=[stop])
    assert cut.text == whole.split(stop)[0] and cut.finish_reason == "stop"


BATCH = [(SEP, 3), (Policy.full(), 40), (Policy.sep_stream(capacity=96, window=32, seps=16), 200), (Policy.sink(window=16, kv="q8"), 64)]


def test_sessions_take_a_token_each_in_one_pass(model, ids):
    beginning = model.session(SEP)
    beginning.feed(ids[:100])
    together, separate = [beginning.fork(), beginning.fork()], [beginning.fork(), beginning.fork()]
    for policy, n in BATCH:
        for sessions in (together, separate):
            sessions.append(model.session(policy))
            sessions[-1].feed(ids[:n])
    for step in range(30):
        tokens = [int(ids[(7 * i + step) % len(ids)]) for i in range(len(together))]
        sepllm.decode_together(together, tokens)
        for session, token in zip(separate, tokens):
            session.feed([token])
    for a, b in zip(together, separate):
        assert len(a) == len(b) and np.array_equal(a.logits, b.logits)


def test_sessions_that_cannot_share_a_pass(model, path, ids):
    a, b = model.session(SEP), model.session(SEP)
    a.feed(ids[:9])
    before = a.logits
    for sessions, tokens, message in (([], [], "no sessions"), ([a, a], [1, 2], "twice"), ([a, b], [1], "as many ids"),
                                      ([a, b], [1, 10**6], "session 1"),
                                      ([a, model.session(runtime=sepllm.Runtime(1))], [1, 2], "runtime"),
                                      ([a, sepllm.Model.load(path, threads=1).session()], [1, 2], "model"),
                                      ([a, model.session(exact=True)], [1, 2], "exact")):
        with pytest.raises(sepllm.InvalidArgument, match=message):
            sepllm.decode_together(sessions, tokens)
    b.close()
    with pytest.raises(sepllm.InvalidState, match="closed"):
        sepllm.decode_together([a, b], [1, 2])
    assert len(a) == 9 and np.array_equal(a.logits, before)
    text = model.session(SEP).generate("Once", 4, stream=True)
    with pytest.raises(sepllm.InvalidArgument, match="twice"):
        list(sepllm.read_together([text, text]))
    with pytest.raises(sepllm.InvalidArgument, match="at_once"):
        sepllm.read_together([text], 0)
    assert text.read().text == model.generate("Once", 4, policy=SEP).text


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_texts_read_together_are_those_read_alone(model, ids, at_once):
    beginning = model.session(SEP)
    beginning.feed(ids[:100])

    def texts():
        for i in range(11):
            session = beginning.fork() if i % 2 else model.session(BATCH[i % len(BATCH)][0])
            stop = ["e", "\n"] if i % 3 == 0 else []
            yield session.generate(ids[200:200 + 1 + 9 * i], 5 + 3 * (i % 4), stream=True, temperature=0.9, seed=i, stop=stop)

    separate = [text.read() for text in texts()]
    together = dict(sepllm.read_together(texts(), at_once))
    assert sorted(together) == list(range(11))
    for i, text in enumerate(separate):
        assert (text.text, text.ids.tolist(), text.finish_reason) == \
               (together[i].text, together[i].ids.tolist(), together[i].finish_reason)
    ended = model.generate("Once", 3, stream=True)
    ended.cancel()
    assert [result.finish_reason for _, result in sepllm.read_together([ended], at_once)] == ["cancelled"]


def test_a_batch_of_prompts(model):
    prompts = ["Once upon a time", "The", "She said that"]
    batch = model.generate_batch(prompts, 20, policy=SEP, at_once=2)
    assert [text.text for text in batch] == [model.generate(prompt, 20, policy=SEP).text for prompt in prompts]


def test_the_models_logits_are_those_of_transformers(model, path, ids):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(ids[None, :128].astype(np.int64))).logits[0]
    nll = model.score(ids[:128], Policy.full())
    losses = torch.nn.functional.cross_entropy(expected[:-1].double(), torch.tensor(ids[1:128].astype(np.int64)), reduction="none")
    np.testing.assert_allclose(nll[1:], losses.numpy(), atol=2e-3)


def test_fork_rewind_save_and_load_give_the_same_bits(model, ids, tmp_path):
    session = model.session(SEP)
    session.feed(ids[:192])
    session.save(tmp_path / "state")
    fork = session.fork()
    session.feed(ids[192:256])
    expected = session.logits
    assert expected.shape == (model.vocab_size,) and expected.dtype == np.float32
    fork.feed(ids[192:256])
    assert np.array_equal(fork.logits, expected)
    session.rewind(192)
    assert len(session) == 192
    with pytest.raises(sepllm.InvalidState, match="feed"):
        session.logits
    session.feed(ids[192:256])
    assert np.array_equal(session.logits, expected)
    other = model.session(SEP)
    other.load(tmp_path / "state")
    other.feed(ids[192:256])
    assert np.array_equal(other.logits, expected)
    with pytest.raises(sepllm.BadFile, match="another 'policy'"):
        model.session(Policy.full()).load(tmp_path / "state")


def test_a_shared_beginning_is_forked(model, ids):
    session = model.session(SEP)
    session.feed(ids[:128])
    for tail in (ids[128:140], ids[300:310]):
        whole = model.session(SEP).score(np.concatenate([ids[:128], tail]))[128:]
        np.testing.assert_allclose(session.fork().score(tail), whole, atol=1e-4)


def test_the_cache_of_a_stream_is_bounded(model, ids):
    session = model.session(Policy.sep_stream(capacity=96, window=32, seps=16))
    session.feed(ids)
    assert session.kv.peak_keys <= 97 + 1 and session.kv.mean_share < 0.5
    positions, tokens = session.kept()
    assert np.array_equal(tokens, ids[positions]) and positions[0] == 0 and positions[-1] == len(ids) - 1
    assert 0 < session.kv.held_bytes <= session.kv.reserved_bytes


def test_policies_name_their_settings(model):
    policy = model.policy(Policy.sep_stream(capacity=100, window=20, seps="unbounded", kv="q8"))
    assert policy["capacity"] == 100 and policy["seps"] == "unbounded" and policy["kv"] == "q8"
    assert model.policy()["policy"] == "sep"  # the model's own
    assert model.info["policy"]["window"] == 64
    assert repr(Policy.sep(window=3)) == "Policy(policy='sep', window=3)"


def test_tokenizers(model, path):
    tokenizer = sepllm.Tokenizer.load(path)
    text = "A text: with ünïcode, 漢字 and 🙂."
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32 and tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert len(tokenizer) <= model.vocab_size
    assert tokenizer.encode("").shape == (0,)
    separators = tokenizer.separators()
    for mark in (".", ",", "\n"):
        assert tokenizer.encode(mark)[-1] in separators
    assert tokenizer.encode("a")[-1] not in separators
    assert tokenizer.separators("ids:9,3").tolist() == [3, 9]


def test_sampling_by_hand_is_generation(model, ids):
    expected = model.session(SEP).generate(ids[:50], 12, ignore_eos=True).ids
    session = model.session(SEP)
    session.feed(ids[:50])
    sampled = []
    for _ in range(12):
        sampled.append(session.sample())
        session.feed([sampled[-1]])
    assert sampled == expected.tolist()


@pytest.mark.parametrize("wrong", [np.zeros((2, 2), np.int32), [0.5], np.array([2**40]), np.array(["a"]), [-1], [10**6], []])
def test_wrong_ids_are_refused(model, wrong):
    with pytest.raises((sepllm.InvalidArgument, TypeError, ValueError)):
        model.session().feed(wrong)


def test_arrays_of_any_layout_are_read(model, ids):
    a, b, c = model.session(SEP), model.session(SEP), model.session(SEP)
    a.feed(ids[:40])
    b.feed(np.repeat(ids[:40], 2).astype(np.int64)[::2])
    c.feed(np.frombuffer(ids[:40].tobytes(), np.int32))  # read-only memory
    assert np.array_equal(a.logits, b.logits) and np.array_equal(a.logits, c.logits)


def test_errors_are_exceptions_with_the_engines_message(model, tmp_path):
    with pytest.raises(sepllm.NotFound, match="nowhere"):
        sepllm.Model.load(tmp_path / "nowhere")
    with pytest.raises(sepllm.InvalidArgument, match="did you mean 'window'"):
        model.session(Policy("sep", windw=3))
    with pytest.raises(ValueError, match="does not apply"):
        model.session(Policy("full", window=3))
    with pytest.raises(sepllm.InvalidState, match="closed"):
        with model.session() as session:
            pass
        session.feed([1])
    with pytest.raises(sepllm.InvalidState, match="changed"):
        session = model.session()
        text = session.generate([1, 2, 3], 5, stream=True, ignore_eos=True)
        next(text)
        session.feed([1])
        next(text)
    (tmp_path / "bad").write_bytes(b"not a state")
    with pytest.raises(sepllm.BadFile):
        model.session().load(tmp_path / "bad")


def test_a_closed_session_refuses_everything(model, ids, tmp_path):
    session = model.session()
    session.feed(ids[:4])
    text = session.generate([1], 5, stream=True, ignore_eos=True)
    session.close()
    session.close()  # again is no error
    for call in (lambda: session.feed([1]), lambda: session.logits, lambda: session.score([1]), lambda: session.score_best([1]),
                 lambda: session.sample(), lambda: session.set_sampling(temperature=1.0), session.fork, lambda: session.rewind(0),
                 lambda: session.save(tmp_path / "state"), lambda: session.load(tmp_path / "state"), lambda: session.kv,
                 lambda: session.kept(), lambda: len(session), lambda: session.generate([1], 2)):
        with pytest.raises(sepllm.InvalidState, match="closed"):
            call()
    assert not (tmp_path / "state").exists()
    assert len(text.read().ids) == 5  # it holds the session itself


def test_a_cancelled_generation_leaves_the_session_usable(model, ids):
    session = model.session(SEP)
    text = session.generate(ids[:20], 50, stream=True, ignore_eos=True)
    next(text)
    text.cancel()
    assert list(text) == [] and text.result.finish_reason == "cancelled" and len(text.result.ids) > 0
    n = len(session)
    session.feed(ids[20:24])
    assert len(session) == n + 4
    for _ in range(50):  # begun and dropped
        next(session.generate(ids[:2], 9, stream=True, ignore_eos=True))
    assert session.score(ids[:3]).shape == (3,)


def test_only_the_last_tokens_are_scored(model, ids):
    nll, best = model.session(SEP).score_best(ids[:200])
    session = model.session(SEP)
    some, some_best = session.score_best(ids[:200], last=70)
    np.testing.assert_allclose(some, nll[-70:], atol=1e-4)
    assert np.array_equal(some_best, best[-70:])
    assert session.score_best(ids[200:210], last=0)[0].shape == (0,) and len(session) == 210
    for wrong in (-1, 4):
        with pytest.raises(sepllm.InvalidArgument, match="last"):
            session.score_best(ids[:3], last=wrong)


@pytest.mark.parametrize("wrong", [
    {"q": np.zeros((1, 2, 5, 8), np.float64)}, {"q": np.zeros((1, 2, 5, 8), np.int32)}, {"q": np.zeros((2, 5, 8), np.float32)},
    {"q": np.zeros((1, 2, 5, 16), np.float32)[..., ::2]}, {"k": np.zeros((1, 2, 4, 8), np.float32)},
    {"k": np.zeros((1, 3, 5, 8), np.float32)}, {"v": np.zeros((1, 2, 5, 4), np.float32)}, {"out": np.zeros((1, 2, 5, 7), np.float32)},
    {"out": np.broadcast_to(np.zeros(1, np.float32), (1, 2, 5, 8))}, {"out": np.zeros((1, 2, 5, 8), np.float32)[:, :, ::-1]},
    {"out": np.zeros((1, 2, 5, 8), np.float64)}, {"lse": np.zeros((1, 2, 5, 2), np.float32)}, {"patterns": []}, {"patterns": [(6, 0, 3, (), ())]},
    {"patterns": [(5, -1, 3, (), ())]}, {"patterns": [(5, 0, -3, (), ())]}, {"patterns": [(5, 0, 3, (9,), ())]},
    {"patterns": [(5, 0, 3, (3, 1), ())]}, {"patterns": [(5, 0, 3, (), (2, 1))]}, {"patterns": [(5, 0, 3, (-1,), ())]},
    {"patterns": ["x"]}, {"patterns": [(5, 0, 3)]},
])
def test_wrong_tensors_of_the_operator_are_refused(wrong):
    x = {name: np.ones((1, 2, 5, 8), np.float32) for name in ("q", "k", "v", "out")}
    given = {**x, "lse": np.zeros((1, 2, 5, 1), np.float32), "patterns": [(5, 1, 3, (), ())], **wrong}
    patterns = [(*p[:3], *(np.array(a, np.int64) for a in p[3:])) if isinstance(p, tuple) else p for p in given["patterns"]]
    with pytest.raises((sepllm.InvalidArgument, TypeError, RuntimeError)):
        sepllm._core.attention_forward(sepllm.Runtime(1)._handle, given["q"], given["k"], given["v"], given["out"], given["lse"], 0.0,
                                       patterns)


def test_two_threads_with_two_sessions(model, ids):
    expected = model.score(ids, SEP)
    results = {}

    def work(name, runtime):
        results[name] = model.session(SEP, runtime=runtime).score(ids)

    runtimes = [None, None, sepllm.Runtime(1), sepllm.Runtime(1)]
    threads = [threading.Thread(target=work, args=(i, r)) for i, r in enumerate(runtimes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for nll in results.values():
        assert np.array_equal(nll[1:], expected[1:])


def test_one_session_in_two_threads_is_busy_and_closing_is_safe(model, ids):
    session = model.session(Policy.full(prefill_chunk=16))
    errors, started = [], threading.Event()

    def work():
        started.set()
        try:
            for _ in range(20):
                session.feed(ids)
        except sepllm.Error as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    for _ in range(50):
        try:
            session.feed(ids[:1])
        except sepllm.Busy:
            break
        except sepllm.Error:
            break
    session.close()
    thread.join()
    assert all(isinstance(error, (sepllm.InvalidState, sepllm.Busy)) for error in errors)


def test_ctrl_c_ends_a_generation(model):
    text = model.generate("Once upon a time", 10**9, stream=True, ignore_eos=True, policy=Policy.sep_stream(capacity=200))
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        text.read()
    assert time.monotonic() - begin < 20
    assert list(text) == []


def test_ctrl_c_ends_texts_that_are_read_together(model):
    options = {"stream": True, "ignore_eos": True, "policy": Policy.sep_stream(capacity=200)}
    texts = [model.generate(prompt, 10**9, **options) for prompt in ("Once upon a time", "The", "She said")]
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        list(sepllm.read_together(texts))
    assert [list(text) for text in texts] == [[], [], []]
    assert [text.result.finish_reason for text in texts] == ["cancelled"] * 3


def test_ctrl_c_ends_feeding(model, ids):
    session = model.session(Policy.full(prefill_chunk=8))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(10**6):
            session.feed(ids[:256])
            session.rewind(0)
    model.score(ids[:10])  # the model is as before


def test_an_interpreter_that_ends_amid_a_generation(path):
    program = textwrap.dedent(f"""
        import threading, time, sepllm
        model = sepllm.Model.load({str(path)!r}, threads=1)
        def work():
            for piece in model.generate("Once", 10**9, stream=True, ignore_eos=True, policy=sepllm.Policy.sep_stream()):
                pass
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(1)
        print("end", flush=True)
    """)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "raise SystemExit", "os.kill(os.getpid(), signal.SIGINT)"])
def test_an_interpreter_that_ends_with_a_text_half_read(path, end):
    program = textwrap.dedent(f"""
        import os, signal, sys, sepllm
        sepllm.set_log(print)
        model = sepllm.Model.load({str(path)!r}, threads=2)
        text = model.generate("Once", 10**9, stream=True, ignore_eos=True, policy=sepllm.Policy.sep_stream())
        again = [next(text), text, model.session()]
        again.append(again)  # a cycle, which is still there when modules are cleared
        try:
            {end}
        except KeyboardInterrupt:
            print("interrupted")
    """)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")


def resident_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def growth(cycle, warm_up, n):
    """By how many bytes n cycles let the process grow, after some that do not count."""
    for _ in range(warm_up):
        cycle()
    gc.collect()
    before = resident_bytes()
    for _ in range(n):
        cycle()
    gc.collect()
    return resident_bytes() - before


def test_a_thousand_loads_do_not_grow(tiny_folder):
    def cycle():
        model = sepllm.Model.load(tiny_folder, threads=1)
        with model.session(Policy.sep(window=8, separators="ids:7"), runtime=sepllm.Runtime(1)) as session:
            session.score([1, 2, 3])
        model.session(Policy.full()).generate([1, 2], 3, stream=True, ignore_eos=True)  # never read

    # Each load holds some 200 kB: one that is not freed in ten cycles would be seen.
    assert growth(cycle, 100, 1000) < 8 << 20


def test_a_thousand_forks_do_not_grow(tiny_folder):
    model = sepllm.Model.load(tiny_folder, threads=1)
    session = model.session(Policy.sep(window=8, separators="ids:7"))
    session.feed(np.arange(64))

    def cycle():
        fork = session.fork()
        fork.feed([7, 3])
        fork.rewind(65)
        text = fork.generate([5], 3, stream=True, ignore_eos=True)
        assert len(text.read().ids) == 3
        fork.kept()

    assert growth(cycle, 100, 1000) < 8 << 20


def test_the_log_goes_to_a_function(model):
    lines = []
    sepllm.set_log(lambda level, text: lines.append((level, text)))
    try:
        session = model.session(Policy.full())
        session.feed(np.ones(1100, np.int32))  # beyond the 1024 positions that it was trained for
    finally:
        sepllm.set_log(None)
    assert any(level == 2 for level, _ in lines), lines


def test_the_command(program):
    assert program("--version") == f"sepllm {sepllm.__version__}\n"
