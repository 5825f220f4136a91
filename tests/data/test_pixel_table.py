"""CSV tables of labels and pixels: every form that people have them in, and nothing hostile passes."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lockstep.data import describe, load, pixel_table
from lockstep.data.contents import Facts
from lockstep.errors import LockstepError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RNG = np.random.default_rng(3)
LABELS = np.array([0, 1, 2] * 4)
PIXELS = RNG.integers(0, 256, (12, 16), np.uint8)


def table(labels=LABELS, pixels=PIXELS, separator=",", header=None, place=0, end="\n", quote="", before="") -> str:
    """A table as text; the label stands at `place`, header names stand around it."""
    rows = [[*map(str, row)] for row in pixels]
    for row, label in zip(rows, labels, strict=True):
        row.insert(place, str(label))
    names = [f"pixel{number}" for number in range(pixels.shape[1])]
    names.insert(place, header or "")
    lines = [[f"{quote}{cell}{quote}" for cell in row] for row in ([names, *rows] if header else rows)]
    return before + end.join(separator.join(line) for line in lines) + end


def write(path, text) -> str:
    content = text if isinstance(text, bytes) else text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def all_of(data):
    """Every (label, pixels) of a dataset, sorted: which of them are the test set is another question."""
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    return sorted((int(label), image.ravel().tolist()) for label, image in zip(labels, images, strict=True))


EXPECTED = sorted((int(label), pixels.tolist()) for label, pixels in zip(LABELS, PIXELS, strict=True))
FORMS = {
    "Kaggle's": {"header": "label"}, "without a header": {}, "capitals": {"header": " Label"},
    "label last": {"header": "class", "place": 16}, "label in the middle": {"header": "y", "place": 5},
    "semicolons": {"separator": ";"}, "tabs": {"separator": "\t", "header": "label"}, "quotes": {"quote": '"'},
    "quotes and a header": {"quote": '"', "header": "label"}, "Windows": {"end": "\r\n", "header": "label"},
    "a byte order mark": {"before": "\ufeff", "header": "label"}, "no last line end": {"end": "\n"},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz"])
def test_every_form_of_a_table_is_read(tmp_path, form, name):
    path = write(tmp_path / name, table(**FORMS[form]))
    data = load(path)
    assert all_of(data) == EXPECTED
    assert (data.name, data.image_shape, data.class_names) == ("train", (4, 4, 1), ("0", "1", "2"))
    assert np.bincount(data.test_labels).tolist() == [1, 1, 1]
    assert any("20% of each class" in note for note in data.notes)
    assert describe(path) == Facts("train", (4, 4, 1), ("0", "1", "2"), 9, 3, f"found in {path}")


@QUICK
@given(
    pixels=npst.arrays(np.uint8, st.tuples(st.integers(6, 9), st.sampled_from([16, 25, 36]))),
    separator=st.sampled_from(pixel_table.SEPARATORS), header=st.sampled_from([None, "label", "target"]),
    place=st.integers(0, 16), quote=st.sampled_from(["", '"']), end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    data=st.data(),
)  # fmt: skip
def test_what_is_written_is_read(tmp_path, pixels, separator, header, place, quote, end, data):
    labels = np.array([0, 0, 1, 1, *data.draw(st.lists(st.integers(0, 1), min_size=9, max_size=9))])[: len(pixels)]
    text = table(labels, pixels, separator, header, place if header else 0, end, quote)
    found = all_of(load(write(tmp_path / "a.csv", text)))
    assert found == sorted((int(label), row.tolist()) for label, row in zip(labels, pixels, strict=True))


@QUICK
@given(
    st.binary(max_size=300), st.sampled_from(["a.csv", "a.csv.gz"]), st.sampled_from([b"", b"label,a,b\n", b"1,2\n"])
)
def test_random_bytes_give_lockstep_errors_only(tmp_path, content, name, start):
    path = write(tmp_path / name, start + content)
    for function in (load, describe):
        with pytest.raises(LockstepError):
            function(path)


@QUICK
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_damaged_tables_give_lockstep_errors_only(tmp_path, place, damage):
    content = bytearray(table(header="label").encode())
    place %= len(content)
    content[place : place + len(damage)] = damage
    path, error = write(tmp_path / "a.csv", bytes(content)), None
    try:
        load(path)
    except LockstepError as raised:
        error = raised
    assert error is None or "a.csv" in str(error)


def test_names_are_classes_in_alphabetical_order(tmp_path):
    names = np.array(["cat", "dog", "a bird"])[LABELS]
    for place in (0, 16):
        data = load(write(tmp_path / "a.csv", table(names, place=place)))
        assert data.class_names == ("a bird", "cat", "dog")
        assert [(data.class_names[label], row) for label, row in all_of(data)] == sorted(
            (name, row.tolist()) for name, row in zip(names, PIXELS, strict=True)
        )


def test_the_first_row_is_no_header_because_a_label_is_a_word(tmp_path):
    assert len(all_of(load(write(tmp_path / "a.csv", table(np.array(["a", "b", "c"])[LABELS], place=16))))) == 12


def test_columns_of_row_numbers_are_left_out_and_said(tmp_path):
    lines = table(header="label").splitlines()
    text = "\n".join([f",id,{lines[0]}", *(f"{number},x{number},{line}" for number, line in enumerate(lines[1:]))])
    data = load(write(tmp_path / "a.csv", text))
    assert all_of(data) == EXPECTED
    assert any("left out: the columns –, id" in note for note in data.notes)


def test_headers_that_are_numbers_are_headers(tmp_path):
    """The letters of Kaggle's A–Z have the first row for a header, made unique: 0, 0.1, 0.2 …"""
    names = ",".join(["0", "0", *(f"0.{number}" for number in range(1, 16))])
    assert all_of(load(write(tmp_path / "a.csv", f"{names}\n{table()}"))) == EXPECTED
    numbered = ",".join(["label", *map(str, range(16))])
    assert all_of(load(write(tmp_path / "a.csv", f"{numbered}\n{table()}"))) == EXPECTED


