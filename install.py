"""Install this checkout of Lockstep into .venv, and say what is being done: `python3 install.py EXTRA` (make does it).

EXTRA is one of pyproject.toml: `all` has what runs need, `dev` what tests and documentation need too. The versions are
those of constraints.txt. uv installs, because pip takes three times as long: the one on the PATH, else one that pip
puts into .venv; and pip itself where no uv can be had. uv does not read pip's configuration, where people have their
mirrors and folders of wheels, so it is told.

Whatever Python `python3` is reads this file, so it is written for old ones too.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "Scripts/python.exe" if os.name == "nt" else VENV / "bin/python"
WHAT = {
    "all": "NumPy, PyTorch, TensorFlow and JAX: about a minute and 3 GB of disk, this once",
    "dev": "the frameworks, and what tests and documentation need: about two minutes and 4 GB of disk, this once",
}
# An option of pip's → the variable that tells uv the same.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX", "constraint": "UV_CONSTRAINT", "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY",
}  # fmt: skip
LISTS = ("UV_FIND_LINKS",)  # pip parts them with blanks, uv these with commas


def main(extra: str = "all") -> int:
    """Make .venv, get uv, install; returns the exit code."""
    if sys.version_info < OLDEST:
        wanted, found = (".".join(map(str, one[:2])) for one in (OLDEST, sys.version_info))
        print(
            f"Lockstep needs Python {wanted} or newer, and this is {found}. Name another: make demo PYTHON=python3.12"
        )
        return 2
    print(f"Installing Lockstep into {VENV}: {WHAT.get(extra, extra)}.", flush=True)
    uv = shutil.which("uv")
    if not PYTHON.exists():
        made_by = [uv, "venv", "--quiet", "--seed", "--python"] if uv else []
        command = [*made_by, sys.executable] if uv else [sys.executable, "-m", "venv"]
        if code := step(1, "a Python of its own", [*command, str(VENV)]):
            return code
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    if not uv and not step(2, "uv, which installs the rest fast", [*pip, "install", "--quiet", *constraints, "uv"]):
        uv = shutil.which("uv", path=str(PYTHON.parent))
    wanted = [*constraints, "--editable", f"{ROOT}[{extra}]"]
    if uv:
        command = [uv, "pip", "install", "--python", str(PYTHON), *wanted]
        if not step(3, "the packages", command, {**uv_settings(pip_configuration(pip)), **os.environ}):
            return 0
        print("uv could not do it. pip does, which takes longer:", flush=True)
    return step(3, "the packages", [*pip, "install", *wanted])


def step(number: int, what: str, command: list[str], environment: dict[str, str] | None = None) -> int:
    """Say what is done, do it and say how long it took; returns the exit code."""
    print(f"[{number}/3] {what} …", flush=True)
    begun = time.monotonic()
    code = subprocess.run(command, env=environment).returncode
    ended = f"exit code {code}" if code else "done"
    print(f"[{number}/3] {what}: {ended}, {time.monotonic() - begun:.0f} s", flush=True)
    return code


def pip_configuration(pip: list[str]) -> str:
    """What `pip config list` says: "global.find-links='/opt/wheels'" and the like, a line each."""
    return subprocess.run([*pip, "config", "list"], stdout=subprocess.PIPE, text=True).stdout


def uv_settings(configuration: str) -> dict[str, str]:
    """Variables that tell uv what pip is configured to do; what stands in pip's environment counts most."""
    rows = re.findall(r"^([\w:]+?)\.([\w-]+)=(.*)$", configuration, re.MULTILINE)
    found = {}
    for _place, option, value in sorted(rows, key=lambda row: (row[0] == ":env:", row[0] == "install")):
        if option in VARIABLES:
            words = str(ast.literal_eval(value)).split()
            found[VARIABLES[option]] = ("," if VARIABLES[option] in LISTS else " ").join(words)
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip: the best version, whichever index has it
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
