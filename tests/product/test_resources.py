"""No room, no right to write, no home, no memory, awkward paths: told in a few lines, and fine once it is mended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lockstep.machine import workers
from support import forks
from support.process_table import wait_for


@pytest.fixture(scope="module")
def stable():
    with forks.stable("numpy") as found:
        yield found


@pytest.fixture(scope="module")
def whole(stable, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    forks.write_study(folder, "numpy", "mlp")
    assert stable.run(folder, *forks.RUN).code == 0
    return forks.fingerprint(folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB of its own, where the system lets one be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]).returncode:
        pytest.skip("only root may mount a file system; faulty.py plays a full disk everywhere")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def assert_told(done, code, *words) -> None:
    """A complaint of a few lines with all that is needed."""
    assert done.code == code, done.said
    assert "Traceback" not in done.said
    assert "our fault" not in done.said
    for word in words:
        assert word in done.said
    progress = ("[", "  epoch", "report: ", "┏", "┃", "┡", "│", "└")
    assert len([line for line in done.said.splitlines() if not line.startswith(progress)]) <= 6, done.said


def assert_goes_on(stable, folder, whole) -> None:
    done = forks.go_on(stable, folder)
    assert done.code == 0, done.said
    assert forks.fingerprint(folder) == whole
    assert forks.strays(folder) == []


@pytest.mark.parametrize("free_kilobytes", [0, 8, 24, 48, 80])
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(free_kilobytes, stable, whole, small_disk):
    folder = small_disk.parent
    forks.write_study(folder, "numpy", "mlp")
    (folder / "runs").symlink_to(small_disk)
    room = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(room.f_bavail * room.f_bsize - free_kilobytes * 1024))
    done = stable.run(folder, *forks.RUN)
    filler.unlink()
    assert_told(done, 5, "the disk is full", "free some space and try again")
    assert_goes_on(stable, folder, whole)


def test_a_file_that_may_not_grow_is_told(stable, whole, tmp_path):
    forks.write_study(tmp_path, "numpy", "mlp")
    done = stable.run(tmp_path, *forks.RUN, file_bytes=6000)
    assert_told(done, 5, "LS-501", "weights.safetensors", "File too large")
    assert_goes_on(stable, tmp_path, whole)


def test_a_folder_that_cannot_be_written_is_told(stable, whole, small_disk):
    forks.write_study(small_disk.parent, "numpy", "mlp")
    words = (*forks.RUN, "--runs", "disk/runs")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = stable.run(small_disk.parent, *words)
    assert_told(done, 5, "LS-501", "Read-only file system", "--runs FOLDER")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert stable.run(small_disk.parent, *words).code == 0
    (place,) = (path.parent for path in small_disk.glob("runs/lab/*/status.json"))
    assert forks.bits(place) == whole


def test_too_little_memory_is_told(stable, tmp_path):
    forks.write_study(tmp_path, "numpy", "mlp")
    large = 'networks.mlp=["flatten", "dense 60000", "relu", "dense 10"]'
    done = stable.run(tmp_path, *forks.RUN, "--set", large, "--set", "recipe.epochs=1", more_bytes=130_000_000)
    assert_told(done, 5, "LS-503", "not enough memory")


def test_a_worker_that_the_system_ends_for_memory_is_told_as_that(tmp_path):
    (tmp_path / "worker.log").write_text("")
    error = workers.death(-9, tmp_path, tmp_path / "worker.log", is_for_memory=True)
    assert (error.code, error.exit_code) == ("LS-503", 5)
    assert "the system ended it because memory ran out" in str(error)
    assert "a smaller network, batch or dataset" in str(error)
    assert workers.death(-9, tmp_path, tmp_path / "worker.log", is_for_memory=False).code == "LS-402", (
        "somebody else may have killed it"
    )
    assert workers.death(-15, tmp_path, tmp_path / "worker.log", is_for_memory=True).code == "LS-402"


def test_how_many_processes_were_ended_for_memory_is_read_from_the_system():
    with open("/proc/vmstat") as file:
        rows = dict(line.split() for line in file)
    assert workers.ended_for_memory() == int(rows.get("oom_kill", 0))


def test_no_home_and_an_awkward_path_are_no_obstacle(whole, tmp_path):
    folder = tmp_path / "a folder of 数 and ü, 'quoted' [1]* $HOME" / ("x" * 200)
    forks.write_study(folder, "numpy", "mlp")
    environment = {key: value for key, value in os.environ.items() if key != "HOME" and not key.startswith("XDG_")}
    command = [sys.executable, "-m", "lockstep", *forks.RUN]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert forks.fingerprint(folder) == whole
    assert (folder / "runs" / "lab" / "report.html").stat().st_size > 10_000


def test_a_run_in_an_awkward_path_goes_on(stable, whole, tmp_path):
    folder = tmp_path / "a folder of 数 and ü, 'quoted' [1]*" / ("x" * 200)
    forks.write_study(folder, "numpy", "mlp")
    started = stable.start(folder, *forks.RUN, plant="a third epoch without end")
    wait_for(lambda: "epoch 2/" in started.said, 120)
    started.kill("all")
    started.wait()
    assert_goes_on(stable, folder, whole)
