"""What a script or a notebook calls: texts for paths, records that know their numbers, progress, errors in words."""

from __future__ import annotations

import functools
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import lockstep
from lockstep import LockstepError, Recipe, Records, Study, cli, language, scripting, store
from lockstep.spec import naming
from lockstep.store import results
from support import ROOT
from support.needs import need_backend

MLP = {"mlp": ["flatten", "dense 17", "relu", "dense 10"]}
RECIPE = Recipe("adam 0.01", epochs=2, batch_size=64)


def study(**fields) -> Study:
    return Study(
        **{"networks": MLP, "backends": "numpy", "recipe": RECIPE, "train_size": 300, "name": "lab", "seeds": [0, 1]}
        | fields
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two finished runs, as a text."""
    folder = tmp_path_factory.mktemp("scripts") / "runs"
    lockstep.run_study(study(), str(folder), threads=1)
    return str(folder)


@pytest.fixture
def records(runs):
    return lockstep.find_runs(runs)


def refused(call, code, *words):
    with pytest.raises(LockstepError) as caught:
        call()
    assert caught.value.code == code
    for word in words:
        assert word in str(caught.value)


# -------------------------------------------------------------------------------------------------- records and tables


def test_paths_are_texts_or_paths_one_or_several(runs, tmp_path):
    found = [lockstep.find_runs(given) for given in (runs, Path(runs), [runs], (Path(runs), runs))]
    assert [[record.folder for record in records] for records in found] == [[record.folder for record in found[0]]] * 4
    assert len(found[0]) == 2
    assert lockstep.write_report(found[0], f"{tmp_path}/a.html") == tmp_path / "a.html"
    assert lockstep.write_report(found[0][0], tmp_path / "b.html").is_file()
    assert lockstep.Record(str(found[0][0].folder)) == found[0][0]


def test_a_record_knows_its_numbers(records):
    record = records[0]
    assert record.test_accuracy == record.metrics["test"]["accuracy"] > 0.3  # ten steps: three times chance
    assert record.test_loss == record.metrics["test"]["loss"]
    assert record.seconds == record.timing["seconds"]
    assert record.seconds_per_epoch > 0
    assert record.peak_memory_bytes > 1e6
    assert (record.parameters, record.epochs, record.together) == (13525, 2, 1)
    row = record.summary({})
    for name in ("test_accuracy", "test_loss", "parameters", "epochs", "seconds", "peak_memory_bytes", "together"):
        assert row[name] == getattr(record, name)


def test_records_print_as_a_table(records):
    head, first, second = repr(records).splitlines()
    assert re.split(" {2,}", head) == ["network", "backend", "seed", *results.NUMBERS]
    assert first.split()[:3] == ["mlp", "numpy", "0"]
    assert second.split()[:3] == ["mlp", "numpy", "1"]
    assert f"{100 * records[0].test_accuracy:.2f} %" in first
    assert len({len(line) for line in (head, first, second)}) == 1, "numbers end where their titles do"
    assert isinstance(records[:1], Records)
    alone, folder = repr(records[0]).rpartition("\n")[::2]
    assert folder == str(records[0].folder)
    assert alone.splitlines()[0].split()[:5] == ["network", "backend", "dataset", "seed", "dtype"]
    assert repr(Records()) == "Records([])"


def test_records_put_together_are_records(records):
    assert isinstance(records + list(records), Records)
    assert repr(records[:1] + records[1:]) == repr(records)


def test_runs_are_found_in_the_order_they_were_begun_in(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    first, second = lockstep.find_runs(tmp_path / "runs")
    status = json.loads((first.folder / "status.json").read_text())
    (first.folder / "status.json").write_text(json.dumps(status | {"started": "2999-01-01T00:00:00Z"}))
    assert [one.folder for one in lockstep.find_runs(tmp_path / "runs")] == [second.folder, first.folder]
    (second.folder / "status.json").unlink()  # what is not known comes first
    assert [one.folder for one in lockstep.find_runs(tmp_path / "runs")] == [second.folder, first.folder]


def test_records_are_a_table_in_a_notebook(records):
    for shown in (records._repr_html_(), records[0]._repr_html_()):
        cells = [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", shown)]
        assert "test accuracy" in cells
        assert f"{100 * records[0].test_accuracy:.2f} %" in cells
    assert records._repr_html_().count("<tr>") == 3


def test_what_varies_in_the_recipe_has_a_column(tmp_path):
    varied = study(grid={"optimizer": ["sgd 0.1", "adam 0.01", "adam 0.02"]}, seeds=0, name="varied")
    records = lockstep.run_study(varied, tmp_path, threads=1)
    head, *rows = repr(records).splitlines()
    assert "optimizer" in head
    assert [row.split("test")[0].split()[2:4] for row in rows] == [
        ["sgd", f"{100 * records[0].test_accuracy:.2f}"], ["adam", "learning_rate=0.01"],
        ["adam", "learning_rate=0.02"],
    ]  # fmt: skip
    slow = lockstep.run_study(study(recipe=Recipe("sgd 0.1", epochs=1), seeds=0, name="varied"), tmp_path, threads=1)
    assert "epochs" in repr(Records([records[0], slow[0]])).splitlines()[0]


def test_a_run_that_failed_or_is_damaged_says_so_in_its_row(tmp_path):
    failed = tmp_path / "failed"
    failed.mkdir()
    text = lockstep.resolved_toml(study(seeds=0))
    (failed / "spec.toml").write_text(text)
    store.write_status(failed, "failed", "LS-402", "it died")
    (record,) = lockstep.find_runs(failed)
    assert (record.test_accuracy, record.seconds, record.epochs) == (None, None, None)
    assert "failed" in repr(record)
    store.write_status(failed, "finished")
    with pytest.raises(LockstepError, match="LS-505"):
        _ = lockstep.Record(failed).test_accuracy
    store.write_json(failed / "metrics.json", {"test": []})
    with pytest.raises(LockstepError, match='"accuracy" is missing'):
        _ = lockstep.Record(failed).test_accuracy
    assert "damaged" in repr(lockstep.Record(failed))
    assert "damaged" in lockstep.Record(tmp_path / "nowhere")._repr_html_()


def test_the_table_is_that_of_the_command_and_in_its_language(records, capsys):
    with language.speaking("ru"):
        said = repr(records)
    assert said.splitlines()[0].split()[:3] == ["сеть", "бэкенд", "seed"]
    assert "МиБ" in said
    many = [record.summary({}) for record in records] * 200
    shown = results.as_text(results.results(many))
    assert shown.endswith("… and 200 more")
    assert "… and 200 more" in results.as_html(results.results(many))


# ------------------------------------------------------------------------------------------------------------- wrong


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lockstep.run_study("study.toml", "runs"), ("study: a Study is wanted here", "load_study")),
        (lambda: lockstep.run_study(None), ("not None (NoneType)",)),
        (lambda: lockstep.run_study(study(), 5), ("runs_folder: a path", "not 5 (int)", 'runs_folder="runs"')),
        (lambda: lockstep.run_study(study(), b"runs"), ("not b'runs' (bytes)",)),
        (lambda: lockstep.run_study(study(), ""), ("not '' (str)",)),
        (lambda: lockstep.run_study(study(), threads="two"), ("threads: a whole number", "'two' (str)")),
        (lambda: lockstep.find_runs(5), ("paths: a path, or a list of paths", "5 (int)")),
        (lambda: lockstep.find_runs([None]), ("a path, as a text or a Path",)),
        (lambda: lockstep.write_report("runs", "a.html"), ("records: a Record is wanted", "find_runs")),
        (lambda: lockstep.write_report(7, "a.html"), ("records: a list of runs",)),
        (lambda: lockstep.write_report([], None), ("path: a path",)),
        (lambda: lockstep.write_play(7, "a.html"), ("records: a list of runs",)),
        (lambda: lockstep.write_play([], None), ("path: a path",)),
        (lambda: lockstep.write_report([], "a.html", image="3"), ("image: a whole number",)),
        (lambda: lockstep.prove({}, "runs"), ("study: a Study is wanted here, not {} (dict)",)),
        (lambda: lockstep.prove(study(), steps=2.0), ("steps: a whole number", "2.0 (float)")),
        (lambda: lockstep.prove(study(), plants=3), ("plants: a list of texts",)),
        (lambda: lockstep.bench(MLP), ("study: a Study is wanted here",)),
        (lambda: lockstep.bench(study(), rounds=True), ("rounds: a whole number", "True (bool)")),
        (lambda: lockstep.verify(3.5), ("folders: a path, or a list of paths",)),
        (lambda: lockstep.verify("runs", images="all"), ("images: a whole number",)),
        (lambda: lockstep.compare_runs("a", 2), ("second: a path",)),
        (lambda: lockstep.load_study(["study.toml"]), ("path: a path", "(list)")),
        (lambda: lockstep.read_study(0), ("path: a path",)),
        (lambda: lockstep.parse_study(Path("study.toml")), ("text: a text is wanted", "read_study")),
        (lambda: lockstep.resolved_toml("study.toml"), ("study: a Study is wanted here",)),
        (lambda: lockstep.Record(3), ("folder: a path",)),
        (lambda: lockstep.new_study(3), ("path: a path",)),
        (lambda: lockstep.clean_runs(3.5), ("folders: a path, or a list of paths",)),
        (lambda: lockstep.resolved_values(None), ("path: a path",)),
        (lambda: lockstep.check_gradients("study.toml"), ("study: a Study is wanted here",)),
    ],
)  # fmt: skip
def test_a_wrong_type_is_told_in_words(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(call, "LS-204", *words)
    assert list(tmp_path.iterdir()) == []


def test_wrong_values_are_told_as_the_command_tells_them(runs, tmp_path):
    refused(lambda: lockstep.verify(str(tmp_path / "none")), "LS-200", "no such folder")
    refused(lambda: lockstep.verify(runs, images=0), "LS-205", "0 images")
    refused(
        lambda: lockstep.write_report(lockstep.find_runs(runs), tmp_path / "a.html", image=16),
        "LS-205",
        "one of 0 to 15",
    )
    refused(lambda: lockstep.run_study(study(backends="numpi"), str(tmp_path)), "LS-209", 'did you mean "numpy"?')
    refused(lambda: lockstep.prove(study(), str(tmp_path), plants="adam_epsilon"), "LS-209", "adam_epsilon")


# --------------------------------------------------------------------------------------------- the commands' documents


def command(capsys, *words):
    with pytest.raises(SystemExit):
        cli.main([*map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


def shape(value):
    """The keys of a document, all the way down."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def test_one_text_is_a_list_of_one(file):
    assert lockstep.load_study(file, "recipe.epochs=1", "numpy", "mlp").recipe.epochs == 1


def test_errors_are_about_arguments_and_not_about_options(file, tmp_path):
    study_of = functools.partial(lockstep.load_study, file)
    refused(lambda: study_of(["recipe.epochs"]), "LS-200", "settings: ", "for example recipe.epochs=3")
    refused(lambda: study_of(chosen_backends="nump"), "LS-209", "chosen_backends: ", 'did you mean "numpy"?')
    refused(lambda: study_of(networks=[3]), "LS-204", "networks: a list of texts is wanted here, not 3 (int)")
    refused(lambda: lockstep.run_study(study(), tmp_path, tell=3), "LS-204", "tell: a function is wanted here")
    refused(lambda: lockstep.prove(study(), tmp_path, plants="nothing@numpy"), "LS-209", "plants: ")
    refused(lambda: lockstep.bench(study(), tmp_path, epochs=1), "LS-205", "epochs: ")
    refused(lambda: lockstep.Network([lockstep.Flatten]), "LS-204", "layers[0]: this is the class", "write Flatten(…)")


def test_the_environment_says_the_language_as_for_the_commands(runs):
    def said(spoken):
        words = [sys.executable, "-c", f"import lockstep; print(lockstep.find_runs({runs!r}))"]
        env = {**os.environ, "LOCKSTEP_LANGUAGE": spoken, "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(words, env=env, capture_output=True, text=True, encoding="utf-8", check=False)

    assert said("ru").stdout.startswith("сеть")
    assert said("").stdout.startswith("network")
    assert 'LOCKSTEP_LANGUAGE: there is no language "xx"' in said("xx").stderr


@pytest.fixture
def file(tmp_path):
    """The study of `study()` in a file, with one seed."""
    (tmp_path / "lab.toml").write_text(lockstep.resolved_toml(study(seeds=0)))
    return tmp_path / "lab.toml"


def test_prove_gives_and_leaves_what_the_command_does(file, tmp_path, capsys):
    told = command(capsys, "prove", file, "--runs", tmp_path / "a", "--steps", 3)
    found = lockstep.prove(lockstep.load_study(str(file)), str(tmp_path / "b"), 3)
    assert found["verdict"] == told["verdict"] == "EQUAL"
    assert shape(json.loads(json.dumps(store.finite(found)))) == shape(told)
    for name in ("proof.json", "proof.html"):
        assert (tmp_path / "a" / "lab" / name).exists()
        assert (tmp_path / "b" / "lab" / name).exists()
    assert store.read_json(tmp_path / "b" / "lab" / "proof.json")["verdict"] == "EQUAL"


def test_a_plant_is_found_and_costed(tmp_path):
    document = lockstep.prove(study(), tmp_path, 3, "adam_epsilon_hat@numpy", threads=1)
    assert document["planted"] == ["adam_epsilon_hat@numpy"]
    assert document["verdict"] == "DIVERGED"
    assert document["cost"][0]["accuracy"] is not None
    assert (tmp_path / "lab" / "proof-planted.html").exists()


def test_bench_gives_and_leaves_what_the_command_does(file, tmp_path, capsys):
    told = command(capsys, "bench", file, "--runs", tmp_path / "a", "--rounds", 1, "--epochs", 2)
    found = lockstep.bench(lockstep.load_study(file), str(tmp_path / "b"), rounds=1, epochs=2)
    assert shape(json.loads(json.dumps(store.finite(found)))) == shape(told)
    assert store.read_json(tmp_path / "b" / "lab" / "bench.json") == json.loads(json.dumps(store.finite(found)))


def test_an_interrupted_bench_keeps_its_rounds_and_ends_the_script(tmp_path, monkeypatch):
    from lockstep.benchmark import benches

    laps = iter(range(9))

    def lap(entry, real=benches.lap):
        if next(laps) == 1:
            raise KeyboardInterrupt
        return real(entry)

    monkeypatch.setattr(benches, "lap", lap)
    with pytest.raises(KeyboardInterrupt):
        lockstep.bench(study(), tmp_path, rounds=3, epochs=2)
    assert store.read_json(tmp_path / "lab" / "bench.json")["rounds"] == 1


def test_verify_gives_what_the_command_does(runs, records, capsys):
    lockstep.write_report(records, f"{runs}/lab/report.html")
    found = lockstep.verify([runs, f"{runs}/lab"], images=20)
    assert {"format": 1, **found} == command(capsys, "verify", runs, f"{runs}/lab", "--images", 20)
    assert found["submissions"][1]["finished"] == 2
    (records[0].folder / "metrics.json").write_text("{}")
    assert lockstep.verify(f"{runs}/lab")["submissions"][0]["verdict"] == "does not fit"


# ------------------------------------------------------------------------------------------------------------ progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def seen(monkeypatch, stream, tmp_path, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    lockstep.run_study(study(seeds=0), tmp_path, threads=1, **options)
    return stream.getvalue()


def test_progress_is_shown_on_a_terminal_and_silenced(monkeypatch, tmp_path):
    monkeypatch.setenv("TERM", "xterm")
    assert "mlp · numpy" in seen(monkeypatch, Terminal(), tmp_path)
    assert seen(monkeypatch, Terminal(), tmp_path, again=True, progress=False) == ""


def test_progress_in_a_log_is_shown_where_it_is_asked_for(monkeypatch, tmp_path):
    assert seen(monkeypatch, io.StringIO(), tmp_path) == ""
    told = []
    said = seen(
        monkeypatch, io.StringIO(), tmp_path, again=True, progress=True, tell=lambda run, event: told.append(event)
    )
    assert "epoch 2/2: loss" in said
    assert told[-1]["event"] == "end"
    assert seen(monkeypatch, io.StringIO(), tmp_path, again=True, progress=None) == ""


def in_a_notebook(monkeypatch):
    """As a kernel looks from inside: IPython is imported, and its shell has a kernel."""
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


def test_progress_in_a_notebook_is_one_line_a_run(monkeypatch, tmp_path, capsys):
    in_a_notebook(monkeypatch)
    lockstep.run_study(study(), tmp_path, threads=1)
    lines = capsys.readouterr().out.splitlines(keepends=True)
    whole = "".join(lines)
    assert whole.count("\n") == 2, "one line for each run"
    for line, seed in zip(whole.split("\n"), (0, 1), strict=False):
        parts = line.split("\r")
        assert f"seed {seed}" in parts[-1]
        assert "epoch 2/2: loss" in parts[-1]
        assert len(parts) == 4, "written over: starting, two epochs"
    lockstep.run_study(study(), tmp_path, threads=1, progress=False)
    assert capsys.readouterr().out == ""


def test_a_shorter_line_covers_the_one_before():
    from rich.console import Console

    from lockstep.screen.runs import Watcher

    said = io.StringIO()
    watcher = Watcher(1, Console(file=said, force_terminal=False), is_one_line=True)
    watcher.write_line("a long line")
    watcher.write_line("short")
    assert said.getvalue() == "\ra long line\rshort      "


def test_a_process_without_stderr_shows_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert scripting.console_for(None) is None


# ---------------------------------------------------------------------------------------------------------------- names

NAMED = "from lockstep import Study; print(Study({'mlp': ['flatten', 'dense 10']}).name)"


@pytest.mark.parametrize(
    ("file", "words", "name"),
    [
        ("lab1.py", ["lab1.py"], "lab1"),
        ("Лаба 2.py", ["Лаба 2.py"], "Laba-2"),
        ("pkg/train.py", ["-m", "pkg.train"], "train"),
        ("pkg/__main__.py", ["-m", "pkg"], "pkg"),
        ("any.py", ["-c", NAMED], "study"),
    ],
)
def test_a_study_made_in_a_script_is_named_by_it(tmp_path, file, words, name):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(NAMED, encoding="utf-8")
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == name, done.stderr


def test_a_study_made_in_a_notebook_is_named_by_it(monkeypatch):
    in_a_notebook(monkeypatch)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert naming.of_script() == "notebook"
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/anna/Моя сеть.ipynb")
    assert naming.of_script() == "Moia-set"
    monkeypatch.setattr(sys.modules["__main__"], "__vsc_ipynb_file__", "/work/lenet.ipynb", raising=False)
    assert Study(MLP).name == "lenet"
    assert Study(MLP, name="own").name == "own"


def test_a_study_from_a_text_is_named_by_the_script_too(monkeypatch):
    monkeypatch.setattr(naming, "of_script", lambda: "lab7")
    assert lockstep.parse_study('networks.mlp = ["flatten", "dense 10"]').name == "lab7"


# ------------------------------------------------------------------------------------------------- the documentation


def blocks(page):
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


def test_the_examples_in_python_work_as_a_script(tmp_path):
    need_backend("torch")
    page = ROOT / "docs" / "python.md"
    (tmp_path / "lab1.py").write_text(blocks(page), encoding="utf-8")
    done = subprocess.run([sys.executable, "lab1.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("network  backend")
    assert (tmp_path / "runs" / "report.html").is_file()
    assert (tmp_path / "runs" / "lab1").is_dir()
    assert "EQUAL – the first 4 steps are the same within rounding" in done.stdout
    (said,) = re.findall(r"prints `(LS-204 .*?)`\. ", page.read_text(encoding="utf-8"))
    assert said in done.stdout.splitlines()


def test_every_function_of_the_page_takes_what_it_says():
    import inspect

    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)\(([^`]*)\)` \|", page, re.MULTILINE)
    assert len(rows) >= 7
    for name, arguments in rows:
        names = [part.partition("=")[0].strip() for part in arguments.split(",") if part.strip() not in ("", ")", "(")]
        assert names == list(inspect.signature(getattr(lockstep, name)).parameters), name
