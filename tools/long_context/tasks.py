"""Documents of long-context tasks, made without the network: RULER's niah_single_1, niah_multikey_2, niah_multikey_3, vt, cwe
and fwe as lm-evaluation-harness (0.4.13) defines them, and two needles of our own, at and between separators.

What differs from RULER: the words. Its lists come from a package that is not at hand; here keys are made of the adjectives and
nouns below, and cwe takes the words of a text file. check_ruler.py gives these words to the harness's own functions and compares
the documents. RULER's essays and question answering need data from the network and are left out.
"""

import random
import re
import string
import uuid
from pathlib import Path

ADJECTIVES = """able amber ancient brave brief bright broad calm clever cold copper crisp curious dark deep dry eager early empty
faint fair famous fast fierce final flat fresh gentle giant glad golden grand gray green happy heavy hollow honest huge humble
icy idle keen kind large late lazy light little lively lonely long loud lucky mellow mighty modern narrow neat noble odd old
patient plain polite proud quick quiet rapid rare rich rough round royal rusty sharp shiny silent silver simple slow small smooth
soft solid spare steep stiff still strange strong sudden sweet swift tall tame thick thin tidy tiny tired warm weak wide wild
wise wooden young""".split()
NOUNS = """acorn anchor apple arrow badge barn basket beach bell bench bird blanket boat bottle branch brick bridge brook brush
bucket button candle canyon castle chair church circle clock cloud coast coin corner cottage crown desert desk door dragon drum
eagle engine fable feather fence field finger flame flute forest fork fountain fox garden gate glove goose grape hammer harbor
hat hill horn horse house island jacket journey kettle key kitchen knight ladder lake lamp lantern leaf lemon letter library
lighthouse lion map market meadow mirror moon mountain needle nest ocean orchard otter paint palace paper parrot pencil piano
pillow planet pocket pond queen rabbit rain river road rocket rope sail school shadow shell ship shoe spoon star stone storm
summer table tiger tower train tree tunnel valley village violin wagon wall water whale wheel window winter wolf""".split()
KEYS = sorted({f"{adjective}-{noun}" for adjective in ADJECTIVES for noun in NOUNS})

SEED = 42  # RULER's own, for what is shuffled in the same way in every document
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NIAH = ("Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about the {kind} "
        "afterwards.\n{context}\nWhat are all the special magic {kind} for {query} mentioned in the provided text?")
VT = ("Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\nQuestion: Find all "
      "variables that are assigned the value {query} in the text above.")
VT_ANSWER = (" Answer: According to the chain(s) of variable assignment in the text above, {n} variables are assgined the value "
             "{query}, they are: ")
CWE = ("Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most "
       "often.\n{context}\nQuestion: What are the 10 most common words in the above list?")
CWE_ANSWER = " Answer: The top 10 words that appear most often in the list are:"
FWE = ("Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded "
       "words. {context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most "
       "frequently appeared words in the above coded text?")
FWE_ANSWER = " Answer: According to the coded text above, the three most frequently appeared words are:"
NEW_TOKENS = {"niah_single_1": 128, "niah_multikey_2": 128, "niah_multikey_3": 128, "vt": 30, "cwe": 120, "fwe": 50,
              "needle_at": 32, "needle_between": 32}


