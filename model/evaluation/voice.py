"""Is the continuation in the prompt's voice? AudioLM's test (arXiv 2209.03143, section IV-C: 92.6 %).

A speaker classifier is fitted in this run: statistics of cepstra, projected by linear discriminant analysis learnt on
training-split speakers, raw and through our own codec (so that it does not learn the codec). Test speakers are
enrolled with clips that are not prompts; only generated sound is classified. The classifier's accuracy on the true
continuation, through the codec, is the ceiling. Knows waveforms [N] at 16 kHz and names of speakers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from model.codec import Codec
from model.config import SAMPLE_RATE
from model.evaluation.codec import decode_clip, encode_clip
from model.evaluation.spectral import Waveform
from model.evaluation.statistics import share

SEGMENT_SECONDS = 4.0
NUM_MELS, NUM_CEPSTRA = 60, 30
VOICED_RANGE = 7.0  # nepers of log-mel power below the loudest frame: 30 dB
MAX_COMPONENTS = 100


@functools.cache
def _mel() -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, n_fft=512, win_length=400, hop_length=160, n_mels=NUM_MELS, f_min=60.0, f_max=7600.0
    )


def voice_statistics(waveform: Waveform) -> NDArray[np.float32]:
    """Mean, deviation and 10, 50, 90 % quantiles of MFCC 1-29 (and mean, deviation of their slopes), [203].

    Frames more than 30 dB below the loudest are left out; MFCC 0 too, so loudness plays no part.
    """
    padded = np.pad(waveform, (0, max(0, 1600 - len(waveform))))
    padded = padded / max(float(np.sqrt(np.mean(padded**2))), 1e-6)  # the floor below is relative
    mel = _mel()(torch.from_numpy(padded)).clamp(min=1e-8).log()  # (n_mels, T)
    level = mel.mean(dim=0)
    transform = torchaudio.functional.create_dct(NUM_CEPSTRA, NUM_MELS, "ortho")
    cepstra = (mel.T @ transform)[:, 1:]  # (T, 29)
    slopes = torchaudio.functional.compute_deltas(cepstra.T[None])[0].T
    loud = level > level.max() - VOICED_RANGE
    static, moving = cepstra[loud].numpy(), slopes[loud].numpy()
    quantiles = np.quantile(static, [0.1, 0.5, 0.9], axis=0).ravel()
    moments = [static.mean(axis=0), static.std(axis=0), moving.mean(axis=0), moving.std(axis=0)]
    return np.concatenate([*moments, quantiles]).astype(np.float32)


def segments(waveform: Waveform) -> list[Waveform]:
    """Cut into pieces of 4 s; a rest shorter than 2 s is dropped unless it is all there is."""
    length = round(SEGMENT_SECONDS * SAMPLE_RATE)
    starts = range(0, max(1, len(waveform) - length // 2), length)
    return [waveform[start : start + length] for start in starts]


@dataclass(frozen=True)
class VoiceEmbedding:
    """Waveform -> unit vector that is close for one speaker's clips. `center`, `scale` [F], `projection` [F, D]."""

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    projection: NDArray[np.float32]

    @classmethod
    def fit(cls, clips: Sequence[Waveform], speakers: Sequence[str]) -> VoiceEmbedding:
        """Linear discriminant analysis with Ledoit-Wolf shrinkage over segments of `clips`."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        labelled = [
            (piece, who) for clip, who in zip(clips, speakers, strict=True) for piece in segments(clip)
        ]
        features = np.stack([voice_statistics(piece) for piece, _ in labelled])
        center, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
        components = min(MAX_COMPONENTS, len(set(speakers)) - 1, features.shape[1])
        analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=components)
        analysis.fit((features - center) / scale, [who for _, who in labelled])
        return cls(center, scale, analysis.scalings_[:, :components].astype(np.float32))

    def __call__(self, waveform: Waveform) -> NDArray[np.float32]:
        """Unit vector [D]: the mean over the clip's segments."""
        features = np.stack([voice_statistics(piece) for piece in segments(waveform)])
        vectors = (features - self.center) / self.scale @ self.projection  # (segments, D)
        mean = _unit(vectors).mean(axis=0)
        return np.asarray(_unit(mean))


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), np.float32)


def through_codec(codec: Codec, waveform: Waveform) -> Waveform:
    """What the codec at full depth makes of a clip."""
    return decode_clip(codec, encode_clip(codec, waveform), len(waveform))


def fit_voices(codec: Codec, clips: Sequence[Waveform], speakers: Sequence[str]) -> VoiceEmbedding:
    """The embedding, fitted on training-split `clips` raw and through the codec."""
    coded = [through_codec(codec, clip) for clip in clips]
    return VoiceEmbedding.fit([*clips, *coded], [*speakers, *speakers])


def classify(vector: NDArray[np.float32], enrolled: Mapping[str, NDArray[np.float32]]) -> str:
    """The enrolled speaker with the largest cosine."""
    return max(enrolled, key=lambda speaker: float(vector @ enrolled[speaker]))


def evaluate_voice(
    embedding: VoiceEmbedding,
    codec: Codec,
    enrollment: Mapping[str, Sequence[Waveform]],
    speakers: Sequence[str],
    continuations: Sequence[Waveform],
    truths: Sequence[Waveform],
    takes: int = 1,
) -> dict[str, Any]:
    """Share of `continuations` classified as their prompt's speaker among all enrolled; chance; ceiling.

    `speakers[i]` is the prompt's; its `takes` continuations follow each other, and the interval is over prompts.
    Enrollment clips must not include the prompts' recordings.
    """
    enrolled = {}
    for speaker, clips in enrollment.items():
        vectors = np.stack([embedding(through_codec(codec, clip)) for clip in clips])
        enrolled[speaker] = _unit(vectors.mean(axis=0))
    kept = [i for i, speaker in enumerate(speakers) if speaker in enrolled]
    made = sum(classify(embedding(continuations[i]), enrolled) == speakers[i] for i in kept)
    judged = [i for i in kept[::takes] if len(truths[i]) >= 2 * SAMPLE_RATE]
    true = sum(classify(embedding(through_codec(codec, truths[i])), enrolled) == speakers[i] for i in judged)
    return {
        "accuracy": asdict(share(made / takes, len(kept) // takes)),
        "ceiling": asdict(share(true, len(judged))),
        "chance": 1.0 / len(enrolled) if enrolled else float("nan"),
        "enrolled": len(enrolled),
    }
