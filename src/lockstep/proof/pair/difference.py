"""Two models of people's own, compared: all differences in one run, each with its cause, and the proof that it is all.

A later stage runs with the earlier causes put right in the second model, so one difference does not hide another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import LockstepError, did_you_mean
from lockstep.exchange.models.records import Call, Change, Layer, Model, Trace
from lockstep.language import later as _
from lockstep.proof.pair import alignment, alternatives, client, laboratory, mapping, remedies, training
from lockstep.proof.pair.client import Side
from lockstep.proof.pair.places import Numbers
from lockstep.store.documents.difference import Difference, Finding, Remedy, Spot

N_EXAMPLES = 9
MOST_ROUNDS = 60  # differences at single places that are put right one after the other
SIZES = (28, 32, 64, 96, 224)  # of images, tried where nothing says how large they are
WEIGHTS = ("drawn", "from-a", "as-is")

Tell = Callable[[str], None]


@dataclasses.dataclass
class Party:
    """One model, in float64 and in float32, with what was put right in it."""

    exact: Side
    rough: Side
    model: Model
    batch: list[np.ndarray]
    changes: list[Change] = dataclasses.field(default_factory=list)
    loose: float = 0.0  # the share of a value that numbers of float32 inside of a call may move it by

    def numbers(self, mode: str, designed: np.ndarray | None = None) -> tuple[Trace, dict[int, alignment.Tensor]]:
        """A pass in float64 and what its tensors may be off, by the same pass in float32."""
        trace = self.exact.trace(self.batch, mode, self.changes, designed)
        beside = self.rough.trace([_rounded(value) for value in self.batch], mode, self.changes, designed)
        tensors = alignment.tensors(trace, beside)
        return trace, {number: tensor.within(self.loose) for number, tensor in tensors.items()}


def _rounded(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value


def compare(
    a: str, b: str, *, weights: str = "drawn", batch: Sequence[np.ndarray] | None = None,
    input_shape: Sequence[int] | None = None, given: Iterable[tuple[str, str]] = (), seed: int = 0,
    trained: training.Asked = training.NOTHING, tell: Tell = lambda _what: None,
) -> Difference:  # fmt: skip
    """Compare two models, each named as FILE:NAME; the first is the reference, remedies are for the second.

    `batch`: arrays as the first model takes them; `input_shape`: of one example, where it is drawn; `trained`: what is
    asked of loss, optimizer, steps and loaders. Raises
    LockstepError for names that are none, models that need arguments, inputs that no side accepts (LS-200 … LS-209),
    and for what a person's own code raises (LS-403) or how its process ends (LS-402, LS-503).
    """
    if weights not in WEIGHTS:
        hint = _("one of {names}", names=", ".join(WEIGHTS))
        raise LockstepError("LS-205", _('there are no weights "{name}"', name=weights), where="--weights", hint=hint)
    asked = client.named(a), client.named(b)
    with tempfile.TemporaryDirectory(prefix="lockstep-diff-") as temporary, contextlib.ExitStack() as open_sides:
        sides = [
            open_sides.enter_context(Side(one, Path(temporary) / f"{letter}-{dtype}", letter))
            for letter, one in zip("ab", asked, strict=True)
            for dtype in ("float64", "float32")
        ]
        tell(_("building both models"))
        models = [side.load(dtype) for side, dtype in zip(sides, ("float64", "float32") * 2, strict=True)]
        first = _batch(sides[0], models[0], batch, input_shape, seed)
        parties = (
            Party(sides[0], sides[1], models[0], first),
            Party(sides[2], sides[3], models[2], _as_taken(sides[2], models[2], first, asked)),
        )
        pairing = _paired(parties, given)
        _load(parties, pairing, weights, seed)
        return _compared(asked, parties, pairing, trained, tell)


# ------------------------------------------------------------------------------------------------------- what goes in


def _batch(
    side: Side, model: Model, batch: Sequence[np.ndarray] | None, shape: Sequence[int] | None, seed: int
) -> list[np.ndarray]:
    """The arrays that are put into the first model; drawn where nobody gives any."""
    if batch is not None:
        return [_as_numbers(value) for value in batch]
    numbers = np.random.default_rng(seed)
    tried: list[str] = []
    first: LockstepError | None = None
    for size, is_whole in _shapes(model, shape):
        drawn = numbers.integers(0, 9, (N_EXAMPLES, *size)) if is_whole else numbers.normal(size=(N_EXAMPLES, *size))
        value = drawn if is_whole else drawn.astype(np.float32).astype(np.float64)
        try:
            side.trace([value])
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            tried.append(str(size))
            first = first or error
            continue
        return [value]
    if first is not None and shape is not None:
        raise first
    hint = _("say the shape of one example: --input 3,32,32, or give a batch: --batch x.npz")
    message = _("it takes none of the inputs that were tried: {shapes}", shapes=", ".join(tried) or "–")
    raise LockstepError("LS-205", message, where=str(side.asked), hint=hint)


def _as_numbers(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array


def _shapes(model: Model, shape: Sequence[int] | None) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Shapes of one example to be tried, and whether it holds whole numbers."""
    if shape is not None:
        yield tuple(shape), False
        yield tuple(shape), True
        return
    if model.input_shape is not None:
        sizes = [[size] if size else [*SIZES] for size in model.input_shape]
        found = [
            tuple(each)
            for each in itertools.product(*sizes)
            if len(set(each[:2])) < 2 or len(sizes) < 3 or all(model.input_shape)
        ]
        yield from ((each, False) for each in found[:8])
        yield from ((each, True) for each in found[:8])
    for layer in model.layers:
        arguments = layer.arguments
        for key in ("in_features", "input_size", "in_channels", "num_embeddings"):
            n = arguments.get(key)
            if not isinstance(n, int):
                continue
            if key == "num_embeddings":
                yield (7,), True
            elif key == "in_channels":
                n_axes = next((axes for axes in (1, 2, 3) if f"{axes}d" in layer.name), 2)
                yield from (((n, *[size] * n_axes), False) for size in (SIZES if n_axes < 3 else (16, 32)))
            else:
                yield (n,), False
                yield (7, n), False


