"""Ctrl-C, SIGTERM, SIGHUP: what can be saved is, everything ends within five seconds, and nothing outlives anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from lockstep import store
from lockstep.files import locks
from lockstep.training import checkpoints
from support import forks
from support.process_table import is_running, wait_for

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(scope="module")
def stable():
    with forks.stable("numpy") as found:
        yield found


@pytest.fixture
def begun(stable, tmp_path):
    """Starts lab.toml and waits until an epoch is told; ends what is left of it."""
    found = []

    def begin(epoch=1, **orders):
        forks.write_study(tmp_path, "numpy", "mlp")
        found.append(stable.start(tmp_path, *forks.RUN, **orders))
        wait_for(lambda: f"epoch {epoch}/" in found[0].said, 120)
        return found[0], found[0].workers()[0]

    yield begin
    for process in found:
        process.kill("all")


def send(started, number) -> None:
    """Send a signal and wait until everything has ended."""
    os.kill(started.number, number)
    started.wait()


def five_seconds() -> float:
    """The time that is promised, on a machine that has time for us."""
    return 5.0 if os.getloadavg()[0] < 2 * (os.cpu_count() or 1) else 60.0


def epochs(folder) -> int:
    place = forks.run_folder(folder)
    return checkpoints.newest(place, (place / "spec.toml").read_text()).progress.epoch


@pytest.mark.parametrize("number", CODES)
def test_the_epoch_under_way_is_saved_and_all_ends(number, begun, tmp_path):
    started, worker = begun(plant="a second an epoch")
    time.sleep(0.3)
    send(started, number)
    assert started.code == CODES[number]
    assert not is_running(worker)
    place = forks.run_folder(tmp_path)
    status = store.read_json(place / "status.json")
    assert (status["status"], status["code"], status["reason"]) == ("failed", "LS-402", "interrupted")
    told = [row["epoch"] for row in store.read_events(place / "events.jsonl") if row["event"] == "epoch"]
    assert epochs(tmp_path) == max(told) >= 2, "it was over in time"
    assert not locks.is_held(place)
    assert forks.strays(tmp_path) == []
    assert started.said.splitlines()[-3:] == [
        "interrupted; every epoch that was finished is saved",
        "to go on: the same command again; finished runs are not repeated",
        "to finish only the runs that were begun: lockstep resume runs/lab",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_epoch_that_cannot_be_over_in_time_is_not_waited_for(number, stable, begun, tmp_path):
    started, worker = begun(2, plant="a third epoch without end")
    begin = time.monotonic()
    send(started, number)
    assert time.monotonic() - begin < five_seconds()
    assert started.code == CODES[number]
    assert not is_running(worker)
    assert epochs(tmp_path) == 2
    forks.write_study(tmp_path / "whole", "numpy", "mlp")
    assert stable.run(tmp_path / "whole", *forks.RUN).code == 0
    assert forks.go_on(stable, tmp_path).code == 0
    assert forks.fingerprint(tmp_path) == forks.fingerprint(tmp_path / "whole")


def test_who_interrupts_twice_does_not_wait(begun, tmp_path):
    started, worker = begun(2, plant="a third epoch without end, and patience")
    wait_for(lambda: (tmp_path / "under-way").read_text() == "2", 120)
    os.kill(started.number, signal.SIGINT)
    time.sleep(0.5)
    assert is_running(worker), "it is given time"
    begin = time.monotonic()
    send(started, signal.SIGINT)
    assert time.monotonic() - begin < 60, "and two minutes were promised"
    assert started.code == 130
    assert not is_running(worker)
    assert epochs(tmp_path) == 2


def test_a_worker_that_is_asked_to_end_saves_its_epoch_and_the_study_goes_on(begun, tmp_path):
    started, worker = begun(plant="a second an epoch")
    os.kill(worker, signal.SIGTERM)
    assert started.wait() == 4
    assert "failed" in started.said
    assert f"epoch {epochs(tmp_path)}/" in started.said, "what was told is saved, and the last that was saved is told"
    assert f"epoch {epochs(tmp_path) + 1}/" not in started.said
    assert store.read_json(forks.run_folder(tmp_path) / "status.json")["reason"] == "interrupted"


def test_under_nohup_a_closed_terminal_ends_nothing(begun, tmp_path):
    started, _ = begun(plant="a second an epoch", nohup=True)
    os.killpg(started.number, signal.SIGHUP)
    assert started.wait() == 0, started.said
    assert store.read_json(forks.run_folder(tmp_path) / "status.json")["status"] == "finished"


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_worker_does_not_outlive_its_command(stopped, begun):
    started, worker = begun(2, plant="a third epoch without end")
    if stopped:
        os.kill(worker, signal.SIGSTOP)
    started.kill("parent")
    assert started.wait() == -9
    wait_for(lambda: not is_running(worker), five_seconds())


def test_who_interrupts_before_it_has_begun_hears_no_traceback(tmp_path):
    """Whenever it is, from the first line of ours on."""
    code = (
        "import signal, sys, builtins\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # who is started in the background ignores it
        "wanted, real = sys.argv.pop(1), builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == wanted:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "from lockstep.__main__ import main\n"
        "main()\n"
    )
    for name in ("typer", "rich.console", "numpy"):
        command = [sys.executable, "-c", code, name, "run", "lab.toml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "Traceback" in done.stderr) == (130, False), (name, done.stderr)
