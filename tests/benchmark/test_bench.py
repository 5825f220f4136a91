"""Times that can be believed: who is timed, in which order, what is ranked, and what classic mistakes would cost."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from typer.testing import CliRunner

from lockstep import LockstepError, store
from lockstep import study as studies
from lockstep.benchmark import baselines, benches, mistakes, roofline
from lockstep.cli import app
from lockstep.proof import procedure
from lockstep.report.sections.times import ranked
from lockstep.screen import times
from lockstep.spec import Network, Recipe, Study
from lockstep.spec.records import changed
from lockstep.spec.toml import resolved_toml
from lockstep.store.documents.bench import Lap, Middle, Row, read_bench
from lockstep.store.documents.part import but
from lockstep.store.documents.run import Threads
from support.needs import need_backend

MLP = ["flatten", "dense 16", "relu", "dense 10"]
CNN = ["conv2d 4 3", "relu", "max_pool2d 2", "flatten", "dense 10"]


def asked(layers=MLP, chosen=("numpy",), **recipe):
    options = {"batch_size": 32, "epochs": 2} | recipe
    return Study(
        networks={"net": Network([*layers])}, dataset=("digits",), backends=chosen, recipe=Recipe(**options),
        train_size=300, name="small",
    )  # fmt: skip


def a_lap(epoch, images=100, **seconds):
    clocks = {"import": 1.0, "build": 0.1, "compile": 0.5, "train": 2 * epoch, "evaluate": 0.2, "total": 5.0}
    return Lap(
        seconds=clocks | seconds, epochs=(3 * epoch, epoch, epoch), images=images, accuracy=0.9,
        peak_memory_bytes=2**20, threads=Threads(asked=2), versions={},
    )  # fmt: skip


@pytest.fixture
def clockwork(monkeypatch):
    """Laps that take no time: entry's name → seconds of an epoch; and the entries in the order in which they ran."""
    ran, epochs = [], {"numpy": 1.0, "torch": 2.0, "tensorflow": 2.02, "jax": 4.0}

    def lap(entry):
        ran.append(entry)
        if entry.name == "jax":
            raise LockstepError("LS-402", "it died")
        wobble = 1 + 0.02 * (len(ran) % 5 - 2) / 2
        return a_lap(
            epochs.get(entry.name, 9.0) * wobble / (2 if entry.threads == 1 else 1) * (1 + 2 * bool(entry.fault))
        )

    monkeypatch.setattr(benches, "lap", lap)
    return types.SimpleNamespace(ran=ran, epochs=epochs)


# -------------------------------------------------------------------------------------------------- rounds and ranking


def test_every_entry_runs_once_per_round_in_an_order_of_its_own(clockwork, tmp_path):
    document = benches.bench(asked(chosen=("numpy", "torch", "tensorflow")), tmp_path, rounds=6)
    assert document.rounds == 6
    order = [entry.name for entry in clockwork.ran]
    rounds = [tuple(order[i : i + 3]) for i in range(0, 18, 3)]
    assert all(sorted(row) == ["numpy", "tensorflow", "torch"] for row in rounds)
    assert len(set(rounds)) > 2, "the order is drawn anew for each round"
    (network,) = document.networks
    assert {row.n for row in network.rows} == {6}
    ranking = [sorted(names) for names in network.ranking]
    assert ranking == [["NumPy"], ["PyTorch", "TensorFlow"]], "1 % apart with 2 % of noise is no ranking"


def test_below_five_rounds_nothing_is_ranked(clockwork, tmp_path):
    document = benches.bench(asked(chosen=("numpy", "torch")), tmp_path, rounds=4)
    (network,) = document.networks
    assert network.ranking == (("NumPy", "PyTorch"),)
    assert "fewer than five rounds" in ranked(network.ranking, 4)


def a_row(name, median, low, high):
    epoch = Middle(median=median, low=low, high=high, n=5)
    return Row(entry=name, n=5, epoch=epoch, images_per_second=epoch)


