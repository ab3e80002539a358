"""SepLLM as a model of lm-eval (EleutherAI's lm-evaluation-harness):

    python -m sepllm.lm_eval --model sepllm --model_args path=FOLDER,policy=sep,window=256 --tasks TASK ...

registers the model type "sepllm" and calls lm-eval's own command line. model_args: path (a Hugging Face folder or a GGUF file),
tokenizer (a folder that transformers can read; by default the path), weights, threads, max_length, fork=False (beginnings are not
shared; only choices of one token after the same text are computed at once, as `--model hf` does), at_once (how many texts are
generated at the same time: 8, or lm-eval's --batch_size if that is more than 1; the texts do not depend on it), and the settings of
the policy (policy, window, init, ...).

Requests that begin with the same tokens share them: the beginning is fed once, and forked. The results have "kv_mean_share" (keys
that attention read, over those of full attention), "kv_peak_bytes" and "fed_tokens" in their "config".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from ._errors import InvalidArgument
from ._model import KvStats, Model, Session, TextStream, read_together
from ._policy import Policy

# A beginning that texts share is fed in a pass of its own, which reads all weights: that takes as long as about so many tokens more in
# another pass.
_TOKENS_OF_A_PASS = 24

# Texts that are generated at once unless something else is asked for: weights are read once for all of them, and each has a cache.
_AT_ONCE = 8


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common from the start."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


@dataclass
class _Figures:
    """What the caches of all sessions held."""

    keys: int = 0
    full_keys: int = 0
    peak_bytes: int = 0
    fed: int = 0

    def add(self, before: KvStats | None, after: KvStats, fed: int) -> None:
        self.keys += after.keys - (before.keys if before else 0)
        self.full_keys += after.full_keys - (before.full_keys if before else 0)
        self.peak_bytes = max(self.peak_bytes, after.peak_bytes)
        self.fed += fed


class _Beginnings:
    """Sessions that have been fed the beginning of a text, for texts in lexicographic order: each is fed from the longest beginning
    that it shares with the ones before it.

    texts: what is to be fed of each, and how much of that a session from here may have seen at most. fork: without it, only whole
    texts are shared that nothing is fed behind.
    """

    def __init__(self, new: Callable[[], Session], texts: list[tuple[list[int], int]], fork: bool, figures: _Figures) -> None:
        self.new, self.figures, self.texts = new, figures, texts
        # shared[i]: what texts i and i + 1 have in common; 0 behind the last.
        self.shared = [_shared(a, b) if fork or a == b and m == n == len(a) else 0
                       for (a, m), (b, n) in zip(texts, texts[1:])] + [0]
        self.held: list[tuple[int, Session]] = []

    def at(self, index: int) -> tuple[Session, int]:
        """A session that has seen n tokens of texts[index], and n. It may be fed the rest, if there is one. Beginnings that later texts
        share with this one are fed here and held."""
        text, want = self.texts[index]
        limit = min(want, self.shared[index - 1]) if index > 0 else 0
        while self.held and self.held[-1][0] > limit:
            self.held.pop()
        n, session = self.held[-1] if self.held else (0, None)
        for end in self._ahead(index, n):
            session = session.fork() if session is not None else self.new()
            before = session.kv
            session.feed(text[n:end])
            self.figures.add(before, session.kv, end - n)
            self.held.append((end, session))
            n = end
        if session is None:
            return self.new(), 0
        if n == len(text):
            return session, n
        if self.shared[index] < n:  # no later text needs it
            self.held.pop()
            return session, n
        return session.fork(), n

    def _ahead(self, index: int, n: int) -> list[int]:
        """Where later texts part from this one, behind n and up to what is wanted of it, ascending: where that saves more than it
        costs."""
        text, end = self.texts[index]
        ends: list[tuple[int, int]] = []  # descending, with the number of later texts that share so much
        for later, shared in enumerate(self.shared[index:], 1):
            end = min(end, shared)
            if end <= n:
                break
            if ends and ends[-1][0] == end:
                ends.pop()
            ends.append((end, later))
        out: list[int] = []
        for end, later in reversed(ends):
            if later * (end - n) >= _TOKENS_OF_A_PASS or end == len(text):
                out.append(end)
                n = end
        return out


@register_model("sepllm")
class SepLm(TemplateLM):
    """lm-eval's requests on the engine."""

    def __init__(self, path: str, tokenizer: str | None = None, weights: str = "native", threads: int | None = None,
                 max_length: int | None = None, max_gen_toks: int = 256, add_bos_token: bool | None = None, fork: bool = True,
                 at_once: int | None = None, batch_size: Any = None, max_batch_size: Any = None, device: Any = None,
                 **policy: Any) -> None:
        super().__init__()
        import transformers

        self.model = Model.load(path, weights=weights, threads=threads)
        # The same tokenizer as that of `--model hf`, so that both see the same tokens.
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer or path)
        self.policy = Policy(policy.pop("policy", None), **policy)
        self.settings = self.model.policy(self.policy)
        info = self.model.info
        self.max_length = int(max_length or info["max_positions"] or 2048)
        self.max_gen_toks, self.add_bos_token, self.fork = max_gen_toks, add_bos_token, fork
        if at_once is None:  # lm-eval's default of one cannot be told from a wish
            at_once = int(batch_size) if str(batch_size).isdigit() and int(batch_size) > 1 else _AT_ONCE
        self.at_once = at_once
        self.figures = _Figures()

    # --- What lm-eval asks of a model ---

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return bos if bos is not None else self.tokenizer.eos_token_id

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        special = add_special_tokens if add_special_tokens is not None else self.add_bos_token
        if add_special_tokens is None and string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            special = False
        return self.tokenizer.encode(string, **({} if special is None else {"add_special_tokens": special}))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
                                                  continue_final_message=not add_generation_prompt)

    def get_model_info(self) -> dict[str, Any]:
        f = self.figures
        return {"kv_mean_share": f.keys / f.full_keys if f.full_keys else 1.0, "kv_peak_bytes": f.peak_bytes, "fed_tokens": f.fed,
                "policy": self.settings}

    # --- Requests ---

    def _session(self) -> Session:
        return self.model.session(self.policy, rewind=False)

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False,
                              **kwargs: Any) -> list[tuple[float, bool]]:
        # lm-eval cuts texts that are too long on the left. The last token of a text is scored and never fed.
        whole = [(context + rest)[-(self.max_length + 1):] for _, context, rest in requests]
        n_scored = [min(len(rest), len(text) - 1) for (_, _, rest), text in zip(requests, whole)]
        order = sorted(range(len(requests)), key=lambda r: (whole[r][:-1], n_scored[r]))
        out: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        beginnings = _Beginnings(self._session, [(whole[r][:-1], len(whole[r]) - n_scored[r]) for r in order], self.fork,
                                 self.figures)
        for index, r in enumerate(tqdm(order, disable=disable_tqdm, desc="Running loglikelihood requests")):
            out[r] = self._score(*beginnings.at(index), whole[r], n_scored[r])
            if requests[r][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[r][0], out[r])
        return out

    def _score(self, session: Session, n: int, text: list[int], n_scored: int) -> tuple[float, bool]:
        """The log likelihood of the last n_scored tokens of a text of which the session has seen n, and whether each is the most
        likely one. Nothing is fed, and the session stays as it is, if only the last token is left."""
        expected, loss, greedy = np.array(text[-n_scored:]), 0.0, True
        if n < len(text) - 1:
            before = session.kv
            nll, best = session.score_best(text[n:-1], last=n_scored - 1)
            self.figures.add(before, session.kv, len(text) - 1 - n)
            loss, greedy = float(nll.sum()), bool((best == expected[:-1]).all())
        logits = session.logits.astype(np.float64)
        top = logits.max()
        loss += float(np.log(np.exp(logits - top).sum()) + top - logits[text[-1]])
        return -loss, greedy and int(logits.argmax()) == text[-1]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        out = []
        for request in tqdm(requests, disable=disable_tqdm, desc="Running loglikelihood_rolling requests"):
            (text,) = request.args
            windows = utils.get_rolling_token_windows(token_list=self.tok_encode(text), prefix_token=self.prefix_token_id,
                                                      max_seq_len=self.max_length, context_len=1)
            pairs = [(None, *utils.make_disjoint_window(w)) for w in windows]
            out.append(sum(x for x, _ in self._loglikelihood_tokens(pairs, disable_tqdm=True)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), out[-1])
        return out

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        eos = self.tokenizer.decode(self.eot_token_id)
        asked = []
        for request in requests:
            text, settings = request.args
            options = dict(normalize_gen_kwargs(settings, self.max_gen_toks))
            until = handle_stop_sequences(options.pop("until", None), eos=eos)
            n_new = options.pop("max_gen_toks")
            if n_new >= self.max_length:
                raise InvalidArgument(f"{n_new} new tokens are asked for, and the model's texts have at most {self.max_length}")
            asked.append((self.tok_encode(text)[-(self.max_length - n_new):], n_new, until, options))
        order = sorted(range(len(asked)), key=lambda r: asked[r][0])
        out = [""] * len(asked)
        texts = [(asked[r][0], len(asked[r][0]) - 1) for r in order]
        beginnings = _Beginnings(self._session, texts, self.fork, self.figures)
        begun: dict[int, tuple[Session, KvStats, int]] = {}

        def streams() -> Iterator[TextStream]:
            for index, r in enumerate(order):
                ids, n_new, until, options = asked[r]
                session, n = beginnings.at(index)
                begun[index] = session, session.kv, n
                sampling = {k: options[k] for k in ("temperature", "top_k", "top_p") if options.get("do_sample") and k in options}
                yield session.generate(ids[n:], n_new, stream=True, stop=[u for u in until if u != ""], skip_special=True, **sampling)

        with tqdm(total=len(order), disable=disable_tqdm, desc="Running generate_until requests") as progress:
            for index, text in read_together(streams(), self.at_once):
                session, before, n = begun.pop(index)
                self.figures.add(before, session.kv, len(session) - n)
                r = order[index]
                out[r] = postprocess_generated_text(text.text, asked[r][2], None)
                self.cache_hook.add_partial("generate_until", requests[r].args, out[r])
                progress.update()
        return out


def main() -> None:
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
