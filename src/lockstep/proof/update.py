"""The judging of one update, in two halves: slots given the gradients, and weights given the new slots.

An update is made from gradients of training's own pass, which nobody saw; how far they may be from those that were
seen is wide below kinks and batch normalisations. But the slots that the update left were written down. Given them,
the new weights follow by a formula in which no gradient stands (momentum, Nesterov, Adam, AdamW), and rates, counters,
ε and decay show in it to the last digits. Only sgd and RMSprop need the gradient for that, too; the size of RMSprop's
may be read from its slot.

The formulas stand here a second time, in other words than in the NumPy backend, which is judged by them like any other:
they are the papers', written for one array, with nothing done in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lockstep.backends.plan import Arrays, Plan
from lockstep.proof import tolerances
from lockstep.spec import Recipe

ROUNDINGS = 4.0  # of a new weight itself: of w − Δ, and before it of the factor 1 − lr·λ and its product with w


class Half(NamedTuple):
    """One array after an update: what it should be, what it may be off, and what the update did to it.

    `effect` is the part that the update added (the step, or the gradient's share of a slot): a tolerance as wide as
    this judges nothing. None where it is rounding alone, so that nobody could tell it from none.
    """

    name: str
    stage: str
    wanted: np.ndarray
    tolerance: np.ndarray
    effect: np.ndarray | None


class Rule(NamedTuple):
    """slot ← keep · slot + share · gradient^power."""

    keep: float
    share: float
    power: int


@dataclass(frozen=True)
class Numbers:
    """What is decided for update number `step`, from 0."""

    plan: Plan
    step: int

    @property
    def rate(self) -> float:
        return self.plan.learning_rate(self.step)

    @property
    def rules(self) -> dict[str, Rule]:
        """How each slot of the optimizer comes from the one before and the gradient."""
        o = self.plan.recipe.optimizer
        if o.kind in ("momentum", "nesterov"):
            return {"momentum": Rule(o.momentum * self.plan.buffer_factor(self.step), 1.0, 1)}
        if o.kind in ("adam", "adamw"):
            return {
                "first_moment": Rule(o.beta1, 1 - o.beta1, 1),
                "second_moment": Rule(o.beta2, 1 - o.beta2, 2),
            }
        return {"mean_square": Rule(o.rho, 1 - o.rho, 2)} if o.kind == "rmsprop" else {}

    @property
    def correction(self) -> float:
        """How far Adam's bias correction may be off, relative: 1 − βᵗ is worked out in float64, from numbers near 1."""
        o, tolerance = self.plan.recipe.optimizer, float(tolerances.of("float64", 1.0))
        return tolerance * sum(
            1 / (1 - beta ** (self.step + 1)) for beta in (getattr(o, "beta1", 0.0), getattr(o, "beta2", 0.0))
        )

    def direction(self, g: np.ndarray, old: Arrays, new: Arrays) -> np.ndarray:
        """Δ in w ← w − Δ, from the slots before and after; `g` is asked by sgd and RMSprop alone."""
        o, t = self.plan.recipe.optimizer, self.step + 1
        if o.kind == "momentum":
            return self.rate * new["momentum"]
        if o.kind == "nesterov":
            b, rule = new["momentum"], self.rules["momentum"]
            return self.rate * (b - rule.keep * old["momentum"] + o.momentum * b)
        if o.kind in ("adam", "adamw"):
            m, v = new["first_moment"] / (1 - o.beta1**t), new["second_moment"] / (1 - o.beta2**t)
            return self.rate * m / (np.sqrt(v) + self.plan.epsilon(self.step))
        if o.kind == "rmsprop":
            e, q = self.plan.epsilon(self.step), new["mean_square"]
            return self.rate * g / (np.sqrt(q + e) if o.epsilon_mode == "inside" else np.sqrt(q) + e)
        return self.rate * g


def clipped(recipe: Recipe, gradients: Arrays) -> tuple[Arrays, dict[str, float]]:
    """(gradients as they enter the optimizer, name → the norm that each was measured by): g · min(1, limit/‖g‖)."""
    norms = {name: float(np.linalg.norm(g)) for name, g in gradients.items()}
    if recipe.clip_scope == "all":
        norms = dict.fromkeys(norms, math.hypot(*norms.values()))
    if not recipe.clip_norm:
        return gradients, norms
    return {
        name: g * (recipe.clip_norm / norms[name] if norms[name] > recipe.clip_norm else 1.0)
        for name, g in gradients.items()
    }, norms


def clipped_tolerances(recipe: Recipe, dtype: str, gradients: Arrays, tolerance_of: Mapping[str, Any]) -> Arrays:
    """How far each clipped gradient may be off where the gradients may be off by `tolerance_of`.

    A clipped gradient also moves with the norm that it is divided by, and with that norm's own rounding.
    """
    found, norms = clipped(recipe, gradients)
    widths, whole = {name: float(np.linalg.norm(tolerance_of[name] + 0 * g)) for name, g in gradients.items()}, {}
    if recipe.clip_scope == "all":
        widths = dict.fromkeys(widths, math.hypot(*widths.values()))
    for name, g in gradients.items():
        tolerance, norm = tolerance_of[name] + tolerances.of(dtype, np.abs(g)), norms[name]
        if recipe.clip_norm and norm + widths[name] > recipe.clip_norm:
            summed = float(np.sqrt(np.sum(np.square(g, dtype=np.float32), dtype=np.float32)))
            c = tolerances.measured(summed, float(np.linalg.norm(g)), float(np.linalg.norm(g)))
            scale = min(1.0, recipe.clip_norm / norm) if norm else 1.0
            of_norm = np.abs(found[name]) * widths[name] / max(norm, 1e-300)
            tolerance = tolerance * scale + of_norm + tolerances.of(dtype, np.abs(found[name]), 1, c)
        whole[name] = np.asarray(tolerance)
    return whole


def halves(
    plan: Plan, dtype: str, step: int, before: tuple[Arrays, Arrays], after: Arrays,
    gradients: Arrays, tolerance_of: Mapping[str, Any], is_rounding: Mapping[str, bool],
) -> Iterator[Half]:  # fmt: skip
    """Every slot and weight after update number `step`.

    `before` is (weights, state) before it and `after` the state after it, as the backend has them; `gradients` are as
    it showed them, `tolerance_of` what training's own may be off, `is_rounding` says whose are 0 but for rounding.
    """
    now, (weights, state) = Numbers(plan, step), before
    rules, o = now.rules, plan.recipe.optimizer
    entering, _norms = clipped(plan.recipe, gradients)
    clipped_tolerance_of = clipped_tolerances(plan.recipe, dtype, gradients, tolerance_of)
    for name, g in entering.items():
        old = {slot: state[f"{name}/{slot}"].astype(np.float64) for slot in rules}
        for slot, rule in rules.items():
            kept, share, of_gradient = rule.keep * old[slot], rule.share * g**rule.power, clipped_tolerance_of[name]
            moved = of_gradient if rule.power == 1 else of_gradient * (2 * np.abs(g) + of_gradient)
            tolerance = rule.share * moved + tolerances.of(dtype, np.abs(kept) + np.abs(share))
            effect = None if is_rounding[name] else share
            yield Half(f"{name}/{slot}", "optimizer slots", kept + share, tolerance, effect)
    for name in gradients:
        if any(f"{name}/{slot}" not in after for slot in rules):
            continue  # which was told among the slots
        old, new = ({slot: arrays[f"{name}/{slot}"].astype(np.float64) for slot in rules} for arrays in (state, after))
        w, g, of_gradient = weights[name].astype(np.float64), entering[name], clipped_tolerance_of[name]
        decay = now.rate * o.weight_decay if o.kind == "adamw" and name in plan.decayed else 0.0
        if o.kind == "rmsprop":
            g, of_gradient = _told_by_square(dtype, rules, g, of_gradient, old, new)
        delta = now.direction(g, old, new)
        # A compiled program may keep a slot's own sum unrounded, or round it another way, before it is stored.
        sums = {slot: np.maximum(np.abs(rule.keep * old[slot]) + rule.share * np.abs(g), np.abs(new[slot]))
                for slot, rule in rules.items() if rule.power == 1}  # fmt: skip
        size = np.abs(now.direction(np.abs(g), {slot: -np.abs(value) for slot, value in old.items()}, new | sums))
        wanted = w * (1 - decay) - delta
        tolerance = tolerances.of(dtype, size) + size * now.correction
        tolerance = tolerance + ROUNDINGS * tolerances.eps(dtype) * np.maximum(np.abs(w), np.abs(wanted))
        if o.kind in ("sgd", "rmsprop"):
            tolerance = tolerance + np.abs(now.direction(of_gradient, old, new))
        effect = w * decay + delta
        nothing = is_rounding[name] and o.kind in ("sgd", "rmsprop")
        yield Half(name, "updated weights", wanted, tolerance, None if nothing else effect)


def _told_by_square(
    dtype: str, rules: Mapping[str, Rule], g: np.ndarray, tolerance: np.ndarray, old: Arrays, new: Arrays
) -> tuple[np.ndarray, np.ndarray]:
    """(the gradient, how far it may be off) where the mean of squares tells it more closely than what was seen.

    It says the size that the gradient of training's own pass had; the sign is that of `g` where that is beyond its
    tolerance.
    """
    ((slot, rule),) = rules.items()
    kept = rule.keep * old[slot]
    square = (new[slot] - kept) / rule.share
    off = tolerances.of(dtype, np.abs(kept) + np.abs(new[slot])) / rule.share
    least, size, most = (np.sqrt(np.maximum(square + shift, 0)) for shift in (-off, 0.0, off))
    width = np.maximum(most - size, size - least)
    is_told = (np.abs(g) > tolerance) & (width < tolerance)
    return np.where(is_told, np.sign(g) * size, g), np.where(is_told, width, tolerance)