# ------------------------------------------------------------------------------------------------------ two tables


def test_a_folder_with_train_and_test_is_a_dataset(tmp_path):
    write(tmp_path / "fashion-mnist_train.csv", table(header="label"))
    write(tmp_path / "fashion-mnist_test.csv.gz", table(LABELS[:6], PIXELS[6:], header="label"))
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.train_images.reshape(12, 16), PIXELS)
    np.testing.assert_array_equal(data.test_images.reshape(6, 16), PIXELS[6:])
    np.testing.assert_array_equal(data.test_labels, LABELS[:6])
    assert describe(str(tmp_path)).n_test == 6


def test_classes_of_both_tables_are_the_same_ones(tmp_path):
    write(tmp_path / "train.csv", table(np.array(["b", "c", "d"])[LABELS]))
    write(tmp_path / "test.csv", table(np.array(["b", "a", "d"])[LABELS]))
    data = load(str(tmp_path))
    assert data.class_names == ("a", "b", "c", "d")
    assert data.test_labels[:3].tolist() == [1, 0, 3]


def test_what_kaggle_lays_beside_it_is_left_out_and_said(tmp_path):
    write(tmp_path / "train.csv", table(header="label"))
    write(tmp_path / "test.csv", "\n".join(line.partition(",")[2] for line in table(header="label").splitlines()))
    write(tmp_path / "sample_submission.csv", "ImageId,Label\n1,0\n2,0\n")
    data = load(str(tmp_path))
    assert all_of(data) == EXPECTED
    assert {"left out: test.csv, which has no labels", "left out: sample_submission.csv, which has no pixels"} <= {
        *data.notes
    }


def test_tables_beside_pictures_are_none_of_the_dataset(tmp_path):
    from support.image_files import picture

    for name in "ab":
        for number in range(2):
            picture(tmp_path / name / f"{number}.png", number)
    write(tmp_path / "labels.csv", "file,label\n0.png,a\n")
    assert load(str(tmp_path)).class_names == ("a", "b")


# ------------------------------------------------------------------------------------------------------------ colours


