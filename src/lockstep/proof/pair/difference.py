"""Two models of people's own, compared: all differences in one run, each with its cause, and the proof that it is all.

A later stage runs with the earlier causes put right in the second model, so one difference does not hide another.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import LockstepError, did_you_mean
from lockstep.exchange.models.records import CONSTRUCTOR, Call, Change, Layer, Model, Trace
from lockstep.language import later
from lockstep.proof.pair import (
    activations,
    alignment,
    alternatives,
    bundle,
    client,
    evidence,
    exchanged,
    flow,
    gates,
    graph,
    injection,
    laboratory,
    mapping,
    modes,
    outputs,
    remedies,
    training,
)
from lockstep.proof.pair import weights as keeping
from lockstep.proof.pair.client import Side
from lockstep.proof.pair.places import Numbers
from lockstep.store.documents.comparison import Verdict
from lockstep.store.documents.difference import FORMAT, Closing, Difference, Finding, Graph, Remedy, Spot, Stage
from lockstep.store.documents.difference import Model as ModelRow
from lockstep.store.documents.part import but
from lockstep.version import version

N_EXAMPLES = 9
MOST_ROUNDS = 60  # differences at single places that are put right one after the other
SIZES = (28, 32, 64, 96, 224)  # of images, tried where nothing says how large they are
WEIGHTS = ("drawn", "from-a", "as-is")

TOLD = ("function", "precision")  # causes that are known by their numbers and put right by no argument

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
    of_mode: dict[str, list[Change]] = dataclasses.field(default_factory=dict)  # put right in passes of this mode alone
    results: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # what calls give instead
    edits: list[remedies.Edit] = dataclasses.field(default_factory=list)  # of its file

    def changes_in(self, mode: str) -> list[Change]:
        """All that was put right in a pass of this mode."""
        return [*self.changes, *self.of_mode.get(mode, ())]

    def numbers(self, mode: str, designed: np.ndarray | None = None) -> tuple[Trace, dict[int, alignment.Tensor]]:
        """A pass in float64 and what its tensors may be off, by the same pass in float32."""
        changes, results = self.changes_in(mode), self.results
        trace = self.exact.trace(self.batch, mode, changes, designed, results)
        rounded = {key: _rounded(value) for key, value in results.items()}
        beside = self.rough.trace([_rounded(value) for value in self.batch], mode, changes, designed, rounded)
        tensors = alignment.tensors(trace, beside)
        return trace, {number: tensor.within(self.loose) for number, tensor in tensors.items()}


def _rounded(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value


def compare(
    a: str, b: str, *, weights: str = "drawn", batch: Sequence[np.ndarray] | None = None,
    input_shape: Sequence[int] | None = None, given: Iterable[tuple[str, str]] = (), seed: int = 0,
    trained: training.Asked = training.NOTHING, bundles: Path | None = None, tell: Tell = lambda _what: None,
) -> Difference:  # fmt: skip
    """Compare two models, each named as FILE:NAME; the first is the reference, remedies are for the second.

    `batch`: arrays as the first model takes them; `input_shape`: of one example, where it is drawn; `trained`: what is
    asked of loss, optimizer, steps and loaders. Raises
    LockstepError for names that are none, models that need arguments, inputs that no side accepts (LS-200 … LS-209),
    and for what a person's own code raises (LS-403) or how its process ends (LS-402, LS-503).
    """
    if seed < 0:
        raise LockstepError("LS-205", later("{n} is no seed", n=seed), where="--seed", hint=later("0 or more"))
    if weights not in WEIGHTS and not Path(weights).is_file():
        hint = later("one of {names}, or the weights.npz of a bundle", names=", ".join(WEIGHTS))
        raise LockstepError(
            "LS-205", later('there are no weights "{name}"', name=weights), where="--weights", hint=hint
        )
    asked = client.named(a), client.named(b)
    with tempfile.TemporaryDirectory(prefix="lockstep-diff-") as temporary, contextlib.ExitStack() as open_sides:
        sides = [
            open_sides.enter_context(Side(one, Path(temporary) / f"{letter}-{dtype}", letter))
            for letter, one in zip("ab", asked, strict=True)
            for dtype in ("float64", "float32")
        ]
        tell(later("building both models"))
        models = [side.load(dtype) for side, dtype in zip(sides, ("float64", "float32") * 2, strict=True)]
        first = _batch(sides[0], models[0], batch, input_shape, seed)
        parties = (
            Party(sides[0], sides[1], models[0], first),
            Party(sides[2], sides[3], models[2], _as_taken(sides[2], models[2], first, asked, sides[0].description())),
        )
        given = [*given]
        pairing = _paired(parties, given)
        _load(parties, pairing, weights, seed)

        def anew() -> None:
            pairing.pairs = _paired(parties, given).pairs
            _load(parties, pairing, weights, seed)

        pairing.again = anew
        found, guilty = _compared(asked, parties, pairing, trained, tell, is_as_is=weights == "as-is")
        found = but(found, weights=weights, seed=seed, n_examples=len(first[0]))
        if bundles is not None:  # before a copy with the remedies in it takes the second model's place
            units = parties[0].exact.units(), parties[1].exact.units()
            found = bundle.write(bundles, found, asked, first, units, guilty)
        if parties[1].edits:
            tell(later("writing the remedies into a copy, and comparing that"))
            found = but(found, closing=_closing(parties, given, weights, seed, Path(temporary) / "mended"))
        return found


def _closing(
    parties: tuple[Party, Party], given: Iterable[tuple[str, str]], weights: str, seed: int, folder: Path
) -> Closing | None:
    """What the comparison says of a copy of the second file with all remedies written into it."""
    asked = parties[1].exact.asked
    own = [edit for edit in parties[1].edits if Path(edit.file).resolve() == asked.file.resolve()]
    text, n = remedies.edited(asked.file.read_text(encoding="utf-8"), own)
    if not n:
        return None
    folder.mkdir()
    (folder / asked.file.name).write_text(text, encoding="utf-8")
    mended = dataclasses.replace(asked, file=folder / asked.file.name)
    sides = parties[1].exact, parties[1].rough
    try:
        for side, dtype in zip(sides, ("float64", "float32"), strict=True):
            side.asked = mended
            model = side.load(dtype)
            parties[1].model = model if dtype == "float64" else parties[1].model
        again = Party(*sides, parties[1].model, parties[1].batch)
        first = Party(parties[0].exact, parties[0].rough, parties[0].model, parties[0].batch)
        pairing = _paired((first, again), given)
        _load((first, again), pairing, weights, seed)
        asked_again = parties[0].exact.asked, mended
        found, _calls = _compared(asked_again, (first, again), pairing, None, lambda _what: None)
    except LockstepError as error:
        return Closing(verdict="ERROR", n_written=n, left=(str(error),))
    finally:
        for side in sides:
            side.asked = asked
    causes = tuple(finding.cause or later("unexplained") for finding in found.findings)
    return Closing(verdict=found.verdict, n_written=n, left=causes)


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
    hint = later("say the shape of one example: --input 3,32,32, or give a batch: --batch x.npz")
    message = later("it takes none of the inputs that were tried: {shapes}", shapes=", ".join(tried))
    if not tried:
        message = later("nothing says what inputs it takes")
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
                yield from (((n, *[size] * n_axes), False) for size in (SIZES if n_axes < 3 else (16, 32)) if size != n)
            else:
                yield (n,), False
                yield (7 if n != 7 else 5, n), False


def _as_taken(
    side: Side, model: Model, batch: list[np.ndarray], asked: tuple[client.Named, client.Named], first: Model
) -> list[np.ndarray]:
    """The first model's batch as the second one takes it: channels first or last, whichever it accepts.

    A model may take both, since its parameters are made for what it is given first: then as many of them as can be are
    to be as large as the first model's. Where that says nothing either, three axes are a sequence's, and none is moved.
    """
    is_last = [one.framework in ("keras", "jax") for one in asked]
    turned = [with_channels(value, to_last=is_last[1]) for value in batch]
    ways = [turned, batch] if is_last[0] != is_last[1] else [batch, [with_channels(x, to_last=True) for x in batch]]
    if is_last[0] != is_last[1] and any(map(is_either_way, batch, turned)):
        shape = batch[0].shape[1:]
        message = later("with inputs of {shape} nothing tells channels first from channels last", shape=str(shape))
        hint = later("give inputs whose axes differ in size: --input 3,20,24, or such a batch")
        raise LockstepError("LS-205", message, where=str(side.asked), hint=hint)
    if batch[0].ndim == 3 and not any("1d" in layer.name.lower() for layer in first.layers):
        ways = [batch, *(way for way in ways if way is not batch)]
    if all(value.ndim < 3 for value in batch):
        ways = ways[:1]
    wanted = collections.Counter(math.prod(unit.shape) for unit in first.units)
    errors: list[LockstepError] = []
    taken: list[tuple[int, list[np.ndarray]]] = []
    for way in ways:
        if model.input_shape is not None and not _fits(way[0].shape[1:], model.input_shape):
            continue
        if errors or taken:
            side.load("float64")
        try:
            side.trace(way)
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            errors.append(error)
            continue
        sizes = collections.Counter(math.prod(unit.shape) for unit in side.description().units)
        taken.append((sum((wanted & sizes).values()), way))
        if wanted == sizes:
            break
    if taken:
        best = max(taken, key=lambda each: each[0])
        if best is not taken[-1] or (errors and way is not best[1]):
            side.load("float64")
        return best[1]
    if errors:
        raise errors[0]
    shapes = ", ".join(str(way[0].shape[1:]) for way in ways)
    message = later("it wants inputs of {wanted}, and not {shapes}", wanted=model.input_shape, shapes=shapes)
    raise LockstepError("LS-206", message, where=str(side.asked), hint=later("say the shape: --input 3,32,32"))


def is_either_way(value: np.ndarray, moved: np.ndarray) -> bool:
    """Whether nothing in the shape of a batch says in which layout it is."""
    return value.shape == moved.shape and not np.array_equal(value, moved, equal_nan=value.dtype.kind == "f")


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))


def with_channels(value: np.ndarray, to_last: bool) -> np.ndarray:
    if value.ndim < 3:
        return value
    return np.ascontiguousarray(np.moveaxis(value, 1, -1) if to_last else np.moveaxis(value, -1, 1))


# ------------------------------------------------------------------------------------------------------------- weights


def _paired(parties: tuple[Party, Party], given: Iterable[tuple[str, str]]) -> mapping.Pairing:
    """The units' pairs; a pass over the batch says what each unit is, on the rough sides too."""
    traces = []
    for party in parties:
        traces.append(party.exact.trace(party.batch, "inference", party.changes_in("inference")))
        party.rough.trace([_rounded(value) for value in party.batch], "inference", party.changes_in("inference"))
        party.model = party.exact.description()
    for pair in (given := [*given]):
        for name, party in zip(pair, parties, strict=True):
            known = [unit.name for unit in party.model.units]
            if name not in known:
                message = later('"{name}" is no parameter of {model}', name=name, model=str(party.exact.asked))
                raise LockstepError("LS-209", message, where="--map", hint=did_you_mean(name, known))
    found = mapping.paired(parties[0].model, traces[0], parties[1].model, traces[1], given)
    if not found.pairs and found.left_a and found.left_b:
        raise _strangers(parties)
    return found


