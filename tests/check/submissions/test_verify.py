"""What was handed in is computed again; whoever changed a number, a prediction, a weight or the page is found."""

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lockstep import cli, language, store
from lockstep.check import submissions as verify
from lockstep.check.submissions import consistency, markup, pages
from lockstep.errors import LockstepError
from lockstep.report import write_report
from lockstep.spec import Adam, Conv2D, Dense, Flatten, MaxPool2D, Network, Recipe, ReLU, Study
from lockstep.study import run_study
from lockstep.training import metrics


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory) -> Path:
    """Two honest runs in NumPy, which differ in their seed, and their report."""
    runs = tmp_path_factory.mktemp("handed-in")
    network = Network((Conv2D(3, 5), ReLU(), MaxPool2D(2), Flatten(), Dense(10)))
    recipe = Recipe(optimizer=Adam(0.003), epochs=2, batch_size=64, validation=0.1, scaling="standard")
    study = Study({"small": network}, "digits", "numpy", (0, 1), recipe=recipe, name="work")
    records = run_study(study, runs)
    assert all(record.is_finished for record in records)
    write_report(records, runs / "work" / "report.html")
    return runs / "work"


@pytest.fixture
def copy(handed_in, tmp_path) -> Path:
    return Path(shutil.copytree(handed_in, tmp_path / "work"))


def first_and_second(folder: Path) -> tuple[Path, Path]:
    one, two = (record.folder for record in store.find_runs([folder]))
    return one, two


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def hash_again(run: Path) -> None:
    """What a cheat does after an edit: the manifest fits again."""

    def change(manifest):
        for name in manifest["files"]:
            content = (run / name).read_bytes()
            manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    edit(run / "manifest.json", change)


def problems(folder: Path, page: bool = False) -> str:
    """The problems of a submission, without its page where that is not in question: it costs the most."""
    if not page:
        (folder / "report.html").unlink()
    row = verify.verify(folder, 97)
    assert row["verdict"] == verify.WRONG, row
    return "\n".join(row["problems"])


def test_honest_work_fits(handed_in):
    row = verify.verify(handed_in)
    assert row["problems"] == row["unchecked"] == []
    assert (row["verdict"], row["report"]) == ("fits", "identical")
    assert (row["runs"], row["finished"], row["weights_checked"]) == (2, 2, 2)
    assert 0.5 < row["best_accuracy"] < 1
    assert verify.exit_code([row]) == 0


def test_an_edit_without_a_new_hash_is_found(copy):
    one, _ = first_and_second(copy)
    (one / "timing.json").write_text("{}")
    assert "timing.json: it has 2 bytes, the manifest says" in problems(copy)


def test_a_changed_accuracy_is_found_though_the_hash_fits(copy):
    one, _ = first_and_second(copy)
    edit(one / "metrics.json", lambda found: found["test"].update(accuracy=0.9999))
    hash_again(one)
    assert store.check_files(one)["metrics.json"] is None
    assert f"{one.name}: metrics.json: test.accuracy: it says 0.9999, computed: 0." in problems(copy)


def test_another_runs_predictions_are_found_though_all_numbers_fit(copy):
    one, two = first_and_second(copy)
    shutil.copy(two / "predictions.npz", one / "predictions.npz")
    recipe = Recipe()
    arrays = store.read_npz(one / "predictions.npz")
    again = store.finite(metrics.evaluate(arrays["logits"], arrays["labels"], recipe))
    edit(one / "metrics.json", lambda found: found.update(test=again))
    hash_again(one)
    assert "predictions.npz: not what the weights give: 97 of 97 images are off" in problems(copy)


def test_another_runs_weights_are_found(copy):
    one, two = first_and_second(copy)
    shutil.rmtree(one / "checkpoint-2")
    shutil.copytree(two / "checkpoint-2", one / "checkpoint-2")
    assert "predictions.npz: not what the weights give" in problems(copy)


def test_labels_that_make_answers_right_are_found(copy):
    one, _ = first_and_second(copy)
    arrays = store.read_npz(one / "predictions.npz")
    labels = arrays["logits"].argmax(axis=1)
    store.write_npz(one / "predictions.npz", logits=arrays["logits"], labels=labels)
    again = store.finite(metrics.evaluate(arrays["logits"], labels, Recipe()))
    edit(one / "metrics.json", lambda found: found.update(test=again))
    hash_again(one)
    found = problems(copy)
    assert "its labels are not those of the dataset's test images" in found
    assert "events.jsonl: test accuracy at the end" in found


