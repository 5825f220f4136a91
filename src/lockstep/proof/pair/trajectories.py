"""Optimizers as formulas in float64, with all that frameworks do otherwise as a field; and which a trajectory is of.

A rule is followed over some updates by the same gradients as both sides were given. What reproduces every weight after
every update is what the side computes, whatever it is called there. The formulas are the papers', written for one array
(`proof.update` has those of Lockstep's own recipes), beside what PyTorch, Keras and Optax make of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One optimizer."""

    kind: str  # "sgd", "adam", "nadam", "adamax", "rmsprop", "adagrad", "adadelta", "lion"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    velocity: bool = False  # momentum keeps μ·v − lr·g, with the rate of its time
    dampening: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999  # RMSprop's and Adadelta's ρ too
    epsilon: float = 1e-8
    place: str = "outside"  # ε: "outside" the root, after bias correction; "hat", before it; "inside" the root
    decay: float = 0.0
    decoupled: bool = False  # w ← w − lr·λ·w; else λ·w is added to the gradient
    decayed: str = "all"  # or "matrices": biases and scales are left out
    amsgrad: str = ""  # the maximum of the "raw" second moments, or of the "corrected" ones
    centred: bool = False
    start: float = 0.0  # of the mean of squares
    clip: float = 0.0
    clipped: str = "all"  # by the norm of "all" gradients, of "each", or each "value"


