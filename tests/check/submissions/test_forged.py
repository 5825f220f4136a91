"""Whoever forges a hand-in is found, however well it is sealed; whoever is honest is not accused."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lockstep import backends, cli, report, store
from lockstep.check import doctor
from lockstep.check import submissions as verify
from lockstep.check.submissions import pages
from lockstep.check.submissions.findings import Findings
from lockstep.check.submissions.submission import Submission
from lockstep.machine import cores
from lockstep.spec import (
    ELU,
    GELU,
    SGD,
    Adam,
    AdamW,
    Augmentation,
    BatchNorm,
    Constant,
    Conv2D,
    Cosine,
    Dense,
    Dropout,
    EarlyStopping,
    Flatten,
    GlobalAvgPool,
    MaxPool2D,
    Momentum,
    Nesterov,
    Network,
    OneCycle,
    Recipe,
    ReLU,
    RMSprop,
    StepDecay,
    Study,
    Tanh,
)
from lockstep.spec.records import changed
from lockstep.study import resumption, run_study
from lockstep.study.places import local
from support import forgeries, forks
from support.forgeries import DEEP, FORGERIES, PAGES, UNDECIDABLE, Others
from support.needs import need_backend


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    """Two honest runs, which differ in their seed, and their report."""
    return forgeries.hand_in(tmp_path_factory.mktemp("honest") / "work")


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Others:
    """A fellow student's hand-in of the same study, trained anew, and a place to train in."""
    place = tmp_path_factory.mktemp("others")
    return Others(forgeries.hand_in(place / "fellow" / "work"), place / "trained")


@pytest.fixture
def copy(honest, tmp_path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "mine" / "work"))


def problems(folder: Path, others: Others, deep: bool = False) -> str:
    """The problems of a hand-in, beside a fellow's; without its page, where that is not in question."""
    row = next(verify.verify_all([folder, others.fellow], deep=deep))
    assert (row["verdict"] == verify.WRONG) is bool(row["problems"]), row
    return "\n".join(row["problems"])


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_found(name, copy, others):
    forge, words = FORGERIES[name]
    (copy / "report.html").unlink()
    forge(copy, others)
    (copy / "report.html").unlink(missing_ok=True)
    found = problems(copy, others)
    assert words in found, found or "nothing"


def test_one_number_that_is_drawn_is_found(honest, others, tmp_path, cases, tally):
    n = cases(12, 270)
    passed = []
    for seed in range(n):
        folder = Path(shutil.copytree(honest, tmp_path / str(seed)))
        (folder / "report.html").unlink()
        said = forgeries.drawn(folder, seed)
        if not problems(folder, others):
            passed.append(said)
        shutil.rmtree(folder)
    tally("hand-ins with one number forged and all sealed, of which none may fit", n, len(passed))
    assert not passed


@pytest.mark.parametrize("name", DEEP)
def test_a_whole_epoch_tells_what_the_first_steps_do_not(name, copy, others):
    forge, words = DEEP[name]
    (copy / "report.html").unlink()
    forge(copy, others)
    assert problems(copy, others) == "", "and if they do, it belongs among the others"
    assert words in problems(copy, others, deep=True)


@pytest.mark.parametrize("name", UNDECIDABLE)
def test_what_nobody_can_tell_is_listed_and_said(name, copy, others, capsys):
    (copy / "report.html").unlink()
    UNDECIDABLE[name](copy, others)
    assert problems(copy, others) == "", "this can be told: it belongs among the forgeries"
    with pytest.raises(SystemExit):
        cli.main(["verify", str(copy)])
    assert "Not decidable from 2 runs alone" in capsys.readouterr().err


@pytest.fixture(scope="module")
def page_of(honest):
    """The honest page made again, once for all forgeries of it."""
    made = report.render(report.gather(store.find_runs([honest])))
    assert made == (honest / "report.html").read_text(encoding="utf-8")
    return made


