"""The processors that a process may use, and how many threads the libraries in it take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from lockstep.errors import LockstepError
from lockstep.language import later

# Every library that computes reads one of these when it is imported, so they are set before a worker starts.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip


def usable_cores() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def thread_environment(backend: str, threads: int) -> dict[str, str]:
    """The variables by which a worker's libraries get this many threads.

    The NumPy backend has threads of its own, one per slice of a batch; its matrix products run in them, so each gets
    one: two levels of threads on the same cores fight.
    """
    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if backend == "numpy":
        environment["OPENBLAS_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    return environment


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, this process multiplies matrices on one thread; processes that it starts do as they would."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


@contextlib.contextmanager
def limited_to(threads: int, cores: Sequence[int] | None = None) -> Iterator[None]:
    """Processes started inside may use this many processors only (where the system can say so).

    The first ones of `cores`; by default of those that the calling thread may use.
    """
    before = usable_cores()
    wanted = list(before if cores is None else cores)[:threads]
    if not hasattr(os, "sched_setaffinity") or wanted == before:
        yield
        return
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def default_threads() -> int:
    """Two threads, or one where there is one processor."""
    return min(2, len(usable_cores()))


def checked_threads(threads: int | None) -> int:
    """The number of threads to ask for; raises LockstepError (LS-205) for one that this machine does not have."""
    if threads is None:
        return default_threads()
    if not 1 <= threads <= len(usable_cores()):
        message = later(
            "{threads} threads were asked for, this process may use {n} processors",
            threads=threads,
            n=len(usable_cores()),
        )
        raise LockstepError("LS-205", message, where="--threads", hint=later("ask for one of 1 to that many"))
    return threads


def obtained_threads(asked: int, taken: int | None = None) -> dict[str, Any]:
    """What this process really got: {"asked", "obtained", "pools"}; `taken`, where fewer were free than asked for."""
    from threadpoolctl import threadpool_info

    pools = [{key: pool.get(key) for key in ("user_api", "internal_api", "num_threads")} for pool in threadpool_info()]
    return {"asked": asked, "obtained": min(taken or asked, len(usable_cores())), "pools": pools}
