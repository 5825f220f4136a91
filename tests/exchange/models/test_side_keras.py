"""A person's Keras or TensorFlow model: its calls, its weights in the canonical layout, and its calls made again."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.exchange.models.records import Call, Change, Model, Trace, model_of, read_arrays, read_trace, write_arrays
from support.needs import need_backend

KERAS = """
    import keras, tensorflow as tf
    from keras import layers, ops

    def cnn():
        return keras.Sequential([
            keras.Input((9, 7, 3)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.LeakyReLU(negative_slope=0.25),
            layers.MaxPooling2D(2),
            layers.Dropout(0.4),
            layers.Flatten(),
            layers.Dense(5),
        ])

    def residual():
        inputs = keras.Input((6, 5, 2))
        x = layers.Conv2D(3, 3, padding="same", use_bias=False)(inputs)
        x = layers.LayerNormalization(epsilon=1e-2)(x)
        y = layers.DepthwiseConv2D(2, padding="same", depth_multiplier=2)(x)
        y = layers.SeparableConv2D(3, 3, padding="same")(y)
        x = ops.gelu(x + y) * 0.5
        x = layers.Conv2DTranspose(4, 3, strides=2)(x)
        return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))

    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 4), name="w")
            self.b = self.add_weight(shape=(4,), name="b")

        def call(self, x):
            return tf.nn.leaky_relu(tf.matmul(x, self.w) + self.b, alpha=0.1)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.own = Own()
            self.head = layers.Dense(3, activation="gelu")

        def call(self, x, training=False):
            x = tf.nn.dropout(self.own(x), 0.5) if training else self.own(x)
            return tf.nn.softmax(tf.concat([self.head(x), x[:, :2]], axis=-1) * 2.0)

    class Plain(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(tf.random.normal((4, 3)))
            self.b = tf.Variable(tf.zeros(3))
            self.factor = tf.constant(0.1)

        @tf.function
        def __call__(self, x):
            return tf.tanh(tf.cast(x, tf.float32) @ self.w + self.b) * self.factor

    def lstm():
        return keras.Sequential([keras.Input((3, 3)), layers.LSTM(4, dropout=0.3)])

    def gru():
        return keras.Sequential([keras.Input((3, 3)), layers.GRU(4)])

    def attention():
        inputs = keras.Input((5, 6))
        return keras.Model(inputs, layers.MultiHeadAttention(2, 3)(inputs, inputs))

    def embedding():
        return keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(7, 3), layers.Dense(2)])

    def convolutions():
        inputs = keras.Input((6, 5, 2))
        x = layers.DepthwiseConv2D(3, depth_multiplier=2)(inputs)
        return keras.Model(inputs, layers.Conv2DTranspose(3, (2, 3), strides=2)(x))

    class Narrow(keras.Model):
        def __init__(self):
            super().__init__()
            self.pool, self.head = layers.MaxPooling3D(2), layers.Dense(2, dtype="float32")
            self.table = tf.random.normal((3, 3))

        def call(self, x):
            x = tf.image.resize(tf.cast(x, tf.float32), (4, 4)) @ self.table
            x = tf.reduce_sum(self.pool(x[:, None] + tf.zeros((1, 2, 4, 4, 3))), axis=(1, 2, 3))
            return self.head(x * tf.constant(0.1))

    def stated():
        inputs = keras.Input((4,), dtype="float32")
        return keras.Model(inputs, layers.Dense(2)(inputs))

    class Raising(keras.Model):
        def call(self, x):
            return tf.reshape(x, (7, 7))

    number = 3
    def needs(width): return None
"""

TORCH = """
    import torch
    from torch import nn

    class Cnn(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4, eps=1e-3)
            self.head = nn.Linear(16, 5)

        def forward(self, x):  # 9 × 7 under 'same' and a stride of 2: one zero before and one behind
            x = torch.relu(self.conv(nn.functional.pad(x, (1, 1, 1, 1))))
            x = nn.functional.max_pool2d(nn.functional.leaky_relu(self.norm(x), 0.25), 2)
            return self.head(x.permute(0, 2, 3, 1).flatten(1))

    class Last(nn.Module):
        def __init__(self, cls):
            super().__init__()
            self.cell = cls(3, 4, batch_first=True)

        def forward(self, x):
            return self.cell(x)[0][:, -1]

    def lstm(): return Last(nn.LSTM)
    def gru(): return Last(nn.GRU)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    def embedding(): return nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2))

    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise, self.up = nn.Conv2d(2, 4, 3, groups=2), nn.ConvTranspose2d(4, 3, (2, 3), stride=2)

        def forward(self, x):
            return self.up(self.depthwise(x))