def _as_taken(
    side: Side, model: Model, batch: list[np.ndarray], asked: tuple[client.Named, client.Named]
) -> list[np.ndarray]:
    """The first model's batch as the second one takes it: channels first or last, whichever it accepts."""
    frameworks = [one.framework for one in asked]
    is_last = [name in ("keras", "jax") for name in frameworks]
    moved = [_moved(value, to_last=is_last[1]) for value in batch]
    ways = [moved, batch] if is_last[0] != is_last[1] else [batch, [_moved(value, to_last=True) for value in batch]]
    errors = []
    for way in ways:
        if model.input_shape is not None and not _fits(way[0].shape[1:], model.input_shape):
            continue
        try:
            side.trace(way)
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            errors.append(error)
            continue
        return way
    if errors:
        raise errors[0]
    shapes = ", ".join(str(way[0].shape[1:]) for way in ways)
    message = _("it wants inputs of {wanted}, and not {shapes}", wanted=model.input_shape, shapes=shapes)
    raise LockstepError("LS-206", message, where=str(side.asked), hint=_("say the shape: --input 3,32,32"))


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))


def _moved(value: np.ndarray, to_last: bool) -> np.ndarray:
    if value.ndim < 3:
        return value
    return np.ascontiguousarray(np.moveaxis(value, 1, -1) if to_last else np.moveaxis(value, -1, 1))


# ------------------------------------------------------------------------------------------------------------- weights


def _paired(parties: tuple[Party, Party], given: Iterable[tuple[str, str]]) -> mapping.Pairing:
    """The units' pairs; a pass over the batch says what each unit is, on the rough sides too."""
    traces = []
    for party in parties:
        traces.append(party.exact.trace(party.batch))
        party.rough.trace([_rounded(value) for value in party.batch])
        party.model = party.exact.description()
    for pair in (given := [*given]):
        for name, party in zip(pair, parties, strict=True):
            known = [unit.name for unit in party.model.units]
            if name not in known:
                message = _('"{name}" is no parameter of {model}', name=name, model=str(party.exact.asked))
                raise LockstepError("LS-209", message, where="--map", hint=did_you_mean(name, known))
    return mapping.paired(parties[0].model, traces[0], parties[1].model, traces[1], given)


