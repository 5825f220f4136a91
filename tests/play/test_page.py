"""The page in a browser: it proves itself, answers what is drawn by mouse, finger and keys, and asks nobody."""

import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from lockstep import language, parse_study, run_study, store
from lockstep.errors import LockstepError
from lockstep.play import gather, render, write, write_play
from lockstep.play import page as pages
from lockstep.play.arrays import packed, unpacked
from lockstep.play.words import words
from support import catalogs
from support.browsing import (
    TOO_WIDE,
    asked_by,
    by_finger,
    by_mouse,
    chromium,
    complaints,
    drop,
    sized,
    until,
)
from support.command_line import lockstep
from support.playing import EVERYTHING, SOURCES, as_played, run_to_play

STUDY = """
question = "Is it the same?"
dataset = "digits"
backends = ["numpy"]
seeds = [0, 1]
[recipe]
epochs = 6
[networks]
cnn = ["conv2d 6 3", "relu", "max_pool2d", "conv2d 8 3", "relu", "max_pool2d", "flatten", "dense 10"]
"""
ZERO = [(140 + 60 * np.sin(turn), 140 - 95 * np.cos(turn)) for turn in np.linspace(0, 2 * np.pi, 25)]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    return run_study(parse_study(STUDY), root, threads=1)


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return write_play(study, tmp_path_factory.mktemp("page") / "play.html")


@pytest.fixture
def opened(browser, page):
    """The page as it has just been opened, proven, with nothing on it."""
    sized(browser, 1280)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page.as_uri())
    until(browser, "document.documentElement.dataset.proof === 'proven'")
    yield browser
    assert complaints(browser) == []


def answers(browser) -> list[str]:
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));")
    return browser.execute_script(
        "return [...document.querySelectorAll('#runs .answer b')].map(one => one.textContent)"
    )


