"""The figures hold the values that they were given, and their SVG fits into a page."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex

from lockstep.report.draw import lettering, plots
from lockstep.spec import Study
from lockstep.store.documents.part import but
from lockstep.store.documents.run import Epoch

EPOCHS = 11


def history(offset=0.0, epochs=EPOCHS):
    rows = range(1, epochs + 1)
    return [Epoch(epoch=e, train_loss=1 / e + offset, test_loss=1.2 / e, test_accuracy=1 - 0.3 / e) for e in rows]


def line_values(figure, colour):
    (axes,) = figure.axes
    return [np.asarray(line.get_ydata()) for line in axes.lines if to_hex(line.get_color()) == colour]


def test_every_known_backend_has_its_own_colour_and_marker():
    looks = plots.looks(["torch", "mlx", "a\nb"])
    known = [looks[name] for name in Study.backends]
    assert len({colour for colour, _ in looks.values()}) == len(looks)
    assert len({marker for _, marker in looks.values()}) == len(looks)
    assert plots.looks(["jax"])["jax"] == known[-1]


def test_backends_stand_in_the_order_of_a_study():
    assert plots.backend_order({"mlx", "jax", "numpy"}) == ["numpy", "jax", "mlx"]


def test_curves_hold_the_values_of_each_split():
    figure = plots.curves({"torch": [history(0.5)], "numpy": [history()]}, "loss")
    train, test = line_values(figure, plots.BLUE)
    np.testing.assert_array_equal(train, [row.train_loss for row in history()])
    np.testing.assert_array_equal(test, [row.test_loss for row in history()])
    assert len(line_values(figure, plots.VERMILLION)) == 2


def test_accuracy_is_in_percent():
    (accuracy,) = line_values(plots.curves({"jax": [history()]}, "accuracy"), plots.PURPLE)
    assert accuracy[0] == pytest.approx(70)


def brackets(figure):
    return [list(line.get_ydata()) for line in figure.axes[0].lines if line.get_gid() == "gap"]


def test_the_bracket_stands_between_training_and_test_values_that_are_like_with_like():
    alike = [but(row, train_inference_loss=0.3 / row.epoch, train_inference_accuracy=0.9) for row in history()]
    figure = plots.curves({"numpy": [alike]}, "loss")
    np.testing.assert_allclose(line_values(figure, plots.BLUE)[0], [0.3 / e for e in range(1, EPOCHS + 1)])
    assert brackets(figure) == [pytest.approx([0.3 / EPOCHS, 0.3 / EPOCHS, 1.2 / EPOCHS, 1.2 / EPOCHS])]


def test_without_values_that_are_like_with_like_there_is_no_bracket():
    """Steps with dropout stand on one side, a network without it on the other: their difference is no gap."""
    alike = [but(row, train_inference_loss=0.3, train_inference_accuracy=0.9) for row in history()]
    assert brackets(plots.curves({"numpy": [history()]}, "loss")) == []
    assert brackets(plots.curves({"numpy": [alike], "torch": [history()]}, "loss")) == []


def test_several_seeds_are_a_median_with_a_band():
    figure = plots.curves({"numpy": [history(0.0), history(0.1), history(0.5)]}, "loss")
    np.testing.assert_allclose(line_values(figure, plots.BLUE)[0], [1 / e + 0.1 for e in range(1, EPOCHS + 1)])
    (band, _) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((1 / EPOCHS, 1.5))


def test_equal_lines_have_markers_at_different_epochs():
    figure = plots.curves({name: [history()] for name in Study.backends}, "accuracy")
    marked = [
        set(range(EPOCHS)[slice(line.get_markevery()[0], None, line.get_markevery()[1])])
        for line in figure.axes[0].lines
    ]
    assert all(marked)
    assert sum(map(len, marked)) == len(set().union(*marked))


def test_a_missing_value_is_a_gap_in_the_line():
    rows = history()
    rows[3], rows[5] = but(rows[3], test_accuracy=None), but(rows[5], test_accuracy=float("nan"))
    (values,) = line_values(plots.curves({"numpy": [rows]}, "accuracy"), plots.BLUE)
    assert list(np.flatnonzero(~np.isfinite(np.ma.filled(values, np.nan)))) == [3, 5]


@pytest.mark.parametrize("rows", [[], [[]], [[Epoch(epoch=1, test_loss=None)]], [history(epochs=1)]])
def test_little_or_nothing_to_draw_is_a_figure_still(rows):
    assert "<svg" in plots.svg(plots.curves({"numpy": rows}, "loss"), "loss", "a")


def test_long_histories_are_thinned_and_keep_their_end():
    (_, test) = line_values(plots.curves({"numpy": [history(epochs=3001)]}, "loss"), plots.BLUE)
    assert len(test) <= plots.MAX_POINTS + 1
    assert test[-1] == 1.2 / 3001


@pytest.mark.parametrize("losses", [(1, 1.7e308), (-1e308, 1e308), (1e-320, 1), (0, 1e99), (1, 1e38, None)])
def test_a_diverged_network_can_be_drawn(losses):
    rows = [Epoch(epoch=epoch, test_loss=loss) for epoch, loss in enumerate(losses, 1)]
    assert "<svg" in plots.svg(plots.curves({"numpy": [rows]}, "loss"), "loss", "a")


def test_losses_over_many_magnitudes_get_a_logarithmic_axis():
    assert plots.curves({"numpy": [history(epochs=300)]}, "loss").axes[0].get_yscale() == "log"
    assert plots.curves({"numpy": [history()]}, "loss").axes[0].get_yscale() == "linear"


GROWN = {"numpy": [0.0, 3e-8, 1e-7], "torch": [2e-8, None, 5e-8]}


def drawn(figure):
    """Colour → heights, of every line."""
    return {to_hex(line.get_color()): list(line.get_ydata()) for line in figure.axes[0].lines}


def test_growth_holds_the_differences_of_each_backend_and_of_rounding_alone():
    figure = plots.growth(GROWN, ("NumPy in float32", [1e-8, 2e-8, 3e-8]), "loss")
    lines = drawn(figure)
    assert lines[plots.BLUE][1:] == [3e-8, 1e-7]
    assert lines[plots.GREY] == [1e-8, 2e-8, 3e-8]
    assert figure.axes[0].get_yscale() == "log"
    assert "NumPy in float32" in plots.svg(figure, "growth", "p")


def labels_by_place(figure):
    axes = figure.axes[0]
    return dict(zip(axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()], strict=True))


def test_a_difference_of_zero_lies_on_the_floor_that_is_called_zero():
    figure = plots.growth(GROWN, None, "loss")
    floor = drawn(figure)[plots.BLUE][0]
    assert labels_by_place(figure)[floor] == "0"
    assert floor < 1e-8


def test_without_a_zero_no_place_is_called_zero():
    figure = plots.growth({"torch": [2e-8, 5e-8]}, None, "loss")
    assert "0" not in labels_by_place(figure).values()
    assert labels_by_place(figure)[1e-8] == "10⁻⁸"


def test_a_step_that_was_not_observed_is_a_gap_and_lone_steps_are_marked():
    (line,) = plots.growth({"torch": [2e-8, None, 5e-8, 6e-8]}, None, "weights").axes[0].lines
    assert list(np.isnan(line.get_ydata())) == [False, True, False, False]
    long = [1e-8] * 30 + [None, 7e-8, None]
    (line,) = plots.growth({"torch": long}, None, "weights").axes[0].lines
    assert 31 in line.get_markevery()
    assert 7e-8 not in drawn(plots.growth({"torch": long[:30]}, None, "weights"))[plots.VERMILLION]


@pytest.mark.parametrize(
    "values", [[], [None], [0.0], [0.0] * 7, [1e-320, 1.0], [1e308, 1e-308], [3e-8], [1e-17, 1e99, None, 0.0]]
)
def test_any_growth_can_be_drawn(values):
    for alone in (None, ("the judge in another order of summation", values)):
        assert "<svg" in plots.svg(plots.growth({"jax": values}, alone, "weights"), "growth", "p")


def test_a_long_growth_is_thinned_and_keeps_its_end():
    (line,) = plots.growth({"jax": [1e-8 * (n + 1) for n in range(3001)]}, None, "loss").axes[0].lines
    assert len(line.get_xdata()) <= plots.MAX_POINTS + 1
    assert line.get_xdata()[-1] == 3000


def test_a_confusion_matrix_shows_its_counts_where_they_are():
    counts = np.array([[7, 2, 0], [0, 5, 3], [1, 0, 11]])
    axes = plots.confusion(counts, ["a", "b", "c"]).axes[0]
    shown = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert shown == {tuple(place): str(counts[tuple(place)]) for place in np.argwhere(counts).tolist()}
    tints = np.asarray(axes.images[0].get_array())
    assert tints[0, 2, 3] == 0  # nothing there, nothing drawn
    assert tints[1, 2, 3] > tints[0, 1, 3] > 0  # more errors, more tint


def test_matrices_may_share_one_scale():
    counts = np.array([[7, 2], [0, 5]])
    alone, shared = (plots.confusion(counts, ["a", "b"], most).axes[0].images[0].get_array() for most in (None, 20))
    assert shared[0, 1, 3] < alone[0, 1, 3]


def test_stacked_clocks_end_at_their_sum():
    figure = plots.clocks([("mlp · numpy", {"import": 1.5, "build": None, "train": 3.0}), ("mlp · jax", {})])
    assert [text.get_text() for text in figure.axes[0].texts] == ["4.5 s", "0 s"]


def test_class_balance_has_a_bar_for_every_class():
    figure = plots.class_balance(["a", "b", "c"], [5, 17, 2])
    assert [bar.get_bbox().width for bar in figure.axes[0].patches] == [5, 17, 2]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------- into a page


def drawing(names=("a", "b"), prefix="p", label="label"):
    return plots.svg(plots.confusion(np.array([[3, 1], [0, 2]]), names), label, prefix)


def test_svg_is_the_same_twice_and_has_no_date():
    assert drawing() == drawing()
    assert not re.search(r"20\d\d-|http|<metadata|<style|<!--", drawing())


def test_svg_is_well_formed_and_says_what_it_shows():
    root = ElementTree.fromstring(drawing(label='1 < 2 & "so"'))  # noqa: S314  # our own drawing
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == '1 < 2 & "so"'


def test_svg_text_stays_text_in_the_colour_of_the_page():
    assert re.search(r"<text[^>]*fill: currentColor[^>]*>Predicted</text>", drawing())
    assert plots.INK not in drawing()


def test_two_drawings_share_no_identifier():
    one, other = (set(re.findall(r' id="([^"]+)"', drawing(prefix=prefix))) for prefix in ("p", "q"))
    assert one
    assert not one & other


@pytest.mark.parametrize(
    "name", ["$x", "$\\frac$", "<script>", 'a" id="b', "漢字", "\x07\n", "-->", "ab" * 40, '#010203 d="M 1.23456"']
)
def test_any_class_name_can_be_drawn(name):
    root = ElementTree.fromstring(drawing(names=(name, "b")))  # noqa: S314  # our own drawing
    texts = [text.text for text in root.iter() if text.tag == "text"]
    assert lettering.named([name], 12)[0] in [text or "" for text in texts]


def test_png_is_the_image():
    import base64
    import io

    from PIL import Image

    for channels in (1, 3):
        image = np.random.default_rng(1).integers(0, 256, (5, 7, channels)).astype(np.uint8)
        head, data = plots.png(image).split(",")
        assert head == "data:image/png;base64"
        back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        np.testing.assert_array_equal(back.reshape(image.shape), image)
