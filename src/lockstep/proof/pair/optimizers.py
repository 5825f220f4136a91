"""The optimizer and its schedule: both sides take the same designed gradients from the same weights, for some updates.

What a side computes is told by reproduction: from the arguments that its framework tells, or by a search near the other
side's rule, the formula that gives every weight after every update (see `trajectories`). A field in which the two rules
differ, and which moves the trajectory, is a cause; where the second side's optimizer has an argument for it, it is
tried there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.training import Part
from lockstep.language import later
from lockstep.proof.pair import mapping, stages, tolerances, trajectories
from lockstep.proof.pair.party import Parties
from lockstep.proof.pair.stages import Parts, Told
from lockstep.proof.pair.trajectories import Rule
from lockstep.store.documents.difference import Finding, Remedy

STAGE = "optimizer"
N_STEPS = 12  # updates: a schedule's second stretch is rarely seen, everything else is
SIZES = (1.0, 3.0, 0.2, 0.05, 2.0, 1.0, 0.5, 0.01)  # of the gradients, update by update: maxima come before the rest
MOST_UPDATED = 500_000  # entries of all units together
MOST_ENTRIES, MOST_UNITS = 64, 6  # of a unit, and units, while rules are searched


@dataclasses.dataclass(frozen=True)
class Result:
    """What the optimizer's stage hands on to the steps: what puts the second side right."""

    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_explained: bool = True


@dataclasses.dataclass(frozen=True)
class Course:
    """What one side made of the gradients: its own units, in the second side's layout and by its names."""

    start: dict[str, np.ndarray]
    gradients: list[dict[str, np.ndarray]]
    exact: tuple[dict[str, np.ndarray], ...]
    rough: tuple[dict[str, np.ndarray], ...]
    rates: tuple[float | None, ...]

    def known_rates(self) -> list[float] | None:
        """The learning rates, where all are told."""
        rates = [rate for rate in self.rates if rate is not None]
        return rates if len(rates) == len(self.exact) and rates else None


def compared(parties: Parties, pairing: mapping.Pairing, parts: Parts, n: int, seed: int) -> tuple[Told, Result]:
    """Both sides' optimizers."""
    told = Told()
    if (absent := stages.missing(parts, STAGE, parties)) is not None:
        told.not_observed.append(absent)
        return told, Result()
    names = _chosen(parties, [pair for pair in pairing.pairs if _is_trained(parties, pair)])
    gradients = list(designed(parties, names, max(n, N_STEPS), seed))
    try:
        one, two = (_course(parties, names, side, gradients) for side in (0, 1))
    except LockstepError as error:
        if error.code != "LS-403":
            raise
        told.not_observed.append(later("optimizer: it could not be asked: {why}", why=str(error)))
        return told, Result(is_explained=False)
    allowed = [_tolerance(one, two, step) for step in range(len(gradients))]
    first = next((step for step in range(len(allowed)) if _off(one, two, step) > allowed[step]), None)
    what = later("updates by the same gradients")
    if first is None:
        told.count(STAGE, len(allowed), len(allowed), what)
        return told, Result()
    findings, changed, is_explained = _explained(parties, parts, names, gradients, (one, two), allowed, first)
    spot, off = stages.spot_of(parts[0][STAGE], parts[1][STAGE]), _off(one, two, first)
    told.findings += findings or [stages.finding(STAGE, spot, off=off)]
    told.count(STAGE, first, len(allowed), what)
    return told, Result(changed, is_explained)


def _chosen(parties: Parties, pairs: Sequence[mapping.Pair]) -> list[mapping.Pair]:
    """Pairs of units that get gradients: all, or of a large model the smaller ones."""
    sizes = {unit.name: int(np.prod(unit.shape)) for unit in parties[0].model.units}
    found: list[mapping.Pair] = []
    for pair in sorted(pairs, key=lambda pair: sizes[pair.a]):
        if not found or sum(sizes[each.a] for each in found) + sizes[pair.a] <= MOST_UPDATED:
            found.append(pair)
    return found


def _is_trained(parties: Parties, pair: mapping.Pair) -> bool:
    return all(
        any(unit.name == name and unit.is_trained for unit in party.model.units)
        for name, party in zip((pair.a, pair.b), parties, strict=True)
    )


