"""The view that continues a clip, in a real browser: from a click to samples."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.page.actions import (
    MUSIC_FILE,
    OpenPage,
    choose,
    downloaded,
    expected,
    go,
    open_file,
    samples_of,
    wait_until_made,
)
from tests.page.conftest import Service, screenshot, until
from tests.page.music import FAILING_SEED, HELD_SEED


def test_a_clip_is_continued_and_heard_while_it_is_made(open_page: OpenPage, service: Service) -> None:
    page = open_page()
    choose(page, seconds=10, seed=HELD_SEED)
    go(page)
    page.locator(".take.running.sounding").wait_for()
    until(page, "Number(document.querySelector('.take [data-part=seek]').value) > 5")  # past the prompt
    assert page.locator(".take.running [data-part=play]").get_attribute("aria-label") == "Pause"
    service.go_on()
    wait_until_made(page)
    prompt = samples_of(MUSIC_FILE)
    np.testing.assert_array_equal(samples_of(downloaded(page, "WAV")), expected(prompt, HELD_SEED, 10))
    screenshot(page, "continued")


def test_other_formats_come_from_the_service(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, seconds=1)
    go(page)
    wait_until_made(page)
    flac = downloaded(page, "FLAC").read_bytes()
    assert flac.startswith(b"fLaC")
    np.testing.assert_array_equal(samples_of(flac), expected(samples_of(MUSIC_FILE), 7, 1))
    assert downloaded(page, "OGG").read_bytes().startswith(b"OggS")
    assert samples_of(downloaded(page, "MP3").read_bytes()).size >= 6 * 16_000


def test_only_the_selected_part_is_continued(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, seconds=1)
    page.locator("#to").fill("3.5")
    page.locator("#from").fill("1")
    page.locator("#seconds").focus()
    go(page)
    wait_until_made(page)
    prompt = samples_of(MUSIC_FILE)[16_000:56_000]
    np.testing.assert_array_equal(samples_of(downloaded(page, "WAV")), expected(prompt, 7, 1))


def test_the_selection_can_be_dragged(open_page: OpenPage) -> None:
    page = open_page()
    choose(page)
    box = page.locator("#prompt-wave").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=5)
    page.mouse.up()
    assert float(page.locator("#to").input_value()) == pytest.approx(2.5, abs=0.2)


def test_a_file_is_continued(open_page: OpenPage, tmp_path: Path) -> None:
    stereo = np.random.default_rng(0).uniform(-0.3, 0.3, (44_100, 2))
    soundfile.write(tmp_path / "noise.wav", stereo, 44_100)
    page = open_page()
    open_file(page, tmp_path / "noise.wav")
    page.locator("#settings").wait_for()
    assert page.locator("#to").input_value() == "1.0"
    go(page)
    wait_until_made(page)
    assert page.locator(".take.failed").count() == 0


def test_what_is_no_sound_is_refused_in_words(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("no sound at all")
    page = open_page()
    open_file(page, tmp_path / "letter.txt")
    page.get_by_role("alert").get_by_text("letter.txt is not a sound file").wait_for()


def test_cancel_stops_the_work_at_the_service(open_page: OpenPage, service: Service) -> None:
    page = open_page()
    choose(page, seconds=30, seed=HELD_SEED)
    go(page)
    page.locator(".take.sounding").wait_for()
    page.locator("#cancel").click()
    page.get_by_text("Cancelled after").wait_for()
    service.go_on()
    service.said("cancelled")
    made = samples_of(downloaded(page, "WAV")).size - samples_of(MUSIC_FILE).size
    assert 0 < made < 30 * 16_000


def test_an_error_in_the_middle_is_told_and_what_was_made_is_kept(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, seconds=5, seed=FAILING_SEED)
    go(page)
    page.get_by_role("alert").get_by_text("broke off before the sound was complete").wait_for()
    screenshot(page, "broken")
    kept = samples_of(downloaded(page, "WAV"))
    whole = expected(samples_of(MUSIC_FILE), FAILING_SEED, 5)
    assert samples_of(MUSIC_FILE).size < kept.size < whole.size
    np.testing.assert_array_equal(kept, whole[: kept.size])


def test_a_full_service_and_the_place_in_its_queue(open_page: OpenPage) -> None:
    narrow = Service(slots=1, max_queue_size=2)
    try:
        page = open_page(narrow.url)
        choose(page, seconds=8, seed=HELD_SEED, versions=3)
        go(page)
        page.get_by_text("Waiting: next in the queue").wait_for()
        page.get_by_role("alert").get_by_text("The service is full at the moment. Try again in").wait_for()
        screenshot(page, "queue")
        narrow.go_on()
    finally:
        narrow.close()


def test_versions_side_by_side_and_onwards_from_one(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, seconds=1, versions=2)
    go(page)
    wait_until_made(page)
    assert page.locator(".run .take").count() == 2
    assert [text.split()[-1] for text in page.locator(".take small").all_inner_texts()] == ["7", "8"]
    first, second = (box.bounding_box() for box in page.locator(".take").all())
    assert first["y"] == second["y"] and first["x"] < second["x"]
    screenshot(page, "versions")
    page.get_by_role("button", name="Dark theme").click()
    screenshot(page, "versions-dark")
    page.locator("#versions input[value='1']").check(force=True)
    page.locator(".take").nth(1).get_by_role("button", name="Continue from").click()
    until(page, "document.querySelectorAll('.take').length === 3")
    wait_until_made(page)
    onwards = expected(expected(samples_of(MUSIC_FILE), 8, 1), 7, 1)
    with page.expect_download() as download:
        page.locator(".take").first.get_by_role("button", name="WAV").click()
    np.testing.assert_array_equal(samples_of(Path(download.value.path())), onwards)


def test_the_playhead_can_be_moved_and_looped(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, seconds=2)
    go(page)
    wait_until_made(page)
    take = page.locator(".take")
    page.evaluate("document.querySelector('.take [data-part=play][aria-label=Pause]')?.click()")
    take.get_by_role("slider").fill("6")
    assert take.locator("[data-part=time]").inner_text().startswith("0:06.0")
    assert take.locator("[data-part=again]").inner_text() == "Continue from 0:06.0"
    take.get_by_role("button", name="Loop").click()
    take.get_by_role("slider").fill("6.8")
    take.get_by_role("button", name="Play").click()
    until(page, "Number(document.querySelector('.take [data-part=seek]').value) < 3")  # round again
    assert take.get_by_role("button", name="Pause").count() == 1


def test_curl_and_python_make_the_same_sound(open_page: OpenPage, service: Service, tmp_path: Path) -> None:
    page = open_page()
    choose(page, seconds=1)
    go(page)
    wait_until_made(page)
    page.get_by_role("button", name="curl & Python").click()
    screenshot(page, "code")
    python = page.locator("#code [data-part=python]").text_content()
    script = page.locator("#code [data-part=curl]").text_content()
    page.keyboard.press("Escape")
    heard = samples_of(downloaded(page, "WAV"))
    subprocess.run(
        ["bash", "-euc", script.replace("curl ", "curl --noproxy '*' -s ")], cwd=tmp_path, check=True
    )
    np.testing.assert_array_equal(samples_of(tmp_path / "continuation.wav"), heard)
    (tmp_path / "continuation.wav").unlink()
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(compile(python, "snippet", "exec"), {})
    finally:
        os.chdir(here)
    np.testing.assert_array_equal(samples_of(tmp_path / "continuation.wav"), heard)
