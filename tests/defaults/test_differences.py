"""The measured table of defaults: what frameworks do, that meanings are told apart, that the documentation says so."""

from __future__ import annotations

import ast
import copy
import importlib.util
import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lockstep import backends, cli, language
from lockstep.defaults import differences, meanings
from lockstep.errors import LockstepError
from lockstep.proof.causes import CAUSES
from support import ROOT
from support.catalogs import held
from support.needs import need, need_backend

DOCUMENT = ROOT / "docs" / "differences.md"
FRAMEWORKS = pytest.mark.parametrize("backend", differences.FRAMEWORKS)
SUBJECTS = pytest.mark.parametrize("subject", meanings.SUBJECTS)


@pytest.fixture(scope="module")
def measured():
    """What every framework's own defaults gave here."""
    return differences.measure()


@pytest.fixture(scope="module")
def table(measured):
    return differences.table(measured)


def seen_of(measured, subject):
    """(backend, what ran, the numbers) of everything that was measured."""
    for backend, found in measured.items():
        rows = found.get("subjects", {}).get(subject, "")
        for row in rows if isinstance(rows, list) else ():
            if "numbers" in row:
                yield backend, row["ran"], {name: np.asarray(value) for name, value in row["numbers"].items()}


def row_of(table, subject):
    (row,) = [row for row in table["rows"] if row["subject"] == subject]
    return row


# ---------------------------------------------------------------------------------------- what frameworks are known for


@pytest.mark.parametrize(
    ("subject", "ran", "expected"),
    [
        ("dense_kernel", "torch.nn.Linear", "uniform in ±1/√fan_in"),
        ("dense_kernel", "keras.layers.Dense", "Glorot uniform"),
        ("dense_kernel", "flax.nnx.Linear", "LeCun normal, truncated"),
        ("he_normal", "torch.nn.init.kaiming_normal_", "He normal"),
        ("he_normal", "keras.initializers.HeNormal", "He normal, truncated"),
        ("adam", "torch.optim.Adam", "ε 1e-08 added to √v̂ after bias correction"),
        ("adam", "keras.optimizers.Adam", "ε 1e-07 added to √v before bias correction"),
        ("adam", "optax.adam", "ε 1e-08 added to √v̂ after bias correction"),
        ("rmsprop", "torch.optim.RMSprop", "average 0.99, ε 1e-08 outside the root"),
        ("rmsprop", "keras.optimizers.RMSprop", "average 0.9, ε 1e-07 inside the root"),
        ("rmsprop", "optax.rmsprop", "average 0.9, ε 1e-08 inside the root"),
        ("adamw_decay", "torch.optim.AdamW", "0.01, times the rate"),
        ("adamw_decay", "keras.optimizers.AdamW", "0.004, times the rate"),
        ("adamw_decay", "optax.adamw", "0.0001, times the rate"),
        ("batch_norm_momentum", "torch.nn.BatchNorm2d", "0.1 of the new batch"),
        ("batch_norm_momentum", "keras.layers.BatchNormalization", "0.01 of the new batch"),
        ("batch_norm_variance", "torch.nn.BatchNorm2d", "unbiased, n/(n − 1)"),
        ("batch_norm_variance", "keras.layers.BatchNormalization", "biased"),
        ("leaky_relu", "torch.nn.LeakyReLU", "slope 0.01"),
        ("leaky_relu", "keras.layers.LeakyReLU", "slope 0.3"),
        ("leaky_relu", "tensorflow.nn.leaky_relu", "slope 0.2"),
        ("gelu", "torch.nn.GELU", "exact"),
        ("gelu", "jax.nn.gelu", "the tanh formula"),
        ("same_padding", "torch.nn.Conv2d", "padding='same' is not supported for strided convolutions"),
        ("same_padding", "keras.layers.Conv2D", "the odd zeros right and below"),
        ("momentum", "torch.optim.SGD", meanings.BUFFER),
        ("momentum", "keras.optimizers.SGD", meanings.VELOCITY),
        ("l2", "keras.regularizers.L2", "2·λ·w, of λ·Σw²"),
        ("clip_norm", "keras.optimizers.SGD", "of each gradient by itself"),
        ("clip_norm", "optax.clip_by_global_norm", "of all gradients together"),
        ("cross_entropy", "keras.losses.CategoricalCrossentropy", "of probabilities, mean over the batch"),
        ("float64", "jax.numpy.asarray", "becomes float32"),
        ("order", "torch.utils.data.DataLoader", "as the dataset lies"),
        ("order", "keras.Model.fit", "shuffled"),
    ],
)
def test_measured_defaults_are_those_of_the_documentation(table, subject, ran, expected):
    rows = [found for name in differences.FRAMEWORKS for found in row_of(table, subject)[name]]
    found = [row for row in rows if (row["ran"] or "").startswith(ran)]
    need(bool(found), f"the framework of {ran}")
    need(found[0]["state"] != "missing", str(found[0]["meaning"]))
    assert found[0]["meaning"] == expected
    assert found[0]["version"].split() == [ran.partition(".")[0], table["versions"][ran.partition(".")[0]]]


