"""Bad input, one row per line of the promise: one clear error with a code, the right exit code, no traceback."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pytest

from support.command_line import deny, lockstep
from support.small_datasets import IMAGES, NOTHING, a_broken_png, idx, idx_folder, images, npz, one_empty_class, study


def a_file_in_place_of_the_runs(folder):
    images(folder)
    (folder / "runs").write_bytes(b"")


# name → (what lies there, the study, exit code, code, words that must be said, options)
ROWS = {
    "an unknown key": (IMAGES, {"x": ("epochs", "epocs")}, 2, "LS-203", ["s.toml:5", "epocs", '"epochs"'], []),
    "a wrong type": (IMAGES, {"x": ("= 1", '= "1"')}, 2, "LS-204", ["s.toml:5", "'1'", "whole number"], []),
    "a negative rate": (IMAGES, {"x": ("sgd 0.1", "sgd -0.1")}, 2, "LS-205", ["s.toml:6", "-0.1", "above 0"], []),
    "a kernel larger than its input": (
        IMAGES, {"x": ("conv2d 2 3", "conv2d 2 8")}, 2, "LS-206", ["layer 0 (conv2d)", "8×8", "7×9"], [],
    ),
    "labels outside the classes": (
        lambda folder: npz(folder, class_names=np.array(["a", "b"]), train_labels=np.array([0, 1, 2, 0, 1, 1])), "npz",
        3, "LS-309", ["data.npz"], [],
    ),
    "an image folder with one class": (lambda folder: images(folder, ("cat",)), {}, 3, "LS-307", ["class"], []),
    "an image folder with an empty class": (one_empty_class, {}, 3, "LS-307", ["eel"], []),
    "a broken PNG": (a_broken_png, {}, 3, "LS-308", ["2.png"], []),
    "an IDX file that is cut off": (
        lambda folder: idx_folder(folder, train_images=idx(np.zeros((6, 7, 9), np.uint8))[:-5]), {}, 3, "LS-304",
        ["train-images-idx3-ubyte"], [],
    ),
    "an IDX file with the wrong magic": (
        lambda folder: idx_folder(folder, test_images=idx(np.zeros((4, 7, 9), np.uint8), magic=0x1234_5678)), {}, 3,
        "LS-304", ["t10k-images-idx3-ubyte"], [],
    ),
    "IDX counts that disagree": (
        lambda folder: idx_folder(folder, train_labels=idx(np.zeros(5, np.uint8))), {}, 3, "LS-304", ["5", "6"], [],
    ),
    "a gzip bomb": (
        lambda folder: idx_folder(
            folder, train_images=gzip.compress(idx(np.zeros((6, 7, 9), np.uint8)) + bytes(50_000_000))
        ),
        {}, 3, "LS-305", ["train-images-idx3-ubyte.gz"], [],
    ),
    "a missing dataset with no network": (
        NOTHING, "mnist", 3, "LS-301", ["mnist", "lockstep data fetch mnist"], ["--offline"],
    ),
    "an unknown framework": (IMAGES, {"x": ('["numpy"]', '["numpi"]')}, 2, "LS-209", ["numpi", '"numpy"'], []),
    "a framework that is not installed": (
        IMAGES, {"x": ('["numpy"]', '["jax"]')}, 4, "LS-401", ["not installed", "pip install 'lockstep-nn[jax]'"], [],
    ),
    "an output folder that cannot be written": (
        a_file_in_place_of_the_runs, {}, 5, "LS-501", ["runs", "--runs FOLDER"], [],
    ),
    "no file": (IMAGES, None, 2, "LS-201", ["s.toml"], []),
    "no TOML": (IMAGES, {"x": ("[recipe]", "[recipe")}, 2, "LS-202", ["s.toml", "line"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_is_one_clear_error(name, tmp_path):
    prepare, change, exit_code, code, words, options = ROWS[name]
    prepare(tmp_path)
    if change is not None:
        study(tmp_path, **change) if isinstance(change, dict) else study(tmp_path, "data.npz")
    if change == "mnist":
        (tmp_path / "s.toml").write_text(
            (tmp_path / "s.toml")
            .read_text()
            .replace(str(tmp_path / "data.npz"), "mnist")
            .replace("dense 2", "dense 10")
        )
    (tmp_path / "deny").mkdir()
    deny(tmp_path / "deny", "jax")
    with open(tmp_path / "deny" / "sitecustomize.py", "a") as file:
        file.write("import pathlib, lockstep.data.places as p\np.SYSTEM = pathlib.Path('/nonexistent')\n")
    homes = {name: str(tmp_path / "home") for name in ("LOCKSTEP_DATA", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HOME")}
    arguments = ["run", "s.toml", *options]
    done = lockstep(*arguments, folder=tmp_path, code=exit_code, PYTHONPATH=str(tmp_path / "deny"), **homes)
    assert done.stderr.count("LS-") == 1, done.stderr
    assert code in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "→" in done.stderr, "what to do about it"


def test_the_rows_are_bad_for_their_one_reason_only(tmp_path):
    """The same studies on sound data run to the end."""
    images(tmp_path)
    study(tmp_path)
    assert len(json.loads(lockstep("run", "s.toml", "--json", folder=tmp_path).stdout)["runs"]) == 1
    for dataset, prepare in (("idx", idx_folder), ("npz", npz)):
        folder = tmp_path / dataset
        folder.mkdir()
        prepare(folder)
        study(folder, "data.npz" if dataset == "npz" else "data")
        lockstep("show", "s.toml", folder=folder)


def test_a_folder_without_permission_is_told(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; a file in place of the folder stands for it above")
    images(tmp_path)
    study(tmp_path)
    (tmp_path / "runs").mkdir(mode=0o500)
    done = lockstep("run", "s.toml", folder=tmp_path, code=5)
    assert "LS-501" in done.stderr
