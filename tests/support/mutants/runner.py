"""Puts faults into copies of the package and proves a study with each: see the head of this package."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import data
from lockstep.machine import cores
from support import ROOT
from support.mutants.table import STUDIES, Mutant

PACKAGE, STUDIES_FOLDER = ROOT / "src" / "lockstep", ROOT / "studies"
SECONDS = 600  # for one proof
FOUND, MISSED, UNSEEN, NOT_RUN = "found", "missed", "unseen", "not run"
FAILED = BROKEN, STALE, NOT_CLEAN = "broken", "stale", "not clean"
RIGHT, NONE, WRONG = "right", "none", "WRONG"
EQUAL = ("IDENTICAL", "EQUAL")
UNTOUCHED = "no bit of the trace is another"  # of one that is missed: a study in which it does not bite


@dataclass(frozen=True)
class Result:
    """What a proof said of one mutant."""

    name: str
    file: str
    outcome: str
    is_placed: bool = False
    cause: str = ""
    accused: tuple[str, ...] = ()  # innocent backends
    first: str = ""  # "backend: stage: where (step)"
    named: tuple[str, ...] = ()
    seconds: float = 0.0
    note: str = ""
    equivalent: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the run as a whole has failed for it."""
        return self.outcome in FAILED or self.cause == WRONG or bool(self.equivalent and self.outcome == FOUND)

    @property
    def line(self) -> str:
        """For people."""
        place = "" if self.outcome != FOUND else "placed" if self.is_placed else "place WRONG"
        words = [self.outcome, place, self.cause and f"cause {self.cause}"]
        words += [f"accuses {', '.join(self.accused)}" if self.accused else "", "equivalent" if self.equivalent else ""]
        more = "; ".join(word for word in (self.first, ", ".join(self.named), self.note) if word)
        return f"{self.name:<36} {' · '.join(filter(None, words)):<36} {self.seconds:5.1f} s  {more}"


@dataclass(frozen=True)
class Proof:
    """The document that a proof leaves, and the hash of every file of every backend's trace."""

    document: dict[str, Any]
    traces: dict[str, dict[str, str]]


# ------------------------------------------------------------------------------------------------------------- a fault


class Stale(Exception):  # noqa: N818 - the table's fault
    """A text to replace is not in its file exactly once."""


def applied(mutant: Mutant, content: str) -> str:
    """The file with the fault in it; raises Stale."""
    for old, new in mutant.edits:
        if (n := content.count(old)) != 1:
            raise Stale(f"{n} times in {mutant.file}: {old!r}")
        content = content.replace(old, new)
    return content


def copied(folder: Path, mutant: Mutant | None) -> Path:
    """A copy of the package with the fault in it, for PYTHONPATH; raises Stale."""
    place = folder / "src" / "lockstep"
    shutil.copytree(PACKAGE, place)  # with __pycache__ and times: what is not changed is not compiled again
    if mutant is not None:
        path = place / mutant.file
        path.write_text(applied(mutant, path.read_text(encoding="utf-8")), encoding="utf-8")
        for old in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            old.unlink()
    return place.parent


# -------------------------------------------------------------------------------------------------------------- a proof


def write_images(path: Path) -> None:
    """Digits as a dataset of one's own, whose test images are more than one part of a prediction."""
    loaded = data.load("digits", offline=True)
    images = np.concatenate([loaded.test_images, loaded.train_images])
    labels = np.concatenate([loaded.test_labels, loaded.train_labels])
    test, train = slice(0, 600), slice(600, 1000)
    np.savez(path, x_train=images[train], y_train=labels[train], x_test=images[test], y_test=labels[test])


def command(folder: Path, mutant: Mutant) -> list[str]:
    """`lockstep prove` of the study that a mutant asks for."""
    asked = STUDIES[mutant.study]
    path = STUDIES_FOLDER / asked.file if asked.file else folder / f"{mutant.study}.toml"
    if not asked.file:
        path.write_text(asked.text, encoding="utf-8")
    words = [word for name in asked.networks for word in ("--network", name)]
    words += [word for setting in asked.settings for word in ("--set", setting)]
    words += ["--backends", ",".join(mutant.backends), "--steps", str(mutant.steps), "--threads", str(mutant.threads)]
    return [sys.executable, "-m", "lockstep", "prove", str(path), *words, "--runs", str(folder / "runs"), "--json"]


def proven(folder: Path, source: Path, mutant: Mutant) -> Proof:
    """A mutant's study, proven by this source; raises RuntimeError where that leaves no document."""
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    environment |= {"XDG_STATE_HOME": str(folder)}  # where a fault of the program is logged
    done = subprocess.run(
        command(folder, mutant), cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=SECONDS,
    )  # fmt: skip
    try:
        document = json.loads(done.stdout)
        rows = [row for network in document["networks"] for row in network["backends"]]
    except (ValueError, KeyError):
        raise RuntimeError(f"exit code {done.returncode}: {(done.stdout + done.stderr).strip()[-800:]}") from None
    return Proof(document, {f"{index} {row['backend']}": _hashes(row["trace"]) for index, row in enumerate(rows)})


def _hashes(trace: str | None) -> dict[str, str]:
    if trace is None:
        return {}
    return {
        name: file["sha256"] for name, file in json.loads(Path(trace, "manifest.json").read_text())["files"].items()
    }


# ----------------------------------------------------------------------------------------------------- what it comes to


def is_place(mutant: Mutant, row: dict[str, Any]) -> bool:
    """Whether a divergence is where the fault is."""
    said = f"{row['stage']}: {row['where']}"
    at_step = mutant.first_step is None or row["step"] == mutant.first_step
    return at_step and any(fnmatch.fnmatchcase(said, place) for place in mutant.places)


