"""TOML and back: nothing is lost, nothing that can be typed gives another error, and every error knows its line."""

from __future__ import annotations

import dataclasses
import re
import time
import tomllib

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep import LockstepError, Study, parse_study, read_study, resolved_toml
from lockstep.files.intake import LARGEST_SPEC
from lockstep.spec import OPTIMIZERS, Adam
from lockstep.spec.records import EXAMPLES, FAMILY_FIELDS, to_table
from lockstep.spec.toml import VALUE, lines_of, places_of
from lockstep.study import QUICK_EPOCHS, load_study
from support import STUDY_FILES
from support.strategies import STUDIES

QUICK = settings(max_examples=80, deadline=None)
SMALL = 'dataset = "digits"\nnetworks.mlp = ["flatten", "dense 10"]\n'
DEMO = """\
# a comment
question = "why?"   # another
dataset = "digits"

[recipe]
optimizer = "adam 0.001"
epochs = 3

[recipe.augmentation]
shift = 1

[networks]
mlp = ["flatten", "dense 32", "relu", "dense 10"]
cnn = [
    "conv2d 8 5",    # the first
    "relu", "max_pool2d",
    {kind = "flatten"},
    {kind = "dense", units = 10},
]

[networks.table]
initializer = "glorot_uniform"
layers = ["flatten", "dense 10"]
"""


def refused(text, *settings, file="study.toml"):
    with pytest.raises(LockstepError) as raised:
        parse_study(text, file, settings)
    return raised.value.problems


def only_lockstep_errors(text, settings=()):
    """Parse and make every run; each error must be one of ours, with a code."""
    try:
        study = parse_study(text, "study.toml", settings)
        study.runs()
    except LockstepError as error:
        problems = error.problems
    else:
        return study
    assert problems
    assert all(re.fullmatch(r"LS-20\d", problem.code) and problem.message for problem in problems)
    return None


# ---------------------------------------------------------------------------------------------------------- and back


@QUICK
@given(STUDIES)
def test_a_resolved_study_is_read_as_the_same_study(study):
    text = resolved_toml(study)
    assert parse_study(text, name="another") == study
    assert resolved_toml(parse_study(text)) == text


def test_the_resolved_study_has_every_default_written_out():
    table = tomllib.loads(resolved_toml(parse_study(DEMO)))
    assert table["recipe"]["optimizer"] == {
        "kind": "adam", "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
        "epsilon_mode": "outside",
    }  # fmt: skip
    assert table["networks"]["mlp"]["layers"][1] == {
        "kind": "dense", "units": 32, "bias": True, "bias_initializer": {"kind": "zeros"},
    }  # fmt: skip
    assert table["networks"]["mlp"]["initializer"] == {"kind": "he_normal"}
    assert table["backends"] == ["numpy", "torch", "tensorflow", "jax"]


@settings(max_examples=20, deadline=None)
@given(STUDIES, st.sampled_from(["seeds", "name", "question"]))
def test_a_change_is_seen_in_the_resolved_study(study, key):
    other = {"seeds": (study.seeds[0] ^ 1,), "name": study.name[:20] + "x", "question": study.question + "?"}
    table = to_table(study) | {key: other[key]}
    assert parse_study(tomli_w.dumps(table)) != study


def test_a_study_without_a_name_has_its_files(tmp_path):
    path = tmp_path / "my lab: 2.toml"
    path.write_text(DEMO)
    assert read_study(path).name == "my-lab-2"
    for text, name in (
        ("", "study"),
        ("...", "study"),
        ("ü", "u"),
        ("Größe 1", "Grosse-1"),
        ("试", "study-ce9e"),
        ("-a-", "a"),
        ("x" * 99, "x" * 64),
    ):
        assert parse_study(DEMO, name=text).name == name
    assert parse_study(f'name = "own"\n{DEMO}', name="other").name == "own"


def test_files_of_other_names_are_studies_of_other_names():
    """Or the report of one would take the place of the other's."""
    names = ["моя сеть", "другая работа", "лаба1", "лаба2", "課題一", "課題二", "課題", "Щука", "щука 1", "study"]
    found = [parse_study(DEMO, name=name).name for name in names]
    assert found[:4] == ["moia-set", "drugaia-rabota", "laba1", "laba2"]
    assert len(set(found)) == len(names)
    assert found[-3:] == ["Shchuka", "shchuka-1", "study"]


