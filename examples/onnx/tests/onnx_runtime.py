# SPDX-License-Identifier: MIT
"""Written models in ONNX Runtime, and against ONNX's own checker: onnx_runtime.py <quant> <transform>.

Exit code 77 (skipped) without onnx and onnxruntime."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

quant, transform = sys.argv[1:3]
scratch = Path(tempfile.mkdtemp(prefix="quant-onnx-"))
random = np.random.default_rng(20250101)


def run(*words, fails=None):
    """The program's output; with `fails`, it must fail with that exit code, and its message is returned."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    expected = 0 if fails is None else fails
    assert done.returncode == expected, f"{words}: exit code {done.returncode}\n{done.stderr}"
    return done.stderr if fails is not None else done.stdout


def infer(model, inputs=None, as_written=False):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # Products with DequantizeLinear weights in float: by default it rounds their inputs to 8 bits as well.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if as_written:  # else float weights beside quantized activations are quantized as well
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    session = onnxruntime.InferenceSession(str(model) if isinstance(model, Path) else model, options,
                                           providers=["CPUExecutionProvider"])
    if inputs is None:
        inputs = {}
    for i in session.get_inputs():
        if i.name not in inputs:
            shape = [d if isinstance(d, int) else 2 for d in i.shape]
            inputs[i.name] = random.standard_normal(shape).astype(np.float32)
    return session.run(None, inputs), inputs


def optimized(path):
    """What ONNX Runtime runs in place of the model: a node of each operator, and the tensors."""
    options, written = onnxruntime.SessionOptions(), scratch / "optimized.onnx"
    options.log_severity_level = 3
    options.optimized_model_filepath = str(written)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(written).graph
    return {n.op_type: n for n in graph.node}, {t.name: numpy_helper.to_array(t) for t in graph.initializer}


def distance(a, b):
    return float(np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(np.asarray(a, np.float64)))


def make(nodes, inputs, outputs, tensors, opset=13, ir=8, **more):
    """inputs, outputs: name -> shape; tensors: name -> array."""
    value = lambda v: [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in v.items()]
    graph = helper.make_graph(nodes, "g", value(inputs), value(outputs),
                              [numpy_helper.from_array(np.asarray(a), n) for n, a in tensors.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, **more)


def save(model, name="model.onnx", **how):
    path = scratch / name
    path.unlink(missing_ok=True)
    (scratch / (name + ".data")).unlink(missing_ok=True)
    onnx.save(model, path, **how)
    return path


def f32(*shape):
    return random.standard_normal(shape).astype(np.float32)


def dequantized(path):
    """The model with its DequantizeLinear weights computed by NumPy, as a float model; (model, {name: (codes type, steps)})."""
    model = onnx.load(path)
    tensors = {t.name: t for t in model.graph.initializer}
    seen, nodes, casts = {}, [], {}
    for n in model.graph.node:
        if n.op_type == "DequantizeLinear" and n.input[0] in tensors:
            attributes = {a.name: a.i for a in n.attribute}
            codes, zero = (numpy_helper.to_array(tensors[n.input[k]]).astype(np.float32) for k in (0, 2))
            scale = numpy_helper.to_array(tensors[n.input[1]])
            axis = attributes.get("axis", 1)
            if attributes.get("block_size"):
                spread = lambda a: np.repeat(a, attributes["block_size"], axis)[
                    tuple(slice(0, e) for e in codes.shape)]
            elif scale.ndim == 1:
                spread = lambda a: a.reshape([-1 if d == axis else 1 for d in range(codes.ndim)])
            else:
                spread = lambda a: a
            real = ((codes - spread(zero)) * spread(scale)).astype(np.float32)
            seen[n.output[0]] = (tensors[n.input[0]].data_type, np.broadcast_to(spread(scale), codes.shape), real)
            model.graph.initializer.append(numpy_helper.from_array(real, n.output[0]))
        else:
            nodes.append(n)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model, seen


def check(source, *options, types, tolerance=1e-5):
    """Quantizes a model; ONNX's checker and ONNX Runtime accept it, its weights lie within half a step of the original ones, and
    it computes what the model with its dequantized weights computes."""
    out = scratch / "out.onnx"
    run(quant, "quantize", source, "-f", "-o", out, "--clip", "minmax",
        *(["--no-keep-sums"] if "--bias-correct" not in options else []), *options)
    onnx.checker.check_model(str(out), full_check=True)
    result, inputs = infer(out)
    restored, seen = dequantized(out)
    assert seen and {s[0] for s in seen.values()} == set(types), seen
    original = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}
    for name, (_, step, real) in seen.items():
        before = original.get(name, original.get(name.removesuffix("_float")))
        if before is not None and "--bias-correct" not in options:
            # symmetric codes have one more step below than above: the largest value may lie a whole step away
            error = np.abs(before.astype(np.float32) - real)
            assert (error <= step * (0.5 + 1e-5)).all(), (name, (error / step).max())
    expected, _ = infer(restored, inputs)
    for a, b in zip(expected, result):
        assert distance(a, b) < tolerance, (source, options, distance(a, b))
    return onnx.load(out)


