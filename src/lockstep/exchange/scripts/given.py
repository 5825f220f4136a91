"""What a script is written from: a run with everything decided, and what a target makes of each part of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lockstep.backends.plan import Plan
from lockstep.exchange import variables
from lockstep.language import later
from lockstep.spec import LayerFacts, Run


@dataclasses.dataclass(frozen=True)
class Given:
    """A run as it is written out.

    `run_name` is its folder's; `n_train` counts the images that it trains on, `n_validation` those held out before;
    `source` says how the script reads the data: "digits" (scikit-learn's), "idx" (four files of a folder) or "npz".
    With `is_own` the framework draws its own dropout masks, which are no longer those of the run.
    """

    run: Run
    plan: Plan
    run_name: str
    source: str
    n_train: int
    n_validation: int
    is_own: bool = False

    @property
    def recipe(self) -> Any:
        """How it is trained."""
        return self.run.recipe

    @property
    def dtype(self) -> str:
        """In which is computed."""
        return self.plan.dtype

    def makes(self, mistake: str) -> bool:
        """Whether the recipe makes this mistake on purpose."""
        return mistake in self.recipe.mistakes

    def unsayable(self) -> list[str]:
        """What the run says that no program outside Lockstep says, each with its reason."""
        found: list[str] = []
        if (kind := self.recipe.products) != "full":
            what = later("products = {kind}: factors rounded by hand are a simulation, no framework's own", kind=kind)
            found.append(what)
        if any(not variables.is_sayable(row) for row in self.plan.rows):
            what = later("a concatenation that lies along another axis than the channels: a mistake made on purpose")
            found.append(what)
        if self.makes("prediction_in_training_mode"):
            what = later("the mistake prediction_in_training_mode: what it gives depends on how predictions are cut")
            found.append(what)
        return found

    @property
    def masked(self) -> dict[str, tuple[int, LayerFacts]]:
        """Dropout layers that drop something in a training step: name → (number, facts)."""
        return {row.name: (number, row) for number, row in self.plan.dropouts} if self.plan.in_training else {}

    @property
    def is_scheduled(self) -> bool:
        """Whether the learning rate changes."""
        return bool(self.recipe.schedule.kind != "constant")

    @property
    def rate(self) -> str:
        """The learning rate of a step as the code of a step calls it."""
        return "rate" if self.is_scheduled else "LEARNING_RATE"

    @property
    def is_velocity(self) -> bool:
        """Whether what a momentum keeps when the rate changes is rate · b, and the rate does."""
        return getattr(self.recipe.optimizer, "form", "") == "velocity" and self.is_scheduled

    @property
    def numbers(self) -> list[str]:
        """What the update of a step is given, where the formula is written out: the names of `decided`."""
        o = self.recipe.optimizer
        names = ["rate"] if self.is_scheduled else []
        names += ["factor"] if self.is_velocity else []
        names += ["first", "second"] if o.kind in ("adam", "adamw") else []
        return names + (["epsilon"] if getattr(o, "epsilon_mode", "") == "hat" else [])

    @property
    def decided(self) -> list[str]:
        """The statements of the loop that decide them, in float64."""
        o, lines = self.recipe.optimizer, list[str]()
        if self.is_velocity:
            lines += ["before = learning_rate(max(len(losses) - 1, 0), EPOCHS * n_batches)",
                      "factor = before / rate if rate else 1.0  # what stays is rate · b, not b"]  # fmt: skip
        if o.kind in ("adam", "adamw"):
            lines += ["t = len(losses) + 1",
                      f"first, second = 1 / (1 - {o.beta1!r}**t), 1 / math.sqrt(1 - {o.beta2!r}**t)"]  # fmt: skip
        if getattr(o, "epsilon_mode", "") == "hat":
            lines += [f"epsilon = {o.epsilon!r} * second  # ε before bias correction"]
        return lines

    @property
    def normalised(self) -> list[LayerFacts]:
        """Layers that keep running statistics."""
        return [row for row in self.plan.rows if row.layer.has_state]

    @property
    def leaves_one(self) -> bool:
        """Whether an epoch ends with a batch of a single image."""
        return self.n_train % self.recipe.batch_size == 1 and not self.makes("last_batch_dropped")

    @property
    def parameters(self) -> list[str]:
        """Every parameter's canonical name, in order."""
        return list(self.plan.network.parameter_shapes(self.plan.input_shape))

    @property
    def statistics(self) -> list[str]:
        """Every running statistic's canonical name, in order."""
        return list(self.plan.initial_statistics())

    @property
    def decays_all(self) -> bool:
        """Whether L2 and weight decay act on every parameter, and not on kernels alone, which have two axes or more."""
        return self.makes("decay_on_all")

    def has(self, *kinds: str) -> bool:
        """Whether the network has a layer of one of these kinds."""
        return any(row.layer.kind in kinds for row in self.plan.rows)

    @property
    def needs_targets(self) -> bool:
        """Whether the loss is of rows of targets, not of labels."""
        return self.plan.loss not in ("cross_entropy", "cross_entropy_softmax_twice")


class Code(NamedTuple):
    """A layer of a framework that differentiates by itself.

    `apply`: the expression of `{x}` in the forward pass; `make`: what it is made of; `before`: lines that go before;
    `remark`: a comment on all of it; `folds`: an activation, which may stand around the layer before it.
    """

    apply: str
    make: str = ""
    before: str = ""
    remark: str = ""
    folds: bool = False


def forward(rows: Sequence[LayerFacts], codes: Iterable[Code]) -> list[str]:
    """The statements of a forward pass that ends with what the last layer gives."""
    lines: list[str] = []
    for step, code in zip(variables.steps(rows), codes, strict=True):
        lines += step.before
        last = lines[-1] if lines else ""
        if code.folds and re.fullmatch(r"x = self\.\w+\(.*\)", last):
            lines[-1] = f"x = {code.apply.replace('{x}', last[4:])}"
        elif code.apply != "{x}":
            lines += [f"# {code.remark}"] if code.remark else []
            lines += [*code.before.splitlines(), f"x = {variables.filled(code.apply, step.taken)}"]
        lines += step.after
    return lines


@dataclasses.dataclass(frozen=True)
class Target:
    """What a framework's file gives: its sections, and how the training loop, which all share, calls them.

    `network` (with `values` and `put`: every parameter and running statistic, out and in, by canonical name),
    `updating` (loss, regularisers, optimizer) and `stepping` (`train_step`, `predict`) give blocks of code, in this
    order; `begin` and `take` the statements of the loop that make `model` and take a step. `remark` says how its own
    layers would start.
    """

    title: str
    module: str
    packages: tuple[str, ...]
    remark: str
    imports: Callable[[Given], list[str]]
    network: Callable[[Given], Iterator[str]]
    updating: Callable[[Given], Iterator[str]]
    stepping: Callable[[Given], Iterator[str]]
    begin: Callable[[Given], list[str]]
    take: Callable[[Given], str]
    layers: Mapping[str, Any]
    losses: Mapping[str, Any]
    optimizers: Mapping[str, Any]
