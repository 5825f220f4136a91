"""Run folders: the truth. Everything that is known of a run lies in its folder, in formats that outlive Lockstep.

    runs/<study>/<run id>/
        status.json        {"format": 2, "status": "running" | "finished" | "failed", "code", "reason", times, "seal"}
        spec.toml          the study of this one run, fully resolved: running it again reproduces the run
        environment.json   versions, machine, threads, dataset (hashes, sizes, classes), git revision
        events.jsonl       one JSON object a line, as they happened; the epochs among them are the history
        steps.npz          loss, correct, examples: one number per update, in order
        samples.npz        images, labels: the first test images, for people to look at
        hardest.npz        indices, images: the test images with the largest loss
        predictions.npz    logits, labels: of the whole test set, after training
        metrics.json       what these predictions are worth, and the network's table
        timing.json        seconds per clock, seconds per epoch, peak memory
        film/              epoch-<n>.safetensors: numbers in half precision, where `run --film` asked for it
        checkpoint-<n>/    weights, state, steps (safetensors) after epoch n, manifest.json (SHA-256s; written last)
        manifest.json      size and SHA-256 of all of the above but status and checkpoints; written last
        worker.log         the worker's stderr
        lock               who works here now; gone when nobody does

Every file is written under a temporary name in the same folder, flushed to the disk, renamed and read back, so a reader
sees the old file or the new one and never half of it. An existing run is never overwritten.
"""

from lockstep.files.texts import restored, with_texts
from lockstep.store.checkpoint import (
    find_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    read_checkpoint_file,
    read_checkpoint_manifest,
    write_checkpoint,
)
from lockstep.store.film import begin_film, find_frames, is_filmed, keep_frame, read_frame
from lockstep.store.folder import (
    ASIDE,
    FORMAT,
    HINT,
    INTERRUPTED,
    SAMPLES,
    TRACES,
    UNEXPLAINED,
    UNUSABLE,
    append_event,
    as_json,
    as_line,
    claim,
    damaged,
    finite,
    make_folder,
    make_study_folder,
    natural,
    now,
    read_as_written,
    read_events,
    read_json,
    read_npz,
    read_tensors,
    write_bytes,
    write_json,
    write_npz,
)
from lockstep.store.manifest import (
    HASHED,
    check_files,
    check_manifest,
    holds_results,
    other_line_ends,
    write_manifest,
)
from lockstep.store.record import (
    Record,
    Records,
    is_as_begun,
    read_asked,
    read_spec,
    spec_hash,
)
from lockstep.store.search import (
    NO_RUNS,
    damages,
    find_runs,
    folders_below,
    given,
    is_run,
    must_be_there,
)
from lockstep.store.status import as_written, read_status, seal, write_status

__all__ = [
    "ASIDE",
    "FORMAT",
    "HASHED",
    "HINT",
    "INTERRUPTED",
    "NO_RUNS",
    "SAMPLES",
    "TRACES",
    "UNEXPLAINED",
    "UNUSABLE",
    "Record",
    "Records",
    "append_event",
    "as_json",
    "as_line",
    "as_written",
    "begin_film",
    "check_files",
    "check_manifest",
    "claim",
    "damaged",
    "damages",
    "find_checkpoints",
    "find_frames",
    "find_runs",
    "finite",
    "folders_below",
    "given",
    "holds_results",
    "is_as_begun",
    "is_filmed",
    "is_run",
    "keep_frame",
    "make_folder",
    "make_study_folder",
    "must_be_there",
    "natural",
    "newest_checkpoint",
    "now",
    "other_line_ends",
    "read_as_written",
    "read_asked",
    "read_checkpoint",
    "read_checkpoint_file",
    "read_checkpoint_manifest",
    "read_events",
    "read_frame",
    "read_json",
    "read_npz",
    "read_spec",
    "read_status",
    "read_tensors",
    "restored",
    "seal",
    "spec_hash",
    "with_texts",
    "write_bytes",
    "write_checkpoint",
    "write_json",
    "write_manifest",
    "write_npz",
    "write_status",
]
