"""Every error code as a user meets it: message, exit code, explanation; and what is said of faults of our own."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lockstep import backends, cli, store
from lockstep.cli import crash
from lockstep.data import DATASETS, images
from lockstep.errors import CODES, LockstepError
from lockstep.explain.remedies import REMEDIES, explain
from lockstep.files import locks
from lockstep.machine import workers
from lockstep.training import checkpoints, worker
from test_bad_input import IMAGES, idx, idx_folder, npz, one_empty_class, study
from test_bad_input import a_broken_png as broken_png
from test_bad_input import images as pictures

RUN = ["run", "s.toml"]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """An empty folder to be in, on a machine without datasets."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("LOCKSTEP_DATA", raising=False)
    monkeypatch.setattr("lockstep.data.places.SYSTEM", tmp_path / "system")
    monkeypatch.setattr("lockstep.cli.interruption.end_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)


def ended(arguments, capsys) -> tuple[int, str]:
    """(exit code, what was said on stderr) of a command."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out = capsys.readouterr()
    assert "Traceback" not in out.out + out.err
    return int(end.value.code or 0), out.err


# ------------------------------------------------------------------------------------------------- a situation per code


def with_study(*changes, prepare=IMAGES, dataset="data", then=RUN):
    """A study on a folder of pictures, with (right, wrong) changes to its text."""

    def situation(folder, monkeypatch):
        prepare(folder)
        study(folder, dataset, **{str(n): change for n, change in enumerate(changes)})
        return then

    return situation


def typed(*arguments):
    return lambda folder, monkeypatch: list(arguments)


def dead_mirrors(folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    entry = dataclasses.replace(DATASETS["mnist"], mirrors=("http://127.0.0.1:9/", "http://127.0.0.1:9/other/"))
    monkeypatch.setitem(DATASETS, "mnist", entry)
    return ["data", "fetch", "mnist"]


def a_changed_import(folder, monkeypatch):
    from lockstep import data

    npz(folder)
    stored = data.import_folder(folder / "data.npz", "pets")
    with np.load(stored, allow_pickle=False) as archive:
        arrays = dict(archive)
    arrays["test_labels"][0] ^= 1
    np.savez(stored, **arrays)
    return ["data", "verify", "pets"]


def missing_framework(folder, monkeypatch):
    monkeypatch.setattr(backends, "why_missing", lambda name: f"{name} is not installed")
    return with_study(('["numpy"]', '["jax"]'))(folder, monkeypatch)


def in_the_worker(code):
    """A study whose worker process runs this code before it begins."""

    def situation(folder, monkeypatch):
        (folder / "sitecustomize.py").write_text(
            f"import sys\nif 'lockstep.training.worker' in sys.orig_argv:\n    {code}\n", encoding="utf-8"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return with_study()(folder, monkeypatch)

    return situation


def full_disk(folder, monkeypatch):
    def fsync(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    return with_study()(folder, monkeypatch)


def too_little_memory(folder, monkeypatch):
    def read(*_):
        raise MemoryError

    pictures(folder)
    monkeypatch.setattr(images, "read", read)
    return ["data", "import", "data", "pets"]


def begun(folder):
    """A run folder whose run was interrupted."""
    from lockstep.spec.toml import resolved_toml
    from lockstep.study import load_study, one_run_study

    pictures(folder)
    study(folder)
    loaded = load_study(folder / "s.toml")
    place = folder / "runs" / "s" / "a"
    store.make_folder(place)
    (place / "spec.toml").write_text(resolved_toml(one_run_study(loaded, loaded.runs()[0])))
    store.write_status(place, "running")
    return place


def a_run_at_work(folder, monkeypatch):
    place = begun(folder)
    lock = locks.take(place)
    monkeypatch.setattr(locks.Lock, "kept_open_by_the_test", lock, raising=False)
    return ["resume", "runs"]


def another_spec(folder, monkeypatch):
    place = begun(folder)
    text = (place / "spec.toml").read_text()
    environment = {key: "" for key in checkpoints.DECIDES} | {"threads": {}, "dataset": {"hashes": {}}}
    progress = checkpoints.Progress([{"epoch": 1}], np.zeros((3, 1)))
    checkpoints.save(place, text, environment, progress, {}, {})
    (place / "spec.toml").write_text(text.replace("epochs = 1", "epochs = 4"))
    return ["resume", "runs"]


TEST_LABELS = np.arange(4, dtype=np.uint8) % 2
SITUATIONS = {
    "LS-200": (typed("run"), ["Missing argument", "lockstep run --help"]),
    "LS-201": (typed("show", "none.toml"), ["none.toml", "No such file", "lab-lenet", "lockstep init NAME"]),
    "LS-202": (with_study(("[recipe]", "[recipe")), ["s.toml", "line 4", "toml.io"]),
    "LS-203": (with_study(("epochs", "epocs")), ["s.toml:5", 'unknown key "epocs"', 'did you mean "epochs"?']),
    "LS-204": (with_study(("= 1", '= "1"')), ["s.toml:5", "'1' is not a whole number"]),
    "LS-205": (with_study(("= 1", "= 0")), ["s.toml:5", "0 is out of range: it must be at least 1"]),
    "LS-206": (with_study(('"dense 2"', '"dense 5"')), ["(5,)", "has 2 classes", 'end with "dense 2"']),
    "LS-207": (
        with_study(("epochs = 1", 'epochs = 1\nearly_stopping = {monitor = "validation_loss"}')),
        ["no images are held out", "recipe.validation = 0.1"],
    ),
    "LS-208": (with_study(("[networks]\na", "#")), ['"networks" is required', "add it"]),
    "LS-209": (with_study(('["numpy"]', '["numpi"]')), ["s.toml:3", 'did you mean "numpy"?']),
    "LS-210": (typed("prove", "one", "one"), ["compared with itself", "name two folders"]),
    "LS-301": (typed("data", "fetch", "mnist", "--offline"), ["not on this machine", "lockstep data fetch mnist"]),
    "LS-302": (dead_mirrors, ["tried:", "http://127.0.0.1:9/other/", "refused", "lockstep data import FOLDER NAME"]),
    "LS-303": (a_changed_import, ["1 of 4 files", "fetch it again"]),
    "LS-304": (
        with_study(prepare=lambda folder: idx_folder(folder, test_labels=idx(TEST_LABELS)[:-1])),
        ["t10k-labels-idx1-ubyte", "declares 4 bytes", "3 follow", "get the file again"],
    ),
    "LS-305": (
        with_study(prepare=lambda folder: idx_folder(folder, test_labels=gzip.compress(idx(TEST_LABELS))[:-9])),
        ["t10k-labels-idx1-ubyte.gz", "cut off", "get the file again"],
    ),
    "LS-306": (
        with_study(prepare=lambda folder: npz(folder, train_images=np.zeros((6, 7, 9))), dataset="data.npz"),
        ["data.npz", "not whole numbers", "astype('uint8')"],
    ),
    "LS-307": (with_study(prepare=one_empty_class), ['"eel" has no picture', "at least two"]),
    "LS-308": (with_study(prepare=broken_png), ["2.png", "cannot be read", "8-bit grey or RGB PNG"]),
    "LS-309": (
        with_study(
            prepare=lambda folder: npz(folder, class_names=np.array(["a", "b"]), train_labels=np.arange(6) % 3),
            dataset="data.npz",
        ),
        ["2 train labels lie outside 0 … 1: number 2 is 2", "number the classes from 0"],
    ),
    "LS-310": (typed("data", "import", ".", "mnist"), ["knows already", "choose another name"]),
    "LS-311": (
        with_study(
            prepare=lambda folder: (folder / "data.csv").write_text("0" + ",7" * 16 + "\n1" + ",7" * 15 + "\n"),
            dataset="data.csv",
        ),
        ["data.csv", "line 2 has 16 columns, the first one 17", "one row of the same length"],
    ),
    "LS-401": (missing_framework, ["jax is not installed", "pip install 'lockstep-nn[jax]'"]),
    "LS-402": (in_the_worker("import os; os.kill(os.getpid(), 9)"), ["SIGKILL", "memory runs out", "worker.log"]),
    "LS-403": (
        in_the_worker("import lockstep.training.metrics as m; m.evaluate = lambda *_: 1 / 0"),
        ["ZeroDivisionError: division by zero", "worker.log"],
    ),
    "LS-404": (with_study(('backends = ["numpy"]', 'backends = ["numpy"]\ndevice = "cuda"')), ["CPU only", "→"]),
    "LS-501": (with_study(then=[*RUN, "--runs", "s.toml"]), ["s.toml", "cannot write", "--runs FOLDER"]),
    "LS-502": (full_disk, ["the disk is full", "free some space"]),
    "LS-503": (too_little_memory, ["does not fit into memory", "fewer or smaller images"]),
    "LS-504": (a_run_at_work, ["runs/s/a", "works on this run", "wait for it, or end it"]),
    "LS-505": (typed("report", "."), ["no run folder here", "name a folder below runs/"]),
    "LS-506": (another_spec, ["recipe.epochs: 1 → 4", "put the file back"]),
}  # fmt: skip


def test_every_code_has_a_situation_and_an_explanation():
    assert list(SITUATIONS) == list(CODES) == list(REMEDIES)


@pytest.mark.parametrize("code", SITUATIONS)
def test_an_error_says_what_happened_and_what_to_do(code, tmp_path, monkeypatch, capsys):
    situation, words = SITUATIONS[code]
    found, said = ended(situation(tmp_path, monkeypatch), capsys)
    assert found == int(code[3]), said
    assert code in said, said
    assert {name for name in CODES if name in said} == {code}, said
    for word in words:
        assert word in said, said
    assert "→" in said, "what to do about it"
    example = REMEDIES[code].example.split()[1:]
    assert any(" ".join(piece) in said for piece in zip(example, example[1:], example[2:], strict=False)), (
        f"the example of lockstep explain {code} is no longer what is said:\n{said}"
    )
    assert max(map(len, said.splitlines())) < 1000


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_explained_with_cause_example_and_remedy(code, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["explain", code.lower()])
    assert not end.value.code
    said = " ".join(capsys.readouterr().out.split())
    row = REMEDIES[code]
    for part in (code, CODES[code], f"exit code {code[3]}", row.cause, row.example, row.remedy):
        assert " ".join(part.split()) in said, said
    assert row.example.startswith(code)
    assert row.cause.endswith(".")
    assert row.remedy.endswith(".")


def test_explaining_as_json_is_the_same_table(capsys):
    with pytest.raises(SystemExit):
        cli.main(["explain", "errors", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document == {"codes": [explain(code) for code in CODES]}


def test_several_errors_of_one_kind_are_all_said(tmp_path, monkeypatch, capsys):
    arguments = with_study(("= 1", "= 0"), ("epochs", "batch_size = -1\nepochs"))(tmp_path, monkeypatch)
    found, said = ended(arguments, capsys)
    assert (found, said.count("LS-205")) == (2, 2)


# ---------------------------------------------------------------------------------------------------- faults of our own


def fault(monkeypatch):
    monkeypatch.setattr("lockstep.study.load_study", lambda *_, **__: 1 / 0)
    return ["show", "s.toml", "--set", "recipe.epochs=1"]


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["report", "runs", "--out", "/proc/none/r.html"], "--out FILE"),
        (["run", "s.toml", "--runs", "s.toml"], "--runs"),
    ],
)
def test_a_command_proposes_an_option_that_it_has(command, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    earlier = Path(__file__).parent / "earlier" / "finished"
    shutil.copytree(earlier, tmp_path / "runs")
    (tmp_path / "s.toml").write_text('dataset = "digits"\nbackends = "numpy"\nnetworks.a = ["flatten", "dense 10"]\n')
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 5
    said = capsys.readouterr().err
    assert "LS-501" in said
    assert f"choose a folder that you may write to with {option}" in said


def test_a_fault_of_ours_leaves_a_log_with_the_traceback(tmp_path, monkeypatch, capsys):
    found, said = ended(fault(monkeypatch), capsys)
    assert found == crash.EXIT_CODE
    assert "This is our fault, not yours: ZeroDivisionError: division by zero" in said
    assert len(said.splitlines()) == 5
    (log,) = (tmp_path / "home").rglob("fault-*.log")
    assert f"The traceback is in {log}" in said
    text = log.read_text(encoding="utf-8")
    assert text.startswith("lockstep ")
    assert "command: lockstep show s.toml --set recipe.epochs=1" in text
    assert "Traceback" in text
    assert text.rstrip().endswith("ZeroDivisionError: division by zero")


def test_the_log_goes_elsewhere_where_its_place_cannot_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "home").write_text("a file where the folder should be")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    _, said = ended(fault(monkeypatch), capsys)
    (log,) = (tmp_path / "temporary").iterdir()
    assert str(log) in said


def test_without_any_place_for_a_log_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(crash, "_folders", lambda: iter([tmp_path / "s.toml" / "x"]))
    (tmp_path / "s.toml").write_text("")
    found, said = ended(fault(monkeypatch), capsys)
    assert found == crash.EXIT_CODE
    assert "No folder for a log could be written." in said
    assert "--debug" in said


def test_a_fault_of_ours_in_a_folder_that_is_gone_is_logged_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found, _ = ended(fault(monkeypatch), capsys)
    assert found == crash.EXIT_CODE
    (log,) = (tmp_path / "home").rglob("fault-*.log")
    assert "folder: ([Errno 2]" in log.read_text(encoding="utf-8")


def test_a_checkout_that_is_not_installed_logs_its_fault_too(tmp_path, monkeypatch, capsys):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    found, _ = ended(fault(monkeypatch), capsys)
    assert found == crash.EXIT_CODE
    (log,) = (tmp_path / "home").rglob("fault-*.log")
    assert log.read_text(encoding="utf-8").startswith("lockstep unknown (not installed), Python ")


def test_a_fault_of_ours_with_json_is_one_document(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.main([*fault(monkeypatch), "--json"])
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["code"] is None
    assert "ZeroDivisionError" in error["message"]


def test_with_debug_the_traceback_is_on_the_screen(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.main([*fault(monkeypatch), "--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_a_message_of_many_lines_is_one_line(monkeypatch, capsys):
    def load(*_, **__):
        raise RuntimeError("one\ntwo\n" + "x" * 5000)

    monkeypatch.setattr("lockstep.study.load_study", load)
    _, said = ended(["show", "s.toml"], capsys)
    assert "RuntimeError: one two xxx" in said
    assert max(map(len, said.splitlines())) < 400


def test_codes_have_a_class_of_their_own():
    """An exit code is the first digit of its code, and there is no other."""
    assert {LockstepError(code, "").exit_code for code in CODES} == {2, 3, 4, 5}


def test_this_file_runs_what_a_user_runs():
    """One of them in a process of its own: what is said here is what is said there."""
    done = subprocess.run([sys.executable, "-m", "lockstep", "show", "none.toml"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("LS-201 none.toml: cannot read: No such file or directory\n    → ")


MAPPED = "libtorch_cpu.so: failed to map segment from shared object"


def caused_by(inner: Exception) -> Exception:
    """As NumPy says of a library that it cannot load: in an error of its own, whose words are others."""
    try:
        raise ImportError("the C-extensions failed to load") from inner
    except ImportError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), ImportError(MAPPED), OSError(MAPPED), OSError(12, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("std::bad_alloc"), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."),
        caused_by(ImportError(MAPPED)),
    ],
    ids=str,
)  # fmt: skip
def test_want_of_memory_is_that_by_whatever_name(error):
    assert worker.failure(error)["code"] == "LS-503"


@pytest.mark.parametrize(
    "error",
    [ImportError("no module named x"), ValueError("the text 'out of memory'"), OSError(2, "No such file")],
    ids=str,
)
def test_what_is_no_want_of_memory_is_not_called_that(error):
    assert worker.failure(error)["code"] == "LS-403"


def test_a_worker_that_could_not_be_loaded_for_want_of_memory_says_so(tmp_path):
    (tmp_path / "worker.log").write_text(f"Traceback (most recent call last):\n  File\nImportError: {MAPPED}\n")
    error = workers.death(1, tmp_path, tmp_path / "worker.log", is_for_memory=False)
    assert (error.code, MAPPED in str(error)) == ("LS-503", True)
    (tmp_path / "worker.log").write_text("ImportError: no module named x\n")
    assert workers.death(1, tmp_path, tmp_path / "worker.log", is_for_memory=False).code == "LS-402"