def _strangers(parties: tuple[Party, Party]) -> LockstepError:
    """The error for two models that share no parameter, with the two that are most alike."""
    a, b = min(
        itertools.product(*(party.model.units for party in parties)),
        key=lambda pair: (
            len(pair[0].shape) != len(pair[1].shape),
            abs(np.log((np.prod(pair[0].shape) + 1) / (np.prod(pair[1].shape) + 1))),
        ),
    )
    alike = {"a": f"{a.name} {a.shape}", "b": f"{b.name} {b.shape}"}
    message = later("the two share no parameter; most alike are {a} | {b}", **alike)
    where = " | ".join(str(party.exact.asked) for party in parties)
    hint = later("name two models of one network, or pair parameters by hand: --map A=B")
    return LockstepError("LS-210", message, where=where, hint=hint)


def _load(parties: tuple[Party, Party], pairing: mapping.Pairing, weights: str, seed: int) -> None:
    """Give both models the same units, in both precisions."""
    a, b = parties
    if weights not in WEIGHTS:
        for party, values in zip(parties, bundle.of_both(Path(weights)), strict=True):
            _put(party, values, weights)
        return
    if weights == "as-is":
        for party in parties:  # float32 beside float64 must hold the same numbers
            values = {name: _exact(value) for name, value in party.exact.units().items()}
            party.exact.put(values)
            party.rough.put(values)
        return
    values = mapping.drawn(a.model, seed) if weights == "drawn" else {k: _exact(v) for k, v in a.exact.units().items()}
    there = mapping.carried(values, pairing)
    there |= keeping.neutral(b.model, pairing.left_b)
    values |= keeping.neutral(a.model, pairing.left_a)
    for side in (a.exact, a.rough):
        side.put(values)
    for side in (b.exact, b.rough):
        side.put(there)


