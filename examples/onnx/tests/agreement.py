# SPDX-License-Identifier: MIT
"""The integer engine beside ONNX Runtime on the QuantizeLinear/DequantizeLinear model of the same parameters: the table of docs/onnx.md.

    agreement.py RUN_INTEGER DATA [NETWORK...]

RUN_INTEGER is the program quant_engine_run_integer, DATA the folder of the networks. Needs onnxruntime, NumPy and, for the networks
of photographs, Pillow. No test: that is examples/engine/tests/integer_runtime.py."""
import gzip
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime

program, data = sys.argv[1:3]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.x64quantprecision", "1")  # no saturating pairs on processors without VNNI
mean, deviation = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def cifar(count):
    records = np.fromfile(data + "/cifar10/test_jpeg_2500.bin", np.uint8).reshape(-1, 3073)[:count, 1:]
    return records.reshape(-1, 3, 32, 32).astype(np.float32)


def digits():
    with gzip.open(data + "/mnist/test1500-images-idx3-ubyte.gz") as f:
        return np.frombuffer(f.read()[16:], np.uint8)[:500 * 784].reshape(-1, 1, 28, 28) / np.float32(256)


def windows():
    table = np.load(data + "/ad/normal_id_01_00000000_logmel.npy")
    return np.stack([table[i:i + 5].ravel() for i in range(len(table) - 4)])


def photographs():
    from PIL import Image
    out = []
    for path in sorted(pathlib.Path(data, "imagenet/images").glob("*.jpg"))[:100]:
        image = Image.open(path).convert("RGB")
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        out.append(np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32).transpose(2, 0, 1))
    return (np.stack(out) / 255 - mean) / deviation


networks = {"kws/kws_ds_cnn": lambda: np.load(data + "/kws/mfcc.npy"), "mnist/lenet_mnist": digits,
            "cifar10/resnet8_cifar10": lambda: cifar(500),
            "cifar10/resnet20_cifar10": lambda: (cifar(200) / 255 - mean) / deviation, "ad/ad_autoencoder": windows,
            "imagenet/squeezenet1_1": photographs, "imagenet/mobilenet_v2_1.0_224": photographs}
print("| network | bits of the weights | samples | the same answer | largest difference, codes | codes that differ |\n|---|---|---|---|---|---|")
for name in sys.argv[3:] or networks:
    with tempfile.TemporaryDirectory() as scratch:
        x = np.ascontiguousarray(networks[name](), np.float32)
        np.save(scratch + "/inputs.npy", x)
        for bits in ("8", "4"):
            done = subprocess.run([program, f"{data}/{name}.onnx", scratch + "/inputs.npy", scratch, bits], check=True,
                                  capture_output=True, text=True)
            scale, zero = (float(v) for v in done.stdout.split())
            session = onnxruntime.InferenceSession(scratch + "/qdq.onnx", options)
            theirs = session.run(None, {session.get_inputs()[0].name: x})[0].reshape(len(x), -1)
            ours = np.load(scratch + "/outputs.npy").reshape(len(x), -1)
            a, b = (np.clip(np.rint(y / scale) + zero, 0, 255) for y in (ours, theirs))
            print(f"| {name} | {bits} | {len(x)} | {100 * np.mean(a.argmax(1) == b.argmax(1)):.1f} % | {np.abs(a - b).max():.0f} | "
                  f"{100 * np.mean(a != b):.2f} % |", flush=True)
