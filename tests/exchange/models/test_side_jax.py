"""JAX's side: what it notes of a pass is what the model computes, and a call made again is the same until changed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.exchange.models.records import Change, Trace, read_arrays, read_trace, write_arrays
from lockstep.exchange.models.side import UserError
from support.needs import need_backend

NETS = """
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx


class Cnn(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 5, (3, 2), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.up = nnx.ConvTranspose(5, 2, (3, 3), strides=2, padding="VALID", rngs=rngs)
        self.out = nnx.Linear(2, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = self.drop(nnx.max_pool(x, (2, 2), (2, 2), padding="SAME"))
        return nnx.gelu(self.out(self.up(x)[:, 2, 2]))


class LinenCnn(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(5, (3, 2), strides=2)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(x))
        x = nn.Dropout(0.5, deterministic=not train)(nn.max_pool(x, (2, 2), (2, 2), padding="SAME"))
        x = nn.ConvTranspose(2, (3, 3), strides=(2, 2), padding="VALID")(x)
        return nn.gelu(nn.Dense(4)(x[:, 2, 2]))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(6, 7, rngs=rngs)
        self.outer = nnx.Linear(7, 6, rngs=rngs)

    def __call__(self, x):
        return x + 0.5 * self.outer(jnp.sin(self.inner(x)))


class Residual(nnx.Module):
    def __init__(self, *, rngs):
        self.blocks = nnx.List([Block(rngs), Block(rngs)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return jax.lax.cond(x.sum() > 1e6, lambda x: x, lambda x: nnx.silu(x), x)


class Lstm(nnx.Module):
    def __init__(self, rngs):
        self.table = nnx.Embed(11, 6, rngs=rngs)
        self.rnn = nnx.RNN(nnx.LSTMCell(6, 5, rngs=rngs))
        self.gru = nnx.RNN(nnx.GRUCell(5, 4, rngs=rngs))

    def __call__(self, x):
        return self.gru(self.rnn(self.table(x)))[:, -1]


class LinenLstm(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Embed(11, 6)(x)
        x = nn.RNN(nn.OptimizedLSTMCell(5))(x)
        return nn.RNN(nn.GRUCell(4))(x)[:, -1]


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(3, 6, decode=False, rngs=rngs)

    def __call__(self, x):
        return x + self.attention(self.norm(x))


def parameters():
    one, two, three = jax.random.split(jax.random.PRNGKey(0), 3)
    return {"table": jax.random.normal(one, (11, 6)), "b": jnp.full(5, 0.1),
            "w": [jax.random.normal(two, (6, 5)), jax.random.normal(three, (3, 5))]}


@jax.jit
def one(parameters, x):
    h = jax.nn.softplus(parameters["table"][x] @ parameters["w"][0] + parameters["b"])
    return jax.nn.softmax(parameters["w"][1] @ h)


def forward(parameters, x):
    return jax.vmap(one, (None, 0))(parameters, x)


def cast(parameters, x):
    for _turn in range(2):
        x = jax.lax.fori_loop(0, x.shape[0] - 1, lambda turn, x: jnp.tanh(x) + turn, x)
    return x.astype(jnp.float32) * 2


def needs(size):
    return Cnn(nnx.Rngs(size))


def nothing():
    return 3
"""

TORCH = """
import torch
from torch import nn


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, (3, 2), stride=2)
        self.norm = nn.BatchNorm2d(5)
        self.up = nn.ConvTranspose2d(5, 2, 3, stride=2)
        self.out = nn.Linear(2, 4)

    def forward(self, x):
        x = nn.functional.pad(x.permute(0, 3, 1, 2), (0, 0, 1, 1))
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2, ceil_mode=True)
        return nn.functional.gelu(self.out(self.up(x)[:, :, 2, 2]), approximate="tanh")


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.rnn = nn.LSTM(6, 5, batch_first=True)
        self.gru = nn.GRU(5, 4, batch_first=True)

    def forward(self, x):
        return self.gru(self.rnn(self.table(x))[0])[0][:, -1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6, eps=1e-6)
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)

    def forward(self, x):
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]
"""

DRAWN = np.random.default_rng(0)
BATCHES = {
    "Cnn": DRAWN.normal(size=(3, 11, 8, 3)), "LinenCnn": DRAWN.normal(size=(3, 11, 8, 3)),
    "Residual": DRAWN.normal(size=(3, 6)), "Lstm": DRAWN.integers(0, 11, (3, 4)),
    "LinenLstm": DRAWN.integers(0, 11, (3, 4)), "Attention": DRAWN.normal(size=(2, 5, 6)),
    "forward": DRAWN.integers(0, 11, (4,)),
}  # fmt: skip
NAMES = list(BATCHES)


@dataclasses.dataclass
class Traced:
    """A model with drawn weights, and one pass with gradients."""

    side: Any
    batch: np.ndarray
    designed: np.ndarray
    trace: Trace

    def again(self, changes: Any = (), mode: str = "training", batch: Any = None) -> Trace:
        return self.side.trace([self.batch if batch is None else batch], mode, list(changes), None)

    def loss(self, **rest: Any) -> float:
        trace = self.again(**rest)
        return float((trace.tensors[trace.outputs[0]] * self.designed).sum())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    need_backend("jax")
    import jax

    before = getattr(jax.config, "jax_enable_x64")  # noqa: B009  # mypy knows no option by its name
    path = tmp_path_factory.mktemp("nets")
    (path / "flax_nets.py").write_text(NETS)
    (path / "torch_nets.py").write_text(TORCH)
    yield path
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="module")
def traced(folder: Path) -> Any:
    from lockstep.exchange.models.jax import Jax

    found: dict[str, Traced] = {}

    def of(name: str) -> Traced:
        if name not in found:
            side, drawn = Jax(), np.random.default_rng(1)
            side.load(folder / "flax_nets.py", name, "float64")
            output = side.trace([BATCHES[name]], "training", [], None)
            designed = drawn.normal(size=output.tensors[output.outputs[0]].shape)
            side.put({key: drawn.uniform(0.3, 0.9, value.shape) * drawn.choice([-1, 1], value.shape)
                      if side.holders[key].role != "variance" else drawn.uniform(0.5, 2, value.shape)
                      for key, value in side.units().items()})  # fmt: skip
            trace = side.trace([BATCHES[name]], "training", [], designed)
            found[name] = Traced(side, BATCHES[name], designed, trace)
        return found[name]

    return of


def _as_taken(side: Any, batch: np.ndarray) -> np.ndarray:
    """Numbers in the side's dtype; tokens stay whole."""
    return np.asarray(batch, side.watch.dtype if np.issubdtype(batch.dtype, np.floating) else None)


def own_output(side: Any, batch: np.ndarray) -> np.ndarray:
    """What the model gives when nobody looks, in training with its masks off."""
    with side.watch.names():  # cells are made to carry float64
        output, _after = side.model.call(side.arrays, [_as_taken(side, batch)], "training")
    return np.asarray(output)


# ------------------------------------------------------------------------------------------------------------ a pass


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_is_the_models_own(traced: Any, name: str) -> None:
    found = traced(name)
    output = found.trace.tensors[found.trace.outputs[0]]
    assert output.dtype == np.float64
    if name not in ("Cnn", "LinenCnn"):  # which would drop values
        # Flax's attention computes in float32 inside, which the side does not
        np.testing.assert_allclose(
            output, own_output(found.side, found.batch), rtol=0, atol=1e-6 if name == "Attention" else 1e-13
        )
    own = [call for call in found.trace.calls if call.function.startswith("flax.") or call.where.file]
    assert {Path(call.where.file).name for call in own} == {"flax_nets.py"}
    assert not any("computed_in" in call.arguments for call in found.trace.calls)


def test_dropout_returns_its_input(traced: Any) -> None:
    for name in ("Cnn", "LinenCnn"):
        (call,) = (call for call in traced(name).trace.calls if call.kind == "dropout")
        assert call.inputs == call.outputs
        assert call.arguments["rate"] == 0.5


def test_a_layer_has_its_equations_as_parts(traced: Any) -> None:
    calls = traced("Cnn").trace.calls
    (layer,) = (call for call in calls if call.kind == "batch_norm")
    assert layer.arguments | {"epsilon": 1e-05, "momentum": 0.8} == layer.arguments
    assert layer.units == {"scale": "norm.scale", "shift": "norm.bias", "mean": "norm.mean", "variance": "norm.var"}
    parts = [call for call in calls if call.parent == layer.index]
    assert {"rsqrt", "add"} <= {part.kind for part in parts}
    assert parts[-1].outputs == layer.outputs
    assert layer.where.text == "x = nnx.relu(self.norm(self.conv(x)))"
    (pool,) = (call for call in calls if call.function == "flax.nnx.max_pool" or call.function == "flax.linen.max_pool")
    assert (pool.kind, pool.arguments["padding"], pool.arguments["window_shape"]) == ("max_pool2d", "SAME", [2, 2])
    (gelu,) = (call for call in calls if call.kind == "gelu")
    assert gelu.arguments == {"approximate": True}


def test_where_layers_were_made_is_known(traced: Any) -> None:
    for name, path, text in (
        ("Cnn", "norm", "nnx.BatchNorm(5, momentum=0.8"),
        ("LinenCnn", "BatchNorm_0", "nn.BatchNorm("),
    ):
        (layer,) = (layer for layer in traced(name).side.description().layers if layer.path == path)
        assert text in layer.where.text
        assert layer.arguments | {"momentum": 0.8, "epsilon": 1e-05} == layer.arguments


def test_statistics_are_those_after_the_pass_and_the_model_stays(traced: Any) -> None:
    for name, mean in (("Cnn", "norm.mean"), ("LinenCnn", "BatchNorm_0.mean")):
        found = traced(name)
        (layer,) = (call for call in found.trace.calls if call.kind == "batch_norm")
        before, taken = found.side.units()[mean], found.trace.tensors[layer.inputs[0]]
        np.testing.assert_allclose(found.trace.state[mean], 0.8 * before + 0.2 * taken.mean((0, 1, 2)), rtol=1e-12)
        assert np.array_equal(found.side.units()[mean], before)
        assert np.array_equal(found.again(mode="inference").state[mean], before)


# ------------------------------------------------------------------------------------------------------------- units

UNSEEN = ("attention.key.bias", "conv.bias", "Conv_0.bias")
LAYOUTS = {
    "Cnn": {"conv.kernel": ("kernel", (3, 2, 3, 5)), "up.kernel": ("kernel", (3, 3, 5, 2)),
            "norm.var": ("variance", (5,))},
    "Lstm": {"table.embedding": ("table", (11, 6)), "rnn.cell.kernel": ("kernel", (6, 4, 5)),
             "rnn.cell.recurrent": ("recurrent", (5, 4, 5)), "rnn.cell.recurrent_bias": ("bias", (4, 5)),
             "gru.cell.kernel": ("kernel", (5, 3, 4)), "gru.cell.bias": ("bias", (3, 4))},
    "LinenLstm": {"GRUCell_0.recurrent": ("recurrent", (4, 3, 4)), "GRUCell_0.recurrent_bias": ("bias", (1, 4))},
    "Attention": {"attention.query.kernel": ("kernel", (6, 6)), "attention.query.bias": ("bias", (6,))},
    "forward": {"w.0": ("kernel", (6, 5)), "w.1": ("kernel", (5, 3)), "b": ("bias", (5,)), "table": ("table", (11, 6))},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_units_have_their_canonical_layout(traced: Any, name: str) -> None:
    found = {unit.name: (unit.role, unit.shape) for unit in traced(name).side.description().units}
    assert {key: found[key] for key in LAYOUTS[name]} == LAYOUTS[name]
    assert "raw" not in {role for role, _shape in found.values()}


@pytest.mark.parametrize("name", NAMES)
def test_units_put_back_change_nothing_and_others_do(traced: Any, name: str) -> None:
    found = traced(name)
    units, expected = found.side.units(), found.loss()
    found.side.put(units)
    assert found.loss() == expected
    for key, value in units.items():
        # A pass in training does not use statistics, nor what is added before they are taken, or to all of a softmax.
        if found.side.holders[key].role in ("mean", "variance") or key in UNSEEN:
            continue
        found.side.put({key: value + np.linspace(0.1, 0.5, value.size).reshape(value.shape)})
        assert abs(found.loss() - expected) > 1e-6, key
        found.side.put({key: value})
    assert found.loss() == expected


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_units_match_central_differences(traced: Any, name: str) -> None:
    found, drawn, step = traced(name), np.random.default_rng(2), 1e-6
    assert found.trace.by_unit.keys() == {unit.name for unit in found.side.description().units if unit.is_trained}
    for key, gradient in found.trace.by_unit.items():
        value, place = found.side.units()[key], tuple(drawn.integers(size) for size in gradient.shape)
        if key in ("table", "table.embedding", "Embed_0.embedding"):
            place = (int(found.batch.flat[0]), 1)
        losses = []
        for sign in (1, -1):
            moved = value.copy()
            moved[place] += sign * step
            found.side.put({key: moved})
            losses.append(found.loss())
        found.side.put({key: value})
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=2e-5, abs=1e-7), key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_tensors_match_central_differences(traced: Any, name: str) -> None:
    """Every output of a call is moved by putting another result in its place."""
    found, drawn, step = traced(name), np.random.default_rng(3), 1e-6
    calls = [call for call in found.trace.calls if len(call.outputs) == 1 and call.outputs[0] in found.trace.gradients]
    assert calls
    for index in drawn.choice(len(calls), min(3, len(calls)), replace=False):
        call = calls[index]
        value, gradient = found.trace.tensors[call.outputs[0]], found.trace.gradients[call.outputs[0]]
        place, losses = tuple(drawn.integers(size) for size in value.shape), []
        for sign in (1, -1):
            moved = value.copy()
            moved[place] += sign * step
            found.side.results = {"moved": moved}
            losses.append(found.loss(changes=[Change(call=call.index, result="moved")]))
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=2e-5, abs=1e-7), call


