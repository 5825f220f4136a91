"""On a machine with a GPU: PyTorch's recorded step takes the steps that its kernels take one by one, and bits repeat.

Whether they are the right steps is asked by `LOCKSTEP_DEVICE=cuda pytest tests/test_conformance.py` and by
`lockstep prove STUDY --set device=cuda`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import conformance as table
from lockstep import backends
from lockstep.spec import Recipe
from lockstep.weights import initial_weights

pytestmark = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no GPU of NVIDIA's is here")

RECIPES = {
    "adam": Recipe("adam 0.01", 3, table.BATCH, schedule="cosine", label_smoothing=0.1),
    "adamw": Recipe("adamw 0.01", 3, table.BATCH, schedule="one_cycle", clip_norm=0.5),
    "sgd": Recipe("sgd 0.1", 3, table.BATCH, l2=0.01),
    "momentum": Recipe("momentum 0.1", 3, table.BATCH, schedule="cosine", loss="mean_squared_error"),
    "nesterov": Recipe("nesterov 0.1", 3, table.BATCH, clip_norm=0.5, clip_scope="tensor"),
}
CASES = {name: table.Case(table.EVERYTHING, recipe, "float32") for name, recipe in RECIPES.items()}


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


@pytest.mark.parametrize("name", CASES)
def test_recorded_steps_are_the_steps(name):
    case = CASES[name]
    recorded = built("torch", case)
    found = trained(recorded, case, by_epoch)
    assert recorded.recorded is not None
    assert not differing(found, trained(built("torch", case), case, by_step))


@pytest.mark.parametrize("attribute", ["rates", "batches", "number"])
def test_a_recording_that_reads_what_stood_there_before_is_seen(attribute, monkeypatch):
    recording = backends.load("torch").Recorded
    take = recording.take

    def stale(self, full):
        kept, held = getattr(self, attribute), getattr(self, attribute).clone()
        setattr(self, attribute, held)  # what is written now does not reach the kernels
        found = take(self, full)
        setattr(self, attribute, kept)
        return found

    monkeypatch.setattr(recording, "take", stale)
    model = built("torch", CASES["adam"])
    with pytest.raises(AssertionError):  # by then the same steps from the same point differ already
        assert not differing(
            trained(model, CASES["adam"], by_epoch), trained(built("torch", CASES["adam"]), CASES["adam"], by_step)
        )


@pytest.mark.parametrize(
    "recipe",
    [Recipe("rmsprop", 3, table.BATCH), Recipe({"kind": "adam", "epsilon_mode": "hat"}, 3, table.BATCH)],
    ids=["rmsprop", "hat"],
)
def test_what_cannot_be_recorded_is_started_step_by_step(recipe):
    case = table.Case(table.EVERYTHING, recipe, "float32")
    model = built("torch", case)
    found = trained(model, case, by_epoch)
    assert model.recorded is None
    assert not differing(found, trained(built("torch", case), case, by_step))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_same_training_ends_with_the_same_bits(backend):
    case = dataclasses.replace(CASES["adam"], recipe=dataclasses.replace(CASES["adam"].recipe, clip_norm=0.5))
    first, second = (trained(built(backend, case), case, by_epoch) for _ in range(2))
    assert not differing(first, second)


def test_the_gpu_is_named():
    assert "NVIDIA" in backends.load("torch").device_name("cuda")
    assert backends.load("torch").device_name("cpu") == "cpu"
