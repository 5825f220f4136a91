"""Run folders: the truth. Everything that is known of a run lies in its folder, in formats that outlive Lockstep.

    runs/<study>/<run id>/
        status.json        {"format": 2, "status": "running" | "finished" | "failed", "code", "reason", times, "seal"}
        spec.toml          the study of this one run, fully resolved: running it again reproduces the run
        environment.json   versions, machine, threads, dataset (hashes, sizes, classes), git revision
        events.jsonl       one JSON object a line, as they happened; the epochs among them are the history
        steps.npz          loss, correct, examples: one number per update, in order
        samples.npz        images, labels: the first test images, for people to look at
        hardest.npz        indices, images: the test images with the largest loss
        predictions.npz    logits, labels: of the whole test set, after training
        metrics.json       what these predictions are worth, and the network's table
        timing.json        seconds per clock, seconds per epoch, peak memory
        checkpoint-<n>/    weights, state, steps (safetensors) after epoch n, manifest.json (SHA-256s; written last)
        manifest.json      size and SHA-256 of all of the above but status and checkpoints; written last
        worker.log         the worker's stderr
        lock               who works here now; gone when nobody does

Every file is written under a temporary name in the same folder, flushed to the disk, renamed and read back, so a reader
sees the old file or the new one and never half of it. An existing run is never overwritten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from lockstep import arguments
from lockstep.errors import LockstepError, without
from lockstep.files import atomic, untrusted
from lockstep.language import joined, mark, reason
from lockstep.language import later as _
from lockstep.spec import Study
from lockstep.spec.toml import read_study
from lockstep.store import results

FORMAT = 1
FORMAT_OF_TRACES = 2  # of a trace's manifest, whose files are listed as a run's are
SEALED = 2  # the format of a status and of a checkpoint's manifest that carry their own SHA-256; those of 1 have none
INTERRUPTED = "interrupted"  # the reason of a run that was ended from outside
UNUSABLE = mark("cannot be used: {why}")
SAMPLES = 16  # test images, the first, that a run keeps to be looked at
TRACES = "traces"  # the folder in a study's that holds what its proofs rest on; they are no runs
ASIDE = "aside"  # and what `lockstep clean` moved out of the way
UNEXPLAINED = "unexplained"  # and what it packs of a divergence without a known cause

# ------------------------------------------------------------------------------------------------------------ writing


HINT = atomic.HINT


def write_bytes(path: Path, content: bytes, sync_name: bool = True) -> None:
    """Write a file so that it is either whole or not there, and read it back; raises LockstepError (LS-501, LS-502).

    Without `sync_name` a later file of the same folder flushes this one's name too.
    """
    with atomic.new_file(path, HINT, sync_name) as temporary, atomic.writing(path, HINT):
        temporary.write_bytes(content)
    with atomic.writing(path, HINT):
        if path.read_bytes() != content:
            raise LockstepError("LS-501", _("what was read back is not what was written"), where=str(path), hint=HINT)


def write_json(path: Path, value: Any) -> None:
    """Write JSON (UTF-8, two spaces, keys in the order given); NaN and infinity become null."""
    write_bytes(path, _as_json(finite(value)))


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="replace")


def finite(value: Any) -> Any:
    """The value with NumPy numbers as Python's and with None for every NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [finite(item) for item in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def write_status(
    run: Path, status: str, code: str | None = None, reason: str | None = None, threads: int | None = None
) -> None:  # fmt: skip
    """Say how a run stands: "running", "finished" or "failed", with the error's code and reason.

    When it was started, and the threads that it was last asked to run with, stay as they were said before.
    """
    path = run / "status.json"
    before: dict[str, Any] = {}
    with contextlib.suppress(LockstepError):  # there is none yet, or it is damaged
        before = read_status(run)
    finished = None if status == "running" else now()
    value = {
        "format": SEALED, "status": status, "code": code, "reason": reason, "started": before.get("started", now()),
        "finished": finished, "threads": threads or before.get("threads"),
    }  # fmt: skip
    write_json(path, {**value, "seal": seal(value)})


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays as a compressed npz without pickle."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def append_event(path: Path, event: Mapping[str, Any]) -> None:
    """Add one line to events.jsonl; a line that a crash cut off is skipped by the reader."""
    with atomic.writing(path, HINT), open(path, "a", encoding="utf-8", errors="replace") as file:
        file.write(as_line(event))


