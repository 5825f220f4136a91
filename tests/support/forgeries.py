"""What a cheat does to a hand-in, sealed anew with Lockstep's own functions: a table of them, and their tools.

Every forgery takes a folder with two honest runs of one study (seeds 0 and 1) and their page, and changes it. `Others`
holds what it may borrow: another student's hand-in, and whatever can be trained on the way.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import data, store, study
from lockstep.report import write_report
from lockstep.spec import Adam, Conv2D, Dense, Flatten, MaxPool2D, Momentum, Network, Recipe, ReLU, Run, Study
from lockstep.spec.records import changed
from lockstep.spec.toml import parse_study, resolved_toml
from lockstep.training import checkpoints, environment, inputs, loop, metrics, replay, worker

NETWORK = Network((Conv2D(3, 5), ReLU(), MaxPool2D(2), Flatten(), Dense(10)))
RECIPE = Recipe(optimizer=Adam(0.003), epochs=2, batch_size=64, validation=0.1, scaling="standard")
STUDY = Study({"small": NETWORK}, "digits", "numpy", (0, 1), recipe=RECIPE, name="work")

# ------------------------------------------------------------------------------------------------------------ training


def trained(
    place: Path, run: Run, load: Callable[[str], data.Data] = inputs.load, threads: int = 1, name: str = "work"
) -> Path:
    """A run's folder below `place`, trained in this process, on data of whoever calls."""
    text = resolved_toml(study.one_run_study(changed(STUDY, name=name, train_size=run.train_size), run))
    folder = store.claim(place, study.run_id(run, text))
    store.write_bytes(folder / "spec.toml", text.encode())
    store.write_status(folder, "running", threads=threads)
    loop.alone(loop.train(run, folder, threads, lambda event: _note(folder, event), load=load))
    (folder / "worker.log").write_text("")
    worker.end(folder)
    return folder


def _note(folder: Path, event: dict[str, Any]) -> None:
    store.append_event(folder / "events.jsonl", event)


def hand_in(place: Path, of: Study = STUDY, page: bool = True, threads: int = 1) -> Path:
    """A study's runs and their page, as somebody hands them in."""
    for run in of.runs():
        trained(place, run, threads=threads, name=of.name)
    if page:
        write_report(store.find_runs([place]), place / "report.html")
    return place


def run_of(seed: int = 0, recipe: Mapping[str, Any] | None = None, **fields: Any) -> Run:
    """A run of the study with other settings."""
    (run,) = changed(STUDY, seeds=(seed,), recipe=changed(RECIPE, **(recipe or {}))).runs()
    return changed(run, **fields)


@dataclasses.dataclass(frozen=True)
class Others:
    """What a cheat has beside the own hand-in: a fellow student's, and a place to train in."""

    fellow: Path
    place: Path

    def trained(self, run: Run, load: Callable[[str], data.Data] = inputs.load) -> Path:
        """A run that is not handed in as what it is."""
        return trained(self.place, run, load)


def leaky(name: str) -> data.Data:
    """The dataset, with its test images among the training images."""
    loaded = data.load(name, offline=True)
    n = len(loaded.test_images)
    images, labels = loaded.train_images.copy(), loaded.train_labels.copy()
    images[:n], labels[:n] = loaded.test_images, loaded.test_labels
    return dataclasses.replace(loaded, train_images=images, train_labels=labels)


def relabelled(name: str) -> data.Data:
    """The dataset with two classes exchanged in training."""
    loaded = data.load(name, offline=True)
    labels = loaded.train_labels.copy()
    labels[loaded.train_labels == 3], labels[loaded.train_labels == 8] = 8, 3
    return dataclasses.replace(loaded, train_labels=labels)


def cleaned(name: str) -> data.Data:
    """The dataset with every fifth training image replaced by the one before it."""
    loaded = data.load(name, offline=True)
    images, labels = loaded.train_images.copy(), loaded.train_labels.copy()
    images[5::5], labels[5::5] = images[4:-1:5][: len(images[5::5])], labels[4:-1:5][: len(labels[5::5])]
    return dataclasses.replace(loaded, train_images=images, train_labels=labels)


# --------------------------------------------------------------------------------------------------------------- tools


def runs_of(folder: Path) -> list[Path]:
    return [record.folder for record in store.find_runs([folder])]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    store.write_json(path, value)