# ------------------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("setting", "find", "wanted"),
    [
        ("recipe.epochs=7", lambda s: s.recipe.epochs, 7),
        (" recipe.epochs = 7 ", lambda s: s.recipe.epochs, 7),
        ("dataset=fashion-mnist", lambda s: s.dataset, ("fashion-mnist",)),
        ('dataset=["mnist", "digits"]', lambda s: s.dataset, ("mnist", "digits")),
        ("dataset=/a=b/c d.npz", lambda s: s.dataset, ("/a=b/c d.npz",)),
        ("recipe.optimizer.learning_rate=0.5", lambda s: s.recipe.optimizer.learning_rate, 0.5),
        ("recipe.optimizer=sgd 0.5", lambda s: to_table(s.recipe.optimizer), {"kind": "sgd", "learning_rate": 0.5}),
        ("recipe.early_stopping.patience=2", lambda s: s.recipe.early_stopping.patience, 2),
        (
            "recipe.augmentation.flip=true",
            lambda s: (s.recipe.augmentation.flip, s.recipe.augmentation.shift),
            (True, 1),
        ),
        ("networks.mlp=['flatten', 'dense 10']", lambda s: len(s.networks["mlp"].layers), 2),
        ("networks.table.initializer=zeros", lambda s: s.networks["table"].initializer.kind, "zeros"),
        ("grid.optimizer.learning_rate=[0.1, 0.2]", lambda s: s.grid, {"optimizer.learning_rate": (0.1, 0.2)}),
        ("seeds=3", lambda s: s.seeds, (3,)),
        ("question=", lambda s: s.question, ""),
    ],
)
def test_a_setting_goes_over_the_file(setting, find, wanted):
    before, after = parse_study(DEMO), parse_study(DEMO, settings=[setting])
    assert find(after) == wanted
    assert setting == "question=" or before != after


BY_DEFAULT = """
[networks]
mlp = ["flatten", "dense 10"]
"""


@pytest.mark.parametrize("text", [BY_DEFAULT, "[recipe]\nepochs = 2\n" + BY_DEFAULT])
def test_a_setting_into_a_default_goes_over_that(text):
    study = parse_study(text, settings=["recipe.optimizer.learning_rate=0.5"])
    assert to_table(study.recipe.optimizer) == to_table(Adam(learning_rate=0.5))
    assert study.recipe.schedule == parse_study(text).recipe.schedule


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("recipe", ["", "[recipe]\nepochs = 2\n"])
def test_the_kind_of_a_default_is_set_before_or_after_its_keys(kind, recipe):
    pair = [f"recipe.optimizer.kind={kind}", "recipe.optimizer.learning_rate=0.5"]
    for some in (pair[:1], pair, pair[::-1]):
        optimizer = parse_study(recipe + BY_DEFAULT, settings=some).recipe.optimizer
        assert optimizer.kind == kind
        assert len(some) == 1 or optimizer.learning_rate == 0.5


@pytest.mark.parametrize(
    ("setting", "find", "wanted"),
    [
        ("name=1", lambda study: study.name, "1"),
        ("name=1.50", lambda study: study.name, "1.50"),
        ("name=true", lambda study: study.name, "true"),
        ("name = 2024-01-01", lambda study: study.name, "2024-01-01"),
        ("question=12", lambda study: study.question, "12"),
        ("dataset=2024", lambda study: study.dataset, ("2024",)),
        ("dataset=007", lambda study: study.dataset, ("007",)),
        ('dataset=["1", "2"]', lambda study: study.dataset, ("1", "2")),
        ("backends=3", lambda study: study.backends, ("3",)),
    ],
)
def test_where_a_text_is_wanted_what_is_typed_is_one(setting, find, wanted):
    assert find(parse_study(SMALL, settings=["recipe.epochs=3", setting])) == wanted