# ------------------------------------------------------------------------------------------------------------ languages

# What stays as it is in every language: names of the field and of its people, and words of code.
SAME_EVERYWHERE = re.compile(
    r"\b(Lockstep|PyTorch|TensorFlow|JAX|Optax|Flax|Keras|He|LeCun|Glorot|AdamW?|SGD|RMSprop|Adagrad|GELU|RMS|rate"
    r"|fan_in|flatten|normal|clip|weight decay|weight_decay|optax\.adamw?|use_running_average|float32|float64|dropout"
    r"|seed|leaky relu|hard sigmoid|tanh|log|lr|same)\b|`same`"
)


def english(document):
    """The words in Latin letters that a Russian reader of the table would find, but in what frameworks said."""
    found = []
    with language.speaking("ru"):
        for row in document["rows"]:
            cells = [row["what"], row["canonical"]]
            cells += [
                differences.sentence(each)
                for name in differences.FRAMEWORKS
                for each in row[name]
                if each["state"] != "refused"
            ]
            found += [re.findall(r"[A-Za-z]{2,}", SAME_EVERYWHERE.sub(" ", language.say(cell))) for cell in cells]
    return sorted({word for words in found for word in words})


def test_the_table_in_russian_has_no_english_but_names(table):
    assert english(table) == []


def test_a_cell_without_a_translation_is_found(table, monkeypatch):
    monkeypatch.delitem(held("ru"), "a short last batch")
    assert english(table) == ["batch", "last", "short"]


def test_what_is_missing_is_said_in_russian():
    row = {"ran": "flax.nnx.Linear", "version": None, "missing": "flax is not installed"}
    subjects = {subject: [row] if subject == "gelu" else differences.UNWRITTEN for subject in meanings.SUBJECTS}
    document = differences.table({name: {"versions": {}, "subjects": subjects} for name in differences.FRAMEWORKS})
    with language.speaking("ru"):
        cells = {language.say(cell) for row in differences.cells(document)[1] for cell in row[2:]}
    assert cells == {"не измерено: не установлено: flax", "– никто не написал, как это измерить"}


# ------------------------------------------------------------------------------------------------------- it is complete


@FRAMEWORKS
@SUBJECTS
def test_every_subject_has_a_meaning_in_every_framework_or_a_reason(table, subject, backend):
    need_backend(backend)
    for found in row_of(table, subject)[backend]:
        assert found["meaning"]
        assert found["meaning"] != meanings.UNKNOWN, f"{found['ran']}: {found['measured']}"
        assert found["state"] != "measured" or " or " not in found["meaning"], f"{found['ran']}: {found['measured']}"
        assert found["state"] != "missing" or found["meaning"] == "flax is not installed"


@FRAMEWORKS
def test_every_framework_is_asked_the_same_in_the_same_order(backend):
    source = Path(str(importlib.util.find_spec(f"lockstep.defaults.{backend}").origin)).read_text(encoding="utf-8")
    (defaults,) = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "DEFAULTS"
    ]
    assert [key.value for key in defaults.keys] == list(meanings.SUBJECTS)


@SUBJECTS
def test_lockstep_s_own_meaning_is_one_of_those_known_and_the_causes_are_in_the_catalogue(measured, subject):
    row = meanings.SUBJECTS[subject]
    assert set(row.causes) <= CAUSES.keys()
    known = {
        words for _, _, seen in seen_of(measured, subject) for words, _ in row.meanings(seen, **row.given)
    }  # fmt: skip
    if row.canonical and subject != "random_numbers":  # those are numbers, and Lockstep's are its own
        assert row.canonical in known


