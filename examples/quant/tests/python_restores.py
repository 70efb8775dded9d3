# SPDX-License-Identifier: MIT
"""The lines of Python in docs/file-format.md restore what `quant dequantize` restores, bit for bit.

python_restores.py QUANT FILE_FORMAT_MD; exit code 77: NumPy is not installed.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not installed")
    sys.exit(77)

quant, page = sys.argv[1:]
blocks = re.findall(r"^```python\n(.*?)^```$", pathlib.Path(page).read_text(), re.S | re.M)
assert len(blocks) == 1, "the page holds one block of Python"
lines = {}
exec(compile(blocks[0], page, "exec"), lines)


def write_safetensors(path, tensors):
    """tensors: name -> (dtype name, array). Independent of the tool's writer."""
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def model():
    random = np.random.default_rng(1)
    laplace = lambda *shape: random.laplace(size=shape).astype(np.float32)
    return {
        "conv": ("F32", laplace(8, 5, 3, 3)),
        "tail": ("F32", laplace(7, 70) * np.float32(1e-3)),
        "wide": ("F32", laplace(300, 1040)),                  # several tiles either way
        "half": ("F16", laplace(4, 33).astype(np.float16)),
        "brain": ("BF16", (laplace(6, 2, 9).view(np.uint32) >> 16).astype(np.uint16)),
        "double": ("F64", random.normal(size=(3, 40))),
        "zeros": ("F32", np.zeros((2, 3), np.float32)),
        "bias": ("F32", laplace(9)),
        "count": ("I64", np.arange(3)),
    }


CASES = [
    [],
    ["--bits", "1"],
    ["--bits", "3", "--per-tensor"],
    ["--bits", "4", "--clip", "aciq", "--axis", "0", "--average-bits", "4", "--bias-correct"],
    ["--bits", "5", "--group-size", "16", "--bias-correct=mean-and-norm"],
    ["--bits", "6", "--group-size", "4", "--axis", "0", "--mapping", "affine"],
    ["--bits", "7", "--unsigned", "--axis", "1"],
    ["--average-bits", "3.3", "--max-bits", "6", "--axis", "-1", "--narrow"],
    ["--bits", "6", "--planes", "2", "--storage", "planes", "--bias-correct"],
    ["--average-bits", "3.5", "--axis", "1", "--storage", "planes"],
    ["--bits", "4", "--planes", "3", "--per-tensor", "--storage", "planes"],
    ["--bits", "5", "--unsigned", "--group-size", "16", "--storage", "planes"],
]


def check(directory, source, options):
    packed, restored = directory / "q.safetensors", directory / "r.safetensors"
    run = lambda *arguments: subprocess.run([quant, *map(str, arguments), "-q", "--force"], check=True)
    run("quantize", source, "-o", packed, *options)
    run("dequantize", packed, "-o", restored)
    expected, _ = lines["read_safetensors"](restored)
    got = lines["restore_file"](packed)
    assert got.keys() == expected.keys(), (sorted(got), sorted(expected))
    for name, array in expected.items():
        mine = got[name]
        assert mine.dtype == array.dtype and mine.shape == array.shape, (name, mine.dtype, array.dtype, mine.shape)
        assert mine.tobytes() == array.tobytes(), f"{source.name} {options}: {name} differs"
    return len(expected)


with tempfile.TemporaryDirectory() as name:
    directory, compared = pathlib.Path(name), 0
    write_safetensors(directory / "m.safetensors", model())
    for case in CASES:
        compared += check(directory, directory / "m.safetensors", case)
    weights = sorted(pathlib.Path(os.environ["QUANT_DATA"], "weights").glob("*.npy")) if "QUANT_DATA" in os.environ else []
    for source in weights:
        compared += check(directory, source, CASES[3])
    print(f"{compared} tensors restored bit for bit" + ("" if weights else "; QUANT_DATA is not set: no real weights"))