def _load(parties: tuple[Party, Party], pairing: mapping.Pairing, weights: str, seed: int) -> None:
    """Give both models the same units, in both precisions."""
    a, b = parties
    if weights == "as-is":
        for party in parties:  # float32 beside float64 must hold the same numbers
            values = {name: _exact(value) for name, value in party.exact.units().items()}
            party.exact.put(values)
            party.rough.put(values)
        return
    values = mapping.drawn(a.model, seed) if weights == "drawn" else {k: _exact(v) for k, v in a.exact.units().items()}
    there = mapping.carried(values, pairing)
    there |= {
        unit.name: np.zeros(unit.shape) for unit in b.model.units if unit.name in pairing.left_b and unit.role == "bias"
    }
    values |= {
        unit.name: np.zeros(unit.shape) for unit in a.model.units if unit.name in pairing.left_a and unit.role == "bias"
    }
    for side in (a.exact, a.rough):
        side.put(values)
    for side in (b.exact, b.rough):
        side.put(there)


def _exact(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32).astype(np.float64)


# ---------------------------------------------------------------------------------------------------------- comparison


def _compared(
    asked: tuple[client.Named, client.Named], parties: tuple[Party, Party], pairing: mapping.Pairing,
    trained: training.Asked, tell: Tell,
) -> Difference:  # fmt: skip
    findings: list[Finding] = []
    not_observed: list[str] = [_("what runs on a GPU")]
    n_matched = n_tensors = 0
    worst, is_explained = 0.0, True
    notes: dict[str, Any] = {}
    for mode, stage in (("inference", "forward"), ("training", "forward in training")):
        tell(_("comparing: {stage}", stage=stage))
        if mode == "training" and not any(_differs_in_training(party.model) for party in parties):
            continue
        found, state = _passes(parties, mode, stage, findings, notes)
        findings = found
        n_matched, n_tensors, worst = state[:3]
        is_explained = is_explained and state[3]
        if not is_explained:
            break
    if is_explained:
        gradients, n_compared = _gradients(parties, pairing)
        findings += [*_statistics(parties, pairing), *gradients]
        if n_compared < sum(unit.is_trained for unit in parties[0].model.units):
            counts = {"n": n_compared, "all": sum(unit.is_trained for unit in parties[0].model.units)}
            not_observed.append(_("gradients of all parameters: only {n} of {all} could be compared", **counts))
    biased = {spot.b for finding in findings if finding.meaning == "variance" for spot in finding.places}
    told = training.compared(parties, pairing, trained, is_explained, tell, biased)
    findings += told.findings
    not_observed[:0] = told.not_observed
    not_observed += notes.values()
    if any(pairing.left_a) or any(pairing.left_b):
        left = ", ".join((*pairing.left_a, *pairing.left_b))
        not_observed.append(_("units without a partner: {names}", names=left))
    return Difference(
        str(asked[0]), str(asked[1]), (asked[0].framework, asked[1].framework),
        "DIVERGED" if findings else "EQUAL", tuple(findings),
        tuple((pair.a, pair.b) for pair in pairing.pairs), (pairing.left_a, pairing.left_b),
        n_matched, n_tensors, worst, tuple(not_observed), tuple(parties[0].batch[0].shape[1:]),
        tuple(told.stages),
    )  # fmt: skip


def _differs_in_training(model: Model) -> bool:
    return any(unit.role in ("mean", "variance") for unit in model.units)


def _passes(
    parties: tuple[Party, Party], mode: str, stage: str, findings: list[Finding], notes: dict[str, Any]
) -> tuple[list[Finding], tuple[int, int, float, bool]]:
    """Passes of both models until they are equal, or until a difference is found that nothing explains."""
    findings, n_rounds = list(findings), 0
    while True:
        n_rounds += 1
        traces, tensors = zip(*(party.numbers(mode) for party in parties), strict=True)
        there = alignment.matches(tensors[0], tensors[1])
        back = {number for numbers in there.values() for number in numbers}
        numbers = tuple(
            Numbers(trace, own, known) for trace, own, known in zip(traces, tensors, (there, back), strict=True)
        )
        if numbers[0].is_equal and numbers[1].is_equal:
            worst = _worst(traces[0], traces[1], tensors, there)
            return findings, (len(there), len(tensors[0]), worst, True)
        places = [each.place() for each in numbers]
        if places[0] is None or places[1] is None or n_rounds > MOST_ROUNDS:
            findings.append(_unexplained(stage, parties, numbers))
            return findings, (len(there), len(tensors[0]), np.inf, False)
        causes = laboratory.causes(
            (
                laboratory.Bench(parties[0].exact, numbers[0], places[0]),
                laboratory.Bench(parties[1].exact, numbers[1], places[1]),
            )
        )
        usable = [cause for cause in causes if cause.alternative.meaning != "function"]
        if not usable and (share := _as_of_float32(numbers, places)):
            _loosen(parties, share, _spot(parties, places, None).b, notes)
            continue
        if not usable:
            findings.append(_unexplained(stage, parties, numbers, causes))
            return findings, (len(there), len(tensors[0]), np.inf, False)
        cause = usable[0]
        parties[cause.side].changes.append(_lasting(cause))
        if cause.share:
            _loosen(parties, cause.share, cause.call.path or cause.call.function, notes)
        _add(findings, _finding(stage, cause, parties, places))


