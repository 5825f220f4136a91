"""How many threads are free when a run begins, and how threads wait for each other beside other work.

Threads that share a step wait for the slowest of them. Where another program has taken one's processor, all stand
still until it is given back, and threads that wait by spinning take what is left from whoever could go on: PyTorch's
two threads were seen to take a hundred times as long beside four busy processes, and one thread three times. So a run
takes as many threads as would find a processor, and says how many it asked for and how many it took; a number that the
user has asked for is taken as it is. A bench asks for all and says what disturbed it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from lockstep.machine import cores


class Threads:
    """How many threads runs ask for, and how many they take."""

    def __init__(self, asked: int | None = None, taken: int | None = None, is_exact: bool | None = None) -> None:
        """Take what the user asks for, or `taken`; else as many as are free when `taken` is first asked for.

        All runs of one command take the same number, so that they can be compared. A number `is_exact` that the user
        has named. Raises LockstepError (LS-205).
        """
        self.asked, self.is_exact = cores.checked_threads(asked), asked is not None if is_exact is None else is_exact
        self._taken = self.asked if self.is_exact else taken

    @property
    def taken(self) -> int:
        """A number from 1 to `asked`."""
        if self._taken is None:
            self._taken = free_threads(self.asked)
        return self._taken

    def again(self, before: Mapping[str, Any] | None) -> Threads:
        """Those of a run that was begun with {"asked", "obtained"}: what it took then, unless a number is named now."""
        if before and not self.is_exact and before.get("asked") == self.asked:
            with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
                return Threads(self.asked, max(min(int(before["obtained"]), self.asked), 1), is_exact=False)
        return self


SECONDS = 0.04  # of a try: several turns of the system's scheduler
TRIES = 3  # a moment's work of somebody else is no reason to take fewer
SIDE = 96  # of the matrices: each product lets go of the interpreter and lies in a cache
LEAST = 0.75  # of a processor, for each thread: what stands below is shared with others


def free_threads(most: int) -> int:
    """How many of so many threads would find a processor now: from 1 to `most`.

    Tried, not read from the system's figures, which count our own work of before, other containers' too, and know no
    quotas: so many threads compute for a moment, and the time that they are given is what a run would be given.
    """
    if most == 1:
        return 1
    with cores.one_blas_thread():
        given = 0.0
        for _try in range(TRIES):
            given = max(given, processors_given(most))
            if given >= LEAST * most:
                return most
    return max(min(int(given / LEAST), most), 1)


def processors_given(n: int) -> float:
    """How many processors so many threads are given, over a moment: their time of computing by the clock's."""
    import numpy as np

    spent = [0.0] * n
    ready = threading.Barrier(n)

    def compute(index: int) -> None:
        matrix = np.ones((SIDE, SIDE), np.float32)
        product = np.empty_like(matrix)
        ready.wait()
        begun, start = time.perf_counter(), time.thread_time()
        while time.perf_counter() - begun < SECONDS:
            for _time in range(8):
                np.matmul(matrix, matrix, out=product)
        spent[index] = (time.thread_time() - start) / (time.perf_counter() - begun)

    threads = [threading.Thread(target=compute, args=(index,), daemon=True) for index in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(spent)


# How long a thread of GNU's OpenMP, PyTorch's, looks for work before it sleeps: 300,000 looks unless it is told. With
# so few an epoch on a quiet machine takes as long as before, and one beside other work a tenth.
SPINS = "3000"


def waiting() -> dict[str, str]:
    """The variables by which a worker's threads soon sleep where they wait; what the user has set stays."""
    told = any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))
    return {} if told else {"GOMP_SPINCOUNT": SPINS}