def test_a_framework_that_is_not_installed_is_a_reason_in_the_table(monkeypatch):
    monkeypatch.setattr(backends, "why_missing", lambda name: f"{name} not installed")
    document = differences.table(differences.measure(["torch", "jax"]))
    assert document["versions"] == {}
    for row in document["rows"]:
        for name in ("torch", "jax"):
            assert [(found["state"], found["meaning"]) for found in row[name]] == [("missing", f"{name} not installed")]
    assert "not measured: jax not installed" in differences.markdown(document)


def test_a_package_that_is_not_installed_is_a_reason_in_its_rows():
    def absent(n):
        raise ModuleNotFoundError("No module named 'flax'", name="flax")

    assert differences.outcome_of("flax.nnx.Linear", absent, {"n": 1})["missing"] == "flax is not installed"
    with pytest.raises(ModuleNotFoundError):  # what is missing inside of something else is a fault
        differences.outcome_of("torch.nn.Linear", absent, {"n": 1})


def test_a_process_that_fails_is_an_error_with_its_last_words(monkeypatch, worker_says):
    worker_says("raise SystemExit('no such layer')")
    monkeypatch.setattr(backends, "why_missing", lambda name: None)
    with pytest.raises(LockstepError, match=r"backend torch: .*exit code 1.*no such layer") as error:
        differences.measure(["torch"])
    assert error.value.code == "LS-403"


# -------------------------------------------------------------------------------------------------- it is able to fail

BY_SHAPE = {"conv_padding"}  # the other values of an image of this size mean the same


@SUBJECTS
def test_other_numbers_have_another_meaning_or_none(measured, subject):
    for _, ran, seen in seen_of(measured, subject):
        before = meanings.meaning(subject, seen)
        other = {name: value[:1, :2] if subject in BY_SHAPE else value * 1.1 + 7e-4 for name, value in seen.items()}
        assert meanings.meaning(subject, other) != before, ran
        assert meanings.meaning(subject, {**seen, "another": np.zeros(1)}) == meanings.UNKNOWN
        assert meanings.meaning(subject, {f"{name}_": value for name, value in seen.items()}) == meanings.UNKNOWN
        reshaped = meanings.meaning(subject, {name: value[None] for name, value in seen.items()})
        assert reshaped in (meanings.UNKNOWN, before), ran


@pytest.mark.parametrize(
    ("subject", "planted", "expected"),
    [
        ("leaky_relu", {"slope": 0.02}, "slope 0.02"),
        ("leaky_relu", {"slope": 0.0123456}, meanings.UNKNOWN),
        ("adam", {"epsilon": 1e-7}, "ε 1e-07 added to √v̂ after bias correction"),
        ("adam", {"epsilon": 3e-8}, meanings.UNKNOWN),
        ("rmsprop", {"rho": 0.95}, meanings.UNKNOWN),
    ],
)
def test_a_planted_default_is_named_or_known_to_be_unknown(subject, planted, expected):
    given = meanings.SUBJECTS[subject].given
    if subject == "leaky_relu":
        seen = {"y": np.where(given["x"] > 0, given["x"], planted["slope"] * given["x"])}
    elif subject == "adam":
        seen = {"w": meanings.adam_steps(**given, rate=1e-3, **planted)}
    else:
        seen = {"w": meanings.rmsprop_steps(**given, rate=1e-2, epsilon=1e-8, form="outside", **planted)}
    assert meanings.meaning(subject, seen) == expected


@SUBJECTS
def test_no_two_meanings_give_the_same_numbers(measured, subject, monkeypatch):
    """Ten times the rounding that is allowed would not make one meaning pass for another."""
    row = meanings.SUBJECTS[subject]
    for _, ran, seen in seen_of(measured, subject):
        with np.errstate(all="ignore"):
            known = [
                (words, {name: np.asarray(value) for name, value in wanted.items()})
                for words, wanted in row.meanings(seen, **row.given)
                if not any(map(callable, wanted.values()))
            ]
        monkeypatch.setattr(meanings, "ROUNDING", 1e-3)
        alike = [(a, b) for (a, first), (b, second) in combinations(known, 2) if meanings.reproduces(first, second)]
        assert not alike, ran
        monkeypatch.undo()