class Maker:
    """n_tokens: text -> number of tokens. The same seed gives the same documents."""

    def __init__(self, n_tokens, length, words, seed=1):
        self.n_tokens, self.length = n_tokens, length
        self.rng = random.Random(seed)
        self.list_rng = random.Random(SEED)  # cwe's order of words
        self.words = sorted(set(words))
        self.list_rng.shuffle(self.words)

    def documents(self, task, count):
        """count dicts of input, outputs (all must be found), gen_prefix, length, max_length and index."""
        kind = task if task in ("vt", "cwe", "fwe") else "needle" if task.startswith("needle_") else "niah"
        made = getattr(self, kind)(count) if kind in ("vt", "cwe", "fwe") else getattr(self, kind)(task, count)
        return [dict(document, index=index, max_length=self.length) for index, document in enumerate(made)]

    # --- Needles ---

    def _niah_value(self, kind):
        if kind == "numbers":
            return str(self.rng.randint(10**6, 10**7 - 1))
        if kind == "words":
            return self.rng.choice(KEYS)
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _niah_document(self, haystack, n, key_kind, value_kind):
        key, value = self._niah_value(key_kind), self._niah_value(value_kind)
        needle = NEEDLE.format(kind=value_kind, key=key, value=value)
        if haystack == "repeat":
            sentences = [NOISE] * n
        else:
            sentences = []
            for _ in range(n):
                other = self._niah_value(key_kind)
                sentences.append(NEEDLE.format(kind=value_kind, key=other, value=self._niah_value(value_kind)))
        sentences.insert(self.rng.sample(range(n), 1)[0], needle)
        self.rng.sample(range(1), 1)  # which needle is asked for: the only one
        template = NIAH.replace("Some", "A").replace("are all", "is").replace("are", "is")
        text = template.format(kind=value_kind[:-1], context="\n".join(sentences), query=key)
        prefix = f"The special magic {value_kind[:-1]} for {key} mentioned in the provided text is"
        return {"input": text, "outputs": [value], "gen_prefix": prefix}

    def niah(self, task, count):
        haystack, *kinds = {"niah_single_1": ("repeat", "words", "numbers"), "niah_multikey_2": ("needle", "words", "numbers"),
                            "niah_multikey_3": ("needle", "uuids", "uuids")}[task]
        new, step = NEW_TOKENS[task], 25 if self.length >= 4096 else 5
        n, total = step, 0
        while total + new < self.length:
            document = self._niah_document(haystack, n, *kinds)
            total = self.n_tokens(document["input"] + " ".join(document["outputs"]))
            if total + new > self.length:
                n -= step
                break
            n += step
        for _ in range(count):
            yield self._shrunk(max(n, 1), step, new, lambda n: self._niah_document(haystack, n, *kinds))

    def _shrunk(self, n, step, new, make):
        """The first document that fits, with fewer units if it must be."""
        while n > 0:
            document = make(n)
            length = self.n_tokens(document["input"]) + new
            if length <= self.length:
                return dict(document, length=length)
            n -= step
        raise SystemExit(f"no document fits {self.length} tokens")

    # --- Our own needles ---

    def _own_needle(self, task, n):
        """at: the value is just before the separator that closes its segment. between: no separator is near, neither in the
        needle nor in the text around it (line ends are separators too)."""
        key, value = self._niah_value("words"), self._niah_value("numbers")
        sentences = [NOISE] * n
        place = self.rng.randrange(n)
        if task == "needle_at":
            sentences.insert(place, f"The special magic number for {key} is {value}.")
        else:
            plain = NOISE.replace(".", " and").lower()
            needle = f"the special magic number for {key} is {value} and"
            sentences.insert(place, " ".join([plain, plain, needle, plain, plain[:-4] + "."]))
        text = ("A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the "
                f"number afterwards.\n{' '.join(sentences)}\nWhat is the special magic number for {key} mentioned in the provided "
                "text?")
        prefix = f"The special magic number for {key} mentioned in the provided text is"
        return {"input": text, "outputs": [value], "gen_prefix": prefix}

    def needle(self, task, count):
        n = max(1, self.length // self.n_tokens(" " + NOISE))
        for _ in range(count):
            yield self._shrunk(n, 1, NEW_TOKENS[task], lambda n: self._own_needle(task, n))

    # --- Variable tracking ---

    def _vt_document(self, n, example, hops=4):
        names = ["".join(self.rng.choices(string.ascii_uppercase, k=3 if example else 5)) for _ in range(hops + 1)]
        while len(set(names)) < hops + 1:
            names.append("".join(self.rng.choices(string.ascii_uppercase, k=3 if example else 5)))
        names = names[: hops + 1]
        value = self.rng.randrange(10000, 99999)
        chain = [f"VAR {names[0]} = {value}"] + [f"VAR {b} = VAR {a} " for a, b in zip(names, names[1:])]
        sentences = [NOISE + "\n"] * n
        if len(sentences) <= len(chain):
            sentences = [part + "." if part.strip() else part for one in sentences for part in one.split(".")]
        for shift, place in enumerate(sorted(self.rng.sample(range(len(sentences)), len(chain)))):
            sentences.insert(place + shift, chain[shift])
        context = " ".join(sentences).replace(". \n", ".\n")
        text = VT.format(context=context, query=value)
        return {"input": text, "outputs": names, "gen_prefix": VT_ANSWER.format(n=hops + 1, query=value)}

    def _vt_limit(self, limit, step, extra, example):
        n, total, new = step, 0, NEW_TOKENS["vt"]
        while total + new + extra < limit:
            d = self._vt_document(n, example)
            total = self.n_tokens(d["input"] + d["gen_prefix"] + f" {d['outputs']}")
            if total + new + extra > limit:
                n -= step
                break
            n += step
        return n

    def vt(self, count):
        n = self._vt_limit(500, 5, 0, example=True)
        shot = self._vt_document(n, example=True)
        shot_text = shot["input"] + shot["gen_prefix"] + " " + " ".join(shot["outputs"]) + "\n\n"
        extra = self.n_tokens(shot_text)
        n = self._vt_limit(self.length, 10, extra, example=False)
        for _ in range(count):
            used = n
            while True:
                d = self._vt_document(used, example=False)
                length = self.n_tokens(d["input"] + d["gen_prefix"]) + NEW_TOKENS["vt"] + extra
                if length <= self.length or used <= 10:
                    break
                used -= 10
            own = shot_text
            for name in shot["outputs"]:  # each document has other names in its example
                own = own.replace(name, "".join(self.rng.choices(string.ascii_uppercase, k=len(name))))
            yield {"input": own + "\n\n" + d["input"], "outputs": d["outputs"], "gen_prefix": d["gen_prefix"].strip(),
                   "length": length}

    # --- Counting words ---

    def _cwe_list(self, n, often, seldom):
        chosen = self.rng.sample(self.words, n)
        listed = chosen[:10] * often + chosen[10:] * seldom
        self.list_rng.shuffle(listed)
        return " ".join(f"{i + 1}. {word}" for i, word in enumerate(listed)), chosen[:10]

    def _cwe_document(self, n):
        small = self.length < 4096
        shot, shot_words = self._cwe_list(*((20, 3, 1) if small else (40, 10, 3)))
        context, common = self._cwe_list(n, *((6, 1) if small else (30, 3)))
        return {"input": CWE.format(context=context), "outputs": common, "gen_prefix": CWE_ANSWER.strip(),
                "shot": CWE.format(context=shot) + CWE_ANSWER + " ".join(f"{i + 1}. {w}" for i, w in enumerate(shot_words))}

    def cwe(self, count):
        n, total, new = 10, 0, NEW_TOKENS["cwe"]
        while total + new < self.length:
            d = self._cwe_document(n)
            answer = " ".join(f"{i + 1}. {word}" for i, word in enumerate(d["outputs"]))
            total = self.n_tokens(d["shot"] + "\n" + d["input"] + CWE_ANSWER + " " + answer)
            if total + new > self.length:
                n -= 10
                break
            n += 10
            if n > len(self.words):
                n = len(self.words)
                break
        for _ in range(count):
            used = n
            while True:
                d = self._cwe_document(used)
                length = self.n_tokens(d["input"] + CWE_ANSWER) + new
                if length <= self.length or used <= 10:
                    break
                used -= 10
            del d["shot"]  # (As in the harness, the example decides the length, but is not shown.)
            yield dict(d, input=d["input"].strip(), length=length)

    def _fwe_text(self, vocabulary, n_words):
        zeta2 = 1.6449340668482264  # the sum of 1 / k^2
        counts = [int(n_words * k**-2.0 / zeta2) for k in range(1, len(vocabulary) + 1)]
        words = [word for word, n in zip(vocabulary, counts) for _ in range(n)]
        random.Random(SEED).shuffle(words)
        return FWE.format(context=" ".join(words))

    def _fwe_document(self, n_words):
        """n_words < 0: as many as fit."""
        size, step = self.length // 50, self.length // 32
        vocabulary = ["".join(self.rng.choices(string.ascii_lowercase, k=6)) for _ in range(size)]
        while len(set(vocabulary)) < size:
            vocabulary.append("".join(self.rng.choices(string.ascii_lowercase, k=6)))
        vocabulary = sorted(set(vocabulary))
        random.Random(SEED).shuffle(vocabulary)
        vocabulary[0] = "..."  # the most frequent one is noise
        fits = lambda n: self.n_tokens(self._fwe_text(vocabulary, n) + FWE_ANSWER)
        if n_words > 0:
            while fits(n_words) > self.length:
                n_words -= step
        else:
            n_words = self.length // 6
            while fits(n_words) < self.length:
                n_words += step
            n_words -= step
        return {"input": self._fwe_text(vocabulary, n_words), "outputs": vocabulary[1:4], "gen_prefix": FWE_ANSWER.strip()}, n_words

    def fwe(self, count):
        _, n_words = self._fwe_document(-1)
        for _ in range(count):
            d, _ = self._fwe_document(n_words)
            yield dict(d, input=d["input"].strip(), length=self.n_tokens(d["input"] + FWE_ANSWER) + NEW_TOKENS["fwe"])


def question_first(document):
    """The same document with its question before the text instead of behind it."""
    text, question = document["input"].rsplit("\n", 1)
    return dict(document, input=f"{question}\n{text}\n")


def score(text, outputs):
    """RULER's: the share of the outputs that occur in the text, whatever their case."""
    text = re.sub(r"[\x00-\x1f]", "\n", text.strip()).strip().lower()
    return sum(output.lower() in text for output in outputs) / len(outputs)


def words_of(path):
    """The words of a text file that cwe takes."""
    return sorted(set(re.findall(r"[a-z]{3,10}", Path(path).read_text(encoding="utf-8").lower())))
