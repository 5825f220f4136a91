"""IDX files."""

from __future__ import annotations

import struct

import numpy as np

from lockstep.data import quartet

SMALL = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)


def encode(array, kind=0x08):
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def write_folder(folder, **changes):
    """Four small IDX files; `changes` replace arrays by name."""
    arrays = {
        "train_images": SMALL,
        "train_labels": np.array([0, 1, 2], np.uint8),
        "test_images": SMALL[:2],
        "test_labels": np.array([2, 0], np.uint8),
        **changes,
    }
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / quartet.FILES[name]).write_bytes(encode(array))
    return folder
