"""The command line in Russian: no English left but names, and nothing but English in what is kept for programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from typer.main import get_command

from lockstep import arguments, cli, language, store
from lockstep.errors import CODES, LockstepError, Problem
from lockstep.explain.remedies import REMEDIES
from lockstep.language import later
from support import catalogs
from support.situations import SITUATIONS, machine  # noqa: F401  # the fixture is for every test

STUDY = """
dataset = "digits"
backends = ["numpy"]
train_size = 200
[recipe]
epochs = 2
[networks]
small = ["flatten", "dense 10"]
"""
WRONG = """
dataset = "digits"
backends = ["numpi"]
sheds = 3
[recipe]
epochs = "many"
batch_size = 0
optimizer = {kind = "adem"}
early_stopping = {monitor = "loss"}
[networks]
small = ["flatten", {units = 10}]
"""

# What is no word of a language: codes, options, paths, names of arguments, what stands in quotes or angle brackets.
NAMES = re.compile(
    r"LS-\d+( (--set )?[\w.\[\]:-]+:)*|(?<![\w-])--?[a-z][\w-]*|<[^>]*>|\"[^\"]*\"|'[^']*'|«[^»]*»|`[^`]*`|"
    r"\b[a-z_0-9]+ = |"
    r"\b[A-Z][A-Z0-9_@-]+\b|\S*/\S*|\S*\.[a-z]\w*\b|\b\w+[=_]\S*|\b[a-z]+\d+\b|\blockstep( [a-z]+( [a-z]+)?)?|"
    r"\{[^}]*\}|\d[\w.+]+|\b[0-9a-f]{8,}…?|^  [a-z]+(?=  )|\[по умолчанию: [^\]]*\]",
    re.MULTILINE,
)
KNOWN = {
    "Lockstep", "NumPy", "PyTorch", "TensorFlow", "numpy", "torch", "tensorflow", "tensorflow-cpu", "jax", "jaxlib",
    "keras", "optax", "scikit-learn", "Python", "Pillow", "digits", "mnist", "fashion-mnist", "small", "flatten",
    "dense", "conv", "adam", "adamw", "seed", "en", "ru", "train", "test", "lab", "shipped", "topics", "differences",
    "causes", "errors", "explain", "stdout", "stderr", "backend", "dtype", "npz", "gzip", "pip", "tf", "epochs",
    "kind", "units", "loss", "networks", "recipe", "prove", "runs", "pets", "mlp", "cnn", "lenet", "JSON", "Schema",
    "optimizer", "drawn", "from-a", "as-is", "diff", "junit", "sarif", "fit", "flax", "tensorboard", "mlflow", "wandb",
    "trackio", "study", "run", "bench", "proof", "metrics", "Keras", "SavedModel", "Flax",
}  # fmt: skip


def english(text: str) -> list[str]:
    """The English words of a text."""
    return [word for word in re.findall(r"[A-Za-z][A-Za-z-]+", NAMES.sub(" ", text)) if word not in KNOWN]


def ask(capsys, *words: object, code: int | None = 0, russian: bool = True) -> str:
    """What a command prints, on stdout and on stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, words), *(["--language", "ru"] if russian else [])])
    said = capsys.readouterr()
    assert code is None or ended.value.code == code, said.out + said.err
    return said.out + said.err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("LOCKSTEP_LANGUAGE", raising=False)
    Path("lab.toml").write_text(STUDY)
    return tmp_path


def commands(command=None, path=()):
    command = command or get_command(cli.app)
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


# --------------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize("command", [*commands()], ids=lambda path: " ".join(path) or "lockstep")
def test_a_help_is_russian(command, capsys):
    said = ask(capsys, *command, "--help")
    assert said.startswith("Использование: lockstep")
    assert "Параметры:\n" in said
    assert english(said) == []


def test_an_english_sentence_in_a_help_is_seen(capsys, monkeypatch):
    monkeypatch.delitem(catalogs.held("ru"), "Download nothing.")
    assert english(ask(capsys, "run", "--help")) == ["Download", "nothing"]


ANSWERS = [
    ["doctor"], ["data", "list"], ["data", "path"], ["show", "lab.toml"], ["explain", "errors"], ["explain", "ls-304"],
    ["data", "verify"],
]  # fmt: skip


