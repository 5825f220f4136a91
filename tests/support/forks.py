"""Command lines by the hundred: forks of a process that has imported everything, `python -m support.forks BACKEND`.

Most of a short run's seconds are imports, and those need no torture. What is forked is the command line with its own
signals, and, where it would spawn a worker, that worker: the same code in processes of their own, killed for real.
TensorFlow and JAX have been imported there and not used: their threads, which a fork would lose, begin with first use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lockstep import backends
from lockstep.machine import cores
from support import TESTS

NETWORKS = {
    "mlp": 'networks.mlp = ["flatten", "dense 23", "relu", "dropout 0.2", "dense 10"]',
    "cnn": 'networks.cnn = ["conv2d 5 3", "batch_norm", "relu", "max_pool2d 2", "flatten", "dense 10"]',
}
STUDY = """
name = "lab"
dataset = "digits"
backends = ["{backend}"]
train_size = 200
{network}

[recipe]
optimizer = "adam 0.01"
epochs = 4
batch_size = 64
validation = 0.1
early_stopping = {{patience = 3, restore_best = true}}
augmentation = {{shift = 1}}
"""


# -------------------------------------------------------------------------------------------------------- in the tests


class Stable:
    """A process that has imported a backend and forks a command line whenever it is asked to."""

    def __init__(self, backend: str) -> None:
        self.backend, self.compiled = backend, tempfile.mkdtemp(prefix="lockstep-tests-")
        environment = {**os.environ, **cores.thread_environment(backend, 2), "TF_CPP_MIN_LOG_LEVEL": "3"}
        # XLA's programs are kept, as conftest keeps JAX's: to compile one takes longer than all else in a run.
        environment["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={self.compiled}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.forks", backend], cwd=TESTS, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, **question: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        answer = self.process.stdout.readline()
        assert answer, f"the stable of {self.backend} is gone"
        return json.loads(answer)

    def start(
        self, folder: Path, *words: str, plant: str = "", disk: dict[str, Any] | None = None, nohup: bool = False,
        file_bytes: int = 0, more_bytes: int = 0,
    ) -> Started:  # fmt: skip
        """`lockstep *words` in this folder, with a mechanism broken by `plant`, on a failing disk, or under nohup.

        `file_bytes`: no file may be larger. `more_bytes`: no process may take more memory than now and so much.
        """
        orders = {"words": words, "plant": plant, "disk": disk, "nohup": nohup}
        orders |= {"file_bytes": file_bytes, "more_bytes": more_bytes}
        return Started(self, folder, self.ask(do="start", folder=str(folder), **orders))

    def run(self, folder: Path, *words: str, **orders: Any) -> Started:
        """`start`, and wait for the end."""
        started = self.start(folder, *words, **orders)
        started.wait()
        return started

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.compiled, ignore_errors=True)


class Started:
    """A command line that was started: its process, and at its end `code` (negative: a signal) and `said`."""

    def __init__(self, stable: Stable, folder: Path, number: int) -> None:
        self.stable, self.folder, self.number, self.code = stable, folder, number, 0
        self.operations = 0

    def wait(self) -> int:
        answer = self.stable.ask(do="wait", number=self.number)
        self.code, self.operations = answer["code"], answer["operations"]
        return self.code

    @property
    def said(self) -> str:
        with contextlib.suppress(FileNotFoundError):  # it has not come so far
            return (self.folder / f"said-{self.number}").read_text(encoding="utf-8", errors="replace")
        return ""

    def kill(self, who: str, number: int = signal.SIGKILL) -> None:
        """Kill the command line ("parent"), its worker ("worker", if there is one by now), or both at once ("all")."""
        with contextlib.suppress(ProcessLookupError):
            if who == "all":
                os.killpg(self.number, number)
            elif who == "parent":
                os.kill(self.number, number)
            for child in self.workers() if who == "worker" else []:
                os.kill(child, number)

    def workers(self) -> list[int]:
        with contextlib.suppress(OSError):  # a process is its starting thread's child
            tasks = Path(f"/proc/{self.number}/task").glob("*/children")
            return [int(word) for task in tasks for word in task.read_text().split()]
        return []


@contextlib.contextmanager
def stable(backend: str) -> Iterator[Stable]:
    """A stable for as long as the block."""
    found = Stable(backend)
    try:
        yield found
    finally:
        found.close()


def write_study(folder: Path, backend: str, network: str) -> None:
    """lab.toml in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.toml").write_text(STUDY.format(backend=backend, network=NETWORKS[network]))


def run_folder(folder: Path) -> Path:
    """The one run of lab.toml."""
    (place,) = (path.parent for path in (folder / "runs" / "lab").glob("*/status.json"))
    return place


RUN, RESUME = ("run", "lab.toml", "--threads", "1"), ("resume", "runs")
BITS = ("metrics.json", "predictions.npz", "steps.npz", "samples.npz", "spec.toml")


def fingerprint(folder: Path) -> dict[str, Any]:
    """The bits of the one run of lab.toml."""
    return bits(run_folder(folder))


