"""Every backend computes what the NumPy backend computes: every verb of the contract, every row of the tables.

The reference is checked first, by central differences in `test_numpy_backend.py`. float64 leaves no room: all agree to
about 1e-11 after eight steps. float32 is judged by float64: a backend may be off by a small multiple of what
NumPy's own float32 is off.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lockstep import backends, spec
from lockstep.backends import numpy as numpy_backend
from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.numpy import layers
from support import backend_cases as table
from support.closeness import ROUNDED_CASES, assert_close, assert_products_are_rounded_alike

OTHERS = [name for name in backends.BACKENDS if name != "numpy"]
FLOAT32_FACTOR = 16.0  # of NumPy-float32's own error: another order of summation, at most


@pytest.fixture(scope="session")
def reference():
    """case → what the NumPy backend computes in float64 on one thread."""
    cache: dict[str, dict[str, np.ndarray]] = {}

    def of(name: str, dtype: str = "", threads: int = 1) -> dict[str, np.ndarray]:
        key = f"{name} {dtype} {threads}"
        if key not in cache:
            cache[key] = table.compute("numpy", table.CASES[name], dtype, threads)
        return cache[key]

    return of


ASKED = [(backend, case) for backend in backends.BACKENDS for case in table.asked_of(backend)]
IN_FLOAT64 = [(backend, case) for backend, case in ASKED if table.CASES[case].dtype == "float64"]


@pytest.mark.parametrize(("backend", "case"), IN_FLOAT64)
def test_backend_computes_what_the_reference_computes(backend, case, conformance, reference):
    found = conformance(backend)[case]
    assert not isinstance(found, str), found
    assert_close(found, reference(case))


@pytest.mark.parametrize("backend", list(backends.BACKENDS))
def test_float32_is_as_near_to_float64_as_numpys_own_float32(backend, conformance, reference):
    found, judge = conformance(backend)["float32"], reference("float32", "float64")
    # One order of summation may by luck come out right, so NumPy's own error is the largest of several.
    owns = [reference("float32", threads=slices) for slices in (1, 3, 5)]
    assert not isinstance(found, str), found
    assert found.keys() == judge.keys()
    for name, value in judge.items():
        assert found[name].dtype == owns[0][name].dtype or name.endswith(("step", "loss", "first batch"))
        off = max(np.abs(own[name] - value).max(initial=0.0) for own in owns)
        scale = np.abs(value).max(initial=1e-3)
        allowed = FLOAT32_FACTOR * max(off, np.finfo(np.float32).eps * scale)
        assert np.abs(found[name] - value).max(initial=0.0) <= allowed, name


@pytest.mark.parametrize("case", ROUNDED_CASES)
@pytest.mark.parametrize("backend", list(backends.BACKENDS))
def test_products_round_their_factors_alike(backend, case, conformance, reference):
    found = conformance(backend)[case]
    assert not isinstance(found, str), found
    assert_products_are_rounded_alike(found, reference(case))


@pytest.mark.parametrize("case", ROUNDED_CASES)
def test_products_that_are_not_rounded_are_found(case):
    right = table.CASES[case]
    full = dataclasses.replace(right, recipe=dataclasses.replace(right.recipe, products="full"))
    with pytest.raises(AssertionError, match="off by"):
        assert_products_are_rounded_alike(
            table.compute("numpy", full, threads=1), table.compute("numpy", right, threads=1)
        )


@pytest.mark.parametrize(("backend", "case"), ASKED)
def test_restoring_goes_back_to_where_it_was(backend, case, conformance):
    found = conformance(backend)[case]
    assert not isinstance(found, str), found
    after = {name.partition("|")[2]: value for name, value in found.items() if name.startswith("again|")}
    again = {name.partition("|")[2]: value for name, value in found.items() if name.startswith("and again|")}
    last = f"after epoch {table.CASES[case].recipe.epochs - 1}|"
    for name, value in found.items():
        if name.startswith("restored|"):
            np.testing.assert_array_equal(value, found[last + name.partition("|")[2]])
    for name, value in after.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)


@pytest.mark.parametrize("backend", list(backends.BACKENDS))
def test_every_table_has_a_row_for_everything(backend, conformance):
    assert_complete(conformance(backend)["tables"])


ROWS = {"LAYERS": (*spec.LAYERS, *spec.JOINS), "LOSSES": (*spec.LOSSES, ALL_PAIRS), "OPTIMIZERS": spec.OPTIMIZERS}


def assert_complete(tables):
    """As the backend imported them, in a process of its own."""
    assert tables.keys() == ROWS.keys()
    missing = [f"{name}: {kind}" for name, kinds in ROWS.items() for kind in kinds if kind not in tables[name]]
    assert not missing, f"no row for {missing}"


@pytest.mark.parametrize(
    ("name", "kind"), [("LAYERS", "elu"), ("LAYERS", "concat"), ("LOSSES", ALL_PAIRS), ("OPTIMIZERS", "sgd")]
)
def test_a_row_that_is_missing_is_named(name, kind, monkeypatch):
    monkeypatch.delitem(getattr(numpy_backend, name), kind)
    with pytest.raises(AssertionError, match=f"no row for .*{name}: {kind}"):
        assert_complete(table.rows_of(numpy_backend))


def layers_of(case):
    return {row.layer for row in case.network.facts(case.shape)}


def not_in_chains(rows):
    """Every row of which a framework is asked in chains, with what those lack of its layers and their options.

    Of equal values and black images the convolution only brings them to the layers in question.
    """
    found = {}
    for name, chains in table.IN_CHAINS.items():
        is_carried = chains.startswith(("ties-", "black-"))
        places = (chains,) if is_carried else (chains, "chain-")
        chained = {layer for other, case in rows.items() if other.startswith(places) for layer in layers_of(case)}
        asked = {layer for layer in layers_of(rows[name]) if not (is_carried and layer.kind == "conv2d")}
        if missing := asked - chained - set(table.SMALL.layers):
            found[name] = missing
    return found


def test_chains_have_every_layer_and_option_of_their_rows():
    assert not_in_chains(table.CASES) == {}


@pytest.mark.parametrize(
    "chain", ["chain-activations", "chain-convolutions", "option-chain_of_pools", "ties-max_pools", "black-kinks"]
)
def test_a_chain_that_is_cut_short_is_named(chain):
    case = table.CASES[chain]
    shorter = dataclasses.replace(case, network=table.net("conv2d 4 3", *table.HEAD))
    assert not_in_chains({**table.CASES, chain: shorter})


@pytest.mark.parametrize("chain", [name for name in table.CASES if name.startswith(("chain-", "option-chain_"))])
def test_no_value_of_a_chain_is_too_small_to_be_compared(chain, reference):
    """A tolerance is relative to an array's largest number, or to a thousandth."""
    for name, value in reference(chain).items():
        stage, _, place = name.partition("|")
        if stage in ("gradient", "sent back", "training", "inference") and not place.endswith("/bias"):
            assert np.abs(value).max() > 1e-3, name


