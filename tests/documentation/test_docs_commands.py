"""Every command of the documentation can be given: each is run, with small settings that docs/index.md names."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lockstep import LockstepError, cli, store
from support import ROOT
from support.needs import need, need_backend

READMES = [ROOT / "README.md", ROOT / "README.ru.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").glob("**/*.md"))]
STUDY = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
SMALL = ["--quick", "--backends", "numpy", "--set", "recipe.epochs=1", "--set", "train_size=300"]
PROVEN = ["--backends", "numpy", "--steps", "4", "--set", "dataset=digits", "--no-cost"]
TIMED = ["--backends", "numpy", "--rounds", "1", "--epochs", "2", "--set", "dataset=digits", "--set", "train_size=300"]
# What takes minutes or needs every framework is given once, by the test of its own: command → (file, words in it).
ELSEWHERE = {
    "prove studies/demo.toml --gradients": ("proof/test_gradients.py", 'cli.main(["prove", *words, "--gradients"])'),
    "export studies/demo.toml --notebook": ("proof/test_notebook.py", "notebook.export(study)"),
    "export RUN --script torch --idiomatic": ("exchange/test_idiomatic.py", 'judged.export(RUN, "torch"'),
    "demo": ("study/test_templates.py", 'typed("demo"'),
    "explain differences": ("defaults/test_differences.py", 'explained(capsys, "differences")'),
    "bench studies/lab-frameworks.toml --against shipped": (
        "benchmark/test_bench.py",
        '["bench", str(path), "--runs", str(tmp_path), "--against", "shipped"',
    ),
    "bench studies/demo.toml --faults": (
        "benchmark/test_bench.py",
        '["bench", str(path), "--runs", str(tmp_path), "--faults"',
    ),
}
MORE = {"run": SMALL, "prove": PROVEN, "bench": TIMED}
PLANTED = "prove studies/demo.toml --plant adam_epsilon_hat@tensorflow"  # what the first page shows
DIFF = "diff examples/port/torch_net.py:Net examples/port/keras_net.py:build"
CODES = {PLANTED: 1, DIFF: 1}  # a proof that diverges says so, and models that differ


def commands_of(page):
    """Every indented line outside fenced code, without the comment behind it."""
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    return [re.split(r" {2,}#", line)[0].strip() for line in re.findall(r"^ {4}(?! )(.+)$", prose, re.MULTILINE)]


def all_commands():
    found = {command.removeprefix(".venv/bin/") for page in PAGES for command in commands_of(page.read_text("utf-8"))}
    return sorted(found)


COMMANDS = all_commands()
OURS = [command.removeprefix("lockstep ") for command in COMMANDS if command.startswith("lockstep ")]


def adapted(words, folder):
    """The command with the small settings that docs/index.md tells of, and as a shell would pass it on."""
    if words[-2:-1] == [">"]:
        words = words[:-2]
    words = [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])]
    if words[0] not in MORE or not words[1].endswith(".toml"):
        return words
    study = tomllib.loads((folder / words[1]).read_text(encoding="utf-8"))
    more = [] if "--network" in words else ["--network", next(iter(study["networks"]))]
    if words[0] == "prove" and "--network" in words:  # it is large
        more += ["--set", "recipe.batch_size=16"]
    for key, values in study.get("grid", {}).items():
        more += ["--set", f"grid.{key}={values[:1]!r}"]
    words = [re.sub("@tensorflow$", "@numpy", word) for word in words]
    return [*words, *MORE[words[0]], *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place with everything that the documentation speaks of."""
    place = tmp_path_factory.mktemp("reader")
    for name in ("studies", "examples"):
        shutil.copytree(ROOT / name, place / name)
    (place / "study.toml").write_text(STUDY, encoding="utf-8")
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (place / "FOLDER" / name).mkdir(parents=True)
        for n in range(12):
            Image.fromarray(rng.integers(0, 255, (28, 28), np.uint8)).save(place / "FOLDER" / name / f"{n}.png")
    return place


