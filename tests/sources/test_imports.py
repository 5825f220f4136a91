"""Who imports whom: a framework by its backend alone, nothing upwards, and nothing slow by the command line's help."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import lockstep
from lockstep import backends
from lockstep.benchmark import baselines
from lockstep.exchange import scripts
from lockstep.exchange.models import server
from lockstep.proof.pair import client
from support.needs import need_backend

SOURCES = Path(lockstep.__file__).parent
FRAMEWORKS = {
    "torch", "tensorflow", "keras", "jax", "jaxlib", "optax", "flax", "onnx", "onnxruntime", "tensorboardX", "mlflow",
    "wandb", "trackio",
}  # fmt: skip
# Programs that are run alone, each of one framework's, and know nothing of Lockstep.
PROGRAMS = {
    "exchange.onnx.build": {"onnx"},
    "exchange.onnx.check": {"onnx", "onnxruntime"},
    "exchange.files.programs.check_torch": {"torch"},
    "exchange.files.programs.build_keras": {"keras"},
    "exchange.files.programs.check_keras": {"keras"},
    "exchange.files.programs.build_saved_model": {"keras", "tensorflow"},
    "exchange.files.programs.check_saved_model": {"tensorflow"},
    "exchange.files.programs.check_flax": {"jax", "flax"},
    "exchange.files.programs.watch": set(),
    "exchange.trackers.programs.runs": set(),
    "exchange.trackers.programs.to_tensorboard": {"tensorboardX"},
    "exchange.trackers.programs.to_mlflow": {"mlflow"},
    "exchange.trackers.programs.to_wandb": {"wandb", "trackio"},
}

# Rooms, from the bottom to the top: what lies in one imports from the rows below its own, and from its own room.
FLOORS = (
    {"language", "randomness", "version"},
    {"errors", "uncertainty"},
    {"arguments", "explain", "files", "machine"},
    {"spec"},
    {"backends", "data", "store"},
    {"exchange"},
    {"training"},
    {"play", "report", "study"},
    {"benchmark", "defaults", "proof", "screen"},
    {"check"},
    {"cli", "scripting"},
    {"__main__", ""},  # the package's face
)
# What stands side by side in a room, and there too imports what is below it only: twins know nothing of each other.
TWINS = {
    "backends": (
        {"backends.walk"}, {"backends.plan"},
        {"backends.chunks", "backends.contract", "backends.mistakes", "backends.weights"},
        {"backends.numpy", "backends.torch", "backends.tensorflow", "backends.jax"}, {"backends"},
    ),
    "exchange.models": (
        {"exchange.models"}, {"exchange.models.records"}, {"exchange.models.side"}, {"exchange.models.training"},
        {"exchange.models.server", *(f"exchange.models.{name}" for name in server.SIDES)},
    ),
    "exchange.scripts": (
        {"exchange.scripts.lines"}, {"exchange.scripts.given"},
        {"exchange.scripts.decisions", "exchange.scripts.updates"},
        {f"exchange.scripts.{name}" for name in scripts.TARGETS if name != "flax"}, {"exchange.scripts.linen"},
        {"exchange.scripts.flax"}, {"exchange.scripts.idiomatic"}, {"exchange.scripts"},
    ),
    "benchmark.baselines": (
        {"benchmark.baselines"},
        {f"benchmark.baselines.{name}" for name in baselines.SHIPPED},
        {"benchmark.baselines.__main__"},
    ),
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Every module that a fresh Python has imported after this code."""
    code += "\nimport json, sys\nsys.stderr.write('\\n@' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.rpartition("@")[2]))


def assert_none_of(unwanted: Iterable[str], code: str) -> None:
    found = sorted(set(unwanted) & modules_after(code))
    assert not found, f"{code!r} imports {found}"


# ---------------------------------------------------------------------------------------------------- in a fresh Python


@pytest.mark.parametrize(
    "code",
    [
        "import lockstep",
        "import lockstep.cli",
        "import lockstep.study",
        "import lockstep.report",
        "from lockstep.benchmark import benches, mistakes; import lockstep.screen.times",
        "import lockstep.benchmark.baselines.__main__, lockstep.report.draw.plots",
        "import lockstep.training.worker, lockstep.check.doctor, lockstep.screen.proofs, lockstep.backends.plan",
        "import lockstep; [getattr(lockstep, name) for name in lockstep.__all__]",
        "from lockstep import backends; [backends.why_missing(name) for name in backends.BACKENDS]",
    ],
)
def test_no_framework_is_imported(code):
    assert_none_of(FRAMEWORKS, code)


