"""`python build.py PLACE STEM`: graph.json and tensors.npz of a place become STEM.onnx. It needs no Lockstep."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def attributes_of(node: dict[str, Any]) -> dict[str, Any]:
    """A node's attributes; a constant's value stands under its dtype."""
    if node["operator"] != "Constant":
        return dict(node["attributes"])
    ((dtype, value),) = node["attributes"].items()
    return {"value": numpy_helper.from_array(np.array(value, dtype))}


def model_of(graph: dict[str, Any], tensors: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The file's content: its images come in any number, which is called batch."""
    nodes = [
        helper.make_node(node["operator"], node["inputs"], [node["output"]], name=node["output"], **attributes_of(node))
        for node in graph["nodes"]
    ]
    made = helper.make_graph(
        nodes,
        graph["name"],
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *graph["images"]])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", graph["classes"]])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    facts = graph["facts"]
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", graph["opset"])], ir_version=graph["ir"],
        producer_name="lockstep", producer_version=facts.get("lockstep", ""), doc_string=facts.get("description", ""),
    )  # fmt: skip
    helper.set_model_props(model, facts)
    return model


def main(place: Path, stem: str) -> None:
    """Write the file."""
    graph = json.loads((place / "graph.json").read_text(encoding="utf-8"))
    with np.load(place / "tensors.npz", allow_pickle=False) as arrays:
        tensors = {name: arrays[name] for name in arrays.files}
    model = model_of(graph, tensors)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, place / f"{stem}.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