@pytest.fixture(autouse=True)
def _as_a_reader(folder, monkeypatch):
    """In that place, without writing to the home of whoever runs the tests, and with signals as they were."""
    monkeypatch.chdir(folder)
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(folder / "home"))
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


def lockstep(words):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return ended.value.code


def test_every_command_is_known():
    assert len(OURS) >= 25
    unknown = [command for command in COMMANDS if command.split()[0] not in ("lockstep", "make", "pip")]
    assert unknown == []


@pytest.mark.parametrize("command", [command for command in OURS if command not in ELSEWHERE])
def test_a_command_of_the_documentation_works(command, folder, capsys, request):
    words = shlex.split(command, comments=True)
    if "mnist" in words or "dataset=fashion-mnist" in words:
        request.getfixturevalue("mnist")
    if words[1:] == ["RUN_A", "RUN_B"]:
        words[1:] = [run_in(folder, name) for name in words[1:]]
    if "RUN" in words:
        need_backend("torch")
        words[words.index("RUN")] = finished_run(folder)
        words += ["--force"] if words[0] == "export" else []
        if words[0] == "prove":
            assert lockstep(["export", words[-1], "--script", "torch", "--out", words[2], "--force"]) == 0
            capsys.readouterr()
    if "RUNS" in words:
        words[words.index("RUNS")] = str(Path(finished_run(folder)).parent)
    for word in words[1:2]:
        if word in HELD and not holds_runs(folder / HELD[word]):
            run_in(folder, HELD[word])
    if "my-study.toml" in words and not (folder / "my-study.toml").exists():
        assert lockstep(["init", "my-study"]) == 0
    code = lockstep(adapted(words, folder))
    said = capsys.readouterr()
    assert code == CODES.get(command, 0), said.out + said.err
    assert said.out.strip()
    if command == PLANTED:
        assert not_printed(shown_on(READMES[0]), said.out + said.err) == []


def holds_runs(place):
    try:
        return bool(store.find_runs([place]))
    except LockstepError:
        return False


# What a command speaks of → where its runs are put.
HELD = {
    "runs": "runs",
    "runs/demo": "runs/demo",
    "runs/study": "runs/study",
    "submissions/*": "submissions/anna",
    "submissions/anna": "submissions/anna",
}


def run_in(folder, name):
    """A run folder of the demonstration's convolutional network."""
    assert lockstep(["run", "studies/demo.toml", *SMALL, "--network", "cnn", "--runs", name]) == 0
    (status,) = (path for path in (folder / name).glob("*/*/status.json") if "traces" not in path.parts)
    return str(status.parent)


def finished_run(folder):
    """A run that others need too."""
    if not (folder / "exported").exists():
        return run_in(folder, "exported")
    (status,) = (folder / "exported").glob("*/*/status.json")
    return str(status.parent)


