"""The lines that refused files come with: run on such a file, they leave a dataset that is read."""

import subprocess
import sys

import numpy as np
import pytest

from lockstep.data import load
from lockstep.data.scripts import refusal
from lockstep.errors import LockstepError
from support.quartets import MNIST, write

RNG = np.random.default_rng(5)
X, Y = RNG.integers(0, 256, (12, 28, 28), np.uint8), np.array([0, 1, 2] * 4)
X[0, 0, 0] = 255  # so that the scale of fractions is known
TEST_X, TEST_Y = X[:6], Y[:6]


def svhn(folder):
    from scipy.io import savemat

    for part, x, y in (("train", X, Y), ("test", TEST_X, TEST_Y)):
        coloured = np.stack([x[:, ::2, ::2]] * 3, axis=-1).transpose(1, 2, 3, 0)
        savemat(folder / f"{part}_32x32.mat", {"X": coloured, "y": np.where(y == 0, 10, y)[:, None]})
    return folder / "train_32x32.mat"


def emnist(folder):
    from scipy.io import savemat

    def half(x, y):
        return {"images": x.transpose(0, 2, 1).reshape(len(x), -1), "labels": y[:, None], "writers": y[:, None]}

    parts = {"train": half(X, Y), "test": half(TEST_X, TEST_Y), "mapping": np.arange(6).reshape(3, 2)}
    savemat(folder / "emnist-letters.mat", {"dataset": parts})
    return folder / "emnist-letters.mat"


def original(folder):
    from scipy.io import savemat

    savemat(folder / "mnist-original.mat", {"data": X.reshape(12, -1).T, "label": Y[None].astype(float)})
    return folder / "mnist-original.mat"


PICKLED = """
import gzip, pickle, sys
import numpy as np
x, y = np.load("x.npy"), np.load("y.npy")
name, scale = sys.argv[1], int(sys.argv[2])
parts = [((x[rows].reshape(-1, 784) / scale).astype("float32"), y[rows]) for rows in (slice(9), slice(9, 12), slice(6))]
with (gzip.open if name.endswith("gz") else open)(name, "wb") as file:
    pickle.dump(tuple(parts), file, protocol=2)
"""


def pickled(folder, name="mnist.pkl.gz", scale=256):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    subprocess.run([sys.executable, "-c", PICKLED, name, str(scale)], cwd=folder, check=True, timeout=60)
    return folder / name


def arrays(folder):
    for name, array in {"x_train": X, "y_train": Y, "x_test": TEST_X, "y_test": TEST_Y}.items():
        np.save(folder / f"{name}.npy", array)
    return folder / "x_test.npy"


FILES = {
    "SVHN": svhn, "EMNIST": emnist, "mnist-original": original, "mnist.pkl.gz": pickled,
    "mnist.pkl of 255ths": lambda folder: pickled(folder, "mnist.pkl", 255), "arrays": arrays,
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_the_lines_that_are_given_make_the_dataset(tmp_path, kind):
    if kind in ("SVHN", "EMNIST", "mnist-original"):
        pytest.importorskip("scipy")
    path = FILES[kind](tmp_path)
    with pytest.raises(LockstepError) as raised:
        load(str(path))
    error = raised.value.problems[0]
    assert error.code == "LS-307"
    assert error.where == str(path)
    lead, _colon, lines = str(error.hint).partition(":\n")
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    data = load(str(tmp_path / lead.split()[-1]))
    assert sorted(np.bincount(data.train_labels).tolist() + np.bincount(data.test_labels).tolist())[-1] >= 3
    found = {(int(label), image.tobytes()) for label, image in zip(data.train_labels, data.train_images, strict=True)}
    wanted = np.stack([X[:, ::2, ::2]] * 3, axis=-1) if kind == "SVHN" else X[..., None]
    assert found <= {(int(label), image.tobytes()) for label, image in zip(Y, wanted, strict=True)}
    assert len(found) == (10 if kind == "mnist-original" else 12)


def test_a_pickle_is_never_opened(tmp_path):
    opens_a_file = f"cbuiltins\nopen\n(V{tmp_path}/exploded\nVw\ntR."
    (tmp_path / "mnist.pkl").write_bytes(opens_a_file.encode())
    with pytest.raises(LockstepError, match="a pickle, which can run any program"):
        load(str(tmp_path / "mnist.pkl"))
    with pytest.raises(LockstepError, match="a pickle, which can run any program"):
        load(str(tmp_path))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["a.zip", "archive.tar.gz", "A.ZIP", "x.7z"])
def test_archives_are_to_be_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(LockstepError, match="unpack it and give the folder"):
            load(str(path))


def test_one_file_of_four_is_told_from_a_file_of_something_else(tmp_path):
    write(tmp_path / "mnist", MNIST)
    with pytest.raises(LockstepError, match="this is one file of four"):
        load(str(tmp_path / "mnist" / "train-labels-idx1-ubyte"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(LockstepError, match="this file is not a dataset"):
        load(str(tmp_path / "notes.txt"))
    assert refusal(tmp_path / "notes.txt") is None