def designed(
    parties: Parties, names: Sequence[mapping.Pair], n: int, seed: int
) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """For each update, by the second side's names: the gradient as each side holds it; small ones too, that show ε."""
    shapes = {unit.name: unit.shape for unit in parties[0].model.units}
    for step in range(n):
        found = {}
        for index, pair in enumerate(names):
            numbers = np.random.default_rng([seed, 7, step, index])
            size = 10.0 ** -numbers.uniform(0, 5, shapes[pair.a]) * SIZES[step % len(SIZES)]
            value = (numbers.normal(size=shapes[pair.a]) * size).astype(np.float32).astype(np.float64)
            found[pair.b] = (value, np.ascontiguousarray(pair.there(value)))
        yield found


def _course(
    parties: Parties, names: Sequence[mapping.Pair], side: int, gradients: Sequence[Mapping[str, Any]],
    changed: Mapping[str, Any] | None = None,
) -> Course:  # fmt: skip
    party = parties[side]
    own = {(pair.b, pair.a)[1 - side]: pair for pair in names}
    given = [{(pair.a, pair.b)[side]: step[pair.b][side] for pair in names} for step in gradients]
    exact, rough = party.exact.optimize(given, changed), party.rough.optimize(given, changed)

    def there(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            pair.b: np.asarray(pair.there(values[name]) if side == 0 else values[name])
            for name, pair in own.items() if name in values
        }  # fmt: skip

    return Course(
        there(party.exact.units()), [{name: each[1] for name, each in step.items()} for step in gradients],
        tuple(map(there, exact.values)), tuple(map(there, rough.values)), exact.rates,
    )  # fmt: skip


def _tolerance(one: Course, two: Course, step: int) -> float:
    return max(
        tolerances.of_arrays(list(each.exact[step].values()), [each.rough[step][name] for name in each.exact[step]])
        for each in (one, two)
    )


def _off(one: Course, two: Course, step: int) -> float:
    return max(stages.off(one.exact[step][name], two.exact[step][name]) for name in one.exact[step])


# ---------------------------------------------------------------------------------------------------------- the causes


def _explained(
    parties: Parties, parts: Parts, names: Sequence[mapping.Pair], gradients: Sequence[Mapping[str, Any]],
    courses: tuple[Course, Course], allowed: Sequence[float], first: int,
) -> tuple[list[Finding], dict[str, Any], bool]:  # fmt: skip
    """(a finding for each cause, the second side's arguments that put it right, whether all is explained)."""
    one, two = courses
    part = parts[1][STAGE]
    spot, off = stages.spot_of(parts[0][STAGE], part), _off(one, two, first)
    rules = _rules((parts[0][STAGE], part), courses, allowed)
    if rules is None:
        cause = _rates_alone(courses)
        found = stages.finding(STAGE, spot, cause=cause, meaning="rates" if cause else "", off=off)
        return [found], {}, False
    schedules = _schedules(courses)
    fields = _differing(rules, courses, allowed)
    changed, lines = _options(part, rules, fields)
    error = _reproduced(rules[0], courses, allowed, one.known_rates())
    if changed is not None and fields:
        try:
            again = _course(parties, names, 1, gradients, changed)
            left = max(_off(one, again, step) for step in range(len(allowed)))
            is_right = all(_off(one, again, step) <= tolerances.FORMULA * most for step, most in enumerate(allowed))
            changed, error = (changed, left) if is_right or schedules else (None, error)
        except LockstepError:
            changed = None
    findings = [
        stages.finding(
            STAGE, spot, cause=_sentence(field, *rules), meaning=field, off=off, error=error,
            values=(getattr(rules[0], field), getattr(rules[1], field)), lines=[lines.get(field)],
        )
        for field in fields
    ]  # fmt: skip
    findings += [stages.finding("schedule", _of_schedule(parts), off=off, error=error, **each) for each in schedules]
    return findings, changed or {}, bool(findings) and changed is not None and not schedules


def _of_schedule(parts: Parts) -> Any:
    return stages.spot_of(*(own.get("schedule", own[STAGE]) for own in parts))


