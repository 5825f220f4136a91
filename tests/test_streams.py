"""Output that nobody reads any more: the work goes on, and ends as it would have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

import processes

STUDY = 'dataset = "digits"\nbackends = ["numpy"]\nrecipe = {epochs = %d}\nnetworks.net = ["flatten", "dense 10"]\n'
WITHOUT = "from lockstep import streams; streams.make_lasting = lambda: None; from lockstep import cli; cli.main()"


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
    processes.wait_for(lambda: list(tmp_path.glob("runs/lab/*/checkpoint-*/manifest.json")), 60)
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
