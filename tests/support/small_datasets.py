"""Small datasets of every form, right and wrong, and a study of them."""

from __future__ import annotations

import struct

import numpy as np

from support.command_line import picture

STUDY = """
dataset = "{dataset}"
backends = ["numpy"]
[recipe]
epochs = 1
optimizer = "sgd 0.1"
[networks]
a = ["conv2d 2 3", "relu", "flatten", "dense 2"]
"""


def study(folder, dataset="data", **changes):
    text = STUDY.replace("{dataset}", str(folder / dataset))
    for right, wrong in changes.values():
        assert right in text
        text = text.replace(right, wrong)
    (folder / "s.toml").write_text(text)


def images(folder, classes=("cat", "dog"), n=4):
    for name in classes:
        for number in range(n):
            path = folder / "data" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((7, 9), number * 20, np.uint8)
            pixels[0, 0] = 200  # something to see
            picture(path, pixels)


def idx(array, magic=None, counts=None):
    magic = magic if magic is not None else 0x0800 + array.ndim
    return struct.pack(f">I{array.ndim}I", magic, *(counts or array.shape)) + array.tobytes()


def idx_folder(folder, **contents):
    """Four good IDX files, some of them replaced."""
    good = {
        "train-images-idx3-ubyte": idx(np.zeros((6, 7, 9), np.uint8)),
        "train-labels-idx1-ubyte": idx(np.arange(6, dtype=np.uint8) % 2),
        "t10k-images-idx3-ubyte": idx(np.zeros((4, 7, 9), np.uint8)),
        "t10k-labels-idx1-ubyte": idx(np.arange(4, dtype=np.uint8) % 2),
    }
    names = {"train_images": 0, "train_labels": 1, "test_images": 2, "test_labels": 3}
    (folder / "data").mkdir()
    for index, (name, content) in enumerate(good.items()):
        replaced = next((value for key, value in contents.items() if names[key] == index), content)
        is_gzip = replaced[:2] == b"\x1f\x8b"
        (folder / "data" / (name + ".gz" * is_gzip)).write_bytes(replaced)


def npz(folder, **changes):
    arrays = {
        "train_images": np.zeros((6, 7, 9), np.uint8), "train_labels": np.arange(6) % 2,
        "test_images": np.zeros((4, 7, 9), np.uint8), "test_labels": np.arange(4) % 2, **changes,
    }  # fmt: skip
    np.savez(folder / "data.npz", **arrays)


def one_empty_class(folder):
    images(folder)
    (folder / "data" / "eel").mkdir()


def a_broken_png(folder):
    images(folder)
    path = folder / "data" / "cat" / "2.png"
    path.write_bytes(path.read_bytes()[:40])


IMAGES, NOTHING = images, lambda folder: None
