"""The judge itself, judged: every formula of a study once more, from another source, before anything is compared.

The judge shares its code with the NumPy backend and with the plan that every backend is given, so a slip there would be
nobody's or everybody's. Here the same numbers come from elsewhere: SciPy's special functions and softmax, sums over
windows written with `einsum`, statistics by NumPy's own `var`, gradients from central differences of these, optimizers
from `update`, schedules and masks and starting weights by what their definitions say of them. Nothing here is fast, and
nothing of it is used for anything else.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lockstep import data
from lockstep.backends import numpy as reference
from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.numpy import layers
from lockstep.backends.plan import FRACTION_BITS, Arrays, Plan
from lockstep.proof import update
from lockstep.spec import INPUT, Adam, AdamW, LayerFacts, Recipe
from lockstep.spec.records import changed

CLOSE = 1e-9  # relative: float64 in another order of summation
DIFFERENCE = 1e-6  # of a central difference, relative: its step squared, and the rounding that it divides by the step
N = 12  # examples that formulas are worked out on
SURE = 6.0  # standard deviations that a random share or moment may be off
ENOUGH = 20_000  # random bits that tell whether they go with others
CHANCE = 1e-12  # at which two masks are equal by themselves


class Doubt(NamedTuple):
    """Where the judge is not what an independent formula gives."""

    stage: str
    where: str
    size: float
    tolerance: float
    step: int | None = None


def doubts(plan: Plan, start: Arrays, images: np.ndarray, labels: np.ndarray, steps: int) -> list[Doubt]:
    """Every formula that the judge, the plan or the starting weights have wrongly.

    `plan` is in float64; `start` are the starting weights, `images` (n, height, width, channels) and `labels` (n,) some
    training examples, `steps` how many updates a proof takes.
    """
    products = plan.recipe.products
    told = tuple(name for name in plan.recipe.mistakes if name != "prediction_in_training_mode")
    plan = dataclasses.replace(plan, recipe=changed(plan.recipe, products="full", mistakes=told))
    with np.errstate(all="ignore"):
        found = [*_factors(products)]
        found += [*_layers(plan, start, images[:N], labels[:N]), *_updates(plan, start), *_schedule(plan, steps)]
        found += [*_masks(plan, steps), *_drawn(plan, start), *_streams(start)]
        found += [*_initial(plan, start), *_order(plan, len(images))]
    return [doubt for doubt in found if not doubt.size <= doubt.tolerance]


def _compared(stage: str, where: str, found: Any, wanted: Any, size: Any = 0.0, tolerance: float = CLOSE) -> Doubt:
    """The largest difference, beside `tolerance` times the largest number of either or of what is added up in them."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        return Doubt(stage, where, math.inf, 0.0)
    judged = np.isfinite(wanted)  # a recipe may leave the range of its numbers
    if not np.isfinite(found[judged]).all():
        return Doubt(stage, where, math.inf, 0.0)
    found, wanted = found[judged], wanted[judged]
    largest = max(float(np.abs(value).max(initial=0.0)) for value in (wanted, np.asarray(size)))
    return Doubt(stage, where, float(np.abs(found - wanted).max(initial=0.0)), tolerance * largest + 1e-300)


# ------------------------------------------------------------------------------------------------------------- layers


