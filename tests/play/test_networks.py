"""The forward pass of the page's script is the judge's, layer by layer; in Node, for it needs no browser."""

import json

import numpy as np
import pytest

from lockstep import parse_study, store
from lockstep.errors import LockstepError
from lockstep.play import examples, networks
from lockstep.play.arrays import packed
from lockstep.spec import JOINS, LAYERS
from support.playing import EVERYTHING, as_played, in_node, run_to_play, toml
from support.run_folders import amend, fake_run

TOLERANCE = 1e-10  # of the layer's largest value

FORWARD = """
const run = await BUILD(given.run), images = await unpacked(given.images), size = sizeOf(run.shape);
return Array.from({length: images.length / size}, (_, n) =>
  Object.fromEntries([...forward(run, images.subarray(n * size, (n + 1) * size))].map(([name, y]) => [name, [...y]])));
"""


def worst(one: networks.Played, images: np.ndarray, found: list[dict[str, list[float]]]) -> tuple[float, str]:
    """How far the page's values are from the judge's, by the layer's largest value, and in which layer."""
    wanted = one.judge.activations(images, False)
    assert [*found[0]] == [*wanted], "the layers, in order"
    return max(
        (float(np.abs(np.array(values[name]) - y[place].ravel()).max() / np.abs(y).max()), name)
        for place, values in enumerate(found)
        for name, y in wanted.items()
    )


def computed(one: networks.Played, images: np.ndarray, planted=()) -> list[dict[str, list[float]]]:
    return in_node(FORWARD, {"run": one.document(), "images": packed(images)}, planted)


def rows_of(layers):
    study = parse_study(f'dataset = "digits"\nbackends = ["numpy"]\n[networks]\nnet = {toml(layers)}')
    return study.networks["net"].facts((12, 11, 2))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    root = tmp_path_factory.mktemp("toys")
    return {name: as_played(run_to_play(root, layers, name=name)) for name, layers in EVERYTHING.items()}


def images_of(one: networks.Played) -> np.ndarray:
    return one.record.arrays("samples")["images"]


def test_every_kind_of_layer_is_played_and_tried():
    assert networks.KINDS.keys() == LAYERS.keys() | JOINS.keys()
    tried = {row.layer.kind for layers in EVERYTHING.values() for row in rows_of(layers)}
    assert tried == networks.KINDS.keys()


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_layer_is_the_judges(toys, name):
    one = toys[name]
    off, layer = worst(one, images_of(one), computed(one, images_of(one)))
    assert off <= TOLERANCE, layer


def test_weights_in_double_precision_stay_so(tmp_path):
    one = as_played(run_to_play(tmp_path, EVERYTHING["flat"], dtype="float64"))
    assert one.document()["numbers"]["type"] == "float64"
    off, layer = worst(one, images_of(one)[:2], computed(one, images_of(one)[:2]))
    assert off <= TOLERANCE, layer


