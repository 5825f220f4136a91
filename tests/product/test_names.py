"""Names of files and classes that nobody can be made to avoid: on a terminal, in JSON, in figures and pages."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lockstep import cli
from lockstep.errors import LockstepError
from lockstep.report.draw import lettering, plots
from lockstep.report.draw.pictures import Sheet, Tile
from lockstep.screen.errors import print_error

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
    monkeypatch.setattr("lockstep.screen.words.visible", lambda text, keep="": text)
    monkeypatch.setattr("lockstep.language.visible", lambda text, keep="": text)
    file = io.StringIO()
    print_error(LockstepError("LS-201", "x", where=NAME), Console(file=file))
    assert CONTROLS.search(file.getvalue())


def test_a_path_that_is_not_utf8_is_refused_in_words_and_its_import_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    folder = os.path.join(str(tmp_path), os.fsdecode("картинки".encode("cp866")))
    for name, number in itertools.product("ab", range(3)):
        path = Path(folder, name, f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (5, 7), dtype=np.uint8)).save(path)
    study = tmp_path / "study.toml"
    study.write_text('dataset = "digits"\nbackends = ["numpy"]\nnetworks.a = ["flatten", "dense 2"]\n')
    _, err = printed(capsys, "show", str(study), "--set", f"dataset={folder}", "--set", "question=a\udcff")
    assert err.count("is not UTF-8") == 2
    assert "lockstep data import FOLDER NAME" in err
    out, err = printed(capsys, "data", "import", folder, "pets")
    assert "4 training" in out, err
    out, err = printed(capsys, "show", str(study), "--set", "dataset=pets")
    assert "dense" in out, err


# ------------------------------------------------------------------------------------------------------------ figures

CLASSES = ("す", "き", "は")


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def ticks(figure):
    return [text.get_text() for text in figure.axes[0].yaxis.get_ticklabels()]


def matrix(names):
    return plots.svg(plots.confusion(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 5]]), names), "label", "p")


def test_names_without_glyphs_carry_their_number_and_others_stay():
    assert lettering.named(CLASSES) == ["0 す", "1 き", "2 は"]
    assert lettering.named(["cat", "кот", "猫", "Ünïcødé"]) == ["cat", "кот", "2 猫", "Ünïcødé"]
    assert lettering.named(["", "\u200b", "a"]) == ["0", "1", "a"]


def test_names_that_are_alike_once_they_are_cut_carry_their_number():
    long = ["photographs of cats", "photographs of dogs", "birds"]
    assert lettering.named(long, 12) == ["0 photograp…", "1 photograp…", "birds"]
    assert len(set(lettering.named([f"a long name and then {n}" for n in range(1000)], 12))) == 1000


def test_a_png_shows_numbers_and_a_sentence_where_its_font_has_no_glyph():
    drawing = matrix(CLASSES)
    svg, png = plots.alone(drawing)
    for name in CLASSES:
        assert name in svg.decode(), "a browser has fonts of its own"
    below = round(plots.DOTS * 0.22)
    numbered = pixels(plots.alone(matrix(("0", "1", "2")))[1])
    assert pixels(png).shape[0] > numbered.shape[0]
    assert (pixels(png)[-below:] < 128).any(), "the sentence"
    figure = drawing.figure
    with lettering.drawable(figure):
        assert ticks(figure) == ["0", "1", "2"]
        assert any("its number stands for it" in text.get_text().replace("\n", " ") for text in figure.texts)
    assert ticks(figure) == ["0 す", "1 き", "2 は"]
    assert not figure.texts
    assert plots.alone(drawing)[1] == png


def test_a_png_of_names_with_glyphs_has_no_sentence():
    drawing = matrix(("cat", "кот", "ё"))
    with lettering.drawable(drawing.figure) as room:
        assert room == {}


@pytest.mark.filterwarnings("ignore:Glyph")
def test_without_numbers_all_such_names_are_one_sign(monkeypatch):
    """What the numbers are for: two names, one picture."""
    monkeypatch.setattr(lettering, "lacking", lambda text: set())
    one, other = (pixels(plots.alone(matrix(names))[1]) for names in (CLASSES, CLASSES[::-1]))
    np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("error:Glyph")
def test_legends_bars_and_sheets_tell_such_names_apart():
    figures = [
        plots.class_balance(CLASSES, [1, 2, 3]),
        plots.clocks([("猫", {"train": 1.0}), ("犬", {"train": 2.0})]),
        Sheet("s", "label", [Tile(np.zeros((4, 4, 1), np.uint8), (f"{name} · 5 %",), "") for name in CLASSES]).figure(),
    ]
    for number, figure in enumerate(figures):
        with lettering.drawable(figure) as room:
            assert room, number
            if number < 2:
                assert ticks(figure)[:2] == ["0", "1"], number
        plots.alone(plots.svg(figure, "label", f"p{number}"))
