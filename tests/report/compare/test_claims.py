"""What the report says of differences: as much as the runs allow, and not more."""

import itertools
import json
import math
import re
import tomllib

import numpy as np
import pytest
import tomli_w

from lockstep import randomness, store
from lockstep.report import gather, render
from lockstep.report.compare import cells, comparison, effects, fronts
from lockstep.report.compare.cells import make_cells
from lockstep.report.compare.groups import group
from lockstep.report.compare.pairs import LEVEL, MAX_PAIRS, Pair, contests, remedies
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.sections import literature
from lockstep.report.words.answer import MAX_SENTENCES
from lockstep.report.words.conclusions import conclusions
from lockstep.spec import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, Network, ReLU
from support import run_folders
from support.pages import Outside, page_of, words
from support.proof_documents import proof_of, proven
from support.run_folders import amend, diverge, fake_run, seeds_of

N = run_folders.N_TEST
HEAD = (Flatten(), Dense(23), ReLU(), Dense(7))


def conv(*filters, kernel=3, head=HEAD, norm=False):
    block = lambda n: (Conv2D(n, kernel, padding="same"), *[BatchNorm()] * norm, ReLU(), MaxPool2D(2))  # noqa: E731
    return Network((*itertools.chain.from_iterable(map(block, filters)), *head))


MORE = {
    "conv1": conv(5),
    "conv2": conv(5, 11),
    "conv2-k5": conv(5, 11, kernel=5),
    "conv2-dense1": conv(5, 11, head=(Flatten(), Dense(7))),
    "conv2-norm": conv(5, 11, norm=True),
    "conv3-k5-norm": conv(5, 11, 13, kernel=5, norm=True),
    "dropped": Network((Flatten(), Dense(31), ReLU(), Dropout(0.5), Dense(7))),
}


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    for name, network in MORE.items():
        monkeypatch.setitem(run_folders.NETWORKS, name, network)


def compare(root):
    return comparison.compare(group([Facts(record) for record in store.find_runs([root])]))


def pairs_of(root, kind) -> list[Pair]:
    return [pair for _, pair in compare(root).held[kind].rows]


def section(page) -> str:
    return words(page.split('<section id="comparisons">')[1].split("</section>")[0])


# --------------------------------------------------------------------------------------------------------- verdicts


def test_a_difference_that_stands_is_told_with_its_size_interval_and_seeds(tmp_path):
    seeds_of(tmp_path, "numpy", (0.95, 0.96, 0.95, 0.97, 0.96))
    seeds_of(tmp_path, "torch", (0.90, 0.92, 0.90, 0.91, 0.91))
    (pair,) = pairs_of(tmp_path, "backends")
    assert pair.is_shown
    difference = pair.difference
    assert re.fullmatch(r"numpy higher by 5\.\d\d\xa0±\xa00\.\d\d points, five seeds", pair.verdict())
    assert difference.low < difference.value < difference.high
    assert difference.value == pytest.approx(
        np.mean([pair.first.accuracies[s] - pair.second.accuracies[s] for s in "01234"])
    )
    assert "numpy higher by" in section(page_of(tmp_path))


def test_a_difference_within_chance_is_not_shown_and_says_how_many_seeds_would_settle_it(tmp_path):
    """The twin: the same seeds, and differences that go both ways."""
    seeds_of(tmp_path, "numpy", (0.95, 0.90, 0.95, 0.91, 0.96))
    seeds_of(tmp_path, "torch", (0.90, 0.94, 0.93, 0.95, 0.91))
    (pair,) = pairs_of(tmp_path, "backends")
    assert not pair.is_shown
    assert re.fullmatch(
        r"the trained networks of seed 0 differ: numpy is right more often on these images \(McNemar p = 0\.\d+\); "
        r"of other seeds five cannot tell, about \d+ would",
        pair.verdict().replace("\xa0", " "),
    )
    assert "higher by" not in section(page_of(tmp_path))


def test_one_seed_cannot_tell(tmp_path):
    seeds_of(tmp_path, "numpy", (0.95,))
    seeds_of(tmp_path, "torch", (0.94,))
    (pair,) = pairs_of(tmp_path, "backends")
    assert pair.verdict() == "one seed: cannot be told"
    assert (pair.difference.p, pair.mcnemar.only_first, pair.mcnemar.only_second) == (None, 2, 0)


def test_one_seed_says_no_more_than_of_the_two_trained_networks(tmp_path):
    seeds_of(tmp_path, "numpy", (0.99,))
    seeds_of(tmp_path, "torch", (0.80,))
    (pair,) = pairs_of(tmp_path, "backends")
    assert pair.mcnemar_p < 1e-6
    assert pair.verdict().replace("\xa0", " ") == (
        "the trained networks of seed 0 differ: numpy is right more often on these images (McNemar p < 0.001); of "
        "other seeds one cannot tell"
    )
    assert "one seed cannot tell whether they differ" in section(page_of(tmp_path))


def test_equal_seeds_are_equal(tmp_path):
    for backend in ("numpy", "torch"):
        seeds_of(tmp_path, backend, (0.9, 0.93, 0.91))
    (pair,) = pairs_of(tmp_path, "backends")
    assert pair.verdict() == "equal with every seed (three seeds)"
    assert (pair.same, pair.kappa) == (1.0, 1.0)
    assert "no difference in test accuracy between them could be shown" in section(page_of(tmp_path))


