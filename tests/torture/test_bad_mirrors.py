"""Mirrors that behave badly in forty ways, and eight processes that need the same dataset at once."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import subprocess
import sys
import time
from typing import Any

import pytest

from lockstep import cli
from lockstep.data import download
from support import TESTS
from support.mirrors import CONTENT, FAULTS, GOOD, assert_fetched, impatient, machine, mirror, tiny
from support.mirrors import DEAD as NOBODY

assert all((impatient, machine, tiny))  # fixtures that this file shares

SECONDS = 45
FIRST = "train-images-idx3-ubyte.gz"


def sends(*pieces: bytes, wait: float = 0.0):
    """An answer that is written as it stands, in pieces."""

    def answer(handler):
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(wait)
        handler.close_connection = True

    return answer


def redirected(to: str, status: int = 302):
    def answer(handler):
        handler.send_response(status)
        handler.send_header("Location", to or handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def reset(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def without_end(start: bytes, piece: bytes, pause: float = 0.02, seconds: float = 60):
    """An answer that goes on as long as anybody listens."""

    def answer(handler):
        end = time.monotonic() + seconds
        handler.wfile.write(start)
        while time.monotonic() < end:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)

    return answer


OK = b"HTTP/1.1 200 OK\r\n"
BODY = GOOD[FIRST]
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MORE_FAULTS = {
    "forbidden": (403, "HTTP 403"),
    "unauthorized": (401, "HTTP 401"),
    "gone": (410, "HTTP 410"),
    "too many requests": (429, "HTTP 429"),
    "out of order": (500, "HTTP 500"),
    "bad gateway": (502, "HTTP 502"),
    "no content": (204, "no gzip file"),
    "an unknown status": (sends(b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"), "HTTP 999 What"),
    "a redirect to itself": (redirected(""), "infinite loop"),
    "a redirect for ever": (redirected("", 308), "infinite loop"),
    "a redirect into the file system": (redirected("file:///etc/passwd"), "not allowed"),
    "a redirect to nobody": (redirected(NOBODY), "refused"),
    "a redirect to nowhere": (sends(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "HTTP 302"),
    "a page in another encoding": ("<!DOCTYPE html>".encode("utf-16"), "no gzip file"),
    "a page, packed": (gzip.compress(b"<!DOCTYPE html><html></html>"), "28 bytes once decompressed, expected 121"),
    "one byte a second": (
        without_end(OK + b"Content-Length: 1000\r\n\r\n", b"\x1f", 1.0), "seconds"),
    "a header byte by byte": (without_end(OK, b"a"), "no answer for"),
    "wait, without end": (without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "no answer for"),
    "reset": (reset, "reset by peer"),
    "closed at once": (sends(), "closed connection without response"),
    "a length that is none": (sends(OK + b"Content-Length: many\r\n\r\n", b"abc"), "no gzip file"),
    "a negative length": (sends(OK + b"Content-Length: -5\r\n\r\n", b"abc"), "no gzip file"),
    "a length too small": (sends(OK + b"Content-Length: 20\r\n\r\n", BODY), "cut off"),
    "chunks, cut off": (sends(CHUNKED + b"50\r\n" + BODY[:20]), "IncompleteRead"),
    "chunks that are none": (sends(CHUNKED + b"xyz\r\n"), "IncompleteRead"),
    "chunks of 2⁶³": (sends(CHUNKED + b"8000000000000000\r\nabc"), "IncompleteRead"),
    "a thousand header lines": (sends(OK + b"a: b\r\n" * 1000 + b"\r\n"), "more than 100 headers"),
    "a header line of 100,000 letters": (sends(OK + b"a: " + b"b" * 100_000 + b"\r\n\r\n"), "more than 65536 bytes"),
    "twice the file": (BODY + BODY, "more than 121 bytes once decompressed"),
    "the file and rubbish": (BODY + b"rubbish!", "damaged"),
    "another file of the same dataset": (GOOD["t10k-images-idx3-ubyte.gz"], "86 bytes once decompressed"),
    "one bit flipped": (gzip.compress(bytes([CONTENT[FIRST[:-3]][0] ^ 1]) + CONTENT[FIRST[:-3]][1:]), "other content"),
}  # fmt: skip
# A mirror that is an address alone.
ADDRESSES = {
    "nobody listens": (NOBODY, "refused"),
    "a name that nobody has": ("http://nobody.invalid/", ""),
    "no address": ("nonsense://x/", "unknown url type"),
}
BAD = {**FAULTS, **MORE_FAULTS, **ADDRESSES}


@contextlib.contextmanager
def bad_mirror(name):
    if name in ADDRESSES:
        yield BAD[name][0]
    else:
        with mirror({**GOOD, FIRST: BAD[name][0]}) as address:
            yield address


def test_there_are_enough_of_them():
    assert len(BAD) >= 40


@pytest.fixture
def patience(torture, request):
    """In `make torture` the times are those of the program; else they are shortened."""
    if not torture:
        request.getfixturevalue("impatient")


@pytest.fixture(scope="module")
def survived(tally):
    """Which faults came to pass on the first mirror or on all, and whether what has to follow did follow."""
    found: dict[tuple[str, str], bool] = {}
    yield found
    tally("download faults, of the first mirror and of all", len(found), sum(not well for well in found.values()))


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("name", BAD)
def test_after_a_bad_mirror_the_next_one_is_asked(name, tiny, capsys, survived):
    survived[name, "first"] = False
    with bad_mirror(name) as bad, mirror(GOOD) as good:
        tiny(bad, good)
        assert_fetched(download.fetch("tiny"))
    survived[name, "first"] = True


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("name", BAD)
def test_where_all_are_bad_the_command_tells_in_time_what_was_tried(name, tiny, capsys, tmp_path, survived):
    survived[name, "all"] = False
    start = time.monotonic()
    with bad_mirror(name) as first, bad_mirror(name) as second:
        tiny(first, second)
        with pytest.raises(SystemExit) as end:
            cli.main(["data", "fetch", "tiny"])
        assert time.monotonic() - start < SECONDS
    said = capsys.readouterr().err
    assert end.value.code == 3, said
    assert "Traceback" not in said
    for word in ("LS-302", BAD[name][1], "lockstep data import FOLDER NAME", "LOCKSTEP_DATA"):
        assert word in said, said
    for address in {first, second}:
        assert said.count(f"    {address} ") == 1 + (first == second), said
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"]
    survived[name, "all"] = True


@pytest.mark.usefixtures("impatient")
def test_without_its_deadline_a_header_that_drips_is_waited_for(tiny, monkeypatch):
    """The twin: what the deadline is there for."""
    monkeypatch.setattr(download, "HEAD_SECONDS", 5.0)
    start = time.monotonic()
    with mirror({FIRST: without_end(OK, b"a", seconds=3.0)}) as bad:
        tiny(bad)
        with pytest.raises(download.LockstepError):
            download.fetch("tiny")
    assert time.monotonic() - start > 2.9


# ------------------------------------------------------------------------------------------ a cold cache, eight at once

PROCESS = """
import contextlib, dataclasses, sys, time
sys.path.insert(0, sys.argv[2])
from support.mirrors import ARRAYS, TINY
from lockstep.data import DATASETS, download, files, load
mirror, _, rounds, fault = sys.argv[1:]
@contextlib.contextmanager
def no_lock(folder):
    folder.mkdir(parents=True, exist_ok=True)
    yield
