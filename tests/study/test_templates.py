"""A study to begin with: each template runs, holds every key with its default, and speaks both languages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest

from lockstep import LockstepError, backends, cli, language, new_study, parse_study, report, run_study, study_schema
from lockstep.spec.records import changed
from lockstep.study import load_study, schema, templates
from support import ROOT

SMALL = ["recipe.epochs=1", "train_size=120"]
# Behind a # there stands what shows how it is written, and no default.
ONLY_EXAMPLES = {"name", "train_size", "clip_norm", "early_stopping", "question", "lenet", "mlp", "cnn"}


def uncommented(text: str) -> str:
    """The template with every key that has a default taken into use."""
    lines = []
    for line in text.splitlines():
        key = re.match(r"# (\w+) = ", line)
        lines.append(line[2:] if key and key[1] not in ONLY_EXAMPLES else line)
    return "\n".join(lines)


def typed(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, words)])
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lockstep.cli.interruption.end_on_signals", lambda: None)


@pytest.mark.parametrize("kind", templates.TEMPLATES)
def test_a_template_is_made_and_runs(kind, tmp_path):
    assert typed("init", "mine", "--kind", kind) == 0
    records = run_study(load_study("mine.toml", SMALL, ["numpy"], quick=True), threads=1)
    assert [record.status["status"] for record in records] == ["finished"] * len(templates.TEMPLATES[kind].networks)
    study = load_study(tmp_path / "mine.toml", ["dataset=digits"])
    assert study.backends == tuple(name for name in backends.BACKENDS if backends.why_missing(name) is None)
    jsonschema.validate(tomllib.loads((tmp_path / "mine.toml").read_text(encoding="utf-8")), study_schema())
    assert (tmp_path / templates.SCHEMA_FILE).read_text(encoding="utf-8") == templates.as_json()


@pytest.mark.parametrize("kind", templates.TEMPLATES)
def test_taking_a_sign_away_changes_nothing(kind):
    text = templates.template(kind, "mine", "mine.toml")
    assert text.count("\n# ") > 100
    assert parse_study(uncommented(text), name="mine") == parse_study(text, name="mine")


def test_a_default_that_is_told_wrongly_is_seen():
    text = templates.template("mlp", "mine", "mine.toml")
    assert "# l2 = 0.0\n" in text
    wrong = text.replace("# l2 = 0.0\n", "# l2 = 0.1\n")
    assert parse_study(uncommented(wrong), name="mine") != parse_study(text, name="mine")


@pytest.mark.parametrize("kind", templates.TEMPLATES)
def test_every_key_is_there_with_what_it_takes(kind):
    text = templates.template(kind, "mine", "mine.toml")
    for key in [*schema.keys_of("Study"), *schema.keys_of("Recipe"), *schema.keys_of("Network")]:
        assert re.search(rf"^(# )?\[?{key.name}\b", text, re.MULTILINE), key.name
    for kinds in schema.FAMILIES.values():
        for word in kinds:
            assert re.search(rf"^#     {word}\b", text, re.MULTILINE), word
    assert "at least 1 and at most 100000" in text


def test_a_template_in_russian_is_the_same_study(tmp_path):
    english = parse_study(templates.template("lab", "mine", "mine.toml"), name="mine")
    with language.speaking("ru"):
        text = templates.template("lab", "mine", "mine.toml")
    told = [line[2:] for line in text.splitlines() if re.match("# [А-яё]", line)]
    assert len(told) > 25
    russian = parse_study(text, name="mine")
    assert changed(russian, question="") == changed(english, question="")


def test_nothing_is_written_over(tmp_path, capsys):
    assert new_study("a") == Path("a.toml")
    (tmp_path / "a.toml").write_text("mine")
    (tmp_path / templates.SCHEMA_FILE).write_text("{}")
    assert typed("init", "a.toml") == 2
    assert "there is such a file already" in capsys.readouterr().err
    assert (tmp_path / "a.toml").read_text() == "mine"
    assert new_study("deep/below/b.x") == Path("deep/below/b.x.toml")
    new_study("c")
    assert (tmp_path / templates.SCHEMA_FILE).read_text() == "{}", "somebody else's"
    (tmp_path / templates.SCHEMA_FILE).write_text(f'{{"title": "{schema.TITLE}"}}')
    new_study("d")
    assert (tmp_path / templates.SCHEMA_FILE).read_text() == templates.as_json()


@pytest.mark.parametrize("name", ["a b", "лаба 1", "x\ny = 1", '"quoted"', "-a", "\x1b[31mred"])
def test_a_study_of_any_name_is_one(name):
    path = new_study(name)
    assert parse_study(path.read_text(encoding="utf-8"), name="x").networks.keys() == {"mlp"}
    assert load_study(path).name == parse_study(uncommented(path.read_text(encoding="utf-8")), name=path.stem).name


def test_a_kind_that_there_is_not_is_told_the_nearest(capsys):
    assert typed("init", "a", "--kind", "lent") == 2
    assert 'did you mean "lenet"?' in capsys.readouterr().err
    assert not Path("a.toml").exists()
    with pytest.raises(LockstepError, match="LS-501"):
        new_study("/proc/none/a")


# ------------------------------------------------------------------------------------------------- studies of our own


def test_the_studies_come_with_the_package():
    from lockstep.spec.toml import own_studies, own_study

    repository = ROOT / "studies"
    assert own_studies() == sorted(path.stem for path in repository.glob("*.toml"))
    assert own_study("demo").read_text() == (repository / "demo.toml").read_text()


def test_a_study_of_ours_is_found_by_its_name_unless_a_file_has_it(tmp_path, capsys):
    assert load_study("demo").name == "demo"
    assert typed("show", "demo", "--network", "mlp") == 0
    assert typed("show", "dmeo") == 2
    assert 'did you mean "demo"?' in capsys.readouterr().err
    (tmp_path / "demo").write_text('name = "another"\n[networks]\na = ["flatten", "dense 10"]\n')
    assert load_study("demo").name == "another"


write = report.write


def test_the_demonstration_takes_what_is_installed_and_ends_with_a_sentence(capsys, monkeypatch):
    monkeypatch.setattr(backends, "why_missing", lambda name: None if name == "numpy" else f"{name} not installed")
    monkeypatch.setattr(report, "write", lambda page, path, with_figures: write(page, path))
    assert typed("demo", "--threads", "1") == 0
    said = capsys.readouterr()
    *_table, sentence, told = said.out.splitlines()
    assert re.match(r"mlp gets \d\d\.\d\xa0% and cnn gets \d\d\.\d\xa0% of 360 test images right", sentence)
    assert told.startswith("report: ")
    assert Path(told.removeprefix("report: ")).is_file()
    assert said.err.count("is not installed and left out") == 3
