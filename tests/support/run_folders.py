"""Run folders as workers write them, with made up numbers: what a report is made of, without a training."""

from __future__ import annotations

import itertools
import json
import zlib
from pathlib import Path

import numpy as np
import tomli_w

from lockstep import store
from lockstep.spec import Adam, Conv2D, Dense, Flatten, MaxPool2D, Network, Recipe, ReLU, Study
from lockstep.spec.records import to_table
from lockstep.training import metrics

NETWORKS = {
    "mlp": Network((Flatten(), Dense(31), ReLU(), Dense(7))),
    "cnn": Network((Conv2D(5, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(7))),
}
BACKENDS = ("numpy", "torch", "tensorflow", "jax")
CLASSES = ("zero", "one", "two", "three", "four", "five", "six")
N_TEST, EPOCHS = 211, 5
TAKEN = itertools.count()  # no run takes what another took to the last digit


def fake_run(
    root: Path, network="mlp", backend="numpy", seed=0, *, rate=1e-3, dataset="digits", accuracy=0.9, status="finished",
    reason=None, class_names=CLASSES, epochs=EPOCHS, threads=2, question="Do four backends agree?", optimizer="",
) -> Path:  # fmt: skip
    """A run folder as a worker writes it, with numbers made up from the arguments."""
    recipe = Recipe(optimizer=optimizer or Adam(rate), epochs=epochs, validation=0.1)
    study = Study({network: NETWORKS[network]}, dataset, backend, seed, recipe=recipe, question=question, name="demo")
    folder = store.claim(root / "demo", f"{network}-{dataset}-{optimizer or rate}-{backend}-{seed}")
    code = "LS-402" if status == "failed" else None
    store.write_json(folder / "status.json", {"format": 1, "status": status, "code": code, "reason": reason})
    store.write_bytes(folder / "spec.toml", tomli_w.dumps(to_table(study)).encode())
    n = len(class_names)
    described = {
        "name": dataset, "title": dataset.capitalize(), "origin": "made up", "hashes": {"images.gz": "ab" * 32},
        "notes": "", "shape": [12, 11, 1], "class_names": list(class_names),
        "class_counts": [100 + i for i in range(n)], "n_train": 700, "n_validation": 70, "n_test": N_TEST,
    }  # fmt: skip
    store.write_json(folder / "environment.json", {
        "lockstep": "0.1.0", "python": "3.11.7", "platform": "Linux-6.1", "cpu": "AMD EPYC 9654", "cores": 2,
        "threads": {"asked": 2, "obtained": threads}, "device": "cpu", "versions": {backend: "2.4.1"},
        "dataset": described, "git_revision": None,
    })  # fmt: skip
    for epoch in range(1, epochs + 1):
        loss = 0.9 / epoch + 0.001 * BACKENDS.index(backend)
        rows = {f"{s}_loss": loss + 0.05 * i for i, s in enumerate(("train", "validation", "test"))}
        rows |= {f"{s}_accuracy": 1 - loss / 3 - 0.01 * i for i, s in enumerate(("train", "validation", "test"))}
        rows |= {"train_inference_loss": loss, "train_inference_accuracy": rows["train_accuracy"]}
        row = {"event": "epoch", "epoch": epoch, **rows, "learning_rate": rate, "train_seconds": 0.4}
        store.append_event(folder / "events.jsonl", row)
        if status == "failed" and epoch == 2:
            return folder
    _write_results(folder, study, backend, accuracy, n)
    return folder


def _write_results(folder: Path, study: Study, backend: str, accuracy: float, n: int) -> None:
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (16, 12, 11, 1)).astype(np.uint8)
    store.write_npz(folder / "samples.npz", images=images, labels=np.arange(16) % n)
    labels = np.arange(N_TEST) % n
    right = np.arange(N_TEST) < round(accuracy * N_TEST)
    logits = 5.0 * np.eye(n, dtype=np.float32)[np.where(right, labels, (labels + 1) % n)]
    own = zlib.crc32(tomli_w.dumps(to_table(study)).encode())  # another run's bits are others, the same run's are not
    logits += 1e-4 * np.random.default_rng(own).random(logits.shape, dtype=np.float32)
    store.write_npz(folder / "predictions.npz", logits=logits, labels=labels)
    network = next(iter(study.networks.values()))
    summary = network.summary((12, 11, 1))
    store.write_json(folder / "metrics.json", {
        "test": metrics.evaluate(logits, labels, study.recipe), "epochs": study.recipe.epochs, "best_epoch": None,
        "stopped_early": False, **summary,
    })  # fmt: skip
    pace = 1 + BACKENDS.index(backend)
    clocks = {"import": 0.5 * pace, "build": 0.02, "compile": 0.8, "train": 2.0 * pace, "evaluate": 0.3}
    timing = {
        "seconds": {**clocks, "total": 9.0},
        "epochs": [0.4 * pace + 1e-9 * next(TAKEN)] * 5,
        "peak_memory_bytes": 300 * 2**20,
    }
    store.write_json(folder / "timing.json", timing)


def seeds_of(root, backend, accuracies, seeds=range(99), **keys):
    return [
        fake_run(root, backend=backend, seed=seed, accuracy=value, **keys)
        for seed, value in zip(seeds, accuracies, strict=False)
    ]


def amend(folder, file, change):
    value = json.loads((folder / file).read_text(encoding="utf-8"))
    change(value)
    store.write_json(folder / file, value | ({"seal": store.seal(value)} if "seal" in value else {}))


def diverge(folder):
    def change(found):
        found["test"] |= {"loss": None, "log_loss": None, "accuracy": 1.0}

    amend(folder, "metrics.json", change)


DAMAGED = [
    ("timing.json", {"seconds": {"train": "long"}}, "seconds.train is not a number"),
    ("timing.json", {"epochs": 3}, "epochs is not a list"),
    ("timing.json", {"peak_memory_bytes": -1}, "peak_memory_bytes is -1, which is out of range"),
    ("metrics.json", {"network": [{"name": "dense1"}]}, "network[0].output_shape is missing"),
    ("metrics.json", {"test": {"confusion": [[1, 2], [3]]}}, "test: the confusion matrix is not square"),
    ("metrics.json", {"network": [None]}, "network[0] is not a table"),
    ("metrics.json", {"stopped_early": "perhaps"}, "stopped_early is not true or false"),
]