@contextlib.contextmanager
def no_rename(path):
    yield path
if "lock" in fault:
    download.sole_writer = no_lock
if "rename" in fault:
    download.new_file = no_rename
print("ready", flush=True)
start = float(input())
for number in range(int(rounds)):
    DATASETS[f"tiny{number}"] = dataclasses.replace(TINY, mirrors=(mirror,))
    time.sleep(max(start + number * 0.25 - time.time(), 0))
    assert (load(f"tiny{number}").train_images[..., 0] == ARRAYS["train_images"]).all()
"""


def eight_at_once(rounds: int, fault: str = "", seconds: float = 0.02) -> tuple[list[int], list[str], list[str]]:
    """(exit codes, what was said, what was asked of the mirror) of eight processes, for each round a cold cache."""
    log: list[str] = []

    def slowly(name):
        def answer(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(GOOD[name])))
            handler.end_headers()
            handler.wfile.write(GOOD[name][:30])
            handler.wfile.flush()
            time.sleep(seconds)
            handler.wfile.write(GOOD[name][30:])

        return answer

    with mirror({name: slowly(name) for name in GOOD}, log) as slow:
        command = [sys.executable, "-c", PROCESS, slow, str(TESTS), str(rounds), fault]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        processes = [subprocess.Popen(command, **pipes, text=True) for _ in range(8)]
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
        for process in processes:
            process.stdin.write(f"{time.time() + 0.5}\n")
            process.stdin.flush()
        said = [process.communicate(timeout=600)[1] for process in processes]
    return [process.returncode for process in processes], said, log


def test_eight_processes_at_once_make_one_valid_file_each_time(cases, tally):
    rounds = cases(3, 50)
    codes, said, log = eight_at_once(rounds)
    expected = sorted(f"/{name}" for name in GOOD for _ in range(rounds))
    tally("a cold cache, eight processes at once", rounds, sum(map(bool, codes)) or sorted(log) != expected)
    assert codes == [0] * 8, said
    assert sorted(log) == expected, "each file is fetched once"
    for number in range(rounds):
        assert_fetched(download.cache() / f"tiny{number}")


def test_without_lock_and_rename_eight_processes_get_in_each_others_way():
    codes, _, log = eight_at_once(3, "lock rename", seconds=0.3)
    assert any(codes) or len(log) > 3 * len(GOOD)
    assert len(log) > 3 * len(GOOD), "each for itself"
