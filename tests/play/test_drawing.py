"""From strokes and pictures to pixels: the page's script and its twin in NumPy paint the same."""

import dataclasses

import numpy as np
import pytest

from lockstep.data import digits
from lockstep.data.catalogue import DATASETS
from lockstep.play import framing, painting, strangers
from lockstep.play.painting import Frame
from support.playing import in_node

MNIST_LIKE = Frame((28, 28, 1), True, 0, 20.0, 2.0, "mass", (14.0, 14.0))
FRAMES = {
    "by mass": MNIST_LIKE,
    "by box, on white": Frame((26, 31, 3), True, 255, 19.0, 3.1, "box", (13.0, 15.5)),
    "coarse": Frame((28, 28, 1), True, 0, 24.0, 4.2, "box", (14.0, 14.0), 8),
    "whole": Frame((18, 25, 3), False, 0, 25.0, 2.0, "box", (9.0, 12.5)),
}
DRAWN = """
return given.strokes.map(strokes => {
  const lines = strokes.map(points => points.map(([x, y]) => ({x, y})));
  const pen = given.frame.pen / sideOf(given.frame) * PAD;
  return [...inked(drawn(lines, pen, given.frame).cover, given.frame)];
});
"""


def some_strokes() -> list[list[np.ndarray]]:
    found = [list(make(number)) for make in strangers.KINDS.values() for number in range(4)]
    return [*found, [np.array([[50.0, 60.0]])], [np.array([[20.0, 250.0], [21.0, 250.5]]), np.array([[30.0, 240.0]])]]


@pytest.mark.parametrize("name", FRAMES)
def test_script_and_twin_paint_the_same(name):
    frame = FRAMES[name]
    strokes = some_strokes()
    given = {"frame": frame.document(), "strokes": [[points.tolist() for points in one] for one in strokes]}
    wanted = np.stack([painting.picture(one, frame) for one in strokes]).astype(int)
    found = np.array(in_node(DRAWN, given)).reshape(wanted.shape)
    assert np.abs(found - wanted).max() <= 1  # a half that is rounded the other way
    assert (found != wanted).mean() < 5e-3


def test_a_drawing_that_is_not_scaled_is_seen():
    strokes = some_strokes()
    given = {"frame": MNIST_LIKE.document(), "strokes": [[points.tolist() for points in one] for one in strokes]}
    found = in_node(DRAWN, given, [("const scale = extent < pen ?", "const scale = extent >= 0 ?")])
    wanted = [painting.picture(one, MNIST_LIKE).ravel().tolist() for one in strokes]
    assert np.abs(np.array(found) - wanted).max() > 50


def test_a_drawing_is_the_same_at_any_place_and_size():
    stroke = strangers.scribbles(3)[0]
    whole = painting.picture([stroke], MNIST_LIKE).astype(int)
    for size, x, y in ((0.5, 10, 5), (0.7, 80, 60), (0.9, 0, 20)):
        moved = painting.picture([stroke * size + [x, y]], MNIST_LIKE).astype(int)
        assert np.abs(moved - whole).max() <= 1, "lines keep their width, since strokes are vectors"
    assert np.abs(painting.mass(whole[..., 0]) - 14).max() < 0.05


PICTURED = """
const rgba = new Uint8ClampedArray(given.grey.flatMap(value => [value, value, value, 255]));
const found = pictured(rgba, given.width, given.height, given.frame);
return {pixels: [...found.pixels], isInverted: found.isInverted, isUntouched: found.isUntouched};
"""


def pictured(grey: np.ndarray, frame: Frame, planted=()):
    height, width = grey.shape
    given = {"grey": grey.ravel().tolist(), "width": width, "height": height, "frame": frame.document()}
    found = in_node(PICTURED, given, planted)
    return np.array(found["pixels"]).reshape(frame.shape), found


