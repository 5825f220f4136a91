"""The forms of files that a trained network goes out in, by the option that asks for each."""

from __future__ import annotations

import importlib.util

from lockstep.exchange import onnx
from lockstep.exchange.files import flax, keras, saved_model, torch
from lockstep.exchange.scripts.given import Given
from lockstep.exchange.trained import Form
from lockstep.language import joined, later
from lockstep.spec import JOINS, Add, Concat
from lockstep.spec.records import changed

FORMS: dict[str, Form] = {
    "onnx": onnx.FORM,
    "safetensors": torch.FORM,
    "keras": keras.FORM,
    "saved_model": saved_model.FORM,
    "flax": flax.FORM,
}


ORDER = {"concat": {"order": "given"}}  # which files say either way


def why_missing(form: Form) -> str | None:
    """Why a form cannot be written and loaded here, or None; looks for the modules without importing them."""
    absent = [module for module in form.modules if importlib.util.find_spec(module) is None]
    return later("{modules} not installed", modules=joined(absent, later(" and "))) if absent else None


def refusals(given: Given) -> list[str]:
    """What a run says that no file of another program says, each with its reason."""
    found: list[str] = []
    if given.recipe.products != "full":
        reason = later(
            "products = {kind}: factors rounded by hand are a simulation, no framework's own",
            kind=given.recipe.products,
        )
        found.append(reason)
    if given.makes("prediction_in_training_mode"):
        found.append(later("the mistake prediction_in_training_mode: what it gives depends on how predictions are cut"))
    joins = [row.layer for row in given.plan.rows if row.layer.kind in JOINS]
    plain = {"add": Add(), "concat": Concat()}
    if any(changed(join, **ORDER.get(join.kind, {})) != plain[join.kind] for join in joins):
        found.append(later("sums of scaled or rectified branches, and concatenations along another axis"))
    return found