def test_a_framework_that_is_imported_is_seen():
    need_backend("torch")
    with pytest.raises(AssertionError, match=r"imports \['torch'\]"):
        assert_none_of(FRAMEWORKS, "import lockstep.backends.torch")


LOAD = "from lockstep import backends; {}backends.load('tensorflow'); "


def test_tensorflow_starts_without_what_merely_happens_to_be_installed():
    need_backend("tensorflow")
    passed_by = backends.PASSED_BY["tensorflow"]
    assert_none_of(passed_by, LOAD.format(""))
    assert "scipy" in modules_after(LOAD.format("") + "import scipy"), "afterwards it is there again"


def test_what_tensorflow_imports_where_nothing_is_passed_by_is_seen():
    need_backend("tensorflow")
    with pytest.raises(AssertionError, match="scipy"):
        assert_none_of(backends.PASSED_BY["tensorflow"], LOAD.format("backends.PASSED_BY = {}; "))


LATE = {"numpy", "pydantic", "pydantic_core", "sklearn", "scipy", "matplotlib", "jinja2", "PIL", "safetensors"}
HELP = "import sys; from lockstep.cli import main\ntry: main({})\nexcept SystemExit as end: assert not end.code"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["data", "--help"]], ids=" ".join)
def test_help_imports_nothing_slow(arguments):
    late = LATE if arguments[0] == "--help" else LATE - {"pydantic", "pydantic_core"}  # typer's own, for options
    assert_none_of(late | {f"lockstep.{name}" for name in ("spec", "study", "store")}, HELP.format(arguments))


def test_a_slow_import_before_help_is_seen():
    with pytest.raises(AssertionError, match=r"imports \['numpy'\]"):
        assert_none_of(LATE, f"import numpy; {HELP.format(['--help'])}")


