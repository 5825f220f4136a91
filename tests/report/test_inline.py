"""What a cell of a notebook shows of runs: the sentences, the table, the figures."""

from __future__ import annotations

import pytest

import lockstep
from support import EARLIER


def test_runs_are_shown_with_sentences_table_and_figures():
    records = lockstep.find_runs(EARLIER / "finished")
    shown = lockstep.show(records)
    text = shown._repr_html_()
    assert text.count("<img src=") == min(len(shown.figures), 8) > 0
    assert "<table" in text
    assert shown.sentences[0] in repr(shown)
    assert repr(records) in repr(shown)


def test_what_is_no_run_is_refused():
    with pytest.raises(lockstep.LockstepError) as raised:
        lockstep.show(["runs"])
    assert raised.value.code == "LS-204"
