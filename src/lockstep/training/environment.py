"""What is noted around a run: program, machine and data, all that its numbers depend on."""

from __future__ import annotations

import platform

import numpy as np

from lockstep import backends, data
from lockstep.machine import cores, description, sources
from lockstep.spec import Run
from lockstep.store.documents.run import Dataset, Environment, Threads
from lockstep.training import inputs
from lockstep.version import version


def environment(
    run: Run, examples: inputs.Examples, threads: int, device: str, asked: int | None = None
) -> Environment:  # fmt: skip
    """Everything around the run that its numbers depend on; `device` is what the backend calls it.

    `asked` is how many threads were asked for, where it may be more than the run takes.
    """
    loaded, classes = examples.data, examples.data.n_classes
    known = data.DATASETS.get(loaded.name)
    return Environment(
        lockstep=version(), git_revision=sources.git_revision(), lockstep_sources=sources.own_sources(),
        python=platform.python_version(), versions=backends.versions(run.backend), **description.machine(),
        device=device, threads=Threads(**cores.obtained_threads(asked or threads, threads)),
        dataset=Dataset(
            name=loaded.name, title=known.title if known else loaded.name, origin=loaded.origin,
            hashes=dict(loaded.hashes), notes=tuple(loaded.notes), shape=examples.shape,
            class_names=tuple(loaded.class_names),
            class_counts=np.bincount(examples.train[1], minlength=classes).tolist(), n_train=len(examples.train[0]),
            n_validation=len(examples.validation[0]), n_test=len(examples.test[0]),
            n_test_in_training=loaded.n_test_in_training(), pixel_mean=tuple(examples.mean.tolist()),
            pixel_scale=tuple(examples.scale.tolist()),
        ),
    )  # fmt: skip