def _rules(
    parts: tuple[Part, Part], courses: tuple[Course, Course], allowed: Sequence[float]
) -> tuple[Rule, Rule] | None:
    """The rules of both sides, each one that reproduces its trajectory; None where one has none that is known."""
    found: list[Rule | None] = []
    for part, course in zip(parts, courses, strict=True):
        read = read_rule(part)
        is_it = read is not None and _is_followed(read, course, allowed)
        found.append(read if is_it else None)
    for side in (0, 1):
        if found[side] is None:
            near = [each for each in (found[1 - side], read_rule(parts[side])) if each is not None]
            found[side] = _searched(near, courses[side], allowed)
    return (found[0], found[1]) if found[0] is not None and found[1] is not None else None


def _is_followed(rule: Rule, course: Course, allowed: Sequence[float], rates: Any = "own") -> bool:
    """Whether a rule gives every weight after every update."""
    rates = course.known_rates() if rates == "own" else rates
    followed = trajectories.follow(rule, course.start, course.gradients, rates)
    return all(
        stages.off(values[name], wanted) <= tolerances.FORMULA * most
        for values, after, most in zip(followed, course.exact, allowed, strict=True) for name, wanted in after.items()
    )  # fmt: skip


def _searched(near: Sequence[Rule], course: Course, allowed: Sequence[float]) -> Rule | None:
    """A rule that reproduces a trajectory, sought near the other side's, then near every framework's usual ones."""
    small = _thinned(course)
    seen = trajectories.rates_seen(small.start, small.exact[0], small.gradients[0])
    rates = small.known_rates()
    values = {"learning_rate": [] if rates else [*(rule.learning_rate for rule in near), *seen]}
    for beginnings, most in ((near, 2), (trajectories.BEGINNINGS, 2)):
        for beginning in beginnings:
            for rule in trajectories.neighbours(beginning, values, most):
                by_all = rule.clip and rule.clipped != "value"  # a norm of all entries, of which a few tell nothing
                if (by_all or _is_followed(rule, small, allowed)) and _is_followed(rule, course, allowed):
                    return rule
    return None


