"""Keras's side: what a call is (`roles`), what is watched (`watch`), what is noted (`recorder`), and the model."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from lockstep.exchange.models.keras.side import Keras as Keras
