"""`lockstep explain WORD`: every layer and optimizer has its part of the chapters, and it reads well in a terminal."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from lockstep import cli, spec
from lockstep.errors import CODES
from lockstep.explain import formulas, topics
from lockstep.proof.causes import CAUSES
from support import ROOT

WORDS = {*spec.LAYERS, *spec.OPTIMIZERS, *spec.SCHEDULES, "cross_entropy", "mean_squared_error", "padding", "stride"}
LANGUAGES = pytest.mark.parametrize("language", topics.LANGUAGES)
PAGE = """# A page

<!-- topic: first -->
## One

Text with `a $b$` and $a_{1}$.

```python
# no heading
```

<!-- topic: inner -->
### Below

Inside.

## Two

Outside.
"""


def ask(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["explain", *words])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def without_a_part(words, known):
    return sorted(set(words) - set(known))


@LANGUAGES
def test_every_layer_optimizer_and_schedule_has_a_part(language):
    assert without_a_part(WORDS, topics.topics(language)) == []


def test_a_layer_without_a_part_is_found():
    assert without_a_part({"conv2d", "conv3d"}, topics.topics("en")) == ["conv3d"]


@LANGUAGES
def test_no_name_means_two_things(language):
    parts = [
        part
        for page in sorted((ROOT / "docs" / "chapters" / language).glob("*.md"))
        for part in topics.parts_of(page.read_text("utf-8"), page.stem, language)
    ]
    names = [name for part in parts for name in part.names]
    assert len(set(names)) == len(names)
    assert not set(names) & {"differences", "causes", "errors", "topics", *CAUSES, *map(str.lower, CODES)}
    assert len(names) == len(topics.topics(language)), "a page is not in the package, or a mark stands over no heading"


def test_a_part_ends_before_the_next_heading_that_is_not_below_it():
    first, inner = topics.parts_of(PAGE, "page", "en")
    assert (first.names, first.title) == (("first",), "One")
    assert "Inside." in first.text
    assert "Outside." not in first.text
    assert "<!--" not in first.text
    assert inner.text == "### Below\n\nInside."
    assert topics.plain(first.text).splitlines()[2] == "Text with `a $b$` and a₁."


@LANGUAGES
def test_every_formula_has_a_plain_form(language):
    n = 0
    for part in topics.topics(language).values():
        said = topics.plain(part.text)
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", said, flags=re.DOTALL)
        assert "$" not in prose
        assert "\\frac" not in prose
        n += part.text.count("$")
    assert n > 100


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\frac{a+b}{c}", "(a+b) / c"),
        (r"\frac{a}{b+c}", "a / (b+c)"),
        (r"\frac{n-k}{s}", "(n−k) / s"),
        (r"\sqrt{\sigma^2+\varepsilon}", "√(σ²+ε)"),
        (r"\frac{\hat{m}}{\sqrt{\hat{v}}+\varepsilon}", "m̂ / (√v̂+ε)"),
        (r"x^\top \cdot dy", "xᵀ · dy"),
        (r"x_{i+u,j+v}", "x_(i+u,j+v)"),
        (r"-\sum_j t_{ij} \log p_{ij}", "− Σⱼ tᵢⱼ log pᵢⱼ"),
        (r"\lfloor \frac{n-k}{s} \rfloor + 1", "⌊(n−k) / s⌋+1"),
    ],
)
def test_a_formula_keeps_its_meaning_as_a_line(formula, text):
    assert formulas.as_text(formula) == text


@pytest.mark.parametrize("formula", [r"\mystery{x}", r"\frac{a", r"{a"])
def test_a_formula_that_is_not_understood_is_refused(formula):
    with pytest.raises((ValueError, IndexError)):
        formulas.as_text(formula)


def test_explain_prints_the_part(capsys):
    code, out, _ = ask(capsys, "conv2d")
    assert code == 0
    assert "kernel" in out
    assert "yᵢⱼ = Σᵤ Σᵥ" in out
    code, out, _ = ask(capsys, "receptive field")
    assert (code, out.split("\n")[0].strip()) == (0, "Receptive field")
    code, out, _ = ask(capsys, "dropout", "--language", "ru")
    assert code == 0
    assert "обнуляет" in out
    code, out, _ = ask(capsys, "свёртка")
    assert code == 0
    assert "окна" in out
    code, out, _ = ask(capsys, "dropout", "--json")
    assert json.loads(out)["chapter"] == "lab-regularisation"
    code, out, _ = ask(capsys, "dropout", "--markdown")
    assert out.startswith("## Dropout")
    code, out, _ = ask(capsys, "topics")
    assert "lab-lenet" in out


def test_a_misspelt_word_is_met_with_the_nearest(capsys):
    code, _, err = ask(capsys, "max_pol2d")
    assert code == 2
    assert 'did you mean "max_pool2d"?' in err
    code, _, err = ask(capsys, "dropout", "--language", "fr")
    assert code == 2
    assert "en, ru" in err


def test_it_fits_a_narrow_terminal():
    said = io.StringIO()
    console = Console(file=said, width=48, force_terminal=False)
    topics.print_topic(topics.topics("en")["dropout"], console)
    assert max(map(len, said.getvalue().splitlines())) <= 48


def test_an_installed_wheel_explains(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "_build", "*.mo")
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*build, "--wheel-dir", tmp_path, source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", tmp_path / "installed", wheel], check=True, timeout=300)
    inside = sorted(path.relative_to(tmp_path / "installed/lockstep/chapters").as_posix()
                    for path in (tmp_path / "installed/lockstep/chapters").rglob("*.md"))  # fmt: skip
    assert inside == sorted(path.relative_to(ROOT / "docs/chapters").as_posix()
                            for path in (ROOT / "docs/chapters").rglob("*.md"))  # fmt: skip
    data = {path.relative_to(tmp_path / "installed").as_posix() for path in (tmp_path / "installed").rglob("*")}
    assert {"lockstep/locale/ru/lockstep.mo", "lockstep/data/optdigits/digits.csv.gz"} < data
    assert any(name.endswith("licenses/src/lockstep/data/optdigits/LICENSE") for name in data)
    assert not [name for name in data if name.endswith(".po")]
    code = (
        "import sys; sys.path.insert(0, 'installed'); import lockstep.cli as c; print(c.__file__); c.main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", "flatten"], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "installed" in done.stdout.splitlines()[0]
    assert "order of flatten" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "list", "--language", "ru"],
        capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert "встроен" in done.stdout, done.stderr
