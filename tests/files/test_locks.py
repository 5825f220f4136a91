"""Locks: one process at a time, gone with their holder however it ended, and whoever is refused hears by whom."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import filelock
import pytest

from lockstep import LockstepError
from lockstep.files import disk, locks

HOLD = """
import sys
from pathlib import Path
from lockstep.files import locks
with locks.take(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder's lock until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refused(folder) -> LockstepError:
    with pytest.raises(LockstepError) as raised:
        locks.take(folder)
    assert raised.value.code == "LS-504"
    assert raised.value.exit_code == 5
    return raised.value


def note(folder, **about) -> None:
    """A lock file that nobody holds, as a process leaves it that was killed or lost its power."""
    (folder / locks.NAME).write_text(" " + json.dumps({**locks.this_process(), **about}))


def test_a_lock_is_held_until_it_is_given_back_and_leaves_nothing(tmp_path):
    assert not locks.is_held(tmp_path)
    with locks.take(tmp_path) as lock:
        assert locks.is_held(tmp_path)
        assert lock.left_by is None
        assert locks.holder(tmp_path / locks.NAME)["pid"] == os.getpid()
        refused(tmp_path)
    assert not locks.is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []
    locks.take(tmp_path).__exit__()


def test_whoever_is_refused_hears_the_holders_number_and_what_to_do(tmp_path, holder):
    started = time.monotonic()
    error = refused(tmp_path)
    assert time.monotonic() - started < 5, "a holder that lives is not waited for"
    assert f"process {holder.pid} (since 20" in str(error)
    assert "works on this run" in str(error)
    assert str(tmp_path) in str(error)
    assert "wait for it, or end it" in str(error)


def test_looking_whether_a_lock_is_held_changes_nothing(tmp_path, holder):
    before = (tmp_path / locks.NAME).read_bytes()
    assert locks.is_held(tmp_path)
    assert (tmp_path / locks.NAME).read_bytes() == before
    refused(tmp_path)


def test_what_a_dead_holder_left_is_cleared_and_what_a_living_one_holds_is_not(tmp_path, holder):
    before = (tmp_path / locks.NAME).read_bytes()
    locks.clear(tmp_path)
    assert (tmp_path / locks.NAME).read_bytes() == before
    refused(tmp_path)
    holder.kill()
    holder.wait()
    assert (tmp_path / locks.NAME).exists()
    locks.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
    locks.clear(tmp_path)  # where there is none


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_is_gone_with_its_holder(number, tmp_path, holder):
    holder.send_signal(number)
    holder.wait()
    assert not locks.is_held(tmp_path)
    with locks.take(tmp_path) as lock:
        assert lock.left_by["pid"] == holder.pid
        assert locks.holder(tmp_path / locks.NAME)["pid"] == os.getpid()


@pytest.mark.parametrize(
    "about", [{"boot": "another"}, {"pid": 1, "boot": "another"}, {"pid": 2**22 + 7}, {"host": "elsewhere"}], ids=str
)
def test_a_lock_file_that_is_left_behind_holds_nobody_up(about, tmp_path):
    """After a reboot its number may be another process's by now, that of init even."""
    note(tmp_path, **about)
    started = time.monotonic()
    with locks.take(tmp_path) as lock:
        assert {**locks.this_process(), **about, "since": 0} == {**lock.left_by, "since": 0}
        assert locks.holder(tmp_path / locks.NAME)["pid"] == os.getpid()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "1"}', b"\xff" * 100])
def test_a_lock_file_with_any_content_can_be_taken(content, tmp_path):
    (tmp_path / locks.NAME).write_bytes(content)
    with locks.take(tmp_path) as lock:
        assert lock.left_by is None
        assert json.loads((tmp_path / locks.NAME).read_text())["pid"] == os.getpid()


def test_a_child_that_inherits_a_lock_holds_it_too(tmp_path):
    """A worker whose parent was killed: nobody begins before it is gone."""
    lock = locks.take(tmp_path)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[lock.number]) as child:
        os.close(lock.number)  # as when the parent is killed: nothing is given back
        assert locks.is_held(tmp_path)
        child.kill()
    with locks.take(tmp_path):
        pass


def test_a_killed_holders_child_is_waited_for_but_not_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.3)
    lock = locks.take(tmp_path)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[lock.number]) as child:
        os.close(lock.number)
        note(tmp_path, pid=2**22 + 7)  # the parent, which is gone
        assert f"process {2**22 + 7}" in str(refused(tmp_path))
        child.kill()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LockstepError, match=r"LS-501 .*none.*No such file"):
        locks.take(tmp_path / "none")
    assert not locks.is_held(tmp_path / "none")


# ---------------------------------------------------------------------------------------- file systems without locks


@pytest.fixture
def without_locks(monkeypatch):
    def fail(number, blocking):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(filelock, "lock_descriptor", fail)


def test_without_locks_a_living_holder_is_known_by_its_number(tmp_path, without_locks):
    with locks.take(tmp_path):
        assert locks.is_held(tmp_path)
        assert f"process {os.getpid()}" in str(refused(tmp_path))
    assert not locks.is_held(tmp_path)


