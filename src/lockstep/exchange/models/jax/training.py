"""How a JAX model is trained: loss, optax transformation, step and loader, of nnx, linen or plain functions.

Optax says nothing of what a transformation was made of: its arguments are read from the line that makes it, and what it
computes is seen in its updates. A step of the parts reads the model's jaxpr, as a pass does, and so has its changes and
drops nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import linecache
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lockstep.exchange.models import side, training
from lockstep.exchange.models.jax.kinds import Functions, Linen, Nnx, dotted, value_of, with_value
from lockstep.exchange.models.jax.roles import Array, Arrays
from lockstep.exchange.models.jax.side import Jax
from lockstep.exchange.models.jax.watch import flax, nnx
from lockstep.exchange.models.records import Change, Trace, Where
from lockstep.exchange.models.training import Batches, Drop, Part, Steps, Way
from lockstep.language import later


class Training:
    """See `training.Training`."""

    def __init__(self, owner: Jax) -> None:
        self.owner = owner
        self.asked: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------ what there is

    def parts(self, asked: Mapping[str, str]) -> dict[str, Part]:
        """See `training.Training`."""
        self.asked = dict(asked)
        return training.described(self._found(), asked, self._describe)

    def _describe(self, part: str, name: str) -> dict[str, Part]:
        if part == "optimizer":
            self._transformation()
            made = _made_of_optax(self.owner.module, name)
            if made is not None:
                return {part: dataclasses.replace(made, name=name)}
        value = self._part(part)
        return {part: Part(name, getattr(value, "__name__", ""), training.line_of(self.owner.module, name))}

    def _found(self) -> dict[str, tuple[str, Any]]:
        return training.found(self.owner.module, self.asked)

    def _part(self, part: str) -> Any:
        return training.needed(self._found(), part)[1]

    # -------------------------------------------------------------------------------------------------------- the loss

    def loss(self, outputs: np.ndarray, labels: np.ndarray, changes: Sequence[Change]) -> Trace:
        """See `training.Training`; a loss has no calls here, so there is nothing that could be changed."""
        function, targets = self._part("loss"), self._placed(labels)
        value = jnp.asarray(self._value(function, self._placed(outputs), targets))
        gradient = jax.grad(lambda z: jnp.mean(self._value(function, z, targets)))(self._placed(outputs))
        mean = float(jnp.mean(value))
        return Trace((), {0: np.asarray(value)}, (), (0,), {0: np.asarray(gradient)}, loss=mean)

    def _value(self, function: Callable[..., Any], outputs: Array, labels: Array) -> Array:
        return training.called(function, {"outputs": outputs, "labels": labels}, ("outputs", "labels"))

    def _placed(self, value: np.ndarray) -> Array:
        is_float = np.issubdtype(value.dtype, np.floating)
        return jnp.asarray(value, self.owner.watch.dtype if is_float else None)

    # --------------------------------------------------------------------------------------------------- the optimizer

    def _transformation(self) -> Any:
        """The person's optax transformation; of an nnx.Optimizer the one that it holds."""
        value = self._part("optimizer")
        if not hasattr(value, "update") or isinstance(value, type):
            offered: dict[str, Any] = {"parameters": self._trained()}
            if isinstance(self.owner.model, Nnx):
                offered["model"] = self._module(self.owner.model, self.owner.arrays)
            value = training.called(value, offered, ("model", "parameters"))
        value = getattr(value, "tx", value)
        if not (hasattr(value, "init") and hasattr(value, "update")):
            kind = type(value).__name__
            raise side.UserError(
                later("{type} is no optax transformation", type=kind),
                hint=later("return optax.adam(…) or an nnx.Optimizer"),
            )
        return value

    def _trained(self) -> Arrays:
        return {key: value for key, value in self.owner.arrays.items() if key in self.owner.model.trained}

    def _rates(self, n: int) -> tuple[float | None, ...]:
        """The learning rates of the file's own schedule, a function of the update's number."""
        schedule = self._found().get("schedule", ("", None))[1]
        if schedule is None or not callable(schedule):
            return tuple([None] * n)
        if not training.n_needed(schedule):
            schedule = schedule()
        return tuple(float(schedule(step)) for step in range(n))

    def optimize(self, gradients: Sequence[Mapping[str, np.ndarray]], changed: Mapping[str, Any]) -> Steps:
        """See `training.Training`."""
        if changed:
            raise side.UserError(later("what a transformation of optax was made of cannot be changed"))
        transformation, trained = self._transformation(), self._trained()
        state, update, values = transformation.init(trained), jax.jit(transformation.update), []
        for given in gradients:
            updates, state = update(self._gradient(given, trained), state, trained)
            trained = _moved(trained, updates)
            after = self._units({**self.owner.arrays, **trained})
            values.append({name: after[name] for name in given})
        return Steps(tuple(values), (), self._rates(len(gradients)))

    def _gradient(self, given: Mapping[str, np.ndarray], trained: Arrays) -> Arrays:
        """Of each array that is trained, from those of its units."""
        found = {key: jnp.zeros_like(value) for key, value in trained.items()}
        for name, value in given.items():
            held = self.owner.holders[name]
            for key, part in zip(held.arrays, held.back(np.asarray(value)), strict=True):
                if key in found:
                    found[key] = jnp.asarray(np.ascontiguousarray(part), found[key].dtype)
        return found

    def _units(self, arrays: Arrays) -> dict[str, np.ndarray]:
        own = {key: np.asarray(value) for key, value in arrays.items()}
        return {name: np.ascontiguousarray(held.to([own[key] for key in held.arrays]))
                for name, held in self.owner.holders.items()}  # fmt: skip

    # -------------------------------------------------------------------------------------------------------- the steps

    def train(self, batches: Sequence[Sequence[np.ndarray]], way: Way) -> Steps:
        """See `training.Training`."""
        placed = [tuple(self._placed(value) for value in batch) for batch in batches]
        if not way.is_own:
            return self._composed(placed, way)
        if way.changes:
            raise side.UserError(later("a train_step of the file's own cannot be made with changes of its model"))
        if isinstance(self.owner.model, Nnx):
            return self._of_nnx(self.owner.model, placed)
        return self._of_functions(placed)

    def _composed(self, batches: Sequence[tuple[Array, Array]], way: Way) -> Steps:
        transformation, trained = self._transformation(), self._trained()
        arrays, state = dict(self.owner.arrays), transformation.init(trained)
        total = self._total(batches[0][0], way)
        step, update = jax.jit(jax.value_and_grad(total, has_aux=True)), jax.jit(transformation.update)
        values, losses, sums = [], [], {key: jnp.zeros_like(value) for key, value in trained.items()}
        for x, y in batches:
            (_value, (loss, after)), gradients = step(trained, arrays, x, y)
            if way.is_accumulated:
                gradients = sums = {key: sums[key] + value for key, value in gradients.items()}
            if way.clip_norm:
                norm = jnp.sqrt(sum(jnp.sum(value**2) for value in gradients.values()))
                gradients = {key: value * jnp.minimum(1.0, way.clip_norm / norm) for key, value in gradients.items()}
            updates, state = update(gradients, state, trained)
            trained = _moved(trained, updates)
            arrays = {**dict(zip(sorted(arrays), after, strict=True)), **trained}
            losses.append(float(loss))
            values.append(self._units(arrays))
        return Steps(tuple(values), tuple(losses), self._rates(len(batches)))

    def _total(self, x: Array, way: Way) -> Callable[..., Any]:
        """(trained, all arrays, x, y) → (what is differentiated, (the loss, all arrays afterwards))."""
        function = self._part("loss")
        closed, n, turns = self.owner.read_call([x], way.mode, way.changes)

        def total(trained: Arrays, arrays: Arrays, x: Array, y: Array) -> Any:
            read = self.owner.read(closed, {**arrays, **trained}, [x], way.changes, turns, n)
            loss = jnp.mean(self._value(function, read.results[0], y))
            decay = 0.5 * way.decay * sum(jnp.sum(value**2) for value in trained.values()) if way.decay else 0.0
            return loss + decay, (loss, read.after)

        return total

    def _module(self, model: Nnx, arrays: Arrays) -> Any:
        """A module of nnx with these arrays, in which nothing is dropped."""
        flat = [(path, with_value(leaf, arrays.get(dotted(path)))) for path, leaf in model.flat.items()]
        module = nnx.merge(model.graph, nnx.from_flat_state(flat))
        module.train()
        for _path, each in nnx.iter_modules(module):
            if isinstance(each, nnx.Dropout):
                each.rate = 0.0
        return module

    def _of_nnx(self, model: Nnx, batches: Sequence[tuple[Array, Array]]) -> Steps:
        module, function = self._module(model, self.owner.arrays), self._part("train_step")
        offered: dict[str, Any] = {"model": module}
        if "optimizer" in self._found():
            made = self._part("optimizer")
            if not hasattr(made, "update") or isinstance(made, type):
                made = training.called(made, {"model": module, "parameters": nnx.state(module, nnx.Param)}, ("model",))
            offered["optimizer"] = made if hasattr(made, "tx") else nnx.Optimizer(module, made, wrt=nnx.Param)
        values, losses = [], []
        for x, y in batches:
            given = training.called(function, {**offered, "batch": (x, y), "inputs": x, "labels": y},
                                    ("model", "optimizer", "batch"))  # fmt: skip
            loss = training.loss_in(given)
            losses.append(None if loss is None else float(loss))
            after = {dotted(path): value_of(leaf) for path, leaf in nnx.to_flat_state(nnx.state(module))}
            values.append(self._units({key: after.get(key, value) for key, value in self.owner.arrays.items()}))
        return Steps(tuple(values), tuple(losses), self._rates(len(batches)))

    def _of_functions(self, batches: Sequence[tuple[Array, Array]]) -> Steps:
        """A step that takes parameters, and the optimizer's state, and gives them anew."""
        function, parameters = self._part("train_step"), self._tree(self.owner.arrays)
        has_one = "optimizer" in self._found()
        transformation = self._transformation() if has_one else None
        state = self._first_state(function, parameters, transformation)
        values, losses = [], []
        for x, y in batches:
            offered: dict[str, Any] = {"parameters": parameters, "batch": (x, y), "inputs": x, "labels": y,
                                       "model": self.owner.model.model}  # fmt: skip
            offered |= {"state": state} if state is not None else {}
            offered |= {"optimizer": transformation} if has_one else {}
            given = training.called(function, offered, ("parameters", "state", "batch"))
            parameters, state = self._after(given, parameters, state)
            loss = training.loss_in(given)
            losses.append(None if loss is None else float(loss))
            values.append(self._units({**self.owner.arrays, **self._arrays(parameters)}))
        return Steps(tuple(values), tuple(losses), self._rates(len(batches)))

    def _first_state(self, function: Any, parameters: Any, transformation: Any) -> Any:
        """The optimizer's; of linen a TrainState, where the step takes nothing that is called parameters."""
        if transformation is None:
            return None
        takes = [training.TAKES.get(name) for name in side.signature_of(function)]
        if isinstance(self.owner.model, Linen) and "parameters" not in takes:
            from flax.training import train_state

            made: Any = train_state.TrainState.create(
                apply_fn=self.owner.model.model.apply, params=parameters, tx=transformation
            )
            return made
        return transformation.init(parameters)

    def _after(self, given: Any, parameters: Any, state: Any) -> tuple[Any, Any]:
        """(parameters, state) in what a step gives back."""
        items = [given, *(given if isinstance(given, tuple | list) else ())]
        for each in items:
            if hasattr(each, "params") and hasattr(each, "opt_state"):
                return each.params, each
        shapes: list[Any] = [jax.tree.structure(parameters), jax.tree.structure(state)]
        new = next((each for each in items if shapes[0] == jax.tree.structure(each)), parameters)
        rest = [each for each in items if each is not new and shapes[1] == jax.tree.structure(each)]
        return new, rest[0] if rest else state

    def _tree(self, arrays: Arrays) -> Any:
        """The parameters in the person's own form."""
        model = self.owner.model
        if isinstance(model, Linen):
            flat = {path[1:]: arrays[key] for key, path in model.places.items() if path[0] == "params"}
            return flax.traverse_util.unflatten_dict(flat)
        if not isinstance(model, Functions):
            raise TypeError(type(model).__name__)
        return jax.tree.unflatten(model.tree, [arrays.get(key, value) for key, value in model.leaves])

    def _arrays(self, parameters: Any) -> Arrays:
        model = self.owner.model
        if isinstance(model, Linen):
            flat = flax.traverse_util.flatten_dict(parameters)
            return {key: flat[path[1:]] for key, path in model.places.items() if path[0] == "params"}
        leaves = jax.tree.leaves(parameters)
        keys = [key for key, _value in model.leaves] if isinstance(model, Functions) else []
        return {key: value for key, value in zip(keys, leaves, strict=True) if key in self.owner.arrays}

    # -------------------------------------------------------------------------------------------------------- the masks

    def drops(self, batch: Sequence[np.ndarray]) -> list[Drop]:
        """See `training.Training`: nnx and linen layers called Dropout, each asked by itself with many ones."""
        found = []
        for path, layer in self.owner.watch.layers.items():
            if layer.name != "Dropout":
                continue
            ones = jnp.ones(5000, self.owner.watch.dtype)
            y = np.asarray(self._dropped(layer.arguments, ones))
            left = y != 0
            scale = float(np.median(y[left])) if left.any() else float("nan")
            found.append(Drop(path, layer.where, len(y), 1 - float(left.mean()), scale))
        return found

    def _dropped(self, arguments: Mapping[str, Any], ones: Array) -> Array:
        rate = float(arguments.get("rate", 0.0))
        if isinstance(self.owner.model, Nnx):
            return nnx.Dropout(rate, rngs=nnx.Rngs(0))(ones, deterministic=False)
        layer = flax.linen.Dropout(rate, deterministic=False)
        return layer.apply({}, ones, rngs={"dropout": jax.random.PRNGKey(0)})

    # --------------------------------------------------------------------------------------------------------- the data

    def batches(self, n: int) -> Batches:
        """See `training.Training`."""
        loader = self._part("data")
        told = [training.arrays_of(batch, np.asarray) for batch in training.pairs_in(loader, n)]
        n_all = len(loader) if hasattr(loader, "__len__") else None
        return Batches(
            tuple(tuple(value for value, _type in each) for each in told),
            tuple(tuple(kind for _value, kind in each) for each in told), n_all,
        )  # fmt: skip


