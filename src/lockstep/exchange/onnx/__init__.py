"""A run as a file of ONNX, made from the operators' specification and by no framework's exporter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lockstep.backends.plan import Arrays
from lockstep.exchange.onnx import graph
from lockstep.exchange.trained import Form, Trained

HERE = Path(__file__).parent


def prepare(trained: Trained, place: Path, stem: str) -> Arrays:
    """Leave the graph and its initializers where `build.py` finds them."""
    found = graph.tensors(trained)
    (place / "graph.json").write_text(json.dumps(graph.document(trained)), encoding="utf-8")
    np.savez(place / "tensors.npz", **found)  # type: ignore[arg-type]  # numpy's own stub takes names for options
    return found


FORM = Form(
    "ONNX", "onnx", ("onnx", "onnxruntime"), ("onnx", "onnxruntime"), "numpy", lambda stem: (f"{stem}.onnx",), prepare,
    HERE / "check.py", HERE / "build.py",
)  # fmt: skip
