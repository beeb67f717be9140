"""Train the detector: which seconds of a clip did this system make?

From top to bottom: let the run's own parts make takes (model.training.take_maker), as many as a share of the budget
allows; learn from windows of takes and recordings that went through what happens to sound on its way; keep the
averaged weights with the lowest loss on other speakers and pieces; fit probabilities and thresholds there; measure on
the speakers and pieces of the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from model.codec import Codec
from model.config import PRESETS, SAMPLE_RATE, OperatingPoint
from model.detector import Detector
from model.distortions.distortion import Distortion
from model.distortions.encoders import Mp3, Opus
from model.distortions.registry import Material
from model.errors import TrainingError
from model.evaluation.discrimination import auc, calibration_error
from model.evaluation.statistics import Estimate, share
from model.training.augmentation import Augmentation
from model.training.calibration import fit, operating_points
from model.training.data import AudioStore
from model.training.frozen import load_part, save_operating_points
from model.training.held_out import Track, by_origin, in_turn, pieces, tracks_of
from model.training.loop import Check, Report, TrainingOptions, TrainingRun, adamw, training_device
from model.training.marking import random_mark
from model.training.ranks import Ranks
from model.training.take_maker import TakeMaker
from model.training.takes import Samples
from model.training.window_draw import WindowDraw

TAKES_SHARE = 0.55  # of the budget, for making takes
TAKE_SECONDS_PER_MINUTE = (
    240.0  # of training continuations and minute of budget; faster machines learn from no more
)
ROWS = 32
PEAK = 2e-3  # learning rate
SHORT = 0.3  # share of the steps whose windows are shorter than in use
LEAST_SECONDS = 1.0
VALIDATION_MINUTES = 0.5
VALIDATION_WINDOWS = 96  # of each of: ours, the codec's, recordings
RECORDINGS = 64  # per split, for calibration and figures
MATERIAL = 24  # recordings of each kind, for babble and music beds
SPLITS = ("train", "valid", "test")
# Ranges of clip lengths: shortest clip, and the length that stands for the range.
BUCKETS = {
    "1-2 s": (1.0, 1.5),
    "2-3 s": (2.0, 2.5),
    "3-5 s": (3.0, 4.0),
    "5-10 s": (5.0, 7.0),
    "> 10 s": (10.0, 10.5),
}
ATTACKED = 200  # windows of each class that the figures send through each of:
ATTACKS: Mapping[str, Distortion] = {"mp3_64k": Mp3(64), "opus_24k": Opus(24)}
Scores = npt.NDArray[np.float64]


def train(options: TrainingOptions) -> Report:
    """Train into `options.out / "detector"`, from the run's other parts. Raises TrainingError for one not trained."""
    config = PRESETS[options.preset].detector
    cache = options.out / "cache"
    ranks = Ranks(training_device(options))
    with ranks.first_before_others():
        audio = {split: AudioStore.build(options.data, cache, split) for split in SPLITS}
        refuse_shared_speakers(audio)
        maker = TakeMaker.load(options, random_mark)
        takes = maker.stores(cache, SPLITS)
        if ranks.rank == 0 and not (options.out / "detector" / "checkpoint.pt").exists():
            wanted = TAKE_SECONDS_PER_MINUTE * options.minutes
            maker.fill(takes, audio, wanted, TAKES_SHARE * options.minutes)
        del maker

    torch.manual_seed(options.seed)
    detector = Detector(config)
    optimizer = adamw(detector, PEAK)
    own = replace(options, minutes=(1 - TAKES_SHARE) * options.minutes)
    run = TrainingRun(
        own, "detector", config, {"model": detector}, {"main": optimizer}, averaged=["model"], decay=0.99
    )
    augmentation = Augmentation(material_of(options, audio["train"]))
    draw = WindowDraw(audio["train"], takes["train"], augmentation, random_mark)
    valid = by_origin(tracks_of(audio["valid"], takes["valid"], RECORDINGS))
    held_out = {
        origin: half_attacked(some(pieces(valid.get(origin, []), config.window_seconds), VALIDATION_WINDOWS))
        for origin in ("continued", "codec", "raw")
    }

    def validate() -> None:
        ours, codec, raw = (scores_of(run.averaged["model"], windows) for windows in held_out.values())
        losses = [np.logaddexp(0, -ours).mean(), np.logaddexp(0, codec).mean(), np.logaddexp(0, raw).mean()]
        loss = float(0.5 * losses[0] + 0.35 * losses[1] + 0.15 * losses[2])
        run.log(valid_loss=loss, valid_auc=auc(ours, codec).mean)
        run.save_weights("model", score=loss)

    for _ in run:
        short = run.rng.random() < SHORT
        seconds = (
            float(run.rng.uniform(LEAST_SECONDS, config.window_seconds)) if short else config.window_seconds
        )
        windows = draw.draw(run.rng, options.batch or ROWS, seconds)
        labels = windows.labels.to(run.device)
        with run.autocast():
            logits = detector(windows.waveforms.to(run.device))
        loss = cross_entropy(logits.float(), 0.98 * labels + 0.01)
        norm = run.update(loss)
        right = ((logits > 0) == (labels > 0.5)).float().mean()
        run.log(loss=loss, accuracy=right, gradient_norm=norm)
        if run.due("validation", VALIDATION_MINUTES):
            validate()
    validate()

    best = run.best_module("model")
    assert isinstance(best, Detector)
    calibrate(best, valid)
    run.averaged["model"].load_state_dict(best.state_dict())
    run.save_weights("model")
    test = by_origin(tracks_of(audio["test"], takes["test"], RECORDINGS))
    save_operating_points(options.out, measured_points(best, valid, test))
    checks, measures = figures(best, test)
    return run.finish(checks, **measures)


