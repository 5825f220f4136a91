"""How a PyTorch model is trained: the person's loss, optimizer, scheduler, step and loader, or steps of their parts."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from lockstep.exchange.models import side, training
from lockstep.exchange.models.records import Call, Change, Trace, Where, together
from lockstep.exchange.models.torch.side import Recorder, Torch, arguments_of
from lockstep.exchange.models.training import Batches, Drop, Part, Steps, Way
from lockstep.language import later

MOST_TOLD = 1000  # entries of a tensor that is an argument: the weights of classes


class Training:
    """See `training.Training`."""

    def __init__(self, owner: Torch) -> None:
        self.owner = owner
        self.asked: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------ what there is

    def parts(self, asked: Mapping[str, str]) -> dict[str, Part]:
        """See `training.Training`."""
        self.asked = dict(asked)
        return training.described(training.found(self.owner.module, asked), asked, self._describe)

    def _describe(self, part: str, name: str) -> dict[str, Part]:
        if part == "loss":
            return {part: self._described(name, self._loss())}
        if part != "optimizer":
            return {part: Part(name, where=training.line_of(self.owner.module, name))}
        with self._restored():
            optimizer, schedule = self._optimizer({})
            told = {part: self._described(name, optimizer)}
            return told if schedule is None else told | {"schedule": self._described(name, schedule)}

    def _described(self, name: str, value: Any) -> Part:
        made = self.owner.made.get(id(value))
        if isinstance(value, torch.optim.Optimizer):
            groups = [{key: _told(each) for key, each in group.items() if key != "params"}
                      for group in value.param_groups]  # fmt: skip
            arguments = training.in_order(value, groups[0]) | (
                {"groups": groups} if any(group != groups[0] for group in groups) else {}
            )
            where = self.owner.made.get(id(value), ("", Where(), {}))[1]
            return Part(name, f"torch.optim.{type(value).__name__}", where, arguments)
        if isinstance(value, nn.Module) and made is not None:
            return Part(name, f"torch.nn.{made[0]}", made[1], self._own(value, made[2]))
        if isinstance(value, torch.optim.lr_scheduler.LRScheduler):
            known = {key: side.plain(each) for key, each in vars(value).items()
                     if isinstance(each, bool | int | float | list) and not key.startswith("_")}  # fmt: skip
            where = self.owner.made.get(id(value), ("", Where(), {}))[1]
            return Part(name, f"torch.optim.lr_scheduler.{type(value).__name__}", where, known)
        return Part(name, getattr(value, "__name__", type(value).__name__), training.where_of(value))

    @staticmethod
    def _own(module: nn.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A layer's arguments, tensors among them as lists of numbers."""
        tensors = {key: getattr(module, key, None) for key in arguments}
        return {
            key: _told(tensors[key]) if isinstance(tensors[key], torch.Tensor) else value
            for key, value in arguments.items()
        }

    def _part(self, part: str) -> Any:
        asked = {key: name for key, name in self.asked.items() if key == part}
        return training.needed(training.found(self.owner.module, asked), part)[1]

    # -------------------------------------------------------------------------------------------------------- the loss

    def _loss(self) -> Callable[..., Any]:
        """The person's loss: an object as it is, what a class or a function without arguments gives."""
        value = self._part("loss")
        if isinstance(value, nn.Module) or (not isinstance(value, type) and training.n_needed(value)):
            return value
        with self.owner.watching():
            return side.made(value)

    def loss(self, outputs: np.ndarray, labels: np.ndarray, changes: Sequence[Change]) -> Trace:
        """See `training.Training`."""
        function = self._loss()
        given, targets = self._tensor(outputs).requires_grad_(), self._tensor(labels)
        made = self.owner.made.get(id(function))
        calls: tuple[Call, ...] = ()
        if made is not None:  # one of PyTorch's own: made again under a change of what it was made with
            change = together(changes)
            if change is not None:
                function = self._remade(function, made, change)
            value = self._value(function, given, targets)
            part = self._described("", self._loss())
            calls = (Call(0, part.function, "loss", "", part.where, {}, {}, part.arguments, ()),)
        else:
            recorder = Recorder(self.owner, {}, changes)
            for tensor in (given, targets):
                recorder.number(tensor)
            with recorder:
                value = self._value(function, given, targets)
            calls = tuple(recorder.calls)
        value = value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
        numbers = {0: value.detach().numpy().copy()}
        gradients: dict[int, np.ndarray] = {}
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.mean(), [given], allow_unused=True)
            gradients = {} if gradient is None else {0: gradient.numpy()}
        return Trace(calls, numbers, (), (0,), gradients, loss=float(value.detach().mean()))

    @staticmethod
    def _value(function: Callable[..., Any], outputs: Any, labels: Any) -> Any:
        if isinstance(function, nn.Module):
            return function(outputs, labels)
        return training.called(function, {"outputs": outputs, "labels": labels}, ("outputs", "labels"))

    @staticmethod
    def _remade(old: Any, made: tuple[str, Where, dict[str, Any]], change: Change) -> nn.Module:
        arguments = {**made[2], **change.arguments}
        for key, value in arguments.items():
            if isinstance(getattr(old, key, None), torch.Tensor) and key not in change.arguments:
                arguments[key] = getattr(old, key)
            elif isinstance(value, list):
                arguments[key] = torch.tensor(value, dtype=torch.get_default_dtype())
        known = side.signature_of(type(old))
        return type(old)(**{key: value for key, value in arguments.items() if key in known})

    def _tensor(self, value: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(value, order="C"))
        return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor

    # --------------------------------------------------------------------------------------------------- the optimizer

    def _optimizer(self, changed: Mapping[str, Any]) -> tuple[torch.optim.Optimizer, Any]:
        """A new optimizer over the model's parameters, and its scheduler where there is one."""
        value, model = self._part("optimizer"), self.owner.model
        with self._noted():
            if not isinstance(value, torch.optim.Optimizer):
                offered = {"parameters": list(model.parameters()), "model": model}
                value = training.called(value, offered, ("parameters",))
            value, schedule = _both(value)
            if not isinstance(value, torch.optim.Optimizer):
                kind = type(value).__name__
                raise side.UserError(
                    later("{type} is no torch.optim.Optimizer", type=kind), hint=later("return the optimizer")
                )
            known = {id(parameter) for parameter in model.parameters()}
            if not all(id(each) in known for group in value.param_groups for each in group["params"]):
                hint = later("write a function optimizer(parameters) that returns it")
                raise side.UserError(later("the optimizer was made for another model's parameters"), hint=hint)
            for group in value.param_groups:
                group.update({key: tuple(each) if isinstance(each, list) else each for key, each in changed.items()})
            if schedule is None and "schedule" in training.found(self.owner.module, self.asked):
                schedule = training.called(self._part("schedule"), {"optimizer": value}, ("optimizer",))
        return value, schedule

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Inside, it is noted where an optimizer or a scheduler is made."""
        classes = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
        before = {each: each.__init__ for each in classes}

        def noting(init: Callable[..., None]) -> Callable[..., None]:
            @functools.wraps(init)
            def note(made: Any, *args: Any, **kwargs: Any) -> None:
                self.owner.made[id(made)] = (type(made).__name__, self.owner.lines.here(), {})
                self.owner.keep.append(made)
                init(made, *args, **kwargs)

            return note

        for each, init in before.items():
            each.__init__ = noting(init)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for each, init in before.items():
                each.__init__ = init  # type: ignore[method-assign]

    def optimize(self, gradients: Sequence[Mapping[str, np.ndarray]], changed: Mapping[str, Any]) -> Steps:
        """See `training.Training`."""
        values, rates = [], []
        with self._restored():
            optimizer, schedule = self._optimizer(changed)
            for given in gradients:
                self._give(given)
                rates.append(_rate(optimizer))
                optimizer.step()
                _advance(schedule)
                after = self.owner.units()
                values.append({name: after[name] for name in given})
        return Steps(tuple(values), (), tuple(rates))

    def _give(self, gradients: Mapping[str, np.ndarray]) -> None:
        """Set the gradient of every parameter, from those of its units."""
        for parameter in self.owner.model.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        for name, value in gradients.items():
            tensor, kept, part = self.owner.holders[name]
            new = torch.from_numpy(np.array(kept.back(value), order="C")).to(tensor.dtype)
            if tensor.grad is not None:
                (tensor.grad if part is None else tensor.grad[part[0] : part[1]]).copy_(new)

    @contextlib.contextmanager
    def _restored(self) -> Iterator[None]:
        """Afterwards, the model and an optimizer that the file has made are what they were."""
        model = self.owner.model
        before = {name: tensor.detach().clone() for name, tensor in _all(model)}
        made = training.found(self.owner.module, self.asked).get("optimizer", ("", None))[1]
        state = copy.deepcopy(made.state_dict()) if isinstance(made, torch.optim.Optimizer) else None
        mode = model.training
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in _all(model):
                    tensor.copy_(before[name])
                    tensor.grad = None
            model.train(mode)
            if state is not None:
                made.load_state_dict(state)

    # -------------------------------------------------------------------------------------------------------- the steps

    def train(self, batches: Sequence[Sequence[np.ndarray]], way: Way) -> Steps:
        """See `training.Training`."""
        values, losses, rates = [], [], []
        with self._restored(), self._changed(way.changes):
            has_one = "optimizer" in training.found(self.owner.module, self.asked)
            optimizer, schedule = self._optimizer(way.of_optimizer) if has_one else (None, None)
            for batch in batches:
                x, y = (self._tensor(value) for value in batch)
                rates.append(_rate(optimizer) if optimizer is not None else None)
                if way.is_own:
                    loss = self._own_step(x, y, optimizer, schedule)
                else:
                    loss = self._step(x, y, optimizer, way)
                    _advance(schedule if way.is_scheduled else None)
                losses.append(
                    None if loss is None else float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
                )
                values.append(self.owner.units())
        return Steps(tuple(values), tuple(losses), tuple(rates))

    def _own_step(self, x: torch.Tensor, y: torch.Tensor, optimizer: Any, schedule: Any) -> Any:
        self.owner.model.train()
        found = training.found(self.owner.module, self.asked)
        offered = {"model": self.owner.model, "batch": (x, y), "inputs": x, "labels": y}
        offered |= {} if optimizer is None else {"optimizer": optimizer}
        offered |= {} if schedule is None else {"schedule": schedule}
        offered |= {"loss": self._loss()} if "loss" in found else {}
        return training.loss_in(training.called(self._part("train_step"), offered, ("model", "optimizer", "batch")))

    def _step(self, x: torch.Tensor, y: torch.Tensor, optimizer: Any, way: Way) -> Any:
        self.owner.model.train(way.mode == "training")
        if not way.is_accumulated:
            optimizer.zero_grad()
        outputs = self.owner.model(x)
        outputs = next(side.items_of(outputs, torch.Tensor))
        loss = self._value(self._remade_loss(way), outputs, y).mean()
        trained = [each for each in self.owner.model.parameters() if each.requires_grad]
        total = loss + 0.5 * way.decay * sum((each**2).sum() for each in trained) if way.decay else loss
        total.backward()
        if way.clip_norm:
            nn.utils.clip_grad_norm_(trained, way.clip_norm)
        optimizer.step()
        return loss

    def _remade_loss(self, way: Way) -> Callable[..., Any]:
        function = self._loss()
        made, change = self.owner.made.get(id(function)), together(way.of_loss)
        if change is None:
            return function
        if made is not None:
            return self._remade(function, made, change)

        def under_changes(outputs: Any, labels: Any) -> Any:
            with Recorder(self.owner, {}, way.of_loss):
                return self._value(function, outputs, labels)

        return under_changes

    @contextlib.contextmanager
    def _changed(self, changes: Sequence[Change]) -> Iterator[None]:
        """Inside, every pass of the model is one under these changes, with nothing dropped."""
        model = self.owner.model
        names = {id(tensor): name for name, tensor in _all(model)}
        forward = model.forward

        def under_changes(*args: Any, **kwargs: Any) -> Any:
            recorder = Recorder(self.owner, names, changes)
            for tensor in side.items_of([args, kwargs], torch.Tensor):
                recorder.number(tensor)
            with recorder.hooks(), recorder:
                return forward(*args, **kwargs)

        model.forward = under_changes
        try:
            yield
        finally:
            del model.forward

    # -------------------------------------------------------------------------------------------------------- the masks

    def drops(self, batch: Sequence[np.ndarray]) -> list[Drop]:
        """See `training.Training`."""
        self.owner.model.train()
        given = [self._tensor(value) for value in batch]
        with self._restored(), torch.no_grad():
            recorder = Recorder(self.owner, {}, ())  # of whose hooks the paths are
            masks = Masks(self.owner, recorder)
            with recorder.hooks(), masks:
                self.owner.model(*given)
        return masks.found

    # --------------------------------------------------------------------------------------------------------- the data

    def batches(self, n: int) -> Batches:
        """See `training.Training`."""
        loader = self._part("data")
        told = [training.arrays_of(batch, _array) for batch in training.pairs_in(loader, n)]
        n_all = len(loader) if hasattr(loader, "__len__") else None
        return Batches(
            tuple(tuple(value for value, _type in each) for each in told),
            tuple(tuple(kind for _value, kind in each) for each in told), n_all,
        )  # fmt: skip


class Masks(TorchFunctionMode):
    """Inside, what each dropout does is measured."""

    def __init__(self, owner: Torch, recorder: Recorder) -> None:
        super().__init__()
        self.owner, self.recorder = owner, recorder
        self.found: list[Drop] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `TorchFunctionMode`."""
        output = func(*args, **(kwargs or {}))
        word = str(resolve_name(func) or getattr(func, "__name__", func)).rpartition(".")[2]
        if "dropout" in word and isinstance(output, torch.Tensor):
            x = arguments_of(func, args, kwargs or {})["input"].numpy()
            y, was = output.numpy(), x != 0
            left = was & (y != 0)
            scale = float(np.median(y[left] / x[left])) if left.any() else float("nan")
            dropped = 1 - float(left.sum()) / max(int(was.sum()), 1)
            path = self.recorder.path[-1]
            self.found.append(Drop(path, self.owner.lines.here(), int(was.sum()), dropped, scale))
        return output


def _all(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _both(value: Any) -> tuple[Any, Any]:
    """(optimizer, scheduler) of what a function gives, as Lightning's forms have it too."""
    if isinstance(value, Mapping):
        value = (value["optimizer"], value.get("lr_scheduler"))
    if isinstance(value, list | tuple):
        flat = [each[0] if isinstance(each, list | tuple) else each for each in value]
        second = flat[1] if len(flat) > 1 else None
        return flat[0], second["scheduler"] if isinstance(second, Mapping) else second
    return value, None


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _advance(schedule: Any) -> None:
    if schedule is not None:
        schedule.step()


def _told(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() <= MOST_TOLD:
        return value.tolist()
    return side.plain(value)


def _array(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