def as_line(event: Mapping[str, Any]) -> str:
    """An event as a line of events.jsonl."""
    return json.dumps(finite(event), ensure_ascii=False, allow_nan=False) + "\n"


def write_checkpoint(
    run: Path,
    epoch: int,
    weights: Mapping[str, Any],
    state: Mapping[str, Any],
    more: Mapping[str, Mapping[str, Any]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write checkpoint-<epoch>; its manifest comes last and makes it count. Raises LockstepError (LS-501, LS-502).

    `more`: the name of a further file → its arrays. `facts` stand in the manifest, which carries its own SHA-256. What
    stood there under this name is replaced.
    """
    from safetensors.numpy import save

    folder = run / f"checkpoint-{epoch}"
    make_folder(folder)
    with atomic.writing(folder, HINT):
        (folder / "manifest.json").unlink(missing_ok=True)
    manifest: dict[str, Any] = {"format": SEALED, "epoch": epoch, **finite(facts or {}), "files": {}}
    for name, arrays in {"weights": weights, "state": state, **(more or {})}.items():
        content = save(_contiguous(arrays))
        write_bytes(folder / f"{name}.safetensors", content, sync_name=False)
        listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest["files"][f"{name}.safetensors"] = listed
    write_bytes(folder / "manifest.json", _as_json({**manifest, "seal": seal(manifest)}))
    with atomic.writing(folder, HINT):
        atomic.sync_folder(run)
    return folder


def seal(value: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object without its seal."""
    return hashlib.sha256(_as_json({key: item for key, item in value.items() if key != "seal"})).hexdigest()


def _contiguous(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, order="C") for name, value in arrays.items()}


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises LockstepError (LS-501, LS-502)."""
    with atomic.writing(path, HINT):
        new = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for place in new:
            atomic.sync_folder(place.parent)


def claim(study_folder: Path, run_id: str) -> Path:
    """Make a new run folder: `<run id>`, or `<run id>-2` … where earlier ones stand."""
    make_folder(study_folder)
    for attempt in range(1, 10_000):
        folder = study_folder / (run_id if attempt == 1 else f"{run_id}-{attempt}")
        with atomic.writing(folder, HINT), contextlib.suppress(FileExistsError):
            folder.mkdir()
            atomic.sync_folder(study_folder)
            return folder
    raise LockstepError(
        "LS-501", _("10,000 attempts of one run stand here"), where=str(study_folder), hint=_("clean it up")
    )


# ------------------------------------------------------------------------------------------------------------ reading


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises LockstepError (LS-505)."""
    try:
        return untrusted.json_object(path)
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_status(run: Path) -> dict[str, Any]:
    """A run's status.json, every bit of it as it was written; raises LockstepError (LS-505)."""
    path = run / "status.json"
    status = read_json(path)
    if status.get("format") != FORMAT:
        _check_seal(path, status)
    return status


def _check_seal(path: Path, value: Mapping[str, Any]) -> None:
    """Raise LockstepError (LS-505) where a JSON file is not what was sealed, down to its spaces."""
    if value.get("format") != SEALED:
        raise damaged(
            path,
            _(
                "it has format {format!r}, this version reads formats 1 and {sealed}",
                format=value.get("format"),
                sealed=SEALED,
            ),
        )
    try:
        as_written = value.get("seal") == seal(value) and _is_text(path, _as_json(value))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not as_written:
        raise damaged(path, _("it is not as it was written"))


def _is_text(path: Path, wanted: bytes) -> bool:
    """Whether a file holds this text, whatever its line ends."""
    found = path.read_bytes()
    return found == wanted or untrusted.line_ends_put_back(found) == wanted


def as_written(text: str) -> str:
    """A text with the line ends that it was written with."""
    return untrusted.line_ends_put_back(text.encode()).decode()


def read_spec(run: Path) -> str:
    """The text of a run's spec.toml, with the line ends that it was written with; raises LockstepError (LS-505)."""
    try:
        return as_written(untrusted.text(run / "spec.toml"))
    except (OSError, ValueError) as error:
        raise damaged(run / "spec.toml", error) from error


def spec_hash(text: str) -> str:
    """The hash of all that a spec.toml says a run is, with which the name of its folder ends."""
    content = "\n".join(line for line in text.splitlines() if not line.startswith(("name = ", "question = ")))
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def is_as_begun(run: Path, text: str) -> bool:
    """Whether this spec.toml is the one that a run's folder was named for; a name of somebody's own says nothing."""
    named = re.search(r"-([0-9a-f]{8})(-[0-9]+)?$", run.name)
    return not named or named[1] == spec_hash(text)


def read_asked(run: Path) -> Study:
    """What a run's spec.toml asks for, a study of this one run; raises LockstepError (LS-505)."""
    path = run / "spec.toml"
    if path.exists() and not path.is_file():
        read_spec(run)  # which says so, and which a pipe does not hold up
    try:
        study = read_study(path)
        (_run,) = study.runs()
    except LockstepError as error:
        first = error.problems[0]
        where = first.where.removeprefix(str(path)).lstrip(":")  # the file is named already, its line is not
        place = f"{first.code} {where}: " if where else f"{first.code}: "
        raise damaged(path, joined((place, first.message), "")) from error
    except ValueError as error:
        raise damaged(path, _("it asks for more than one run")) from error
    return study


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz, never pickle; raises LockstepError (LS-505)."""
    try:
        return untrusted.npz(path)
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged files
        raise damaged(path, error) from error


def read_checkpoint(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(weights, state) of a checkpoint whose manifest fits; raises LockstepError (LS-505)."""
    manifest = read_checkpoint_manifest(folder)
    return read_checkpoint_file(folder, "weights", manifest), read_checkpoint_file(folder, "state", manifest)


def read_checkpoint_manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest.json, every bit of it as it was written; raises LockstepError (LS-505)."""
    path = folder / "manifest.json"
    manifest = read_json(path)
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not listed:
        raise damaged(path, _('"files" is missing'))
    if manifest.get("format") == FORMAT and manifest.keys() == {"format", "epoch", "files"}:
        return manifest
    _check_seal(path, manifest)
    if folder.name != f"checkpoint-{manifest.get('epoch')}":
        raise damaged(path, _("it is that of epoch {epoch}", epoch=manifest.get("epoch")))
    return manifest


def read_checkpoint_file(folder: Path, name: str, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of `<name>.safetensors`, whose SHA-256 is the manifest's; raises LockstepError (LS-505)."""
    return read_tensors(folder / f"{name}.safetensors", manifest["files"].get(f"{name}.safetensors"))


def read_tensors(path: Path, known: Any) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file that a manifest lists as `known`; raises LockstepError (LS-505)."""
    try:
        return untrusted.tensors(untrusted.checked(path, known))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> LockstepError:
    """The error (LS-505) for a file of a run folder that cannot be used."""
    why = "it is missing" if isinstance(why, FileNotFoundError) else why
    return LockstepError(
        "LS-505", _(UNUSABLE, why=why), where=str(path), hint=_("run it again; this file stays as it is")
    )


HASHED = (
    "spec.toml",
    "environment.json",
    "events.jsonl",
    "steps.npz",
    "samples.npz",
    "hardest.npz",
    "predictions.npz",
    "metrics.json",
    "timing.json",
)


def write_manifest(run: Path) -> None:
    """Write manifest.json: the size and SHA-256 of every file of a run that is done, so that a later edit shows."""
    listed = {}
    for path in (run / name for name in HASHED):
        with atomic.writing(path, HINT), open(path, "rb+") as file:
            os.fsync(file.fileno())  # events.jsonl grew line by line
        content = path.read_bytes()
        listed[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_json(run / "manifest.json", {"format": FORMAT, "files": listed})


def check_manifest(run: Path) -> None:
    """Raise LockstepError (LS-505) where a file of a finished run is not what manifest.json says."""
    for name, wrong in check_files(run).items():
        if wrong is not None:
            raise damaged(run / name, wrong)


def check_files(run: Path) -> dict[str, str | None]:
    """Every file of a finished run and what is wrong with it, None where nothing is; manifest.json is among them."""
    path = run / "manifest.json"
    try:
        manifest = read_json(path)
        listed = manifest.get("files")
        if manifest.get("format") not in (FORMAT, FORMAT_OF_TRACES):
            raise damaged(
                path,
                _(
                    "it has format {format!r}, this version reads format {known}",
                    format=manifest.get("format"),
                    known=FORMAT,
                ),
            )
        if not isinstance(listed, dict) or not listed:
            raise damaged(path, _('"files" is missing'))
    except LockstepError as error:
        return {path.name: without(error.problems[0].message, UNUSABLE)}
    found: dict[str, str | None] = {path.name: None}
    for name, known in listed.items():
        name = Path(name).name  # never outside the folder
        try:
            untrusted.compare(run / name, known)
            found[name] = None
        except (OSError, ValueError) as error:
            found[name] = _("it is missing") if isinstance(error, FileNotFoundError) else reason(error)
            if Path(name).suffix in TEXTS and _is_but_for_line_ends(run / name, known):
                found[name] = None
    return found


TEXTS = (".toml", ".json", ".jsonl")  # the files of a run that git and editors take for texts


def _is_but_for_line_ends(path: Path, known: Any) -> bool:
    try:
        return untrusted.is_but_for_line_ends(path, known)
    except (OSError, ValueError):
        return False


def other_line_ends(run: Path) -> list[str]:
    """The texts of a run's folder whose line ends are no longer those that Lockstep writes; none where it is whole."""
    found = []
    for place in (run, *find_checkpoints(run)):
        listed: Any = {}
        with contextlib.suppress(LockstepError):
            listed = read_json(place / "manifest.json").get("files")
        for path in sorted(place.glob("*")):
            if path.suffix in TEXTS and path.is_file():
                with contextlib.suppress(OSError, ValueError):
                    content = untrusted.content(path, untrusted.LARGEST_JSON)
                    known = listed.get(path.name) if isinstance(listed, dict) else None
                    # What is no longer what was written for another reason, too, is told with the files.
                    is_that = untrusted.is_but_for_line_ends(path, known) if known else b"\r" in content
                    if content and content != untrusted.line_ends_put_back(content) and is_that:
                        found.append(path.relative_to(run).as_posix())
    return found


def holds_results(run: Path) -> bool:
    """Whether a run came to its end in this folder, whatever its status says or has lost."""
    return any((run / name).exists() for name in ("manifest.json", "metrics.json"))


ATTRIBUTES = b"""# Hashes of runs hold for the bytes that were written: git is to leave their line ends alone.
* -text
"""


def make_study_folder(folder: Path) -> None:
    """Make the folder of a study's runs; the outermost that had to be made, runs/ or it, tells git to change nothing.

    Raises LockstepError (LS-501, LS-502).
    """
    new = next((place for place in (folder.parent, folder) if not place.exists()), None)
    make_folder(folder)
    if new is not None and not (folder.parent / ".gitattributes").exists():
        write_bytes(new / ".gitattributes", ATTRIBUTES)


@dataclasses.dataclass(frozen=True, repr=False)
class Record:
    """The facts of one run, read from its folder when asked for; a missing part raises LockstepError (LS-505).

    Printed, or shown in a notebook, it is a table of its numbers.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", arguments.path(self.folder, "folder"))

    def __repr__(self) -> str:
        return f"{results.as_text(_shown([self], results.COORDINATES))}\n{self.folder}"

    def _repr_html_(self) -> str:
        return results.as_html(_shown([self], results.COORDINATES))

    @cached_property
    def status(self) -> dict[str, Any]:
        """status.json."""
        return read_status(self.folder)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """spec.toml as plain tables: a study of one run."""
        path = self.folder / "spec.toml"
        try:
            spec = untrusted.toml(read_spec(self.folder))
        except (ValueError, RecursionError) as error:
            raise damaged(path, error) from error
        for key in ("networks", "backends", "seeds", "dataset", "dtype", "recipe"):
            if not spec.get(key) or not isinstance(spec[key], dict | list):
                raise damaged(path, _('"{key}" is missing', key=key))
        return spec

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json."""
        return read_json(self.folder / "environment.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def timing(self) -> dict[str, Any]:
        """timing.json."""
        return read_json(self.folder / "timing.json")

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """One row per epoch, from events.jsonl."""
        return [event for event in read_events(self.folder / "events.jsonl") if event.get("event") == "epoch"]

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.status.get("status") == "finished")

    # One run's coordinates, as its spec has them.
    @property
    def network(self) -> str:
        """The network's name in the study."""
        return str(next(iter(self.spec["networks"])))

    @property
    def backend(self) -> str:
        """The backend's name."""
        return str(self.spec["backends"][0])

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.spec["seeds"][0])

    @property
    def dataset(self) -> str:
        """The dataset's name or path."""
        return str(self.spec["dataset"][0])

    @property
    def dtype(self) -> str:
        """The dtype's name."""
        return str(self.spec["dtype"][0])

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as plain tables."""
        return dict(self.spec["recipe"])

    # Its numbers, None in a run that did not come to its end.
    @property
    def test_accuracy(self) -> float | None:
        """The share of the test images that it gets right, 0 to 1."""
        return self._kept("metrics", "test", "accuracy")

    @property
    def test_loss(self) -> float | None:
        """The loss on the test images."""
        return self._kept("metrics", "test", "loss")

    @property
    def parameters(self) -> int | None:
        """How many numbers its network learns."""
        return self._kept("metrics", "parameters")

    @property
    def epochs(self) -> int | None:
        """How many epochs it was trained, fewer than asked where it stopped early."""
        return self._kept("metrics", "epochs")

    @property
    def together(self) -> int | None:
        """With how many runs, itself among them, it was trained in one process."""
        return self.timing.get("together", 1) if self.is_finished else None

    @property
    def seconds(self) -> dict[str, float] | None:
        """Seconds by clock: "import", "train", "evaluate", "total" …; None too where it was trained with others."""
        return self._kept("timing", "seconds") if self.together == 1 else None

    @property
    def seconds_per_epoch(self) -> float | None:
        """The median of its epochs' seconds of training; None too where it was trained with others."""
        return statistics.median(self._kept("timing", "epochs")) if self.together == 1 else None

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most memory that its process took; None too where it was trained with others."""
        return self._kept("timing", "peak_memory_bytes") if self.together == 1 else None

    def _kept(self, document: str, *keys: str) -> Any:
        """What metrics or timing hold under these keys; None in a run that did not come to its end."""
        value = getattr(self, document) if self.is_finished else None
        for key in keys if self.is_finished else ():
            if not isinstance(value, Mapping) or key not in value:
                raise damaged(self.folder / f"{document}.json", _('"{key}" is missing', key=key))
            value = value[key]
        return value

    def summary(self, grid: Mapping[str, Any], reused: bool = False) -> dict[str, Any]:
        """The run as `lockstep run --json` gives it; what it did not reach is None.

        `grid`: the keys of the recipe that the study varies, with this run's values.
        """
        numbers = (
            "parameters", "test_accuracy", "test_loss", "epochs", "seconds", "seconds_per_epoch", "peak_memory_bytes",
        )  # fmt: skip
        return {
            "network": self.network, "backend": self.backend, "seed": self.seed, "dataset": self.dataset,
            "dtype": self.dtype, "grid": dict(grid), "status": self.status["status"], "code": self.status.get("code"),
            "reason": self.status.get("reason"), **{name: getattr(self, name) for name in numbers},
            "folder": str(self.folder), "reused": reused, "together": self.together,
            "diverged": self.is_finished and self.test_loss is None,
        }  # fmt: skip

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `<name>.npz`: steps, samples or predictions."""
        return read_npz(self.folder / f"{name}.npz")