def test_a_chain_of_overlaps_stands_together_and_a_gap_parts():
    rows = [a_row("a", 1, 0.9, 1.2), a_row("b", 1.3, 1.1, 1.5), a_row("c", 1.6, 1.45, 1.8), a_row("d", 3, 2.9, 3.1)]
    assert benches.ranking(rows) == (("a", "b", "c"), ("d",))
    assert benches.ranking(rows[:1] + rows[2:]) == (("a",), ("c",), ("d",))


def test_a_wide_interval_holds_together_what_lies_inside_it():
    rows = [a_row("wide", 1, 0.5, 9), a_row("b", 2, 1.9, 2.1), a_row("c", 4, 3.9, 4.1)]
    assert benches.ranking(rows) == (("wide", "b", "c"),)


def test_an_entry_that_fails_is_told_and_not_run_again(clockwork, tmp_path):
    told = []
    document = benches.bench(asked(chosen=("numpy", "jax")), tmp_path, rounds=5, tell=told.append)
    assert sum(entry.name == "jax" for entry in clockwork.ran) == 1
    assert document.networks[0].failed == ("JAX",)
    assert any(event["event"] == "failed" and "it died" in event["reason"] for event in told)


def test_the_fastest_is_held_against_its_products_at_the_rate_of_each_round(clockwork, tmp_path, monkeypatch):
    peaks = iter([1e6, 2e6, 1e6, 4e6, 1e6])  # one thread: an epoch takes 0.49 to 0.51 s
    told = []
    monkeypatch.setattr(benches.roofline, "peak", lambda *about: told.append(about) or next(peaks))
    study = changed(asked(chosen=("numpy", "torch", "jax")), dtype=("float64",))
    document = benches.bench(study, tmp_path, rounds=5, threads=1)
    assert told == [(1, "float64")] * 5
    found = document.networks[0].products
    flops = 2 * (2 * 784 * 16 + 3 * 16 * 10)  # the pixels need no gradient
    assert found.flops == flops
    assert found.entry == "NumPy"
    assert found.peak.median == 1e6
    assert found.seconds.median == flops * 100 / 1e6
    assert found.median == pytest.approx(0.5 / (flops * 100 / 1e6), rel=0.02)
    assert found.high == pytest.approx(4 * found.median, rel=0.04)


def test_the_rate_is_that_of_the_fastest_of_some_large_products(monkeypatch):
    seconds = [0.5, 0.2, 0.125, *[0.25] * (roofline.TIMES - 3)]
    ticks = iter(itertools.chain.from_iterable((0.0, each) for each in seconds))
    with monkeypatch.context() as patch:
        patch.setattr(roofline.np, "matmul", lambda a, b, out: None)
        patch.setattr(roofline.time, "perf_counter", lambda: next(ticks))
        assert roofline.rate("float32") == 2 * roofline.SIDE**3 / 0.125
    assert roofline.peak(1, "float32") > 1e8, "a process of its own multiplies no faster than one can by hand"


def test_a_product_has_the_dtype_and_the_threads_that_are_asked(monkeypatch, worker_says):
    seen = {}
    begun = worker_says("print('1.5e11')")
    assert roofline.peak(1, "float64") == 1.5e11
    ((command, variables),) = begun
    assert (command[-1], variables["OPENBLAS_NUM_THREADS"]) == ("float64", "1")
    for code in ("print('no number')", "print('1.5e11'); raise SystemExit(1)"):
        worker_says(code)
        assert roofline.peak(1, "float64") is None
    monkeypatch.setattr(roofline.np, "matmul", lambda a, b, out: seen.update(dtype=(a.dtype, b.dtype, out.dtype)))
    roofline.rate("float64")
    assert set(seen["dtype"]) == {np.dtype("float64")}


def test_a_gpu_is_not_held_against_this_processor(clockwork, tmp_path, monkeypatch):
    monkeypatch.setattr(benches.roofline, "peak", lambda threads, dtype: pytest.fail("nobody asked"))
    document = benches.bench(changed(asked(chosen=("torch",)), device="cuda"), tmp_path, rounds=1)
    assert document.networks[0].products is None


