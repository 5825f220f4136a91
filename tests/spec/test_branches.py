"""Blocks of layers: branches that part and join, layers that are repeated; their rows, and what is refused."""

from __future__ import annotations

import pytest

from lockstep import Add, Concat, Network, Parallel, Repeat, Residual
from lockstep.errors import LockstepError
from lockstep.spec import INPUT
from lockstep.spec.records import to_table
from lockstep.spec.toml import parse_study, resolved_toml

IMAGE = (11, 13, 3)
NESTED = Network([
    "conv2d 4 3 2",
    Residual(["conv2d 4 3 padding=same", Parallel(["tanh", ["conv2d 2 1", "conv2d 4 1"]], "add")]),
    Repeat(2, [Residual("relu", join=Concat())]),
    {"residual": ["flatten", "dense 5"], "shortcut": ["global_avg_pool", "dense 5"]},
])  # fmt: skip
ROWS = {
    "0_conv2d": ((INPUT,), (5, 6, 4), "layers[0]"),
    "1_conv2d": (("0_conv2d",), (5, 6, 4), "layers[1].layers[0]"),
    "2_tanh": (("1_conv2d",), (5, 6, 4), "layers[1].layers[1].branches[0][0]"),
    "3_conv2d": (("1_conv2d",), (5, 6, 2), "layers[1].layers[1].branches[1][0]"),
    "4_conv2d": (("3_conv2d",), (5, 6, 4), "layers[1].layers[1].branches[1][1]"),
    "5_add": (("2_tanh", "4_conv2d"), (5, 6, 4), "layers[1].layers[1]"),
    "6_add": (("5_add", "0_conv2d"), (5, 6, 4), "layers[1]"),
    "7_relu": (("6_add",), (5, 6, 4), "layers[2].layers[0].layers[0]"),
    "8_concat": (("7_relu", "6_add"), (5, 6, 8), "layers[2].layers[0]"),
    "9_relu": (("8_concat",), (5, 6, 8), "layers[2].layers[0].layers[0]"),
    "10_concat": (("9_relu", "8_concat"), (5, 6, 16), "layers[2].layers[0]"),
    "11_flatten": (("10_concat",), (480,), "layers[3].layers[0]"),
    "12_dense": (("11_flatten",), (5,), "layers[3].layers[1]"),
    "13_global_avg_pool": (("10_concat",), (16,), "layers[3].shortcut[0]"),
    "14_dense": (("13_global_avg_pool",), (5,), "layers[3].shortcut[1]"),
    "15_add": (("12_dense", "14_dense"), (5,), "layers[3]"),
}


def test_blocks_are_laid_out_into_rows_that_name_what_they_take_in():
    assert {row.name: (row.inputs, row.output_shape, row.where) for row in NESTED.facts(IMAGE)} == ROWS


def test_a_summary_names_inputs_where_they_are_not_the_row_before_alone():
    summary = NESTED.summary(IMAGE)
    named = {row["name"]: row["inputs"] for row in summary["network"] if "inputs" in row}
    before = dict(zip(ROWS, [INPUT, *ROWS], strict=False))
    assert named == {name: inputs for name, (inputs, _, _) in ROWS.items() if inputs != (before[name],)}
    assert "inputs" not in str(Network(["flatten", "dense 5"]).summary(IMAGE))
    assert summary["parameters"] == sum(row.parameters for row in NESTED.facts(IMAGE))


def test_a_join_has_seen_what_any_of_its_branches_has():
    ways = {"parallel": [["conv2d 4 3 padding=same", "conv2d 4 5 padding=same"], "conv2d 4 [1, 9] padding=same"]}
    rows = Network([ways, "conv2d 2 3"]).facts((28, 28, 1))
    assert [row.receptive_field for row in rows] == [(3, 3), (7, 7), (1, 9), (7, 9), (9, 11)]


def test_every_way_of_writing_a_block_gives_one_record():
    short = [
        '{residual = ["relu"], shortcut = "tanh"}',
        '{parallel = ["relu", ["tanh"]]}',
        '{repeat = 2, layers = "relu"}',
    ]
    long = [
        '{kind = "residual", layers = ["relu"], shortcut = ["tanh"], join = {kind = "add"}}',
        '{kind = "parallel", branches = [["relu"], ["tanh"]], join = "concat"}',
        '{kind = "repeat", times = 2, layers = ["relu"]}',
    ]  # fmt: skip
    python = [Residual(["relu"], "tanh", Add()), Parallel(["relu", "tanh"]), Repeat(2, "relu")]
    for texts in (short, long):
        study = parse_study(f"[networks]\na = [{', '.join(texts)}]")
        assert study.networks["a"].layers == tuple(python)
        assert parse_study(resolved_toml(study)) == study
    assert Network(**to_table(NESTED)) == NESTED


