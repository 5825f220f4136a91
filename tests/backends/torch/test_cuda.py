"""PyTorch's recorded steps: whether they are the right ones, here and on a GPU.

Everything but the recording itself is asked on any machine: there, instead of kernels, the step is run again. On a
machine with a GPU it is asked whether the recorded step takes the steps that its kernels take one by one, and whether
bits repeat. More is asked by `LOCKSTEP_DEVICE=cuda pytest tests/backends/test_conformance.py` and by
`lockstep prove STUDY --set 'device="cuda"'`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends.weights import initial_weights
from lockstep.spec import Recipe
from support import backend_cases as table
from support.closeness import ROUNDED_CASES, assert_close, assert_products_are_rounded_alike
from support.needs import need_backend

# ----------------------------------------------------------------------------------------------------- on any machine

LAYERS = ["layer-dropout", "layer-batch_norm", "layer-everything"]
CASES = [
    name
    for name in table.CASES
    if name in LAYERS or name.startswith(("layer-conv2d", "recipe-", "flat-", "option-", "scaled", "one_"))
]


@pytest.fixture
def recorded(monkeypatch):
    """PyTorch's backend, which on the CPU convolves as on a GPU and runs a step again where recorded kernels would."""
    need_backend("torch")
    return recording(monkeypatch)


def recording(monkeypatch):
    torch: Any = backends.load("torch")
    monkeypatch.setattr("lockstep.backends.torch.layers.takes_products", lambda plan: True)
    monkeypatch.setattr(torch.Recorded, "can_be", staticmethod(lambda plan: True))
    monkeypatch.setattr(torch.Recorded, "record", lambda self, model: partial(run_again, self, model))
    return torch


def run_again(recording, model):
    """What recorded kernels do: they are those of a training step, with the masks that lay there then."""
    model.modules.train(model.plan.in_training)
    model.is_training = None  # whoever goes on sets it
    for name, mask in recording.masks.items():
        model.layers[name].mask = mask
    recording.step(model)


@pytest.mark.parametrize("name", CASES)
def test_steps_that_find_their_numbers_in_memory_are_the_steps(name, recorded):
    case = table.CASES[name]
    assert_close(table.compute("torch", case), table.compute("numpy", case, threads=1))


def test_in_float32_they_are_as_near_to_float64_as_pytorchs_own(monkeypatch):
    need_backend("torch")
    case = table.CASES["float32"]
    exact, own = table.compute("numpy", case, "float64", 1), table.compute("torch", case)
    recording(monkeypatch)
    found = table.compute("torch", case)
    for name, value in exact.items():
        off, allowed = (np.abs(one[name] - value).max(initial=0.0) for one in (found, own))
        assert found[name].dtype == own[name].dtype
        assert off <= 16 * max(allowed, 1e-7 * np.abs(value).max(initial=1e-3)), name


def test_a_proof_that_takes_its_steps_one_by_one_is_given_recorded_ones(recorded):
    case = table.CASES["recipe-adam_cross_entropy"]
    plan, (images, labels) = table.plan_of(case), table.images_of(case)
    model = recorded.build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    model.place(images, labels)
    model.train_epoch(np.arange(table.BATCH))
    assert model.recorded is None
    model.train_epoch(np.arange(table.BATCH))
    assert model.recorded is not None


@pytest.mark.parametrize("name", ROUNDED_CASES)
def test_products_of_windows_round_their_factors_too(name, recorded):
    case = table.CASES[name]
    assert_products_are_rounded_alike(table.compute("torch", case), table.compute("numpy", case, threads=1))


