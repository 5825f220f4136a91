"""Random networks and recipes, on which a proof may raise no alarm: `python -m support.random_networks FIRST N`.

    python -m support.random_networks FIRST N [DTYPE [BACKEND …]] [--seed SEED]

Which networks there are follows from SEED, which is drawn and printed unless it is given: another run is another
sequence. The exit code is 1 where one is not EQUAL, and 2 where there is none to prove.

Every network has a convolution, a dense layer or both; half of them have at least two convolutions. Recipes come with
every optimizer, schedule and loss, with dropout, batch normalisation, augmentation, clipping and every option of
`spec`. Images have dark borders, so that exact zeros, ties and black batches happen as they do on handwritten digits.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lockstep import backends, data, store, study
from lockstep.errors import LockstepError
from lockstep.machine import workers
from lockstep.proof import cases, growth, tracer, verdicts
from lockstep.proof.traces import Trace
from lockstep.spec import LOSSES, Network, Recipe, Run, Study
from lockstep.spec.records import changed
from lockstep.spec.toml import resolved_toml
from lockstep.training import inputs
from support import TESTS

CLASSES, STEPS, N_TEST = 5, 10, 7

# ------------------------------------------------------------------------------------------------------------- drawing

_ACTIVATIONS = st.sampled_from(
    ["relu", "relu", "relu", "leaky_relu", "leaky_relu 0.2", "elu", "elu 1.3", "tanh", "sigmoid", "softplus", "gelu",
     "gelu tanh"]
)  # fmt: skip
_PADDINGS = st.sampled_from(["same", "same", "valid", "same_lower"])
_LAYER_NORMS = [["layer_norm"], ["layer_norm 1e-3 example"]]
_SMALL = st.integers(1, 3)


@st.composite
def convolution(draw: Any) -> list[str]:
    kernel, stride = [draw(_SMALL), draw(_SMALL)], draw(st.sampled_from([1, 1, 1, 2]))
    bias = str(draw(st.booleans())).lower()
    block = [f"conv2d {draw(st.integers(2, 8))} {kernel} {stride} {draw(_PADDINGS)} bias={bias}"]
    block += draw(st.sampled_from([[], [], ["batch_norm"], ["batch_norm 0.2 running_variance=biased"], *_LAYER_NORMS]))
    block += [draw(_ACTIVATIONS)]
    ties = draw(st.sampled_from(["first", "first", "shared"]))
    count = str(draw(st.booleans())).lower()
    pools = [[], ["max_pool2d"], [f"max_pool2d 3 2 same ties={ties}"], ["avg_pool2d"],
             [f"avg_pool2d 3 2 same count_padding={count}"]]  # fmt: skip
    block += draw(st.sampled_from(pools))
    block += draw(st.sampled_from([[], [], ["dropout 0.25"]]))
    return block


_JOINS = st.sampled_from(["add", "add", "add", "add 0.5 1.5", "add rectified=true", "concat", "concat reversed"])


@st.composite
def _same(draw: Any, filters: int, stride: int) -> list[Any]:
    """A convolution that leaves an image's size to the stride alone, normalised and curved or not."""
    kernel, bias = [draw(_SMALL), draw(_SMALL)], str(draw(st.booleans())).lower()
    block = [f"conv2d {filters} {kernel} {stride} same bias={bias}"]
    block += draw(st.sampled_from([[], ["batch_norm"], *_LAYER_NORMS]))
    return [*block, *draw(st.sampled_from([[], [draw(_ACTIVATIONS)]]))]


@st.composite
def branches(draw: Any, depth: int = 0) -> list[Any]:
    """A block of branches, which may hold another; behind it an activation or none."""
    kind, filters = (
        draw(st.sampled_from(["own", "bottleneck", "shortcut", "parallel", "repeat"])),
        draw(st.integers(2, 6)),
    )
    stride, join = draw(st.sampled_from([1, 1, 2])), draw(_JOINS)
    inner = draw(branches(depth + 1)) if depth == 0 and draw(st.sampled_from([False, False, True])) else []
    if kind == "own":  # the shortcut is what goes in: nothing in the way changes its shape
        layers = [*draw(st.sampled_from([["batch_norm"], *_LAYER_NORMS])), draw(_ACTIVATIONS)]
        block: list[Any] = [{"residual": layers, "join": join}]
    elif kind == "bottleneck":  # nothing is known of what goes in, and a concatenation asks for its size alone
        block = [{"residual": draw(_same(filters, 1)), "join": "concat"}]
    elif kind == "shortcut":
        way = [*draw(_same(filters, stride)), *inner, *draw(_same(filters, 1))]
        block = [{"residual": way, "shortcut": f"conv2d {filters} 1 {stride} same", "join": join}]
    elif kind == "parallel":
        ways = [draw(_same(filters, stride)) for _ in range(draw(st.integers(2, 3)))]
        block = [{"parallel": ways, "join": join}]
    else:
        block = [
            {"repeat": 2, "layers": [*draw(_same(filters, 1)), {"residual": draw(_same(filters, 1)), "join": join}]}
        ]
    return [*block, *draw(st.sampled_from([[], [draw(_ACTIVATIONS)]]))]


