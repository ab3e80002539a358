"""multimodal/gemma3: the text model of models/gemma3_old as a part of a multimodal checkpoint with a tiny vision tower, as
transformers saves it (config.json with text_config and vision_config, names of tensors with prefixes). The text model's
logits must be those of models/gemma3_old. Run after make_golden.py:  python tests/golden/make_multimodal_golden.py
"""

import json
import os
import shutil

import torch
import transformers
from safetensors.torch import load_file

from make_golden import HERE

if __name__ == "__main__":
    source = os.path.join(HERE, "models", "gemma3_old")
    target = os.path.join(HERE, "multimodal", "gemma3")
    text = transformers.Gemma3ForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()
    vision = transformers.SiglipVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                             num_attention_heads=1, image_size=8, patch_size=4)
    config = transformers.Gemma3Config(text_config=text.config, vision_config=vision, mm_tokens_per_image=4,
                                       boi_token_index=61, eoi_token_index=62, image_token_index=63)
    config.eos_token_id = [7, 9]
    torch.manual_seed(0)
    whole = transformers.Gemma3ForConditionalGeneration(config).eval()
    whole.model.language_model.load_state_dict(text.model.state_dict())
    whole.tie_weights()
    golden = load_file(os.path.join(source, "golden.safetensors"))
    ids, rows = golden["ids"].long()[None], golden["rows"].long()
    with torch.no_grad():
        logits = whole(input_ids=ids, use_cache=False).logits[0][rows]
    difference = (logits - golden["logits_full"]).abs().max().item()
    assert difference < 2e-5, difference
    shutil.rmtree(target, ignore_errors=True)
    whole.save_pretrained(target)
    os.remove(os.path.join(target, "generation_config.json"))
    path = os.path.join(target, "config.json")
    with open(path) as f:
        saved = json.load(f)
    saved["text_config"].pop("_name_or_path")
    with open(path, "w") as f:
        json.dump(saved, f, indent=1, sort_keys=True)
        f.write("\n")
    print("gemma3: difference", difference)