def told(mutant: Mutant, proof: Proof, clean: Proof, seconds: float) -> Result:
    """What a proof says of a mutant."""
    facts: dict[str, Any] = {"name": mutant.name, "file": mutant.file, "equivalent": mutant.equivalent}
    facts["seconds"] = seconds
    verdict, rows = proof.document["verdict"], proof.document["divergences"]
    if verdict == "ERROR":
        reasons = [row["reason"] for net in proof.document["networks"] for row in net["backends"] if row["reason"]]
        return Result(**facts, outcome=BROKEN, note="; ".join(map(str, reasons)))
    if not rows:
        note = "" if verdict.startswith(EQUAL) else verdict
        note = note or (UNTOUCHED if proof.traces == clean.traces else "")
        return Result(**facts, outcome=MISSED if verdict.startswith(EQUAL) else UNSEEN, note=note)
    first = rows[0]
    accused = tuple(dict.fromkeys(row["backend"] for row in rows if row["backend"] not in mutant.guilty))
    named = tuple(dict.fromkeys(cause for row in rows for cause in row["causes"] if cause != "unexplained"))
    true = {row["backend"]: mutant.causes if row["backend"] in mutant.guilty else () for row in rows}
    false = [
        name
        for row in rows
        for cause in row["causes"]
        for name in cause.split(" + ")
        if name not in (*true[row["backend"]], "unexplained")
    ]
    return Result(
        **facts, outcome=FOUND, is_placed=is_place(mutant, first) and not accused,
        cause=WRONG if false else RIGHT if named else NONE, accused=accused, named=named,
        first=f"{first['backend']}: {first['stage']}: {first['where']} ({first['step']})", note=first["problem"] or "",
    )  # fmt: skip


class Runner:
    """Proves mutants, and each study with the clean source too, once."""

    def __init__(self, folder: Path) -> None:
        """Work in an empty folder."""
        self.folder = folder
        self.clean = copied(folder / "clean", None)
        self.clean_proofs: dict[Any, Future[Proof]] = {}
        write_images(folder / "mine.npz")
        # Most programs of one study are the same with a fault and without.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "jax"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

    def run(self, mutants: Sequence[Mutant], jobs: int, tell: Callable[[Result], None]) -> list[Result]:
        """Every mutant's result, in order; each is told when it is there."""

        def one(mutant: Mutant) -> Result:
            result = self.prove(mutant)
            tell(result)
            return result

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, mutants))

    def prove(self, mutant: Mutant) -> Result:
        """One mutant's result."""
        if mutant.threads > cores.default_threads():
            return Result(mutant.name, mutant.file, NOT_RUN, note=f"it needs {mutant.threads} processors")
        place, start = self._place(mutant.name), time.perf_counter()

        def failed(outcome: str, note: object) -> Result:
            seconds = time.perf_counter() - start
            return Result(mutant.name, mutant.file, outcome, seconds=seconds, note=str(note)[-800:])

        try:
            source = copied(place, mutant)
            clean = self._by_clean(mutant)
            if not clean.document["verdict"].startswith(EQUAL):
                return failed(NOT_CLEAN, f"{clean.document['verdict']}: {json.dumps(clean.document['divergences'])}")
            start = time.perf_counter()
            return told(mutant, proven(place, source, mutant), clean, time.perf_counter() - start)
        except Stale as error:
            return failed(STALE, error)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return failed(BROKEN, error)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir()
        shutil.copy(self.folder / "mine.npz", place)
        return place

    def _by_clean(self, mutant: Mutant) -> Proof:
        """The study, proven by the clean source; raises RuntimeError where that leaves no document."""
        key = (mutant.study, mutant.backends, mutant.steps, mutant.threads)
        own: Future[Proof] = Future()
        future = self.clean_proofs.setdefault(key, own)
        if future is own:
            place = self._place(f"clean-{'-'.join(map(str, (mutant.study, *mutant.backends, *key[2:])))}")
            try:
                own.set_result(proven(place, self.clean, mutant))
            except BaseException as error:
                own.set_exception(error)
            finally:
                shutil.rmtree(place, ignore_errors=True)
        return future.result()


# ---------------------------------------------------------------------------------------------------------- all of them


def counts(results: Sequence[Result]) -> dict[str, int]:
    """How many of them came to what; an equivalent mutant is no mutant that could be found."""
    real = [result for result in results if not result.equivalent]
    found = [result for result in real if result.outcome == FOUND]
    return {
        "mutants": len(real),
        "found": len(found),
        "placed": sum(result.is_placed for result in found),
        "named": sum(result.cause == RIGHT for result in found),
        "wrong": sum(result.cause == WRONG for result in results),
        "accusing": sum(bool(result.accused) for result in results),
        "missed": sum(result.outcome == MISSED for result in real),
        "unseen": sum(result.outcome == UNSEEN for result in real),
        "equivalent": len(results) - len(real),
        "failed": sum(result.outcome in FAILED for result in results),
    }


def totals(results: Sequence[Result]) -> str:
    """A table of the counts, by file and in all."""
    files = {name: [row for row in results if row.file == name] for name in sorted({row.file for row in results})}
    rows = {**{name: counts(of) for name, of in files.items()}, "all": counts(results)}
    heads = list(rows["all"])
    lines = [f"{'':<28}" + "".join(f"{head:>11}" for head in heads)]
    lines += [f"{name:<28}" + "".join(f"{row[head]:>11}" for head in heads) for name, row in rows.items()]
    return "\n".join(lines)
