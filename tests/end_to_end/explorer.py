"""The explorer as a process, and a real browser that looks at it."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
NO_BROWSER = "chromium is missing: NOTHING IS KNOWN OF THE EXPLORER IN A BROWSER (apt-get install chromium)"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)


@contextlib.contextmanager
def explorer(target: str, *flags: str) -> Iterator[str]:
    """Run `winnow explore` on a free port and return its address."""
    command = [sys.executable, "-m", "winnow.cli", "explore", f"--target={target}", "--port=0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+:\d+", line)
            assert found, line
            yield found[0]
        finally:
            process.terminate()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's browser. While it runs, this thread has a running event loop: no asyncio.run()."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def tab(browser: Browser, address: str, *, width: int = 1280, scheme: str = "light") -> Iterator[Page]:
    """Open a page that may neither log an error nor run a script of somebody else."""
    context = browser.new_context(
        base_url=address, viewport={"width": width, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    try:
        yield page
    finally:
        context.close()
    assert not complaints, complaints


def accessibility_violations(page: Page) -> list[str]:
    """What axe-core finds, of any severity."""
    found = Axe().run(page).response["violations"]
    return [f"{violation['id']}: {node['html'][:200]}" for violation in found for node in violation["nodes"]]


def overflows(page: Page) -> bool:
    """Whether the page as a whole has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