class Records(list[Record]):
    """Runs, as a list that is a table where it is printed or shown in a notebook."""

    def __repr__(self) -> str:
        return results.as_text(_shown(self)) if self else "Records([])"

    def _repr_html_(self) -> str:
        return results.as_html(_shown(self))

    @overload
    def __getitem__(self, place: SupportsIndex) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Record | Records:
        found = super().__getitem__(place)
        return Records(found) if isinstance(found, list) else found

    def __add__(self, others: list[Any]) -> Records:  # type: ignore[override]  # a list of other things is none of runs
        return Records([*self, *others])


def _shown(records: Sequence[Record], coordinates: Sequence[str] = ()) -> results.Results:
    """The table of these runs; one that cannot be read is a row that says so."""
    recipes = _varying([_settings(record) for record in records])
    rows = [_row(record, recipe) for record, recipe in zip(records, recipes, strict=True)]
    return results.results(rows, coordinates)


def _row(record: Record, grid: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return record.summary(grid)
    except (LockstepError, KeyError, TypeError, AttributeError, ValueError, IndexError):  # whatever is wrong with it
        unknown = dict.fromkeys(results.COORDINATES, results.MISSING)
        named = {"network": record.folder.name, "backend": results.MISSING}
        return {**named, **unknown, "grid": dict(grid), "status": mark("damaged")}


def _settings(record: Record) -> dict[str, Any]:
    """A run's recipe as dotted keys; none where its spec cannot be read."""
    with contextlib.suppress(LockstepError):
        return dict(_flat(record.recipe))
    return {}


def _flat(table: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each recipe what is not the same in all; where kinds differ, the kind and what varies among its own."""
    keys = dict.fromkeys(key for row in rows for key in row)
    found: list[dict[str, Any]] = [{} for _row in rows]
    tables = [key.removesuffix("kind") for key in keys if key.endswith(".kind") and _differ(rows, key)]
    for key in keys:
        table = next((table for table in tables if key.startswith(table)), None)
        for place, row in enumerate(rows):
            if table is None:
                found[place] |= {key: row.get(key, results.MISSING)} if _differ(rows, key) else {}
                continue
            alike = [other for other in rows if other.get(f"{table}kind") == row.get(f"{table}kind")]
            if key in row and (key == f"{table}kind" or _differ(alike, key)):
                before = found[place].get(table[:-1])
                word = str(row[key]) if before is None else f"{before} {key.removeprefix(table)}={row[key]}"
                found[place][table[:-1]] = word
    return found


def _differ(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({str(row.get(key)) for row in rows}) > 1


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a run, without lines that a crash cut off."""
    try:
        lines = untrusted.json_text(path, errors="replace").splitlines()
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    events = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events


RUNS_BELOW = 2  # folders between one that is named and its runs: runs/<study>/<run>


def find_runs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], depth: int = RUNS_BELOW
) -> Records:  # fmt: skip
    """Every run at or at most `depth` folders below the given ones: study by study, in the order they were begun in.

    So a report made later has the order of the study too. A run that has lost its status.json is found by its
    environment.json. Raises LockstepError: LS-505 where there is no run, LS-200 where there is no such folder.
    """
    paths = arguments.paths(paths, "paths")
    must_be_there(paths)
    found = {
        folder
        for path in paths
        for folder in folders_below(path, depth)
        if is_run(folder) and folder.parent.name not in NO_RUNS
    }
    if not found:
        where = ", ".join(map(str, paths))
        raise LockstepError(
            "LS-505", _("no run folder here"), where=where, hint=_("name a folder below runs/ that holds runs")
        )
    return Records(Record(folder) for folder in sorted(found, key=_order))


