"""The IDX reader: what it reads, and that nothing damaged or hostile passes."""

import gzip
import itertools
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lockstep.data import quartet, read_idx
from lockstep.errors import LockstepError
from support.idx_files import SMALL, encode, write_folder

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(path, content, code, *words):
    """The reader refuses the content with that code, and its message holds the words and the file's name."""
    path.write_bytes(content)
    with pytest.raises(LockstepError) as raised:
        read_idx(path)
    assert raised.value.code == code, raised.value
    for word in (*words, path.name, "→"):
        assert word in str(raised.value)


@QUICK
@given(array=npst.arrays(np.uint8, npst.array_shapes(min_dims=1, max_dims=4, max_side=11)), is_gzip=st.booleans())
def test_what_is_written_is_read(tmp_path, array, is_gzip):
    content = encode(array)
    (tmp_path / "a").write_bytes(gzip.compress(content) if is_gzip else content)
    found = read_idx(tmp_path / "a")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array, strict=True)


@QUICK
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\0\0\x08\x01"]))
def test_random_bytes_give_lockstep_errors_only(tmp_path, content, start):
    (tmp_path / "a").write_bytes(start + content)
    try:
        array = read_idx(tmp_path / "a")
    except LockstepError:
        return
    assert encode(array) == start + content


@pytest.mark.parametrize("content", [encode(SMALL), gzip.compress(encode(SMALL), mtime=0)], ids=["plain", "gzip"])
def test_every_truncation_is_detected(tmp_path, content):
    path = tmp_path / "a"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(LockstepError, match=r"LS-30[45]"):
            read_idx(path)


def test_no_flipped_bit_in_a_gzip_file_changes_a_value(tmp_path):
    content = gzip.compress(encode(SMALL), mtime=0)
    n_detected = 0
    for position in range(10, len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        (tmp_path / "a").write_bytes(flipped)
        try:
            np.testing.assert_array_equal(read_idx(tmp_path / "a"), SMALL)
        except LockstepError as error:
            n_detected += error.code in ("LS-304", "LS-305")
    assert n_detected >= len(content) - 12  # one bit may be the padding behind the last deflate block


def test_a_wrong_magic_is_named(tmp_path):
    refused(tmp_path / "a", b"<!doctype html>" + bytes(90), "LS-304", "not an IDX file", "3c 21 64 6f")


def test_another_type_is_named(tmp_path):
    refused(tmp_path / "a", encode(SMALL.view(np.int8), kind=0x0D), "LS-304", "float32", "uint8")


def test_dimensions_out_of_range_are_refused(tmp_path):
    refused(tmp_path / "a", b"\0\0\x08\x00", "LS-304", "0 dimensions")
    refused(tmp_path / "a", b"\0\0\x08\xff" + bytes(2000), "LS-304", "255 dimensions")


def test_trailing_bytes_are_refused(tmp_path):
    refused(tmp_path / "a", encode(SMALL) + b"x", "LS-304", "declares 105", "106 follow")
    refused(tmp_path / "a", gzip.compress(encode(SMALL) + b"x"), "LS-305", "more than the 105 bytes")


def test_a_checksum_that_does_not_fit_is_refused(tmp_path):
    content = gzip.compress(encode(SMALL))
    refused(tmp_path / "a", content[:-8] + bytes(4) + content[-4:], "LS-305", "incorrect data check")


@pytest.mark.parametrize("shape", [(60_000, 28, 28), (2**32 - 1,) * 4], ids=["large", "beyond all limits"])
@pytest.mark.parametrize("squeeze", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_header_that_lies_takes_no_memory(tmp_path, shape, squeeze):
    content = squeeze(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(1000))
    tracemalloc.start()
    try:
        refused(tmp_path / "a", content, "LS-304")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_read_no_further_than_declared(tmp_path):
    bomb = gzip.compress(struct.pack(">HBBI", 0, 8, 1, 1000) + bytes(50_000_000), compresslevel=1)
    tracemalloc.start()
    try:
        refused(tmp_path / "a", bomb, "LS-305", "more than the 1,000 bytes")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_several_members_of_a_gzip_file_are_one_content(tmp_path, n):
    content = encode(SMALL)
    cuts = [len(content) * i // n for i in range(n + 1)]
    members = [gzip.compress(content[start:end]) for start, end in itertools.pairwise(cuts)]
    (tmp_path / "a").write_bytes(b"".join(members) + bytes(700))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), SMALL)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "nothing", tmp_path, "\0"):
        with pytest.raises(LockstepError, match=r"LS-301.*no such file"):
            read_idx(path)


# ---------------------------------------------------------------------------------------------------------- folders


def test_a_folder_of_four_files_is_a_dataset(tmp_path):
    data = quartet.read(write_folder(tmp_path))
    assert data.train_images.shape == (3, 5, 7, 1)
    assert data.test_labels.tolist() == [2, 0]
    assert data.test_labels.dtype == np.int64
    assert data.class_names == ("0", "1", "2")
    assert len(data.hashes["t10k-labels-idx1-ubyte"]) == 64
    facts = quartet.facts(tmp_path)
    assert (facts.image_shape, facts.n_classes, facts.n_train, facts.n_test) == ((5, 7, 1), 3, 3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.zeros(4, np.uint8)}, "3 train images, but 4 train labels"),
        ({"test_labels": np.zeros((2, 1), np.uint8)}, "the test labels have the shape (2, 1)"),
        ({"test_images": SMALL[:2, :, :6]}, "the train images are 5×7, the test images 5×6"),
        ({"train_images": SMALL[0]}, "the train images have the shape (5, 7)"),
        ({"test_images": SMALL[:0], "test_labels": np.zeros(0, np.uint8)}, "there are no test images"),
        ({"train_labels": np.zeros(3, np.uint8), "test_labels": np.zeros(2, np.uint8)}, "1 class"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(tmp_path, changes, message):
    write_folder(tmp_path, **changes)
    for function in (quartet.read, quartet.facts):
        with pytest.raises(LockstepError) as raised:
            function(tmp_path)
        assert message in str(raised.value)


def test_missing_files_are_all_named(tmp_path):
    write_folder(tmp_path)
    for name in ("train_labels", "test_images"):
        (tmp_path / quartet.FILES[name]).unlink()
    with pytest.raises(LockstepError) as raised:
        quartet.read(tmp_path)
    assert [problem.message.split()[0] for problem in raised.value.problems] == [
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
    ]


def test_other_spellings_are_found(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "train-images.idx3-ubyte")
    content = (tmp_path / "train-labels-idx1-ubyte").read_bytes()
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    assert quartet.read(tmp_path).train_images.shape == (3, 5, 7, 1)
