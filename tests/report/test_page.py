"""In a browser: a page asks nobody else and nothing of it is wider than the window."""

import os
import shutil
from pathlib import Path

import pytest

from lockstep import store
from lockstep.report import write_report
from support.bench_documents import write_bench
from support.needs import need
from support.run_folders import BACKENDS, fake_run

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
DRIVER = shutil.which("chromedriver") or ""
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
)

# Whatever reaches beyond the window, unless it stands in something that scrolls by itself.
TOO_WIDE = """
for (const one of document.querySelectorAll("details")) one.open = true;
const width = document.documentElement.clientWidth, found = [];
const scrolls = one => one && one !== document.body
  && (["auto", "scroll"].includes(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
if (document.documentElement.scrollWidth > width) found.push("the page");
for (const one of document.body.querySelectorAll("*")) {
  const box = one.getBoundingClientRect();
  if ((box.right > width + 1 || box.left < -1) && !scrolls(one.parentElement) && !one.closest("svg svg, svg *"))
    found.push(`${one.tagName} ${one.className} ${one.textContent.slice(0, 40)}`);
}
return found;
"""


@pytest.fixture(scope="module")
def browser():
    need(bool(CHROMIUM and DRIVER), "chromium or chromedriver (make browser)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Two networks in four backends, with long names, an unfinished run, a bench and two seeds."""
    root = tmp_path_factory.mktemp("page")
    names = ("a class with a long name", *(f"class {i}" for i in range(1, 10)))
    for network in ("mlp", "cnn"):
        for place, backend in enumerate(BACKENDS):
            fake_run(root, network, backend, accuracy=0.9 + 0.01 * place, class_names=names)
    fake_run(root, "mlp", "numpy", 1, status="failed", reason="a_reason_without_any_space_" * 9, class_names=names)
    write_bench(root / "demo")
    return write_report(store.find_runs([root]), root / "report.html")


def look_at(browser, path: Path, width: int, media: str = "screen") -> tuple[list[str], list[str]]:
    """(what is wider than the window, the addresses outside the page that were asked for)."""
    import json

    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("performance")  # what the page before still has in it
    browser.get(path.as_uri())
    wide = browser.execute_script(TOO_WIDE)
    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    asked = [row["params"]["request"]["url"] for row in messages if row["method"] == "Network.requestWillBeSent"]
    assert path.as_uri() in asked, "the log of requests does not even have the page"
    return wide, [address for address in asked if address != path.as_uri() and not address.startswith("data:")]


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
