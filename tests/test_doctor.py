"""The doctor: what is missing is shown with its remedy, and each known clash is told when it is there and only then."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json

import pytest

from lockstep import backends, data, doctor, store, timing


@pytest.fixture(autouse=True)
def healthy(monkeypatch):
    """A machine without clashes."""
    for name in (*timing.THREAD_VARIABLES, "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(backends, "versions", lambda name: {"jax": {"jax": "0.7.1", "jaxlib": "0.7.2"}}.get(name, {}))
    monkeypatch.setattr(timing, "usable_cores", lambda: [0, 1])


def test_everything_is_looked_at(tmp_path):
    found = doctor.check(tmp_path / "runs")
    assert set(found) == {"backends", "machine", "datasets", "clashes"}
    assert [row["name"] for row in found["backends"]] == list(backends.BACKENDS)
    assert [row["name"] for row in found["datasets"]] == list(data.available())
    assert found["clashes"] == []
    assert found["machine"]["runs_folder_is_writable"] is True
    assert found["machine"]["disk_free_bytes"] > 0
    assert found["machine"]["threads"] == 2
    json.dumps(store.finite(found), allow_nan=False)


@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax"])
def test_a_missing_framework_is_shown_with_its_remedy(name, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == name else find(module))
    rows = {row["name"]: row for row in doctor.check(tmp_path)["backends"]}
    assert rows[name]["missing"] == f"{name} not installed"
    assert rows[name]["remedy"] == f"pip install 'lockstep-nn[{name}]'"
    for other in rows.keys() - {name}:
        assert rows[other]["missing"] == backends.why_missing(other)
        assert bool(rows[other]["remedy"]) == bool(rows[other]["missing"])


def test_a_backend_that_lacks_one_of_two_modules_names_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == "optax" else find(module))
    assert "optax" in backends.why_missing("jax")


def test_every_remedy_is_an_extra_of_the_distribution():
    extras = set(importlib.metadata.metadata("lockstep-nn").get_all("Provides-Extra"))
    assert {row[3] for row in backends.BACKENDS.values()} - {""} <= extras


def plant_versions(**found):
    return lambda patch: patch.setattr(backends, "versions", lambda name: found.get(name, {}))


def plant_environment(**variables):
    return lambda patch: [patch.setenv(name, value) for name, value in variables.items()]


JAX = {"jax": "0.7.1", "jaxlib": "0.7.2"}
# rule → [(plant, words that must be told)]
CLASHES = {
    "_two_tensorflows": [
        (plant_versions(jax=JAX, tensorflow={"tensorflow": "2.20", "tensorflow-cpu": "2.20"}), "uninstall one"),
    ],
    "_jax_without_its_jaxlib": [
        (plant_versions(jax={"jax": "0.7.1", "jaxlib": "0.6.2"}), "jaxlib 0.6.2"),
        (plant_versions(jax={"jax": "0.7.1"}), "jaxlib none"),
    ],
    "_other_keras": [(plant_environment(KERAS_BACKEND="torch"), "KERAS_BACKEND is torch")],
    "_threads_from_outside": [
        (plant_environment(**{name: "7"}), f"{name}=7") for name in timing.THREAD_VARIABLES
    ],
    "_one_core": [(lambda patch: patch.setattr(timing, "usable_cores", lambda: [3]), "one processor only")],
}  # fmt: skip


def test_every_rule_has_a_plant():
    assert {rule.__name__ for rule in doctor.CLASHES} == set(CLASHES)


@pytest.mark.parametrize(("plant", "words"), [(plant, words) for plants in CLASHES.values() for plant, words in plants])
def test_a_planted_clash_is_told_and_no_other(plant, words, monkeypatch, tmp_path):
    assert doctor.check(tmp_path)["clashes"] == []
    plant(monkeypatch)
    (told,) = doctor.check(tmp_path)["clashes"]
    assert words in told


@pytest.mark.parametrize(
    "plant",
    [
        plant_versions(jax=JAX, tensorflow={"tensorflow-cpu": "2.20", "keras": "3.12"}),
        plant_versions(jax=JAX, tensorflow={"tensorflow": "2.20", "keras": "3.12"}),
        plant_versions(),
        plant_environment(KERAS_BACKEND="tensorflow"),
    ],
)
def test_what_is_fine_is_told_as_nothing(plant, monkeypatch, tmp_path):
    plant(monkeypatch)
    assert doctor.check(tmp_path)["clashes"] == []


def test_a_runs_folder_that_does_not_exist_yet_is_judged_by_the_one_above_it(tmp_path):
    found = doctor.check(tmp_path / "a" / "b" / "c")["machine"]
    assert found["runs_folder_is_writable"] is True
    (tmp_path / "file").write_bytes(b"")
    assert doctor.check(tmp_path / "file" / "runs")["machine"]["runs_folder"] == str(tmp_path / "file" / "runs")


def test_a_runs_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert doctor.check(tmp_path / "file" / "runs")["machine"]["runs_folder_is_writable"] is False


def test_a_runs_folder_with_an_impossible_name_is_survived(tmp_path):
    assert doctor.check(tmp_path / ("x" * 5000))["machine"]["disk_free_bytes"] > 0
