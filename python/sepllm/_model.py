"""Models, tokenizers and sessions, on the module of the C library."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union, overload

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._errors import InvalidArgument
from ._policy import Policy

Ids = Union[Sequence[int], NDArray[Any]]
PathLike = Union[str, "os.PathLike[str]"]


def _ids(ids: Ids) -> NDArray[np.int32]:
    """A contiguous int32 array of one dimension: `ids` itself where it is one, else a copy."""
    array = np.asarray(ids)
    if array.ndim != 1:
        raise InvalidArgument(f"token ids need one dimension, and have {array.ndim}")
    if array.size and array.dtype.kind not in "iu":
        raise InvalidArgument(f"token ids are integers, not {array.dtype}")
    if array.size and array.dtype != np.int32 and (int(array.min()) < -(2**31) or int(array.max()) >= 2**31):
        raise InvalidArgument("token ids do not fit 32 bits")
    return np.ascontiguousarray(array, dtype=np.int32)


def _json(options: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in options.items() if value is not None})


def _sampling(temperature: float | None, top_k: int | None, top_p: float | None, min_p: float | None,
              repeat_penalty: float | None, repeat_last_n: int | None, seed: int | None) -> dict[str, Any]:
    return {"temp": temperature, "top-k": top_k, "top-p": top_p, "min-p": min_p, "repeat-penalty": repeat_penalty,
            "repeat-last-n": repeat_last_n, "seed": seed}


def set_log(log: Callable[[int, str], None] | None) -> None:
    """Sends warnings and notes of the engine to log(level, message); level is 0 (debug), 1 (info) or 2 (warning). None: they
    are dropped, as at first."""
    _core.set_log(log)


class Runtime:
    """Threads and scratch memory. Calls of sessions of one runtime take turns; of several, they run at the same time.

    threads: 1 to 1024; None: all cores, within the CPU quota of a container. Results do not depend on it.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._handle = _core.Runtime(0 if threads is None else threads)

    @property
    def threads(self) -> int:
        return self._handle.threads