def test_gemm_and_matmul():
    w, v = f32(64, 24), f32(16, 24)
    model = make([helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
                  helper.make_node("Gemm", ["h", "v", "b"], ["y"], "second", transB=1)],
                 {"x": ["N", 64]}, {"y": ["N", 16]}, {"w": w, "v": v, "b": f32(16)})
    path = save(model)
    i8, u8, i4, u4 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4
    out = check(path, types=[i8])
    assert out.opset_import[0].version == 13 and [n.op_type for n in out.graph.node].count("DequantizeLinear") == 2
    axes = {n.output[0]: helper.get_attribute_value(n.attribute[0]) for n in out.graph.node if n.attribute
            and n.op_type == "DequantizeLinear"}
    assert axes == {"w": 1, "v": 0}, axes
    check(path, "--unsigned", types=[u8])
    check(path, "--per-tensor", types=[i8])
    out = check(path, "--bits", "4", types=[i4])
    assert out.opset_import[0].version == 21 and out.ir_version >= 10
    check(path, "--bits", "4", "--unsigned", types=[u4])
    check(path, "--bits", "4", "--mapping", "affine", "--group-size", "24", types=[i4])
    check(path, "--bits", "3", "--unsigned", "--group-size", "8", types=[u4])
    check(path, "--bits", "8", "--group-size", "10", types=[i8])
    check(path, "--bits", "6", "--axis", "0", types=[i8])
    check(path, "--bits", "4", "--average-bits", "3.5", "--min-bits", "2", "--max-bits", "4", types=[i4])
    note = subprocess.run([quant, "quantize", path, "-fo", scratch / "n.onnx", "--bits", "4", "--average-bits", "4",
                           "--bias-correct"], capture_output=True, text=True)
    assert "no width per channel" in note.stderr and "no place for the shift" in note.stderr, note.stderr


def test_kept_sums():
    # Below 8 bits every code is one of the two neighbours of its real value, and each output channel keeps its sum.
    tensors = {"c": f32(6, 4, 3, 3), "t": f32(6, 5, 2, 2), "g": f32(20, 7), "d": f32(5, 1, 3, 3)}
    model = make([helper.make_node("Conv", ["x", "c"], ["a"], pads=[1] * 4), helper.make_node("ConvTranspose", ["a", "t"], ["b"]),
                  helper.make_node("Conv", ["b", "d"], ["e"], group=5), helper.make_node("GlobalAveragePool", ["e"], ["p"]),
                  helper.make_node("Reshape", ["p", "s"], ["f"]), helper.make_node("MatMul", ["f", "g"], ["y"])],
                 {"x": [4, 4, 7, 7]}, {"y": [1, 7]}, {**tensors, "s": np.array([1, 20])})
    path, out = save(model), scratch / "q.onnx"
    sums = {"c": (1, 2, 3), "t": (0, 2, 3), "g": (0,), "d": (1, 2, 3)}
    for options in (["--bits", 4], ["--bits", 3, "--mapping", "affine"], ["--bits", 4, "--unsigned"], ["--bits", 5, "--per-tensor"],
                    ["--bits", 4, "--average-bits", "3.5", "--min-bits", "3", "--max-bits", "4"]):
        for threads in (1, 3):
            run(quant, "quantize", path, "-fqo", out, "--clip", "minmax", "--threads", threads, *options)
            _, seen = dequantized(out)
            for name, (_, step, real) in seen.items():
                errors = (tensors[name] - real) / step
                # symmetric codes have one more step below than above: the largest value may lie a whole step away
                assert np.abs(errors).max() < 1 + 1e-4, (name, options, np.abs(errors).max())
                assert np.abs(errors.sum(sums[name])).max() < 0.5 + 1e-3, (name, options, errors.sum(sums[name]))
                kernels = errors.sum((2, 3)) if name in "ct" else errors.sum(sums[name])
                assert np.abs(kernels).max() < 1.5 + 1e-3, (name, options)
            before = before if threads == 3 else out.read_bytes()
            assert out.read_bytes() == before
    run(quant, "quantize", path, "-fqo", out, "--clip", "minmax", "--bits", 4, "--group-size", 5, "--include", "^g$")
    _, seen = dequantized(out)
    errors = (tensors["g"] - seen["g"][2]) / seen["g"][1]
    assert np.abs(errors.reshape(4, 5, 7).sum(1)).max() < 0.5 + 1e-3
    assert "contradict" in run(quant, "quantize", path, "-fqo", out, "--bits", 4, "--keep-sums", "--bias-correct", fails=2)
    assert "contradict" in run(quant, "quantize", path, "-fqo", out, "--keep-sums", "--rounding", "half-away", fails=2)