@pytest.mark.parametrize("key", ["train_loss", "train_accuracy"])
def test_a_curve_that_is_not_that_of_the_steps_is_found(copy, key):
    one, _ = first_and_second(copy)
    events = store.read_events(one / "events.jsonl")
    next(event for event in events if event.get("epoch") == 1)[key] *= 1.001
    (one / "events.jsonl").write_text("".join(map(store.as_line, events)))
    hash_again(one)
    assert f"events.jsonl: epoch 1.{key}: it says" in problems(copy)


def test_a_training_accuracy_that_the_weights_do_not_have_is_found(copy):
    """Said alike in both places, it is not what the weights make of the training images."""
    one, _ = first_and_second(copy)
    edit(one / "metrics.json", lambda found: found["train"].update(accuracy=0.999))
    hash_again(one)
    assert "metrics.json: train.accuracy: it says 0.999, events.jsonl at that epoch 0." in problems(copy)
    events = store.read_events(one / "events.jsonl")
    next(event for event in events if event.get("epoch") == 2)["train_inference_accuracy"] = 0.999
    (one / "events.jsonl").write_text("".join(map(store.as_line, events)))
    hash_again(one)
    row = verify.verify(copy)
    assert any("train_inference_accuracy: it says 0.999, the weights give 0." in said for said in row["problems"])


def test_a_run_of_before_its_training_images_were_evaluated_fits(copy):
    one, _ = first_and_second(copy)
    edit(one / "metrics.json", lambda found: found.pop("train"))
    hash_again(one)
    (copy / "report.html").unlink()
    assert verify.verify(copy)["problems"] == []


def test_averages_over_all_classes_are_those_of_a_run_of_before(copy):
    """Class 9 is in no label and no answer: its zeros were in the macro averages once, and another number never was."""
    quality = metrics.evaluate(np.eye(10)[[1, 2, 3]], np.array([1, 2, 4]), Recipe())
    before = {**quality, "macro": metrics.means_over_all(quality)}
    assert consistency.as_averaged(quality, {"test": before})["macro"] == before["macro"] != quality["macro"]
    made_up = {**quality, "macro": {**before["macro"], "f1": 0.9}}
    assert consistency.as_averaged(quality, {"test": made_up}) == quality


def test_images_that_are_not_the_datasets_are_found(copy):
    one, _ = first_and_second(copy)
    arrays = store.read_npz(one / "hardest.npz")
    store.write_npz(one / "hardest.npz", indices=arrays["indices"], images=255 - arrays["images"])
    hash_again(one)
    assert "hardest.npz: its images are not the dataset's test images" in problems(copy)


def test_other_data_of_the_same_name_are_found(copy):
    one, _ = first_and_second(copy)
    edit(one / "environment.json", lambda found: found["dataset"].update(hashes={"digits.csv": "ab" * 32}))
    hash_again(one)
    assert "environment.json: the data on this machine have other hashes" in problems(copy)


def test_an_edited_page_is_found(copy):
    page = copy / "report.html"
    text = page.read_text(encoding="utf-8")
    accuracy = store.read_json(first_and_second(copy)[0] / "metrics.json")["test"]["accuracy"]
    told = f'<td class="r ">{100 * accuracy:.1f}</td>'
    assert told in text
    page.write_text(text.replace(told, '<td class="r ">99.9</td>', 1), encoding="utf-8")
    assert f"report.html: it says “99.9”, the runs “{100 * accuracy:.1f}”" in problems(copy, page=True)


