"""The documentation is true: what it quotes is the code, what it works out comes out, what it commands can be done."""

from __future__ import annotations

import ast
import doctest
import json
import re
import shutil
import sys

import pytest

from support import ROOT

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
import figures  # noqa: E402
import generate  # noqa: E402

CHAPTERS = sorted((DOCS / "chapters").glob("*/*.md"))
ENGLISH = [path for path in CHAPTERS if path.parent.name == "en"]


def by_name(paths):
    return {"argvalues": paths, "ids": [f"{path.parent.name}/{path.stem}" for path in paths]}


def read(path):
    return path.read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ quoted code

LINES = re.compile(r"<!-- lines: (\S+) (\S+) -->\n((?:\|.*\n)+)")


def untrue_lines(page):
    """(function, line) of every line of code in a table that its function does not have."""
    found = []
    for file, name, table in LINES.findall(page):
        source = [line.split("  #")[0].strip() for line in generate.source_of(file, name).splitlines()]
        for row in table.splitlines()[2:]:
            (code,) = re.findall(r"`([^`]+)`", row.split("|")[-2])
            found += [] if code in source else [(name, code)]
    return found


@pytest.mark.parametrize("path", **by_name(CHAPTERS))
def test_quoted_code_is_the_code(path):
    page = read(path)
    assert generate.with_sources(page) == page, "python docs/generate.py"
    assert untrue_lines(page) == []


def test_code_that_drifted_is_found():
    page = read(DOCS / "chapters/en/lab-from-scratch.md")
    assert len(LINES.findall(page)) >= 6
    assert len(generate.SOURCE.findall(page)) >= 7
    assert generate.with_sources(page.replace("y = x @ w\n", "y = w @ x\n", 1)) == page
    assert untrue_lines(page.replace("`v *= o.beta2`", "`v *= o.beta1`")) == [("adam", "v *= o.beta1")]
    with pytest.raises(LookupError, match="has no sense"):
        generate.source_of("backends/numpy/layers.py", "sense")


# ---------------------------------------------------------------------------------------- examples, sums and results


