"""In a real notebook's kernel, with the variables that it sets: the command as `!lockstep …`, and the functions."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.needs import need

STUDY = """dataset = "digits"
backends = ["numpy"]
train_size = 64
recipe = {epochs = 1}
networks.net = ["flatten", "dense 10"]
"""
LOCKSTEP = f"{sys.executable} -m lockstep"
CELLS = {
    "variable": "import os; print(os.environ['MPLBACKEND'])",
    "run": f"!{LOCKSTEP} run lab.toml; echo code $?",
    "prove": f"!{LOCKSTEP} prove lab.toml --steps 2; echo code $?",
    "verify": f"!{LOCKSTEP} verify runs/lab; echo code $?",
    "function": (
        "import lockstep\n"
        "study = lockstep.load_study('lab.toml')\n"
        "records = lockstep.run_study(study, 'own')\n"
        "lockstep.write_report(records, 'own/report.html')\n"
        "print(lockstep.prove(study, 'own', 2)['verdict'])\n"
        "records"
    ),
    "theirs": "import matplotlib.pyplot as plt; plt.plot([1, 2]); print(plt.get_backend())",
}


def is_missing(module: str) -> bool:
    return find_spec(module) is None


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, list[dict]]:
    """What each cell put out, in one kernel."""
    for module in ("nbclient", "nbformat", "ipykernel"):
        need(not is_missing(module), module)
    import nbclient
    import nbformat

    folder = tmp_path_factory.mktemp("notebook")
    (folder / "lab.toml").write_text(STUDY)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS.values()])
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return {name: cell.outputs for name, cell in zip(CELLS, book.cells, strict=True)}


def text(outputs: list[dict]) -> str:
    return "".join(one.get("text", "") for one in outputs)


def test_a_kernel_does_set_the_variable(said):
    """What follows is of a kernel as people have it."""
    assert "inline" in text(said["variable"])


@pytest.mark.parametrize("command", ["run", "prove", "verify"])
def test_a_command_ends_as_it_would_in_a_terminal(command, said):
    assert text(said[command]).rstrip().endswith("code 0"), text(said[command])


def test_the_functions_work_and_records_are_a_table(said):
    assert "EQUAL" in text(said["function"]) or "IDENTICAL" in text(said["function"])
    (table,) = [one["data"] for one in said["function"] if one["output_type"] == "execute_result"]
    assert "<table" in table.get("text/html", "")


def test_the_kernels_own_figures_are_still_shown(said):
    assert "inline" in text(said["theirs"])
    assert any("image/png" in one.get("data", {}) for one in said["theirs"])


HOSTILE = {
    "MPLBACKEND": "module://nowhere", "MPLCONFIGDIR": "/proc/nowhere", "PYTHONOPTIMIZE": "2",
    "PYTHONDONTWRITEBYTECODE": "1", "KERAS_HOME": "/proc/nowhere", "KERAS_BACKEND": "none", "OMP_NUM_THREADS": "many",
    "OPENBLAS_NUM_THREADS": "-3", "GOMP_SPINCOUNT": "x", "OMP_WAIT_POLICY": "x", "LANG": "xx_YY", "LC_ALL": "nowhere",
    "LANGUAGE": "??", "COLUMNS": "0", "LINES": "x", "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": "1",
    "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "relative", "TMPDIR": "/nowhere", "TZ": "Nowhere/At all",
    "JAX_PLATFORMS": "cuda", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "x", "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "ascii", "PYTHONBREAKPOINT": "x", "SOURCE_DATE_EPOCH": "x", "OPENBLAS_CORETYPE": "none",
}  # fmt: skip


def test_no_variable_ends_a_command(tmp_path: Path):
    (tmp_path / "lab.toml").write_text(STUDY)
    done = subprocess.run(
        [sys.executable, "-m", "lockstep", "run", "lab.toml"], cwd=tmp_path, env={**os.environ, **HOSTILE},
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert list(tmp_path.glob("runs/lab/report.html"))


def test_such_a_variable_does_end_others():
    """The test above can fail."""
    environment = {**os.environ, "MPLBACKEND": HOSTILE["MPLBACKEND"]}
    done = subprocess.run([sys.executable, "-c", "import matplotlib.pyplot as p; p.figure()"], env=environment,
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode != 0
