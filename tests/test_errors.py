"""Every error code as a user meets it: message, exit code, explanation; and what is said of faults of our own."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys

import pytest

from lockstep import cli
from lockstep.cli import crash
from lockstep.errors import CODES, LockstepError
from lockstep.explain.remedies import REMEDIES, explain
from lockstep.machine import workers
from lockstep.training import worker
from support import EARLIER
from support.situations import (
    SITUATIONS,
    machine,  # noqa: F401  # the fixture is for every test
    with_study,
)


def ended(arguments, capsys) -> tuple[int, str]:
    """(exit code, what was said on stderr) of a command."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out = capsys.readouterr()
    assert "Traceback" not in out.out + out.err
    return int(end.value.code or 0), out.err


# ------------------------------------------------------------------------------------------------- a situation per code


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
    assert document == {"format": 1, "codes": [explain(code) for code in CODES]}


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
    earlier = EARLIER / "finished"
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
    monkeypatch.setattr(crash, "log_folders", lambda: iter([tmp_path / "s.toml" / "x"]))
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