def test_differences_without_spread_are_not_made_sure_of(tmp_path):
    seeds_of(tmp_path, "numpy", (191 / N, 195 / N))
    seeds_of(tmp_path, "torch", (190 / N, 194 / N))
    (pair,) = pairs_of(tmp_path, "backends")
    assert not pair.is_shown
    assert "no spread from which chance could be judged" in pair.verdict()


def test_many_comparisons_need_more_than_one_does(tmp_path):
    """A p of 0.03 stands alone, and falls among the pairs of four backends."""
    first, second = (0.95, 0.96, 0.95, 0.97), (0.93, 0.95, 0.94, 0.94)
    seeds_of(tmp_path / "two", "numpy", first)
    seeds_of(tmp_path / "two", "torch", second)
    (alone,) = pairs_of(tmp_path / "two", "backends")
    assert alone.difference.p <= LEVEL
    assert alone.is_shown
    for backend, values in zip(run_folders.BACKENDS, (first, second, first[::-1], second[::-1]), strict=True):
        seeds_of(tmp_path / "four", backend, values)
    among = next(p for p in pairs_of(tmp_path / "four", "backends") if p.what == ("numpy", "torch"))
    assert among.difference == alone.difference
    assert not among.is_shown
    assert among.verdict().startswith("no difference could be shown among 6 comparisons; about ")


def test_other_seeds_are_not_paired(tmp_path):
    seeds_of(tmp_path, "numpy", (0.95, 0.96, 0.94), seeds=(0, 1, 2))
    seeds_of(tmp_path, "torch", (0.90, 0.91, 0.89), seeds=(3, 4, 5))
    (pair,) = pairs_of(tmp_path, "backends")
    assert (pair.difference.is_paired, pair.mcnemar, pair.seeds) == (False, None, ())
    assert "3 or more unpaired runs each" in pair.verdict()
    assert "3, unpaired" in section(page_of(tmp_path))


def test_mcnemar_says_which_seed_it_is_of(tmp_path):
    seeds_of(tmp_path, "numpy", (0.95, 0.96, 0.94), seeds=(7, 8, 9))
    seeds_of(tmp_path, "torch", (0.90, 0.91, 0.89), seeds=(6, 8, 9))
    (pair,) = pairs_of(tmp_path, "backends")
    assert (pair.seed, pair.difference.n) == ("8", 2)
    assert "The columns behind are of seed 8" in section(page_of(tmp_path))


def test_a_headline_says_what_holds_of_these_networks_and_what_other_seeds_leave_open(tmp_path):
    """Two seeds, far apart on the images, and too few to be told from chance among three networks."""
    for name, values in {"mlp": (0.86, 0.93), "cnn": (0.95, 0.97), "conv1": (0.90, 0.94)}.items():
        seeds_of(tmp_path, "numpy", values, network=name)
    found = compare(tmp_path)
    pair = next(pair for _, pair in found.held["networks"].rows if set(pair.what) == {"mlp", "cnn"})
    assert (pair.is_shown, pair.is_shown_of_images, pair.more_right) == (False, True, "cnn")
    said = gather(store.find_runs([tmp_path]))["answer"].replace("\xa0", " ")
    needed = max(p.seeds_needed for _, p in found.held["networks"].rows if "cnn" in p.what and p.is_shown_of_images)
    assert "cnn has the highest mean test accuracy (96.0 ± " in said
    assert "of these trained networks it is right more often than " in said
    assert f"on these {N} images (seed 0, McNemar p " in said
    assert f"and of other seeds two cannot tell, about {needed} would" in said
    assert "no difference from mlp could be shown" not in said
    assert "is shown to be higher" not in said


def test_a_headline_does_not_say_more_than_the_images_do(tmp_path):
    """The twin: two or three images apart, nothing differs, of these networks or of others."""
    seeds_of(tmp_path, "numpy", (0.94, 0.95), network="mlp")
    seeds_of(tmp_path, "numpy", (0.95, 0.94), network="cnn")
    said = gather(store.find_runs([tmp_path]))["answer"]
    assert "no difference from " in said
    assert "right more often" not in said


# ----------------------------------------------------------------------------------------- the question, what diverged


def test_a_diverged_training_is_said_first_and_counts_nowhere(tmp_path):
    seeds_of(tmp_path, "numpy", (0.90, 0.91, 0.92))
    seeds_of(tmp_path, "torch", (0.90, 0.91, 0.92))
    (lost,) = seeds_of(tmp_path, "numpy", (0.5,), seeds=(3,))
    diverge(lost)
    page = gather(store.find_runs([tmp_path]))
    assert page["answer"].startswith(
        "One of 7 trainings diverged, its numbers are no longer finite: mlp (numpy, seed 3); it is in no mean, no best "
        "and no comparison below."
    )
    (numpy, torch) = make_cells(group([Facts(record) for record in store.find_runs([tmp_path])]))
    assert list(numpy.accuracies.values()) == list(torch.accuracies.values())
    assert len(numpy.seconds) == 3
    assert numpy.notes == ["mlp (numpy): left out, training diverged: seed 3."]
    row = next(row for row in page["results"].rows if row[1:3] == ["numpy", "3"])
    assert (row[3], row[-1]) == ("—", "diverged")
    assert "100" not in page["answer"]


