"""Run folders: whole or not there, never written over, and damage is told by its file."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep import LockstepError, Record, find_runs, store

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ARRAYS = {"logits": np.linspace(-1, 1, 400, dtype=np.float32).reshape(40, 10), "labels": np.arange(40)}


def refused(function, code="LS-505", *words):
    with pytest.raises(LockstepError) as raised:
        function()
    assert raised.value.code == code, raised.value
    assert raised.value.problems[0].hint
    for word in words:
        assert word in str(raised.value)
    return raised.value


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------- whole or not there


def fail_with(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


WRITERS = {
    "bytes": lambda path: store.write_bytes(path, b"new"),
    "json": lambda path: store.write_json(path, {"new": 1}),
    "npz": lambda path: store.write_npz(path, **ARRAYS),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("step", ["os.fsync", "os.replace", "pathlib.Path.write_bytes"])
@pytest.mark.parametrize(
    ("number", "code"), [(errno.EIO, "LS-501"), (errno.EACCES, "LS-501"), (errno.ENOSPC, "LS-502")]
)
def test_a_fault_at_any_step_leaves_the_old_file_and_nothing_else(write, step, number, code, monkeypatch, tmp_path):
    path = tmp_path / "status.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as fault:
        fault.setattr(step, fail_with(number))
        refused(lambda: WRITERS[write](path), code, str(path))
    assert content(tmp_path) == {"status.json": b"old"}
    WRITERS[write](path)
    assert list(content(tmp_path)) == ["status.json"]
    assert content(tmp_path)["status.json"] != b"old"


def test_a_program_that_dies_between_writing_and_renaming_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "status.json"
    path.write_bytes(b"old")

    def die(*_):
        raise SystemExit

    monkeypatch.setattr("os.replace", die)
    with pytest.raises(SystemExit):
        store.write_bytes(path, b"new")
    assert content(tmp_path) == {"status.json": b"old"}


def test_the_content_reaches_the_disk_before_the_name(monkeypatch, tmp_path):
    told = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda number: told.append(("sync", os.fstat(number).st_size)) or sync(number))
    monkeypatch.setattr("os.replace", lambda a, b: told.append(("name", os.stat(a).st_size)) or replace(a, b))
    store.write_bytes(tmp_path / "a", b"12345")
    assert told[:2] == [("sync", 5), ("name", 5)]
    assert [what for what, _ in told[2:]] == ["sync"], "of the folder, so that the name is there after a power cut"


def test_the_temporary_name_is_in_the_same_folder_and_hidden(monkeypatch, tmp_path):
    seen = []
    replace = os.replace
    monkeypatch.setattr("os.replace", lambda a, b: seen.append((a, b)) or replace(a, b))
    store.write_bytes(tmp_path / "a", b"x")
    ((temporary, path),) = seen
    assert (temporary.parent, path) == (tmp_path, tmp_path / "a")
    assert temporary.name.startswith(".")
    assert str(os.getpid()) in temporary.name


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refused(lambda: store.make_folder(tmp_path / "file" / "runs"), "LS-501", str(tmp_path / "file" / "runs"))
    refused(lambda: store.claim(tmp_path / "file" / "runs", "a"), "LS-501")
    refused(lambda: store.write_bytes(tmp_path / "none" / "a", b""), "LS-501", "No such file")


# --------------------------------------------------------------------------------------------------------------- JSON

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from([np.float32(math.nan), np.int64(3), np.bool_(True), np.array([[1.5, math.inf]]), (1, 2)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)  # fmt: skip


@QUICK
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_anything_is_written_as_json_that_others_can_read(tmp_path, value):
    def no_constant(name):
        raise AssertionError(f"{name} is no JSON")

    store.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    wanted = {"format": store.FORMAT, **store.finite(value)}
    assert json.loads(text, parse_constant=no_constant) == wanted == store.read_json(tmp_path / "a.json")
    assert text.endswith("}\n")


def test_numpys_numbers_become_pythons_and_what_is_not_finite_becomes_null():
    value = {"a": np.float32(0.5), 2: [np.int8(3), math.inf, -math.inf], "c": np.array([1, 2]), "d": np.bool_(False)}
    found = store.finite(value | {"e": math.nan, "f": None, "g": "é"})
    assert found == {"a": 0.5, "2": [3, None, None], "c": [1, 2], "d": False, "e": None, "f": None, "g": "é"}
    assert type(found["a"]) is float and type(found["2"][0]) is int and found["d"] is False  # noqa: PT018


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "it is missing"), (b"", "cannot be used"), (b'{"a": 1', "cannot be used"), (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "cannot be used"), (b"null", "not a JSON object"), (b"[" * 100_000, "cannot be used"),
        (b'{"a": ' + b"1" * 5000 + b"}", "cannot be used"),
    ],
)  # fmt: skip
def test_broken_json_is_told_by_its_file(tmp_path, text, words):
    if text is not None:
        (tmp_path / "metrics.json").write_bytes(text)
    refused(lambda: Record(tmp_path).metrics, "LS-505", str(tmp_path / "metrics.json"), words)


# ---------------------------------------------------------------------------------------------------------------- npz


def test_arrays_come_back_as_they_were(tmp_path):
    store.write_npz(tmp_path / "predictions.npz", **ARRAYS)
    found = Record(tmp_path).arrays("predictions")
    assert list(found) == list(ARRAYS)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_a_cut_off_npz_is_detected_at_every_length(tmp_path):
    store.write_npz(tmp_path / "whole.npz", **ARRAYS)
    whole = (tmp_path / "whole.npz").read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        (tmp_path / "steps.npz").write_bytes(whole[:length])
        refused(lambda: Record(tmp_path).arrays("steps"), "LS-505", "steps.npz")


def test_a_flipped_byte_in_an_npz_changes_no_value(tmp_path):
    """Each is refused, or hits a byte that means nothing: a time, a flag that readers ignore."""
    store.write_npz(tmp_path / "whole.npz", **ARRAYS)
    whole = (tmp_path / "whole.npz").read_bytes()
    n_refused = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 0x41
        (tmp_path / "steps.npz").write_bytes(flipped)
        try:
            found = Record(tmp_path).arrays("steps")
        except LockstepError as error:
            n_refused += error.code == "LS-505"
            continue
        for name in found.keys() & ARRAYS.keys():
            np.testing.assert_array_equal(found[name], ARRAYS[name], strict=True)
    assert n_refused > 0.7 * len(whole)


def test_a_pickle_in_an_npz_is_refused(tmp_path):
    np.savez(tmp_path / "steps.npz", loss=np.array([{"a": 1}], dtype=object))
    refused(lambda: Record(tmp_path).arrays("steps"), "LS-505", "allow_pickle=False")


def test_a_missing_npz_and_a_folder_in_its_place_are_told(tmp_path):
    refused(lambda: Record(tmp_path).arrays("steps"), "LS-505", "it is missing")
    (tmp_path / "steps.npz").mkdir()
    refused(lambda: Record(tmp_path).arrays("steps"), "LS-505", "steps.npz")


# --------------------------------------------------------------------------------------------------------- checkpoints

Arrays = dict[str, np.ndarray]
WEIGHTS: Arrays = {"1_dense/kernel": np.linspace(0, 1, 35).reshape(7, 5).T, "1_dense/bias": np.zeros(7, np.float32)}
STATE: Arrays = {"step": np.array([12]), "1_dense/kernel/m": np.ones((5, 7))}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    folder = store.write_checkpoint(tmp_path, 3, WEIGHTS, STATE)
    assert folder == tmp_path / "checkpoint-3"
    for found, wanted in zip(store.read_checkpoint(folder), (WEIGHTS, STATE), strict=True):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value, strict=True)


def test_the_number_of_steps_comes_back_without_an_axis(tmp_path):
    folder = store.write_checkpoint(tmp_path, 3, WEIGHTS, {"step": np.array(12)})
    assert store.read_checkpoint(folder)[1]["step"].shape == ()


def test_the_manifest_comes_last(monkeypatch, tmp_path):
    written = []
    write = store.write_bytes
    monkeypatch.setattr(
        "lockstep.store.checkpoint.write_bytes",
        lambda path, *rest, **named: written.append(path.name) or write(path, *rest, **named),
    )
    store.write_checkpoint(tmp_path, 1, WEIGHTS, STATE)
    assert written == ["weights.safetensors", "state.safetensors", "manifest.json"]


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit in the weights": lambda folder: flip(folder / "weights.safetensors"),
    "a flipped bit in the state": lambda folder: flip(folder / "state.safetensors"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text('{"files": {'),
    "an empty manifest": lambda folder: (folder / "manifest.json").write_text("{}"),
    "a manifest of something else": lambda folder: (folder / "manifest.json").write_text('{"files": [1]}'),
    "no weights": lambda folder: (folder / "weights.safetensors").unlink(),
    "cut-off state": lambda folder: (folder / "state.safetensors").write_bytes(b"\1\0\0"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_reported_and_kept(damage, tmp_path):
    told = []
    for epoch in (2, 9, 10):
        store.write_checkpoint(tmp_path, epoch, WEIGHTS, STATE)
    DAMAGE[damage](tmp_path / "checkpoint-10")
    before = content(tmp_path / "checkpoint-10")
    refused(lambda: store.read_checkpoint(tmp_path / "checkpoint-10"), "LS-505", "checkpoint-10")
    assert store.newest_checkpoint(tmp_path, told.append) == tmp_path / "checkpoint-9"
    assert len(told) == 1
    assert "checkpoint-10" in told[0]
    assert content(tmp_path / "checkpoint-10") == before


def test_a_sound_checkpoint_is_reported_by_nobody(tmp_path):
    told = []
    assert store.newest_checkpoint(tmp_path, told.append) is None
    store.write_checkpoint(tmp_path, 2, WEIGHTS, STATE)
    store.write_checkpoint(tmp_path, 10, WEIGHTS, STATE)
    assert store.newest_checkpoint(tmp_path, told.append) == tmp_path / "checkpoint-10"
    assert told == []


def test_weights_that_fit_their_hash_but_are_no_weights_are_refused(tmp_path):
    import hashlib

    folder = store.write_checkpoint(tmp_path, 1, WEIGHTS, STATE)
    (folder / "weights.safetensors").write_bytes(b"not safetensors")
    manifest = store.read_json(folder / "manifest.json")
    manifest["files"]["weights.safetensors"]["sha256"] = hashlib.sha256(b"not safetensors").hexdigest()
    store.write_json(folder / "manifest.json", {**manifest, "seal": store.seal(manifest)})
    refused(lambda: store.read_checkpoint(folder), "LS-505", "weights.safetensors")


# ----------------------------------------------------------------------------------------------- claims, events, status


def test_a_claim_never_gives_the_same_folder_again(tmp_path):
    found = [store.claim(tmp_path / "study", "run") for _ in range(4)]
    assert [path.name for path in found] == ["run", "run-2", "run-3", "run-4"]
    (tmp_path / "study" / "run-5").write_bytes(b"a file")
    assert store.claim(tmp_path / "study", "run").name == "run-6"
    assert [path.name for path in sorted((tmp_path / "study").iterdir())] == [
        "run",
        "run-2",
        "run-3",
        "run-4",
        "run-5",
        "run-6",
    ]


def test_claims_at_the_same_time_are_different(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.claim(tmp_path, "run"), range(40)))
    assert len(set(found)) == 40


def test_an_event_that_was_cut_off_is_skipped(tmp_path):
    path = tmp_path / "events.jsonl"
    for epoch in (1, 2, 3):
        store.append_event(path, {"event": "epoch", "epoch": epoch, "loss": math.nan})
    whole = path.read_bytes()
    store.append_event(path, {"event": "phase", "phase": "é"})
    longer = path.read_bytes()
    for length in range(len(whole), len(longer)):
        path.write_bytes(longer[:length])
        assert [row["epoch"] for row in Record(tmp_path).history] == [1, 2, 3]
        assert len(store.read_events(path)) == 3 + (length == len(longer) - 1)
    path.write_bytes(whole[:-3])
    assert [row["epoch"] for row in Record(tmp_path).history] == [1, 2]
    assert Record(tmp_path).history[0]["loss"] is None


@QUICK
@given(st.binary(max_size=60), st.booleans())
def test_no_bytes_among_events_lead_to_another_error(tmp_path, junk, at_the_start):
    row = b'{"event": "epoch", "epoch": 7}\n'
    (tmp_path / "events.jsonl").write_bytes(junk + b"\n" + row if at_the_start else row + junk)
    found = store.read_events(tmp_path / "events.jsonl")
    assert {"event": "epoch", "epoch": 7} in found
    assert all(isinstance(event, dict) for event in found)


def test_a_deeply_nested_event_is_skipped(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(b"[" * 100_000 + b'\n{"event": "epoch"}\n')
    assert store.read_events(tmp_path / "events.jsonl") == [{"event": "epoch"}]


def test_missing_events_are_told(tmp_path):
    refused(lambda: Record(tmp_path).history, "LS-505", "events.jsonl", "it is missing")


def test_a_status_keeps_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr("lockstep.store.status.now", lambda: "2026-01-01T00:00:00Z")
    store.write_status(tmp_path, "running", threads=3)
    found = store.read_status(tmp_path)
    assert found.pop("seal") == store.seal(found)
    assert found == {
        "format": 2, "status": "running", "code": None, "reason": None, "started": "2026-01-01T00:00:00Z",
        "finished": None, "threads": 3,
    }  # fmt: skip
    monkeypatch.setattr("lockstep.store.status.now", lambda: "2026-01-02T00:00:00Z")
    store.write_status(tmp_path, "failed", "LS-402", "it died")
    found = Record(tmp_path)
    assert (found.status["started"], found.status["finished"]) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    assert (found.status["code"], found.status["reason"], found.is_finished) == ("LS-402", "it died", False)
    assert found.status["threads"] == 3
    store.write_status(tmp_path, "finished")
    assert Record(tmp_path).is_finished


ASKED = 'dataset = "digits"\nbackends = ["numpy"]\nseeds = [0]\n[networks]\nnet = ["flatten", "dense 10"]\n'


def test_what_a_run_was_asked_is_read_from_its_spec(tmp_path):
    (tmp_path / "spec.toml").write_text(ASKED)
    (run,) = store.read_asked(tmp_path).runs()
    assert (run.backend, run.seed) == ("numpy", 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "LS-201"),
        ("dataset = [", "LS-202"),
        (ASKED + "[recipe]\nepocs = 3\n", "epocs"),
        (ASKED.replace("[0]", "[0, 1]"), "it asks for more than one run"),
    ],
)
def test_a_spec_that_no_run_wrote_is_damage_to_the_run(text, words, tmp_path):
    """Not a mistake in a study's file: nobody is told to write another one."""
    if text is not None:
        (tmp_path / "spec.toml").write_text(text)
    refused(lambda: store.read_asked(tmp_path), "LS-505", "spec.toml", words)


