# SPDX-License-Identifier: MIT
"""The engine's float outputs against ONNX Runtime's, on every network there is and on a generated one: relative L2 error at most 1e-5.

    onnx_runtime.py PROGRAM SCRATCH_FOLDER

PROGRAM model.onnx inputs.npy outputs.npy runs a network. Networks come from the folder in QUANT_DATA; without it only the generated
one is run. Exit code 77 (skipped) without onnxruntime, onnx or numpy.
"""

import glob
import os
import subprocess
import sys

try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)

program, scratch = sys.argv[1:]
random = np.random.default_rng(1)
os.makedirs(scratch, exist_ok=True)
failures = 0


def generated():
    """Every operator, with uneven paddings, strides, groups, dilations, quantization on the way and 4-bit weights in blocks."""
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(name, *shape):
        return constant(name, random.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:]))))

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    x = node("Conv", ["in", weight("w1", 8, 3, 3, 5), weight("b1", 8)], "conv1",
             strides=[2, 1], pads=[0, 3, 1, 1], dilations=[2, 1])
    x = node("Clip", [x, constant("low", np.float32(0)), constant("high", np.float32(1.5))], "clip")
    y = node("Conv", [x, weight("w2", 8, 1, 3, 3), weight("b2", 8)], "depthwise", group=8, pads=[1, 1, 1, 1])
    z = node("Conv", [x, weight("w3", 8, 4, 2, 2)], "grouped", group=2, pads=[0, 1, 1, 0])
    x = node("Add", [y, z], "sum")
    node("QuantizeLinear", [x, constant("s", np.float32(0.02)), constant("z", np.uint8(100))], "q")
    x = node("DequantizeLinear", ["q", "s", "z"], "dq")
    x = node("Relu", [x], "relu")
    a = node("MaxPool", [x], "max", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1)
    b = node("AveragePool", [x], "average", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1)
    c = node("AveragePool", [x], "padded_average", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1],
             count_include_pad=1, ceil_mode=1)
    x = node("Concat", [a, b, c], "concat", axis=1)
    x = node("Slice", [x, constant("st", np.int64([1, 0])), constant("en", np.int64([2**62, -1])),
                       constant("ax", np.int64([1, 3])), constant("sp", np.int64([3, 1]))], "slice")
    x = node("Pad", [x, constant("pads", np.int64([0, 2, 0, 1, 0, 0, 1, 0]))], "pad")
    g = node("GlobalAveragePool", [x], "global")
    x = node("Flatten", [g], "flat")
    x = node("Identity", [x], "identity")
    codes = random.integers(-8, 8, (6, 10)).astype(np.int8)
    constants.append(helper.make_tensor("codes", TensorProto.INT4, codes.shape, codes.flatten().tolist()))
    constant("scales", random.uniform(0.01, 0.2, (6, 3)).astype(np.float32))
    node("DequantizeLinear", ["codes", "scales"], "w4", axis=1, block_size=4)
    node("Gemm", [x, "w4", weight("b4", 6)], "out", transB=1)
    graph = helper.make_graph(
        nodes, "all", [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 3, 17, 13])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 6])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = os.path.join(scratch, "generated.onnx")
    onnx.save(model, path)
    return path


def check(path):
    global failures
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shape = [2] + session.get_inputs()[0].shape[1:]
    inputs = random.standard_normal(shape).astype(np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    source, result = (os.path.join(scratch, name) for name in ("in.npy", "out.npy"))
    np.save(source, inputs)
    subprocess.run([program, path, source, result], check=True)
    got = np.load(result)
    error = np.linalg.norm(got.astype(np.float64) - expected) / np.linalg.norm(expected)
    good = got.shape == expected.shape and error <= 1e-5
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {os.path.basename(path)}: relative L2 {error:.2e}, output {list(got.shape)}")


networks = sorted(glob.glob(os.path.join(os.environ.get("QUANT_DATA", "/nonexistent"), "*", "*.onnx")))
for each in [generated()] + networks:
    check(each)
print(f"onnxruntime {onnxruntime.__version__}, {len(networks)} networks")
sys.exit(1 if failures else 0)