def test_a_study_whose_trainings_all_diverged_says_nothing_else(tmp_path):
    for folder in seeds_of(tmp_path, "numpy", (0.90, 0.91)):
        diverge(folder)
    page = gather(store.find_runs([tmp_path]))
    assert page["answer"].startswith("Two of 2 trainings diverged")
    assert page["answer"].endswith("so there is nothing to compare yet.")
    assert "html" in render(page)


def test_networks_that_are_level_are_called_that(tmp_path):
    for name in ("mlp", "cnn", "conv1"):
        seeds_of(tmp_path, "numpy", (0.90, 0.91 if name == "conv1" else 0.95), network=name)
    said = gather(store.find_runs([tmp_path]))["answer"]
    assert re.search(
        r"Networks, numpy: (mlp \(level with cnn\)|cnn \(level with mlp\)) has the highest mean test", said
    )
    assert "conv1 (level" not in said


def test_a_question_of_the_same_steps_is_answered_by_the_proof(tmp_path):
    for backend in ("numpy", "torch"):
        fake_run(tmp_path, backend=backend)
    store.write_json(tmp_path / "demo" / "proof.json", proof_of([proven("numpy"), proven("torch")]))
    first = gather(store.find_runs([tmp_path]))["answer"].partition(". ")[0]
    assert re.fullmatch(r"Whether the backends take the same steps was tried for the first \d+ steps?: EQUAL", first)
    amend(tmp_path / "demo", "proof.json", lambda found: found.update(verdict="DIVERGED"))
    assert gather(store.find_runs([tmp_path]))["answer"].partition(". ")[0].endswith("DIVERGED")


@pytest.mark.parametrize(
    ("asked", "begins"),
    [
        ("Which of the networks is best?", "Networks, numpy: cnn has the highest mean test accuracy"),
        ("Is it the same in every framework?", "Whether the backends take the same steps is not proven here"),
        ("How large is the gap?", "The gap between training and test accuracy at the end is from 2.00 points "),
        ("Do networks reach 99.9 %?", r"A mean test accuracy of 99\.9\xa0% is not reached: the highest is that of cnn"),
        ("Do networks reach 90 %?", r"A mean test accuracy of 90\xa0% is reached by cnn \(\w+\): 9\d\.\d"),
        ("What do they cost?", "One epoch of "),
    ],
)
def test_the_first_paragraph_begins_with_what_is_asked(tmp_path, asked, begins):
    for backend in ("numpy", "torch"):
        seeds_of(tmp_path, backend, (0.90, 0.91), network="dropped", question=asked)
        seeds_of(tmp_path, backend, (0.90, 0.91), network="mlp", question=asked)
        seeds_of(tmp_path, backend, (0.96, 0.97), network="cnn", question=asked)
    assert re.match(begins, gather(store.find_runs([tmp_path]))["answer"])


def test_a_question_in_russian_is_answered_in_russian(tmp_path):
    seeds_of(tmp_path, "numpy", (0.90, 0.91), network="mlp", question="Какая сеть лучше?")
    seeds_of(tmp_path, "numpy", (0.96, 0.97), network="cnn", question="Какая сеть лучше?")
    page = page_of(tmp_path)
    assert '<p class="answer" lang="ru">Networks' not in page
    assert '<p class="answer" lang="ru">' in page
    answer = page.split('<p class="answer" lang="ru">')[1].partition("</p>")[0]
    assert answer.startswith("Наибольшая доля верных ответов на тесте у cnn")
    assert '<html lang="en">' in page


# ------------------------------------------------------------------------------------------------------ who with whom


def test_networks_settings_and_backends_are_compared_each_by_itself(tmp_path):
    for name, rate, backend in itertools.product(("mlp", "cnn"), (1e-3, 1e-2), ("numpy", "jax")):
        fake_run(tmp_path, name, backend, rate=rate)
    held = compare(tmp_path).held
    assert {kind: len(found.rows) for kind, found in held.items()} == {"networks": 4, "settings": 4, "backends": 4}
    assert {pair.what for _, pair in held["networks"].rows} == {("cnn", "mlp")}
    assert {frozenset(pair.what) for _, pair in held["settings"].rows} == {
        frozenset({"optimizer.learning_rate 0.001", "optimizer.learning_rate 0.01"})
    }
    where = sorted(contest.where for contest, _ in held["networks"].rows)
    assert where[0] == "jax · optimizer.learning_rate 0.001"


def test_optimizers_are_told_apart_by_their_names_and_by_what_varies_within_each(tmp_path):
    for optimizer in ("sgd 0.1", "adam 0.001", "adam 0.01", "rmsprop"):
        fake_run(tmp_path, optimizer=optimizer)
    held = compare(tmp_path).held["settings"]
    assert {name for _, pair in held.rows for name in pair.what} == {
        "optimizer sgd", "optimizer rmsprop",
        "optimizer adam, learning_rate 0.001", "optimizer adam, learning_rate 0.01",
    }  # fmt: skip
    text = words(page_of(tmp_path))
    assert "adam, learning_rate 0.01" in text
    assert "optimizer.kind" not in text