def _thinned(course: Course) -> Course:
    """A few entries of a few units, vectors and others; one with more than one axis keeps more than one."""
    by_rank = sorted(course.start, key=lambda name: course.start[name].ndim)
    kept = {*by_rank[: MOST_UNITS // 2], *by_rank[-MOST_UNITS // 2 :]}

    def thin(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = {name: np.asarray(value) for name, value in values.items() if name in kept}
        return {
            name: value.reshape(-1)[:MOST_ENTRIES].reshape((1, -1) if value.ndim > 1 else (-1,))
            for name, value in found.items()
        }

    return Course(
        thin(course.start), [thin(each) for each in course.gradients], tuple(map(thin, course.exact)),
        tuple(map(thin, course.rough)), course.rates,
    )  # fmt: skip


def _differing(rules: tuple[Rule, Rule], courses: tuple[Course, Course], allowed: Sequence[float]) -> list[str]:
    """The fields in which the rules differ and which move the second side's trajectory; the kind alone where it is."""
    one, two = rules
    if one.kind != two.kind:
        return ["kind"]
    course = courses[1]
    rates = course.known_rates()
    own = list(trajectories.follow(two, course.start, course.gradients, rates))
    found = []
    for field in trajectories.fields_of(two):
        if getattr(one, field) == getattr(two, field) or field == "learning_rate":
            continue
        if field in ("decoupled", "decayed") and not (one.decay and two.decay):
            continue  # there is no decay to be of one kind or the other
        other = dataclasses.replace(two, **{field: getattr(one, field)})
        moved = trajectories.follow(other, course.start, course.gradients, rates)
        if any(
            stages.off(values[name], was[name]) > most
            for values, was, most in zip(moved, own, allowed, strict=True) for name in was
        ):  # fmt: skip
            found.append(field)
    if _is_other_rate(rules, courses):
        found.insert(0, "learning_rate")
    return found


def _is_other_rate(rules: tuple[Rule, Rule], courses: Sequence[Course]) -> bool:
    """Whether one learning rate is another one, all along the same course."""
    one, two = (course.known_rates() for course in courses)
    if one is None or two is None:
        ends = [rates[0] if rates else rule.learning_rate for rates, rule in zip((one, two), rules, strict=True)]
        return not np.isclose(ends[0], ends[1], rtol=1e-6)
    return not np.allclose(one, two, rtol=1e-6) and _is_same_course(one, two)


def _is_same_course(one: Sequence[float], two: Sequence[float]) -> bool:
    return bool(np.allclose(np.array(two) * one[0], np.array(one) * two[0], rtol=1e-6))


def _reproduced(
    rule: Rule, courses: tuple[Course, Course], allowed: Sequence[float], rates: list[float] | None
) -> float:
    """How far the first side's rule, followed from the second side's start, is from the first side's weights."""
    followed = trajectories.follow(rule, courses[1].start, courses[1].gradients, rates)
    return max(
        stages.off(values[name], after[name])
        for values, after in zip(followed, courses[0].exact, strict=True) for name in after
    )  # fmt: skip


def _schedules(courses: Sequence[Course]) -> list[dict[str, Any]]:
    """What is to be said of two sequences of learning rates; nothing where they are the same course."""
    one, two = (course.known_rates() for course in courses)
    if one is None or two is None or _is_same_course(one, two):
        return []
    return [{"cause": _rates_alone(courses), "meaning": "schedule", "values": (one[:4], two[:4])}]


def _rates_alone(courses: Sequence[Course]) -> str:
    """How two sequences of learning rates differ; "" where they don't, or are not told."""
    one, two = (course.known_rates() for course in courses)
    if one is None or two is None or np.allclose(one, two, rtol=1e-6):
        return ""
    a, b = np.array(one), np.array(two)
    shown = {key: ", ".join(f"{x:.4g}" for x in rates[:4]) for key, rates in (("a", one), ("b", two))}
    if np.allclose(a[:-1], b[1:], rtol=1e-6):
        return later("schedule: each update has the learning rate of the one before: {a} … | {b} …", **shown)
    if np.allclose(a[1:], b[:-1], rtol=1e-6):
        return later("schedule: each update has the learning rate of the next: {a} … | {b} …", **shown)
    if np.ptp(b) == 0 or np.ptp(a) == 0:
        return later("schedule: the learning rate changes on one side alone: {a} … | {b} …", **shown)
    return later("schedule: the learning rates are {a} … | {b} …", **shown)


# ----------------------------------------------------------------------------------- rules from arguments, and back


def read_rule(part: Part) -> Rule | None:
    """What an optimizer computes by its framework's documentation; None where nobody knows it."""
    framework, _dot, name = part.function.partition(".")[0], "", part.function.rpartition(".")[2]
    reader: Callable[[str, Mapping[str, Any]], Rule | None] | None = {
        "torch": _of_torch, "keras": _of_keras, "optax": _of_optax,
    }.get(framework)  # fmt: skip
    try:
        return None if reader is None else reader(name, part.arguments)
    except (KeyError, TypeError, ValueError):
        return None


def _of_torch(name: str, a: Mapping[str, Any]) -> Rule | None:
    if "groups" in a:
        a = {**a, "weight_decay": max(group.get("weight_decay", 0) for group in a["groups"])}
    shared: dict[str, Any] = {"learning_rate": float(a["lr"]), "decay": float(a.get("weight_decay", 0) or 0)}
    if "groups" in a:
        shared["decayed"] = "matrices"
    if "betas" in a:
        shared |= {"beta1": float(a["betas"][0]), "beta2": float(a["betas"][1])}
    if "eps" in a:
        shared["epsilon"] = float(a["eps"])
    if name == "SGD":
        keys = ("momentum", "nesterov", "dampening")
        return Rule("sgd", **shared, **{key: a[key] for key in keys})
    if name in ("Adam", "AdamW"):
        is_decoupled = name == "AdamW" or bool(a.get("decoupled_weight_decay"))
        return Rule("adam", **shared, decoupled=is_decoupled, amsgrad="raw" if a.get("amsgrad") else "")
    if name == "RMSprop":
        return Rule("rmsprop", **shared, beta2=float(a["alpha"]), centred=bool(a["centered"]), momentum=a["momentum"])
    if name == "Adagrad":
        return Rule("adagrad", **shared, start=float(a["initial_accumulator_value"]))
    if name == "Adamax":
        return Rule("adamax", **shared, place="inside")
    if name == "Adadelta":
        return Rule("adadelta", **shared, beta2=float(a["rho"]))
    return None


def _of_keras(name: str, a: Mapping[str, Any]) -> Rule | None:
    rate = a["learning_rate"]
    shared: dict[str, Any] = {"learning_rate": float(rate) if isinstance(rate, int | float) else 0.0}
    shared |= {"decay": float(a.get("weight_decay") or 0), "decoupled": True, "velocity": True}
    for key, scope in (("clipnorm", "each"), ("global_clipnorm", "all"), ("clipvalue", "value")):
        if a.get(key):
            shared |= {"clip": float(a[key]), "clipped": scope}
    shared |= {"epsilon": float(a["epsilon"])} if "epsilon" in a else {}
    if "beta_1" in a:
        shared |= {"beta1": float(a["beta_1"]), "beta2": float(a["beta_2"])}
    if "rho" in a:
        shared["beta2"] = float(a["rho"])
    if name == "SGD":
        return Rule("sgd", **shared, momentum=float(a["momentum"]), nesterov=bool(a["nesterov"]))
    if name in ("Adam", "AdamW"):
        return Rule("adam", **shared, place="hat", amsgrad="raw" if a.get("amsgrad") else "")
    if name == "Nadam":
        return None
    if name == "RMSprop":
        shared |= {"momentum": float(a["momentum"]), "centred": bool(a["centered"])}
        return Rule("rmsprop", **shared, place="inside")
    if name == "Adagrad":
        return Rule("adagrad", **shared, place="inside", start=float(a["initial_accumulator_value"]))
    kinds = {"Adamax": "adamax", "Adadelta": "adadelta", "Lion": "lion"}
    return Rule(kinds[name], **shared) if name in kinds else None


def _of_optax(name: str, a: Mapping[str, Any]) -> Rule | None:
    rate = a["learning_rate"]
    shared: dict[str, Any] = {"learning_rate": float(rate) if isinstance(rate, int | float) else 0.0}
    if "b1" in a:
        shared |= {"beta1": float(a["b1"]), "beta2": float(a["b2"])}
    if "eps" in a:
        shared["epsilon"] = float(a["eps"])
    if a.get("weight_decay"):
        shared |= {"decay": float(a["weight_decay"]), "decoupled": True}
    if name == "sgd":
        return Rule("sgd", **shared, momentum=float(a["momentum"] or 0), nesterov=bool(a["nesterov"]))
    if name in ("adam", "adamw") and not a.get("nesterov") and not a.get("eps_root"):
        return Rule("adam", **shared)
    if name == "amsgrad":
        return Rule("adam", **shared, amsgrad="corrected")
    if name == "rmsprop":
        shared |= {"momentum": float(a["momentum"] or 0), "centred": bool(a["centered"]), "velocity": False}
        place = "inside" if a.get("eps_in_sqrt", True) else "outside"
        return Rule("rmsprop", **shared, beta2=float(a["decay"]), place=place, start=float(a["initial_scale"]))
    if name == "adagrad":
        return Rule("adagrad", **shared, place="inside", start=float(a["initial_accumulator_value"]))
    if name == "adamax":
        return Rule("adamax", **shared, place="inside")
    return Rule("lion", **shared) if name == "lion" else None


FRAMEWORKS = ("torch", "keras", "optax")
# field → the argument of PyTorch, of Keras, of Optax
OPTIONS: dict[str, tuple[str, str, str]] = {
    "learning_rate": ("lr", "learning_rate", "learning_rate"), "momentum": ("momentum", "momentum", "momentum"),
    "nesterov": ("nesterov", "nesterov", "nesterov"), "dampening": ("dampening", "", ""),
    "beta1": ("betas", "beta_1", "b1"), "beta2": ("betas", "beta_2", "b2"), "epsilon": ("eps", "epsilon", "eps"),
    "decay": ("weight_decay", "weight_decay", "weight_decay"), "decoupled": ("decoupled_weight_decay", "", ""),
    "amsgrad": ("amsgrad", "amsgrad", ""), "centred": ("centered", "centered", "centered"),
    "start": ("initial_accumulator_value", "initial_accumulator_value", "initial_accumulator_value"),
}  # fmt: skip
RHO = {"RMSprop": ("alpha", "rho", ""), "Adadelta": ("rho", "rho", ""), "rmsprop": ("", "", "decay")}
CLIPS = {"each": "clipnorm", "all": "global_clipnorm", "value": "clipvalue"}


def _options(
    part: Part, rules: tuple[Rule, Rule], fields: Sequence[str]
) -> tuple[dict[str, Any] | None, dict[str, Remedy | None]]:
    """(arguments of the second side's optimizer with the first one's fields, None where one has none; the lines)."""
    changed: dict[str, Any] = {}
    lines: dict[str, Remedy | None] = {}
    is_whole = True
    for field in fields:
        found = _option(part, rules[0], field)
        if found is None:
            is_whole = False
            continue
        argument, value = found
        changed[argument] = value
        lines[field] = stages.remedy(part, argument, value)
    return changed if is_whole else None, lines


def _option(part: Part, wanted: Rule, field: str) -> tuple[str, Any] | None:
    name, framework = part.function.rpartition(".")[2], part.function.partition(".")[0]
    if framework not in FRAMEWORKS:
        return None
    index, is_keras = FRAMEWORKS.index(framework), framework == "keras"
    value = getattr(wanted, field)
    if field == "learning_rate" and not (value and isinstance(part.arguments.get("learning_rate", 0.0), int | float)):
        return None  # a schedule stands there
    if field in ("clip", "clipped"):
        return (CLIPS[wanted.clipped], wanted.clip or None) if is_keras else None
    argument = OPTIONS.get(field, ("", "", ""))[index]
    if field == "beta2" and name in RHO:
        argument = RHO[name][index]
    if not argument or argument not in part.arguments:
        return None
    if field == "amsgrad":
        return (argument, bool(value)) if value in ("", "raw") else None
    if argument == "betas":
        value = [wanted.beta1, wanted.beta2]
    return argument, value


def _sentence(field: str, one: Rule, two: Rule) -> str:
    """What the two sides do, as a person says it."""
    values = {"a": _word(field, one), "b": _word(field, two)}
    if field == "kind":
        return later("another optimizer: {a} | {b}", **values)
    if field == "place":
        return later("{kind}: ε is added {a} | {b}", kind=one.kind, **values)
    if field in ("velocity", "decoupled", "decayed", "clipped", "amsgrad"):
        return later("{kind}: {a} | {b}", kind=one.kind, **values)
    return later("{kind}: {argument} is {a} | {b}", kind=one.kind, argument=NAMES.get(field, field), **values)


NAMES = {"decay": later("weight decay"), "start": later("the first mean of squares"),
         "learning_rate": later("learning rate"), "clip": later("the norm that gradients are cut to")}  # fmt: skip


def _word(field: str, rule: Rule) -> Any:
    value = getattr(rule, field)
    words: dict[tuple[str, Any], str] = {
        ("place", "outside"): later("to the root, after bias correction"),
        ("place", "hat"): later("to the root, before bias correction"), ("place", "inside"): later("inside the root"),
        ("velocity", True): later("momentum keeps a velocity that holds the rate of its time"),
        ("velocity", False): later("momentum keeps a sum of gradients"),
        ("decoupled", True): later("decay is decoupled: lr·λ·w is taken from the weight"),
        ("decoupled", False): later("decay is L2: λ·w is added to the gradient"),
        ("decayed", "all"): later("everything is decayed"),
        ("decayed", "matrices"): later("biases and scales are not decayed"),
        ("clipped", "all"): later("gradients are cut by the norm of all"),
        ("clipped", "each"): later("each by its own norm"), ("clipped", "value"): later("each entry"),
        ("amsgrad", ""): later("no AMSGrad"), ("amsgrad", "raw"): later("AMSGrad"),
        ("amsgrad", "corrected"): later("AMSGrad after bias correction"),
    }  # fmt: skip
    if field == "place" and rule.kind == "rmsprop" and value != "inside":
        return later("to the root")
    return words.get((field, value), value)