@pytest.mark.parametrize("about", [{"boot": "another"}, {"pid": 2**22 + 7}], ids=str)
def test_without_locks_a_dead_holder_is_too(about, tmp_path, without_locks):
    note(tmp_path, **about)
    assert not locks.is_held(tmp_path)
    with locks.take(tmp_path):
        assert locks.holder(tmp_path / locks.NAME)["pid"] == os.getpid()


def test_without_locks_a_holder_elsewhere_can_only_be_removed_by_hand(tmp_path, without_locks):
    note(tmp_path, host="elsewhere", pid=77)
    error = refused(tmp_path)
    assert "process 77 on elsewhere" in str(error)
    assert 'if it is no longer there, remove the file "lock"' in str(error)


def test_without_locks_nobody_waits_for_a_folder(tmp_path, without_locks):
    with locks.briefly(tmp_path), locks.briefly(tmp_path), locks.waiting(tmp_path, 0.0, "a hint"):
        pass


# ----------------------------------------------------------------------------------------------------------- Windows


def test_who_holds_a_lock_stands_behind_the_byte_that_windows_lets_nobody_read(tmp_path):
    with locks.take(tmp_path):
        path = tmp_path / locks.NAME
        assert path.read_bytes()[:2] == b" {"
        path.write_bytes(b"\xff" + path.read_bytes()[1:])
        assert locks.holder(path)["pid"] == os.getpid()


@pytest.fixture
def windows(monkeypatch):
    """As far as it can be played elsewhere: a file that is open cannot be removed, a folder cannot be opened."""
    opened, really = set(), (os.open, os.close, os.unlink)

    def open_(path, *rest):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        number = really[0](path, *rest)
        opened.add((number, os.fspath(path)))
        return number

    def close(number):
        really[1](number)
        opened.difference_update([one for one in opened if one[0] == number])

    def unlink(path, **options):
        if os.fspath(path) in {name for _, name in opened}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        really[2](path, **options)

    monkeypatch.setattr(locks, "ON_WINDOWS", True)
    for name, function in {"open": open_, "close": close, "unlink": unlink}.items():
        monkeypatch.setattr(os, name, function)


def test_on_windows_a_lock_is_one_too(tmp_path, windows):
    with locks.take(tmp_path) as lock:
        assert locks.is_held(tmp_path)
        assert locks.inherited([lock]) == {}
        assert f"process {os.getpid()}" in str(refused(tmp_path))
    assert not locks.is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with locks.briefly(tmp_path):
        pass
    locks.take(tmp_path).__exit__()


def test_as_elsewhere_a_lock_on_windows_would_leave_its_file(tmp_path, windows, monkeypatch):
    """The check above can fail."""
    monkeypatch.setattr(locks, "ON_WINDOWS", False)
    locks.take(tmp_path).__exit__()
    assert [path.name for path in tmp_path.iterdir()] == [locks.NAME]


def test_whether_a_process_is_alive(monkeypatch):
    assert disk.is_alive(os.getpid())
    assert not disk.is_alive(2**22 + 7)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "win32")
        patched.setattr(os, "kill", lambda *_: pytest.fail("on Windows this ends everybody at the console"))
        patched.setattr(disk, "is_alive_on_windows", lambda number: number == 7)
        assert [disk.is_alive(number) for number in (7, 8)] == [True, False]


# ---------------------------------------------------------------------------------------------------- waiting for one


def test_a_folder_is_waited_for_but_not_for_ever(tmp_path):
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(LockstepError, match=r"LS-504 .*0 seconds"):
        locks.waiting(tmp_path, 0.05, "a hint").__enter__()
    with locks.waiting(tmp_path, 0.05, "a hint"), pytest.raises(filelock.Timeout):
        filelock.FileLock(tmp_path / ".lock").acquire(timeout=0)


def test_whoever_may_not_write_is_told_where_else(tmp_path):
    with pytest.raises(LockstepError, match=r"(?s)LS-501 .*a hint"):
        locks.waiting(tmp_path / "none", 0.05, "a hint").__enter__()


# --------------------------------------------------------------------------------------------------- many at one time


def at_once(take, folder, n=8, rounds=12) -> int:
    """How often one of many threads held the lock while another did."""
    inside, overlaps = [], []

    def work(_):
        for _ in range(rounds):
            try:
                lock = take(folder)
            except LockstepError:
                continue
            with lock:
                inside.append(1)
                overlaps.extend([1] * (len(inside) > 1))
                time.sleep(0.001)
                inside.pop()

    with ThreadPoolExecutor(n) as pool:
        list(pool.map(work, range(n)))
    return len(overlaps)


def test_of_many_at_one_time_one_works(tmp_path):
    assert at_once(locks.take, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_without_a_lock_several_would(tmp_path, monkeypatch):
    """The check above can fail."""
    monkeypatch.setattr(locks, "has_locked", lambda number: True)
    assert at_once(locks.take, tmp_path) > 0


def test_a_folder_is_held_briefly_by_one_after_the_other(tmp_path):
    inside, overlaps = [], []

    def work(_):
        with locks.briefly(tmp_path):
            inside.append(1)
            overlaps.extend([1] * (len(inside) > 1))
            time.sleep(0.005)
            inside.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert not overlaps
