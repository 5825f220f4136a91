"""The digits that scikit-learn knows, 1,797 images of 8×8, as images of 28×28: no study has to download them.

The file lies beside this one, byte for byte as scikit-learn ships it (UCI's optical recognition of handwritten digits;
credit and licence in optdigits/LICENSE): scikit-learn itself would be 51 MB for 57 KB, and 1.5 seconds of import in a
worker whose clock is running.

Each 8×8 image, with zeros around it, is enlarged three times by bilinear interpolation, which leaves it centred in
28×28: source pixel k has its centre at 3·k + 3. Values 0 … 16 become 0 … 255. All arithmetic is whole numbers, halves
are rounded up, so the images are the same everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from lockstep.data.catalogue import Dataset
from lockstep.data.contents import Data
from lockstep.errors import LockstepError
from lockstep.language import later
from lockstep.randomness import permutation

ORIGIN = "UCI Machine Learning Repository, optdigits: digits.csv.gz"
TEST_IMAGES_PER_CLASS = 36
NOTES = (
    later(
        "the 8×8 images are enlarged 3 times (bilinear, zeros outside) and centred in 28×28; "
        "values 0 … 16 become 0 … 255"
    ),
    later(
        "{n} images of each class, drawn by Lockstep's own generator with seed 0, are the test set",
        n=TEST_IMAGES_PER_CLASS,
    ),
)
_REPAIR = later("install Lockstep again: pip install --force-reinstall --no-deps lockstep-nn")


def read(name: str, entry: Dataset) -> Data:
    """The digits; raises LockstepError: LS-301 (not there), LS-303, LS-305 (damaged)."""
    (file,) = entry.files
    path = source()
    content = _content(path, file.n_bytes)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        message = later(
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
        origin=ORIGIN,
        notes=NOTES,
    )


def source() -> Path:
    """The file beside this one; raises LockstepError LS-301."""
    path = Path(__file__).with_name("optdigits") / "digits.csv.gz"
    if not path.is_file():
        message = later("the file of the digits, a part of Lockstep, is not there")
        raise LockstepError("LS-301", message, where=str(path), hint=_REPAIR)
    return path


def _content(path: Path, n_bytes: int) -> bytes:
    """The decompressed file, at most one byte more than it should have."""
    try:
        with gzip.open(path) as stream:
            return stream.read(n_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        message = later("the gzip file is damaged: {error}", error=error)
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