@pytest.mark.parametrize("arranged", ["side by side", "behind the other"])
def test_three_channels_are_found_in_either_arrangement(tmp_path, arranged):
    ramp = np.add.outer(np.arange(8), np.arange(8)).astype(np.uint8)
    images = np.stack([np.stack([ramp + 3 * n, 120 - ramp, 200 + ramp + n], axis=-1) for n in range(6)])
    flat = images.reshape(6, -1) if arranged == "side by side" else images.transpose(0, 3, 1, 2).reshape(6, -1)
    data = load(write(tmp_path / "a.csv", table(LABELS[:6], flat)))
    assert data.image_shape == (8, 8, 3)
    assert all_of(data) == sorted(
        (int(label), image.ravel().tolist()) for label, image in zip(LABELS[:6], images, strict=True)
    )
    assert any(arranged in note and "192 pixels a row" in note for note in data.notes)


# ------------------------------------------------------------------------------------------------------------ refusals

NO_SQUARE = RNG.integers(0, 256, (12, 17), np.uint8)
REFUSED = {
    "no square": (table(pixels=NO_SQUARE, header="label"), "LS-311", "17 pixels, which make no square"),
    "fractions": (table(pixels=PIXELS / 255), "LS-311", "multiply pixels in [0, 1] by 255"),
    "above 255": (table(pixels=PIXELS.astype(int) + 200), "LS-311", "line 1, column "),
    "a word": (table().replace(",2", ",zwei", 1), "LS-311", "zwei"),
    "nothing": ("", "LS-311", "the table is empty"),
    "a header alone": (table(header="label").partition("\n")[0], "LS-311", "the table has no row"),
    "a missing cell": (table()[:-4], "LS-311", "line 12 has 16 columns, the first one 17"),
    "an empty cell": (table(header="label").replace(f",{PIXELS[0, 3]},", ",,", 1), "LS-311", 'column '),
    "not a number": (table(pixels=np.where(PIXELS[5, 5] == PIXELS, np.nan, PIXELS)), "LS-311", "nan is no pixel"),
    "measurements": ("5.1,3.5,1.4,0.2,setosa\n", "LS-311", "that is no picture"),
    "no label": ("\n".join(line.partition(",")[2] for line in table().splitlines()), "LS-311", "no label"),
    "negative label": (table(LABELS - 1), "LS-309", "number the classes from 0"),
    "half a label": (table(LABELS / 2), "LS-309", '"0.5" is no label'),
    "one class": (table(LABELS * 0), "LS-309", "nothing to tell apart"),
    "UTF-16": (table().encode("utf-16"), "LS-311", "save it as CSV in UTF-8"),
    "a long line": ("1," + "0," * 2**22, "LS-311", "more than 4,194,304 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_wrong_with_a_table_is_said(tmp_path, fault):
    text, code, words = REFUSED[fault]
    with pytest.raises(LockstepError) as raised:
        load(write(tmp_path / "a.csv", text))
    assert raised.value.code == code
    for word in (words, "a.csv", "→"):
        assert word in str(raised.value), raised.value


def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("lockstep.files.intake.FREE_BYTES", 2**16)
    with pytest.raises(LockstepError, match=r"LS-305.*are to come out of"):
        load(write(tmp_path / "a.csv.gz", "1" + ",0" * 16 + "\n" + ("1" + ",0" * 16 + "\n") * 20_000))


def test_a_damaged_gzip_file_is_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    content = gzip.compress(table().encode())
    for damaged in (content[: len(content) // 2], content[:20] + b"\xff" * 9 + content[29:]):
        path.write_bytes(damaged)
        with pytest.raises(LockstepError, match="LS-305"):
            load(str(path))


def test_tables_that_cannot_be_told_apart_are_refused(tmp_path):
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, table())
    with pytest.raises(LockstepError, match=r"LS-311.*which of these tables to train on: a.csv, b.csv"):
        load(str(tmp_path))


def test_a_table_can_be_imported(tmp_path, monkeypatch):
    from lockstep.data import import_folder

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    import_folder(write(tmp_path / "train.csv", table(header="label")), "digits12")
    assert all_of(load("digits12")) == EXPECTED
    assert json.dumps(load("digits12").notes).count("20%") == 1