def _put(party: Party, values: dict[str, np.ndarray], where: str) -> None:
    """Give a model the parameters of a bundle; raises LockstepError (LS-206) where they are another's."""
    known = {name: value.shape for name, value in party.exact.units().items()}
    wrong = [name for name, shape in known.items() if name not in values or values[name].shape != shape]
    if wrong:
        message = later("it holds no {names} of {model}", names=", ".join(wrong[:3]), model=str(party.exact.asked))
        hint = later("take the weights.npz of a bundle of these two files")
        raise LockstepError("LS-206", message, where=where, hint=hint)
    for side in (party.exact, party.rough):
        side.put({name: values[name].astype(np.float64) for name in known})


def _exact(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32).astype(np.float64)


# ---------------------------------------------------------------------------------------------------------- comparison


def _compared(
    asked: tuple[client.Named, client.Named], parties: tuple[Party, Party], pairing: mapping.Pairing,
    trained: training.Asked | None, tell: Tell, *, is_as_is: bool = False,
) -> tuple[Difference, dict[int, list[tuple[Trace, Call]]]]:  # fmt: skip
    """What was found, and the calls at which each finding lies, by its number from 1.

    With `trained` None only the models are compared, and not how they are trained.
    """
    findings = _kept(parties, pairing, is_as_is)
    carried: list[Any] = keeping.turned_round([party.model for party in parties], pairing)
    stages: list[Stage] = []
    last: dict[str, Passes] = {}
    not_observed: list[str] = [later("what runs on a GPU")]
    n_matched = n_tensors = 0
    worst, is_explained = 0.0, True
    notes: dict[str, Any] = {}
    for mode, stage in (("inference", "forward"), ("training", "forward in training")):
        tell(later("comparing: {stage}", stage=stage))
        if mode == "training" and not any(_differs_in_training(party.model) for party in parties):
            continue
        found, state = _passes(parties, pairing, mode, stage, findings, notes, carried, last)
        findings = found
        stages.append(_stage(stage, findings, *state[:2], later("tensors")))
        n_matched, n_tensors, worst = state[:3]
        is_explained = is_explained and state[3]
        if not is_explained:
            break
    doubts: list[Any] = []
    if is_explained:
        gradients, n_compared, moved = _gradients(parties, pairing)
        findings += [*_statistics(parties, pairing), *gradients]
        n_kept = sum(unit.role in ("mean", "variance") for unit in parties[0].model.units)
        n_trained = sum(unit.is_trained for unit in parties[0].model.units)
        if n_kept:
            stages.append(
                _stage(
                    "statistics",
                    findings,
                    n_kept - _left("statistics", findings),
                    n_kept,
                    later("running statistics"),
                )
            )
        n_equal = n_compared - _left("gradients", findings)
        stages.append(_stage("gradients", findings, n_equal, n_trained, later("trained parameters")))
        if n_compared < sum(unit.is_trained for unit in parties[0].model.units):
            counts = {"n": n_compared, "all": sum(unit.is_trained for unit in parties[0].model.units)}
            not_observed.append(later("gradients of all parameters: only {n} of {all} could be compared", **counts))
        if not findings:
            doubts = _doubts(parties[0], moved)
        if unmoved := evidence.unmoved(moved, [*moved]):
            not_observed.append(later("parameters that no output hangs on here: {names}", names=", ".join(unmoved)))
    if trained is not None:
        biased = {spot.b for finding in findings if finding.meaning == "variance" for spot in finding.places}
        of_training = training.compared(parties, pairing, trained, is_explained, tell, biased)
        findings += of_training.findings
        stages += of_training.stages
        not_observed[:0] = of_training.not_observed
    not_observed += notes.values()
    if pairing.left_a or pairing.left_b:
        left = [_shortened(names) or "–" for names in (pairing.left_a, pairing.left_b)]
        not_observed.append(later("parameters without a partner: {a} | {b}", a=left[0], b=left[1]))
    told = Difference(
        format=FORMAT, lockstep=version(), a=str(asked[0]), b=str(asked[1]),
        frameworks=(asked[0].framework, asked[1].framework),
        verdict="DIVERGED" if findings else "EQUAL" if n_matched and not doubts else "INCONCLUSIVE",
        findings=tuple(_in_graph(finding, last) for finding in findings),
        pairs=tuple((pair.a, pair.b) for pair in pairing.pairs), left=(pairing.left_a, pairing.left_b),
        n_matched=n_matched, n_tensors=n_tensors, worst=worst, not_observed=tuple(not_observed),
        input_shape=parties[0].batch[0].shape[1:], stages=tuple(stages),
        doubts=tuple(doubts), carried=tuple(carried), models=tuple(map(_model, asked, parties)),
        graph=last["forward"].graph() if last else Graph(),
    )  # fmt: skip
    return told, {number: calls for number, one in enumerate(findings, 1) if (calls := _guilty(one, last))}


