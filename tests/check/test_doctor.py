"""The doctor: what is missing is shown with its remedy, and each known clash is told when it is there and only then."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil

import pytest

from lockstep import backends, data, store
from lockstep.check import doctor
from lockstep.files import intake
from lockstep.machine import cores
from lockstep.study.places import local
from support import forks


@pytest.fixture(autouse=True)
def healthy(monkeypatch):
    """A machine without clashes."""
    for name in (*cores.THREAD_VARIABLES, "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(backends, "versions", lambda name: {"jax": {"jax": "0.7.1", "jaxlib": "0.7.2"}}.get(name, {}))
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])


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
    "_devices_from_outside": [
        (plant_environment(JAX_PLATFORMS="cuda"), "JAX_PLATFORMS=cuda"),
        (plant_environment(JAX_PLATFORM_NAME="gpu"), "JAX_PLATFORM_NAME=gpu"),
    ],
    "_threads_from_outside": [
        (plant_environment(**{name: "7"}), f"{name}=7") for name in cores.THREAD_VARIABLES
    ],
    "_one_core": [(lambda patch: patch.setattr(cores, "usable_cores", lambda: [3]), "one processor only")],
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
        plant_environment(JAX_PLATFORMS=""),
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


# -------------------------------------------------------------------------------------------------- are the runs whole?


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, with seed 0, and one that was ended after its second epoch, with seed 1."""
    from lockstep import study as studies

    folder = tmp_path_factory.mktemp("checked")
    forks.write_study(folder, "numpy", "mlp")

    def end(run, event):
        if event["event"] == "epoch" and event["epoch"] == 2 and run.seed == 1:
            raise KeyboardInterrupt

    wanted = studies.load_study(folder / "lab.toml", ["seeds=[0, 1]"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "HERE", forks.InThisProcess())
        with pytest.raises(KeyboardInterrupt):
            studies.run_study(wanted, folder / "runs", end, 1)
    return folder / "runs"


@pytest.fixture
def checked(runs, tmp_path):
    """A copy of both, to damage."""
    shutil.copytree(runs, tmp_path / "runs")
    return sorted((tmp_path / "runs" / "lab").glob("mlp-*"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def row_of(place):
    """What the doctor says of one run; it changes nothing."""
    before = contents(place)
    (row,) = doctor.check_runs([place])["runs"]
    assert contents(place) == before
    return row


def test_what_is_whole_and_what_is_unfinished_is_told(checked):
    whole, unfinished = doctor.check_runs([checked[0].parent])["runs"]
    assert (whole["state"], whole["status"], whole["problems"], whole["notes"]) == ("whole", "finished", [], [])
    assert whole["run"] == str(checked[0])
    assert (unfinished["state"], unfinished["problems"]) == ("unfinished", [])
    assert unfinished["usable"] == [
        "checkpoint-2: it can go on after epoch 2", "checkpoint-1: it can go on after epoch 1"
    ]  # fmt: skip
    files = [path for place in checked for path in place.rglob("*") if path.is_file()]
    unchecked = {"samples.npz", "worker.log", "spec.toml", "environment.json", "events.jsonl"}
    hashed = [path for path in files if path.name not in unchecked or path.parent == checked[0]]
    hashed = [path for path in hashed if path.name != "worker.log"]
    assert doctor.check_runs([checked[0].parent])["files"] == len(hashed)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", [*store.HASHED, "manifest.json", "status.json", "checkpoint-4/weights.safetensors"])
def test_a_damaged_file_is_named_and_the_rest_can_be_used(name, checked):
    flip(checked[0] / name)
    row = row_of(checked[0])
    assert row["state"] == "damaged"
    assert row["problems"][0].startswith(f"{name}: ")
    if name in store.HASHED:
        assert row["problems"] == [f"{name}: {intake.CHANGED}"]
        assert "checkpoint-4" in row["usable"]
        assert set(row["usable"][0].split(", ")) == {*store.HASHED, "manifest.json"} - {name}


def test_without_hashes_damage_is_not_seen(checked, monkeypatch):
    """The check above can fail."""
    monkeypatch.setattr(intake, "compare", forks.unchecked)
    flip(checked[0] / "predictions.npz")
    assert row_of(checked[0])["state"] == "whole"


def test_a_missing_file_is_named(checked):
    (checked[0] / "predictions.npz").unlink()
    assert row_of(checked[0])["problems"] == ["predictions.npz: it is missing"]


def test_a_finished_run_without_weights_is_damaged(checked):
    shutil.rmtree(checked[0] / "checkpoint-4")
    assert row_of(checked[0])["problems"] == ["no checkpoint with its weights can be used"]


def test_a_damaged_checkpoint_leaves_the_one_before(checked):
    flip(checked[1] / "checkpoint-2" / "state.safetensors")
    row = row_of(checked[1])
    assert row["state"] == "damaged"
    assert row["problems"] == [f"checkpoint-2/state.safetensors: {intake.CHANGED}"]
    assert row["usable"] == ["checkpoint-1: it can go on after epoch 1"]


def test_what_is_half_written_is_noted_and_no_damage(checked):
    (checked[1] / "checkpoint-3").mkdir()
    (checked[1] / ".metrics.json.7.part").write_bytes(b"{")
    row = row_of(checked[1])
    assert row["state"] == "unfinished"
    assert row["notes"] == [
        "checkpoint-3 is half written: the one before is used",
        "1 file is half written: it goes when the run goes on",
    ]


def test_a_run_that_is_worked_on_is_not_judged(checked):
    from lockstep.files import locks

    with locks.take(checked[1]):
        assert row_of(checked[1])["state"] == "being worked on"


def test_the_command_names_the_damage_and_exits_with_five(checked, capsys):
    from lockstep import cli

    flip(checked[0] / "metrics.json")
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", str(checked[0].parent)])
    said = capsys.readouterr().out
    assert end.value.code == 5
    assert f"damaged    {checked[0]}" in said
    assert "    wrong: metrics.json: its SHA-256 is not the manifest's" in said
    assert "    can be used: checkpoint-2: it can go on after epoch 2" in said
    assert "2 runs" in said
    assert "1 damaged" in said
