"""A run's files: how it stands, what surrounds it, what its predictions are worth, how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from lockstep.language import later
from lockstep.store.documents.part import Count, Message, Messages, Part, Sizes


class Status(Part):
    """status.json."""

    format: int | None = None
    status: str = "unknown"
    code: str | None = None
    reason: Message | None = None
    started: str | None = None
    finished: str | None = None
    threads: Count | None = None


class Threads(Part):
    """Threads asked for and obtained, and the libraries' pools of them."""

    asked: Count | None = None
    obtained: Count | None = None
    pools: tuple[dict[str, Any], ...] = ()


class Dataset(Part):
    """The dataset's description in environment.json."""

    name: str = ""
    title: str = ""
    origin: str = ""
    hashes: dict[str, str] = Field(default_factory=dict)
    notes: Messages | Message = ()
    shape: Sizes = ()
    class_names: tuple[str, ...] = ()
    class_counts: Sizes = ()
    n_train: Count | None = None
    n_validation: Count | None = None
    n_test: Count | None = None
    n_test_in_training: Count | None = None
    pixel_mean: tuple[float, ...] = ()
    pixel_scale: tuple[float, ...] = ()


class Environment(Part):
    """environment.json; `resumed` has a row for each later part of a run that was interrupted."""

    FILE = "environment.json"

    format: int | None = None
    lockstep: str | None = None
    git_revision: str | None = None
    lockstep_sources: str | None = None
    python: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    platform: str | None = None
    cpu: str | None = None
    arithmetic: str | None = None
    cores: Count | None = None
    memory_bytes: Count | None = None
    load: tuple[float, ...] | None = None
    device: str | None = None
    threads: Threads = Threads()
    dataset: Dataset = Dataset()
    trained_together: Count = 1
    resumed: tuple[dict[str, Any], ...] = ()


class Layer(Part):
    """One row of metrics.json's network; `inputs` are named where they are not the row before alone."""

    kind: str = ""
    name: str
    input_shape: Sizes = ()
    output_shape: Sizes
    parameters: Count
    multiply_adds: Count
    receptive_field: Sizes | None = None
    inputs: tuple[str, ...] = ()


class Scores(Part):
    """Precision, recall and F1; `support` where they belong to one class."""

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    support: int | float | None = None


class Test(Part):
    """What the predictions on the test set are worth; `log_loss` where the loss is cross-entropy."""

    accuracy: float | None = None
    loss: float | None = None
    log_loss: float | None = None
    per_class: tuple[Scores, ...] = ()
    macro: Scores | None = None
    weighted: Scores | None = None
    confusion: tuple[Sizes, ...] = ()

    @model_validator(mode="after")
    def _square(self) -> Test:
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError(later("the confusion matrix is not square"))
        return self


class Train(Part):
    """What the network makes of a part of its own training images, in inference mode."""

    accuracy: float | None = None
    loss: float | None = None
    images: Count | None = None


class Metrics(Part):
    """metrics.json."""

    FILE = "metrics.json"

    format: int | None = None
    test: Test = Test()
    train: Train = Train()
    epochs: Count | None = None
    best_epoch: Count | None = None
    stopped_early: bool = False
    weights_of_epoch: Count | None = None
    parameters: Count | None = None
    multiply_adds: Count | None = None
    network: tuple[Layer, ...] = ()


class Timing(Part):
    """timing.json; `parts` is how many processes had a part in it, `together` with how many runs it was trained."""

    FILE = "timing.json"

    format: int | None = None
    seconds: Mapping[str, float | None] = Field(default_factory=dict)
    epochs: tuple[float, ...] = ()
    peak_memory_bytes: Count | None = None
    parts: Count = 1
    together: Count = 1


class Epoch(Part):
    """One epoch row of events.jsonl."""

    epoch: Count
    train_loss: float | None = None
    train_accuracy: float | None = None
    train_inference_loss: float | None = None
    train_inference_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    learning_rate: float | None = None
    train_seconds: float | None = None

    def number(self, name: str) -> float | None:
        """The number of this name, "<split>_loss" or "<split>_accuracy"."""
        found: float | None = getattr(self, name)
        return found
