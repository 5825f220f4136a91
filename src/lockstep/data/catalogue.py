"""Which datasets Lockstep knows by name. A new one is one entry in `DATASETS`.

Hashes are those of the decompressed files: every mirror and distribution compresses differently.
"""

from __future__ import annotations

import dataclasses

from lockstep.errors import LockstepError, did_you_mean
from lockstep.language import later


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a dataset by its canonical name; size and SHA-256 are of the decompressed content."""

    name: str
    n_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before it is on this machine.

    `image_shape`: (height, width, channels). `mirrors` end in "/" and hold every file as "<name>.gz"; they are tried in
    order. A dataset without mirrors is a part of Lockstep. `folders`: what others call the folder that they keep it in,
    torchvision for one.
    """

    title: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    n_train: int
    n_test: int
    files: tuple[File, ...]
    mirrors: tuple[str, ...]
    licence: str
    folders: tuple[str, ...] = ()


_DIGIT_NAMES = tuple("0123456789")
_MNIST_FILES = (
    File("train-images-idx3-ubyte", 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    File("train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    File("t10k-images-idx3-ubyte", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    File("t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
_FASHION_FILES = (
    File("train-images-idx3-ubyte", 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    File("train-labels-idx1-ubyte", 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    File("t10k-images-idx3-ubyte", 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    File("t10k-labels-idx1-ubyte", 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)

DATASETS: dict[str, Dataset] = {
    "digits": Dataset(
        title="scikit-learn digits",
        class_names=_DIGIT_NAMES,
        image_shape=(28, 28, 1),
        n_train=1437,
        n_test=360,
        files=(File("digits.csv", 264_712, "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"),),
        mirrors=(),
        licence="CC BY 4.0 (E. Alpaydin, C. Kaynak; UCI Machine Learning Repository)",
    ),
    "mnist": Dataset(
        title="MNIST",
        class_names=_DIGIT_NAMES,
        image_shape=(28, 28, 1),
        n_train=60_000,
        n_test=10_000,
        files=_MNIST_FILES,
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        licence="CC BY-SA 3.0 (Y. LeCun, C. Cortes)",
        folders=("mnist/raw", "MNIST", "MNIST/raw"),
    ),
    "fashion-mnist": Dataset(
        title="Fashion-MNIST",
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        image_shape=(28, 28, 1),
        n_train=60_000,
        n_test=10_000,
        files=_FASHION_FILES,
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        licence="MIT (Zalando SE)",
        folders=("fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
    ),
}


def unknown_name(name: str, known: list[str]) -> LockstepError:
    """The error for a name that is no dataset, LS-209."""
    advice = later(
        "{advice}; a path contains a / or starts with . , for example ./{name}",
        advice=did_you_mean(name, known),
        name=name,
    )
    return LockstepError("LS-209", later('there is no dataset "{name}"', name=name), where="dataset", hint=advice)
