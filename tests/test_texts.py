"""A message that is stored is data: its English sentence for everybody, its form and values for every language."""

from __future__ import annotations

import json

import pytest

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.files import texts
from lockstep.language import Text, joined, later, n_later, say, speaking

STEPS = later("the first {n} steps are the same within rounding, on everything that was observed", n=10)
JUDGE = later(
    "the judge itself is not what an independent formula gives: {stage}, {where}", stage=later("loss"), where="x"
)


def kept(tmp_path, document):
    store.write_json(tmp_path / "some.json", document)
    return store.read_json(tmp_path / "some.json")


@pytest.mark.parametrize(
    "text",
    [
        STEPS,
        JUDGE,
        n_later("{n:,} step was asked for", "{n:,} steps were asked for", 1200),
        n_later("{n:,} step was asked for", "{n:,} steps were asked for", 1),
        joined(("jax", later("{modules} not installed", modules="jax")), ": "),
        later("cannot be used: {why}", why=ValueError(later("it is missing"))),
        later("at least one is not what its spec.toml says"),
        later("it holds {value} at {place}", value=float("nan"), place=[3, 4]),
    ],
    ids=str,
)
def test_a_text_is_said_in_any_language_after_it_was_stored(text, tmp_path):
    found = kept(tmp_path, {"rows": [{"reason": text, "n": 3}]})["rows"][0]["reason"]
    assert found == text
    with speaking("ru"):
        assert say(found) == say(text) != str(text)


def test_whoever_knows_nothing_of_forms_reads_sentences(tmp_path):
    store.write_json(tmp_path / "some.json", {"claim": STEPS, "of": "nobody"})
    plain = json.loads((tmp_path / "some.json").read_text())
    assert plain["claim"] == str(STEPS)
    assert plain["texts"] == {str(STEPS): {"forms": [STEPS.forms[0]], "values": {"n": 10}}}
    assert "texts" not in kept(tmp_path, {"claim": "the user's own"})


def test_what_stands_in_a_document_is_written_again_as_it_was(tmp_path):
    store.write_json(tmp_path / "some.json", {"claim": STEPS, "reason": JUDGE})
    before = (tmp_path / "some.json").read_bytes()
    store.write_json(tmp_path / "some.json", store.read_json(tmp_path / "some.json"))
    assert (tmp_path / "some.json").read_bytes() == before


@pytest.mark.parametrize(
    "row",
    [
        {"forms": ["{n:>999999999}"], "values": {"n": "no"}},
        {"forms": ["{n.__class__}"], "values": {"n": "no"}},
        {"forms": ["{n[0]}"], "values": {"n": "no"}},
        {"forms": ["{0}"], "values": {"n": "no"}},
        {"forms": ["{n:{n}}"], "values": {"n": 3}},
        {"forms": ["{n"], "values": {"n": 3}},
        {"forms": ["yes"], "values": {}},
        {"forms": ["{n}"], "values": {}},
        {"forms": ["{n}"], "values": {"n": ["no"]}},
        {"forms": ["{n}", "{n}"], "values": {"m": "no"}},
        {"forms": [3], "values": {}},
        {"forms": ["{n}"], "values": {"n": {"text": "no", "forms": ["yes"], "values": {}}}},
        {"forms": ["no"]},
        ["no"],
        None,
    ],
    ids=str,
)
def test_a_form_that_asks_for_more_or_makes_another_sentence_is_not_believed(row):
    found = texts.restored({"claim": "no", "texts": {"no": row}})
    assert found == {"claim": "no"}
    assert not isinstance(found["claim"], Text)


def test_a_form_that_makes_its_sentence_is_believed():
    found = texts.restored({"claim": "no", "texts": {"no": {"forms": ["{n}"], "values": {"n": "no"}}}})
    assert isinstance(found["claim"], Text)


def test_texts_that_hold_each_other_twice_cost_no_more_than_their_sentences():
    row = {"text": "x", "forms": ["{n}"], "values": {"n": "x"}}
    for _ in range(60):  # told, its sentence would have 2^60 letters
        row = {"text": "xx", "forms": ["{n}{n}"], "values": {"n": row}}
    assert texts.restored({"claim": "xx", "texts": {"xx": row}}) == {"claim": "xx"}


def test_why_a_run_failed_is_kept_to_be_said_in_any_language(tmp_path):
    error = LockstepError("LS-402", later("it was ended by signal {name}", name="SIGKILL"), where="somewhere", hint="x")
    assert error.text == str(error)
    store.write_status(tmp_path, "failed", error.code, error.text)
    found = store.read_status(tmp_path)
    assert found["reason"] == str(error)
    assert isinstance(found["reason"], Text)
    own = LockstepError("LS-403", "a framework's own words")
    assert not isinstance(own.text, Text), "nobody can say these in another language"


def test_a_status_whose_forms_were_edited_is_not_as_it_was_written(tmp_path):
    store.write_status(tmp_path, "failed", "LS-402", later("it was ended by signal {name}", name="SIGKILL"))
    content = (tmp_path / "status.json").read_text()
    (tmp_path / "status.json").write_text(content.replace('"name": "SIGKILL"', '"name": "SIGTERM"'))
    with pytest.raises(LockstepError, match="not as it was written"):
        store.read_status(tmp_path)


def test_an_event_keeps_its_texts(tmp_path):
    store.append_event(tmp_path / "events.jsonl", {"event": "resumed", "warnings": [JUDGE]})
    (event,) = store.read_events(tmp_path / "events.jsonl")
    assert event.keys() == {"event", "warnings"}
    assert event["warnings"][0].forms == JUDGE.forms
