"""SepLLM as a model of lm-eval (EleutherAI's lm-evaluation-harness):

    python -m sepllm.lm_eval --model sepllm --model_args path=FOLDER,policy=sep,window=256 --tasks TASK ...

registers the model type "sepllm" and calls lm-eval's own command line. model_args: path (a Hugging Face folder or a GGUF file),
tokenizer (a folder that transformers can read; by default the path), weights, threads, max_length, fork=False (nothing is shared),
and the settings of the policy (policy, window, init, ...).

Requests that begin with the same tokens share them: the beginning is fed once, and forked. The results have "kv_mean_share" (keys
that attention read, over those of full attention), "kv_peak_bytes" and "fed_tokens" in their "config".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from ._errors import InvalidArgument
from ._model import KvStats, Model, Session
from ._policy import Policy

# A beginning that is shorter than this is not worth a copy of the cache.
_SHORTEST_SHARED = 8


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
    that it shares with the ones before it."""

    def __init__(self, new: Callable[[], Session], texts: list[list[int]], fork: bool, figures: _Figures) -> None:
        self.new, self.fork, self.figures, self.texts = new, fork, figures, texts
        # shared[i]: what texts i and i + 1 have in common; 0 behind the last.
        self.shared = [_shared(a, b) for a, b in zip(texts, texts[1:])] + [0]
        self.held: list[tuple[int, Session]] = []

    def at(self, index: int, want: int) -> tuple[Session, int]:
        """A session that has seen n <= want tokens of texts[index], and n. Beginnings that later texts share with this one are fed
        here and held."""
        if not self.fork:
            return self.new(), 0
        limit = min(want, self.shared[index - 1]) if index > 0 else 0
        while self.held and self.held[-1][0] > limit:
            self.held.pop()
        n = self.held[-1][0] if self.held else 0
        session = self.held[-1][1].fork() if self.held else self.new()
        for end in self._ahead(index, n, want):
            before = session.kv
            session.feed(self.texts[index][n:end])
            self.figures.add(before, session.kv, end - n)
            self.held.append((end, session.fork()))
            n = end
        return session, n

    def _ahead(self, index: int, n: int, want: int) -> list[int]:
        """Where later texts part from this one, behind n and up to `want`, ascending."""
        out: list[int] = []
        end = want
        for k in range(index, len(self.shared)):
            end = min(end, self.shared[k])
            if end - n < _SHORTEST_SHARED:
                break
            if not out or out[-1] - end >= _SHORTEST_SHARED:
                out.append(end)
        return out[::-1]


@register_model("sepllm")
class SepLm(TemplateLM):
    """lm-eval's requests on the engine."""

    def __init__(self, path: str, tokenizer: str | None = None, weights: str = "native", threads: int | None = None,
                 max_length: int | None = None, max_gen_toks: int = 256, add_bos_token: bool | None = None, fork: bool = True,
                 batch_size: Any = None, max_batch_size: Any = None, device: Any = None, **policy: Any) -> None:
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
        # The last token of a text is scored and never fed; lm-eval cuts texts that are too long on the left.
        whole = [(context + rest)[-(self.max_length + 1):] for _, context, rest in requests]
        order = sorted(range(len(requests)), key=lambda r: whole[r])
        out: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        beginnings = _Beginnings(self._session, [whole[r] for r in order], self.fork, self.figures)
        for index, r in enumerate(tqdm(order, disable=disable_tqdm, desc="Running loglikelihood requests")):
            text, n_scored = whole[r], min(len(requests[r][2]), len(whole[r]) - 1)
            session, n = beginnings.at(index, len(text) - n_scored)
            before = session.kv
            nll, best = session.score_best(text[n:])
            self.figures.add(before, session.kv, len(text) - n)
            scored = slice(len(text) - n_scored - n, None)
            greedy = bool((best[scored] == text[-n_scored:]).all())
            out[r] = (-float(nll[scored].sum()), greedy)
            if requests[r][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[r][0], out[r])
        return out

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
        beginnings = _Beginnings(self._session, [asked[r][0] for r in order], self.fork, self.figures)
        for index, r in enumerate(tqdm(order, disable=disable_tqdm, desc="Running generate_until requests")):
            ids, n_new, until, options = asked[r]
            session, n = beginnings.at(index, len(ids) - 1)
            before = session.kv
            sampling = {k: options[k] for k in ("temperature", "top_k", "top_p") if options.get("do_sample") and k in options}
            text = session.generate(ids[n:], n_new, stop=[u for u in until if u != ""], skip_special=True, **sampling)
            self.figures.add(before, session.kv, len(session) - n)
            out[r] = postprocess_generated_text(text.text, until, None)
            self.cache_hook.add_partial("generate_until", requests[r].args, out[r])
        return out


def main() -> None:
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
