"""Turns the int8 graph of Kokoro-82M into four float graphs that run fast on processors with AMX.

Place: `training.voices_kokoro.fetch` calls `convert` once; nothing else does.

Unusual: the weights are dequantized once and the activations are no longer quantized at all. The
generator, which takes nearly all of the time, becomes a net of images of one row, [1, C, 1, T],
because openvino keeps such images channels-last all the way; its sines become squares of squares;
its transposed convolutions become convolutions. All this changes no sample by more than rounding.
Four graphs, since two must not be rounded to bfloat16: `prosody` sums the phase of the voice over
the utterance, and `wave` takes sines of phases.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx  # pyright: ignore[reportMissingImports]
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]

# Name of each graph in the order of their use, and whether it may be rounded to bfloat16.
PARTS = {"reader": True, "prosody": False, "voice": True, "wave": False}
_GENERATOR = "/decoder/decoder/generator/"
_HIDDEN = "/encoder/bert_encoder/Add_output_0"
FEATURES = "/encoder/MatMul_1_output_0"
_TIMED = (FEATURES, "/encoder/Reshape_output_0", "/encoder/Reshape_1_output_0")
_SOURCE = _GENERATOR + "Concat_3_output_0"  # the voice's harmonics: magnitudes and phases
_SPOKEN = _GENERATOR + "Div_4_output_0"
# The part of the generator that works on [1, C, 1, T], and the inputs that must be lifted to it.
_IMAGES = re.compile(
    re.escape(_GENERATOR)
    + r"((resblocks|noise_res)\.\d/(?!adain\d\.\d/(fc|Slice|Unsqueeze|Add_1$))|noise_convs|ups"
    r"|reflection_pad|LeakyRelu|conv_post|Add_[2-7]$|Div_[24]$)"
)
_LIFTED = ("/decoder/decoder/decode.3/Div_4_output_0", _SOURCE)
# sin(pi d)^2 = 1 - (2 t^2 - 1)^2 with t = a (d^2 - b)^2 - c, for |d| <= 1/2, to 2.4e-5.
_SINE = (0.2488213378, 2.4785746940, 0.5285939361)


def convert(source: Path, folder: Path) -> None:
    """Read the int8 graph from source and write `reader.onnx` and so on into the folder.

    reader: tokens [1, N] -> hidden [1, N, 512]. prosody: those, style [1, 256] and speed [1] ->
    features [1, 512, T], pitch in Hz and loudness [1, 2 T], harmonics [1, 22, 120 T + 1].
    voice: those and style -> [1, 128, 1, 120 T + 1]. wave: audio [600 T] at 24 kHz.
    """
    graph = _Graph(onnx.load(str(source)))
    graph.dequantize()
    graph.replace_spectrum()
    graph.replace_doubling()
    graph.lift_generator()
    integers, floats = TensorProto.INT64, TensorProto.FLOAT
    tokens, style = ("tokens", integers, [1, None]), ("style", floats, [1, 256])
    hidden = (_HIDDEN, floats, [1, None, 512])
    timed = [(n, floats, [1, 512, None] if not i else [1, None]) for i, n in enumerate(_TIMED)]
    timed.append((_SOURCE, floats, [1, 22, None]))
    spoken = (_SPOKEN, floats, [1, 128, 1, None])
    speed, audio = ("speed", floats, [1]), ("audio", floats, None)
    for name, inputs, outputs in (
        ("reader", [tokens], [hidden]),
        ("prosody", [tokens, style, speed, hidden], timed),
        ("voice", [*timed, style], [spoken]),
        ("wave", [spoken], [audio]),
    ):
        onnx.save(graph.part(name, inputs, outputs), str(folder / f"{name}.onnx"))


class _Graph:
    """An ONNX graph under change: its nodes in order and its weights by name."""

    def __init__(self, model: ModelProto):
        self.model = model
        self.nodes = list(model.graph.node)
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}

    def array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.weights[name])

    def add(self, name: str, values: npt.ArrayLike, dtype: type = np.float32) -> str:
        """Keep values as the weight of that name; return the name."""
        array = np.ascontiguousarray(values, dtype)
        self.weights[name] = numpy_helper.from_array(array.reshape(np.shape(values)), name)
        return name

    def part(self, name: str, inputs: Sequence[tuple], outputs: Sequence[tuple]) -> ModelProto:
        """The graph from inputs to outputs; each is (name, element type, shape)."""
        wanted, given, kept = {output[0] for output in outputs}, {i[0] for i in inputs}, []
        for node in reversed(self.nodes):
            if (wanted - given).intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        weights = [tensor for name, tensor in self.weights.items() if name in wanted]
        ports = [[helper.make_tensor_value_info(*port) for port in p] for p in (inputs, outputs)]
        graph = helper.make_graph(kept[::-1], name, *ports, weights)
        return helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )

    def dequantize(self) -> None:
        """Replace each integer operation, and the casts and scales after it, by a float one."""
        producer = {name: node for node in self.nodes for name in node.output}
        consumer = {name: node for node in self.nodes for name in node.input}
        replaced: dict[str, NodeProto] = {}  # by the name of the output they compute

        def dequantized(weight: str, zero: str, scale: str) -> np.ndarray:
            trailing = (1,) * (self.array(weight).ndim - 1)
            shift, factor = (self.array(name).astype(np.float32) for name in (zero, scale))
            if len(trailing) == 2 and shift.ndim:  # a scale for each direction of a recurrent net
                shift, factor = shift.reshape(-1, *trailing), factor.reshape(-1, *trailing)
            return (self.array(weight).astype(np.float32) - shift) * factor

        for node in self.nodes:
            names = list(node.input)
            if node.op_type in ("ConvInteger", "MatMulInteger"):
                # (+ bias in units of the product) -> Cast -> * (scale of input * scale of weight)
                inputs, follower = [producer[names[0]].input[0]], consumer[node.output[0]]
                bias: list[str] = []
                if follower.op_type == "Add":
                    name = next(name for name in follower.input if name != node.output[0])
                    while name not in self.weights:  # bias -> Div -> Floor -> Cast -> Reshape
                        name = producer[name].input[0]
                    bias, follower = [name], consumer[follower.output[0]]
                last = consumer[follower.output[0]]
                scales = producer[next(n for n in last.input if n != follower.output[0])]
                scale = next(name for name in scales.input if name in self.weights)
                weight = self.add(names[1] + "_float", dequantized(names[1], names[3], scale))
                inputs += [weight, *bias]
                kind, outputs = node.op_type.removesuffix("Integer"), list(last.output)
            elif node.op_type == "DynamicQuantizeLSTM":
                inputs = names[:7]
                for i, zero, scale in ((1, 9, 8), (2, 11, 10)):
                    values = dequantized(names[i], names[zero], names[scale])
                    inputs[i] = self.add(names[i] + "_float", values.transpose(0, 2, 1))
                kind, outputs = "LSTM", list(node.output)
            else:
                continue
            new = helper.make_node(kind, inputs, outputs, name=node.name)
            new.attribute.extend(node.attribute)
            replaced[outputs[0]] = new
        self.nodes = [replaced.get(node.output[0], node) for node in self.nodes]

    def replace_spectrum(self) -> None:
        """Replace the short Fourier transform of the harmonics by a convolution."""
        index = next(i for i, node in enumerate(self.nodes) if node.op_type == "STFT")
        node = self.nodes[index]
        window = self.array(node.input[2])
        angles = np.outer(np.arange(11), np.arange(20)) * (2 * np.pi / 20)
        filters = np.concatenate([np.cos(angles), -np.sin(angles)]) * window
        hop = int(self.array(node.input[1]))
        make = _Maker(self, node.name)
        taken = make("Unsqueeze", node.input[0], make.integers([1]))
        taken = make(
            "Conv", taken, self.add(node.name + "_filters", filters[:, None]), strides=[hop]
        )
        names = [_GENERATOR + f"Gather_{i}_output_0" for i in (4, 5)]  # real, imaginary part
        make("Split", taken, make.integers([11, 11]), outputs=names, axis=1)
        kept = [n for n in self.nodes if not set(names).intersection(n.output)]
        index = kept.index(node)
        self.nodes = kept[:index] + make.nodes + kept[index + 1 :]

    def replace_doubling(self) -> None:
        """Replace transposed convolutions by channel, of stride 2, by plain ones."""
        nodes = []
        for node in self.nodes:
            if node.op_type != "ConvTranspose" or _attributes(node)["group"] == 1:
                nodes.append(node)
                continue
            weight, bias = self.array(node.input[1])[:, 0], self.array(node.input[2])
            channels, make = len(weight), _Maker(self, node.name)
            # even samples: w1 x[t]; odd samples: w2 x[t] + w0 x[t + 1]
            taps = np.stack([weight[:, [1, 1]] * [1, 0], weight[:, [2, 0]]], axis=1)
            pair = make(
                "Conv",
                node.input[0],
                self.add(node.name + "_taps", taps.reshape(2 * channels, 1, 2)),
                self.add(node.name + "_bias", np.repeat(bias, 2)),
                group=channels,
                pads=[0, 1],
            )
            pair = make("Reshape", pair, make.integers([1, channels, 2, -1]))
            pair = make("Transpose", pair, perm=[0, 1, 3, 2])
            make("Reshape", pair, make.integers([1, channels, -1]), outputs=node.output)
            nodes += make.nodes
        self.nodes = nodes

    def lift_generator(self) -> None:
        """Make the generator work on [1, C, 1, T] in place of [1, C, T]."""
        nodes: list[NodeProto] = []
        renamed: dict[str, str] = {}
        axes = self.add("image_axes", [2, 3], np.int64)
        for node in self.nodes:
            make = _Maker(self, node.name)
            if not _IMAGES.match(node.name):
                if re.search(r"generator/.*/adain\d\.\d/Unsqueeze$", node.name):
                    node.input[1] = axes  # scales and shifts of channels
                nodes.append(node)
                for name in set(_LIFTED).intersection(node.output):
                    renamed[name] = make("Unsqueeze", name, make.integers([2]))
                nodes += make.nodes
                continue
            names = [renamed[name] if name in renamed else str(name) for name in node.input]
            for i, name in enumerate(names):
                if name in self.weights and self.array(name).ndim == 3:
                    names[i] = self.add(name + "_image", self.array(name)[:, :, None])
            if node.op_type == "Sin":
                # alpha x -> sin^2; the sine's input is left without a use
                scaled = next(n for n in reversed(nodes) if n.output[0] == names[0])
                x, alpha = sorted(scaled.input, key=lambda name: name in self.weights)
                renamed[node.output[0]] = self._squared_sine(make, x, alpha)
            elif node.op_type == "Pow":
                renamed[node.output[0]] = names[0]
            elif node.op_type == "ConvTranspose":
                self._upsample(make, node, names)
            elif node.op_type == "Conv":
                attributes = _attributes(node)
                last = "/conv_post/" in node.name
                left, right = attributes["pads"]
                lifted = make(
                    "Conv",
                    *names,
                    outputs=None if last else node.output,
                    pads=[0, left, 0, right],
                    strides=[1, *attributes["strides"]],
                    dilations=[1, *attributes["dilations"]],
                )
                if last:
                    make("Squeeze", lifted, make.integers([2]), outputs=node.output)
            elif node.op_type == "Pad":
                _, _, left, _, _, right = self.array(names[1]).tolist()
                pads = make.integers([0, 0, 0, left, 0, 0, 0, right])
                make("Pad", names[0], pads, outputs=node.output, mode="reflect")
            else:
                if node.op_type == "ReduceMean":
                    names[1] = axes
                del node.input[:]
                node.input.extend(names)
                make.nodes.append(node)
            nodes += make.nodes
        self.nodes = nodes

    def _squared_sine(self, make: "_Maker", x: str, alpha: str) -> str:
        """sin(alpha x)^2 by operations that openvino computes together, in one pass."""
        a, b, c = _SINE
        turns = make("Mul", x, self.add(make.name + "_turns", self.array(alpha) / np.pi))
        nearest = make("Floor", make("Add", turns, make.float(0.5)))
        value = make("Sub", turns, nearest)
        for factor, shift in ((1, -b), (a, -c), (2, -1), (-1, 1)):
            value = make("Pow", value, make.float(2))
            if factor != 1:
                value = make("Mul", value, make.float(factor))
            value = make("Add", value, make.float(shift))
        return value

    def _upsample(self, make: "_Maker", node: NodeProto, names: Sequence[str]) -> None:
        """A transposed convolution of stride s and 2 s taps: each s samples of the output come from
        two samples of the input.
        """
        weight, bias = self.array(node.input[1]), self.array(node.input[2])  # [I, O, 2 s], [O]
        (stride,), (trim, _) = _attributes(node)["strides"], _attributes(node)["pads"]
        fan_in, fan_out, _ = weight.shape
        later, sooner = weight[:, :, :stride], weight[:, :, stride:]
        taps = np.stack([sooner, later], axis=-1).transpose(2, 1, 0, 3)  # [s, O, I, 2]
        blocks = make(
            "Conv",
            names[0],
            self.add(make.name + "_taps", taps.reshape(stride * fan_out, fan_in, 1, 2)),
            self.add(make.name + "_bias", np.tile(bias, stride)),
            pads=[0, 1, 0, 1],
        )
        rows = make("Transpose", blocks, perm=[0, 2, 3, 1])
        rows = make("Reshape", rows, make.integers([1, 1, -1, fan_out]))
        ends = make.integers([trim]), make.integers([-trim]), make.integers([2])
        make("Transpose", make("Slice", rows, *ends), outputs=node.output, perm=[0, 3, 1, 2])


class _Maker:
    """Makes nodes and constants whose names start alike."""

    def __init__(self, graph: _Graph, name: str):
        self.name, self.nodes = name, []
        self._graph = graph

    def __call__(self, kind: str, *inputs: str, outputs=None, **attributes: object) -> str:
        """Add a node; return the name of its first output."""
        name = f"{self.name}_{kind}_{len(self.nodes)}"
        outputs = list(outputs or [name + "_output"])
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs[0]

    def integers(self, values: list[int]) -> str:
        return self._graph.add("integers" + "_".join(map(str, values)), values, np.int64)

    def float(self, value: float) -> str:
        return self._graph.add(f"float{value}", value)


def _attributes(node: NodeProto) -> dict:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
