"""Proofs as they are written as JSON, with made up numbers."""

from __future__ import annotations

import hashlib
import json

from lockstep.spec import Adam, Recipe
from lockstep.spec.records import to_table
from support.run_folders import BACKENDS, EPOCHS, NETWORKS


def digest(value) -> str:
    return hashlib.sha256(json.dumps(to_table(value), sort_keys=True).encode()).hexdigest()


def proven(backend="numpy", verdict="EQUAL", **certificate) -> dict:
    """One backend of a proof, whose certificate fits `fake_run`."""
    worst = {"where": "1_dense/kernel", "step": 3, "index": [5, 2], "size": 2e-9, "tolerance": 5e-9}
    worst |= {"times_tolerance": 0.4 + 0.07 * BACKENDS.index(backend)}
    stages = [
        {"stage": "forward", "verdict": "EQUAL", "comparisons": 9, "values": 1001, "worst": worst},
        {"stage": "statistics", "verdict": "INCONCLUSIVE", "comparisons": 0, "values": 0, "worst": None},
        {"stage": "updated weights", "verdict": verdict, "comparisons": 6, "values": 503, "worst": worst},
    ]
    recipe = Recipe(optimizer=Adam(1e-3), epochs=EPOCHS, validation=0.1)
    certificate = {
        "verdict": verdict, "backend": backend, "versions": {backend: "2.4.1"}, "dtype": "float32",
        "network": digest(NETWORKS["mlp"]), "recipe": digest(recipe), "seed": 0,
        "dataset": {"name": "digits", "hashes": {"images.gz": "ab" * 32}}, "steps": 7, "values": 1504,
        "worst": {"stage": "forward", **worst}, "missing": [], **certificate,
    }  # fmt: skip
    coverage = {
        "steps": 7, "updates_judged": 7, "steps_with_layers_judged": 5, "epochs": 2.0, "layers": "4 of 4",
        "parameters": "4 of 4", "values": 1504, "missing": [],
    }  # fmt: skip
    return {
        "backend": backend, "verdict": verdict, "reason": None, "code": None, "versions": {backend: "2.4.1"},
        "stages": stages, "coverage": coverage, "trace": "runs/demo/traces/x", "certificate": certificate,
    }  # fmt: skip


def proof_of(rows: list[dict], divergences=(), **keys) -> dict:
    """A proof's document, as `lockstep prove` writes it, with numbers made up."""
    lines = {
        "NumPy in float32": [1e-8] * 7,
        **{row["backend"]: [0.0, 2e-8, None, 3e-8, 4e-8, 5e-8, 6e-8] for row in rows},
    }
    verdict = next(
        (word for word in ("ERROR", "DIVERGED", "INCONCLUSIVE") if word in {r["verdict"] for r in rows}), "EQUAL"
    )
    network = {
        "network": "mlp", "dataset": "digits", "dtype": "float32", "seed": 0, "grid": {}, "n_train": 139,
        "batch_size": 32, "parameters": 4347, "verdict": verdict, "backends": rows,
        "growth": {"steps": 7, "loss": lines, "weights": lines},
    }  # fmt: skip
    return {
        "format": 1, "study": "demo", "verdict": verdict, "claim": "the first 7 steps are the same within rounding",
        "steps": 7, "planted": [], "networks": [network], "divergences": list(divergences),
        "coverage": {
            "networks": 1, "traces_asked": len(rows), "traces_judged": len(rows), "values": 1504 * len(rows),
            "not_observed": [f"{row['backend']}: {row['reason']}" for row in rows if row["reason"]],
        },
        "lockstep": "0.1.0", "git_revision": None, "threads": 2, "proven": "2026-01-02T03:04:05Z",
        "machine": {"platform": "Linux", "cpu": "AMD EPYC 9654", "cores": 2, "memory_bytes": 2**33, "load": [0.5]},
    } | keys  # fmt: skip


def divergence(**keys) -> dict:
    explained = [{"cause": "adam_epsilon_hat", "what": "ε is added before the bias is corrected",
                  "default_of": "Keras", "mend": "scale ε by √(1−β₂ᵗ)"}]  # fmt: skip
    return {
        "network": "mlp", "dataset": "digits", "dtype": "float32", "backend": "torch", "stage": "updated weights",
        "where": "1_dense/kernel", "step": 0, "steps": [0, 1, 2, 3], "size": 3.3e-5, "tolerance": 1.7e-9,
        "times_tolerance": 19411.7, "index": [5, 2], "found": 0.25, "wanted": 0.250033, "problem": None,
        "causes": ["adam_epsilon_hat"], "explained": explained,
    } | keys  # fmt: skip
