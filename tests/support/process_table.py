"""Processes, as tests look for them and wait for them."""

from __future__ import annotations

import time
from pathlib import Path


def worker_of(folder: Path) -> int | None:
    """The process that works in a run folder."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lockstep.training.worker" in words and str(folder).encode() in words:
            return int(place.parent.name)
    return None


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(what, seconds=30.0):
    """The first true answer; fails when none comes in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain")