def bits(place: Path) -> dict[str, Any]:
    """SHA-256 of all that a finished run has to have bit for bit; and its history, times apart."""
    assert json.loads((place / "status.json").read_text())["status"] == "finished"
    checkpoint = last_checkpoint(place)
    assert (checkpoint / "manifest.json").exists()
    files = [*(place / name for name in BITS), *sorted(checkpoint.glob("*.safetensors"))]
    found: dict[str, Any] = {str(path.relative_to(place)): _hash(path.read_bytes()) for path in files}
    rows = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
    found["history"] = [
        {key: value for key, value in row.items() if key != "train_seconds"} for row in rows if row["event"] == "epoch"
    ]
    return found


def last_checkpoint(place: Path) -> Path:
    """The one that a finished run ended with."""
    return place / f"checkpoint-{json.loads((place / 'metrics.json').read_text())['weights_of_epoch']}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def go_on(stable: Stable, folder: Path, **orders: Any) -> Started:
    """What a user does next: resume, or run again where nothing was begun."""
    if list(folder.glob("runs/lab/*/status.json")):
        return stable.run(folder, *RESUME, **orders)
    return stable.run(folder, *RUN, **orders)


def strays(folder: Path) -> list[str]:
    """What no run leaves behind that came to its end."""
    found = [path for path in folder.glob("runs/**/*") if path.name.endswith(".part") or path.name == "lock"]
    for place in (path.parent for path in folder.glob("runs/lab/*/metrics.json")):  # of those that are finished
        found += [path for path in place.glob("checkpoint-*") if path != last_checkpoint(place)]
    found += [path for path in folder.glob("runs/**/checkpoint-*") if not (path / "manifest.json").exists()]
    return [str(path.relative_to(folder)) for path in found]


def kill_at_random(started: Started, seconds: float, chance: random.Random) -> str:
    """Kill -9 at a uniformly random moment of so many seconds; says whom."""
    end = time.monotonic() + chance.uniform(0, seconds)
    who = chance.choice(("all", "parent", "worker"))
    while time.monotonic() < end:
        time.sleep(0.002)
    started.kill(who)
    started.wait()
    return who


class InThisProcess:
    """A place where runs are trained without a process of their own: for tests of what comes out, not of how it ends.

    What is no training of one run is done as ever.
    """

    def do(self, job: Any, tell: Any = lambda event: None) -> list[Any]:
        """See `lockstep.study.places.Place`."""
        from lockstep import LockstepError, store
        from lockstep.study import places
        from lockstep.study.places import local
        from lockstep.training import loop, worker

        if job.task != places.TRAINING:
            return local.Local().do(job, tell)
        (run,), (folder,) = job.runs, job.folders

        def report(event: dict[str, Any]) -> None:
            store.append_event(folder / "events.jsonl", event)
            tell({**event, "run": folder.name})

        try:
            loop.alone(loop.train(run, folder, job.threads, report))
            worker.end(folder)
        except LockstepError as error:
            store.write_status(folder, "failed", **worker.failure(error))
        except BaseException:
            store.write_status(folder, "failed", "LS-402", store.INTERRUPTED)
            raise
        return [store.Record(folder)]


