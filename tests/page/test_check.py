"""The view that checks a clip, in a real browser, with answers of /detect as they may come."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.page.actions import (
    MUSIC_FILE,
    OpenPage,
    choose,
    detecting,
    downloaded,
    go,
    open_file,
    pick,
    refusing,
    samples_of,
    wait_until_checked,
    wait_until_made,
)
from tests.page.answers import ALL, BLIND, GENERATION, NO_EVIDENCE, OURS, PARTLY
from tests.page.conftest import screenshot, until


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ours", "This system made it"),
        ("partly", "This system made part of it"),
        ("inconclusive", "Not clear"),
        ("no-evidence", "No sign of this system"),
        ("blind", "Not clear"),
    ],
)
def test_each_verdict_in_words(open_page: OpenPage, name: str, title: str) -> None:
    page = open_page(view="check")
    requests = detecting(page, ALL[name])
    pick(page, view="check")
    wait_until_checked(page)
    page.wait_for_timeout(300)  # for the drawing
    screenshot(page, f"verdict-{name}")
    assert requests[0].post_data_buffer == MUSIC_FILE.read_bytes()
    finding = page.locator(".finding")
    assert finding.get_by_role("heading", level=2).inner_text() == title
    words = finding.inner_text()
    assert ALL[name]["summary"] in words
    assert "Not that a person made the sound" in words
    assert "human" not in words
    assert len(finding.locator(".layers > li").all()) == 4


def test_the_evidence_is_explained(open_page: OpenPage) -> None:
    page = open_page(view="check")
    detecting(page, PARTLY)
    pick(page, view="check")
    wait_until_checked(page)
    layers = [" ".join(item.split()) for item in page.locator(".layers > li").all_inner_texts()]
    credentials, ledger, watermark, classifier = layers
    assert credentials.startswith("Content credentials does not count")
    assert "Example Recorder whom this service does not know" in credentials
    assert ledger.startswith("Ledger found") and GENERATION in ledger and "Seed 7" in ledger
    assert (
        "1 in 1 billion" in watermark and "Where 0:03.1 to 0:05.0" in watermark and "Number 4711" in watermark
    )
    assert "97%" in classifier and "the line is drawn at 90%" in classifier
    rates = page.locator("[data-part=rates]").inner_text()
    assert "On 3,000 clips of 3-5 s" in rates and "0.1%" in rates
    assert "at most 0.3% (95% confidence): 3 false alarms in 1,000 clips" in rates
    assert "it found 94%" in rates
    assert "the classifier alone misses 6%" in page.locator("[data-part=caveats]").inner_text()


def test_layers_that_did_not_look_are_named(open_page: OpenPage) -> None:
    page = open_page(view="check")
    detecting(page, BLIND)
    pick(page, view="check")
    wait_until_checked(page)
    assert page.locator(".layers h4 span").all_inner_texts() == ["not looked at"] * 4
    assert "No error rate of the classifier is known" in page.locator("[data-part=rates]").inner_text()
    assert not page.locator(".finding table").is_visible() and not page.locator(".plot").count()


def test_the_timeline_can_be_seen_read_and_played(open_page: OpenPage) -> None:
    page = open_page(view="check")
    detecting(page, PARTLY)
    pick(page, view="check")
    wait_until_checked(page)
    finding = page.locator(".finding")
    chart = finding.locator(".chart[role=img]")
    assert chart.get_attribute("aria-label") == (
        "Probability that this system made it, in 6 windows: from 2% to 97%. Made by this system: 0:03.0 to 0:05.0."
    )
    assert finding.locator(".lane-name").all_inner_texts() == ["Ledger", "Watermark", "Classifier"]
    track, bar = finding.locator(".chart").bounding_box(), finding.locator("i.watermark").bounding_box()
    assert (bar["x"] - track["x"]) / track["width"] == pytest.approx(3.1 / 5, abs=0.01)
    assert (
        finding.locator("[data-part=segment-list]").inner_text()
        == "0:03.0 to 0:05.0 Ledger, Watermark, Classifier"
    )
    finding.locator("summary").click()
    assert finding.locator("tbody tr").count() == 6
    assert finding.locator("tbody tr").last.inner_text().split("\t") == ["0:02.5", "0:05.0", "97%"]
    finding.get_by_role("slider").fill("2.8")
    assert finding.locator("[data-part=here]").inner_text() == "probability 81%"
    finding.get_by_role("button", name="Play").click()
    until(page, "Number(document.querySelector('.finding [data-part=seek]').value) > 3.5")
    assert finding.locator("[data-part=here]").inner_text() in ("probability 96%", "probability 97%")


def test_a_continuation_is_checked_as_it_would_be_saved(open_page: OpenPage) -> None:
    page = open_page()
    requests = detecting(page, OURS)
    choose(page, seconds=1)
    go(page)
    wait_until_made(page)
    saved = downloaded(page, "WAV").read_bytes()
    page.get_by_role("button", name="Check this").click()
    wait_until_checked(page)
    assert requests[0].post_data_buffer == saved
    assert requests[0].headers["content-type"] == "audio/wav"
    assert page.locator("#check").is_visible() and not page.locator("#continue").is_visible()
    assert page.locator(".finding").evaluate("element => element === document.activeElement")
    assert page.locator(".finding [data-part=clip]").inner_text() == "Continuation of Waltz, piano, 0:05.0"


def test_progress_is_told_and_cancel_ends_the_request(open_page: OpenPage) -> None:
    page = open_page(view="check")
    asked = []
    page.route("**/detect", lambda route, request: asked.append(request))
    page.route(
        "**/v1/progress/*",
        lambda route: route.fulfill(json={"state": "queued", "place": 3, "stages": {}}),
    )
    pick(page, view="check")
    page.get_by_text("Waiting: place 3 in the queue").wait_for()
    screenshot(page, "checking")
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Cancel").last.click()
    page.get_by_text("Cancelled.").last.wait_for()
    assert len(asked) == 1


def test_a_refusal_is_told_and_can_be_tried_again(open_page: OpenPage) -> None:
    page = open_page(view="check")
    refusing(page, 429, "overloaded", "full", wait_seconds=12)
    pick(page, view="check")
    page.get_by_role("alert").get_by_text(
        "The service is full at the moment. Try again in 12 seconds."
    ).wait_for()
    screenshot(page, "check-refused")
    page.unroute("**/detect")
    detecting(page, NO_EVIDENCE)
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("heading", name="No sign of this system").wait_for()


def test_what_the_service_cannot_read_is_sent_as_wav(open_page: OpenPage, tmp_path: Path) -> None:
    """As a phone's voice memo in M4A; here the service is made to refuse a FLAC."""
    page = open_page(view="check")
    kinds = []

    def only_wav(route: object, request: object) -> None:
        kind = request.headers["content-type"]  # type: ignore[attr-defined]
        kinds.append(kind)
        if kind == "audio/wav":
            route.fulfill(json=NO_EVIDENCE)  # type: ignore[attr-defined]
        else:
            problem = {"status": 415, "code": "unsupported_audio", "detail": "send WAV"}
            route.fulfill(status=415, json=problem)  # type: ignore[attr-defined]

    page.route("**/detect", only_wav)
    pick(page, view="check")
    wait_until_checked(page)
    assert kinds == ["audio/flac", "audio/wav"]
    page.get_by_text("its sound was sent as a WAV file").wait_for()


