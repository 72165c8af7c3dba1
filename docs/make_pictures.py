"""Make docs/img: what the page shows of the demo's archive, in a real Chromium.

python docs/make_pictures.py demo-out/archive

Needs Chromium (`apt-get install chromium`) and Playwright, of the development group.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.browser.served import FLAGS, Service, chromium

PICTURES = {
    "runs": ("#/runs", "light", 640),
    "evolution": ("#/evolution/w1?layer=l1&at=20", "light", 1330),
    "distances": ("#/distances?refs=w*@last&chance=degrees", "dark", 1180),
    "pair": ("#/pair/w0@last/w1@last?chance=density", "light", 900),
}


def show(page: Page, url: str) -> None:
    """Open a view and wait until all of it is there."""
    page.goto("about:blank")
    page.goto(url)
    page.locator("main h1").wait_for(timeout=120_000)
    expect(page.locator("main [role=status].state-note")).to_have_count(0, timeout=120_000)
    expect(page.locator("#state")).to_have_text("live", timeout=120_000)
    expect(page.get_by_text("…", exact=True)).to_have_count(0, timeout=60_000)


def main() -> None:
    """Take all pictures."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    executable = chromium() or sys.exit("expected Chromium, found none: apt-get install chromium")
    folder = Path(__file__).parent / "img"
    folder.mkdir(exist_ok=True)
    with Service(Path(sys.argv[1])) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        for name, (view, theme, height) in PICTURES.items():
            size = ViewportSize(width=1280, height=height)
            with browser.new_context(viewport=size, color_scheme="dark" if theme == "dark" else "light") as context:
                page = context.new_page()
                show(page, service.url + view)
                page.screenshot(path=folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
