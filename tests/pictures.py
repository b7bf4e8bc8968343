"""`make pictures`: the pictures of the pages for the README, taken in a real browser from a service of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page

from .browser import started, watched
from .service import Service

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
WIDTH = 820


def take(page: Page, name: str, height: int) -> None:
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True, clip=clip)  # type: ignore[arg-type]


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder) / "instance") as service:
        base, size = f"http://127.0.0.1:{service.port}", {"width": WIDTH, "height": 900}
        with started() as browser, watched(browser, base, viewport=size, timezone_id="UTC") as page:
            page.goto(service.link)
            for sample, verdict in ((1, "agree"), (5, "unsure"), (2, "agree"), (6, ""), (4, "")):
                page.goto(f"/?sample={sample}")
                page.get_by_role("button", name="Ask for an answer").click()
                if verdict:
                    page.locator(f"[name=verdict][value={verdict}]").check()
                    page.get_by_role("button", name="Record the verdict").click()
            page.evaluate("scrollTo(0, 0)")
            take(page, "answer", 1130)
            page.goto("/history")
            take(page, "history", 620)
    print(*(f"{path.relative_to(Path.cwd())}: {path.stat().st_size:,} bytes" for path in PICTURES.iterdir()), sep="\n")


if __name__ == "__main__":
    main()
