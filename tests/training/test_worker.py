"""The one training loop: what is held out, what a pixel becomes, when it stops, and what it says about a failure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lockstep import Augmentation, EarlyStopping, LockstepError, Recipe, Record, Study, data, run_study
from lockstep.data import Data, augment, batch_order, split
from lockstep.training import early_stopping, inputs, loop, metrics, replay, worker

NETWORK = {"mlp": ["flatten", "dense 31", "relu", "dense 10"]}


def done(folder, recipe, **fields) -> Record:
    (record,) = run_study(Study(NETWORK, "digits", "numpy", recipe=recipe, name="lab", **fields), folder)
    assert record.is_finished, record.status["reason"]
    return record


def examples(recipe, train_size=None, seed=0, dataset="digits") -> inputs.Examples:
    (run,) = Study(NETWORK, dataset, "numpy", seeds=seed, recipe=recipe, train_size=train_size).runs()
    return inputs.Examples(data.load(dataset, offline=True), run)


# ------------------------------------------------------------------------------------------------------------ examples


def test_validation_images_are_held_out_before_so_many_are_kept():
    loaded = data.load("digits", offline=True)
    kept, held_out = split(len(loaded.train_images), 0.2, 3)
    kept = data.part_of(kept, loaded.train_labels, 100, 2)
    found = examples(Recipe(validation=0.2), 100, 3)
    np.testing.assert_array_equal(found.train[0], loaded.train_images[kept])
    np.testing.assert_array_equal(found.train[1], loaded.train_labels[kept])
    assert np.ptp(np.bincount(found.train[1])) <= 2  # as the rest itself, of which each class has some 115
    np.testing.assert_array_equal(found.validation[0], loaded.train_images[held_out])
    np.testing.assert_array_equal(found.test[0], loaded.test_images)
    assert len(found.validation[0]) == round(0.2 * len(loaded.train_images))
    other = examples(Recipe(validation=0.2), 100, 4)
    assert not np.array_equal(found.validation[1], other.validation[1])


def test_without_validation_all_images_train_and_are_not_copied():
    found = examples(Recipe())
    assert len(found.train[0]) == 1437
    assert len(found.validation[0]) == 0
    assert found.train[0] is found.data.train_images


def test_unit_scaling_is_a_255th():
    found = examples(Recipe())
    assert found.mean.tolist() == [0]
    assert found.scale.tolist() == [1 / 255]


def test_standard_scaling_is_that_of_the_training_images_channel_by_channel():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, 5, 7, 3), dtype=np.uint8)
    images[..., 1] //= 4
    mean, scale = inputs.scaling_of(images, Recipe(scaling="standard"))
    np.testing.assert_allclose(mean, images.reshape(-1, 3).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(1 / scale, images.reshape(-1, 3).astype(float).std(axis=0), rtol=1e-12)
    assert mean[0] != mean[1]
    found = examples(Recipe(scaling="standard"), 100)
    assert found.mean[0] == pytest.approx(found.train[0].mean())
    assert found.mean[0] != pytest.approx(found.data.train_images.mean(), rel=1e-6)


def test_images_of_one_colour_are_not_divided_by_nothing():
    mean, scale = inputs.scaling_of(np.full((3, 5, 7, 1), 9, np.uint8), Recipe(scaling="standard"))
    assert (mean.tolist(), scale.tolist()) == ([9.0], [1.0])


# ------------------------------------------------------------------------------------------------------- early stopping


class FakeModel:
    """Its weights are the number of the epoch that it was asked in."""

    def __init__(self):
        self.epoch, self.restored = 0, None

    def weights(self):
        return {"w": np.array(self.epoch)}

    def state(self):
        return {"step": np.array(self.epoch * 7)}

    def restore(self, weights, state):
        self.restored = (int(weights["w"]), int(state["step"]))


def stopped(values, rule, key="validation_loss"):
    """(after which epoch it stopped or None, the best epoch, what was restored)."""
    model = FakeModel()
    stopping = early_stopping.Stopping(Recipe(early_stopping=rule, validation=0.1), model)
    end = None
    for epoch, value in enumerate(values, start=1):
        model.epoch = epoch
        if stopping.stops(epoch, {key: value}):
            end = epoch
            break
    stopping.restore()
    return end, stopping.best_epoch, model.restored


@pytest.mark.parametrize(
    ("values", "rule", "wanted"),
    [
        ([3, 2, 1, 2, 3], EarlyStopping(patience=2), (5, 3, (3, 21))),
        ([3, 2, 1, 2, 0.5, 1, 1], EarlyStopping(patience=2), (7, 5, (5, 35))),
        ([3, 2, 1], EarlyStopping(patience=2), (None, 3, (3, 21))),
        ([1, 1, 1], EarlyStopping(patience=2), (3, 1, (1, 7))),
        ([1, 0.95, 0.9], EarlyStopping(patience=2, min_delta=0.2), (3, 1, (1, 7))),
        ([1, 0.75, 0.5], EarlyStopping(patience=1, min_delta=0.2), (None, 3, (3, 21))),
        ([3, 1, 2, 2], EarlyStopping(patience=1, restore_best=False), (3, 2, None)),
        ([3, math.nan, 2, math.nan, math.nan], EarlyStopping(patience=2), (5, 3, (3, 21))),
        ([1, 2, 3], None, (None, None, None)),
    ],
)
def test_training_stops_after_so_many_epochs_without_a_better_one(values, rule, wanted):
    assert stopped(values, rule) == wanted


def test_accuracy_is_better_when_it_is_higher():
    rule = EarlyStopping("validation_accuracy", patience=1)
    assert stopped([0.1, 0.5, 0.4], rule, "validation_accuracy") == (3, 2, (2, 14))


def test_a_first_epoch_that_is_no_number_is_not_the_best():
    assert stopped([math.nan, 2, 1], EarlyStopping(patience=5)) == (None, 3, (3, 21))


def test_a_run_that_stops_early_gives_its_best_epochs_numbers(tmp_path):
    recipe = Recipe("adam 0.1", 40, 32, validation=0.2, early_stopping=EarlyStopping(patience=2))
    record = done(tmp_path, recipe, train_size=300)
    best, rows = record.metrics["best_epoch"], record.history
    assert record.metrics["stopped_early"]
    assert len(rows) == record.metrics["epochs"] == best + 2
    assert min(row["validation_loss"] for row in rows) == rows[best - 1]["validation_loss"]
    assert record.metrics["test"]["loss"] == pytest.approx(rows[best - 1]["test_loss"], rel=1e-12)
    assert record.metrics["test"]["loss"] != pytest.approx(rows[-1]["test_loss"], rel=1e-6)


# --------------------------------------------------------------------------------------------------------- real epochs


@pytest.mark.parametrize(
    "change",
    [{"loss": "mean_squared_error"}, {"scaling": "standard"}, {"augmentation": Augmentation(2, 10.0, True)}],
    ids=lambda change: next(iter(change)),
)
def test_every_recipe_learns(change, tmp_path):
    recipe = Recipe("adam 0.002", 5, 32, validation=0.1, **change)
    record = done(tmp_path, recipe)
    losses = [row["train_loss"] for row in record.history]
    assert losses[-1] < 0.75 * losses[0]
    assert record.metrics["test"]["accuracy"] > 0.3
    assert (record.metrics["test"]["log_loss"] is None) == (recipe.loss == "mean_squared_error")
    assert "augment" in record.timing["seconds"] or not recipe.augmentation


class Recorder:
    """A model that learns nothing and remembers what it was given."""

    def __init__(self):
        self.plan, self.placed, self.orders = self, [], []

    def place(self, images, labels):
        self.placed.append(images)

    def train_epoch(self, order):
        self.orders.append(order)
        n = -(-len(order) // 64)
        return np.stack([np.arange(n) + 1.0, np.full(n, 5.0)])

    def wait(self):
        pass

    def predict(self, images):
        return np.eye(10)[np.zeros(len(images), int)]

    def learning_rate(self, step):
        return step

    def weights(self):
        return {}

    state = weights


def test_each_epoch_has_the_order_and_the_augmentation_of_its_number():
    from lockstep.machine.clocks import Clocks

    recipe = Recipe(epochs=3, batch_size=64, augmentation=Augmentation(2))
    (run,) = Study(NETWORK, "digits", "numpy", seeds=5, recipe=recipe, train_size=150).runs()
    parts = inputs.Examples(data.load("digits", offline=True), run)
    model, told = Recorder(), []
    history, steps, best = loop.alone(loop.train_epochs(model, run, parts, Clocks(), told.append))
    for epoch in range(3):
        np.testing.assert_array_equal(model.orders[epoch], batch_order(150, 5, epoch))
        np.testing.assert_array_equal(model.placed[epoch], augment(parts.train[0], recipe.augmentation, 5, epoch))
    assert not np.array_equal(model.orders[0], model.orders[1])
    assert not np.array_equal(model.placed[0], model.placed[1])
    assert told == history
    assert best is None
    assert steps["examples"].tolist() == [64, 64, 22] * 3
    mean = (1 * 64 + 2 * 64 + 3 * 22) / 150
    assert [row["train_loss"] for row in history] == pytest.approx([mean] * 3), "the mean over examples, not steps"
    assert [row["train_accuracy"] for row in history] == [15 / 150] * 3
    assert [row["learning_rate"] for row in history] == [2, 5, 8]
    assert history[0]["test_loss"] == metrics.mean_loss(model.predict(parts.test[0]), parts.test[1], recipe)


# ------------------------------------------------------------------------------------------------ like with like


def test_a_part_of_the_training_images_is_evaluated_as_the_test_images_are(tmp_path):
    """Under dropout and shifts an epoch's steps get fewer right than the network that they leave."""
    network = {"dropped": ["flatten", "dense 64", "relu", "dropout 0.6", "dense 10"]}
    recipe = Recipe("adam 0.003", 6, 32, augmentation=Augmentation(1), validation=0.1)
    (record,) = run_study(Study(network, "digits", "numpy", recipe=recipe, name="lab"), tmp_path)
    (run,) = Study(network, "digits", "numpy", recipe=recipe).runs()
    parts = inputs.Examples(data.load("digits", offline=True), run)
    images, labels = parts.train_part
    learned = replay.learned(record)
    logits = replay.model(learned, parts.shape, parts.mean, parts.scale).predict(images)
    told, last = record.metrics["train"], record.history[-1]
    assert told == {"accuracy": metrics.accuracy(logits, labels), "loss": told["loss"], "images": 360}
    assert told["loss"] == pytest.approx(metrics.mean_loss(logits, labels, recipe), rel=1e-6)
    assert (told["accuracy"], told["loss"]) == (last["train_inference_accuracy"], last["train_inference_loss"])
    assert last["train_accuracy"] < told["accuracy"] - 0.03


