"""Mirrors on this machine, the good and the bad."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import threading
import time

import numpy as np
import pytest

from lockstep.data import DATASETS, Dataset, File, download, quartet
from support.idx_files import encode

ARRAYS = {
    "train_images": np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7),
    "train_labels": np.array([0, 1, 2], np.uint8),
    "test_images": np.arange(2 * 5 * 7, dtype=np.uint8).reshape(2, 5, 7),
    "test_labels": np.array([2, 0], np.uint8),
}
CONTENT = {quartet.FILES[name]: encode(array) for name, array in ARRAYS.items()}
GOOD = {f"{name}.gz": gzip.compress(content) for name, content in CONTENT.items()}
FILES = tuple(File(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in CONTENT.items())
TINY = Dataset("a tiny dataset", ("a", "b", "c"), (5, 7, 1), 3, 2, FILES, (), "CC0")
DEAD = "http://127.0.0.1:9/"  # the discard port: nobody listens


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine without datasets, whose proxies are not asked for 127.0.0.1."""
    monkeypatch.delenv("LOCKSTEP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("lockstep.data.places.SYSTEM", tmp_path / "system")


@contextlib.contextmanager
def mirror(answers, log=None):
    """A web server; `answers` maps a file's name to bytes (200), a status, or a function of the request handler."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # the library's name
            if log is not None:
                log.append(self.path)
            answer = answers.get(self.path[1:], 404)
            with contextlib.suppress(OSError):
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer if isinstance(answer, int) else 200)
                body = b"" if isinstance(answer, int) else answer
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def tiny(monkeypatch):
    """Enter the tiny dataset, with the mirrors given, in the table."""

    def enter(*mirrors):
        monkeypatch.setitem(DATASETS, "tiny", dataclasses.replace(TINY, mirrors=mirrors))

    return enter


def assert_fetched(folder):
    np.testing.assert_array_equal(quartet.read(folder).train_images[..., 0], ARRAYS["train_images"])
    assert not list(folder.glob(".*.part"))


def short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(GOOD["train-images-idx3-ubyte.gz"][:50])


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(bytes(10_000))


def huge(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**12))
    handler.end_headers()


def dripping(handler):
    handler.send_response(200)
    handler.end_headers()
    end = time.monotonic() + 4 * download.SLOW_SECONDS
    while time.monotonic() < end:
        handler.wfile.write(b"\x1f")
        time.sleep(0.02)


def silent(handler):
    time.sleep(2 * download.ANSWER_SECONDS)


def nonsense(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")


FAULTS = {
    "not there": (404, "HTTP 404 Not Found"),
    "overloaded": (503, "HTTP 503"),
    "web page": (b"<!DOCTYPE html><html>Please log in</html>", "answered with a web page"),
    "not gzip": (b"PK\x03\x04 something", "no gzip file"),
    "empty": (b"", "no gzip file"),
    "plain content": (CONTENT["train-images-idx3-ubyte"], "no gzip file"),
    "other content": (gzip.compress(CONTENT["train-images-idx3-ubyte"][:-1] + b"x"), "sent other content: SHA-256"),
    "too little": (gzip.compress(b"x"), "1 bytes once decompressed, expected 121"),
    "gzip bomb": (gzip.compress(bytes(30_000_000)), "more than 121 bytes once decompressed"),
    "cut off": (GOOD["train-images-idx3-ubyte.gz"][:-3], "the gzip file is cut off"),
    "flipped byte": (GOOD["train-images-idx3-ubyte.gz"][:-6] + b"??????", "the gzip file is damaged"),
    "short body": (short, "sent 50 of 1,000 bytes"),
    "endless body": (endless, "sent more than"),
    "huge body": (huge, "announces 1,000,000,000,000 bytes"),
    "dripping": (dripping, "too slow"),
    "silent": (silent, "no answer for "),
    "no web server": (nonsense, "SSH-2.0"),
}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(download, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.2)
