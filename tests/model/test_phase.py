"""Sound from magnitudes: it has those magnitudes, and goes on from what was there before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.native import phases as native
from model.phase import LEAD, Windows, improve_by_tensors, reconstruct
from model.spectrogram import Spectrogram
from tests.conftest import chord

SPECTROGRAM = Spectrogram(320)


def magnitudes(waveform: Tensor) -> Tensor:
    return SPECTROGRAM.magnitudes(SPECTROGRAM(waveform))


def sound(waveform: Tensor, past: Tensor, iterations: int = 24) -> Tensor:
    """What is made of the magnitudes of [1, N], cut to the samples of the windows' frames."""
    made = reconstruct(magnitudes(waveform), SPECTROGRAM.window, SPECTROGRAM.hop, past, iterations)
    return made[:, SPECTROGRAM.lead : SPECTROGRAM.lead + waveform.shape[1]]


def moving_buzz() -> Tensor:
    """Two seconds of a gliding, pulsing harmonic tone, [1, N]."""
    time = torch.arange(32_000) / 16_000
    turns = torch.cumsum(120 + 40 * torch.sin(2 * torch.pi * 1.5 * time), 0) / 16_000
    buzz = torch.stack([torch.sin(2 * torch.pi * k * turns) / k for k in range(1, 25)]).sum(0)
    return (0.1 * buzz * (1.2 + torch.sin(2 * torch.pi * 4 * time)))[None]


@pytest.mark.parametrize("length", [320, 3200, 16_000])
def test_a_frame_has_two_windows_whatever_the_length(length: int) -> None:
    assert SPECTROGRAM(torch.zeros(2, length - 7)).shape == (2, length // 320, 2 * SPECTROGRAM.bins)


def test_companding_is_undone() -> None:
    waveform = torch.randn(1, 3200, generator=torch.Generator().manual_seed(0))
    window = torch.nn.functional.pad(waveform, (240, 240)).unfold(1, 640, 160) * torch.hann_window(640)
    torch.testing.assert_close(magnitudes(waveform), torch.fft.rfft(window).abs(), rtol=1e-3, atol=1e-4)


def test_the_sound_has_the_magnitudes_asked_for_and_iterations_bring_it_closer() -> None:
    original = moving_buzz()
    wanted = magnitudes(original)
    none = torch.zeros(1, 0)
    errors = [
        float((magnitudes(sound(original, none, n)) - wanted).norm() / wanted.norm()) for n in (0, 4, 24)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.08


def test_phases_go_on_from_the_past() -> None:
    """A chord cut in two and made again from magnitudes alone lies on the original, sample by sample."""
    wave = torch.from_numpy(chord(1.0))[None]
    cut = 8000
    spectrum = magnitudes(wave)[:, cut // 160 - 2 :]  # from one frame before the cut
    before = 320 + SPECTROGRAM.lead
    made = reconstruct(spectrum, SPECTROGRAM.window, 160, wave[:, cut - before : cut], 24)
    for length, limit in ((160, 0.3), (800, 0.5)):  # later, phases may drift apart
        new, true = made[:, before : before + length], wave[:, cut : cut + length]
        assert float((new - true).norm() / true.norm()) < limit


def test_silence_stays_silent() -> None:
    assert float(sound(torch.zeros(1, 3200), torch.zeros(1, 0)).abs().max()) < 1e-6


def test_rows_do_not_mix() -> None:
    rows = torch.cat([moving_buzz(), torch.from_numpy(chord(2.0))[None]])
    past = torch.zeros(2, 0)
    together = sound(rows, past, 4)
    alone = torch.cat([sound(row[None], past[:1], 4) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.skipif(not native.supported(640, 160), reason="this machine has no kernels")
@pytest.mark.parametrize("hop", [50, 160, 256])  # transforms of every radix
@pytest.mark.parametrize(("count", "known"), [(1, 0), (15, 300), (16, 0), (35, 560)])
def test_the_kernels_do_what_the_tensors_do(hop: int, count: int, known: int) -> None:
    generator = torch.Generator().manual_seed(count)
    windows = Windows(torch.hann_window(4 * hop), hop)
    magnitudes, phases = torch.rand(2, 1, count, 2 * hop + 1, generator=generator)
    past = torch.randn(1, min(known, 4 * hop), generator=generator)
    for iterations in (0, 1, 3):
        expected = improve_by_tensors(magnitudes, 6 * phases, windows, past, iterations)[0]
        share = windows.share(count)[0]
        made = native.improve(
            magnitudes[0], 6 * phases[0], windows.window, hop, share, past[0], iterations, LEAD
        )
        assert float((made - expected).norm() / expected.norm()) < 1e-4
