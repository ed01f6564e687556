"""Debian's chromium, headless, led by Playwright: for tests of the page, and for its pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

SIZES: Final = {"desktop": (1100, 760), "phone": (390, 780)}
THEMES: Final = ("light", "dark")


def missing() -> str:
    """Why there is no browser here; "" where there is one."""
    if shutil.which("chromium") is None:
        return "chromium is not here: make setup-browser installs it"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not here: make setup installs it"
    return ""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser. While it is open, this thread can begin no event loop."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        try:
            yield browser
        finally:
            browser.close()


def context(browser: Any, size: str, theme: str, **more: Any) -> Any:
    """A browser's window of this size and theme, without cookies."""
    width, height = SIZES[size]
    more = {"is_mobile": size == "phone", "has_touch": size == "phone", **more}
    return browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, locale="en-GB", timezone_id="UTC", **more
    )
