"""Time to a test accuracy: worked out by hand, in the page, in numbers, and the same again when it is verified."""

from __future__ import annotations

import json

import pytest

import lockstep
from lockstep import LockstepError, cli, store
from lockstep.report import compare, gather, levels_of, page
from lockstep.report.compare import milestones
from lockstep.report.compare.groups import group
from lockstep.report.facts import Facts
from support.pages import words
from support.run_folders import fake_run


def run(root, backend, seed, curve, seconds=1.0, network="mlp"):
    """A run whose test accuracy goes this way, an epoch in so many seconds."""
    folder = fake_run(root, network, backend, seed, epochs=len(curve))
    path = folder / "events.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, accuracy in zip(rows, curve, strict=True):
        row |= {"test_accuracy": accuracy, "train_seconds": seconds}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two seeds of numpy, one of which never gets to 90 %; three of torch, which all do."""
    run(tmp_path, "numpy", 0, (0.5, 0.91, 0.89), 1.0)
    run(tmp_path, "numpy", 1, (0.5, 0.6, 0.7), 1.0)
    for seed, seconds in enumerate((2.0, 3.0, 4.0)):
        run(tmp_path, "torch", seed, (0.5, 0.8, 0.9), seconds)
    return tmp_path


def rows(root, *levels):
    found = milestones.reached(group([Facts(record) for record in store.find_runs(root)]), levels)
    return {(row.backend, row.accuracy): row for row in found}


def test_it_is_the_time_to_the_end_of_the_first_epoch_that_is_as_good(runs):
    found = rows(runs, 0.9, 0.8)
    torch = found["torch", 0.9]
    assert (torch.runs, torch.reached, torch.seconds, torch.fastest, torch.slowest) == (3, 3, 9.0, 6.0, 12.0)
    assert torch.epochs == 3
    assert found["torch", 0.8].seconds == 6.0, "the median of 4, 6 and 8"


def test_a_run_that_never_gets_there_is_slower_than_all_others(runs):
    numpy = rows(runs, 0.9)["numpy", 0.9]
    assert (numpy.runs, numpy.reached, numpy.seconds, numpy.epochs) == (2, 1, None, None)
    assert (numpy.fastest, numpy.slowest) == (2.0, 2.0)
    run(runs, "numpy", 2, (0.9, 0.9, 0.9), 1.5)
    numpy = rows(runs, 0.9)["numpy", 0.9]
    assert (numpy.reached, numpy.seconds) == (2, 2.0), "of 1.5, 2 and never"
    nobody = rows(runs, 0.99)["numpy", 0.99]
    assert (nobody.reached, nobody.seconds, nobody.fastest) == (0, None, None)


def test_without_a_level_those_of_the_ladder_are_taken(runs):
    assert sorted({level for _backend, level in rows(runs)}) == [0.7, 0.8, 0.9]
    run(runs, "numpy", 3, (0.1, 0.1, 0.1), network="cnn")
    assert sorted({level for _backend, level in rows(runs)}) == [0.7, 0.8, 0.9]


def test_what_has_no_time_of_its_own_is_left_out(runs):
    for folder in runs.glob("*/*numpy*"):
        timing = store.read_json(folder / "timing.json")
        store.write_json(folder / "timing.json", timing | {"together": 3})
    assert {backend for backend, _level in rows(runs, 0.9)} == {"torch"}
    for folder in runs.glob("*/*torch*"):
        text = (folder / "events.jsonl").read_text().replace('"train_seconds"', '"other"')
        (folder / "events.jsonl").write_text(text)
    assert rows(runs, 0.9) == {}
    assert gather(store.find_runs(runs))["milestones"] is None


def test_the_page_and_the_numbers_say_it(runs, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(runs), "--no-figures", "--reach", "90", "--reach", "99.5", "--json"])
    assert not ended.value.code
    document = json.loads(capsys.readouterr().out)
    assert [(row["backend"], row["accuracy"], row["reached"]) for row in document["reached"]] == [
        ("numpy", 0.9, 1), ("torch", 0.9, 3), ("numpy", 0.995, 0), ("torch", 0.995, 0),
    ]  # fmt: skip
    said = words((runs / "report.html").read_text(encoding="utf-8"))
    assert "Time to an accuracy" in said
    assert "mlp torch 9.00 (6.00…12.00) never reached in 3 of 3" in said
    assert "mlp numpy never reached in 1 of 2 never reached in 2 of 2" in said
    assert compare(store.find_runs(runs))["reached"] == [
        row for row in compare(store.find_runs(runs))["reached"] if row["accuracy"] in (0.7, 0.8, 0.9)
    ]


def test_a_page_says_which_levels_it_was_asked_for(runs):
    records = store.find_runs(runs)
    asked = page.about(records, 0, levels_of([99, 90]))
    assert asked["levels"] == [0.9, 0.99]
    assert "levels" not in page.about(records, 0)
    made = lockstep.write_report(records, runs / "report.html", reach=90)
    again = page.render(gather(records, 0, [0.9]))
    assert made.read_text(encoding="utf-8") == again
    assert made.read_text(encoding="utf-8") != page.render(gather(records, 0, [0.8]))


@pytest.mark.parametrize("reach", [0, 100.5, -3, float("nan"), True, ["90"], [None]])
def test_what_is_no_test_accuracy_is_refused(reach):
    with pytest.raises(LockstepError, match="LS-205 --reach"):
        levels_of(reach)
    assert levels_of([100, 0.5, 100]) == (0.005, 1.0)