"""


class Asked:
    """A side in a process of its own, asked in lines of JSON."""

    def __init__(self, framework: str, folder: Path, source: str) -> None:
        self.folder, self.file = folder, folder / f"port_{framework}.py"
        self.file.write_text(textwrap.dedent(source))
        command = [sys.executable, "-m", "lockstep.exchange.models.server", framework, str(folder), "0"]
        with (folder / f"{framework}.log").open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def answered(self, do: str, **arguments: Any) -> dict[str, Any]:
        answer = self.ask(do, **arguments)
        assert answer["event"] == "answer", answer
        return answer

    def load(self, name: str, dtype: str = "float64") -> Model:
        return model_of(self.answered("load", file=str(self.file), name=name, dtype=dtype))

    def model(self) -> Model:
        return model_of(self.answered("describe"))

    def units(self) -> dict[str, np.ndarray]:
        self.answered("units", into="units.safetensors")
        return read_arrays(self.folder / "units.safetensors")

    def put(self, values: dict[str, np.ndarray]) -> None:
        write_arrays(values, self.folder / "put.safetensors")
        self.answered("put", file="put.safetensors")

    def trace(
        self,
        batch: np.ndarray,
        mode: str = "inference",
        changes: Sequence[Change] = (),
        designed: np.ndarray | None = None,
    ) -> Trace:
        arrays = {"0": batch} | ({} if designed is None else {"designed": designed})
        write_arrays(arrays, self.folder / "batch.safetensors")
        self.answered(
            "trace", batch="batch.safetensors", mode=mode, into="trace",
            changes=[change.to_json() for change in changes], designed=designed is not None,
        )  # fmt: skip
        return read_trace(self.folder, "trace")

    def again(self, call: Call, change: Change | None = None) -> list[np.ndarray]:
        self.answered("again", call=call.index, change=(change or Change()).to_json(), into="again.safetensors")
        found = read_arrays(self.folder / "again.safetensors")
        return [found[key] for key in sorted(found, key=int)]

    def end(self) -> None:
        """Quickly: TensorFlow takes seconds to leave by itself."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait(60)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    need_backend("tensorflow")
    asked = Asked("keras", tmp_path_factory.mktemp("keras"), KERAS)
    yield asked
    asked.end()


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    need_backend("torch")
    asked = Asked("torch", tmp_path_factory.mktemp("torch"), TORCH)
    yield asked
    asked.end()


SHAPES = {"cnn": (9, 7, 3), "residual": (6, 5, 2), "Net": (3,), "Plain": (4,), "lstm": (3, 3), "gru": (3, 3),
          "attention": (5, 6), "convolutions": (6, 5, 2)}  # fmt: skip


def batch_of(name: str) -> np.ndarray:
    random = np.random.default_rng(3)
    if name == "embedding":
        return random.integers(0, 7, (2, 4)).astype(np.int32)
    return random.normal(size=(5, *SHAPES[name]))


def output_of(trace: Trace) -> np.ndarray:
    return trace.tensors[trace.outputs[0]]