def refuse_shared_speakers(audio: Mapping[str, AudioStore]) -> None:
    """Raises TrainingError when a speaker or piece is in more than one split: figures would be about memory."""
    seen: dict[str, str] = {}
    for split, store in audio.items():
        for speaker in sorted({recording.speaker for recording in store.files}):
            if speaker in seen:
                raise TrainingError(f"{speaker!r} is in the splits {seen[speaker]!r} and {split!r}")
        seen |= {recording.speaker: split for recording in store.files}


def material_of(options: TrainingOptions, audio: AudioStore) -> Material:
    """Our codec, and a few recordings of the training split to be heard in the background."""
    kinds: dict[str, list[Samples]] = {}
    for index in in_turn(audio, 2 * MATERIAL):
        kinds.setdefault(audio.files[index].kind, []).append(audio.waveform(index))
    music = [waveform for kind, waveforms in kinds.items() if kind != "speech" for waveform in waveforms]
    codec = load_part(options.out, "codec")
    assert isinstance(codec, Codec)
    return Material(codec, kinds.get("speech", []), music)


def scores_of(detector: nn.Module, windows: Sequence[Samples], batch: int = ROWS) -> Scores:
    """Logits of windows of one length, not calibrated."""
    device = next(detector.parameters()).device
    logits: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(windows), batch):
            rows = torch.from_numpy(np.stack(windows[start : start + batch])).to(device)
            logits += detector(rows).float().cpu().tolist()
    return np.array(logits)


def calibrate(detector: Detector, valid: Mapping[str, list[Track]]) -> None:
    """Fit probabilities on windows of the validation split.

    Real coarse codes with made fine ones are left out: half of that is ours, nobody's recording is like it, and they
    would move the probability of one half away from where recordings, also coded ones, and our sound part.
    """
    seconds = detector.config.window_seconds
    ours = scores_of(detector, pieces(valid.get("continued", []), seconds))
    others = scores_of(
        detector,
        [piece for origin in ("codec", "raw") for piece in pieces(valid.get(origin, []), seconds)],
    )
    labels = np.concatenate([np.ones(len(ours), bool), np.zeros(len(others), bool)])
    detector.calibrate(*fit(np.concatenate([ours, others]), labels))


def clip_probabilities(detector: Detector, clips: Sequence[Samples]) -> Scores:
    """What the detector says of whole clips of one length."""
    split = [detector.windows_of(clip) for clip in clips]
    logits = scores_of(detector, [window for windows, _ in split for window in windows])
    scale, offset = detector.calibration.tolist()
    probabilities = (1 / (1 + np.exp(-np.clip(scale * logits + offset, -30, 30)))).tolist()
    found, at = [], 0
    for windows, spans in split:
        found.append(detector.aggregate(probabilities[at : at + len(windows)], spans).probability)
        at += len(windows)
    return np.array(found)


