"""What holds for all views, in a real browser: themes, screens, keyboard, accessibility, what paints first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.page.actions import (
    PHONE,
    OpenPage,
    choose,
    detecting,
    go,
    is_wider_than_the_screen,
    pick,
    tab_to,
    violations,
    wait_until_checked,
    wait_until_made,
)
from tests.page.answers import OURS, PARTLY
from tests.page.conftest import Service, screenshot, until
from tests.page.music import HELD_SEED


def test_everything_works_from_the_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    detecting(page, OURS)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # "Skip to the tool"
    tab_to(page, "#continue .clip")
    page.keyboard.press("Enter")
    page.locator("#settings").wait_for()
    tab_to(page, "#seconds")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    tab_to(page, "#go")
    page.keyboard.press("Enter")
    wait_until_made(page)
    tab_to(page, ".take [data-part=seek]")
    page.keyboard.press("End")
    tab_to(page, ".take [data-part=again]")

    page.keyboard.press("Shift+Tab")  # to "Check this"
    page.keyboard.press("Enter")
    wait_until_checked(page)
    tab_to(page, ".finding [data-part=seek]")
    page.keyboard.press("Home")
    assert page.locator(":focus").get_attribute("aria-valuetext") == "0:00.0, probability 98%"
    tab_to(page, ".finding summary")
    page.keyboard.press("Enter")
    page.locator(".finding table").wait_for()
    tab_to(page, ".finding [data-part=code]")
    page.keyboard.press("Enter")
    page.locator("#code").wait_for()
    page.keyboard.press("Escape")

    page.locator(".brand").focus()
    tab_to(page, "nav a[href='#about']")
    page.keyboard.press("Enter")
    page.locator("#about-lead").wait_for()
    until(page, "document.activeElement.id === 'about-title'")
    tab_to(page, "#about-card summary")
    page.keyboard.press("Enter")
    page.locator("#about-card pre").wait_for()


def test_each_view_has_an_address_and_a_title(open_page: OpenPage, service: Service) -> None:
    page = open_page(view="check")
    assert page.locator(".view:visible").evaluate_all("views => views.map(view => view.id)") == ["check"]
    assert page.title() == "Check - AudioLM as a service"
    page.get_by_role("link", name="About", exact=True).click()
    until(page, "document.title.startsWith('About')")
    assert page.locator("nav [aria-current=page]").inner_text() == "About"
    page.go_back()
    page.locator("#check-title").wait_for()
    page.goto(f"{service.url}#nothing")
    page.locator("#continue-title").wait_for()


def test_what_runs_goes_on_while_another_view_is_open(open_page: OpenPage, service: Service) -> None:
    page = open_page()
    choose(page, seconds=4, seed=HELD_SEED)
    go(page)
    page.locator(".take.running.sounding").wait_for()
    page.get_by_role("link", name="About", exact=True).click()
    page.locator("#about-lead").wait_for()
    service.go_on()
    wait_until_made(page)
    page.get_by_role("link", name="Continue", exact=True).click()
    until(page, IS_DRAWN.replace("PLACE", ".take [data-part=wave]"))


def test_sound_that_arrives_while_a_view_closes_is_drawn_when_it_opens(open_page: OpenPage) -> None:
    """The waveform library alone forgets it, if it is told to draw within 100 ms of the change."""
    page = open_page()
    page.evaluate(DRAW_A_TRACK)
    until(page, IS_DRAWN.replace("PLACE", "#drawn-here"))
    page.wait_for_timeout(300)  # for the library to have taken note of its width
    page.evaluate(CLOSE_AND_DRAW)
    page.wait_for_timeout(300)  # nobody sees it
    page.get_by_role("link", name="Continue", exact=True).click()
    until(page, IS_DRAWN.replace("PLACE", "#drawn-here"))


IS_DRAWN = "document.querySelector('PLACE > div').shadowRoot.querySelector('canvas')?.width > 300"
DRAW_A_TRACK = """async () => {
  const [{ Track }, { Player }] = await Promise.all([import("./static/track.js"), import("./static/player.js")]);
  const place = Object.assign(document.createElement("div"), { id: "drawn-here" });
  document.getElementById("continue").prepend(place);
  const samples = new Float32Array(16000).fill(0.5);
  window.drawnTrack = new Track(place, samples, { player: new Player(samples) });
}"""
CLOSE_AND_DRAW = """async () => {
  location.hash = "about";
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
  window.drawnTrack.update({ now: true });
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_both_themes_on_both_screens(open_page: OpenPage, theme: str, size: str) -> None:
    # axe-core adds inline styles, which the policy forbids; every other test runs under the policy
    page = open_page(color_scheme=theme, bypass_csp=True, **(PHONE if size == "phone" else {}))
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    screenshot(page, f"start-{size}-{theme}")
    choose(page, "Harbor", seconds=2, versions=2)
    go(page)
    page.locator(".take.sounding").first.wait_for()
    screenshot(page, f"making-{size}-{theme}")
    wait_until_made(page)
    page.wait_for_timeout(300)  # for the last drawing
    screenshot(page, f"made-{size}-{theme}")
    assert not is_wider_than_the_screen(page)
    found = violations(page)
    page.get_by_role("button", name="curl & Python").first.click()
    found += violations(page, "#code")
    page.keyboard.press("Escape")

    detecting(page, PARTLY)
    page.get_by_role("link", name="Check", exact=True).click()
    pick(page, view="check")
    wait_until_checked(page)
    page.locator(".finding summary").click()
    page.wait_for_timeout(300)
    screenshot(page, f"check-{size}-{theme}")
    assert not is_wider_than_the_screen(page)
    found += violations(page)

    page.get_by_role("link", name="About", exact=True).click()
    page.locator("#about-card summary").click()
    screenshot(page, f"about-{size}-{theme}")
    assert not is_wider_than_the_screen(page)
    found += violations(page)
    assert found == []

    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") != theme
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") != theme, "the choice is remembered"


def test_the_api_description_loads_from_here_too(open_page: OpenPage, service: Service) -> None:
    page = open_page()
    page.goto(f"{service.url}docs")
    page.get_by_text("Continue a clip", exact=True).wait_for()
    screenshot(page, "docs")


def test_the_page_paints_before_it_is_told_anything(open_page: OpenPage, service: Service) -> None:
    """It appears at once: neither its modules nor the model card have to be there first."""
    page = open_page()
    held: list[Any] = []

    def hold(route: Any, request: Any) -> None:
        if request.resource_type in ("document", "stylesheet") or request.url.endswith("/theme.js"):
            route.continue_()
        else:
            held.append(route)

    page.route("**/*", hold)
    page.goto(f"{service.url}?again", wait_until="commit")
    until(page, "performance.getEntriesByName('first-contentful-paint').length > 0")
    assert any(route.request.url.endswith("/main.js") for route in held)
    assert page.locator("#continue-title").is_visible()
    page.unroute_all()  # what was held goes on
    page.wait_for_selector("#versions label", state="attached")
