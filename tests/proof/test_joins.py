"""Values that several rows take in, and rows that take in several: what is sent back is placed, and run again alone."""

from __future__ import annotations

import numpy as np
import pytest

from lockstep.proof import bundle, verdicts
from lockstep.proof.findings import AND, TO
from lockstep.proof.traces import Trace
from support import plants as table


def altered(monkeypatch: pytest.MonkeyPatch, key: str, factor: float) -> None:
    """Let every trace say something else of one array."""
    right = Trace.arrays

    def arrays(self: Trace, name: str) -> dict[str, np.ndarray]:
        found = dict(right(self, name))
        if key in found:
            found[key] = found[key] * factor
        return found

    monkeypatch.setattr(Trace, "arrays", arrays)


def test_what_two_rows_send_back_is_judged_as_their_sum(tmp_path, monkeypatch):
    """The relu before the block goes into its layers and around them; of what comes back only the sum was seen."""
    trace = table.write_trace(tmp_path / "trace", "joined", "numpy", (), "float64")
    case = table.proof_case("joined", "float64")
    assert verdicts.judged(trace, case).verdict == "EQUAL"
    altered(monkeypatch, "sent_back/1_relu", 1 + 1e-9)
    first, *_ = verdicts.judged(trace, case).divergences
    assert (first.stage, first.where, first.causes) == ("backward", f"2_conv2d{AND}3_add{TO}1_relu", ("unexplained",))


def test_what_a_join_gives_is_placed_on_it(tmp_path, monkeypatch):
    trace = table.write_trace(tmp_path / "trace", "joined", "numpy", (), "float64")
    altered(monkeypatch, "activation/7_concat", 1 + 1e-9)
    first, *_ = verdicts.judged(trace, table.proof_case("joined", "float64")).divergences
    assert (first.stage, first.where) == ("forward", "7_concat")


@pytest.mark.parametrize("cause", ["shortcut_twice", "branches_reversed"])
def test_a_bundle_runs_a_join_again_on_all_that_it_took_in(cause, tmp_path):
    trace = table.write_trace(tmp_path / "trace", "joined", "numpy", (cause,), "float64")
    case = table.proof_case("joined", "float64")
    first, *_ = verdicts.judged(trace, case).divergences
    (trace.folder / "environment.json").write_text("{}")
    folder = bundle.write(tmp_path, trace, case.canonical, case.plan, first)
    arrays = bundle.arrays(folder)
    taken = tuple(arrays[f"x{place}"] for place in range(2))
    found, wanted = (bundle.layer(model, first.where, taken, arrays["dy"]) for model in bundle.models(folder))
    assert found.keys() == wanted.keys() == {"y", "dx0", "dx1"}
    np.testing.assert_array_equal(found["y"], arrays["found"])
    assert np.abs(found["y"] - wanted["y"]).max() > 1e-3
