"""In a browser: a page asks nobody else and nothing of it is wider than the window."""

from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.support.ui import WebDriverWait

from lockstep import language, store
from lockstep.report import write_report
from support import ROOT, browsing
from support.bench_documents import write_bench
from support.needs import need
from support.proof_documents import divergence, proof_of, proven
from support.run_folders import BACKENDS, N_TEST, fake_run

OPEN = 'for (const one of document.querySelectorAll("details")) one.open = true;'


@pytest.fixture(scope="module")
def browser():
    with browsing.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Two networks in four backends, with long names, an unfinished run, a bench and two seeds."""
    root = tmp_path_factory.mktemp("page")
    names = ("a class with a long name", *(f"class {i}" for i in range(1, 10)))
    for network in ("mlp", "cnn"):
        for place, backend in enumerate(BACKENDS):
            folder = fake_run(root, network, backend, accuracy=0.9 + 0.01 * place, class_names=names)
            images = np.random.default_rng(place).integers(0, 256, (N_TEST, 12, 11, 1)).astype(np.uint8)
            store.write_npz(folder / "hardest.npz", images=images, indices=np.arange(N_TEST))
    fake_run(root, "mlp", "numpy", 1, status="failed", reason="a_reason_without_any_space_" * 9, class_names=names)
    write_bench(root / "demo")
    return write_report(store.find_runs([root]), root / "report.html")


def look_at(browser, path: Path, width: int, media: str = "screen") -> tuple[list[str], list[str]]:
    """(what is wider than the window, the addresses outside the page that were asked for)."""
    browsing.sized(browser, width)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    browser.get_log("performance")  # what the page before still has in it
    browser.get(path.as_uri())
    return browser.execute_script(OPEN + browsing.TOO_WIDE), browsing.asked_by(browser, path)


@pytest.mark.parametrize(("width", "media"), [(400, "screen"), (1280, "screen"), (1030, "print")])
def test_a_page_asks_nobody_and_fits_into_its_window(browser, page, width, media):
    assert look_at(browser, page, width, media) == ([], [])


def test_a_planted_overflow_and_a_planted_request_are_caught(browser, page):
    text = page.read_text(encoding="utf-8")
    policy = text[text.index('<meta http-equiv="Content') :].partition("\n")[0]
    assert "default-src 'none'" in policy
    planted = '<p style="width: 1300px; max-width: none">wide</p><img src="http://127.0.0.1:9/asked.png"></main>'
    other = page.with_name("planted.html")
    other.write_text(text.replace(policy, "").replace("</main>", planted), encoding="utf-8")
    wide, asked = look_at(browser, other, 1280)
    assert any("wide" in one for one in wide)
    assert asked == ["http://127.0.0.1:9/asked.png"]


def test_images_and_figures_say_what_they_show(browser, page):
    browser.get(page.as_uri())
    silent = "return [...document.querySelectorAll('img, svg.plot')].filter(one => !(one.alt || one.ariaLabel)).length"
    assert browser.execute_script(silent) == 0
    drawn = "return [...document.images].filter(one => !one.naturalWidth).length"
    assert browser.execute_script(drawn) == 0


@pytest.fixture(scope="module")
def two_models(tmp_path_factory) -> Path:
    """Two networks of 60 calls with names that never end, a difference without a place and one with many."""
    from lockstep.report import write_difference
    from lockstep.store.documents.difference import Call, Difference, Finding, Graph, Remedy, Spot

    long = "a_name_without_any_space." * 6
    calls = tuple(
        Call(kind="conv" * 9, function="f", layer=f"{long}{n // 9}.conv", line=f"{'n' * 60}.py:{n}", shape=(9, 4, 7, 7),
             inputs=(n - 1, n - 3) if n > 3 else (n - 1,))
        for n in range(60)
    )  # fmt: skip
    spots = tuple(Spot(a=long, b=long, line_a="a.py:1", line_b="b.py:2", call_a=n, call_b=n) for n in (7, 30))
    remedy = Remedy(file="b.py", line=2, before="x" * 300, after="y " * 200)
    found = (
        Finding(stage="forward", cause=f"conv: {long} is 1 | 2", places=spots, off=0.5, error=0.0, remedies=(remedy,)),
        Finding(stage="gradients", places=(Spot(a="–", b="–", line_a="–", line_b="–"),), bundle=f"{long}/unexplained"),
    )
    told = Difference(
        format=2, a=f"{long}/a.py:Net", b=f"{long}/b.py:Net", frameworks=("torch", "torch"), verdict="DIVERGED",
        findings=found, pairs=((long, long),), left=((), ()), n_matched=59, n_tensors=60, worst=None,
        not_observed=(long,), input_shape=(4, 7, 7),
        graph=Graph(a=calls, b=calls, joined=tuple((n, n) for n in range(60))),
    )  # fmt: skip
    return write_difference(told, tmp_path_factory.mktemp("pair") / "diff.html")


@pytest.mark.parametrize(("width", "media"), [(400, "screen"), (1280, "screen"), (1030, "print")])
def test_the_page_of_two_models_asks_nobody_and_fits_into_its_window(browser, two_models, width, media):
    assert look_at(browser, two_models, width, media) == ([], [])


# ------------------------------------------------------------------------------------------- for every kind of reader

# The rules of WCAG 2.2 AA and axe's own best practices, on everything that opens.
AXE = """
const done = arguments[arguments.length - 1];
for (const one of document.querySelectorAll("details")) one.open = true;
axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(found =>
  done(found.violations.map(one => `${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 200)}`)));
