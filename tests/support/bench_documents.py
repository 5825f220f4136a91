"""A bench as it is written as JSON, with made up numbers."""

from __future__ import annotations

import copy

from lockstep import store


def middle(value, spread=0.01, n=5):
    return {"median": value, "low": value - spread, "high": value + spread, "n": n}


def row(entry, seconds, **more):
    found = {
        "entry": entry, "name": entry.lower(), "is_shipped": False, "n": 5, "epoch": middle(seconds),
        "images_per_second": middle(1437 / seconds, 9), "images": 1437, "seconds": {"import": middle(0.4)},
        "peak_memory_bytes": 300 * 2**20, "accuracy": 0.9472, "versions": {entry.lower(): "9.8.7"},
        "threads": {"asked": 2, "obtained": 2}, "proof": None, "laps": [seconds] * 5,
    }  # fmt: skip
    return found | more


BENCH = {
    "format": 1, "study": "demo", "rounds": 5, "epochs": 3, "threads": 2,
    "networks": [{
        "network": "mlp", "dataset": "digits", "dtype": "float32", "batch_size": 32, "failed": [],
        "rows": [row("NumPy", 0.41, proof={"verdict": "EQUAL", "steps": 10, "values": 7}), row("JAX", 0.133)],
        "ranking": [["JAX"], ["NumPy"]],
        "ratios": [{"entry": "NumPy", "is_shipped": False, "over": "JAX", **middle(3.08, 0.05)}],
        "products": {
            "flops": 9, "peak": middle(17.1e10), "seconds": middle(0.0412), "entry": "JAX", **middle(3.2, 0.1)
        },
    }],
    "left_out": [{"network": "mlp", "entry": "PyTorch", "is_shipped": False, "reason": "it is not installed"}],
    "noise": {"load": 0.31, "spread": 0.017, "warnings": ["the machine is busy"]},
    "machine": {"cpu": "AMD EPYC 9654", "cores": 2, "platform": "Linux-6.1"}, "seconds": 61.0, "lockstep": "0.1.0",
    "git_revision": None, "measured": "2026-01-02T03:04:05Z",
}  # fmt: skip


def write_bench(folder, **changes):
    store.write_json(folder / "bench.json", copy.deepcopy(BENCH) | changes)
