"""What may not stand in our sources: anything that turns somebody's file or text into running code."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from support import ROOT

# Reading these formats runs code that stands in them.
MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "yaml", "ruamel", "hickle",
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__"}
# The last part of a dotted call that is never right, whatever it is called on.
ATTRIBUTES = {"load_model", "extractall", "read_pickle", "unsafe_load", "full_load"}
CALLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"}
LOADS = {  # X.load(…)
    "torch", "torch.jit", "torch.hub", "torch.package", "joblib", "pickle", "yaml", "tensorflow.saved_model",
}  # fmt: skip

EXCEPTIONS = {  # file → what it may do, and why
    # It plants a pickle in a dataset and expects a refusal.
    "tests/data/test_data.py": {"imports pickle"},
    # They load what the line before has written, to find out whether it can be loaded: nobody else's file.
    "src/lockstep/exchange/files/programs/check_keras.py": {"calls load_model"},
    "src/lockstep/exchange/files/programs/check_saved_model.py": {"calls tensorflow.saved_model.load"},
}


def dotted(node: ast.expr) -> str:
    """The dotted name of what is called, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name → what it stands for, for every import of a file."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({name.asname: name.name for name in node.names if name.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({name.asname or name.name: f"{node.module}.{name.name}" for name in node.names})
    return found


def forbidden(text: str) -> list[tuple[int, str]]:
    """(line, what) of everything in a source that is not allowed."""
    tree = ast.parse(text)
    names, found = aliases(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            tops = [module.partition(".")[0] for module in modules]
            found += [(node.lineno, f"imports {top}") for top in tops if top in MODULES]
        elif isinstance(node, ast.Call):
            found += [(node.lineno, what) for what in _call(node, names)]
    return sorted(found)


def _call(node: ast.Call, names: dict[str, str]) -> list[str]:
    first, dot, rest = dotted(node.func).partition(".")
    name = f"{names.get(first, first)}{dot}{rest}"
    last = name.rpartition(".")[2]
    given = {word.arg: word.value for word in node.keywords}
    found = []
    if name in BUILTINS or name.removeprefix("builtins.") in BUILTINS:
        found.append(f"calls {last}")
    if name in CALLS or ("." in name and last in ATTRIBUTES):
        found.append(f"calls {last}")
    if name in {f"{module}.load" for module in LOADS}:
        found.append(f"calls {name}")
    if name in ("importlib.import_module", "importlib.util.find_spec") and node.args:
        module = getattr(node.args[0], "value", "")
        found += [f"imports {module}"] if str(module).partition(".")[0] in MODULES else []
    if name == "numpy.load" and not _is(given.get("allow_pickle"), False):
        found.append("calls numpy.load without allow_pickle=False")
    elif "allow_pickle" in given and not _is(given["allow_pickle"], False):
        found.append("allows pickle")
    if "shell" in given and not _is(given["shell"], False):
        found.append("starts a shell")
    return found


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def our_files() -> list[Path]:
    """Every Python file that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:  # not a checkout
        hidden = {".venv", "build", "dist"}
        return sorted(path for path in ROOT.rglob("*.py") if not hidden & {*path.relative_to(ROOT).parts})
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def test_the_rule_looks_at_all_files():
    names = {path.name for path in our_files()}
    assert {"worker.py", "torch.py", "conftest.py", Path(__file__).name} <= names
    assert {"src", "tests", "docs"} <= {path.relative_to(ROOT).parts[0] for path in our_files()}


@pytest.mark.parametrize("path", our_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_ours_can_run_what_it_reads(path):
    name = str(path.relative_to(ROOT))
    found = [(line, what) for line, what in forbidden(path.read_text("utf-8")) if what not in EXCEPTIONS.get(name, ())]
    assert not found, f"{name}: {found}"


def test_every_exception_is_still_needed():
    for name, allowed in EXCEPTIONS.items():
        found = {what for _, what in forbidden((ROOT / name).read_text("utf-8"))}
        assert allowed <= found, f"{name} no longer needs {allowed - found}"


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        ("import pickle", "imports pickle"),
        ("import numpy, marshal", "imports marshal"),
        ("from shelve import open", "imports shelve"),
        ("import dill as json", "imports dill"),
        ("from joblib import load", "imports joblib"),
        ("def f():\n    import yaml", "imports yaml"),
        ("import ruamel.yaml", "imports ruamel"),
        ("importlib.import_module('pickle')", "imports pickle"),
        ("from importlib import import_module as get\nget('dill')", "imports dill"),
        ("eval('1')", "calls eval"),
        ("exec(text)", "calls exec"),
        ("import builtins\nbuiltins.exec(text)", "calls exec"),
        ("compile(text, 'a', 'exec')", "calls compile"),
        ("__import__('os')", "calls __import__"),
        ("import torch\ntorch.load(path, weights_only=True)", "calls torch.load"),
        ("import torch as t\nt.load(path)", "calls torch.load"),
        ("from torch import load\nload(path)", "calls torch.load"),
        ("import torch\ntorch.jit.load(path)", "calls torch.jit.load"),
        ("import tensorflow as tf\ntf.saved_model.load(path)", "calls tensorflow.saved_model.load"),
        ("from marshal import loads", "imports marshal"),
        ("yaml.load(text, Loader=yaml.FullLoader)", "calls yaml.load"),
        ("numpy.lib.format.read_array(file, allow_pickle=True)", "allows pickle"),
        ("pandas.read_pickle(path)", "calls read_pickle"),
        ("keras.models.load_model(path)", "calls load_model"),
        ("from keras.saving import load_model as get\nget(path)", "calls load_model"),
        ("import numpy as np\nnp.load(path)", "calls numpy.load without allow_pickle=False"),
        ("import numpy\nnumpy.load(path, allow_pickle=True)", "calls numpy.load without allow_pickle=False"),
        ("from numpy import load\nload(path)", "calls numpy.load without allow_pickle=False"),
        ("import numpy as np\nnp.load(path, allow_pickle=allowed)", "calls numpy.load without allow_pickle=False"),
        ("np.savez(path, allow_pickle=True)", "allows pickle"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "starts a shell"),
        ("run(text, shell=loud)", "starts a shell"),
        ("import os\nos.system(text)", "calls system"),
        ("from os import popen\npopen(text)", "calls popen"),
        ("archive.extractall(folder)", "calls extractall"),
    ],
)
def test_a_planted_danger_is_found_on_its_line(planted, what):
    lines = planted.count("\n") + 1
    assert (lines, what) in forbidden(planted)


@pytest.mark.parametrize(
    "harmless",
    [
        "import json, tomllib",
        "'pickle.load and eval() in a text'",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "re.compile(text)",
        "model.eval()",
        "platform.system()",
        "factory.mktemp('folder')",
        "json.load(file)",
        "subprocess.run(command, shell=False)",
        "model.compile(optimizer)",
    ],
)
def test_what_only_looks_alike_is_let_through(harmless):
    assert forbidden(harmless) == []