@pytest.mark.parametrize("name", PAGES)
def test_a_forged_page_is_found(name, copy, others, page_of, monkeypatch):
    forge, words = PAGES[name]
    forge(copy, others)
    if len(store.find_runs([copy])) == 2:  # else it is not made again
        monkeypatch.setattr(pages.report, "gather", lambda *given: {"document": {}})
        monkeypatch.setattr(pages.report, "render", lambda page: page_of)
    found = Findings()
    record = Submission(copy, copy)
    assert pages.check(record.pages(), record.records(), found) == "differs"
    assert words in found.summary(), found.problems


def test_a_page_that_another_version_of_matplotlib_drew_fits_with_a_word(copy, page_of, monkeypatch):
    def drawn_otherwise(text: str) -> str:
        return re.sub(r"stroke-width: 1\.2", "stroke-width: 1.3; stroke-miterlimit: 10", text)

    forgeries.edit_page(copy, drawn_otherwise)
    monkeypatch.setattr(pages.report, "gather", lambda *given: {"document": {}})
    monkeypatch.setattr(pages.report, "render", lambda page: page_of)
    found = Findings()
    assert pages.check([copy / "report.html"], store.find_runs([copy]), found) == "fits"
    assert not found.problems
    assert "drawn otherwise than here: " in found.notes[0]


def test_the_line_names_the_folder_that_has_the_same_run(copy, others):
    FORGERIES["another students folder under a new name"][0](copy, others)
    for row, other in zip(verify.verify_all([copy, others.fellow]), (others.fellow, copy), strict=True):
        assert f" – the same run as in the folder {other} (2 runs); one by one: --json" in verify.as_line(row)


def test_there_are_enough_forgeries():
    assert len(FORGERIES) + len(DEEP) + len(PAGES) >= 100
    assert len(UNDECIDABLE) == 4


def test_what_is_wrong_in_several_ways_is_one_sentence(copy, others):
    for name in ("another accuracy", "other samples", "shorter epochs in one place", "an edit without a new hash"):
        FORGERIES[name][0](copy, others)
    forgeries.edit_page(copy, lambda text: text.replace("</main>", "<p>All teachers agree.</p></main>"))
    row = verify.verify(copy)
    assert len(row["problems"]) > 4
    line = verify.as_line(row)
    one = forgeries.runs_of(copy)[0].name
    assert f" – {one}: metrics that the predictions do not give; data that are not the dataset's; " in line
    for words in (
        "; files changed after they were written", "; a page that its runs do not give (report.html)",
        "; one by one: --json",
    ):  # fmt: skip
        assert words in line
    assert "\n" not in line


# ------------------------------------------------------------------------------------------------- nobody is accused


def fits(*folders: Path, deep: bool = False) -> list[dict]:
    rows = list(verify.verify_all(folders, deep=deep))
    assert [row["problems"] for row in rows] == [[] for _ in folders]
    assert {row["verdict"] for row in rows} == {verify.FITS}
    return rows


def test_an_honest_hand_in_fits_to_the_end_of_an_epoch_too(honest, others):
    mine, fellow = fits(honest, others.fellow, deep=True)
    assert mine["report"] == fellow["report"] == "identical"
    # The same study gives the same bits on one machine: that is told, and nobody is accused of it.
    assert all("this is no sign of a copy" in note for note in mine["notes"])
    assert len(mine["notes"]) == 2


def crlf(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def zipped(folder: Path, archive: Path, below: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, str(Path(below) / folder.name / path.relative_to(folder)))
    return archive


def texts_of(folder: Path) -> list[Path]:
    endings = (".toml", ".json", ".jsonl", ".html")
    return [path for path in sorted(folder.rglob("*")) if path.suffix in endings]


def test_line_ends_that_git_changed_are_no_forgery(copy):
    for path in texts_of(copy):
        crlf(path)
    (row,) = fits(copy)
    assert row["report"] == "identical"
    assert any("has changed the line ends of" in note for note in row["notes"])
    assert "of note: " in verify.as_line(row)
    (rows,) = doctor.check_runs([forgeries.runs_of(copy)[0]])["runs"]
    assert (rows["state"], rows["problems"]) == ("whole", [])
    assert "has changed line ends" in rows["notes"][0]


def test_a_last_line_end_that_an_editor_took_away_is_no_forgery(copy):
    for path in texts_of(copy):
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    fits(copy)


@pytest.mark.parametrize("name", ["metrics.json", "spec.toml", "status.json", "checkpoint-2/manifest.json"])
def test_a_forgery_behind_changed_line_ends_is_found(name, copy, others):
    one, _ = forgeries.runs_of(copy)
    path = one / name
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("1", "2", 1), encoding="utf-8")
    for text_file in texts_of(copy):
        crlf(text_file)
    (copy / "report.html").unlink()
    assert one.name in problems(copy, others)


