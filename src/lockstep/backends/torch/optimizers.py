"""The optimizers' steps, on a group of parameters: PyTorch's own updates; on CUDA the formulas are written out.

PyTorch's updates are the canonical ones. They are called as functions, without what the classes around them do at every
step (a tenth of a small network's).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.adam import adam as of_adam
from torch.optim.adamw import adamw as of_adamw
from torch.optim.rmsprop import rmsprop as of_rmsprop
from torch.optim.sgd import sgd as of_sgd

from lockstep.backends.plan import Plan


@dataclass
class Group:
    """Parameters that are updated alike, and what the optimizer keeps of each."""

    weights: list[torch.Tensor]
    decay: float
    slots: dict[str, list[torch.Tensor]]  # canonical name → one per parameter
    steps: list[torch.Tensor]  # how many updates each has had, as PyTorch counts them


def sgd(group: Group, gradients: list[torch.Tensor], o: Any, rate: float, epsilon: float) -> None:
    """w ← w − lr·g, by way of the buffer b ← μ·b + g where there is one."""
    buffers: list[torch.Tensor | None] = [*group.slots.get("momentum", [None for _ in gradients])]
    of_sgd(
        group.weights, gradients, buffers, fused=True,
        weight_decay=0.0, momentum=getattr(o, "momentum", 0.0), lr=rate, dampening=0.0, nesterov=o.kind == "nesterov",
        maximize=False,
    )  # fmt: skip


def adam(group: Group, gradients: list[torch.Tensor], o: Any, rate: float, epsilon: float) -> None:
    """Adam, or AdamW where the group decays."""
    update = of_adamw if o.kind == "adamw" else of_adam
    update(
        group.weights, gradients, group.slots["first_moment"], group.slots["second_moment"], [], group.steps,
        fused=True, amsgrad=False, beta1=o.beta1, beta2=o.beta2, lr=rate, weight_decay=group.decay, eps=epsilon,
        maximize=False,
    )  # fmt: skip


def rmsprop(group: Group, gradients: list[torch.Tensor], o: Any, rate: float, epsilon: float) -> None:
    """PyTorch's own; or w ← w − lr·g/√(s + ε), where PyTorch adds ε to the root."""
    squares = group.slots["mean_square"]
    if o.epsilon_mode != "inside":
        of_rmsprop(
            group.weights, gradients, squares, [], [], group.steps, foreach=True,
            lr=rate, alpha=o.rho, eps=epsilon, weight_decay=0.0, momentum=0.0, centered=False,
        )  # fmt: skip
        return
    torch._foreach_mul_(squares, o.rho)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - o.rho)
    roots = torch._foreach_add(squares, epsilon)
    torch._foreach_sqrt_(roots)
    torch._foreach_addcdiv_(group.weights, gradients, roots, value=-rate)


Update = Callable[[Group, list[torch.Tensor], Any, float, float], None]
OPTIMIZERS: dict[str, tuple[tuple[str, ...], Update]] = {
    "sgd": ((), sgd),
    "momentum": (("momentum",), sgd),
    "nesterov": (("momentum",), sgd),
    "adam": (("first_moment", "second_moment"), adam),
    "adamw": (("first_moment", "second_moment"), adam),
    "rmsprop": (("mean_square",), rmsprop),
}


# On CUDA PyTorch's fused updates are not the canonical ones: they work 1 − βᵗ out in float32, which makes Adam's first
# step 6e-6 too long, and take the rate as a float32. So there the formulas stand here, and a step's numbers are worked
# out in float64 and lie in memory, where kernels that were recorded find those of the step they are started for.

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]
NUMBERS = ("rate", "epsilon", "buffer_factor", "shrinking", "root_scale")


def numbers(plan: Plan, step: int) -> tuple[float, ...]:
    """NUMBERS of update number `step`, from 0: with Adam the rate is lr/(1 − β₁ᵗ) and `root_scale` 1/√(1 − β₂ᵗ)."""
    o, rate = plan.recipe.optimizer, plan.learning_rate(step)
    shrinking, root_scale = 1 - rate * getattr(o, "weight_decay", 0.0), 1.0
    if o.kind in ("adam", "adamw"):
        rate, root_scale = rate / (1 - o.beta1 ** (step + 1)), 1 / math.sqrt(1 - o.beta2 ** (step + 1))
    return rate, plan.epsilon(step), plan.buffer_factor(step), shrinking, root_scale


def updated_on_cuda(group: Group, gradients: list[torch.Tensor], o: Any, now: Sequence[torch.Tensor]) -> None:
    """w ← w − rate·direction, or w ← w − rate·direction/roots, by each optimizer's formula, with NUMBERS in tensors.

    These have no axis: for most functions of a list of tensors the same as a Python number, but to be read where they
    lie, when the kernels run. `_foreach_add` would read them at once, which a recording can't, so it is told not to.
    """
    rate, epsilon, buffer_factor, shrinking, root_scale = now
    add = torch.ops.aten._foreach_add.Tensor
    directions: Tensors = gradients
    roots: Tensors | None = None
    if buffers := group.slots.get("momentum"):  # b ← μ·b + g
        torch._foreach_mul_(buffers, buffer_factor)
        torch._foreach_mul_(buffers, o.momentum)
        torch._foreach_add_(buffers, gradients)
        directions = torch._foreach_add(gradients, buffers, alpha=o.momentum) if o.kind == "nesterov" else buffers
    elif means := group.slots.get("first_moment"):  # m̂/(√v̂ + ε)
        squares = group.slots["second_moment"]
        if group.decay:
            torch._foreach_mul_(group.weights, shrinking)
        torch._foreach_lerp_(means, gradients, 1 - o.beta1)
        torch._foreach_mul_(squares, o.beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - o.beta2)
        directions, roots = means, add(torch._foreach_mul(torch._foreach_sqrt(squares), root_scale), epsilon)
    elif "mean_square" in group.slots:  # g/(√s + ε), or g/√(s + ε)
        squares = group.slots["mean_square"]
        torch._foreach_mul_(squares, o.rho)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - o.rho)
        inside = o.epsilon_mode == "inside"
        roots = torch._foreach_sqrt(add(squares, epsilon)) if inside else add(torch._foreach_sqrt(squares), epsilon)
    ways = torch._foreach_mul(directions, rate)
    if roots is None:
        torch._foreach_sub_(group.weights, ways)
    else:
        torch._foreach_addcdiv_(group.weights, ways, roots, value=-1)