def test_the_part_is_fixed_and_has_every_class_of_sorted_images():
    images = np.repeat(np.arange(7, dtype=np.uint8), 100)[:, None, None, None]
    some, labels = inputs.evenly_drawn(images, images.ravel().astype(np.int64), 90)
    again, _ = inputs.evenly_drawn(images, images.ravel().astype(np.int64), 90)
    np.testing.assert_array_equal(some, again)
    np.testing.assert_array_equal(some.ravel(), labels)
    assert np.bincount(labels, minlength=7).min() >= 5
    assert np.bincount(images.ravel()[:90], minlength=7).min() == 0, "the first ones would be of one class"
    assert inputs.evenly_drawn(images, labels, 700)[0] is images


def test_all_of_a_few_training_images_are_evaluated():
    found = examples(Recipe(), train_size=100)
    assert found.train_part[0] is found.train[0]
    assert len(examples(Recipe()).train_part[0]) == 360  # as many as there are test images


def test_evaluation_is_outside_the_training_clock():
    import time

    from lockstep.machine.clocks import Clocks

    class Slow(Recorder):
        def predict(self, images):
            time.sleep(0.05)
            return super().predict(images)

    (run,) = Study(NETWORK, "digits", "numpy", recipe=Recipe(epochs=2, batch_size=64), train_size=150).runs()
    parts, clocks = inputs.Examples(data.load("digits", offline=True), run), Clocks()
    history, *_ = loop.alone(loop.train_epochs(Slow(), run, parts, clocks, lambda event: None))
    assert clocks.seconds["train"] < 0.05 < 0.2 <= clocks.seconds["evaluate"]
    assert sum(row["train_seconds"] for row in history) < 0.05


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            LockstepError("LS-404", "no GPU", where="backend torch", hint="use the CPU"),
            "LS-404",
            ["no GPU", "use the CPU"],
        ),
        (MemoryError("3 GiB"), "LS-503", ["not enough memory", "3 GiB"]),
        (ZeroDivisionError("x" * 9000), "LS-403", ["ZeroDivisionError: xxx"]),
        (SystemExit(3), "LS-403", ["SystemExit: 3"]),
    ],
)
def test_a_failure_is_told_by_its_code_and_its_own_words(error, code, words):
    found = worker.failure(error)
    assert found["code"] == code
    assert len(found["reason"]) <= 2000
    for word in words:
        assert word in found["reason"]


def test_a_worker_without_a_spec_fails_with_its_reason(tmp_path):
    import subprocess
    import sys

    command = [sys.executable, "-m", "lockstep.training.worker", str(tmp_path), "1"]
    finished = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, timeout=60)
    assert finished.returncode == 1
    assert finished.stdout == b"", "nothing but events may stand on stdout"


def test_data_are_what_the_worker_takes_them_for():
    assert isinstance(examples(Recipe()).data, Data)
