"""How strange a picture is: the page says what the table was made by, and a scribble is stranger than a digit."""

import dataclasses

import numpy as np
import pytest

from lockstep import parse_study, run_study
from lockstep.data import digits
from lockstep.data.catalogue import DATASETS
from lockstep.play import framing, strangeness, strangers
from lockstep.play.arrays import packed
from support.playing import as_played, in_node

STUDY = """
dataset = "digits"
backends = ["numpy"]
[recipe]
epochs = 2
[networks]
mlp = ["flatten", "dense 24", "relu", "dense 10"]
"""
SCORES = """
const run = await BUILD(given.run), size = sizeOf(run.shape), images = await unpacked(given.images);
const near = (await unpacked(given.near)).map(value => value * 17);
const some = n => images.subarray(n * size, (n + 1) * size);
const pictures = Array.from({length: near.length / size}, (_, n) => near.subarray(n * size, (n + 1) * size));
const all = neighbourhood(run, pictures);
return Array.from({length: images.length / size}, (_, n) => {
  const scores = scoresOf(run, forward(run, some(n)), some(n), all);
  return {scores, share: strangeness(given.scale, scores).share};
});
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    (record,) = run_study(parse_study(STUDY), tmp_path_factory.mktemp("trained"), threads=1)
    return as_played(record.folder)


@pytest.fixture(scope="module")
def data():
    return digits.read("digits", DATASETS["digits"])


@pytest.fixture(scope="module")
def sets(data):
    frame = framing.framed_coarsely(data.train_images, 8)
    others = {kind: strangers.pictures(kind, frame, 60) for kind in strangers.KINDS}
    return strangeness.Sets.of(data, strangeness.neighbours(data), others)


def test_the_page_scores_as_the_table_was_made(trained, sets):
    scale = strangeness.scale(trained, sets)
    images = np.concatenate([sets.pictures["held"][:4], sets.pictures["scribbles"][:4]])
    pixels = np.concatenate([sets.pixels["held"][:4], sets.pixels["scribbles"][:4]])
    wanted = strangeness.Scores(trained, sets.near)(images, pixels)
    given = {
        "run": trained.document(), "near": packed(sets.near // 17), "images": packed(images), "scale": scale.document(),
    }  # fmt: skip
    found = in_node(SCORES, given)
    for name, values in wanted.items():
        np.testing.assert_allclose([one["scores"][name] for one in found], values, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose([one["share"] for one in found], scale.strangeness(wanted), atol=1e-4)
    planted = in_node(SCORES, given, [("together -= Math.log(", "together += Math.log(")])
    assert [one["share"] for one in planted] != [one["share"] for one in found]


def test_strangers_are_stranger_than_digits_and_shares_are_shares(trained, sets):
    scale = strangeness.scale(trained, sets)
    assert scale.caught["held"] < 0.12
    assert scale.caught["scribbles"] > 3 * scale.caught["held"]
    scores = strangeness.Scores(trained, sets.near)
    common = scale.strangeness(scores(sets.pictures["common"], sets.pixels["common"]))
    np.testing.assert_allclose(np.quantile(common, [0.25, 0.5, 0.9]), [0.25, 0.5, 0.9], atol=0.03)
    assert set(scale.caught) == {"held", *strangers.KINDS}


def test_neighbours_are_of_every_class_and_in_few_levels(data):
    near = strangeness.neighbours(data)
    assert near.shape == (600, 28, 28, 1)
    assert set(np.unique(near) % 17) == {0}


def test_strangers_are_the_same_everywhere():
    first = [np.concatenate(list(make(7))) for make in strangers.KINDS.values()]
    again = [np.concatenate(list(make(7))) for make in strangers.KINDS.values()]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.min() >= 0
        assert one.max() <= 280


def test_clothes_are_for_digits_alone(data, monkeypatch):
    monkeypatch.setattr(strangers, "load", lambda name, offline: data)
    assert len(strangers.clothes(data, 5)) == 5
    assert strangers.clothes(dataclasses.replace(data, class_names=tuple("abcdefghij"))) is None