def test_every_public_name_is_there_and_no_other():
    assert {getattr(lockstep, name).__name__ for name in lockstep.__all__} == set(lockstep.__all__)
    assert len(set(lockstep.__all__)) == len(lockstep.__all__)
    assert dir(lockstep) == sorted(lockstep.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'conv2d'"):
        lockstep.conv2d  # noqa: B018
    from lockstep import spec

    for table in (spec.LAYERS, spec.OPTIMIZERS, spec.SCHEDULES, spec.INITIALIZERS):
        for kind, record in table.items():
            assert record.__name__ in lockstep.__all__, f"{kind} is not public"


# ------------------------------------------------------------------------------------------------------- in the sources


@functools.cache  # a planted import is looked for among all sources, of which it changes one
def imports_of(text: str, module: str = "") -> frozenset[str]:
    """Every module that a source imports anywhere: "lockstep.spec", "numpy" …; relative imports by their full name."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            inner = base == "lockstep" or base.startswith("lockstep.")
            found.update(f"{base}.{name.name}" if inner else base for name in node.names)
    return frozenset(found)


def sources() -> dict[str, str]:
    """Module name below lockstep ("" is the package itself) → its text."""
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def place_in(floors: Iterable[set[str]], module: str) -> str | None:
    """The name under which a module stands on one of these floors: its own, or that of the package around it."""
    known = set().union(*floors)
    while module not in known:
        if not module:
            return None
        module = module.rpartition(".")[0]
    return module


def floor_of(floors: Iterable[set[str]], place: str) -> int:
    return next(number for number, row in enumerate(floors) if place in row)


def goes_up(floors: tuple[set[str], ...], module: str, imported: str) -> str | None:
    """Where an import leads that goes up or sideways on these floors; None where it does not."""
    here, there = place_in(floors, module), place_in(floors, imported)
    if here is None or there is None or here == there:
        return None
    return there if floor_of(floors, there) >= floor_of(floors, here) else None


def rule_breaks(texts: dict[str, str]) -> list[str]:
    """A sentence for each import that goes up, sideways or in a circle, or brings a framework where none belongs."""
    found = []
    for module, text in texts.items():
        if module and not place_in(FLOORS[:-1], module) and module != "__main__":
            found.append(f"{module} stands on no floor: add it to FLOORS")
            continue
        for name in sorted(imports_of(text, f"lockstep.{module}")):
            top, _dot, inner = name.partition(".")
            if top in FRAMEWORKS and not is_in(module, owners_of(top)):
                found.append(f"{module} imports {name}")
            if top != "lockstep":
                continue
            room = next((room for room in TWINS if module == room or module.startswith(f"{room}.")), None)
            is_inside = room is not None and (inner == room or inner.startswith(f"{room}."))
            floors = TWINS[room] if room and is_inside else FLOORS
            if (there := goes_up(floors, module, inner)) is not None:
                found.append(f"{module} imports {there or 'lockstep'}, which does not stand below it")
    return found + [f"{circle[0]} imports itself: {' → '.join(circle)}" for circle in circles(texts)]


def circles(texts: dict[str, str]) -> list[list[str]]:
    """Modules of one room that import each other, each circle from its first name on."""
    known = {
        module: sorted(
            {
                place
                for name in imports_of(text, f"lockstep.{module}")
                if name.startswith("lockstep.")
                and (place := _module(name.removeprefix("lockstep."), texts)) != module
                and place.partition(".")[0] == module.partition(".")[0]
            }
        )
        for module, text in texts.items()
    }
    found, done = [], set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for inner in known[module]:
            walk(inner, [*path, module])
        done.add(module)

    for module in sorted(known):
        walk(module, [])
    return found


def _module(name: str, texts: dict[str, str]) -> str:
    """The module that an imported name is, or that it lies in."""
    return name if name in texts else name.rpartition(".")[0]


def owners_of(framework: str) -> set[str]:
    """Who may import a framework, one a purpose: its backend, its defaults, its baseline and people's models of it."""
    rows = {f"{room}.{name}": row for room in ("backends", "defaults") for name, row in backends.BACKENDS.items()}
    rows |= {f"benchmark.baselines.{name}": row for name, row in baselines.SHIPPED.items()}
    rows |= {f"exchange.models.{name}": backends.BACKENDS[client.BACKEND_OF[name]] for name in server.SIDES}
    found = {name for name, row in rows.items() if framework in (*row[1], *row[2])}
    found |= {name for name, frameworks in PROGRAMS.items() if framework in frameworks}
    return found | ({"exchange.models.jax"} if framework == "flax" else set())  # models of Flax are JAX's


def is_in(module: str, owners: set[str]) -> bool:
    """Whether a module is one of these, or lies in one that is a package."""
    return any(module == owner or module.startswith(f"{owner}.") for owner in owners)


def test_imports_go_downwards_and_a_framework_stands_in_one_file():
    assert rule_breaks(sources()) == []


def test_every_backend_imports_its_framework():
    for name, (_, modules, _, _) in backends.BACKENDS.items():
        texts = [text for module, text in sources().items() if is_in(module, {f"backends.{name}"})]
        found = {imported.partition(".")[0] for text in texts for imported in imports_of(text)}
        assert set(modules) - {"keras"} <= found, f"backends.{name} does not import {modules}"


@pytest.mark.parametrize(
    ("module", "planted", "message"),
    [
        ("spec", "from lockstep import store", "spec imports store"),
        ("spec", "def late():\n    import lockstep.study", "spec imports study"),
        ("spec", "import lockstep", "spec imports lockstep"),
        ("store", "from lockstep.backends import load", "store imports backends,"),
        ("backends.torch", "from lockstep.backends import numpy", "backends.torch imports backends.numpy"),
        ("backends.jax.layers", "from .. import torch", "backends.jax.layers imports backends.torch"),
        ("backends.jax.layers", "from ..numpy import build", "backends.jax.layers imports backends.numpy"),
        ("report", "from lockstep.proof.judge import Judge", "report imports proof"),
        ("report.page", "from lockstep import study", "report.page imports study"),
        (
            "report.draw.plots",
            "from lockstep.store import Record\nfrom lockstep import report",
            "report imports itself",
        ),
        ("training.worker", "from lockstep.cli import main", "training.worker imports cli"),
        ("training.worker", "import torch", "training.worker imports torch"),
        ("backends", "def load():\n    from tensorflow import keras", "backends imports tensorflow"),
        ("backends.torch", "import jax.numpy as jnp", "backends.torch imports jax.numpy"),
        ("backends.torch.losses", "import jax.numpy", "backends.torch.losses imports jax.numpy"),
        ("defaults.differences", "import torch", "defaults.differences imports torch"),
        ("benchmark.baselines.torch", "import jax", "benchmark.baselines.torch imports jax"),
        ("benchmark.baselines", "def load():\n    import keras", "benchmark.baselines imports keras"),
        ("benchmark.benches", "import torch", "benchmark.benches imports torch"),
        ("exchange.models.server", "import torch", "exchange.models.server imports torch"),
        ("exchange.models.torch", "import jax", "exchange.models.torch imports jax"),
        (
            "exchange.models.torch",
            "from lockstep.exchange.models import keras",
            "exchange.models.torch imports exchange",
        ),
        ("proof.pair.client", "import torch", "proof.pair.client imports torch"),
        ("exchange.onnx.graph", "import onnx", "exchange.onnx.graph imports onnx"),
        ("exchange.files.programs.check_torch", "import flax", "exchange.files.programs.check_torch imports flax"),
        ("data.npz", "import keras.datasets", "data.npz imports keras.datasets"),
        ("proofs", "", "proofs stands on no floor"),
        ("data.sizes", "from lockstep.data import images", "data.images imports itself"),
    ],
)
def test_a_planted_import_is_found_and_named(module, planted, message):
    found = rule_breaks({**sources(), module: planted})
    assert found, f"{planted!r} in {module} is not seen"
    assert all(sentence.startswith(message) for sentence in found), found


@pytest.mark.parametrize("module", [name for name in sources() if is_in(name, {"backends.numpy"})])
def test_the_judge_imports_numpy_and_the_contract_only(module):
    found = {name.partition(".")[0] for name in imports_of(sources()[module])}
    outside = found - set(sys.stdlib_module_names) - {"lockstep"}
    assert outside == {"numpy"}, outside


@pytest.mark.parametrize("module", PROGRAMS)
def test_a_program_that_is_run_alone_imports_no_lockstep(module):
    assert not {name for name in imports_of(sources()[module]) if name.partition(".")[0] == "lockstep"}


# ------------------------------------------------------------------------------------------------- who starts processes

STARTS = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}  # of subprocess
STARTERS = {"machine.processes", "machine.sources"}  # all that works for us; and git, which is asked for a revision


