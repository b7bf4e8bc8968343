"""The pages in a real browser: with and without script, by keyboard alone, for everybody, whatever was typed."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from reviewapp import release as releases
from reviewapp.config import load_settings
from reviewapp.factory import make_parts

from .browser import DESK, MARKS, PHONE, Open, flaws, tab_to, watched
from .service import Service
from .small import with_limit

pytestmark = MARKS


def answered(page: Page) -> None:
    """Wait for an answer and all that follows it: its heading is seen before the rest of the page has come."""
    expect(page.get_by_role("heading", name="The answer", exact=True)).to_be_visible()
    page.wait_for_load_state()


def answer(page: Page, sample: int = 4) -> None:
    """Ask with a sample through the form."""
    page.goto(f"/?sample={sample}")
    page.get_by_role("button", name="Ask for an answer").click()
    answered(page)


def test_the_printed_link_opens_the_form_once(browser: Browser, base: str, service: Service) -> None:
    with watched(browser, base) as page:
        page.goto(service.link)
        expect(page).to_have_url(f"{base}/")
        expect(page.get_by_text("owner (admin)")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        page.goto(service.link)
        expect(page.get_by_text("used before or has expired")).to_be_visible()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_from_a_sample_to_the_history(opened: Open, base: str, script: bool) -> None:
    with opened(java_script_enabled=script) as page:
        page.goto("/")
        page.get_by_role("link", name="One that model and baseline see differently").click()
        page.get_by_role("button", name="Ask for an answer").click()
        expect(page.get_by_role("row", name="Answer differ")).to_be_visible()
        expect(page.get_by_role("heading", name="What moved the answer")).to_be_visible()
        page.get_by_label("Corrected").check()
        page.get_by_label("Note").fill("it is an outage")
        page.get_by_role("button", name="Record the verdict").click()
        page.get_by_role("alert").get_by_role("link", name="A correction says the right label").click()
        expect(page.get_by_label("Note")).to_have_value("it is an outage")
        page.get_by_label("Right label").select_option("outage")
        page.get_by_role("button", name="Record the verdict").click()
        expect(page.get_by_text("The verdict that holds: corrected, right is outage.")).to_be_visible()
        record = page.url.split("#")[0]
        page.get_by_role("link", name="History").click()
        row = page.get_by_role("row").nth(1)
        expect(row).to_contain_text("corrected")
        row.get_by_role("link").click()
        expect(page).to_have_url(record)
        expect(page.get_by_text("it is an outage")).to_be_visible()
        for name, says in (
            ("Contract", "What goes in"), ("Monitor", "Share that goes to a person"), ("Releases", "All releases"),
            ("Evidence", "All files"),
        ):  # fmt: skip
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.get_by_role("heading", name=says)).to_be_visible()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_mistake_is_linked_and_what_was_typed_stays(opened: Open, script: bool) -> None:
    with opened(java_script_enabled=script) as page:
        page.goto("/?sample=1")
        page.get_by_label("Open tickets").fill("many")
        page.get_by_role("button", name="Ask for an answer").click()
        summary = page.get_by_role("alert")
        if script:
            expect(summary).to_be_focused()
        summary.get_by_role("link", name="Open tickets: This must be a whole number.").click()
        expect(page.get_by_label("Open tickets")).to_be_focused()
        expect(page.get_by_label("Open tickets")).to_have_value("many")
        page.get_by_label("Open tickets").fill("2")
        page.get_by_role("button", name="Ask for an answer").click()
        answered(page)


def test_the_keyboard_alone_is_enough(opened: Open) -> None:
    with opened() as page:
        page.goto("/")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        tab_to(page, "a[href='/?sample=5']")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Subject")).not_to_have_value("")
        tab_to(page, "main form button")
        page.keyboard.press("Enter")
        answered(page)
        tab_to(page, "[name=verdict]")
        page.keyboard.press("Space")
        for _ in range(3):
            page.keyboard.press("ArrowDown")
        expect(page.get_by_label("Unsure")).to_be_checked()
        tab_to(page, "[name=note]")
        page.keyboard.type("Nobody could tell.")
        tab_to(page, "button")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The verdict that holds: unsure.")).to_be_visible()
        page.keyboard.press("Control+Home")
        page.evaluate("document.activeElement.blur()")
        tab_to(page, "nav a[href='/history']", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="History")).to_be_visible()
        tab_to(page, "summary")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Verdict")).to_be_visible()
        tab_to(page, "td a")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Nobody could tell.")).to_be_visible()


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["light on a desk", "dark on a phone"]
)
def test_every_page_in_every_state_is_for_everybody(
    opened: Open, browser: Browser, base: str, viewport: Any, scheme: str
) -> None:
    look: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme}
    with watched(browser, base, **look) as page:
        found = []
        for path in ("/sign-in", "/contract"):
            page.goto(path)
            found += flaws(page)
        page.goto("/sign-in")
        page.get_by_role("button", name="Sign in").click()
        found += flaws(page)
    with opened(**look) as page:
        for path in ("/", "/?sample=6", "/history?q=nothing", "/history?since=x&more=1", "/contract", "/releases",
                     "/evidence", "/nothing", "/?sample=x"):  # fmt: skip
            page.goto(path)
            found += flaws(page)
        page.goto("/")
        page.get_by_role("button", name="Ask for an answer").click()
        found += flaws(page)
        for sample in (4, 6):
            answer(page, sample)
            for copy in page.get_by_text("Copy as").all():
                copy.click()
            found += flaws(page)
        page.get_by_label("Corrected").check()
        page.get_by_role("button", name="Record the verdict").click()
        found += flaws(page)
        page.get_by_label("Right label").select_option("bug")
        page.get_by_label("Note").fill("A note.")
        page.get_by_role("button", name="Record the verdict").click()
        found += flaws(page)
        page.get_by_role("button", name="Take it back").click()
        found += flaws(page)
        page.goto("/history?limit=1&source=form")
        found += flaws(page)
        page.get_by_role("link", name="Older").click()
        found += flaws(page)
    assert found == []


def test_an_admin_promotes_and_rolls_back_on_pages_that_are_for_everybody(
    browser: Browser, base: str, service: Service
) -> None:
    parts = make_parts(load_settings({"instance": service.instance}, {}))
    live = parts.registry.adapter().release
    parts.registry.add(releases.write(with_limit(live, 100), parts.settings.releases), "test")
    parts.store.close()
    token = service.token("eve", "admin")
    found = []
    looks: list[dict[str, Any]] = [
        {"viewport": DESK, "color_scheme": "light"},
        {"viewport": PHONE, "color_scheme": "dark"},
        {"java_script_enabled": False},
    ]
    for look in looks:
        check = flaws if look.get("java_script_enabled", True) else lambda _: []  # axe-core is script
        with watched(browser, base, **look) as page:
            page.goto("/sign-in")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            page.goto("/releases")
            found += check(page)
            page.get_by_role("link", name="Promote triage/2").click()
            found += check(page)
            page.get_by_label("Reason").fill("stricter")
            page.get_by_role("button", name="Promote triage/2").click()
            page.get_by_role("alert").get_by_role("link", name="Callers are ready for this").click()
            found += check(page)
            page.get_by_label("Yes").check()
            expect(page.get_by_label("Reason")).to_have_value("stricter")
            page.get_by_role("button", name="Promote triage/2").click()
            expect(page.get_by_role("heading", name="What answers now: triage/2")).to_be_visible()
            page.get_by_text("which breaks callers").first.click()
            found += check(page)
            page.get_by_role("link", name="Roll back to triage/1").click()
            found += check(page)
            page.get_by_label("Reason").fill("too strict")
            page.get_by_role("button", name="Roll back to triage/1").click()
            expect(page.get_by_role("heading", name="What answers now: triage/1")).to_be_visible()
    assert found == []


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"'></textarea>{{ 7 * 7 }} \u202eleft\u2066 =1+1 🙂👩‍👩‍👧 "
    "&amp; javascript:alert(1) "
) + "x" * 3000


def test_whatever_a_request_holds_is_shown_as_text(opened: Open, service: Service, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    record = {"subject": HOSTILE[:190], "body": HOSTILE, "channel": "web", "customer_tier": None, "open_tickets": 99,
              "account_age_days": 1, "has_attachment": True}  # fmt: skip
    body = {"input": record, "reference": HOSTILE[:190]}
    made = service.call("POST", "/api/v1/predictions?compare=1&explain=1", body, headers)[1]["id"]
    verdict = {"verdict": "unsure", "note": HOSTILE[:1900], "reasons": [HOSTILE[:90]]}
    assert service.call("PUT", f"/api/v1/predictions/{made}/verdict", verdict, headers)[0] == 200
    with opened(viewport=PHONE) as page:
        for path in (f"/history/{made}", f"/?prediction={made}", "/history"):
            page.goto(path)
            for details in page.locator("summary").all():
                details.click()
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
            own = ["page.js", *(["queue.js"] if path.startswith("/history/") else [])]
            names = page.evaluate("[...document.scripts].map(one => one.src.replace(location.origin, ''))")
            assert names == [f"/static/{name}" for name in own]
            assert page.evaluate("document.images.length") == 0
            words = page.evaluate("document.body.textContent")
            assert HOSTILE[:60] in words
        page.goto(f"/?prediction={made}#request")
        expect(page.get_by_label("Message")).to_have_value(HOSTILE)


def test_what_is_copied_is_answered(opened: Open, base: str, token: str, tmp_path: Path) -> None:
    with opened(permissions=["clipboard-read", "clipboard-write"]) as page:
        answer(page)
        copied = []
        for language in ("curl", "Python"):
            page.get_by_text(f"Copy as {language}").click()
            details = page.locator("details[open]").last
            details.get_by_role("button", name="Copy").click()
            expect(details.get_by_role("button", name="Copied")).to_be_visible()
            copied.append(page.evaluate("navigator.clipboard.readText()"))
        shown = page.get_by_role("row", name="Answer differ").locator("td").last.text_content()
    command, script = copied
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={"TOKEN": token, **PATH})
    assert json.loads(done.stdout)["output"]["label"] == shown, done
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={"TOKEN": token})
    assert shown in done.stdout, done.stderr


PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_a_double_click_and_the_way_back_ask_nothing_twice(opened: Open) -> None:
    def recorded(page: Page) -> int:
        shown = page.context.request.get("/history?q=Doubleclicked", headers={"Accept": "application/json"})
        return len(shown.json()["predictions"])

    with opened() as page:
        page.goto("/?sample=1")
        page.get_by_label("Subject").fill("Doubleclicked")
        page.get_by_role("button", name="Ask for an answer").dblclick()
        answered(page)
        page.reload()
        page.go_back()
        page.go_forward()
        answered(page)
        assert recorded(page) == 1
        page.go_back()
        page.get_by_role("button", name="Ask for an answer").click()  # meant
        answered(page)
        assert recorded(page) == 2


def test_times_are_those_of_the_reader(opened: Open) -> None:
    with opened(timezone_id="Asia/Tokyo", locale="en-GB") as page:
        answer(page)
        page.goto("/history")
        first = page.locator("time").first
        assert re.search(r"\d\d:\d\d.* (GMT\+9|JST)", first.text_content() or "")
        assert (first.get_attribute("title") or "").endswith("UTC")


def test_the_check_for_everybody_finds_a_planted_mistake(opened: Open) -> None:
    with opened(viewport=PHONE) as page:
        page.goto("/contract")
        page.evaluate("document.querySelector('main').innerHTML += '<input><pre class=wide></pre>'")
        page.locator("pre.wide").evaluate("wide => { wide.style.width = '500px' }")
        found = " ".join(flaws(page))
    assert "label" in found
    assert "scrolls sideways" in found


def test_hostile_text_runs_nothing_and_breaks_no_rule_of_the_policy(opened: Open, service: Service, token: str) -> None:
    """The policy is never even asked: what was sent is text on every page."""
    text = "\"'></textarea><script>stolen=1</script><img src=x onerror=stolen=1><style>*{color:red}</style>"
    bearer = {"Authorization": f"Bearer {token}"}
    asked = {**json.loads(service.curl["body"]), "reference": text}
    asked["input"] = {**asked["input"], "subject": text, "body": text}
    status, made, _ = service.call("POST", "/api/v1/predictions?explain=true&compare=true", asked, bearer)
    assert status == 201
    judged = {"verdict": "unsure", "note": text, "reasons": [text[:100]]}
    assert service.call("PUT", f"/api/v1/predictions/{made['id']}/verdict", judged, bearer)[0] == 200
    with opened() as page:
        page.add_init_script("broken = []; addEventListener('securitypolicyviolation', e => broken.push(e.blockedURI))")
        for path in (f"/history/{made['id']}", "/history", f"/what-if/{made['id']}?field=subject", f"/nothing/{text}"):
            page.goto(path)
            assert page.evaluate("[broken, typeof stolen]") == [[], "undefined"]


def test_the_policy_stops_what_would_get_past_all_else(browser: Browser, base: str) -> None:
    """Script, style, picture, frame and form put into a page by hand: none is run, loaded or sent."""
    page = browser.new_context(base_url=base).new_page()
    sent: list[str] = []
    page.on("requestfinished", lambda request: sent.append(request.url))  # one that is stopped only fails
    page.goto("/sign-in")
    page.evaluate("""() => {
        broken = []; addEventListener('securitypolicyviolation', e => broken.push(e.effectiveDirective));
        const put = html => document.body.append(document.createRange().createContextualFragment(html));
        put('<script>stolen = 1</' + 'script>');
        put('<img src="x" onerror="stolen = 1">');
        put('<img src="http://evil.example/x">');
        put('<script src="http://evil.example/x"></' + 'script>');
        put('<iframe src="http://evil.example/"></iframe>');
        put('<style>body { color: red }</style>');
        put('<p style="color: red">x</p>');
        put('<base href="http://evil.example/">');
        put('<object data="http://evil.example/"></object>');
        put('<form action="http://evil.example/" id="away"></form>');
        fetch('http://evil.example/').catch(() => 0);
        document.getElementById('away').submit();
    }""")
    ends = time.monotonic() + 20
    while not {"form-action", "frame-src"} <= set(page.evaluate("broken")) and time.monotonic() < ends:
        page.wait_for_timeout(50)  # waiting for a function would be an eval, which the policy stops
    found = set(page.evaluate("broken"))
    assert {"script-src-elem", "script-src-attr", "img-src", "frame-src", "style-src-elem", "style-src-attr"} <= found
    assert {"base-uri", "object-src", "form-action", "connect-src"} <= found
    assert page.evaluate("typeof stolen") == "undefined"
    assert [url for url in sent if not url.startswith(base)] == []
    page.context.close()