# ---------------------------------------------------------------------------------------------------- the laboratory


@pytest.mark.parametrize("name", NAMES)
def test_every_call_made_again_gives_what_it_gave(traced: Any, name: str) -> None:
    found = traced(name)
    trace = found.again()  # the last one is made again
    assert [call.function for call in trace.calls] == [call.function for call in found.trace.calls]
    for call in trace.calls:
        given = found.side.again(call.index, Change())
        for number, value in zip(call.outputs, given, strict=False):
            np.testing.assert_allclose(value, trace.tensors[number], rtol=1e-11, atol=1e-13, err_msg=str(call))


@pytest.mark.parametrize("name", ["Cnn", "LinenCnn"])
def test_a_layer_made_again_with_another_epsilon_gives_others(traced: Any, name: str) -> None:
    found = traced(name)
    found.again()
    (layer,) = (call for call in found.trace.calls if call.kind == "batch_norm")
    x, units = found.trace.tensors[layer.inputs[0]], found.side.units()
    scale, shift = (units[layer.units[role]] for role in ("scale", "shift"))
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 0.25) * scale + shift
    given = found.side.again(layer.index, Change(arguments={"epsilon": 0.25}))
    np.testing.assert_allclose(given[0], expected, rtol=1e-10, atol=1e-12)
    assert found.side.signature(layer.index)["epsilon"] == 1e-05
    # In a pass too, by its place and by its layer, and with its statistics.
    for change in (
        Change(call=layer.index, arguments={"epsilon": 0.25}),
        Change(path=layer.path, arguments={"epsilon": 0.25}),
    ):
        trace = found.again(changes=[change])
        np.testing.assert_allclose(trace.tensors[trace.calls[layer.index].outputs[0]], expected, rtol=1e-10, atol=1e-12)
        assert [call.function for call in trace.calls] == [call.function for call in found.trace.calls]
        assert not np.allclose(trace.tensors[trace.outputs[0]], found.trace.tensors[found.trace.outputs[0]])
    faster = found.again(changes=[Change(path=layer.path, arguments={"momentum": 0.5})])
    mean = layer.units["mean"]
    np.testing.assert_allclose(faster.state[mean], 0.5 * units[mean] + 0.5 * x.mean((0, 1, 2)), rtol=1e-12)


