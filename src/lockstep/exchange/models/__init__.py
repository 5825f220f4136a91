"""People's own models: a side for each, in a process of its own, that builds, traces, changes and steps it.

A side is one file a framework (`torch`, `keras`, `jax`, `numpy`), all with the contract of `side.Side`; `server` is the
process around it, `records` what crosses the border.
"""
