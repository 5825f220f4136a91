"""Folders of pictures: what becomes of them, and that every unsuitable one is named."""

import itertools
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lockstep import cli, language
from lockstep.data import describe, folders, grounds, images, import_folder, load, sizes
from lockstep.data import picture as pictures
from lockstep.data.picture import Frame
from lockstep.errors import LockstepError
from lockstep.report.words import forms
from support.image_files import LAST, picture, png


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


def seen(path, channels=3):
    """The picture on black, 7 high and 5 wide."""
    return pictures.pixels(path, Frame(7, 5, channels)).on_black


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
    assert set(data.train_images.ravel()) == {10, LAST}
    assert set(data.test_images.ravel()) == {200, LAST}
    assert describe(str(tmp_path)).n_test == 3


def test_other_sizes_become_the_most_common_one_and_it_is_said(folder):
    picture(folder / "dog" / "large.png", 255, size=(50, 20))
    data = load(str(folder))
    assert data.image_shape == (7, 5, 1)
    assert any("resized to the most common size, 7×5 (height × width): 1 of 21" in note for note in data.notes)


def test_shrinking_averages(folder):
    stripes = np.zeros((70, 50), np.uint8)
    stripes[::2] = 200
    Image.fromarray(stripes).save(folder / "dog" / "stripes.png")
    assert np.abs(seen(folder / "dog" / "stripes.png", 1).astype(int) - 100).max() <= 10


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
    assert seen(tmp_path / "a.png")[3, 2].tolist() == expected


def test_a_palette_becomes_colours(tmp_path):
    palette = Image.new("P", (5, 7), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "a.png")
    assert seen(tmp_path / "a.png")[0, 0].tolist() == [10, 20, 30]


def test_transparency_is_said(folder):
    picture(folder / "cat" / "x.png", (200, 99), mode="LA")
    data = load(str(folder))
    assert data.image_shape == (7, 5, 1)
    assert "pictures with transparent parts that were laid on black, since their ink is light: 1" in data.notes


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


# ------------------------------------------------------------------------------------------ what cameras and tablets do


