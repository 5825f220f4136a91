"""Which Lockstep this is."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The version of what is installed: "0.1.0"; or "unknown (not installed)", for a checkout on PYTHONPATH."""
    try:
        return metadata.version("lockstep-nn")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