def test_datasets_are_never_compared(tmp_path):
    fake_run(tmp_path, dataset="digits")
    fake_run(tmp_path, dataset="mnist")
    assert not any(found.rows for found in compare(tmp_path).held.values())
    assert "there is nothing to compare" in section(page_of(tmp_path))


def test_too_many_pairs_are_held_to_a_baseline_and_the_rest_is_counted(tmp_path):
    for n in range(1, 13):
        fake_run(tmp_path, rate=n * 1e-3)
    held = compare(tmp_path).held["settings"]
    assert (held.is_all_pairs, len(held.rows), held.left_out) == (False, 11, 66 - 11)
    assert len({pair.second for _, pair in held.rows}) == 1
    assert "Left out: 55 further pairs" in section(page_of(tmp_path))
    assert MAX_PAIRS < 66


def test_networks_with_recipes_of_their_own_are_compared(tmp_path):
    fake_run(tmp_path, "mlp", rate=1e-3)
    fake_run(tmp_path, "dropped", rate=1e-2)  # as recipe_for makes it: no setting varies within a network
    (pair,) = pairs_of(tmp_path, "networks")
    assert {pair.first.title, pair.second.title} == {"mlp", "dropped"}


# ---------------------------------------------------------------------------------------------------------- overview


def test_the_overview_has_intervals_over_seeds_and_over_images(tmp_path):
    values = (0.90, 0.93, 0.91)
    seeds_of(tmp_path, "numpy", values)
    fake_run(tmp_path, backend="jax", accuracy=0.9)
    table = gather(store.find_runs([tmp_path]))["comparisons"]["overview"]
    rows = {row[1]: dict(zip([title for title, _ in table.columns], row, strict=True)) for row in table.rows}
    right = np.array([round(value * N) / N for value in values])
    half = 4.302652729911275 * right.std(ddof=1) / math.sqrt(3)
    assert rows["numpy"]["Test accuracy (%), ± over seeds"] == f"{100 * right.mean():.1f}\u00a0±\u00a0{100 * half:.1f}"
    assert rows["jax"]["Test accuracy (%), ± over seeds"] == "90.0"
    assert rows["jax"]["95 % over test images"] == "85.3 to 93.4"  # Wilson's, of 190 of 211
    low, high = map(float, rows["numpy"]["95 % over test images"].split(" to "))
    assert low < 100 * right.mean() < high
    assert rows["numpy"]["Gap at the end (points)"] == "2.0"  # as fake_run makes it, without spread
    assert rows["numpy"]["Parameters"] == "4,347"
    assert rows["jax"]["95 % or range"] == "n\u00a0=\u00a01"


def test_repeated_runs_of_a_seed_count_once(tmp_path):
    for _ in range(3):
        fake_run(tmp_path)
    (cell,) = make_cells(group([Facts(record) for record in store.find_runs([tmp_path])]))
    assert (len(cell.runs), len(cell.seconds)) == (1, 3)
    assert "two repeated runs of a seed counted for its times only" in section(page_of(tmp_path))


# --------------------------------------------------------------------------------------------------------- bad input


def test_test_sets_of_different_length_are_not_compared(tmp_path, monkeypatch):
    seeds_of(tmp_path, "numpy", (0.95, 0.96))
    monkeypatch.setattr(run_folders, "N_TEST", 190)
    seeds_of(tmp_path, "torch", (0.90, 0.91))
    (pair,) = pairs_of(tmp_path, "backends")
    assert pair.verdict() == "not compared: tested on different images"
    assert "not compared: tested on different images" in section(page_of(tmp_path))


def test_a_seed_on_another_test_set_is_left_out_by_name(tmp_path, monkeypatch):
    seeds_of(tmp_path, "numpy", (0.95, 0.96))
    monkeypatch.setattr(run_folders, "N_TEST", 190)
    seeds_of(tmp_path, "numpy", (0.5,), seeds=(7,))
    assert "mlp (numpy): left out, tested on other images than the rest: seed 7." in section(page_of(tmp_path))
    (cell,) = compare(tmp_path).cells
    assert list(cell.accuracies) == ["0", "1"]


def test_predictions_of_other_labels_are_not_compared(tmp_path):
    seeds_of(tmp_path, "numpy", (0.95, 0.96))
    for folder in seeds_of(tmp_path, "torch", (0.90, 0.91)):
        arrays = store.read_npz(folder / "predictions.npz")
        store.write_npz(folder / "predictions.npz", logits=arrays["logits"], labels=arrays["labels"][::-1])
    (pair,) = pairs_of(tmp_path, "backends")
    assert (pair.mcnemar, pair.same, pair.difference.n) == (None, None, 2)


def test_missing_predictions_leave_a_named_gap(tmp_path):
    folders = seeds_of(tmp_path, "numpy", (0.95, 0.96, 0.97))
    seeds_of(tmp_path, "torch", (0.90, 0.91, 0.92))
    (folders[1] / "predictions.npz").unlink()
    said = section(page_of(tmp_path))
    assert f"demo/{folders[1].name}: answers not compared: predictions.npz: it is missing" in said
    (pair,) = pairs_of(tmp_path, "backends")
    assert (pair.difference.n, pair.seed) == (3, "0")