def _made_of_optax(module: ModuleType, name: str) -> Part | None:
    """The one optimizer of optax that is made under a name of a file, by its source: optax itself tells nothing."""
    file = str(getattr(module, "__file__", ""))
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    line = training.line_of(module, name).line
    node = next((node for node in tree.body if node.lineno == line), None)
    found = [] if node is None else [
        (call, function) for call in ast.walk(node) if isinstance(call, ast.Call)
        if (function := _resolved(module, call.func)) is not None and function.__module__.startswith("optax._src.alias")
    ]  # fmt: skip
    if len(found) != 1:
        return None
    call, function = found[0]
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    try:
        bound = inspect.signature(function).bind(*call.args, **given)
    except TypeError:
        return None
    arguments = {key: _literal(value) for key, value in bound.arguments.items()}
    defaults = {key: each.default for key, each in bound.signature.parameters.items() if key not in arguments}
    where = Where(file, call.lineno, linecache.getline(file, call.lineno).strip())
    every = {key: side.plain({**defaults, **arguments}[key]) for key in bound.signature.parameters}
    return Part(name, f"optax.{function.__name__}", where, every)


def _resolved(module: ModuleType, node: ast.expr) -> Any:
    """What a name, or a chain of them, stands for in a file; None where it is no function."""
    parts = ast.unparse(node).split(".")
    found: Any = module
    for part in parts:
        found = getattr(found, part, None)
    return found if inspect.isfunction(found) else None


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _moved(trained: Arrays, updates: Arrays) -> Arrays:
    return {key: value + updates[key].astype(value.dtype) for key, value in trained.items()}
