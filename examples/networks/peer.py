# SPDX-License-Identifier: MIT
"""What ONNX Runtime's quantize_static makes of a network, on the samples that the program `networks` wrote.

    peer.py MODEL FOLDER THREADS METHOD:WEIGHT_BITS:ACTIVATION_BITS...

FOLDER holds calibration.npy and test.npy. Per row: the model's outputs for test.npy, in FOLDER/<number of the row>.npy, and in
FOLDER/results.json the mean width of the weights, seconds, or ONNX Runtime's own words where it refuses. Exit code 77 without
onnxruntime.
"""

import contextlib
import io
import json
import logging
import os
import sys
import time

try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnxruntime import quantization as ort_quantization
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(77)

logging.disable(logging.WARNING)
model, folder, threads = sys.argv[1:4]
samples = np.load(os.path.join(folder, "test.npy"), mmap_mode="r")
calibration = np.load(os.path.join(folder, "calibration.npy"))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.log_severity_level = 4
options.add_session_config_entry("session.x64quantprecision", "1")  # no saturating pairs on processors without VNNI
input_name = onnx.load(model, load_external_data=False).graph.input[0].name
methods = {"min-max": ort_quantization.CalibrationMethod.MinMax,
           "entropy": ort_quantization.CalibrationMethod.Entropy,
           "percentile": ort_quantization.CalibrationMethod.Percentile}
weight_types = {8: ort_quantization.QuantType.QInt8, 4: ort_quantization.QuantType.QInt4}
activation_types = {8: ort_quantization.QuantType.QUInt8, 4: ort_quantization.QuantType.QUInt4}


class Samples(ort_quantization.CalibrationDataReader):
    def __init__(self):
        self.left = iter(calibration)

    def get_next(self):
        sample = next(self.left, None)
        return None if sample is None else {input_name: sample[None]}


def quantized(method, weight_bits, activation_bits, path):
    ort_quantization.quantize_static(
        model, path, Samples(), quant_format=ort_quantization.QuantFormat.QDQ, per_channel=True,
        weight_type=weight_types[weight_bits], activation_type=activation_types[activation_bits],
        calibrate_method=methods[method])
    bits = elements = 0
    for weight in onnx.load(path).graph.initializer:
        if len(weight.dims) > 1:
            size = int(np.prod(weight.dims))
            width = {onnx.TensorProto.INT4: 4, onnx.TensorProto.INT8: 8}.get(weight.data_type, 32)
            bits, elements = bits + width * size, elements + size
    return bits / elements


results = []
for number, row in enumerate(sys.argv[4:]):
    method, weight_bits, activation_bits = row.split(":")
    path = os.path.join(folder, "quantized.onnx")
    start = time.time()
    result = {"outputs": f"{number}.npy"}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result["mean_weight_bits"] = quantized(method, int(weight_bits), int(activation_bits), path)
        session = onnxruntime.InferenceSession(path, options)
        outputs = [session.run(None, {input_name: np.ascontiguousarray(samples[i:i + 10])})[0]
                   for i in range(0, len(samples), 10)]
        outputs = np.concatenate(outputs).astype(np.float32)
        np.save(os.path.join(folder, result["outputs"]), outputs.reshape(len(outputs), -1))
    except Exception as refusal:  # whatever it raises is what its user sees
        result["error"] = f"{type(refusal).__name__}: {refusal}".splitlines()[0]
    result["seconds"] = time.time() - start
    results.append(result)
with open(os.path.join(folder, "results.json"), "w") as file:
    json.dump({"version": onnxruntime.__version__, "rows": results}, file)
