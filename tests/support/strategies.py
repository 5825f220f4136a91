"""Networks, recipes and studies as Hypothesis draws them."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from lockstep import Network, Recipe, Study, spec
from lockstep.spec import Augmentation, Conv2D, Depthwise, EarlyStopping

COUNTS = st.integers(1, 1_000_000)
POSITIVE = st.floats(1e-300, 1e300)
NOT_NEGATIVE = st.just(0.0) | POSITIVE
BELOW_ONE = st.floats(0, 1, exclude_max=True)
BETWEEN = st.floats(0, 1, exclude_min=True, exclude_max=True)
PAIRS = st.tuples(COUNTS, COUNTS)
# One row per field; a field without a row fails by name.
FIELDS = {
    "std": POSITIVE, "limit": POSITIVE, "filters": COUNTS, "units": COUNTS, "kernel": PAIRS, "size": PAIRS,
    "stride": PAIRS, "padding": st.sampled_from(["valid", "same", "same_lower"]), "bias": st.booleans(),
    "momentum": BETWEEN, "epsilon": POSITIVE, "rate": BELOW_ONE, "slope": NOT_NEGATIVE, "alpha": POSITIVE,
    "learning_rate": POSITIVE, "beta1": BELOW_ONE, "beta2": BELOW_ONE, "weight_decay": NOT_NEGATIVE, "rho": BELOW_ONE,
    "every": COUNTS, "factor_per_drop": BETWEEN, "final": NOT_NEGATIVE, "warm_up": BETWEEN, "start": NOT_NEGATIVE,
    "ties": st.sampled_from(["first", "shared"]), "count_padding": st.booleans(),
    "order": st.sampled_from(["hwc", "chw"]), "over": st.sampled_from(["channels", "example"]),
    "running_variance": st.sampled_from(["unbiased", "biased"]), "form": st.sampled_from(["buffer", "velocity"]),
    "epsilon_mode": st.sampled_from(["outside", "hat"]),
    "initializer": st.deferred(lambda: INITIALIZERS), "bias_initializer": st.deferred(lambda: INITIALIZERS),
}  # fmt: skip
OWN_FIELDS = {  # the same name with other values
    ("gelu", "form"): st.sampled_from(["exact", "tanh"]),
    ("rmsprop", "epsilon_mode"): st.sampled_from(["outside", "inside"]),
}


def any_of(table):
    """A record of any kind of a family; a field that may be left out is, sometimes."""
    return st.one_of(*map(_any, table.values()))


def _any(cls):
    names = [field.name for field in dataclasses.fields(cls) if field.name != "kind"]
    required = {
        name: FIELDS[name]
        for name in names
        if name in ("filters", "units") or (cls in (Conv2D, Depthwise) and name == "kernel")
    }
    kind = next(field.default for field in dataclasses.fields(cls) if field.name == "kind")
    rows = {name: OWN_FIELDS[kind, name] if (kind, name) in OWN_FIELDS else FIELDS[name] for name in names}
    optional = {name: row for name, row in rows.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: cls(**values))


INITIALIZERS = any_of(spec.INITIALIZERS)
LAYERS = any_of(spec.LAYERS)
NETWORKS = st.builds(Network, st.lists(LAYERS, min_size=1, max_size=5).map(tuple), INITIALIZERS)
RECIPES = st.builds(
    Recipe,
    optimizer=any_of(spec.OPTIMIZERS), epochs=st.integers(1, 100_000), batch_size=COUNTS,
    loss=st.sampled_from(spec.LOSSES), schedule=any_of(spec.SCHEDULES), label_smoothing=BELOW_ONE, l2=NOT_NEGATIVE,
    clip_norm=st.none() | POSITIVE, validation=BELOW_ONE, scaling=st.sampled_from(["unit", "standard"]),
    loss_reduction=st.sampled_from(["mean", "sum"]), clip_scope=st.sampled_from(["all", "tensor"]),
    products=st.sampled_from(["full", "tf32", "bfloat16"]),
    mistakes=st.lists(st.sampled_from(sorted(spec.MISTAKES)), max_size=3, unique=True).map(tuple),
    augmentation=st.builds(Augmentation, st.integers(0, 1000), st.floats(0, 180), st.booleans()),
    early_stopping=st.none() | st.builds(
        EarlyStopping, st.sampled_from(["validation_loss", "validation_accuracy"]), COUNTS, NOT_NEGATIVE, st.booleans()
    ),
)  # fmt: skip
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
STUDIES = st.builds(
    Study, st.dictionaries(NAMES, NETWORKS, min_size=1, max_size=3), recipe=RECIPES, name=NAMES,
    dataset=st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=2, unique=True).map(tuple),
    seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3, unique=True).map(tuple),
    dtype=st.sampled_from([("float32",), ("float64", "float32")]), question=st.text(max_size=30),
    train_size=st.none() | COUNTS, device=st.sampled_from(["cpu", "cuda"]),
    grid=st.sampled_from(
        [{}, {"epochs": (1, 2)}, {"optimizer.learning_rate": (0.1, 0.2), "optimizer": ("sgd", "adam")}]
    ),
)  # fmt: skip
