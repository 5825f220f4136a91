"""`lockstep` in a process of its own, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

STUDY = """
question = "Does it run?"
dataset = "digits"
backends = ["numpy"]
train_size = 200
[recipe]
epochs = 1
[networks]
small = ["flatten", "dense 10"]
cnn = ["conv2d 3 5 3", "relu", "flatten", "dense 10"]
"""


def lockstep(*arguments, folder, code=0, **environment):
    """The finished command; checks its exit code and that nobody saw a traceback."""
    command = [sys.executable, "-m", "lockstep", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    if "--debug" not in arguments:
        assert "Traceback" not in done.stdout + done.stderr
        assert "our fault" not in done.stderr
    return done


def deny(folder, module):
    """With this folder on PYTHONPATH, a module is not found on this machine."""
    (folder / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)\n"
    )


def picture(path: Path, array: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(array).save(path)