def test_a_file_has_types_and_so_have_lists():
    for text, typed, where in (
        ("name = 1\n" + SMALL, [], "name"),
        (SMALL, ['dataset=["a", 7]'], "--set dataset[1]"),
        (SMALL, ["dataset=[7]"], "--set dataset[0]"),
    ):
        with pytest.raises(LockstepError) as raised:
            parse_study(text, settings=typed)
        (problem,) = raised.value.problems
        assert problem.code == "LS-204"
        assert problem.where.endswith(where)
        assert "is not a text" in problem.message


def test_a_byte_order_mark_is_no_part_of_a_study(tmp_path):
    (tmp_path / "windows.toml").write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert read_study(tmp_path / "windows.toml") == parse_study(SMALL, name="windows")
    (tmp_path / "windows.toml").write_bytes(b"\xef\xbb\xbf" + b"sheds = 3\n" + SMALL.encode())
    with pytest.raises(LockstepError, match=r"windows.toml:1:1: sheds"):
        read_study(tmp_path / "windows.toml")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1251"])
def test_another_encoding_is_refused_with_what_to_do(tmp_path, encoding):
    (tmp_path / "a.toml").write_bytes(f'question = "Чем лучше?"\n{SMALL}'.encode(encoding))
    with pytest.raises(LockstepError, match=r"LS-202.*a.toml(.|\n)*UTF-8"):
        read_study(tmp_path / "a.toml")


def test_a_setting_into_a_default_that_has_no_such_key_is_named():
    (problem,) = refused(BY_DEFAULT, "recipe.optimizer.momentum=0.5")
    assert (problem.code, problem.where) == ("LS-203", "--set recipe.optimizer.momentum")


IN_A_STUDY = {
    "layers": "[networks]\nmlp = [{}]",
    "initializer": "[networks.mlp]\nlayers = ['flatten', 'dense 10']\ninitializer = {}",
    "bias_initializer": "[networks]\nmlp = ['flatten', {kind = 'dense', units = 10, bias_initializer = {}}]",
    "optimizer": BY_DEFAULT + "[recipe]\noptimizer = {}",
    "schedule": BY_DEFAULT + "[recipe]\nschedule = {}",
    "join": "[networks]\nmlp = ['flatten', {residual = ['tanh'], join = {}}, 'dense 10']",
}


@pytest.mark.parametrize("key", ["layers", *FAMILY_FIELDS])
def test_the_example_for_a_table_without_a_kind_is_one(key):
    (problem,) = refused(IN_A_STUDY[key].replace("{}", "{a = 1}"))
    assert problem.code == "LS-208"
    assert EXAMPLES[key] in str(problem.hint)
    parse_study(IN_A_STUDY[key].replace("{}", EXAMPLES[key]))


def test_the_last_of_two_settings_counts():
    assert parse_study(DEMO, settings=["seeds=1", "seeds=2"]).seeds == (2,)


@pytest.mark.parametrize(
    ("setting", "code", "where", "words"),
    [
        ("recipe.epochs=x", "LS-204", "--set recipe.epochs", "'x' is not a whole number"),
        ("recipe.epcohs=3", "LS-203", "--set recipe.epcohs", 'did you mean "epochs"?'),
        ("recipe.optimizer.rate=3", "LS-203", "--set recipe.optimizer.rate", "learning_rate"),
        ("recipe.epochs.x=3", "LS-203", "--set", '"recipe.epochs" is not a table'),
        ("recipe", "LS-200", "--set", '"recipe" is not key=value'),
        ("=3", "LS-200", "--set", "not key=value"),
        ("recipe..epochs=3", "LS-200", "--set", "not key=value"),
        ("recipe=3", "LS-204", "--set recipe", "3 is not a table"),
        ("seeds=[1, -1]", "LS-205", "--set seeds[1]", "-1 is out of range"),
        ("networks.new=['flat']", "LS-205", "--set networks.new.layers[0]", 'did you mean "flatten"?'),
    ],
)
def test_a_wrong_setting_is_named(setting, code, where, words):
    (problem,) = refused(DEMO, setting)
    assert (problem.code, problem.where) == (code, where)
    assert words in f"{problem.message} {problem.hint}"