def _guilty(finding: Finding, last: dict[str, Passes]) -> list[tuple[Trace, Call]]:
    """The two calls at the first place of a finding, with their passes; none where it lies at no call."""
    passes, spot = _of_stage(finding, last), finding.places[0]
    if passes is None or spot.call_a is None or spot.call_b is None:
        return []
    known = [{call.index: call for call in trace.calls} for trace in passes.traces]
    return [(passes.traces[0], known[0][spot.call_a]), (passes.traces[1], known[1][spot.call_b])]


def _of_stage(finding: Finding, last: dict[str, Passes]) -> Passes | None:
    """The passes in which a finding was met."""
    return last.get(finding.stage) or last.get("forward in training") or last.get("forward")


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def _in_graph(finding: Finding, last: dict[str, Passes]) -> Finding:
    """The finding, the numbers of its calls in its own pass replaced by their places in the graph."""
    own = _of_stage(finding, last)
    if own is None:
        return finding
    spots = []
    for spot in finding.places:
        places = [
            None if index is None else drawn.find(of_stage.root_of(index))
            for index, drawn, of_stage in zip((spot.call_a, spot.call_b), last["forward"].drawn, own.drawn, strict=True)
        ]
        spots.append(but(spot, call_a=places[0], call_b=places[1]))
    return but(finding, places=tuple(spots))


def _stage(stage: str, findings: Sequence[Finding], n: int, n_all: int, what: str) -> Stage:
    """How much of a stage was compared and is equal, what was found before put right."""
    is_bad = any(one.stage == stage for one in findings)
    verdict: Verdict = "DIVERGED" if is_bad else "EQUAL" if n else "INCONCLUSIVE"
    return Stage(stage=stage, verdict=verdict, equal=n, of=n_all, what=what)


def _left(stage: str, findings: Sequence[Finding]) -> int:
    """The places of a stage that could not be put right."""
    return sum(len(one.places) for one in findings if one.stage == stage and one.error is None)


