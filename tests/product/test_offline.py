"""Nothing goes out to the network: a whole study in all four backends where there is none, and nobody even tries.

`unshare --net` gives a process a network of its own without any address. The kernel counts in /proc/net/snmp and snmp6
what was to be sent and had no way out, so an attempt shows whatever made it, native code included.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys

import pytest

from lockstep.backends import BACKENDS
from support.needs import need, need_backend

STUDY = """
dataset = "digits"
backends = {backends}
train_size = 60
[recipe]
epochs = 1
batch_size = 20
[networks]
small = ["flatten", "dense 10"]
"""
COUNTERS = "echo \"@$(cat /proc/net/snmp /proc/net/snmp6 | tr '\\n' '|')\" >&2"


def alone(command: list[str], folder, timeout: float = 900) -> tuple[subprocess.CompletedProcess[str], int]:
    """(the finished command, how many packets it tried to send) in a network namespace without interfaces."""
    home = {name: str(folder / "home") for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    environment = {**os.environ, **home, "LOCKSTEP_DATA": ""}
    script = f'{COUNTERS}; "$@"; code=$?; {COUNTERS}; exit $code'
    asked = [*NAMESPACE, "sh", "-c", script, "sh", *command]
    done = subprocess.run(asked, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    before, after = (_attempts(line) for line in done.stderr.splitlines() if line.startswith("@"))
    done.stderr = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("@"))
    return done, after - before


def _attempts(text: str) -> int:
    """Packets sent, or that had no way out, by every protocol."""
    tables = text.removeprefix("@").split("|")
    found = 0
    for names, values in itertools.pairwise(tables):
        if names.startswith("Ip: ") and values.startswith("Ip: "):
            row = dict(zip(names.split()[1:], values.split()[1:], strict=True))
            found += int(row["OutRequests"]) + int(row["OutNoRoutes"])
    return found + sum(map(int, re.findall(r"Ip6Out(?:Requests|NoRoutes)\s+([0-9]+)", text)))


def _namespace() -> list[str]:
    for options in (["--net"], ["--net", "--user", "--map-root-user"]):
        command = ["unshare", *options]
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
        except OSError:
            break
    return []


NAMESPACE = _namespace()


@pytest.fixture(autouse=True)
def namespace():
    need(bool(NAMESPACE), "unshare --net, as root or with user namespaces,")


def lockstep(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lockstep", *arguments]


def test_a_study_runs_in_all_backends_without_a_network_and_nobody_asks_for_one(tmp_path):
    for name in BACKENDS:
        need_backend(name)
    (tmp_path / "s.toml").write_text(STUDY.format(backends=json.dumps([*BACKENDS])))
    done, attempts = alone(lockstep("run", "s.toml", "--json"), tmp_path)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [(run["backend"], run["status"]) for run in runs] == [(name, "finished") for name in BACKENDS]
    assert attempts == 0, "somebody tried to reach the network"
    said = done.stderr + "".join(path.read_text() for path in tmp_path.rglob("worker.log"))
    for word in ("unreachable", "resolution", "telemetry", "urlopen", "Connection"):
        assert word not in said, said


@pytest.mark.parametrize(
    "arguments",
    [["show", "s.toml"], ["data", "list"], ["data", "verify", "digits"], ["doctor"], ["explain", "LS-302"],
     ["data", "fetch", "mnist", "--offline"]],
    ids=" ".join,
)  # fmt: skip
def test_no_other_command_asks_for_a_network(arguments, tmp_path):
    (tmp_path / "s.toml").write_text(STUDY.format(backends='["numpy"]'))
    done, attempts = alone(lockstep(*arguments), tmp_path)
    assert done.returncode == (3 if "fetch" in arguments else 0), done.stderr
    assert attempts == 0


def test_a_download_is_seen_to_try(tmp_path):
    """The twin: an attempt is counted, and told with the way to do without."""
    done, attempts = alone(lockstep("data", "fetch", "mnist"), tmp_path)
    assert done.returncode == 3
    assert "LS-302" in done.stderr
    assert "lockstep data import FOLDER NAME" in done.stderr
    address = [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 1)"]
    _, known = alone(address, tmp_path)
    assert known > 0
    assert attempts > 0 or "resolution" in done.stderr