def text(browser, name: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


# ------------------------------------------------------------------------------------------------------ what it is


def test_it_proves_itself_on_opening_and_asks_nobody(opened, page):
    assert text(opened, "proof").startswith("16 of 16: every layer of all 2 networks")
    by_mouse(opened, ZERO)
    answers(opened)
    assert asked_by(opened, page) == []


def test_what_was_changed_is_said_in_red(browser, page, tmp_path):
    source = page.read_text("utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', source, re.DOTALL)[1])
    numbers = unpacked(data["runs"][1]["numbers"]).copy()
    numbers[-3] *= 1.001
    planted = source.replace(data["runs"][1]["numbers"]["data"], packed(numbers)["data"])
    assert planted != source
    other = tmp_path / "changed.html"
    other.write_text(planted, encoding="utf-8")
    browser.get(other.as_uri())
    until(browser, "document.documentElement.dataset.proof === 'changed'")
    said = text(browser, "proof")
    assert said.startswith("0 of 16: this page was changed or damaged:")
    assert "seed 1" in said
    assert (
        browser.execute_script("return getComputedStyle(document.getElementById('proof')).color") == "rgb(179, 38, 30)"
    )
    other.write_text(source.replace(data["runs"][0]["numbers"]["data"][:40], "A" * 40), encoding="utf-8")
    browser.get(other.as_uri())
    until(browser, "document.documentElement.dataset.proof === 'changed'")


def test_a_script_that_is_put_in_does_not_run(browser, page, tmp_path):
    other = tmp_path / "injected.html"
    other.write_text(
        page.read_text("utf-8").replace(
            "</main>", "<script>window.injected = 1</script><img src=http://127.0.0.1:9/a></main>"
        ),
        encoding="utf-8",
    )
    browser.get_log("performance")
    browser.get(other.as_uri())
    assert browser.execute_script("return window.injected === undefined")
    assert browser.execute_script("return document.querySelector('img').naturalWidth") == 0
    browser.get_log("browser")


def test_without_a_script_it_says_so(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        found = browser.find_element("tag name", "noscript").text
        assert "scripts are switched off" in found
        assert not browser.find_element("id", "pad").is_displayed()
        assert browser.find_element("id", "about").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# ------------------------------------------------------------------------------------------------------ drawing


def test_a_mouse_draws_and_undo_takes_it_back(opened):
    assert answers(opened) == ["–", "–"]
    by_mouse(opened, ZERO)
    assert answers(opened) == ["0", "0"]
    assert "give one answer" in text(opened, "agree")
    by_mouse(opened, [(150.0, 100.0), (180.0, 140.0)])
    opened.find_element("id", "undo").click()
    assert answers(opened) == ["0", "0"]
    opened.find_element("id", "clear").click()
    assert answers(opened) == ["–", "–"]
    assert not opened.execute_script("return page.drawing.now.strokes.length")


def test_a_finger_draws_and_nothing_scrolls_under_it(opened):
    before = opened.execute_script("return scrollY")
    by_finger(opened, ZERO)
    assert answers(opened) == ["0", "0"]
    assert opened.execute_script("return getComputedStyle(document.getElementById('pad')).touchAction") == "none"
    assert abs(opened.execute_script("return scrollY") - before) < 400  # where the pad came into view, no more
    assert opened.execute_script("return page.drawing.now.strokes.length") == 1


def test_the_keyboard_draws_on_the_grid(opened):
    from selenium.webdriver.common.keys import Keys

    grid = opened.find_element("id", "grid")
    opened.execute_script("document.getElementById('grid').focus()")
    grid.send_keys(*[Keys.ARROW_UP] * 9)
    for _ in range(18):
        opened.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ARROW_DOWN)
    assert answers(opened) != ["–", "–"]
    assert opened.execute_script("return page.drawing.now.edits.size") == 18
    said = text(opened, "grid-told")
    assert re.fullmatch(r"row, column \d+, 14: 255", said)
    grid.send_keys(" ")
    assert opened.execute_script("return page.drawing.now.edits.get(page.cursor)") == 0
    grid.send_keys(Keys.CONTROL, "z")
    answers(opened)
    assert opened.execute_script("return page.drawing.now.edits.get(page.cursor)") == 255


def test_a_test_picture_enters_untouched_and_gets_the_runs_own_answer(opened, study):
    found = store.read_npz(study[0].folder / "predictions.npz")["logits"].argmax(axis=1)
    for n in range(4):
        opened.find_element("id", "next").click()
        assert answers(opened)[0] == str(found[n])
        assert text(opened, "source").startswith(f"Test picture {n}: it is")


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_dropped_picture_is_read_inverted_and_boxed(opened, study):
    row, column = np.indices((300, 240))
    ring = np.abs(np.hypot((row - 150) / 90, (column - 130) / 60) - 1) < 0.15
    drop(opened, png(np.where(ring, 20, 235).astype(np.uint8)), "zero.png", "image/png")  # ink on paper
    until(opened, "page.drawing.now.picture !== null")
    assert answers(opened) == ["0", "0"]
    assert "inverted" in text(opened, "source")
    image = study[0].arrays("samples")["images"][3, ..., 0]
    drop(opened, png(image), "same.png", "image/png")
    until(opened, "page.drawing.now.picture.width === 28")
    answers(opened)
    assert opened.execute_script("return [...page.seen.pixels]") == image.ravel().tolist()


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"no picture at all", "notes.txt", "LS-308: notes.txt is no picture that this browser reads"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 99, "broken.png", "LS-308: broken.png is no picture"),
        (b"", "empty.png", "LS-308: empty.png is no picture"),
    ],
)
def test_a_file_that_is_no_picture_gets_a_sentence_and_nothing_is_lost(opened, content, name, said):
    by_mouse(opened, ZERO)
    drop(opened, content, name, "image/png")
    until(opened, "document.getElementById('complaint').textContent !== ''")
    assert text(opened, "complaint").startswith(said)
    assert answers(opened) == ["0", "0"]


def test_a_file_of_a_hundred_megabytes_is_not_read(opened):
    opened.execute_script("page.take(new File([new Uint8Array(100 * 2 ** 20)], 'large.png'))")
    assert text(opened, "complaint").startswith("LS-308: large.png has 100 MiB, and at most 20 are read.")