def test_functions_are_made_again_with_arguments_others_pads_and_an_order(traced: Any) -> None:
    found = traced("Cnn")
    found.again()
    by_kind = {call.kind: call for call in found.trace.calls if call.parent < 0}
    gelu, pool, dense = by_kind["gelu"], by_kind["max_pool2d"], by_kind["dense"]
    x = found.trace.tensors[gelu.inputs[0]]
    exact = found.side.again(gelu.index, Change(arguments={"approximate": False}))[0]
    assert 1e-6 < np.abs(exact - found.trace.tensors[gelu.outputs[0]]).max() < 1e-2
    assert np.allclose(found.side.again(gelu.index, Change(function="jax.nn.relu"))[0], np.maximum(x, 0))
    before = found.trace.tensors[pool.inputs[0]]
    padded = found.side.again(pool.index, Change(pads=((1, 0), (0, 0))))[0]
    np.testing.assert_allclose(padded[:, 0], before[:, 0].reshape(3, -1, 2, 5).max(2), rtol=1e-12)
    turned = found.side.again(dense.index, Change(order=(1, 0)))[0]
    kernel, bias = (found.side.units()[dense.units[role]] for role in ("kernel", "bias"))
    np.testing.assert_allclose(turned, found.trace.tensors[dense.inputs[0]][:, ::-1] @ kernel + bias, rtol=1e-12)
    (conv,) = (
        call for call in found.trace.calls if call.function == "jax.lax.conv_general_dilated" and call.path == "conv"
    )
    assert found.side.again(conv.index, Change(arguments={"padding": [[0, 0], [0, 0]]}))[0].shape == (3, 5, 4, 5)
    with pytest.raises(UserError, match="no argument epsilom") as caught:
        found.side.again(by_kind["batch_norm"].index, Change(arguments={"epsilom": 1}))
    assert caught.value.hint == 'did you mean "epsilon"?'