def _loosen(parties: tuple[Party, Party], share: float, call: str, notes: dict[str, Any]) -> None:
    """From here on, numbers may be off by this share of the largest: a call holds a number in float32."""
    for party in parties:
        party.loose = max(party.loose, share)
    words = {"call": call, "share": share}
    notes[call] = _("numbers inside of {call} are rounded to float32: {share:.0e} of its largest value", **words)


def _as_of_float32(numbers: Sequence[Numbers], places: Sequence[Any]) -> float:
    """By what share of the largest value two calls' numbers differ, where one rounded constant may do that; else 0.

    TensorFlow keeps some numbers of a formula, the slope of leaky relu or √2 of GELU, in float32 whatever the model is.
    """
    found = 0.0
    for one in places[0].targets[:1]:
        for other in places[1].targets:
            a, b = numbers[0].tensors[one], numbers[1].tensors[other]
            off, largest = alignment.off(a.value, b.value), float(np.abs(a.value).max(initial=0.0))
            if 0 < off <= laboratory.FLOAT32 * largest:
                found = max(found, off / largest)
    return found


def _lasting(cause: laboratory.Cause) -> Change:
    """The change for all passes that follow: of the layer, where the call is one's, since numbers of calls may move."""
    call = cause.call
    where = {"call": -1, "path": call.path} if call.path else {"call": call.index}
    return dataclasses.replace(cause.alternative.change, of=call.function, **where)


def _worst(a: Trace, b: Trace, tensors: Any, there: dict[int, list[int]]) -> float:
    found = 0.0
    for number in a.outputs:
        for other in there.get(number, ()):
            one, two = tensors[0][number], tensors[1][other]
            room = max(one.room, two.room)
            found = max(found, alignment.off(one.value, two.value) / room if room else 0.0)
    return found


def _finding(stage: str, cause: laboratory.Cause, parties: tuple[Party, Party], places: Sequence[Any]) -> Finding:
    alternative = cause.alternative
    values = (alternative.after, alternative.before) if cause.side else (alternative.before, alternative.after)
    spots = _spot(parties, places, cause)
    return Finding(
        stage, _sentence(cause, values), alternative.meaning, *values, [spots], cause.before, cause.error,
        _remedies(parties[1].model, cause.call, alternative) if cause.side else [],
    )  # fmt: skip


def _spot(parties: tuple[Party, Party], places: Sequence[Any], cause: laboratory.Cause | None) -> Spot:
    calls = [place.calls[-1] for place in places]
    if cause is not None:
        calls[cause.side] = cause.call
    titles = [call.path or call.function for call in calls]
    return Spot(titles[0], titles[1], client.shown(calls[0].where), client.shown(calls[1].where))


def _sentence(cause: laboratory.Cause, values: tuple[Any, Any]) -> str:
    """What the two sides do, as a person says it."""
    what = {"kind": cause.call.kind or cause.call.function, "a": values[0], "b": values[1]}
    meaning = cause.alternative.meaning
    if meaning == "pads":
        return _("{kind}: the border is padded otherwise: {a} | {b}", **what)
    if meaning == "flatten":
        return _("the image is flattened in another order of axes", **what)
    return _("{kind}: {argument} is {a} | {b}", argument=cause.alternative.argument, **what)


def _add(findings: list[Finding], new: Finding) -> None:
    """Put a finding to those of the same cause, or behind them."""
    for finding in findings:
        if finding.cause and finding.cause == new.cause and new.places[0] in finding.places:
            return  # met again in the other mode
        if finding.cause == new.cause and finding.stage == new.stage:
            finding.places += new.places
            finding.remedies += [remedy for remedy in new.remedies if remedy not in finding.remedies]
            return
    findings.append(new)