"""


def axe() -> str:
    """axe-core's script, which `make axe` puts into build/: nothing of Lockstep's has it."""
    path = ROOT / "build" / "axe" / "axe.min.js"
    need(path.exists(), "axe-core (make axe)")
    return path.read_text(encoding="utf-8")


def violations(browser, path: Path, width: int = 1280, is_dark: bool = False) -> list[str]:
    """What axe-core finds in a page: it is run from outside, which the page's own policy does not let anybody else."""
    browsing.sized(browser, width, 800, is_dark)
    browser.get(path.as_uri())
    browser.execute_script(axe())
    return browser.execute_async_script(AXE)


@pytest.fixture(scope="module")
def proven_page(page) -> Path:
    """The same runs with a proof beside them, and a backend that diverged in it."""
    rows = [proven(name, "DIVERGED" if name == "torch" else "EQUAL") for name in BACKENDS]
    store.write_json(page.parent / "demo" / "proof.json", proof_of(rows, [divergence()]))
    path = write_report(store.find_runs([page.parent]), page.parent / "proven.html")
    (page.parent / "demo" / "proof.json").unlink()
    return path


@pytest.fixture(scope="module")
def russian_page(page) -> Path:
    with language.speaking("ru"):
        return write_report(store.find_runs([page.parent]), page.parent / "russian.html")


@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (1280, True), (400, False)])
def test_axe_finds_nothing_in_the_report(browser, proven_page, width, is_dark):
    assert violations(browser, proven_page, width, is_dark) == []


def test_axe_finds_nothing_in_the_russian_report(browser, russian_page):
    assert violations(browser, russian_page) == []


def test_axe_finds_what_is_planted(browser, page):
    text = page.read_text(encoding="utf-8")
    planted = '<p style="color: #999; background: #fff">pale</p><img src="data:,"><button></button></main>'
    other = page.with_name("unkind.html")
    other.write_text(text.replace("</main>", planted), encoding="utf-8")
    found = {one.partition(":")[0] for one in violations(browser, other)}
    assert {"color-contrast", "image-alt", "button-name"} <= found


# ------------------------------------------------------------------------------------------ with a script, without


@pytest.fixture
def opened(browser, proven_page):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(proven_page.as_uri())
    return browser


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (400, "screen")])
def test_question_answer_figure_proof_and_caution_are_on_the_first_screen(browser, proven_page, width, media):
    look_at(browser, proven_page, width, media)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(proven_page.as_uri())
    ends = browser.execute_script(
        "return ['h1', '.answer', '.badge', '.glance', '.caution']"
        ".map(name => [...document.querySelectorAll(`header ${name}`)].at(-1).getBoundingClientRect().bottom)"
    )
    assert max(ends) <= 800, ends