def test_odd_extents_and_one_more_use():
    # 15 weights in 4 bits; the same tensor is an output too.
    model = make([helper.make_node("MatMul", ["x", "w"], ["y"], "m"), helper.make_node("Identity", ["w"], ["z"], "i")],
                 {"x": ["N", 3]}, {"y": ["N", 5], "z": [3, 5]}, {"w": f32(3, 5)})
    check(save(model), "--bits", "4", types=[TensorProto.INT4])


def test_weights_in_constants():
    constant = lambda name, a: helper.make_node("Constant", [], [name], value=numpy_helper.from_array(a))
    model = make([constant("w", f32(8, 6)), constant("b", f32(6)), constant("two", np.float32(2)),
                  helper.make_node("Gemm", ["x", "w", "b"], ["h"], "g"), helper.make_node("Mul", ["h", "two"], ["y"], "m")],
                 {"x": ["N", 8]}, {"y": ["N", 6]}, {})
    out = check(save(model), "--bits", "4", types=[TensorProto.INT4])
    assert [n.op_type for n in out.graph.node] == ["Constant", "DequantizeLinear", "Gemm", "Mul"]


def test_halves():
    model = make([helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
                  helper.make_node("MatMul", ["h", "w"], ["p"]), helper.make_node("Cast", ["p"], ["y"], to=1)],
                 {"x": ["N", 32]}, {"y": ["N", 8]}, {"w": f32(32, 8).astype(np.float16)})
    check(save(model), "--bits", "4", types=[TensorProto.INT4], tolerance=2e-3)


def test_subgraph():
    branch = lambda sign: helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], [f"p{sign}"]), helper.make_node("Mul", [f"p{sign}", f"s{sign}"], [f"r{sign}"])],
        "b", [], [helper.make_tensor_value_info(f"r{sign}", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(sign), f"s{sign}")])
    model = make([helper.make_node("If", ["c"], ["h"], then_branch=branch(1), else_branch=branch(-1)),
                  helper.make_node("MatMul", ["h", "w"], ["y"])],
                 {"x": ["N", 6]}, {"y": ["N", 6]}, {"w": f32(6, 6), "c": np.array(True)})
    check(save(model), types=[TensorProto.INT8])


def test_old_model():
    # Format 3 lists the initializers among the inputs.
    w, b = f32(4, 3, 3, 3), f32(4)
    model = make([helper.make_node("Conv", ["x", "w", "b"], ["h"], "c", kernel_shape=[3, 3]),
                  helper.make_node("Relu", ["h"], ["y"], "r")],
                 {"x": ["N", 3, 8, 8], "w": [4, 3, 3, 3], "b": [4]}, {"y": ["N", 4, 6, 6]}, {"w": w, "b": b}, opset=9, ir=3)
    out = check(save(model), "--bits", "4", types=[TensorProto.INT4])
    assert "w" not in [i.name for i in out.graph.input] and out.opset_import[0].version == 21
    # Softmax meant something else before version 13.
    model.graph.node[1].op_type = "Softmax"
    message = run(quant, "quantize", save(model), "-fo", scratch / "s.onnx", fails=3)
    assert "node 'r' (Softmax)" in message and "13" in message and "9" in message, message
    assert not (scratch / "s.onnx").exists()


