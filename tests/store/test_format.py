"""Run folders of the version before go on being read, gone on with and judged by what they were made by.

`earlier/` holds two of them, as that version left them: a run that is finished, and the same one cut off after its
second epoch. Their spec.toml has no format, which is format 1.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from lockstep import data, store
from lockstep.check import submissions
from lockstep.data import part_of
from lockstep.errors import LockstepError
from lockstep.proof.comparison import compare_runs
from lockstep.spec import FORMAT, FORMATS
from lockstep.spec.records import changed
from lockstep.spec.toml import parse_study, read_study, resolved_toml
from lockstep.store import Record
from lockstep.study import load_study, resumption, run_study
from lockstep.training import inputs
from lockstep.training.checkpoints import differences
from support import EARLIER

EARLIER = EARLIER


def old(kind: str) -> Path:
    (folder,) = (path for path in (EARLIER / kind).iterdir() if path.is_dir())
    return folder


@pytest.fixture
def copied(tmp_path):
    """Copies a folder of `earlier`, which a command may then write to."""
    return lambda kind: Path(shutil.copytree(old(kind), tmp_path / kind / old(kind).name))


@pytest.fixture(scope="module")
def again(tmp_path_factory) -> dict[int, Record]:
    """The same run made by this version, in each format."""
    asked = store.read_asked(old("finished"))
    runs = {number: changed(asked, format=number, name=f"format{number}") for number in FORMATS}
    folder = tmp_path_factory.mktemp("again")
    return {number: run_study(study, folder, threads=1)[0] for number, study in runs.items()}


def losses(folder: Path) -> np.ndarray:
    return Record(folder).arrays("steps")["loss"]


# ------------------------------------------------------------------------------------------------ which format it is


def test_what_a_run_folder_describes_without_a_format_is_format_1(tmp_path):
    assert "format" not in Record(old("finished")).spec
    assert store.read_asked(old("finished")).format == 1
    assert read_study(old("interrupted") / "spec.toml").format == 1
    assert load_study(old("finished") / "spec.toml").format == 1  # `lockstep run …/spec.toml --again` repeats it
    shutil.copyfile(old("finished") / "spec.toml", tmp_path / "spec.toml")  # a study by that name, beside no run
    assert read_study(tmp_path / "spec.toml").format == FORMAT


def test_a_study_has_the_newest_format_unless_it_asks_for_another():
    text = 'networks.a = ["flatten", "dense 10"]\n'
    assert parse_study(text).format == parse_study(text).runs()[0].format == FORMAT
    assert parse_study(f"format = 1\n{text}").runs()[0].format == 1
    assert parse_study(resolved_toml(parse_study(f"format = 1\n{text}"))).format == 1
    assert f"\nformat = {FORMAT}\n" in resolved_toml(parse_study(text))
    with pytest.raises(LockstepError, match=r"LS-205.*format: 3 is not one of 1 or 2"):
        parse_study(f"format = 3\n{text}", settings=[])


# ------------------------------------------------------------------------------------------ what an earlier run is for


def test_an_earlier_run_is_verified_by_the_weights_that_it_started_from(copied):
    found = submissions.verify(copied("finished").parent)
    assert found["problems"] == []
    assert found["weights_checked"] == 1


def test_an_earlier_run_that_claims_this_versions_format_is_found_out(copied, monkeypatch):
    """The twin: judged by other starting weights, the honest run does not fit."""
    monkeypatch.setattr("lockstep.spec.toml.is_written", lambda path: False)
    found = submissions.verify(copied("finished").parent)
    assert any("not what seed 0, recipe and data give" in str(problem) for problem in found["problems"])


def test_an_earlier_run_that_was_interrupted_is_gone_on_with(copied, again):
    folder = copied("interrupted")
    waiting, _left, problems = resumption.unfinished([folder])
    assert problems == []
    (record,), held = resumption.resume(waiting)
    assert record.is_finished, record.status
    assert held == []
    np.testing.assert_allclose(losses(folder), losses(old("finished")), rtol=1e-4)
    np.testing.assert_allclose(losses(folder), losses(again[1].folder), rtol=1e-4)


def test_this_version_repeats_an_earlier_run_in_its_format_alone(again):
    before = losses(old("finished"))
    np.testing.assert_allclose(losses(again[1].folder), before, rtol=1e-4)
    assert np.abs(losses(again[2].folder) - before).max() > 0.01
    assert again[1].folder.name != again[2].folder.name


def test_runs_of_two_formats_are_not_compared_and_it_is_said_why(again):
    with pytest.raises(LockstepError) as raised:
        compare_runs(old("finished"), again[2].folder)
    assert raised.value.code == "LS-210"
    for words in ("format: 1 and 2", *FORMATS.values()):
        assert words in str(raised.value)
    assert compare_runs(old("finished"), again[1].folder).verdict in ("IDENTICAL", "EQUAL")


def test_what_else_differs_is_told_beside_the_format(again, tmp_path):
    asked = changed(store.read_asked(old("finished")), networks={"mlp": ["flatten", "dense 10"]}, seeds=3, format=2)
    (other,) = run_study(asked, tmp_path, threads=1)
    with pytest.raises(LockstepError) as raised:
        compare_runs(old("finished"), other.folder)
    for words in ("network: layer 1 is", "seed: 0 and 3", "format: 1 and 2"):
        assert words in str(raised.value)


def test_a_change_of_format_is_told_as_one():
    before, now = (
        store.read_spec(old("finished")),
        resolved_toml(changed(store.read_asked(old("finished")), format=2)),
    )
    assert differences(before, now) == ["format: 1 → 2"]
    assert differences(before, before) == []


# --------------------------------------------------------------------------------------------------- which images stay


LABELS = np.repeat(np.arange(5), [40, 30, 20, 9, 1])  # sorted by class, as many a dataset is


@pytest.mark.parametrize("n", [5, 6, 10, 33, 50, 99, 100, 1000])
def test_train_size_keeps_of_each_class_its_share(n):
    kept = part_of(np.arange(100), LABELS, n, 2)
    counts, wanted = np.bincount(LABELS[kept], minlength=5), np.bincount(LABELS) * min(n, 100) / 100
    assert len(kept) == len(set(kept)) == min(n, 100)
    assert (np.diff(kept) > 0).all()
    assert counts.min() >= 1
    assert np.abs(counts - wanted).max() <= 2
    for label in range(5):  # the first ones of each
        np.testing.assert_array_equal(kept[LABELS[kept] == label], np.flatnonzero(label == LABELS)[: counts[label]])


def test_fewer_images_are_among_more():
    parts = [set(part_of(np.arange(3, 100, 2), LABELS, n, 2)) for n in range(1, 50)]
    assert all(small < large for small, large in itertools.pairwise(parts))


def test_in_format_1_the_first_ones_stay():
    np.testing.assert_array_equal(part_of(np.arange(100), LABELS, 50, 1), np.arange(50))
    assert np.bincount(LABELS[part_of(np.arange(100), LABELS, 50, 1)], minlength=5).tolist() == [40, 10, 0, 0, 0]


def test_a_run_is_trained_on_the_part_of_its_format(again):
    loaded = data.load("digits", offline=True)
    for number, record in again.items():
        kept = part_of(np.arange(len(loaded.train_labels)), loaded.train_labels, 90, number)
        assert record.environment["dataset"]["class_counts"] == np.bincount(loaded.train_labels[kept]).tolist()
        (run,) = store.read_asked(record.folder).runs()
        np.testing.assert_array_equal(inputs.Examples(loaded, run).train[1], loaded.train_labels[kept])