def test_any_byte_of_a_status_that_differs_is_seen(tmp_path):
    store.write_status(tmp_path, "finished", threads=2)
    whole = (tmp_path / "status.json").read_bytes()
    for place, bit in itertools.product(range(len(whole)), range(8)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << bit
        (tmp_path / "status.json").write_bytes(spoilt)
        with pytest.raises(LockstepError, match="LS-505"):
            store.read_status(tmp_path)


def test_a_status_without_a_seal_is_of_the_first_format(tmp_path):
    """Which knew none: there, an edit is not seen, and the check above can fail."""
    (tmp_path / "status.json").write_text('{"format": 1, "status": "finished", "threads": 6}')
    assert Record(tmp_path).is_finished
    (tmp_path / "status.json").write_text('{"format": 2, "status": "finished", "threads": 6}')
    refused(lambda: Record(tmp_path).is_finished, "LS-505", "status.json", "it is not as it was written")


# ------------------------------------------------------------------------------------------------------- finding runs


def test_runs_are_found_at_three_depths_in_their_natural_order(tmp_path):
    for name in ("a/run-10", "a/run-2", "a/run", "b/run"):
        store.make_folder(tmp_path / name)
        store.write_status(tmp_path / name, "running")
    store.make_folder(tmp_path / "a" / "no-run")
    names = [str(record.folder.relative_to(tmp_path)) for record in find_runs([tmp_path])]
    assert names == ["a/run", "a/run-2", "a/run-10", "b/run"]
    assert [record.folder.name for record in find_runs([tmp_path / "a"])] == ["run", "run-2", "run-10"]
    assert [record.folder.name for record in find_runs([tmp_path / "a/run-2", tmp_path / "a"])] == [
        "run",
        "run-2",
        "run-10",
    ]


def test_a_packed_divergence_is_no_run(tmp_path):
    for place, name in (
        ("unexplained/one", "environment.json"),
        ("traces/one", "status.json"),
        ("a", "environment.json"),
    ):
        (tmp_path / "lab" / place).mkdir(parents=True)
        (tmp_path / "lab" / place / name).write_text("{}")
    assert [record.folder.name for record in find_runs([tmp_path])] == ["a"]
    assert [record.folder.name for record in find_runs([tmp_path / "lab"])] == ["a"]


def test_a_pipe_in_place_of_a_spec_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "spec.toml")
    refused(lambda: store.read_asked(tmp_path), "LS-505", "spec.toml")


def test_a_folder_without_runs_is_refused(tmp_path):
    refused(lambda: find_runs([tmp_path]), "LS-505", "no run folder here", str(tmp_path))
    refused(lambda: find_runs([tmp_path, tmp_path / "none"]), "LS-200", "no such folder", "none")


@pytest.mark.parametrize("text", ["", "a = ", "\0", "name = 1"])
def test_a_broken_spec_is_told_by_its_file(text, tmp_path):
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(LockstepError, match=r"LS-505 .*spec\.toml"):
        _ = Record(tmp_path).spec


@pytest.mark.parametrize("what", ["network", "backend", "seed", "dataset", "dtype"])
def test_a_spec_without_its_coordinates_is_told_as_damaged(what, tmp_path):
    (tmp_path / "spec.toml").write_text('name = "a"\n')
    refused(lambda: getattr(Record(tmp_path), what), "LS-505", "spec.toml")
