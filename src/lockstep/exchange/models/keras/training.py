"""How a Keras or TensorFlow model is trained: what it was compiled with, or what the file has beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lockstep.exchange.models import side, training
from lockstep.exchange.models.keras.alternatives import padded, with_first
from lockstep.exchange.models.keras.recorder import Recorder
from lockstep.exchange.models.keras.roles import LAYERS, array_of, tensors_in
from lockstep.exchange.models.keras.side import Keras
from lockstep.exchange.models.keras.watch import CURRENT
from lockstep.exchange.models.records import Call, Change, Trace, Where, together
from lockstep.exchange.models.training import Batches, Drop, Part, Steps, Way
from lockstep.language import later


class Training:
    """See `training.Training`."""

    def __init__(self, owner: Keras) -> None:
        self.owner = owner
        self.asked: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------ what there is

    def parts(self, asked: Mapping[str, str]) -> dict[str, Part]:
        """See `training.Training`."""
        self.asked = dict(asked)
        return training.described(self._found(), asked, self._describe)

    def _describe(self, part: str, name: str) -> dict[str, Part]:
        if part == "loss":
            return {part: self._described(name, self._loss())}
        if part != "optimizer":
            return {part: Part(name, where=training.line_of(self.owner.module, name))}
        optimizer = self._optimizer({})
        rate, told = optimizer._learning_rate, {part: self._described(name, optimizer)}
        is_schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        return told | ({"schedule": self._described(name, rate)} if is_schedule else {})

    def _found(self) -> dict[str, tuple[str, Any]]:
        """What the file has by name; else what the model was compiled with."""
        found, model = training.found(self.owner.module, self.asked), self.owner.model
        if getattr(model, "compiled", False):
            compiled = {"loss": getattr(model, "loss", None), "optimizer": getattr(model, "optimizer", None)}
            found = {key: ("compile", value) for key, value in compiled.items() if value is not None} | found
            if "train_step" not in found:
                found["train_step"] = ("train_on_batch", model.train_on_batch)
        return found

    def _described(self, name: str, value: Any) -> Part:
        rooms = {keras.losses.Loss: "keras.losses", keras.optimizers.Optimizer: "keras.optimizers",
                 keras.optimizers.schedules.LearningRateSchedule: "keras.optimizers.schedules"}  # fmt: skip
        room = next((room for cls, room in rooms.items() if isinstance(value, cls)), None)
        if room is None:
            return Part(name, getattr(value, "__name__", type(value).__name__), training.where_of(value))
        where = self.owner.made.get(id(value), ("", Where(), {}))[1]
        try:
            arguments = {key: side.plain(each) for key, each in value.get_config().items() if key != "name"}
        except NotImplementedError:
            arguments = {}
        return Part(name, f"{room}.{type(value).__name__}", where, training.in_order(value, arguments))

    def _part(self, part: str) -> tuple[str, Any]:
        return training.needed(self._found(), part)

    # -------------------------------------------------------------------------------------------------------- the loss

    def _loss(self) -> Callable[..., Any]:
        """The person's loss: an object as it is, what a class or a function without arguments gives."""
        name, value = self._part("loss")
        if name == "compile" or isinstance(value, str):
            value = keras.losses.get(value)
            # What is compiled with a function takes the mean of what it gives for each example.
            return value if isinstance(value, keras.losses.Loss) else Averaged(value)
        if isinstance(value, keras.losses.Loss) or (not isinstance(value, type) and training.n_needed(value)):
            return value
        with self.owner.at_work():
            return side.made(value)

    def loss(self, outputs: np.ndarray, labels: np.ndarray, changes: Sequence[Change]) -> Trace:
        """See `training.Training`."""
        function = self._loss()
        with self.owner.at_work():
            given, targets = self._tensor(outputs), self._tensor(labels)
            calls: tuple[Call, ...] = ()
            with tf.GradientTape() as tape:
                tape.watch(given)
                if isinstance(function, keras.losses.Loss):
                    part = self._described("", function)
                    calls = (Call(0, part.function, "loss", "", part.where, {}, {}, part.arguments, ()),)
                    value = self._value(self._remade(function, together(changes)), given, targets)
                else:
                    recorder = Recorder(self.owner, changes, True)
                    for tensor in (given, targets):
                        recorder.number(tensor)
                    with recorder.watching():
                        value = self._value(function, given, targets)
                    calls = tuple(recorder.calls)
                value = tf.convert_to_tensor(value)
                mean = tf.reduce_mean(value)
            gradient = tape.gradient(mean, given)
        gradients = {} if gradient is None else {0: array_of(tf.convert_to_tensor(gradient))}
        return Trace(calls, {0: array_of(value)}, (), (0,), gradients, loss=float(array_of(mean)))

    @staticmethod
    def _remade(old: Any, change: Change | None) -> Any:
        return old if change is None else type(old).from_config({**old.get_config(), **change.arguments})

    @staticmethod
    def _value(function: Callable[..., Any], outputs: Any, labels: Any) -> Any:
        if isinstance(function, keras.losses.Loss | Averaged):
            return function(labels, outputs)
        return training.called(function, {"outputs": outputs, "labels": labels}, ("outputs", "labels"))

    def _tensor(self, value: np.ndarray) -> Any:
        is_float = np.issubdtype(value.dtype, np.floating)
        return tf.constant(value, dtype=self.owner.dtype if is_float else value.dtype)

    # --------------------------------------------------------------------------------------------------- the optimizer

    def _optimizer(self, changed: Mapping[str, Any]) -> Any:
        """A new optimizer, as the person's but for what is changed."""
        _name, value = self._part("optimizer")
        with self.owner.at_work():
            if not isinstance(value, keras.optimizers.Optimizer):
                offered = {"parameters": self.owner.model.trainable_variables, "model": self.owner.model}
                value = training.called(value, offered, ("parameters",))
            if not isinstance(value, keras.optimizers.Optimizer):
                kind = type(value).__name__
                raise side.UserError(
                    later("{type} is no keras.optimizers.Optimizer", type=kind), hint=later("return the optimizer")
                )
            where = self.owner.made.get(id(value), ("", Where(), {}))
            try:
                new = type(value).from_config({**value.get_config(), **changed})
            except NotImplementedError:
                if changed:
                    raise
                new = value
        self.owner.made[id(new)] = where
        self.owner.keep.append(new)
        return new

    def optimize(self, gradients: Sequence[Mapping[str, np.ndarray]], changed: Mapping[str, Any]) -> Steps:
        """See `training.Training`."""
        values, rates = [], []
        optimizer = self._optimizer(changed)
        trained = self._trained()
        with self.owner.at_work(), self.owner.as_before():
            for given in gradients:
                rates.append(_rate(optimizer))
                optimizer.apply([self._gradient(name, each, given) for name, each in trained.items()],
                                list(trained.values()))  # fmt: skip
                after = self.owner.units()
                values.append({name: after[name] for name in given})
        return Steps(tuple(values), (), tuple(rates))

    def _trained(self) -> dict[str, Any]:
        own = {id(each) for each in self.owner.model.trainable_variables}
        return {name: each for name, each in self.owner.variables.items() if id(each) in own}

    def _gradient(self, name: str, variable: Any, gradients: Mapping[str, np.ndarray]) -> Any:
        """A variable's gradient, from those of its units."""
        whole = np.zeros(tuple(variable.shape), self.owner.dtype)
        for unit in self.owner.units_in(name):
            if unit in gradients:
                _variable, kept, part = self.owner.holders[unit]
                new = kept.back(np.asarray(gradients[unit]))
                if part is None:
                    whole = np.asarray(new, whole.dtype).reshape(whole.shape)
                else:
                    whole[part[0] : part[1]] = new
        return tf.constant(whole)

    # -------------------------------------------------------------------------------------------------------- the steps

    def train(self, batches: Sequence[Sequence[np.ndarray]], way: Way) -> Steps:
        """See `training.Training`."""
        values, losses, rates = [], [], []
        found = self._found()
        optimizer = self._optimizer(way.of_optimizer) if "optimizer" in found else None
        with self.owner.at_work(), self.owner.as_before(), self._changed(way.changes), self._in_place(optimizer):
            CURRENT.is_masked = True
            sums: dict[str, Any] = {}
            for batch in batches:
                x, y = (self._tensor(value) for value in batch)
                rates.append(_rate(optimizer) if optimizer is not None else None)
                loss = self._own_step(x, y, optimizer) if way.is_own else self._step(x, y, optimizer, way, sums)
                losses.append(None if loss is None else float(array_of(tf.convert_to_tensor(loss))))
                values.append(self.owner.units())
        return Steps(tuple(values), tuple(losses), tuple(rates))

    def _own_step(self, x: Any, y: Any, optimizer: Any) -> Any:
        name, function = self._part("train_step")
        if name == "train_on_batch":
            self.owner.model.reset_metrics()
            return training.loss_in(function(x, y, return_dict=True))
        offered = {"model": self.owner.model, "batch": (x, y), "inputs": x, "labels": y}
        offered |= {} if optimizer is None else {"optimizer": optimizer}
        offered |= {"loss": self._loss()} if "loss" in self._found() else {}
        return training.loss_in(training.called(function, offered, ("model", "optimizer", "batch")))

    def _step(self, x: Any, y: Any, optimizer: Any, way: Way, sums: dict[str, Any]) -> Any:
        function, trained = self._loss(), self._trained()
        change = together(way.of_loss)
        with tf.GradientTape() as tape:
            output = self.owner.run([x], way.mode == "training")
            output = next(tensors_in(output))
            if isinstance(function, keras.losses.Loss):
                loss = self._value(self._remade(function, change), output, y)
            else:
                loss = self._under(function, way.of_loss, output, y)
            loss = total = tf.reduce_mean(loss)
            total = tf.add_n([total, *getattr(self.owner.model, "losses", ())])
            if way.decay:
                total += 0.5 * way.decay * tf.add_n([tf.reduce_sum(each**2) for each in trained.values()])
        gradients = tape.gradient(total, [getattr(each, "_value", each) for each in trained.values()])
        given = [tf.zeros_like(each) if value is None else tf.convert_to_tensor(value)
                 for each, value in zip(trained.values(), gradients, strict=True)]  # fmt: skip
        if way.is_accumulated:
            given = [sums.get(name, 0) + value for name, value in zip(trained, given, strict=True)]
            sums |= dict(zip(trained, given, strict=True))
        if way.clip_norm:
            given, _norm = tf.clip_by_global_norm(given, way.clip_norm)
        optimizer.apply(given, list(trained.values()))
        return total

    def _under(self, function: Callable[..., Any], changes: Sequence[Change], output: Any, labels: Any) -> Any:
        if not changes:
            return self._value(function, output, labels)
        recorder = Recorder(self.owner, changes, True)
        for tensor in (output, labels):
            recorder.number(tensor)
        with recorder.watching():
            return self._value(function, output, labels)

    @contextlib.contextmanager
    def _in_place(self, optimizer: Any) -> Iterator[None]:
        """Inside, the new optimizer is the file's and the compiled model's."""
        holders = [self.owner.model] if getattr(self.owner.model, "compiled", False) else []
        name, value = self._found().get("optimizer", ("", None))
        before = [(each, "optimizer", each.optimizer) for each in holders]
        if isinstance(value, keras.optimizers.Optimizer) and name != "compile":
            before.append((self.owner.module, name, value))
        for holder, key, _value in before:
            setattr(holder, key, optimizer)
        try:
            yield
        finally:
            for holder, key, old in before:
                setattr(holder, key, old)

    @contextlib.contextmanager
    def _changed(self, changes: Sequence[Change]) -> Iterator[None]:
        """Inside, the layers are under these changes, and nothing is dropped.

        Layers are not made anew, as for a single pass: a step has to move the variables that they have.
        """
        before: list[tuple[Any, str, Any]] = []
        own = {path: node for path, node, _holder in self.owner.nodes}
        for _path, node, _holder in self.owner.nodes:
            if LAYERS.get(type(node).__name__) == "dropout" and hasattr(node, "rate"):
                before.append((node, "rate", node.rate))
                node.rate = 0
        try:
            for change in changes:
                node = own.get(change.path)
                if change.call >= 0 or node is None or change.function or change.result:
                    raise side.UserError(
                        later("a change of a call in the midst of a model cannot be kept through steps")
                    )
                before += _kept(node, change)
            yield
        finally:
            for node, key, old in reversed(before):
                if key == "call":
                    object.__delattr__(node, key)
                else:
                    setattr(node, key, old)

    # -------------------------------------------------------------------------------------------------------- the masks

    def drops(self, batch: Sequence[np.ndarray]) -> list[Drop]:
        """See `training.Training`."""
        masks = Masks(self.owner)
        with self.owner.at_work(), self.owner.as_before():
            CURRENT.recorder, CURRENT.is_masked = masks, False
            try:
                self.owner.run([self._tensor(value) for value in batch], True)
            finally:
                CURRENT.recorder = None
        return masks.found

    # --------------------------------------------------------------------------------------------------------- the data

    def batches(self, n: int) -> Batches:
        """See `training.Training`."""
        _name, loader = self._part("data")
        told = [training.arrays_of(batch, _array) for batch in training.pairs_in(loader, n)]
        n_all = len(loader) if hasattr(loader, "__len__") else None
        return Batches(
            tuple(tuple(value for value, _type in each) for each in told),
            tuple(tuple(kind for _value, kind in each) for each in told),
            None if n_all is not None and n_all < 0 else n_all,
        )