def _padding(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    total = max(kernel + stride * (math.ceil(size / stride) - 1) - size, 0)
    return (total - total // 2, total // 2) if padding == "same_lower" else (total // 2, total - total // 2)


def _windows(row: LayerFacts, x: np.ndarray, fill: float) -> np.ndarray:
    """(n, rows, columns, channels, kernel height, kernel width)."""
    (high, wide), (down, across) = row.layer.window()
    sides = [
        _padding(size, kernel, stride, row.layer.padding)
        for size, kernel, stride in zip(x.shape[1:3], (high, wide), (down, across), strict=True)
    ]
    padded = np.full((len(x), x.shape[1] + sum(sides[0]), x.shape[2] + sum(sides[1]), x.shape[3]), fill)
    padded[:, sides[0][0] : sides[0][0] + x.shape[1], sides[1][0] : sides[1][0] + x.shape[2]] = x
    return sliding_window_view(padded, (high, wide), axis=(1, 2))[:, ::down, ::across]


def _dense(row: LayerFacts, x: np.ndarray, p: Arrays) -> np.ndarray:
    return np.einsum("ni,io->no", x, p["kernel"]) + p.get("bias", 0.0)


def _conv2d(row: LayerFacts, x: np.ndarray, p: Arrays) -> np.ndarray:
    return np.einsum("nrscij,ijco->nrso", _windows(row, x, 0.0), p["kernel"], optimize=True) + p.get("bias", 0.0)


def _avg_pool2d(row: LayerFacts, x: np.ndarray, p: Arrays) -> np.ndarray:
    counted = row.layer.count_padding
    return np.nanmean(_windows(row, x, 0.0 if counted else np.nan), axis=(-2, -1))


def _flatten(row: LayerFacts, x: np.ndarray, p: Arrays) -> np.ndarray:
    if row.layer.order == "chw" and x.ndim == 4:
        x = np.stack([x[..., channel] for channel in range(x.shape[3])], axis=1)
    return x.reshape(len(x), -1)


def _batch_norm(row: LayerFacts, x: np.ndarray, p: Arrays) -> np.ndarray:
    flat = x.reshape(-1, x.shape[-1])
    mean, variance = (p["mean"], p["variance"]) if "mean" in p else (np.mean(flat, 0), np.var(flat, 0))
    return p["scale"] * (x - mean) / np.sqrt(variance + row.layer.epsilon) + p["shift"]


def _layer_norm(row: LayerFacts, x: np.ndarray, p: Arrays) -> np.ndarray:
    groups = x.reshape(len(x), -1) if row.layer.over == "example" else x.reshape(-1, x.shape[-1])
    centred = groups - np.einsum("gv->g", groups)[:, None] / groups.shape[1]
    variance = np.einsum("gv,gv->g", centred, centred) / groups.shape[1]
    normal = np.einsum("gv,g->gv", centred, (variance + row.layer.epsilon) ** -0.5)
    return np.asarray(np.einsum("...c,c->...c", normal.reshape(x.shape), p["scale"]) + p["shift"])


def _add(row: LayerFacts, taken: Sequence[np.ndarray], p: Arrays) -> np.ndarray:
    first = np.where(taken[0] > 0, taken[0], 0.0) if row.layer.rectified else taken[0]
    weights = [row.layer.first, *[row.layer.others] * (len(taken) - 1)]
    return np.asarray(np.einsum("i,i...->...", weights, np.stack([first, *taken[1:]])))


def _concat(row: LayerFacts, taken: Sequence[np.ndarray], p: Arrays) -> np.ndarray:
    parts = [*reversed(taken)] if row.layer.order == "reversed" else [*taken]
    if row.layer.axis == "channels":
        y = np.empty((len(parts[0]), *row.output_shape))
        start = 0
        for part in parts:
            y[..., start : start + part.shape[-1]] = part
            start += part.shape[-1]
        return y
    stack = np.hstack if row.layer.axis == "height" else lambda images: np.concatenate(images, axis=2)
    return np.asarray(stack(parts)).reshape(len(parts[0]), *row.output_shape)


def _special(name: str) -> Callable[..., np.ndarray]:
    from scipy import special

    return getattr(special, name)


def _gelu(row: LayerFacts, x: np.ndarray, p: Arrays) -> np.ndarray:
    if row.layer.form == "tanh":
        return x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))  # ½·(1 + tanh u) = 1/(1 + e⁻²ᵘ)
    return np.asarray(x * _special("ndtr")(x))


# kind → (row, x, its own parameters) → y, for one whole batch in training.
FORWARD: dict[str, Callable[[LayerFacts, Any, Arrays], np.ndarray]] = {
    "dense": _dense,
    "conv2d": _conv2d,
    "max_pool2d": lambda row, x, p: _windows(row, x, -np.inf).max(axis=(-2, -1)),
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": lambda row, x, p: np.einsum("nrsc->nc", x) / (x.shape[1] * x.shape[2]),
    "flatten": _flatten,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "dropout": lambda row, x, p: x * p["mask"] if "mask" in p else x,
    "relu": lambda row, x, p: np.where(x > 0, x, 0.0),
    "leaky_relu": lambda row, x, p: np.where(x > 0, x, row.layer.slope * x),
    "elu": lambda row, x, p: np.where(x > 0, x, row.layer.alpha * (np.exp(np.minimum(x, 0)) - 1)),
    "tanh": lambda row, x, p: 1 - 2 / (np.exp(2 * x) + 1),
    "sigmoid": lambda row, x, p: _special("expit")(x),
    "softplus": lambda row, x, p: np.logaddexp(0.0, x),
    "gelu": _gelu,
    "add": _add,
    "concat": _concat,
}


