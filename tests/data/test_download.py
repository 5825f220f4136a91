"""Downloads, against mirrors on this machine that behave as badly as mirrors do."""

import contextlib
import errno
import gzip
import subprocess
import sys
import time

import filelock
import pytest

from lockstep.data import describe, download, fetch, files, load, verify
from lockstep.errors import LockstepError
from lockstep.files import intake
from support import TESTS
from support.mirrors import ARRAYS, CONTENT, DEAD, FAULTS, GOOD, assert_fetched, impatient, machine, mirror, tiny

assert all((impatient, machine, tiny))  # fixtures that this file shares


def test_a_missing_dataset_is_downloaded_once(tiny, tmp_path):
    log, calls = [], []
    with mirror(GOOD, log) as good:
        tiny(good)
        assert describe("tiny").state == "not on this machine"
        data = load("tiny", progress=lambda *call: calls.append(call))
        load("tiny")
        fetch("tiny")
    assert data.class_names == ("a", "b", "c")
    assert data.origin == str(tmp_path / "cache" / "lockstep" / "datasets" / "tiny")
    assert log == [f"/{name}" for name in GOOD]
    size = len(GOOD["train-images-idx3-ubyte.gz"])
    assert calls[0] == ("train-images-idx3-ubyte.gz", size, size)
    assert describe("tiny").state.startswith("cached in")
    assert {row.state for row in verify("tiny")} == {"right"}
    load("tiny", offline=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_after_any_fault_the_next_mirror_is_tried(tiny, impatient, fault):
    answer, _ = FAULTS[fault]
    with mirror({**GOOD, "train-images-idx3-ubyte.gz": answer}) as bad, mirror(GOOD) as good:
        tiny(bad, good)
        assert_fetched(fetch("tiny"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_and_leaves_nothing_behind(tiny, impatient, tmp_path, fault):
    answer, message = FAULTS[fault]
    with mirror({**GOOD, "train-images-idx3-ubyte.gz": answer}) as bad:
        tiny(bad)
        with pytest.raises(LockstepError) as raised:
            fetch("tiny")
    assert raised.value.code == "LS-302"
    assert message in str(raised.value)
    assert not [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"]


def test_where_every_mirror_fails_a_table_tells_what_was_tried(tiny):
    with mirror({}) as empty:
        tiny(DEAD, empty)
        with pytest.raises(LockstepError) as raised:
            load("tiny")
    text = str(raised.value)
    assert raised.value.code == "LS-302"
    assert f"{DEAD} " in text
    assert "refused" in text
    assert f"{empty}  train-images-idx3-ubyte.gz  HTTP 404 Not Found" in text
    assert "lockstep data import" in text
    assert "LOCKSTEP_DATA" in text


def test_offline_asks_nobody(tiny):
    log = []
    with mirror(GOOD, log) as good:
        tiny(good)
        for function in (load, fetch):
            with pytest.raises(LockstepError, match="lockstep data fetch tiny") as raised:
                function("tiny", offline=True)
            assert raised.value.code == "LS-301"
            assert "LOCKSTEP_DATA" in str(raised.value)
            assert "lockstep data import" in str(raised.value)
    assert not log


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-4], lambda content: b"", lambda content: b"plain" + content]
)
def test_a_damaged_file_in_the_cache_is_refused_by_load_and_replaced_by_fetch(tiny, damage):
    log = []
    with mirror(GOOD, log) as good:
        tiny(good)
        path = fetch("tiny") / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(LockstepError, match="lockstep data fetch tiny"):
            load("tiny")
        assert [row.state for row in verify("tiny")] == ["right", "right", "wrong", "right"]
        log.clear()
        assert_fetched(fetch("tiny"))
    assert log == ["/t10k-images-idx3-ubyte.gz"]


def test_what_a_killed_process_left_is_cleared(tiny):
    with mirror(GOOD) as good:
        tiny(good)
        folder = download.cache() / "tiny"
        folder.mkdir(parents=True)
        (folder / ".train-images-idx3-ubyte.gz.1.part").write_bytes(b"half")
        assert_fetched(fetch("tiny"))


def test_a_dataset_kept_elsewhere_is_not_downloaded(tiny, tmp_path, monkeypatch):
    tiny(DEAD)
    folder = tmp_path / "mine" / "tiny"
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path / "mine"))
    assert fetch("tiny") == folder
    assert load("tiny").origin == str(folder)
    assert describe("tiny").state == f"found in {folder}"