def test_a_dot_is_named_and_a_scribble_is_stranger_than_a_digit(opened):
    until(opened, "page.near.size === 1")
    by_mouse(opened, [(140.0, 140.0)])
    answers(opened)
    assert text(opened, "strange").startswith("A dot, and no digit")
    opened.execute_script("page.drawing.clear(); page.showTest(5); page.show()")
    answers(opened)
    digit = opened.execute_script("return page.shares.share")
    opened.execute_script("page.drawing.clear()")
    by_mouse(
        opened,
        [(40.0, 40.0), (240.0, 240.0), (60.0, 200.0), (220.0, 60.0), (140.0, 250.0), (140.0, 30.0), (30.0, 140.0)],
    )
    answers(opened)
    assert opened.execute_script("return page.shares.share") > max(digit, 0.97)
    assert "perhaps it is none of these classes" in text(opened, "strange")


# ------------------------------------------------------------------------------------------------------ looking


def test_a_click_on_a_value_shows_its_arithmetic_and_its_field(opened):
    by_mouse(opened, ZERO)
    answers(opened)
    for name in ("3_conv2d", "2_max_pool2d", "7_dense", "1_relu", "6_flatten"):
        opened.execute_script(
            "const one = page.layers.rows.find(row => row.name === arguments[0]).cells[0];"
            "one.canvas.scrollIntoView(); const box = one.canvas.getBoundingClientRect(), at = {bubbles: true};"
            "[at.clientX, at.clientY] = [box.left + 8, box.top + 8];"
            "one.canvas.dispatchEvent(new MouseEvent('click', at));",
            name,
        )
        said = text(opened, "sum")
        assert said.startswith(name)
        assert "The layer’s value, to the last digit" in said
        assert opened.execute_script("return page.field.size") > 0
    opened.execute_script("page.choose(0, '3_conv2d', 100)")
    shown = opened.execute_script("return document.querySelector('#sum .whole code').textContent").replace("−", "-")
    assert float(shown) == opened.execute_script("return page.values[0].get('3_conv2d')[100]")
    assert opened.execute_script("return document.querySelectorAll('#sum tbody tr').length") == 3 * 3 * 6
    planted = "LAYERS.conv2d.explain = () => ({form: 'sum', terms: [], sum: 1, bias: null, value: 1});"
    opened.execute_script(f"{planted} page.choose(0, '3_conv2d', 100)")
    assert "another one" in text(opened, "sum")


def test_the_keyboard_chooses_a_value(opened):
    from selenium.webdriver.common.keys import Keys

    by_mouse(opened, ZERO)
    canvas = opened.find_element("css selector", "#maps canvas")
    canvas.send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.PAGE_DOWN)
    assert text(opened, "sum").startswith("0_conv2d, row 1, column 1, map 1")


def test_two_runs_stand_beside_each_other_and_two_attributions_too(opened):
    by_mouse(opened, ZERO)
    opened.execute_script(
        "const other = document.getElementById('other-run'); other.value = '1';other.dispatchEvent(new Event('change'))"
    )
    answers(opened)
    first, second = opened.execute_script("return page.layers.rows[0].cells.map(one => [...one.values])")
    assert first != second
    assert len(first) == 26 * 26 * 6
    until(opened, "!document.getElementById('speaking').hidden && document.getElementById('occlusion').width === 168")
    assert "patches of" in text(opened, "speaking-text")
    assert opened.execute_script("return document.getElementById('class').value") == answers(opened)[0]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(opened, width, dark):
    sized(opened, width, dark=dark)
    opened.execute_script("dispatchEvent(new Event('resize'))")
    by_mouse(opened, ZERO)
    answers(opened)
    opened.execute_script("page.choose(0, '3_conv2d', 100)")
    assert opened.execute_script(TOO_WIDE) == []