def _model(asked: client.Named, party: Party) -> ModelRow:
    n = sum(int(np.prod(unit.shape)) for unit in party.model.units if unit.is_trained)
    return ModelRow(
        framework=party.model.framework, version=party.model.version, parameters=n,
        digest=hashlib.sha256(asked.file.read_bytes()).hexdigest(), input_shape=party.batch[0].shape[1:],
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Passes:
    """The last pass of both models, with what is the same in both."""

    traces: tuple[Trace, Trace]
    matched: dict[int, list[int]]

    @functools.cached_property
    def drawn(self) -> tuple[graph.Drawn, graph.Drawn]:
        """Their calls as the document has them."""
        return graph.Drawn(self.traces[0]), graph.Drawn(self.traces[1])

    def graph(self) -> Graph:
        """Both as graphs."""
        return graph.graph(*self.drawn, self.matched)


def _doubts(party: Party, moved: dict[str, np.ndarray]) -> list[Any]:
    """Why equal outputs prove nothing here; the pass is made again on another batch, or with other weights."""
    trace, tensors = party.numbers("inference")

    def again(what: str) -> Trace:
        if what == "batch":
            return party.exact.trace(evidence.shuffled(party.batch), "inference", party.changes_in("inference"))
        held = party.exact.units()
        party.exact.put(mapping.drawn(party.model, seed=1))
        try:
            return party.exact.trace(party.batch, "inference", party.changes_in("inference"))
        finally:
            party.exact.put(held)

    trained = [unit.name for unit in party.model.units if unit.is_trained]
    return evidence.doubts(trace, tensors, moved, trained, again)


def _differs_in_training(model: Model) -> bool:
    return any(unit.role in ("mean", "variance") for unit in model.units)


def _passes(
    parties: tuple[Party, Party], pairing: mapping.Pairing, mode: str, stage: str, findings: list[Finding],
    notes: dict[str, Any], carried: list[Any], last: dict[str, Passes],
) -> tuple[list[Finding], tuple[int, int, float, bool]]:  # fmt: skip
    """Passes of both models until they are equal; behind a difference that nothing explains, the reference's numbers.

    Gives the findings, and how many tensors of the first are matched, of how many, how far off the outputs are, and
    whether all was explained.
    """
    findings, is_explained = list(findings), True
    for n_rounds in itertools.count():
        traces, tensors = zip(*(party.numbers(mode) for party in parties), strict=True)
        there = alignment.matches(tensors[0], tensors[1])
        last[stage] = Passes((traces[0], traces[1]), there)
        back = {number for numbers in there.values() for number in numbers}
        traces = tuple(evidence.judged(traces, (there, back)))
        numbers = tuple(
            Numbers(trace, own, known) for trace, own, known in zip(traces, tensors, (there, back), strict=True)
        )
        if numbers[0].is_equal and numbers[1].is_equal:
            for finding in outputs.findings(stage, traces, tensors, there):
                _add(findings, finding)
            if mode == "inference" and (told := outputs.contradiction(traces, there)) and not findings:
                findings.append(but(_unexplained(stage, parties, numbers), cause=told, meaning="outputs"))
                return findings, (len(there) - len(parties[1].results), len(tensors[0]), np.inf, False)
            worst = _worst(traces[0], traces[1], tensors, there) if is_explained else np.inf
            return findings, (len(there) - len(parties[1].results), len(tensors[0]), worst, is_explained)
        places = [each.place() for each in numbers]
        causes: list[laboratory.Cause] = []
        if places[0] is not None and places[1] is not None and n_rounds <= MOST_ROUNDS:
            causes = laboratory.causes(
                (
                    laboratory.Bench(parties[0].exact, numbers[0], places[0]),
                    laboratory.Bench(parties[1].exact, numbers[1], places[1]),
                )
            )
            usable = [cause for cause in causes if laboratory.is_tried(cause)]
            if not usable and (share := _as_of_float32(numbers, places)):
                _loosen(parties, share, _spot(parties, places, None).b, notes)
                continue
            whole = _put_right(parties, pairing, traces, mode, usable[0], notes) if usable else None
            for cause in [whole] if whole is not None else usable[:1]:
                parts = [
                    dataclasses.replace(part, partner=pairing.partner(part.side, part.call, traces[1 - part.side]))
                    for part in cause.parts
                ]
                for finding in _findings(stage, dataclasses.replace(cause, parts=tuple(parts)), parties, places):
                    _add(findings, finding)
            if whole is not None:
                continue
            if usable:  # it is known, and no pass can be made with it: what is behind stays unseen
                return findings, (len(there) - len(parties[1].results), len(tensors[0]), np.inf, False)
            if not causes and _regated(parties, pairing, numbers, places, carried):
                continue
            if not causes and (made := _otherwise_made(stage, parties, numbers, places, mode)) is not None:
                _add(findings, made)
                pairing.again()  # another way through a layer may pair its units otherwise
                continue
        is_explained = False
        both = [place for place in places if place is not None]
        is_asked = not causes and len(both) == 2 and not _not_finite(numbers, places)
        taken = flow.found(numbers, both, pairing) if is_asked else None
        _add(findings, _unexplained(stage, parties, numbers, causes) if taken is None else _taken(stage, *taken[:2]))
        if not _injected(parties, numbers, pairing, taken and taken[2]) or n_rounds > MOST_ROUNDS:
            return findings, (len(there) - len(parties[1].results), len(tensors[0]), np.inf, False)
    raise AssertionError("there is an end to it")


def _put_right(
    parties: tuple[Party, Party], pairing: mapping.Pairing, traces: Sequence[Trace], mode: str,
    cause: laboratory.Cause, notes: dict[str, Any],
) -> laboratory.Cause | None:  # fmt: skip
    """Make all passes that follow with a cause put right, and the cause; None where no pass can be made so.

    A stride makes another shape, which what follows may not take: then all strides that the models have elsewhere are
    exchanged with it, and found at their own places if they have no part in it.
    """
    before = [[*party.changes] for party in parties], [{k: [*v] for k, v in p.of_mode.items()} for p in parties]
    for part in cause.parts:
        party, change = parties[part.side], _lasting(part)
        if part.alternative.meaning == "training":
            party.of_mode.setdefault(mode, []).append(change)
        else:
            party.changes.append(change)
        if cause.share:
            _loosen(parties, cause.share, part.call.path or part.call.function, notes)
    if all(map(_can_pass, parties, (mode, mode))):
        return cause
    rest = [other for part in cause.parts for other in exchanged.elsewhere(part, pairing, traces)]
    for part in rest:
        parties[part.side].changes.append(_lasting(part))
    if rest and all(map(_can_pass, parties, (mode, mode))):
        return dataclasses.replace(cause, parts=(*cause.parts, *rest))
    for party, changes, of_mode in zip(parties, *before, strict=True):
        party.changes, party.of_mode = changes, of_mode
    return None


def _kept(parties: tuple[Party, Party], pairing: mapping.Pairing, is_as_is: bool) -> list[Finding]:
    """What the models keep: parameters that one lacks, and how the numbers differ where each has its own."""
    findings: list[Finding] = []
    traces = [party.exact.trace(party.batch) for party in parties]
    findings += modes.findings(traces)
    models = [party.model for party in parties]
    for finding, call in keeping.missing(models, traces, pairing):
        layer = _layer(parties[1].model, call) if call is not None else None
        names = [
            name for _meaning, _n, names in keeping.NEUTRAL.values() if _meaning == finding.meaning for name in names
        ]
        name = next((name for name in names if layer is not None and name in layer.arguments), "")
        if layer is not None and name:
            place = layer.where.file, layer.where.line, layer.name
            edit = remedies.argument(*place, name, finding.a, tuple(layer.arguments))
            if remedy := edit.remedy():
                finding = but(finding, remedies=(remedy,))
                parties[1].edits.append(edit)
        _add(findings, finding)
    if not is_as_is:
        return findings
    values = [party.exact.units() for party in parties]
    units = [{unit.name: unit for unit in model.units} for model in models]
    others, there = keeping.as_they_are(pairing, units, values, traces)
    for finding in others:
        _add(findings, finding)
    for side in (parties[1].exact, parties[1].rough):
        side.put(there)
    return findings


def _regated(
    parties: tuple[Party, Party], pairing: mapping.Pairing, numbers: Sequence[Numbers], places: Sequence[Any],
    carried: list[Any],
) -> bool:  # fmt: skip
    """Whether a recurrent layer at a place gives the other side's numbers with its gates in another order; kept so."""
    for side in (1, 0):
        party, place = parties[side], places[side]
        if place is None or (known := gates.gated(party.model, place.calls)) is None:
            continue
        values = party.exact.units()

        def tried(units: Mapping[str, np.ndarray], party: Party = party) -> Trace:
            party.exact.put(units)
            return party.exact.trace(party.batch, "inference", party.changes_in("inference"), None, party.results)

        wanted = {n: t for n, t in numbers[1 - side].tensors.items() if n not in numbers[1 - side].matched}
        found = gates.found(*known, values, wanted, tried)
        party.exact.put({name: values[name] for name in known[1]} if found is None else found[1])
        if found is not None:
            party.rough.put(found[1])
            pairing.regate(side, known[1], found[0])
            words = {"layer": known[0].path or known[0].function, "order": " ".join(map(str, found[0]))}
            carried.append(later("{layer} holds the gates of the other model in the order {order}", **words))
            return True
    return False


def _otherwise_made(
    stage: str, parties: tuple[Party, Party], numbers: Sequence[Numbers], places: Sequence[Any], mode: str
) -> Finding | None:
    """A layer around a place that goes another way with another argument of its constructor: a norm before, not behind.

    Of PyTorch's layers alone: those of Keras and Flax are calls themselves.
    """
    party = parties[1]
    if None in places or party.model.framework != "torch":
        return None
    wanted = {number: numbers[0].tensors[number] for number in places[0].targets[:1]}
    for layer, name, value in alternatives.of_constructors(parties[0].model, party.model, places[1].calls):
        change = Change(path=layer.path, of=CONSTRUCTOR, arguments={name: value})
        try:
            trace = party.exact.trace(party.batch, mode, [*party.changes_in(mode), change], None, party.results)
        except LockstepError:
            continue
        if not alignment.matches(wanted, alignment.tensors(trace, None)):
            continue
        party.changes.append(change)
        what = {"layer": layer.name, "argument": name, "a": value, "b": layer.arguments[name]}
        found = remedies.argument(layer.where.file, layer.where.line, layer.name, name, value, tuple(layer.arguments))
        remedy = found.remedy()
        party.edits += [found] if remedy else []
        return Finding(
            stage=stage, cause=later("{layer}: {argument} is {a} | {b}", **what),
            meaning=alternatives.MEANING.get(name, name), a=value, b=layer.arguments[name],
            places=(_spot(parties, places, None),), error=0.0, remedies=(remedy,) if remedy else (),
        )  # fmt: skip
    return None


def _can_pass(party: Party, mode: str) -> bool:
    try:
        party.exact.trace(party.batch, mode, party.changes_in(mode), None, party.results)
    except LockstepError as error:
        if error.code != "LS-403":
            raise
        return False
    return True


def _taken(stage: str, calls: tuple[Call, Call], makers: tuple[Call, Call]) -> Finding:
    """A layer that takes something else in the second model."""
    titles = [maker.path or maker.function for maker in makers]
    lines = [client.shown(maker.where) for maker in makers]
    spot = Spot(a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1])
    what = {"kind": calls[0].kind or calls[0].function, "a": titles[0], "b": titles[1]}
    told = later("{kind} takes what {a} gives | {b}", **what)
    return Finding(
        stage=stage, cause=told, meaning="taken", a=titles[0], b=titles[1], places=(spot,), off=np.inf, error=np.inf
    )


