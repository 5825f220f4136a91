"""What XLA makes of an epoch in JAX: one loop, without the convolutions that it does not optimise inside of loops.

And whose epochs TensorFlow lets it compile.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support import TESTS
from support.needs import need_backend


def text(*arguments: str) -> str:
    """The compiled program of an epoch."""
    need_backend("jax")
    command = [sys.executable, "-m", "support.xla_program", *arguments]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def epoch():
    return text()


def slow_convolutions(program: str) -> list[str]:
    """The results of XLA's plain `convolution`, which is a naive loop wherever it does not stand at the top."""
    (entry,) = re.findall(r"^ENTRY .*?^}", program, re.DOTALL | re.MULTILINE)
    return re.findall(r"^ *(?:ROOT )?(\S+) = \S+ convolution\(", program.replace(entry, ""), re.MULTILINE)


def aliased(program: str) -> int:
    """How many of its arrays a program gets back into the memory that they came in."""
    return len(re.findall(r"(?:may|must)-alias", program.partition("\n")[0]))


def test_an_epoch_is_one_loop_and_has_no_convolution_in_it(epoch):
    assert len(re.findall(r" while\(", epoch)) == 1
    assert slow_convolutions(epoch) == []
    assert epoch.count(" dot(") + epoch.count("kind=kCustom") >= 5, "but products of matrices"


def test_weights_and_slots_stay_where_they_are(epoch):
    assert aliased(epoch) == 3 * 6 + 1, "six parameters, two slots of Adam for each, and its count"


def test_a_convolution_in_a_loop_is_found():
    assert len(slow_convolutions(text("textbook"))) >= 5  # two forwards, two kernels' gradients, one input's


TENSORFLOW = """
import numpy as np
from support import backend_cases as table
from lockstep import backends
from lockstep.backends.weights import initial_weights
for name in ("flat-adam", "recipe-adam_cross_entropy"):
    case = table.CASES[name]
    plan = table.plan_of(case)
    model = backends.load("tensorflow").build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    model.place(*table.images_of(case))
    for steps in (2, 1):
        model.train_epoch(np.arange(steps * table.BATCH))
    twin = backends.load("numpy").build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    twin.place(*table.images_of(case))
    for steps in (2, 1):  # one of two is a chunk that is filled up
        twin.train_epoch(np.arange(steps * table.BATCH))
    apart = max(np.abs(value - twin.weights()[key]).max() for key, value in model.weights().items())
    assert apart < 1e-9, apart
    (function,) = model._functions.values()
    print(name, "XLA" if function.function_spec.jit_compile else "op by op", function.experimental_get_tracing_count())
"""


def test_tensorflow_compiles_the_epoch_of_a_network_without_convolutions_and_traces_each_once():
    need_backend("tensorflow")
    command = [sys.executable, "-c", TENSORFLOW]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["flat-adam XLA 1", "recipe-adam_cross_entropy op by op 1"]
