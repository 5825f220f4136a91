"""The command line: exit codes, one JSON document on stdout, everything else on stderr, and never a traceback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lockstep as lockstep_package
from lockstep import cli
from lockstep.errors import CODES
from support.command_line import STUDY, deny, lockstep, picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "lab.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study done with --json, and the folder where that was."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "lab.toml").write_text(STUDY)
    return folder, lockstep("run", "lab.toml", "--json", "--set", "seeds=[0, 1]", folder=folder)


# ---------------------------------------------------------------------------------------------------------------- run


def test_json_is_one_document_with_the_documented_keys(done):
    folder, finished = done
    document = json.loads(finished.stdout)
    assert {"study", "runs", "report"} <= document.keys()
    assert document["study"] == "lab"
    assert [(row["network"], row["seed"]) for row in document["runs"]] == [
        ("small", 0), ("small", 1), ("cnn", 0), ("cnn", 1),
    ]  # fmt: skip
    for row in document["runs"]:
        assert {
            "network", "backend", "seed", "dataset", "dtype", "status", "parameters", "test_accuracy", "test_loss",
            "seconds", "peak_memory_bytes", "folder",
        } <= row.keys()  # fmt: skip
        assert {"import", "build", "compile", "train", "evaluate"} <= row["seconds"].keys()
        assert (row["backend"], row["dataset"], row["dtype"], row["status"]) == (
            "numpy",
            "digits",
            "float32",
            "finished",
        )
        assert 0 < row["test_accuracy"] < 1
        assert (folder / row["folder"] / "metrics.json").is_file()
    assert document["runs"][0]["parameters"] == 7850
    assert (folder / document["report"]).is_file()


def test_progress_goes_to_stderr_a_line_an_epoch(done):
    _, finished = done
    assert finished.stderr.count("epoch 1/1") == 4
    assert "[4/4]" in finished.stderr


def test_a_finished_study_is_told_from_its_folders_and_reported_again(done):
    folder, first = done
    again = lockstep("run", "lab.toml", "--set", "seeds=[0, 1]", folder=folder)
    assert "report:" in again.stdout
    assert "test accuracy" in again.stdout
    assert "epoch 1/1" not in again.stderr
    page = folder / "page.html"
    lockstep("report", "runs/lab", "--out", page, folder=folder)
    assert "<html" in page.read_text(encoding="utf-8")
    assert json.loads(first.stdout)["runs"][0]["network"] in page.read_text(encoding="utf-8")
    lockstep("report", json.loads(first.stdout)["runs"][0]["folder"], folder=folder)


def test_a_missing_framework_is_exit_code_four_and_the_others_go_on(folder):
    deny(folder, "torch")
    finished = lockstep(
        "run", "lab.toml", "--backends", "torch", "--backends", "numpy", "--network", "small", "--json", folder=folder,
        code=4, PYTHONPATH=str(folder),
    )  # fmt: skip
    torch, numpy = json.loads(finished.stdout)["runs"]
    assert (torch["status"], torch["code"]) == ("failed", "LS-401")
    assert torch["test_accuracy"] is None
    assert numpy["status"] == "finished"
    assert "pip install 'lockstep-nn[torch]'" in finished.stderr


def test_a_reader_that_leaves_early_is_no_error(folder):
    command = f"{sys.executable} -m lockstep show lab.toml | true"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


# ------------------------------------------------------------------------------------------------------- help and usage


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["prove"],
        ["bench"],
        ["resume"],
        ["show"],
        ["report"],
        ["verify"],
        ["doctor"],
        ["explain"],
        ["data"],
        ["data", "list"],
        ["data", "import"],
        ["demo"],
        ["init"],
        ["clean"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_help_is_there_for_every_command(arguments, folder):
    said = lockstep(*arguments, "--help", folder=folder).stdout
    assert "Usage: lockstep" in said
    assert not re.search(r"<(path|str|int|list)|[{}]|…\.", said), "the types of the program"


def test_help_names_the_commands_and_the_exit_codes(folder):
    text = lockstep("--help", folder=folder).stdout
    for word in ("run", "show", "report", "doctor", "data", "Exit codes"):
        assert word in text


WRONG_USAGE = {
    "an unknown command": (["rnu"], "rnu"),
    "an unknown option": (["run", "lab.toml", "--epochs", "3"], "--epochs"),
    "a missing argument": (["show"], "STUDY"),
    "one argument too many": (["data", "import", "a", "b", "c"], "c"),
    "an option without its value": (["run", "lab.toml", "--set"], "--set"),
    "a number that is none": (["run", "lab.toml", "--threads", "two"], "--threads"),
    "an unknown command of data": (["data", "remove", "mnist"], "remove"),
    "a setting without a value": (["show", "lab.toml", "--set", "recipe.epochs"], "key=value"),
}


WRONG_PROOFS = {
    "two studies": (["lab.toml", "other.toml"], "LS-200", "one study at a time"),
    "a dtype that is none": (["lab.toml", "--dtype", "float16"], "LS-205", "--dtype: there is no dtype"),
    "too few steps": (["lab.toml", "--steps", "1"], "LS-205", "--steps: 1 step was asked for"),
    "a misspelt network": (["lab.toml", "--network", "smal"], "LS-209", 'did you mean "small"?'),
    "a misspelt backend": (["lab.toml", "--backends", "nunpy"], "LS-209", '--backends: there is no backend "nunpy"'),
    "a plant's misspelt backend": (["lab.toml", "--plant", "adam_epsilon@nunpy"], "LS-209", 'did you mean "numpy"?'),
    "a plant's misspelt cause": (["lab.toml", "--plant", "adam_epsilom@numpy"], "LS-209", "adam_epsilon"),
}


@pytest.mark.parametrize("name", WRONG_PROOFS)
def test_a_proof_that_is_asked_for_wrongly_says_what_to_write(name, folder):
    arguments, code, words = WRONG_PROOFS[name]
    finished = lockstep("prove", *arguments, folder=folder, code=2)
    assert finished.stdout == ""
    assert finished.stderr.startswith(code)
    assert words in finished.stderr


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("causse", 'did you mean "causes"?'), ("adam_epsilon_hatt", 'did you mean "adam_epsilon_hat"?'),
        ("ls-2100", 'did you mean "ls-210"?'), ("qqqqqq", "differences, causes, errors, one cause"),
    ],
)  # fmt: skip
def test_a_misspelt_topic_is_proposed_rightly(topic, words, folder):
    finished = lockstep("explain", topic, folder=folder, code=2)
    assert words in finished.stderr


@pytest.mark.parametrize("word", ["LS-999", "ls-000"])
def test_a_code_that_there_is_not_is_no_other_code(word, folder):
    done = lockstep("explain", word, folder=folder, code=2)
    assert "did you mean" not in done.stderr
    assert "→ every code there is: lockstep explain errors" in done.stderr


def test_an_error_can_be_explained(folder):
    said = lockstep("explain", "ls-301", folder=folder).stdout
    assert said.startswith(f"LS-301: {CODES['LS-301']} (exit code 3)\n")
    assert "lockstep data fetch NAME" in said
    document = json.loads(lockstep("explain", "errors", "--json", folder=folder).stdout)
    assert [row["code"] for row in document["codes"]] == [*CODES]


@pytest.mark.parametrize("name", WRONG_USAGE)
def test_wrong_usage_is_exit_code_two_and_one_error(name, folder):
    arguments, word = WRONG_USAGE[name]
    finished = lockstep(*arguments, folder=folder, code=2)
    assert finished.stdout == ""
    assert finished.stderr.startswith("LS-200")
    assert finished.stderr.count("LS-") == 1
    assert word in finished.stderr


@pytest.mark.parametrize(
    ("command", "option", "hint"),
    [
        ("run", "--epochs", "--set recipe.epochs=VALUE"),
        ("prove", "--batch-size", "--set recipe.batch_size=VALUE"),
        ("bench", "--learning-rate", "--set recipe.optimizer.learning_rate=VALUE"),
        ("run", "--seed", "--set seeds=VALUE"),
        ("run", "--nothing", "see: lockstep run --help"),
        ("report", "--seeds", "see: lockstep report --help"),  # takes no --set
        ("run", "--networks", "see: lockstep run --help"),  # a table
        ("run", "--backend", "see: lockstep run --help"),  # there is --backends
    ],
)
def test_a_key_of_the_study_taken_for_an_option_is_told_how_to_set(command, option, hint, folder):
    assert hint in lockstep(command, "lab.toml", option, "3", folder=folder, code=2).stderr


def test_errors_with_json_are_one_document_too(folder):
    finished = lockstep("show", "lab.toml", "--json", "--set", "a=1", "--set", "recipe.l2=-1", folder=folder, code=2)
    errors = json.loads(finished.stdout)["errors"]
    assert [error["code"] for error in errors] == ["LS-203", "LS-205"] or [error["code"] for error in errors] == [
        "LS-205", "LS-203",
    ]  # fmt: skip
    assert all(set(error) == {"code", "message", "where", "hint"} for error in errors)


# ------------------------------------------------------------------------------------------------------------- the rest


def test_show_prints_every_network_once_for_all_backends(folder):
    text = lockstep("show", "lab.toml", folder=folder).stdout
    assert "Does it run?" in text
    for word in ("small on digits", "cnn on digits", "0_conv2d", "8 × 8 × 3", "5 × 5", "7,850", "receptive field"):
        assert word in text
    document = json.loads(lockstep("show", "lab.toml", "--network", "small", "--json", folder=folder).stdout)
    (table,) = document["networks"]
    assert (table["name"], table["dataset"], table["parameters"], table["multiply_adds"]) == (
        "small", "digits", 7850, 7840,
    )  # fmt: skip
    assert [row["name"] for row in table["network"]] == ["0_flatten", "1_dense"]


def test_data_commands(folder):
    homes = {"XDG_DATA_HOME": str(folder / "data"), "XDG_CACHE_HOME": str(folder / "cache")}
    generator = np.random.default_rng(0)
    for number in range(6):
        for name in ("cat", "dog"):
            path = folder / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(path, generator.integers(0, 256, (5, 7), dtype=np.uint8))
    rows = json.loads(lockstep("data", "list", "--json", folder=folder, **homes).stdout)["datasets"]
    assert {"digits", "mnist", "fashion-mnist"} <= {row["name"] for row in rows}
    assert next(row for row in rows if row["name"] == "digits")["n_classes"] == 10
    assert "embedded" in lockstep("data", "list", folder=folder, **homes).stdout
    assert "12" not in lockstep("data", "import", "pets", "my-pets", folder=folder, **homes).stderr
    assert "my-pets" in lockstep("data", "list", folder=folder, **homes).stdout
    assert "right" in lockstep("data", "verify", "digits", "my-pets", folder=folder, **homes).stdout
    assert "exists" in lockstep("data", "path", folder=folder, **homes).stdout
    lockstep("data", "import", "pets", "digits", folder=folder, code=3, **homes)
    lockstep("data", "verify", "pest", folder=folder, code=2, **homes)
    text = lockstep("show", "lab.toml", "--set", "dataset=my-pets", folder=folder, code=2, **homes).stderr
    assert "2 classes" in text


def test_the_doctor_speaks_both_ways(folder):
    text = lockstep("doctor", folder=folder).stdout
    for word in ("numpy", "torch", "tensorflow", "jax", "memory", "digits", "clash"):
        assert word in text
    document = json.loads(lockstep("doctor", "--json", folder=folder, KERAS_BACKEND="jax").stdout)
    assert set(document) == {"format", "backends", "machine", "datasets", "clashes"}
    assert any("KERAS_BACKEND is jax" in clash for clash in document["clashes"])


def test_debug_shows_the_traceback_wherever_it_stands(folder):
    for arguments in (["--debug", "show", "none.toml"], ["show", "none.toml", "--debug"]):
        finished = lockstep(*arguments, folder=folder, code=2)
        assert "Traceback" in finished.stderr
        assert "LS-201" in finished.stderr
    assert "Traceback" in lockstep("show", "none.toml", "--debug", folder=folder, code=2, LOCKSTEP_DEBUG="1").stderr


# ------------------------------------------------------------------------------- in this process: whatever is typed


def exit_code(arguments, capsys) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out = capsys.readouterr()
    assert "Traceback" not in out.out + out.err
    if ended.value.code not in (0, 1, None):  # 1 is a verdict, and a verdict is no error
        assert any(code in out.err for code in CODES), out.err
    return int(ended.value.code or 0)


WORDS = st.sampled_from(
    ["show", "doctor", "data", "list", "path", "verify", "report", "lab.toml", "--set", "--json", "--network", "--help",
     "a=1", "recipe.epochs=0", "small", "--", "-", "", "--runs", "é", "--threads", "digits", "x" * 300,
     "--set=dataset=a"]
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(WORDS | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), max_size=5)
)
def test_nothing_that_can_be_typed_leads_to_a_traceback(folder, monkeypatch, capsys, words):
    monkeypatch.chdir(folder)
    assert exit_code([word for word in words if word not in ("fetch", "import")], capsys) in (0, 1, 2, 3, 4, 5)


def test_the_version_is_told(folder):
    assert lockstep("--version", folder=folder).stdout == f"lockstep {version('lockstep-nn')}\n"
    assert lockstep_package.__version__ == version("lockstep-nn")


def test_a_partial_report_says_that_more_runs_lie_there(folder):
    lockstep("run", "lab.toml", "--backends", "numpy", folder=folder)
    part = lockstep("run", "lab.toml", "--backends", "numpy", "--network", "small", folder=folder).stdout
    assert "all that lie there: lockstep report runs" in part
    whole = lockstep("run", "lab.toml", "--backends", "numpy", "--runs", "elsewhere", folder=folder).stdout
    assert "all that lie there" not in whole


def test_standard_output_that_is_full_is_told_and_no_fault_of_ours(folder):
    command = [sys.executable, "-m", "lockstep", "data", "list"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=folder, check=False)
    assert done.returncode == 5, done.stderr
    assert "LS-501 standard output" in done.stderr


def test_a_fault_of_ours_is_told_as_ours_and_without_a_traceback(folder, monkeypatch, capsys):
    monkeypatch.setattr("lockstep.study.load_study", lambda *_, **__: 1 / 0)
    with pytest.raises(SystemExit) as ended:
        cli.main(["show", str(folder / "lab.toml")])
    assert ended.value.code == 70
    out = capsys.readouterr()
    assert "our fault" in out.err
    assert "Traceback" not in out.err
    with pytest.raises(SystemExit):
        cli.main(["show", str(folder / "lab.toml"), "--debug"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"), [(MemoryError(), 5, "LS-503"), (KeyboardInterrupt(), 130, "")], ids=["memory", "ctrl-c"]
)
def test_other_ends_have_their_own_exit_code(error, code, words, folder, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("lockstep.study.load_study", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(["show", str(folder / "lab.toml")])
    assert ended.value.code == code
    assert words in capsys.readouterr().err