# --------------------------------------------------------------------------------------------------- the documentation


def cells(text):
    """Subject → its other cells, of a Markdown table."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def stale(written, generated):
    """A sentence for each cell of the documentation that is not what was measured here; what was not is left out."""
    now, before = cells(generated), cells(written)
    found = [f"{subject} is in one of them only" for subject in now.keys() ^ before.keys()]
    for subject in now.keys() & before.keys():
        for here, there in zip(now[subject], before[subject], strict=True):
            if here != there and "not measured: " not in here:
                found.append(f"{subject}: {there!r} is written, {here!r} was measured")
    return found


def test_the_documentation_is_what_is_measured(table):
    written = DOCUMENT.read_text(encoding="utf-8")
    for name, version in table["versions"].items():
        need(f"{name} {version}" in written, f"the {name} of docs/differences.md (this is {version})")
    assert "not measured" not in written
    found = stale(written, differences.markdown(table))
    assert not found, "\n".join(
        [*found, "write it again: lockstep explain differences --markdown > docs/differences.md"]
    )


def test_another_default_makes_the_documentation_stale(measured):
    other = copy.deepcopy(measured)
    row = next(found for found in other["torch"].get("subjects", {}).get("leaky_relu", [{}]))
    need(bool(row), "the framework of backend torch")
    x = meanings.SUBJECTS["leaky_relu"].given["x"]
    row["numbers"]["y"] = np.where(x > 0, x, 0.05 * x).tolist()
    found = stale(DOCUMENT.read_text(encoding="utf-8"), differences.markdown(differences.table(other)))
    assert [sentence for sentence in found if sentence.startswith("leaky relu: 'slope 0.01")]


def test_the_documentation_speaks_of_the_versions_that_are_tested():
    text = (DOCUMENT.parent.parent / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(line.split("==") for line in text.splitlines() if "==" in line)
    pinned["tensorflow"] = pinned["tensorflow_cpu"]
    (line,) = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("Measured with ")]
    written = dict(part.split() for part in line.removeprefix("Measured with ").rstrip(".").split(", "))
    assert {name: version for name, version in written.items() if name in pinned and pinned[name] != version} == {}
    assert {"torch", "keras", "tensorflow", "jax", "optax", "flax"} == written.keys()


# ---------------------------------------------------------------------------------------------------- the command line


def explained(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["explain", *arguments])
    return ended.value.code, capsys.readouterr()


def test_differences_are_explained_as_a_table_markdown_and_json(measured, table, monkeypatch, capsys):
    monkeypatch.setattr(differences, "measure", lambda: measured)
    code, said = explained(capsys, "differences", "--markdown")
    assert (code, said.out) == (0, differences.markdown(table))
    code, said = explained(capsys, "differences", "--json")
    assert code == 0
    assert [row["subject"] for row in json.loads(said.out)["rows"]] == list(meanings.SUBJECTS)
    code, said = explained(capsys, "differences")
    assert code == 0
    for name, version in table["versions"].items():
        assert f"{name} {version}" in said.out


def test_causes_are_explained_all_together_and_one_by_one(capsys):
    code, said = explained(capsys, "causes", "--json")
    assert code == 0
    rows = json.loads(said.out)["causes"]
    assert [row["cause"] for row in rows] == list(CAUSES)
    assert all(row["what"] and row["stage"] and row["default_of"] and row["mend"] for row in rows)
    code, said = explained(capsys, "gelu_tanh")
    assert code == 0
    assert CAUSES["gelu_tanh"].what in said.out
    assert CAUSES["gelu_tanh"].mend in said.out


def test_an_unknown_topic_is_an_error_with_the_nearest_word(capsys):
    code, said = explained(capsys, "diferences")
    assert code == 2
    assert "LS-209" in said.err
    assert 'did you mean "differences"?' in said.err


def test_markdown_of_causes_is_refused(capsys):
    code, said = explained(capsys, "causes", "--markdown")
    assert code == 2
    assert "--markdown is for differences and words of the field" in said.err