def test_an_interrupted_download_leaves_nothing_behind(tiny, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with mirror(GOOD) as good:
        tiny(good)
        with pytest.raises(KeyboardInterrupt):
            fetch("tiny", progress=interrupt)
    assert not list((tmp_path / "cache").rglob("*ubyte*"))


PROCESS = """
import dataclasses, sys
sys.path.insert(0, sys.argv[2])
from support.mirrors import TINY
from lockstep.data import DATASETS, load
DATASETS["tiny"] = dataclasses.replace(TINY, mirrors=(sys.argv[1],))
print(load("tiny").train_images.sum())
"""


def test_two_processes_at_once_make_one_valid_file():
    log = []

    def slowly(name):
        def answer(handler):
            time.sleep(0.1)
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(GOOD[name])

        return answer

    with mirror({name: slowly(name) for name in GOOD}, log) as slow:
        command = [sys.executable, "-c", PROCESS, slow, str(TESTS)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [int(answer) for answer in answers] == [int(ARRAYS["train_images"].sum())] * 2
    assert sorted(log) == sorted(f"/{name}" for name in GOOD)
    assert_fetched(download.cache() / "tiny")


def test_a_lock_that_is_never_released_is_reported(tiny, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    tiny(DEAD)
    folder = download.cache() / "tiny"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".lock"), pytest.raises(LockstepError, match="LS-504"):
        fetch("tiny")


def test_a_folder_that_cannot_be_made_is_reported(tiny, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    tiny(DEAD)
    with pytest.raises(LockstepError, match="LS-501"):
        fetch("tiny")


def test_a_full_disk_is_not_a_mirrors_fault(tiny, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with mirror(GOOD) as good:
        tiny(good, good)
        with pytest.raises(LockstepError, match="LS-502"):
            fetch("tiny")


def test_a_gzip_bomb_is_decompressed_one_byte_too_far_and_no_further(tmp_path, monkeypatch):
    n_read = 0
    read = intake.Unpacked.read

    def counted(stream, size=-1):
        nonlocal n_read
        content = read(stream, size)
        n_read += len(content)
        return content

    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(3_000_000)))
    monkeypatch.setattr(intake.Unpacked, "read", counted)
    with pytest.raises(ValueError, match="more than 100 bytes once decompressed"):
        files.content_hash(tmp_path / "bomb.gz", 100)
    assert n_read == 101


# ------------------------------------------------------------------------------------------- what broke off and goes on

NAME = "train-images-idx3-ubyte.gz"
TAG = '"abc"'


class Breaking:
    """A mirror that breaks the first answers off after some bytes, and knows ranges as it is told to.

    `asked` holds the Range of each request; a `tag` that changes is another file's.
    """

    def __init__(self, breaks=(50,), content=GOOD[NAME], tags=(TAG,), header="ETag", ranges=True, status=None):
        self.breaks, self.content, self.tags, self.header = list(breaks), content, list(tags), header
        self.ranges, self.status, self.asked = ranges, status, []

    def __call__(self, handler):
        tag = self.tags.pop(0) if len(self.tags) > 1 else self.tags[0]
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        start = 0
        if asked and self.ranges and handler.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start and self.status:
            handler.send_response(self.status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if tag:
            handler.send_header(self.header, tag)
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        end = start + self.breaks.pop(0) if self.breaks else len(self.content)
        handler.wfile.write(self.content[start:end])


def one_by_one(monkeypatch):
    """No second try at once: each `fetch` asks once."""
    monkeypatch.setattr(download, "ATTEMPTS", 1)


def broken_then_whole(tiny, breaking):
    """Fetch until it succeeds, at most four times; how often it failed."""
    with mirror({**GOOD, NAME: breaking}) as address:
        tiny(address)
        for n_failed in range(4):
            with contextlib.suppress(LockstepError):
                assert_fetched(fetch("tiny"))
                return n_failed
    raise AssertionError(breaking.asked)


def left_behind(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*.partial*"))


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_what_broke_off_goes_on_where_it_stopped(tiny, monkeypatch, tmp_path, header):
    one_by_one(monkeypatch)
    breaking = Breaking(breaks=(50, 30), header=header)
    assert broken_then_whole(tiny, breaking) == 2
    assert breaking.asked == [None, "bytes=50-", "bytes=80-"]
    assert left_behind(tmp_path) == []


def test_at_once_where_it_came_forward(tiny, monkeypatch):
    monkeypatch.setattr(download, "LEAST_GAINED", 20)
    breaking = Breaking(breaks=(50, 30))
    assert broken_then_whole(tiny, breaking) == 0
    assert breaking.asked == [None, "bytes=50-", "bytes=80-"]


def test_a_mirror_that_brings_little_is_not_asked_again_at_once(tiny, monkeypatch, tmp_path):
    breaking = Breaking(breaks=(50, 30))
    with mirror({**GOOD, NAME: breaking}) as address:
        tiny(address)
        with pytest.raises(LockstepError, match="sent 50 of 137 bytes"):
            fetch("tiny")
    assert breaking.asked == [None]
    assert len(left_behind(tmp_path)) == 2


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({"tags": ("",)}, [None, None]),
        ({"tags": ('W/"abc"',)}, [None, None]),
        ({"ranges": False}, [None, "bytes=50-"]),
        ({"tags": (TAG, '"other"')}, [None, "bytes=50-"]),
        ({"status": 416}, [None, "bytes=50-", None]),
    ],
    ids=["no name", "a weak name", "no ranges", "another file now", "not satisfiable"],
)
def test_where_the_rest_cannot_be_had_it_begins_anew(tiny, monkeypatch, tmp_path, told, asked):
    monkeypatch.setattr(download, "ATTEMPTS", 2 if "status" in told else 1)
    breaking = Breaking(**told)
    assert broken_then_whole(tiny, breaking) == 1
    assert breaking.asked == asked
    assert left_behind(tmp_path) == []


def test_the_rest_of_another_file_is_seen_and_fetched_anew(tiny, monkeypatch, tmp_path):
    """The twin: the beginning that is kept is not this file's, whatever the mirror says."""
    breaking = Breaking(breaks=(50,))
    with mirror({**GOOD, NAME: breaking}) as address:
        tiny(address)
        with pytest.raises(LockstepError):
            fetch("tiny")
        (kept,) = (tmp_path / "cache").rglob("*.partial")
        content = bytearray(kept.read_bytes())
        content[-1] ^= 1
        kept.write_bytes(content)
        assert_fetched(fetch("tiny"))
    assert breaking.asked == [None, "bytes=50-", None]


@pytest.mark.parametrize("answer", [503, b"<!DOCTYPE html><html>Please log in</html>"], ids=["503", "a page"])
def test_a_mirror_that_is_out_of_order_in_between_costs_nothing(tiny, monkeypatch, tmp_path, answer):
    one_by_one(monkeypatch)
    breaking = Breaking(breaks=(50,))
    answers = {**GOOD, NAME: breaking}
    with mirror(answers) as address:
        tiny(address)
        for now in (breaking, answer, breaking):
            answers[NAME] = now
            with contextlib.suppress(LockstepError):
                fetch("tiny")
    assert breaking.asked == [None, "bytes=50-"]
    assert_fetched(download.cache() / "tiny")


@pytest.mark.parametrize("damage", ["{", "[]", '{"url": "x", "name": "y"}', '{"url": 3}', ""])
def test_a_note_of_what_was_begun_that_is_damaged_is_none(tiny, monkeypatch, tmp_path, damage):
    one_by_one(monkeypatch)
    breaking = Breaking()
    with mirror({**GOOD, NAME: breaking}) as address:
        tiny(address)
        with pytest.raises(LockstepError):
            fetch("tiny")
        (about,) = (tmp_path / "cache").rglob("*.partial.json")
        about.write_text(damage)
        assert_fetched(fetch("tiny"))
    assert breaking.asked == [None, None]


def test_a_download_that_is_interrupted_goes_on_the_next_time(tiny, tmp_path):
    breaking = Breaking(breaks=())

    def interrupt(*_):
        raise KeyboardInterrupt

    with mirror({**GOOD, NAME: breaking}) as address:
        tiny(address)
        download.CHUNK, before = 40, download.CHUNK
        try:
            with pytest.raises(KeyboardInterrupt):
                fetch("tiny", progress=interrupt)
        finally:
            download.CHUNK = before
        told = []
        assert_fetched(fetch("tiny", progress=lambda *event: told.append(event)))
    assert breaking.asked == [None, "bytes=40-"]
    assert told[0] == (NAME, 137, 137)