@st.composite
def networks(draw: Any) -> Network:
    n = draw(st.sampled_from([0, 1, 2, 2, 2, 3]))
    layers = [word for _ in range(n) for word in draw(convolution())]
    if draw(st.booleans()):
        layers += draw(branches())
    if draw(st.sampled_from([False, False, True])):
        at = draw(st.integers(0, len(layers)))
        layers[at:at] = draw(branches())
    layers += draw(st.sampled_from([["flatten"], ["flatten"], ["flatten chw"], ["global_avg_pool"]]))
    if draw(st.sampled_from([False, False, True])):
        width = draw(st.integers(6, 24))
        way = [f"dense {width}", draw(_ACTIVATIONS), f"dense {width}"]
        layers += [f"dense {width}", {"residual": way, "join": draw(_JOINS)}]
    for _ in range(draw(st.integers(0, 2))):
        layers += [f"dense {draw(st.integers(6, 24))}"]
        layers += [*draw(st.sampled_from([[], [], ["batch_norm"], *_LAYER_NORMS])), draw(_ACTIVATIONS)]
        layers += draw(st.sampled_from([[], ["dropout 0.4"]]))
    start = draw(st.sampled_from(["he_normal", "glorot_uniform", "lecun_normal", "torch_default", "normal 0.1"]))
    return Network([*layers, f"dense {CLASSES}"], start)


@st.composite
def recipes(draw: Any) -> Recipe:
    decay = draw(st.sampled_from([0.0, 0.0, 0.001, 0.1]))
    optimizer = draw(
        st.sampled_from(
            ["sgd 0.05", "momentum 0.02", "nesterov 0.02", "momentum 0.02 0.8 velocity", "adam", "adam 0.01",
             "adam 0.001 epsilon=1e-7 epsilon_mode=hat", "adamw", "adamw 0.002 0.1", "rmsprop",
             "rmsprop 0.001 0.8 1e-7 inside"]
        )
    )  # fmt: skip
    return Recipe(
        optimizer,
        epochs=draw(st.integers(1, 5)),
        batch_size=draw(st.integers(4, 17)),
        loss=draw(st.sampled_from([*LOSSES, "cross_entropy", "cross_entropy"])),
        schedule=draw(st.sampled_from(["constant", "cosine", "step 1 0.3", "one_cycle"])),
        label_smoothing=draw(st.sampled_from([0.0, 0.0, 0.1])),
        l2=decay,
        clip_norm=draw(st.sampled_from([None, None, 0.5, 5.0])),
        clip_scope=draw(st.sampled_from(["all", "tensor"])),
        augmentation=draw(st.sampled_from([{}, {}, {"shift": 2}, {"rotation": 15, "flip": True}])),
        scaling=draw(st.sampled_from(["unit", "unit", "standard"])),
        loss_reduction=draw(st.sampled_from(["mean", "mean", "mean", "sum"])),
    )


SHAPES = st.tuples(st.integers(7, 14), st.integers(7, 14), st.sampled_from([1, 1, 3]))


MOST = 400  # examples in the sequence; how many are drawn changes which, so it is always all of them


SEED = 20  # of the sequence that the tests take