def _probe(row: LayerFacts, x: np.ndarray) -> np.ndarray:
    """What is asked of an activation: its own inputs, and some from −50 to 50, which no first step may have."""
    if row.input_shape != row.output_shape or row.parameter_shapes or row.layer.kind in ("dropout", "flatten"):
        return x
    x = np.array(x)
    x.reshape(-1)[: min(x.size // 2, 41)] = np.linspace(-50, 50, 41)[: min(x.size // 2, 41)]
    return x


def _layers(plan: Plan, start: Arrays, images: np.ndarray, labels: np.ndarray) -> Iterator[Doubt]:
    """Each layer there and back, and the loss, on what the judge itself feeds them; predictions last."""
    generator = np.random.default_rng(5)
    # Every parameter moved a little: a bias of 0 or a scale of 1 hides what is done with it.
    moved = {
        name: value.astype(np.float64) + 0.05 * generator.normal(size=value.shape) for name, value in start.items()
    }
    model = reference.build(plan, moved, as_trained=False)
    state = model.state()
    statistics = {
        name: value + generator.uniform(0.1, 1, value.shape) for name, value in state.items() if "running_" in name
    }
    model.restore(moved, state | statistics)
    on, values = model.observer(len(images), training=True), {INPUT: model.prepare(images)}
    wanted = (images - plan.mean) * plan.scale
    yield _compared("forward", "input", values[INPUT], wanted, size=plan.mean * plan.scale)
    for row in plan.rows:
        x: Any = tuple(values[name] for name in row.inputs)
        x = x if len(x) > 1 else _probe(row, *x)
        before = {name: value.copy() for name, value in on.statistics.items()}
        y, back = reference.LAYERS[row.layer.kind](row, x, on)
        own = {name.rpartition("/")[2]: value for name, value in moved.items() if name.startswith(f"{row.name}/")}
        own |= {"mask": on.masks[row.name]} if row.name in on.masks else {}
        wanted = FORWARD[row.layer.kind](row, x, own)
        yield _compared("forward", row.name, y, wanted, _size(x))
        if row.layer.has_state:
            yield from _statistics(row, x, before, on.statistics)
        dy = generator.normal(size=y.shape)
        dx = back(dy.copy(), True)
        gradients = {key: on.gradients[f"{row.name}/{key}"] for key in own if key != "mask"}
        if isinstance(x, tuple):
            yield from _slopes_of_join(row, x, dy, dx)
        else:
            yield from _slopes(row, x, own, dy, np.asarray(dx), gradients)
        values[row.name] = y
    yield from _loss(plan, model, values[plan.rows[-1].name], labels)
    inferred = model.activations(images, training=False)
    for row in plan.rows:
        own = {name.rpartition("/")[2]: value for name, value in moved.items() if name.startswith(f"{row.name}/")}
        if row.layer.has_state:
            own |= {what: statistics[f"{row.name}/running_{what}"] for what in ("mean", "variance")}
        x = tuple(inferred[name] for name in row.inputs) if len(row.inputs) > 1 else inferred[row.inputs[0]]
        yield _compared("predictions", row.name, inferred[row.name], FORWARD[row.layer.kind](row, x, own), _size(x))
    yield _compared("predictions", "logits", model.predict(images), inferred[plan.rows[-1].name])


def _size(x: Any) -> np.ndarray:
    return np.asarray(max(float(np.abs(one).max(initial=0.0)) for one in (x if isinstance(x, tuple) else (x,))))


def _slopes_of_join(row: LayerFacts, x: tuple[np.ndarray, ...], dy: np.ndarray, dx: Any) -> Iterator[Doubt]:
    """What is sent back to each input, by the numbers themselves: a join is linear, but for a rectified first input."""
    generator, forward = np.random.default_rng(7), FORWARD[row.layer.kind]
    for place, (at, slope) in enumerate(zip(x, dx, strict=True)):
        least = 0.0 if getattr(row.layer, "rectified", False) else 1e-2  # where no number may change its sign
        direction = generator.uniform(-1, 1, at.shape) * np.maximum(np.abs(at), least)
        ends = [
            float((dy * forward(row, (*x[:place], at + h, *x[place + 1 :]), {})).sum()) for h in (direction, -direction)
        ]
        found, wanted = float((slope * direction).sum()), (ends[0] - ends[1]) / 2
        size = float(np.abs(slope * direction).sum()) + 1e-6 * float(np.abs(dy).sum()) * float(_size(x))
        yield Doubt("backward", row.name, abs(found - wanted), CLOSE * size + 1e-300)


def _statistics(row: LayerFacts, x: np.ndarray, before: Arrays, after: Arrays) -> Iterator[Doubt]:
    """(1 − m)·old + m·new, of the mean and of the variance over n − 1, or n where that is asked for."""
    flat, m = x.reshape(-1, x.shape[-1]), row.layer.momentum
    n, biased = len(flat), row.layer.running_variance == "biased"
    batch = {"mean": np.mean(flat, 0), "variance": np.var(flat, 0) * (n / (n if biased else max(n - 1, 1)))}
    for what, value in batch.items():
        name = f"{row.name}/running_{what}"
        yield _compared("statistics", name, after[name], (1 - m) * before[name] + m * value, np.abs(flat).max())


# kind → the axes over which its variance goes.
NORMALISED: dict[str, Callable[[LayerFacts, np.ndarray], tuple[int, ...]]] = {
    "batch_norm": lambda row, x: tuple(range(x.ndim - 1)),
    "layer_norm": lambda row, x: (-1,) if row.layer.over == "channels" else tuple(range(1, x.ndim)),
}
CURVED = ("elu", "tanh", "sigmoid", "softplus", "gelu")


def _slopes(
    row: LayerFacts, x: np.ndarray, own: Arrays, dy: np.ndarray, dx: np.ndarray, gradients: Arrays
) -> Iterator[Doubt]:  # fmt: skip
    """What is sent back and every parameter's gradient: along one random direction each, by central differences.

    A kink has no slope: relu and its like, and max pooling, are held against who gets the gradient by definition.
    """
    if row.layer.kind == "max_pool2d":
        yield _compared("backward", row.name, dx, _pooled_back(row, x, dy))
        return
    generator, forward = np.random.default_rng(7), FORWARD[row.layer.kind]
    asked = [("backward", row.name, "", x, dx)]
    asked += [("gradients", f"{row.name}/{key}", key, own[key], value) for key, value in gradients.items()]
    for stage, where, key, at, slope in asked:
        direction, scale = generator.uniform(-1, 1, at.shape), max(float(np.abs(at).max(initial=0.0)), 1e-2)
        if not key and row.layer.kind in CURVED:  # whose slope lies near 0, however large other inputs are
            direction, scale = direction * np.maximum(np.abs(at), 1.0), 1.0
        spread = 1.0
        if not key and row.layer.kind in NORMALISED:  # straight only within the spread of what is normalised together
            deviation = x.std(axis=NORMALISED[row.layer.kind](row, x), keepdims=True) + math.sqrt(row.layer.epsilon)
            direction, scale, spread = direction * deviation, 1.0, float((np.abs(x) / deviation).max())
        step = 1e-5 * scale
        if not key and row.layer.kind in ("relu", "leaky_relu", "elu"):
            direction = direction * (np.abs(at) > 2 * step * np.maximum(np.abs(at), 1.0))
        ends = [
            float((dy * (forward(row, at + h, own) if not key else forward(row, x, own | {key: at + h}))).sum())
            for h in (step * direction, -step * direction)
        ]
        found, wanted = float((slope * direction).sum()), (ends[0] - ends[1]) / (2 * step)
        size = float(np.abs(slope * direction).sum())
        rounded = 1e-15 * float((np.abs(dy) * (np.abs(forward(row, x, own)) + spread)).sum()) / step
        yield Doubt(stage, where, abs(found - wanted), DIFFERENCE * size + 4 * rounded + 1e-300)


def _pooled_back(row: LayerFacts, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Max pooling's gradient, window by window: the first maximum in row-major order gets it, or all a share."""
    windows = _windows(row, x, -np.inf)
    flat = windows.reshape(*windows.shape[:4], -1)
    is_largest = flat == flat.max(axis=-1, keepdims=True)
    if row.layer.ties != "shared":
        is_largest = is_largest & (np.cumsum(is_largest, axis=-1) == 1)
    share = dy[..., None] * is_largest / is_largest.sum(axis=-1, keepdims=True)
    (high, wide), (down, across) = row.layer.window()
    top, left = (
        _padding(size, kernel, stride, row.layer.padding)[0]
        for size, kernel, stride in zip(x.shape[1:3], (high, wide), (down, across), strict=True)
    )
    dx = np.zeros(x.shape)
    for (r, s, k), i, j in (
        ((r, s, k), r * down + k // wide - top, s * across + k % wide - left)
        for r in range(dy.shape[1]) for s in range(dy.shape[2]) for k in range(high * wide)
    ):  # fmt: skip
        if 0 <= i < x.shape[1] and 0 <= j < x.shape[2]:
            dx[:, i, j] += share[:, r, s, :, k]
    return dx


# --------------------------------------------------------------------------------------------------- loss and update


def _targets(plan: Plan, labels: np.ndarray) -> np.ndarray:
    s = plan.recipe.label_smoothing
    return (1 - s) * np.eye(plan.classes)[labels] + s / plan.classes


def loss_of(loss: str, z: np.ndarray, t: np.ndarray) -> float:
    """The mean loss of a batch, from SciPy's softmax."""
    softmax, log_softmax = _special("softmax"), _special("log_softmax")
    if loss == ALL_PAIRS:
        return float(np.mean((z[:, None] - t[None]) ** 2))
    if loss == "mean_squared_error":
        return float(np.mean((z - t) ** 2))
    if loss == "cross_entropy_clipped":
        return float(-np.mean(np.sum(t * np.log(np.clip(softmax(z, axis=1), 1e-7, 1 - 1e-7)), axis=1)))
    z = softmax(z, axis=1) if loss == "cross_entropy_softmax_twice" else z
    return float(-np.mean(np.sum(t * log_softmax(z, axis=1), axis=1)))


def _loss(plan: Plan, model: reference.Model, z: np.ndarray, labels: np.ndarray) -> Iterator[Doubt]:
    """The loss, its slope along one direction, and L2."""
    on, t = model.observer(len(z), training=True), _targets(plan, labels)
    yield _compared("loss", "targets", model.targets(labels), t)
    losses, dz = model.losses(z, model.targets(labels), on)
    loss = loss_of(plan.loss, z, t)
    yield _compared("loss", "loss", losses.mean(), loss, 1.0)
    direction, step = np.random.default_rng(9).normal(size=z.shape), 1e-5
    ends = [loss_of(plan.loss, z + h, t) for h in (step * direction, -step * direction)]
    found, wanted = float((dz / len(z) * direction).sum()), (ends[0] - ends[1]) / (2 * step)
    if plan.recipe.loss != "cross_entropy_clipped":  # whose slope ends at the cut
        size = float(np.abs(dz / len(z) * direction).sum())
        tolerance = DIFFERENCE * size + 1e-15 * (1 + abs(loss)) / step
        yield Doubt("loss", "gradient of the logits", abs(found - wanted), 8 * tolerance)
    gradients = {name: np.zeros_like(value) for name, value in model.parameters.items()}
    model.add_l2(gradients)
    for name, value in model.parameters.items():
        due = plan.recipe.l2 * value if name in _decayed(plan) else np.zeros_like(value)
        yield _compared("gradients", name, gradients[name], due)


def _decayed(plan: Plan) -> set[str]:
    """What L2 and AdamW's decay act on: kernels, or everything by mistake."""
    return {
        f"{row.name}/{key}" for row in plan.rows for key, shape in row.parameter_shapes.items()
        if len(shape) > 1 or "decay_on_all" in plan.recipe.mistakes
    }  # fmt: skip


def _updates(plan: Plan, start: Arrays) -> Iterator[Doubt]:
    """Two updates, an early and a late one, from slots and gradients drawn at random, beside `update`'s formulas."""
    generator = np.random.default_rng(11)
    weights = {name: value.astype(np.float64) for name, value in start.items()}
    model = reference.build(plan, weights, as_trained=False)
    for step in (0, plan.recipe.epochs * plan.steps_per_epoch // 2 + 1):
        slots = {name: np.abs(generator.normal(size=value.shape)) for name, value in model.state().items()
                 if name.rpartition("/")[0] in weights}  # fmt: skip
        before = model.state() | slots | {"step": np.array(step)}
        gradients = {name: generator.normal(size=value.shape) for name, value in weights.items()}
        model.restore(weights, before)
        clipped = model.clipped(gradients)
        for name, value in update.clipped(plan.recipe, gradients)[0].items():
            yield _compared("optimizer slots" if slots else "updated weights", name, clipped[name], value)
        model.apply(clipped)
        after, new = model.state(), model.weights()
        nothing = dict.fromkeys(gradients, 0.0)
        for half in update.halves(plan, "float64", step, (weights, before), after, gradients, nothing,
                                  dict.fromkeys(gradients, False)):  # fmt: skip
            found = (after if half.stage == "optimizer slots" else new)[half.name]
            yield _compared(half.stage, half.name, found, half.wanted, 1.0)
        yield _compared("optimizer slots", "step", after["step"], step + 1)


# ------------------------------------------------------------------------------------------------ what a plan decides


def rate_of(recipe: Recipe, step: int, per_epoch: int) -> float:
    """The learning rate of update number `step`, from the schedules' definitions."""
    schedule, total = recipe.schedule, recipe.epochs * per_epoch
    step = max(min(step, total - 1) - ("rate_late" in recipe.mistakes), 0)
    done = step / total
    between = lambda a, b, share: a + (b - a) * math.sin(0.5 * math.pi * share) ** 2  # noqa: E731 - half a cosine
    factor = 1.0
    if schedule.kind == "step":
        factor = math.exp(math.log(schedule.factor_per_drop) * (step // per_epoch // schedule.every))
    elif schedule.kind == "cosine":
        factor = between(1.0, schedule.final, done)
    elif schedule.kind == "one_cycle" and done < schedule.warm_up:
        factor = between(schedule.start, 1.0, done / schedule.warm_up)
    elif schedule.kind == "one_cycle":
        factor = between(1.0, schedule.final, (done - schedule.warm_up) / (1 - schedule.warm_up))
    return float(recipe.optimizer.learning_rate * factor)


def _factors(products: str) -> Iterator[Doubt]:
    """What the factors of a product are rounded to keeps so many fraction bits, to nearest, ties to even."""
    if products == "full":
        return
    bits = {"tf32": 10, "bfloat16": 7}[products]
    values = np.random.default_rng(17).normal(size=4096).astype(np.float32)
    values[:64] = 1 + np.arange(64) * 2.0 ** -(bits + 1)  # ties among them
    parts, exponents = np.frexp(values.astype(np.float64))
    wanted = np.ldexp(np.rint(parts * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponents)
    yield _compared(
        "forward",
        f"factors of products in {products}",
        layers.rounding(FRACTION_BITS[products])(values),
        wanted,
        tolerance=0.0,
    )


def _schedule(plan: Plan, steps: int) -> Iterator[Doubt]:
    """Rates, ε and what momentum is multiplied by, at the steps of a proof and at the end of the schedule."""
    recipe, per_epoch = plan.recipe, plan.steps_per_epoch
    o, total = recipe.optimizer, recipe.epochs * per_epoch
    for step in (*range(steps), *range(max(total - 2, steps), total)):
        rate, before = rate_of(recipe, step, per_epoch), rate_of(recipe, max(step - 1, 0), per_epoch)
        found = _compared("updated weights", "learning rate", plan.learning_rate(step), rate, o.learning_rate)
        yield found._replace(step=step)
        hat = math.sqrt(1 - o.beta2 ** (step + 1)) if isinstance(o, Adam | AdamW) and o.epsilon_mode == "hat" else 1.0
        epsilon = getattr(o, "epsilon", 0.0) / hat
        yield _compared("updated weights", "ε", plan.epsilon(step), epsilon)._replace(step=step)
        velocity = getattr(o, "form", "") == "velocity" and step > 0 and rate != 0
        factor = before / rate if velocity else 1.0
        cancelled = 2**-51 * o.learning_rate * (1 / rate + 1 / before) if velocity and before else 0.0  # 1 + cos near π
        found = _compared(
            "optimizer slots", "momentum's factor", plan.buffer_factor(step), factor, tolerance=CLOSE + cancelled
        )
        yield found._replace(step=step)


def _masks(plan: Plan, steps: int) -> Iterator[Doubt]:
    """Dropout's masks hold 0 and 1/keep, keep as many as they should, and are others at every step, layer and image."""
    mistakes, seen = plan.recipe.mistakes, set()
    before: dict[str, _Bits] = {}
    if not plan.dropouts:
        return
    total = plan.recipe.epochs * plan.steps_per_epoch
    for step in sorted({*range(steps), total - 1}):
        masks = plan.masks(step, plan.recipe.batch_size)
        for _index, row in plan.dropouts:
            mask, rate = masks[row.name].astype(np.float64), row.layer.rate
            keep = rate if "dropout_rate_kept" in mistakes else 1 - rate
            scale = 1.0 if "dropout_not_scaled" in mistakes else 1 / keep
            where, kept = f"{row.name}, mask", np.full_like(mask, scale) * (mask != 0)
            yield _compared("forward", where, mask, kept, tolerance=1e-6)._replace(step=step)
            # Of few values the share may be far off, in a tail that is no normal distribution's.
            if mask.size * keep * (1 - keep) > 20:
                share = SURE * math.sqrt(keep * (1 - keep) / mask.size) + 1e-4
                yield Doubt("forward", where, abs(float((mask != 0).mean()) - keep), share, step)
            if (keep**2 + (1 - keep) ** 2) ** mask.size < CHANCE:
                bits = mask.shape, np.packbits(mask != 0).tobytes()
                yield Doubt("forward", f"{row.name}, a mask that came before", float(bits in seen), 0.0, step)
                seen.add(bits)
            drawn = _Bits((mask != 0).reshape(len(mask), -1), keep)
            half = len(mask) // 2
            yield from drawn.apart(step, f"{row.name}, images of a batch", drawn.of(half), half)
            for name, other in before.items():
                yield from drawn.apart(step, f"{row.name} and {name}", other)
            before[row.name] = drawn


class _Bits(NamedTuple):
    """What a mask keeps, one row an image, and the share that it should keep."""

    rows: np.ndarray
    keep: float

    def of(self, first: int) -> _Bits:
        """The rows from this one on."""
        return self._replace(rows=self.rows[first:])

    def apart(self, step: int, where: str, other: _Bits, most: int | None = None) -> Iterator[Doubt]:
        """Whether these bits come of other random numbers than those: then they are not correlated.

        Of `most` rows, and of as many values as say it for certain.
        """
        a, b = (one.rows[:most].ravel()[:ENOUGH] for one in (self, other))
        n = min(a.size, b.size)
        shares = [min(one.keep, 1 - one.keep) for one in (self, other)]
        if n * shares[0] * shares[1] < 20:  # too few for a normal distribution's tail
            return
        size = float(np.mean((a[:n] - self.keep) * (b[:n] - other.keep)))
        spread = math.prod(math.sqrt(share * (1 - share)) for share in shares)
        yield Doubt(
            "forward", f"{where}, masks of the same random numbers", abs(size), SURE * spread / math.sqrt(n), step
        )


def _drawn(plan: Plan, start: Arrays) -> Iterator[Doubt]:
    """Starting weights have the mean, the spread and the largest number that their initializer's definition gives."""
    if "kernels_transposed" in plan.recipe.mistakes:
        return
    for row in plan.rows:
        for key, shape in row.parameter_shapes.items():
            value, where = start[f"{row.name}/{key}"].astype(np.float64), f"{row.name}/{key}"
            if not np.isfinite(value).all():
                continue
            yield _compared("starting weights", where, value, value.astype(np.float32), tolerance=0.0)
            if key in ("scale", "shift"):
                yield _compared("starting weights", where, value, np.full(shape, float(key == "scale")))
                continue
            own = row.layer.initializer or plan.network.initializer
            chosen = own if key == "kernel" else row.layer.bias_initializer
            std, limit = _spread(chosen, *fans_of(row))
            n = value.size
            yield Doubt("starting weights", where, abs(float(value.mean())), SURE * std / math.sqrt(n) + 1e-12)
            # The variance of a mean of squares: 2σ⁴/n of normal numbers, 0.8σ⁴/n of uniform ones.
            wide = 2.0 if limit is None or chosen.kind == "flax_default" else 0.8
            spread = abs(float(np.mean(value**2)) - std**2)
            if n >= 64:  # of fewer the sum of squares has a tail that is no normal distribution's
                yield Doubt("starting weights", where, spread, SURE * std**2 * math.sqrt(wide / n) + 1e-12)
            if limit is None:
                continue
            largest = float(np.abs(value).max(initial=0.0))
            yield Doubt("starting weights", where, largest, limit * (1 + 1e-6))
            if n >= 64 and std and chosen.kind != "flax_default":  # uniform: the largest of n is near the limit
                yield Doubt("starting weights", where, 1 - largest / limit, -math.log(CHANCE) / n)


def _streams(start: Arrays) -> Iterator[Doubt]:
    """No two kernels are drawn from the same numbers: their correlation is that of chance."""
    kernels = [(name, value.astype(np.float64).ravel()) for name, value in start.items() if name.endswith("/kernel")]
    for (name, one), (_other, two) in itertools.pairwise(kernels):
        n = min(one.size, two.size)
        if n >= 32 and one[:n].std() and two[:n].std():
            for first, second in ((one[:n], two[:n]), (np.abs(one[:n]), np.abs(two[:n]))):  # signs may be drawn apart
                alike = abs(float(np.corrcoef(first, second)[0, 1]))
                yield Doubt("starting weights", name, alike, SURE / math.sqrt(n))


def _initial(plan: Plan, start: Arrays) -> Iterator[Doubt]:
    """Running means and slots start at 0, running variances at 1, no update has been taken."""
    weights = {name: value.astype(np.float64) for name, value in start.items()}
    for name, value in reference.build(plan, weights, as_trained=False).state().items():
        yield _compared("starting weights", name, value, np.full(value.shape, float("running_variance" in name)), 1.0)


def fans_of(row: LayerFacts) -> tuple[int, int]:
    """(inputs that feed one output, outputs that one input feeds), from the layer's own sizes."""
    if row.layer.kind == "dense":
        return row.input_shape[0], row.output_shape[0]
    window = math.prod(row.layer.kernel)
    return window * row.input_shape[2], window * row.output_shape[2]


def _spread(chosen: Any, fan_in: int, fan_out: int) -> tuple[float, float | None]:
    """(standard deviation, the largest |value| if there is one) of an initializer."""
    family, _underscore, shape = chosen.kind.partition("_")
    variance = {"he": 2 / fan_in, "glorot": 2 / (fan_in + fan_out), "lecun": 1 / fan_in}
    if family in variance:
        std = math.sqrt(variance[family])
        return std, math.sqrt(3) * std if shape == "uniform" else None
    if chosen.kind == "torch_default":
        return 1 / math.sqrt(3 * fan_in), 1 / math.sqrt(fan_in)
    if chosen.kind == "flax_default":
        return 1 / math.sqrt(fan_in), 2 / 0.87962566103423978 / math.sqrt(fan_in)
    if chosen.kind == "normal":
        return chosen.std, None
    if chosen.kind == "uniform":
        return chosen.limit / math.sqrt(3), chosen.limit
    return 0.0, 0.0


def _order(plan: Plan, n: int) -> Iterator[Doubt]:
    """An epoch takes every image once, each epoch in another order."""
    recipe = plan.recipe
    if "order_not_shuffled" in recipe.mistakes or "last_batch_dropped" in recipe.mistakes:
        return
    orders = [data.epoch_order(n, recipe, plan.seed, epoch) for epoch in range(2)]
    for epoch, order in enumerate(orders):
        yield _compared("data", f"order of epoch {epoch + 1}", np.sort(order), np.arange(n))
    same = float((orders[0] == orders[1]).mean())
    yield Doubt("data", "orders of two epochs", same, 0.5 if n > 10 else 1.0)
