"""The loss: both sides' own on the same outputs and labels; its number, its gradient by the outputs, and what differs.

What a side computes is read off its numbers (see `formulas`). A field in which the two forms differ, and which moves
the number, is a cause; where the second side's own function has an argument for it, that is tried there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.records import Call, Change, Trace
from lockstep.exchange.models.training import Part
from lockstep.language import later
from lockstep.proof.pair import alignment, formulas, stages, tolerances
from lockstep.proof.pair.formulas import Form
from lockstep.proof.pair.party import Parties
from lockstep.proof.pair.stages import Parts, Told
from lockstep.store.documents.difference import Finding

STAGE = "loss"
SLOPE = 1e-6  # of the largest: how far central differences may be off


@dataclasses.dataclass(frozen=True)
class Labels:
    """How both sides want the labels of an example: classes by number or one-hot, or real numbers.

    `shape` is that of the first side's outputs, the classes on `axis`; `axes` their order in the second's, `there`.
    """

    kinds: tuple[str, str]  # "index", "one-hot", "values", "flat values"
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    there: tuple[int, ...]
    axis: int = -1

    @property
    def is_of_classes(self) -> bool:
        """Whether there are classes among which a label says one."""
        return "values" not in self.kinds[0]

    def last(self, value: np.ndarray) -> np.ndarray:
        """An array of the first side with the classes last."""
        return np.moveaxis(value, self.axis, -1)

    def drawn(self, seed: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """(as the judge has them: numbers of classes, or values like the outputs; as each side wants them)."""
        numbers = np.random.default_rng([seed, 5])
        if self.is_of_classes:
            n_classes = self.shape[self.axis]
            n = int(np.prod(self.shape)) // n_classes
            classes = np.concatenate([numbers.permutation(n_classes) for _ in range(-(-n // n_classes))])[:n]
            rest = np.delete(np.array(self.shape), self.axis)
            plain = classes.reshape(tuple(rest))
            whole = np.moveaxis(np.eye(n_classes)[plain], -1, self.axis)
        else:
            plain = whole = numbers.integers(0, 2, self.shape).astype(np.float64)
        moved = np.ascontiguousarray(whole.transpose(self.axes).reshape(self.there))
        axis = self.axes.index(self.axis % len(self.shape)) if len(self.there) == len(self.shape) else -1
        return plain, (_as_kind(self.kinds[0], whole, self.axis), _as_kind(self.kinds[1], moved, axis))


def _as_kind(kind: str, whole: np.ndarray, axis: int) -> np.ndarray:
    if kind == "index":
        return whole.argmax(axis)
    return whole[..., 0] if kind == "flat values" else whole


KINDS = (("index", "index"), ("one-hot", "one-hot"), ("index", "one-hot"), ("one-hot", "index"))
OF_ONE = (("values", "values"), ("flat values", "values"), ("values", "flat values"), ("flat values", "flat values"))


def candidates(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> Iterator[Labels]:
    """Labels that may be wanted for these outputs: those of classes first, where there are several."""
    given: dict[str, Any] = {"shape": a.shape, "axes": axes, "there": b.shape}
    if a.ndim < 2 or a.shape[-1] == 1:
        yield from (Labels(kinds, **given) for kinds in (OF_ONE if a.ndim > 1 else OF_ONE[:1]))
        return
    is_moved = axes != tuple(range(a.ndim))
    axes_of_classes = [-1] if a.ndim == 2 else [1, -1] if is_moved else [-1, 1]
    yield from (Labels(kinds, **given, axis=axis) for kinds in KINDS for axis in axes_of_classes)


@dataclasses.dataclass(frozen=True)
class Result:
    """What the loss's stage hands on to the steps: how labels may be wanted, and what puts the second side right."""

    labels: tuple[Labels, ...] = ()
    changes: tuple[Change, ...] = ()
    is_explained: bool = True


@dataclasses.dataclass(frozen=True)
class Pair:
    """Both sides' losses of the same outputs and labels, in float64 and float32."""

    exact: tuple[Trace, Trace]
    rough: tuple[Trace, Trace]
    axes: tuple[int, ...]

    @property
    def tolerance(self) -> float:
        """What the two numbers may differ by."""
        exact, rough = ([np.array([each.loss]) for each in side] for side in (self.exact, self.rough))
        return tolerances.of_arrays(exact, rough)

    def gradients(self) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Both by the outputs in the second side's layout, and what they may differ by; None where one has none."""
        found = [[each.gradients[0] for each in side if 0 in each.gradients] for side in (self.exact, self.rough)]
        if any(len(each) < 2 for each in found):
            return None
        first = found[0][0].transpose(self.axes).reshape(found[0][1].shape)
        return first, found[0][1], tolerances.of_arrays(found[0], found[1])