@pytest.mark.parametrize(
    ("name", "before", "after", "layer"),
    [
        ("images", "to = (i * wide + j) *", "to = (j * high + i) *", "0_conv2d"),  # a kernel turned around
        ("images", "sums.fill(0);\n        const top = row * down - layer.padding[0][0]",
         "sums.fill(0);\n        const top = row * down - layer.padding[0][1]", "3_conv2d"),
        ("images", "running_variance[channel], channel", "1, channel", "1_batch_norm"),
        ("images", "layer.count_padding ?", "!layer.count_padding ?", "9_avg_pool2d"),
        ("images", 'layer.order !== "chw"', 'layer.order === "chw"', "14_flatten"),
        ("flat", "x[i], at = i * units;", "x[i], at = (i + 1) % x.length * units;", "1_dense"),
        ("branches", "rest += x[index]", "rest -= x[index]", "_add"),
        ("branches", "order.reverse();", "order.sort();", "_concat"),
        ("branches", "value: first * layer.first +", "value: xs[0][index] * layer.first +", "_add"),
        ("pooled", "Math.log1p(Math.exp(-Math.abs(x)))", "Math.log1p(Math.exp(-Math.abs(x))) + 1e-6", "1_softplus"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found_in_its_layer_by_the_page_itself(toys, name, before, after, layer):
    one, n = toys[name], 3
    given = {
        "run": one.document(),
        "images": packed(images_of(one)[:n]),
        "wanted": examples.document(one, images_of(one)[:n]),
    }
    body = """
    const run = await BUILD(given.run), images = await unpacked(given.images), size = sizeOf(run.shape);
    return given.wanted.map((wanted, n) => firstWrong(run, images.subarray(n * size, (n + 1) * size), wanted));
    """
    assert in_node(body, given) == [None] * n
    assert any(str(one).endswith(layer) for one in in_node(body, given, [(before, after)]))


def test_a_weight_that_was_changed_is_found(toys):
    one = toys["flat"]
    document = one.document()
    numbers = networks.row_of(one.parameters)
    numbers[5] += np.float32(1e-4)
    given = {
        "run": document | {"numbers": packed(numbers)},
        "images": packed(images_of(one)),
        "wanted": examples.document(one, images_of(one)),
    }
    body = """
    const run = await BUILD(given.run), images = await unpacked(given.images), size = sizeOf(run.shape);
    return given.wanted.map((wanted, n) => firstWrong(run, images.subarray(n * size, (n + 1) * size), wanted));
    """
    found = in_node(body, given)
    assert None not in found
    assert set(found) == {next(iter(one.parameters)).partition("/")[0]}


SLOPES = """
const run = await BUILD(given.run), pixels = Float64Array.from(given.pixels), step = 1e-4;
const slopes = gradient(run, forward(run, pixels), 3), at = (place, by) => {
  const other = pixels.slice();
  other[place] += by;
  return logitsOf(run, forward(run, other))[3];
};
return [[...slopes], [...pixels.keys()].map(place => (at(place, step) - at(place, -step)) / (2 * step))];
"""


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_gradient_is_what_central_differences_give(toys, name):
    one = toys[name]
    pixels = images_of(one)[1].ravel() + np.random.default_rng(1).random(images_of(one)[1].size)  # no two are equal
    slopes, differences = map(np.array, in_node(SLOPES, {"run": one.document(), "pixels": pixels.tolist()}))
    assert np.abs(slopes).max() > 0
    np.testing.assert_allclose(slopes, differences, atol=1e-5 * np.abs(slopes).max())


EXPLAINED = """
const run = await BUILD(given.run), values = forward(run, Float64Array.from(given.pixels)), found = {};
for (const layer of run.layers) {
  const x = takenBy(layer, values), y = values.get(layer.name);
  found[layer.name] = [...y.keys()].filter(at => {
    const {value, terms} = LAYERS[layer.kind].explain(layer, x, y, at), from = layer.from.length > 1 ? x : [x];
    return !Object.is(value, y[at]) || terms.some(term => term.x !== from[term.which || 0][term.at]);
  });
}
return found;
"""


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_arithmetic_of_every_value_is_the_layers_value_to_the_last_bit(toys, name):
    one = toys[name]
    given = {"run": one.document(), "pixels": images_of(one)[0].ravel().tolist()}
    assert in_node(EXPLAINED, given) == {row.name: [] for row in one.rows}
    planted = [("return added(terms, bias ? bias[f] : null);", "return added(terms.reverse(), bias ? bias[f] : null);")]
    if name != "flat":
        assert in_node(EXPLAINED, given, planted)[one.rows[0].name], "a sum in another order is another one"


FIELD = """
const run = await BUILD(given.run), pixels = Float64Array.from(given.pixels);
const before = forward(run, pixels).get(given.name), [height, width, channels] = run.shape, moved = [];
for (let at = 0; at < height * width; at++) {
  const other = pixels.slice();
  for (let channel = 0; channel < channels; channel++) other[at * channels + channel] += 50;
  if (forward(run, other).get(given.name)[given.index] !== before[given.index]) moved.push(at);
}
return [[...receptiveField(run, given.name, given.index)].sort((a, b) => a - b), moved];
"""


def test_the_receptive_field_is_what_a_value_depends_on(tmp_path):
    one = as_played(run_to_play(tmp_path, ["conv2d 3 3", "tanh", "avg_pool2d 2", "conv2d 4 2", "flatten", "dense 7"]))
    pixels = images_of(one)[0].ravel().tolist()
    for name, index in (("0_conv2d", 0), ("2_avg_pool2d", 31), ("3_conv2d", 25), ("5_dense", 2)):
        field, moved = in_node(FIELD, {"run": one.document(), "pixels": pixels, "name": name, "index": index})
        assert field == moved, name
        assert 0 < len(field) <= 12 * 11


# ---------------------------------------------------------------------------------------------------- what is refused


def refused(folder) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        as_played(folder)
    return caught.value


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    error = refused(fake_run(tmp_path, status="failed"))
    assert error.code == "LS-505"
    assert "the run is not finished" in str(error)
    assert "lockstep resume" in str(error)


def test_a_run_without_weights_or_with_damaged_ones_is_refused(tmp_path):
    assert "no checkpoint with its weights can be used" in str(refused(fake_run(tmp_path)))
    folder = run_to_play(tmp_path, EVERYTHING["flat"])
    path = folder / "checkpoint-1" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert refused(folder).code == "LS-505"


def test_weights_that_diverged_are_refused(tmp_path):
    folder = run_to_play(tmp_path, EVERYTHING["flat"])
    weights, state = store.read_checkpoint(folder / "checkpoint-1")
    weights["1_dense/kernel"][0, 0] = np.nan
    store.write_checkpoint(folder, 1, weights, state)
    assert "not finite" in str(refused(folder))


def test_a_prediction_that_is_made_in_another_way_is_refused(tmp_path):
    for recipe in ('epochs = 1\nproducts = "bfloat16"', 'epochs = 1\nmistakes = ["prediction_in_training_mode"]'):
        folder = run_to_play(tmp_path, EVERYTHING["flat"], recipe=recipe, study=f"s{len(recipe)}")
        assert refused(folder).code == "LS-207", recipe


def test_a_network_that_is_too_slow_for_a_page_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "LONGEST", 1000)
    error = refused(run_to_play(tmp_path, EVERYTHING["flat"]))
    assert error.code == "LS-207"
    assert "multiply-adds" in str(error)


def test_a_layer_that_the_page_does_not_compute_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "KINDS", {kind: row for kind, row in networks.KINDS.items() if kind != "layer_norm"})
    assert "4_layer_norm" in str(refused(run_to_play(tmp_path, EVERYTHING["flat"])))


def test_a_run_that_lost_its_shape_is_refused(tmp_path):
    folder = run_to_play(tmp_path, EVERYTHING["flat"])
    amend(folder, "environment.json", lambda found: found["dataset"].pop("shape"))
    assert "dataset.shape" in str(refused(folder))


def test_documents_are_json(toys):
    json.dumps([one.document() for one in toys.values()], allow_nan=False)