# ---------------------------------------------------------------------------------------------- float32, and what fails


def test_float32_is_float32(folder: Path) -> None:
    from lockstep.exchange.models.jax import Jax

    side = Jax()
    for dtype in ("float32", "float64"):
        side.load(folder / "flax_nets.py", "Attention", dtype)
        trace = side.trace([BATCHES["Attention"]], "inference", [], None)
        assert {str(value.dtype) for value in trace.tensors.values() if value.dtype.kind == "f"} == {dtype}


def test_what_the_person_casts_to_float32_is_said(folder: Path) -> None:
    from lockstep.exchange.models.jax import Jax

    side = Jax()
    side.load(folder / "flax_nets.py", "cast", "float64")
    trace = side.trace([BATCHES["Residual"]], "inference", [], np.ones((3, 6)))
    told = [call.kind for call in trace.calls if call.arguments.get("computed_in") == "float32"]
    assert told == ["convert_element_type", "mul"]
    assert [call.kind for call in trace.calls].count("tanh") >= 4, "a loop is taken turn by turn"
    assert set(trace.inputs) <= trace.gradients.keys()


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("needs", "needs needs size", "without arguments"),
        ("nothing", "nothing gives int, which is no module of Flax", "forward(parameters, x)"),
        ("Cmn", '"Cmn" is not in', 'did you mean "Cnn"?'),
    ],
)
def test_what_is_no_model_is_said(folder: Path, name: str, message: str, hint: str) -> None:
    from lockstep.exchange.models.jax import Jax

    with pytest.raises(UserError) as caught:
        Jax().load(folder / "flax_nets.py", name, "float64")
    assert message in caught.value.message
    assert hint in caught.value.hint