def measured_points(
    detector: Detector, valid: Mapping[str, list[Track]], test: Mapping[str, list[Track]]
) -> tuple[OperatingPoint, ...]:
    """Operating points: thresholds from the validation split, their rates from the test split."""

    def scores(tracks: Mapping[str, list[Track]], origins: tuple[str, ...], seconds: float) -> Scores:
        clips = [clip for origin in origins for clip in pieces(tracks.get(origin, []), seconds)]
        return clip_probabilities(detector, clips)

    others, chosen_on, ours, rest = ("codec", "raw"), [], [], []
    for _, seconds in BUCKETS.values():
        takes_last = (
            seconds <= max((len(t.waveform) for t in test.get("continued", [])), default=0) / SAMPLE_RATE
        )
        chosen_on.append(scores(valid, others, seconds))
        rest.append(scores(test, others, seconds))
        ours.append(scores(test, ("continued",) if takes_last else ("answer",), seconds))
    least = {bucket: shortest for bucket, (shortest, _) in BUCKETS.items()}
    return operating_points(least, chosen_on, ours, rest)


def figures(detector: Detector, test: Mapping[str, list[Track]]) -> tuple[list[Check], dict[str, float]]:
    """The pass/fail checks and every figure with its interval and count, on windows of the test split, unmarked."""
    seconds = detector.config.window_seconds
    windows = {origin: pieces(tracks, seconds) for origin, tracks in test.items() if origin != "answer"}
    scores = {origin: scores_of(detector, found) for origin, found in windows.items()}
    scale, offset = detector.calibration.tolist()
    nothing = np.zeros(0)
    ours = scores.get("continued", nothing)
    measures: dict[str, float] = {f"windows {origin}": len(found) for origin, found in scores.items()}

    def note(name: str, estimate: Estimate) -> float:
        measures[name] = estimate.mean
        measures[f"{name}, low"], measures[f"{name}, high"] = estimate.low, estimate.high
        return estimate.mean

    def accuracy(others: Scores) -> Estimate:
        """Both classes alike: as many windows of one as of the other."""
        count = min(len(ours), len(others))
        right = (scale * ours[:count] + offset > 0).sum() + (scale * others[:count] + offset <= 0).sum()
        return share(int(right), 2 * count)

    for origin in ("full codec", "codec", "raw", "fine"):
        note(f"accuracy against {origin}", accuracy(scores.get(origin, nothing)))
        note(f"AUC against {origin}", auc(ours, scores.get(origin, nothing)))
    rng = np.random.default_rng(0)
    others = [
        window for origin in ("codec", "raw") for window in some(windows.get(origin, []), ATTACKED // 2)
    ]
    attacked_ours = some(windows.get("continued", []), ATTACKED)
    for name, attack in ATTACKS.items():
        attacked = [
            scores_of(detector, [attack(window, rng) for window in found])
            for found in (attacked_ours, others)
        ]
        note(f"AUC after {name}", auc(*attacked))
    logits = np.concatenate([ours, scores.get("codec", nothing), scores.get("raw", nothing)])
    labels = np.arange(len(logits)) < len(ours)
    measures["calibration error"] = calibration_error(1 / (1 + np.exp(-(scale * logits + offset))), labels)
    checks = [
        Check(
            "accuracy against real sound through the codec",
            measures["accuracy against codec"],
            0.986,
            above=True,
        ),
        Check("AUC against recordings", measures["AUC against raw"], 0.995, above=True),
        *[Check(f"AUC after {name}", measures[f"AUC after {name}"], 0.97, above=True) for name in ATTACKS],
    ]
    return checks, measures


def half_attacked(windows: Sequence[Samples]) -> list[Samples]:
    """Every second of `windows`, after one of ATTACKS in turn; the others as they are."""
    rng, attacks = np.random.default_rng(0), cycle(ATTACKS.values())
    return [next(attacks)(window, rng) if n % 2 else window for n, window in enumerate(windows)]


def some(windows: Sequence[Samples], count: int) -> Sequence[Samples]:
    """At most `count` of `windows`, from all over."""
    return windows[:: max(1, -(-len(windows) // count))]