def test_external_data():
    model = make([helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])],
                 {"x": ["N", 512]}, {"y": ["N", 16]}, {"w": f32(512, 64), "v": f32(64, 16)})
    run(quant, "quantize", save(model), "-fo", scratch / "inside.onnx", "--bits", "4")
    path = save(model, "outside.onnx", save_as_external_data=True, location="outside.onnx.data", size_threshold=0)
    assert path.stat().st_size < 1000
    run(quant, "quantize", path, "-fo", scratch / "from_outside.onnx", "--bits", "4")
    assert (scratch / "inside.onnx").read_bytes() == (scratch / "from_outside.onnx").read_bytes()


def norm(x, y, channels, name=""):
    """A BatchNormalization node and its tensors."""
    p = {f"{y}_s": f32(channels), f"{y}_b": f32(channels), f"{y}_m": f32(channels),
         f"{y}_v": random.uniform(0.1, 3, channels).astype(np.float32)}
    return helper.make_node("BatchNormalization", [x, *p], [y], name, epsilon=1e-3), p


def test_fold():
    tensors, nodes = {}, []

    def layer(kind, x, y, weight, channels, bias, **attributes):
        tensors[f"{y}_w"] = weight
        names = [x, f"{y}_w"]
        if bias:
            tensors[f"{y}_c"] = f32(channels)
            names.append(f"{y}_c")
        nodes.append(helper.make_node(kind, names, [f"{y}_raw"], y, **attributes))
        n, p = norm(f"{y}_raw", y, channels)
        nodes.append(n)
        tensors.update(p)

    layer("Conv", "x", "a", f32(6, 3, 3, 3), 6, True, pads=[1] * 4)
    layer("Conv", "a", "b", f32(8, 3, 3, 3), 8, False, group=2, pads=[1] * 4)
    layer("Conv", "b", "c", f32(8, 1, 3, 3), 8, True, group=8, pads=[1] * 4)
    layer("ConvTranspose", "c", "d", f32(8, 3, 2, 2), 6, True, group=2, strides=[2, 2])
    nodes.append(helper.make_node("GlobalAveragePool", ["d"], ["e"]))
    nodes.append(helper.make_node("Flatten", ["e"], ["f"]))
    layer("Gemm", "f", "g", f32(6, 10), 10, True)
    layer("Gemm", "g", "h", f32(7, 10), 7, False, transB=1, alpha=0.5)
    lonely, p = norm("h", "i", 7, "lonely")
    nodes.append(lonely)  # two in a row: the second joins the layer as well
    tensors.update(p)
    nodes.append(helper.make_node("Relu", ["i"], ["j"]))
    kept, p = norm("j", "y", 7, "kept")
    nodes.append(kept)
    tensors.update(p)
    path = save(make(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 7]}, tensors))
    said = run(transform, "fold", path, scratch / "folded.onnx").split("\n")
    assert said[0] == "7" and "kept" in said[1], said
    folded = onnx.load(scratch / "folded.onnx")
    onnx.checker.check_model(folded, full_check=True)
    assert [n.op_type for n in folded.graph.node].count("BatchNormalization") == 1
    used = {i for n in folded.graph.node for i in n.input}
    assert all(t.name in used for t in folded.graph.initializer)
    expected, inputs = infer(path)
    got, _ = infer(scratch / "folded.onnx", inputs)
    assert distance(expected[0], got[0]) < 1e-5, distance(expected[0], got[0])
    # A convolution that another node reads too stays as it is; one weight for two layers gets two folded copies.
    w = f32(4, 4, 1, 1)
    n1, p1 = norm("r1", "n1", 4)
    n2, p2 = norm("r2", "n2", 4)
    n3, p3 = norm("r3", "n3", 4)
    nodes = [helper.make_node("Conv", ["x", "w"], ["r1"]), n1, helper.make_node("Conv", ["n1", "w"], ["r2"]), n2,
             helper.make_node("Conv", ["n2", "w"], ["r3"]), n3, helper.make_node("Add", ["n3", "r3"], ["y"])]
    path = save(make(nodes, {"x": ["N", 4, 5, 5]}, {"y": ["N", 4, 5, 5]}, {"w": w, **p1, **p2, **p3}))
    assert run(transform, "fold", path, scratch / "folded.onnx").startswith("2\n")
    expected, inputs = infer(path)
    got, _ = infer(scratch / "folded.onnx", inputs)
    assert distance(expected[0], got[0]) < 1e-5
    # The tool folds before it quantizes.
    check(path, types=[TensorProto.INT8])