def test_wrong_settings_and_the_files_errors_come_together():
    found = refused(DEMO.replace("epochs = 3", "epochs = -3"), "a=1", "b", "recipe.l2=-1.0")
    assert {problem.where for problem in found} == {
        "--set", "--set a", "--set recipe.l2", "study.toml:7:10: recipe.epochs",
    }  # fmt: skip


KEYS = st.sampled_from([
    "recipe", "recipe.epochs", "recipe.optimizer", "recipe.optimizer.kind", "recipe.optimizer.learning_rate",
    "networks", "networks.mlp", "networks.mlp.layers", "networks.mlp.layers.kind", "networks.x.layers", "grid",
    "grid.epochs", "grid.optimizer", "dataset", "seeds", "backends", "dtype", "name", "question", "train_size",
    "recipe.early_stopping", "recipe.early_stopping.patience", "recipe.schedule", "recipe.schedule.kind", "device",
])  # fmt: skip
VALUES = st.sampled_from([
    "[]", "{}", "[[]]", "nan", "inf", "-1", "0", "1e400", "true", '"x"', "{a=1}", '[{kind="dense"}]', "[1,2]", "adam",
    "adam 0.1", '"step every=3"', '{kind="adam"}', "{kind=[]}", '["dense 1",["a"]]', "dense [1", '[""]', "a=b", "''",
    '["flatten","dense 10 initializer=[1]"]', "9223372036854775808", "2020-01-01", "10:00:00", "{kind=nan}", '["= ="]',
    "[{}]", '{kind="dense", units={a=1}}', "[" * 5000, "{a=" * 5000, "\x00", "\n[recipe]",
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.builds("{}={}".format, KEYS | st.text(max_size=12), VALUES | st.text(max_size=12)), max_size=3))
def test_no_setting_leads_to_another_error(texts):
    only_lockstep_errors(DEMO, texts)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=25), max_size=3))
def test_no_text_as_a_setting_leads_to_another_error(texts):
    only_lockstep_errors(DEMO, texts)


def test_a_setting_into_a_short_form_that_is_wrong_itself_is_refused():
    refused(DEMO.replace("adam 0.001", "adam 1 2 3 4 5"), "recipe.optimizer.learning_rate=0.1")


# ---------------------------------------------------------------------------------------------- whatever stands there


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(alphabet="[]{}=.,\"'\n#ab1 "))
def test_no_text_leads_to_another_error(text):
    only_lockstep_errors(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_to_a_study_leads_to_another_error(data):
    start = data.draw(st.integers(0, len(DEMO)))
    end = data.draw(st.integers(start, min(start + 12, len(DEMO))))
    only_lockstep_errors(DEMO[:start] + data.draw(st.text(max_size=6) | VALUES) + DEMO[end:])


JSON = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6) | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*Study.__dataclass_fields__, "x"]), JSON, max_size=4))
def test_no_values_of_any_type_lead_to_another_error(table):
    only_lockstep_errors(tomli_w.dumps(table))


