"""How people's models are trained, as their own frameworks do it, and between frameworks: found, named, put right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.exchange.models import training
from lockstep.exchange.models.records import Where
from lockstep.exchange.models.side import UserError
from lockstep.proof.pair import difference
from lockstep.proof.pair.training import Asked
from support.needs import need_backend

TORCH = """\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8, eps=1e-3)
        self.drop = nn.Dropout(0.5)
        self.b = nn.Linear(8, 5)

    def forward(self, x):
        return self.b(self.drop(torch.relu(self.norm(self.a(x)))))


def loss(outputs, targets):
    return F.cross_entropy(outputs, targets)


def optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.02, momentum=0.9)


def train_step(model, optimizer, x, y):
    optimizer.zero_grad()
    value = loss(model(x), y)
    value.backward()
    optimizer.step()
    return value


def batches():
    for first in range(0, 12, 4):
        yield torch.arange(24.0).reshape(4, 6).cos() + first, torch.arange(first, first + 4) % 5
"""
KERAS = """\
import keras
import numpy as np
import tensorflow as tf
from keras import layers


def build():
    inputs = keras.Input((6,))
    x = layers.ReLU()(layers.LayerNormalization(epsilon=1e-3)(layers.Dense(8)(inputs)))
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(5)(x))


loss = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
optimizer = keras.optimizers.SGD(0.01, 0.9)


def train_step(model, optimizer, batch):
    x, y = batch
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    gradients = tape.gradient(value, model.trainable_variables)
    gradients, _norm = tf.clip_by_global_norm(gradients, 0.5)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return value


def batches():
    for first in range(0, 12, 4):
        yield np.cos(np.arange(24.0).reshape(4, 6)) * 2 + 2 * first, np.arange(first, first + 4) % 5
"""


def test_a_port_to_keras_is_told_stage_by_stage_with_the_lines_to_write(tmp_path):
    need_backend("torch")
    need_backend("tensorflow")
    (tmp_path / "net.py").write_text(TORCH)
    (tmp_path / "port.py").write_text(KERAS)
    found = difference.compare(f"{tmp_path}/net.py:Net", f"{tmp_path}/port.py:build", trained=Asked(steps=3))
    told = {(finding.stage, finding.meaning): finding for finding in found.findings}
    assert set(told) == {
        ("loss", "takes"), ("optimizer", "learning_rate"), ("steps", "clip_norm"), ("dropout", "rate"),
        ("data", "dtype"), ("data", "scaling"),
    }  # fmt: skip
    lines = {meaning: [line.after for line in finding.remedies] for (_stage, meaning), finding in told.items()}
    assert lines["takes"] == ["loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)"]
    assert lines["learning_rate"] == ["optimizer = keras.optimizers.SGD(0.02, 0.9)"]
    assert lines["rate"] == ["x = layers.Dropout(0.5)(x)"]
    assert all(told[key].error < 1e-12 for key in told if key[0] in ("loss", "optimizer", "steps"))


FLAX = """\
import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, epsilon=1e-3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.b = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        return self.b(self.drop(nnx.relu(self.norm(self.a(x)))))


def loss(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


optimizer = optax.sgd(0.02, momentum=0.9)


@nnx.jit
def train_step(model, optimizer, batch):
    x, y = batch
    value, gradients = nnx.value_and_grad(lambda m: loss(m(x), y))(model)
    optimizer.update(model, gradients)
    return value
"""
FUNCTIONS = """\
import jax
import jax.numpy as jnp
import optax


def parameters():
    return {"w": jnp.ones((6, 5)), "b": jnp.zeros(5)}


def forward(parameters, x):
    return x @ parameters["w"] + parameters["b"]


def loss(z, y):
    return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()


def optimizer():
    return optax.adam(1e-2)


@jax.jit
def train_step(params, opt_state, x, y):
    value, gradients = jax.value_and_grad(lambda p: loss(forward(p, x), y))(params)
    updates, opt_state = optimizer().update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value
"""


@pytest.fixture
def of_jax(tmp_path):
    need_backend("jax")
    import jax

    before = getattr(jax.config, "jax_enable_x64")  # noqa: B009  # mypy knows no option by its name
    yield lambda text, name: _loaded(tmp_path, text, name)
    jax.config.update("jax_enable_x64", before)


def _loaded(folder: Path, text: str, name: str) -> Any:
    from lockstep.exchange.models.jax.side import Jax
    from lockstep.exchange.models.jax.training import Training

    file = folder / f"net_{len(text)}.py"  # Python keeps the lines of a file that it has read
    file.write_text(text)
    side = Jax()
    side.load(file, name, "float64")
    side.trace([X], "inference", [], None)
    side.put({key: NUMBERS.normal(size=value.shape) for key, value in side.units().items()})
    found = Training(side)
    found.parts({})
    return found


NUMBERS = np.random.default_rng(8)
X, Y = NUMBERS.normal(size=(9, 6)), np.arange(9) % 5


@pytest.mark.parametrize(("text", "name"), [(FLAX, "Net"), (FUNCTIONS, "forward")])
def test_steps_of_a_file_in_jax_are_those_of_its_parts(text, name, of_jax):
    found = of_jax(text, name)
    before = found.owner.units()
    batches = [(X, Y), (X[::-1].copy(), Y), (X * 2, Y)]
    own = found.train(batches, training.Way(is_own=True))
    composed = found.train(batches, training.Way())
    other = found.train(batches, training.Way(clip_norm=0.01))
    assert np.allclose(own.losses, composed.losses, rtol=1e-12)
    for name_ in before:
        assert np.allclose(own.values[-1][name_], composed.values[-1][name_], rtol=1e-11, atol=1e-13)
    assert any(np.abs(own.values[-1][key] - other.values[-1][key]).max() > 1e-6 for key in before)
    assert all(np.array_equal(value, found.owner.units()[key]) for key, value in before.items()), "nothing is left"


def test_what_optax_made_an_optimizer_of_is_read_from_its_line(of_jax):
    from lockstep.proof.pair.optimizers import read_rule

    for text, name, function, rate in ((FLAX, "Net", "optax.sgd", 0.02), (FUNCTIONS, "forward", "optax.adam", 0.01)):
        part = of_jax(text, name).parts({})["optimizer"]
        rule = read_rule(part)
        assert (part.function, rule.learning_rate) == (function, rate)
        assert part.where.text == text.splitlines()[part.where.line - 1].strip()
    chained = FUNCTIONS.replace("optax.adam(1e-2)", "optax.chain(optax.sgd(1.0), optax.adam(1e-2))")
    assert of_jax(chained, "forward").parts({})["optimizer"].function == "optimizer", "two are not told for one"


def test_the_loss_of_a_file_in_jax_has_its_slope(of_jax):
    found = of_jax(FLAX, "Net")
    z, step = NUMBERS.normal(size=(9, 5)), 1e-6
    direction = NUMBERS.normal(size=z.shape)
    trace = found.loss(z, Y, ())
    ends = [found.loss(z + h * direction, Y, ()).loss for h in (step, -step)]
    assert np.isclose((trace.gradients[0] * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


NUMPY = """\
import numpy as np


def parameters():
    return {"w": np.ones((6, 5)), "b": np.zeros(5)}


def forward(parameters, x):
    return x @ parameters["w"] + parameters["b"]


def loss(z, y):
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]).mean()