def test_activations():
    model = make([helper.make_node("Conv", ["x", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
                  helper.make_node("Conv", ["r", "v"], ["s"]), helper.make_node("Add", ["s", "r"], ["y"])],
                 {"x": ["N", 4, 6, 6]}, {"y": ["N", 4, 6, 6]}, {"w": f32(4, 4, 1, 1), "b": f32(4), "v": f32(4, 4, 1, 1)})
    path, out = save(model), scratch / "q.onnx"
    inputs = {"x": f32(2, 4, 6, 6)}
    step = lambda a, s, z, lo, hi: (np.clip(np.rint(a / np.float32(s)) + z, lo, hi) - z).astype(np.float32) * np.float32(s)
    for bits, signed, zero in ((8, 1, 3), (8, 0, 128), (4, 1, -1), (4, 0, 8), (3, 1, 0), (16, 1, 5)):
        lo = -(1 << bits - 1) if signed else 0
        hi = lo + (1 << bits) - 1
        run(transform, "activations", path, out, "x", 0.25, zero, bits, signed, "r", 0.5, zero, bits, signed,
            "s", 1.0, zero, bits, signed)
        written = onnx.load(out)
        # Far readers too: no node but its QuantizeLinear (or the Clip before that) reads a float value.
        assert not {"x", "r", "s"} & {i for n in written.graph.node if n.op_type in ("Conv", "Add") for i in n.input}
        onnx.checker.check_model(written, full_check=True)
        assert written.opset_import[0].version == (13 if bits <= 8 else 21)
        infer(out, inputs)
        got, _ = infer(out, inputs, as_written=True)
        # Layer by layer, the float parts by ONNX Runtime.
        first = make(list(model.graph.node)[:2], {"x": ["N", 4, 6, 6]}, {"r": ["N", 4, 6, 6]},
                     {t.name: numpy_helper.to_array(t) for t in model.graph.initializer})
        (r,), _ = infer(first, {"x": step(inputs["x"], 0.25, zero, lo, hi)})
        second = make(list(model.graph.node)[2:3], {"r": ["N", 4, 6, 6]}, {"s": ["N", 4, 6, 6]},
                      {"v": numpy_helper.to_array(model.graph.initializer[2])})
        r = step(r, 0.5, zero, lo, hi)
        (s,), _ = infer(second, {"r": r})
        y = step(s, 1.0, zero, lo, hi) + r
        assert distance(y, got[0]) < 1e-6, (bits, signed, distance(y, got[0]))
    assert "these parameters" in run(transform, "activations", path, out, "x", 0.25, 20, 4, 0, fails=5)
    assert "no value" in run(transform, "activations", path, out, "nothing", 0.25, 0, 8, 1, fails=1)


def test_shifts():
    # With inputs that are all equal to the mean, the folded bias is exact where there is no padding.
    scale, shift, mean = 0.125, 0.0625, 0.75
    w1, w2 = (np.rint(f32(*s) * 8) / 8 for s in ((6, 2, 3, 3), (6, 5)))
    grouped = [helper.make_node("Conv", ["x", "w", "b"], ["y"], "c", group=2)]
    fully = [helper.make_node("Gemm", ["x", "w"], ["y"], "g", alpha=0.5)]
    for nodes, w, x, y in ((grouped, w1.astype(np.float32), [1, 4, 5, 5], [1, 6, 3, 3]),
                           (fully, w2.astype(np.float32), [3, 6], [3, 5])):
        tensors = {"w": w, "b": f32(6)} if nodes is grouped else {"w": w}
        path = save(make(nodes, {"x": x}, {"y": y}, tensors))
        assert run(transform, "shifts", path, scratch / "q.onnx", "w", scale, shift, mean) == ""
        tensors["w"] = w + np.float32(shift)
        inputs = {"x": np.full(x, mean, np.float32)}
        expected, _ = infer(make(nodes, {"x": x}, {"y": y}, tensors), inputs)
        got, _ = infer(scratch / "q.onnx", inputs)
        assert distance(expected[0], got[0]) < 1e-6, distance(expected[0], got[0])
    path = save(make([helper.make_node("MatMul", ["x", "w"], ["y"], "m")], {"x": [3, 6]}, {"y": [3, 5]},
                     {"w": w2.astype(np.float32)}))
    assert "node 'm' (MatMul)" in run(transform, "shifts", path, scratch / "q.onnx", "w", scale, shift, mean)


def test_calibration():
    # The ranges are those of the float model's values on the samples; what only the ReLU reads is not quantized.
    model = make([helper.make_node("Conv", ["x", "w", "b"], ["h"], "c", pads=[1] * 4), helper.make_node("Relu", ["h"], ["r"]),
                  helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
                  helper.make_node("Flatten", ["p"], ["f"]), helper.make_node("Gemm", ["f", "v"], ["y"], "g")],
                 {"x": ["N", 3, 6, 6]}, {"y": ["N", 5]}, {"w": f32(4, 3, 3, 3), "b": f32(4), "v": f32(36, 5)})
    path, out, samples = save(model), scratch / "q.onnx", scratch / "samples.npy"
    inputs = {"x": f32(37, 3, 6, 6) + np.float32(0.5)}
    np.save(samples, inputs["x"])
    expected, _ = infer(path, inputs)
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    (_, r), _ = infer(model, inputs)
    words = [quant, "quantize", path, "-fqo", out, "--calibrate", samples, "--activations"]
    run(*words, 8)
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    assert {n for n in tensors if n.endswith("_zero_point")} == {f"{n}_zero_point" for n in "wvxr"}
    for name, values in (("x", inputs["x"]), ("r", r)):
        step = (float(values.max()) - min(0.0, float(values.min()))) / 255
        assert abs(tensors[f"{name}_scale"] - step) < 1e-5 * step, (name, tensors[f"{name}_scale"], step)
    got, _ = infer(out, inputs)
    assert distance(expected[0], got[0]) < 0.02, distance(expected[0], got[0])
    before = out.read_bytes()
    run(*words, 8, "--threads", 1)
    assert out.read_bytes() == before
    run(*words, 4)
    assert [n.op_type for n in onnx.load(out).graph.node].count("Clip") == 1  # the input has 8 bits
    got, _ = infer(out, inputs)
    assert distance(expected[0], got[0]) < 0.2, distance(expected[0], got[0])
    # The shift of the bias correction: with it, the mean of the output over the samples is that of the float model.
    words = [quant, "quantize", path, "-fqo", out, "--bits", "3", "--clip", "mse", "--exclude", "w", "--no-keep-sums"]
    run(*words)
    plain, _ = infer(out, inputs)
    note = subprocess.run([*words, "--bias-correct", "--calibrate", samples], capture_output=True, text=True)
    assert note.returncode == 0, note.stderr
    corrected, _ = infer(out, inputs)
    # Shifting each weight by its column's mean error corrects the output by that times the sum of its inputs, at its mean.
    original, quantized = numpy_helper.to_array(model.graph.initializer[2]), dequantized(out)[1]["v"][2]
    pooled = r.reshape(37, 4, 3, 2, 3, 2).max((3, 5)).reshape(37, -1).astype(np.float64)
    shift = (original.astype(np.float64) - quantized).mean(0) * pooled.sum(1).mean()
    assert np.allclose(corrected[0] - plain[0], shift, atol=1e-3), (corrected[0] - plain[0], shift)
    assert "has no such" not in note.stderr
    # The other ways to choose the ranges of the values.
    words = [quant, "quantize", path, "-fqo", out, "--calibrate", samples, "--activations", 4, "--activation-clip"]
    ranges = {}
    for clip in ("minmax", "percentile", "mse", "entropy", "aciq"):
        run(*words, clip)
        tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
        ranges[clip] = 15 * float(tensors["r_scale"])
        assert abs(tensors["x_scale"] - float(np.ptp(inputs["x"])) / 255) < 1e-6  # 8 bits, all of it
    assert abs(ranges["minmax"] - r.max()) < 1e-5
    assert 0 < ranges["mse"] < ranges["minmax"], ranges
    for clip in ("percentile", "entropy", "aciq"):
        assert 0 < ranges[clip] < ranges["minmax"] + 1e-4, ranges
    run(*words, "percentile", "--activation-percentile", 90)
    got = 15 * float(next(numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer if t.name == "r_scale"))
    assert abs(got - np.quantile(r, 0.9)) < 0.02, (got, np.quantile(r, 0.9))
    assert "has no effect" in run(*words, "mse", "--activation-percentile", 90, fails=2)
    assert "--calibrate is missing" in run(quant, "quantize", path, "-o", out, "--activations", "8", fails=2)
    np.save(samples, f32(4, 2, 6, 6))
    assert "its samples are 2x6x6, the model is for 3x6x6" in run(
        quant, "quantize", path, "-fo", out, "--activations", "8", "--calibrate", samples, fails=3)


def test_integer_biases():
    # The bias is int32 with the product of the scales; ONNX Runtime runs the model, and it computes what the model with float biases
    # does, but for their rounding. With 8 bits for weights and values its convolution is the integer one and takes the bias as it is.
    model = make([helper.make_node("Conv", ["x", "w", "b"], ["h"], "c", pads=[1] * 4), helper.make_node("Relu", ["h"], ["r"]),
                  helper.make_node("Flatten", ["r"], ["f"]), helper.make_node("Gemm", ["f", "v", "d"], ["y"], "g", transB=1)],
                 {"x": ["N", 3, 6, 6]}, {"y": ["N", 5]}, {"w": f32(4, 3, 3, 3), "b": f32(4), "v": f32(5, 144), "d": f32(5)})
    out, plain, samples = scratch / "q.onnx", scratch / "float.onnx", scratch / "samples.npy"
    inputs = {"x": f32(20, 3, 6, 6)}
    np.save(samples, inputs["x"])
    for activations, options in ((8, ["--bits", 8]), (8, ["--bits", 8, "--per-tensor"]), (8, ["--bits", 4]), (4, ["--bits", 8])):
        words = [quant, "quantize", save(model), "-fq", "--calibrate", samples, "--activations", activations, *options]
        run(*words, "-o", out)
        run(*words, "-o", plain, "--float-biases")
        onnx.checker.check_model(str(out), full_check=True)
        written = onnx.load(out)
        tensors = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
        for bias, weight, value in (("b", "w", "x"), ("d", "v", "r")):
            codes, scale = tensors[f"{bias}_int32"], tensors[f"{bias}_int32_scale"]
            assert codes.dtype == np.int32 and bias not in tensors
            assert np.array_equal(scale, tensors[f"{weight}_scale"] * tensors[f"{value}_scale"]), bias
            real = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == bias))
            assert np.abs(codes * scale.astype(np.float64) - real).max() <= 0.5001 * scale.max(), bias
        a, b = (infer(path, inputs, as_written=True)[0][0] for path in (out, plain))
        assert distance(b, a) < (0.02 if activations == 8 else 0.1), (options, distance(b, a))
        fast, _ = infer(out, inputs)
        assert distance(b, fast[0]) < 0.1, (options, distance(b, fast[0]))
        kernels, taken = optimized(out)
        if activations == 8 and 4 not in options:
            assert "QLinearConv" in kernels and "Conv" not in kernels, kernels
            bias = taken[kernels["QLinearConv"].input[8]]
            assert bias.dtype == np.int32 and np.array_equal(bias, tensors["b_int32"])
    # Weights that are nearly zero beside a bias: it stays float and the layer is named.
    w = f32(4, 3, 3, 3)
    w[1] *= 1e-12
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(w, "w"))
    note = subprocess.run([str(v) for v in (quant, "quantize", save(model), "-fo", out, "--calibrate", samples, "--activations", 8)],
                          capture_output=True, text=True)
    assert note.returncode == 0 and "node 'c' (Conv) has weights so small" in note.stderr, note.stderr
    names = [t.name for t in onnx.load(out).graph.initializer]
    assert "b" in names and "d_int32" in names
    infer(out, inputs)


