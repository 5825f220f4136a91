"""The side of Keras 3 on TensorFlow, and of plain TensorFlow: everything runs eagerly and is watched at three depths.

No mode sees every function here, as PyTorch has one. So the layers' `__call__`, the public functions and the signs of
tensors are watched, whatever module holds them; and TensorFlow's own callback hears each operation that none of them
has spoken of. A layer is a call; what happens inside it are calls too, with the layer's as their parent.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.operation import Operation

from lockstep.exchange.models import side
from lockstep.exchange.models.keras.alternatives import changed, function_of
from lockstep.exchange.models.keras.parameters import (
    bound_arguments,
    fitted,
    free_name,
    is_frameworks,
    kept_in,
    unit_of,
    units_of,
    walked,
)
from lockstep.exchange.models.keras.recorder import Recorder
from lockstep.exchange.models.keras.roles import (
    ASIDE,
    Kept,
    Seen,
    arguments_of,
    array_of,
    holds_a_tensor,
    parameters_of,
    tensors_in,
)
from lockstep.exchange.models.keras.watch import CURRENT, closed, watch, wide_variable
from lockstep.exchange.models.records import Change, Layer, Model, Trace, Unit, Where
from lockstep.language import later


class Keras:
    """See `side.Side`."""

    def __init__(self) -> None:
        tf.config.run_functions_eagerly(True)
        watch()
        packages = [keras, tf, *(sys.modules[name] for name in ("optree", "tree", "wrapt") if name in sys.modules)]
        self.lines = side.Lines(packages)
        self.made: dict[int, tuple[str, Where, dict[str, Any]]] = {}
        self.making: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.keep: list[Any] = []  # what ids stand for
        self.recorder: Recorder | None = None  # keeps what the last trace saw
        self.n_loaded = 0
        self.model: Any = None
        self.dtype = "float32"
        self.is_built = False
        self.paths: dict[int, str] = {}
        self.nodes: list[tuple[str, Any, Any]] = []  # (path, layer or module, what holds it)
        self.variables: dict[str, Any] = {}
        self.names: dict[int, str] = {}  # of a variable, of what is inside it, and of its handle
        self.holders: dict[str, tuple[Any, Kept, tuple[int, int] | None]] = {}
        self.seen: dict[int, Seen] = {}
        self.results: Mapping[str, np.ndarray] = {}  # what calls give instead, by the key in a change
        self.ends: dict[int, int] = {}  # call → the index behind all that is part of it

    # ------------------------------------------------------------------------------------------------------- building

    def load(self, file: Path, name: str, dtype: str) -> Model:
        """See `side.Side`."""
        keras.utils.clear_session(free_memory=False)
        keras.config.disable_traceback_filtering()  # which would put Keras's words around the person's error
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        self.dtype = dtype
        self.made, self.making, self.names, self.keep = {}, {}, {}, []
        with self.at_work():
            self.module = side.imported(file, self.n_loaded)
            self.n_loaded += 1
            found = side.named(self.module, name)
            is_made = isinstance(found, keras.Layer | tf.Module) or not callable(found)
            self.model = found if is_made else side.made(found)
        if not (isinstance(self.model, keras.Layer | tf.Module) and callable(self.model)):
            kind = type(self.model).__name__
            raise side.UserError(
                later(
                    "{name} gives {type}, which is neither a Keras model nor a tf.Module that can be called",
                    name=name,
                    type=str(kind),
                ),
                hint=later("return the model"),
            )
        self.is_built = False
        self.seen, self.ends, self.holders = {}, {}, {}
        self._look()
        return self.description()

    def description(self) -> Model:
        """What is known of the model now."""
        layers = tuple(
            Layer(path, *self.made[id(node)])
            for path, node, holder in self.nodes
            if id(node) in self.made and is_frameworks(node) and not is_frameworks(holder)
        )
        owners = {name: path for path, node, _holder in self.nodes for name in self._own(path, node)}
        units = tuple(
            Unit(name, kept.role, value.shape, bool(variable.trainable), owners[self.names[id(variable)]])
            for (name, value), (variable, kept, _part) in zip(self.units().items(), self.holders.values(), strict=True)
        )
        has = {each for each in ("loss", "optimizer", "batch", "train_step") if hasattr(self.module, each)}
        if getattr(self.model, "compiled", False):
            has |= {each for each in ("loss", "optimizer") if getattr(self.model, each, None) is not None}
        shape = getattr(self.model, "input_shape", None) if isinstance(self.model, keras.Model) else None
        is_one = isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape)
        version = f"{keras.__version__} on TensorFlow {tf.__version__}"
        return Model(
            "keras", version, units, layers, tuple(sorted(has)), tuple(shape[1:]) if shape and is_one else None
        )

    def note(self, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """With what a layer or an operation is made, and where."""
        self.keep.append(made)
        self.making[id(made)] = (args, kwargs)
        given = {key: side.plain(value) for key, value in bound_arguments(type(made), args, kwargs).items()}
        self.made[id(made)] = (type(made).__name__, self.lines.here(), given)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, what is made is noted, and made for the dtype of this load."""
        CURRENT.owner, CURRENT.is_wide = self, self.dtype == "float64"
        creator = wide_variable if CURRENT.is_wide else lambda next_creator, **kwargs: next_creator(**kwargs)
        try:
            with tf.variable_creator_scope(creator):
                yield
        finally:
            CURRENT.owner, CURRENT.is_wide, CURRENT.is_masked = None, False, False

    # ---------------------------------------------------------------------------------------------------------- units

    def units(self) -> dict[str, np.ndarray]:
        """See `side.Side`."""
        return {name: unit_of(entry, array_of(entry[0])) for name, entry in self.holders.items()}

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """See `side.Side`."""
        for name, value in values.items():
            variable, kept, part = self.holders[name]
            whole = array_of(variable)
            new = kept.back(np.asarray(value))
            if part is not None:
                whole[part[0] : part[1]] = new
            variable.assign(np.asarray(new if part is None else whole, whole.dtype).reshape(whole.shape))

    def learn(self, name: str, kept: Kept) -> None:
        """Which call uses a variable says what it is, where its layer does not."""
        held = self.holders.get(name)
        if held is not None and held[1].role == "raw":
            self.holders[name] = (held[0], kept, None)

    def units_in(self, name: str) -> list[str]:
        """The units that a variable holds."""
        return [unit for unit, entry in self.holders.items() if self.names[id(entry[0])] == name]

    def _look(self) -> None:
        """Find all layers, modules and variables of the model."""
        self.nodes = list(walked(self.model))
        self.paths = {id(node): path for path, node, _holder in self.nodes}
        self.variables = {}
        for path, node, _holder in self.nodes:
            for name, variable in self._own(path, node).items():
                if id(variable) in {id(each) for each in self.variables.values()}:
                    continue
                self.variables[name] = variable
                inside = getattr(variable, "_value", variable)
                self.names |= {id(variable): name, id(inside): name, id(inside.handle): name}
                self.keep += [variable, inside, inside.handle]
                if "float" in str(variable.dtype):
                    for suffix, kept, part in units_of(node, variable):
                        self.holders.setdefault(name + suffix, (variable, kept, part))

    def _own(self, path: str, node: Any) -> dict[str, Any]:
        """The variables of a layer or module that are no part's, by their names."""
        found: dict[str, Any] = {}
        own = [*node._trainable_variables, *node._non_trainable_variables] if isinstance(node, keras.Layer) else []
        pairs = [(variable.name, variable) for variable in own]
        pairs += [(key, value) for key, value in kept_in(node) if isinstance(value, tf.Variable)]
        for key, variable in pairs:
            found[free_name(f"{path}/{key}" if path else key, found)] = variable
        return found

    # ---------------------------------------------------------------------------------------------------------- a pass

    def trace(
        self, batch: Sequence[np.ndarray], mode: str, changes: Sequence[Change] = (), designed: np.ndarray | None = None
    ) -> Trace:
        """See `side.Side`."""
        given = [self.tensor_of(value) for value in batch]
        with self.at_work():
            if not self.is_built:
                CURRENT.is_masked = True
                self.run(given, False)
                self._look()
                self.is_built = True
            recorder = Recorder(self, changes, mode == "training")
            inputs = tuple(recorder.number(value) for value in given)
            with self.as_before(), tf.GradientTape() as tape:
                tape.watch([value for value in given if value.dtype.is_floating])
                with recorder.watching():
                    output = self.run(given, mode == "training")
                outputs = list(tensors_in(output))
                if not outputs:
                    raise side.UserError(
                        later("the model gives {type}, in which no tensor is", type=type(output).__name__)
                    )
                weights = None if designed is None else tf.cast(designed, outputs[0].dtype)
                total = None if weights is None else tf.reduce_sum(outputs[0] * weights)
                with tape.stop_recording():
                    gradients, by_unit = ({}, {}) if total is None else self._gradients(tape, total, recorder)
                    state = self._state(recorder)
            self.recorder, self.seen = recorder, recorder.seen
            if not changes:
                self.ends = recorder.ends
        return Trace(
            tuple(recorder.calls), recorder.values, inputs, tuple(recorder.number(each) for each in outputs),
            gradients, by_unit, state,
        )  # fmt: skip

    @contextlib.contextmanager
    def as_before(self) -> Iterator[None]:
        """Afterwards, every variable is what it was."""
        before = {name: array_of(variable) for name, variable in self.variables.items()}
        try:
            yield
        finally:
            for name, value in before.items():
                self.variables[name].assign(value)

    def tensor_of(self, value: np.ndarray) -> Any:
        is_float = np.issubdtype(value.dtype, np.floating)
        return tf.constant(value, dtype=self.dtype if is_float else value.dtype)

    def run(self, given: list[Any], is_training: bool) -> Any:
        """The model's output, its inputs given in the form in which it takes them."""
        model = self.model
        if isinstance(model, keras.Layer):
            struct = getattr(model, "_inputs_struct", None)
            if isinstance(struct, dict):
                return model(dict(zip(struct, given, strict=True)), training=is_training)
            places = [key for key in parameters_of(type(model).call) if key not in ("self", "training", "mask")]
            if len(given) > 1 and (struct is not None or len(places) < len(given)):
                return model(given, training=is_training)
            return model(*given, training=is_training)
        named = {key: is_training for key in ("training", "is_training") if key in parameters_of(type(model).__call__)}
        return model(*given, **named)

    def _gradients(
        self, tape: Any, total: Any, recorder: Recorder
    ) -> tuple[dict[int, np.ndarray], dict[str, np.ndarray]]:
        live = {number: value for number, value in recorder.live.items() if value.dtype.is_floating}
        trained = {name: each for name, each in self.variables.items() if each.trainable and id(each) in self.names}
        stand_ins = [(name, new) for name, new in recorder.stand_ins if name in trained]
        variables = [*trained.items(), *stand_ins]
        sources = [*live.values(), *(getattr(each, "_value", each) for _name, each in variables)]
        found = tape.gradient(total, sources) if sources else []
        gradients = {
            number: array_of(tf.convert_to_tensor(value))
            for number, value in zip(live, found[: len(live)], strict=True)
            if value is not None
        }
        sums: dict[str, np.ndarray] = {}
        for (name, _variable), value in zip(variables, found[len(live) :], strict=True):
            if value is not None:
                array = array_of(tf.convert_to_tensor(value))
                shape = tuple(self.variables[name].shape)
                if array.shape != shape:  # a bias that is two under a change: the first is the model's; or one of two
                    array = array[0] if array.shape[1:] == shape else np.stack([array] * shape[0])
                sums[name] = sums.get(name, 0) + array
        by_unit = {
            unit: unit_of(entry, sums[self.names[id(entry[0])]])
            for unit, entry in self.holders.items()
            if self.names[id(entry[0])] in sums
        }
        return gradients, by_unit

    def _state(self, recorder: Recorder) -> dict[str, np.ndarray]:
        """The statistics after a pass, of the layers that stood in for others too."""
        new = {name: array_of(variable) for name, variable in recorder.stand_ins}
        return {
            unit: unit_of(entry, new.get(self.names[id(entry[0])], array_of(entry[0])))
            for unit, entry in self.holders.items()
            if entry[1].role in ("mean", "variance")
        }

    # --------------------------------------------------------------------------------------------------- the laboratory

    def again(self, call: int, change: Change) -> list[np.ndarray]:
        """See `side.Side`."""
        seen = self.seen[call]
        with self.at_work(), closed():
            CURRENT.owner, CURRENT.is_masked = None, True
            target = self.anew(seen.target, change, seen)[0] if isinstance(seen.target, Operation) else seen.target
            output = changed(seen._replace(target=target), change)
            return [array_of(tensor) for tensor in tensors_in(output)]

    def signature(self, call: int) -> dict[str, Any]:
        """See `side.Side`."""
        seen = self.seen[call]
        return self.arguments(seen.target, seen.args, seen.kwargs)

    def arguments(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Everything that decides what a call gives and is no tensor: a layer's own, and those of the call."""
        own: dict[str, Any] = {}
        if isinstance(target, Operation):
            try:
                own = target.get_config()
            except NotImplementedError:
                own = self.made.get(id(target), ("", None, {}))[2]
        own = {key: _name_of(value) for key, value in own.items() if not ASIDE.match(key)}
        called = arguments_of(target, args, kwargs)
        called = {key: value for key, value in called.items() if key != "name" and not holds_a_tensor(value)}
        if any(getattr(each, "_keras_mask", None) is not None for each in tensors_in([args, kwargs])):
            called["mask"] = True
        return {key: side.plain(value) for key, value in {**own, **called}.items()}

    def anew(self, old: Operation, change: Change, seen: Seen) -> tuple[Any, list[tuple[Any, Any]]]:
        """A layer as this one under a change, with its weights, and (its weight, the new one's) of all of them."""
        called = parameters_of(function_of(old))
        other = {key: value for key, value in change.arguments.items() if key not in called}
        if change.pads and hasattr(old, "padding"):
            other["padding"] = "valid"
        if not isinstance(old, keras.Layer):
            return (self._made_again(old, other) if other else old), []
        new = self._made_again(old, other)
        if not old.variables:
            return new, []
        changed(seen._replace(target=new), change)  # builds it
        pairs = [(was, now) for was, now in zip(old.variables, new.variables, strict=False) if was.name == now.name]
        if len(pairs) < len(new.variables):
            rest = {variable.name: variable for variable in old.variables}
            pairs = [(rest[now.name], now) for now in new.variables if now.name in rest]
        for was, now in pairs:
            now.assign(fitted(array_of(was), tuple(now.shape), now.name))
        return new, pairs

    def _made_again(self, old: Operation, other: dict[str, Any]) -> Any:
        """From its configuration; from what its constructor was given where it has none that can be read back."""
        try:
            return type(old).from_config({**old.get_config(), **other})
        except (NotImplementedError, ValueError, TypeError):
            args, kwargs = self.making[id(old)]
            return type(old)(**{**bound_arguments(type(old), args, kwargs), **other})


def _name_of(value: Any) -> Any:
    """An object of a configuration by its name: its own arguments are told where it is called."""
    if isinstance(value, dict) and "class_name" in value:
        return value["config"] if value["class_name"] == "function" else value["class_name"]
    return value