def test_a_bench_goes_on_where_no_product_can_be_timed(clockwork, tmp_path, monkeypatch):
    monkeypatch.setattr(benches.roofline, "peak", lambda threads, dtype: None)
    document = benches.bench(asked(), tmp_path, rounds=1)
    assert document.networks[0].products is None
    assert document.networks[0].rows


def test_a_recipe_that_stands_twice_in_the_grid_is_timed_once(clockwork, tmp_path):
    study = dataclasses.replace(asked(), grid={"optimizer": ("adam", "adam 0.001")})
    document = benches.bench(study, tmp_path, rounds=2)
    assert [row.entry for row in document.networks[0].rows] == ["NumPy"]
    assert len(clockwork.ran) == 2


def test_a_dataset_that_is_gone_is_told_before_the_first_lap(clockwork, tmp_path, monkeypatch):
    def describe(name):
        raise LockstepError("LS-301", "it is gone")

    monkeypatch.setattr(benches, "study", types.SimpleNamespace(checked=lambda study: study))
    monkeypatch.setattr(benches.data, "describe", describe)
    with pytest.raises(LockstepError, match="it is gone"):
        benches.bench(asked(), tmp_path, rounds=1)
    assert clockwork.ran == []


@pytest.mark.parametrize(
    ("layers", "multiply_adds"),
    [
        (["conv2d 4 3", "relu", "flatten", "dense 10"], 2 * 36 * 4 * 9 + 3 * 36 * 4 * 10),
        (["flatten", "dense 10"], 2 * 640),
        (["flatten", "dropout 0.1", "dense 7", "dense 10"], 2 * 448 + 3 * 70),
        (["relu", "flatten"], 0),
    ],
)
def test_training_takes_three_products_a_layer_and_the_first_two(layers, multiply_adds):
    assert roofline.training_flops(Network(layers), (8, 8, 1)) == 2 * multiply_adds


def test_a_ratio_is_taken_round_by_round_and_per_image():
    first = [a_lap(2.0), None, a_lap(8.0, images=200)]
    second = [a_lap(1.0), a_lap(1.0), a_lap(1.0)]
    assert benches.ratio(first, second) == [2.0, 4.0]


def test_the_first_epoch_is_warm_up():
    assert but(a_lap(1.0), epochs=(9.0, 1.0, 3.0, 2.0)).steady == 2.0
    assert but(a_lap(1.0), epochs=(9.0,)).steady == 9.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "rounds"),
        ({"epochs": 1}, "warm-up"),
        ({"against": "tensorflw"}, "nothing to compare"),
        ({"n_together": 0}, "0 together"),
        ({"n_together": 33}, "from 2 to 32"),
    ],
)
def test_what_cannot_be_timed_is_refused(options, words, clockwork, tmp_path):
    with pytest.raises(LockstepError, match=words):
        benches.bench(asked(), tmp_path, **options)


def test_a_busy_machine_is_told(monkeypatch):
    quiet = benches.noise_now()
    assert 0 <= quiet.spread < 100
    monkeypatch.setattr(benches.description, "machine", lambda: {"load": [3.2, 1, 1]})
    assert "load average is 3.2" in benches.noise_now().warnings[0]
    monkeypatch.setattr(benches.description, "machine", lambda: {"load": [0.0, 0, 0]})
    monkeypatch.setattr(benches, "UNSTEADY", 1e9)
    assert benches.noise_now().warnings == ()


# --------------------------------------------------------------------------------------------------------- the proof


