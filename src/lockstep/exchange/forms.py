"""The forms of files that a trained network goes out in, by the option that asks for each."""

from __future__ import annotations

import importlib.util

from lockstep.exchange import onnx
from lockstep.exchange.files import flax, keras, saved_model, torch
from lockstep.exchange.trained import Form
from lockstep.language import joined, later

FORMS: dict[str, Form] = {
    "onnx": onnx.FORM,
    "safetensors": torch.FORM,
    "keras": keras.FORM,
    "saved_model": saved_model.FORM,
    "flax": flax.FORM,
}


def why_missing(form: Form) -> str | None:
    """Why a form cannot be written and loaded here, or None; looks for the modules without importing them."""
    absent = [module for module in form.modules if importlib.util.find_spec(module) is None]
    return later("{modules} not installed", modules=joined(absent, later(" and "))) if absent else None
