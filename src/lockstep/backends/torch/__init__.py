"""The PyTorch backend: modules, autograd and PyTorch's own optimizers, eager; on CUDA the optimizers are written out.

Images are kept channels-last, which is what the CPU's convolutions like best, and which makes the canonical flatten
order (height, width, channels) a view instead of a copy. On CUDA a convolution is one matrix product, and the kernels
of a step are recorded once and then started all at once (`Recorded`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from lockstep.backends import contract
from lockstep.backends.chunks import batches, prediction_batches
from lockstep.backends.plan import Arrays, Plan, Taken
from lockstep.backends.torch.layers import (
    LAYERS,
    PARAMETERS,
    Rounded,
    Same,
    canonical,
    channels_first,
    from_torch,
    to_numpy,
    to_torch,
)
from lockstep.backends.torch.losses import LOSSES
from lockstep.backends.torch.optimizers import NUMBERS, OPTIMIZERS, Group, numbers, updated_on_cuda
from lockstep.errors import LockstepError
from lockstep.spec import LayerFacts


class Model:
    """See `lockstep.backends.contract`."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Make the modules and the optimizer."""
        torch.set_num_threads(n_threads(plan))
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        torch.backends.cudnn.deterministic = True  # batch normalisation may be cuDNN's: its bits repeat
        self.plan, self.device, self.dtype = plan, _device(plan.device), getattr(torch, plan.dtype)
        self.mean = self._tensor(plan.mean.astype(plan.dtype))
        self.scale = self._tensor(plan.scale.astype(plan.dtype))
        self.layers = {row.name: LAYERS[row.layer.kind](row, plan) for row in plan.rows}
        modules: Any = nn.ModuleList(self.layers.values())
        self.modules = modules.to(self.device, self.dtype, memory_format=torch.channels_last)
        self.loss = LOSSES[plan.loss]
        slots, self.apply = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.parameters: dict[str, Any] = {name: self._parameter(name) for name in weights}
        self.kernels = [value for name, value in self.parameters.items() if name in plan.decayed]
        self.slots = {
            f"{name}/{slot}": torch.zeros_like(value) for name, value in self.parameters.items() for slot in slots
        }
        self.groups = self._grouped(slots)
        self.is_training: bool | None = None
        self.records, self.is_warm = Recorded.can_be(plan), False
        self.recorded: Recorded | None = None
        self.placed: tuple[torch.Tensor, ...] = ()
        self.restore(weights, self.state() | {"step": np.array(0)})

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Move the training data to the device, to where data of this size are already."""
        entering = self._tensor(images), self._tensor(labels)
        if self.placed and self.placed[0].shape == images.shape:
            for held, new in zip(self.placed, entering, strict=True):
                held.copy_(new)
        else:
            self.placed, self.recorded = entering, None  # a recording reads the data that were there

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch; nothing is read back from the device before its end."""
        full, short = batches(order, self.plan.recipe.batch_size)
        in_turn = len(full)
        if self.records:  # the first step of all takes with it what must not happen in a recording
            in_turn = min(in_turn, 0 if self.is_warm else 1)
        first = self._in_turn(full[:in_turn])
        self.is_warm |= in_turn > 0
        if in_turn < len(full):
            self.recorded = self.recorded or Recorded(self)
            first = np.concatenate([first, self.recorded.take(self, full[in_turn:])], axis=1)
        return np.concatenate([first, self._in_turn(short[None])], axis=1) if len(short) else first

    def wait(self) -> None:
        """CUDA answers before it is done; the CPU does not."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def predict(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), self._unchanged_statistics():
            parts = prediction_batches(self._tensor(images))
            return np.concatenate([self._forward(part, self.plan.in_prediction).cpu().numpy() for part in parts])

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        return float(self._step(self._tensor(images), self._tensor(labels))[0])

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        training = self.plan.in_training if training else self.plan.in_prediction
        with torch.no_grad(), self._unchanged_statistics():
            return {name: canonical(y) for name, y in self._observe(self._tensor(images), training).items()}

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        with self._unchanged_statistics():
            entered, *seen = self._observe(self._tensor(images), self.plan.in_training).items()
            loss = self._differentiate(seen[-1][1], self._tensor(labels))
        parameters = {name: from_torch(to_numpy(value.grad)) for name, value in self.parameters.items()}
        outputs = {name: canonical(y) for name, y in (entered, *seen)}
        return float(loss), parameters, {name: canonical(y.grad) for name, y in seen}, outputs

    def layer(self, name: str, x: Taken, dy: np.ndarray) -> tuple[np.ndarray, Taken, Arrays]:
        given = x if isinstance(x, tuple) else (x,)
        *enters, back = (channels_first(self._tensor(value).to(self.dtype)) for value in (*given, dy))
        for one in enters:
            one.requires_grad_()
        parameters = {key: value for key, value in self.parameters.items() if key.startswith(f"{name}/")}
        self._mode(self.plan.in_training, len(dy))
        with self._unchanged_statistics():
            y = self.layers[name](tuple(enters) if isinstance(x, tuple) else enters[0])
            found = torch.autograd.grad(y, [*enters, *parameters.values()], back)
        dx, gradients = tuple(map(canonical, found[: len(enters)])), found[len(enters) :]
        named = {key: from_torch(to_numpy(one)) for key, one in zip(parameters, gradients, strict=True)}
        return canonical(y), dx if isinstance(x, tuple) else dx[0], named

    def weights(self) -> Arrays:
        return {name: from_torch(to_numpy(value)) for name, value in self.parameters.items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        arrays = {name: to_numpy(value) for name, value in self._statistics().items()}
        arrays |= {name: from_torch(to_numpy(value)) for name, value in self.slots.items()}
        return arrays | {"step": np.array(getattr(self, "taken", 0))}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        self.taken = int(state["step"])
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self._tensor(to_torch(weights[name])))
            for name, value in self.slots.items():
                value.copy_(self._tensor(to_torch(state[name])))
            for count in itertools.chain.from_iterable(group.steps for group in self.groups):
                count.fill_(self.taken)
            for name, value in self._statistics().items():
                value.copy_(self._tensor(state[name]))

    # ---- one step

    def _in_turn(self, full: np.ndarray) -> np.ndarray:
        """Start one step after the other on these batches, (steps, batch): (2, steps), loss and correct answers."""
        results = [
            self._step(*(values.index_select(0, indices) for values in self.placed)) for indices in self._tensor(full)
        ]
        both = [torch.stack(values).to("cpu", torch.float64).numpy() for values in zip(*results, strict=True)]
        return np.stack(both) if both else np.empty((2, 0))

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._mode(self.plan.in_training, len(images))
        now: Sequence[torch.Tensor] = ()
        if self.records:
            now = torch.tensor(numbers(self.plan, self.taken), dtype=self.dtype, device=self.device).unbind()
        results = self._take(images, labels, now)
        self.taken += 1
        return results

    def _take(
        self, images: torch.Tensor, labels: torch.Tensor, now: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A step whose masks are in their place; `now` is NUMBERS, on CUDA."""
        logits = self._pass(images)
        loss = self._differentiate(logits, labels)
        self._clip()
        self._update(now)
        return loss, (logits.argmax(1) == labels).sum()

    def _mode(self, training: bool, n: int) -> None:
        """Training mode with the masks of the next update for `n` images, or inference mode."""
        if training is not self.is_training:
            self.modules.train(training)
            self.is_training = training
        for name, mask in self.plan.masks(self.taken, n).items() if training else ():
            self.layers[name].mask = channels_first(self._tensor(mask))

    def _forward(self, images: torch.Tensor, training: bool) -> torch.Tensor:
        self._mode(training, len(images))
        return self._pass(images)

    def _pass(self, images: torch.Tensor) -> torch.Tensor:
        return self.plan.fast_walk.through(self._prepare(images), lambda row, x: self.layers[row.name](x))

    def _observe(self, images: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
        """What enters and every layer's output, in the order written."""

        def there(row: LayerFacts, x: torch.Tensor) -> torch.Tensor:
            y = self.layers[row.name](x)
            if not y.requires_grad and torch.is_grad_enabled():
                y.requires_grad_()
            if y.requires_grad:
                y.retain_grad()
            return y

        self._mode(training, len(images))
        return self.plan.walk.values(self._prepare(images), there)

    def _differentiate(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss; every parameter's gradient of what is minimised goes into its `grad`."""
        loss = self.loss(logits, labels, self.plan)
        for value in self.parameters.values():
            value.grad = None
        self.plan.minimised(loss, len(labels)).backward()
        self._add_l2()
        return loss.detach()

    @contextlib.contextmanager
    def _unchanged_statistics(self) -> Iterator[None]:
        """Put the running statistics back at the end: looking must not change them."""
        before = {name: value.clone() for name, value in self._statistics().items()}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._statistics().items():
                    value.copy_(before[name])

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        return channels_first(images.to(self.dtype).sub_(self.mean).mul_(self.scale))

    @torch.no_grad()
    def _add_l2(self) -> None:
        """The gradient of ½·λ·‖kernel‖², before clipping: PyTorch's weight_decay would add it after."""
        if self.plan.recipe.l2:
            torch._foreach_add_([value.grad for value in self.kernels], self.kernels, alpha=self.plan.recipe.l2)

    @torch.no_grad()
    def _clip(self) -> None:
        """g ← g·min(1, c/‖g‖); PyTorch's clip_grad_norm_ divides by ‖g‖ + 1e-6."""
        if limit := self.plan.recipe.clip_norm:
            gradients = [value.grad for value in self.parameters.values()]
            norms = torch._foreach_norm(gradients)
            if self.plan.recipe.clip_scope == "tensor":
                torch._foreach_mul_(gradients, [torch.clamp(limit / norm, max=1.0) for norm in norms])
            else:
                norm = torch.linalg.vector_norm(torch.stack(norms))
                torch._foreach_mul_(gradients, torch.clamp(limit / norm, max=1.0))

    @torch.no_grad()
    def _update(self, now: Sequence[torch.Tensor]) -> None:
        """Let the optimizer take its step with this step's numbers."""
        o = self.plan.recipe.optimizer
        for group in self.groups:
            gradients = [value.grad for value in group.weights if value.grad is not None]
            if now:
                updated_on_cuda(group, gradients, o, now)
                continue
            decided = self.plan.numbers(self.taken)
            if decided.buffer_factor != 1:
                torch._foreach_mul_(group.slots["momentum"], decided.buffer_factor)
            self.apply(group, gradients, o, decided.rate, decided.epsilon)

    # ---- between NumPy and PyTorch

    def _tensor(self, value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(value)).to(self.device)

    def _parameter(self, name: str) -> nn.Parameter:
        layer, parameter = name.split("/")
        module: Any = self.layers[layer]
        while isinstance(module, Same | Rounded):
            module = module.then
        return getattr(module, PARAMETERS[parameter])

    def _statistics(self) -> dict[str, torch.Tensor]:
        return {
            f"{row.name}/running_{ours}": getattr(self.layers[row.name], f"running_{theirs}")
            for row in self.plan.rows
            if row.layer.has_state
            for ours, theirs in (("mean", "mean"), ("variance", "var"))
        }

    def _grouped(self, slots: Iterable[str]) -> list[Group]:
        """All parameters; where AdamW decays some of them, those apart."""
        decay = getattr(self.plan.recipe.optimizer, "weight_decay", 0.0)
        rates = {name: decay * (name in self.plan.decayed) for name in self.parameters}
        groups = []
        for rate in dict.fromkeys(rates.values()):
            names = [name for name in self.parameters if rates[name] == rate]
            groups.append(
                Group(
                    [self.parameters[name] for name in names],
                    rate,
                    {slot: [self.slots[f"{name}/{slot}"] for name in names] for slot in slots},
                    [torch.zeros((), device=self.device) for _ in names],
                )
            )
        return groups


FEW_MULTIPLY_ADDS = 2**22  # of a batch, forward


def n_threads(plan: Plan) -> int:
    """How many threads PyTorch gets: one, where there are only small products.

    These take one as long as two, which wait for each other by spinning: beside other work, forty times as long.
    """
    multiply_adds = plan.recipe.batch_size * sum(row.multiply_adds for row in plan.rows)
    return 1 if multiply_adds < FEW_MULTIPLY_ADDS else plan.threads


class Recorded:
    """A full batch's step on CUDA: its kernels, recorded once, are started by one call for every batch.

    Else Python takes longer to start a small network's kernels one by one than they take to run. What differs between
    steps lies in memory that the kernels read: the batches' indices, NUMBERS, the masks, and which step it is.
    """

    @staticmethod
    def can_be(plan: Plan) -> bool:
        """Whether steps can be recorded there."""
        return plan.device == "cuda"

    def __init__(self, model: Model) -> None:
        """Record a step; it is not taken. One has to have been taken before."""
        plan = model.plan
        on: Any = {"device": model.device}
        batch = plan.recipe.batch_size
        steps = max(plan.steps_per_epoch, len(model.placed[0]) // batch)
        self.number = torch.zeros(1, dtype=torch.int64, **on)
        self.batches = torch.zeros((steps, batch), dtype=torch.int64, **on)
        self.numbers = torch.zeros((steps, len(NUMBERS)), dtype=model.dtype, **on)
        self.results = torch.zeros((2, steps), dtype=model.dtype, **on)
        model._mode(plan.in_training, batch)
        dropped = [row.name for _, row in plan.dropouts] if plan.in_training else []
        self.masks: dict[str, Any] = {name: model.layers[name].mask for name in dropped}
        self.replay = self.record(model)

    def record(self, model: Model) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step(model)
        return graph.replay

    def step(self, model: Model) -> None:
        """Step number `number` of those asked for."""
        indices = self.batches.index_select(0, self.number)[0]
        images, labels = (values.index_select(0, indices) for values in model.placed)
        results = model._take(images, labels, self.numbers.index_select(0, self.number)[0].unbind())
        for kept, value in zip(self.results, results, strict=True):
            kept.index_copy_(0, self.number, value.to(kept.dtype).reshape(1))
        self.number += 1

    def take(self, model: Model, full: np.ndarray) -> np.ndarray:
        """Take a step on each of these batches, (steps, batch): (2, steps) float64, loss and correct answers.

        It is the model that was recorded; kept here, it would be freed by the garbage collector, perhaps in the middle
        of another's recording, which that ends.
        """
        n, plan = len(full), model.plan
        of_each = [numbers(plan, step) for step in range(model.taken, model.taken + n)]
        self.batches[:n] = model._tensor(full)
        self.numbers[:n] = model._tensor(np.array(of_each)).to(model.dtype)
        self.number.zero_()
        for _ in full:
            masks = plan.masks(model.taken, plan.recipe.batch_size) if self.masks else {}
            for name, mask in masks.items():
                self.masks[name].copy_(channels_first(torch.from_numpy(mask)))
            self.replay()
            model.taken += 1
        return self.results[:, :n].to("cpu", torch.float64).numpy()


def device_name(name: str) -> str:
    """What computes: "cpu", or "cuda (NVIDIA H100 PCIe)"; without a GPU what was asked for, which `build` refuses."""
    return f"cuda ({torch.cuda.get_device_name()})" if name == "cuda" and torch.cuda.is_available() else name


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        hint = 'use device = "cpu", or install a CUDA build of PyTorch'
        raise LockstepError("LS-404", "PyTorch finds no CUDA device", where="backend torch", hint=hint)
    return torch.device(name)


def build(plan: Plan, weights: Arrays) -> contract.Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)
