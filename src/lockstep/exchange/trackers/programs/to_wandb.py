"""Into Weights & Biases, offline, or into trackio, whose functions are the same: `init`, `log`, `finish`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from runs import Run, epochs, once


def main(place: Path, target: Path, name: str) -> None:
    """Each run once: what was written is listed in a file beside, for neither tells without a server."""
    target.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "WANDB_MODE": "offline", "WANDB_DIR": str(target), "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true",
        "TRACKIO_DIR": str(target),
    }  # fmt: skip
    tracker = importlib.import_module(name)
    listed = target / f".lockstep-{name}.json"
    known = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}

    def write(run: Run, images: np.ndarray) -> None:
        options = {"id": run["digest"], "dir": str(target), "mode": "offline"} if name == "wandb" else {}
        tracker.init(project=run["study"], name=run["name"], config=run["parameters"], **options)
        for epoch, _time, numbers in epochs(run):
            tracker.log(numbers, step=epoch)
        last = len(run["times"])
        tracker.log({f"final/{key}": value for key, value in run["numbers"].items()}, step=last)
        if name == "wandb":
            pairs = zip(images, run["captions"], strict=True)
            tracker.log({"test images": [tracker.Image(image, caption=text) for image, text in pairs]}, step=last)
        tracker.finish()
        known[run["name"]] = run["digest"]
        part = listed.with_suffix(".part")
        part.write_text(json.dumps(known), encoding="utf-8")
        os.replace(part, listed)

    once(place, lambda run: known.get(run["name"]) == run["digest"], write)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
