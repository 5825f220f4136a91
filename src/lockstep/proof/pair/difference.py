"""Two models of people's own, compared: all differences in one run, each with its cause, and the proof that it is all.

A later stage runs with the earlier causes put right in the second model, so one difference does not hide another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.records import Call, Model, Trace
from lockstep.language import later
from lockstep.proof.pair import (
    averages,
    batches,
    bundle,
    client,
    dropout,
    evidence,
    gradients,
    mapping,
    parameters,
    passes,
    remedies,
    rewrites,
    training,
    transfer,
    wording,
)
from lockstep.proof.pair.client import Side
from lockstep.proof.pair.party import Parties, Party
from lockstep.store.documents.comparison import Verdict
from lockstep.store.documents.difference import FORMAT, Closing, Difference, Finding, Graph, Stage
from lockstep.store.documents.difference import Model as ModelRow
from lockstep.store.documents.part import but
from lockstep.version import version

Tell = Callable[[str], None]


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
    if weights not in transfer.WEIGHTS and not Path(weights).is_file():
        hint = later("one of {names}, or the weights.npz of a bundle", names=", ".join(transfer.WEIGHTS))
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
        first = batches.first_batch(sides[0], models[0], batch, input_shape, seed)
        parties = (
            Party(sides[0], sides[1], models[0], first),
            Party(
                sides[2],
                sides[3],
                models[2],
                batches.as_taken(sides[2], models[2], first, asked, sides[0].description()),
            ),
        )
        given = [*given]
        pairing = transfer.paired(parties, given)
        transfer.load(parties, pairing, weights, seed)

        def anew() -> None:
            pairing.pairs = transfer.paired(parties, given).pairs
            transfer.load(parties, pairing, weights, seed)

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
    parties: Parties, given: Iterable[tuple[str, str]], weights: str, seed: int, folder: Path
) -> Closing | None:
    """What the comparison says of a copy of the second file with all remedies written into it."""
    asked = parties[1].exact.asked
    own = [edit for edit in parties[1].edits if Path(edit.file).resolve() == asked.file.resolve()]
    text, n = rewrites.edited(asked.file.read_text(encoding="utf-8"), own)
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
        pairing = transfer.paired((first, again), given)
        transfer.load((first, again), pairing, weights, seed)
        asked_again = parties[0].exact.asked, mended
        found, _calls = _compared(asked_again, (first, again), pairing, None, lambda _what: None)
    except LockstepError as error:
        return Closing(verdict="ERROR", n_written=n, left=(str(error),))
    finally:
        for side in sides:
            side.asked = asked
    causes = tuple(finding.cause or later("unexplained") for finding in found.findings)
    return Closing(verdict=found.verdict, n_written=n, left=causes)


def _compared(
    asked: tuple[client.Named, client.Named], parties: Parties, pairing: mapping.Pairing,
    trained: training.Asked | None, tell: Tell, *, is_as_is: bool = False,
) -> tuple[Difference, dict[int, list[tuple[Trace, Call]]]]:  # fmt: skip
    """What was found, and the calls at which each finding lies, by its number from 1.

    With `trained` None only the models are compared, and not how they are trained.
    """
    findings = _kept(parties, pairing, is_as_is)
    carried: list[Any] = parameters.turned_round([party.model for party in parties], pairing)
    stages: list[Stage] = []
    last: dict[str, passes.Passes] = {}
    not_observed: list[str] = [later("what runs on a GPU")]
    n_matched = n_tensors = 0
    worst, is_explained = 0.0, True
    notes: dict[str, Any] = {}
    for mode, stage in (("inference", "forward"), ("training", "forward in training")):
        tell(later("comparing: {stage}", stage=later(stage)))
        if mode == "training" and not any(passes.differs_in_training(party.model) for party in parties):
            continue
        reached = passes.Search(parties, pairing, mode, stage, findings, notes, carried, last).until_equal()
        stages.append(_stage(stage, findings, reached.n_matched, reached.n_tensors, later("tensors")))
        n_matched, n_tensors, worst = reached.n_matched, reached.n_tensors, reached.worst
        is_explained = is_explained and reached.is_explained
        if not is_explained:
            break
    doubts: list[Any] = []
    if is_explained:
        of_gradients, n_compared, moved = gradients.compared(parties, pairing)
        of_statistics, n_averaged = averages.compared(parties, pairing)
        findings += [*of_statistics, *of_gradients]
        of_state, of_trained = _units(parties[0].model)
        if of_state:
            what = later("running statistics")
            n_equal = n_averaged - _left("statistics", findings)
            stages.append(_stage("statistics", findings, n_equal, of_state, what))
        n_equal = n_compared - _left("gradients", findings)
        stages.append(_stage("gradients", findings, n_equal, of_trained, later("trained parameters")))
        if n_averaged < of_state:
            counts = {"n": n_averaged, "all": of_state}
            not_observed.append(later("all running statistics: only {n} of {all} could be compared", **counts))
        if n_compared < of_trained:
            counts = {"n": n_compared, "all": of_trained}
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


def _units(model: Model) -> tuple[int, int]:
    """How many running statistics a model keeps, and how many parameters it trains."""
    return sum(unit.role in ("mean", "variance") for unit in model.units), sum(unit.is_trained for unit in model.units)


def _guilty(finding: Finding, last: dict[str, passes.Passes]) -> list[tuple[Trace, Call]]:
    """The two calls at the first place of a finding, with their passes; none where it lies at no call."""
    own, spot = _of_stage(finding, last), finding.places[0]
    if own is None or spot.call_a is None or spot.call_b is None:
        return []
    known = [{call.index: call for call in trace.calls} for trace in own.traces]
    return [(own.traces[0], known[0][spot.call_a]), (own.traces[1], known[1][spot.call_b])]


def _of_stage(finding: Finding, last: dict[str, passes.Passes]) -> passes.Passes | None:
    """The passes in which a finding was met."""
    return last.get(finding.stage) or last.get("forward in training") or last.get("forward")


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def _in_graph(finding: Finding, last: dict[str, passes.Passes]) -> Finding:
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


def _kept(parties: Parties, pairing: mapping.Pairing, is_as_is: bool) -> list[Finding]:
    """What the models keep: parameters that one lacks, and how the numbers differ where each has its own."""
    findings: list[Finding] = []
    traces = [party.exact.trace(party.batch) for party in parties]
    findings += dropout.in_inference(traces)
    models = [party.model for party in parties]
    for finding, call in parameters.missing(models, traces, pairing):
        layer = remedies.layer_of(parties[1].model, call) if call is not None else None
        names = [
            name for _meaning, _n, names in parameters.NEUTRAL.values() if _meaning == finding.meaning for name in names
        ]
        name = next((name for name in names if layer is not None and name in layer.arguments), "")
        if layer is not None and name:
            place = layer.where.file, layer.where.line, layer.name
            edit = rewrites.argument(*place, name, finding.a, tuple(layer.arguments))
            if remedy := edit.remedy():
                finding = but(finding, remedies=(remedy,))
                parties[1].edits.append(edit)
        wording.add(findings, finding)
    if not is_as_is:
        return findings
    values = [party.exact.units() for party in parties]
    units = [{unit.name: unit for unit in model.units} for model in models]
    others, there = parameters.as_they_are(pairing, units, values, traces)
    for finding in others:
        wording.add(findings, finding)
    for side in (parties[1].exact, parties[1].rough):
        side.put(there)
    return findings