def _injected(
    parties: tuple[Party, Party], numbers: Sequence[Numbers], pairing: mapping.Pairing, taken: tuple[int, int] | None
) -> bool:
    """Give the second model the first one's numbers behind a place, of these tensors if known; whether it went."""
    found = injection.given(numbers, *taken) if taken else injection.found(numbers, pairing)
    if found is None:
        return False
    call, value = found
    key = f"result-{len(parties[1].results)}"
    parties[1].results[key] = value
    parties[1].changes.append(Change(call=call.index, of=call.function, result=key))
    if _can_pass(parties[1], "inference"):
        return True
    parties[1].changes.pop()
    return False


def _loosen(parties: tuple[Party, Party], share: float, call: str, notes: dict[str, Any]) -> None:
    """From here on, numbers may be off by this share of the largest: a call holds a number in float32."""
    for party in parties:
        party.loose = max(party.loose, share)
    words = {"call": call, "share": share}
    notes[call] = later("numbers inside of {call} are rounded to float32: {share:.0e} of its largest value", **words)


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


def _lasting(part: laboratory.Part) -> Change:
    """The change for all passes that follow: of the layer, where the call is one's, since numbers of calls may move."""
    call = part.call
    where = {"call": -1, "path": call.path} if call.path else {"call": call.index}
    return dataclasses.replace(part.alternative.change, of=call.function, **where)


def _worst(a: Trace, b: Trace, tensors: Any, there: dict[int, list[int]]) -> float:
    found = 0.0
    for number in a.outputs:
        for other in there.get(number, ()):
            one, two = tensors[0][number], tensors[1][other]
            room = max(one.room, two.room)
            found = max(found, alignment.off(one.value, two.value) / room if room else 0.0)
    return found


def _findings(
    stage: str, cause: laboratory.Cause, parties: tuple[Party, Party], places: Sequence[Any]
) -> Iterator[Finding]:
    """A finding for each part of a cause."""
    for part in cause.parts:
        for alternative in part.alternative.parts():
            values = (alternative.after, alternative.before) if part.side else (alternative.before, alternative.after)
            yield Finding(
                stage=stage, cause=_sentence(part.call, alternative, values), meaning=alternative.meaning,
                a=values[0], b=values[1], places=(_spot(parties, places, part),), off=cause.before, error=cause.error,
                remedies=_remedies(parties, part, alternative, places),
            )  # fmt: skip


def _spot(parties: tuple[Party, Party], places: Sequence[Any], part: laboratory.Part | None) -> Spot:
    calls = [place.calls[-1] for place in places]
    if part is not None:
        calls[part.side] = part.call
        calls[1 - part.side] = part.partner or calls[1 - part.side]
    titles = [call.path or call.function for call in calls]
    lines = [client.shown(call.where) for call in calls]
    return Spot(
        a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1], call_a=calls[0].index, call_b=calls[1].index
    )


def _sentence(call: Call, alternative: alternatives.Alternative, values: tuple[Any, Any]) -> str:
    """What the two sides do, as a person says it."""
    what = {"kind": call.kind or call.function, "a": values[0], "b": values[1]}
    meaning = alternative.meaning
    if meaning == "pads":
        return later("{kind}: the border is padded otherwise: {a} | {b}", **what)
    if meaning == "crop":
        return later("{kind}: the border is cut off otherwise: {a} | {b}", **what)
    if meaning == "function":
        return later("another function: {a} | {b}", **what)
    if meaning == "flatten":
        return later("the image is flattened in another order of axes", **what)
    if meaning == "order":
        words = values[0] or values[1] or later("in another order")
        return later("{kind}: what it takes holds the same numbers elsewhere: {words}", kind=what["kind"], words=words)
    return later("{kind}: {argument} is {a} | {b}", argument=alternative.argument, **what)


