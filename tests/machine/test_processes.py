"""Workers end with the process that started them, and not with its thread; several work side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lockstep.machine import cores, processes
from support.process_table import is_running, wait_for

# What every worker does first, and then waits for a minute.
CHILD = """
import time
from lockstep.machine import processes
processes.end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
COMMAND = [sys.executable, "-c", CHILD]
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with a thread")


def in_a_thread_that_ends(start) -> subprocess.Popen:
    """A worker that is ready, and whose starting thread is gone."""
    found = []
    thread = threading.Thread(target=lambda: found.append(start()))
    thread.start()
    thread.join()
    assert found[0].stdout.readline() == b"ready\n"
    time.sleep(0.2)
    return found[0]


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def test_a_worker_outlives_the_thread_that_asked_for_it():
    worker = in_a_thread_that_ends(lambda: processes.start(COMMAND, 1, **PIPES))
    assert worker.poll() is None
    end(worker)


@linux
def test_started_by_that_thread_itself_it_would_not():
    """The test above can fail."""

    def start():
        process = subprocess.Popen(COMMAND, **PIPES)
        assert process.stdout.readline() == b"ready\n"
        return process

    found = []
    thread = threading.Thread(target=lambda: found.append(start()))
    thread.start()
    thread.join()
    assert found[0].wait(timeout=20) == -signal.SIGKILL
    end(found[0])


PARENT = """
import subprocess, sys, threading, time
from lockstep.machine import processes
def work():
    child = processes.start([sys.executable, "-c", sys.argv[1]], 1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
thread = threading.Thread(target=work)
thread.start()
thread.join()
time.sleep(60)
"""


@pytest.mark.parametrize("stopped", [False, pytest.param(True, marks=linux)], ids=["running", "stopped"])
def test_it_does_not_outlive_its_process(stopped):
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        number = int(parent.stdout.readline())
        assert is_running(number)
        if stopped:
            os.kill(number, signal.SIGSTOP)
        parent.kill()
    wait_for(lambda: not is_running(number), 20)


def test_what_cannot_be_started_raises_where_it_is_asked_for():
    with pytest.raises(OSError, match="nowhere"):
        processes.start(["/nowhere/at/all"], 1)


def test_who_is_interrupted_while_it_starts_leaves_nothing_behind(monkeypatch):
    started = []

    class Slow(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)
            os.kill(os.getpid(), signal.SIGINT)  # which the main thread gets
            time.sleep(0.1)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    with pytest.raises(KeyboardInterrupt):
        processes.start([sys.executable, "-c", "import time; time.sleep(60)"], 1)
    assert started[0].poll() is not None


def test_one_thread_workers_do_not_share_a_processor():
    mine = cores.usable_cores()
    if len(mine) < 2 or not hasattr(os, "sched_getaffinity"):
        pytest.skip("one processor, or none that can be chosen")
    begun = [processes.start(["sleep", "60"], 1) for _ in range(2)]
    on = [os.sched_getaffinity(process.pid) for process in begun]
    for process in begun:
        end(process)
    assert len(set.union(*on)) == 2
    assert cores.usable_cores() == mine


# ---------------------------------------------------------------------------------------------------- several at a time


def test_so_many_at_a_time_and_each_is_heard(tmp_path):
    guard, now, most, told = threading.Lock(), [0], [0], []

    def call(number):
        def made(tell):
            with guard:
                now[0] += 1
                most[0] = max(most[0], now[0])
            tell("begun", number)
            time.sleep(0.05)
            with guard:
                now[0] -= 1
            return number * 10

        return made

    heard_in = set()

    def tell(*what):
        told.append(what)
        heard_in.add(threading.current_thread())

    found = dict(processes.side_by_side([call(number) for number in range(5)], 2, tell, tmp_path))
    assert found == {number: number * 10 for number in range(5)}
    assert most == [2]
    assert sorted(told) == [("begun", number) for number in range(5)]
    assert heard_in == {threading.current_thread()}, "whoever draws is not drawn for by two at once"


def test_all_that_work_in_one_folder_are_ended(tmp_path):
    with processes.start(["sleep", "60"], 1) as one, processes.at_work(tmp_path / "a", one):
        with processes.start(["sleep", "60"], 1) as other, processes.at_work(tmp_path / "a", other):
            processes.kill_below(tmp_path)
            assert other.wait(30)
        assert one.wait(30)


@pytest.mark.parametrize("who", ["a call", "the listener"])
def test_where_one_fails_the_others_are_ended_and_no_more_are_begun(who, tmp_path):
    begun = []

    def sleeps(tell):
        with processes.start(["sleep", "60"], 1) as process, processes.at_work(tmp_path / "a", process):
            begun.append(process)
            tell("begun")
            process.wait()

    def fails(tell):
        wait_for(lambda: begun)
        if who == "a call":
            raise ZeroDivisionError
        time.sleep(60 if not begun else 0)

    def tell(*what):
        if who == "the listener":
            raise ZeroDivisionError

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        dict(processes.side_by_side([sleeps, fails, sleeps, sleeps], 2, tell, tmp_path))
    assert time.monotonic() - began < 30
    assert all(process.poll() is not None for process in begun)
    assert len(begun) == 1 if who == "a call" else len(begun) < 3
