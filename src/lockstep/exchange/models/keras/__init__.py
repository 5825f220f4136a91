"""Keras's side: what a call is (`roles`), what is watched (`watch`), what is noted (`recorder`), and the model."""

from lockstep.exchange.models.keras.side import Keras as Keras
