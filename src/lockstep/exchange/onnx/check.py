"""`python check.py PLACE STEM`: STEM.onnx is checked, and run by the reference and by onnxruntime; see `trained.Form`.

The reference gives every layer's output. onnxruntime gives it too, without optimisations; with and without them it
gives the logits of all images, from the file as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

LEVELS = {
    "onnxruntime": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "onnxruntime (optimised)": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def session(content: bytes, level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.InferenceSession:
    """The file, ready to run on the processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def observed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The same model with every layer's output among its outputs, and their names."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    names = [node.name for node in seen.graph.node if node.name == "input" or node.name[:1].isdigit()]
    names = [name for name in names if "/" not in name]
    for name in names:
        seen.graph.output.append(helper.make_empty_tensor_value_info(name))
    return seen, names


def layers(reader: str, names: list[str], values: Iterable[Any]) -> dict[str, np.ndarray]:
    """What a reader gives for every layer, with channels last; what enters lies so already."""
    found = {}
    for name, value in zip(names, map(np.asarray, values), strict=True):
        turned = value.ndim == 4 and name != "input"
        found[f"layer/{reader}/{name}"] = value.transpose(0, 2, 3, 1) if turned else value
    return found


def in_parts(images: np.ndarray, size: int = 500) -> Iterator[np.ndarray]:
    """Some images at a time."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def readings(model: onnx.ModelProto, few: np.ndarray, every: np.ndarray) -> dict[str, np.ndarray]:
    """What every reader of the model gives: each layer's output on few images, logits of all."""
    found = {f"tensor/{tensor.name}": numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    seen, names = observed(model)
    values = session(seen.SerializeToString(), LEVELS["onnxruntime"]).run(names, {"images": few})
    found |= layers("onnxruntime", names, values)
    found |= layers("onnx.reference", names, ReferenceEvaluator(seen).run(names, {"images": few}))
    for reader, level in LEVELS.items():
        run = session(model.SerializeToString(), level)
        parts = [run.run(["logits"], {"images": part})[0] for part in in_parts(every)]
        found[f"logits/{reader}"] = np.concatenate(parts)
        found[f"probabilities/{reader}"] = run.run(["probabilities"], {"images": few})[0]
    return found


def main(place: Path, stem: str) -> None:
    """Check the file, and write what its readers give."""
    model = onnx.load(place / f"{stem}.onnx")
    onnx.checker.check_model(model, full_check=True)
    with np.load(place / "images.npz", allow_pickle=False) as arrays:
        found = readings(model, arrays["few"], arrays["all"])
    np.savez(place / "found.npz", **found)  # type: ignore[arg-type]  # its stub takes names for options


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