def _unexplained(
    stage: str, parties: tuple[Party, Party], numbers: Sequence[Numbers], causes: Sequence[laboratory.Cause] = ()
) -> Finding:
    places = [each.place() for each in numbers]
    spot = Spot("–", "–", "–", "–")
    if places[0] is not None and places[1] is not None:
        spot = _spot(parties, places, None)
    sentence, values = "", (None, None)
    if causes:
        alternative = causes[0].alternative
        values = (alternative.after, alternative.before) if causes[0].side else (alternative.before, alternative.after)
        sentence = _("another function: {a} | {b}", a=values[0], b=values[1])
    off = causes[0].before if causes else np.inf
    return Finding(stage, sentence, "function" if causes else "", *values, [spot], off, np.inf)


def _remedies(model: Model, call: Call, alternative: alternatives.Alternative) -> list[Remedy]:
    """The line of the layer, or of the function, that a change is of; none where it cannot be rewritten for sure."""
    if alternative.meaning in ("pads", "flatten", "function"):
        return []
    callee, argument, names, where = call.function.rpartition(".")[2], alternative.argument, call.names, call.where
    if (layer := _layer(model, call)) is not None:
        callee, names, where = layer.name, tuple(layer.arguments), layer.where
        argument = next((key for key in layer.arguments if _is_same_argument(key, argument)), argument)
    found = remedies.rewritten(where.file, where.line, callee, argument, alternative.after, names)
    return [found] if found else []


def _layer(model: Model, call: Call) -> Layer | None:
    return next((layer for layer in model.layers if layer.path == call.path), None)


def _is_same_argument(one: str, other: str) -> bool:
    meaning = alternatives.MEANING
    return one == other or (one in meaning and meaning.get(one) == meaning.get(other))


# ---------------------------------------------------------------------------------------------------------- statistics


def _statistics(parties: tuple[Party, Party], pairing: mapping.Pairing) -> list[Finding]:
    """Running means and variances after one pass in training; explained by the second model's own momentum."""
    (trace, _own), (other, _theirs) = (party.numbers("training") for party in parties)
    findings: list[Finding] = []
    for pair in pairing.pairs:
        if pair.a not in trace.state or pair.b not in other.state:
            continue
        wanted, found = pair.there(trace.state[pair.a]), other.state[pair.b]
        room = max(STATISTICS_ROOM, alignment.ROOM * parties[0].loose) * float(np.abs(wanted).max(initial=0.0))
        off = float(np.abs(wanted - found).max(initial=0.0))
        if off <= room:
            continue
        calls = [_user_of(each, name) for each, name in ((trace, pair.a), (other, pair.b))]
        spot = Spot(pair.a, pair.b, *(client.shown(call.where) if call else "–" for call in calls))
        new = Finding("statistics", "", "", None, None, [spot], off, np.inf)
        if calls[0] is not None and calls[1] is not None:
            new = _momentum(parties[1], pair, calls[0], calls[1], wanted, room, new)
            if new.cause:  # what follows is seen with that put right
                other, _theirs = parties[1].numbers("training")
            else:
                old = parties[1].exact.units()[pair.b]
                new = _biased(other, old, calls[0], calls[1], wanted, found, new)
        _add(findings, new)
    return findings


STATISTICS_ROOM = 2.0**-44  # of the largest value: an average of two numbers and a sum over a batch


def _user_of(trace: Trace, unit: str) -> Call | None:
    return next((call for call in trace.calls if unit in call.units.values()), None)


def _momentum(
    b: Party, pair: mapping.Pair, one: Call, two: Call, wanted: np.ndarray, room: float, unexplained: Finding
) -> Finding:
    """What the second model's layer gives with another momentum, tried in its own framework."""
    for alternative in alternatives.of_arguments(two, b.exact.signature(two), [one]):
        if alternative.meaning != "momentum":
            continue
        where = {"call": -1, "path": two.path} if two.path else {"call": two.index}
        change = dataclasses.replace(alternative.change, of=two.function, **where)
        try:
            again = b.exact.trace(b.batch, "training", [*b.changes, change])
        except LockstepError:
            continue
        error = float(np.abs(wanted - again.state[pair.b]).max(initial=0.0))
        if error <= room:
            what = {"kind": two.kind or two.function, "argument": alternative.argument}
            here = next((v for k, v in one.arguments.items() if alternatives.MEANING.get(k) == "momentum"), None)
            sentence = _("{kind}: {argument} is {a} | {b}", **what, a=here, b=alternative.before)
            told = _remedies(b.model, two, alternative)
            b.changes.append(change)
            return dataclasses.replace(
                unexplained, cause=sentence, meaning="momentum", a=here, b=alternative.before, error=error,
                remedies=told,
            )  # fmt: skip
    return unexplained


