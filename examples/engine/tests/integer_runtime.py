# SPDX-License-Identifier: MIT
"""The integer network against ONNX Runtime's integer kernels on the QuantizeLinear/DequantizeLinear model of the same parameters.

    integer_runtime.py PROGRAM SCRATCH_FOLDER

PROGRAM is run_integer. Output codes differ by at most one and in at most 5 % of all cases, and the answers are the same in 99 % of the
samples. (How many differ depends on the last bit of the calibrated scales, thus on whether the compiler fuses multiplications and
additions of the float network: 0.1 % or 2.4 % for the same samples.) Networks come from the folder in QUANT_DATA. Exit code 77 (skipped) without it, onnxruntime or numpy.
"""

import os
import subprocess
import sys

try:
    import numpy as np
    import onnxruntime
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)

program, scratch = sys.argv[1:]
data = os.environ.get("QUANT_DATA", "")
if not os.path.isdir(data):
    print("skipped: QUANT_DATA names no folder")
    sys.exit(77)
os.makedirs(scratch, exist_ok=True)
inputs = os.path.join(scratch, "inputs.npy")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.x64quantprecision", "1")  # no saturating pairs on processors without VNNI
failed = False

table = np.load(os.path.join(data, "ad/normal_id_01_00000000_logmel.npy"))
samples = {
    "kws/kws_ds_cnn.onnx": np.load(os.path.join(data, "kws/mfcc.npy"))[:200],
    "ad/ad_autoencoder.onnx": np.stack([table[i:i + 5].ravel() for i in range(len(table) - 4)]),
}
for name, x in samples.items():
    np.save(inputs, np.ascontiguousarray(x, np.float32))
    for bits in ("8", "4"):
        model = os.path.join(data, name)
        done = subprocess.run([program, model, inputs, scratch, bits], check=True, capture_output=True, text=True)
        scale, zero = (float(v) for v in done.stdout.split())
        session = onnxruntime.InferenceSession(os.path.join(scratch, "qdq.onnx"), options)
        theirs = session.run(None, {session.get_inputs()[0].name: np.load(inputs)})[0].reshape(len(x), -1)
        ours = np.load(os.path.join(scratch, "outputs.npy")).reshape(len(x), -1)
        codes = [np.clip(np.rint(y / scale) + zero, 0, 255) for y in (ours, theirs)]
        apart = np.abs(codes[0] - codes[1])
        same = np.mean(codes[0].argmax(1) == codes[1].argmax(1))
        print(f"{name} int{bits}: largest difference {apart.max():.0f} codes, {100 * np.mean(apart > 0):.2f} % differ, "
              f"the same answer for {100 * same:.1f} %")
        failed = failed or apart.max() > 1 or np.mean(apart > 0) > 0.05 or same < 0.99
sys.exit(1 if failed else 0)
