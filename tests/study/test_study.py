"""Studies, done for real: what a run leaves behind, what is not repeated, and what happens when a worker dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from lockstep import LockstepError, Recipe, Record, Study, backends, load_study, parse_study, read_study, run_study
from support.needs import need_backend
from support.process_table import is_running, wait_for, worker_of

FILES = {
    "status.json", "spec.toml", "environment.json", "events.jsonl", "steps.npz", "samples.npz", "hardest.npz",
    "predictions.npz", "metrics.json", "timing.json", "manifest.json", "worker.log",
}  # fmt: skip
MLP = {"mlp": ["flatten", "dense 17", "relu", "dense 10"]}
QUICK = Recipe("adam 0.01", epochs=2, batch_size=64)
FOR_EVER = 100_000


def study(backend="numpy", recipe=QUICK, networks=MLP, **fields) -> Study:
    return Study(networks, "digits", backend, recipe=recipe, train_size=300, name="lab", **fields)


def silent(run, event):
    """Nobody listens."""


def do(wanted, folder, tell=silent, **options):
    return run_study(wanted, folder, tell, **options)


# ------------------------------------------------------------------------------------------------------------ one run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run of the NumPy backend, and what was told of it."""
    told = []
    (record,) = do(study(), tmp_path_factory.mktemp("runs"), lambda run, event: told.append(event))
    assert record.is_finished, record.status
    return record, told


def test_a_run_leaves_every_file_of_the_documented_folder(finished):
    record, _ = finished
    assert {path.name for path in record.folder.iterdir()} == FILES | {"checkpoint-2"}
    assert {path.name for path in (record.folder / "checkpoint-2").iterdir()} == {
        "weights.safetensors", "state.safetensors", "steps.safetensors", "manifest.json",
    }  # fmt: skip
    assert not list(record.folder.parent.rglob("*.part"))


def test_a_runs_facts_fit_together(finished):
    record, _ = finished
    steps, predictions = record.arrays("steps"), record.arrays("predictions")
    assert {name: len(value) for name, value in steps.items()} == {"loss": 10, "correct": 10, "examples": 10}
    assert steps["examples"].tolist() == [64, 64, 64, 64, 44] * 2
    assert predictions["logits"].shape == (360, 10)
    accuracy = (predictions["logits"].argmax(axis=1) == predictions["labels"]).mean()
    assert record.metrics["test"]["accuracy"] == pytest.approx(accuracy)
    assert record.history[-1]["test_accuracy"] == pytest.approx(accuracy)
    for epoch, row in enumerate(record.history):
        part = slice(epoch * 5, epoch * 5 + 5)
        assert row["train_loss"] == pytest.approx((steps["loss"] * steps["examples"])[part].sum() / 300)
        assert row["train_accuracy"] == pytest.approx(steps["correct"][part].sum() / 300)
        assert row["validation_loss"] is None
    assert record.metrics["parameters"] == 784 * 17 + 17 + 170 + 10
    assert (record.metrics["epochs"], record.metrics["best_epoch"], record.metrics["stopped_early"]) == (2, None, False)
    assert len(record.timing["epochs"]) == 2
    assert sum(record.timing["epochs"]) == pytest.approx(record.timing["seconds"]["train"], rel=0.2, abs=1e-3)
    assert {"import", "build", "compile", "train", "evaluate", "total"} <= record.timing["seconds"].keys()
    assert 20e6 < record.timing["peak_memory_bytes"] < 1.5e9
    assert record.arrays("samples")["images"].shape == (16, 28, 28, 1)


def test_a_runs_environment_says_what_it_depended_on(finished):
    record, _ = finished
    found = record.environment
    assert found["versions"]["numpy"] == np.__version__
    assert found["python"] == sys.version.split()[0]
    assert found["dataset"]["name"] == "digits"
    assert found["dataset"]["hashes"]
    assert (found["dataset"]["n_train"], found["dataset"]["n_validation"], found["dataset"]["n_test"]) == (300, 0, 360)
    assert sum(found["dataset"]["class_counts"]) == 300
    assert found["threads"]["asked"] == min(2, len(os.sched_getaffinity(0)))


def test_what_happens_is_told_in_order(finished):
    record, told = finished
    assert [event["event"] for event in told] == ["start", "phase", "phase", "epoch", "epoch", "end"]
    assert told[0]["folder"] == str(record.folder)
    assert [event["epoch"] for event in told if event["event"] == "epoch"] == [1, 2]
    assert told[-1]["record"] == record
    assert told[-1]["reused"] is False


def same_numbers(first: Record, second: Record) -> None:
    """Bit for bit."""
    for name in ("steps", "predictions", "samples"):
        one, two = first.arrays(name), second.arrays(name)
        assert one.keys() == two.keys()
        for key, value in one.items():
            np.testing.assert_array_equal(value, two[key], strict=True, err_msg=f"{name}.{key}")