def train_step(parameters, x, y):
    z = forward(parameters, x)
    d = (np.exp(z) / np.exp(z).sum(1, keepdims=True) - np.eye(5)[y]) / len(y)
    return {"w": parameters["w"] - 0.1 * x.T @ d, "b": parameters["b"] - 0.1 * d.sum(0)}, loss(z, y)
"""


def test_a_step_in_numpy_goes_down_its_loss(tmp_path):
    from lockstep.exchange.models.numpy.side import NumPy
    from lockstep.exchange.models.numpy.training import Training

    (tmp_path / "net.py").write_text(NUMPY)
    side = NumPy()
    side.load(tmp_path / "net.py", "forward", "float64")
    side.trace([X], "inference")
    found = Training(side)
    assert set(found.parts({})) == {"loss", "train_step"}
    steps = found.train([(X, Y)] * 5, training.Way(is_own=True))
    losses = [loss for loss in steps.losses if loss is not None]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == found.loss(side.model(side.parameters, X), Y, ()).loss
    assert np.array_equal(side.values["w"], np.ones((6, 5))), "nothing is left"
    with pytest.raises(UserError, match="no optimizer"):
        found.optimize([], {})


def test_what_a_function_takes_is_read_from_its_names():
    offered = {"model": "m", "optimizer": "o", "batch": ("x", "y"), "inputs": "x", "labels": "y"}
    order = ("model", "optimizer", "batch")
    assert training.called(lambda net, opt, x, y: (net, opt, x, y), offered, order) == ("m", "o", "x", "y")
    assert training.called(lambda a, b, c: (a, b, c), offered, order) == ("m", "o", ("x", "y"))
    assert training.called(lambda y_true, logits: (y_true, logits), {"outputs": 1, "labels": 2},
                           ("outputs", "labels")) == (2, 1)  # fmt: skip
    with pytest.raises(UserError, match="needs d"):
        training.called(lambda a, b, c, d: 0, offered, order)


def test_steps_and_parts_come_back_from_files_as_they_were(tmp_path):
    steps = training.Steps(({"w": np.arange(3.0)}, {"w": np.arange(3.0) + 1}), (1.5, None), (0.1, None))
    answer = training.write_steps(steps, tmp_path, "s.safetensors")
    again = training.read_steps(answer, tmp_path / "s.safetensors")
    assert (again.losses, again.rates) == (steps.losses, steps.rates)
    assert all(np.array_equal(a["w"], b["w"]) for a, b in zip(steps.values, again.values, strict=True))
    part = training.Part("loss", "torch.nn.MSELoss", Where("a.py", 3, "x"), {"reduction": "mean"})
    import dataclasses

    assert training.part_of(dataclasses.asdict(part)) == part


def test_a_name_that_is_not_in_a_file_is_told(tmp_path):
    need_backend("torch")
    from lockstep.exchange.models.torch.side import Torch
    from lockstep.exchange.models.torch.training import Training

    (tmp_path / "net.py").write_text(TORCH)
    side = Torch()
    side.load(tmp_path / "net.py", "Net", "float32")
    with pytest.raises(UserError) as error:
        Training(side).parts({"loss": "losss"})
    assert 'did you mean "loss"' in error.value.hint