def test_an_accuracy_that_is_no_number_leaves_its_seed_out_by_name(tmp_path):
    folders = seeds_of(tmp_path, "numpy", (0.95, 0.96, 0.97))
    amend(folders[2], "metrics.json", lambda value: value["test"].update(accuracy=None))
    assert "mlp (numpy): left out, without a test accuracy: seed 2." in section(page_of(tmp_path))
    (cell,) = compare(tmp_path).cells
    assert cell.over_seeds.n == 2


def test_runs_that_failed_have_no_part_in_comparisons(tmp_path):
    seeds_of(tmp_path, "numpy", (0.95, 0.96))
    fake_run(tmp_path, backend="torch", status="failed")
    fake_run(tmp_path, backend="jax", status="running")
    assert not any(found.rows for found in compare(tmp_path).held.values())
    page_of(tmp_path)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=http://example.org/x>', "$x", "{{ 7*7 }}"])
def test_names_of_networks_are_escaped(tmp_path, monkeypatch, name):
    for place, (network, accuracies) in enumerate({name: (0.9, 0.91), f"{name} 2": (0.8, 0.82)}.items()):
        monkeypatch.setitem(run_folders.NETWORKS, network, run_folders.NETWORKS[("mlp", "cnn")[place]])
        for seed, accuracy in enumerate(accuracies):
            root = tmp_path / "demo"
            folder = fake_run(tmp_path, "mlp", seed=seed, accuracy=accuracy, rate=(place + 1) * 1e-3)
            spec = tomllib.loads((folder / "spec.toml").read_text())
            spec["networks"] = {network: spec["networks"]["mlp"]}
            (folder / "spec.toml").write_text(tomli_w.dumps(spec))
            assert root.exists()
    page = page_of(tmp_path)
    assert Outside(page).found == []
    assert name in section(page)
    assert all(script.startswith('"use strict";') for script in page.split("<script>")[1:]), "our own alone"


# ---------------------------------------------------------------------------------------------------------- effects


def structure_of(name):
    from lockstep.spec.records import to_table

    return effects.structure(to_table(MORE[name])["layers"])


@pytest.mark.parametrize(
    ("one", "other", "attribute"),
    [
        ("conv1", "conv2", "convolutions"),
        ("conv2", "conv2-k5", "kernel"),
        ("conv2", "conv2-dense1", "dense"),
        ("conv2", "conv2", None),
        ("conv2", "conv2-norm", None),  # batch normalisation is none of the three
        ("conv1", "conv2-k5", None),  # depth and kernel
        ("conv2-norm", "conv3-k5-norm", None),
        ("conv1", "conv2-dense1", None),  # convolutions and dense layers
    ],
)
def test_networks_are_paired_where_one_thing_differs(one, other, attribute):
    assert effects.only_difference(structure_of(one), structure_of(other)) == attribute
    assert effects.only_difference(structure_of(other), structure_of(one)) == attribute


def test_another_width_is_no_matter_of_depth():
    wider = effects.structure([{"kind": "flatten"}, {"kind": "dense", "units": 50}, {"kind": "dense", "units": 7}])
    for units in ((40, 7), (40, 30, 7)):
        other = effects.structure([{"kind": "flatten"}, *({"kind": "dense", "units": n} for n in units)])
        assert effects.only_difference(wider, other) is None
    assert effects.only_difference(wider, effects.structure([{"kind": "dense", "units": 7}])) == "dense"


@pytest.mark.parametrize("layers", [[{"kind": "dense"}], [{"kind": "conv2d", "filters": 1, "kernel": "x"}], [{}], [3]])
def test_layers_that_cannot_be_read_have_no_structure(layers):
    assert effects.structure(layers) is None


def test_depth_and_kernel_size_have_their_table(tmp_path):
    for name, accuracy in (("conv1", 0.85), ("conv2", 0.93), ("conv2-k5", 0.95)):
        for seed, value in enumerate((0.0, 0.006, -0.005)):
            fake_run(tmp_path, name, seed=seed, accuracy=accuracy + value * (1 + 0.5 * ("2" in name)))
    found = compare(tmp_path)
    assert [(e.step.attribute, e.step.less.title, e.step.more.title) for e in found.effects] == [
        ("convolutions", "conv1", "conv2"),
        ("kernel", "conv2", "conv2-k5"),
    ]
    said = section(page_of(tmp_path))
    assert "Convolution layers 1 → 2 conv1 → conv2 conv2 higher by" in said
    assert "Kernel size 3 × 3 → 5 × 5 conv2 → conv2-k5" in said
    less, more = (found.effects[0].step.less.parameters, found.effects[0].step.more.parameters)
    assert f"× {more / less:.2f}" in said


def test_networks_that_differ_in_more_say_that_nothing_can_be_told(tmp_path):
    fake_run(tmp_path, "mlp")
    fake_run(tmp_path, "conv2-norm")
    assert "No two networks of one dataset, setting and backend differ in nothing but" in section(page_of(tmp_path))


# ----------------------------------------------------------------------------------------------------------- fronts