# ------------------------------------------------------------------------------------------------------ beside PyTorch


class Asked:
    """A side in a process of its own."""

    def __init__(self, framework: str, folder: Path) -> None:
        self.folder = folder / framework
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "lockstep.exchange.models.server", framework, str(self.folder), "0"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def trace(self, batch: np.ndarray, mode: str, changes: Any = ()) -> Trace:
        write_arrays({"0": batch}, self.folder / "batch.safetensors")
        answer = self(
            do="trace", batch="batch.safetensors", mode=mode, into="trace", changes=list(changes), designed=False
        )
        assert answer == {"event": "answer"}, answer
        return read_trace(self.folder, "trace")

    def units(self) -> dict[str, np.ndarray]:
        self(do="units", into="units.safetensors")
        return read_arrays(self.folder / "units.safetensors")

    def put(self, values: dict[str, np.ndarray]) -> None:
        write_arrays(values, self.folder / "values.safetensors")
        assert self(do="put", file="values.safetensors") == {"event": "answer"}


@pytest.fixture(scope="module")
def both(folder: Path) -> Iterator[dict[str, Asked]]:
    need_backend("torch")
    found = {name: Asked(name, folder) for name in ("torch", "jax")}
    yield found
    for asked in found.values():
        asked.process.communicate()


def zeros_beside(value: np.ndarray) -> np.ndarray:
    """One gate's bias of a GRU as all three."""
    return np.concatenate([np.zeros((2, value.shape[1])), value])


