"""What `lockstep run` does beside training: it proves what has run, says so, and ends as the verdict asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from lockstep import cli
from lockstep.cli import runs
from lockstep.cli.options import Work
from lockstep.errors import LockstepError
from lockstep.proof import upkeep
from lockstep.proof.upkeep import Kept
from support.command_line import STUDY


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("proven")
    (root / "lab.toml").write_text(STUDY.partition("cnn =")[0])
    return root


def typed(folder: Path, *words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(folder / "lab.toml"), "--runs", str(folder / "runs"), "--threads", "1", *words])
    assert ended.value.code in (0, None)


def test_a_study_is_proven_once_and_its_table_and_json_say_so(folder, capsys):
    typed(folder, "--proof", "--json")
    said = json.loads(capsys.readouterr().out)
    verdict = said["proof"]["verdict"]
    assert verdict in ("EQUAL", "IDENTICAL")
    assert (said["proof"]["made"], [row["proof"] for row in said["runs"]]) == (1, [verdict])
    assert said["proof"]["seconds"] > 0
    typed(folder, "--proof")
    said = capsys.readouterr()
    assert f"proof: {verdict}: the first 10 steps" in said.out
    assert "nothing that it depends on has changed" in said.out
    assert "┃ proof" in said.out
    assert "proving what has run" not in said.err
    assert (folder / "runs" / "lab" / "proof.html").exists()


def test_without_it_nothing_is_proven_and_the_json_says_none(folder, capsys):
    typed(folder, "--no-proof", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["proof"] is None
    assert "proof" not in said["runs"][0]


@pytest.mark.parametrize(
    ("verdict", "code"), [("EQUAL", None), ("IDENTICAL", None), ("INCONCLUSIVE", None), ("DIVERGED", 1)]
)
def test_a_backend_that_diverged_ends_the_command_with_1(verdict, code):
    kept = Kept(None, {Path("a"): "EQUAL", Path("b"): verdict})
    rows = [{"status": "finished", "code": None}]
    if code is None:
        assert runs.end(rows, proof=kept) is None
        return
    with pytest.raises(typer.Exit) as ended:
        runs.end(rows, proof=kept)
    assert ended.value.exit_code == code


def test_runs_are_done_where_no_proof_can_be_made(monkeypatch, capsys, tmp_path):
    def keep(*_given, **_named):
        raise LockstepError("LS-504", "another process proves the same", where="traces")

    monkeypatch.setattr(upkeep, "keep", keep)
    study = type("Study", (), {"name": "lab"})
    assert runs.prove(study, Work(tmp_path), [], []) is None
    said = capsys.readouterr().err
    assert "no proof could be made; the runs are done" in said
    assert "another process proves the same" in said
