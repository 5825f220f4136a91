"""How much slower training and proving are beside other work: `python -m support.busy_machine`, on a quiet machine.

Beside so many processes that compute without a pause, and by themselves, by turns and each in an order drawn anew: an
epoch of the demo's CNN in each backend, as `lockstep run` takes it, and with --prove a whole proof. A table of medians
and of ratios, taken round by round, with their bootstrap intervals; --json prints the same as one document.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep import load_study, store
from lockstep import study as studies
from lockstep.backends import BACKENDS
from lockstep.machine import description
from lockstep.proof import procedure
from lockstep.uncertainty import bootstrap_median
from support import ROOT

DEMO = ROOT / "studies" / "demo.toml"
# What stands beside: a loop, as a browser's script is; or products of NumPy's on two threads, as another training is.
# Each ends when its parent has.
LOOP = "import os\nwhile os.getppid() == {parent}:\n  for _ in range(10**6): pass"
PRODUCTS = (
    "import os, numpy as np\na = np.random.default_rng(0).random((700, 700))\nwhile os.getppid() == {parent}:\n  a @ a"
)
KINDS = {"loops": LOOP, "products": PRODUCTS}


@contextlib.contextmanager
def beside(n: int, kind: str = "loops") -> Iterator[None]:
    """Inside, so many processes compute."""
    code = KINDS[kind].format(parent=os.getpid())
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    busy = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(n)]
    try:
        time.sleep(0.5 if busy else 0.0)  # until they have begun
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def epoch_seconds(backend: str, network: str, epochs: int, threads: int | None) -> tuple[float, int]:
    """(the median epoch after the first of a training as `lockstep run` does it, the threads that it obtained)."""
    wanted = load_study(DEMO, [f"recipe.epochs={epochs}"], [backend], [network])
    with tempfile.TemporaryDirectory(prefix="lockstep-loaded-") as folder:
        (record,) = studies.run_study(wanted, Path(folder), threads=threads)
        if not record.is_finished:
            raise RuntimeError(record.status["reason"])
        return statistics.median(record.timing["epochs"][1:]), record.environment["threads"]["obtained"]


def proof_seconds(backends: list[str], network: str, threads: int | None) -> tuple[float, int]:
    """(a whole proof, the threads that it was asked for)."""
    wanted = load_study(DEMO, (), backends, [network])
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lockstep-loaded-") as folder:
        document = procedure.prove(wanted, Path(folder), threads=threads)
    if document.verdict not in ("EQUAL", "IDENTICAL"):
        raise RuntimeError(document.verdict)
    return time.perf_counter() - start, document.threads or 0


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each backend, and one for the proof: what it took quiet and busy, round by round."""
    rows: dict[str, dict[str, Any]] = {
        name: {"what": name, "quiet": [], "busy": [], "obtained": []}
        for name in [*options.backends, *(["proof"] if options.prove else [])]
    }
    for number in range(options.rounds):
        turns = [(name, state) for name in rows for state in ("quiet", "busy")]
        random.Random(number).shuffle(turns)
        for name, state in turns:
            with beside(options.busy if state == "busy" else 0, options.kind):
                seconds, obtained = (
                    proof_seconds(options.backends, options.network, options.threads)
                    if name == "proof"
                    else epoch_seconds(name, options.network, options.epochs, options.threads)
                )
            rows[name][state].append(seconds)
            rows[name]["obtained"].append({"state": state, "threads": obtained})
            print(f"round {number + 1}, {name}, {state}: {seconds:.3f} s, {obtained} threads", file=sys.stderr)
    for row in rows.values():
        ratios = [busy / quiet for busy, quiet in zip(row["busy"], row["quiet"], strict=True)]
        found = bootstrap_median(ratios)
        row["ratio"] = {"median": found.value, "low": found.low, "high": found.high, "n": found.n}
    return list(rows.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", type=int, default=4, help="processes beside (default 4)")
    parser.add_argument("--kind", choices=KINDS, default="loops")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--network", default="cnn")
    parser.add_argument("--backends", type=lambda text: text.split(","), default=list(BACKENDS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prove", action="store_true", help="a whole proof too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measured(options)
    if options.json:
        facts = {"busy": options.busy, "kind": options.kind, "network": options.network, "measured": store.now()}
        print(json.dumps({**facts, "machine": description.machine(), "rows": rows}, indent=2))
        return
    for row in rows:
        quiet, busy = (statistics.median(row[state]) for state in ("quiet", "busy"))
        low, high = row["ratio"]["low"], row["ratio"]["high"]
        interval = "no interval" if low is None else f"95 % {low:.2f} to {high:.2f}"
        print(
            f"{row['what']:<12} quiet {quiet:7.3f} s   beside {options.busy} {busy:7.3f} s   "
            f"ratio {row['ratio']['median']:.2f} ({interval}, n = {row['ratio']['n']})"
        )


if __name__ == "__main__":
    main()