class Failing:
    """A place where every run comes to grief."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def do(self, job: Any, tell: Any = lambda event: None) -> list[Any]:
        """See `lockstep.study.places.Place`."""
        from lockstep import LockstepError, store

        if not isinstance(self.error, LockstepError):
            raise self.error
        for folder in job.folders:
            store.write_status(folder, "failed", self.error.code, str(self.error))
        return [store.Record(folder) for folder in job.folders]


# ------------------------------------------------------------------------------------------------------- in the stable

LONGEST_SECONDS = 600


def main(backend: str) -> None:
    """Fork what the tests ask for, one JSON line a question and an answer."""
    from lockstep import cli, data, report, store  # noqa: F401
    from lockstep.screen import proofs, runs  # noqa: F401
    from lockstep.study import resumption  # noqa: F401

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    backends.load(backend)
    data.load("digits", offline=True)
    import safetensors.numpy  # noqa: F401
    import threadpoolctl  # noqa: F401

    disks: dict[int, Any] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "start":
            disk = _disk(question)
            number = os.fork()
            if not number:
                _command(question, disk)
            with contextlib.suppress(OSError):
                os.setpgid(number, number)  # here too, so that it is done when the answer is out
            disks[number] = disk
            answers.write(json.dumps(number) + "\n")
        else:
            code = _end_of(question["number"])
            disk = disks.pop(question["number"])
            answers.write(json.dumps({"code": code, "operations": disk.operations if disk else 0}) + "\n")


def _end_of(number: int) -> int:
    """How a fork ends; one that hangs is ended, and shows by its code, -SIGABRT."""
    end = time.monotonic() + LONGEST_SECONDS
    while not (found := os.waitpid(number, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(number, signal.SIGABRT)
            end += LONGEST_SECONDS
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def _disk(question: dict[str, Any]) -> Any:
    from support.failing_disk import Disk

    return Disk(Path(question["folder"]) / "runs", **question["disk"]) if question["disk"] else None


def _command(question: dict[str, Any], disk: Any) -> None:
    """The forked command line; does not return."""
    from lockstep import cli

    os.setpgid(0, 0)
    os.chdir(question["folder"])
    out = os.open(f"said-{os.getpid()}", os.O_WRONLY | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in ((0, nothing), (1, out), (2, out)):
        os.dup2(source, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m, buffering=1) for n, m in ((0, "r"), (1, "w"), (2, "w")))
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
    if question["nohup"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _limit(question["file_bytes"], question["more_bytes"])
    _fork_workers()
    _report_quickly()
    if disk:
        disk.install()
    if question["plant"]:
        PLANTS[question["plant"]]()
    code = 70
    try:
        cli.main(question["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def _limit(file_bytes: int, more_bytes: int) -> None:
    import resource

    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if more_bytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Fork:
    """What a `Worker` needs of its process: subprocess.Popen, by a fork."""

    def __init__(self, command: list[str], stderr: Any, env: dict[str, str], **_: Any) -> None:
        stdin, stdout = os.pipe(), os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.close(stdin[1])  # or it would never be told that its parent is gone
            os.close(stdout[0])
            self._be_the_worker(command, (stdin[0], stdout[1], stderr.fileno()), env)
        os.close(stdin[0])
        os.close(stdout[1])
        self.stdin, self.stdout = stdin[1], os.fdopen(stdout[0], "r", errors="replace")

    def _be_the_worker(self, command: list[str], files: tuple[int, ...], env: dict[str, str]) -> None:
        code = 1
        try:
            from lockstep.training import worker

            for number, source in enumerate(files):
                os.dup2(source, number)
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(name) != signal.SIG_IGN:
                    signal.signal(name, signal.SIG_DFL)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            os.environ.update(env)
            code = worker.main(Path(command[4]), *map(int, command[5:]))
        finally:
            os._exit(code)

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self.stdout.close()
        os.close(self.stdin)

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout if timeout is not None else 1e9)
        while self.returncode is None:
            number, status = os.waitpid(self.pid, os.WNOHANG)
            if number:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            else:
                time.sleep(0.002)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def _fork_workers() -> None:
    """Workers are forked."""
    from lockstep.machine import processes

    class Processes:
        Popen = Fork

    processes.subprocess = Processes  # type: ignore[assignment]


def _report_quickly() -> None:
    """A page of a word, written as the page is: drawing it takes longer than the run."""
    from lockstep import report, store

    def write_report(records: Any, path: Path, **_: Any) -> Path:
        store.write_bytes(path, b"done")
        return path

    report.write_report = write_report


# ------------------------------------------------------------------------------------------------- mechanisms, broken


def _no_rename() -> None:
    from lockstep.files import disk

    @contextlib.contextmanager
    def new_file(path: Path, hint: str, sync_name: bool = True) -> Iterator[Path]:
        yield path

    disk.new_file = new_file


def _no_fsync() -> None:
    os.fsync = lambda number: None


def unchecked(path: Path, known: Any, limit: int = 2**30) -> bytes:
    """`reading.checked` and `reading.compare`, without a look at what the manifest says."""
    from lockstep.files import intake

    return intake.content(path, limit)


def forgetful(resume: Callable[..., None]) -> Callable[..., None]:
    """Keeper.resume, without the optimizer's slots."""

    def without_slots(self: Any, model: Any, clocks: Any) -> None:
        restore, fresh = model.restore, model.state()
        model.restore = lambda weights, state: restore(weights, fresh)
        resume(self, model, clocks)
        model.restore = restore

    return without_slots


def _slots_forgotten() -> None:
    from lockstep.training import checkpoints

    checkpoints.Keeper.resume = forgetful(checkpoints.Keeper.resume)  # type: ignore[method-assign]


def _slowly(seconds: Callable[[int], float], grace: float | None = None) -> None:
    from lockstep import data
    from lockstep.study.places import local

    if grace:
        local.GRACE_SECONDS = grace

    order = data.epoch_order

    def epoch_order(n: int, recipe: Any, seed: int, epoch: int) -> Any:
        if sys._getframe(1).f_code.co_name == "train_epochs":  # not while it is being prepared
            Path("under-way").write_text(str(epoch))
            until = time.monotonic() + seconds(epoch)
            while time.monotonic() < until:
                time.sleep(0.01)
        return order(n, recipe, seed, epoch)

    data.epoch_order = epoch_order


PLANTS: dict[str, Callable[[], None]] = {
    "no rename": _no_rename,
    "no fsync": _no_fsync,
    "slots forgotten": _slots_forgotten,
    "a second an epoch": lambda: _slowly(lambda epoch: 1.0, grace=120),
    "a third epoch without end": lambda: _slowly(lambda epoch: 3600.0 if epoch == 2 else 0.0),
    "a third epoch without end, and patience": lambda: _slowly(lambda epoch: 3600.0 * (epoch == 2), grace=120),
}  # fmt: skip

if __name__ == "__main__":
    main(sys.argv[1])