# What asks for a tensor's value, or for how many there are, before the next operation: on CUDA a recording ends there.
# (`tolist`, `numpy` and, on a CPU, `cpu` can't be seen so; nor does a mask that indexes differ from indices by name.)
READING = {
    "_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "lift_fresh"
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_step_to_be_recorded_reads_no_value(name, recorded, monkeypatch):
    read, step = [], recorded.Recorded.step

    def looked_at(self, model):
        with operations(read):
            step(self, model)

    monkeypatch.setattr(recorded.Recorded, "step", looked_at)
    table.compute("torch", table.CASES[name])
    assert "index_copy_" in " ".join(read), "the operations are seen"
    assert not READING.intersection(read)


@contextlib.contextmanager
def operations(names: list[str]) -> Iterator[None]:
    """The names of all operations of PyTorch's until the end, those that Python's conversions call too."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Listing(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            names.append(operation._overloadpacket.__name__)
            return operation(*args, **(kwargs or {}))

    with Listing():
        yield


def test_an_update_that_reads_a_value_is_seen(recorded, monkeypatch):
    """As PyTorch's `_foreach_add` does with a tensor of no axis, which it takes for a number."""
    update = recorded.updated_on_cuda

    def reading(group, gradients, o, now):
        recorded.torch._foreach_add(gradients, now[1])
        update(group, gradients, o, now)

    monkeypatch.setattr(recorded, "updated_on_cuda", reading)
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        test_a_step_to_be_recorded_reads_no_value("recipe-adam_cross_entropy", recorded, monkeypatch)


@pytest.mark.parametrize(
    ("what", "name"),
    [("numbers", "recipe-schedule_cosine"), ("batches", "recipe-sgd_cross_entropy"), ("masks", "layer-dropout")],
)
def test_steps_that_find_what_stood_there_before_are_seen(what, name, recorded, monkeypatch):
    take = recorded.Recorded.take

    def stale(self, model, full):
        held = getattr(self, what)
        copied = {key: mask.clone() for key, mask in held.items()} if what == "masks" else held.clone()
        setattr(self, what, copied)  # what is written now is not what is read

        def earlier():
            setattr(self, what, held)
            run_again(self, model)
            setattr(self, what, copied)

        self.replay = earlier
        return take(self, model, full)

    monkeypatch.setattr(recorded.Recorded, "take", stale)
    with pytest.raises(AssertionError, match="off by"):
        test_steps_that_find_their_numbers_in_memory_are_the_steps(name, recorded)


def test_adam_whose_correction_is_worked_out_in_float32_is_seen(recorded, monkeypatch):
    """As PyTorch's fused update does it on CUDA."""
    right = recorded.numbers

    def coarse(plan, step):
        *others, _ = right(plan, step)
        return *others, 1 / np.sqrt(
            float(np.float32(1) - np.float32(plan.recipe.optimizer.beta2) ** np.float32(step + 1))
        )

    monkeypatch.setattr(recorded, "numbers", coarse)
    with pytest.raises(AssertionError, match="off by"):
        test_steps_that_find_their_numbers_in_memory_are_the_steps("recipe-adam_cross_entropy", recorded)


# ----------------------------------------------------------------------------------------------------------- on a GPU

HAS_GPU = Path("/dev/nvidiactl").exists()


@pytest.fixture(autouse=True)
def where_it_can_be(request):
    """Skip what asks a GPU where there is none, or where the framework is not built for one."""
    if request.node.get_closest_marker("gpu"):
        backend = request.getfixturevalue("backend") if "backend" in request.fixturenames else "torch"
        if not HAS_GPU or backends.why_missing(backend) or backends.load(backend).device_name("cuda") == "cuda":
            pytest.skip(f"{backend} finds no GPU here")


RECIPES = {
    "adam": Recipe("adam 0.01", 3, table.BATCH, schedule="cosine", label_smoothing=0.1),
    "adamw": Recipe("adamw 0.01", 3, table.BATCH, schedule="one_cycle", clip_norm=0.5),
    "sgd": Recipe("sgd 0.1", 3, table.BATCH, l2=0.01),
    "momentum": Recipe("momentum 0.1", 3, table.BATCH, schedule="cosine", loss="mean_squared_error"),
    "nesterov": Recipe("nesterov 0.1", 3, table.BATCH, clip_norm=0.5, clip_scope="tensor"),
    "rmsprop": Recipe("rmsprop 0.01", 3, table.BATCH, l2=0.01),
}
ON_GPU = {name: table.Case(table.EVERYTHING, recipe, "float32") for name, recipe in RECIPES.items()}


def built(backend, case):
    plan = table.plan_of(case, device="cuda")
    return backends.load(backend).build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))


def trained(model, case, take):
    """Two epochs on other images each, and once more from the end of the first; all that stands at the end."""
    images, labels = table.images_of(case)
    orders = [np.random.default_rng(epoch).permutation(case.n) for epoch in range(2)]
    losses = [take(model, images, labels, orders[0])]
    kept = model.weights(), model.state()
    for _ in range(2):
        model.restore(*kept)
        losses.append(take(model, images[::-1].copy(), labels[::-1].copy(), orders[1]))
    assert np.array_equal(losses[1], losses[2]), "the same steps from the same point"
    return {**model.weights(), **model.state(), "losses": np.concatenate([found.ravel() for found in losses])}


def by_epoch(model, images, labels, order):
    model.place(images, labels)
    return model.train_epoch(order)[0]


def by_step(model, images, labels, order):
    parts = np.split(order, range(table.BATCH, len(order), table.BATCH))
    return np.array([model.step(images[part], labels[part]) for part in parts])


def differing(found, wanted):
    assert found.keys() == wanted.keys()
    return [name for name in wanted if not np.array_equal(found[name], wanted[name])]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_GPU)
def test_recorded_steps_are_the_steps(name):
    case = ON_GPU[name]
    recorded = built("torch", case)
    found = trained(recorded, case, by_epoch)
    assert recorded.recorded is not None
    assert not differing(found, trained(built("torch", case), case, by_step))


@pytest.mark.gpu
@pytest.mark.parametrize("attribute", ["numbers", "batches", "masks"])
def test_a_recording_that_reads_what_stood_there_before_is_seen(attribute, monkeypatch):
    torch: Any = backends.load("torch")
    recording, case = torch.Recorded, ON_GPU["adam"]
    take = recording.take

    def stale(self, model, full):
        kept = getattr(self, attribute)
        copied = {key: mask.clone() for key, mask in kept.items()} if attribute == "masks" else kept.clone()
        setattr(self, attribute, copied)  # what is written now does not reach the kernels
        found = take(self, model, full)
        setattr(self, attribute, kept)
        return found

    monkeypatch.setattr(recording, "take", stale)
    with pytest.raises(AssertionError):  # by then the same steps from the same point may differ already
        assert not differing(
            trained(built("torch", case), case, by_epoch), trained(built("torch", case), case, by_step)
        )


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_same_training_ends_with_the_same_bits(backend):
    case = dataclasses.replace(ON_GPU["adam"], recipe=dataclasses.replace(ON_GPU["adam"].recipe, clip_norm=0.5))
    first, second = (trained(built(backend, case), case, by_epoch) for _ in range(2))
    assert not differing(first, second)


@pytest.mark.gpu
def test_the_gpu_is_named():
    assert "NVIDIA" in backends.load("torch").device_name("cuda")
    assert backends.load("torch").device_name("cpu") == "cpu"
