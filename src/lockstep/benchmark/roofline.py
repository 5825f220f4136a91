"""How long a network's matrix products would take at the rate of one large product: what an epoch can be held against.

The roofline of Williams, Waterman and Patterson (2009), of which only the flat part is drawn: a network's operations
over the rate that NumPy's library reaches here. What an epoch takes longer is memory, small products, and everything
around them. It is no law: another library, or an algorithm of fewer multiplications, may lie below.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import numpy as np

from lockstep.errors import LockstepError
from lockstep.machine import workers
from lockstep.spec import Network, Shape

SIDE = 1024  # of the matrices: large enough for a peak, small enough for a few to lie in a cache
TIMES = 8
LONGEST = 60  # seconds, of a process that takes half of one


def training_flops(network: Network, image_shape: Shape) -> int:
    """Floating-point operations of training one image of (height, width, channels): forward and backward products.

    Two for each multiply-add; forward, for the gradient of the weights, and for that of the input, which nobody asks of
    the first layer that has any. Raises LockstepError (LS-206) where the layers do not fit.
    """
    each = [row.multiply_adds for row in network.facts(image_shape) if row.multiply_adds]
    return 2 * (3 * sum(each) - each[0]) if each else 0


def peak(threads: int, dtype: str) -> float | None:
    """Floating-point operations a second of NumPy's fastest product of two square matrices.

    In a process of its own, with the threads and the processors that a lap has; None where that comes to nothing.
    """
    environment = workers.environment("torch", threads)  # NumPy with all the threads of its library
    words, nowhere = (dtype,), subprocess.DEVNULL
    with (
        contextlib.suppress(LockstepError, ValueError),
        workers.Worker("lockstep.benchmark.roofline", words, threads, environment, nowhere) as worker,
    ):
        if worker.exit_code(LONGEST) == 0 and worker.process.stdout:
            return float(worker.process.stdout.read())
    return None


def rate(dtype: str) -> float:
    """The same in this process."""
    matrix = np.random.default_rng(0).random((SIDE, SIDE)).astype(dtype)
    product = np.empty_like(matrix)
    best = np.inf
    for _time in range(TIMES):
        start = time.perf_counter()
        np.matmul(matrix, matrix, out=product)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best


if __name__ == "__main__":
    print(rate(sys.argv[1]))