def test_layers_are_changed_by_their_key_and_the_rest_stays():
    places = []
    same = NESTED.with_layers(lambda where, layer: places.append(where) or layer)
    assert same == NESTED
    assert set(places) == {row.where for row in NESTED.facts(IMAGE)}
    other = NESTED.with_layers(lambda where, layer: Add(others=0.0) if where == "layers[1].layers[1]" else layer)
    changed = [
        row.name for row, old in zip(other.facts(IMAGE), NESTED.facts(IMAGE), strict=True) if row.layer != old.layer
    ]
    assert changed == ["5_add"]
    assert [layer.kind for layer in Network([{"repeat": 2, "layers": [{"residual": ["relu"]}]}]).every_layer()] == [
        "relu"
    ]


def refused(*layers):
    with pytest.raises(LockstepError) as caught:
        Network([*layers]).facts((28, 28, 1))
    return [(problem.code, problem.where, str(problem.message), str(problem.hint)) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("block", "where", "message", "hint"),
    [
        ({"residual": ["conv2d 3 3 2 same"]}, "layers[0]", "14×14×3 and 28×28×1", '"conv2d 3 1 2 padding=same'),
        ({"residual": ["conv2d 3 1"]}, "layers[0]", "28×28×3 and 28×28×1", '"conv2d 3 1 padding=same bias=false"'),
        ({"residual": ["conv2d 1 3"]}, "layers[0]", "26×26×1 and 28×28×1", "padding=same"),
        ({"residual": ["flatten"]}, "layers[0]", "784 and 28×28×1", "flatten or global_avg_pool"),
        ({"parallel": ["conv2d 3 1 2", "relu"]}, "layers[0]", "14×14×3 and 28×28×1", '"conv2d 3 1 2 padding=same'),
        ({"repeat": 9, "layers": ["conv2d 2 5"]}, "layers[0].layers[0]", "5×5 window is larger", ""),
        ({"residual": ["relu", "dense 3"]}, "layers[0].layers[1]", "put flatten before it", ""),
        ({"repeat": 1000, "layers": ["relu"] * 3}, "layers[0].layers[2]", "more than 2,000 layers", "repeat fewer"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place_and_what_would(block, where, message, hint):
    ((code, place, said, advice),) = refused(block)
    assert (code, place) == ("LS-206", where)
    assert message in said
    assert hint in advice


@pytest.mark.parametrize("shapes", [("conv2d 3 3 2 same", "2"), ("conv2d 5 [3, 1] [1, 2] same", "[1, 2]")])
def test_what_is_advised_fits(shapes):
    way, _stride = shapes
    ((*_, advice),) = refused({"residual": [way]})
    layer = str(advice).partition('["')[2].partition('"]')[0]
    assert Network([{"residual": [way], "shortcut": [layer]}]).facts((28, 28, 1))


def test_everything_that_does_not_fit_is_told_at_once():
    found = refused({"residual": ["conv2d 3 3"]}, {"parallel": [["dense 3"], "conv2d 3 40"]}, "flatten")
    assert [where for _, where, _, _ in found] == [
        "layers[0]", "layers[1].branches[0][0]", "layers[1].branches[1][0]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("block", "where", "words"),
    [
        ('{parallel = [["relu"]]}', "parallel", "it has 1, and needs at least 2"),
        ('{parallel = [["relu"], []]}', "parallel[1]", "it is empty"),
        ("{residual = []}", "residual", "it is empty"),
        ('{repeat = 0, layers = ["relu"]}', "repeat", "0 is out of range"),
        ("{repeat = 2}", "", "is required"),
        ('{residual = ["relu"], join = "mean"}', "join", "unknown kind"),
        ('{residual = ["relu"], layers = ["relu"]}', "", "given twice"),
        ('{residual = ["relu", "dense"]}', "residual[1]", "is required"),
    ],
)
def test_a_block_that_cannot_be_is_refused_on_its_line(block, where, words):
    text = f'[networks]\na = [\n    "relu",\n    {block},\n]'
    with pytest.raises(LockstepError) as caught:
        parse_study(text)
    (problem,) = caught.value.problems
    assert problem.where.startswith(":4:"), problem
    if where:
        line = text.splitlines()[3]
        column = int(problem.where.split(":")[2])
        key = where.partition("[")[0]
        assert column > line.index(key)
    assert words in str(problem.message)


def test_all_of_them_at_once():
    blocks = ['{parallel = [["relu"]]}', "{residual = []}", '{repeat = 0, layers = ["relu"]}']
    with pytest.raises(LockstepError) as caught:
        parse_study(f"[networks]\na = [{', '.join(blocks)}]")
    assert len(caught.value.problems) == 3
