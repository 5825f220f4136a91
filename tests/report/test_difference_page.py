"""The page of two models told apart: what it says, the graphs it draws, and that nothing of a stranger's runs in it."""

from __future__ import annotations

import re

import pytest

from lockstep import language, report
from lockstep.report.draw import graphs
from lockstep.store.documents.difference import Call, Closing, Difference, Finding, Graph, Remedy, Spot, Stage


def call(layer="", kind="conv", inputs=(-1,), line="net.py:1"):
    return Call(kind=kind, function=f"f.{kind}", layer=layer, line=line, shape=(9, 4, 7), inputs=inputs)


def chain(n, layer="body.{}.conv"):
    return tuple(call(layer.format(place // 6), inputs=(place - 1,), line=f"net.py:{place}") for place in range(n))


def difference(graph=None, findings=(), **fields):
    made = {
        "format": 2, "lockstep": "0", "a": "a/net.py:Net", "b": "b/port.py:build", "frameworks": ("torch", "keras"),
        "verdict": "DIVERGED" if findings else "EQUAL", "findings": findings, "pairs": (("c.weight", "d/kernel"),),
        "left": ((), ("odd",)), "n_matched": 8, "n_tensors": 9, "worst": 0.25, "not_observed": ("data loaders",),
        "input_shape": (4, 7), "n_examples": 9, "weights": "drawn", "seed": 0,
        "stages": (Stage(stage="forward", verdict="EQUAL", equal=8, of=9, what="tensors"),), "graph": graph or Graph(),
    }  # fmt: skip
    return Difference(**made | fields)


def finding(places, **fields):
    spots = tuple(Spot(a="one", b="two", line_a="net.py:3", line_b="port.py:4", call_a=a, call_b=b) for a, b in places)
    told = {"stage": "forward", "cause": "conv: stride is 1 | 2", "off": 0.5, "error": 1e-16}
    return Finding(**told | {"places": spots} | fields)


def page(found, tmp_path):
    return report.write_difference(found, tmp_path / "diff.html").read_text(encoding="utf-8")


def test_verdict_coverage_causes_and_lines_to_write_stand_on_it(tmp_path):
    remedy = Remedy(file="b/port.py", line=4, before="Conv(2)", after="Conv(1)")
    graph = Graph(a=(call("c"),), b=(call("d"),), joined=((0, 0),))
    told = page(difference(graph, [finding([(0, 0)], remedies=[remedy])]), tmp_path)
    for words in ("DIVERGED", "1 difference was found", "conv: stride is 1 | 2", "- Conv(2)", "+ Conv(1)", "port.py:4",
                  "Not looked at", "data loaders", "8 of 9 tensors", "c.weight", "1.0·10⁻¹⁶ is left"):  # fmt: skip
        assert words in told, words
    for stage in ("forward in training", "statistics", "gradients"):
        assert re.search(rf'<th scope="row" class="fit">{stage}</th><td class="l warn">not looked at', told), stage
    assert told.count('class="call') == 2 + told.count('class="calls')


def test_an_equal_pair_and_one_that_could_not_be_compared_say_so(tmp_path):
    assert "no difference was found in what was looked at" in page(difference(), tmp_path)
    none = page(difference(verdict="INCONCLUSIVE", n_matched=0), tmp_path)
    assert "nothing is claimed" in none
    assert "no difference was found" not in none


def test_what_nothing_explains_is_said_with_its_bundle(tmp_path):
    odd = finding([(None, None)], cause="", error=None, bundle="out/unexplained")
    told = page(difference(findings=[odd], worst=None), tmp_path)
    assert "No cause was found: nothing that was tried" in told
    assert "python out/unexplained/reproduce.py" in told
    assert "what lies behind is not known" in told


def test_names_of_a_stranger_run_nothing_and_fetch_nothing(tmp_path):
    graph = Graph(a=(call("<script>alert(1)</script>"),), b=(call('" onload="x'),), joined=((0, 0),))
    told = page(difference(graph, [finding([(0, 0)], cause="<img src=x>")], a="<b>.py:Net"), tmp_path)
    assert "<script" not in told
    assert "<img" not in told
    assert not re.search(r"<[^>]*[\"' ]onload=\"x", told)
    assert not re.search(r"(src|href)=.?(https?:)?//", told)


def test_the_same_calls_share_a_row_and_what_has_no_partner_stands_alone():
    graph = Graph(a=chain(4), b=chain(5), joined=((0, 0), (1, 3), (2, 1), (3, 4)))
    told = [(row.a, row.b, row.is_joined) for row in graphs.rows(graph)]
    assert told in (
        [(0, 0, True), (1, 1, False), (2, 2, False), (None, 3, False), (3, 4, True)],
        [(0, 0, True), (None, 1, False), (None, 2, False), (1, 3, True), (2, None, False), (3, 4, True)],
        [(0, 0, True), (1, None, False), (2, 1, True), (None, 2, False), (None, 3, False), (3, 4, True)],
    )
    assert sorted(row.a for row in graphs.rows(graph) if row.a is not None) == [0, 1, 2, 3]
    assert sorted(row.b for row in graphs.rows(graph) if row.b is not None) == [0, 1, 2, 3, 4]


def test_many_calls_fold_group_by_group_and_what_differs_stays_open():
    graph = Graph(a=chain(120), b=chain(120), joined=tuple((place, place) for place in range(120)))
    blocks = graphs.picture(difference(graph, [finding([(50, 50), (80, 80)])]))
    assert sum(block["n"] for block in blocks) == 120
    shown = [block for block in blocks if not block["summary"]]
    assert any(box["marks"] == [1] for block in shown for box in block["boxes"])
    assert not any(box["marks"] for block in blocks if block["summary"] for box in block["boxes"])
    assert sum(block["n"] for block in shown) < 20
    assert [box["row"] for block in shown for box in block["boxes"] if "first" in box["kinds"]] == [3, 3]
    assert any(block["summary"] == "body.3: 6 calls, the same in both" for block in blocks)
    assert not any(block["summary"] for block in graphs.picture(difference(Graph(a=chain(9), b=chain(9)))))


def test_a_function_that_a_block_calls_itself_stays_in_its_group():
    layers = [f"body.{n}.{part}".removesuffix(".") for n in range(12) for part in ("conv", "norm", "relu", "conv2", "")]
    calls = tuple(call(layer, inputs=(place - 1,)) for place, layer in enumerate(layers))
    graph = Graph(a=calls, b=calls, joined=tuple((place, place) for place in range(len(calls))))
    summaries = [block["summary"] for block in graphs.picture(difference(graph))]
    assert summaries == [f"body.{n}: 5 calls, the same in both" for n in range(12)]


def test_a_shortcut_is_an_arc_and_the_next_call_hangs_below():
    graph = Graph(a=(call("a"), call("b", inputs=(0,)), call("c", inputs=(0, 1))), b=())
    (block,) = graphs.picture(difference(graph))
    assert len(block["arcs"][0]) == 1
    assert [("follows" in box["kinds"]) for box in block["boxes"]] == [False, True, True]
    assert all("no partner" in box["words"] for box in block["boxes"])


def test_a_line_crosses_where_the_order_differs():
    graph = Graph(a=chain(2), b=chain(2), joined=((0, 1), (1, 0)))
    (block,) = graphs.picture(difference(graph))
    assert len(block["wires"]) == 2


@pytest.mark.parametrize("words", ["РАСХОДИТСЯ", "Обе сети рядом", "Не проверено", "найдено 1 различие"])
def test_it_is_in_russian_too(words, tmp_path):
    graph = Graph(a=(call("c"),), b=(call("d"),), joined=((0, 0),))
    with language.speaking("ru"):
        told = page(difference(graph, [finding([(0, 0)])]), tmp_path)
    assert words in told
    assert "Both networks" not in told


def test_why_equal_outputs_prove_nothing_and_what_the_copy_gave_stand_on_it(tmp_path):
    doubt = "the outputs are one number throughout"
    told = page(difference(verdict="INCONCLUSIVE", doubts=(doubt,)), tmp_path)
    assert doubt in told
    assert "nothing is claimed" not in told
    closing = Closing(verdict="DIVERGED", n_written=2, left=("gelu: approximate",))
    told = page(difference(closing=closing, carried=("turned round",)), tmp_path)
    for words in (
        "with 2 remedies written into a copy of the second file: DIVERGED",
        "still: gelu: approximate",
        "weights: turned round",
    ):
        assert words in told, words
    assert "written into a copy" not in page(difference(), tmp_path)