def test_the_check_for_other_errors_can_fail(monkeypatch):
    monkeypatch.setattr("lockstep.spec.toml.problems_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        only_lockstep_errors("a = 1")


HOSTILE = {
    "brackets": "a = " + "[" * 100_000,
    "closed brackets": "a = " + "[" * 400 + "]" * 400,
    "nested layers": "networks.a = " + "[" * 300 + "]" * 300,
    "braces": "a = " + "{a = " * 20_000,
    "a long key": "a" + ".a" * 900 + " = 1",
    "a long word": "networks.a = ['conv2d " + "x" * 100_000 + "']",
    "many words": "networks.a = ['conv2d " + "3 " * 50_000 + "']",
    "quotes": 'networks.a = ["conv2d ' + "'" * 50_000 + '"]',
    "twice the same key": "seeds = 1\nseeds = 2",
    "twice the same table": "[recipe]\n[recipe]",
    "a date that is none": "question = 2020-13-45",
    "no number": "train_size = nan",
    "an endless number": "recipe.l2 = inf",
    "more than 64 bits": "train_size = 99999999999999999999999999",
    "a seed of a thousand digits": f"seeds = {'9' * 1000}",
    "a fraction with an enormous exponent": "recipe.l2 = 1e999999999",
    "a NUL": "a = '\0'",
    "nothing": "",
    "a comment": "# nothing",
    "a thousand unknown keys in one table": "".join(f"k{i} = 1\n" for i in range(100)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once(name):
    start = time.perf_counter()
    assert only_lockstep_errors(HOSTILE[name]) is None
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("number", ["1" * 4500, "0x" + "f" * 4500], ids=["decimal", "hexadecimal"])
def test_a_number_of_thousands_of_digits_is_refused(number):
    assert only_lockstep_errors(f"train_size = {number}") is None


def test_a_table_with_a_name_of_two_thousand_parts_is_refused():
    assert only_lockstep_errors(f"[a{'.a' * 2000}]\nb = 1") is None


def test_many_errors_take_no_longer_than_a_few(monkeypatch):
    read = []
    monkeypatch.setattr("lockstep.spec.toml.places_of", lambda text: read.append(text) or {})
    assert len(refused("".join(f"k{i} = 1\n" for i in range(50)))) == 51
    assert len(read) == 1


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"question = '\xff\xfe'", "LS-202", "not UTF-8 at byte 12"),
        ("question = 'a'".encode("utf-16"), "LS-202", "not UTF-8 at byte 0"),
        (b"#" * (LARGEST_SPEC + 1), "LS-201", "larger than 1,000,000 bytes"),
        (b"a = ", "LS-202", "at end of document"),
        (b"a = 1\nb = \n", "LS-202", "line 2"),
    ],
)
def test_a_file_that_is_no_study_is_refused_by_its_name(tmp_path, content, code, words):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(LockstepError) as raised:
        read_study(path)
    (problem,) = raised.value.problems
    assert problem.code == code
    assert words in problem.message
    assert problem.where.startswith(str(path))
    assert problem.hint


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "\0", tmp_path / ("x" * 5000), tmp_path / "a" / "b"):
        with pytest.raises(LockstepError, match="cannot read") as raised:
            read_study(path)
        assert raised.value.code == "LS-201"


def test_windows_line_ends_are_read():
    text = DEMO.replace("\n", "\r\n")
    assert parse_study(text) == parse_study(DEMO)
    assert lines_of(text) == lines_of(DEMO)


# ------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("right", "wrong", "where"),
    [
        ("epochs = 3", "epochs = 0", "study.toml:7:10: recipe.epochs"),
        ("shift = 1", "shfit = 1", "study.toml:10:1: recipe.augmentation.shfit"),
        ('"dense 32"', '"dense 0"', "study.toml:13:19: networks.mlp.layers[1].units"),
        ('"conv2d 8 5"', '"conv2d 8"', "study.toml:15:5: networks.cnn.layers[0].kernel"),
        ('"max_pool2d"', '"maxpool2d"', "study.toml:16:13: networks.cnn.layers[2]"),
        ("units = 10}", "units = 1.5}", "study.toml:18:30: networks.cnn.layers[4].units"),
        ('"glorot_uniform"', '"glorot"', "study.toml:22:15: networks.table.initializer"),
        ('dataset = "digits"', "dataset = 3", "study.toml:3:11: dataset[0]"),
        ('"why?"', "1", "study.toml:2:12: question"),
    ],
)
def test_an_error_stands_on_its_line(right, wrong, where):
    assert DEMO.count(right) == 1
    (problem,) = refused(DEMO.replace(right, wrong))
    assert problem.where == where


def test_a_missing_key_stands_with_the_table_that_lacks_it():
    (problem,) = refused(DEMO.replace("layers = [", "# layers = ["))
    assert (problem.code, problem.where) == ("LS-208", "study.toml:21:11: networks.table.layers")
    (problem,) = refused('dataset = "digits"')
    assert (problem.code, problem.where) == ("LS-208", "study.toml: networks")


def test_an_error_in_a_network_that_is_called_like_a_layer_stands_on_its_line():
    (problem,) = refused('[networks]\na = ["relu"]\n\ndense = [\n  "dense 0",\n]')
    assert problem.where.startswith("study.toml:5:3: networks.dense")


