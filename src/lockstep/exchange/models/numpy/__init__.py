"""The side of models in NumPy: their passes (`side`), and how they are trained (`training`)."""

from lockstep.exchange.models.numpy.side import NumPy as NumPy