def _order(folder: Path) -> tuple[Any, ...]:
    """A sort key: the study's folder, then when the run was begun; of one whose status is lost its path decides."""
    times = ("", "")
    with contextlib.suppress(LockstepError, OSError, ValueError):
        status = read_json(folder / "status.json")
        times = str(status.get("started", "")), str(status.get("finished", ""))
    return natural(folder.parent), *times, natural(folder)


def given(records: Any) -> list[Record]:
    """The runs that somebody gave, several or one; raises LockstepError (LS-204) for what is none."""
    if isinstance(records, Record):
        return [records]
    hint = _("run_study and find_runs give them")
    found = arguments.several(records, "records", _("a list of runs"))
    return [arguments.instance(one, Record, "records", hint) for one in found]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return any((folder / name).exists() for name in ("status.json", "environment.json"))


NO_RUNS = (TRACES, UNEXPLAINED, ASIDE, "__MACOSX")  # folders that hold none; the last is what macOS adds to a zip


def folders_below(path: Path, depth: int) -> Iterator[Path]:
    """A folder and those at most `depth` below it, none within a run's; links are followed, no folder comes twice."""
    seen: set[tuple[int, int]] = set()
    waiting = [(path, depth)]
    while waiting:
        folder, left = waiting.pop()
        with contextlib.suppress(OSError):
            known = folder.stat()
            if not folder.is_dir() or (known.st_dev, known.st_ino) in seen:
                continue
            seen.add((known.st_dev, known.st_ino))
            yield folder
            if left and not is_run(folder):
                below = sorted(place for place in folder.iterdir() if place.name not in NO_RUNS)
                waiting += [(place, left - 1) for place in reversed(below) if place.is_dir()]


