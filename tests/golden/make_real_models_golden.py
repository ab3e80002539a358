"""What other programs make of the two files that tools/fetch_model.sh brings: `pip install torch transformers gguf llama-cpp-python`.

    make_real_models_golden.py SmolLM2-135M-Instruct.Q4_1.gguf gemma-3-270m-q4_k_m.gguf

Writes real_models.json. Of each file: the ids of the beginning of apps/alice.txt by llama.cpp, the negative log-likelihood of
each token but the first by transformers on the de-quantised weights, under full attention and under sep by its mask (layers
with a sliding window of their own keep it), and the prompt of a conversation by apply_chat_template where the file has a
template. Numbers of more text under more policies: oracles/compare_gguf_model.py."""

import json
import os
import sys

import llama_cpp
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../oracles"))
from program import layer_masks  # noqa: E402

torch.set_grad_enabled(False)
TOKENS = 56
POLICIES = {"full": {"policy": "full"}, "sep": {"policy": "sep", "init": 2, "window": 6}}
SEPARATORS = (",", ".", ":", "\n")
MESSAGES = [{"role": "user", "content": "What is your name?"}, {"role": "assistant", "content": " Ann. "},
            {"role": "user", "content": "Zwölf <|im_end|> 🙂"}]


def of_file(path, text):
    folder, name = os.path.split(os.path.abspath(path))
    peer = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    one = lambda piece: peer.tokenize(piece.encode(), add_bos=False, special=False)[-1]
    ids = peer.tokenize(text.encode(), add_bos=True, special=False)  # a BOS only where the file asks for one
    n_bos = len(ids) - len(peer.tokenize(text.encode(), add_bos=False, special=False))
    separators = sorted({one(piece) for piece in SEPARATORS})
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager").eval()
    some = ids[:TOKENS]
    nll = {}
    for policy, settings in POLICIES.items():
        mask = layer_masks(model.config, some, settings, separators)
        logits = model(torch.tensor([some]), attention_mask=mask, use_cache=False).logits[0, :-1].double()
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(some[1:]), reduction="none")
        nll[policy] = [round(x, 6) for x in losses.tolist()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    prompt = tokenizer.chat_template and tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    return {"file": name, "ids": ids, "n_bos": n_bos, "tokens": TOKENS, "separators": separators, "policies": POLICIES, "nll": nll,
            "messages": MESSAGES, "prompt": prompt}


def main():
    with open(os.path.join(HERE, "../../apps/alice.txt"), encoding="utf-8") as f:
        text = f.read(500)
    made = {"text": text, "models": [of_file(path, text) for path in sys.argv[1:]]}
    with open(os.path.join(HERE, "real_models.json"), "w", encoding="utf-8") as f:
        json.dump(made, f, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