def test_weights_beside_the_model():
    model = make([helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])],
                 {"x": ["N", 512]}, {"y": ["N", 16]}, {"w": f32(512, 64), "v": f32(64, 16)})
    inside, beside = scratch / "inside.onnx", scratch / "beside.onnx"
    run(quant, "quantize", save(model), "-fqo", inside, "--bits", 4)
    run(quant, "quantize", save(model), "-fqo", beside, "--bits", 4, "--external-data")
    onnx.checker.check_model(str(beside), full_check=True)
    assert {p.name for p in scratch.glob("beside*")} == {"beside.onnx", "beside.onnx.data"}
    (expected,), inputs = infer(inside)
    (got,), _ = infer(beside, inputs)
    assert np.array_equal(expected, got) and beside.stat().st_size < 2000
    (scratch / "beside3.onnx.data").write_bytes(b"precious")
    assert "exists already" in run(quant, "quantize", save(model), "-o", scratch / "beside3.onnx", "--external-data", fails=4)
    assert not (scratch / "beside3.onnx").exists() and (scratch / "beside3.onnx.data").read_bytes() == b"precious"


def test_keywords():
    data = os.environ.get("QUANT_DATA")
    if not data:
        print("test_keywords: skipped, QUANT_DATA is not set")
        return
    folder = Path(data) / "kws"
    inputs, labels = {"input": np.load(folder / "mfcc.npy")}, np.load(folder / "labels.npy")
    path = folder / "kws_ds_cnn.onnx"
    name = onnx.load(path, load_external_data=False).graph.input[0].name
    inputs = {name: inputs["input"]}
    right = lambda model: 100 * float((infer(model, inputs)[0][0].reshape(500, -1).argmax(1) == labels).mean())
    floats = right(path)
    assert abs(floats - 91.2) < 1e-9, floats
    out = scratch / "q.onnx"
    for weights, activations, least in ((8, 8, -1.0), (8, 4, -12.0)):
        run(quant, "quantize", path, "-fqo", out, "--bits", weights, "--activations", activations, "--calibrate", folder / "mfcc.npy",
            "--samples", 100)
        onnx.checker.check_model(str(out), full_check=True)
        got = right(out)
        print(f"keywords: float {floats:.1f}, {weights}-bit weights and {activations}-bit activations {got:.1f}")
        assert got - floats >= least