CELLS = {
    "rnn.weight_ih_l0": "rnn.cell.kernel", "rnn.weight_hh_l0": "rnn.cell.recurrent",
    "rnn.bias_hh_l0": "rnn.cell.recurrent_bias",
    "gru.weight_ih_l0": "gru.cell.kernel", "gru.weight_hh_l0": "gru.cell.recurrent", "gru.bias_ih_l0": "gru.cell.bias",
    "table.weight": "table.embedding",
}  # fmt: skip
LINEN = {"rnn.cell": "OptimizedLSTMCell_0", "gru.cell": "GRUCell_0", "table": "Embed_0"}
ATTENTION = {
    **{f"attention.in_proj_weight/{name[0]}": f"attention.{name}.kernel" for name in ("query", "key", "value")},
    **{f"attention.in_proj_bias/{name[0]}": f"attention.{name}.bias" for name in ("query", "key", "value")},
    "attention.out_proj.weight": "attention.out.kernel", "attention.out_proj.bias": "attention.out.bias",
    "norm.weight": "norm.scale", "norm.bias": "norm.bias",
}  # fmt: skip
CNN = {
    **{f"{name}.weight": f"{name}.kernel" for name in ("conv", "up", "out")},
    **{f"{name}.bias": f"{name}.bias" for name in ("conv", "up", "out", "norm")},
    "norm.weight": "norm.scale", "norm.running_mean": "norm.mean", "norm.running_var": "norm.var",
}  # fmt: skip


def linen_name(name: str) -> str:
    return next((name.replace(old, new) for old, new in LINEN.items() if name.startswith(old)), name)


@pytest.mark.parametrize(
    ("name", "twin", "pairs", "bias"),
    [
        ("Cnn", "Cnn", CNN, ""),
        ("Lstm", "Lstm", CELLS, ""),
        ("Attention", "Attention", ATTENTION, ""),
        ("LinenLstm", "Lstm", {key: linen_name(value) for key, value in CELLS.items()}, "GRUCell_0.recurrent_bias"),
    ],
)
def test_units_in_their_layout_mean_the_same_to_pytorch(
    both: dict[str, Asked], folder: Path, name: str, twin: str, pairs: dict[str, str], bias: str
) -> None:
    one, other = both["jax"], both["torch"]
    for asked, file, model in ((one, "flax_nets.py", name), (other, "torch_nets.py", twin)):
        answer = asked(do="load", file=str(folder / file), name=model, dtype="float64")
        assert answer["event"] == "answer", answer
        asked.trace(BATCHES[name], "inference")
    drawn = np.random.default_rng(4)
    units = {key: drawn.uniform(0.2, 0.8, value.shape) for key, value in one.units().items()}
    one.put(units)
    given = {key: units[value] for key, value in pairs.items()}
    if bias:
        given["gru.bias_hh_l0"] = zeros_beside(units[bias])
    other.put({key: np.zeros_like(value) for key, value in other.units().items()} | given)
    here, there = one.trace(BATCHES[name], "inference"), other.trace(BATCHES[name], "inference")
    expected = there.tensors[there.outputs[0]]
    np.testing.assert_allclose(here.tensors[here.outputs[0]], expected, rtol=0, atol=1e-12)
    # The twin: any kernel that is turned around in its first axis is told.
    for key in [key for key, value in units.items() if value.ndim > 1 and len(value) > 1]:
        one.put({key: np.flip(units[key], 0)})
        flipped = one.trace(BATCHES[name], "inference")
        assert np.abs(flipped.tensors[flipped.outputs[0]] - expected).max() > 1e-6, key
        one.put({key: units[key]})


def test_a_server_answers_in_lines_of_json(both: dict[str, Asked], folder: Path) -> None:
    asked = both["jax"]
    asked(do="load", file=str(folder / "flax_nets.py"), name="Residual", dtype="float64")
    trace = asked.trace(BATCHES["Residual"], "inference")
    (silu,) = (call for call in trace.calls if call.kind == "silu" and call.parent < 0)
    answer = asked(do="signature", call=0)
    assert answer["arguments"]["in_features"] == 6
    asked(do="again", call=silu.index, change={"function": "jax.nn.relu"}, into="again.safetensors")
    given = read_arrays(asked.folder / "again.safetensors")["0"]
    assert np.allclose(given, np.maximum(trace.tensors[silu.inputs[0]], 0))
    changed = asked.trace(BATCHES["Residual"], "inference", [{"call": silu.index, "function": "jax.nn.relu"}])
    assert np.allclose(changed.tensors[changed.outputs[0]], given)
    write_arrays({"0": BATCHES["Residual"], "mine": given}, asked.folder / "batch.safetensors")
    put = {"call": silu.index, "result": "mine"}
    asked(do="trace", batch="batch.safetensors", mode="inference", into="put", changes=[put], designed=False)
    there = read_trace(asked.folder, "put")
    assert np.array_equal(there.tensors[there.outputs[0]], given)
    failed = asked(do="load", file=str(folder / "flax_nets.py"), name="Cmn", dtype="float64")
    assert (failed["event"], failed["code"]) == ("failure", "LS-209")
