"""Names of files and classes that nobody can be made to avoid: on a terminal, in JSON, in figures and pages."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lockstep import cli, terminal
from lockstep.errors import LockstepError

CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
NAME = "c\x1b[31mat\x1b]0;mine\x07\x9b2J"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of pictures whose every name moves a cursor, and a study that names it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in (NAME, "dog"):
        for number in range(6):
            path = tmp_path / f"da{NAME}" / name / f"{number}{NAME}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(number).integers(0, 256, (5, 7), dtype=np.uint8)).save(path)
    folder = json.dumps(f"./da{NAME}").replace("\x7f", "\\u007f")
    (tmp_path / f"stu{NAME}dy.toml").write_text(
        f'dataset = {folder}\nbackends = ["numpy"]\nrecipe.epochs = 1\nnetworks.a = ["flatten", "dense 2"]\n'.replace(
            "\x9b", "\\u009b"
        ),
        encoding="utf-8",
    )
    return tmp_path


def printed(capsys, *arguments):
    with pytest.raises(SystemExit):
        cli.main(list(arguments))
    found = capsys.readouterr()
    return found.out, found.err


def test_no_name_reaches_a_terminal_raw(place, capsys):
    (place / f"da{NAME}" / "dog" / f"broken{NAME}\nLS-000 forged.png").write_bytes(b"x")
    study = f"stu{NAME}dy.toml"
    commands = [
        ("data", "import", f"da{NAME}", "pets"), ("show", study), ("show", study, "--json"), ("run", f"no{NAME}.toml"),
        ("run", study, f"--no{NAME}"), ("explain", NAME), ("report", f"no{NAME}"),
        ("verify", f"no{NAME}"), ("verify", f"no{NAME}", "--csv"), ("data", "verify", NAME), (NAME,),
    ]  # fmt: skip
    for arguments in commands:
        for text in printed(capsys, *arguments):
            assert not CONTROLS.search(text), (arguments, text)
            assert not re.search("^LS-000", text, re.MULTILINE), (arguments, text)


def test_an_import_shows_escapes_and_its_json_stays_readable(place, capsys):
    (place / f"da{NAME}" / "dog" / f"x{NAME}.txt").write_text("x")
    out, err = printed(capsys, "data", "import", f"da{NAME}", "pets")
    assert "\\x1b[31m" in out
    assert not CONTROLS.search(out + err)
    out, _ = printed(capsys, "data", "list", "--json")
    (row,) = [row for row in json.loads(out)["datasets"] if row["name"] == "pets"]
    assert row["class_names"] == [
        NAME.replace("\x1b", "\\x1b").replace("\x07", "\\x07").replace("\x9b", "\\x9b"),
        "dog",
    ]


def test_json_keeps_every_sign_of_a_name(place, capsys):
    out, _ = printed(capsys, "run", f"no{NAME}.toml", "--json")
    assert not CONTROLS.search(out)
    assert json.loads(out)["errors"][0]["where"] == f"no{NAME}.toml"


def test_a_name_that_is_printed_raw_would_be_seen(monkeypatch):
    monkeypatch.setattr("lockstep.terminal.visible", lambda text, keep="": text)
    monkeypatch.setattr("lockstep.language.visible", lambda text, keep="": text)
    file = io.StringIO()
    terminal.print_error(LockstepError("LS-201", "x", where=NAME), Console(file=file))
    assert CONTROLS.search(file.getvalue())