def _biased(
    trace: Trace, old: np.ndarray, one: Call, two: Call, wanted: np.ndarray, found: np.ndarray, unexplained: Finding
) -> Finding:
    """Whether one side averages the biased variance of a batch, and the other n/(n − 1) times that."""
    n = max(trace.tensors[number].size for number in two.inputs) // max(wanted.size, 1)
    if n < 2 or wanted.shape != found.shape:
        return unexplained
    momenta = {
        share
        for call in (one, two)
        for name, value in call.arguments.items()
        if alternatives.MEANING.get(name) == "momentum" and isinstance(value, float)
        for share in (value, 1 - value)
    }
    for share in sorted(momenta):
        parts = wanted - (1 - share) * old, found - (1 - share) * old
        for factor, words in (
            (n / (n - 1), ("n/(n − 1) · variance", "variance")),
            ((n - 1) / n, ("variance", "n/(n − 1) · variance")),
        ):
            off = float(np.abs(parts[0] - factor * parts[1]).max(initial=0.0))
            if off <= STATISTICS_ROOM * 16 * float(np.abs(wanted).max(initial=0.0)):
                sentence = _("{kind}: the running variance averages {a} | {b}", kind=two.kind, a=words[0], b=words[1])
                return dataclasses.replace(
                    unexplained, cause=sentence, meaning="variance", a=words[0], b=words[1], error=off
                )
    return unexplained


# ----------------------------------------------------------------------------------------------------------- gradients


def _gradients(parties: tuple[Party, Party], pairing: mapping.Pairing) -> tuple[list[Finding], int]:
    """Gradients of units, and how many were compared; of one designed weighing of the output, all causes put right."""
    a, b = parties
    trace, own = a.numbers("inference")
    other, theirs = b.numbers("inference")
    if not trace.outputs or not other.outputs or trace.outputs[0] not in own or other.outputs[0] not in theirs:
        return [], 0
    numbers = np.random.default_rng(1)
    value, there = own[trace.outputs[0]].value, theirs[other.outputs[0]].value
    designed = numbers.normal(size=value.shape).astype(np.float32).astype(np.float64)
    axes = alignment.order(value, there, max(own[trace.outputs[0]].room, theirs[other.outputs[0]].room) * 8)
    if axes is None:
        return [], 0
    weighed = np.ascontiguousarray(designed.transpose(axes).reshape(there.shape))
    exact = (
        a.exact.trace(a.batch, "inference", a.changes, designed),
        b.exact.trace(b.batch, "inference", b.changes, weighed),
    )
    rough = (
        a.rough.trace([_rounded(x) for x in a.batch], "inference", a.changes, designed),
        b.rough.trace([_rounded(x) for x in b.batch], "inference", b.changes, weighed),
    )
    found, n = [], 0
    for pair in pairing.pairs:
        names = (pair.a, pair.b)
        if not all(name in each.by_unit for name, each in zip(names, exact, strict=True)):
            continue
        n += exact[0].by_unit[pair.a].size > 0
        one, two = pair.there(exact[0].by_unit[pair.a]), exact[1].by_unit[pair.b]
        room = max(alignment.LEAST, alignment.ROOM * a.loose) * float(np.abs(one).max(initial=0.0)) * 8
        for name, trace_, beside in zip(names, exact, rough, strict=True):
            if name in beside.by_unit:
                off32 = float(np.abs(beside.by_unit[name] - trace_.by_unit[name]).max(initial=0.0))
                room = max(room, alignment.ROOM * alignment.FROM_FLOAT32 * off32)
        off = float(np.abs(one - two).max(initial=0.0))
        if off > room:
            spot = Spot(pair.a, pair.b, "–", "–")
            found.append(Finding("gradients", "", "", None, None, [spot], off, np.inf))
    return found, n
