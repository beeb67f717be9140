"""What discrete tokens tell: linear probes for phones, notes and speakers on any kind of token.

A probe sees one-hot tokens (phones, notes: the tokens of one 40 ms frame; speakers: the histogram of a clip) and
is linear, so it measures what is there, not what could be computed. Clips are split in two halves, one to fit and one
to score; never frames of one clip. Knows no model: it takes token arrays and labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score

Tokens = npt.NDArray[np.int64]


def one_hot(tokens: Tokens, vocabulary: int, frames: int) -> csr_matrix:
    """tokens [n, K, T], T a multiple of `frames` -> sparse [n * frames, K * T / frames * vocabulary].

    A frame's features are all tokens inside it: one of a tokenizer at the labels' rate, two of a codec at twice that.
    """
    count, books, length = tokens.shape
    assert length % frames == 0, (length, frames)
    per_frame = length // frames
    grouped = tokens.reshape(count, books, frames, per_frame).transpose(
        0, 2, 1, 3
    )  # (n, frames, K, per_frame)
    columns = grouped.reshape(count * frames, books * per_frame)
    columns = columns + vocabulary * np.arange(books * per_frame)
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    shape = (len(columns), vocabulary * books * per_frame)
    return csr_matrix((np.ones(columns.size, np.float32), (rows, columns.ravel())), shape=shape)


def halves(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Clips to fit on and clips to score on: alternating pairs, so that voices in turn are in both."""
    index = np.arange(count)
    return index[index // 2 % 2 == 0], index[index // 2 % 2 == 1]


def phone_accuracy(tokens: Tokens, vocabulary: int, phones: npt.NDArray[np.int64]) -> float:
    """Share of held-out frames whose phone a logistic regression names. tokens [n, K, T], phones [n, S], -1 unknown."""
    fit, held = halves(len(tokens))
    frames = phones.shape[1]
    x, y = one_hot(tokens[fit], vocabulary, frames), phones[fit].ravel()
    x_held, y_held = one_hot(tokens[held], vocabulary, frames), phones[held].ravel()
    classifier = LogisticRegression(C=1.0, max_iter=60)
    classifier.fit(x[y >= 0], y[y >= 0])
    return float(classifier.score(x_held[y_held >= 0], y_held[y_held >= 0]))


def note_precision(tokens: Tokens, vocabulary: int, notes: npt.NDArray[np.bool_]) -> float:
    """Average precision over all (frame, key) pairs of a ridge regression. tokens [n, K, T], notes [n, S, keys]."""
    fit, held = halves(len(tokens))
    _, frames, keys = notes.shape
    ridge = Ridge(alpha=1.0, solver="lsqr")
    ridge.fit(one_hot(tokens[fit], vocabulary, frames), notes[fit].reshape(-1, keys).astype(np.float32))
    guessed = ridge.predict(one_hot(tokens[held], vocabulary, frames))
    return float(average_precision_score(notes[held].reshape(-1, keys).ravel(), guessed.ravel()))


def speaker_accuracy(
    tokens: list[Tokens], vocabulary: int, speakers: list[str], fit: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """(accuracy on clips outside `fit`, chance) of a logistic regression on the histogram of a clip's tokens.

    tokens: one [K, T] array per clip; fit [n]: clips to fit on. Chance is the most common speaker's share.
    """
    features = np.stack(
        [
            np.concatenate([np.bincount(book, minlength=vocabulary) for book in clip]) / clip.shape[1]
            for clip in tokens
        ]
    )
    features = np.sqrt(features)  # Hellinger distance: rare tokens count
    names = np.asarray(speakers)
    classifier = LogisticRegression(C=100.0, max_iter=200)
    classifier.fit(features[fit], names[fit])
    held = names[~fit]
    chance = float(np.unique(held, return_counts=True)[1].max() / len(held))
    return float(classifier.score(features[~fit], held)), chance