def test_a_network_with_a_dot_in_its_name_is_found():
    (problem,) = refused('[networks]\na = ["relu"]\n"lenet.v1" = [\n  "relu",\n  "dense 0",\n]')
    assert problem.where.startswith("study.toml:5:3: networks.lenet.v1.")


BARE = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)
SCALARS = st.one_of(
    st.integers(-99, 99), st.booleans(), st.floats(allow_nan=False), st.dates(), st.datetimes(),
    st.text(alphabet="ab.,=[]{}#'\"\\\n é", max_size=9),
)  # fmt: skip


@st.composite
def documents(draw):
    """(TOML text, dotted key → line): written line by line, so the lines are known without reading them again."""
    lines: list[str] = []
    where: dict[str, int] = {}

    def blank():
        lines.extend(draw(st.lists(st.sampled_from(["", "   ", "# a = 1", "\t# [x]", '# "']), max_size=2)))

    def scalar():
        value = draw(SCALARS)
        return tomli_w.dumps({"v": value})[4:-1] if not isinstance(value, str) else draw(quoted(value))

    def inline(key, line, depth):
        """A value on one line."""
        where[key] = line
        shape = draw(st.sampled_from(["scalar", "scalar", "list", "table"])) if depth else "scalar"
        if shape == "list":
            n = draw(st.integers(0, 3))
            return "[" + ", ".join(inline(f"{key}[{i}]", line, depth - 1) for i in range(n)) + "]"
        if shape == "table":
            names = draw(st.lists(BARE, unique=True, max_size=2))
            return "{" + ", ".join(f"{name} = {inline(f'{key}.{name}', line, depth - 1)}" for name in names) + "}"
        return scalar()

    def pairs(prefix):
        for name in draw(st.lists(BARE, unique=True, max_size=3)):
            blank()
            key = f"{prefix}{name}"
            written = draw(st.sampled_from([name, f'"{name}"', f"'{name}'", f" {name}\t"]))
            kind = draw(st.sampled_from(["inline", "inline", "tall", "multi"]))
            where[key] = len(lines) + 1
            if kind == "inline":
                lines.append(f"{written} = {inline(key, len(lines) + 1, 2)}  # end")
            elif kind == "multi":
                lines.append(f'{written} = """')
                lines.extend(["b = 2", "[c]", 'x "" y', '"""'])
            else:
                lines.append(f"{written} = [")
                for index in range(draw(st.integers(0, 3))):
                    blank()
                    lines.append(f"  {inline(f'{key}[{index}]', len(lines) + 1, 1)},")
                lines.append("]")

    pairs("")
    for number in range(draw(st.integers(0, 3))):
        blank()
        name = f"Table{number}"  # never one of BARE
        if draw(st.booleans()):
            where[name] = len(lines) + 1
            lines.append(f"[{name}]")
            pairs(f"{name}.")
        else:
            for index in range(draw(st.integers(1, 2))):
                where.setdefault(name, len(lines) + 1)
                where[f"{name}[{index}]"] = len(lines) + 1
                lines.append(f"[[ {name} ]]")
                pairs(f"{name}[{index}].")
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"])), where


@st.composite
def quoted(draw, value):
    """A text as TOML on one line."""
    if "'" not in value and "\n" not in value and draw(st.booleans()):
        return f"'{value}'"
    return tomli_w.dumps({"v": value})[4:-1]


@settings(max_examples=150, deadline=None)
@given(documents())
def test_lines_are_found_where_they_were_written(written):
    text, where = written
    tomllib.loads(text)  # the document is valid
    assert lines_of(text) == where
    lines = text.split("\n")
    for key, (line, column) in places_of(text).items():
        name, rest = key.rpartition(".")[2], lines[line - 1][column - 1 :]
        if key.endswith(VALUE):
            assert re.search(r"=[ \t]*$", lines[line - 1][: column - 1]), (key, line, column)
        elif not name.endswith("]"):
            assert rest.lstrip("\"'").startswith(name), (key, line, column)


def test_a_line_that_is_off_by_one_is_seen():
    assert lines_of("\na = [\n 1,\n {b = 2}]") == {"a": 2, "a[0]": 3, "a[1]": 4, "a[1].b": 4}
    assert lines_of("a = [\n 1,\n {b = 2}]") != {"a": 2, "a[0]": 3, "a[1]": 4, "a[1].b": 4}


