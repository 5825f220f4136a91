"""A person's file that raises, hangs, prints, forks, wants memory or a GPU: a reason, a code, and no process left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from lockstep import LockstepError, language
from lockstep.proof.pair import client, difference
from lockstep.proof.pair.client import Side, named

BODY = """
def parameters():
    return {"w": np.ones((3, 2)) * 0.5}


def forward(parameters, x):
    return x @ parameters["w"]
"""
TOP = "import os, sys, time\nimport numpy as np\n\n"


def write(folder: Path, top: str, body: str = BODY, name: str = "net.py") -> str:
    (folder / name).write_text(f"{TOP}{top}\n{body}")
    return f"{folder / name}:forward"


def load(text: str, folder: Path, dtype: str = "float64"):
    """The first pass of one side, as a comparison begins with it."""
    with Side(named(text), folder / "side", "a") as side:
        side.load(dtype)
        trace = side.trace([np.ones((4, 3))])
        pid = side.worker.process.pid
    assert not is_there(pid)
    return trace, (folder / "side" / "side.log").read_bytes()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def refused(text, folder):
    with pytest.raises(LockstepError) as error:
        load(text, folder)
    return error.value


@pytest.mark.parametrize(
    ("top", "code", "exit_code", "words"),
    [
        ("raise ValueError('mine')", "LS-403", 4, "net.py:4: ValueError: mine"),
        ("sys.exit(3)", "LS-403", 4, 'under if __name__ == "__main__"'),
        ("raise KeyboardInterrupt", "LS-403", 4, "net.py:4: KeyboardInterrupt"),
        ("os._exit(7)", "LS-402", 4, "it ended with exit code 7"),
        ("os.abort()", "LS-402", 4, "SIGABRT"),
        ("raise RuntimeError('No CUDA GPUs are available')", "LS-404", 4, "both models are compared on the CPU"),
        ("import not_installed_anywhere", "LS-403", 4, "No module named 'not_installed_anywhere'"),
        ("def f(): f()\nf()", "LS-403", 4, "RecursionError"),
    ],
)
def test_what_a_file_does_to_its_process_is_told_with_its_line_and_a_code(top, code, exit_code, words, tmp_path):
    error = refused(write(tmp_path, top), tmp_path)
    assert (error.code, error.exit_code) == (code, exit_code)
    assert words in str(error)
    assert "lockstep/" not in str(error).replace(str(tmp_path), ""), "no line of ours"


def test_a_file_that_wants_more_memory_than_there_is_is_told_so(tmp_path, monkeypatch):
    text = write(tmp_path, "x = np.ones(2**28)")  # 2 GiB
    monkeypatch.setattr(client, "most_memory", lambda: 2**30)
    error = refused(text, tmp_path)
    assert (error.code, error.exit_code) == ("LS-503", 5)
    assert "net.py:4: " in str(error)
    assert "smaller batch" in str(error)


def test_sixty_four_gigabytes_are_more_than_this_machine_has(tmp_path):
    if client.most_memory() > 2**36:
        pytest.skip("it has more")
    assert refused(write(tmp_path, "x = np.ones(2**33)"), tmp_path).code == "LS-503"


def test_a_file_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "SECONDS", 2)
    error = refused(write(tmp_path, "time.sleep(600)"), tmp_path)
    assert error.code == "LS-402"
    assert "no answer within 2 s" in str(error)


def test_of_a_gigabyte_that_is_printed_the_beginning_and_the_end_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "MOST_OF_A_LOG", 2**17)
    lines = "print('first')\nfor _ in range(64): os.write(1, b'x' * 2**20)\nprint('last', flush=True)"
    trace, log = load(write(tmp_path, lines), tmp_path)
    assert trace.outputs
    assert log.startswith(b"first")
    assert log.endswith(b"last\n")
    assert b"bytes are left out here" in log
    assert len(log) < 2**19


def test_what_a_file_forks_answers_nothing_and_ends_with_it(tmp_path):
    """A child that goes on in our loop, and one that stays."""
    note = tmp_path / "pids"
    lines = f"if os.fork() == 0:\n    open({str(note)!r}, 'a').write(f'{{os.getpid()}} ')"
    stays = f"if os.fork() == 0:\n    open({str(note)!r}, 'a').write(f'{{os.getpid()}} ')\n    time.sleep(600)"
    trace, _log = load(write(tmp_path, f"{lines}\n{stays}"), tmp_path)
    assert np.array_equal(trace.tensors[trace.outputs[0]], np.full((4, 2), 1.5))
    pids = [int(pid) for pid in note.read_text().split()]
    assert len(pids) >= 2
    for _wait in range(50):
        if not any(map(is_running, pids)):
            break
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def test_a_daemon_that_leaves_our_session_is_ended_too_and_nobody_waits_for_its_pipe(tmp_path):
    note = tmp_path / "pid"
    lines = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open({str(note)!r}, "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists({str(note)!r}) or not open({str(note)!r}).read():
    time.sleep(0.01)
"""
    began = time.monotonic()
    load(write(tmp_path, lines), tmp_path)
    pid = int(note.read_text())
    for _wait in range(50):
        if not is_running(pid):
            break
        time.sleep(0.05)
    assert not is_running(pid)
    assert time.monotonic() - began < 60


def is_running(pid: int) -> bool:
    """Whether a process still does something; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_file_that_has_a_packages_name_shadows_nothing(tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "torch.py").write_text("raise RuntimeError('shadowed')\n")
    trace, _log = load(write(tmp_path, "", name="numpy.py"), tmp_path)
    assert np.array_equal(trace.tensors[trace.outputs[0]], np.full((4, 2), 1.5))


def test_nothing_is_left_where_a_comparison_ends_in_an_error(tmp_path, monkeypatch):
    pids = []
    end = Side.__exit__

    def noted(side, *exception):
        end(side, *exception)
        pids.append(side.worker.process.pid)

    monkeypatch.setattr(Side, "__exit__", noted)
    with pytest.raises(LockstepError, match="mine"):
        difference.compare(write(tmp_path, ""), write(tmp_path, "raise ValueError('mine')", name="port.py"))
    assert len(pids) == 4
    assert not any(map(is_there, pids))


@pytest.mark.parametrize(
    ("name", "russian"),
    [
        ("forwards", "«forwards» нет в"),
        ("alone", "alone — не функция параметров и пакета"),
    ],
)
def test_what_a_side_refuses_is_said_in_russian_too(name, russian, tmp_path):
    text = write(tmp_path, "def alone(x):\n    return x").rpartition(":")[0] + f":{name}"
    error = refused(text, tmp_path)
    with language.speaking("ru"):
        assert russian in language.say(error.text)
    assert name in str(error), "what is kept stays English"