class Tokenizer:
    """Text to token ids and back."""

    def __init__(self, handle: _core.Tokenizer) -> None:
        self._handle = handle

    @classmethod
    def load(cls, path: PathLike) -> Tokenizer:
        """The tokenizer of a Hugging Face folder, one file of it, or that of a GGUF file."""
        return cls(_core.Tokenizer.load(os.fspath(path)))

    def encode(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> NDArray[np.int32]:
        """The ids of a text, [n].

        add_special: with the tokens that the tokenizer's files put around a text (BOS, ...).
        parse_special: special strings ("<|endoftext|>") in the text become their tokens; switch it off for text of users.
        """
        return self._handle.encode(text.encode("utf-8"), add_special, parse_special)

    def decode(self, ids: Ids, *, skip_special: bool = False) -> str:
        """The text of these tokens; bytes that are not UTF-8 (a token may be a part of a character) become U+FFFD."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Ids, *, skip_special: bool = False) -> bytes:
        """The bytes of these tokens."""
        return self._handle.decode(_ids(ids), skip_special)

    def separators(self, rule: str = "text", *, vocab_size: int | None = None, streaming: bool = False) -> NDArray[np.int32]:
        """The ids of the tokens that are separators, [n], ascending.

        rule: "text", "paper", "strings:.,!" or "ids:1,2,3" (docs/METHOD.md#separators). vocab_size: of the model, all ids are
        below it; None: the tokenizer's. streaming: whether "paper" means the reference's longer list for streams.
        """
        return self._handle.separators(rule, vocab_size or 0, streaming)

    def __len__(self) -> int:
        """One more than the largest id."""
        return self._handle.vocab_size

    @property
    def bos_id(self) -> int | None:
        return None if self._handle.bos < 0 else self._handle.bos

    @property
    def eos_id(self) -> int | None:
        return None if self._handle.eos < 0 else self._handle.eos

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer's files put a BOS before a text."""
        return self._handle.adds_bos


@dataclass(frozen=True)
class KvStats:
    """What a session's cache held, measured from what the kernels read."""

    queries: int
    """pairs of query and layer"""
    keys: int
    """keys that they saw"""
    full_keys: int
    """keys that full attention would have seen"""
    peak_keys: int
    """the most keys of one query in one layer"""
    held_bytes: int
    peak_bytes: int
    full_bytes: int
    reserved_bytes: int
    mean_keys: float
    mean_share: float
    """keys / full_keys"""


@dataclass(frozen=True)
class Generated:
    """A generated text."""

    text: str
    ids: NDArray[np.int32] = field(repr=False)
    """[n] the new tokens, without the stop token"""
    finish_reason: str
    """"length", "stop", "cancelled" or "error"; "none" while it is still running"""
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float


_FINISH = ("none", "length", "stop", "cancelled", "error")


class TextStream(Iterator[str]):
    """A text that is generated while it is read: iterating gives pieces of whole characters."""

    def __init__(self, handle: _core.Generation) -> None:
        self._handle = handle
        self._more = True
        self._cancelled = False

    def __next__(self) -> str:
        while self._more:
            try:
                piece, self._more = self._handle.next()
            except BaseException:
                self._more = False
                raise
            if piece:
                return piece.decode("utf-8")
        raise StopIteration

    def cancel(self) -> None:
        """Ends the text here."""
        self._cancelled = self._cancelled or self._more
        self._more = False

    @property
    def result(self) -> Generated:
        """Everything so far."""
        finish, ids, text, n_fed, prefill, decode = self._handle.get()
        reason = "cancelled" if self._cancelled else _FINISH[finish]
        return Generated(text.decode("utf-8"), ids, reason, n_fed, prefill, decode)

    def read(self) -> Generated:
        """Generates all of it."""
        for _ in self:
            pass
        return self.result


class Session:
    """One sequence in progress: tokens go in, logits come out, and a cache holds the keys that the policy keeps.

    Made by Model.session(). It may be used in a `with` statement, which closes it.
    """

    def __init__(self, handle: _core.Session, model: Model) -> None:
        self._handle = handle
        self.model = model

    def feed(self, ids: Ids | str) -> None:
        """Feeds tokens ([n], n >= 1), or the tokens of a text without special ones around it. `logits` are then those after the
        last token."""
        self._handle.feed(self._tokens(ids))

    @property
    def logits(self) -> NDArray[np.float32]:
        """[vocab_size] after the last token, a copy. InvalidState before the first token and after rewind and load."""
        return self._handle.logits(self.model.vocab_size)

    def set_sampling(self, *, temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
                     min_p: float | None = None, repeat_penalty: float | None = None, repeat_last_n: int | None = None,
                     seed: int | None = None) -> None:
        """How sample() chooses; greedy unless a temperature is given."""
        self._handle.set_sampling(_json(_sampling(temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed)))

    def sample(self) -> int:
        """Chooses a token from the logits. It is not fed."""
        return self._handle.sample()

    def score(self, ids: Ids | str) -> NDArray[np.float64]:
        """Feeds tokens ([n]) and gives the negative log likelihood, in nats, of each after all before it, [n]. The first is NaN
        if the session had no logits."""
        return self._handle.score(self._tokens(ids))

    def score_best(self, ids: Ids | str, last: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """The same (in single precision), and the most likely token in the place of each, [n]; the first is -1 if the session had
        no logits. last: only of so many last tokens, [last]; those before them are fed without the work of their logits."""
        tokens = self._tokens(ids)
        if last is not None and not 0 <= last <= len(tokens):
            raise InvalidArgument(f"the last {last} of {len(tokens)} tokens")
        return self._handle.score_best(tokens, len(tokens) if last is None else last)

    @overload
    def generate(self, prompt: Ids | str = ..., max_new_tokens: int = ..., *, stream: Literal[False] = ...,
                 **options: Any) -> Generated: ...
    @overload
    def generate(self, prompt: Ids | str = ..., max_new_tokens: int = ..., *, stream: Literal[True],
                 **options: Any) -> TextStream: ...
    def generate(self, prompt: Ids | str = (), max_new_tokens: int = 256, *, stream: bool = False,
                 temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
                 min_p: float | None = None, repeat_penalty: float | None = None, repeat_last_n: int | None = None,
                 seed: int | None = None, stop: Sequence[str] = (), stop_ids: Sequence[int] = (), ignore_eos: bool = False,
                 skip_special: bool = False) -> Generated | TextStream:
        """Continues the session's text with `prompt` (nothing: from the logits) and at most max_new_tokens new tokens.

        stream: gives a TextStream at once, which generates as it is read; else the whole text.
        temperature 0 (the default) always takes the most likely token. stop: strings that end the text and are not part of it.
        """
        options = {"n": max_new_tokens, "stop": list(stop), "stop-ids": [int(i) for i in stop_ids],
                   "ignore-eos": ignore_eos, "skip-special": skip_special,
                   **_sampling(temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed)}
        text = TextStream(self._handle.generate(self._tokens(prompt), _json(options)))
        return text if stream else text.read()

    def fork(self, runtime: Runtime | None = None) -> Session:
        """A copy that gives the same bits for whatever follows, on the same runtime or another one."""
        return Session(self._handle.fork(runtime._handle if runtime is not None else None), self.model)

    def rewind(self, position: int) -> None:
        """Goes back to when `position` tokens had entered. OutOfRange for one that a bounded cache has long dropped."""
        self._handle.rewind(position)

    def save(self, path: PathLike) -> None:
        """Writes everything that is needed to continue into one file, completely or not at all."""
        self._handle.save(os.fspath(path))

    def load(self, path: PathLike) -> None:
        """Continues where the saved session was, with the same bits. BadFile, and nothing changes, for a file that is damaged
        or belongs to another model or policy."""
        self._handle.restore(os.fspath(path))

    @property
    def kv(self) -> KvStats:
        return KvStats(*self._handle.kv())

    def kept(self, layer: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The tokens whose keys a layer holds now: positions in the text [n], and ids [n]."""
        return self._handle.kept(layer)

    def __len__(self) -> int:
        """The number of tokens seen."""
        return self._handle.length()

    def close(self) -> None:
        """Frees its memory now; any later call raises InvalidState."""
        self._handle.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tokens(self, ids: Ids | str) -> NDArray[np.int32]:
        return self.model.tokenizer.encode(ids) if isinstance(ids, str) else _ids(ids)


def decode_together(sessions: Sequence[Session], ids: Ids) -> None:
    """Feeds ids[i] to sessions[i] ([n], n >= 1), for sessions of one model: the same as feeding each its token, to the last bit, but
    the weights are read once for (up to 32 of) them. `logits` of each are then those after its token.

    Policies and lengths may differ. InvalidArgument for a session that is there twice and for sessions of different models or
    runtimes, or with and without `exact`; nothing changes then, and neither does Ctrl-C change anything.
    """
    _core.sessions_decode([s._handle for s in sessions], _ids(ids))


def read_together(texts: Iterable[TextStream], at_once: int = 8) -> Iterator[tuple[int, Generated]]:
    """Generates several texts of one model, `at_once` at a time, and gives the number of each and its result as it ends. The texts
    are the same as when each is read by itself, but the weights are read once for a token of all of them.

    texts: what Session.generate(..., stream=True) gives, each of a session of its own; the next one is asked for when a place is
    free, so that an iterator may make sessions only then. Each session has a cache of its own: memory grows with at_once. An error of
    one text is raised, and so is KeyboardInterrupt, which ends those that are in progress.
    """
    if at_once < 1:
        raise InvalidArgument(f"at_once is {at_once}, and must be at least 1")
    return _read_together(enumerate(texts), at_once)


def _read_together(texts: Iterator[tuple[int, TextStream]], at_once: int) -> Iterator[tuple[int, Generated]]:
    active: list[tuple[int, TextStream]] = []
    while True:
        active += itertools.islice(texts, at_once - len(active))
        if not active:
            return
        running = [text for _, text in active if text._more]
        if running:
            try:
                goes_on = _core.generations_next([text._handle for text in running])
            except KeyboardInterrupt:
                for text in running:
                    text.cancel()
                raise
            for text, more in zip(running, goes_on):
                text._more = more
        ended = [(i, text) for i, text in active if not text._more]
        active = [(i, text) for i, text in active if text._more]
        for i, text in ended:
            yield i, text.result


class Model:
    """A model with its weights and, if it has one, its tokenizer."""

    def __init__(self, handle: _core.Model) -> None:
        self._handle = handle

    @classmethod
    def load(cls, path: PathLike, *, tokenizer: PathLike | None = None, weights: str = "native",
             threads: int | None = None) -> Model:
        """Loads a Hugging Face folder (config.json, safetensors, tokenizer) or a GGUF file.

        weights: the type in which weights are multiplied: "native" (as stored, mapped from the file), "bf16", "q8_0", ...
        threads: of the model's own runtime; None: all cores.
        """
        options = {"tokenizer": None if tokenizer is None else os.fspath(tokenizer), "weights": weights, "threads": threads}
        return cls(_core.Model.load(os.fspath(path), _json(options)))

    @property
    def info(self) -> dict[str, Any]:
        """Shapes, special tokens, the model's own policy, and what it runs on."""
        return json.loads(self._handle.info())

    @property
    def vocab_size(self) -> int:
        return self._handle.vocab_size

    @property
    def tokenizer(self) -> Tokenizer:
        """NotFound if it has none."""
        return Tokenizer(self._handle.tokenizer())

    def policy(self, policy: Policy | None = None) -> dict[str, Any]:
        """All settings in force in a session with this policy."""
        return json.loads(self._handle.policy(_json((policy or Policy()).settings)))

    def session(self, policy: Policy | None = None, *, rewind: bool = True, exact: bool = False,
                runtime: Runtime | None = None) -> Session:
        """An empty session.

        policy: None: the model's own. rewind: whether Session.rewind() is wanted, which takes some memory.
        exact: multiplies 8- and 4-bit weights as f32. runtime: None: the model's own.
        """
        options = {**(policy or Policy()).settings, "rewind": rewind, "exact": exact}
        return Session(self._handle.session(_json(options), runtime._handle if runtime is not None else None), self)

    @overload
    def generate(self, prompt: Ids | str, max_new_tokens: int = ..., *, stream: Literal[False] = ...,
                 policy: Policy | None = ..., **options: Any) -> Generated: ...
    @overload
    def generate(self, prompt: Ids | str, max_new_tokens: int = ..., *, stream: Literal[True], policy: Policy | None = ...,
                 **options: Any) -> TextStream: ...
    def generate(self, prompt: Ids | str, max_new_tokens: int = 256, *, stream: bool = False,
                 policy: Policy | None = None, **options: Any) -> Generated | TextStream:
        """Continues a prompt (text, or ids [n]) in a new session: with the model's BOS where its files say so. The other options
        are those of Session.generate()."""
        session = self.session(policy, rewind=False)
        return session.generate(self._prompt(prompt), max_new_tokens, stream=stream, **options)  # type: ignore[call-overload]

    def generate_batch(self, prompts: Iterable[Ids | str], max_new_tokens: int = 256, *, policy: Policy | None = None,
                       at_once: int = 8, **options: Any) -> list[Generated]:
        """Continues each prompt as generate() does, with the same results; `at_once` of them share each pass over the weights
        (read_together). The other options are those of Session.generate(), the same for each."""
        texts = (self.generate(prompt, max_new_tokens, stream=True, policy=policy, **options) for prompt in prompts)
        results = dict(read_together(texts, at_once))
        return [results[i] for i in range(len(results))]

    def score(self, ids: Ids | str, policy: Policy | None = None) -> NDArray[np.float64]:
        """The negative log likelihood, in nats, of each token after all before it, [n]; the first is NaN."""
        return self.session(policy, rewind=False).score(self._prompt(ids))

    def _prompt(self, text: Ids | str) -> NDArray[np.int32]:
        if not isinstance(text, str):
            return _ids(text)
        tokenizer = self.tokenizer
        ids = tokenizer.encode(text)
        bos = self.info["bos_id"]
        if bos is not None and (tokenizer.adds_bos or len(ids) == 0):
            ids = np.concatenate([np.array([bos], np.int32), ids])
        return ids