def compared(parties: Parties, parts: Parts, seed: int) -> tuple[Told, Result]:
    """Both sides' losses."""
    told = Told()
    outputs = _outputs(parties)
    tried = () if outputs is None else tuple(candidates(*outputs))
    if (absent := stages.missing(parts, STAGE, parties)) is not None:
        told.not_observed.append(absent)
        return told, Result(tried)
    if outputs is None:
        told.not_observed.append(later("loss: the models' outputs are not the same numbers in an order of axes"))
        return told, Result()
    labels, pair, why = _accepted(parties, outputs, tried, seed)
    if labels is None or pair is None:
        told.not_observed.append(later("loss: no labels that were tried are taken by both: {why}", why=str(why)))
        return told, Result(tried)
    is_equal, off = _is_equal(pair)
    if is_equal and labels.kinds == OF_ONE[0]:  # labels without the last axis may be broadcast
        flat, other, _why = _accepted(parties, outputs, [dataclasses.replace(labels, kinds=OF_ONE[-1])], seed)
        if flat is not None and other is not None and not _is_equal(other)[0]:
            labels, pair, (is_equal, off) = flat, other, _is_equal(other)
    what = later("numbers: its value, its gradient")
    if is_equal:
        has_gradients = pair.gradients() is not None
        if not has_gradients:
            told.not_observed.append(later("the loss's gradient by the outputs: a side gives none"))
        told.count(STAGE, 1 + has_gradients, 1 + has_gradients, what)
        return told, Result((labels,))
    findings, changes = _explained(parties, parts, pair, outputs, labels, seed)
    told.findings += findings or [stages.finding(STAGE, _spot(parts), off=off)]
    told.count(STAGE, 0, 2, what)
    return told, Result((labels,), tuple(changes), bool(findings))


def _spot(parts: Parts) -> Any:
    return stages.spot_of(parts[0][STAGE], parts[1][STAGE])


Outputs = tuple[np.ndarray, np.ndarray, tuple[int, ...]]  # of both sides, and the order of axes between them


def _outputs(parties: Parties) -> Outputs | None:
    """The first output of both models with all that was found put right, and the order of axes between them."""
    traces, tensors = zip(*(party.numbers("inference") for party in parties), strict=True)
    numbers = [trace.outputs[0] if trace.outputs else -1 for trace in traces]
    if any(n not in own for n, own in zip(numbers, tensors, strict=True)):
        return None
    one, two = (own[n] for n, own in zip(numbers, tensors, strict=True))
    axes = alignment.order(one.value, two.value, max(one.tolerance, two.tolerance) * tolerances.FACTOR)
    if axes is None and one.value.shape == two.value.shape:
        axes = tuple(range(one.value.ndim))  # they are others, but the losses of the same can be compared
    if axes is None:
        return None
    a = one.value.astype(np.float32).astype(np.float64)
    return a, np.ascontiguousarray(a.transpose(axes).reshape(two.value.shape)), axes


def _accepted(
    parties: Parties, outputs: Outputs, tried: Sequence[Labels], seed: int
) -> tuple[Labels | None, Pair | None, LockstepError | None]:
    """The first labels that both losses take and give a finite number for, with what they give."""
    why: LockstepError | None = None
    for labels in tried:
        _plain, given = labels.drawn(seed)
        try:
            exact = tuple(p.exact.loss(z, y) for p, z, y in zip(parties, outputs[:2], given, strict=True))
            rough = tuple(
                p.rough.loss(_narrow(z), _narrow(y)) for p, z, y in zip(parties, outputs[:2], given, strict=True)
            )
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            why = why or error
            continue
        if all(each.loss is not None and np.isfinite(each.loss) for each in exact):
            return labels, Pair((exact[0], exact[1]), (rough[0], rough[1]), outputs[2]), None
    return None, None, why


