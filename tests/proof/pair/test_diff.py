"""Two models of people's own: what is equal is found equal, and what was planted is found, placed, named and mended."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cases import cases, plants
from cases.processes import kept
from lockstep import LockstepError
from lockstep.exchange.models.records import Call, Trace, Unit, Where
from lockstep.proof.pair import alignment, alternatives, client, difference, mapping, rewrites
from lockstep.store.documents.part import but
from support.needs import need_backend

NET = """\
import torch, torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.b1 = nn.BatchNorm2d(4)
        self.c2 = nn.Conv2d(4, 6, 3, padding=1)
        self.b2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6 * 14 * 14, 10)

    def forward(self, x):
        x = F.relu(self.b1(self.c1(x)))
        x = F.gelu(self.b2(self.c2(x)))
        return self.fc(x.flatten(1))
"""
# The same network by another hand: other names, another order of making, a container, and five differences.
PORT = """\
import torch, torch.nn.functional as F
from torch import nn


class Port(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6 * 14 * 14, 10)
        self.norm = nn.BatchNorm2d(6, 1e-3, momentum=0.01)
        self.stem = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4, eps=1e-3),
            nn.ReLU(),
        )
        self.body = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        x = self.norm(self.body(self.stem(x)))
        x = F.gelu(x, approximate="tanh")
        return self.out(x.permute(0, 2, 3, 1).flatten(1))