def test_errors():
    path = save(make([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, {"y": [1]}, {}))
    assert "no weights" in run(quant, "quantize", path, "-o", scratch / "e.onnx", fails=5)
    w = f32(4, 4)
    w[1, 2] = np.nan
    path = save(make([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]}, {"w": w}))
    before = sorted(scratch.iterdir())
    message = run(quant, "quantize", path, "-o", scratch / "e.onnx", fails=5)
    assert "tensor 'w'" in message and "NaN" in message and sorted(scratch.iterdir()) == before, message
    assert "must end in .onnx" in run(quant, "quantize", path, "-o", scratch / "e.npz", fails=2)
    assert "nothing.onnx" in run(quant, "quantize", "nothing.onnx", "-o", scratch / "e.onnx", fails=3)


def test_networks():
    data = os.environ.get("QUANT_DATA")
    if not data:
        print("test_networks: skipped, QUANT_DATA is not set")
        return
    for path in sorted(Path(data).rglob("*.onnx")):
        check(path, types=[TensorProto.INT8], tolerance=1e-4)
        check(path, "--bits", "4", "--group-size", "32", types=[TensorProto.INT4], tolerance=1e-4)
        check(path, "--bits", "4", "--unsigned", types=[TensorProto.UINT4], tolerance=1e-4)


if __name__ == "__main__":
    print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
    for name, test in list(globals().items()):
        if name.startswith("test_") and (len(sys.argv) < 4 or name in sys.argv[3:]):
            print(name, flush=True)
            test()
    for f in scratch.iterdir():
        f.unlink()
    scratch.rmdir()