def test_the_epochs_are_slid_through(browser, study, tmp_path):
    folder = study[0].folder
    weights, state = store.read_checkpoint(store.newest_checkpoint(folder))
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    store.begin_film(copy)
    for epoch in (1, 2, 6):
        store.keep_frame(copy, epoch, {name: value * epoch / 6 for name, value in weights.items()}, state)
    page = write_play(store.Record(copy), tmp_path / "play.html")
    sized(browser, 1280)
    browser.get(page.as_uri())
    until(browser, "window.page && page.film")
    by_mouse(browser, ZERO)
    answers(browser)
    browser.execute_script("document.getElementById('film').scrollIntoView()")
    until(browser, "document.getElementById('epoch-told').textContent !== ''")
    last = browser.execute_script("return [page.outputs[0][0], document.getElementById('film-answers').textContent]")
    assert text(browser, "epoch-told") == "after epoch 6 of 6"
    slide = "const one = document.getElementById('epoch'); one.value = '0'; one.dispatchEvent(new Event('input'))"
    browser.execute_script(slide)
    assert text(browser, "epoch-told") == "after epoch 1 of 6"
    assert text(browser, "film-answers") != last[1]
    assert browser.execute_script("return document.getElementById('film-kernels').width") > 100
    assert complaints(browser) == []


def test_every_control_has_a_name(opened):
    silent = """
    return [...document.querySelectorAll("canvas, button, select, input")].filter(one =>
      !(one.ariaLabel || one.textContent.trim() || (one.labels && one.labels.length))).map(one => one.outerHTML);
    """
    assert opened.execute_script(silent) == []


# ------------------------------------------------------------------------------------------------------ in Russian


def test_the_page_speaks_russian(browser, study, tmp_path):
    with language.speaking("ru"):
        page = write_play(study, tmp_path / "play.html")
    browser.get(page.as_uri())
    until(browser, "document.documentElement.dataset.proof === 'proven'")
    by_mouse(browser, ZERO)
    answers(browser)
    browser.execute_script("page.choose(0, '0_conv2d', 100)")
    seen = browser.execute_script("return document.body.innerText")
    names = re.compile(r"Is it the same\?|\w+-\w+-\S+|\b\d_\w+|study: ")
    english = set(re.findall(r"[A-Za-z]{2,}", names.sub("", seen)))
    assert english <= {"numpy", "cnn", "seed", "Lockstep", "Fashion", "MNIST", "float", "bias", "study", "pytest"}
    assert re.search(r"\d,\d %", seen)


# ----------------------------------------------------------------------------------------- gathering, without a browser


def test_the_catalog_of_the_page_fits_its_sources(tmp_path):
    assert catalogs.problems_of_play() == []
    planted = tmp_path / "ru" / "play.po"
    planted.parent.mkdir()
    planted.write_text(catalogs.PLAY.read_text("utf-8").replace('msgid "Undo"', 'msgid "Undone"'), encoding="utf-8")
    assert set(catalogs.problems_of_play(planted)) == {"missing: Undo", "not in the source: Undone"}


def test_every_word_that_a_script_asks_for_is_there_and_no_other():
    sources = "\n".join((SOURCES / f"{name}.js").read_text("utf-8") for name in pages.SCRIPTS)
    quoted = set(re.findall(r'"(\w+)"', sources)) | {f"of_{what}" for what in ("x", "weight", "product")}
    asked = set(re.findall(r'say\("(\w+)"', sources))
    assert asked <= words().keys()
    assert words().keys() <= quoted | asked, words().keys() - quoted


def test_runs_that_cannot_be_played_are_named_with_their_reasons(tmp_path):
    run_to_play(tmp_path, EVERYTHING["flat"], name="flat")
    damaged = run_to_play(tmp_path, EVERYTHING["pooled"], name="pooled")
    (damaged / "checkpoint-1" / "weights.safetensors").write_bytes(b"")
    page = gather(store.find_runs([tmp_path]))
    assert page.names == ("flat-numpy-0",)
    ((name, code),) = [(one.name, one.code) for one in page.left]
    assert (name, code) == ("pooled-numpy-0", "LS-505")
    assert "pooled-numpy-0" in render(page)
    (tmp_path / "toys" / "flat-numpy-0" / "checkpoint-1" / "manifest.json").unlink()
    with pytest.raises(LockstepError) as caught:
        gather(store.find_runs([tmp_path]))
    assert len(caught.value.problems) == 2