def test_a_row_carries_the_certificate_of_its_own_network_and_no_other(clockwork, tmp_path):
    study = asked()
    unproven = benches.bench(study, tmp_path, rounds=1)
    assert unproven.networks[0].rows[0].proof is None
    procedure.prove(study, tmp_path, steps=4)
    proven = benches.bench(study, tmp_path, rounds=1)
    assert proven.networks[0].rows[0].proof.verdict == "EQUAL"
    for other in (
        changed(study, networks={"net": Network(CNN)}),
        changed(study, recipe=changed(study.recipe, batch_size=31)),
        changed(study, dtype=("float64",)),
    ):
        assert benches.bench(other, tmp_path, rounds=1).networks[0].rows[0].proof is None
    document = store.read_json(tmp_path / "small" / "proof.json")
    document["networks"][0]["backends"][0]["certificate"]["versions"]["numpy"] = "1.0"
    store.write_json(tmp_path / "small" / "proof.json", document)
    assert benches.bench(study, tmp_path, rounds=1).networks[0].rows[0].proof is None


# ------------------------------------------------------------------------------------------------------ the baselines


def test_what_a_baseline_is_not_written_for_is_left_out_and_told(clockwork, tmp_path):
    document = benches.bench(asked(CNN, ("numpy",)), tmp_path, rounds=1, against="shipped")
    reasons = {row.entry: row.reason for row in document.left_out}
    assert "not written for conv2d" in reasons["scikit-learn, MLPClassifier"]
    assert not {entry.name for entry in clockwork.ran} & {"sklearn"}
    run = asked(MLP, optimizer="rmsprop").runs()[0]
    assert "rmsprop" in baselines.why_not("torch", run)
    assert "augmentation" in baselines.why_not("keras", asked(augmentation={"shift": 1}).runs()[0])


@pytest.mark.parametrize("name", list(baselines.SHIPPED))
def test_a_baseline_trains_the_network_that_was_asked(name):
    """A convolution, a pooling and a dense layer; scikit-learn's, which has dense ones alone, those."""
    layers = MLP if name == "sklearn" else CNN
    need_backend(baselines.SHIPPED[name][3])
    run = benches.shortened(asked(layers, optimizer="adam 0.01").runs()[0], 6)
    found = benches.lap(benches.Entry(changed(run, train_size=None), name, True, 2))
    assert len(found.epochs) == 6
    assert found.accuracy > 0.85, "it learns"
    assert found.images >= 1000
    assert all(value > 0 for value in found.epochs)


def test_a_baseline_that_fails_says_so(tmp_path):
    run = benches.shortened(asked().runs()[0], 2)
    with pytest.raises(LockstepError, match="exit code 1"):
        benches.lap(benches.Entry(changed(run, dataset="/nowhere.npz"), "sklearn", True, 2))


def test_our_own_laps_are_runs(tmp_path):
    found = benches.lap(benches.Entry(benches.shortened(asked().runs()[0], 3), "numpy"))
    assert len(found.epochs) == 3
    assert found.images == 300
    assert found.seconds["evaluate"] < found.seconds["total"]


def test_seeds_that_are_trained_together_are_runs_too(tmp_path):
    alone = benches.lap(benches.Entry(benches.shortened(asked().runs()[0], 3), "numpy"))
    found = benches.lap(benches.Entry(benches.shortened(asked().runs()[0], 3), "numpy", n_together=3))
    assert len(found.epochs) == 3
    assert found.accuracy == alone.accuracy, "the first of them is the run that is trained alone beside them"


def test_seeds_together_are_compared_with_one_alone_and_never_ranked(clockwork, tmp_path):
    document = benches.bench(asked(chosen=("numpy", "torch")), tmp_path, rounds=5, n_together=10)
    (network,) = document.networks
    assert [row.together for row in network.rows] == [1, 1, 10]
    assert network.ranking == (("NumPy",), ("PyTorch",))
    assert ("NumPy × 10", "NumPy") in [(row.entry, row.over) for row in network.ratios]
    assert "NumPy × 10" not in {row.over for row in network.ratios}
    assert [(row.entry, row.reason) for row in document.left_out] == [
        ("PyTorch × 10", "only NumPy trains runs together")
    ]


# --------------------------------------------------------------------------------------------------------- the faults


