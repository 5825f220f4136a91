"""One baseline in one process: `python -m lockstep.benchmark.baselines NAME FOLDER THREADS [FAULT]`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lockstep import data, store
from lockstep.benchmark import baselines
from lockstep.machine import cores, memory, processes
from lockstep.machine.clocks import Clocks
from lockstep.spec import Run
from lockstep.spec.toml import read_study
from lockstep.store.documents.bench import Lap
from lockstep.store.documents.run import Threads


def images_of(run: Run) -> baselines.Images:
    """The run's images as a tutorial has them."""
    loaded = data.load(run.dataset, offline=True)
    kept, _ = data.split(len(loaded.train_images), run.recipe.validation, run.seed)
    if run.train_size:
        kept = data.part_of(kept, loaded.train_labels, run.train_size, run.format)
    return baselines.Images(
        (loaded.train_images[kept] / np.float32(255)).astype(np.float32), loaded.train_labels[kept].astype(np.int64),
        (loaded.test_images / np.float32(255)).astype(np.float32), loaded.test_labels.astype(np.int64),
    )  # fmt: skip


def main(name: str, folder: Path, threads: int, fault: str = "") -> None:
    processes.end_with_parent()
    clocks = Clocks()
    (run,) = read_study(folder / "spec.toml").runs()
    with clocks.measure("import"):
        baseline = baselines.load(name)
    with clocks.measure("load"):
        images = images_of(run)
    trained = baseline.train(run, images, threads, fault)
    clocks.seconds["build"] = trained.build_seconds
    with clocks.measure("evaluate"):
        predicted = np.asarray(trained.predict(images.test))
    lap = Lap(
        seconds={**clocks.seconds, "total": clocks.total()}, epochs=trained.epochs, images=trained.images,
        accuracy=float((predicted == images.test_labels[: len(predicted)]).mean()),
        peak_memory_bytes=memory.peak_memory_bytes(), versions=baselines.versions(name),
        threads=Threads(**cores.obtained_threads(threads)),
    )  # fmt: skip
    store.write_json(folder / baselines.FILE, lap.document())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
