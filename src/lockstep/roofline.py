"""How fast a network could be trained if it were matrix products alone, at the machine's best.

The roofline of Williams, Waterman and Patterson (2009), of which only the flat part is drawn: a network's operations
over the rate that one large product reaches here. Nobody's epoch is shorter, and what it takes longer is memory, small
products, and everything around them.
"""

from __future__ import annotations

import time

import numpy as np

from lockstep.spec import Network, Shape

SIDE = 1024  # of the matrices: large enough for a peak, small enough for a few to lie in a cache
TIMES = 8


def training_flops(network: Network, image_shape: Shape) -> int:
    """Floating-point operations of training one image of (height, width, channels): forward and backward products.

    Two for each multiply-add; forward, for the gradient of the weights, and for that of the input, which nobody asks of
    the first layer that has any. Raises LockstepError (LS-206) where the layers do not fit.
    """
    each = [row.multiply_adds for row in network.facts(image_shape) if row.multiply_adds]
    return 2 * (3 * sum(each) - each[0]) if each else 0


def peak(threads: int, dtype: str) -> float:
    """Floating-point operations a second of NumPy's fastest product of two square matrices, on so many threads."""
    from threadpoolctl import threadpool_limits

    matrix = np.random.default_rng(0).random((SIDE, SIDE)).astype(dtype)
    product = np.empty_like(matrix)
    best = np.inf
    with threadpool_limits(threads, user_api="blas"):
        for _time in range(TIMES):
            start = time.perf_counter()
            np.matmul(matrix, matrix, out=product)
            best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best
