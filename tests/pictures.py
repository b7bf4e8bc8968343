"""`make pictures`: pictures of the pages for README and docs, taken in a real browser from a service of their own."""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

from reviewapp import release as releases
from reviewapp.config import load_settings
from reviewapp.csvfiles import write
from reviewapp.factory import make_parts
from reviewapp.prediction import Call, Verdict, timestamp, utcnow
from reviewapp.samples import as_text
from reviewapp.triage import generator

from .browser import started, watched
from .service import Service

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
WIDTH, PHONE = 820, 360
COLOURS = 128  # plain pages need few, and a picture in a repository is kept for ever


def take(page: Page, name: str, height: int, width: int = WIDTH) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(100)
    whole = page.evaluate("document.documentElement.scrollHeight")
    clip: Any = {"x": 0, "y": 0, "width": width, "height": min(height, whole)}
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
    few = shot.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(PICTURES / f"{name}.png", optimize=True)


def fill(instance: Path, n: int = 1200) -> None:
    """Let the desk have worked for a while: what waited for a person is judged by its true label, but for the last."""
    parts = make_parts(load_settings({"instance": instance}))
    examples = generator.generate(n, seed=6)
    records = [dict(one.record) for one in examples]
    made = parts.registry.adapter().predict(records, Call(source="api", client="mail-gateway"), compare=True)
    judged = [
        (example, one) for example, one in zip(examples, made, strict=True) if one.audit or one.decision == "review"
    ]
    for example, one in judged[:-40]:
        right = example.label == one.output["label"]
        label = None if right else example.label
        given = Verdict("agree" if right else "corrected", label, None, [], None, "ann", timestamp(utcnow()))
        parts.ledger.add_verdict(one.id, given)
    live = parts.registry.adapter().release
    stricter = replace(live, policy=replace(live.policy, cost_wrong=20, blind_share=0.25))
    parts.registry.add(releases.write(stricter, parts.settings.releases), "ann")
    parts.store.close()


def table(folder: Path) -> Path:
    """Return a CSV file of requests, two of them with a mistake."""
    records = [dict(one.record) for one in generator.generate(40, seed=7)]
    rows = [[as_text(value) for value in record.values()] for record in records]
    rows[3][list(records[0]).index("channel")] = "fax"
    rows[7][list(records[0]).index("open_tickets")] = "-1"
    path = folder / "requests of Monday.csv"
    path.write_text(write([list(records[0]), *rows]), newline="")
    return path


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder) / "instance") as service:
        fill(service.instance)
        base, size = f"http://127.0.0.1:{service.port}", {"width": WIDTH, "height": 900}
        with started() as browser, watched(browser, base, viewport=size, timezone_id="UTC") as page:
            page.goto(service.link)
            take(page, "try", 900)
            page.goto("/?sample=4")
            page.get_by_role("button", name="Ask for an answer").click()
            page.evaluate("scrollTo(0, 0)")
            take(page, "answer", 1500)
            page.get_by_role("link", name="Channel").click()
            page.get_by_label("phone").check()
            page.get_by_role("button", name="See the answer").click()
            take(page, "what-if", 900)
            page.goto("/queue")
            page.get_by_role("button", name="Open the next record").click()
            while not page.get_by_role("button", name="Agree").count():  # one that is judged blind shows less
                page.get_by_text("Skip: it comes back last").click()
            page.keyboard.press("?")
            take(page, "queue", 1250, 1200)
            take(page, "queue-phone", 1500, PHONE)
            page.goto("/history")
            take(page, "history", 760)
            page.locator("td a").first.click()
            take(page, "record", 1300)
            page.goto("/upload")
            page.get_by_label("File").set_input_files(table(Path(folder)))
            page.get_by_role("button", name="Answer this file").click()
            page.get_by_role("link", name="Download").first.wait_for()
            page.wait_for_load_state()
            take(page, "upload", 1000)
            for name, height in (("monitor", 1300), ("releases", 1000), ("contract", 900), ("evidence", 1000)):
                page.goto(f"/{name}")
                take(page, name, height)
            page.goto("/releases/2/promote")
            take(page, "promote", 1100)
        with (
            started() as browser,
            watched(browser, base, viewport=size, timezone_id="UTC", color_scheme="dark") as page,
        ):
            page.goto("/contract")
            take(page, "dark", 700)
    sizes = {path: path.stat().st_size for path in sorted(PICTURES.iterdir())}
    print(*(f"{path.relative_to(Path.cwd())}: {size:,} bytes" for path, size in sizes.items()), sep="\n")


if __name__ == "__main__":
    main()
