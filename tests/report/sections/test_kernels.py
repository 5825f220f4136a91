"""Kernels and feature maps are those of the weights that a run ended with; hard images are those that are hard."""

import base64
import dataclasses
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from lockstep import store
from lockstep.backends.weights import initial_weights
from lockstep.errors import LockstepError
from lockstep.report import gather, write_report
from lockstep.report.compare.groups import group
from lockstep.report.draw import figures, pictures, plots
from lockstep.report.draw.diagram import diagram
from lockstep.report.facts import Facts
from lockstep.report.sections import kernels, mistakes
from lockstep.spec import Recipe
from lockstep.spec.toml import read_study
from lockstep.store.documents.run import Layer
from lockstep.training import replay
from support.pages import page_of, words
from support.run_folders import N_TEST, fake_run


def with_weights(folder, seed=3, change=lambda weights: None):
    """Give a made-up run a checkpoint with weights drawn for its network; returns them."""
    (run,) = read_study(folder / "spec.toml").runs()
    weights = initial_weights(run.network, (12, 11, 1), seed)
    change(weights)
    store.write_checkpoint(folder, 5, weights, {})
    return weights


def keep_hardest(folder, n=N_TEST, seed=5):
    """Give a made-up run the images of its test set, or the first n of them."""
    images = np.random.default_rng(seed).integers(0, 256, (n, 12, 11, 1)).astype(np.uint8)
    store.write_npz(folder / "hardest.npz", indices=np.arange(n), images=images)
    return images