def shown_on(path):
    """The lines of the proof that a first page shows, below their command."""
    (block,) = re.findall(r"^```\n\$ lockstep (.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    command, *lines = block.splitlines()
    assert command.removesuffix(" --language ru") == PLANTED
    return lines


def form_of(line):
    """A line without what another backend, network, layer or number of steps makes different."""
    words = {
        r"\d+_\w+/\w+": "PLACE",
        "numpy|torch|tensorflow|jax": "BACKEND",
        "mlp|cnn": "NETWORK",
        r"\d[\d.,e−-]*": "#",
    }
    for old, new in words.items():
        line = re.sub(old, new, line)
    return line.strip()


def not_printed(lines, said):
    """Lines of which the command printed none of the same form."""
    forms = {form_of(line) for line in said.splitlines()}
    return [line for line in lines if form_of(line) not in forms]


def test_a_proof_that_no_command_prints_is_found():
    lines = shown_on(READMES[0])
    assert len(lines) == 8
    assert not_printed(lines, "\n".join(lines)) == []
    other = [line.replace("adam_epsilon_hat", "adam_epsilon") for line in lines]
    assert not_printed(other, "\n".join(lines)) != []


def test_the_proof_is_the_same_in_both_languages():
    numbers = [re.findall(r"\d[\d.,e-]*\d", " ".join(shown_on(path)).replace("−", "-")) for path in READMES]
    assert [number.replace(",", ".") for number in numbers[1]] == numbers[0]


def test_a_command_that_does_not_work_is_found(folder, capsys):
    page = (
        "Text.\n\n    lockstep explain conv3d   # a layer\n    lockstep run studies/lab-none.toml\n\n```\n    code\n```"
    )
    assert commands_of(page) == ["lockstep explain conv3d", "lockstep run studies/lab-none.toml"]
    assert lockstep(["explain", "conv3d"]) == 2
    assert lockstep(["run", "studies/lab-none.toml"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize("command", list(ELSEWHERE))
def test_what_is_not_run_here_is_run_elsewhere(command):
    file, words = ELSEWHERE[command]
    assert words in (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert command in OURS


def test_targets_and_extras_of_the_documentation_are_there():
    makefile = [command for command in COMMANDS if command.startswith("make ")]
    assert len(makefile) >= 2
    for command in makefile:
        need(shutil.which("make") is not None, "make")
        done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for command in COMMANDS:
        for extra in re.findall(r"\[(\w+)\]", command) if command.startswith("pip ") else ():
            assert extra in extras


def test_the_small_settings_are_told():
    told = " ".join((ROOT / "docs" / "index.md").read_text(encoding="utf-8").split())
    for word in (
        "--quick",
        "one epoch",
        "300 training images",
        "first network",
        "four steps",
        "one round",
        "NumPy alone",
        "digits",
    ):
        assert word in told


def said_in(page):
    """Commands, tables of numbers, code and links of a page, which are the same in every language."""
    numbers = re.findall(r"\d+[.,]\d+ ± \d+[.,]\d+ %", page)
    code = [re.sub(r" *#.*", "", block) for block in re.findall(r"```\w+\n(.*?)```", page, re.DOTALL)]
    links = {target.replace("/ru/", "/en/") for target in re.findall(r"\]\((docs/[^)]+)\)", page)}
    return [number.replace(",", ".") for number in numbers], code, links


def test_the_first_page_says_the_same_in_both_languages():
    english, russian = (path.read_text(encoding="utf-8") for path in READMES)
    assert said_in(russian) == said_in(english)
    left = set(commands_of(english)) - set(commands_of(russian))
    assert len(left) <= 6, left
    assert "](README.ru.md)" in english
    assert "](README.md)" in russian


def test_the_first_page_in_russian_leads_to_russian_chapters():
    russian = READMES[1].read_text(encoding="utf-8")
    chapters = re.findall(r"\]\((docs/chapters/[^)]+)\)", russian)
    assert len(chapters) == 6
    assert all("/ru/" in target and (ROOT / target).is_file() for target in chapters)
    prose = re.sub(r"```.*?```|`[^`]*`|^ {4}[^\n]*$|\]\([^)]*\)", " ", russian, flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall("[а-яё]{3,}", prose)) > 250
    sentences = re.findall(r"(?:[A-Za-z]{2,}[ ,]+){4,}", prose)
    assert sentences == []


def test_a_first_page_that_fell_behind_is_found():
    english = READMES[0].read_text(encoding="utf-8")
    for old, new in (
        ("97.86 ± 0.10 %", "97.87 ± 0.10 %"),
        ("epochs = 3", "epochs = 4"),
        ("docs/verify.md", "docs/data.md"),
    ):
        assert old in english
        assert said_in(english.replace(old, new)) != said_in(english)


def test_chapters_in_russian_lead_to_each_other():
    for page in sorted((ROOT / "docs" / "chapters" / "ru").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert "/en/" not in text, page
        for target in re.findall(r"\]\(([^)#:]+\.md)", text):
            assert (page.parent / target).is_file(), f"{page}: {target}"
