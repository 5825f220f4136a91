"""Records: three ways to write one thing, every shape counted again by hand, every error at once and in its place."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lockstep import LockstepError, Network, Problem, Recipe, Study, parse_study, spec
from lockstep.spec import (
    Adam,
    Augmentation,
    Conv2D,
    Cosine,
    Dense,
    Dropout,
    EarlyStopping,
    Flatten,
    GlobalAvgPool,
    MaxPool2D,
    Normal,
    OneCycle,
    ReLU,
    StepDecay,
)
from lockstep.spec.records import changed, to_table
from support.strategies import LAYERS, NETWORKS, RECIPES, any_of

QUICK = settings(max_examples=80, deadline=None)

# ------------------------------------------------------------------------------------------ any record, by its fields


def short_form(record) -> str:
    """What a person would type for a record: its kind and every value by its name."""
    words = [record.kind]
    for name in (field.name for field in dataclasses.fields(record)):
        value = getattr(record, name)
        if name != "kind" and value is not None:
            words.append(f"{name}={_typed(value)}")
    return " ".join(words)


def _typed(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return f"'{short_form(value)}'" if hasattr(value, "kind") else str(value)


def validated(cls, value):
    return TypeAdapter(cls).validate_python(value)


# ----------------------------------------------------------------------------------------------------------- one-to-one


@QUICK
@given(NETWORKS)
def test_a_network_is_its_table(network):
    assert validated(Network, to_table(network)) == network


@QUICK
@given(RECIPES)
def test_a_recipe_is_its_table(recipe):
    assert validated(Recipe, to_table(recipe)) == recipe


@QUICK
@given(st.lists(LAYERS, min_size=1, max_size=4))
def test_a_short_form_is_its_record(layers):
    assert Network([short_form(layer) for layer in layers]) == Network(tuple(layers))


@QUICK
@given(any_of(spec.OPTIMIZERS), any_of(spec.SCHEDULES))
def test_an_optimizer_and_a_schedule_are_their_short_forms(optimizer, schedule):
    assert Recipe(short_form(optimizer), schedule=short_form(schedule)) == Recipe(optimizer, schedule=schedule)


@pytest.mark.parametrize("kind", spec.LAYERS)
def test_every_layer_differs_from_every_other_in_its_table(kind):
    record = spec.LAYERS[kind](*[3] * sum(name in ("filters", "units", "kernel") for name in _fields(kind)))
    assert to_table(record)["kind"] == kind
    others = [name for name in spec.LAYERS if name != kind]
    assert all(to_table(record) != {**to_table(record), "kind": other} for other in others)


def _fields(kind):
    return [field.name for field in dataclasses.fields(spec.LAYERS[kind])]


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("conv2d 20 5", Conv2D(20, 5)),
        ("conv2d 20 [5, 3] 2 same", Conv2D(20, (5, 3), (2, 2), "same")),
        ("conv2d 20 kernel=[5,3] bias=false", Conv2D(20, (5, 3), bias=False)),
        ("conv2d kernel=3 filters=4", Conv2D(4, 3)),
        ("max_pool2d", MaxPool2D((2, 2))),
        ("max_pool2d 3 [1, 2]", MaxPool2D(3, (1, 2))),
        ("dense 10 initializer='normal 0.3'", Dense(10, initializer=Normal(0.3))),
        ('dense 10 initializer="normal std=0.3"', Dense(10, initializer=Normal(0.3))),
        ("dense 10 bias_initializer=torch_default", Dense(10, bias_initializer=spec.TorchDefault())),
        ("  dropout   0.25 ", Dropout(0.25)),
        ("dropout", Dropout(0.5)),
    ],
)
def test_short_forms_mean_what_they_say(text, record):
    assert Network([text]).layers == (record,)


def test_the_three_ways_to_write_a_study_are_one():
    toml = parse_study("""
        name = "three"
        dataset = "mnist"
        seeds = [0, 1]
        [recipe]
        optimizer = "adam 0.01"
        epochs = 3
        [recipe.augmentation]
        shift = 2
        [networks]
        short = ["conv2d 8 [5, 3]", "relu", "flatten", "dense 10"]
        [networks.table]
        initializer = {kind = "normal", std = 0.1}
        layers = [{kind = "flatten"}, {kind = "dense", units = 10, bias = false}]
    """)
    python = Study(
        {
            "short": Network((Conv2D(8, (5, 3)), ReLU(), Flatten(), Dense(10))),
            "table": Network((Flatten(), Dense(10, bias=False)), Normal(0.1)),
        },
        "mnist", seeds=(0, 1), recipe=Recipe(Adam(0.01), 3, augmentation=Augmentation(2)), name="three",
    )  # fmt: skip
    assert toml == python
    assert toml != changed(python, seeds=(0, 2))


# --------------------------------------------------------------------------------------------------------------- shapes


ACTIVATIONS = ("relu", "leaky_relu", "elu", "tanh", "sigmoid", "softplus", "silu", "gelu")
KEEPING = (*ACTIVATIONS, "dropout", "batch_norm", "layer_norm")  # the shape of what comes in


def windows_by_hand(size: int, kernel: int, stride: int, padding: str) -> list[set[int]]:
    """Which pixels of one axis each window covers, by walking: outputs ⌈n/stride⌉ under `same`, odd zero last."""
    if padding == "valid":
        return [set(range(start, start + kernel)) for start in range(0, size, stride) if start + kernel <= size]
    starts = range(0, size, stride)
    needed = max(starts[-1] + kernel - size, 0)
    return [{start - needed // 2 + k for k in range(kernel)} & set(range(size)) for start in starts]


SLIDING = st.sampled_from(
    ["conv2d 3 {0} {1} {2}", "depthwise {0} {1} {2}", "max_pool2d {0} {1} {2}", "avg_pool2d {0} {1} {2}"]
)


@settings(max_examples=150, deadline=None)
@given(
    SLIDING, st.tuples(st.integers(1, 17), st.integers(1, 17)), st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)), st.sampled_from(["valid", "same"]),
)  # fmt: skip
def test_a_sliding_layers_shape_is_the_number_of_windows(form, size, kernel, stride, padding):
    network = Network([form.format(list(kernel), list(stride), padding)])
    counts = [len(windows_by_hand(*axis, padding)) for axis in zip(size, kernel, stride, strict=True)]
    if 0 in counts:
        with pytest.raises(LockstepError, match="window is larger than its input") as raised:
            network.facts((*size, 2))
        assert raised.value.code == "LS-206"
        return
    (row,) = network.facts((*size, 2))
    assert row.output_shape == (*counts, 3 if row.layer.kind == "conv2d" else 2)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 7))
def test_same_padding_is_the_least_that_reaches_and_the_odd_zero_comes_last(size, kernel, stride):
    before, after = spec.same_padding(size, kernel, stride)
    outputs = math.ceil(size / stride)
    assert after - before in (0, 1)
    covered = (outputs - 1) * stride + kernel
    assert before + after == max(covered - size, 0)


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (Flatten(), (5, 7, 3), (105,)),
        (Flatten(), (9,), (9,)),
        (GlobalAvgPool(), (5, 7, 3), (3,)),
        (Dense(11), (9,), (11,)),
        *[(spec.LAYERS[kind](), shape, shape) for kind in KEEPING for shape in ((5, 7, 3), (13,))],
    ],
)
def test_other_layers_shapes(layer, shape, wanted):
    assert layer.output_shape(shape) == wanted


def test_every_layer_has_a_shape_test():
    sliding = {"conv2d", "depthwise", "max_pool2d", "avg_pool2d"}
    other = {"flatten", "global_avg_pool", "dense", *KEEPING}
    assert sliding | other == set(spec.LAYERS)


@pytest.mark.parametrize(
    ("layers", "index", "words"),
    [
        (["conv2d 4 3", "max_pool2d", "conv2d 5 [3, 12]"], 2, ["conv2d", "3×12 window", "4×5", "smaller"]),
        (["max_pool2d 12"], 0, ["max_pool2d", "12×12", "11×13", "padding same"]),
        (["conv2d 4 3", "dense 5"], 1, ["dense", "(9, 11, 4)", "put flatten before it"]),
        (["flatten", "conv2d 4 3"], 1, ["conv2d", "(429,)", "flat", "(height, width, channels)"]),
        (["flatten", "relu", "global_avg_pool"], 2, ["global_avg_pool", "(429,)"]),
        (["flatten", "avg_pool2d"], 1, ["avg_pool2d", "(429,)"]),
        (["conv2d 1 3", "layer_norm"], 1, ["layer_norm", "one number", "more channels"]),
        (["flatten", "dense 1", "layer_norm over=example"], 2, ["layer_norm", "one number"]),
    ],
)
def test_a_shape_error_names_the_layer_its_input_and_why(layers, index, words):
    with pytest.raises(LockstepError) as raised:
        Network(layers).facts((11, 13, 3))
    (problem,) = raised.value.problems
    assert problem.code == "LS-206"
    assert problem.where == f"layers[{index}]"
    assert f"layer {index} " in problem.message
    for word in words:
        assert word in problem.message


# --------------------------------------------------------------------------- parameters, multiply-adds, receptive field

MLP = Network(["flatten", "dense 100", "relu", "dense 100", "relu", "dense 100", "relu", "dense 10"])
CNN = Network(
    ["conv2d 20 5", "relu", "max_pool2d 2", "conv2d 50 5", "relu", "max_pool2d 2", "flatten", "dense 500", "relu",
     "dense 10"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("network", "parameters", "products"), [(MLP, 99_710, 99_400), (CNN, 431_080, 2_293_000)], ids=["mlp", "cnn"]
)
def test_the_lab_networks_have_the_numbers_of_the_literature(network, parameters, products):
    summary = network.summary((28, 28, 1))
    assert (summary["parameters"], summary["multiply_adds"]) == (parameters, products)
    assert sum(row["parameters"] for row in summary["network"]) == parameters


@pytest.mark.parametrize(
    "text",
    ["conv2d 4 [3, 2]", "conv2d 4 [3, 2] [2, 3]", "conv2d 4 [3, 2] [2, 3] same bias=false", "dense 7", "dense 7 false"],
)
def test_multiply_adds_and_parameters_are_counted_one_by_one(text):
    is_image = text.startswith("conv")
    row = Network([text] if is_image else ["flatten", text]).facts((7, 5, 3) if is_image else (7, 5, 1))[-1]
    if is_image:
        outputs = itertools.product(*map(range, row.output_shape))
        count = sum(1 for _ in outputs for _ in itertools.product(range(3), range(2), range(3)))
        parameters = 3 * 2 * 3 * 4 + 4 * row.layer.bias
    else:
        count, parameters = sum(1 for _ in itertools.product(range(35), range(7))), 35 * 7 + 7 * row.layer.bias
    assert row.multiply_adds == count
    assert row.parameters == parameters


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", "layer_norm over=example"])
def test_a_normalisation_learns_a_scale_and_a_shift_for_each_channel(norm):
    (image, _, flat) = Network([norm, "flatten", norm]).facts((5, 7, 3))
    assert (image.parameters, flat.parameters) == (6, 210)
    assert image.multiply_adds == flat.multiply_adds == 0


WINDOW = st.tuples(st.sampled_from(["conv2d 2", "max_pool2d", "avg_pool2d"]), st.integers(1, 5), st.integers(1, 3))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(WINDOW, st.sampled_from(["valid", "same"])), min_size=1, max_size=4))
def test_the_receptive_field_is_what_one_output_can_see(layers):
    """Followed pixel by pixel, along one axis of an image so wide that its borders do not count."""
    size = 300
    texts = [f"{form} [{k}, {k + 1}] [{s}, 1] {padding}" for (form, k, s), padding in layers]
    rows = Network([*texts, "relu"]).facts((size, size, 1))
    seen: list[set[int]] = [{pixel} for pixel in range(size)]
    for ((_, kernel, stride), padding), row in zip(layers, rows[:-1], strict=True):
        seen = [
            set().union(*(seen[i] for i in window)) for window in windows_by_hand(len(seen), kernel, stride, padding)
        ]
        middle = seen[len(seen) // 2]
        assert row.receptive_field[0] == max(middle) - min(middle) + 1
    assert rows[-1].receptive_field == rows[-2].receptive_field


def test_the_receptive_field_of_the_lab_network():
    fields = [row.receptive_field for row in CNN.facts((28, 28, 1))]
    assert fields == [(5, 5), (5, 5), (6, 6), (14, 14), (14, 14), (16, 16), *[(28, 28)] * 4]


def test_the_receptive_field_never_exceeds_the_image():
    assert Network(["conv2d 1 9 padding=same"]).facts((5, 7, 1))[0].receptive_field == (5, 7)


def test_facts_carry_canonical_names():
    assert [row.name for row in Network(["conv2d 2 3", "relu", "flatten", "dense 10"]).facts((5, 5, 1))] == [
        "0_conv2d", "1_relu", "2_flatten", "3_dense",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ schedules


def test_schedules_at_their_landmarks():
    assert spec.Constant().factor(0.7, 9) == 1
    assert [StepDecay(3, 0.5).factor(0, epoch) for epoch in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    cosine = Cosine(0.2)
    assert cosine.factor(0, 0) == 1
    assert cosine.factor(0.5, 0) == pytest.approx(0.6)
    assert cosine.factor(1, 0) == pytest.approx(0.2)
    one = OneCycle(0.25, 0.1, 0.01)
    assert one.factor(0, 0) == pytest.approx(0.1)
    assert one.factor(0.125, 0) == pytest.approx(0.55)
    assert one.factor(0.25, 0) == pytest.approx(1)
    assert one.factor(0.625, 0) == pytest.approx(0.505)
    assert one.factor(1, 0) == pytest.approx(0.01)
    assert one.factor(0.24, 0) < 1 > one.factor(0.26, 0)


# --------------------------------------------------------------------------------------------------------------- errors


def problems(function) -> tuple[Problem, ...]:
    with pytest.raises(LockstepError) as raised:
        function()
    return raised.value.problems


# One row per way to be wrong: (what is made, code, where, words of the message or the hint)
WRONG = {
    "unknown key": (lambda: Recipe(epoch=3), "LS-203", "epoch", ['did you mean "epochs"?']),
    "unknown key of a layer": (
        lambda: Network([{"kind": "dense", "unit": 3, "units": 4}]), "LS-203", "layers[0].unit", ['mean "units"?'],
    ),
    "unknown key of an initializer": (
        lambda: Network(["flatten", {"kind": "dense", "units": 3, "initializer": {"kind": "normal", "sdt": 1.0}}]),
        "LS-203", "layers[1].initializer.sdt", ['mean "std"?'],
    ),
    "unknown kind": (lambda: Network(["con2d 3 3"]), "LS-205", "layers[0]", ['"con2d"', 'did you mean "conv2d"?']),
    "unknown kind in a table": (
        lambda: Recipe({"kind": "adm"}), "LS-209", "optimizer", ['"adm"', 'did you mean "adam"?'],
    ),
    "no kind": (lambda: Network([{"units": 3}]), "LS-208", "layers[0]", ["kind"]),
    "required": (lambda: Network(["dense"]), "LS-208", "layers[0].units", ["required"]),
    "too many values": (
        lambda: Network(["dropout 0.1 0.2"]), "LS-205", "layers[0]", ["at most 1 values (rate)", "got 2"],
    ),
    "twice": (lambda: Network(["dense 3 units=3"]), "LS-205", "layers[0]", ['"units" is given twice']),
    "a text for a number": (lambda: Network(["dense ten"]), "LS-204", "layers[0].units", ["'ten'", "whole number"]),
    "a quoted number": (lambda: Network(['dense "10"']), "LS-204", "layers[0].units", ["'10'", "whole number"]),
    "a fraction for a whole number": (lambda: Recipe(epochs=2.5), "LS-204", "epochs", ["2.5", "whole number"]),
    "true for a number": (lambda: Recipe(epochs=True), "LS-204", "epochs", ["True", "whole number"]),
    "one for true": (lambda: Dense(3, 1), "LS-204", "bias", ["1", "true or false"]),
    "a text for a list": (lambda: Study({"a": ["relu"]}, backends=3), "LS-204", "backends[0]", ["3", "a text"]),
    "a negative rate": (lambda: Adam(-0.1), "LS-205", "learning_rate", ["-0.1", "above 0"]),
    "a rate of zero": (lambda: Adam(0.0), "LS-205", "learning_rate", ["above 0"]),
    "a rate that is no number": (lambda: Adam(math.nan), "LS-204", "learning_rate", ["nan", "finite"]),
    "an endless rate": (lambda: Adam(math.inf), "LS-204", "learning_rate", ["inf", "finite"]),
    "all dropped": (lambda: Dropout(1.0), "LS-205", "rate", ["1.0", "below 1"]),
    "no epochs": (lambda: Recipe(epochs=0), "LS-205", "epochs", ["at least 1"]),
    "too many epochs": (lambda: Recipe(epochs=10**6), "LS-205", "epochs", ["at most 100000"]),
    "no filters": (lambda: Conv2D(0, 3), "LS-205", "filters", ["at least 1"]),
    "a kernel of three": (lambda: Conv2D(4, (3, 3, 3)), "LS-204", "kernel", ["(3, 3, 3)"]),
    "half a pixel": (lambda: Conv2D(4, 3, (1, 0.5)), "LS-204", "stride[1]", ["0.5", "whole number"]),
    "another padding": (lambda: Conv2D(4, 3, padding="full"), "LS-205", "padding", ["'full'", "'same_lower'"]),
    "another loss": (lambda: Recipe(loss="hinge"), "LS-205", "loss", ["'hinge'", "'cross_entropy'"]),
    "no layers": (lambda: Network([]), "LS-205", "layers", ["empty"]),
    "no networks": (lambda: Study({}), "LS-205", "networks", ["empty"]),
    "no seeds": (lambda: Study({"a": ["relu"]}, seeds=[]), "LS-205", "seeds", ["empty"]),
    "a negative seed": (lambda: Study({"a": ["relu"]}, seeds=[0, -1]), "LS-205", "seeds[1]", ["at least 0"]),
    "a seed too large": (lambda: Study({"a": ["relu"]}, seeds=2**63), "LS-205", "seeds[0]", ["below"]),
    "a backend twice": (lambda: Study({"a": ["relu"]}, backends=["jax", "jax"]), "LS-205", "backends", ["twice"]),
    "another dtype": (lambda: Study({"a": ["relu"]}, dtype="float16"), "LS-205", "dtype[0]", ["'float16'"]),
    "a name with a slash": (lambda: Study({"a": ["relu"]}, name="../x"), "LS-205", "name", ["'../x'", "letters"]),
    "a rotation too far": (lambda: Augmentation(rotation=181.0), "LS-205", "rotation", ["at most 180"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_told_with_its_place_and_its_range(name):
    make, code, where, words = WRONG[name]
    (problem,) = problems(make)
    assert (problem.code, problem.where) == (code, where), problem
    for word in words:
        assert word in f"{problem.message} {problem.hint}"


def test_all_errors_come_at_once():
    found = problems(
        lambda: Study(
            {"a": {"layers": ["dense 0", "con2d", {"kind": "dropout", "rate": 2.0}], "initialiser": "zeros"}},
            recipe={"epochs": -1, "optimizer": {"kind": "sgd", "learning_rate": -1.0}, "batchsize": 3},
            seeds=["a"], sseds=1,
        )
    )  # fmt: skip
    assert {problem.where for problem in found} == {
        "networks.a.layers[0].units", "networks.a.layers[1]", "networks.a.layers[2].rate", "networks.a.initialiser",
        "recipe.epochs", "recipe.optimizer.learning_rate", "recipe.batchsize", "seeds[0]", "sseds",
    }  # fmt: skip
    hints = {problem.where: problem.hint for problem in found}
    assert hints["networks.a.initialiser"] == 'did you mean "initializer"? for example: initializer = "he_normal"'
    assert hints["recipe.batchsize"] == 'did you mean "batch_size"? for example: batch_size = 128'
    assert hints["sseds"] == 'did you mean "seeds"? for example: seeds = 0'


@pytest.mark.parametrize("name", ["dense", "conv2d", "normal"])
def test_a_network_may_be_called_like_a_layer(name):
    (problem,) = problems(lambda: Study({name: ["dense 0"]}))
    assert problem.where == f"networks.{name}.layers[0].units"


def test_an_enormous_number_is_refused_like_any_other():
    (problem,) = problems(lambda: Recipe(epochs=10**5000))
    assert problem.where == "epochs"


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([*spec.LAYERS]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["kind", "units", "layers", "a", "initializer"]), inner, max_size=3)
        ),
        max_leaves=9,
    )
)
def test_nothing_that_is_given_for_a_network_or_a_recipe_leads_to_another_error(value):
    for make in (
        lambda: Network(value),
        lambda: Study({"a": value}),
        lambda: Study({"a": ["relu"]}, recipe=value),
        lambda: Recipe(optimizer=value),
        lambda: Study({"a": ["relu"]}, grid={"optimizer": value}).runs(),
        lambda: Study(value),
    ):
        codes = set()
        try:
            make()
        except LockstepError as error:
            codes = {problem.code for problem in error.problems}
        assert codes <= set(spec_codes())


def spec_codes():
    from lockstep.errors import CODES

    return CODES


def test_codes_give_exit_codes_of_the_command_line():
    assert {LockstepError(code, "x").exit_code for code in spec_codes()} == {2, 3, 4, 5}


# ---------------------------------------------------------------------------------------------------------------- grids


def test_a_study_is_every_combination_once_with_backends_varying_fastest():
    study = Study(
        {"a": ["flatten", "dense 10"], "b": ["flatten", "dense 5", "dense 10"]}, ("digits", "mnist"),
        ("numpy", "jax", "torch"), (3, 5), ("float32", "float64"),
        grid={"optimizer.learning_rate": (0.1, 0.2), "epochs": (1, 2, 3)}, train_size=7, name="n", device="cuda",
    )  # fmt: skip
    runs = study.runs()
    assert len(runs) == 2 * 2 * 3 * 2 * 2 * 2 * 3
    found = [
        (run.dataset, run.network_name, run.recipe.optimizer.learning_rate, run.recipe.epochs, run.dtype, run.seed,
         run.backend)
        for run in runs
    ]  # fmt: skip
    assert found == list(
        itertools.product(
            ("digits", "mnist"), ("a", "b"), (0.1, 0.2), (1, 2, 3), ("float32", "float64"), (3, 5),
            ("numpy", "jax", "torch"),
        )
    )  # fmt: skip
    for run in runs:
        assert run.network == study.networks[run.network_name]
        assert run.grid == {"optimizer.learning_rate": run.recipe.optimizer.learning_rate, "epochs": run.recipe.epochs}
        assert (run.train_size, run.device, run.study) == (7, "cuda", "n")


def test_a_part_of_a_grid_is_set_after_its_whole():
    grid = {"optimizer.learning_rate": (0.5,), "optimizer": ("sgd", "adam 0.1")}
    optimizers = [run.recipe.optimizer for run in Study({"a": ["relu"]}, backends="jax", grid=grid).runs()]
    assert optimizers == [spec.SGD(0.5), Adam(0.5)]


def test_a_grid_changes_nothing_that_it_does_not_name():
    base = Recipe("momentum 0.3 0.7", 4, 9, augmentation=Augmentation(2), early_stopping=EarlyStopping())
    (run,) = Study({"a": ["relu"]}, backends="jax", recipe=base, grid={"optimizer.momentum": 0.8}).runs()
    assert to_table(run.recipe) == {**to_table(base), "optimizer": {**to_table(base)["optimizer"], "momentum": 0.8}}


@pytest.mark.parametrize(
    ("grid", "code", "where", "word"),
    [
        ({"epochs": [1, 0]}, "LS-205", "epochs", "at least 1"),
        ({"epoch": [1]}, "LS-203", "epoch", '"epochs"'),
        ({"optimizer.learning_rat": [1.0]}, "LS-203", "optimizer.learning_rat", '"learning_rate"'),
        ({"optimizer": ["adm"]}, "LS-205", "optimizer", '"adam"'),
    ],
)
def test_a_wrong_grid_names_its_key(grid, code, where, word):
    (problem,) = problems(lambda: Study({"a": ["relu"]}, grid=grid).runs())
    assert problem.code == code
    assert where in problem.where
    assert word in f"{problem.message} {problem.hint}"


def test_a_grid_value_given_twice_or_not_at_all_is_refused():
    assert "twice" in problems(lambda: Study({"a": ["relu"]}, grid={"epochs": [1, 2, 1]}))[0].message
    assert "empty" in problems(lambda: Study({"a": ["relu"]}, grid={"epochs": []}))[0].message


def test_a_grid_key_that_leads_through_a_number_is_refused():
    problems(lambda: Study({"a": ["relu"]}, grid={"optimizer.learning_rate.x": [1.0]}).runs())
