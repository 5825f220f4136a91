"""The film of a run: kept after each epoch where it was asked for, and shown as far as it is whole."""

import numpy as np
import pytest

from lockstep import parse_study, store
from lockstep.play import film, gather
from lockstep.study import run_study
from support.playing import EVERYTHING, as_played, in_node, run_to_play

STUDY = """
dataset = "digits"
backends = ["numpy"]
train_size = 200
[recipe]
epochs = 3
[networks]
net = ["flatten", "dense 9", "batch_norm", "relu", "dense 10"]
"""


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    (record,) = run_study(parse_study(STUDY), tmp_path_factory.mktemp("filmed"), threads=1, is_filmed=True)
    return record


def test_a_filmed_run_has_a_frame_of_every_epoch_and_the_last_is_what_it_ended_with(filmed):
    frames = store.find_frames(filmed.folder)
    assert list(frames) == [1, 2, 3]
    one = as_played(filmed.folder)
    for name, value in store.read_frame(frames[3]).items():
        np.testing.assert_array_equal(value, one.parameters[name].astype(np.float16), err_msg=name)
    first = store.read_frame(frames[1])
    assert any((first[name] != value).any() for name, value in store.read_frame(frames[3]).items())
    assert sum(path.stat().st_size for path in frames.values()) < 3 * 20_000


def test_a_run_that_was_not_asked_for_one_has_none(tmp_path):
    (record,) = run_study(parse_study(STUDY.replace("epochs = 3", "epochs = 1")), tmp_path, threads=1)
    assert not (record.folder / "film").exists()
    assert film.document([as_played(record.folder)]) is None


def test_the_page_reads_the_film_in_half_precision(filmed):
    page = gather([filmed])
    found = page.document["film"]
    assert found["epochs"] == [1, 2, 3]
    wanted = store.read_frame(store.find_frames(filmed.folder)[2])
    numbers = in_node("return [...await unpacked(given)];", found["numbers"])
    one = as_played(filmed.folder)
    n = len(numbers) // 3
    np.testing.assert_array_equal(
        np.array(numbers[n : 2 * n]), np.concatenate([wanted[name].ravel() for name in one.parameters]).astype(float)
    )
    assert gather([filmed], with_film=False).document["film"] is None


def test_frames_that_are_damaged_or_of_another_network_are_left_out(tmp_path):
    folder = run_to_play(tmp_path, EVERYTHING["flat"])
    one = as_played(folder)
    store.begin_film(folder)
    for epoch in range(1, 5):
        store.keep_frame(folder, epoch, one.found.weights, one.found.state)
    assert film.document([one])["epochs"] == [1, 2, 3, 4]
    frames = store.find_frames(folder)
    frames[2].write_bytes(frames[2].read_bytes()[:-7])
    store.keep_frame(folder, 3, {name: value * 1e6 for name, value in one.found.weights.items()}, one.found.state)
    assert film.document([one])["epochs"] == [1, 4]
    store.keep_frame(folder, 4, {"other/kernel": np.zeros(3)}, {})
    assert film.document([one]) is None


def test_of_a_long_film_some_frames_are_shown(tmp_path, monkeypatch):
    folder = run_to_play(tmp_path, EVERYTHING["pooled"])
    one = as_played(folder)
    store.begin_film(folder)
    for epoch in range(1, 31):
        store.keep_frame(folder, epoch, one.found.weights, one.found.state)
    epochs = film.document([one])["epochs"]
    assert (len(epochs), epochs[0], epochs[-1]) == (16, 1, 30)
    monkeypatch.setattr(film, "MOST_NUMBERS", 10)
    assert film.document([one])["epochs"] == [1, 30]