@functools.cache
def sequence(of: int = SEED) -> tuple[tuple[Run, data.Data], ...]:
    """(run of the NumPy backend, its images): of one seed always the same ones."""
    found: dict[Network, tuple[Run, data.Data]] = {}  # no network twice

    @seed(of)
    @settings(
        max_examples=4 * MOST, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(networks(), recipes(), SHAPES, st.integers(0, 2**31))
    def draw(network: Network, recipe: Recipe, shape: tuple[int, int, int], number: int) -> None:
        with contextlib.suppress(LockstepError):  # a window larger than what is left of the image
            network.facts(shape)
            found.setdefault(network, _with_images(network, recipe, shape, number, len(found)))

    draw()
    return tuple(found.values())[:MOST]


def drawn(n: int, first: int = 0, of: int = SEED) -> list[tuple[Run, data.Data]]:
    """The examples number `first` to `first + n` of the sequence."""
    return list(sequence(of)[first : first + n])


def _with_images(network: Network, recipe: Recipe, shape: Any, number: int, index: int) -> tuple[Run, data.Data]:
    generator = np.random.default_rng(number)
    n = cases.proof_size(10**6, recipe, STEPS)
    images = generator.integers(0, 256, (n + N_TEST, *shape))
    edge = int(generator.integers(0, 4))
    images[:, :edge] = images[:, :, :edge] = 0
    images[generator.random(len(images)) < 0.1] = 0
    labels = generator.integers(0, CLASSES, len(images))
    pixels, names = images.astype(np.uint8), tuple(map(str, range(CLASSES)))
    loaded = data.Data("random", pixels[:n], labels[:n], pixels[n:], labels[n:], names, {}, "here")
    run = Run("random", f"n{index}", network, recipe, "random", "numpy", number % 1000, "float32", "cpu")
    return run, loaded


# ------------------------------------------------------------------------------------------- one process per backend


def write_traces(backend: str, folder: Path, first: int, n: int, dtype: str, of: int) -> None:
    """A trace of each example in one backend, or its traceback."""
    made = backends.load(backend)
    for index, (drawn_run, loaded) in enumerate(drawn(n, first, of), first):
        run = changed(drawn_run, backend=backend, dtype=dtype)
        place = folder / f"{index}"
        place.mkdir(parents=True)
        asked = study.one_run_study(Study(networks={run.network_name: run.network}), run)
        store.write_bytes(place / "spec.toml", resolved_toml(asked).encode())
        try:
            tracer.take_steps(made, run, inputs.Examples(loaded, run), place, 2, lambda event: None, STEPS)
        except Exception:
            (place / "error").write_text(traceback.format_exc())
        (place / "done").touch()


def judged(folder: Path, run: Run, loaded: data.Data) -> dict[str, Any]:
    """The verdict on one trace."""
    if (folder / "error").exists():
        return {"verdict": "ERROR", "reason": (folder / "error").read_text()}
    case = cases.Case(run, inputs.Examples(loaded, run), (run,))
    if doubts := verdicts.doubts(case, STEPS):
        return {"verdict": "DIVERGED", "divergences": [str(doubt) for doubt in doubts], "worst": None, "where": []}
    row = verdicts.judged(trace := Trace(folder), case)
    verdicts.judge_growth(case, row, growth.measured(case, [trace], STEPS))
    worst = max((finding for finding in row.findings), key=lambda finding: finding.units)
    return {
        "verdict": row.verdict, "divergences": [item.document() for item in row.divergences], "worst": worst.units,
        "where": [worst.stage, worst.where, worst.step],
    }  # fmt: skip


def prove_some(
    first: int, n: int, dtype: str = "float32", names: tuple[str, ...] = (), of: int = SEED
) -> dict[str, list[dict[str, Any]]]:
    """backend → the verdict on each example; the backends work at the same time, each trace is judged and deleted."""
    names = names or tuple(backends.BACKENDS)
    examples = [(changed(run, dtype=dtype), loaded) for run, loaded in drawn(n, first, of)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        busy = {}
        for name in names:
            folder = Path(temporary) / name
            folder.mkdir()
            environment = workers.environment(name, 1)
            which = [name, str(folder), str(first), str(n), dtype, str(of)]
            command = [sys.executable, "-m", "support.random_networks", "traces", *which]
            log = open(folder / "log", "wb")  # noqa: SIM115  # closed with the process
            busy[name] = subprocess.Popen(command, cwd=TESTS, env=environment, stdout=log, stderr=log)
        for index, (run, loaded) in enumerate(examples, first):
            for name in names:
                folder = Path(temporary) / name / str(index)
                while not (folder / "done").exists() and busy[name].poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        busy[name].wait(0.05)
                assert (folder / "done").exists(), (folder.parent / "log").read_text()[-3000:]
                results[name].append(judged(folder, run, loaded))
                shutil.rmtree(folder)
    return results


def main(words: list[str]) -> int:
    """Prove so many and say what came out, as JSON lines; the seed, and how many are EQUAL, go to stderr."""
    of = secrets.randbelow(2**31)
    if "--seed" in words:
        place = words.index("--seed")
        of = int(words[place + 1])
        del words[place : place + 2]
    first, n, *rest = words
    print(f"seed {of}", file=sys.stderr, flush=True)
    verdicts: list[str] = []
    for start in range(int(first), int(first) + int(n), BATCH):
        some = min(BATCH, int(first) + int(n) - start)
        for name, rows in prove_some(start, some, *rest[:1], names=tuple(rest[1:]), of=of).items():
            for index, row in enumerate(rows, start):
                verdicts.append(row["verdict"])
                print(json.dumps({"index": index, "backend": name, **row}, default=str), flush=True)
    print(f"{verdicts.count('EQUAL')} of {len(verdicts)} are EQUAL", file=sys.stderr)
    return 2 if not verdicts else int(any(verdict != "EQUAL" for verdict in verdicts))


BATCH = 10  # examples whose traces are made by one process of each backend

if __name__ == "__main__":
    if sys.argv[1] == "traces":
        name, folder, begin, number, dtype_asked, seed_asked = sys.argv[2:]
        write_traces(name, Path(folder), int(begin), int(number), dtype_asked, int(seed_asked))
    else:
        sys.exit(main(sys.argv[1:]))