def follow(
    rule: Rule, start: Arrays, gradients: Sequence[Arrays], rates: Sequence[float] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """The weights after each update; `rates` are the learning rates of a schedule."""
    weights = {name: np.array(value, np.float64) for name, value in start.items()}
    slots: dict[str, dict[str, np.ndarray]] = {
        name: {key: np.zeros_like(value) for key in ("b", "m", "v", "a", "d")} for name, value in weights.items()
    }
    for slot in slots.values():
        slot["v"] += rule.start
    for step, given in enumerate(gradients):
        rate = rule.learning_rate if rates is None else rates[step]
        for name, g in _clipped(rule, given).items():
            if name not in weights:
                continue
            w = weights[name]
            is_decayed = rule.decay and (rule.decayed == "all" or w.ndim > 1)
            if is_decayed and not rule.decoupled:
                g = g + rule.decay * w
            if is_decayed and rule.decoupled:
                w = w - rate * rule.decay * w
            weights[name] = w - _delta(rule, g, slots[name], step + 1, rate)
        yield dict(weights)


def _clipped(rule: Rule, gradients: Arrays) -> Arrays:
    if not rule.clip:
        return gradients
    if rule.clipped == "value":
        return {name: np.clip(g, -rule.clip, rule.clip) for name, g in gradients.items()}
    norms = {name: float(np.linalg.norm(g)) for name, g in gradients.items()}
    if rule.clipped == "all":
        norms = dict.fromkeys(norms, math.hypot(*norms.values()))
    return {name: g * min(1.0, rule.clip / max(norms[name], 1e-300)) for name, g in gradients.items()}


def _delta(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    """What is taken from the weight; the slots are changed."""
    return DELTAS[rule.kind](rule, g, s, t, rate)


def _sgd(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    if not rule.momentum:
        return rate * g
    if rule.velocity:
        s["b"] = rule.momentum * s["b"] - rate * g
        return rate * g - rule.momentum * s["b"] if rule.nesterov else -s["b"]
    s["b"] = g if t == 1 else rule.momentum * s["b"] + (1 - rule.dampening) * g
    return rate * (g + rule.momentum * s["b"]) if rule.nesterov else rate * s["b"]


def _adam(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    s["m"] = rule.beta1 * s["m"] + (1 - rule.beta1) * g
    s["v"] = rule.beta2 * s["v"] + (1 - rule.beta2) * g**2
    one, two = 1 - rule.beta1**t, 1 - rule.beta2**t
    m, v = s["m"] / one, s["v"]
    if rule.kind == "nadam":
        m = rule.beta1 * s["m"] / (1 - rule.beta1 ** (t + 1)) + (1 - rule.beta1) * g / one
    if rule.amsgrad == "raw":
        s["a"] = v = np.maximum(s["a"], v)
    if rule.amsgrad == "corrected":
        s["a"] = np.maximum(s["a"], v / two)
        v = s["a"] * two
    if rule.place == "hat":
        return rate * m * math.sqrt(two) / (np.sqrt(v) + rule.epsilon)
    if rule.place == "inside":
        return rate * m / np.sqrt(v / two + rule.epsilon)
    return rate * m / (np.sqrt(v / two) + rule.epsilon)


def _adamax(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    s["m"] = rule.beta1 * s["m"] + (1 - rule.beta1) * g
    if rule.place == "inside":  # within the maximum, as PyTorch has it
        s["v"] = np.maximum(rule.beta2 * s["v"], np.abs(g) + rule.epsilon)
        return rate / (1 - rule.beta1**t) * s["m"] / s["v"]
    s["v"] = np.maximum(rule.beta2 * s["v"], np.abs(g))
    return rate / (1 - rule.beta1**t) * s["m"] / (s["v"] + rule.epsilon)


def _rmsprop(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    s["v"] = rule.beta2 * s["v"] + (1 - rule.beta2) * g**2
    v = s["v"]
    if rule.centred:
        s["a"] = rule.beta2 * s["a"] + (1 - rule.beta2) * g
        v = v - s["a"] ** 2
    step = g / (np.sqrt(v + rule.epsilon) if rule.place == "inside" else np.sqrt(v) + rule.epsilon)
    if not rule.momentum:
        return rate * step
    s["b"] = rule.momentum * s["b"] + (rate * step if rule.velocity else step)
    return s["b"] if rule.velocity else rate * s["b"]


def _adagrad(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    s["v"] = s["v"] + g**2
    return rate * g / (np.sqrt(s["v"] + rule.epsilon) if rule.place == "inside" else np.sqrt(s["v"]) + rule.epsilon)


def _adadelta(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    s["v"] = rule.beta2 * s["v"] + (1 - rule.beta2) * g**2
    step = np.sqrt(s["d"] + rule.epsilon) / np.sqrt(s["v"] + rule.epsilon) * g
    s["d"] = rule.beta2 * s["d"] + (1 - rule.beta2) * step**2
    return rate * step


def _lion(rule: Rule, g: np.ndarray, s: dict[str, np.ndarray], t: int, rate: float) -> np.ndarray:
    step = np.sign(rule.beta1 * s["m"] + (1 - rule.beta1) * g)
    s["m"] = rule.beta2 * s["m"] + (1 - rule.beta2) * g
    return rate * step


DELTAS = {"sgd": _sgd, "adam": _adam, "nadam": _adam, "adamax": _adamax, "rmsprop": _rmsprop, "adagrad": _adagrad,
          "adadelta": _adadelta, "lion": _lion}  # fmt: skip
# What frameworks take where nothing is said: where a search begins.
BEGINNINGS = (
    Rule("sgd", 1e-2), Rule("sgd", 1e-2, momentum=0.9), Rule("sgd", 1e-2, momentum=0.9, velocity=True),
    Rule("sgd", 1e-2, momentum=0.9, nesterov=True), Rule("sgd", 1e-2, momentum=0.9, nesterov=True, velocity=True),
    Rule("adam"), Rule("adam", epsilon=1e-7, place="hat"), Rule("adam", decay=1e-2, decoupled=True),
    Rule("adam", decay=1e-4, decoupled=True), Rule("adam", epsilon=1e-7, place="hat", decay=4e-3, decoupled=True),
    Rule("rmsprop", 1e-2, beta2=0.99), Rule("rmsprop", beta2=0.9, epsilon=1e-7, place="inside"),
    Rule("rmsprop", beta2=0.9), Rule("rmsprop", beta2=0.9, place="inside"), Rule("adamax", 2e-3, place="inside"),
    Rule("adamax", epsilon=1e-7), Rule("adagrad", 1e-2, epsilon=1e-10),
    Rule("adagrad", epsilon=1e-7, place="inside", start=0.1), Rule("lion", 1e-4, beta2=0.99),
    Rule("adadelta", 1.0, beta2=0.9, epsilon=1e-6), Rule("adadelta", 1e-3, beta2=0.95, epsilon=1e-7),
)  # fmt: skip
COMMON: dict[str, tuple[Any, ...]] = {
    "epsilon": (1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-10, 1e-12, 1e-16),
    "place": ("outside", "hat", "inside"),
    "momentum": (0.0, 0.9, 0.99, 0.95, 0.5),
    "nesterov": (False, True), "velocity": (False, True), "centred": (False, True), "decoupled": (False, True),
    "dampening": (0.0, 0.9, 0.1),
    "beta1": (0.9, 0.95, 0.5, 0.0), "beta2": (0.999, 0.99, 0.9, 0.98, 0.95),
    "decay": (0.0, 1e-4, 5e-4, 1e-3, 1e-2, 1e-5, 4e-3, 0.05, 0.1, 2e-4),
    "decayed": ("all", "matrices"),
    "amsgrad": ("", "raw", "corrected"), "start": (0.0, 0.1, 1.0),
    "clip": (0.0, 1.0, 0.5, 5.0, 0.1, 10.0), "clipped": ("all", "each", "value"),
}  # fmt: skip
USED = {
    "sgd": ("momentum", "nesterov", "velocity", "dampening"),
    "adam": ("beta1", "beta2", "epsilon", "place", "amsgrad"), "nadam": ("beta1", "beta2", "epsilon", "place"),
    "adamax": ("beta1", "beta2", "epsilon", "place"),
    "rmsprop": ("beta2", "epsilon", "place", "centred", "momentum", "velocity", "start"),
    "adagrad": ("epsilon", "place", "start"), "adadelta": ("beta2", "epsilon"), "lion": ("beta1", "beta2"),
}  # fmt: skip
ALWAYS = ("learning_rate", "decay", "decoupled", "decayed", "clip", "clipped")


def fields_of(rule: Rule) -> tuple[str, ...]:
    """What decides the trajectory of a rule of this kind."""
    return (*ALWAYS, *USED[rule.kind])


def neighbours(rule: Rule, values: Mapping[str, Iterable[Any]], most: int = 2) -> Iterator[Rule]:
    """The rule itself, then with one field otherwise, then with two."""
    yield rule
    others = {
        field: [x for x in dict.fromkeys([*values.get(field, ()), *COMMON.get(field, ())]) if x != getattr(rule, field)]
        for field in fields_of(rule)
    }
    for n in range(1, most + 1):
        for fields in itertools.combinations(others, n):
            for chosen in itertools.product(*(others[field] for field in fields)):
                yield dataclasses.replace(rule, **dict(zip(fields, chosen, strict=True)))


def rates_seen(start: Arrays, after: Arrays, gradients: Arrays) -> list[float]:
    """Learning rates that the first update speaks for: of gradient descent, of a step of ±lr, of RMSprop's first."""
    delta = np.concatenate([(start[name] - after[name]).ravel() for name in gradients if name in after])
    g = np.concatenate([gradients[name].ravel() for name in gradients if name in after])
    large = np.abs(g) > 0.5 * np.abs(g).max(initial=0.0)
    if not large.any():
        return []
    ratio, step = float(np.median(delta[large] / g[large])), float(np.median(np.abs(delta[large])))
    guesses = [ratio, step, *(step * math.sqrt(1 - rho) for rho in (0.9, 0.99, 0.95))]
    return [float(f"{guess:.3g}") for guess in guesses if guess > 0]
