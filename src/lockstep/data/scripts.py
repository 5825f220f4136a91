"""Files that are never opened, and the lines of Python that make an .npz of one.

A pickle runs whatever its author wrote, and a .mat holds whatever its author called it, so both stay closed. Whoever
trusts such a file runs a few lines once, by hand. Each script is the one for the file that people have by that name: a
test runs it on such a file, and reads what comes out.
"""

from __future__ import annotations

import re
from pathlib import Path

from lockstep.errors import LockstepError
from lockstep.language import later

SVHN = """\
import numpy as np
from scipy.io import loadmat
train, test = loadmat("{train}"), loadmat("{test}")
np.savez("{out}", x_train=train["X"].transpose(3, 0, 1, 2), y_train=train["y"] % 10,
         x_test=test["X"].transpose(3, 0, 1, 2), y_test=test["y"] % 10)"""
EMNIST = """\
import numpy as np
from scipy.io import loadmat
parts = loadmat("{name}")["dataset"][0, 0]
x = {{part: parts[part][0, 0]["images"].reshape(-1, 28, 28).transpose(0, 2, 1) for part in ("train", "test")}}
y = {{part: parts[part][0, 0]["labels"] for part in ("train", "test")}}
np.savez("{out}", x_train=x["train"], y_train=y["train"], x_test=x["test"], y_test=y["test"])"""
MAT = """\
import numpy as np
from scipy.io import loadmat
found = loadmat("{name}")  # print(found.keys()) says what is in it, where it is not "data" and "label"
x, y = found["data"].T.reshape(-1, 28, 28), found["label"].ravel().astype("int64")
order = np.random.default_rng(0).permutation(len(x))
test, train = order[: len(x) // 6], order[len(x) // 6 :]
np.savez("{out}", x_train=x[train], y_train=y[train], x_test=x[test], y_test=y[test])"""
PICKLE = """\
import {module}, pickle
import numpy as np
with {module}.open("{name}", "rb") as file:  # runs whatever is in it: only a file that you trust
    train, validation, test = pickle.load(file, encoding="latin1")
x, y = (np.concatenate(arrays) for arrays in zip(train, validation))
pixels = lambda x: np.round(x * (256 if x.max() < 1 else 255)).astype("uint8").reshape(-1, 28, 28)
np.savez("{out}", x_train=pixels(x), y_train=y, x_test=pixels(test[0]), y_test=test[1])"""
NPY = """\
import numpy as np
np.savez("{out}", x_train=np.load("x_train.npy"), y_train=np.load("y_train.npy"),
         x_test=np.load("x_test.npy"), y_test=np.load("y_test.npy"))"""

PICKLES = (".pkl", ".pickle", ".pkl.gz", ".pickle.gz")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".rar", ".7z")
REFUSED = (".mat", ".npy", *PICKLES, *ARCHIVES)


def refusal(path: Path) -> LockstepError | None:
    """Why a file is not read, LS-307, with what makes a dataset of it; None for a file of another kind."""
    name = path.name.lower()
    if not name.endswith(REFUSED):
        return None
    if name.endswith(ARCHIVES):
        return LockstepError(
            "LS-307", later("this is an archive"), where=str(path), hint=later("unpack it and give the folder")
        )
    if name.endswith(PICKLES):
        message = later("this is a pickle, which can run any program: it is not opened")
    elif name.endswith(".mat"):
        message = later("this is a file of MATLAB's, which may hold anything under any name")
    else:
        message = later("this is one array; a dataset has four")
    out, lines = script(path)
    hint = later("run these lines once, where it lies, and give {out}:\n{lines}", out=out, lines=lines)
    return LockstepError("LS-307", message, where=str(path), hint=hint)


def script(path: Path) -> tuple[str, str]:
    """(the .npz that comes out, the lines of Python that make it of the file)."""
    name, lower = path.name, path.name.lower()
    out = re.sub(r"\.(mat|pkl|pickle)(\.gz)?$", "", lower) + ".npz"
    if lower.endswith(".npy"):
        return "dataset.npz", NPY.format(out="dataset.npz")
    if lower.endswith(PICKLES):
        return out, PICKLE.format(module="gzip" if lower.endswith(".gz") else "io", name=name, out=out)
    if "32x32" in lower:  # of SVHN's two
        train, test = (re.sub(r"^(train|test|extra)", part, name, flags=re.IGNORECASE) for part in ("train", "test"))
        return "svhn.npz", SVHN.format(train=train, test=test, out="svhn.npz")
    return out, (EMNIST if "emnist" in lower else MAT).format(name=name, out=out)