def _add(findings: list[Finding], new: Finding) -> None:
    """Put a finding to those of the same cause, or behind them."""
    for index, finding in enumerate(findings):
        if finding.cause and finding.cause == new.cause and _named(new.places[0]) in map(_named, finding.places):
            return  # met again in the other mode
        if finding.cause == new.cause and finding.stage == new.stage:
            more = tuple(remedy for remedy in new.remedies if remedy not in finding.remedies)
            findings[index] = but(finding, places=finding.places + new.places, remedies=finding.remedies + more)
            return
    findings.append(new)


def _named(spot: Spot) -> tuple[str, ...]:
    """A place by its names: calls have other numbers in another mode."""
    return spot.a, spot.b, spot.line_a, spot.line_b


def _unexplained(
    stage: str, parties: tuple[Party, Party], numbers: Sequence[Numbers], causes: Sequence[laboratory.Cause] = ()
) -> Finding:
    places = [each.place() for each in numbers]
    calls = [place.calls[-1] if place else _last(each) for place, each in zip(places, numbers, strict=True)]
    names = [(call.path or call.function, client.shown(call.where), call.index) if call else ("–", "–", None)
             for call in calls]  # fmt: skip
    (a, line_a, call_a), (b, line_b, call_b) = names
    spot = Spot(a=a, b=b, line_a=line_a, line_b=line_b, call_a=call_a, call_b=call_b)
    told = [(cause, part) for cause in causes for part in cause.parts if cause.meaning in TOLD]
    if not told:
        sentence, meaning = _longer(numbers), "length"
        if not sentence:
            sentence, meaning = _not_finite(numbers, places), "finite"
        off = _off(numbers, places)
        return Finding(stage=stage, cause=sentence, meaning=meaning if sentence else "", places=(spot,), off=off)
    cause, part = told[0]
    alternative = part.alternative
    values = (alternative.after, alternative.before) if part.side else (alternative.before, alternative.after)
    if cause.meaning == "function":
        sentence = later("another function: {a} | {b}", a=values[0], b=values[1])
    else:
        sentence = later("computed in another precision: {a} | {b}", a=values[0], b=values[1])
    return Finding(
        stage=stage, cause=sentence, meaning=cause.meaning, a=values[0], b=values[1], places=(spot,), off=cause.before
    )


def _not_finite(numbers: Sequence[Numbers], places: Sequence[Any]) -> str:
    """That one side's call gives NaN or infinity, where the other's whole pass has nothing of the kind."""
    if any(place is None or not place.targets for place in places):
        return ""
    values = [each.tensors[place.targets[0]].value for each, place in zip(numbers, places, strict=True)]
    counts = [int((~np.isfinite(value)).sum()) for value in values]
    all_finite = [all(np.isfinite(one.value).all() for one in each.tensors.values()) for each in numbers]
    if counts[1] and all_finite[0]:
        return later("{n} of {all} values are NaN or infinite in the second, and none in the first", n=counts[1],
                     all=values[1].size)  # fmt: skip
    if counts[0] and all_finite[1]:
        return later("{n} of {all} values are NaN or infinite in the first, and none in the second", n=counts[0],
                     all=values[0].size)  # fmt: skip
    return ""


def _last(numbers: Numbers) -> Call | None:
    """The outermost call that gives a model's first output."""
    makers = [numbers.makers[number] for number in numbers.trace.outputs if number in numbers.makers]
    return min(makers[0], key=numbers.depth) if makers else None


def _longer(numbers: Sequence[Numbers]) -> str:
    """That one model goes on where the other has ended, where all that the other gives is found in it."""
    for side, words in ((1, later("the second goes on where the first has ended: {calls}")),
                        (0, later("the first goes on where the second has ended: {calls}"))):  # fmt: skip
        if numbers[1 - side].is_equal and not numbers[side].is_equal:
            calls = [call.kind or call.function for call in numbers[side].harmful() if call.parent < 0]
            return later(words.forms[0], calls=", ".join(calls[:4]) + (" …" if len(calls) > 4 else ""))
    return ""


def _off(numbers: Sequence[Numbers], places: Sequence[Any]) -> float | None:
    """How far the two lie apart where they give as many numbers for the first time; None where they never do."""
    if any(place is None for place in places):
        return None
    values = [[each.tensors[n].value for n in place.targets] for each, place in zip(numbers, places, strict=True)]
    return next((alignment.off(a, b) for a, b in itertools.product(*values) if a.size == b.size), None)


def _remedies(
    parties: tuple[Party, Party], part: laboratory.Part, alternative: alternatives.Alternative, places: Sequence[Any]
) -> tuple[Remedy, ...]:
    """The line of the second model's layer, or function, to write instead; none where that is not sure."""
    model = parties[1].model
    if part.side:
        flattener = part.flattener if alternative.meaning == "flatten" else None
        found = _rewritten(parties[1], part.call, alternative.argument, alternative.after, alternative, flattener)
        return (found,) if found else ()
    # The first model is the reference: what it has is written into the second one's call, which may take it otherwise.
    for call in places[1].calls:
        known = {**call.arguments, **(layer.arguments if (layer := _layer(model, call)) else {})}
        for name, before in known.items():
            if alternatives.MEANING.get(name, name) == alternative.meaning:
                value = alternatives.like(alternative.before, before, alternative.argument, name)
                found = _rewritten(parties[1], call, name, value, alternative)
                return (found,) if found else ()
    return ()


def _rewritten(
    party: Party, call: Call, argument: str, value: Any, alternative: alternatives.Alternative,
    flattener: Call | None = None,
) -> Remedy | None:  # fmt: skip
    """The remedy of a call of the second model's; the edit is kept for the closing proof."""
    edit = _edit(party.model, call, argument, value, alternative, flattener)
    found = edit.remedy() if edit else None
    if edit is not None and found is not None:
        party.edits.append(edit)
    return found