def pixels(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def told(root, image=0):
    return gather(store.find_runs([root]), image)["seen"]["networks"]


def test_kernels_are_the_weights_of_the_checkpoint(tmp_path):
    weights = with_weights(fake_run(tmp_path, network="cnn"))
    kernels = told(tmp_path)[0]["kernels"]
    np.testing.assert_allclose(kernels["mosaic"].maps, np.moveaxis(weights["0_conv2d/kernel"][:, :, 0], -1, 0))
    assert kernels["text"].startswith("0_conv2d: all 5 kernels, 3\u00a0×\u00a03 each")
    assert kernels["twin"].rows[1][2] == f"{weights['0_conv2d/kernel'][:, :, 0, 1].max():.4f}"


def test_a_dense_layer_on_an_image_is_drawn_as_images(tmp_path):
    weights = with_weights(fake_run(tmp_path))
    maps = told(tmp_path)[0]["kernels"]["mosaic"].maps
    np.testing.assert_allclose(maps[4], weights["1_dense/kernel"].reshape(12, 11, 31)[..., 4])


def test_feature_maps_are_what_the_layers_make_of_the_chosen_image(tmp_path):
    folder = fake_run(tmp_path, network="cnn")
    weights = with_weights(folder)
    image = store.read_npz(folder / "samples.npz")["images"][1] / 255
    first, second = told(tmp_path, image=1)[0]["maps"]
    assert (first.label[:17], second.label[:13]) == ("0_conv2d + 1_relu", "2_max_pool2d:")
    kernel = weights["0_conv2d/kernel"][:, :, 0, 3]
    by_hand = np.maximum((image[2:5, 4:7, 0] * kernel).sum() + weights["0_conv2d/bias"][3], 0)
    assert first.maps[3, 2, 4] == pytest.approx(by_hand, rel=1e-5)
    np.testing.assert_array_equal(second.maps[3, 1, 2], first.maps[3, 2:4, 4:6].max())
    assert np.abs(told(tmp_path, image=2)[0]["maps"][0].maps - first.maps).max() > 0.1


def test_weights_of_another_network_are_a_named_gap(tmp_path):
    folder = fake_run(tmp_path, network="cnn")
    with_weights(folder, change=lambda weights: weights.update({"0_conv2d/kernel": np.zeros((3, 3, 1, 4), "float32")}))
    (found,) = told(tmp_path)
    assert "its weights are not those of the network: 0_conv2d/kernel" in found["gap"]


def test_a_run_without_a_checkpoint_is_a_named_gap(tmp_path):
    fake_run(tmp_path)
    assert "no checkpoint with its weights can be used" in words(page_of(tmp_path))


def test_a_scaling_that_is_not_known_is_said(tmp_path):
    record = store.Record(fake_run(tmp_path))
    (run,) = store.read_asked(record.folder).runs()
    assert [value.tolist() for value in replay.pixel_scaling(record, run, 1)] == [[0.0], [1 / 255]]
    standard = dataclasses.replace(run, recipe=Recipe(scaling="standard"))
    with pytest.raises(LockstepError, match="it does not say how pixels were scaled"):
        replay.pixel_scaling(record, standard, 1)
    record.environment["dataset"] |= {"pixel_mean": [33.0], "pixel_scale": [0.0125]}
    assert replay.pixel_scaling(record, standard, 1) == ([33.0], [0.0125])


def test_a_mosaic_has_each_map_in_its_place_on_one_scale():
    maps = np.zeros((9, 5, 7))
    maps[8, 4, 6], maps[1, 0, 0] = 2.0, 1.0
    sheet = np.array(pixels(pictures.Mosaic("a", "a", maps).source))
    assert sheet.shape == (2 * 6 - 1, 8 * 8 - 1)
    assert (sheet[6 + 4, 6], sheet[0, 8], sheet[0, 0], sheet[0, 7]) == (254, 127, 0, pictures.GAP)
    signed = pictures.levels(np.array([[[-3.0, 0.0, 3.0]]]))
    assert signed.tolist() == [[[0, 127, 254]]]


def hardest(root):
    (found,) = gather(store.find_runs([root]))["images"]
    return found


def test_the_hardest_images_are_those_with_the_least_probability_of_their_class(tmp_path):
    folder = fake_run(tmp_path, accuracy=0.9)
    images = keep_hardest(folder)
    logits = np.full((N_TEST, 7), -4.0, np.float32)
    labels = np.arange(N_TEST) % 7
    logits[np.arange(N_TEST), labels] = np.linspace(9, 1, N_TEST)  # the later, the less sure
    logits[17] = [0, 0, 0, 30, 0, 0, 0]  # 17 % 7 is 3: surest of all
    logits[30] = [30, 0, 0, 0, 0, 0, 0]  # 30 % 7 is 2: wrong
    store.write_npz(folder / "predictions.npz", logits=logits, labels=labels)
    found = hardest(tmp_path)["hardest"]
    assert [row[1] for row in found["twin"].rows[:3]] == ["30", "210", "209"]
    assert found["twin"].rows[0][2:] == ["two", "< 0.001", "zero", "1.000"]
    assert len(found["sheet"].tiles) == mistakes.SHOWN
    np.testing.assert_array_equal(found["sheet"].tiles[0].image, images[30])
    assert found["sheet"].tiles[0].lines == ("two · < 0.001", "→ zero · 1.000")
    assert found["sheet"].tiles[1].lines[1] == "right"


def test_images_that_were_not_kept_are_counted(tmp_path):
    keep_hardest(fake_run(tmp_path, accuracy=0.5), n=3)
    found = hardest(tmp_path)["hardest"]
    assert found["gap"].endswith("not drawn: not among those that the run kept in hardest.npz, or too large.")
    assert len(found["twin"].rows) == mistakes.SHOWN


def test_images_right_in_one_backend_and_wrong_in_another_are_shown(tmp_path):
    for backend, accuracy in (("numpy", 0.95), ("jax", 0.94)):
        keep_hardest(fake_run(tmp_path, backend=backend, accuracy=accuracy))
    apart = hardest(tmp_path)["apart"]
    # 0.94 · 211 = 198 and 0.95 · 211 = 200 right: images 198 and 199 part the two
    assert [row[0] for row in apart["twin"].rows] == ["198", "199"]
    assert apart["text"].startswith("Two test images of 211 are right in one of numpy and jax and wrong in another")
    assert apart["sheet"].tiles[0].lines == ("two", "✓ two: numpy", "✗ three: jax")


def test_backends_that_answer_alike_have_no_image_apart(tmp_path):
    for backend in ("numpy", "jax"):
        fake_run(tmp_path, backend=backend, accuracy=0.95)
    found = hardest(tmp_path)
    assert found["apart"] is None
    assert found["apart_text"] == "No test image is right in one of numpy and jax and wrong in another (seed 0)."


def test_images_beyond_a_pages_room_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(mistakes, "ROOM", 3000)
    keep_hardest(fake_run(tmp_path, accuracy=0.9))
    found = hardest(tmp_path)["hardest"]
    assert (found["sheet"], found["gap"][:33]) == (None, "Not drawn, for the page’s size: t")
    assert len(found["twin"].rows) == mistakes.SHOWN


def test_missing_predictions_are_a_named_gap(tmp_path):
    (fake_run(tmp_path) / "predictions.npz").unlink()
    assert "predictions.npz: it is missing" in hardest(tmp_path)["gap"]


def test_a_network_is_drawn_with_every_shape_and_its_parameters():
    rows = [
        Layer(name="0_conv2d", output_shape=(26, 26, 6), parameters=60, multiply_adds=1),
        Layer(name="1_relu", output_shape=(26, 26, 6), parameters=0, multiply_adds=0),
        Layer(name="2_flatten", output_shape=(4056,), parameters=0, multiply_adds=0),
        Layer(name="3_dense", output_shape=(10,), parameters=40570, multiply_adds=1),
    ]
    drawn = plots.svg(diagram((28, 28, 1), rows), "a", "a")
    said = " ".join(ElementTree.fromstring(drawn).itertext())  # noqa: S314  # our own drawing
    for text in ("28", "0_conv2d", "60 parameters", "1_relu", "4,056", "40,570 parameters"):
        assert text in said.replace("\u00a0", " "), text


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    folder = fake_run(root, network="cnn")
    with_weights(folder)
    keep_hardest(folder)
    write_report(store.find_runs([root]), root / "report.html", with_figures=True)
    return root


def test_every_figure_lies_beside_the_page_as_svg_and_png(written):
    folder = written / "report-figures"
    contents = json.loads((folder / "figures.json").read_text())["figures"]
    kinds = {"loss0", "accuracy0", "confusion0-0", "confusion0-percent", "hardest0", "kernels0", "maps0-0", "network0"}
    assert kinds | {"times", "balance0"} <= contents.keys()
    assert all(contents.values())
    assert {path.name for path in folder.iterdir()} == {
        "figures.json", *(f"{name}.{ending}" for name in contents for ending in ("svg", "png"))
    }  # fmt: skip
    n_drawn = (written / "report.html").read_text(encoding="utf-8").count("<svg")
    assert n_drawn == len([name for name in contents if not name.startswith(("hardest", "apart", "kernels", "maps"))])
    for name in contents:
        drawing = (folder / f"{name}.svg").read_text(encoding="utf-8")
        ElementTree.fromstring(drawing)  # noqa: S314  # our own drawing
        assert "currentColor" not in drawing
        assert "var(" not in drawing
        with Image.open(folder / f"{name}.png") as image:
            assert image.width > 200, name


def test_figures_of_an_earlier_page_go_and_other_files_stay(written):
    folder = figures.folder_of(written / "report.html")
    (folder / "mine.png").write_bytes(b"mine")
    figures.write({"only": plots.svg(plots.class_balance(["a"], [1]), "one class", "only")}, written / "report.html")
    assert sorted(path.name for path in folder.iterdir()) == ["figures.json", "mine.png", "only.png", "only.svg"]


def test_too_many_networks_are_named_and_not_seen(tmp_path):
    for place in range(kernels.MAX_GROUPS + 1):
        fake_run(tmp_path, rate=1e-3 * (place + 1))
    found = kernels.section(group([Facts(record) for record in store.find_runs([tmp_path])]), 0)
    assert len(found["networks"]) == kernels.MAX_GROUPS
    assert len(found["left_out"]) == 1
    assert "learning_rate 0.009" in found["left_out"][0]
