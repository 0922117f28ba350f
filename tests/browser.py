"""Real headless Chromium for tests of pages. A test imports it as `from tests.browser import browser, requests_of`.

(`tests` is a namespace package: pytest's `pythonpath` has the repository's root, as for tests/curate/builders.py.)
Without chromium or chromedriver a test is skipped, unless QUESTION_BANK_BROWSER is "required". Screenshots go to the
folder that QUESTION_BANK_SCREENSHOTS names, if it names one.
"""

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

HEIGHT = 900
PHONE = 600
"""Windows narrower than this are emulated as a phone's."""
QUIET = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--hide-scrollbars",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-default-browser-check",
    "--force-device-scale-factor=1",
)


@contextmanager
def browser(width: int = 1280, dark: bool = False) -> Iterator[Chrome]:
    """A Chromium with a window `width` pixels wide and a profile of its own; closed at the end."""
    chromium, chromedriver = _found("chromium", "chromium-browser", "google-chrome"), _found("chromedriver")
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in QUIET:
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # the sandbox does not start for root
    options.add_argument(f"--window-size={max(width, PHONE)},{HEIGHT}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = Chrome(options=options, service=Service(chromedriver))
        try:
            driver.get("about:blank")
            look(driver, width, dark)
            driver.get_log("performance")  # the browser's own first page ends here
            yield driver
        finally:
            driver.quit()


def look(driver: Chrome, width: int, dark: bool) -> None:
    """Give the window another width and colour scheme."""
    window = {"width": width, "height": HEIGHT, "screenWidth": width, "screenHeight": HEIGHT}
    size = {**window, "deviceScaleFactor": 1, "mobile": width < PHONE}
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def requests_of(driver: Chrome) -> list[str]:
    """Every URL that pages have requested since this was last asked, web sockets' last."""
    messages = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    sockets = [message["params"] for message in messages if message["method"] == "Network.webSocketCreated"]
    urls = [params["request"]["url"] for params in sent] + [params["url"] for params in sockets]
    return [url for url in urls if not url.startswith(("about:", "chrome://"))]


def complaints(driver: Chrome) -> list[str]:
    """The warnings and errors in the console since this was last asked, those of the content security policy too."""
    return [line["message"] for line in driver.get_log("browser") if line["level"] in ("WARNING", "SEVERE")]


def overflows(driver: Chrome) -> bool:
    """Whether the document is wider than the window.

    A phone's window grows with what overflows it; the screen's width stays as `look` set it.
    """
    widest = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) > screen.width"
    return bool(driver.execute_script(widest))


def undrawn(driver: Chrome, text: str) -> str:
    """The characters of a text that no font of the page draws: they look like one that no font can have."""
    return driver.execute_script(
        """
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 48;
        const pen = canvas.getContext("2d", {willReadFrequently: true});
        const drawn = letter => {
          pen.clearRect(0, 0, 48, 48);
          pen.font = "32px " + getComputedStyle(document.body).fontFamily;
          pen.fillText(letter, 4, 38);
          return pen.getImageData(0, 0, 48, 48).data.join();
        };
        const box = drawn(String.fromCodePoint(0x10fffd));
        return [...arguments[0]].filter(letter => drawn(letter) === box).join("");
        """,
        text,
    )


def screenshot(driver: Chrome, name: str) -> None:
    """Keep a picture of the whole page as NAME.png, where such are wanted."""
    if folder := os.environ.get("QUESTION_BANK_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(picture(driver))


def picture(driver: Chrome) -> bytes:
    """The whole page as PNG."""
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(shot["data"])


def _found(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    reason = f"{names[0]} is not installed (Debian: apt-get install chromium chromium-driver)"
    if os.environ.get("QUESTION_BANK_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