def failures_of(page, name):
    """What doctest says of the examples that go wrong."""
    blocks = "\n".join(re.findall(r"```pycon\n(.*?)```", page, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(blocks, {}, name, name, 0)
    said = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    return "".join(said), len(test.examples)


@pytest.mark.parametrize("path", **by_name(CHAPTERS))
def test_examples_give_what_is_printed(path):
    said, n = failures_of(read(path), path.stem)
    assert said == ""
    assert n >= 2


def test_an_example_that_is_wrong_is_found():
    page = read(DOCS / "chapters/en/lab-from-scratch.md")
    said, _ = failures_of(page.replace("[-0.95 ,  0.95 ]", "[-0.59 ,  0.95 ]"), "planted")
    assert "-0.59" in said


SUM = re.compile(
    r"(?<![\w.,·×/+−-])(?<![·×/+−-] )(\(?\d[\d,.\s()·×/+−]*[·×/+−][\d,.\s()·×/+−]*) = (\d[\d,]*(?:\.\d+)?)"
)


def sums(page):
    """(left, right) of everything of the form 28 · 28 + 1 = 785 outside code, and how many differ."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", page, flags=re.DOTALL).replace("\u00a0", "")
    found = SUM.findall(prose)
    return found, [
        (left, right) for left, right in found if abs(worked_out(left) - float(right.replace(",", ""))) > 1e-9
    ]


def worked_out(text):
    for sign, other in (("·", "*"), ("×", "*"), ("−", "-"), (",", "")):
        text = text.replace(sign, other)
    return _value(ast.parse(text.strip(), mode="eval").body)


def _value(node):
    """The value of numbers, + − · / and brackets."""
    if isinstance(node, ast.Constant):
        return node.value
    left, right = _value(node.left), _value(node.right)
    return {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}.get(type(node.op)) or left / right


@pytest.mark.parametrize("path", **by_name(CHAPTERS))
def test_sums_in_the_text_come_out(path):
    assert sums(read(path))[1] == []


def test_a_sum_that_is_wrong_is_found():
    assert sums("16 + 60,000 · 28 · 28 = 47,040,016 bytes; (28 − 5)/1 + 1 = 24") == (
        [("16 + 60,000 · 28 · 28", "47,040,016"), ("(28 − 5)/1 + 1", "24")], [],
    )  # fmt: skip
    assert sums("so 3 · 3 · 6 = 55 weights")[1] == [("3 · 3 · 6", "55")]
    assert sum(len(sums(read(path))[0]) for path in ENGLISH) >= 15


def test_results_in_the_pages_are_those_that_were_gathered():
    results = json.loads(read(generate.RESULTS))
    assert generate.results_page(results) == read(DOCS / "results.md"), "python docs/generate.py"
    for path, language in generate.pages():
        assert generate.with_results(path, read(path), results, language) == read(path), "python docs/generate.py"


@pytest.mark.parametrize("language", generate.WORDS)
def test_a_page_says_what_is_concluded_and_how_long_it_took_where_that_was_asked(language):
    results = json.loads(read(generate.RESULTS))
    for study, found in results.items():
        said = generate.block(study, results, language)
        assert found["conclusions"][language] or len(found["rows"]) == 1, "one row has nothing to be compared with"
        assert all(f"- {line}\n" in said for line in found["conclusions"][language])
        seconds = [row.get("seconds") for row in found["rows"]]
        assert (generate.WORDS[language]["seconds"] in said) == (study in generate.TIMED) == all(seconds)
        for value in filter(None, seconds):
            assert f"| {f'{value:.2f}'.replace('.', ',' if language == 'ru' else '.')} |" in said


def test_of_a_study_with_a_grid_every_setting_is_a_row(tmp_path):
    from lockstep import run_study
    from lockstep.study import load_study

    settings = ['dataset="digits"', "train_size=200", "recipe.epochs=1", "seeds=[0, 1]"]
    settings += ['grid={optimizer=["sgd 0.1", "momentum 0.01"]}']
    asked = load_study(ROOT / "studies" / "lab-choices.toml", settings, ["numpy"], ["tanh"])
    records = run_study(asked, tmp_path)
    found = generate.gather([tmp_path])["lab-choices"]
    assert [row["setting"] for row in found["rows"]] == list(asked.grid["optimizer"])
    for row, pair in zip(found["rows"], zip(records[::2], records[1::2], strict=True), strict=True):
        assert row["accuracy"] == pytest.approx(sum(one.metrics["test"]["accuracy"] for one in pair) / 2)
        assert row["seeds"] == [0, 1]
    assert "optimizer" not in found["command"]
    assert "--network tanh " in found["command"]
    said = generate.block("lab-choices", {"lab-choices": found}, "en")
    assert "| network | setting | backend |" in said
    assert "| tanh | momentum 0.01 | numpy |" in said
    other = tmp_path / "lab-choices" / records[0].folder.name / "spec.toml"
    other.write_text(read(other).replace('kind = "sgd"\nlearning_rate = 0.1', 'kind = "sgd"\nlearning_rate = 0.2'))
    with pytest.raises(LookupError, match="does not ask for this network and setting"):
        generate.gather([tmp_path])


def test_results_are_what_the_runs_say_and_name_the_command_that_made_them(tmp_path):
    from lockstep import run_study
    from lockstep.study import load_study

    settings = ['dataset="digits"', "train_size=200", "recipe.epochs=1", "seeds=[0, 1]"]
    asked = load_study(ROOT / "studies" / "lab-lenet.toml", settings, ["numpy"])
    records = run_study(asked, tmp_path)
    unfinished = tmp_path / "lab-lenet" / "unfinished"
    shutil.copytree(records[0].folder, unfinished)
    (unfinished / "status.json").write_text('{"format": 1, "status": "running"}')
    found = generate.gather([tmp_path])["lab-lenet"]
    (row,) = found["rows"]
    accuracies = [json.loads(read(record.folder / "metrics.json"))["test"]["accuracy"] for record in records]
    assert row["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert found["conclusions"].keys() == generate.WORDS.keys()
    assert "seconds" not in row
    assert (row["seeds"], row["backend"], found["n_runs"]) == ([0, 1], "numpy", 2)
    for words in (
        "studies/lab-lenet.toml --backends numpy",
        "seeds=[0, 1]",
        'dataset=["digits"]',
        "recipe.epochs=1",
        "=200",
    ):
        assert words in found["command"]
    said = generate.block("lab-lenet", {"lab-lenet": found}, "en")
    assert f"{50 * sum(accuracies):.2f}" in said
    assert "2 of 20" in said
    changed = {**found, "rows": [{**row, "accuracy": row["accuracy"] + 0.01}]}
    assert generate.block("lab-lenet", {"lab-lenet": changed}, "en") != said
    assert "No run of this study" in generate.block("lab-lenet", {}, "en")
    for number, figure in enumerate((figures.histories(records), figures.kernels(records[0]), figures.activations())):
        figures.save(figure, tmp_path / f"{number}.svg")
        assert read(tmp_path / f"{number}.svg").startswith("<?xml")
