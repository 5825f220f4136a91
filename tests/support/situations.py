"""How a user gets to every error: one situation a code."""

from __future__ import annotations

import dataclasses
import errno
import gzip

import numpy as np
import pytest

from lockstep import backends, store
from lockstep.data import DATASETS, images
from lockstep.files import locks
from lockstep.training import checkpoints
from support.small_datasets import IMAGES, idx, idx_folder, npz, one_empty_class, study
from support.small_datasets import a_broken_png as broken_png
from support.small_datasets import images as pictures

RUN = ["run", "s.toml"]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """An empty folder to be in, on a machine without datasets."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("LOCKSTEP_DATA", raising=False)
    monkeypatch.setattr("lockstep.data.places.SYSTEM", tmp_path / "system")
    monkeypatch.setattr("lockstep.cli.interruption.end_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)


def with_study(*changes, prepare=IMAGES, dataset="data", then=RUN):
    """A study on a folder of pictures, with (right, wrong) changes to its text."""

    def situation(folder, monkeypatch):
        prepare(folder)
        study(folder, dataset, **{str(n): change for n, change in enumerate(changes)})
        return then

    return situation


def typed(*arguments):
    return lambda folder, monkeypatch: list(arguments)


def dead_mirrors(folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    entry = dataclasses.replace(DATASETS["mnist"], mirrors=("http://127.0.0.1:9/", "http://127.0.0.1:9/other/"))
    monkeypatch.setitem(DATASETS, "mnist", entry)
    return ["data", "fetch", "mnist"]


def a_changed_import(folder, monkeypatch):
    from lockstep import data

    npz(folder)
    stored = data.import_folder(folder / "data.npz", "pets")
    with np.load(stored, allow_pickle=False) as archive:
        arrays = dict(archive)
    arrays["test_labels"][0] ^= 1
    np.savez(stored, **arrays)
    return ["data", "verify", "pets"]


def missing_framework(folder, monkeypatch):
    monkeypatch.setattr(backends, "why_missing", lambda name: f"{name} is not installed")
    return with_study(('["numpy"]', '["jax"]'))(folder, monkeypatch)


def in_the_worker(code):
    """A study whose worker process runs this code before it begins."""

    def situation(folder, monkeypatch):
        (folder / "sitecustomize.py").write_text(
            f"import sys\nif 'lockstep.training.worker' in sys.orig_argv:\n    {code}\n", encoding="utf-8"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return with_study()(folder, monkeypatch)

    return situation


def full_disk(folder, monkeypatch):
    def fsync(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    return with_study()(folder, monkeypatch)


def too_little_memory(folder, monkeypatch):
    def read(*_):
        raise MemoryError

    pictures(folder)
    monkeypatch.setattr(images, "read", read)
    return ["data", "import", "data", "pets"]


def begun(folder):
    """A run folder whose run was interrupted."""
    from lockstep.spec.toml import resolved_toml
    from lockstep.study import load_study, one_run_study

    pictures(folder)
    study(folder)
    loaded = load_study(folder / "s.toml")
    place = folder / "runs" / "s" / "a"
    store.make_folder(place)
    (place / "spec.toml").write_text(resolved_toml(one_run_study(loaded, loaded.runs()[0])))
    store.write_status(place, "running")
    return place


def a_run_at_work(folder, monkeypatch):
    place = begun(folder)
    lock = locks.take(place)
    monkeypatch.setattr(locks.Lock, "kept_open_by_the_test", lock, raising=False)
    return ["resume", "runs"]


def another_spec(folder, monkeypatch):
    place = begun(folder)
    text = (place / "spec.toml").read_text()
    environment = {key: "" for key in checkpoints.DECIDES} | {"threads": {}, "dataset": {"hashes": {}}}
    progress = checkpoints.Progress([{"epoch": 1}], np.zeros((3, 1)))
    checkpoints.save(place, text, environment, progress, {}, {})
    (place / "spec.toml").write_text(text.replace("epochs = 1", "epochs = 4"))
    return ["resume", "runs"]


TEST_LABELS = np.arange(4, dtype=np.uint8) % 2
SITUATIONS = {
    "LS-200": (typed("run"), ["Missing argument", "lockstep run --help"]),
    "LS-201": (typed("show", "none.toml"), ["none.toml", "No such file", "lab-lenet", "lockstep init NAME"]),
    "LS-202": (with_study(("[recipe]", "[recipe")), ["s.toml", "line 4", "toml.io"]),
    "LS-203": (with_study(("epochs", "epocs")), ["s.toml:5", 'unknown key "epocs"', 'did you mean "epochs"?']),
    "LS-204": (with_study(("= 1", '= "1"')), ["s.toml:5", "'1' is not a whole number"]),
    "LS-205": (with_study(("= 1", "= 0")), ["s.toml:5", "0 is out of range: it must be at least 1"]),
    "LS-206": (with_study(('"dense 2"', '"dense 5"')), ["(5,)", "has 2 classes", 'end with "dense 2"']),
    "LS-207": (
        with_study(("epochs = 1", 'epochs = 1\nearly_stopping = {monitor = "validation_loss"}')),
        ["no images are held out", "recipe.validation = 0.1"],
    ),
    "LS-208": (with_study(("[networks]\na", "#")), ['"networks" is required', "add it"]),
    "LS-209": (with_study(('["numpy"]', '["numpi"]')), ["s.toml:3", 'did you mean "numpy"?']),
    "LS-210": (typed("prove", "one", "one"), ["compared with itself", "name two folders"]),
    "LS-301": (typed("data", "fetch", "mnist", "--offline"), ["not on this machine", "lockstep data fetch mnist"]),
    "LS-302": (dead_mirrors, ["tried:", "http://127.0.0.1:9/other/", "refused", "lockstep data import FOLDER NAME"]),
    "LS-303": (a_changed_import, ["1 of 4 files", "fetch it again"]),
    "LS-304": (
        with_study(prepare=lambda folder: idx_folder(folder, test_labels=idx(TEST_LABELS)[:-1])),
        ["t10k-labels-idx1-ubyte", "declares 4 bytes", "3 follow", "get the file again"],
    ),
    "LS-305": (
        with_study(prepare=lambda folder: idx_folder(folder, test_labels=gzip.compress(idx(TEST_LABELS))[:-9])),
        ["t10k-labels-idx1-ubyte.gz", "cut off", "get the file again"],
    ),
    "LS-306": (
        with_study(prepare=lambda folder: npz(folder, train_images=np.zeros((6, 7, 9))), dataset="data.npz"),
        ["data.npz", "not whole numbers", "astype('uint8')"],
    ),
    "LS-307": (with_study(prepare=one_empty_class), ['"eel" has no picture', "at least two"]),
    "LS-308": (with_study(prepare=broken_png), ["2.png", "cannot be read", "8-bit grey or RGB PNG"]),
    "LS-309": (
        with_study(
            prepare=lambda folder: npz(folder, class_names=np.array(["a", "b"]), train_labels=np.arange(6) % 3),
            dataset="data.npz",
        ),
        ["2 train labels lie outside 0 … 1: number 2 is 2", "number the classes from 0"],
    ),
    "LS-310": (typed("data", "import", ".", "mnist"), ["knows already", "choose another name"]),
    "LS-311": (
        with_study(
            prepare=lambda folder: (folder / "data.csv").write_text("0" + ",7" * 16 + "\n1" + ",7" * 15 + "\n"),
            dataset="data.csv",
        ),
        ["data.csv", "line 2 has 16 columns, the first one 17", "one row of the same length"],
    ),
    "LS-401": (missing_framework, ["jax is not installed", "pip install 'lockstep-nn[jax]'"]),
    "LS-402": (in_the_worker("import os; os.kill(os.getpid(), 9)"), ["SIGKILL", "memory runs out", "worker.log"]),
    "LS-403": (
        in_the_worker("import lockstep.training.metrics as m; m.evaluate = lambda *_: 1 / 0"),
        ["ZeroDivisionError: division by zero", "worker.log"],
    ),
    "LS-404": (with_study(('backends = ["numpy"]', 'backends = ["numpy"]\ndevice = "cuda"')), ["CPU only", "→"]),
    "LS-501": (with_study(then=[*RUN, "--runs", "s.toml"]), ["s.toml", "cannot write", "--runs FOLDER"]),
    "LS-502": (full_disk, ["the disk is full", "free some space"]),
    "LS-503": (too_little_memory, ["does not fit into memory", "fewer or smaller images"]),
    "LS-504": (a_run_at_work, ["runs/s/a", "works on this run", "wait for it, or end it"]),
    "LS-505": (typed("report", "."), ["no run folder here", "name a folder below runs/"]),
    "LS-506": (another_spec, ["recipe.epochs: 1 → 4", "put the file back"]),
}  # fmt: skip
