"""What a trained tokenizer has to pass: its clusters are used, and tell phones and notes but not speakers.

The limits are what clusters of the spectrogram itself reach: a network that does no better is not worth its time.
"""

from __future__ import annotations

import numpy as np
import torch

from model.config import SAMPLE_RATE
from model.errors import TrainingError
from model.evaluation.probes import note_precision, phone_accuracy, speaker_accuracy
from model.tokenizer import ConformerTokenizer
from model.training.aligned import AlignedClips
from model.training.clustering import SpectrogramTokenizer, cluster, cluster_use
from model.training.data import AudioStore
from model.training.report import Check

SPEAKERS, RECORDINGS_PER_SPEAKER, SPEAKER_SECONDS = 14, 10, 4.0  # of the speaker probe


def checks(
    tokenizer: ConformerTokenizer, store: AudioStore, valid: AudioStore, probe: AlignedClips
) -> list[Check]:
    """Are the clusters used, and do they tell more of phones and notes than clusters of the spectrogram itself?"""
    plain = SpectrogramTokenizer(tokenizer)
    plain_rng = np.random.default_rng(4)
    cluster(plain, store, plain_rng, 40 * tokenizer.num_clusters)
    use = cluster_use(tokenizer, valid, np.random.default_rng(5), crops=400)
    ours, theirs = probe_scores(tokenizer, probe), probe_scores(plain, probe)
    found = [
        Check("share of clusters used on valid", use, 0.8, above=True),
        Check("phone accuracy (limit: spectrogram clusters)", ours[0], theirs[0], above=True),
        Check("note precision (limit: spectrogram clusters)", ours[1], theirs[1], above=True),
    ]
    if len(several_recordings(valid)) > 1:
        limit = speaker_score(plain, valid)
        found.append(
            Check("speaker accuracy (limit: spectrogram clusters)", speaker_score(tokenizer, valid), limit)
        )
    return found


@torch.no_grad()
def probe_scores(tokenizer: ConformerTokenizer, probe: AlignedClips) -> tuple[float, float]:
    """(phone accuracy, note precision) of linear probes on single tokens of aligned clips."""
    device = tokenizer.centroids.device
    parts = np.array_split(np.arange(len(probe.phones)), 8)
    tokens = torch.cat([tokenizer.encode(probe.rows(rows).to(device)).cpu() for rows in parts])
    speech, piano = ~probe.has_notes, probe.has_notes
    values = tokens.numpy()[:, None]  # (n, 1, S)
    if not speech.any() or not piano.any():
        raise TrainingError("the probe clips lack speech or piano")
    return (
        phone_accuracy(values[speech], tokenizer.num_clusters, probe.phones[speech]),
        note_precision(values[piano], tokenizer.num_clusters, probe.notes[piano]),
    )


def several_recordings(valid: AudioStore) -> list[list[int]]:
    """Indices of the recordings of each of the SPEAKERS speakers with the most, of at least two recordings."""
    by_speaker: dict[str, list[int]] = {}
    for index, recording in enumerate(valid.files):
        if recording.kind == "speech" and recording.num_samples >= SPEAKER_SECONDS * SAMPLE_RATE:
            by_speaker.setdefault(recording.speaker, []).append(index)
    chosen = sorted(by_speaker.values(), key=len, reverse=True)[:SPEAKERS]
    return [indices for indices in chosen if len(indices) > 1]


@torch.no_grad()
def speaker_score(tokenizer: ConformerTokenizer, valid: AudioStore) -> float:
    """Share of recordings whose speaker a linear probe names from the tokens of their first seconds.

    Fitted on every second recording of each speaker, scored on the others.
    """
    tokens, names, fit = [], [], []
    for indices in several_recordings(valid):
        for place, index in enumerate(indices[:RECORDINGS_PER_SPEAKER]):
            waveform = torch.from_numpy(valid.waveform(index)[: round(SPEAKER_SECONDS * SAMPLE_RATE)])
            tokens.append(tokenizer.encode(waveform[None].to(tokenizer.centroids.device)).cpu().numpy())
            names.append(valid.files[index].speaker)
            fit.append(place % 2 == 0)
    accuracy, _ = speaker_accuracy(tokens, tokenizer.num_clusters, names, np.array(fit))
    return accuracy
