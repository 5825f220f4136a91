"""The four files of MNIST's relatives, under names of people's own."""

from __future__ import annotations

import gzip

import numpy as np

from support.idx_files import encode

RNG = np.random.default_rng(0)
ARRAYS = {
    "train_images": RNG.integers(0, 256, (7, 5, 3), np.uint8),
    "train_labels": np.array([1, 2, 3, 1, 2, 3, 1], np.uint8),
    "test_images": RNG.integers(0, 256, (4, 5, 3), np.uint8),
    "test_labels": np.array([3, 1, 2, 1], np.uint8),
}
KINDS = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D}


def write(folder, names, arrays=ARRAYS):
    """IDX files, by key → name; one that ends in .gz is packed, one that ends in .npz is NumPy's."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in names.items():
        array = arrays[key]
        if name.endswith(".npz"):
            np.savez_compressed(folder / name, array)
            continue
        content = encode(array.astype(array.dtype.newbyteorder(">")), KINDS[array.dtype.name])
        (folder / name).write_bytes(gzip.compress(content) if ".gz" in name else content)
    return folder


def called(form, train="train", test="test", images="images-idx3-ubyte", labels="labels-idx1-ubyte"):
    """Names by key, such as "emnist-letters-{part}-{kind}.gz"."""
    return {
        f"{half}_{kind}": form.format(part=part, kind=name)
        for half, part in (("train", train), ("test", test))
        for kind, name in (("images", images), ("labels", labels))
    }


MNIST = called("{part}-{kind}", test="t10k")
