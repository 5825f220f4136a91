"""Lockstep's backends and what users write, in turn: fresh processes, random order, the same two threads, medians."""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

from lockstep import timing

HERE = Path(__file__).parent
SHIPPED = {"torch": "shipped_torch.py", "tensorflow": "shipped_tensorflow.py", "jax": "shipped_jax.py"}
BACKENDS = ("numpy", *SHIPPED)


def measure(kind: str, backend: str, network: str, epochs: int) -> float:
    """Seconds of the median epoch after the first, in a fresh process."""
    script = [str(HERE / "ours.py"), backend] if kind == "ours" else [str(HERE / SHIPPED[backend])]
    environment = {**os.environ, **timing.thread_environment(backend, 2), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with timing.limited_to(2):
        done = subprocess.run(
            [sys.executable, *script, network, str(epochs)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(done.stderr)
    return statistics.median(json.loads(done.stdout.splitlines()[-1])["seconds"][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="in one process; the first does not count")
    parser.add_argument("--networks", default="mlp,cnn")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    options = parser.parse_args()
    chosen = options.backends.split(",")
    for network in options.networks.split(","):
        sides = [("ours", name) for name in chosen] + [("shipped", name) for name in chosen if name in SHIPPED]
        seconds: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
        for _ in range(options.repetitions):
            for side in random.sample(sides, len(sides)):
                seconds[side].append(measure(*side, network, options.epochs))
        print(f"\n{network}: seconds of an epoch, median [min–max] of n = {options.repetitions} processes")
        for side, values in seconds.items():
            median = statistics.median(values)
            shipped = seconds.get(("shipped", side[1]))
            ratio = (
                f"  shipped ÷ ours {statistics.median(shipped) / median:.2f}" if shipped and side[0] == "ours" else ""
            )
            print(f"  {side[0]:8}{side[1]:11}{median:7.2f} [{min(values):.2f}–{max(values):.2f}]{ratio}")
        if {("ours", "numpy"), ("ours", "torch")} <= seconds.keys():
            quotient = statistics.median(seconds["ours", "numpy"]) / statistics.median(seconds["ours", "torch"])
            print(f"  numpy ÷ torch {quotient:.2f}")


main()
