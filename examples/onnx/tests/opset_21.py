# SPDX-License-Identifier: MIT
"""Every operator that `quant quantize` raises to version 21 computes the same in ONNX Runtime before and after:
opset_21.py <quant> <transform>. Exit code 77 (skipped) without onnx and onnxruntime."""
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

quant, transform = sys.argv[1:3]
random = np.random.default_rng(7)
f = lambda *shape: random.standard_normal(shape).astype(np.float32)
pos = lambda *shape: random.uniform(0.1, 3, shape).astype(np.float32)
i64 = lambda *values: np.array(values, np.int64)
u8 = lambda *shape: random.integers(0, 255, shape).astype(np.uint8)

image = (2, 4, 7, 7)
pool = dict(kernel_shape=[3, 3], strides=[2, 2])
padded = dict(pool, pads=[1, 1, 1, 1])
# Operator -> cases: attributes (`since`: the version that brought one of them), then the inputs. Inputs that are lists of one array are initializers.
unary = lambda *attributes: [(a, f(*image)) for a in (attributes or ({},))]
binary = [({}, f(2, 4, 3), f(2, 4, 3)), ({}, f(2, 4, 3), f(4, 1)), ({}, f(3), f(2, 4, 3))]
cases = {
    "Abs": unary(), "Add": binary, "Sub": binary, "Mul": binary, "Div": [({}, f(2, 4, 3), pos(4, 3))],
    "ArgMax": unary(dict(axis=1), dict(axis=-1, keepdims=0, select_last_index=1)),
    "AveragePool": unary(pool, padded, dict(padded, count_include_pad=1), dict(pool, auto_pad="SAME_UPPER"),
                         dict(pool, auto_pad="SAME_LOWER"), dict(kernel_shape=[2, 3])),
    "BatchNormalization": [({}, f(*image), f(4), f(4), f(4), pos(4)), (dict(epsilon=0.1), f(*image), f(4), f(4), f(4), pos(4))],
    "Cast": unary(dict(to=10), dict(to=6), dict(to=9), dict(to=11)),
    "Ceil": unary(), "Clip": [({}, f(*image), [np.float32(-0.5)], [np.float32(0.7)]), ({}, f(*image))],
    "Concat": [(dict(axis=1), f(2, 3), f(2, 4)), (dict(axis=0), f(2, 3), f(1, 3))],
    "Constant": [(dict(value=numpy_helper.from_array(f(2, 3))),)],
    "ConstantOfShape": [(dict(value=numpy_helper.from_array(np.array([2.5], np.float32))), i64(2, 3))],
    "Conv": [(dict(pads=[1] * 4), f(*image), f(6, 4, 3, 3), f(6)), (dict(group=2, strides=[2, 1]), f(*image), f(6, 2, 3, 3)),
             (dict(auto_pad="SAME_UPPER", strides=[2, 2]), f(*image), f(6, 4, 3, 3)),
             (dict(dilations=[2, 2]), f(*image), f(3, 4, 3, 3)), (dict(auto_pad="VALID"), f(2, 4, 9), f(3, 4, 3))],
    "ConvTranspose": [(dict(strides=[2, 2]), f(*image), f(4, 3, 3, 3), f(3)),
                      (dict(group=2, pads=[1] * 4, output_padding=[1, 1], strides=[2, 2]), f(*image), f(4, 2, 3, 3)),
                      (dict(auto_pad="SAME_UPPER", strides=[2, 2]), f(*image), f(4, 3, 3, 3))],
    "DepthToSpace": [(dict(blocksize=2), f(2, 8, 3, 3)), (dict(blocksize=2, mode="CRD"), f(2, 8, 3, 3))],
    "SpaceToDepth": [(dict(blocksize=2), f(2, 3, 4, 4))],
    "QuantizeLinear": [(dict(axis=1), f(2, 3, 4), [pos(3)], [u8(3)]), ({}, f(2, 3), [np.float32(0.02)], [np.int8(3)])],
    "DequantizeLinear": [(dict(axis=1), u8(2, 3, 4), [pos(3)], [u8(3)]), ({}, u8(2, 3), [np.float32(0.02)], [np.uint8(3)])],
    "Dropout": [({}, f(2, 3)), ({}, f(2, 3), [np.float32(0.3)])],
    "Elu": unary({}, dict(alpha=0.5)),
    "Equal": [({}, np.rint(f(3, 4)), np.rint(f(4))), ({}, i64(1, 2, 3), i64(1, 3, 3))],
    "Erf": unary(), "Exp": unary(), "Floor": unary(), "Neg": unary(), "Sigmoid": unary(), "Tanh": unary(), "Softplus": unary(),
    "Relu": unary(), "HardSwish": unary(), "Identity": unary(), "Shape": unary(), "GlobalAveragePool": unary(),
    "GlobalMaxPool": unary(), "HardSigmoid": unary({}, dict(alpha=0.3, beta=0.4)), "LeakyRelu": unary({}, dict(alpha=0.2)),
    "Log": [({}, pos(2, 3))], "Sqrt": [({}, pos(2, 3))], "Pow": [({}, pos(2, 3), f(3)), ({}, f(2, 3), [np.float32(2)])],
    "Expand": [({}, f(3, 1), [i64(2, 3, 4)])],
    "Flatten": unary({}, dict(axis=2), dict(axis=0)),
    "Gather": [(dict(axis=1), f(2, 5, 3), [i64(4, 0)]), ({}, f(5, 3), [i64(1, 1, 2)])],
    "Gemm": [(dict(transB=1, alpha=0.5, beta=2.0), f(2, 3), f(4, 3), f(4)), (dict(transA=1), f(3, 2), f(3, 4), f(2, 4))],
    "InstanceNormalization": [({}, f(*image), f(4), f(4)), (dict(epsilon=0.2), f(*image), f(4), f(4))],
    "LRN": unary(dict(size=3), dict(size=3, alpha=0.1, beta=0.5, bias=2.0)),
    "LayerNormalization": [({}, f(2, 3, 4), f(4), f(4)), (dict(axis=1, epsilon=0.1), f(2, 3, 4), f(3, 4))],
    "Softmax": unary({}, dict(axis=1)), "LogSoftmax": unary({}, dict(axis=1)),
    "MatMul": [({}, f(2, 3, 4), f(4, 5)), ({}, f(4), f(4, 5))],
    "Max": binary, "Min": binary, "Sum": binary,
    "MaxPool": unary(pool, padded, dict(pool, auto_pad="SAME_LOWER"), dict(pool, ceil_mode=1, since=10),
                     dict(pool, dilations=[2, 2], since=10)),
    "PRelu": [({}, f(*image), f(4, 1, 1))],
    "Pad": [({}, f(2, 3), [i64(0, 1, 2, 0)]), (dict(mode="reflect"), f(4, 5), [i64(1, 1, 1, 1)]),
            (dict(mode="edge"), f(4, 5), [i64(1, 0, 1, 2)]), ({}, f(2, 3), [i64(0, 1, -1, 0)], [np.float32(4)])],
    "ReduceSum": [(dict(keepdims=0), f(2, 3, 4), [i64(1)]), ({}, f(2, 3, 4))],
    "Reshape": [({}, f(2, 3, 4), [i64(0, -1)])],
    "Slice": [({}, f(2, 3, 8), [i64(0, 1)], [i64(2, 100)], [i64(1, 2)], [i64(1, 3)]), ({}, f(6), [i64(-1)], [i64(-7)], [i64(0)], [i64(-2)])],
    "Split": [(dict(axis=1), f(2, 6), [i64(2, 4)])],
    "Squeeze": [({}, f(2, 1, 3), [i64(1)]), ({}, f(1, 2, 1))], "Unsqueeze": [({}, f(2, 3), [i64(0, -1)])],
    "Tile": [({}, f(2, 3), [i64(2, 1)])],
    "Transpose": unary({}, dict(perm=[0, 2, 3, 1])),
    "Where": [({}, np.array([True, False]), f(3, 2), f(2))],
}

