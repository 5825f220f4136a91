"""Regularisers and optimizers as formulas, for the targets whose own mean another thing, or that have none.

The same lines in NumPy, in JAX and on TensorFlow's variables: a `Style` says what a square root is called there and how
a new value comes into its place. Bias corrections, rates and ε come from the loop, which works them out in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lockstep.exchange.scripts.given import Given
from lockstep.exchange.scripts.lines import indented


@dataclass(frozen=True)
class Style:
    """How a target writes formulas: the module with `sqrt` and `minimum`, and whether variables are assigned to."""

    module: str
    is_assigned: bool = False

    @property
    def axes(self) -> str:
        """How many axes a weight has."""
        return "len(w.shape)" if self.is_assigned else "w.ndim"

    def slot(self, letter: str, kind: str, value: str) -> str:
        """A slot gets a new value, which is called by its letter from here on."""
        place = f'slots["{kind}"][name]'
        return f"{letter} = {place}.assign({value})" if self.is_assigned else f"{letter} = {place} = {value}"

    def weight(self, value: str) -> str:
        """The weight gets a new value."""
        return f"w.assign({value})" if self.is_assigned else f"weights[name] = {value}"


def _share(beta: float) -> str:
    return f"(1 - {beta!r})"


def _sgd(given: Given, style: Style) -> list[str]:
    return [style.weight(f"w - {given.rate} * g")]


def _momentum(given: Given, style: Style) -> list[str]:
    o = given.recipe.optimizer
    factor = f"{o.momentum!r} * factor" if given.is_velocity else repr(o.momentum)
    direction = f"(g + {o.momentum!r} * b)" if o.kind == "nesterov" else "b"
    return [style.slot("b", "b", f'{factor} * slots["b"][name] + g'), style.weight(f"w - {given.rate} * {direction}")]


def _adam(given: Given, style: Style) -> list[str]:
    o = given.recipe.optimizer
    lines = []
    if o.kind == "adamw":
        decayed = f"w * (1 - {given.rate} * {o.weight_decay!r})"
        decay = style.weight(decayed) if style.is_assigned else f"w = {decayed}"
        lines = [decay] if given.decays_all else [f"if {style.axes} > 1:  # a kernel", f"    {decay}"]
    epsilon = "epsilon" if o.epsilon_mode == "hat" else repr(o.epsilon)
    return [
        *lines,
        style.slot("m", "m", f'{o.beta1!r} * slots["m"][name] + {_share(o.beta1)} * g'),
        style.slot("v", "v", f'{o.beta2!r} * slots["v"][name] + {_share(o.beta2)} * g * g'),
        style.weight(f"w - {given.rate} * first * m / ({style.module}.sqrt(v) * second + {epsilon})"),
    ]


def _rmsprop(given: Given, style: Style) -> list[str]:
    o, root = given.recipe.optimizer, f"{style.module}.sqrt"
    divisor = f"{root}(s + {o.epsilon!r})" if o.epsilon_mode == "inside" else f"({root}(s) + {o.epsilon!r})"
    return [
        style.slot("s", "s", f'{o.rho!r} * slots["s"][name] + {_share(o.rho)} * g * g'),
        style.weight(f"w - {given.rate} * g / {divisor}"),
    ]


# kind → (its slots, what is said of it, the lines that make new ones of w, g and the slots)
OPTIMIZERS: dict[str, tuple[str, str, Callable[[Given, Style], list[str]]]] = {
    "sgd": ("", "w ← w - rate · g", _sgd),
    "momentum": ("b", "b ← μ · b + g; w ← w - rate · b", _momentum),
    "nesterov": ("b", "b ← μ · b + g; w ← w - rate · (g + μ · b)", _momentum),
    "adam": ("mv", "Adam (Kingma & Ba 2015, Algorithm 1)", _adam),
    "adamw": ("mv", "AdamW (Loshchilov & Hutter 2019): Adam after a decay", _adam),
    "rmsprop": ("s", "s ← ρ · s + (1 - ρ) · g²; w ← w - rate · g / √s", _rmsprop),
}


def slots_of(given: Given) -> str:
    """The letters of the optimizer's slots."""
    return OPTIMIZERS[given.recipe.optimizer.kind][0]


def updated(given: Given, style: Style, remark: str = "") -> str:
    """The function `updated(weights, slots, gradients, …)`; without variables it returns new dictionaries."""
    recipe = given.recipe
    slots, said, lines_of = OPTIMIZERS[recipe.optimizer.kind]
    names = ["weights", *(["slots"] if slots else []), "gradients", *given.numbers]
    lines = [f'"""{said}{remark}."""']
    if not style.is_assigned:
        lines += ["weights, gradients = dict(weights), dict(gradients)"]
        lines += ["slots = {kind: dict(arrays) for kind, arrays in slots.items()}"] if slots else []
    if recipe.l2:
        lines += [
            "for name, w in weights.items():  # the gradient of λ/2 · w²" + ("" if given.decays_all else " of kernels")
        ]
        add = f"gradients[name] += {recipe.l2!r} * w"
        lines += [f"    {add}"] if given.decays_all else [f"    if {style.axes} > 1:", f"        {add}"]
    squares = "(g * g).sum()" if style.module != "tf" else "tf.reduce_sum(g * g)"
    if recipe.clip_norm and recipe.clip_scope == "all":
        lines += [f"norm = {style.module}.sqrt(sum({squares} for g in gradients.values()))"]
    lines += ["for name, w in weights.items():", "    g = gradients[name]"]
    if recipe.clip_norm:
        norm = "norm" if recipe.clip_scope == "all" else f"{style.module}.sqrt({squares})"
        lines += [f"    g = g * {style.module}.minimum({recipe.clip_norm!r} / {norm}, 1.0)"]
    lines += [f"    {line}" for line in lines_of(given, style)]
    lines += [] if style.is_assigned else [f"return weights{', slots' if slots else ''}"]
    return f"def updated({', '.join(names)}):\n" + indented("\n".join(lines))
