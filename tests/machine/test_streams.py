"""Output that nobody reads any more: the work goes on, and ends as it would have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from support import process_table

STUDY = 'dataset = "digits"\nbackends = ["numpy"]\nrecipe = {epochs = %d}\nnetworks.net = ["flatten", "dense 10"]\n'
WITHOUT = (
    "from lockstep.machine import streams; streams.make_lasting = lambda: None; from lockstep import cli; cli.main()"
)


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def started(request, tmp_path):
    """Starts `lockstep *words` whose output nobody reads after its first byte."""
    begun = []

    def start(*words, epochs=3, code="from lockstep import cli; cli.main()"):
        (tmp_path / "lab.toml").write_text(STUDY % epochs)
        reader, writer = os.pipe()
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *words],
                cwd=tmp_path,
                stdout=writer,
                stderr=writer,
                env={**os.environ, "PYTHONUNBUFFERED": request.param},
            )
        )
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def test_a_run_goes_on_when_nobody_listens_any_more(started, tmp_path):
    assert started("run", "lab.toml").wait(timeout=120) == 0
    (status,) = tmp_path.glob("runs/lab/*/status.json")
    assert json.loads(status.read_text())["status"] == "finished"
    assert (tmp_path / "runs" / "lab" / "report.html").exists()


def test_without_lasting_output_it_does_not(started, tmp_path):
    """The test above can fail."""
    assert started("run", "lab.toml", epochs=3000, code=WITHOUT).wait(timeout=120) != 0
    (status,) = tmp_path.glob("runs/lab/*/status.json")
    assert json.loads(status.read_text())["status"] != "finished"


def test_a_closed_terminal_ends_a_run_with_its_own_code(started, tmp_path):
    process = started("run", "lab.toml", epochs=9000)
    process_table.wait_for(lambda: list(tmp_path.glob("runs/lab/*/checkpoint-*/manifest.json")), 60)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 128 + signal.SIGHUP
    (status,) = tmp_path.glob("runs/lab/*/status.json")
    assert json.loads(status.read_text())["reason"] == "interrupted"


def test_a_list_that_is_cut_short_is_no_error():
    command = f"{sys.executable} -m lockstep explain errors | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")
def test_a_full_disk_below_the_output_is_told():
    command = f"{sys.executable} -m lockstep explain errors > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 5
    assert "LS-501" in done.stderr


def test_what_an_encoding_lacks_is_written_as_an_escape(tmp_path):
    (tmp_path / "lab.toml").write_text("x = 1\n")
    words = [sys.executable, "-m", "lockstep", "--language", "ru", "show", "lab.toml"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2
    assert "\\u" in done.stderr


CLOSED = {"errors": "2>&-", "all": "<&- >&- 2>&-"}


@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED)
def test_streams_that_are_closed_from_the_start_end_nothing(closed, tmp_path):
    (tmp_path / "lab.toml").write_text(STUDY % 1)
    command = f"{sys.executable} -m lockstep run lab.toml {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (status,) = tmp_path.glob("runs/lab/*/status.json")
    assert json.loads(status.read_text())["status"] == "finished"
    assert (tmp_path / "runs" / "lab" / "report.html").exists()


def test_an_error_has_its_code_where_nobody_hears_it(tmp_path):
    command = f"{sys.executable} -m lockstep show none.toml >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=60).returncode == 2


def test_without_a_stand_in_they_do(tmp_path):
    """The tests above can fail."""
    code = "from lockstep.machine import streams; streams.stand_in = lambda: None; from lockstep import cli; cli.main()"
    command = f"{sys.executable} -c '{code}' show none.toml 2>&-"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=60).returncode != 2


def test_a_process_without_streams_runs_and_reports(tmp_path):
    """As under pythonw: sys.stdout is None, and a function is called."""
    (tmp_path / "lab.toml").write_text(STUDY % 1)
    code = (
        "import sys; sys.stdin = sys.stdout = sys.stderr = None\n"
        "import lockstep\n"
        "records = lockstep.run_study(lockstep.load_study('lab.toml'), 'runs')\n"
        "lockstep.write_report(records, 'report.html')\n"
    )
    command = f'{sys.executable} -c "{code}" >&- 2>&- <&-'
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=120).returncode == 0
    assert (tmp_path / "report.html").exists()
