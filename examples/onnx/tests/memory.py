# SPDX-License-Identifier: MIT
"""A model of 1.5 GB is quantized with no more anonymous memory than its largest tensor and 200 MB: memory.py <quant>.

Writes up to 400 MB into the temporary directory and takes minutes: runs only with QUANT_LARGE_TESTS=1 in the environment (else
exit code 77, skipped). Needs no package. The model's elements are the hole of a sparse file, with some values here and there."""
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


def write_model(path, layers, rows, columns, transposed):
    """x W0 W1 ...: protobuf by hand, since every library would hold the whole."""
    tensors = []
    for i in range(layers):
        head = number(1, rows) + number(1, columns) + number(2, 1) + field(8, f"w{i}".encode())
        head += varint(9 << 3 | 2) + varint(4 * rows * columns)
        tensors.append(varint(5 << 3 | 2) + varint(len(head) + 4 * rows * columns) + head)
    nodes = b""
    for i in range(layers):
        trans = field(5, field(1, b"transB") + number(3, 1) + number(20, 2)) if transposed else b""
        nodes += field(1, field(1, f"x{i}".encode()) + field(1, f"w{i}".encode()) + field(2, f"x{i + 1}".encode()) +
                       field(4, b"Gemm" if transposed else b"MatMul") + trans)
    value = lambda name: field(1, name) + field(2, field(1, number(1, 1) + field(2, field(1, number(1, 1)) + field(1, number(1, rows)))))
    rest = nodes + field(11, value(b"x0")) + field(12, value(f"x{layers}".encode())) + field(2, b"g")
    size = len(rest) + sum(len(t) for t in tensors) + layers * 4 * rows * columns
    with open(path, "wb") as f:
        f.write(number(1, 7) + field(8, field(1, b"") + number(2, 13)) + varint(7 << 3 | 2) + varint(size) + rest)
        for t in tensors:
            f.write(t)
            begin = f.tell()
            f.write(struct.pack("<4f", 0.5, -1.25, 3.0, 0.125))
            f.seek(begin + 4 * rows * columns - 4)
            f.write(struct.pack("<f", -2.0))


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


quant = sys.argv[1]
with tempfile.TemporaryDirectory() as scratch:
    for layers, rows, columns, transposed in ((4, 10000, 9600, True), (15, 5000, 5000, False)):
        largest = 4 * rows * columns
        path, out = Path(scratch) / "m.onnx", Path(scratch) / "q.onnx"
        write_model(path, layers, rows, columns, transposed)
        for options in (["--bits", "4"], ["--bits", "8", "--bias-correct=mean-and-norm"], ["--bits", "4", "--group-size", "32"]):
            start = time.monotonic()
            most = peak([quant, "quantize", path, "-fqo", out, "--clip", "minmax", *options], largest + 200 * MB)
            print(f"{path.stat().st_size / MB:.0f} MB, tensors of {largest / MB:.0f} MB, {' '.join(options)}: at most {most / MB:.0f} MB "
                  f"anonymous, {time.monotonic() - start:.1f} s, {out.stat().st_size / MB:.0f} MB written", flush=True)
            assert most <= largest + 200 * MB
        path.unlink()
