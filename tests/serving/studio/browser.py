"""The studio in a real Chromium, and what it asks of the network meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.serving.support.server_process import command, environment
from tests.support.paths import ROOT

CHROMIUM = Path(os.environ.get("SPARSECLIP_CHROMIUM", "/usr/bin/chromium"))
AXE = ROOT / "build" / "axe" / "package" / "axe.min.js"
"""axe-core, which `make test-browser` fetches."""
PATIENCE_MS = 30_000

_VIOLATIONS = """
  globalThis.violations = [];
  document.addEventListener("securitypolicyviolation",
    (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class StudioPage:
    """One tab that shows the studio."""

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What the browser itself found wrong."""

    def open(self, fragment: str = "") -> None:
        """Opens the page, and waits for its first picture."""
        self.page.goto(f"{self.address}/studio/{fragment}")
        self.page.wait_for_selector("body[data-ready]")

    def wait(self, selector: str) -> None:
        self.page.wait_for_selector(selector)

    def state(self, expression: str) -> Any:
        """An expression of the page's own `state`."""
        module = "const { state } = await import('/studio/js/state.js');"
        return self.page.evaluate(f"async () => {{ {module} return {expression}; }}")

    def names(self) -> list[str]:
        """The names of the concepts that are shown as bars."""
        names: list[str] = self.page.locator("#bars .name").all_inner_texts()
        return names

    def slide(self, position: int, value: float) -> None:
        """Moves the slider of a bar, counted from 0."""
        self.page.locator("#bars .slider").nth(position).fill(str(value))

    def add_word(self, word: str, *, out: bool = False) -> None:
        """Types a word and adds it, or knocks it out."""
        before = self.page.locator("#edits .edit").count()
        self.page.fill("#word", word)
        if out:
            self.page.click("#word-out")
        else:
            self.page.press("#word", "Enter")
        self.wait(f"#edits .edit:nth-child({before + 1})")

    def answered(self) -> tuple[str, str]:
        """The plain and the steered answer, once both are whole."""
        for kind in ("plain", "steered"):
            self.wait(f".answer.{kind} .answer-text:not(:empty)")
            self.wait(f".answer.{kind}:not(.busy)")
        texts = [
            self.page.inner_text(f".answer.{kind} .answer-text") for kind in ("plain", "steered")
        ]
        return texts[0], texts[1]

    def check(self) -> None:
        """Nothing was asked of another server, and the browser found nothing wrong."""
        mine = (self.address, f"blob:{self.address}", "data:")
        assert [url for url in self.requests if not url.startswith(mine)] == []
        assert self.page.evaluate("() => violations") == []
        assert self.complaints == []


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}; SPARSECLIP_CHROMIUM names another one")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def tab(browser: Any, address: str, **options: Any) -> Iterator[StudioPage]:
    """A tab with nothing kept from others; `options` are of playwright's new_context."""
    settings = {"viewport": {"width": 1440, "height": 1000}, **options}
    context = browser.new_context(**settings)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(_VIOLATIONS)
    page = context.new_page()
    opened = StudioPage(page, address)
    page.on("request", lambda request: opened.requests.append(request.url))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("dialog", lambda dialog: opened.complaints.append(f"dialog: {dialog.message}"))
    try:
        yield opened
    finally:
        context.close()


@contextlib.contextmanager
def server(bundle: Path, *flags: str) -> Iterator[str]:
    """`sparseclip serve` with a studio; its address, once it serves."""
    process = subprocess.Popen(
        command("--bundle", str(bundle), "--port", "0", "--http-port", "0", *flags),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"(http://\S+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield found[1]
    finally:
        process.kill()
        process.wait()
