"""What was compared, as numbers; copies that are one measurement; what is said before a study starts."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import lockstep
from lockstep import cli, language, store
from lockstep.check import submissions as verify
from lockstep.data import Data
from lockstep.report import gather
from lockstep.report.compare import comparison
from lockstep.report.compare.copies import mark_copies
from lockstep.report.compare.groups import group
from lockstep.report.facts import Facts
from lockstep.report.sections import chapters
from lockstep.report.words import question
from lockstep.report.words.quantities import fixed
from lockstep.spec import EarlyStopping, Recipe, Study
from lockstep.study import few_images, forecast, load_study, not_done, run_study
from support import ROOT
from support.pages import page_of, words
from support.run_folders import amend, diverge, fake_run, seeds_of

NETWORK = {"mlp": ["flatten", "dense 31", "relu", "dense 10"]}


def numbers(root):
    return lockstep.compare(store.find_runs([root]))


# ---------------------------------------------------------------------------------------------------------- document


@pytest.fixture
def two(tmp_path):
    seeds_of(tmp_path, "numpy", (0.95, 0.96, 0.95))
    seeds_of(tmp_path, "torch", (0.90, 0.92, 0.90))
    seeds_of(tmp_path, "numpy", (0.99, 0.98, 0.99), network="cnn")
    return tmp_path


def test_the_documents_numbers_are_those_of_the_comparison_and_of_the_page(two):
    found = comparison.compare(group([Facts(record) for record in store.find_runs([two])]))
    told = numbers(two)
    (row,), (pair,) = told["backends"], [pair for _, pair in found.held["backends"].rows]
    assert row["over_seeds"]["value"] == pair.difference.value
    assert (row["over_seeds"]["p"], row["over_seeds"]["p_holm"]) == (pair.difference.p, pair.p)
    assert row["over_images"]["only_first_right"] == pair.mcnemar.only_first
    assert (row["first"], row["second"], row["said"]) == ("mlp (numpy)", "mlp (torch)", pair.verdict())
    page = words(page_of(two))
    assert f"+{fixed(100 * row['over_seeds']['value'], 2)}" in page
    cell = next(cell for cell in told["cells"] if cell["name"] == "cnn (numpy)")
    assert cell["accuracies"] == {seed: pytest.approx(value, abs=0.003) for seed, value in zip("012", (0.99, 0.98, 0.99), strict=True)}  # fmt: skip # noqa: E501
    assert cell["accuracy_over_seeds"]["value"] == pytest.approx(np.mean(list(cell["accuracies"].values())))
    assert cell["gap"]["value"] == pytest.approx(0.02)
    assert [row["is_ranked"] for row in told["times"]] == [False]
    assert told["times"][0]["reasons"] == ["too_few_repetitions", "not_interleaved"]
    assert told["answer"] == gather(store.find_runs([two]))["answer"]


def test_a_headline_is_data_too(two):
    (row,) = numbers(two)["headlines"]
    names = {key: row[key] for key in row if key not in ("kind", "within", "underfitted")}
    assert (row["kind"], row["within"], row["best"]) == ("networks", "numpy", "cnn")
    told = [one for key in ("shown_higher_than", "right_more_often_than", "not_told_from") for one in names[key]]
    assert told == ["mlp"]
    assert (row["underfitted"], row["level_with"], row["right_less_often_than"]) == ({}, [], [])


def test_every_number_is_a_number_and_nothing_is_prose_twice(two):
    def leaves(part):
        if isinstance(part, dict | list):
            for one in part.values() if isinstance(part, dict) else part:
                yield from leaves(one)
        else:
            yield part

    texts = [one for one in leaves(numbers(two)["backends"]) if isinstance(one, str)]
    assert len(texts) == 5, "within, first, second, the seed and the words"
    json.dumps(numbers(two), allow_nan=False)


def test_the_document_is_english_whatever_the_page_speaks(two):
    with language.speaking("ru"):
        page = gather(store.find_runs([two]))
    assert page["document"] == numbers(two)
    assert page["answer"] != page["document"]["answer"]


def test_report_json_lies_beside_the_page_and_is_what_the_command_prints(two, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(two), "--json", "--no-figures"])
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((two / "report.json").read_text()) == numbers(two)


def test_a_page_of_another_name_leaves_other_records_alone(two, capsys):
    (two / "bench.json").write_text("{}")
    with pytest.raises(SystemExit):
        cli.main(["report", str(two), "--out", str(two / "bench.html"), "--no-figures"])
    assert (two / "bench.json").read_text() == "{}"
    assert (two / "bench-report.json").exists()


def test_a_number_that_was_changed_in_report_json_is_found(tmp_path):
    study = Study(NETWORK, "digits", "numpy", recipe=Recipe(epochs=1), name="work", train_size=200)
    records = run_study(study, tmp_path)
    lockstep.write_report(records, tmp_path / "work" / "report.html")
    assert verify.verify(tmp_path / "work")["problems"] == []
    path = tmp_path / "work" / "report.json"
    told = json.loads(path.read_text())
    told["cells"][0]["accuracies"]["0"] += 0.1
    path.write_text(json.dumps(told))
    (problem,) = verify.verify(tmp_path / "work")["problems"]
    assert "report.json.cells[0].accuracies.0: it says " in problem


# ------------------------------------------------------------------------------------------------------------ copies


def test_a_copied_folder_is_one_measurement(tmp_path):
    one, *_ = seeds_of(tmp_path, "numpy", (0.90, 0.94))
    other = shutil.copytree(one, one.with_name("again"))
    found = comparison.compare(group([Facts(record) for record in store.find_runs([tmp_path])]))
    (cell,) = found.cells
    assert (len(cell.seconds), len(cell.accuracies)) == (2, 2)
    said = words(page_of(tmp_path))
    assert "is a copy of demo/" in said
    assert other.exists()


def test_a_copy_under_another_seed_is_one_measurement(tmp_path):
    one, *_ = seeds_of(tmp_path, "numpy", (0.90, 0.94))
    other = shutil.copytree(one, one.with_name("seed-7"))
    text = (other / "spec.toml").read_text().replace("seeds = [\n    0,\n]", "seeds = [\n    7,\n]")
    (other / "spec.toml").write_text(text)
    amend(other, "timing.json", lambda found: found.update(epochs=[0.123] * 5))
    (cell,) = comparison.compare(group([Facts(record) for record in store.find_runs([tmp_path])])).cells
    assert sorted(cell.accuracies) == ["0", "1"]
    assert numbers(tmp_path)["cells"][0]["copies"] == ["demo/seed-7"]


def test_a_run_that_was_done_again_is_no_copy(tmp_path):
    """The twin: the same bits, another time."""
    for _ in range(2):
        fake_run(tmp_path, accuracy=0.9)
    facts = [Facts(record) for record in store.find_runs([tmp_path])]
    mark_copies(facts)
    assert [run.copy_of for run in facts] == ["", ""]
    assert facts[0].record.arrays("predictions")["logits"].tobytes() == (
        facts[1].record.arrays("predictions")["logits"].tobytes()
    )


# -------------------------------------------------------------------------------------------------------------- leak


def a_dataset(shared: int) -> Data:
    draw = np.random.default_rng(0).integers(0, 256, (90, 5, 4, 1)).astype(np.uint8)
    test = np.concatenate([draw[:shared], draw[60 : 90 - shared]])
    labels = np.arange(60) % 3
    return Data("made", draw[:60], labels, test, labels[:30], ("a", "b", "c"), {}, "here")


@pytest.mark.parametrize("shared", [0, 1, 30])
def test_test_images_that_are_training_images_are_counted(shared):
    assert a_dataset(shared).n_test_in_training() == shared


def test_one_pixel_makes_another_image():
    leaky = a_dataset(30)
    leaky.test_images[3, 2, 1, 0] ^= 1
    assert leaky.n_test_in_training() == 29


def test_a_leak_is_said_at_import_and_in_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    leaky = a_dataset(30)
    np.savez(tmp_path / "leak.npz", **{
        "x_train": leaky.train_images, "y_train": leaky.train_labels, "x_test": leaky.test_images,
        "y_test": leaky.test_labels,
    })  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "import", str(tmp_path / "leak.npz"), "leak"])
    assert ended.value.code == 0
    assert "warning: 30 of 30 test images are also training images" in capsys.readouterr().err
    folder = fake_run(tmp_path / "runs")
    amend(folder, "environment.json", lambda found: found["dataset"].update(n_test_in_training=30, n_test=30))
    page = gather(store.find_runs([tmp_path / "runs"]))
    assert any("30 of 30 test images are also training images" in line for line in page["cautions"])
    assert page["document"]["test_images_in_training"] == {"digits": 30}
    amend(folder, "environment.json", lambda found: found["dataset"].update(n_test_in_training=0))
    assert not any("training images" in line for line in gather(store.find_runs([tmp_path / "runs"]))["cautions"])


# ------------------------------------------------------------------------------------------ what is said before a run


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe(validation=0.9999), ["1 image of digits is trained on, for 10 classes (validation = 0.9999)"]),
        (
            Recipe(validation=0.001, early_stopping=EarlyStopping()),
            ["early stopping watches 1 image of digits (validation = 0.001), so chance decides"],
        ),
        (Recipe(validation=0.001), []),
        (Recipe(validation=0.1, early_stopping=EarlyStopping()), []),
    ],
)
def test_a_share_that_is_hardly_any_image_is_said_with_its_number(recipe, said):
    assert few_images(Study(NETWORK, "digits", "numpy", recipe=recipe)) == said


def test_the_command_line_and_the_report_say_how_few_images_there_were(tmp_path, capsys):
    (tmp_path / "few.toml").write_text(
        'dataset = "digits"\nbackends = "numpy"\n[recipe]\nepochs = 1\nvalidation = 0.9999\n[networks]\n'
        'mlp = ["flatten", "dense 10"]\n'
    )
    with pytest.raises(SystemExit):
        cli.main(["run", str(tmp_path / "few.toml"), "--runs", str(tmp_path / "runs")])
    assert "warning: 1 image of digits is trained on, for 10 classes" in capsys.readouterr().err
    page = gather(store.find_runs([tmp_path / "runs"]))
    assert any("1 image was trained on" in line.replace("one image", "1 image") for line in page["cautions"])


def test_how_long_it_takes_is_said_from_earlier_runs(tmp_path):
    study = Study(NETWORK, "digits", "numpy", (0, 1), recipe=Recipe(epochs=2), name="lab", train_size=200)
    said: list[str] = []
    first = forecast.Expectation(study.runs(), tmp_path, 1, said.append)
    assert said == [
        "how long it takes is not known yet, as this machine has done none of these runs: that is said after the first "
        "epoch"
    ]
    run_study(study, tmp_path, first.hear, threads=1)
    assert len(said) == 2
    assert re.match(r"expected: about \d+ s for 2 runs, beside what other frameworks take to start, if ", said[1])
    assert not_done(study, tmp_path) == []
    again: list[str] = []
    forecast.Expectation(study.runs(), tmp_path, 1, again.append)
    assert again[0].startswith("expected: about ")
    assert again[0].endswith("for 2 runs, as long as such runs took on this machine before")
    more: list[str] = []
    other = Study({**NETWORK, "cnn": ["conv2d 2 3", "flatten", "dense 10"]}, "digits", "numpy", recipe=study.recipe,
                  train_size=200)  # fmt: skip
    forecast.Expectation(other.runs(), tmp_path, 1, more.append)
    assert "for 1 of 2 runs, which this machine has done before" in more[0]


def test_an_estimate_is_scaled_by_epochs_and_work():
    (short, long) = (
        run
        for epochs in (2, 6)
        for run in Study(NETWORK, "digits", "numpy", recipe=Recipe(epochs=epochs), train_size=200).runs()
    )
    asked = forecast.Expectation([short, long], Path("/nowhere"), 1, lambda said: None)
    assert asked.from_epoch(short, 3.0) == pytest.approx(8 * 3.0)


def test_runs_on_another_machine_tell_nothing(tmp_path):
    study = Study(NETWORK, "digits", "numpy", recipe=Recipe(epochs=1), name="lab", train_size=200)
    (record,) = run_study(study, tmp_path, threads=1)
    amend(record.folder, "environment.json", lambda found: found.update(cpu="another"))
    assert forecast.paces(tmp_path, study.runs(), 1) == {}


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (7.4, "7 s"), (43.0, "45 s"), (130.0, "2 min"), (9000.0, "2.5 h")]
)
def test_an_estimate_has_no_more_digits_than_it_is_worth(seconds, said):
    assert forecast.roughly(seconds) == said


# ----------------------------------------------------------------------------------------------- chapters, the question


def test_every_section_of_the_page_leads_to_its_chapter_and_its_word(tmp_path):
    fake_run(tmp_path)
    text = page_of(tmp_path)
    sections = [part.partition('"')[0] for part in text.split('<section id="')[1:]]
    assert sorted(sections) == sorted([*chapters.WORDS, "chapters"])
    for name, word in chapters.WORDS.items():
        part = text.split(f'<section id="{name}">')[1].split("</section>")[0]
        assert f"<code>lockstep explain {word}</code>" in part
        assert '<a href="#chapters">Explained in lab-' in part
    assert "docs/chapters/en/lab-frameworks.md" in text.split('<section id="chapters">')[1]


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_the_words_are_those_of_explain(spoken):
    from lockstep.explain import topics

    with language.speaking(spoken):
        for word in [*chapters.WORDS.values(), *(f"question_{n}" for n in range(1, 6))]:
            assert topics.find(word).language == spoken, word


def test_the_control_questions_stand_with_the_assignment_that_asks_them():
    assert [row["word"] for row in chapters.control_questions(["lab-lenet"])] == [f"question_{n}" for n in range(1, 6)]
    assert chapters.control_questions(["demo"]) == []


def test_question_three_names_the_activations():
    from lockstep.explain import topics

    for spoken in language.LANGUAGES:
        text = topics.topics(spoken)["question_3"].text.lower()
        for name in ("relu", "leakyrelu", "elu", "gelu", "tanh", "softplus", "softmax"):
            assert name in text, (spoken, name)


def test_what_is_asked_is_read_from_the_questions_of_the_shipped_studies():

    asked = {path.stem: load_study(path).question for path in ROOT.glob("studies/*.toml")}
    known = {name: question.asked(text) for name, text in asked.items()}
    assert known["lab-regularisation"][0] == "gap"
    assert known["lab-architectures"][0] == "structure"
    assert known["lab-choices"][0] == "settings"
    assert known["lab-frameworks"][0] == known["demo"][0] == "backends"
    assert question.target(asked["speedrun-995"]) == pytest.approx(0.995)
    assert all(known[name] or question.target(text) for name, text in asked.items())


def test_a_diverged_run_is_said_in_the_terminal_too(tmp_path):
    folder = fake_run(tmp_path)
    assert store.Record(folder).summary({})["diverged"] is False
    diverge(folder)
    assert store.Record(folder).summary({})["diverged"] is True
    assert "diverged" in repr(store.Records([store.Record(folder)]))


def test_counting_a_leak_takes_no_time_worth_the_name():
    images = np.random.default_rng(1).integers(0, 256, (20_000, 28, 28, 1)).astype(np.uint8)
    labels = np.arange(20_000) % 10
    large = Data("large", images, labels, images[::4], labels[::4], tuple("0123456789"), {}, "here")
    start = time.perf_counter()
    assert large.n_test_in_training() == 5000
    assert time.perf_counter() - start < 2
