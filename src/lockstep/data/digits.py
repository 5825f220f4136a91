"""The digits inside scikit-learn, 1,797 images of 8×8, as images of 28×28 that every study can use without a download.

The file is read from the installed package without importing it: scikit-learn brings its own thread pools and 1.5
seconds of import into a worker whose clock is running.

Each 8×8 image, with zeros around it, is enlarged three times by bilinear interpolation, which leaves it centred in
28×28: source pixel k has its centre at 3·k + 3. Values 0 … 16 become 0 … 255. All arithmetic is whole numbers, halves
are rounded up, so the images are the same everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import zlib
from pathlib import Path

import numpy as np

from lockstep.data.catalogue import Dataset
from lockstep.data.contents import Data
from lockstep.errors import LockstepError
from lockstep.language import later as _
from lockstep.randomness import permutation

TEST_IMAGES_PER_CLASS = 36
NOTES = (
    _(
        "the 8×8 images are enlarged 3 times (bilinear, zeros outside) and centred in 28×28; "
        "values 0 … 16 become 0 … 255"
    ),
    _(
        "{n} images of each class, drawn by Lockstep's own generator with seed 0, are the test set",
        n=TEST_IMAGES_PER_CLASS,
    ),
)
_REPAIR = _("install scikit-learn again: pip install --force-reinstall scikit-learn")


def read(name: str, entry: Dataset) -> Data:
    """The digits; raises LockstepError: LS-301 (scikit-learn is not installed), LS-303, LS-305 (damaged)."""
    (file,) = entry.files
    path = source()
    content = _content(path, file.n_bytes)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        message = _(
            "SHA-256 of the decompressed file should be {sha256}, but is {found}", sha256=file.sha256, found=found
        )
        raise LockstepError("LS-303", message, where=str(path), hint=_REPAIR)
    table = np.loadtxt(content.decode("ascii").splitlines(), delimiter=",", dtype=np.int64)
    images, labels = enlarge(table[:, :64].reshape(-1, 8, 8))[..., np.newaxis], table[:, 64]
    is_test = _is_test(labels)
    return Data(
        name=name,
        train_images=images[~is_test],
        train_labels=labels[~is_test],
        test_images=images[is_test],
        test_labels=labels[is_test],
        class_names=entry.class_names,
        hashes={file.name: found},
        origin="scikit-learn, datasets/data/digits.csv.gz",
        notes=NOTES,
    )


def source() -> Path:
    """The file inside scikit-learn; raises LockstepError LS-301."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations if package else None) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if os.path.isfile(path):
            return path
    raise LockstepError(
        "LS-301", _("scikit-learn, which holds the digits, is not installed"), where="digits", hint=_REPAIR
    )


def _content(path: Path, n_bytes: int) -> bytes:
    """The decompressed file, at most one byte more than it should have."""
    try:
        with gzip.open(path) as stream:
            return stream.read(n_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        message = _("the gzip file is damaged: {error}", error=error)
        raise LockstepError("LS-305", message, where=str(path), hint=_REPAIR) from None


def enlarge(images: np.ndarray) -> np.ndarray:
    """(n, 8, 8) whole numbers 0 … 16 → (n, 28, 28) uint8."""
    distance = np.abs(np.arange(28)[:, np.newaxis] - (3 * np.arange(8) + 3))
    weights = np.maximum(3 - distance, 0)  # in ninths of a pixel once applied along both axes
    ninths = weights @ images @ weights.T
    return ((ninths * 255 * 2 + 144) // (2 * 144)).astype(np.uint8)


def _is_test(labels: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        where = np.flatnonzero(labels == digit)
        chosen[where[permutation(len(where), 0, "split", digit)[:TEST_IMAGES_PER_CLASS]]] = True
    return chosen
