"""Blocks of 8 and 4 bits as the gguf package makes and reads them: `pip install gguf safetensors numpy`.

Writes blocks.safetensors: `values` (f32, [rows, elements]) and for q8_0 and q4_0 the bytes of their blocks, `NAME` (U8,
[rows, row bytes]), and what the package says that these bytes stand for, `NAME_values` (f32)."""

import os

import gguf
import numpy as np
from safetensors.numpy import save_file

ROWS, ELEMENTS = 20, 96


def rows():
    rng = np.random.default_rng(11)
    x = rng.standard_normal((ROWS, ELEMENTS)).astype(np.float32)
    x *= np.float32(10.0) ** rng.integers(-3, 3, (ROWS, 1)).astype(np.float32)
    x[0] = 0
    x[1, 1:] = 0  # a block of one value, blocks of none
    x[2, ::2] = -0.0
    # Steps that halves fall between: the largest element is 127, or -8.
    x[3] = np.arange(ELEMENTS, dtype=np.float32) - 48 + np.float32(0.5)
    x[3, ::32] = 127
    x[4] = (np.arange(ELEMENTS) % 31 - 15) / np.float32(2)
    x[4, ::32] = -8
    x[5] *= np.float32(1e-6)  # scales below the normal numbers of f16
    x[6] *= np.float32(1e4) / np.abs(x[6]).max()
    x[7, ::2] = -x[7, 1::2]  # two elements of the largest magnitude
    x[8] = np.abs(x[8])
    x[9] = -np.abs(x[9])
    return x


def main():
    x = rows()
    tensors = {"values": x}
    for name in ("q8_0", "q4_0"):
        kind = gguf.GGMLQuantizationType[name.upper()]
        blocks = gguf.quants.quantize(x, kind)
        tensors[name] = blocks
        tensors[name + "_values"] = gguf.quants.dequantize(blocks, kind).astype(np.float32)
    here = os.path.dirname(os.path.abspath(__file__))
    save_file(tensors, os.path.join(here, "blocks.safetensors"))


if __name__ == "__main__":
    main()
