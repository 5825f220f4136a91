"""Every value of a study and where it comes from: file and line, --set, default."""

from __future__ import annotations

import json

import pytest

from lockstep import cli, resolved_values
from lockstep.spec.records import to_table
from lockstep.study import load_study

STUDY = """\
dataset = "digits"
backends = ["numpy", "jax"]
[recipe]
optimizer = "adam 0.01 beta2=0.99"
epochs = 3
augmentation.shift = 1
schedule = {kind = "step", every = 2}
[grid]
optimizer.learning_rate = [0.1, 0.2]
[networks]
a = ["flatten", "dense 10 bias=false"]
b = "a"
[networks.c]
layers = ["conv2d 2 [5, 3]", {kind = "flatten"}, {kind = "dense", units = 10}]
[recipe_for]
b = {l2 = 0.1}
"""
WANTED = {
    "dataset": "1:1", "backends": "2:1", "seeds": "default", "name": "the file's name",
    "recipe.optimizer.kind": "4:1", "recipe.optimizer.learning_rate": "4:1", "recipe.optimizer.beta1": "default",
    "recipe.optimizer.beta2": "4:1", "recipe.epochs": "5:1", "recipe.batch_size": "default",
    "recipe.augmentation.shift": "6:14", "recipe.augmentation.flip": "default",
    "recipe.schedule.every": "7:28", "recipe.schedule.factor_per_drop": "default",
    "grid.optimizer.learning_rate": "9:11",
    "networks.a.layers[1].units": "11:17", "networks.a.layers[1].bias": "11:17",
    "networks.a.layers[1].bias_initializer.kind": "default", "networks.a.initializer.kind": "default",
    "networks.b.layers[1].units": "11:17", "networks.b.layers[0].order": "default",
    "networks.c.layers[0].kernel": "14:11", "networks.c.layers[0].padding": "default",
    "networks.c.layers[2].units": "14:67", "recipe_for.b.l2": "16:6",
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    (tmp_path / "s.toml").write_text(STUDY)
    return tmp_path / "s.toml"


def sources(path, *settings):
    return {row["key"]: row["source"].removeprefix(f"{path}:") for row in resolved_values(path, settings)}


def test_every_value_has_its_place(path):
    assert {key: source for key, source in sources(path).items() if key in WANTED} == WANTED


def test_every_value_of_the_study_is_there_as_it_is(path):
    rows = resolved_values(path)
    assert len(rows) > 50
    found, wanted = {row["key"]: row["value"] for row in rows}, to_table(load_study(path))
    assert found["recipe.optimizer.beta1"] == wanted["recipe"]["optimizer"]["beta1"] == 0.9
    assert found["networks.c.layers[0].kernel"] == [5, 3]
    assert found["grid.optimizer.learning_rate"] == [0.1, 0.2]


def test_a_setting_goes_before_the_file_and_takes_what_it_replaces_with_it(path):
    found = sources(
        path,
        "recipe.optimizer=sgd 0.1",
        "seeds=[1, 2]",
        "recipe.schedule.every=5",
        "networks.a=['flatten', 'dense 10']",
    )
    assert found["recipe.optimizer.learning_rate"] == found["recipe.optimizer.kind"] == "--set recipe.optimizer"
    assert found["seeds"] == "--set seeds"
    assert (found["recipe.schedule.every"], found["recipe.schedule.kind"]) == ("--set recipe.schedule.every", "7:13")
    assert found["networks.a.layers[1].units"] == found["networks.b.layers[1].units"] == "--set networks.a"
    assert found["networks.a.layers[1].bias"] == "default"
    found = sources(path, "recipe.optimizer=momentum", "recipe.optimizer.momentum=0.5")
    assert found["recipe.optimizer.momentum"] == "--set recipe.optimizer.momentum"
    assert found["recipe.optimizer.learning_rate"] == "default"


def test_a_line_that_moves_moves_in_the_answer(path):
    path.write_text("# a comment\n" + STUDY)
    moved = {key: source for key, source in sources(path).items() if key in WANTED and source != WANTED[key]}
    assert moved["recipe.epochs"] == "6:1"
    assert len(moved) == len([source for source in WANTED.values() if source[0].isdigit()])


def test_the_command_prints_a_table_or_one_document(path, capsys):
    for words in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["show", str(path), "--resolved", "--set", "recipe.epochs=7", "--network", "a", *words])
        assert not ended.value.code
    said = capsys.readouterr().out
    assert "--set recipe.epochs" in said
    rows = json.loads(said[said.index("\n{") :])["values"]
    assert {"key": "recipe.epochs", "value": 7, "source": "--set recipe.epochs"} in rows
    assert not [row for row in rows if row["key"].startswith("networks.c")]
