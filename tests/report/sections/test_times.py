"""What a bench measured stands in the report with all that it rests on, and is ranked only where it may be."""

import pytest

from lockstep.report.sections import times
from support.bench_documents import BENCH, write_bench
from support.pages import page_of, words
from support.run_folders import fake_run


def test_times_stand_with_machine_threads_versions_and_repetitions(tmp_path):
    fake_run(tmp_path)
    write_bench(tmp_path / "demo")
    text = words(page_of(tmp_path))
    assert "mlp: fastest first: JAX < NumPy." in text
    for said in (
        "0.410", "0.400 to 0.420", "EQUAL, 10 steps", "not proven", "AMD EPYC 9654, 2 cores", "numpy 9.8.7", "5 rounds",
        "2 threads asked for, 2 obtained", "Warning: the machine is busy.", "PyTorch, mlp: it is not installed",
        "3.08 3.03 to 3.13",
        "At the 171 GFLOP/s of a large matrix product its products alone would take 0.041 s an epoch; JAX takes "
        "3.20 (3.10 to 3.30) times as long.",
    ):  # fmt: skip
        assert said in text, said


def test_an_older_bench_says_nothing_of_products(tmp_path):
    fake_run(tmp_path)
    network = {key: value for key, value in BENCH["networks"][0].items() if key != "products"}
    write_bench(tmp_path / "demo", networks=[network])
    text = words(page_of(tmp_path))
    assert "fastest first: JAX < NumPy" in text
    assert "products alone" not in text


@pytest.mark.parametrize(
    ("groups", "rounds", "said"),
    [
        ([["JAX", "NumPy"]], 5, "cannot be ranked: the intervals overlap"),
        ([["JAX"], ["NumPy"]], 4, "cannot be ranked: fewer than five rounds give no interval"),
        ([["JAX"], ["NumPy", "PyTorch"]], 5, "JAX < [NumPy, PyTorch: cannot be ranked among themselves]"),
        ([], 5, "nothing to rank"),
    ],
)
def test_what_overlaps_is_not_ranked(groups, rounds, said):
    assert said in times.ranked(groups, rounds)


def test_a_report_without_a_bench_ranks_nothing_and_says_how_to_make_one(tmp_path):
    fake_run(tmp_path)
    assert "Nothing here may be ranked: no bench.json lies beside these runs" in words(page_of(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 9}, "demo/bench.json: format is 9, which is out of range"),
        ({"rounds": "many"}, "demo/bench.json: rounds is not a whole number"),
        (
            {"networks": [{"network": "mlp", "rows": [{"entry": 1}]}]},
            "demo/bench.json: networks[0].rows[0].entry is not a text",
        ),
    ],
)
def test_a_damaged_bench_is_a_named_gap(tmp_path, changes, said):
    fake_run(tmp_path)
    write_bench(tmp_path / "demo", **changes)
    assert said in words(page_of(tmp_path))
