# SPDX-License-Identifier: MIT
"""Models of 1.5 GB, and one of 8.7 GB that becomes one of more than 2 GiB, are quantized with no more anonymous memory than their
largest tensor and 200 MB: memory.py <quant>.

Writes up to 2.2 GB into the temporary directory and takes minutes: runs only with QUANT_LARGE_TESTS=1 in the environment (else
exit code 77, skipped). Needs no package; where there is onnxruntime, it runs the model of more than 2 GiB. The models' elements are
the hole of a sparse file, with some values here and there."""
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if os.environ.get("QUANT_LARGE_TESTS") != "1":
    print("skipped: QUANT_LARGE_TESTS is not 1")
    sys.exit(77)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


field = lambda number, content: varint(number << 3 | 2) + varint(len(content)) + content
number = lambda number, value: varint(number << 3) + varint(value)
MB = 1000 * 1000


VALUES = (0.5, -1.25, 3.0, 0.125)  # of every tensor's first elements
LAST = -2.0


def write_elements(f, size):
    begin = f.tell()
    f.write(struct.pack("<4f", *VALUES))
    f.seek(begin + size - 4)
    f.write(struct.pack("<f", LAST))


def write_model(path, layers, rows, columns, transposed, data=None):
    """x W0 W1 ...: protobuf by hand, since every library would hold the whole. data: the file the elements go to."""
    tensors, inside = [], 0 if data else 4 * rows * columns
    for i in range(layers):
        head = number(1, rows) + number(1, columns) + number(2, 1) + field(8, f"w{i}".encode())
        if data:
            for key, value in (("location", data.name), ("offset", 4 * rows * columns * i), ("length", 4 * rows * columns)):
                head += field(13, field(1, key.encode()) + field(2, str(value).encode()))
            head += number(14, 1)
        else:
            head += varint(9 << 3 | 2) + varint(inside)
        tensors.append(varint(5 << 3 | 2) + varint(len(head) + inside) + head)
    nodes = b""
    for i in range(layers):
        trans = field(5, field(1, b"transB") + number(3, 1) + number(20, 2)) if transposed else b""
        nodes += field(1, field(1, f"x{i}".encode()) + field(1, f"w{i}".encode()) + field(2, f"x{i + 1}".encode()) +
                       field(4, b"Gemm" if transposed else b"MatMul") + trans)
    value = lambda name: field(1, name) + field(2, field(1, number(1, 1) + field(2, field(1, number(1, 1)) + field(1, number(1, rows)))))
    rest = nodes + field(11, value(b"x0")) + field(12, value(f"x{layers}".encode())) + field(2, b"g")
    size = len(rest) + sum(len(t) for t in tensors) + layers * inside
    with open(path, "wb") as f:
        f.write(number(1, 7) + field(8, field(1, b"") + number(2, 13)) + varint(7 << 3 | 2) + varint(size) + rest)
        for t in tensors:
            f.write(t)
            if inside:
                write_elements(f, inside)
    if data:
        with open(data, "wb") as f:
            for _ in tensors:
                write_elements(f, 4 * rows * columns)


def peak(command, limit):
    """Runs under a hard limit of anonymous memory; the largest sample of what it had resident."""
    cap = lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    child = subprocess.Popen([str(c) for c in command], preexec_fn=cap)
    most = 0
    while child.poll() is None:
        try:
            for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    most = max(most, int(line.split()[1]) * 1024)
        except (FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.002)
    assert child.returncode == 0, f"{command}: exit code {child.returncode}"
    return most


def quantized(path, out, largest, options, note):
    start = time.monotonic()
    most = peak([quant, "quantize", path, "-fqo", out, "--clip", "minmax", *options], largest + 200 * MB)
    beside = Path(f"{out}.data")
    written = out.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
    print(f"{note}, tensors of {largest / MB:.0f} MB, {' '.join(options)}: at most {most / MB:.0f} MB anonymous, "
          f"{time.monotonic() - start:.1f} s, {written / MB:.0f} MB written", flush=True)
    assert most <= largest + 200 * MB


def run_in_onnxruntime(path, layers, n):
    """The first element and the last walk through all layers: each has a column of its own, whose one value is exact in codes."""
    try:
        import numpy as np
        import onnxruntime as ort
    except ImportError:
        print("not run in ONNX Runtime: there is none")
        return
    start, options = time.monotonic(), ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # else all weights become floats at once
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = np.zeros((1, n), np.float32)
    x[0, 0], x[0, -1] = 1.0, 1.0
    (y,) = session.run(None, {"x0": x})
    expected = np.zeros(n)
    expected[:4] = np.array(VALUES) * VALUES[0] ** (layers - 1)
    expected[-1] = LAST ** layers
    assert np.allclose(y[0], expected, rtol=1e-4, atol=0), (y[0, :5], y[0, -1])
    print(f"run by ONNX Runtime {ort.__version__}, {time.monotonic() - start:.1f} s", flush=True)


quant = sys.argv[1]
with tempfile.TemporaryDirectory() as scratch:
    path, out, data = (Path(scratch) / name for name in ("m.onnx", "q.onnx", "m.data"))
    for layers, rows, columns, transposed in ((4, 10000, 9600, True), (15, 5000, 5000, False)):
        write_model(path, layers, rows, columns, transposed)
        for options in (["--bits", "4"], ["--bits", "8", "--bias-correct=mean-and-norm"], ["--bits", "4", "--group-size", "32"]):
            quantized(path, out, 4 * rows * columns, options, f"{path.stat().st_size / MB:.0f} MB")
    # Float weights beside the model, and codes of more than protobuf's 2 GiB, which have to stand beside theirs.
    layers, n = 34, 8000
    write_model(path, layers, n, n, False, data)
    quantized(path, out, 4 * n * n, ["--bits", "8"], f"{data.stat().st_size / MB:.0f} MB beside the model")
    assert out.stat().st_size < 10 * MB and Path(f"{out}.data").stat().st_size > 1 << 31
    run_in_onnxruntime(out, layers, n)