def test_the_front_is_what_no_other_point_beats():
    numbers = randomness.uniform(400, 3, "bootstrap").reshape(200, 2).round(2)
    points = [fronts.Point(f"n{i}", "numpy", float(cost) + 0.1, float(gain)) for i, (cost, gain) in enumerate(numbers)]

    def is_beaten(point):
        return any(
            other.cost <= point.cost
            and other.accuracy >= point.accuracy
            and (other.cost, other.accuracy) != (point.cost, point.accuracy)
            for other in points
        )

    assert set(fronts.front(points)) == {point for point in points if not is_beaten(point)}
    assert 1 < len(fronts.front(points)) < len(points)


def test_the_figure_of_a_front_shows_every_point_and_fills_the_front():
    points = [
        fronts.Point("small", "numpy", 10, 90, 1.0),
        fronts.Point("large", "torch", 1000, 95, 0.5),
        fronts.Point("worse", "torch", 2000, 91),
    ]
    (axes,) = fronts.pareto(points, "parameters").axes
    markers = [line for line in axes.lines if line.get_marker() not in ("None", "") and len(line.get_xdata()) == 1]
    drawn = {float(line.get_xdata()[0]): line.get_markerfacecolor() for line in markers}
    assert {cost: face == "none" for cost, face in drawn.items()} == {10: False, 1000: False, 2000: True}
    assert {text.get_text() for text in axes.texts} == {"small", "large", "worse"}
    label = fronts.said(points, "parameters", "digits")
    assert label == (
        "digits: test accuracy over parameters, 3 points. On the front: small, numpy: 90.00 % at 10; "
        "large, torch: 95.00 % at 1,000."
    )
    assert plots.svg(fronts.pareto(points, "parameters"), label, "p").startswith("<svg")


def test_the_page_names_what_is_best_for_its_cost(tmp_path):
    for seed, value in enumerate((0.0, 0.004, -0.004, 0.01)):
        fake_run(tmp_path, "mlp", seed=seed, accuracy=0.95 + value)
        fake_run(tmp_path, "conv1", seed=seed, accuracy=0.80 + value * 2)
    said = section(page_of(tmp_path))
    assert "mlp (numpy) has the highest mean accuracy" in said
    assert "Accuracy against cost: Digits" in said
    (front,) = gather(store.find_runs([tmp_path]))["comparisons"]["fronts"]
    on = {row[0]: row[4] for row in front["twin"].rows}
    assert on["mlp"] == "yes"


# ------------------------------------------------------------------------------------------------------------ times


def timed(root, backend, seconds, starts):
    for seed, (value, start) in enumerate(zip(seconds, starts, strict=True)):
        folder = fake_run(root, backend=backend, seed=seed)
        amend(folder, "timing.json", lambda timing, value=value: timing.update(epochs=[value] * 3))
        amend(folder, "status.json", lambda status, s=start: status.update(started=f"2026-01-02T03:{s:02}:00Z"))


@pytest.mark.parametrize(
    ("seconds", "starts", "reason"),
    [
        ((1.5, 1.6, 1.4, 1.5, 1.6), range(1, 11, 2), None),
        ((1.5, 1.6, 1.4, 1.5, 1.6), range(10, 15), "not interleaved"),
        ((1.0, 1.1, 0.9, 1.0, 1.1), range(1, 11, 2), "the intervals overlap"),
        ((1.5, 1.6, 1.4), range(1, 7, 2), "three repetitions, not five"),
    ],
)
def test_times_are_ranked_only_where_runs_took_turns_often_enough_and_lie_apart(tmp_path, seconds, starts, reason):
    timed(tmp_path, "numpy", (1.0, 1.1, 0.9, 1.0, 1.1), range(0, 10, 2))
    timed(tmp_path, "torch", seconds, starts)
    (row,) = compare(tmp_path).rankings
    assert row.reasons == ([reason] if reason else [])
    said = section(page_of(tmp_path))
    if reason:
        assert f"cannot be ranked: {reason}" in said
        assert "is faster" not in said
    else:
        assert "Time: numpy is faster than torch (mlp)." in said


def test_times_of_different_machines_are_not_ranked(tmp_path):
    timed(tmp_path, "numpy", (1.0,) * 5, range(0, 10, 2))
    timed(tmp_path, "torch", (2.0,) * 5, range(1, 11, 2))
    for folder in (tmp_path / "demo").glob("*torch*"):
        amend(folder, "environment.json", lambda value: value.update(cpu="another"))
    (row,) = compare(tmp_path).rankings
    assert row.reasons == ["different machines, devices or threads"]


def test_start_up_is_told_by_medians_of_backends(tmp_path):
    for backend in ("numpy", "jax"):
        fake_run(tmp_path, backend=backend)
    said = words(page_of(tmp_path))
    assert "mlp numpy 90.0 0.5373 0.400 0.500 0.020 0.800" in said  # … import, build, compile
    assert "Start-up: import, build and compile took together from 1.32 s (numpy) to 2.82 s (jax)" in said
    assert "Threads obtained: 2. Each run in a process of its own." in said


# ------------------------------------------------------------------------------------------------------------- gaps