def test_running_a_runs_own_spec_gives_the_same_bits(finished, tmp_path):
    record, _ = finished
    again = read_study(record.folder / "spec.toml")
    assert again.backends == ("numpy",)
    (other,) = do(again, tmp_path)
    assert (other.folder / "spec.toml").read_bytes() == (record.folder / "spec.toml").read_bytes()
    assert other.folder.name == record.folder.name
    same_numbers(record, other)


def test_another_seed_is_not_taken_for_the_same_bits(finished, tmp_path):
    (other,) = do(study(seeds=1), tmp_path)
    with pytest.raises(AssertionError, match=r"steps\.loss"):
        same_numbers(finished[0], other)


def test_a_finished_run_is_not_repeated_and_never_written_over(finished):
    record, _ = finished
    root = record.folder.parents[1]
    before = {path: path.stat().st_mtime_ns for path in record.folder.rglob("*")}
    told = []
    (same,) = do(
        study(
            question="The question and the name are not what a run is.",
        ),
        root,
        lambda _, e: told.append(e),
    )
    assert same.folder == record.folder
    assert [(event["event"], event["reused"]) for event in told] == [("end", True)]
    (again,) = do(study(), root, again=True)
    assert again.folder.name == f"{record.folder.name}-2"
    same_numbers(record, again)
    (newest,) = do(study(), root)
    assert newest.folder == again.folder
    assert {path: path.stat().st_mtime_ns for path in record.folder.rglob("*")} == before


def test_a_run_of_other_versions_or_another_recipe_is_repeated(finished, monkeypatch):
    record, _ = finished
    root = record.folder.parents[1]
    (other,) = do(study(recipe=Recipe("adam 0.02", epochs=1, batch_size=64)), root)
    assert not other.folder.name.startswith(record.folder.name)
    monkeypatch.setattr(backends, "versions", lambda name: {"numpy": "99"})
    told = []
    (newer,) = do(study(), root, lambda _, event: told.append(event["event"]))
    assert newer.folder.name.startswith(f"{record.folder.name}-")
    assert "start" in told


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """The same run in every backend that is here."""
    names = [name for name in backends.BACKENDS if backends.why_missing(name) is None]
    networks = {"cnn": ["conv2d 3 5 2", "relu", "max_pool2d", "dropout 0.2", "flatten", "dense 10"]}
    recipe = Recipe("adam 0.01", epochs=1, batch_size=64, validation=0.1)
    records = do(study(tuple(names), recipe, networks), tmp_path_factory.mktemp("four"))
    return {record.backend: record for record in records}


@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_every_backend_leaves_the_same_files_and_takes_the_same_steps(backend, four):
    need_backend(backend)
    record = four[backend]
    assert record.is_finished, record.status["reason"]
    assert {path.name for path in record.folder.iterdir()} == FILES | {"checkpoint-1"}
    np.testing.assert_allclose(record.arrays("steps")["loss"], four["numpy"].arrays("steps")["loss"], rtol=1e-5)
    assert record.environment["versions"] == backends.versions(backend)
    assert record.metrics["parameters"] == four["numpy"].metrics["parameters"]
    assert record.environment["dataset"] == four["numpy"].environment["dataset"]
    assert record.history[0]["validation_loss"] == pytest.approx(four["numpy"].history[0]["validation_loss"], rel=1e-5)


def test_a_run_folder_is_read_without_its_framework(four):
    code = "import pathlib, sys, lockstep; runs = lockstep.find_runs([pathlib.Path(sys.argv[1])])\n"
    code += "print([run.metrics['test']['loss'] for run in runs]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, str(four["numpy"].folder.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert len(json.loads(done.stdout)) == len(four)


# --------------------------------------------------------------------------------------------- a worker that goes wrong


def test_a_worker_that_is_killed_fails_its_run_and_the_others_go_on(tmp_path):
    folders = []

    def kill(run, event):
        if event["event"] == "start":
            folders.append(Path(event["folder"]))
        if event["event"] == "epoch" and len(folders) == 1 and event["epoch"] == 1:
            os.kill(worker_of(folders[0]), signal.SIGKILL)

    dead, alive = do(study(grid={"epochs": (FOR_EVER, 1)}), tmp_path, kill)
    assert (dead.status["status"], dead.status["code"]) == ("failed", "LS-402")
    assert "SIGKILL" in dead.status["reason"]
    assert "memory" in dead.status["reason"]
    assert dead.history
    assert not (dead.folder / "metrics.json").exists()
    assert alive.is_finished


