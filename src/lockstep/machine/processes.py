"""Processes that end when this one does, whichever thread of it has started them.

On Linux the system ends a worker when the *thread* that has started it ends (PR_SET_PDEATHSIG), which a
scheduler's or a server's thread does while the process lives on. So all are started by one thread that lasts as long as
the process. Elsewhere, and beside it, a worker ends when nobody holds the other end of its standard input any more.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from lockstep.machine import cores


class _Starter(threading.Thread):
    """Calls what it is given, one after the other, as long as this process lives.

    A daemon, and no executor: those are closed when the main thread ends, while others may still work.
    """

    def __init__(self) -> None:
        super().__init__(name="lockstep-starter", daemon=True)
        self.jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self.process = os.getpid()
        self.start()

    def run(self) -> None:
        while True:
            call, future = self.jobs.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)


_guard = threading.Lock()
_starter: _Starter | None = None


def _lasting() -> _Starter:
    """The thread that starts processes; a forked process has lost its parent's, and gets its own."""
    global _starter
    with _guard:
        if _starter is None or _starter.process != os.getpid():
            _starter = _Starter()
        return _starter


def start(command: Sequence[str], threads: int, **options: Any) -> subprocess.Popen[Any]:
    """Start a process that may use so many processors; `options` are those of subprocess.Popen.

    Those on which fewest of our own processes are. Raises OSError where it cannot be started. Who is interrupted
    meanwhile leaves no process behind.
    """
    usable = cores.usable_cores()  # of the thread that asks
    taken = Counter(core for process, on in _cores.items() if process.poll() is None for core in on)
    chosen = sorted(sorted(usable, key=lambda core: taken[core])[:threads])

    def call() -> subprocess.Popen[Any]:
        with cores.limited_to(threads, chosen):
            return subprocess.Popen(command, **options)  # noqa: S603

    future: Future[subprocess.Popen[Any]] = Future()
    _lasting().jobs.put((call, future))
    try:
        process = future.result()
    except BaseException:
        if not future.cancel():
            with contextlib.suppress(BaseException):
                process = future.result()
                process.kill()
                process.wait()
        raise
    _cores[process] = chosen
    return process


_cores: weakref.WeakKeyDictionary[subprocess.Popen[Any], list[int]] = weakref.WeakKeyDictionary()


def descendants(process: int) -> list[int]:
    """The processes that one has started, and those that these have (Linux; elsewhere none that is known of)."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(place.parent.name))
    found, waiting = [], [process]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


# ------------------------------------------------------------------------------------------- workers by their folders

_workers: dict[subprocess.Popen[Any], Path] = {}


@contextlib.contextmanager
def at_work(folder: Path, process: subprocess.Popen[Any]) -> Iterator[None]:
    """Inside, this process is known to work in this folder."""
    _workers[process] = folder
    try:
        yield
    finally:
        _workers.pop(process, None)


def kill_below(folder: Path) -> None:
    """End whatever works in a folder or below it, at once; who waits for it is told by its end."""
    for process, place in list(_workers.items()):
        if place.is_relative_to(folder):
            process.kill()


# ---------------------------------------------------------------------------------------------------- several at a time

T = TypeVar("T")
SECONDS = 0.2  # after which somebody who waits looks whether he is interrupted (Windows), or has to kill again


def side_by_side(
    calls: Sequence[Callable[[Callable[..., None]], T]], n: int, tell: Callable[..., None], folder: Path
) -> Iterator[tuple[int, T]]:  # fmt: skip
    """What each call returns, with its number, as they come: so many at a time, each in a thread of its own.

    A call gets somebody to tell things to; `tell` hears them in the thread that asks here. What a call raises is raised
    here; then, or where nobody asks any more, what works below the folder is killed and the other calls are left out.
    """
    heard: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
    is_over = threading.Event()  # a thread that is free takes the next call before anybody could cancel it

    def call(index: int) -> None:
        if is_over.is_set():
            return
        try:
            result = calls[index](lambda *what: heard.put((index, "told", what)))
        except BaseException as error:
            is_over.set()
            heard.put((index, "raised", error))
        else:
            heard.put((index, "done", result))

    pool = ThreadPoolExecutor(n)
    futures = [pool.submit(call, index) for index in range(len(calls))]
    try:
        n_waiting = len(calls)
        while n_waiting:
            try:
                index, kind, what = heard.get(timeout=SECONDS)
            except queue.Empty:
                continue
            if kind == "told":
                tell(*what)
            elif kind == "raised":
                raise what
            else:
                n_waiting -= 1
                yield index, what
    finally:
        is_over.set()
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):
            kill_below(folder)
            wait(futures, timeout=SECONDS)


# ------------------------------------------------------------------------------------------------- in the other process


def end_with_parent() -> None:
    """Let this process end when its parent does, however that ends; the parent holds the other end of its stdin."""
    end_with_parent_by_the_system()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def end_with_parent_by_the_system() -> None:
    """On Linux, whatever this process does then; a thread gets no turn while a library holds the interpreter."""
    with contextlib.suppress(OSError, AttributeError, ImportError):
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG


def adopt_orphans() -> None:
    """On Linux: what this process's children leave behind becomes its own child, and so is found (`descendants`)."""
    with contextlib.suppress(OSError, AttributeError, ImportError):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _end_with_parent() -> None:
    """The parent holds the other end of stdin: when it is gone, so is this process."""
    while os.read(0, 4096):
        pass
    os._exit(1)