@pytest.mark.parametrize("words", ANSWERS, ids=" ".join)
def test_an_answer_is_russian(words, folder, capsys):
    said = ask(capsys, *words, code=None)
    assert re.search("[а-я]{3}", said)
    assert english(re.sub(r"│ процессор .*|│ платформа .*", "", said)) == []


MISTAKES = [
    (["run"], 2), (["run", "--foo"], 2), (["run", "--ofline"], 2), (["frob"], 2), (["run", "a", "b"], 2),
    (["run", "lab.toml", "--threads"], 2), (["run", "lab.toml", "--threads", "x"], 2), (["run", "--quick=1", "a"], 2),
    (["report", "a", "--image", "17"], 2), (["run", "none.toml"], 2), (["run", "lab.toml", "--threads", "9999"], 2),
    (["run", "lab.toml", "--set", "recipe.epocs=3"], 2), (["run", "lab.toml", "--set", "epochs"], 2),
    (["run", "lab.toml", "--network", "smal"], 2), (["run", "lab.toml", "--backends", "numpi"], 2),
    (["run", "lab.toml", "--set", "dataset=mnst"], 2), (["data", "import", "none", "mine"], 3), (["resume", "none"], 2),
    (["run", "lab.toml", "--runs", "lab.toml"], 5),
    (["prove", "lab.toml", "--plant", "nothing@numpy"], 2),
    (["verify", "x"], 2), (["bench", "lab.toml", "--rounds", "0"], 2), (["prove", "x", "y"], 2),
    (["prove", "lab.toml", "lab.toml"], 2), (["prove", "lab.toml", "--dtype", "int8"], 2),
    (["explain", "nothing-of-that-kind"], 2), (["explain", "LS-999"], 2), (["data", "fetch", "mnst"], 2),
    (["explain", "adam_epsilon_hat", "--markdown"], 2),

]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_an_error_is_russian(words, code, folder, capsys):
    said = ask(capsys, *words, code=code)
    said = said[said.index("LS-") :] if "LS-" in said else said
    assert re.search("[а-я]{3}", said)
    assert english(said) == []


def test_every_problem_of_a_study_is_russian(folder, capsys):
    Path("wrong.toml").write_text(WRONG)
    said = ask(capsys, "run", "wrong.toml", code=2)
    assert said.count("LS-2") >= 6
    assert "неизвестный ключ «sheds»" in said
    assert english(said) == []


@pytest.mark.parametrize("code", SITUATIONS)
def test_every_code_is_told_in_russian(code, tmp_path, monkeypatch, capsys):
    situation, _words = SITUATIONS[code]
    said = ask(capsys, *situation(tmp_path, monkeypatch), code=int(code[3]))
    assert code in said
    with language.speaking("ru"):
        title, example = language._(CODES[code]), language._(REMEDIES[code].example)
        example = example.replace("\u202f", "\u00a0").split()[1:]
    for status in tmp_path.glob("runs/*/*/status.json"):
        reason = store.read_status(status.parent)["reason"]
        if reason and not isinstance(reason, language.Text):  # somebody else's words, behind what is meant
            assert f"{title}: {code}" in said
            said = " ".join(said.split()).replace(" ".join(str(reason).split()), "")
    assert english(said) == []
    assert code in FROM_WORKERS or any(
        " ".join(piece) in " ".join(said.split()) for piece in zip(example, example[1:], example[2:], strict=False)
    ), f"the example of lockstep explain {code} is not what is said:\n{said}"


FROM_WORKERS = ("LS-401", "LS-402", "LS-403", "LS-404", "LS-506")  # kept in status.json first


def test_a_file_that_is_no_toml_is_told_in_russian(folder, capsys):
    for number, text in enumerate(("a", "a = [1", "a = 1\na = 2", "[a", "a = 1 2", "a = 'x")):
        Path("broken.toml").write_text(text)
        said = ask(capsys, "show", "broken.toml", code=2)
        assert english(said) == [], (number, said)


def test_an_english_message_in_an_error_is_seen(folder, capsys, monkeypatch):
    monkeypatch.delitem(catalogs.held("ru"), 'there is no backend "{name}"')
    said = ask(capsys, "run", "lab.toml", "--backends", "numpi", code=2)
    assert english(said) == ["there", "is", "no"]


