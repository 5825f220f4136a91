"""What a report shows first: an answer in three sentences, the proof's badges, one figure, one line of caution."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from lockstep import language, store
from lockstep.report.compare import comparison, milestones
from lockstep.report.compare.groups import group
from lockstep.report.facts import Facts
from lockstep.report.proofs import check_fit, read_beside
from lockstep.report.sections import arrivals, badges, folds, glance, telling
from lockstep.report.sections.comparisons import section as comparisons
from lockstep.report.table import Table
from lockstep.report.words.brief import brief, caution
from lockstep.report.words.conclusions import conclusions, findings
from support.proof_documents import divergence, proof_of, proven
from support.run_folders import BACKENDS, diverge, fake_run, seeds_of

QUESTIONS = (
    "Do four backends agree?",
    "Which network is best?",
    "What does it cost?",
    "Does it reach 99 %?",
    "",
    "Why?",
)


def seen(root: Path, document: dict | None = None):
    """(groups, what they say of each other, the proofs beside them) of all runs below a folder."""
    if document is not None:
        store.write_json(root / "demo" / "proof.json", document)
    runs = [Facts(record) for record in store.find_runs([root])]
    groups = group(runs)
    reading = read_beside(root / "demo")
    fit = check_fit(reading.proof, runs) if reading.proof else None
    return groups, comparison.compare(groups), [(reading, fit)]


def answered(runs, asked_for: str) -> list[str]:
    groups, found, proofs = runs
    return brief(groups, found, asked_for, proofs)


def warned(runs) -> str:
    groups, found, _proofs = runs
    return caution(groups, found, 0, 0)


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    root = tmp_path_factory.mktemp("one-seed")
    for network, backend in itertools.product(("mlp", "cnn"), BACKENDS):
        fake_run(root, network, backend, accuracy=0.9 if network == "mlp" else 0.95)
    return seen(root)


@pytest.fixture(scope="module")
def five_seeds(tmp_path_factory):
    root = tmp_path_factory.mktemp("five-seeds")
    for network, high, step in (("mlp", 0.90, 0.005), ("cnn", 0.97, -0.005)):
        for backend in ("numpy", "torch"):
            seeds_of(root, backend, [high + step * n for n in range(5)], network=network)
    return seen(root)


# ----------------------------------------------------------------------------------------------------- the answer


@pytest.mark.parametrize("spoken", language.LANGUAGES)
@pytest.mark.parametrize("asked_for", QUESTIONS)
def test_an_answer_has_at_most_three_short_sentences(one_seed, five_seeds, asked_for, spoken):
    with language.speaking(spoken):
        for groups, found, proofs in (one_seed, five_seeds):
            said = brief(groups, found, asked_for, proofs)
            assert 1 <= len(said) <= 3
            assert all(len(sentence) < 170 for sentence in said), said
            assert len(set(said)) == len(said)


def test_the_answer_begins_with_what_is_asked(one_seed, five_seeds):
    assert answered(one_seed, "Which network is best?")[0].startswith("cnn has the highest test accuracy")
    assert answered(one_seed, "What does it cost?")[0].startswith("An epoch takes from 0.400\u00a0s (")
    assert "is not reached" in answered(five_seeds, "Does it reach 99.9 %?")[0]
    assert "is reached" in answered(five_seeds, "Does it reach 95 %?")[0]


def test_one_seed_is_said_to_tell_nothing_and_five_are_not(one_seed, five_seeds):
    assert "one seed cannot tell whether by chance" in " ".join(answered(one_seed, "Which network?"))
    assert "One seed cannot tell" in warned(one_seed)
    said = " ".join(answered(five_seeds, "Which network is best?"))
    assert "shown over five seeds" in said
    assert "seed" not in warned(five_seeds)


def test_a_difference_without_any_spread_is_not_called_none(tmp_path):
    for network, high in (("mlp", 0.90), ("cnn", 0.97)):
        seeds_of(tmp_path, "numpy", [high] * 3, network=network)
    groups, found, proofs = seen(tmp_path)
    assert ", with every seed by as much" in brief(groups, found, "Which network is best?", proofs)[0]


def test_runs_that_failed_or_diverged_are_said_first(tmp_path):
    diverge(fake_run(tmp_path, backend="numpy"))
    fake_run(tmp_path, backend="torch")
    groups, found, proofs = seen(tmp_path)
    assert brief(groups, found, "", proofs)[0] == "1 of 2 trainings diverged and is in no number below."
    assert caution(groups, found, 2, 3).startswith("2 of 2 runs did not finish; ")
    assert caution(groups, found, 0, 3).endswith("3 warnings stand below.")


# ----------------------------------------------------------------------------------------------------- the proof


def told(root: Path, rows: list[dict], **keys):
    for backend in ("numpy", "torch"):
        fake_run(root, backend=backend)
    return seen(root, proof_of(rows, **keys))


def test_a_badge_says_verdict_backends_and_what_was_compared(tmp_path):
    groups, found, proofs = told(tmp_path, [proven("numpy"), proven("torch")], seconds=23.4)
    (row,) = badges.section(proofs)["rows"]
    assert (row["kind"], row["verdict"], row["title"], row["who"]) == ("good", "EQUAL", "mlp", "numpy and torch")
    assert row["what"].startswith(
        "seven steps: every layer, gradient and update held against a judge in float64, 3,008"
    )
    assert row["what"].endswith("the worst at 0.47 of what rounding allows")
    assert badges.section(proofs)["price"] == "The proof took 23.4\u00a0s."
    assert brief(groups, found, "Are the backends the same?", proofs)[0].startswith("Both backends are proven")


def test_the_badge_of_a_backend_that_diverged_says_so(tmp_path):
    rows = [proven("numpy"), proven("torch", "DIVERGED")]
    groups, found, proofs = told(tmp_path, rows, divergences=[divergence()])
    first, second = badges.section(proofs)["rows"]
    assert (first["verdict"], first["who"], second["verdict"], second["who"]) == ("EQUAL", "numpy", "DIVERGED", "torch")
    assert (second["kind"], second["sign"]) == ("bad", "✗")
    assert "Not every backend does what the study says" in " ".join(brief(groups, found, "", proofs))


def test_a_proof_of_other_runs_is_no_badge(tmp_path):
    groups, found, proofs = told(tmp_path, [proven("numpy", network="0" * 64), proven("torch", network="0" * 64)])
    assert badges.section(proofs)["rows"] == []
    assert badges.section(proofs)["gap"] == "There is a proof, but not of these runs."
    assert "not proven here" in brief(groups, found, "Are the backends the same?", proofs)[0]


def test_without_a_proof_the_badge_says_so(one_seed):
    assert badges.section(one_seed[2]) == {
        "rows": [], "more": "", "gap": "Not proven: whether the same steps were taken.", "price": "",
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------- the figure


def test_the_figure_has_every_network_and_backend_with_interval_and_time(one_seed, five_seeds):
    found = glance.section(one_seed[1])
    assert [row["backend"] for row in found["rows"]] == [*BACKENDS, *BACKENDS]
    assert [row["starts"] for row in found["rows"]] == [True, False, False, False] * 2
    assert found["more"] == []
    for row in found["rows"]:
        low, at, high = (float(row[key]) for key in ("low", "at", "high"))
        assert 0 <= low < at < high <= 100
    assert [float(row["long"]) for row in found["rows"][:4]] == [25, 50, 75, 100]
    assert "over test images" in found["caption"]
    assert "over seeds" in glance.section(five_seeds[1])["caption"]


@pytest.mark.parametrize("spread", [1e-5, 0.003, 0.04, 0.3, 1.0])
def test_an_axis_has_a_few_round_numbers(spread):
    low = 0.95 - spread if spread < 0.9 else 0.0
    ticks = glance.ticks(low, low + spread)
    assert 2 <= len(ticks) <= 5
    assert all(low - 1e-9 <= tick <= low + spread + 1e-9 for tick in ticks)


# ------------------------------------------------------------------------------------------------- said once, folded


def test_what_all_rows_say_is_said_once_and_nothing_is_lost():
    columns = [("Within", "l"), ("What", "l"), ("p", "r")]
    table = Table("c", columns, [[str(n), "nothing", "—"] for n in range(5)], marks={(1, 1): "good"})
    found = folds.fold(table, "What", "Pairs")
    assert (found.sentence, found.rest, found.summary) == ("Pairs, all 5 rows: nothing.", None, "All 5 rows")
    assert [title for title, _side in found.table.columns] == ["Within", "What"]  # nothing stood under p
    assert found.table.rows == [row[:2] for row in table.rows]
    table.rows[3][1] = "something"
    found = folds.fold(table, "What", "Pairs")
    assert found.sentence == "Pairs, 4 of 5 rows: nothing."
    assert found.rest.rows == [["3", "something"]]
    assert len(found.table.rows) == 5


def test_a_table_with_something_in_each_row_stays_in_sight():
    rows = [[str(n), str(n)] for n in range(folds.LONG)]
    assert folds.fold(Table("c", [("a", "l"), ("b", "l")], rows), "b") == folds.Fold(
        Table("c", [("a", "l"), ("b", "l")], rows)
    )
    longer = Table("c", [("a", "l"), ("b", "l")], [*rows, ["x", "y"]])
    assert folds.fold(longer, "b").summary == f"All {folds.LONG + 1} rows"


def test_with_one_seed_all_comparisons_share_a_sentence(one_seed, five_seeds):
    found = telling.section(comparisons(one_seed[1]))
    assert found["silent"].startswith("With one seed none of these comparisons can be told from chance: 12")
    assert [len(one["fold"].table.rows) for one in found["silent_pairs"]] == [12]
    assert [one["title"] for one in found["pairs"]] == ["Networks"]  # of whose trained networks something can be said
    assert "all 12 rows: cannot be ranked" in found["rankings"].sentence
    assert telling.section(comparisons(five_seeds[1]))["silent"] == ""


def test_conclusions_that_say_the_same_are_one(one_seed):
    said = [line for line in findings(one_seed[1]) if line.startswith("Networks, ")]
    assert len([line for line in conclusions(one_seed[1]) if line.startswith("Networks, ")]) == 4
    assert len(said) == 1
    assert said[0].startswith("Networks, numpy, torch, tensorflow and jax: cnn has the highest test accuracy")


# --------------------------------------------------------------------------------------------------- time to a level


def test_time_to_a_level_has_a_median_an_interval_and_who_never_got_there(tmp_path):
    for seed in range(8):
        folder = fake_run(tmp_path, seed=seed, epochs=4)
        lines = (folder / "events.jsonl").read_text().splitlines()
        (folder / "events.jsonl").write_text("")
        for n, line in enumerate(map(json.loads, lines), 1):
            reached = 0.95 if n >= 2 and seed != 7 else 0.5
            store.append_event(folder / "events.jsonl", line | {"test_accuracy": reached, "train_seconds": 1.0 + seed})
    (way,) = milestones.ways(group([Facts(record) for record in store.find_runs([tmp_path])]), [0.9])
    # two epochs of 1 … 7 s; the one that never gets there is the slowest: ranks 1 and 8 of 8 bound the median with 99 %
    assert (way.runs, way.reached, way.seconds, way.low, way.high) == (8, 7, 9.0, 2.0, None)
    assert way.is_interval
    (table,) = arrivals.tables([way])
    assert table.rows[0][-1] == "9.00 (2.00…∞), never reached in 1 of 8"


@pytest.mark.parametrize(("n", "rank"), [(1, 0), (5, 0), (6, 1), (8, 1), (9, 2), (20, 6), (100, 40)])
def test_the_ranks_that_bound_a_median_are_those_of_the_tables(n, rank):
    assert milestones.rank_of_interval(n) == rank
