"""`make demo` and `make install`: what is said while packages come, by uv where it can be had and by pip where not."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from support import ROOT


@pytest.fixture
def installing(monkeypatch, tmp_path):
    """install.py in an empty folder, and the commands that it gives; `fails` has words of those that go wrong."""
    module = SimpleNamespace(
        given=[], fails=[], **{"globals": runpy.run_path(str(ROOT / "install.py"))["main"].__globals__}
    )

    def run(command, env=None, stdout=None, text=False):
        module.given.append((command, env))
        if "config" in command:
            return subprocess.CompletedProcess(command, 0, "global.find-links='/my wheels'\n".replace(" ", "-"))
        code = 1 if any(word in command for word in module.fails) else 0
        if command[-1] == "uv" and not code:
            uv = module.globals["PYTHON"].with_name("uv")
            uv.parent.mkdir(parents=True)
            uv.touch(mode=0o755)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setenv("PATH", str(tmp_path))
    for name, value in {"VENV": tmp_path / ".venv", "PYTHON": tmp_path / ".venv/bin/python"}.items():
        monkeypatch.setitem(module.globals, name, value)
    monkeypatch.setattr(subprocess, "run", run)
    return module


def test_every_step_is_said_before_it_is_done(installing, capsys):
    assert installing.globals["main"]("all") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Installing Lockstep into ")
    assert "about a minute" in said[0]
    assert [line[:5] for line in said[1:]] == ["[1/3]", "[1/3]", "[2/3]", "[2/3]", "[3/3]", "[3/3]"]
    assert [line.endswith("…") for line in said[1:]] == [True, False] * 3
    command, environment = installing.given[-1]
    assert command[1:3] == ["pip", "install"]
    assert Path(command[0]).name == "uv"
    assert command[-1] == f"{ROOT}[all]"
    assert environment["UV_FIND_LINKS"] == "/my-wheels"
    assert environment["PATH"] == os.environ["PATH"]


def test_a_uv_on_the_path_is_taken_and_none_is_fetched(installing, tmp_path):
    (tmp_path / "uv").touch(mode=0o755)
    assert installing.globals["main"]("dev") == 0
    assert [(Path(command[0]).name, command[1]) for command, _ in installing.given] == [
        ("uv", "venv"), (Path(sys.executable).name, "-m"), ("uv", "pip")
    ]  # fmt: skip
    assert "config" in installing.given[1][0]


@pytest.mark.parametrize("fails", ["uv", "--python"], ids=["no uv can be had", "uv goes wrong"])
def test_pip_installs_where_uv_cannot(installing, fails, capsys):
    installing.fails.append(fails)
    assert installing.globals["main"]("all") == 0
    command, _ = installing.given[-1]
    assert command[1:3] == ["-m", "pip"]
    assert command[-1] == f"{ROOT}[all]"
    assert capsys.readouterr().out.splitlines()[-1].startswith("[3/3] the packages: done")


def test_what_went_wrong_ends_with_its_exit_code(installing, capsys):
    installing.fails += ["--editable", "--python"]
    assert installing.globals["main"]("all") == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("[3/3] the packages: exit code 1")


def test_an_old_python_is_told_which_is_wanted(installing, capsys, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    assert installing.globals["main"]("all") == 2
    assert "needs Python 3.11 or newer, and this is 3.9" in capsys.readouterr().out
    assert installing.given == []


def test_uv_is_told_what_pip_is_configured_to_do(installing):
    settings = installing.globals["uv_settings"]
    assert settings("") == {}
    assert settings("global.find-links='/a /b'\nglobal.cert='/c.pem'\n:env:.cert='/d.pem'\nglobal.timeout='60'") == {
        "UV_FIND_LINKS": "/a,/b", "SSL_CERT_FILE": "/d.pem"
    }  # fmt: skip
    assert settings("global.index-url='file:///a'\nuser.extra-index-url='file:///b file:///c'") == {
        "UV_DEFAULT_INDEX": "file:///a", "UV_INDEX": "file:///b file:///c", "UV_INDEX_STRATEGY": "unsafe-best-match"
    }  # fmt: skip


def test_the_demo_needs_fewer_packages_than_the_tests():
    """Which target asks for which; one who has the tests' packages has the demo's."""
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "demo: $(if $(wildcard .venv/installed),.venv/installed,.venv/demo)\n" in rules
    assert "install.py all && touch $@" in rules
    assert "install.py dev && touch $@" in rules
