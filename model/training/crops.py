"""Random crops of token sequences for the stages' training, and whole recordings for their checks.

A recording is drawn as AudioStore.draw decides, then a crop that starts on a semantic frame. Without codes, where
speech ends before the crop does, its speaker goes on with other recordings, so that what follows a pause is learnt;
codes would tell that these come from another room. What is left is padded on the right, and `lengths` says from where.
Knows stores, no model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.training.data import AudioStore, Recording, TokenStore

FRAMES_PER_TOKEN = 2  # codec frames per semantic frame
SPEECH = "speech"  # the kind of recordings that their speaker goes on from


@dataclass(frozen=True)
class Crops:
    """semantic [B, S], codes [B, K, 2 S], int64, 0 beyond `lengths` [B] (in semantic frames)."""

    semantic: Tensor
    codes: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> Crops:
        return Crops(self.semantic.to(device), self.codes.to(device), self.lengths.to(device))


class TokenCrops:
    """Aligned semantic tokens and codec codes of one split.

    codes is None for the semantic stage, which can then train before there is a codec.
    """

    def __init__(self, audio: AudioStore, semantic: TokenStore, codes: TokenStore | None) -> None:
        self.audio, self.semantic, self.codes = audio, semantic, codes
        self._of_speaker: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for index, recording in enumerate(audio.files):
            self._of_speaker[_speaker(recording)].append(index)

    @classmethod
    def open(
        cls,
        folders: tuple[Path, ...],
        cache: Path,
        split: str,
        *,
        with_codes: bool,
        often: Mapping[str, float] | None = None,
    ) -> TokenCrops:
        """The tokens of `split` under `cache`; `often` as in AudioStore.build.

        Raises TrainingError where a part has not been trained and cached.
        """
        audio = AudioStore.build(folders, cache, split, often)
        codes = TokenStore.open(token_path(cache, split, "codes")) if with_codes else None
        return cls(audio, TokenStore.open(token_path(cache, split, "semantic")), codes)

    def recording(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """semantic [S] and codes [K, 2 S] (K = 0 without codes) of one whole recording.

        Both encoders round its length up to their own frame; what only one of them has is dropped.
        """
        key = self.audio.files[index].key
        semantic = self.semantic.tokens(key)[0]
        if self.codes is None:
            return semantic, np.zeros((0, FRAMES_PER_TOKEN * len(semantic)), np.int64)
        codes = self.codes.tokens(key)
        frames = min(len(semantic), codes.shape[1] // FRAMES_PER_TOKEN)
        return semantic[:frames], codes[:, : FRAMES_PER_TOKEN * frames]

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> Crops:
        """`batch` crops of `length` semantic frames."""
        semantic = torch.zeros(batch, length, dtype=torch.int64)
        codes: Tensor | None = None
        lengths = torch.zeros(batch, dtype=torch.int64)
        for row, index in enumerate(self.audio.draw(rng, batch)):
            tokens, frames = self.recording(int(index))
            start = int(rng.integers(max(1, len(tokens) - length + 1)))
            tokens = tokens[start : start + length]
            frames = frames[:, FRAMES_PER_TOKEN * start :][:, : FRAMES_PER_TOKEN * len(tokens)]
            if codes is None:
                codes = torch.zeros(batch, len(frames), FRAMES_PER_TOKEN * length, dtype=torch.int64)
            codes[row, :, : frames.shape[1]] = torch.from_numpy(frames)
            if self.codes is None and self.audio.files[index].kind == SPEECH:
                tokens = self._going_on(rng, int(index), tokens, length)
            semantic[row, : len(tokens)] = torch.from_numpy(tokens)
            lengths[row] = len(tokens)
        assert codes is not None
        return Crops(semantic, codes, lengths)

    def _going_on(
        self, rng: np.random.Generator, index: int, tokens: npt.NDArray[np.int64], length: int
    ) -> npt.NDArray[np.int64]:
        """tokens [S] of recording `index`, then the other recordings of its speaker in any order, up to `length`."""
        parts, known = [tokens], len(tokens)
        others = self._of_speaker[_speaker(self.audio.files[index])]
        for other in rng.permutation(others) if known < length else ():
            if known >= length:
                break
            if other != index:
                parts.append(self.recording(int(other))[0])
                known += len(parts[-1])
        return np.concatenate(parts)[:length]


def _speaker(recording: Recording) -> tuple[str, str, str]:
    """Whose voice it is: speakers of two corpora are not taken for one."""
    return recording.key.split("/")[0], recording.kind, recording.speaker


def musical_tokens(data: TokenCrops, num_clusters: int) -> Tensor | None:
    """Which semantic tokens are heard more often in piano than in speech, as shares of each; bool [num_clusters].
    None where recordings are all of one kind: they do not say."""
    counts = {kind: np.zeros(num_clusters) for kind in ("speech", "piano")}
    for index, recording in enumerate(data.audio.files):
        counts[recording.kind] += np.bincount(data.recording(index)[0], minlength=num_clusters)
    if not all(count.any() for count in counts.values()):
        return None
    speech, piano = (count / count.sum() for count in counts.values())
    return torch.from_numpy(piano > speech)


def token_path(cache: Path, split: str, kind: str) -> Path:
    """Where the tokens of a split are kept; kind is "semantic" or "codes"."""
    return cache / f"{split}.{kind}.json"