def _edit(
    model: Model, call: Call, argument: str, value: Any, alternative: alternatives.Alternative, flattener: Call | None
) -> remedies.Edit | None:
    if alternative.meaning == "flatten":
        call = flattener or call
    callee, names, where = call.function.rpartition(".")[2], call.names, call.where
    layer = _layer(model, call)
    if layer is not None:
        callee, names, where = layer.name, tuple(layer.arguments), layer.where
        argument = next((key for key in layer.arguments if _is_same_argument(key, argument)), argument)
    place, change = (where.file, where.line, callee), alternative.change
    if alternative.meaning == "flatten":
        return remedies.flattened(model.framework, *place, alternative.after) if flattener else None
    if alternative.meaning == "pads" or (alternative.meaning == "counted" and change.pads):
        return remedies.padded(model.framework, *place, change.pads, call.kind, layer is not None, names)
    if alternative.meaning == "crop":
        return remedies.cropped(model.framework, *place, change.pads, call, names)
    if alternative.meaning == "function":
        said = activations.code(str(alternative.after).partition(" or ")[0], _side_of(model))
        return activations.edit(*place, said, _side_of(model), layer is not None) if said else None
    if alternative.meaning == "order":
        return None
    if alternative.meaning == "mask" and (maker := _masking(model)) is not None:
        return remedies.argument(maker.where.file, maker.where.line, maker.name, "mask_zero", value)
    if layer is not None and argument not in layer.arguments:
        if alternative.meaning == "training":
            return remedies.without(call.where.file, call.where.line, argument)
        return remedies.keyword(call.where.file, call.where.line, argument, value)
    return remedies.argument(*place, argument, value, names)


def _masking(model: Model) -> Layer | None:
    """The layer of Keras's that makes a mask of what is 0."""
    return next((layer for layer in model.layers if layer.arguments.get("mask_zero") is True), None)


def _side_of(model: Model) -> str:
    return model.framework if model.framework in client.BACKEND_OF else "jax"


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
        lines = [client.shown(call.where) if call else "–" for call in calls]
        indices = [call.index if call else None for call in calls]
        spot = Spot(a=pair.a, b=pair.b, line_a=lines[0], line_b=lines[1], call_a=indices[0], call_b=indices[1])
        new = Finding(stage="statistics", places=(spot,), off=off)
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
            again = b.exact.trace(b.batch, "training", [*b.changes_in("training"), change])
        except LockstepError:
            continue
        error = float(np.abs(wanted - again.state[pair.b]).max(initial=0.0))
        if error <= room:
            what = {"kind": two.kind or two.function, "argument": alternative.argument}
            here = next((v for k, v in one.arguments.items() if alternatives.MEANING.get(k) == "momentum"), None)
            sentence = later("{kind}: {argument} is {a} | {b}", **what, a=here, b=alternative.before)
            told = _rewritten(b, two, alternative.argument, alternative.after, alternative)
            b.changes.append(change)
            return but(
                unexplained, cause=sentence, meaning="momentum", a=here, b=alternative.before, error=error,
                remedies=(told,) if told else (),
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
                sentence = later(
                    "{kind}: the running variance averages {a} | {b}", kind=two.kind, a=words[0], b=words[1]
                )
                return but(unexplained, cause=sentence, meaning="variance", a=words[0], b=words[1], error=off)
    return unexplained


# ----------------------------------------------------------------------------------------------------------- gradients


def _gradients(
    parties: tuple[Party, Party], pairing: mapping.Pairing
) -> tuple[list[Finding], int, dict[str, np.ndarray]]:
    """Gradients of units, how many were compared, and the first model's; of one designed weighing of the output."""
    a, b = parties
    trace, own = a.numbers("inference")
    other, theirs = b.numbers("inference")
    if not (_is_real(trace, own) and _is_real(other, theirs)):
        return [], 0, {}
    numbers = np.random.default_rng(1)
    value, there = own[trace.outputs[0]].value, theirs[other.outputs[0]].value
    designed = numbers.normal(size=value.shape).astype(np.float32).astype(np.float64)
    axes = alignment.order(value, there, max(own[trace.outputs[0]].room, theirs[other.outputs[0]].room) * 8)
    if axes is None:
        return [], 0, {}
    weighed = np.ascontiguousarray(designed.transpose(axes).reshape(there.shape))
    exact = (
        a.exact.trace(a.batch, "inference", a.changes_in("inference"), designed),
        b.exact.trace(b.batch, "inference", b.changes_in("inference"), weighed),
    )
    rough = (
        a.rough.trace([_rounded(x) for x in a.batch], "inference", a.changes_in("inference"), designed),
        b.rough.trace([_rounded(x) for x in b.batch], "inference", b.changes_in("inference"), weighed),
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
            if name in beside.by_unit and beside.by_unit[name].shape == trace_.by_unit[name].shape:
                off32 = float(np.abs(beside.by_unit[name] - trace_.by_unit[name]).max(initial=0.0))
                room = max(room, alignment.ROOM * alignment.FROM_FLOAT32 * off32)
        off = float(np.abs(one - two).max(initial=0.0))
        if off > room:
            calls = [_user_of(trace_, name) for trace_, name in zip(exact, names, strict=True)]
            lines = [client.shown(call.where) if call else "–" for call in calls]
            spot = Spot(a=pair.a, b=pair.b, line_a=lines[0], line_b=lines[1])
            row = keeping.padding_row(one, two, room) if "table" in _roles(calls) else None
            told = later("embedding: row {row} of {side} gets no gradient", **row) if row else ""
            sides = (row["side"] == "A", row["side"] == "B") if row else (None, None)
            new = Finding(
                stage="gradients",
                cause=told,
                meaning="padding index" if row else "",
                a=sides[0],
                b=sides[1],
                places=(spot,),
                off=off,
                error=np.inf,
            )
            found.append(new)
    return found, n, exact[0].by_unit


def _roles(calls: Sequence[Call | None]) -> set[str]:
    return {role.partition(".")[0] for call in calls if call is not None for role in call.units}


def _is_real(trace: Trace, tensors: dict[int, alignment.Tensor]) -> bool:
    """Whether the first output can be weighed: it is there, and no whole number."""
    number = trace.outputs[0] if trace.outputs else -1
    return number in tensors and np.issubdtype(trace.tensors[number].dtype, np.floating)