def test_every_fault_is_sized(clockwork, tmp_path):
    document = mistakes.measure(asked(chosen=("numpy", "torch")), tmp_path, rounds=5)
    sizes = {(row.fault, row.entry): row.median for row in document.faults}
    assert {fault for fault, _ in sizes} == set(mistakes.FAULTS)
    assert sizes["compile_inside", "NumPy"] == pytest.approx((3 + 0.5) / 3, rel=0.03)
    assert sizes["start_inside", "NumPy"] == pytest.approx((3 + 1.6) / 3, rel=0.03)
    assert sizes["evaluation_inside", "NumPy"] == pytest.approx((3 + 0.6) / 3, rel=0.03)
    assert sizes["no_warm_up", "Keras, compile and fit"] == pytest.approx(3)
    assert sizes["best_epoch", "NumPy"] == pytest.approx(1)
    assert sizes["item_every_step", "PyTorch, DataLoader"] == pytest.approx(3, rel=0.05)
    assert sizes["one_thread", "NumPy"] == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "fault"), [(row.baseline, row.fault) for row in mistakes.FAULTS.values() if getattr(row, "fault", "")]
)
def test_a_committed_fault_still_trains_the_network(name, fault):
    need_backend(baselines.SHIPPED[name][3])
    wide = ["flatten", "dense 64", "relu", "dense 10"]
    run = benches.shortened(asked(wide, optimizer="adam 0.005").runs()[0], 6)
    entry = benches.Entry(changed(run, train_size=None), name, True, 2, fault)
    assert benches.lap(entry).accuracy > 0.8
    assert entry.key != dataclasses.replace(entry, fault="").key


# ---------------------------------------------------------------------------------------------------- what is printed


@pytest.mark.parametrize("other", [["--against", "shipped"], ["--together", "2"]], ids=" ".join)
def test_faults_are_timed_beside_nothing_else(other, tmp_path):
    done = CliRunner().invoke(app, ["bench", "of-no-matter.toml", "--runs", str(tmp_path), "--faults", *other])
    assert isinstance(done.exception, LockstepError)
    assert done.exception.code == "LS-200"
    assert "takes neither --against nor --together" in str(done.exception)