class Averaged:
    """A function of (labels, outputs) that gives a number for each example, and their mean."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", "")

    def __call__(self, labels: Any, outputs: Any) -> Any:
        """Their mean."""
        return tf.reduce_mean(self.function(labels, outputs))


class Masks:
    """What each dropout of a pass does, measured; it is asked where a recorder of calls would be."""

    def __init__(self, owner: Keras) -> None:
        self.owner = owner
        self.found: list[Drop] = []

    def layer(self, call: Callable[..., Any], layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A layer's call."""
        if LAYERS.get(type(layer).__name__) != "dropout":
            return call(*args, **kwargs)
        CURRENT.n_closed += 1
        try:
            output = call(*args, **kwargs)
        finally:
            CURRENT.n_closed -= 1
        where = self.owner.made.get(id(layer), ("", Where(), {}))[1]
        self._measure(self.owner.paths.get(id(layer), ""), where, args, kwargs, output)
        return output

    def operation(self, call: Callable[..., Any], target: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A node of a functional model that is no layer."""
        return call(*args, **kwargs)

    def function(self, target: Any, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A public function's call."""
        output = function(*args, **kwargs)
        if "dropout" in name.rpartition(".")[2]:
            self._measure("", self.owner.lines.here(), args, kwargs, output)
        return output

    def _measure(self, path: str, where: Where, args: Any, kwargs: Any, output: Any) -> None:
        x, y = array_of(next(tensors_in([args, kwargs]))), array_of(next(tensors_in(output)))
        was = x != 0
        left = was & (y != 0)
        scale = float(np.median(y[left] / x[left])) if left.any() else float("nan")
        self.found.append(Drop(path, where, int(was.sum()), 1 - float(left.sum()) / max(int(was.sum()), 1), scale))


def _kept(node: Any, change: Change) -> list[tuple[Any, str, Any]]:
    """Put a change into a layer itself; (layer, attribute, its old value) of all that was changed."""
    before = []
    for key, value in change.arguments.items():
        if not hasattr(node, key):
            raise side.UserError(
                later("{type} keeps no {name} that could be changed", type=type(node).__name__, name=key)
            )
        before.append((node, key, getattr(node, key)))
        setattr(node, key, keras.activations.get(value) if key.endswith("activation") else value)
    if change.pads or change.order:
        call, order = node.call, change.order

        def under(*args: Any, **kwargs: Any) -> Any:
            if order:
                args, kwargs = with_first(args, kwargs, lambda x: tf.reshape(
                    tf.gather(tf.reshape(x, (x.shape[0], -1)), tf.constant(order), axis=1), x.shape))  # fmt: skip
            if change.pads:
                is_first = str(getattr(node, "data_format", "")).startswith("channels_first")
                is_max = "MaxPool" in type(node).__name__
                args, kwargs = with_first(args, kwargs, lambda x: padded(change.pads, is_first, is_max, x))
            return call(*args, **kwargs)

        if change.pads and hasattr(node, "padding"):
            before.append((node, "padding", node.padding))
            node.padding = "valid"
        object.__setattr__(node, "call", under)
        before.append((node, "call", None))
    return before


def _rate(optimizer: Any) -> float:
    return float(array_of(tf.convert_to_tensor(optimizer._get_current_learning_rate())))


def _array(value: Any) -> np.ndarray:
    return array_of(value) if isinstance(value, tf.Tensor | tf.Variable) else np.asarray(value)
