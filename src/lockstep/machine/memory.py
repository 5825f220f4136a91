"""Memory: how much the machine has, how much this process has held, and what the C library keeps of what it frees."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import cast


def memory_bytes() -> int | None:
    """The machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held at once.

    Linux's VmHWM is of this program alone; getrusage also counts what the process was before it became this program.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        unit = 1 if platform.system() == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


# glibc's parameters (malloc.h) and what they are set to. Arrays of up to 32 MiB, the most that it takes, come from the
# heap; so much is taken at once; and the heap gives back what lies free at its end once that is over 1 GiB. Setting
# the others alone would fix the first at 128 KiB, so it goes before them, and they only where it was taken.
M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD = (-3, 2**25), (-2, 2**24), (-1, 2**30)


def keep_freed_memory() -> None:
    """Let the C library (glibc) keep what this process frees, arrays of up to 32 MiB, for its next arrays.

    By default it gives large arrays back to the system and asks for them again at the next step, whose pages are each a
    fault and zeroed. How many depends on how the heap happens to lie: from 30 to 3,400 a step, and up to half of its
    time, were seen from one process of PyTorch's to the next. What the user has told the allocator stays.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = c_function("mallopt")
    if mallopt(*M_MMAP_THRESHOLD):
        mallopt(*M_TOP_PAD)
        mallopt(*M_TRIM_THRESHOLD)


def c_function(name: str) -> Callable[..., int]:
    """A function of the C library; where it has none of this name, one that does nothing."""
    try:
        import ctypes

        return cast("Callable[..., int]", getattr(ctypes.CDLL(None), name))
    except (ImportError, OSError, AttributeError, TypeError):  # without libffi, macOS and musl, Windows
        return lambda *_: 0


def forget_peak_memory() -> None:
    """Let `peak_memory_bytes` begin again with what this process holds now, where the system can (Linux).

    What is free and kept goes back first: it would be counted.
    """
    c_function("malloc_trim")(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