def damages(records: Iterable[Record]) -> list[str]:
    """A sentence for each file of a finished run that is not as it was written, and for each run without a status."""
    found: list[str] = []
    for record in records:
        try:
            files_of = check_files(record.folder) if record.is_finished else {}
        except LockstepError as error:
            found.append(joined((error.problems[0].where, error.problems[0].message), ": "))
            continue
        wrong = {name: what for name, what in files_of.items() if what is not None}
        found += [joined((f"{record.folder}/{name}", what), ": ") for name, what in wrong.items()]
    return found


def must_be_there(folders: Iterable[Path]) -> None:
    """Raise LockstepError (LS-200) where one is not."""
    if missing := [folder for folder in folders if not folder.exists()]:
        hint = _("look for a typing error; lockstep run says where it puts its runs")
        raise LockstepError("LS-200", _("there is no such folder"), where=", ".join(map(str, missing)), hint=hint)


def natural(path: Path) -> list[Any]:
    """A sort key by which run-2 comes before run-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def find_checkpoints(run: Path) -> list[Path]:
    """Every checkpoint of a run, the newest first, whatever it is worth; what has another name is somebody else's."""
    found = [place for place in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]+", place.name)]
    return sorted(found, key=natural, reverse=True)


def newest_checkpoint(run: Path, warn: Callable[[str], None] = lambda message: None) -> Path | None:
    """The last complete checkpoint; an incomplete one is skipped and reported, never deleted."""
    for folder in find_checkpoints(run):
        try:
            read_checkpoint(folder)
            return folder
        except LockstepError as error:
            warn(str(error))
    return None