def test_every_key_of_the_demo_has_its_line():
    found = lines_of(DEMO)
    assert found["recipe.augmentation"] == 9
    assert found["networks.cnn[0]"] == 15
    assert max(found.values()) == 23


# -------------------------------------------------------------------------------------- a recipe for one network alone

REMEDIES = """
recipe.epochs = 20
[networks]
plain = ["flatten", "dense 10"]
weaker = "plain"
early = "plain"
[recipe_for]
weaker = { l2 = 0.01, optimizer = "sgd 0.5" }
early = { validation = 0.1, early_stopping = { patience = 3 }, optimizer.beta1 = 0.8 }
"""


def test_a_network_can_have_another_ones_layers_and_a_recipe_of_its_own():
    study = parse_study(REMEDIES)
    runs = {run.network_name: run for run in study.runs() if run.backend == "numpy"}
    assert runs["plain"].network == runs["weaker"].network == runs["early"].network
    assert (runs["plain"].recipe.l2, runs["weaker"].recipe.l2) == (0, 0.01)
    assert runs["weaker"].recipe.optimizer.kind == "sgd"
    assert runs["weaker"].recipe.epochs == 20
    assert runs["early"].recipe.early_stopping.patience == 3
    assert runs["early"].recipe.optimizer.beta1 == 0.8
    assert runs["plain"].recipe.early_stopping is None
    assert parse_study(resolved_toml(study)) == study