def test_the_command_prints_times_ranking_and_what_was_left_out(clockwork, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('dataset = "digits"\nbackends = ["numpy", "torch"]\n[networks]\nnet = ["flatten", "dense 10"]\n')
    done = CliRunner().invoke(app, ["bench", str(path), "--runs", str(tmp_path), "--against", "shipped"])
    assert done.exit_code == 0, done.output
    for words in (
        "fastest first: NumPy < PyTorch", "as shipped", "not proven", "n = 5 rounds", "bench.json",
        "GFLOP/s of a large matrix product its products alone would take",
    ):  # fmt: skip
        assert words in done.output
    done = CliRunner().invoke(app, ["bench", str(path), "--runs", str(tmp_path), "--faults", "--json", "--rounds", "2"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["faults"]


INTERRUPTED = pytest.mark.parametrize(
    ("end", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)], ids=["Ctrl-C", "TERM"]
)


def benched(tmp_path, monkeypatch, end, n):
    """`lockstep bench` that is interrupted in its n-th lap."""
    path, laps, whole = tmp_path / "small.toml", itertools.count(1), benches.lap

    def lap(entry):
        if next(laps) == n:
            raise end
        return whole(entry)

    path.write_text('dataset = "digits"\nbackends = ["numpy", "torch"]\n[networks]\nnet = ["flatten", "dense 10"]\n')
    monkeypatch.setattr(benches, "lap", lap)
    return CliRunner().invoke(app, ["bench", str(path), "--runs", str(tmp_path)])


@INTERRUPTED
def test_a_bench_that_is_interrupted_keeps_its_whole_rounds(end, code, clockwork, tmp_path, monkeypatch):
    done = benched(tmp_path, monkeypatch, end, 6)
    assert done.exit_code == code
    for words in ("2 of 5 rounds were whole, and are kept", "NumPy", "n = 2 rounds"):
        assert words in done.output
    kept = read_bench(tmp_path / "small")
    assert kept.rounds == 2
    assert [row.n for row in kept.networks[0].rows] == [2, 2]


def test_a_few_rounds_do_not_replace_a_whole_bench(clockwork, tmp_path, monkeypatch):
    store.make_folder(tmp_path / "small")
    store.write_json(tmp_path / "small" / "bench.json", {"rounds": 5})
    assert benched(tmp_path, monkeypatch, KeyboardInterrupt(), 6).exit_code == 130
    assert store.read_json(tmp_path / "small" / "bench.json") == {"format": 1, "rounds": 5}
    assert store.read_json(tmp_path / "small" / "bench-interrupted.json")["rounds"] == 2


def test_a_bench_without_a_time_is_none(clockwork, tmp_path, monkeypatch):
    def dies(entry):
        raise LockstepError("LS-402", "it died")

    path = tmp_path / "small.toml"
    path.write_text('dataset = "digits"\nbackends = ["numpy"]\n[networks]\nnet = ["flatten", "dense 10"]\n')
    store.make_folder(tmp_path / "small")
    store.write_json(tmp_path / "small" / "bench.json", {"rounds": 5})
    monkeypatch.setattr(benches, "lap", dies)
    done = CliRunner().invoke(app, ["bench", str(path), "--runs", str(tmp_path)])
    assert isinstance(done.exception, LockstepError)
    assert "nothing could be timed" in str(done.exception)
    assert store.read_json(tmp_path / "small" / "bench.json") == {"format": 1, "rounds": 5}


def test_a_lap_that_finds_no_room_is_a_failed_one(monkeypatch, tmp_path):
    monkeypatch.setattr(benches.tempfile, "tempdir", str(tmp_path / "none"))
    (entry, *_), _ = benches.entries_of(asked(chosen=("numpy",)), 2, 1, False, tmp_path)
    with pytest.raises(LockstepError, match=r"LS-501 .*cannot write"):
        benches.lap(entry)


def test_a_baseline_ends_with_whoever_started_it(tmp_path):
    need_backend("numpy")
    run = asked(epochs=10_000).runs()[0]
    (tmp_path / "spec.toml").write_text(resolved_toml(studies.one_run_study(asked(epochs=10_000), run)))
    command = [sys.executable, "-m", "lockstep.benchmark.baselines", "sklearn", str(tmp_path), "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        time.sleep(1)
        assert process.poll() is None
        process.stdin.close()  # as the system does when its parent is gone
        assert process.wait(timeout=60) == 1


@INTERRUPTED
def test_half_a_round_is_none(end, code, clockwork, tmp_path, monkeypatch):
    assert benched(tmp_path, monkeypatch, end, 2).exit_code in (1, code)
    assert not (tmp_path / "small" / "bench.json").exists()


def test_a_folder_that_cannot_be_written_is_told_before_the_first_lap(clockwork, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('dataset = "digits"\nbackends = ["numpy"]\n[networks]\nnet = ["flatten", "dense 10"]\n')
    (tmp_path / "small").write_text("no folder")
    done = CliRunner().invoke(app, ["bench", str(path), "--runs", str(tmp_path)])
    assert isinstance(done.exception, LockstepError)
    assert done.exception.code == "LS-501"
    assert not clockwork.ran


def test_times_are_printed_before_they_are_written(clockwork, tmp_path, monkeypatch):
    def is_full(path, value):
        raise LockstepError("LS-502", "the disk is full", where=str(path))

    path = tmp_path / "small.toml"
    path.write_text('dataset = "digits"\nbackends = ["numpy", "torch"]\n[networks]\nnet = ["flatten", "dense 10"]\n')
    monkeypatch.setattr(store, "write_json", is_full)
    done = CliRunner().invoke(app, ["bench", str(path), "--runs", str(tmp_path)])
    assert isinstance(done.exception, LockstepError)
    assert "fastest first: NumPy < PyTorch" in done.output


def test_seconds_have_three_digits():
    assert [times.seconds(x) for x in (0.01234, 1.2345, 123.45, None)] == ["0.012", "1.23", "123.5", "–"]
    assert np.isfinite(benches.interval([1.0, 2.0, 3.0, 4.0, 5.0]).low)
