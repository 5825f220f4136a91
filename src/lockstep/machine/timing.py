"""The stopwatch and the machine that it stands on: what a time must carry with it to mean anything."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from lockstep.errors import LockstepError
from lockstep.language import later as _

# Every library that computes reads one of these when it is imported, so they are set before a worker starts.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip


class Clocks:
    """Seconds by name; a name that is measured again adds up."""

    def __init__(self) -> None:
        """Start the clock of the whole."""
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add what the block takes to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add what somebody else has measured."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def total(self) -> float:
        """Seconds since this was made."""
        return time.perf_counter() - self.start


def usable_cores() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def thread_environment(backend: str, threads: int) -> dict[str, str]:
    """The variables by which a worker's libraries get this many threads.

    The NumPy backend has threads of its own, one per slice of a batch; its matrix products run in them, so each gets
    one: two levels of threads on the same cores fight.
    """
    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if backend == "numpy":
        environment["OPENBLAS_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    return environment


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """This process multiplies matrices on one thread meanwhile; processes that it starts are not meant."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


@contextlib.contextmanager
def limited_to(threads: int, cores: Sequence[int] | None = None) -> Iterator[None]:
    """Processes started inside may use this many processors only (where the system can say so).

    The first ones of `cores`; by default of those that the calling thread may use.
    """
    before = usable_cores()
    wanted = list(before if cores is None else cores)[:threads]
    if not hasattr(os, "sched_setaffinity") or wanted == before:
        yield
        return
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def default_threads() -> int:
    """Two for everybody, or one where there is only one."""
    return min(2, len(usable_cores()))


def checked_threads(threads: int | None) -> int:
    """The number of threads to ask for; raises LockstepError (LS-205) for one that this machine does not have."""
    if threads is None:
        return default_threads()
    if not 1 <= threads <= len(usable_cores()):
        message = _(
            "{threads} threads were asked for, this process may use {n} processors",
            threads=threads,
            n=len(usable_cores()),
        )
        raise LockstepError("LS-205", message, where="--threads", hint=_("ask for one of 1 to that many"))
    return threads


def obtained_threads(asked: int, taken: int | None = None) -> dict[str, Any]:
    """What this process really got: {"asked", "obtained", "pools"}; `taken`, where fewer were free than asked for."""
    from threadpoolctl import threadpool_info

    pools = [{key: pool.get(key) for key in ("user_api", "internal_api", "num_threads")} for pool in threadpool_info()]
    return {"asked": asked, "obtained": min(taken or asked, len(usable_cores())), "pools": pools}


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
    """Let the C library (glibc) keep what this process frees, arrays of up to 32 MiB, for whoever asks next.

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


@functools.cache
def own_sources() -> str:
    """SHA-256 of every Python file of this Lockstep, line ends aside: an edited copy has another one."""
    digest, here = hashlib.sha256(), Path(__file__).parent.parent
    for path in sorted(here.rglob("*.py")):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(here).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def git_revision() -> str | None:
    """The revision of the checkout that this code runs from, where it is one.

    An installed Lockstep may lie inside a repository of the user's, whose revisions say nothing about it.
    """
    here = Path(__file__)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "rev-parse", "HEAD")
    return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603