def _narrow(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == np.float64 else value


def _is_equal(pair: Pair) -> tuple[bool, float]:
    """(whether value and gradient agree, by how much the values differ)."""
    one, two = (float(each.loss or 0.0) for each in pair.exact)
    off = abs(one - two)
    gradients = pair.gradients()
    if off > pair.tolerance or gradients is None:
        return off <= pair.tolerance, off
    between = stages.off(gradients[0], gradients[1])
    return between <= gradients[2], max(off, between)


# ---------------------------------------------------------------------------------------------------------- the causes


def _explained(
    parties: Parties, parts: Parts, pair: Pair, of_models: Outputs, labels: Labels, seed: int
) -> tuple[list[Finding], list[Change]]:
    """A finding for each field in which the two differ, and the changes that put the second side right."""
    outputs, (plain, given) = labels.last(of_models[0]), labels.drawn(seed)
    if not labels.is_of_classes:
        plain = labels.last(plain)
    ways = _forms(pair, labels, outputs, plain)
    if ways is None:
        return [], []
    one, two = ways
    tolerance = pair.tolerance * tolerances.FORMULA
    differing = [
        field.name
        for field in dataclasses.fields(Form)
        if getattr(one, field.name) != getattr(two, field.name)
        and abs(_with(two, one, field.name, outputs, plain) - formulas.value(two, outputs, plain)) > tolerance
    ]
    if "takes" in differing:  # where probabilities are cut goes with them
        differing = [field for field in differing if field not in ("clip", "cut")]
    call = _call_of(pair.exact[1])
    changes = [change for field in differing if (change := _change(call, field, getattr(one, field)))]
    wanted = float(pair.exact[0].loss or 0.0)
    error = abs(formulas.value(one, outputs, plain) - wanted)
    if len(changes) == len(differing) and changes:
        try:
            again = parties[1].exact.loss(of_models[1], given[1], changes)
            error = abs(float(again.loss or 0.0) - wanted)
        except LockstepError:
            changes = []
        if error > tolerance:
            changes, error = [], abs(formulas.value(one, outputs, plain) - wanted)
    spot, off = _spot(parts), abs(wanted - float(pair.exact[1].loss or 0.0))
    part = parts[1][STAGE] if call is None else Part("", call.function, call.where, dict(call.arguments))
    findings = []
    for field in differing:
        values = getattr(one, field), getattr(two, field)
        change = _change(call, field, values[0])
        lines = [stages.remedy(part, key, value) for key, value in (change.arguments.items() if change else ())]
        findings.append(stages.finding(
            STAGE, spot, cause=_sentence(field, one, two), meaning=field, values=values, off=off, error=error,
            lines=lines,
        ))  # fmt: skip
    return findings, changes if len(changes) == len(differing) else []


def _with(form: Form, other: Form, field: str, outputs: np.ndarray, plain: np.ndarray) -> float:
    """The number of a form with one field of the other's."""
    return formulas.value(dataclasses.replace(form, **{field: getattr(other, field)}), outputs, plain)


def _forms(pair: Pair, labels: Labels, outputs: np.ndarray, plain: np.ndarray) -> tuple[Form, Form] | None:
    """What both sides compute; of several forms that fit, those two that have the most in common."""
    fits = []
    for side, trace in enumerate(pair.exact):
        numbers, lists = _arguments(trace)
        other_numbers, other_lists = _arguments(pair.exact[1 - side])
        tried = formulas.forms([*numbers, *other_numbers], [*lists, *other_lists], outputs.shape[-1])
        tolerance = pair.tolerance * tolerances.FORMULA
        own = formulas.fitting(float(trace.loss or 0.0), tolerance, outputs, plain, tried)
        fits.append([form for form in own if _has_slope(form, trace, labels, side, outputs, plain)])
    together = [(one, two) for one in fits[0] for two in fits[1]]
    return min(together, key=_distance) if together else None


def _distance(forms: tuple[Form, Form]) -> tuple[int, int]:
    one, two = forms
    n = sum(getattr(one, field.name) != getattr(two, field.name) for field in dataclasses.fields(Form))
    return n, one.departures + two.departures


def _has_slope(form: Form, trace: Trace, labels: Labels, side: int, outputs: np.ndarray, plain: np.ndarray) -> bool:
    """Whether a form has the side's gradient too, along a drawn direction; true where it tells none."""
    if 0 not in trace.gradients:
        return True
    gradient = trace.gradients[0]
    if side:
        gradient = gradient.reshape([labels.shape[axis] for axis in labels.axes]).transpose(np.argsort(labels.axes))
    gradient = labels.last(gradient)
    direction = np.random.default_rng(2).normal(size=outputs.shape)
    step = 1e-5 * max(float(np.abs(outputs).max(initial=0.0)), 1e-3)
    wanted = float((gradient * direction).sum())
    size = float(np.abs(gradient * direction).sum()) + 1e-12
    return abs(formulas.slope(form, outputs, plain, direction, step) - wanted) <= SLOPE * 100 * size


def _arguments(trace: Trace) -> tuple[list[float], list[list[float]]]:
    """Numbers, and lists of numbers, among the arguments of a loss's calls."""
    numbers: list[float] = []
    lists: list[list[float]] = []
    for call in trace.calls:
        for value in call.arguments.values():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.append(float(value))
            elif isinstance(value, list) and value and all(isinstance(x, int | float) for x in value):
                lists.append([float(x) for x in value])
    return numbers, lists


# field → arguments that say it, the names of all frameworks
OPTIONS = {
    "reduction": ("reduction",), "smoothing": ("label_smoothing",), "takes": ("from_logits",),
    "ignored": ("ignore_index", "ignore_class"), "weights": ("weight",), "delta": ("delta", "beta"),
}  # fmt: skip


def _call_of(trace: Trace) -> Call | None:
    """The call that says how the loss is computed: of one with the arguments above, the first that is not inside."""
    known = {name for names in OPTIONS.values() for name in names}
    return next((call for call in trace.calls if known & set(call.arguments)), None)


def _change(call: Call | None, field: str, value: Any) -> Change | None:
    """The change of a side's own call that gives a field this value; None where it has no argument for it."""
    argument = next((name for name in OPTIONS.get(field, ()) if call is not None and name in call.arguments), None)
    if call is None or argument is None:
        return None
    if field == "takes":
        value = value == "logits"
    if field == "reduction":
        is_keras = call.function.startswith(("keras", "tf."))
        value = {"mean": "sum_over_batch_size" if is_keras else "mean", "sum": "sum"}.get(value)
        if value is None:
            return None
    if field == "ignored" and value is None:
        value = None if argument == "ignore_class" else -100
    if isinstance(value, tuple):
        value = list(value) or None
    return Change(call=call.index, of=call.function, arguments={argument: value})


def _sentence(field: str, one: Form, two: Form) -> str:
    """What the two sides do, as a person says it."""
    values = {"a": _word(field, one), "b": _word(field, two)}
    if field == "kind":
        return later("another loss: {a} | {b}", **values)
    if field == "takes":
        return later("the outputs are taken for {a} | {b}", **values)
    if field == "reduction":
        return later("the loss is {a} | {b}", **values)
    if field == "divisor":
        return later("the mean is divided by {a} | {b}", **values)
    if field == "broadcast":
        return later("every output is compared with {a} | {b}", **values)
    if field == "cut":
        return later("probabilities are cut {a} | {b} they are made to sum up to 1", **values)
    if field == "others":
        return later("label smoothing goes to {a} | {b}", **values)
    return later("{kind}: {argument} is {a} | {b}", kind=_word("kind", one), argument=NAMES.get(field, field), **values)


NAMES = {"smoothing": "label_smoothing", "ignored": "ignore_index", "weights": "weight", "clip": "clip"}


def _word(field: str, form: Form) -> Any:
    value = getattr(form, field)
    words = {
        "mean": later("the mean"), "sum": later("the sum"),
        "batch": later("the sum of each example, averaged over the batch"),
        "count": later("the number of labels"), "weights": later("the sum of their weights"),
        "all": later("the number of all labels, ignored ones too"),
        "logits": later("logits"), "probabilities": later("probabilities"),
        "log-probabilities": later("log-probabilities"),
        "cross entropy": later("cross entropy"), "binary cross entropy": later("binary cross entropy"),
        "squared error": later("squared error"), "absolute error": later("absolute error"), "huber": later("Huber"),
        "KL divergence": later("KL divergence"),
    }  # fmt: skip
    if field == "cut":
        return later("after") if value == "after" else later("before")
    if field == "broadcast":
        return later("every label of the batch") if value else later("its own label")
    if field == "others":
        return later("the other classes alone") if value else later("all classes")
    return words.get(value, value) if isinstance(value, str) else value
