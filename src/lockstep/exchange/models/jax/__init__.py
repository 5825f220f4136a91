"""JAX's side: what a call is (`roles`), its writing into a jaxpr (`watch`), the kinds of models, and their reading."""

from lockstep.exchange.models.jax.side import Jax as Jax
