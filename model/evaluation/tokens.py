"""What semantic tokens hold, beside the codec's first level: content should be there, the speaker should not.

Use of clusters on held-out recordings, and linear probes (`probes.py`) for phones, notes and speakers on both kinds of
token. Phones and notes are known because the clips are synthesised here, with voices that training does not use;
without espeak-ng, flite or fluidsynth those rows are left out with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.audiolm import AudioLM
from model.errors import TrainingError
from model.evaluation.lm import ClipTokens
from model.evaluation.probes import note_precision, phone_accuracy, speaker_accuracy
from model.training.aligned import PROBE_VOICES, AlignedClips, render_piano, render_speech

PROBE_SECONDS = 4.0
BATCH = 16


def cluster_use(tokens: Sequence[ClipTokens], num_clusters: int) -> float:
    """Share of semantic clusters that occur at all in `tokens`."""
    seen = torch.unique(torch.cat([clip.semantic for clip in tokens]))
    return len(seen) / num_clusters


def speaker_probe(
    audiolm: AudioLM, tokens: Sequence[ClipTokens], speakers: Sequence[str]
) -> dict[str, float]:
    """Accuracy of naming the speaker from a histogram of semantic tokens, of first-level codes, and chance.

    Each clip is cut in two: fitted on first halves, scored on second halves, so every speaker is in both.
    """
    halves, names, fit = [], [], []
    for clip, speaker in zip(tokens, speakers, strict=True):
        middle = len(clip.semantic) // 2
        halves += [(clip.semantic[:middle], clip.codes[:1, : 2 * middle])]
        halves += [(clip.semantic[middle:], clip.codes[:1, 2 * middle :])]
        names += [speaker, speaker]
        fit += [True, False]
    first = np.array(fit)
    semantic = [half[0][None].cpu().numpy() for half in halves]
    codec = [half[1].cpu().numpy() for half in halves]
    score, chance = speaker_accuracy(semantic, audiolm.tokenizer.num_clusters, names, first)
    codec_score, _ = speaker_accuracy(codec, audiolm.codec.codebook_size, names, first)
    return {"semantic": score, "codec": codec_score, "chance": chance}


def content_probes(
    audiolm: AudioLM, *, seed: int, clips: int
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """{"phones": {"semantic", "codec"}, "notes": ...} and the reasons for rows that are missing."""
    found: dict[str, dict[str, float]] = {}
    missing = []
    jobs: list[tuple[str, Callable[[], AlignedClips]]] = [
        ("phones", lambda: render_speech(seed, clips, PROBE_SECONDS, PROBE_VOICES)),
        ("notes", lambda: render_piano(seed, clips, PROBE_SECONDS)),
    ]
    for name, render in jobs:
        try:
            aligned = render()
        except TrainingError as error:
            missing.append(f"{name}: {error}")
            continue
        semantic, codec = _both(audiolm, aligned)
        probe = phone_accuracy if name == "phones" else note_precision
        labels: Any = aligned.phones if name == "phones" else aligned.notes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the probes stop before they have converged, on purpose
            found[name] = {
                "semantic": probe(semantic, audiolm.tokenizer.num_clusters, labels),
                "codec": probe(codec, audiolm.codec.codebook_size, labels),
            }
    return found, missing


@torch.inference_mode()
def _both(audiolm: AudioLM, aligned: AlignedClips) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Semantic tokens [n, 1, S] and first-level codes [n, 1, 2 S] of aligned clips."""
    semantic, codec = [], []
    for rows in np.array_split(np.arange(len(aligned.waveform)), -(-len(aligned.waveform) // BATCH)):
        waveform = aligned.rows(rows).to(audiolm.device)
        semantic.append(audiolm.tokenizer.encode(waveform)[:, None].cpu().numpy())
        codec.append(audiolm.codec.encode(waveform)[:, :1].cpu().numpy())
    return np.concatenate(semantic), np.concatenate(codec)
