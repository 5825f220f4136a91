"""performance.md says what the benches that it keeps have measured, and which targets were missed."""

from __future__ import annotations

import json
import sys

import pytest

from support import ROOT

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import benches  # noqa: E402


def interval(values):
    from lockstep.benchmark.benches import interval

    return dict(interval(values))


def row(name, title, laps, is_shipped=False, images=100, together=1):
    return {
        "name": name, "entry": title, "is_shipped": is_shipped, "together": together, "laps": laps, "images": images,
        "epoch": interval(laps), "images_per_second": interval([images / lap for lap in laps]), "n": len(laps),
        "seconds": {"import": interval([1.0] * len(laps)), "train": interval(laps)}, "proof": None,
        "versions": {name: "1.2"},
    }  # fmt: skip


def document(rows, network="mlp", measured="2026-01-02T00:00:00", products=None):
    found = {"network": network, "dataset": "mnist", "batch_size": 128, "rows": rows, "ranking": []}
    found["products"] = products
    return {
        "study": "lab-frameworks", "rounds": 5, "epochs": 3, "threads": 2, "measured": measured,
        "machine": {"cpu": "a CPU"}, "noise": {"load": 0.25}, "networks": [found],
    }  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """(rows, network, measured) → what is kept of them."""

    def of(*documents):
        for index, one in enumerate(documents):
            (tmp_path / f"{index}.json").write_text(json.dumps(one), encoding="utf-8")
        return benches.gather([tmp_path / f"{index}.json" for index in range(len(documents))])

    return of


OURS = row("numpy", "NumPy", [1.0, 1.1, 1.0, 1.2, 1.0])
TUTORIAL = row("torch", "PyTorch, DataLoader", [2.0, 2.2, 4.0, 2.4, 2.0], is_shipped=True)


def test_a_ratio_is_taken_round_by_round_per_image_and_a_missed_target_is_bold(kept):
    met = benches.block(kept(document([OURS, TUTORIAL])))
    assert "| NumPy ÷ PyTorch, DataLoader (as shipped) | ≤ 1 | 0.50 (0.25 – 0.50) |" in met
    half = {**TUTORIAL, "images": 300}
    missed = benches.block(kept(document([OURS, half])))
    assert "| NumPy ÷ PyTorch, DataLoader (as shipped) | ≤ 1 | **1.50 (0.75 – 1.50)** |" in missed


def test_what_was_not_measured_is_not_said(kept):
    said = benches.block(kept(document([OURS])))
    assert "÷" not in said
    assert "| NumPy | 1 | 1 – 1.2 | 100 | 1.00 | – | not proven |" in said
    assert "PyTorch" not in said
    few = benches.block(kept(document([row("numpy", "NumPy", [1.0, 2.0]), row("torch", "PyTorch", [2.0, 2.0])])))
    assert "| NumPy ÷ PyTorch | ≤ 1, " not in few
    assert "| NumPy ÷ PyTorch | ≤ 1 mlp | 0.75 |" in few, "no interval below five rounds"


def above(times):
    return {"flops": 1, "entry": "NumPy", "peak": interval([17e10] * 5), **interval([times] * 5)}


def test_the_slowest_backend_and_the_distance_from_products_have_limits_on_the_cnn(kept):
    slow = row("jax", "JAX", [1.9] * 4 + [2.4])
    met = benches.block(kept(document([OURS, slow, TUTORIAL], "cnn", products=above(1.9))))
    assert "| our slowest backend ÷ our fastest | ≤ 2 cnn | 1.90 (1.58 – 2.40) |" in met
    assert "| our fastest ÷ its matrix products | ≤ 2 cnn | 1.90 (1.90 – 1.90) |" in met
    assert "170 GFLOP/s in a large matrix product" in met
    slower = row("jax", "JAX", [3.9] * 5)
    missed = benches.block(kept(document([OURS, slower, TUTORIAL], "cnn", products=above(2.1))))
    assert "≤ 2 cnn | **3.90 (3.25 – 3.90)** |" in missed
    assert "≤ 2 cnn | **2.10 (2.10 – 2.10)** |" in missed
    assert "**3.90" not in benches.block(kept(document([OURS, slower], "mlp"))), "no limit there"


def test_seeds_that_share_a_time_stand_for_no_backend(kept):
    shared = row("numpy", "NumPy × 10", [0.1] * 5, together=10)
    said = benches.block(kept(document([shared, OURS, TUTORIAL])))
    assert "| NumPy ÷ PyTorch, DataLoader (as shipped) | ≤ 1 | 0.50" in said
    assert "| NumPy × 10 | 0.1 |" in said


def test_of_two_benches_of_a_network_the_later_one_counts(kept):
    later = document([row("numpy", "NumPy", [7.0] * 5)], measured="2026-01-03T00:00:00")
    for documents in ([later, document([OURS])], [document([OURS]), later]):
        found = kept(*documents, document([OURS], network="cnn"))
        assert set(found) == {"mlp", "cnn"}
        assert found["mlp"]["rows"][0]["epoch"]["median"] == 7.0


def test_the_page_is_what_is_kept(monkeypatch, tmp_path):
    page = benches.PAGE.read_text(encoding="utf-8")
    copy = tmp_path / "performance.md"
    monkeypatch.setattr(benches, "PAGE", copy)
    copy.write_text(page, encoding="utf-8")
    benches.main([])
    assert copy.read_text(encoding="utf-8") == page, "python docs/benches.py"
    assert len(benches.BLOCK.findall(page)) == 1
    copy.write_text(page.replace("<!-- benches -->\n", "<!-- benches -->\n| NumPy | 0.001 |\n"), encoding="utf-8")
    benches.main([])
    assert copy.read_text(encoding="utf-8") == page, "what somebody wrote by hand is gone"