@functools.cache
def starts_a_process(text: str) -> bool:
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, verb = ast.unparse(node.func.value), node.func.attr
        is_of_os = owner == "os" and verb.startswith(("fork", "spawn", "posix_spawn", "exec", "popen", "system"))
        if (owner == "subprocess" and verb in STARTS) or is_of_os or owner == "multiprocessing":
            return True
    return False


def starters(texts: dict[str, str]) -> set[str]:
    """The modules that start a process by themselves."""
    return {module for module, text in texts.items() if starts_a_process(text)}


def test_processes_are_started_in_one_file():
    assert starters(sources()) == STARTERS


@pytest.mark.parametrize(
    "planted",
    ["import subprocess\nsubprocess.Popen(['true'])", "import os\nos.fork()", "multiprocessing.Process(target=f)"],
)
def test_a_planted_start_is_found(planted):
    assert starters({**sources(), "study.runs": planted}) - STARTERS == {"study.runs"}


# ---------------------------------------------------------------------------------------------- what modules are called


def like_the_standard_library(modules: Iterable[str]) -> set[str]:
    """The modules that are called like one of Python's own: whoever reads `import trace` would think of that."""
    return {name for name in modules if name.rpartition(".")[2] in sys.stdlib_module_names}


def test_no_module_is_called_like_one_of_the_standard_library():
    assert like_the_standard_library(sources()) == set()


def test_a_planted_name_of_the_standard_library_is_found():
    assert like_the_standard_library(["store.pickle", "proof.traces", "report.signal", "spec.toml"]) == {
        "store.pickle", "report.signal",
    }  # fmt: skip