def test_a_page_has_room_for_so_many_runs_and_first_for_one_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MOST_RUNS", 2)
    for seed in (0, 1):
        for name in ("flat", "pooled"):
            run_to_play(tmp_path, EVERYTHING[name], name=name, seed=seed)
    page = gather(store.find_runs([tmp_path]))
    assert sorted(page.names) == ["flat-numpy-0", "pooled-numpy-0"]
    assert {one.name for one in page.left} == {"flat-numpy-1", "pooled-numpy-1"}


def test_colour_pictures_of_another_size_are_played_without_a_scale(browser, tmp_path):
    recipe = 'epochs = 1\nscaling = "standard"'
    played = {
        name: as_played(run_to_play(tmp_path, layers, (20, 24, 3), name=name, recipe=recipe))
        for name, layers in EVERYTHING.items()
    }
    page = write(gather(store.find_runs([tmp_path])), tmp_path / "play.html")
    sized(browser, 1280)
    browser.get(page.as_uri())
    until(browser, "document.documentElement.dataset.proof === 'proven'")
    by_mouse(browser, ZERO)
    assert "–" not in answers(browser)
    places = {run["network"]: place for place, run in enumerate(browser.execute_script("return DATA.runs"))}
    pixels = np.array(browser.execute_script("return [...page.seen.pixels]"), np.uint8).reshape(1, 20, 24, 3)
    for name, one in played.items():  # every kind of layer, value by value, in this browser
        values = dict(browser.execute_script(
            "return [...page.values[arguments[0]]].map(([name, y]) => [name, [...y]])", places[name]))  # fmt: skip
        for layer, wanted in one.judge.activations(pixels, False).items():
            off = np.abs(np.array(values[layer]) - wanted.ravel()).max()
            assert off <= 1e-10 * np.abs(wanted).max(), (name, layer)
    assert "the dataset of this name is another one than the run’s" in text(browser, "scale")
    picture = np.zeros((48, 40, 3), np.uint8)
    picture[...] = [10, 200, 90]
    drop(browser, png(picture), "green.png", "image/png")
    until(browser, "page.drawing.now.picture !== null")
    answers(browser)
    assert browser.execute_script("return [...page.seen.pixels.slice(0, 3)]") == [10, 200, 90]
    assert complaints(browser) == []


def test_texts_of_runs_cannot_leave_their_place(tmp_path):
    run_to_play(tmp_path, EVERYTHING["flat"], name="net")
    page = gather(store.find_runs([tmp_path]))
    page.document["classes"][0] = "</script><script>alert(1)</script><!--"
    found = render(page)
    assert found.count("<script") == 2
    assert "alert(1)</script>" not in found


def test_the_command_writes_a_page_for_each_study_and_says_what_it_left_out(tmp_path):
    run_to_play(tmp_path, EVERYTHING["flat"], name="flat")
    run_to_play(tmp_path, EVERYTHING["pooled"], name="pooled")
    run_to_play(tmp_path, EVERYTHING["flat"], name="flat", study="others")
    done = lockstep("play", tmp_path, "--runs", "flat", "--json", folder=tmp_path)
    found = json.loads(done.stdout)["pages"]
    assert [one["runs"] for one in found] == [["flat-numpy-0"]] * 2
    assert (tmp_path / "toys" / "play.html").exists()
    told = lockstep("play", tmp_path, "--runs", "nobody", folder=tmp_path, code=2)
    assert "LS-209" in told.stderr
    told = lockstep("play", tmp_path, "--out", tmp_path / "one.html", folder=tmp_path, code=2)
    assert "--out is one page, and here are runs of 2 studies" in told.stderr