def test_a_page_in_another_language_is_held_against_its_runs_in_that_language(copy):
    with language.speaking("ru"):
        write_report(store.find_runs([copy]), copy / "report.html")
    assert verify.verify(copy, 97)["report"] == "identical"
    page = copy / "report.html"
    text = page.read_text(encoding="utf-8")
    loss = store.read_json(first_and_second(copy)[0] / "metrics.json")["test"]["loss"]
    told = f'<td class="r ">{loss:.4f}</td>'.replace(".", ",")
    assert told in text
    nearly = f'<td class="r ">{round(loss, 4) + 0.0001:.4f}</td>'.replace(".", ",")
    page.write_text(text.replace(told, nearly, 1), encoding="utf-8")
    assert verify.verify(copy, 97)["report"] == "fits"
    page.write_text(text.replace(told, '<td class="r ">0,0001</td>', 1), encoding="utf-8")
    assert f"report.html: it says “0.0001”, the runs “{loss:.4f}”" in problems(copy, page=True)


def test_a_folder_may_be_renamed_when_it_is_handed_in(copy):
    renamed = copy.rename(copy.with_name("anna"))
    assert verify.verify(renamed, 97)["report"] == "identical"


@pytest.mark.parametrize("name", ["../etc", "work", "/etc/passwd", "a/b/c", ""])
def test_a_page_cannot_name_other_folders(name, copy):
    assert pages.matching([name], store.find_runs([copy])) == {}


def test_a_page_of_runs_that_are_not_here_is_found(copy):
    _, two = first_and_second(copy)
    shutil.rmtree(two)
    assert f"report.html: it shows runs that are not here: work/{two.name}" in problems(copy, page=True)


@pytest.mark.parametrize(
    ("told", "wanted", "differ"),
    [
        (["a 93.31 % b"], ["a 93.32 % b"], False),  # another library's rounding
        (["a 93.31 % b"], ["a 93.33 % b"], True),
        (["12 images"], ["13 images"], True),
        (["12"], ["12.0"], True),
        (["one", "two"], ["one", "or", "two"], True),
        (["1,234.56"], ["1,234.57"], False),
    ],
)
def test_a_page_may_differ_by_the_last_decimal_alone(told, wanted, differ):
    assert bool(markup.differences(told, wanted)) is differ


def test_what_cannot_be_checked_is_named_and_does_not_count_as_fitting(copy, monkeypatch):
    def missing(name, offline):
        raise LockstepError("LS-301", "not here")

    monkeypatch.setattr(verify.data, "load", missing)
    (copy / "report.html").unlink()
    row = verify.verify(copy)
    assert (row["verdict"], row["weights_checked"], row["report"]) == ("fits as far as checked", 0, "missing")
    assert "the dataset digits is not on this machine" in row["unchecked"][0]
    assert verify.exit_code([row]) == 3


@pytest.mark.parametrize("file", ["predictions.npz", "spec.toml", "environment.json", "steps.npz", "checkpoint-2"])
def test_a_missing_part_is_named_and_no_crash(copy, file):
    one, _ = first_and_second(copy)
    path = one / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert one.name in problems(copy)


def test_one_line_for_each_submission_and_its_exit_code(handed_in, tmp_path, capsys):
    (tmp_path / "=1+2").mkdir()
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", "--images", "97", str(handed_in), str(tmp_path / "=1+2")])
    assert ended.value.code == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{handed_in}: fits: 2 of 2 runs finished, 2 computed from their weights, report identical")
    assert "nothing to check" in second
    assert "no run folder here" in second


def test_csv_has_a_row_for_each_and_no_formula(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("=1+2").mkdir()
    with pytest.raises(SystemExit):
        cli.main(["verify", "--csv", "=1+2", "none"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["folder"] for row in rows] == ["'=1+2", "none"]
    assert {row["verdict"] for row in rows} == {"nothing to check"}


def test_logits_within_rounding_fit_and_beyond_do_not(copy):
    one, _ = first_and_second(copy)
    (copy / "report.html").unlink()
    arrays = store.read_npz(one / "predictions.npz")
    for size, fits in ((1e-7, True), (1e-2, False)):
        shaken = arrays["logits"] * (1 + size * np.sign(np.arange(10) % 2 - 0.5)).astype(np.float32)
        store.write_npz(one / "predictions.npz", logits=shaken, labels=arrays["labels"])
        again = store.finite(metrics.evaluate(shaken, arrays["labels"], Recipe()))
        edit(one / "metrics.json", lambda found, again=again: found.update(test=again))
        hash_again(one)
        found = verify.verify(copy, 97)["problems"]
        assert any("not what the weights give" in problem for problem in found) is not fits, found
