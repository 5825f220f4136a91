"""Traces are judged while the next ones are made; who interrupts a proof does not wait for judgements."""

from __future__ import annotations

import threading

import pytest

from lockstep.proof import procedure, verdicts
from lockstep.proof.cases import Case
from lockstep.proof.verdicts import Court, GivenUp

BEYOND = 30.0  # seconds after which a thread that waits has been forgotten


class Endless:
    """A judge who is never done, and says when he has begun."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def findings(self, trace):
        while not self.let_go.is_set():
            self.begun.set()
            yield trace


@pytest.fixture
def endless(monkeypatch):
    judge = Endless()
    monkeypatch.setattr(Case, "judge", judge)
    return judge


A_CASE = Case(None, None, ())


def test_who_interrupts_does_not_wait_for_judgements(endless):
    with Court(1) as court:
        under_way, waiting = (court.judge(name, A_CASE) for name in ("a", "another"))
        assert endless.begun.wait(BEYOND)  # leaving the court now is what an exception does
    assert isinstance(under_way.exception(0), GivenUp)
    assert waiting.cancelled()


def test_a_judge_who_heeds_nothing_would_go_on(endless, monkeypatch):
    monkeypatch.setattr(Court, "heed", lambda court: None)
    court = Court(1)
    judging = court.judge("a", A_CASE)
    assert endless.begun.wait(BEYOND)
    court.closed.set()
    with pytest.raises(TimeoutError):
        judging.result(0.5)
    endless.let_go.set()


def test_what_goes_wrong_in_a_judge_reaches_who_waits(monkeypatch):
    def findings(trace):
        raise ZeroDivisionError("of the judge")

    monkeypatch.setattr(Case, "judge", type("Judge", (), {"findings": staticmethod(findings)}))
    with Court(1) as court, pytest.raises(ZeroDivisionError, match="of the judge"):
        court.judge("a", A_CASE).result(BEYOND)


def test_the_next_trace_is_made_while_one_is_judged(monkeypatch):
    """The first judgement ends only when the second trace is begun: one after the other would wait."""
    second = threading.Event()

    def traced(run, *_):
        if run == "second":
            second.set()
        return procedure.Judgement(run, run)

    def judged(trace, case, heed):
        return procedure.Judgement(None, trace, verdict="EQUAL" if second.wait(BEYOND) else "ERROR")

    monkeypatch.setattr(procedure, "traced", traced)
    monkeypatch.setattr(verdicts, "judged", judged)
    told = []
    rows = procedure.judged_rows(
        Case(None, None, ("first", "second")), None, None, 2, procedure.Threads(1), lambda run, event: told.append(run)
    )
    assert [(row.run, row.verdict) for row in rows] == [("first", "EQUAL"), ("second", "EQUAL")]
    assert told == ["first", "second"]
