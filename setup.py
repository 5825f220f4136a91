"""What building Lockstep does beside pyproject.toml: it compiles the catalogs of translations.

The program reads compiled catalogs (.mo) with the standard library's gettext, so Babel is needed here and in tests
alone. They are made of the .po files beside them whenever Lockstep is built or installed, an editable checkout too, and
are no part of the repository. In a checkout, `make catalogs` or `python setup.py catalogs` makes those anew whose .po
files have changed.
"""

import datetime
import os
import sys
from pathlib import Path

LOCALE = Path(__file__).parent / "src" / "lockstep" / "locale"
NAME = "lockstep.mo"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def compile_catalogs(locale: Path = LOCALE) -> list[Path]:
    """Compile the catalogs of every language that are older than their .po files, and return them."""
    return [_compiled(folder) for folder in sorted(locale.iterdir()) if folder.is_dir() and not _is_fresh(folder)]


def _is_fresh(folder: Path) -> bool:
    path = folder / NAME
    return path.exists() and all(path.stat().st_mtime >= po.stat().st_mtime for po in folder.glob("*.po"))


def _compiled(folder: Path) -> Path:
    """All .po files of a language as one catalog, whole or not there."""
    from babel.messages.catalog import Catalog
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    whole = Catalog(locale=folder.name, creation_date=EPOCH, revision_date=EPOCH)  # always the same bytes
    for po in sorted(folder.glob("*.po")):
        with po.open("rb") as file:
            part = read_po(file, locale=folder.name, abort_invalid=True)
        for message in part:
            if message.id:
                whole[message.id] = message
    path, temporary = folder / NAME, folder / f".{NAME}.{os.getpid()}.part"
    with temporary.open("wb") as file:
        write_mo(file, whole)
    os.replace(temporary, path)
    return path


def main() -> None:
    """Compile first: what is built, a wheel or an editable checkout, holds the compiled catalogs."""
    from setuptools import setup
    from setuptools.command.build_py import build_py

    class Build(build_py):
        def run(self) -> None:
            compile_catalogs()
            super().run()

    setup(cmdclass={"build_py": Build})


if __name__ == "__main__":
    compile_catalogs() if sys.argv[1:] == ["catalogs"] else main()
