"""The machine as a record describes it: a time means nothing without it, and the last bits of a sum depend on it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

from lockstep.machine.cores import usable_cores
from lockstep.machine.memory import memory_bytes


def machine() -> dict[str, Any]:
    """The machine, as a record keeps it."""
    return {
        "platform": platform.platform(),
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "arithmetic": arithmetic(),
        "cores": len(usable_cores()),
        "memory_bytes": memory_bytes(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


# By these a user tells a library which instructions to take, and so how sums are rounded.
ARITHMETIC_VARIABLES = (
    "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_ENABLE_X64",
)  # fmt: skip


def arithmetic() -> str:
    """What else decides the last bits: the processor's instructions, which of them NumPy's BLAS takes, variables."""
    import numpy  # noqa: F401  # whose BLAS is there to be asked once it is imported
    from threadpoolctl import threadpool_info

    flags = hashlib.sha256(_cpuinfo("flags").encode()).hexdigest()[:8]
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas" and "numpy" in pool["filepath"]]
    words = [f"instructions {flags}"]
    words += [" ".join(str(pool.get(key)) for key in ("internal_api", "version", "architecture")) for pool in pools]
    words += [f"{name}={os.environ[name]}" for name in ARITHMETIC_VARIABLES if name in os.environ]
    return ", ".join(words)


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor; "" elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.partition(":")[0].strip() == key:
                return line.partition(":")[2].strip()
    return ""
