"""From a continuation to its verdict through the real routes, with the real watermark, ledger and signature."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.page.actions import (
    OpenPage,
    choose,
    downloaded,
    go,
    open_file,
    pick,
    wait_until_checked,
    wait_until_made,
)
from tests.page.conftest import Service, screenshot


def test_what_was_made_here_is_known_again(open_page: OpenPage, tmp_path: Path) -> None:
    service = Service(data_dir=tmp_path)
    try:
        page = open_page(service.url)
        choose(page, seconds=6)
        go(page)
        wait_until_made(page)
        signed = downloaded(page, "FLAC")

        page.get_by_role("button", name="Check this").click()
        wait_until_checked(page)
        page.wait_for_timeout(300)  # for the drawing
        screenshot(page, "end-to-end")
        finding = page.locator(".finding")
        assert finding.get_by_role("heading", level=2).inner_text() == "This system made part of it"
        start = finding.locator("[data-part=segment-list] strong").first.inner_text().split(" to ")[0]
        assert float(start.removeprefix("0:")) == pytest.approx(5.0, abs=1.0), (
            "after the five seconds that were given"
        )
        assert states(page) == ["nothing found", "found", "found", "nothing found"]
        assert "Seed 7" in " ".join(finding.inner_text().split())

        open_file(page, signed.rename(tmp_path / "continuation.flac"), view="check")
        page.get_by_role("heading", name="This system made it", exact=True).wait_for()
        assert states(page)[:3] == ["found", "found", "found"]

        pick(page, "Harbor", view="check")
        page.get_by_role("heading", name="No sign of this system").wait_for()
        assert states(page) == ["nothing found"] * 4
    finally:
        service.close()


def states(page: object) -> list[str]:
    """What is said of content credentials, ledger, watermark and classifier."""
    texts: list[str] = page.locator(".layers h4 span").all_inner_texts()  # type: ignore[attr-defined]
    return texts