options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = 1
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
dtype = lambda a: helper.np_dtype_to_tensor_dtype(np.asarray(a).dtype)


def build(kinds, version):
    """One model with all cases of these operators, and a weight to be quantized beside them; the model, and its inputs."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs, tensors = {"x": f(1, 8)}, {"w": f(8, 8)}
    outputs = ["y"]
    for kind in kinds:
        for number, (attributes, *values) in enumerate(cases[kind]):
            attributes = dict(attributes)
            if attributes.pop("since", 0) > version:
                continue
            names = []
            for v in values:
                names.append(f"{kind}{number}_{len(names)}")
                if isinstance(v, list):
                    tensors[names[-1]] = np.asarray(v[0])
                else:
                    inputs[names[-1]] = v
            made = [f"{kind}{number}_y"] + ([f"{kind}{number}_z"] if kind == "Split" else [])
            nodes.append(helper.make_node(kind, names, made, f"{kind}{number}", **attributes))
            outputs += made
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, dtype(v), v.shape) for n, v in inputs.items()],
        [onnx.ValueInfoProto(name=n) for n in outputs], [numpy_helper.from_array(a, n) for n, a in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)  # for the types of the outputs
    found = {v.name: v for v in model.graph.value_info}
    for o in model.graph.output:
        if o.name in found:
            o.CopyFrom(found[o.name])
    return model, inputs


def run(path, inputs):
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, inputs)


listed = dict(line.split() for line in subprocess.run([transform, "list"], capture_output=True, text=True, check=True).stdout.splitlines())
assert set(listed) == set(cases), set(listed) ^ set(cases)
with tempfile.TemporaryDirectory() as scratch:
    before, after = Path(scratch) / "before.onnx", Path(scratch) / "after.onnx"
    # Version 7 is the oldest that ONNX Runtime knows.
    for version in sorted({max(7, int(v)) for v in listed.values()} | {13, 18, 20}):
        kinds = [k for k, v in listed.items() if int(v) <= version]
        model, inputs = build(kinds, version)
        onnx.save(model, before)
        subprocess.run([quant, "quantize", before, "-fqo", after, "--bits", "4", "--include", "^w$"], check=True)
        raised = onnx.load(after)
        assert raised.opset_import[0].version == 21
        onnx.checker.check_model(raised)
        for o, a, b in zip(model.graph.output[1:], run(before, inputs)[1:], run(after, inputs)[1:]):
            # The two versions may be different programs: up to rounding.
            assert a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True), (version, o.name)
        print(f"version {version}: {len(kinds)} operators, {len(model.graph.node) - 1} nodes")
    # What is not on the list, or is with an attribute that changed, is refused by name.
    for version, kind, attributes, values in ((9, "Softmax", {}, [f(2, 3)]), (13, "ReduceMean", {}, [f(2, 3)]),
                                              (11, "Upsample", {}, [f(2, 3), np.ones(2, np.float32)]),
                                              (13, "AveragePool", dict(padded, ceil_mode=1), [f(*image)]),
                                              (13, "Split", dict(axis=1), [f(2, 6)]), (13, "Nonsense", {}, [f(2, 6)])):
        cases[kind] = [(attributes, *values)]
        model, _ = build([kind], version)
        onnx.save(model, before)
        done = subprocess.run([quant, "quantize", before, "-fo", after, "--bits", "4", "--include", "^w$"], capture_output=True, text=True)
        assert done.returncode == 3 and f"node '{kind}0' ({kind})" in done.stderr, (kind, done.stderr)