def edit_events(run: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the rows of the history in events.jsonl."""
    events = store.read_events(run / "events.jsonl")
    rows = [event for event in events if event.get("event") == "epoch"]
    change(rows)
    others = [event for event in events if event.get("event") != "epoch"]
    (run / "events.jsonl").write_text("".join(map(store.as_line, [*others, *rows])), encoding="utf-8")


def edit_arrays(run: Path, name: str, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the arrays of an npz."""
    arrays = {key: value.copy() for key, value in store.read_npz(run / f"{name}.npz").items()}
    change(arrays)
    store.write_npz(run / f"{name}.npz", **arrays)


def edit_checkpoint(run: Path, change: Callable[[dict[str, Any], dict[str, dict[str, np.ndarray]]], object]) -> None:
    """Change the manifest's facts and the arrays of the last checkpoint, sealed by Lockstep's own function."""
    folder = store.newest_checkpoint(run)
    assert folder is not None
    manifest = store.read_checkpoint_manifest(folder)
    names = [Path(name).stem for name in manifest["files"]]
    arrays = {name: dict(store.read_checkpoint_file(folder, name, manifest)) for name in names}
    facts = {key: value for key, value in manifest.items() if key not in ("format", "epoch", "files", "seal")}
    change(facts, arrays)
    more = {name: value for name, value in arrays.items() if name not in ("weights", "state")}
    store.write_checkpoint(run, manifest["epoch"], arrays["weights"], arrays["state"], more, facts)


def edit_history(run: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the history wherever it stands."""
    edit_events(run, change)
    edit_checkpoint(run, lambda facts, arrays: change(facts["history"]))


def edit_steps(run: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the steps wherever they stand, and each epoch's means with them."""

    def in_both(facts: dict[str, Any], arrays: dict[str, dict[str, np.ndarray]]) -> None:
        arrays["steps"] = {key: value.copy() for key, value in arrays["steps"].items()}
        change(arrays["steps"])

    edit_arrays(run, "steps", change)
    edit_checkpoint(run, in_both)
    steps = store.read_npz(run / "steps.npz")

    def means(rows: list[dict[str, Any]]) -> None:
        parts = [steps[key].reshape(len(rows), -1) for key in checkpoints.STEPS]
        for row, loss, correct, sizes in zip(rows, *parts, strict=True):
            row["train_loss"] = loop.mean_of_steps(loss, sizes, RECIPE)
            row["train_accuracy"] = float(correct.sum() / sizes.sum())

    edit_history(run, means)


def respecify(run: Path, change: Callable[[str], str]) -> Path:
    """Write another spec.toml wherever it stands, and name the folder for it; the new folder."""
    text = change(store.read_spec(run))
    assert text != store.read_spec(run)
    (run / "spec.toml").write_text(text, encoding="utf-8")
    edit_checkpoint(run, lambda facts, arrays: facts.update(spec=text))
    (asked,) = parse_study(text).runs()
    return run.rename(run.with_name(study.run_id(asked, text)))


def claim(run: Path, of: Run) -> Path:
    """Say in a run's folder that it is this run; learning rates of the history too."""
    text = resolved_toml(study.one_run_study(changed(STUDY, train_size=of.train_size), of))
    folder = respecify(run, lambda _old: text)
    loaded = data.load(of.dataset, offline=True)
    plan = inputs.make_plan(of, inputs.Examples(loaded, of), 1)

    def rates(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["learning_rate"] = plan.learning_rate(row["epoch"] * plan.steps_per_epoch - 1)

    edit_history(folder, rates)
    seal(folder)
    return folder


def seal(run: Path) -> None:
    """Make every hash again."""
    store.write_manifest(run)


def measured_again(run: Path, by: float = 1.0137) -> None:
    """Other times wherever they stand, as if the run had been trained once more."""
    edit_history(run, lambda rows: [row.update(train_seconds=row["train_seconds"] * by) for row in rows])
    rows = store.Record(run).history

    def times(found: dict[str, Any]) -> None:
        found["epochs"] = [row["train_seconds"] for row in rows]
        found["seconds"] = {key: value * by for key, value in found["seconds"].items()}
        found["seconds"]["train"] = sum(found["epochs"])

    edit(run / "timing.json", times)
    checked = store.read_json(run / "timing.json")["seconds"]
    edit_checkpoint(run, lambda facts, arrays: facts.update(seconds={k: v * 0.999 for k, v in checked.items()}))
    seal(run)


def evaluate_again(run: Path) -> None:
    """Metrics, hardest images and the end of the history from the predictions that stand there."""
    arrays = store.read_npz(run / "predictions.npz")
    again = store.finite(metrics.evaluate(arrays["logits"], arrays["labels"], RECIPE))
    edit(run / "metrics.json", lambda found: found.update(test=again))
    test_images = data.load("digits", offline=True).test_images
    store.write_npz(run / "hardest.npz", **loop.hardest(test_images, arrays["labels"], arrays["logits"], RECIPE))
    edit_history(run, lambda rows: rows[-1].update(test_accuracy=again["accuracy"], test_loss=again["loss"]))
    seal(run)


def predict_again(run: Path) -> None:
    """Predictions from the weights that stand there, and everything that follows from them."""
    record = store.Record(run)
    found = replay.learned(record)
    examples = inputs.Examples(data.load("digits", offline=True), found.run)
    model = replay.model(found, examples.shape, examples.mean, examples.scale)
    store.write_npz(run / "predictions.npz", logits=model.predict(examples.test[0]), labels=examples.test[1])
    held_out = model.predict(examples.validation[0])
    known = {
        "validation_loss": metrics.mean_loss(held_out, examples.validation[1], RECIPE),
        "validation_accuracy": metrics.accuracy(held_out, examples.validation[1]),
    }
    edit_history(run, lambda rows: rows[-1].update(known))
    evaluate_again(run)


def put_weights(run: Path, source: Path) -> None:
    """The weights and slots of another run, with predictions and evaluations that follow from them."""
    folder = store.newest_checkpoint(source)
    assert folder is not None
    weights, state = store.read_checkpoint(folder)
    step = store.read_checkpoint(run / "checkpoint-2")[1]["step"]
    edit_checkpoint(run, lambda facts, arrays: arrays.update(weights=weights, state={**state, "step": step}))
    predict_again(run)


def put_run(folder: Path, source: Path, claimed: Run) -> None:
    """In place of the first run another one, which says that it is this one."""
    first = runs_of(folder)[0]
    shutil.rmtree(first)
    claim(Path(shutil.copytree(source, first)), claimed)


def edit_page(folder: Path, change: Callable[[str], str]) -> None:
    page = folder / "report.html"
    text = page.read_text(encoding="utf-8")
    assert change(text) != text
    page.write_text(change(text), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- forgeries

Forgery = Callable[[Path, Others], object]
FORGERIES: dict[str, tuple[Forgery, str]] = {}  # a sentence → (what is done, words of what must be found)
UNDECIDABLE: dict[str, Forgery] = {}  # what no look at a hand-in can tell, as docs/verify.md says
DEEP: dict[str, tuple[Forgery, str]] = {}  # what only a whole epoch tells
PAGES: dict[str, tuple[Forgery, str]] = {}


def forgery(found: str, of: dict[str, tuple[Forgery, str]] = FORGERIES) -> Callable[[Forgery], Forgery]:
    """Put a function into a table by the sentence that is its name."""

    def add(function: Forgery) -> Forgery:
        of[function.__name__.replace("_", " ")] = function, found  # type: ignore[attr-defined]
        return function

    return add


def undecidable(function: Forgery) -> Forgery:
    UNDECIDABLE[function.__name__.replace("_", " ")] = function  # type: ignore[attr-defined]
    return function


# ---- somebody else's


@forgery("the same run as")
def another_students_folder_under_a_new_name(folder: Path, others: Others) -> None:
    shutil.rmtree(folder)
    shutil.copytree(others.fellow, folder)


@forgery("the same run as")
def one_run_of_another_student(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    shutil.rmtree(one)
    shutil.copytree(runs_of(others.fellow)[0], one)


@forgery("the same run as")
def another_students_folder_with_a_study_of_another_name(folder: Path, others: Others) -> None:
    shutil.rmtree(folder)
    shutil.copytree(others.fellow, folder)
    for run in runs_of(folder):
        respecify(run, lambda text: text.replace('name = "work"', 'name = "mine"'))
    for run in runs_of(folder):
        seal(run)


@forgery("not what seed 7")
def another_students_run_with_a_seed_of_ones_own(folder: Path, others: Others) -> None:
    put_run(folder, runs_of(others.fellow)[0], run_of(7))
    for run in runs_of(folder):
        measured_again(run)


@forgery("though the seeds are")
def one_run_as_two_seeds(folder: Path, others: Others) -> None:
    one, two = runs_of(folder)
    shutil.rmtree(two)
    claim(Path(shutil.copytree(one, two)), run_of(1))


@forgery("though the seeds are")
def one_run_as_two_seeds_with_other_times(folder: Path, others: Others) -> None:
    one_run_as_two_seeds(folder, others)
    measured_again(runs_of(folder)[1])


@forgery("though the backends are")
def one_run_as_two_backends(folder: Path, others: Others) -> None:
    one, two = runs_of(folder)
    shutil.rmtree(two)
    copy = claim(Path(shutil.copytree(one, two)), changed(run_of(0), backend="torch"))
    measured_again(copy)


@forgery("the same run as")
def weights_of_the_other_seed_below_losses_of_ones_own(folder: Path, others: Others) -> None:
    one, two = runs_of(folder)
    put_weights(one, two)


# ---- settings that were never used


def never_used(name: str, found: str, used: Mapping[str, Any] | None = None, **told: Any) -> None:
    """A forgery: `used` (or the study's recipe) was trained, `told` is said."""
    fields = {key: told.pop(key) for key in ("dtype", "train_size") if key in told}

    def forge(folder: Path, others: Others) -> None:
        put_run(folder, others.trained(run_of(0, used)), changed(run_of(0, told), **fields))

    FORGERIES[name] = forge, found


LOSSES = "not what seed 0, recipe and data give"
never_used("a learning rate that was never used", LOSSES, optimizer=Adam(0.004))
never_used("a learning rate a tenth of it higher", LOSSES, optimizer=Adam(0.0033))
never_used("another beta2", LOSSES, optimizer=Adam(0.003, beta2=0.99))
never_used("another optimizer", "not that of this recipe's optimizer", optimizer=Momentum(0.01))
never_used("a clip that was never used", LOSSES, clip_norm=0.1)
never_used("a clip that is left out", LOSSES, {"clip_norm": 0.5})
never_used("L2 that was never used", LOSSES, l2=0.05)
never_used("label smoothing that was never used", LOSSES, label_smoothing=0.1)
never_used("another loss", LOSSES, loss="mean_squared_error")
never_used("another scaling", "dataset.pixel_mean", scaling="unit")
never_used("another batch size", "the batches of epoch 1 are not those of the recipe", batch_size=32)
never_used("another share of validation", "dataset.n_train", validation=0.2)
never_used("more epochs than were trained", "the recipe ends after 5", epochs=5)
never_used("a dtype that was never used", "steps.npz: not what seed 0", dtype="float64")
never_used("fewer images than were trained on", "dataset.n_train", train_size=500)


@forgery("spec.toml: checkpoint-2 is of another one: seeds")
def another_seed_in_the_spec_alone(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    text = store.read_spec(one)
    assert "    0,\n" in text
    (one / "spec.toml").write_text(text.replace("    0,\n", "    4,\n", 1), encoding="utf-8")
    seal(one)


@forgery("not what seed 4, recipe and data give")
def another_seed_wherever_it_stands(folder: Path, others: Others) -> None:
    claim(runs_of(folder)[0], run_of(4))


@forgery("spec.toml: the folder's name is that of another one")
def a_spec_that_the_folders_name_does_not_fit(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    name = one.name
    again = respecify(one, lambda text: text.replace("epochs = 2", "epochs = 3"))
    seal(again)
    again.rename(again.with_name(name))


# ---- data


def on_other_data(load: Callable[[str], data.Data], recipe: Mapping[str, Any] | None = None) -> Forgery:
    """A forgery: another dataset was trained on than is said."""

    def forge(folder: Path, others: Others) -> None:
        run = run_of(0, recipe)
        source = others.trained(run, load)
        around = environment.environment(run, inputs.Examples(data.load("digits", offline=True), run), 1, "")
        told = around.document()["dataset"]
        edit(source / "environment.json", lambda found: found.update(dataset=store.finite(told)))
        one = runs_of(folder)[0]
        shutil.rmtree(one)
        seal(Path(shutil.copytree(source, one.with_name(source.name))))

    return forge


FORGERIES["training on the test images"] = on_other_data(leaky), LOSSES
FORGERIES["training on the test images, scaled plainly"] = on_other_data(leaky, {"scaling": "unit"}), LOSSES
FORGERIES["training on other labels"] = on_other_data(relabelled), LOSSES
FORGERIES["training on chosen images"] = on_other_data(cleaned), LOSSES


def leaky_elsewhere(name: str) -> data.Data:
    """The dataset with test images among the training images that neither the first ten steps nor the last one take."""
    loaded, run = data.load(name, offline=True), run_of(0)
    kept, _ = data.split(len(loaded.train_images), RECIPE.validation, 0)
    first, last = (data.epoch_order(len(kept), run.recipe, 0, epoch) for epoch in (0, 1))
    n = RECIPE.batch_size
    free = np.setdiff1d(kept, kept[np.concatenate([first[: 10 * n], last[len(last) // n * n :]])])
    free = free[: len(loaded.test_images)]
    images, labels = loaded.train_images.copy(), loaded.train_labels.copy()
    images[free], labels[free] = loaded.test_images[: len(free)], loaded.test_labels[: len(free)]
    return dataclasses.replace(loaded, train_images=images, train_labels=labels)


FORGERIES["training on the test images where nobody looks"] = (
    on_other_data(leaky_elsewhere, {"scaling": "unit"}),
    "train_inference_accuracy: it says",  # of the training images that are said, which the weights never learned
)


@forgery("its images are not the dataset's test images")
def other_samples(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_arrays(one, "samples", lambda arrays: arrays.update(images=255 - arrays["images"]))
    seal(one)


@forgery("samples.npz: its labels are not those")
def other_labels_of_samples(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_arrays(one, "samples", lambda arrays: arrays.update(labels=(arrays["labels"] + 1) % 10))
    seal(one)


@forgery("these are not the images with the largest loss")
def harmless_images_as_the_hardest(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    images = data.load("digits", offline=True).test_images
    n = len(store.read_npz(one / "hardest.npz")["indices"])
    store.write_npz(one / "hardest.npz", indices=np.arange(n), images=images[:n])
    seal(one)


@forgery("the data on this machine have other hashes")
def other_hashes_of_the_data(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "environment.json", lambda found: found["dataset"].update(hashes={"digits.csv": "ab" * 32}))
    seal(one)


@forgery("dataset.n_train")
def more_training_images_than_there_are(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "environment.json", lambda found: found["dataset"].update(n_train=5000))
    seal(one)


@forgery("dataset.class_counts")
def other_counts_of_classes(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "environment.json", lambda found: found["dataset"]["class_counts"].reverse())
    seal(one)


# ---- the history


@forgery("events.jsonl: epoch 1.test_accuracy: it says")
def an_earlier_epochs_accuracy_raised(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_events(one, lambda rows: rows[0].update(test_accuracy=rows[0]["test_accuracy"] + 0.05))
    seal(one)


@forgery("epoch 1.test_accuracy: it says", DEEP)
def an_earlier_epochs_accuracy_raised_in_the_checkpoint_too(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_history(one, lambda rows: rows[0].update(test_accuracy=rows[0]["test_accuracy"] + 0.15))
    seal(one)


@forgery("the first epoch, trained again", DEEP)
def losses_of_later_steps_made_smaller(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)

    def smaller(steps: dict[str, np.ndarray]) -> None:
        steps["loss"][12:-1] *= 0.7

    edit_steps(one, smaller)
    seal(one)


@forgery("epoch 2.validation_accuracy: it says")
def the_last_validation_accuracy_raised_wherever_it_stands(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_history(one, lambda rows: rows[1].update(validation_accuracy=0.99))
    seal(one)


@forgery("epoch 2.test_loss: it says")
def the_last_test_loss_lowered_wherever_it_stands(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_history(one, lambda rows: rows[1].update(test_loss=rows[1]["test_loss"] * 0.9))
    seal(one)


@forgery("right answers instead of")
def right_answers_of_the_first_steps_raised_wherever_they_stand(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)

    def raised(steps: dict[str, np.ndarray]) -> None:
        steps["correct"][:10] = np.minimum(steps["correct"][:10] + 9, steps["examples"][:10])

    edit_steps(one, raised)
    seal(one)


@forgery("steps.npz: loss:")
def losses_in_one_of_two_places(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_arrays(one, "steps", lambda steps: steps.update(loss=steps["loss"] * np.linspace(1, 0.8, len(steps["loss"]))))
    seal(one)


@forgery("learning_rate: it says")
def another_learning_rate_in_the_history(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_history(one, lambda rows: rows[1].update(learning_rate=0.001))
    seal(one)


@forgery("train_loss: it says")
def a_curve_that_is_not_that_of_the_steps(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_history(one, lambda rows: rows[0].update(train_loss=rows[0]["train_loss"] * 0.99))
    seal(one)


@forgery("epochs are told")
def an_epoch_left_out(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_events(one, lambda rows: rows.pop(0))
    seal(one)


@forgery("metrics.json.best_epoch")
def a_best_epoch_where_nobody_looked_for_one(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "metrics.json", lambda found: found.update(best_epoch=1))
    seal(one)


@forgery("the recipe ends after")
def a_training_that_went_on_after_it_should_have_stopped(folder: Path, others: Others) -> None:
    rule = {"early_stopping": {"monitor": "validation_loss", "patience": 1, "min_delta": 10.0}}
    put_run(folder, others.trained(run_of(0, {"epochs": 3})), run_of(0, {"epochs": 3, **rule}))


# ---- metrics and predictions


def other_metrics(name: str, found: str, change: Callable[[dict[str, Any]], object]) -> None:
    def forge(folder: Path, others: Others) -> None:
        one, _ = runs_of(folder)
        edit(one / "metrics.json", change)
        seal(one)

    FORGERIES[name] = forge, found


def _moved(found: dict[str, Any]) -> None:
    found["test"]["confusion"][3][3] += 2
    found["test"]["confusion"][3][8] -= 2


other_metrics("another accuracy", "test.accuracy", lambda found: found["test"].update(accuracy=0.9999))
other_metrics("another loss of the test", "test.loss", lambda found: found["test"].update(loss=0.01))
other_metrics("another F1 of one class", "per_class[3].f1", lambda found: found["test"]["per_class"][3].update(f1=1.0))
other_metrics("another average", "macro.precision", lambda found: found["test"]["macro"].update(precision=0.99))
other_metrics("another confusion", "confusion", _moved)
other_metrics("fewer parameters", "metrics.json.parameters", lambda found: found.update(parameters=100))
other_metrics("fewer multiply-adds", "multiply_adds", lambda found: found.update(multiply_adds=100))
other_metrics("another table of layers", "network[0]", lambda found: found["network"][0].update(parameters=1))
other_metrics("an early stop", "stopped_early", lambda found: found.update(stopped_early=True))
other_metrics("weights of another epoch", "weights_of_epoch", lambda found: found.update(weights_of_epoch=1))


@forgery("predictions.npz: not what the weights give")
def another_runs_predictions(folder: Path, others: Others) -> None:
    one, two = runs_of(folder)
    shutil.copy(two / "predictions.npz", one / "predictions.npz")
    evaluate_again(one)


@forgery("its labels are not those of the dataset's test images")
def labels_that_make_answers_right(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_arrays(one, "predictions", lambda arrays: arrays.update(labels=arrays["logits"].argmax(axis=1)))
    evaluate_again(one)


@forgery("predictions.npz: not what the weights give")
def all_answers_made_right(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)

    def right(arrays: dict[str, np.ndarray]) -> None:
        rows = np.arange(len(arrays["labels"]))
        arrays["logits"][rows, arrays["labels"]] = arrays["logits"].max(axis=1) + 1

    edit_arrays(one, "predictions", right)
    evaluate_again(one)


@forgery("predictions.npz: not what the weights give: 1 of")
def one_answer_made_right(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)

    def right(arrays: dict[str, np.ndarray]) -> None:
        row = int(np.flatnonzero(arrays["logits"].argmax(axis=1) != arrays["labels"])[0])
        arrays["logits"][row, arrays["labels"][row]] = arrays["logits"][row].max() + 1e-3

    edit_arrays(one, "predictions", right)
    evaluate_again(one)


@forgery("predictions.npz: not what the weights give")
def predictions_that_are_no_numbers(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit_arrays(one, "predictions", lambda arrays: arrays["logits"].__setitem__((slice(None), 0), np.nan))
    evaluate_again(one)


@forgery("not what the weights give")
def weights_of_another_run_alone(folder: Path, others: Others) -> None:
    one, two = runs_of(folder)
    weights, state = store.read_checkpoint(two / "checkpoint-2")
    edit_checkpoint(one, lambda facts, arrays: arrays.update(weights=weights, state=state))


@forgery("the last step")
def weights_that_were_trained_longer_below_honest_losses(folder: Path, others: Others) -> None:
    put_weights(runs_of(folder)[0], others.trained(run_of(0, {"epochs": 6})))


@forgery("the last step")
def weights_that_were_trained_on_the_test_images_below_honest_losses(folder: Path, others: Others) -> None:
    put_weights(runs_of(folder)[0], others.trained(run_of(0), leaky))


# ---- times and the machine


@forgery("timing.json: epochs[0]")
def shorter_epochs_in_one_place(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "timing.json", lambda found: found.update(epochs=[value / 2 for value in found["epochs"]]))
    seal(one)


@forgery("timing.json: seconds.train")
def a_shorter_clock_in_one_place(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "timing.json", lambda found: found["seconds"].update(train=found["seconds"]["train"] / 2))
    seal(one)


@forgery("environment.json: checkpoint-2 was written with other cpu")
def another_processor(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "environment.json", lambda found: found.update(cpu="Cray-1"))
    seal(one)


@forgery("environment.json: checkpoint-2 was written with other versions")
def other_versions(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "environment.json", lambda found: found["versions"].update(numpy="9.9"))
    seal(one)


@forgery("status.json: threads")
def other_threads(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    store.write_status(one, "finished", threads=2)
    seal(one)


# ---- files


@forgery("the manifest says")
def an_edit_without_a_new_hash(folder: Path, others: Others) -> None:
    (runs_of(folder)[0] / "timing.json").write_text("{}")


@forgery("status.json")
def a_status_that_is_not_sealed(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    status = json.loads((one / "status.json").read_text())
    (one / "status.json").write_text(json.dumps({**status, "finished": "2020-01-01T00:00:00Z"}, indent=2) + "\n")


@forgery("cannot be read")
def an_unfinished_run_that_says_it_is_finished(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    for name in ("predictions.npz", "metrics.json"):
        (one / name).unlink()
    listed = {name: value for name, value in store.read_json(one / "manifest.json")["files"].items()}
    for name in ("predictions.npz", "metrics.json"):
        del listed[name]
    store.write_json(one / "manifest.json", {"format": 1, "files": listed})


@forgery("no checkpoint with its weights can be used")
def no_weights(folder: Path, others: Others) -> None:
    shutil.rmtree(runs_of(folder)[0] / "checkpoint-2")


# ---- the page


def on_the_page(name: str, found: str, change: Callable[[str], str]) -> None:
    PAGES[name] = (lambda folder, others: edit_page(folder, change)), found


def _after(pattern: str, more: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, lambda match: match[0] + more, text, count=1)


def _in_a_drawing(more: str) -> Callable[[str], str]:
    return _after(r'<svg class="plot"[^>]*>', more)


MARKUP = "its markup has"
on_the_page(
    "another number",
    "it says “99.9”",
    lambda t: re.sub(r'<td class="r ">\d\d\.\d</td>', '<td class="r ">99.9</td>', t, count=1),
)
on_the_page(
    "a style that hides a paragraph", MARKUP, lambda t: t.replace("</style>", "p.answer { display: none }</style>", 1)
)
on_the_page(
    "a style that shows 99.9 in a column",
    MARKUP,
    lambda t: t.replace("</style>", 'td:nth-child(4)::before { content: "99.9" }</style>', 1),
)
on_the_page("a second style", MARKUP, _after("</style>", "<style>td { color: #fff0 }</style>"))
on_the_page(
    "a style below the page", MARKUP, lambda t: t.replace("</body>", "<style>p { display: none }</style></body>")
)
on_the_page(
    "a script", "document.title", lambda t: t.replace("</body>", "<script>document.title = 'best'</script></body>")
)
on_the_page("a script from elsewhere", MARKUP, lambda t: t.replace("</head>", '<script src="x.js"></script></head>'))
on_the_page(
    "a stylesheet from elsewhere", MARKUP, lambda t: t.replace("</head>", '<link rel="stylesheet" href="x.css"></head>')
)
on_the_page("a picture over a table", MARKUP, _after("<main>", '<img style="position:absolute" src="x.png">'))
on_the_page("a hidden paragraph", MARKUP, lambda t: t.replace('<p class="answer">', '<p class="answer" hidden>', 1))
on_the_page("another class of a cell", MARKUP, lambda t: t.replace('<td class="r ">', '<td class="r best">', 1))
on_the_page("a handler", MARKUP, lambda t: t.replace("<main>", '<main onmouseover="this.hidden = true">', 1))
on_the_page(
    "a comment that hides a section",
    "",
    lambda t: t.replace('<section id="comparisons">', '<!--<section id="comparisons">', 1),
)
on_the_page(
    "a link that leads elsewhere", MARKUP, lambda t: t.replace('href="#results"', 'href="https://a.example"', 1)
)
on_the_page("another base of links", MARKUP, lambda t: t.replace("</head>", '<base href="https://a.example"></head>'))
on_the_page("a sentence more", "it says", lambda t: t.replace("</main>", "<p>All teachers agree.</p></main>"))
on_the_page(
    "a sentence less", "the runs “", lambda t: re.sub(r'<p class="answer">.*?</p>', "", t, count=1, flags=re.DOTALL)
)
on_the_page("a style in a drawing", "a drawing holds", _in_a_drawing("<style>p { display: none }</style>"))
on_the_page("a script in a drawing", "a drawing holds", _in_a_drawing("<script>1</script>"))
on_the_page("HTML in a drawing", "", _in_a_drawing("<foreignObject><p>99.9</p></foreignObject>"))
on_the_page(
    "a handler in a drawing",
    "a drawing holds",
    lambda t: re.sub(r'(<svg class="plot"[^>]*><g)', r'\1 onclick="1"', t, count=1),
)
on_the_page(
    "a style of a drawing's element that moves it",
    "a drawing holds",
    lambda t: re.sub(r'(<svg class="plot"[^>]*>.*?<g)', r'\1 style="position: fixed"', t, count=1, flags=re.DOTALL),
)
on_the_page(
    "another size of a drawing",
    MARKUP,
    lambda t: re.sub(r'(<svg class="plot"[^>]*) width="', r'\1 width="9', t, count=1),
)
on_the_page(
    "another text in a drawing",
    "it says",
    lambda t: re.sub(r"(<svg class=\"plot\".*?<text[^>]*>)[^<]+<", r"\1 99 %<", t, count=1, flags=re.DOTALL),
)


@forgery("pictures that its runs do not give", PAGES)
def another_picture(folder: Path, others: Others) -> None:
    def exchanged(text: str) -> str:
        one, two = itertools.islice(dict.fromkeys(re.findall(r'src="(data:image/png;base64,[^"]*)"', text)), 2)
        return text.replace(one, two, 1)

    edit_page(folder, exchanged)


@forgery("it shows runs that are not here", PAGES)
def a_page_of_runs_that_are_not_here(folder: Path, others: Others) -> None:
    shutil.rmtree(runs_of(folder)[1])


@forgery("report.html", PAGES)
def the_page_of_a_fellow(folder: Path, others: Others) -> None:
    shutil.copy(others.fellow / "report.html", folder / "report.html")


@forgery("it does not say what it shows", PAGES)
def a_page_that_does_not_say_what_it_shows(folder: Path, others: Others) -> None:
    edit_page(folder, lambda text: re.sub(r'<meta name="lockstep"[^>]*>', "", text))


# ---- what nobody can tell


@undecidable
def times_that_were_never_measured(folder: Path, others: Others) -> None:
    for run in runs_of(folder):
        measured_again(run, 0.5)


@undecidable
def another_students_runs_with_times_made_up(folder: Path, others: Others) -> None:
    shutil.rmtree(folder)
    shutil.copytree(others.fellow, folder)
    (folder / "report.html").unlink()
    for place, run in enumerate(runs_of(folder)):
        measured_again(run, 1.01 + place / 100)


@undecidable
def more_memory_than_was_taken(folder: Path, others: Others) -> None:
    one, _ = runs_of(folder)
    edit(one / "timing.json", lambda found: found.update(peak_memory_bytes=found["peak_memory_bytes"] * 3))
    seal(one)


@undecidable
def a_run_that_somebody_else_trained(folder: Path, others: Others) -> None:
    shutil.rmtree(folder)
    hand_in(folder, page=False)


# ---- one number, drawn


def drawn(folder: Path, seed: int) -> str:
    """Change one number of the first run that is drawn, wherever it stands, and seal all of it; what was changed."""
    rng = np.random.default_rng([seed, 3])
    run = runs_of(folder)[0]
    name, forge = list(DRAWN.items())[seed % len(DRAWN)]
    said = forge(run, rng)
    seal(run)
    return f"{name}: {said}"


def _leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all numbers in JSON."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*place, key))]
    if isinstance(value, list):
        return [leaf for key, item in enumerate(value) for leaf in _leaves(item, (*place, key))]
    return [place] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _moved_a_little(value: float, rng: np.random.Generator) -> float:
    if isinstance(value, int):
        return value + int(rng.integers(1, 4))
    return value * (1 + float(rng.choice([1e-3, -1e-2, 0.05]))) if value else 0.01


def _one_number(found: dict[str, Any], rng: np.random.Generator) -> str:
    leaves = _leaves(found)
    *path, last = leaves[int(rng.integers(len(leaves)))]
    inner: Any = found
    for key in path:
        inner = inner[key]
    before = inner[last]
    inner[last] = _moved_a_little(before, rng)
    return f"{[*path, last]}: {before} → {inner[last]}"


def _in_json(name: str, part: str = "") -> Callable[[Path, np.random.Generator], str]:
    def forge(run: Path, rng: np.random.Generator) -> str:
        said = []
        edit(run / name, lambda found: said.append(_one_number(found[part] if part else found, rng)))
        return said[0]

    return forge


def _in_the_last_row(run: Path, rng: np.random.Generator) -> str:
    keys = ("test_loss", "validation_loss", "train_loss", "train_accuracy", "learning_rate")
    key = keys[int(rng.integers(len(keys)))]
    edit_history(run, lambda rows: rows[-1].update({key: rows[-1][key] * 1.05}))
    return key


def _in_a_row_of_one_place(run: Path, rng: np.random.Generator) -> str:
    said: list[str] = []
    edit_events(run, lambda rows: said.append(_one_number(rows[int(rng.integers(len(rows)))], rng)))
    return said[0]


def _in_the_first_steps(run: Path, rng: np.random.Generator) -> str:
    step = int(rng.integers(10))
    edit_steps(run, lambda steps: steps["loss"].__setitem__(step, steps["loss"][step] * 0.999))
    return f"step {step}"


def _in_the_last_step(run: Path, rng: np.random.Generator) -> str:
    edit_steps(run, lambda steps: steps["loss"].__setitem__(-1, steps["loss"][-1] * 0.99))
    return "the last loss"


def _in_the_logits(run: Path, rng: np.random.Generator) -> str:
    place = int(rng.integers(300)), int(rng.integers(10))
    edit_arrays(run, "predictions", lambda arrays: arrays["logits"].__setitem__(place, arrays["logits"][place] + 0.01))
    evaluate_again(run)
    return f"{place}"


def _in_the_weights(run: Path, rng: np.random.Generator) -> str:
    def moved(facts: dict[str, Any], arrays: dict[str, dict[str, np.ndarray]]) -> None:
        value = arrays["weights"]["4_dense/bias"].copy()
        value[int(rng.integers(10))] += 0.01
        arrays["weights"] = {**arrays["weights"], "4_dense/bias": value}

    edit_checkpoint(run, moved)
    return "a bias"


def _in_the_weights_and_all_that_follows(run: Path, rng: np.random.Generator) -> str:
    def moved(facts: dict[str, Any], arrays: dict[str, dict[str, np.ndarray]]) -> None:
        value = arrays["weights"]["4_dense/kernel"].copy()
        value *= 1.02
        arrays["weights"] = {**arrays["weights"], "4_dense/kernel": value}

    edit_checkpoint(run, moved)
    predict_again(run)
    return "a kernel"


DRAWN: dict[str, Callable[[Path, np.random.Generator], str]] = {
    "metrics.json": _in_json("metrics.json"),
    "the dataset's facts": _in_json("environment.json", "dataset"),
    "the last row": _in_the_last_row,
    "a row of one place": _in_a_row_of_one_place,
    "the first steps": _in_the_first_steps,
    "the last step": _in_the_last_step,
    "the logits": _in_the_logits,
    "the weights": _in_the_weights,
    "the weights and all that follows": _in_the_weights_and_all_that_follows,
}
