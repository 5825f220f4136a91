"""A SavedModel: the graph of a model of Keras, which TensorFlow loads without Keras."""

from __future__ import annotations

import dataclasses

from lockstep.exchange.files import keras
from lockstep.exchange.files.modules import PROGRAMS

FORM = dataclasses.replace(
    keras.FORM, title="SavedModel", names=lambda stem: (f"{stem}_saved_model",),
    checker=PROGRAMS / "check_saved_model.py", builder=PROGRAMS / "build_saved_model.py",
)  # fmt: skip