def test_what_nobody_can_read_is_refused_in_words(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("no sound at all")
    page = open_page(view="check")
    open_file(page, tmp_path / "letter.txt", view="check")
    page.get_by_role("alert").get_by_text("send WAV, FLAC, Ogg").wait_for()
    assert page.get_by_role("heading", name="This could not be checked").is_visible()


def test_a_long_clip_is_drawn_too(open_page: OpenPage, tmp_path: Path) -> None:
    seconds = 300
    soundfile.write(
        tmp_path / "long.wav", np.random.default_rng(0).uniform(-0.3, 0.3, seconds * 16_000), 16_000
    )
    windows = [
        {"start": start / 2, "end": start / 2 + 2.5, "probability": 0.5} for start in range(2 * seconds - 4)
    ]
    page = open_page(view="check")
    detecting(page, {**NO_EVIDENCE, "seconds": seconds, "timeline": windows})
    open_file(page, tmp_path / "long.wav", view="check")
    wait_until_checked(page)
    assert page.locator(".axis span").last.inner_text() == "4:00"
    assert page.locator(".finding tbody tr").count() == 596


def test_the_answer_is_kept_and_made_again_from_code(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(view="check")
    detecting(page, PARTLY)
    pick(page, view="check")
    wait_until_checked(page)
    assert json.loads(downloaded(page, "Download JSON").read_text()) == PARTLY
    page.get_by_role("button", name="curl & Python").click()
    screenshot(page, "code-check")
    script = page.locator("#code [data-part=curl]").text_content()
    python = page.locator("#code [data-part=python]").text_content()
    shown = subprocess.run(
        ["bash", "-euc", script.replace("curl ", "curl --noproxy '*' -s ")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert json.loads(shown.stdout)["seconds"] == samples_of(MUSIC_FILE).size / 16_000
    assert 'finding["verdict"]' in python
    exec(compile(python, "snippet", "exec"), {})


def test_numbers_are_told_as_people_tell_them(open_page: OpenPage) -> None:
    page = open_page()
    shown = page.evaluate(
        """async () => {
          const { percent, likelihood, errorRates } = await import("./static/words.js");
          const point = { bucket: "1-2 s", clips: 12000, false_positive_rate: 0, upper_bound: 0.00025 };
          return {
            percent: [0, 0.0004, 0.0123, 0.5, 0.97, 0.9996, 1].map(percent),
            likelihood: [0, 0.5, 1].map(likelihood),
            rates: errorRates({ operating_point: { ...point, true_positive_rate: null } })[0],
          };
        }"""
    )
    assert shown["percent"] == ["0%", "0.04%", "1.2%", "50%", "97%", "99.96%", "100%"]
    assert shown["likelihood"] == ["under 0.1%", "50%", "over 99.9%"]
    assert "12,000 clips of 1-2 s" in shown["rates"] and "for none of them" in shown["rates"]
    assert "at most 0.025% (95% confidence): 1 false alarm in 4,000 clips." in shown["rates"]