"""


@pytest.fixture(scope="module", autouse=True)
def processes():
    """Of all sides here, kept from one comparison to the next."""
    with kept():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    need_backend("torch")
    folder = tmp_path_factory.mktemp("models")
    (folder / "net.py").write_text(NET)
    (folder / "port.py").write_text(PORT)
    return folder


@pytest.fixture(scope="module")
def found(files):
    return difference.compare(f"{files}/net.py:Net", f"{files}/port.py:Port")


def test_a_model_is_equal_to_itself_and_says_what_was_not_looked_at(files):
    same = difference.compare(f"{files}/net.py:Net", f"{files}/net.py:Net")
    assert (same.verdict, same.findings, same.left) == ("EQUAL", (), ((), ()))
    assert same.n_matched == same.n_tensors > 5
    assert any("optimizer" in what for what in same.not_observed)
    assert not any("gradients" in what for what in same.not_observed), "all were compared"


def test_every_planted_difference_is_found_at_its_places_and_no_other(found):
    assert found.verdict == "DIVERGED"
    assert [(finding.meaning, len(finding.places)) for finding in found.findings] == [
        ("epsilon", 2), ("exact", 1), ("flatten", 1), ("momentum", 1),
    ]  # fmt: skip
    epsilon = found.findings[0]
    assert (epsilon.a, epsilon.b) == (1e-5, 1e-3)
    assert [(spot.a, spot.b) for spot in epsilon.places] == [("b1", "stem.1"), ("b2", "norm")]
    assert epsilon.off > 1e-4 > 1e-12 > epsilon.error


def test_all_units_are_paired_whatever_they_are_called(found):
    pairs = dict(found.pairs)
    assert pairs["c1.weight"] == "stem.0.weight"
    assert pairs["b2.running_var"] == "norm.running_var"
    assert found.left == ((), ())


def test_with_the_remedies_written_into_the_file_what_they_mend_is_gone(found, files, tmp_path):
    shutil.copy(files / "net.py", tmp_path)
    mended = Path(shutil.copy(files / "port.py", tmp_path))
    told = [remedy for finding in found.findings for remedy in finding.remedies]
    assert [remedy.after for remedy in told] == [
        "nn.BatchNorm2d(4, eps=1e-05),", "self.norm = nn.BatchNorm2d(6, 1e-05, momentum=0.01)",
        "x = F.gelu(x, approximate='none')", "return self.out(x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).flatten(1))",
        "self.norm = nn.BatchNorm2d(6, 0.001, momentum=0.1)",
    ]  # fmt: skip
    for remedy in told[:4]:
        rewrites.written(remedy, mended)
    text = mended.read_text().replace("momentum=0.01", "momentum=0.1")  # the fifth, of a line that is mended already
    mended.write_text(text)
    assert found.closing.verdict == "EQUAL"
    assert difference.compare(f"{tmp_path}/net.py:Net", f"{mended}:Port").equal


def test_what_nothing_explains_is_said_and_gets_no_name(files, tmp_path):
    odd = NET.replace("F.relu(self.b1(self.c1(x)))", "torch.where(self.b1(self.c1(x)) > 0.3, x.mean(), x.std())")
    (tmp_path / "odd.py").write_text(odd)
    told = difference.compare(f"{files}/net.py:Net", f"{tmp_path}/odd.py:Net")
    assert (told.verdict, [finding.cause for finding in told.findings]) == ("DIVERGED", [""])
    assert told.findings[0].places[0].line_b.startswith("odd.py:15")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("net.py", "LS-200", "no name behind the file"),
        ("absent.py:Net", "LS-200", "there is no such file"),
        ("net.py:Nett", "LS-209", 'did you mean "Net"?'),
        ("broken.py:Net", "LS-205", "broken.py:1"),
        ("needs.py:Net", "LS-205", "needs width"),
        ("raises.py:Net", "LS-403", "raises.py:5"),
        ("plain.py:Net", "LS-205", "it imports none of"),
        ("leaves.py:Net", "LS-403", "SystemExit"),
    ],
)
def test_what_cannot_be_compared_is_told_with_its_line(text, code, words, files):
    (files / "broken.py").write_text("def (:\n")
    (files / "needs.py").write_text("import torch\ndef Net(width):\n    return torch.nn.Linear(width, 2)\n")
    (files / "raises.py").write_text("import torch\n\n\ndef Net():\n    raise ValueError('mine')\n")
    (files / "plain.py").write_text("def Net():\n    return 1\n")
    (files / "leaves.py").write_text("import sys, torch\n\n\ndef Net():\n    sys.exit(3)\n")
    with pytest.raises(LockstepError) as error:
        difference.compare(f"{files}/{text}", f"{files}/net.py:Net")
    assert error.value.code == code
    assert words in str(error.value)


def test_a_pair_of_names_that_there_are_not_is_told(files):
    with pytest.raises(LockstepError, match=r"LS-209 --map: \"nope\" is no parameter"):
        difference.compare(f"{files}/net.py:Net", f"{files}/net.py:Net", given=[("nope", "c1.weight")])


def test_gradients_that_could_not_be_compared_are_said(files, monkeypatch):
    monkeypatch.setattr(alignment, "order", lambda *_: None)
    told = difference.compare(f"{files}/net.py:Net", f"{files}/net.py:Net")
    assert any("only 0 of" in str(what) for what in told.not_observed)


def test_a_model_that_hangs_is_ended(files, monkeypatch):
    (files / "hangs.py").write_text("import time, torch\n\n\ndef Net():\n    time.sleep(600)\n")
    monkeypatch.setattr(client, "SECONDS", 8)
    with pytest.raises(LockstepError, match=r"LS-402 .*no answer within 8 s"):
        difference.compare(f"{files}/hangs.py:Net", f"{files}/net.py:Net")


# -------------------------------------------------------------------------------------------------- without a framework


def call(index, takes, gives, units=(), kind="dense"):
    named = {f"kernel.{place}" if place else "kernel": name for place, name in enumerate(units)}
    return Call(index, kind, kind, "", Where(), {"x": tuple(takes)}, named, {}, tuple(gives))


def model(*units):
    from lockstep.exchange.models.records import Model

    return Model("numpy", "0", tuple(Unit(name, "kernel", shape) for name, shape in units), ())


def test_units_are_paired_by_what_feeds_their_call_and_not_by_their_order():
    """A shortcut that one side makes before the main path, of kernels that are all alike."""
    kernels = [("stem", (4, 4)), ("main", (4, 4)), ("short", (4, 4)), ("last", (4, 4))]
    a = Trace((call(0, [0], [1], ["stem"]), call(1, [1], [2], ["main"]), call(2, [2], [3], ["last"]),
               call(3, [1], [4], ["short"])), {}, (0,), (3, 4))  # fmt: skip
    b = Trace((call(0, [0], [1], ["stem"]), call(1, [1], [2], ["main"]), call(2, [1], [3], ["short"]),
               call(3, [2], [4], ["last"])), {}, (0,), (3, 4))  # fmt: skip
    found = mapping.paired(model(*kernels), a, model(*kernels), b)
    assert all(pair.a == pair.b for pair in found.pairs)
    assert len(found.pairs) == 4


def test_equal_tensors_match_in_any_order_of_axes_and_others_do_not():
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    trace = Trace((), {0: x, 1: x * 2}, (), ())
    other = Trace((), {0: x.transpose(0, 3, 1, 2), 1: x.reshape(3, -1), 2: x + 1e-9}, (), ())
    there = alignment.matches(alignment.tensors(trace, None), alignment.tensors(other, None))
    assert there == {0: [0, 1]}, "not the doubled one, nor what is 1e-9 off"
    assert alignment.order(x, other.tensors[0], 0.0) == (0, 3, 1, 2)
    assert alignment.order(x, np.sort(x.ravel()).reshape(x.shape), 0.0) is None, "the same values, scrambled"


def test_what_float64_may_be_off_follows_from_float32():
    exact = np.array([1.0, 2.0, 3.0, 5.0])
    rough = Trace((), {0: (exact * (1 + 1e-6)).astype(np.float32)}, (), ())
    tolerance = alignment.tensors(Trace((), {0: exact}, (), ()), rough)[0].tolerance
    assert tolerance == pytest.approx(8 * 5e-6 * 2.0**-29, rel=0.1)


@pytest.mark.parametrize(
    ("line", "value", "wanted"),
    [
        ("y = f(x, 0.2)", 0.01, "y = f(x, 0.01)"),
        ("y = f(x, slope=0.2, other=1)", 0.01, "y = f(x, other=1, slope=0.01)"),
        ("y = g(f(x)) + 1  # said", 3, "y = g(f(x, slope=3)) + 1  # said"),
        ("y = f(*given)", 3, None),
        ("y = f(x) + f(x)", 3, None),
        ("y = h(x)", 3, None),
    ],
)
def test_a_line_is_rewritten_only_where_it_is_sure_what_it_says(line, value, wanted, tmp_path):
    (tmp_path / "a.py").write_text(f"x = 1\n    \n{line}\n")
    found = rewrites.rewritten(str(tmp_path / "a.py"), 3, "f", "slope", value, ("x", "slope"))
    assert (found.after if found else None) == wanted


def test_functions_are_told_apart_by_their_values():
    x = np.random.default_rng(0).normal(size=200) * 5
    assert alternatives.applied(x, np.maximum(x, 0), 1e-12) == ["relu"]
    assert alternatives.applied(x, np.maximum(x, 0) + 1e-6, 1e-12) == []


# ----------------------------------------------------------------------------------------------- in another framework

KERAS = """\
import keras
from keras import layers