def come_near(browser, one, inside: str = "th button") -> None:
    """Scroll to something and wait until the script has given it what it adds."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", one)
    there = f"return arguments[0].querySelectorAll('{inside}').length"
    WebDriverWait(browser, 20).until(lambda browser: browser.execute_script(there, one))


def test_a_table_is_put_in_order(opened):
    table = opened.find_element("css selector", "#times table.sortable")
    come_near(opened, table)
    script = """
    const table = arguments[0];
    const head = [...table.tHead.rows[0].cells].find(cell => /Backend/.test(cell.textContent));
    const column = head.cellIndex, read = () => [...table.tBodies[0].rows].map(row => row.cells[column].textContent);
    head.querySelector("button").click(); const up = read();
    head.querySelector("button").click(); return [up, read(), head.getAttribute("aria-sort")];
    """
    up, down, said = opened.execute_script(script, table)
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert said == "descending"


def test_numbers_are_sorted_as_numbers_in_both_languages(opened, russian_page):
    script = """
    const table = arguments[0], heads = [...table.tHead.rows[0].cells];
    heads[1].querySelector("button").click();
    return [...table.tBodies[0].rows].map(row => row.cells[1].textContent);
    """

    def put_in_order() -> list[float]:
        table = opened.find_element("css selector", "#confusion details table.sortable")
        opened.execute_script("arguments[0].closest('details').open = true", table)
        come_near(opened, table)
        return [float(text.replace(",", ".")) for text in opened.execute_script(script, table)]

    for path in (None, russian_page):
        if path:
            opened.get(path.as_uri())
        found = put_in_order()
        assert len(found) > 5
        assert found == sorted(found)


def test_values_are_shown_under_the_pointer_and_lines_go_off(opened):
    from selenium.webdriver.common.action_chains import ActionChains

    drawing = opened.find_elements("css selector", "#curves svg[data-axes]")[2]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", drawing)
    boxes = "return [...arguments[0].parentElement.querySelectorAll('.tools input')].length"
    WebDriverWait(opened, 10).until(lambda browser: browser.execute_script(boxes, drawing))
    ActionChains(opened).move_to_element(drawing).perform()
    read = (
        "return [...arguments[0].parentElement.querySelectorAll('.tip:not([hidden]) div')].map(one => one.textContent)"
    )
    told = opened.execute_script(read, drawing)
    # epoch 3 of `fake_run`: the loss is 0.9 / 3 and 0.001 more with each backend, on test images 0.1 more
    assert "numpy, test: 0.400" in told
    assert "jax, test: 0.403" in told
    off = "const box = arguments[0].parentElement.querySelector('.tools label'); box.click(); return box.textContent"
    assert opened.execute_script(off, drawing) == "numpy"
    hidden = "return [...arguments[0].querySelectorAll('g[data-series^=\"numpy|\"]')].map(one => one.style.display)"
    assert set(opened.execute_script(hidden, drawing)) == {"none"}


def test_a_hard_image_opens_by_keyboard_with_every_backends_numbers(opened):
    from selenium.webdriver.common.keys import Keys

    figure = opened.find_element("css selector", "figure.hardest")
    come_near(opened, figure, ".tile[role=button]")
    tile = figure.find_element("css selector", ".tile")
    tile.send_keys(Keys.ENTER)
    heads = "return [...document.querySelectorAll('dialog[open] thead th')].slice(1).map(one => one.textContent)"
    assert opened.execute_script(heads) == list(BACKENDS)
    said = "return document.querySelector('dialog p').textContent"
    first = opened.execute_script(said)
    opened.execute_script("document.querySelectorAll('dialog button')[1].click()")
    assert opened.execute_script(said) != first
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not opened.find_elements("css selector", "dialog[open]")


def test_hard_images_are_chosen_by_class_and_backend(opened):
    figure = opened.find_element("css selector", "figure.hardest")
    come_near(opened, figure, ".tile[role=button]")
    script = """
    const [figure, place, value] = arguments, field = figure.querySelectorAll("select")[place];
    field.value = value === null ? field.options[1].value : value;
    field.dispatchEvent(new Event("change"));
    const seen = [...figure.querySelectorAll(".tile:not([hidden])")];
    return [field.value, seen.map(one => one.dataset.true), seen.map(one => one.dataset.ranks.split(" "))];
    """
    name, classes, _ranks = opened.execute_script(script, figure, 0, None)
    assert set(classes) == {name}
    opened.execute_script(script, figure, 0, "")
    _name, _classes, ranks = opened.execute_script(script, figure, 1, "torch")
    of_torch = [int(row[BACKENDS.index("torch")]) for row in ranks]
    assert of_torch == sorted(of_torch)


def test_without_a_script_the_page_says_the_same(browser, proven_page):
    """Everything that is read with the script off is there, and nothing that works only with it."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(proven_page.as_uri())
        assert browser.find_elements("css selector", "svg[data-axes], table.sortable, .badge")
        assert not browser.find_elements("css selector", ".tools, th button, dialog")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_script_that_is_not_ours_is_not_run(browser, page):
    text = page.read_text(encoding="utf-8")
    other = page.with_name("other-script.html")
    other.write_text(text.replace('"use strict";', 'document.title = "caught"; "use strict";'), encoding="utf-8")
    browser.get(other.as_uri())
    assert browser.title != "caught"
    assert not browser.find_elements("css selector", "dialog")
    browser.get(page.as_uri())
    assert browser.find_elements("css selector", "dialog")


def test_on_paper_long_tables_are_unfolded(browser, page):
    browser.get(page.as_uri())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    script = (
        "return [...document.querySelectorAll('details.fold table')].map(one => one.getBoundingClientRect().height)"
    )
    heights = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    assert heights
    assert min(heights) > 0