def test_moved_renamed_deep_and_zipped(copy, tmp_path):
    deep = tmp_path / "anna" / "homework 3" / "final" / "really" / "runs" / "mine"
    shutil.copytree(copy, deep)
    archive = zipped(copy, tmp_path / "bob.zip", "a/b")
    (tmp_path / "carol").mkdir()
    zipped(copy, tmp_path / "carol" / "upload.zip")
    for folder in (tmp_path / "anna", archive, tmp_path / "carol"):
        (row,) = fits(folder)
        assert (row["report"], row["finished"]) == ("identical", 2)
        assert ("it was read from a zip archive" in row["notes"]) is (folder.name != "anna")
    one, two = forgeries.runs_of(copy)
    one.rename(one.with_name("my first run"))
    two.rename(two.with_name("anna-20261130"))
    (row,) = fits(copy)
    assert row["report"] == "identical"


def test_a_file_that_is_no_zip_is_named(tmp_path, capsys):
    (tmp_path / "a.zip").write_bytes(b"PK, but no more")
    (tmp_path / "b.pdf").write_bytes(b"%PDF")
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(tmp_path / "a.zip"), str(tmp_path / "b.pdf")])
    assert ended.value.code == 1
    for line in capsys.readouterr().out.splitlines():
        assert "it is no zip archive: give a folder that holds runs, or a zip of one" in line


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/../../../evil", "C:/evil"])
def test_a_zip_writes_nothing_outside(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(name, "1")
    row = verify.verify(tmp_path / "a.zip")
    assert "a path that leads out of it" in row["problems"][0]
    assert not list(tmp_path.rglob("*evil*"))


def test_a_zip_that_is_a_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("status.json", b"0" * 2**27)
    assert "are to come out of" in verify.verify(tmp_path / "a.zip")["problems"][0]


def test_a_copy_within_a_hand_in_counts_once_and_is_no_fault(copy):
    shutil.copytree(copy, copy / "backup")
    (row,) = fits(copy)
    assert any("it counts once" in note for note in row["notes"])


def test_a_zip_beside_the_folder_that_it_was_unpacked_into_is_no_copy(copy, tmp_path):
    mine = copy.rename(tmp_path / "anna")
    rows = fits(zipped(mine, tmp_path / "anna.zip"), mine)
    assert all(any("it counts once" in note for note in row["notes"]) for row in rows)


def test_a_clip_that_was_never_reached_gives_the_same_bits_honestly(tmp_path):
    of = changed(forgeries.STUDY, seeds=(0,))
    forgeries.hand_in(tmp_path / "one", of, page=False)
    forgeries.hand_in(tmp_path / "two", changed(of, recipe=changed(of.recipe, clip_norm=1e6)), page=False)
    one, two = forgeries.runs_of(tmp_path)
    weights = [store.read_checkpoint(run / "checkpoint-2")[0] for run in (one, two)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    fits(tmp_path)
    fits(tmp_path / "one", tmp_path / "two")


def test_an_edited_copy_of_lockstep_is_mentioned_and_decides_nothing(copy):
    one, _ = forgeries.runs_of(copy)
    forgeries.edit(one / "environment.json", lambda found: found.update(lockstep_sources="ab" * 32))
    forgeries.seal(one)
    (copy / "report.html").unlink()
    (row,) = fits(copy)
    assert any("made by an edited copy of Lockstep" in note for note in row["notes"])


# Other processors, as far as one machine can be another: other kernels of BLAS round otherwise.
MACHINES = ({"OPENBLAS_CORETYPE": "Prescott"}, {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "AVX512F"})


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["OPENBLAS_CORETYPE"])
def test_another_machine_fits(machine, honest, tmp_path, monkeypatch):
    for name, value in machine.items():
        monkeypatch.setenv(name, value)
    run_study(changed(forgeries.STUDY, name="work"), tmp_path, threads=1)
    monkeypatch.undo()
    fits(tmp_path / "work", honest, deep=True)


@pytest.mark.parametrize("backend", [name for name in backends.BACKENDS if name != "numpy"])
def test_every_backend_fits(backend, tmp_path):
    need_backend(backend)
    networks = {"small": forgeries.NETWORK, "normed": NORMED}
    of = changed(forgeries.STUDY, networks=networks, backends=(backend,), seeds=(3,), name="work")
    (tmp_path / "runs").mkdir()
    assert all(record.is_finished for record in run_study(of, tmp_path / "runs", threads=1))
    fits(tmp_path / "runs", deep=True)


NORMED = Network((Conv2D(4, 3, bias_initializer="normal 0.1"), BatchNorm(), ReLU(), Flatten(), Dropout(0.3), Dense(10)))

FRAMEWORKS = [name for name in backends.BACKENDS if name != "numpy"]
OPTIMIZERS = (
    SGD(0.1), Momentum(0.05), Nesterov(0.05), Momentum(0.05, form="velocity"), Adam(0.004),
    Adam(0.004, epsilon_mode="hat"), AdamW(0.004), RMSprop(0.002), RMSprop(0.002, epsilon_mode="inside"),
)  # fmt: skip
SCHEDULES = (Constant(), StepDecay(1, 0.5), Cosine(0.05), OneCycle())
MORE = (
    {}, {"validation": 0.2}, {"augmentation": Augmentation(shift=1, rotation=8.0)}, {"label_smoothing": 0.1},
    {"l2": 1e-3}, {"clip_norm": 0.7}, {"clip_norm": 0.7, "clip_scope": "tensor"}, {"loss": "mean_squared_error"},
    {"scaling": "standard"},
    {"validation": 0.2, "early_stopping": EarlyStopping("validation_loss", patience=1, restore_best=True)},
)  # fmt: skip
NETWORKS = (
    forgeries.NETWORK, NORMED, Network((Flatten(), Dense(24), Tanh(), Dense(24), GELU(), Dense(10))),
    Network((Conv2D(5, 3, padding="same"), ReLU(), MaxPool2D(2), Conv2D(6, 2), ELU(), GlobalAvgPool(), Dense(10))),
    Network((Flatten(), Dense(10))),
)  # fmt: skip


def test_runs_trained_together_fit_though_they_share_their_times(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])
    of = changed(forgeries.STUDY, networks={"mlp": NETWORKS[2]}, seeds=(0, 1, 2), name="work")
    records = run_study(of, tmp_path, threads=2, is_together=True)
    assert {record.timing["together"] for record in records} == {3}
    assert len({record.timing["epochs"][0] for record in records}) == 1
    fits(tmp_path / "work", deep=True)


