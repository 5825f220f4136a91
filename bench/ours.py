"""The same training by one of Lockstep's backends: the warm-up of a run, then epochs under the stopwatch of a run."""

import sys
import time
from pathlib import Path

import numpy as np
from common import report, training_data

from lockstep import backends, data, study, timing
from lockstep.worker import Examples, make_model


def main(backend: str, network: str, epochs: int) -> None:
    settings = ["dataset=mnist", f'backends=["{backend}"]']
    loaded = study.load_study(
        Path(__file__).parent.parent / "studies/lab-frameworks.toml", settings, networks=[network]
    )
    (run,) = loaded.runs()
    module = backends.load(backend)
    examples = Examples(data.load("mnist", offline=True), run)
    examples.train = training_data()
    model = make_model(module, run, examples, 2, timing.Clocks())
    seconds = []
    for epoch in range(epochs):
        order = data.batch_order(len(examples.train[0]), 0, epoch)
        start = time.perf_counter()
        losses, _ = model.train_epoch(order)
        model.wait()
        seconds.append(time.perf_counter() - start)
    report(seconds, float(np.mean(losses)))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
