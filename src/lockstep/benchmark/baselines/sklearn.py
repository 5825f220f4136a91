"""scikit-learn as its user guide teaches it: MLPClassifier.fit; for networks of dense layers and relu."""

from __future__ import annotations

import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from lockstep.benchmark.baselines import Images, Trained
from lockstep.spec import Run


def train(run: Run, images: Images, threads: int, fault: str = "") -> Trained:
    """Every epoch of the run; `fit` tells of no epoch alone, so each is taken to be as long as the others."""
    start = time.perf_counter()
    recipe = run.recipe
    hidden = [layer.units for layer in run.network.layers if layer.kind == "dense"][:-1]
    model = MLPClassifier(
        hidden, activation="relu", solver=recipe.optimizer.kind, alpha=0.0, batch_size=recipe.batch_size,
        learning_rate_init=recipe.optimizer.learning_rate, max_iter=recipe.epochs, n_iter_no_change=recipe.epochs + 1,
        random_state=run.seed, momentum=0.0,
    )  # fmt: skip
    pixels = images.train.reshape(len(images.train), -1)
    built = time.perf_counter() - start
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is what was asked for
        model.fit(pixels, images.train_labels)
    seconds = (time.perf_counter() - start) / recipe.epochs

    def predict(test: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(test.reshape(len(test), -1)))

    return Trained([seconds] * recipe.epochs, len(pixels), predict, built)
