"""Into TensorBoard's event files, by tensorboardX: TARGET/STUDY/RUN, without TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from runs import Run, assert_same, epochs, measured, once
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import hparams

MARK = "lockstep.json"  # beside the events: of which files they are


def events(folder: Path) -> Iterator[Event]:
    """Every event of a folder: records of a length, its checksum, the event and its checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("<Q", content, start)
            yield Event.FromString(content[start + 12 : start + 12 + length])
            start += 16 + length


def write(folder: Path, run: Run, images: np.ndarray) -> None:
    """The events of a run."""
    writer = SummaryWriter(str(folder), write_to_disk=True)
    for epoch, time, numbers in epochs(run):
        for name, value in numbers.items():
            writer.add_scalar(name, value, epoch, walltime=time)
    end = run["ended"]
    for part in hparams(run["parameters"], {name: float(value) for name, value in run["numbers"].items()}):
        writer.file_writer.add_summary(part, walltime=end)
    for name, value in run["numbers"].items():
        writer.add_scalar(name if name not in run["series"] else f"{name} at the end", value, 0, walltime=end)
    writer.add_images("test images", images, 0, walltime=end, dataformats="NHWC")
    writer.add_text("test images: what they are → what they were taken for", " · ".join(run["captions"]), 0, end)
    if run["question"]:
        writer.add_text("question", run["question"], 0, end)
    writer.close()


def check(folder: Path, run: Run) -> None:
    """Read the scalars back."""
    found: dict[str, list[float]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append(value.simple_value)
    for name in run["series"]:
        assert_same(name, found.get(name, []), measured(run, name), is_single=True)


def main(place: Path, target: Path) -> None:
    """Each run in a folder of its own, whole or not at all."""

    def folder_of(run: Run) -> Path:
        return target / run["study"] / run["name"]

    def is_there(run: Run) -> bool:
        mark = folder_of(run) / MARK
        return mark.is_file() and json.loads(mark.read_text(encoding="utf-8")).get("digest") == run["digest"]

    def put(run: Run, images: np.ndarray) -> None:
        made, folder = place / "events" / run["study"] / run["name"], folder_of(run)
        write(made, run, images)
        check(made, run)
        mark = {"format": 1, "run": run["name"], "digest": run["digest"]}
        (made / MARK).write_text(json.dumps(mark), encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        try:
            shutil.copytree(made, part)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    once(place, is_there, put)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
