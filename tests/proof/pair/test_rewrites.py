"""Lines to write instead: another argument, a border, an order of axes; several of one line end in one line."""

from __future__ import annotations

import pytest

from lockstep.proof.pair import rewrites

AROUND = ((0, 1), (2, 3))


def made(tmp_path, source, edit):
    file = tmp_path / "model.py"
    file.write_text(source)
    found = edit(str(file)).made(source)
    return None if found is None else found[0]


@pytest.mark.parametrize(
    ("framework", "source", "kind", "wanted"),
    [
        ("torch", "c = nn.Conv2d(1, 2, 3)\n", "conv",
         "c = nn.Sequential(nn.ZeroPad2d((2, 3, 0, 1)), nn.Conv2d(1, 2, 3, padding=0))\n"),
        ("keras", "import keras\nc = layers.Conv2D(2, 3, padding='same')(x)\n", "conv",
         "import keras\nc = keras.Sequential([layers.ZeroPadding2D(((0, 1), (2, 3))), "
         "layers.Conv2D(2, 3, padding='valid')])(x)\n"),
        ("keras", "import tensorflow as tf\nc = tf.keras.layers.Conv2D(2, 3)\n", "conv",
         "import tensorflow as tf\nc = tf.keras.Sequential([tf.keras.layers.ZeroPadding2D(((0, 1), (2, 3))), "
         "tf.keras.layers.Conv2D(2, 3, padding='valid')])\n"),
        ("linen", "x = nn.Conv(2, (3, 3))(x)\n", "conv", "x = nn.Conv(2, (3, 3), padding=((0, 1), (2, 3)))(x)\n"),
    ],
)  # fmt: skip
def test_a_border_is_an_argument_where_that_can_say_it_and_a_layer_before_it_elsewhere(
    framework, source, kind, wanted, tmp_path
):
    callee = {"torch": "Conv2d", "keras": "Conv2D", "linen": "Conv"}[framework]
    line = source.count("\n")
    names = ("in_channels",)
    assert (
        made(tmp_path, source, lambda f: rewrites.padded(framework, f, line, callee, AROUND, kind, True, names))
        == wanted
    )


def test_a_function_of_torch_pads_what_it_takes_and_a_pool_with_what_is_less_than_all(tmp_path):
    source = "y = F.max_pool2d(x, 3)\n"
    found = made(
        tmp_path, source, lambda f: rewrites.padded("torch", f, 1, "max_pool2d", AROUND, "max_pool2d", False, ())
    )
    assert found == "y = F.max_pool2d(F.pad(x, (2, 3, 0, 1), value=float('-inf')), 3, padding=0)\n"


@pytest.mark.parametrize(
    ("framework", "source", "callee", "wanted"),
    [
        ("torch", "y = self.fc(x.flatten(1))\n", "flatten", "y = self.fc(x.permute(0, 3, 1, 2).flatten(1))\n"),
        ("torch", "y = x.view(9, -1)\n", "view", "y = x.permute(0, 3, 1, 2).reshape(9, -1)\n"),
        ("torch", "import torch\ny = torch.flatten(x, 1)\n", "flatten",
         "import torch\ny = torch.flatten(torch.permute(x, (0, 3, 1, 2)), 1)\n"),
        ("linen", "y = x.reshape(len(x), -1)\n", "reshape", "y = x.transpose(0, 3, 1, 2).reshape(len(x), -1)\n"),
        ("keras", "import keras\ny = layers.Flatten()(x)\n", "Flatten",
         "import keras\ny = keras.Sequential([layers.Permute((3, 1, 2)), layers.Flatten()])(x)\n"),
    ],
)  # fmt: skip
def test_an_image_is_turned_before_it_is_flattened(framework, source, callee, wanted, tmp_path):
    line = source.count("\n")
    assert made(tmp_path, source, lambda f: rewrites.flattened(framework, f, line, callee, (2, 0, 1))) == wanted


@pytest.mark.parametrize(
    ("framework", "source", "wanted"),
    [
        ("torch", "c = nn.ConvTranspose2d(1, 2, 3)\n",
         "c = nn.ConvTranspose2d(1, 2, 3, padding=1, output_padding=1)\n"),
        ("keras", "import keras\nc = layers.Conv2DTranspose(2, 3)\n",
         "import keras\nc = keras.Sequential([layers.Conv2DTranspose(2, 3, padding='valid'), "
         "layers.Cropping2D(((1, 0), (1, 0)))])\n"),
    ],
)  # fmt: skip
def test_a_transposed_convolution_cuts_off_what_it_should(framework, source, wanted, tmp_path):
    callee = "ConvTranspose2d" if framework == "torch" else "Conv2DTranspose"
    line, cut = source.count("\n"), ((-1, 0), (-1, 0))
    assert made(tmp_path, source, lambda f: rewrites.cropped(framework, f, line, callee, cut, None, ())) == wanted


def test_several_edits_of_one_call_end_in_one_line_and_each_is_made_once(tmp_path):
    source = "a = 1\nb = nn.BatchNorm2d(\n    4,\n    eps=1e-3,\n)\nc = nn.Conv2d(1, 2, 3)\n"
    edits = [
        rewrites.argument("f", 2, "BatchNorm2d", "eps", 1e-5),
        rewrites.argument("f", 2, "BatchNorm2d", "momentum", 0.1),
        rewrites.argument("f", 2, "BatchNorm2d", "eps", 1e-5),
        rewrites.padded("torch", "f", 6, "Conv2d", ((0, 1), (0, 1)), "conv", True, ()),
    ]
    text, n = rewrites.edited(source, edits)
    assert n == 3
    assert text == (
        "a = 1\nb = nn.BatchNorm2d(4, eps=1e-05, momentum=0.1)\n"
        "c = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 2, 3, padding=0))\n"
    )


def test_a_call_of_several_lines_is_told_as_one_and_written_over_all_of_them(tmp_path):
    file = tmp_path / "model.py"
    file.write_text("b = nn.BatchNorm2d(\n    4,\n    eps=1e-3,\n)\nc = 1\n")
    remedy = rewrites.rewritten(str(file), 1, "BatchNorm2d", "eps", 1e-5)
    assert (remedy.before, remedy.after, remedy.end) == (
        "b = nn.BatchNorm2d( 4, eps=1e-3, )",
        "b = nn.BatchNorm2d(4, eps=1e-05)",
        4,
    )
    rewrites.written(remedy, file)
    assert file.read_text() == "b = nn.BatchNorm2d(4, eps=1e-05)\nc = 1\n"


def test_a_keyword_of_a_layer_that_is_called_by_its_own_name_is_found_where_one_call_has_it(tmp_path):
    file = tmp_path / "model.py"
    file.write_text("y = self.norm(x, training=True)\nz = f(x, training=1) + g(x, training=2)\n")
    assert rewrites.keyword(str(file), 1, "training", False).remedy().after == "y = self.norm(x, training=False)"
    assert rewrites.keyword(str(file), 2, "training", False) is None