FAULTS = {  # what the framework does when it is imported → (code, words of the reason)
    "raise ImportError('libcudart.so is missing')": ("LS-403", ["ImportError", "libcudart.so is missing"]),
    "raise RuntimeError('é')": ("LS-403", ["RuntimeError: é"]),
    "raise MemoryError('no 3 GiB')": ("LS-503", ["not enough memory", "no 3 GiB"]),
    "raise SystemExit(7)": ("LS-403", ["SystemExit", "7"]),
    "raise KeyboardInterrupt": ("LS-403", ["KeyboardInterrupt"]),
    "import sys, os; print('last words', file=sys.stderr, flush=True); os._exit(3)": (
        "LS-402", ["exit code 3", "last words"],
    ),
    "import os; os._exit(0)": ("LS-402", ["exit code 0"]),
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": ("LS-402", ["SIGSEGV"]),
    "print('not JSON'); raise OSError(5, 'x')": ("LS-403", ["OSError"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_framework_that_fails_fails_its_run_with_the_reason(fault, monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(fault)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(backends, "why_missing", lambda name: None)
    (record,) = do(study("torch"), tmp_path / "runs")
    code, words = FAULTS[fault]
    assert (record.status["status"], record.status["code"]) == ("failed", code), record.status["reason"]
    for word in words:
        assert word in record.status["reason"]
    assert record.status["finished"]


def test_a_framework_that_is_not_installed_fails_its_runs_and_the_others_go_on(monkeypatch, tmp_path):
    missing = backends.why_missing
    monkeypatch.setattr(
        backends, "why_missing", lambda name: "torch not installed" if name == "torch" else missing(name)
    )
    first, second = do(study(("torch", "numpy")), tmp_path)
    assert (first.status["status"], first.status["code"]) == ("failed", "LS-401")
    assert "pip install 'lockstep-nn[torch]'" in first.status["reason"]
    assert second.is_finished


def test_data_that_vanish_between_the_check_and_the_run_fail_it_with_their_code(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "mine.npz"
    images, labels = generator.integers(0, 256, (40, 28, 28), dtype=np.uint8), np.arange(40) % 10
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    wanted = Study(MLP, str(path), "numpy", recipe=QUICK, name="lab")
    (record,) = do(wanted, tmp_path / "a")
    assert record.is_finished, record.status
    (record,) = do(wanted, tmp_path / "b", lambda _, event: event["event"] == "start" and path.unlink())
    assert record.status["status"] == "failed"
    assert record.status["code"].startswith("LS-3")
    assert str(path) in record.status["reason"]


def test_a_failed_run_is_done_again_beside_the_first(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(backends, "why_missing", lambda name: "gone")
        (failed,) = do(study(), tmp_path)
    (record,) = do(study(), tmp_path)
    assert not Record(failed.folder).is_finished
    assert record.is_finished
    assert record.folder.name == f"{failed.folder.name}-2"


def test_an_interruption_stops_the_worker_and_is_written_down(tmp_path):
    seen = []

    def interrupt(run, event):
        if event["event"] == "start":
            seen.append(Path(event["folder"]))
        if event["event"] == "epoch":
            seen.append(worker_of(seen[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(study(recipe=Recipe(epochs=FOR_EVER)), tmp_path, interrupt)
    folder, number = seen
    assert number
    assert not is_running(number)
    assert Record(folder).status["status"] == "failed"
    assert Record(folder).status["reason"] == "interrupted"


STUDY = """
name = "lab"
dataset = "digits"
backends = ["numpy"]
train_size = 300
recipe = {epochs = 100000, batch_size = 64}
networks.mlp = ["flatten", "dense 17", "relu", "dense 10"]
"""


@pytest.fixture
def endless(tmp_path):
    """(the parent's process, the worker's number, the run folder) of a study that does not end by itself."""
    (tmp_path / "lab.toml").write_text(STUDY)
    command = [sys.executable, "-m", "lockstep", "run", "lab.toml", "--runs", "runs"]
    parent = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that starts the tests in the background has them ignore Ctrl-C, and a child inherits it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip

    def begun():
        assert parent.poll() is None, parent.communicate()
        return next(
            (path.parent for path in tmp_path.glob("runs/*/*/events.jsonl") if b"epoch" in path.read_bytes()), 0
        )

    folder = wait_for(begun)
    number = wait_for(lambda: worker_of(folder.relative_to(tmp_path)))
    yield parent, number, folder
    for process in (parent.pid, number):
        if is_running(process):
            os.kill(process, signal.SIGKILL)
    parent.communicate(timeout=10)


def test_a_worker_ends_when_its_parent_is_killed(endless):
    parent, number, folder = endless
    assert is_running(number)
    parent.kill()
    wait_for(lambda: not is_running(number), seconds=5)
    assert Record(folder).status["status"] == "running", "nobody was left to write it down"
    (record,) = do(parse_study(STUDY, settings=["recipe.epochs=1"]), folder.parents[1])
    assert record.is_finished


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_with_its_exit_code(number, code, endless):
    parent, worker, folder = endless
    parent.send_signal(number)
    _, said = parent.communicate(timeout=10)
    assert parent.returncode == code
    assert "Traceback" not in said
    assert not is_running(worker)
    assert Record(folder).status["status"] == "failed"


# ------------------------------------------------------------------------------------------------- before it starts


def load(tmp_path, text, *options):
    (tmp_path / "s.toml").write_text(text)
    return load_study(tmp_path / "s.toml", *options)


def refused(function):
    with pytest.raises(LockstepError) as raised:
        function()
    return {
        (problem.code, problem.where.rpartition(": ")[2]): f"{problem.message} {problem.hint}"
        for problem in raised.value.problems
    }


def test_shapes_names_and_classes_are_checked_at_once_before_any_run(tmp_path):
    text = """
        backends = ["torhc", "numpy"]
        dataset = ["digits", "minst"]
        [recipe]
        early_stopping = {patience = 2}
        [networks]
        a = ["flatten", "dense 9"]
        b = ["conv2d 3 30", "flatten", "dense 10"]
        c = ["dense 10"]
    """
    found = refused(lambda: load(tmp_path, text))
    assert "9" in found["LS-206", "networks.a"]
    assert "30×30" in found["LS-206", "networks.b.layers[0]"]
    assert "flatten" in found["LS-206", "networks.c.layers[0]"]
    assert "validation" in found["LS-207", "recipe.early_stopping"]
    assert any('did you mean "torch"?' in text for (code, _), text in found.items() if code == "LS-209")
    assert any('"mnist"' in text for (code, _), text in found.items() if code == "LS-209")
    assert len(found) == 6


def test_a_lone_image_in_the_last_batch_is_refused_where_a_batch_is_normalised(tmp_path):
    text = 'train_size = {n}\n[recipe]\nbatch_size = 32\n[networks]\na = ["flatten", "batch_norm", "dense 10"]'
    ((code, _),) = refused(lambda: load(tmp_path, text.replace("{n}", "321")))
    assert code == "LS-207"
    load(tmp_path, text.replace("{n}", "322"))
    load(tmp_path, text.replace("{n}", "321").replace('"batch_norm", ', ""))
    load(tmp_path, text.replace("{n}", "321").replace('"flatten", "batch_norm"', '"batch_norm", "flatten"'))


def test_contradictions_that_the_grid_makes_are_refused_too(tmp_path):
    text = "[recipe]\nvalidation = 0.1\nearly_stopping = {{patience = 1}}\n[grid]\n{}\n[networks]\na = {}"
    plain, normal = '["flatten", "dense 10"]', '["flatten", "batch_norm", "dense 10"]'
    load(tmp_path, text.format("epochs = [1, 2]", plain))
    found = refused(lambda: load(tmp_path, text.format("validation = [0.0, 0.1]", plain)))
    assert {code for code, _ in found} == {"LS-207"}
    found = refused(lambda: load(tmp_path, "train_size = 321\n" + text.format("batch_size = [33, 32]", normal)))
    assert {code for code, _ in found} == {"LS-207"}


def test_backends_and_networks_can_be_chosen(tmp_path):
    text = '[networks]\na = ["flatten", "dense 10"]\nb = ["flatten", "dense 10"]'
    found = load(tmp_path, text, [], ["jax", "numpy"], ["b"])
    assert (found.backends, list(found.networks)) == (("jax", "numpy"), ["b"])
    assert ("LS-209", "networks") in refused(lambda: load(tmp_path, text, [], [], ["c"]))


def test_a_dataset_given_by_its_path_means_the_same_from_everywhere(tmp_path, monkeypatch):
    labels = np.arange(20) % 10
    images = np.zeros((20, 28, 28), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    monkeypatch.chdir(tmp_path)
    found = load(tmp_path, 'dataset = "a.npz"\n[networks]\na = ["flatten", "dense 10"]')
    assert found.dataset == (str(tmp_path / "a.npz"),)


def test_a_runs_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    ((code, _),) = refused(lambda: do(study(), tmp_path / "file"))
    assert code == "LS-501"


def test_the_spec_of_a_run_is_a_study_of_one_run(finished):
    table = tomllib.loads((finished[0].folder / "spec.toml").read_text())
    assert table["backends"] == ["numpy"]
    assert table["seeds"] == [0]
    assert "grid" not in table
    assert table["recipe"]["optimizer"]["epsilon"] == 1e-8