def drawn(units: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of which none is 0 or 1; of both signs but for variances."""
    random = np.random.default_rng(5)
    return {
        name: random.uniform(0.2, 0.8, value.shape) * (1 if "var" in name else random.choice([-1, 1], value.shape))
        for name, value in sorted(units.items())
    }


def call_of(trace: Trace, word: str) -> Call:
    return next(call for call in trace.calls if call.function.rpartition(".")[2] == word)


def started(side: Asked, name: str, dtype: str = "float64") -> Trace:
    """The model, with drawn weights."""
    side.load(name, dtype)
    side.trace(batch_of(name))
    side.put(drawn(side.units()))
    return side.trace(batch_of(name))


@pytest.mark.parametrize("name", [*SHAPES, "embedding"])
def test_a_model_is_seen_as_it_is_and_its_weights_go_in_and_out(side: Asked, name: str) -> None:
    trace = started(side, name)
    units, output = side.units(), output_of(trace)
    assert output.dtype == np.float64
    assert all(value.dtype == np.float64 for value in units.values())
    side.put(units)
    assert np.array_equal(output_of(side.trace(batch_of(name))), output)
    for unit in side.model().units:
        if unit.role in ("mean", "variance", "recurrent") or unit.shape == (0,):
            continue
        side.put({unit.name: units[unit.name] * 1.25})
        assert not np.array_equal(output_of(side.trace(batch_of(name))), output), unit
        side.put({unit.name: units[unit.name]})
    assert np.array_equal(output_of(side.trace(batch_of(name))), output)


@pytest.mark.parametrize("name", [*SHAPES, "embedding"])
def test_gradients_are_central_differences(side: Asked, name: str) -> None:
    started(side, name)
    batch, random = batch_of(name), np.random.default_rng(8)
    designed = random.normal(size=output_of(side.trace(batch)).shape)
    trace, units = side.trace(batch, designed=designed), side.units()
    trained = [unit for unit in side.model().units if unit.is_trained]
    assert {unit.name for unit in trained} == set(trace.by_unit)
    for unit in trained:
        entry = tuple(int(random.integers(size)) for size in unit.shape)
        sums = []
        for step in (1e-5, -1e-5):
            moved = units[unit.name].copy()
            moved[entry] += step
            side.put({unit.name: moved})
            sums.append(float((output_of(side.trace(batch)) * designed).sum()))
        side.put({unit.name: units[unit.name]})
        expected = (sums[0] - sums[1]) / 2e-5
        assert trace.by_unit[unit.name][entry] == pytest.approx(expected, rel=1e-5, abs=1e-8), unit
    assert trace.gradients[trace.outputs[0]] == pytest.approx(designed)


def test_the_gradient_of_a_tensor_within_is_that_by_what_was_added_to_it(side: Asked) -> None:
    trace = started(side, "cnn")
    designed = np.random.default_rng(8).normal(size=output_of(trace).shape)
    trace = side.trace(batch_of("cnn"), designed=designed)
    convolved = call_of(trace, "conv").outputs[0]
    bias = next(unit for unit in trace.by_unit if unit.endswith("conv2d/bias"))
    assert trace.gradients[convolved].sum((0, 1, 2)) == pytest.approx(trace.by_unit[bias])
    assert trace.gradients[convolved].sum((0, 1, 2)) != pytest.approx(trace.by_unit[bias] * 1.0001)


@pytest.mark.parametrize("name", [*SHAPES, "embedding"])
def test_each_call_made_again_gives_what_it_gave(side: Asked, name: str) -> None:
    started(side, name)
    for mode in ("inference", "training"):
        trace = side.trace(batch_of(name), mode)
        assert [call.index for call in trace.calls] == list(range(len(trace.calls)))
        for call in trace.calls[:25]:
            outputs = side.again(call)
            assert len(outputs) == len(call.outputs), call
            for value, number in zip(outputs, call.outputs, strict=True):
                assert np.allclose(value, trace.tensors[number], rtol=1e-13, atol=1e-13), call


def test_a_pass_in_training_drops_nothing_and_leaves_the_model_as_it_was(side: Asked) -> None:
    inference = started(side, "cnn")
    units = side.units()
    first, second = side.trace(batch_of("cnn"), "training"), side.trace(batch_of("cnn"), "training")
    assert np.array_equal(output_of(first), output_of(second))
    assert not np.array_equal(output_of(first), output_of(inference))
    assert all(np.array_equal(value, units[name]) for name, value in side.units().items())
    assert all(not np.array_equal(value, units[name]) for name, value in first.state.items())
    assert len(first.state) == 2
    dropout = call_of(first, "Dropout")
    assert dropout.outputs == dropout.inputs
    norm, momentum = call_of(first, "BatchNormalization"), 0.99
    seen = first.tensors[norm.inputs[0]].mean((0, 1, 2))
    name = norm.units["mean"]
    assert first.state[name] == pytest.approx(momentum * units[name] + (1 - momentum) * seen)


def test_a_call_says_what_it_is_made_of_and_where(side: Asked) -> None:
    trace = started(side, "cnn")
    outer = [call.kind for call in trace.calls if call.parent < 0]
    kinds = ["conv", "batch_norm", "leaky_relu", "max_pool2d", "dropout", "flatten", "dense"]
    assert outer == kinds
    norm = call_of(trace, "BatchNormalization")
    assert norm.arguments["epsilon"] == 1e-3
    assert norm.arguments["momentum"] == 0.99
    assert "layers.BatchNormalization()" in norm.where.text
    assert norm.path == "sequential/batch_normalization"
    assert set(norm.units) == {"scale", "shift", "mean", "variance"}
    conv = call_of(trace, "Conv2D")
    inside = [call.kind for call in trace.calls if call.parent == conv.index]
    assert inside == ["conv", "add", "relu"]
    assert conv.arguments["padding"] == "same"
    assert call_of(trace, "LeakyReLU").arguments["negative_slope"] == 0.25
    layers = {layer.path: layer for layer in side.model().layers}
    assert layers["sequential/conv2d"].arguments["strides"] == 2
    assert layers["sequential/conv2d"].arguments["use_bias"] is True
    assert side.model().input_shape == (9, 7, 3)


def test_functions_and_operators_of_the_person_are_calls_at_their_lines(side: Asked) -> None:
    trace = started(side, "Net")
    softmax, concat = call_of(trace, "softmax"), call_of(trace, "concat")
    assert (softmax.kind, concat.kind) == ("softmax", "cat")
    assert "tf.nn.softmax" in softmax.where.text
    assert softmax.parent == -1
    assert [call.kind for call in trace.calls if call.path == "net/own"] == ["matmul", "add", "leaky_relu"]
    matmul = call_of(trace, "matmul")
    assert matmul.units == {"kernel": "net/own/w"}
    roles = {unit.name: unit.role for unit in side.model().units}
    assert roles["net/own/b"] == "bias"
    assert roles["net/own/w"] == "kernel"


@pytest.mark.parametrize(
    ("name", "word", "arguments"),
    [
        ("cnn", "BatchNormalization", {"epsilon": 0.1}),
        ("cnn", "LeakyReLU", {"negative_slope": 0.01}),
        ("cnn", "Conv2D", {"activation": "tanh"}),
        ("cnn", "MaxPooling2D", {"strides": [1, 1]}),
        ("residual", "gelu", {"approximate": False}),
        ("Net", "leaky_relu", {"alpha": 0.3}),
        ("lstm", "LSTM", {"recurrent_activation": "hard_sigmoid"}),
        ("gru", "GRU", {"reset_after": False}),
        ("Net", "__mul__", {"y": 3.0}),
    ],
)
def test_another_argument_gives_other_numbers(side: Asked, name: str, word: str, arguments: dict[str, Any]) -> None:
    trace = started(side, name)
    call = call_of(trace, word)
    (value,) = side.again(call, Change(arguments=arguments))
    before = trace.tensors[call.outputs[0]]
    assert value.shape != before.shape or not np.allclose(value, before, rtol=1e-6)
    if value.shape == before.shape:
        changed = side.trace(batch_of(name), changes=[Change(call=call.index, arguments=arguments)])
        assert np.allclose(changed.tensors[changed.calls[call.index].outputs[0]], value, rtol=1e-13)
        assert not np.allclose(output_of(changed), output_of(trace), rtol=1e-6)
        assert [call.index for call in changed.calls] == list(range(len(changed.calls)))
        assert [each.function for each in changed.calls if each.parent < 0] == [
            each.function for each in trace.calls if each.parent < 0
        ]
    assert np.array_equal(output_of(side.trace(batch_of(name))), output_of(trace))


def test_a_changed_layer_has_its_gradients_and_statistics_under_the_models_names(side: Asked) -> None:
    trace = started(side, "cnn")
    designed = np.random.default_rng(8).normal(size=output_of(trace).shape)
    same = [Change(path="sequential/batch_normalization", arguments={"epsilon": 1e-3})]
    other = [Change(path="sequential/batch_normalization", arguments={"epsilon": 0.5, "momentum": 0.5})]
    plain = side.trace(batch_of("cnn"), "training", designed=designed)
    changed = side.trace(batch_of("cnn"), "training", same, designed)
    for name, value in plain.by_unit.items():
        assert np.allclose(changed.by_unit[name], value, rtol=1e-12), name
    assert all(np.allclose(changed.state[name], value) for name, value in plain.state.items())
    changed = side.trace(batch_of("cnn"), "training", other, designed)
    norm = call_of(trace, "BatchNormalization")
    assert not np.allclose(changed.by_unit[norm.units["scale"]], plain.by_unit[norm.units["scale"]])
    assert not np.allclose(changed.state[norm.units["mean"]], plain.state[norm.units["mean"]])


def test_pads_an_order_and_another_function(side: Asked) -> None:
    trace = started(side, "cnn")
    conv, pool, flat = call_of(trace, "Conv2D"), call_of(trace, "MaxPooling2D"), call_of(trace, "Flatten")
    (value,) = side.again(conv, Change(pads=((1, 1), (1, 1))))
    assert np.allclose(value, trace.tensors[conv.outputs[0]], rtol=1e-13)
    (value,) = side.again(conv, Change(pads=((0, 2), (0, 2))))
    assert not np.allclose(value, trace.tensors[conv.outputs[0]])
    inner = call_of(trace, "conv")
    (value,) = side.again(inner, Change(pads=((1, 1), (1, 1))))
    assert np.allclose(value, trace.tensors[inner.outputs[0]], rtol=1e-13)
    before = trace.tensors[pool.inputs[0]]
    (value,) = side.again(pool, Change(pads=((1, 0), (1, 0))))
    assert np.array_equal(value[:, 0, 0], before[:, 0, 0])
    order = list(np.random.default_rng(1).permutation(trace.tensors[flat.outputs[0]].shape[1]))
    (value,) = side.again(flat, Change(order=tuple(map(int, order))))
    assert np.array_equal(value, trace.tensors[flat.outputs[0]][:, order])
    (value,) = side.again(call_of(trace, "LeakyReLU"), Change(function="keras.ops.relu"))
    assert np.array_equal(value, np.maximum(trace.tensors[call_of(trace, "LeakyReLU").inputs[0]], 0))


IN, OUT = "attention.in_proj", "attention.out_proj"
# ours → (theirs, the name of each unit there → how that of ours ends)
PAIRS = {
    "cnn": ("Cnn", {
        "conv.weight": "conv2d/kernel", "conv.bias": "conv2d/bias", "norm.weight": "gamma", "norm.bias": "beta",
        "norm.running_mean": "moving_mean", "norm.running_var": "moving_variance",
        "head.weight": "dense/kernel", "head.bias": "dense/bias",
    }),
    "convolutions": ("Convolutions", {
        "depthwise.weight": "depthwise_conv2d/kernel", "depthwise.bias": "depthwise_conv2d/bias",
        "up.weight": "transpose/kernel", "up.bias": "transpose/bias",
    }),
    "gru": ("gru", {
        "cell.weight_ih_l0": "cell/kernel", "cell.weight_hh_l0": "recurrent_kernel",
        "cell.bias_ih_l0": "bias/input", "cell.bias_hh_l0": "bias/recurrent",
    }),
    "lstm": ("lstm", {
        "cell.weight_ih_l0": "cell/kernel", "cell.weight_hh_l0": "recurrent_kernel", "cell.bias_ih_l0": "bias",
    }),
    "attention": ("Attention", {
        f"{IN}_weight/q": "query/kernel", f"{IN}_weight/k": "key/kernel", f"{IN}_weight/v": "value/kernel",
        f"{IN}_bias/q": "query/bias", f"{IN}_bias/k": "key/bias", f"{IN}_bias/v": "value/bias",
        f"{OUT}.weight": "output/kernel", f"{OUT}.bias": "output/bias",
    }),
    "embedding": ("embedding", {"0.weight": "embeddings", "1.weight": "dense/kernel", "1.bias": "dense/bias"}),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_the_canonical_layout_is_that_of_pytorchs_side(side: Asked, twin: Asked, name: str) -> None:
    torch_name, pairs = PAIRS[name]
    batch = batch_of(name)
    theirs = np.moveaxis(batch, -1, 1) if batch.ndim == 4 else batch.astype(np.int64) if name == "embedding" else batch
    side.load(name)
    side.trace(batch)
    ours = side.units()
    place = {key: next(unit for unit in ours if unit.endswith(end)) for key, end in pairs.items()}
    assert set(place.values()) == set(ours)
    twin.load(torch_name)
    twin.trace(theirs)
    values = drawn(twin.units())
    if name == "lstm":
        values["cell.bias_hh_l0"] *= 0  # one bias there
    twin.put(values)
    roles = {unit.name: unit.role for unit in side.model().units}
    assert {key: roles[unit] for key, unit in place.items()} == {
        unit.name: unit.role for unit in twin.model().units if unit.name in place
    }
    side.put({unit: values[key] for key, unit in place.items()})

    def is_equal() -> bool:
        expected, found = output_of(twin.trace(theirs)), output_of(side.trace(batch))
        expected = np.moveaxis(expected, 1, -1) if expected.ndim == 4 else expected
        return expected.shape == found.shape and np.allclose(found, expected, rtol=1e-12, atol=1e-12)

    assert is_equal()
    kernel = next(unit for key, unit in place.items() if "weight" in key)
    side.put({kernel: np.roll(side.units()[kernel], 1, axis=-1)})
    assert not is_equal()


def test_float32_is_float32_and_a_second_load_begins_anew(side: Asked) -> None:
    trace = started(side, "cnn", "float32")
    assert {value.dtype for value in trace.tensors.values()} == {np.dtype(np.float32)}
    paths = [unit.name for unit in side.model().units]
    assert output_of(started(side, "cnn")).dtype == np.float64
    assert [unit.name for unit in side.model().units] == paths


def test_what_says_float32_is_float64_in_a_model_of_float64(side: Asked) -> None:
    side.load("Narrow")
    random = np.random.default_rng(4)
    batch = random.normal(size=(2, 3, 3, 3))
    trace = side.trace(batch, designed=random.normal(size=(2, 2)))
    assert {value.dtype for value in trace.tensors.values() if value.dtype.kind == "f"} == {np.dtype(np.float64)}
    tenth = call_of(trace, "__mul__")
    assert np.array_equal(trace.tensors[tenth.outputs[0]], trace.tensors[tenth.tensors["x"][0]] * 0.1)
    assert trace.gradients[trace.inputs[0]].any()
    narrow = {call.kind for call in trace.calls if call.arguments.get("computed_in") == "float32" and call.parent < 0}
    assert narrow == {"interpolate", "max_pool3d"}
    side.load("stated")
    assert {value.dtype for value in side.trace(batch_of("Plain")).tensors.values()} == {np.dtype(np.float64)}
    side.load("Narrow", "float32")
    assert {value.dtype for value in side.trace(batch).tensors.values()} == {np.dtype(np.float32)}


def test_a_signature_has_every_argument_that_is_no_tensor(side: Asked) -> None:
    trace = started(side, "Net")
    leaky, head = call_of(trace, "leaky_relu"), call_of(trace, "Dense")
    assert side.answered("signature", call=leaky.index)["arguments"] == {"alpha": 0.1}
    found = side.answered("signature", call=head.index)["arguments"]
    assert found["activation"] == "gelu"
    assert {"units", "use_bias"} < set(found)
    assert not {"inputs", "name", "dtype", "kernel_initializer"} & set(found)


def test_what_is_wrong_with_a_file_is_said(side: Asked) -> None:
    asked = {
        name: side.ask("load", file=str(side.file), name=name, dtype="float64") for name in ("cn", "number", "needs")
    }
    assert all(
        answer["event"] == "failure" and answer["code"] in ("LS-205", "LS-209", "LS-403") for answer in asked.values()
    ), asked
    assert "cnn" in str(asked["cn"]["hint"])
    assert "width" in str(asked["needs"]["error"])
    side.load("Raising")
    write_arrays({"0": batch_of("Net")}, side.folder / "batch.safetensors")
    answer = side.ask("trace", batch="batch.safetensors", mode="inference", into="trace", changes=[], designed=False)
    assert answer["event"] == "failure"
    assert answer["where"]["text"] == "return tf.reshape(x, (7, 7))"
    side.load("Net")
    assert side.trace(batch_of("Net")).calls
