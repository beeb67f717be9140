"""Recording, in a real browser with a microphone that beeps once in a while."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile

from tests.page.actions import (
    OpenPage,
    detecting,
    downloaded,
    go,
    samples_of,
    wait_until_checked,
    wait_until_made,
)
from tests.page.answers import NO_EVIDENCE
from tests.page.conftest import screenshot, until


def test_the_microphone_is_recorded(open_page: OpenPage) -> None:
    page = open_page(permissions=["microphone"])
    page.locator("#continue").get_by_role("button", name="Record").click()
    until(page, "/Stop +0:0[2-9]/.test(document.querySelector('#continue [data-part=label]').textContent)")
    screenshot(page, "recording")
    page.locator("#continue .record").click()
    page.locator("#settings").wait_for()
    assert float(page.locator("#to").input_value()) >= 1.0
    go(page)
    wait_until_made(page)
    recorded = samples_of(downloaded(page, "WAV"))[: -5 * 16_000]
    assert np.abs(recorded).max() > 1000, "the fake microphone beeps"


def test_a_microphone_that_is_refused_is_explained(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.locator("#continue").get_by_role("button", name="Record").click()
    page.get_by_role("alert").get_by_text("Allow it for this page").wait_for()


def test_nothing_is_missed_while_the_page_is_busy(open_page: OpenPage) -> None:
    """Blocked most of the time, the page still draws and keeps every beep: two a second.

    The beeps are made in the recorder's own audio graph, so that they are evenly spaced there however busy the
    machine is."""
    page = open_page(permissions=["microphone"])
    requests = detecting(page, NO_EVIDENCE)
    page.get_by_role("link", name="Check", exact=True).click()
    page.evaluate(BEEP_INSTEAD)
    page.locator("#check").get_by_role("button", name="Record").click()
    until(page, f"{RECORDED_SECONDS} > 0")
    drawn = 0
    while drawn < 10 and page.evaluate(RECORDED_SECONDS) < 25:
        page.evaluate("() => { const end = performance.now() + 1500; while (performance.now() < end); }")
        page.wait_for_timeout(200)
        drawn = page.evaluate(DRAWN_BEEPS)
    assert drawn >= 10, "of the twelve in the six seconds that are drawn"
    screenshot(page, "recording-busy")
    page.locator("#check .record").click()
    wait_until_checked(page)
    sound, rate = soundfile.read(io.BytesIO(requests[0].post_data_buffer), dtype="int16")
    began = beeps(sound, rate)
    assert len(began) >= 10
    assert np.abs(np.diff(began) - rate / 2).max() <= 2, "samples are missing, or there twice"


def test_a_recording_is_checked_as_it_was_recorded(open_page: OpenPage) -> None:
    page = open_page(permissions=["microphone"])
    requests = detecting(page, NO_EVIDENCE)
    page.get_by_role("link", name="Check", exact=True).click()
    page.locator("#check").get_by_role("button", name="Record").click()
    until(page, "/Stop +0:0[2-9]/.test(document.querySelector('#check [data-part=label]').textContent)")
    page.locator("#check .record").click()
    wait_until_checked(page)
    sound, rate = soundfile.read(io.BytesIO(requests[0].post_data_buffer))
    assert sound.ndim == 1 and len(sound) > rate
    assert page.locator(".finding [data-part=clip]").inner_text().startswith("Recording")


RECORDED_SECONDS = "Number(document.querySelector('#check [data-part=label]').textContent.split(':')[1] ?? 0)"
BEEP_INSTEAD = """() => {
  AudioContext.prototype.createMediaStreamSource = function () {
    const buffer = this.createBuffer(1, this.sampleRate / 2, this.sampleRate);
    const beep = buffer.getChannelData(0).subarray(0, this.sampleRate / 50);
    for (let i = 0; i < beep.length; i++) beep[i] = 0.5 * Math.cos((2 * Math.PI * 500 * i) / this.sampleRate);
    const source = new AudioBufferSourceNode(this, { buffer, loop: true });
    source.start();
    return source;
  };
}"""
DRAWN_BEEPS = """() => {
  const wave = document.querySelector("#check .live [data-part=wave] > div");
  const canvas = wave?.shadowRoot.querySelector("canvas");
  if (!canvas?.width) return 0;
  const { width, height } = canvas;
  const row = canvas.getContext("2d").getImageData(0, Math.round(height / 4), width, 1).data;
  const loud = Array.from({ length: width }, (_, x) => row[4 * x + 3] > 128);
  return loud.filter((now, x) => now && !loud.slice(Math.max(0, x - 12), x).some(Boolean)).length;
}"""


def beeps(samples: Any, rate: int) -> Any:
    """Where each beep begins."""
    loud = np.flatnonzero(np.abs(samples) > 1000)
    return loud[np.flatnonzero(np.diff(loud, prepend=-rate) > 0.2 * rate)]
