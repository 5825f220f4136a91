"""Whoever makes a page, and whatever matplotlib was told there: the bytes are the same, and what was told stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import pytest

from lockstep import store
from lockstep.report import write_report
from lockstep.spec.records import changed
from support import forgeries

SETTINGS: dict[str, dict[str, Any]] = {
    "mathtext": {"axes.formatter.use_mathtext": True},
    "usetex": {"text.usetex": True},
    "margins": {"axes.xmargin": 0.3, "axes.ymargin": 0.3},
    "limits": {"axes.formatter.limits": (-1, 1)},
    "locale": {"axes.formatter.use_locale": True, "axes.formatter.useoffset": False},
    "fonts": {"font.family": "serif", "font.weight": "bold", "mathtext.fontset": "cm"},
    "lines": {"lines.linewidth": 9.0, "lines.marker": "o", "lines.dash_capstyle": "round", "path.sketch": (1, 100, 2)},
    "svg": {"svg.fonttype": "path", "svg.hashsalt": "mine", "svg.image_inline": False},
    "saving": {"savefig.dpi": 40, "savefig.bbox": "tight", "savefig.transparent": True, "figure.dpi": 300},
    "ticks": {"xtick.minor.visible": True, "xtick.direction": "in", "ytick.right": True, "xtick.labelsize": 20},
    "spines": {"axes.spines.left": False, "axes.edgecolor": "red", "axes.grid": True},
    "rounding": {"axes.autolimit_mode": "round_numbers"},
    "legend": {"legend.frameon": True, "legend.loc": "center", "legend.numpoints": 3, "legend.shadow": True},
    "images": {"image.interpolation": "bicubic", "image.cmap": "jet", "image.origin": "lower"},
    "layout": {"figure.autolayout": True, "figure.constrained_layout.use": False, "figure.subplot.left": 0.4},
    "simple": {"path.simplify": False, "agg.path.chunksize": 100, "axes.unicode_minus": False, "axes.axisbelow": False},
}  # fmt: skip
STYLES = ("ggplot", "dark_background", "classic", "seaborn-v0_8-poster", "grayscale", "fivethirtyeight")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """One run in a folder of its own."""
    return forgeries.hand_in(tmp_path_factory.mktemp("page") / "work", changed(forgeries.STUDY, seeds=(0,)), page=False)


def files_of(runs: Path, place: Path, with_figures: bool = False) -> dict[str, bytes]:
    """Every file of the page, written anew."""
    place.mkdir()
    write_report(store.find_runs([runs]), place / "report.html", with_figures=with_figures)
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def plain(runs, tmp_path_factory) -> dict[str, bytes]:
    with mpl.rc_context():
        mpl.rcdefaults()
        return files_of(runs, tmp_path_factory.mktemp("plain") / "page", with_figures=True)


def test_no_setting_changes_a_byte_and_each_is_there_afterwards(runs, plain, tmp_path, torture):
    all_of_them = {key: value for each in SETTINGS.values() for key, value in each.items()}
    told = list(SETTINGS.items()) if torture else [("all", all_of_them)]
    for name, settings in told:
        with mpl.rc_context():
            mpl.rcParams.update(settings)
            before = dict(mpl.rcParams)
            assert files_of(runs, tmp_path / name, with_figures=True) == plain, name
            assert dict(mpl.rcParams) == before, name


def test_no_style_changes_a_byte(runs, plain, tmp_path, torture):
    for name in STYLES if torture else STYLES[:2]:
        with matplotlib.style.context(name):
            before = dict(mpl.rcParams)
            assert files_of(runs, tmp_path / name)["report.html"] == plain["report.html"], name
            assert dict(mpl.rcParams) == before, name


def test_a_setting_that_is_looked_at_would_be_seen(runs, plain, tmp_path, monkeypatch):
    """The twin: without setting the user's aside, these settings do change the page."""
    from lockstep.report.draw import canvas

    monkeypatch.setattr(canvas, "own_settings", lambda: canvas.STYLE)
    with mpl.rc_context():
        mpl.rcParams.update(SETTINGS["limits"] | SETTINGS["ticks"])
        assert files_of(runs, tmp_path / "page")["report.html"] != plain["report.html"]


PAGE = """
import sys
from pathlib import Path
from lockstep import store
from lockstep.report import write_report
write_report(store.find_runs([Path(sys.argv[1])]), Path(sys.argv[2]))
import matplotlib
print(matplotlib.rcParams["axes.xmargin"], matplotlib.rcParams._get("backend"))
"""
FILE = "text.usetex: True\naxes.formatter.use_mathtext: True\naxes.xmargin: 0.25\nbackend: nonsense\nfont.size: 30\n"


def made(runs: Path, page: Path, folder: Path, **variables: str) -> str:
    """What a process of its own says that makes the page in a folder with these variables."""
    environment = {**os.environ, "HOME": str(folder), **variables}
    command = [sys.executable, "-c", PAGE, str(runs), str(page)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("where", ["at home", "in the folder", "by MPLCONFIGDIR", "by MATPLOTLIBRC"])
def test_no_file_of_settings_changes_a_byte(where, runs, plain, tmp_path):
    place = {"at home": tmp_path / ".config" / "matplotlib"}.get(where, tmp_path)
    place.mkdir(parents=True, exist_ok=True)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (place / "matplotlibrc").write_text(FILE)
    variables = {
        "by MPLCONFIGDIR": {"MPLCONFIGDIR": str(tmp_path)},
        "by MATPLOTLIBRC": {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")},
        "at home": {"XDG_CONFIG_HOME": str(tmp_path / ".config")},
    }
    here = folder if where.startswith("by") else tmp_path
    said = made(runs, tmp_path / "page.html", here, **variables.get(where, {}))
    assert said.split()[0] == "0.25", "the settings were not read at all"
    assert (tmp_path / "page.html").read_bytes() == plain["report.html"]


@pytest.mark.parametrize("name", ["module://matplotlib_inline.backend_inline", "nonsense", "svg", ""])
def test_no_backend_that_the_environment_names_ends_a_command(name, runs, plain, tmp_path):
    said = made(runs, tmp_path / "page.html", tmp_path, MPLBACKEND=name)
    assert (tmp_path / "page.html").read_bytes() == plain["report.html"]
    assert name != "svg" or said.split()[1] == "svg", "what can be had is left as it was named"


def test_the_command_line_takes_no_notice_of_a_notebooks_backend(runs, tmp_path):
    command = [sys.executable, "-m", "lockstep", "report", str(runs), "--out", str(tmp_path / "a.html"), "--no-figures"]
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