def test_a_text_with_braces_stays_as_it_is():
    message = later('this table has no "kind": {found}', found="{'units': {10}}")
    assert message == "this table has no \"kind\": {'units': {10}}"
    with language.speaking("ru"):
        assert language.say(message) == "в этой таблице нет ключа «kind»: {'units': {10}}"
        assert language.say(later("nobody translated {this}", this="{it}")) == "nobody translated {it}"
        assert language.say("{plain}") == "{plain}"


# ------------------------------------------------------------------------------------------------------ what is kept


def test_json_is_the_same_in_every_language(folder, capsys):
    Path("wrong.toml").write_text(WRONG)
    for words in (
        ["show", "lab.toml"], ["explain", "errors"], ["explain", "causes"], ["data", "list"],
        ["run", "wrong.toml"], ["run", "none.toml"], ["run", "lab.toml", "--epochs", "3"], ["run", "--nothing"],
    ):  # fmt: skip
        said = []
        for russian in (False, True):
            with pytest.raises(SystemExit):
                cli.main([*words, "--json", *(["--language", "ru"] if russian else [])])
            said.append(capsys.readouterr().out)
        json.loads(said[0])
        assert said[0] == said[1]


def lockstep_in(folder, *words, code=0, **environment):
    command = [sys.executable, "-m", "lockstep", *words]
    environment = {**os.environ, "COLUMNS": "200", "LOCKSTEP_LANGUAGE": "ru", **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def written_in_russian(folder: Path) -> list[str]:
    """The files of run folders that hold a Russian letter; the report beside them is for people."""
    files = [path for status in folder.glob("runs/*/*/status.json") for path in status.parent.rglob("*.[jtl]*")]
    return [path.name for path in files if re.search("[а-яА-Я]", path.read_text(encoding="utf-8"))]


def test_a_run_is_told_in_russian_and_kept_in_english(folder):
    done = lockstep_in(folder, "run", "lab.toml")
    assert english(done.stdout) == []
    assert english(done.stderr) == []
    assert "эпоха 2/2" in done.stderr
    again = lockstep_in(folder, "run", "lab.toml")
    assert "закончен раньше" in again.stderr
    (place,) = folder.glob("runs/lab/small-*")
    assert json.loads((place / "environment.json").read_text())["dataset"]["notes"][0].startswith("the 8×8 images")
    assert written_in_russian(folder) == []
    (place / "status.json").write_text("отчёт", encoding="utf-8")
    assert written_in_russian(folder) == ["status.json"]


def test_a_worker_that_dies_is_told_in_russian_and_kept_in_english(folder):
    (folder / "sitecustomize.py").write_text(
        "import os, sys\nif 'lockstep.training.worker' in sys.orig_argv:\n    os.kill(os.getpid(), 9)\n"
    )
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = lockstep_in(folder, "run", "lab.toml", code=4, PYTHONPATH=path)
    (place,) = folder.glob("runs/lab/small-*")
    reason = json.loads((place / "status.json").read_text())["reason"]
    assert "it was ended by signal SIGKILL" in reason
    with language.speaking("ru"):
        said = language.say(store.read_status(place)["reason"])
    assert " ".join(said.split()) in " ".join(done.stderr.split())
    assert english(done.stderr) == []
    assert written_in_russian(folder) == []


def test_a_problem_is_english_where_it_is_kept_and_russian_where_it_is_said():
    problem = Problem("LS-209", later('there is no backend "{name}"', name="numpi"), hint=later("add it"))
    error = LockstepError.several([problem])
    with language.speaking("ru"):
        assert str(error) == 'LS-209 there is no backend "numpi"\n    → add it'
        assert json.dumps(vars(problem)) == json.dumps(
            {"code": "LS-209", "message": 'there is no backend "numpi"', "where": "", "hint": "add it"}
        )
        assert language.say(problem.message) == "нет бэкенда «numpi»"


# ------------------------------------------------------------------------------------------------------- which language


def test_the_language_is_taken_wherever_it_stands(folder, capsys, monkeypatch):
    for words in (
        ["--language", "ru", "data", "path"],
        ["data", "--language=ru", "path"],
        ["data", "path", "--language", "ru"],
    ):
        assert "Папки в порядке поиска" in ask(capsys, *words, russian=False)
    assert "Folders, in the order of looking" in ask(capsys, "data", "path", russian=False)
    monkeypatch.setenv("LOCKSTEP_LANGUAGE", "ru")
    assert "Папки в порядке поиска" in ask(capsys, "data", "path", russian=False)
    assert "Folders, in the order" in ask(capsys, "data", "path", "--language", "en", russian=False)
    assert language.spoken() == "en", "a command leaves the language as it was"


def test_an_unknown_language_is_refused_with_the_known_ones(folder, capsys, monkeypatch):
    said = ask(capsys, "data", "path", "--language", "tlh", code=2, russian=False)
    assert said == 'LS-205 --language: there is no language "tlh"\n    → one of en, ru\n'
    assert "LS-200" in ask(capsys, "data", "path", "--language", code=2, russian=False)
    monkeypatch.setenv("LOCKSTEP_LANGUAGE", "xx")
    said = ask(capsys, "doctor", code=2, russian=False)
    assert said == 'LS-205 LOCKSTEP_LANGUAGE: there is no language "xx"\n    → one of en, ru\n'
    assert "Папки" in ask(capsys, "data", "path"), "an option wins"


def test_a_catalog_that_was_not_installed_is_told(folder, capsys, monkeypatch):
    monkeypatch.setattr(arguments, "catalog_of", lambda code: folder / f"{code}.mo")
    said = " ".join(ask(capsys, "data", "path", code=5).split())
    assert "LS-505" in said
    assert 'the texts of language "ru" are not installed' in said
    assert "make catalogs" in said
    assert "ru.mo" in said


def test_explain_prefers_the_language_in_use(folder, capsys, monkeypatch):
    assert "обнуляет" in ask(capsys, "explain", "dropout")
    assert "обнуляет" not in ask(capsys, "explain", "dropout", russian=False)
    assert "окна" in ask(capsys, "explain", "свёртка", russian=False)
    monkeypatch.setenv("LOCKSTEP_LANGUAGE", "ru")
    assert "обнуляет" in ask(capsys, "explain", "dropout", russian=False)


# ------------------------------------------------------------------------------------------------------------- catalog


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def test_the_catalog_has_exactly_the_texts_of_the_source():
    assert catalogs.problems_of_messages() == []


@pytest.mark.parametrize("text", ["add it", "Download nothing.", "a text", "loss {loss}, test accuracy {accuracy}"])
def test_a_text_that_is_missing_or_wrong_in_the_catalog_is_named(text, tmp_path):
    (tmp_path / "ru").mkdir()
    copy, whole = tmp_path / "ru" / "messages.po", catalogs.MESSAGES.read_text(encoding="utf-8")
    entry = next(part for part in whole.split("\n\n") if part.startswith(f"msgid {_quoted(text)}\n"))
    copy.write_text(whole.replace(f"{entry}\n\n", ""), encoding="utf-8")
    assert catalogs.problems_of_messages(copy) == [f"missing: {text}"]
    copy.write_text(whole.replace(entry, entry.replace(_quoted(text), _quoted(f"{text}!"))), encoding="utf-8")
    assert sorted(catalogs.problems_of_messages(copy)) == [f"missing: {text}", f"not in the source: {text}!"]


def translated_twice(folder: Path) -> list[str]:
    """Texts that catalogs translate in different ways: a command would say the one of the last file."""
    found: dict[str, set[str]] = {}
    for po in sorted(folder.glob("*.po")):
        with po.open("rb") as file:
            for message in read_po(file, locale=folder.name):
                if message.id:
                    found.setdefault(str(message.id), set()).add(str(message.string))
    return [text for text, ways in found.items() if len(ways) > 1]


def test_a_text_is_translated_in_one_way(tmp_path):
    assert translated_twice(catalogs.MESSAGES.parent) == []
    (tmp_path / "ru").mkdir()
    for number, word in enumerate(("добавьте его", "прибавьте его")):
        (tmp_path / "ru" / f"{number}.po").write_text(f'msgid "add it"\nmsgstr "{word}"\n', encoding="utf-8")
    assert translated_twice(tmp_path / "ru") == ["add it"]


def test_every_code_has_a_title_in_russian():
    with language.speaking("ru"):
        assert [code for code, title in CODES.items() if english(language._(title))] == []
