"""The four files of MNIST's relatives, under the names that people have them by."""

import itertools

import numpy as np
import pytest

from lockstep.data import describe, load, quartet
from lockstep.data.halves import part_in, part_of
from lockstep.errors import LockstepError
from support.quartets import ARRAYS, MNIST, called, write

QMNIST = {part: np.arange(8) + 10 * ARRAYS[f"{part}_labels"][:, None] for part in ("train", "test")}
INT32 = {key: ARRAYS[key].astype(">i4") for key in ("train_labels", "test_labels")}


OWN_NAMES = {
    "EMNIST": called("emnist-letters-{part}-{kind}.gz"),
    "capitals": {key: name.upper() for key, name in MNIST.items()},
    "capitals, packed": {key: f"{name.title()}.GZ" for key, name in MNIST.items()},
    "a browser's second copy": {key: f"{name} (1).gz" for key, name in MNIST.items()},
    "a file manager's second copy": {key: f"{name} - Copy" for key, name in MNIST.items()},
    "dots": called("{part}-{kind}", test="t10k", images="images.idx3-ubyte", labels="labels.idx1-ubyte"),
    "words of one's own": called("{kind}_{part}.idx", "Training", "Testing", "digits", "answers"),
    "validation instead of test": called("{part}-{kind}", test="val"),
    "KMNIST's npz": called("kmnist-{part}-{kind}.npz", images="imgs", labels="labels"),
    "nothing said": dict(zip(ARRAYS, ["a.bin", "b.bin", "c.bin", "d.bin"], strict=True)),
}


@pytest.mark.parametrize("case", OWN_NAMES)
def test_a_dataset_is_found_under_its_own_names(tmp_path, case):
    data = load(str(write(tmp_path / "own", OWN_NAMES[case])))
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(getattr(data, key), array[..., None] if "images" in key else array)
    facts = describe(str(tmp_path / "own"))
    assert (facts.image_shape, facts.n_classes, facts.n_train, facts.n_test) == ((5, 3, 1), 4, 7, 4)


def test_what_was_guessed_is_said(tmp_path):
    for case, words in {
        "EMNIST": "rows and columns swapped", "nothing said": "the larger pair is trained on",
        "validation instead of test": "the test images are those of val-images-idx3-ubyte",
    }.items():  # fmt: skip
        notes = load(str(write(tmp_path / case, OWN_NAMES[case]))).notes
        assert any(words in note for note in notes), notes
    assert not [note for note in load(str(write(tmp_path / "plain", MNIST))).notes if "class" not in note]


@pytest.mark.parametrize("kind", ["int8", "int16", "int32"])
def test_labels_may_be_any_whole_numbers(tmp_path, kind):
    arrays = ARRAYS | {key: ARRAYS[key].astype(kind) for key in INT32}
    data = load(str(write(tmp_path, MNIST, arrays)))
    assert data.train_labels.tolist() == ARRAYS["train_labels"].tolist()
    assert data.train_labels.dtype == np.int64


def test_qmnist_has_the_class_in_the_first_of_eight_columns(tmp_path):
    arrays = ARRAYS | {f"{part}_labels": (QMNIST[part] // 10).astype("int32") for part in QMNIST}
    data = load(str(write(tmp_path, called("qmnist-{part}-{kind}.gz", labels="labels-idx2-int"), arrays)))
    assert data.test_labels.tolist() == ARRAYS["test_labels"].tolist()
    assert any("the first of 8 columns" in note for note in data.notes)


@pytest.mark.parametrize("below", ["raw", "MNIST/raw", "gzip"])
def test_folders_around_the_files_are_opened(tmp_path, below):
    write(tmp_path / "data" / below, MNIST)
    (tmp_path / "data" / "__MACOSX").mkdir()
    assert load(str(tmp_path / "data")).train_labels.tolist() == ARRAYS["train_labels"].tolist()


def test_packed_and_unpacked_copies_side_by_side_are_one_file(tmp_path):
    other = ARRAYS | {"train_labels": ARRAYS["train_labels"][::-1]}
    write(tmp_path, {key: f"{name} (1).gz" for key, name in MNIST.items()}, other)
    assert load(str(write(tmp_path, MNIST))).train_labels.tolist() == ARRAYS["train_labels"].tolist()


def refused(folder, *words):
    with pytest.raises(LockstepError) as raised:
        load(str(folder))
    for word in (*words, "→"):
        assert word in str(raised.value), raised.value
    return raised.value


def test_what_is_missing_and_what_is_there_is_named(tmp_path):
    for gone in ARRAYS:
        names = {key: name for key, name in OWN_NAMES["EMNIST"].items() if key != gone}
        folder = write(tmp_path / gone, names)
        error = refused(folder, f"here are: {min(names.values())}")
        assert gone.partition("_")[2] in error.problems[0].message
        assert len(error.problems) == 1


def test_files_that_cannot_be_told_apart_are_refused(tmp_path):
    letters, digits = (called(f"emnist-{name}-{{part}}-{{kind}}") for name in ("letters", "digits"))
    refused(write(write(tmp_path / "two", letters), digits), "the files of 2 datasets: emnist-digits, emnist-letters")
    mixed = {key: (letters if "train" in key else digits)[key] for key in ARRAYS}
    refused(write(tmp_path / "mixed", mixed), "not clear which")
    twice = called("{part}-{kind}") | {"test_labels": "test-labels-idx1"}
    refused(write(write(tmp_path / "twice", called("{part}-{kind}")), twice), "not clear which")
    same = {"train_images": ARRAYS["test_images"], "train_labels": ARRAYS["test_labels"]}
    refused(write(tmp_path / "same", OWN_NAMES["nothing said"], ARRAYS | same), "missing")


def test_images_of_other_numbers_are_refused(tmp_path):
    refused(write(tmp_path, MNIST, ARRAYS | {"test_images": ARRAYS["test_images"].astype("int16")}), "are int16")
    negative = {"test_labels": np.array([1, -1, 1, 1], "int32")}
    refused(write(tmp_path / "negative", MNIST, ARRAYS | negative), "number 1 is -1")


def test_a_damaged_npz_of_four_is_refused(tmp_path):
    write(tmp_path, OWN_NAMES["KMNIST's npz"])
    path = tmp_path / "kmnist-test-imgs.npz"
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)
    refused(tmp_path, "kmnist-")


def test_parts_have_the_names_that_people_give_them():
    for name, part in itertools.chain(
        [("train", "train"), ("Training", "train"), ("TEST", "test"), ("testing", "test"), ("val", "validation")],
        [("Valid", "validation"), ("validation", "validation"), ("trains", None), ("contest", None), ("", None)],
    ):
        assert part_of(name) == part
        assert part_in(f"x-{name}-images.gz") == part
    assert part_in("train-test-images") is None


def test_known_datasets_are_found_where_torchvision_keeps_them(tmp_path, monkeypatch):
    from lockstep.data import places

    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path))
    write(tmp_path / "MNIST" / "raw", MNIST)
    assert places.find("mnist")[0] == tmp_path / "MNIST" / "raw"
    assert quartet.file_in(tmp_path / "MNIST" / "raw", "train-images-idx3-ubyte")
