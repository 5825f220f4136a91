"""What a study is called that says no name: after the file or the script that it is made in.

A name is a folder's: Latin letters, digits and a few signs. Two files of different names give two names, or the report
of one would take the place of the other's.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from pathlib import PurePath

NAMELESS = "study"
NOTEBOOK = "notebook"


def of_text(text: str) -> str:
    """A file's name as a study's: Übung 1 → Ubung-1, лаба → laba, 課題 → study-4e05."""
    latin = _ascii(text)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", latin).strip("-._")
    if any(letter.isalnum() and not letter.isascii() for letter in latin):  # what is left may be another's name too
        name = f"{name[:59] or NAMELESS}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:4]}"
    return name[:64] or NAMELESS


# A letter and what it is in Latin (the Library of Congress's table, without its marks).
LETTERS = (
    "ßss аa бb вv гg дd еe ёe жzh зz иi йi кk лl мm нn оo пp рr сs тt уu фf хkh цts чch шsh щshch ъ ыy ь эe юiu яia"
)


def _ascii(text: str) -> str:
    """Letters without their accents, and Russian ones in Latin: Übung → Ubung, сеть → set."""
    for pair in LETTERS.split():
        letter, latin = pair[0], pair[1:]
        text = text.replace(letter, latin).replace(letter.upper(), latin.capitalize())
    text = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in text if not unicodedata.combining(letter))


def of_script() -> str:
    """The name for a study that is made here: that of the script, the module or the notebook which runs.

    "study" where somebody types at a prompt, and "notebook" where a notebook does not say what it is called.
    """
    main = sys.modules.get("__main__")
    if is_notebook():
        path = getattr(main, "__vsc_ipynb_file__", "") or os.environ.get("JPY_SESSION_NAME", "")
        return of_text(PurePath(path).stem) if path else NOTEBOOK
    if spec := getattr(main, "__spec__", None):  # python -m package.module
        return of_text(spec.name.removesuffix(".__main__").rpartition(".")[2])
    path = getattr(main, "__file__", None) or ""
    return of_text(PurePath(path).stem) if path and not PurePath(path).name.startswith("<") else NAMELESS


def is_notebook() -> bool:
    """Whether a notebook's kernel runs here: that of Jupyter, or one that speaks like it, as Colab's does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython and hasattr(ipython, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")