def test_a_run_that_went_on_with_other_threads_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "HERE", forks.InThisProcess())
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])

    def ended(run, event):
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    of = changed(forgeries.STUDY, seeds=(0,), name="work")
    with pytest.raises(KeyboardInterrupt):
        run_study(of, tmp_path, ended, threads=1)
    resumption.resume(resumption.unfinished([tmp_path], threads=2)[0])
    (record,) = store.find_runs([tmp_path])
    assert record.environment["resumed"]
    fits(tmp_path / "work", deep=True)


@pytest.mark.parametrize("rate", [30.0, 1e6, 1e30])
def test_a_training_that_diverged_is_no_forgery(rate, tmp_path):
    of = changed(forgeries.STUDY, seeds=(0, 1), recipe=changed(forgeries.RECIPE, optimizer=SGD(rate)))
    with np.errstate(all="ignore"):  # a worker lets its warnings go to its log
        forgeries.hand_in(tmp_path / "work", of)
    fits(tmp_path / "work", deep=True)


WEIRD = (None, "text", -1, 1e300, [], {}, [None], {"a": 1}, True, "1", [1, "2"], [[1]])


def mutated(value, rng: np.random.Generator):
    """A JSON value with one of its parts exchanged for something strange, or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = list(value)[int(rng.integers(len(value)))]
        if rng.random() < 0.15:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = int(rng.integers(len(value)))
        return [*value[:place], mutated(value[place], rng), *value[place + 1 :]]
    return WEIRD[int(rng.integers(len(WEIRD)))]


def in_table(value) -> dict:
    return value if isinstance(value, dict) else {"a": value}


def test_strange_content_that_is_well_sealed_is_named_and_no_crash(honest, tmp_path, cases):
    for number in range(cases(25, 400)):
        rng = np.random.default_rng([number, 2])
        folder = Path(shutil.copytree(honest, tmp_path / str(number)))
        (folder / "report.html").unlink()
        one, two = forgeries.runs_of(folder)
        shutil.rmtree(two)
        name = ("environment.json", "metrics.json", "timing.json", "events.jsonl", "checkpoint", "status.json")[
            number % 6
        ]
        if name == "events.jsonl":
            forgeries.edit_events(one, lambda rows, rng=rng: rows.__setitem__(0, mutated(rows[0], rng)))
        elif name == "checkpoint":
            forgeries.edit_checkpoint(
                one, lambda facts, arrays, rng=rng: facts.update(in_table(mutated({**facts}, rng)))
            )  # fmt: skip
        else:
            value = in_table(mutated(store.read_json(one / name), rng))
            store.write_json(one / name, {**value, "seal": store.seal(value)} if name == "status.json" else value)
        forgeries.seal(one)
        row = verify.verify(folder)
        assert verify.as_line(row)
        shutil.rmtree(folder)


def drawn(seed: int) -> Study:
    """A study of one or two runs in NumPy, drawn from everything that a recipe can say."""
    rng = np.random.default_rng(seed)

    def one_of(values):
        return values[int(rng.integers(len(values)))]

    recipe = changed(
        Recipe(), optimizer=one_of(OPTIMIZERS), schedule=one_of(SCHEDULES), epochs=int(rng.integers(1, 5)),
        batch_size=int(one_of((32, 50, 64, 100, 128))), **one_of(MORE),
    )  # fmt: skip
    size = one_of((None, None, 600))
    return changed(
        forgeries.STUDY, networks={"net": one_of(NETWORKS)}, recipe=recipe, seeds=(int(rng.integers(1000)),),
        dtype=(one_of(("float32", "float32", "float64")),), train_size=size, name="work",
    )  # fmt: skip


def handed_in_somehow(folder: Path, rng: np.random.Generator) -> Path:
    """The folder as it comes: as it is, moved, renamed, zipped, or through an editor that writes other line ends."""
    way = int(rng.integers(5))
    if way == 1:
        return Path(shutil.move(folder, folder.with_name("deep") / "er" / "work"))
    if way == 2:
        for number, run in enumerate(forgeries.runs_of(folder)):
            run.rename(run.with_name(f"run {number}"))
    if way == 3:
        return zipped(folder, folder.with_name("work.zip"))
    if way == 4:
        for path in texts_of(folder):
            crlf(path)
    return folder


def test_honest_hand_ins_fit(tmp_path, cases, tally):
    n = cases(8, 200)
    accused = []
    for number in range(n):
        rng = np.random.default_rng([number, 1])
        of = drawn(number)
        place = tmp_path / str(number) / "work"
        if number % 10 == 9 and backends.why_missing(other := FRAMEWORKS[number // 10 % len(FRAMEWORKS)]) is None:
            of = changed(of, backends=(other,))
            folder = run_study(of, place.parent, threads=1)[0].folder.parent
        else:
            folder = forgeries.hand_in(place, of, page=number % 20 == 0, threads=1 + number % 2)
        row = verify.verify(handed_in_somehow(folder, rng), deep=number % 3 == 0)
        if row["problems"] or row["verdict"] != verify.FITS:
            accused.append((number, of, row["problems"]))
        shutil.rmtree(tmp_path / str(number))
    tally("honest hand-ins, of which none may be accused", n, len(accused))
    assert not accused