def test_every_kind_of_the_spec_has_a_case():
    layers = {layer.kind for case in table.CASES.values() for layer in layers_of(case)}
    assert layers == {*spec.LAYERS, *spec.JOINS}
    for attribute, kinds in (("optimizer", spec.OPTIMIZERS), ("schedule", spec.SCHEDULES)):
        assert {getattr(case.recipe, attribute).kind for case in table.CASES.values()} == set(kinds)
    assert {case.recipe.loss for case in table.CASES.values()} == set(spec.LOSSES)


# ------------------------------------------------------------------------- twins: a planted fault is found, and where


def plants():
    """name → (case with the fault, the case as it should be, the first stage that must differ)."""
    small, sgd = table.CASES["recipe-momentum_cross_entropy"], table.CASES["recipe-l2"]
    batch_norm, leaky = table.CASES["layer-batch_norm"], table.CASES["layer-leaky_relu"]

    def changed(case, recipe=None, network=None):
        return dataclasses.replace(case, recipe=recipe or case.recipe, network=network or case.network)

    return {
        "momentum": (changed(small, table.Recipe("momentum 0.01 0.81", 2, 7)), small, "after epoch 0"),
        "l2 without the half": (changed(sgd, table.Recipe("sgd 0.1", 2, 7, l2=0.6)), sgd, "gradient"),
        "batch-norm epsilon": (
            changed(batch_norm, network=table.net("conv2d 4 3", "batch_norm epsilon=1e-4", *table.HEAD)), batch_norm,
            "inference",
        ),
        "batch-norm momentum": (
            changed(batch_norm, network=table.net("conv2d 4 3", "batch_norm 0.11", *table.HEAD)), batch_norm,
            "after epoch 0",
        ),
        "leaky slope": (
            changed(leaky, network=table.net("conv2d 4 3", "leaky_relu 0.201", *table.HEAD)), leaky, "inference",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("plant", plants())
def test_a_planted_difference_is_found_at_its_stage(plant):
    wrong, right, stage = plants()[plant]
    found, wanted = (table.compute("numpy", case, threads=1) for case in (wrong, right))
    with pytest.raises(AssertionError, match=f"^{stage}") as caught:
        assert_close(found, wanted)
    stages = list(dict.fromkeys(name.partition("|")[0] for name in wanted))
    before = stages[: stages.index(stage)]
    assert not any(line.startswith(f"{name}|") for name in before for line in str(caught.value).splitlines())


def test_a_transposed_kernel_is_found():
    found = table.compute("numpy", table.CASES["layer-dense"], threads=1)
    wanted = dict(found)
    wanted["start|1_dense/kernel"] = wanted["start|1_dense/kernel"].T
    with pytest.raises(AssertionError, match="start"):
        assert_close(found, wanted)


def test_a_missing_parameter_is_found():
    found = table.compute("numpy", table.CASES["layer-dense"], threads=1)
    wanted = {name: value for name, value in found.items() if name != "start|1_dense/bias"}
    with pytest.raises(AssertionError):
        assert_close(found, wanted)


def test_giving_the_gradient_to_the_last_of_several_maxima_is_found(monkeypatch):
    case = table.CASES["ties-max_pool2d"]
    wanted = table.compute("numpy", case, threads=1)
    places = layers.places
    monkeypatch.setattr(
        layers, "places",
        lambda row: reversed(list(places(row))) if row.layer.kind == "max_pool2d" else places(row),
    )  # fmt: skip
    with pytest.raises(AssertionError, match="sent back"):
        assert_close(table.compute("numpy", case, threads=1), wanted)


def test_a_study_that_names_no_backends_means_all_of_them():
    study = spec.Study(networks={"one": table.SMALL})
    assert study.backends == tuple(backends.BACKENDS)
