"""The proof that comes with a study's runs: made once, kept while it is one of them, and made anew of what changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lockstep import store
from lockstep.machine import description, sources
from lockstep.proof import procedure, upkeep
from lockstep.spec import Network, Recipe, Study
from lockstep.store.documents.proof import Proof, read_proof
from lockstep.study import run_study

RECIPE = Recipe(optimizer="adam 0.01", epochs=1, batch_size=13)
WIDE = {f"net{n}": Network(["flatten", f"dense {n}", "relu", "dense 10"]) for n in (5, 7)}


def study(networks=("net5",), seeds=(0, 1), **keys) -> Study:
    chosen = {name: WIDE[name] for name in networks}
    return Study(
        networks=chosen, backends=("numpy",), seeds=seeds, recipe=RECIPE, train_size=100, name="own", **keys
    )  # fmt: skip


@pytest.fixture(scope="module")
def proven(tmp_path_factory):
    """A folder with two runs of one network and their proof, and what making it came to."""
    runs = tmp_path_factory.mktemp("runs")
    records = run_study(study(), runs, threads=1)
    assert all(record.is_finished for record in records)
    begun: list[int] = []
    kept = upkeep.keep(study(), runs, records, 1, begin=begun.append)
    return runs, kept, begun


class ProofAskedError(Exception):
    """A proof was asked for."""


@pytest.fixture
def never(monkeypatch):
    """Whoever proves here is told so, with what was wanted."""

    def prove(asked, runs_folder, steps, plants, threads, tell, part):
        wanted = [run for run in asked.runs() if part.is_wanted(run)]
        raise ProofAskedError(sorted({run.network_name for run in wanted}), [one.network for one in part.networks])

    monkeypatch.setattr(procedure, "prove", prove)


@pytest.fixture
def copy(proven, tmp_path) -> Path:
    return Path(shutil.copytree(proven[0], tmp_path / "runs"))


def records_of(runs: Path, asked: Study) -> list[store.Record]:
    """The records of a study's runs, in their order."""
    by_seed = {record.spec["seeds"][0]: record for record in store.find_runs([runs])}
    return [by_seed[run.seed] for run in asked.runs()]


def edit(path: Path, **keys) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_a_network_is_proven_once_whatever_its_seeds(proven):
    runs, kept, begun = proven
    assert begun == [1]
    assert (kept.made, set(kept.verdicts.values())) == (1, {"EQUAL"}) or set(kept.verdicts.values()) == {"IDENTICAL"}
    assert len(kept.verdicts) == 2
    assert kept.seconds > 0
    found = read_proof(runs / "own")
    assert found.seconds is not None
    assert 0 < found.seconds <= kept.seconds + 1
    assert found.lockstep_sources == sources.own_sources()


def test_what_is_right_leaves_no_traces(proven):
    runs, kept, _begun = proven
    assert [row.trace for row in kept.proof.rows] == [None]
    assert not list((runs / "own" / store.TRACES).glob("*/*"))
    assert kept.proof.coverage.traces_judged == 1


def test_a_proof_that_stands_is_taken_as_it_is(copy, never):
    kept = upkeep.keep(study(), copy, records_of(copy, study()), 1)
    assert (kept.made, kept.seconds, len(kept.verdicts)) == (0, 0.0, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"lockstep_sources": "0" * 64}, {"lockstep": "0.0.9"}, {"git_revision": "0" * 40}, {"steps": 4},
        {"machine": {"cpu": "another one"}}, {"planted": ["adam_epsilon_hat@numpy"]}, {"lockstep_sources": None},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_proof_of_another_lockstep_machine_or_length_is_not_taken(copy, never, change):
    edit(copy / "own" / "proof.json", **change)
    with pytest.raises(ProofAskedError):
        upkeep.keep(study(), copy, records_of(copy, study()), 1)


@pytest.mark.parametrize("change", ["network", "recipe", "dtype", "versions", "data"])
def test_a_proof_of_something_else_is_not_taken(copy, never, change):
    found = json.loads((copy / "own" / "proof.json").read_text())
    certificate = found["networks"][0]["backends"][0]["certificate"]
    other = {"versions": {"numpy": "1.0"}, "data": {"name": "digits", "hashes": {"x": "y"}}, "dtype": "float64"}
    certificate["dataset" if change == "data" else change] = other.get(change, "0" * 64)
    edit(copy / "own" / "proof.json", networks=found["networks"])
    with pytest.raises(ProofAskedError):
        upkeep.keep(study(), copy, records_of(copy, study()), 1)


def test_a_proof_that_cannot_be_read_is_made_anew(copy, never):
    (copy / "own" / "proof.json").write_text("{")
    with pytest.raises(ProofAskedError):
        upkeep.keep(study(), copy, records_of(copy, study()), 1)


def test_only_what_is_new_is_proven_and_the_rest_stands_beside_it(copy):
    asked = study(("net5", "net7"))
    records = run_study(asked, copy, threads=1)
    kept = upkeep.keep(asked, copy, records, 1)
    assert kept.made == 1
    assert len(kept.verdicts) == 4
    assert [one.network for one in kept.proof.networks] == ["net5", "net7"]
    assert isinstance(read_proof(copy / "own"), Proof)
    part = study(("net7",))
    again = upkeep.keep(part, copy, [record for record in records if record.network == "net7"], 1)
    assert (again.made, len(again.proof.networks)) == (0, 2)  # of a part of the study nothing is lost


def test_of_a_wide_grid_each_network_is_proven_with_its_first_setting(monkeypatch):
    rates = tuple(round(0.001 * n, 6) for n in range(1, upkeep.MOST + 2))
    runs = study(seeds=(0,), grid={"recipe.optimizer.learning_rate": rates}).runs()
    wanted, left_out = upkeep.chosen(runs)
    assert (len(wanted), left_out) == (1, upkeep.MOST)
    assert upkeep.chosen(runs[: upkeep.MOST]) == ({upkeep.key_of(run) for run in runs[: upkeep.MOST]}, 0)


def test_nothing_is_proven_of_runs_that_failed(copy, never):
    asked, records = study(), records_of(copy, study())
    (copy / "own" / "proof.json").unlink()
    for record in records:
        store.write_status(record.folder, "failed", "LS-402", "ended")
    kept = upkeep.keep(asked, copy, [store.Record(record.folder) for record in records], 1)
    assert (kept.proof, kept.verdicts, kept.made) == (None, {}, 0)
    assert description.machine()["cpu"]