def drawn(seed, size=(28, 20), mode="L"):
    """A picture that is no other's: (width, height) of `size`, random, and bright in its upper left corner."""
    values = np.random.default_rng(seed).integers(0, 128, (*size[::-1], 3), dtype=np.uint8)
    values[: size[1] // 3, : size[0] // 4] = 255
    return Image.fromarray(values).convert(mode)


def ink(seed, value, ground=0, size=(9, 7)):
    """Strokes of one value on nothing at all, as a canvas saves them: RGBA."""
    opacity = np.random.default_rng(seed).choice([0, 0, 120, 255], size[::-1]).astype(np.uint8)
    values = np.full((*size[::-1], 4), value, np.uint8)
    values[opacity == 0] = ground
    values[..., 3] = opacity
    return Image.fromarray(values)


def saved(folder, images, suffix="png", **options):
    """These pictures in two classes, by turns."""
    for number, image in enumerate(images):
        path = folder / f"class {number % 2}" / f"{number}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
    return str(folder)


def all_images(data):
    return np.concatenate([data.train_images, data.test_images])


def n_distinct(data):
    return len({image.tobytes() for image in all_images(data)})


def has_note(data, *words):
    return any(all(word in note for word in words) for note in data.notes)


def test_dark_ink_on_a_transparent_ground_is_laid_on_white(tmp_path):
    data = load(saved(tmp_path, [ink(seed, 0) for seed in range(24)]))
    assert n_distinct(data) == 24
    assert has_note(data, "laid on white", ": 24")
    assert all_images(data).max() == 255
    assert all_images(data).min() == 0
    assert has_note(data, "the 3 channels of every image are equal")
    opacity = np.asarray(ink(3, 0))[..., 3]
    pixels = next(image[..., 0] for image in all_images(data) if (image[..., 0] == 255 - opacity).all())
    assert pixels.shape == (7, 9)


def test_light_ink_stays_on_black_and_a_picture_that_is_not_seen_there_lies_on_white(tmp_path):
    images_of = [ink(seed, 255) for seed in range(7)] + [ink(9, 3)]
    data = load(saved(tmp_path, images_of))
    assert n_distinct(data) == 8
    assert has_note(data, "laid on black", ": 7")
    assert has_note(data, "laid on white", ": 1")


def test_transparency_that_is_nowhere_used_is_not_told_of(tmp_path):
    data = load(saved(tmp_path, [drawn(seed, mode="RGBA") for seed in range(4)]))
    assert not has_note(data, "transparent")


def test_on_one_ground_for_all_the_ink_would_be_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(grounds, "is_dark", lambda *_: False)
    monkeypatch.setattr(grounds, "LEAST_CONTRAST", -1)
    refused(saved(tmp_path, [ink(seed, 0) for seed in range(24)]), "nothing is seen in any of the 24 pictures")


def test_pictures_of_one_single_value_are_counted(tmp_path):
    data = load(saved(tmp_path, [Image.new("L", (5, 7), value) for value in (1, 2, 3)] + [drawn(0, (5, 7))]))
    assert has_note(data, "nothing is seen", "one single value: 3 of 4")


TURNS = {
    1: lambda stored: stored, 2: np.fliplr, 3: lambda stored: np.rot90(stored, 2), 4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1), 6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_turned_as_its_exif_says(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(kind, {})
    drawn(1, (20, 12)).save(tmp_path / f"a.{kind}", exif=exif, **options)
    drawn(1, (20, 12)).save(tmp_path / f"b.{kind}", **options)
    size, is_turned = pictures.header(tmp_path / f"a.{kind}")[:2], orientation != 1
    assert size[0] == ((20, 12) if orientation < 5 else (12, 20))
    assert pictures.header(tmp_path / f"a.{kind}").is_turned == is_turned
    width, height = size[0]
    stored = pictures.pixels(tmp_path / f"b.{kind}", Frame(12, 20, 1)).on_black
    upright = pictures.pixels(tmp_path / f"a.{kind}", Frame(height, width, 1)).on_black
    np.testing.assert_array_equal(upright, TURNS[orientation](stored))


def test_turning_is_said_and_damaged_exif_turns_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    saved(tmp_path, [drawn(seed) for seed in range(4)], "jpg")
    drawn(5, (20, 28)).save(tmp_path / "class 0" / "turned.jpg", exif=exif)
    drawn(6).save(tmp_path / "class 1" / "damaged.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff")
    data = load(str(tmp_path))
    assert data.image_shape == (20, 28, 1)
    assert has_note(data, "turned as their Exif says", ": 1")
    assert not has_note(data, "resized")


def test_without_exif_a_photograph_would_lie_on_its_side(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "orientation_of", lambda image: (1, False))
    with pytest.raises(AssertionError):
        test_a_picture_is_turned_as_its_exif_says(tmp_path, "jpg", 6)


def test_the_first_picture_of_an_mpo_is_read(tmp_path):
    saved(tmp_path, [drawn(seed) for seed in range(4)], "jpg")
    drawn(7, mode="RGB").save(
        tmp_path / "class 0" / "phone.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))]
    )
    data = load(str(tmp_path))
    assert len(all_images(data)) == 5
    assert has_note(data, "behind the first (MPO)", ": 1")
    pixels = pictures.pixels(tmp_path / "class 0" / "phone.jpg", Frame(20, 28, 3)).on_black
    assert np.abs(pixels.astype(int) - np.asarray(drawn(7, mode="RGB"))).mean() < 30


def test_jfif_is_read(tmp_path):
    saved(tmp_path, [drawn(seed) for seed in range(6)], "jfif", format="JPEG")
    assert len(all_images(load(str(tmp_path)))) == 6


def test_a_photograph_of_24_megapixels_is_read_at_the_size_of_the_others(tmp_path):
    saved(tmp_path, [drawn(seed) for seed in range(4)], "jpg")
    drawn(8).resize((6000, 4000), Image.Resampling.NEAREST).save(tmp_path / "class 0" / "photo.jpg", quality=50)
    data = load(str(tmp_path))
    assert data.image_shape == (20, 28, 1)
    pixels = pictures.pixels(tmp_path / "class 0" / "photo.jpg", Frame(20, 28, 1)).on_black[..., 0]
    assert np.abs(pixels.astype(int) - np.asarray(drawn(8))).mean() < 10


@pytest.mark.parametrize(("kind", "mode", "pixels"), [("JPEG", "L", 2**26), ("PNG", "L", 2**25), ("PNG", "LA", 2**24)])
def test_larger_photographs_are_refused_with_what_to_do(tmp_path, kind, mode, pixels):
    saved(tmp_path, [drawn(seed) for seed in range(4)])
    large = tmp_path / "class 0" / "large.jpg"
    Image.new(mode, (8192, pixels // 8192 + 1)).save(large, kind)
    refused(tmp_path, f"{8192}×{pixels // 8192 + 1} pixels", f"{pixels:,}", "make it smaller", code="LS-308")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def test_heic_is_refused_once_with_how_many_there_are(tmp_path):
    saved(tmp_path, [drawn(seed) for seed in range(4)])
    for number in range(9):
        (tmp_path / "class 1" / f"IMG_{number}.HEIC").write_bytes(HEIC)
    error = refused(tmp_path, "format HEIC, which is not read: 9 (", "IMG_0.HEIC", "JPEG or PNG", code="LS-308")
    assert len(error.problems) == 1


def test_a_class_of_heic_alone_is_not_called_empty(tmp_path):
    saved(tmp_path, [drawn(seed) for seed in range(4)])
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.heic").write_bytes(HEIC)
    assert len(refused(tmp_path, "HEIC", code="LS-308").problems) == 1


def test_names_may_say_heic_of_a_jpeg_and_jpeg_of_heic(tmp_path):
    saved(tmp_path, [drawn(seed) for seed in range(4)], "HEIC", format="JPEG")
    assert has_note(load(str(tmp_path)), "names say .heic", ": 4")
    (tmp_path / "class 0" / "a.jpg").write_bytes(HEIC)
    refused(tmp_path, "a.jpg", "it holds HEIC, which is not read", code="LS-308")
    (tmp_path / "class 0" / "a.jpg").write_bytes(b"<!DOCTYPE html><title>404</title>")
    refused(tmp_path, "a.jpg", "it holds HTML", code="LS-308")


# ---------------------------------------------------------------------------------------------------------------- sizes


def test_without_a_majority_the_size_is_the_median(tmp_path):
    sides = [(20 + number, 30 + 2 * number) for number in range(30)]
    sides[14] = (3, 9)
    data = load(saved(tmp_path, [drawn(number, size) for number, size in enumerate(sides)]))
    assert data.image_shape == (60, 35, 1)
    assert has_note(data, "60×35 (height × width), the median height and width", "29 of 30")


def test_a_rare_size_decides_nothing_though_it_be_the_only_one_twice(tmp_path):
    sides = [(20 + number, 30 + number) for number in range(7)] + [(3, 9), (3, 9)]
    assert load(saved(tmp_path, [drawn(0, size) for size in sides])).image_shape == (32, 22, 1)
    assert sizes.chosen([*sides, (3, 9)], None)[0] == (32, 22)
    assert sizes.chosen([(3, 9)] * 5 + [(40, 40)] * 4, None) == ((9, 3), sizes.TO_COMMON)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize("size", [(10, 14), "10x14", "10×14", [10, 14]])
def test_a_size_can_be_chosen_and_what_is_lost_is_said(home, size):
    source = saved(home / "data", [drawn(seed, (28 + seed, 20)) for seed in range(6)])
    import_folder(source, "small", size=size)
    data = load("small")
    assert data.image_shape == (10, 14, 1)
    assert has_note(data, "10×14 (height × width), which was asked for: 6 of 6")
    assert has_note(data, "more than half of their pixels: 6 of 6")


def test_proportions_are_kept_where_that_is_asked(home):
    """A square in a wide frame: as high as the frame, in its middle, and beside it what is at its edge."""
    square = Image.new("L", (8, 8), 70)
    square.paste(200, (2, 2, 6, 6))
    import_folder(saved(home / "data", [square] * 4), "square", size=(8, 14), keep_proportions=True)
    image = load("square").train_images[0, ..., 0]
    np.testing.assert_array_equal(image[:, 3:11], np.asarray(square))
    assert set(image[:, :3].ravel()) == set(image[:, 11:].ravel()) == {70}
    import_folder(str(home / "data"), "stretched", size=(8, 14))
    assert set(load("stretched").train_images[0, 4, :4, 0]) != {70}


def test_beside_a_transparent_picture_lies_its_ground(home):
    source = saved(home / "data", [ink(seed, 0) for seed in range(4)])
    import_folder(source, "ink", size=(7, 19), keep_proportions=True)
    image = load("ink").train_images[0]
    assert set(image[:, :5].ravel()) == {255}
    assert (image[:, 5:14] < 255).any()


@pytest.mark.parametrize("size", ["", "0x5", "5x", "axb", "5000", (3, 4, 5), (0, 4), (2.5, 3), True])
def test_what_is_no_size_is_refused(home, size):
    with pytest.raises(LockstepError, match="is no size of a picture") as raised:
        import_folder("digits", "x", size=size)
    assert raised.value.code == "LS-205"


def test_a_size_is_for_folders_of_pictures_alone(home):
    with pytest.raises(LockstepError, match="for a folder of pictures alone") as raised:
        import_folder("digits", "x", size=8)
    assert raised.value.code == "LS-205"


# ------------------------------------------------------------------------------------------------ classes and leftovers


def test_a_class_is_one_in_both_forms_of_unicode(tmp_path):
    for name, seeds in (("и\u0306од", (1, 2)), ("йод", (3, 4)), ("u\u0308", (5, 6)), ("ё", (7, 8))):
        for seed in seeds:
            path = tmp_path / name / f"{seed}.png"
            path.parent.mkdir(exist_ok=True)
            drawn(seed).save(path)
    data = load(str(tmp_path))
    assert data.class_names == ("ü", "йод", "ё")
    assert np.bincount(np.concatenate([data.train_labels, data.test_labels])).tolist() == [2, 4, 2]
    assert has_note(data, "one class: йод")


def test_a_class_may_be_written_otherwise_in_train_and_in_test(tmp_path):
    for half, name in (("train", "и\u0306"), ("test", "й"), ("train", "a"), ("test", "a")):
        (tmp_path / half / name).mkdir(parents=True)
        drawn(len(name)).save(tmp_path / half / name / "1.png")
    assert load(str(tmp_path)).class_names == ("a", "й")


def test_names_that_are_not_utf8_are_told_apart(tmp_path):
    for name in ("кошка", "собак"):
        path = os.fsencode(tmp_path) + b"/" + name.encode("cp866")
        os.mkdir(path)
        for seed in (1, 2):
            drawn(seed).save(os.path.join(os.fsdecode(path), f"{seed}.png"))
    data = load(str(tmp_path))
    assert len(set(data.class_names)) == 2
    assert all(name.encode() and "\\x" in name for name in data.class_names)
    assert has_note(data, "are not UTF-8", "rename the folders")
    assert describe(str(tmp_path)).class_names == data.class_names


def test_control_characters_in_a_class_are_escapes(tmp_path):
    for name in ("cat", "cat\x07", "c\x1b[31mat"):
        (tmp_path / name).mkdir()
        for seed in (1, 2):
            drawn(seed).save(tmp_path / name / f"{seed}.png")
    assert set(load(str(tmp_path)).class_names) == {"cat", "cat\\x07", "c\\x1b[31mat"}


def test_leftovers_of_systems_are_left_out_and_named(folder):
    (folder / "__MACOSX" / "cat").mkdir(parents=True)
    (folder / "__MACOSX" / "cat" / "._0.png").write_bytes(b"x")
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "cat" / name).write_bytes(b"x")
    picture(folder / "dog" / ".ipynb_checkpoints" / "0-checkpoint.png")
    (folder / "README.txt").write_text("x")
    data = load(str(folder))
    assert data.class_names == ("cat", "dog")
    assert len(all_images(data)) == 20
    assert has_note(data, "leftovers", ": 6 (", "__MACOSX", "._0.png", ".DS_Store", ".ipynb_checkpoints", "Thumbs.db")
    assert has_note(data, "no pictures: 1 (README.txt)")


def test_pictures_that_lie_elsewhere_are_counted(folder):
    picture(folder / "beside.png")
    for number in range(3):
        picture(folder / "cat" / "more" / f"{number}.png")
    assert has_note(load(str(folder)), "left out because they do not lie directly", ": 4 (beside.png, more")


def test_every_note_is_recognised_where_it_is_kept_in_english(folder):
    """A form that `NOTES` lacks would be said in English for ever."""
    everything = {name: getattr(module, name) for module in (folders, grounds, sizes, images) for name in dir(module)}
    forms = [text for name, text in everything.items() if name.isupper() and isinstance(text, str)]
    assert {text for text in forms if text != ""} <= set(images.NOTES)
    note = load(str(folder)).notes[0]
    said = language.recognised(str(note), images.NOTES)
    assert isinstance(said, language.Text)
    assert said.values["share"] == "20%"


# ------------------------------------------------------------------------------------------------------ what is printed


def imported(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "import", *arguments])
    assert not ended.value.code
    return capsys.readouterr()


def test_an_import_warns_of_what_nobody_may_have_wanted(home, capsys):
    source = saved(home / "data", [drawn(seed, (28 + seed, 20)) for seed in range(6)] + [Image.new("L", (28, 20), 9)])
    drawn(9).save(home / "data" / "beside.png")
    out, err = imported(capsys, source, "small", "--size", "10x14")
    assert "pictures resized to 10×14 (height × width), which was asked for: 7 of 7" in out
    for words in ("--size 64x64", "the folder of their class", "look at one in a viewer"):
        (line,) = [line for line in err.splitlines() if words in line]
        assert line.startswith("warning: ")
    out, err = imported(capsys, source, "fitted", "--size", "30", "--keep-proportions")
    assert "proportions are kept" in out
    assert "half of their pixels" not in out + err


def test_an_import_speaks_russian(home, capsys):
    source = saved(home / "data", [ink(seed, 0, size=(9, 7 + seed)) for seed in range(6)])
    out, err = imported(capsys, source, "small", "--size", "3", "--language", "ru")
    assert not re.search("[A-Za-z]{4,}", re.sub(r"small.*npz|Lockstep|Pillow|seed|size", "", out + err)), out + err


def test_a_report_says_notes_in_russian():
    with language.speaking("ru"):
        said = forms.say("pictures that were turned as their Exif says, as viewers show them: 1,029")
    assert said == "изображений, повёрнутых по их Exif, как их показывают программы просмотра: 1\xa0029"