def test_a_picture_of_the_very_size_is_untouched():
    image = painting.picture(strangers.scribbles(1), MNIST_LIKE)
    found, facts = pictured(image[..., 0], MNIST_LIKE)
    assert facts["isUntouched"]
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("is_white", [False, True])
def test_a_large_picture_is_boxed_inverted_where_the_paper_is_white_and_centred(is_white):
    image = painting.picture(strangers.crosses(1), MNIST_LIKE)[..., 0]
    large = np.zeros((150, 170), np.uint8)
    large[30:142, 5:117] = np.kron(image, np.ones((4, 4), np.uint8))
    large[2, 160] = 255  # a speck
    found, facts = pictured(255 - large if is_white else large, MNIST_LIKE)
    assert facts["isInverted"] == is_white
    assert np.abs(painting.mass(found[..., 0].astype(float)) - 14).max() < 0.1
    apart = np.abs(found[..., 0] - image.astype(int))
    assert apart.mean() < 9, "the same cross, but for its box"
    _, planted = pictured(large, MNIST_LIKE, [("isLight !== (frame.ground > 127)", "isLight === (frame.ground > 127)")])
    assert planted["isInverted"]


def test_a_colour_picture_keeps_its_colours_and_its_middle():
    frame = dataclasses.replace(FRAMES["whole"], shape=(8, 8, 3))
    body = """
    const rgba = new Uint8ClampedArray(given.flat);
    return [...pictured(rgba, 32, 16, given.frame).pixels];
    """
    picture = np.zeros((16, 32, 4), int)
    picture[..., 3] = 255
    picture[:, 8:24] = [200, 100, 50, 255]
    found = np.array(in_node(body, {"flat": picture.ravel().tolist(), "frame": frame.document()}))
    np.testing.assert_array_equal(found.reshape(8, 8, 3), np.broadcast_to([200, 100, 50], (8, 8, 3)))


def test_an_empty_picture_is_blank():
    found, _ = pictured(np.full((40, 40), 255), MNIST_LIKE)
    assert not found.any()


PLAINLY = """
return given.covers.map(cover => plainly(cover, given.frame.shape, given.frame, true));
"""


def test_blank_dot_and_lying_bar_have_a_rule_of_their_own_and_digits_do_not():
    data = digits.read("digits", DATASETS["digits"])
    frame = framing.framed_coarsely(data.train_images, 8)
    bar, upright = np.array([[40.0, 140.0], [240.0, 150.0]]), np.array([[140.0, 40.0], [150.0, 240.0]])
    strokes = [[np.array([[100.0, 100.0]])], [bar], [upright], list(strangers.scribbles(0))]
    covers = [np.zeros((28, 28)), *(painting.covered(one, MNIST_LIKE) for one in strokes)]
    given = {"frame": MNIST_LIKE.document(), "covers": [cover.ravel().tolist() for cover in covers]}
    assert in_node(PLAINLY, given) == ["blank", "dot", "bar", "", ""]
    images = data.test_images[:200, ..., 0] / 255
    found = in_node(PLAINLY, {"frame": frame.document(), "covers": [cover.ravel().tolist() for cover in images]})
    assert found == [""] * 200


# ------------------------------------------------------------------------------------------------------------- frames


def test_the_frame_of_a_dataset_is_measured():
    data = digits.read("digits", DATASETS["digits"])
    found = framing.framed_coarsely(data.train_images, 8)
    assert (found.is_boxed, found.ground, found.centre, found.coarse) == (True, 0, "box", 8)
    assert (found.box, found.at) == (24, (14, 14))  # eight pixels enlarged three times
    coarse = data.train_images[:1, 3:27:3, 3:27:3, 0].astype(float)[0] / 255
    along = painting.enlarging(28, 8)
    np.testing.assert_allclose(along @ coarse @ along.T * 255, data.train_images[0, ..., 0], atol=1)
    made = np.stack([painting.picture(strangers.scribbles(number), MNIST_LIKE) for number in range(40)])
    found = framing.framed(made)
    assert (found.is_boxed, found.ground, found.centre) == (True, 0, "mass")
    assert found.box == pytest.approx(20, abs=1.01)
    assert found.pen == pytest.approx(2, abs=0.5)
    np.testing.assert_allclose(found.at, 14, atol=0.1)
    white = framing.framed(255 - made)
    assert (white.ground, white.box) == (255, found.box)


def test_photographs_fill_their_field():
    photographs = np.random.default_rng(0).integers(0, 256, (30, 20, 24, 3)).astype(np.uint8)
    assert not framing.framed(photographs).is_boxed


def test_skeletons_are_one_pixel_wide():
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 5:9, 3:17] = True
    thin = framing.thinned(mask)
    assert 8 <= thin.sum() <= 14
    assert thin[0].sum(axis=0).max() == 1
