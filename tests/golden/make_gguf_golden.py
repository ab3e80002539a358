"""GGUF files as the gguf package writes and reads them: `pip install gguf safetensors numpy`.

Writes gguf/types.gguf (every type of metadata, and a tensor of blocks of every type that is read, with chosen scales: zeros,
subnormal, the largest, infinite, NaN), gguf/split-0000N-of-00003.gguf (a model in parts), and what the package reads there:
gguf/expected.json (metadata, and name, shape, type and place of each tensor) and gguf/values.safetensors (f32)."""

import json
import os

import gguf
import numpy as np
from safetensors.numpy import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")
QUANTS = gguf.GGMLQuantizationType
# Of each type of blocks: where its f16 scales are.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip
# 0, -0, subnormal, the least normal, 1, the largest, infinite, NaN
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]
ROWS = 2


def random_blocks(name, rng):
    """[ROWS, bytes]: a block for each edge value (a second scale takes them in another order), then random ones whose scales
    are finite; the last two hold only zero bits and only one bits apart from the scales."""
    size = gguf.GGML_QUANT_SIZES[QUANTS[name]][1]
    n = len(EDGES) + 5
    blocks = rng.integers(0, 256, (n, size)).astype(np.uint8)
    blocks[n - 2] = 0
    blocks[n - 1] = 255
    for order, place in enumerate(SCALES[name]):
        scales = rng.integers(0, 0x7C00, n).astype(np.uint16) | (rng.integers(0, 2, n).astype(np.uint16) << 15)
        scales[: len(EDGES)] = np.roll(EDGES, 4 * order)
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(n, 2)
    return blocks.reshape(ROWS, -1)


def add_metadata(w):
    w.add_uint8("t.u8", 255)
    w.add_int8("t.i8", -128)
    w.add_uint16("t.u16", 65535)
    w.add_int16("t.i16", -32768)
    w.add_uint32("t.u32", 2**32 - 1)
    w.add_int32("t.i32", -(2**31))
    w.add_uint64("t.u64", 2**64 - 1)
    w.add_int64("t.i64", -(2**63))
    w.add_float32("t.f32", 0.1)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.true", True)
    w.add_bool("t.false", False)
    w.add_string("t.text", "Grüße\n\U0001F642")
    w.add_array("t.strings", ["a", "", "\u2581the", "\u0120x"])
    w.add_array("t.floats", [0.5, -1e30])
    w.add_array("t.ints", [1, -2, 3])
    w.add_array("t.bools", [True, False, True])
    w.add_key_value("t.bytes", [0, 127, 255], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT8)


def add_tensors(w):
    rng = np.random.default_rng(19)
    w.add_tensor("matrix.f32", rng.standard_normal((3, 5)).astype(np.float32))
    w.add_tensor("vector.f16", rng.standard_normal(7).astype(np.float16))
    w.add_tensor("cube.f64", rng.standard_normal((2, 3, 4)))
    bf16 = gguf.quants.quantize(rng.standard_normal((2, 6)).astype(np.float32), QUANTS.BF16)
    w.add_tensor("matrix.bf16", bf16, raw_dtype=QUANTS.BF16)
    w.add_tensor("ints.i32", np.arange(6, dtype=np.int32).reshape(2, 3))
    for name in SCALES:
        w.add_tensor("blocks." + name, random_blocks(name, rng), raw_dtype=QUANTS[name])


def write(path, alignment=None, **options):
    w = gguf.GGUFWriter(path, "llama", **options)
    if alignment:
        w.add_custom_alignment(alignment)
    add_metadata(w)
    if not options:
        add_tensors(w)
    else:
        for k in range(5):
            w.add_tensor(f"t{k}", np.full((2, k + 1), k, dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def plain(value):
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def metadata(reader):
    return {
        key: {"types": [t.name for t in field.types], "value": plain(field.contents())}
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }


def main():
    os.makedirs(HERE, exist_ok=True)
    path = os.path.join(HERE, "types.gguf")
    write(path, alignment=64)
    reader = gguf.GGUFReader(path)
    tensors, values = {}, {}
    for t in reader.tensors:
        tensors[t.name] = {
            "shape": [int(n) for n in reversed(t.shape)],
            "type": t.tensor_type.name,
            "offset": int(t.data_offset),
            "bytes": int(t.n_bytes),
        }
        if t.name.startswith("blocks."):
            with np.errstate(all="ignore"):
                values[t.name] = gguf.quants.dequantize(np.array(t.data), t.tensor_type).astype(np.float32)
    expected = {"alignment": int(reader.alignment), "metadata": metadata(reader), "tensors": tensors}
    with open(os.path.join(HERE, "expected.json"), "w") as f:
        json.dump(expected, f, indent=1)
        f.write("\n")
    save_file(values, os.path.join(HERE, "values.safetensors"))
    write(os.path.join(HERE, "split.gguf"), split_max_tensors=2)


if __name__ == "__main__":
    main()
