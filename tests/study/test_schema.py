"""The JSON Schema of a study: it takes what Lockstep takes, short forms included, and refuses what Lockstep refuses."""

from __future__ import annotations

import json
import tomllib

import jsonschema
import pytest
from hypothesis import given, settings

from lockstep import LockstepError, cli, parse_study, study_schema
from lockstep.spec.records import to_table
from lockstep.study.schema import FAMILIES, MEANINGS, keys_of
from support import STUDY_FILES
from support.strategies import STUDIES

ALL = STUDY_FILES
HELD = ("layers", "shortcut", "branches")  # keys that hold layers, whose values the family says
CHECK = jsonschema.Draft202012Validator(study_schema())
NETWORKS = '[networks]\na = ["flatten", "dense 10"]\n'


def refused(text: str) -> bool:
    return not CHECK.is_valid(tomllib.loads(text))


def test_it_is_a_schema_and_what_the_command_prints(capsys):
    jsonschema.Draft202012Validator.check_schema(study_schema())
    with pytest.raises(SystemExit) as ended:
        cli.main(["schema"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == study_schema()


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_study_of_ours_is_valid(path):
    CHECK.validate(tomllib.loads(path.read_text(encoding="utf-8")))


@settings(max_examples=40, deadline=None)
@given(STUDIES)
def test_every_resolved_study_is_valid(study):
    CHECK.validate(to_table(study))


RIGHT = [
    'a.layers = "conv2d 20 5"', "a = ['conv2d 20 [5, 3] padding=same']", 'a = ["conv2d kernel=5 filters=20"]',
    'a = ["conv2d 20 kernel=5 bias=false"]', "a = ['conv2d 2 3 1 \"same\"']", "a = [{kind = 'max_pool2d', size = 3}]",
    "a = ['dense 10 initializer=zeros']", "a = [\"dense 10 initializer='normal 0.1'\"]", "a = ['elu 1', 'gelu tanh']",
    "a = [{residual = ['relu'], shortcut = 'tanh', join = 'concat reversed'}]", "a = [{repeat = 2, layers = 'relu'}]",
    "a = [{parallel = ['relu', ['tanh', {residual = ['relu']}]], join = {kind = 'add', first = 0.5}}]",
    "a = [{kind = 'residual', layers = [{kind = 'repeat', times = 2, layers = ['relu']}]}]",
    "a = {layers = 'dense 10', initializer = 'uniform 1e-2'}", "a = ['dense 10']\nb = 'a'", "a = [' dense  1_000 ']",
]  # fmt: skip


@pytest.mark.parametrize("layers", RIGHT)
def test_short_forms_and_lone_values_are_valid(layers):
    text = f"seeds = 3\ndtype = 'float64'\n[recipe]\noptimizer = 'adam 1e-3 beta2=0.99'\n[networks]\n{layers}\n"
    parse_study(text)
    assert not refused(text)


WRONG = {
    "a key that there is not": f"sheds = 3\n{NETWORKS}",
    "a recipe's key that there is not": f"[recipe]\nepocs = 3\n{NETWORKS}",
    "no networks": "seeds = 3",
    "an empty table of networks": "[networks]",
    "a text for a number": f"[recipe]\nepochs = 'many'\n{NETWORKS}",
    "a number for a text": f"dataset = 3\n{NETWORKS}",
    "a number out of range": f"[recipe]\nepochs = 0\n{NETWORKS}",
    "a share of one": f"[recipe]\nvalidation = 1.0\n{NETWORKS}",
    "a fraction for a whole number": f"[recipe]\nbatch_size = 1.5\n{NETWORKS}",
    "a choice that there is not": f"[recipe]\nloss = 'hinge'\n{NETWORKS}",
    "a kind that there is not": f"[recipe]\nschedule = {{kind = 'stp'}}\n{NETWORKS}",
    "a table without its kind": "networks.a = [{units = 10}]",
    "a table of another kind's keys": "networks.a = [{kind = 'relu', units = 10}]",
    "a backend that there is not": f"backends = ['numpi']\n{NETWORKS}",
    "no seed": f"seeds = []\n{NETWORKS}",
    "a negative seed": f"seeds = [-1]\n{NETWORKS}",
    "a mistake that there is not": f"[recipe]\nmistakes = 'none'\n{NETWORKS}",
    "a network's name with a space": "[networks]\n'a b' = ['dense 10']",
    "a branch alone": "networks.a = [{parallel = ['relu']}]",
    "a block with nothing in it": "networks.a = [{residual = []}]",
    "a block's key that there is not": "networks.a = [{residual = ['relu'], shortcuts = ['relu']}]",
    "a block repeated no time": "networks.a = [{repeat = 0, layers = ['relu']}]",
    "a layer that there is not in a block": "networks.a = [{residual = ['rel']}]",
    "a layer that there is not": "networks.a = ['dens 10']",
    "a short form without what is required": "networks.a = ['conv2d 8']",
    "a short form with too much": "networks.a = ['relu 1']",
    "a short form with a word for a number": "networks.a = ['dense ten']",
    "a short form with another's key": "networks.a = ['dense 10 kernel=3']",
    "a short form with a choice that there is not": "networks.a = ['conv2d 8 3 padding=full']",
    "a kernel of three": "networks.a = [{kind = 'conv2d', filters = 1, kernel = [1, 2, 3]}]",
    "no layers": "networks.a = []",
    "an empty grid": f"grid.epochs = []\n{NETWORKS}",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_by_both(name):
    from lockstep.study import checked

    assert refused(WRONG[name])
    with pytest.raises(LockstepError):
        checked(parse_study(WRONG[name]))


def test_every_key_has_a_meaning():
    assert [owner for owner in MEANINGS if {key.name for key in keys_of(owner)} != set(MEANINGS[owner])] == []
    for kinds in FAMILIES.values():
        for record in kinds.values():
            assert all(key.takes or isinstance(key.default, dict) or "initializer" in key.name or key.name in HELD
                       for key in keys_of(record.__name__)), record  # fmt: skip


def test_a_key_without_a_meaning_is_seen(monkeypatch):
    monkeypatch.delitem(MEANINGS["Recipe"], "epochs")
    with pytest.raises(AssertionError):
        test_every_key_has_a_meaning()