def with_gap(root, name, gaps):
    for seed, gap in enumerate(gaps):
        folder = fake_run(root, name, seed=seed)
        rows = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        for row in rows:
            row["train_inference_accuracy"] = row["test_accuracy"] + gap
        (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("gaps", "is_narrower"),
    [((0.02, 0.021, 0.019), True), ((0.079, 0.082, 0.0812), False), ((0.03, 0.12, 0.05), False)],
)
def test_a_remedy_narrows_the_gap_where_that_is_shown(tmp_path, gaps, is_narrower):
    with_gap(tmp_path, "mlp", (0.08, 0.081, 0.083))
    with_gap(tmp_path, "dropped", gaps)
    said = section(page_of(tmp_path))
    assert ("dropped narrowed the gap between training and test accuracy" in said) == is_narrower
    assert ("no variant could be shown to narrow the gap" in said) != is_narrower
    if is_narrower:
        assert "most, from 8.13 ± 0.38 to 2.00 ± 0.25 points (−6.13 ± " in said
        assert "mlp wider by 6.13" in said


def with_fit(root, name, fits, accuracy):
    """Runs with these shares of their own training images right, and this test accuracy in every epoch."""
    for seed, fit in enumerate(fits):
        folder = fake_run(root, name, seed=seed, accuracy=accuracy, question="What narrows the gap?")
        rows = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        for row in rows:
            row |= {"train_inference_accuracy": fit, "test_accuracy": accuracy}
        (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_an_underfitted_network_is_called_that_and_its_remedy_is_not_praised(tmp_path):
    with_fit(tmp_path, "mlp", (0.999, 0.998, 0.9985), 0.9)
    with_fit(tmp_path, "dropped", (0.74, 0.742, 0.738), 0.79)
    said = section(page_of(tmp_path))
    assert "dropped narrowed the gap" not in said
    assert "dropped is underfitted: it gets 74.0 % of its own training images right" in said
    assert "Underfitted, with more of their own training images wrong than test images add: dropped (numpy)." in said
    first = gather(store.find_runs([tmp_path]))["answer"]
    assert first.startswith("Overfitting: no variant could be shown to narrow the gap")
    assert "dropped is underfitted" in first


def test_a_well_fitted_network_with_the_same_gap_is_praised(tmp_path):
    """The twin: what makes the difference is its own training images."""
    with_fit(tmp_path, "mlp", (0.999, 0.998, 0.9985), 0.9)
    with_fit(tmp_path, "dropped", (0.94, 0.942, 0.938), 0.93)
    said = section(page_of(tmp_path))
    assert "dropped narrowed the gap between training and test accuracy (numpy) most" in said
    assert "nderfitted" not in said.replace("Of an underfitted network the gap says nothing", "")


@pytest.mark.parametrize(
    ("fit", "gap", "is_so"),
    [(0.74, -0.05, True), (0.74, 0.3, False), (0.95, 0.0, False), (0.89, 0.1, True), (0.89, 0.12, False)],
)
def test_underfitted_is_more_wrong_on_its_own_images_than_the_gap_adds(fit, gap, is_so):
    assert cells.is_underfitted(fit, gap) == is_so


def test_the_gap_of_runs_that_did_not_evaluate_training_images_is_not_known(tmp_path):
    with_gap(tmp_path, "mlp", (0.08, 0.081))
    with_gap(tmp_path, "dropped", (0.01, 0.011))
    for path in tmp_path.glob("*/*/events.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{key: value for key, value in row.items() if "inference" not in key} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    page = page_of(tmp_path)
    said = section(page)
    assert "Overfitting: the gap between training and test accuracy is not known like with like (numpy)" in said
    assert "narrowed the gap" not in said
    assert "not known like with like: training images were not evaluated as test images were" in said
    assert "the gap of overfitting is not known like with like" in words(page)
    assert "The bracket at the right" not in words(page)


def test_remedies_are_seen_in_layers_and_recipe(tmp_path):
    fake_run(tmp_path, "mlp")
    fake_run(tmp_path, "dropped")
    cells = make_cells(group([Facts(record) for record in store.find_runs([tmp_path])]))
    assert {cell.title: remedies(cell) for cell in cells} == {"mlp": frozenset(), "dropped": {"dropout"}}
    (contest,) = contests(cells)["networks"]
    assert contest.baseline.title == "mlp"


# -------------------------------------------------------------------------------------------------------- published


def on_mnist(root, accuracy, layers=(800,), dataset="mnist", n_train=60_000, n_test=10_000):
    """A run of a fully connected network on 10,000 images of which only the number is told."""
    folder = fake_run(root, "mlp", dataset=dataset)
    spec = tomllib.loads((folder / "spec.toml").read_text())
    dense = [{"kind": "dense", "units": units, "bias": True} for units in (*layers, 10)]
    spec["networks"]["mlp"]["layers"] = [{"kind": "flatten"}, *dense]
    (folder / "spec.toml").write_text(tomli_w.dumps(spec))
    right = round(accuracy * n_test)
    confusion = [[right, n_test - right], [0, 0]]
    amend(
        folder, "metrics.json", lambda value: value["test"].update(accuracy=accuracy, confusion=confusion, per_class=[])
    )
    sizes = {"n_train": n_train, "n_validation": 0, "n_test": n_test}
    amend(folder, "environment.json", lambda value: value["dataset"].update(sizes))
    return folder


@pytest.mark.parametrize(
    ("accuracy", "word"),
    [
        (0.984, literature.EXPECTED),
        (0.9735, literature.EXPECTED),  # the interval reaches 97.5
        (0.965, literature.LOWER),
        (0.995, literature.TOO_GOOD),
        (0.9938, literature.EXPECTED),  # the interval begins at 99.2
    ],
)
def test_a_result_is_held_to_its_published_band(tmp_path, accuracy, word):
    on_mnist(tmp_path, accuracy)
    (cell,) = compare(tmp_path).cells
    assert literature.judge(cell) == word
    said = section(page_of(tmp_path))
    assert "784-800-10, cross-entropy" in said
    assert "Simard et al. 2003" in said
    assert "97.5 to 99.3" in said
    assert ("Beside published results: mlp (numpy) is" in said) == (word != literature.EXPECTED)


@pytest.mark.parametrize(
    ("layers", "model"),
    [((), "linear classifier"), ((300,), "784-300-10"), ((300, 100), "784-300-100-10"), ((100,), "784-100-10"),
     ((512, 512), "MLP 512-512"), ((100, 300), None), ((100, 100, 100), None)],
)  # fmt: skip
def test_networks_are_matched_by_their_structure(tmp_path, layers, model):
    on_mnist(tmp_path, 0.97, layers)
    (cell,) = compare(tmp_path).cells
    found = literature.reference_for(cell)
    assert found.model.startswith(model) if model else found is None


def test_a_network_whose_reference_was_not_found_says_so_and_is_held_to_the_limit(tmp_path):
    on_mnist(tmp_path, 0.98, (100, 100, 100))
    said = section(page_of(tmp_path))
    assert "A published figure of an MLP of 3 × 100 was searched for and not found." in said
    assert "nothing to hold it to but the limit" in said
    on_mnist(tmp_path / "leak", 0.9997, (100, 100, 100))
    assert literature.judge(compare(tmp_path / "leak").cells[0]) == literature.TOO_GOOD


def test_a_part_of_the_images_is_not_held_to_results_of_all(tmp_path):
    on_mnist(tmp_path / "a", 0.95, n_train=5000)
    assert literature.judge(compare(tmp_path / "a").cells[0]) == "not comparable: trained on 5,000 images of 60,000"
    on_mnist(tmp_path / "b", 0.95, n_test=500)
    assert literature.judge(compare(tmp_path / "b").cells[0]) == "not comparable: tested on 500 images of 10,000"


def test_a_dataset_without_published_results_says_so(tmp_path):
    fake_run(tmp_path)
    assert "No published results are kept for Digits" in section(page_of(tmp_path))


def test_every_reference_has_a_source_and_lies_in_its_own_band():
    for row in literature.REFERENCES:
        value = float(re.split("[–±]", row.accuracy)[-1 if "–" in row.accuracy else 0])
        assert row.low <= value <= row.high, row.model
        assert row.source
        assert row.high <= literature.BEST[row.dataset][0]


# ------------------------------------------------------------------------------------------------------- conclusions


def test_conclusions_never_call_a_difference_higher_that_is_not_shown(tmp_path):
    """Runs made of chance alone, many times: the word "higher than" may not come up in more than a few."""
    told = 0
    for trial in range(20):
        drawn = 0.9 + 0.02 * randomness.normal(6, trial, "bootstrap")
        root = tmp_path / str(trial)
        for name, values in (("mlp", drawn[:3]), ("cnn", drawn[3:])):
            for seed, value in enumerate(values):
                fake_run(root, name, seed=seed, accuracy=float(min(value, 1)), epochs=1)
        told += any("is shown to be higher" in line for line in conclusions(compare(root)))
    assert told <= 4


def test_conclusions_say_which_network_is_shown_to_be_higher(tmp_path):
    """The twin: where there is a difference, it is told."""
    for name, accuracy in (("mlp", 0.85), ("cnn", 0.95)):
        for seed, value in enumerate((0.0, 0.01, -0.01, 0.005)):
            fake_run(tmp_path, name, seed=seed, accuracy=accuracy + value * (1 + (name == "cnn")))
    said = " ".join(conclusions(compare(tmp_path)))
    assert "Networks, numpy: cnn has the highest mean test accuracy (95." in said
    assert "it is shown to be higher than mlp" in said
    assert "of one comparison, one shows the convolutional one higher, none shows it lower" in said


@pytest.mark.parametrize(("names", "backends", "seeds", "rates"), [
    (("mlp",), ("numpy",), 1, 1), (("mlp", "cnn", "conv1"), ("numpy", "torch"), 3, 1), (("mlp", "cnn"), ("jax",), 2, 3),
])  # fmt: skip
def test_the_first_paragraph_stays_short(tmp_path, names, backends, seeds, rates):
    for name, backend, seed, rate in itertools.product(names, backends, range(seeds), range(1, rates + 1)):
        fake_run(tmp_path, name, backend, seed, rate=rate * 1e-3, accuracy=0.9 + 0.01 * seed)
    text = gather(store.find_runs([tmp_path]))["answer"]
    assert 1 <= len(re.findall(r"\.(?= [A-Z]|$)", text)) <= MAX_SENTENCES
