"""A network drawn layer by layer: ways past other layers are lines that no two share."""

from __future__ import annotations

import pytest

from lockstep.report.draw.diagram import diagram, said
from lockstep.spec import Network
from lockstep.store.documents.run import Layer

IMAGE = (8, 8, 1)
CHAIN = ["conv2d 4 3 padding=same", "relu", "flatten", "dense 5"]
RESIDUAL = ["conv2d 4 3 padding=same", {"residual": ["conv2d 4 3 padding=same", "relu"]}, "flatten", "dense 5"]
TWO_WAYS = ["conv2d 4 1", {"residual": ["conv2d 4 3 2 same"], "shortcut": ["conv2d 4 1 2 same"]}, "flatten", "dense 5"]
THREE_WAYS = [{"parallel": ["conv2d 4 1", ["tanh", "conv2d 4 3 padding=same"], "max_pool2d 2 1 same"]}, *CHAIN[2:]]


def rows_of(layers):
    return [Layer(**row) for row in Network(layers).summary(IMAGE)["network"]]


def lines_of(figure):
    """Each way's x and its ends' y; arrows from a shape to the next are annotations."""
    (axes,) = figure.axes
    return [(float(line.get_xdata()[1]), *map(float, sorted(line.get_ydata()[::2]))) for line in axes.lines]


@pytest.mark.parametrize(("layers", "n"), [(CHAIN, 0), (RESIDUAL, 1), (TWO_WAYS, 2), (THREE_WAYS, 4)])
def test_every_way_past_other_layers_is_drawn_on_a_lane_of_its_own(layers, n):
    lines = lines_of(diagram(IMAGE, rows_of(layers)))
    assert len(lines) == n
    for place, (x, top, bottom) in enumerate(lines):
        assert top < bottom
        for other, its_top, its_bottom in lines[place + 1 :]:
            assert x != other or bottom <= its_top or its_bottom <= top


def test_a_screen_reader_says_what_a_join_takes_in():
    text = said("net", IMAGE, rows_of(RESIDUAL))
    assert "3_add 8\u00a0×\u00a08\u00a0×\u00a04 of 2_relu and 0_conv2d" in text
    assert " of " not in said("net", IMAGE, rows_of(CHAIN))
