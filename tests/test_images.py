"""Folders of pictures: what becomes of them, and that every unsuitable one is named."""

import itertools
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lockstep.data import describe, images, load
from lockstep.errors import LockstepError


def picture(path, value=100, size=(5, 7), mode="L", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten grey pictures, 7 high and 5 wide; picture number n is all n, dogs 100 more."""
    for number in range(10):
        picture(tmp_path / "pets" / "cat" / f"{number}.png", number)
        picture(tmp_path / "pets" / "dog" / f"{number}.png", number + 100)
    return tmp_path / "pets"


def refused(folder, *words, code="LS-307"):
    with pytest.raises(LockstepError) as raised:
        load(str(folder))
    assert raised.value.code == code, raised.value
    for word in (*words, "→"):
        assert word in str(raised.value)
    return raised.value


def test_a_fifth_of_each_class_is_the_test_set(folder):
    data = load(str(folder))
    assert data.train_images.shape == (16, 7, 5, 1)
    assert data.test_images.shape == (4, 7, 5, 1)
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int64
    assert data.class_names == ("cat", "dog")
    assert np.bincount(data.test_labels).tolist() == [2, 2]
    values = np.concatenate([data.train_images, data.test_images])[:, 0, 0, 0]
    assert sorted(values) == [*range(10), *range(100, 110)]
    np.testing.assert_array_equal(data.train_images[:, 0, 0, 0] >= 100, data.train_labels)
    assert any("20% of each class" in note for note in data.notes)


def test_the_split_is_pinned(folder):
    data = load(str(folder))
    assert data.test_images[:, 0, 0, 0].tolist() == [7, 108, 109, 6]


def test_the_first_images_are_not_all_of_one_class(folder):
    assert set(load(str(folder)).train_labels[:6]) == {0, 1}


def test_facts_agree_with_what_is_loaded(folder):
    picture(folder / "cat" / "wide.png", (1, 2, 3), size=(9, 4), mode="RGB")
    facts, data = describe(str(folder)), load(str(folder))
    assert facts.image_shape == data.image_shape == (7, 5, 3)
    assert facts.class_names == data.class_names
    assert (facts.n_train, facts.n_test) == (len(data.train_images), len(data.test_images)) == (17, 4)


def test_train_and_test_folders_are_kept_apart(tmp_path):
    for half, value in (("train", 10), ("test", 200)):
        for name in ("10", "9", "2"):
            picture(tmp_path / half / name / "a.png", value)
    data = load(str(tmp_path))
    assert data.class_names == ("2", "9", "10")
    assert set(data.train_images.ravel()) == {10}
    assert set(data.test_images.ravel()) == {200}
    assert describe(str(tmp_path)).n_test == 3


def test_other_sizes_become_the_most_common_one_and_it_is_said(folder):
    picture(folder / "dog" / "large.png", 255, size=(50, 20))
    data = load(str(folder))
    assert data.image_shape == (7, 5, 1)
    assert any("1 of 21 images were resized to the most common size, 7×5" in note for note in data.notes)


def test_shrinking_averages(folder):
    stripes = np.zeros((70, 50), np.uint8)
    stripes[::2] = 200
    Image.fromarray(stripes).save(folder / "dog" / "stripes.png")
    pixels = images._pixels(folder / "dog" / "stripes.png", (7, 5, 1))
    assert np.abs(pixels.astype(int) - 100).max() <= 10


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, [255, 255, 255]),
        ("L", 9, [9, 9, 9]),
        ("LA", (200, 255), [200, 200, 200]),
        ("LA", (200, 0), [0, 0, 0]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBA", (100, 200, 50, 51), [20, 40, 10]),
    ],
)
def test_every_mode_means_what_is_stated(tmp_path, mode, value, expected):
    picture(tmp_path / "a.png", value, mode=mode)
    assert images._pixels(tmp_path / "a.png", (7, 5, 3))[3, 2].tolist() == expected


def test_a_palette_becomes_colours(tmp_path):
    palette = Image.new("P", (5, 7), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "a.png")
    assert images._pixels(tmp_path / "a.png", (7, 5, 3))[0, 0].tolist() == [10, 20, 30]


def test_transparency_is_said(folder):
    picture(folder / "cat" / "x.png", (200, 0), mode="LA")
    data = load(str(folder))
    assert data.image_shape == (7, 5, 1)
    assert any("1 images have transparent parts" in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "mode", "value", "words"),
    [("deep.png", "I;16", 40000, "more than 8 bits"), ("print.jpg", "CMYK", (1, 2, 3, 4), "CMYK")],
)
def test_other_colours_are_refused(folder, name, mode, value, words):
    picture(folder / "cat" / name, value, mode=mode)
    refused(folder, words, name, code="LS-308")


def test_sixteen_bits_a_colour_are_refused(folder):
    rows = b"".join(b"\0" + bytes(5 * 6) for _ in range(7))
    (folder / "cat" / "deep.png").write_bytes(png(struct.pack(">IIBBBBB", 5, 7, 16, 2, 0, 0, 0), zlib.compress(rows)))
    refused(folder, "more than 8 bits", "deep.png", code="LS-308")


def test_animations_are_refused(folder):
    frames = [Image.new("L", (5, 7), value) for value in (1, 2, 3)]
    frames[0].save(folder / "cat" / "moves.gif", save_all=True, append_images=frames[1:])
    refused(folder, "a stack of pictures", "moves.gif", code="LS-308")


def test_all_broken_pictures_are_named_at_once(folder):
    content = (folder / "cat" / "3.png").read_bytes()
    (folder / "cat" / "3.png").write_bytes(content[:-20])
    (folder / "dog" / "4.png").write_bytes(b"not a picture")
    (folder / "dog" / "5.png").write_bytes(b"")
    error = refused(folder, "cannot be read", code="LS-308")
    assert [os.path.basename(problem.where) for problem in error.problems] == ["3.png", "4.png", "5.png"]


def test_a_flipped_byte_in_a_png_is_detected(folder):
    path = folder / "cat" / "3.png"
    content = path.read_bytes()
    for position in range(16, len(content) - 12):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        refused(folder, "3.png", code="LS-308")


def test_at_most_twenty_problems_are_listed(folder):
    for number in range(30):
        (folder / "cat" / f"broken{number}.png").write_bytes(b"")
    assert len(refused(folder, code="LS-308").problems) == 20


def png(header, content):
    """A PNG file of these chunks."""
    parts = [(b"IHDR", header), (b"IDAT", content), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [10_000, 60_000, 2**31 - 1])
def test_decompression_bombs_are_refused(folder, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    (folder / "cat" / "bomb.png").write_bytes(png(header, zlib.compress(bytes(1000))))
    refused(folder, "bomb.png", code="LS-308")


def test_too_many_pixels_in_all_are_refused(folder, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 20 * 35 - 1)
    refused(folder, "20 pictures of 7×5×1 take 700 bytes")


def test_one_class_is_refused(folder):
    for path in (folder / "dog").iterdir():
        path.unlink()
    (folder / "dog").rmdir()
    refused(folder, 'one class, "cat"')


def test_empty_classes_are_all_named(folder):
    (folder / "bird").mkdir()
    picture(folder / "fish" / "only.png")
    error = refused(folder, 'the class "bird" has no picture', 'the class "fish" has one picture')
    assert len(error.problems) == 2


def test_a_folder_of_anything_else_is_refused_in_one_sentence(tmp_path):
    for name in ("documents", "music", "mail"):
        (tmp_path / name).mkdir()
    error = refused(tmp_path, "no class with enough pictures", ".png")
    assert len(error.problems) == 1


def test_a_class_that_one_half_lacks_is_named(tmp_path):
    for name in ("train/a", "train/b", "test/a"):
        picture(tmp_path / name / "x.png")
    (tmp_path / "test" / "b").mkdir()
    refused(tmp_path, 'the class "b" has no picture in test')


@pytest.mark.parametrize(
    ("parts", "halves", "note"),
    [
        (("training", "testing"), (6, 2), "train and test as in the folder"),
        (("Train", "Test"), (6, 2), "train and test as in the folder"),
        (("train", "val"), (6, 2), "the test images are those of val"),
        (("TRAIN", "Validation"), (6, 2), "the test images are those of Validation"),
        (("train", "test", "valid"), (8, 2), "the pictures of valid are training images too"),
    ],
)
@pytest.mark.parametrize("around", ["", "mnist_png/", "archive/photos/"])
def test_parts_are_known_under_their_usual_names(tmp_path, parts, halves, note, around):
    for part, n in zip(parts, (3, 1, 1), strict=False):
        for label, number in itertools.product(range(2), range(n)):
            picture(tmp_path / f"own/{around}{part}/{label}" / f"{number}.png", 10 * len(part) + label + 2 * number)
    data = load(str(tmp_path / "own"))
    assert (len(data.train_images), len(data.test_images), data.class_names) == (*halves, ("0", "1"))
    values = np.sort(data.test_images[:, 0, 0, 0])
    assert values.tolist() == [10 * len(parts[1]), 10 * len(parts[1]) + 1]
    assert any(note in found for found in data.notes), data.notes


def test_a_part_that_is_there_twice_is_refused(tmp_path):
    for name in ("train", "Training", "test"):
        picture(tmp_path / name / "a" / "x.png")
    refused(tmp_path, '"Training" and "train" are names of the same part', "move all of it")


def test_classes_may_be_called_like_parts(tmp_path):
    for name in ("train", "plane", "val"):
        for number in range(2):
            picture(tmp_path / "toys" / name / f"{number}.png", number)
    (tmp_path / "toys" / "val").rename(tmp_path / "toys" / "car")
    assert load(str(tmp_path / "toys")).class_names == ("car", "plane", "train")


def test_train_without_test_is_refused(tmp_path):
    picture(tmp_path / "train" / "a" / "x.png")
    refused(tmp_path, 'there is a folder "train" but no "test"')


def test_hidden_files_are_ignored_and_others_noted(folder):
    picture(folder / "cat" / ".hidden.png", 77)
    (folder / ".git").mkdir()
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    (folder / "read me.txt").write_text("x")
    data = load(str(folder))
    assert len(data.train_images) + len(data.test_images) == 20
    assert any("Thumbs.db" in note for note in data.notes)


def test_links_out_of_the_folder_are_not_followed(folder, tmp_path):
    picture(tmp_path / "secret" / "s.png", 250)
    (folder / "cat" / "link.png").symlink_to(tmp_path / "secret" / "s.png")
    (folder / "secret").symlink_to(tmp_path / "secret")
    (folder / "cat" / "loop.png").symlink_to(folder / "cat" / "loop.png")
    data = load(str(folder))
    assert data.class_names == ("cat", "dog")
    assert 250 not in data.train_images
    assert 250 not in data.test_images
    assert any("link.png" in note and "links out of the folder" in note for note in data.notes)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang_the_reader(folder):
    os.mkfifo(folder / "cat" / "pipe.png")
    assert len(load(str(folder)).train_images) == 16


def test_a_folder_without_anything_is_refused(tmp_path):
    refused(tmp_path, "the folder is empty", "one subfolder of pictures per class")
    for name in ("notes.txt", "a.h5", *(f"{n}.bin" for n in range(9))):
        (tmp_path / name).write_text("?")
    refused(tmp_path, "nothing in this folder is a dataset", "here are: 0.bin, 1.bin", "and 5 more")