def build():
    x = inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(6, 3, padding="same")(x)
    x = layers.BatchNormalization(epsilon=1e-5)(x)
    x = layers.Activation("gelu")(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))
"""


def test_a_port_to_another_framework_is_told_apart_by_its_defaults(files, tmp_path):
    need_backend("tensorflow")
    (tmp_path / "port.py").write_text(KERAS)
    told = difference.compare(f"{files}/net.py:Net", f"{tmp_path}/port.py:build")
    assert [finding.meaning for finding in told.findings] == ["pads", "epsilon", "flatten", "momentum", "variance"]
    assert told.left == ((), ())
    assert told.n_matched == told.n_tensors
    (epsilon,) = told.findings[1].remedies
    assert epsilon.after == "x = layers.BatchNormalization(epsilon=1e-05)(x)"
    assert any("float32" in str(what) for what in told.not_observed), "TensorFlow's GELU holds a number of float32"


# ------------------------------------------------------------------------------------------- public cases, and plants


@pytest.mark.parametrize("name", ["attention_scale", "lstm_cell", "weights_transposed", "average_pool_even"])
def test_a_public_case_is_placed_and_named_as_is_right(name):
    (case,) = cases([name])
    for backend in case.backends:
        need_backend(backend)
    judged = case.judged(case.found())
    assert (judged.is_placed, judged.is_named, judged.wrong) == (True, True, ())
    assert judged.found.closing is None or judged.found.closing.verdict == "EQUAL"


def test_a_case_whose_cause_is_called_otherwise_is_wrong():
    need_backend("torch")
    (case,) = cases(["attention_scale"])
    found = case.found()
    found = but(found, findings=(but(found.findings[0], meaning="axis"), *found.findings[1:]))
    judged = case.judged(found)
    assert (judged.is_placed, judged.is_named, judged.wrong) == (True, False, ("axis",))


@pytest.mark.parametrize("n", [0, 2])
def test_what_was_planted_is_named_and_nothing_else(n, tmp_path):
    need_backend("torch")
    bed = plants.BEDS["torch"]
    planted = next(plants.pairs(bed, 1, seed=3)) if n else ()
    assert plants.compared(bed, planted, tmp_path).problems == []
