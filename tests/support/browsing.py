"""A Chromium for tests, and hands for it: mouse, finger, keys and files, as a person has them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.needs import need

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
DRIVER = shutil.which("chromedriver") or ""
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
)
PATIENCE = 30  # seconds


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    need(bool(CHROMIUM and DRIVER), "chromium or chromedriver (make browser)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def sized(browser: Any, width: int, height: int = 900, dark: bool = False) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": [scheme]})


def until(browser: Any, condition: str) -> Any:
    """Wait until a condition in JavaScript holds; its value."""
    end = time.monotonic() + PATIENCE
    while not (found := browser.execute_script(f"return {condition}")):
        assert time.monotonic() < end, f"never: {condition}"
        time.sleep(0.02)
    return found


def asked_by(browser: Any, page: Path) -> list[str]:
    """The addresses outside the page that it has asked for since it was opened."""
    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    asked = [row["params"]["request"]["url"] for row in messages if row["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked, "the log of requests does not even have the page"
    return [url for url in asked if url != page.as_uri() and not url.startswith(("data:", "blob:"))]


def complaints(browser: Any) -> list[str]:
    """What the browser's console has."""
    return [row["message"] for row in browser.get_log("browser")]


def _spots(browser: Any, points: Sequence[tuple[float, float]]) -> list[dict[str, float]]:
    left, top, unit = browser.execute_script(
        "const pad = document.getElementById('pad'); pad.scrollIntoView({block: 'center'});"
        "const box = pad.getBoundingClientRect(); return [box.left, box.top, box.width / 280];"
    )
    return [{"x": left + x * unit, "y": top + y * unit} for x, y in points]


def by_mouse(browser: Any, points: Sequence[tuple[float, float]]) -> None:
    """Draw a line through points of the pad, 280 units wide."""
    spots = _spots(browser, points)
    steps = [("mousePressed", spots[0]), *(("mouseMoved", spot) for spot in spots), ("mouseReleased", spots[-1])]
    for kind, spot in steps:
        event = {"type": kind, **spot, "button": "left", "buttons": 1, "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def by_finger(browser: Any, points: Sequence[tuple[float, float]]) -> None:
    spots = _spots(browser, points)
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [spots[0]]})
    for spot in spots:
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [spot]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def drop(browser: Any, content: bytes, name: str, kind: str) -> None:
    """Drop a file onto the page."""
    browser.execute_script(
        "const bytes = Uint8Array.from(atob(arguments[0]), sign => sign.charCodeAt(0));"
        "const data = new DataTransfer();"
        "data.items.add(new File([bytes], arguments[1], {type: arguments[2]}));"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));",
        base64.b64encode(content).decode("ascii"), name, kind,
    )  # fmt: skip


# Whatever reaches beyond the window, unless it stands in something that scrolls by itself.
TOO_WIDE = """
const width = document.documentElement.clientWidth, found = [];
const scrolls = one => one && one !== document.body
  && (["auto", "scroll"].includes(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
if (document.documentElement.scrollWidth > width) found.push("the page");
for (const one of document.body.querySelectorAll("*")) {
  const box = one.getBoundingClientRect();
  if ((box.right > width + 1 || box.left < -1) && !scrolls(one.parentElement) && !one.closest("svg svg, svg *"))
    found.push(`${one.tagName} ${one.id} ${one.className} ${one.textContent.slice(0, 40)}`);
}
return found;
"""