def test_a_grid_goes_over_what_is_for_one_network():
    runs = parse_study(REMEDIES + "[grid]\nl2 = [0.5, 0.6]\n").runs()
    assert sorted({run.recipe.l2 for run in runs if run.network_name == "weaker"}) == [0.5, 0.6]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("plain = { l3 = 0.1 }", "LS-203", "recipe_for.plain"),
        ("plain = { l2 = -1 }", "LS-205", "recipe_for.plain.l2"),
        ('plain = { optimizer = "adm" }', "LS-205", 'did you mean "adam"?'),
        ("plane = { l2 = 0.1 }", "LS-209", 'did you mean "plain"?'),
        ("plain = { early_stopping = { patience = 2 } }", "LS-207", "no images are held out"),
    ],
)
def test_what_is_wrong_in_a_recipe_for_one_network_is_placed(line, code, words, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(f'[networks]\nplain = ["flatten", "dense 10"]\n[recipe_for]\n{line}\n')
    with pytest.raises(LockstepError) as caught:
        load_study(path)
    assert code in {problem.code for problem in caught.value.problems}
    assert words in str(caught.value)


def test_a_quick_look_is_on_digits_with_one_seed_and_few_epochs(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text('dataset = "mnist"\nseeds = [3, 4]\n' + REMEDIES.replace("l2 = 0.01", "l2 = 0.01, epochs = 90"))
    quick = load_study(path, quick=True)
    assert (quick.dataset, quick.seeds, quick.name) == (("digits",), (3,), "long-quick")
    assert {run.recipe.epochs for run in quick.runs()} == {QUICK_EPOCHS}
    asked = load_study(path, ["seeds=[7, 8]", "recipe.epochs=7"], quick=True)
    assert asked.seeds == (7, 8)
    assert asked.runs()[0].recipe.epochs == 7


@pytest.mark.parametrize("path", STUDY_FILES, ids=lambda path: path.stem)
def test_every_study_that_comes_along_can_be(path):
    study = load_study(path)
    assert study.question.endswith("?")
    assert load_study(path, quick=True).dataset == ("digits",)


# ------------------------------------------------------------------------------------------------------- all together

WRONG = """\
dataset = ["mnst", "digits"]
backends = ["numpy", "numpi"]
sheds = 3
[recipe]
epochs = "many"
[networks]
small = ["flatten", {units = 10}]
again = "small"
other = ["flatten", "dense 5"]
flat = ["dense 10"]
[recipe_for]
smal = {l2 = 1.0}
small = {l2 = 0.5}
"""
ALL = {
    "7:21: networks.small.layers[1]": "LS-208", "5:10: recipe.epochs": "LS-204", "3:1: sheds": "LS-203",
    "2:22: backends[1]": "LS-209", "12:8: recipe_for.smal": "LS-209", "1:12: dataset[0]": "LS-209",
    "9:9: networks.other": "LS-206", "10:9: networks.flat.layers[0]": "LS-206",
}  # fmt: skip


def all_of(tmp_path, text, *arguments, **named):
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LockstepError) as raised:
        load_study(path, *arguments, **named)
    return {problem.where.removeprefix(f"{path}:"): problem for problem in raised.value.problems}


def test_really_all_errors_come_together(tmp_path):
    found = all_of(tmp_path, WRONG, ["seeds=-1"], ["jxa"], ["small", "tiny"])
    more = {"--set seeds[0]": "LS-205", "--backends": "LS-209", "--network": "LS-209"}
    assert {where: problem.code for where, problem in found.items()} == ALL | more
    assert 'did you mean "small"?' in found["12:8: recipe_for.smal"].hint, "a network that is wrong itself is there"
    assert [where for where, problem in found.items() if not problem.hint] == []


def test_what_is_mended_is_no_longer_told_and_nothing_new_is(tmp_path):
    """Each error alone, the others mended, is the same error: none of them follows from another."""
    mends = {
        "7:21: networks.small.layers[1]": ("{units = 10}", '"dense 10"'), "5:10: recipe.epochs": ('"many"', "3"),
        "3:1: sheds": ("sheds = 3", ""), "2:22: backends[1]": (', "numpi"', ""),
        "12:8: recipe_for.smal": ("smal =", "other ="),
        "1:12: dataset[0]": ('"mnst", ', ""), "9:9: networks.other": ("dense 5", "dense 10"),
        "10:9: networks.flat.layers[0]": ('flat = ["', 'flat = ["flatten", "'),
    }  # fmt: skip
    for where, code in ALL.items():
        text = WRONG
        for other, (wrong, right) in mends.items():
            assert wrong in text
            text = text if other == where else text.replace(wrong, right)
        found = {key.split(": ", 1)[1]: problem.code for key, problem in all_of(tmp_path, text).items()}
        asked = where.split(": ", 1)[1]
        assert found == {asked: code}, where


def test_what_follows_from_what_is_left_out_is_not_told(tmp_path):
    text = """
dataset = 3
dtype = "float16"
[recipe]
validation = 2.0
early_stopping = {patience = 2}
[networks]
a = ["flatten", "dense 0"]
[recipe_for]
a = {l2 = 0.1}
"""
    found = {where.split(": ", 1)[1] for where in all_of(tmp_path, text)}
    assert found == {"dataset[0]", "dtype[0]", "recipe.validation", "networks.a.layers[1].units"}


def test_every_value_of_a_grid_that_cannot_be_is_told(tmp_path):
    text = """
backends = "numpi"
[grid]
epochs = [1, 0, -1]
l2 = [0.0, -2.0]
[networks]
a = ["flatten", "dense 10"]
"""
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(LockstepError) as raised:
        load_study(path)
    told = [problem.message.split(" is ")[0] for problem in raised.value.problems]
    assert sorted(told) == ["-1", "-2.0", "0", "there"]


def test_the_example_of_every_key_is_one():
    from lockstep import spec
    from lockstep.spec.records import KINDS, example

    network = "[networks]\nmlp = ['flatten', 'dense 10']\n"
    for owner, lead in ((spec.Recipe, "recipe."), (spec.Augmentation, "recipe.augmentation."), (spec.Study, "")):
        for key in owner.__dataclass_fields__:
            text = f"{lead}{example(owner, key)}\n"
            parse_study(text if key == "networks" else text + network, name="x")
    for kind, record in KINDS.items():
        for key in (field.name for field in dataclasses.fields(record)):
            shown = example(record, key)
            assert (not shown) == (key == "kind"), (kind, key)
            if shown and kind in spec.LAYERS:
                parse_study(f"networks.a = ['flatten', {shown}]", name="x")
            elif shown and kind in spec.OPTIMIZERS:
                parse_study(f"recipe.optimizer = {shown}\n{network}", name="x")
