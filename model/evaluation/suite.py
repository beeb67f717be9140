"""The whole evaluation of one system, section by section: which recordings, how many, and in which order.

Each section is a function from the system and the recordings to plain numbers (JSON values). Test-split recordings
are judged; training-split ones only fit baselines and the speaker classifier. One seed decides everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model.audiolm import AudioLM
from model.config import SAMPLE_RATE
from model.errors import TrainingError
from model.evaluation import codec as codec_quality
from model.evaluation import lm, tokens
from model.evaluation.baseline_codec import fit_baseline
from model.evaluation.clips import Recording, choose, load
from model.evaluation.continuation import Continued, continue_prompts, evaluate_continuations
from model.evaluation.piano import evaluate_piano
from model.evaluation.spectral import Waveform
from model.evaluation.voice import evaluate_voice, fit_voices, through_codec
from model.evaluation.words import HEARD_VOICES, TEST_VOICES, word_pairs

SPEECH, PIANO = "speech", "piano"
CODEC_SECONDS = 6.0  # of each clip that the codec is judged on
USE_SECONDS = 15.0  # of each clip that codebook and cluster use are counted over
USE_CLIPS = 50  # of each kind: up to 75,000 codec frames in all
BASELINE_CLIPS = 300  # training clips of 8 s for the k-means baseline: 40 minutes
TRAIN_CLIPS = 90  # training clips of 10 s for the token baselines: 15 minutes of each kind
VOICE_CLIPS = 250  # training clips of 8 s for the speaker classifier: about one per speaker
ENROLLMENT_CLIPS = 4  # per test speaker
PAIRS_PER_CLIP = 12  # word pairs for each prompt of the plan: 288, which tells 56 % from chance

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured. `clips`: prompts of each kind; the codec hears 2/3 as many of speech, 1/3 of piano."""

    clips: int = 24
    prompt_seconds: float = 3.0  # as in AudioLM's experiments
    seconds: float = 5.0
    takes: int = 1  # continuations of each prompt
    seed: int = 0
    sentences: tuple[str, ...] = ()  # text that holds the real words; none: no word pairs


@dataclass
class Subject:
    """What every section needs: the system, the recordings and the plan. `report` is told what begins."""

    audiolm: AudioLM
    recordings: Sequence[Recording]
    plan: Plan
    report: Report
    made: dict[str, list[Continued]] = field(default_factory=dict)  # by kind, for the listening page

    def rng(self, section: int) -> np.random.Generator:
        """Randomness of one section: it does not depend on which other sections run."""
        return np.random.default_rng([self.plan.seed, section])

    def draw(
        self, kind: str, split: str, count: int, rng: np.random.Generator, min_seconds: float = 1.0
    ) -> list[Recording]:
        return choose(self.recordings, kind=kind, split=split, count=count, rng=rng, min_seconds=min_seconds)


def codec_section(subject: Subject) -> dict[str, Any]:
    """Quality at every depth against Opus and k-means, per kind, and codebook use over all kinds."""
    rng, plan = subject.rng(1), subject.plan
    codec = subject.audiolm.codec
    depths = range(1, codec.num_codebooks + 1)
    result: dict[str, Any] = {"missing": []}
    for kind, count in ((SPEECH, max(1, plan.clips * 2 // 3)), (PIANO, max(1, plan.clips // 3))):
        clips = _load(subject.draw(kind, "test", count, rng), CODEC_SECONDS)
        if not clips:
            result["missing"].append(f"{kind}: no test recordings")
            continue
        subject.report(f"codec on {kind}: Opus")
        rows, reason = codec_quality.opus_rows(clips, kind=kind)
        if reason is not None:
            result["missing"].append(f"Opus: {reason}")
        subject.report(f"codec on {kind}: every depth")
        rows += codec_quality.evaluate_codec(codec, clips, depths, kind=kind)["rows"]
        train = _load(subject.draw(kind, "train", BASELINE_CLIPS, rng), 8.0)
        if kind == SPEECH and train:
            subject.report("codec on speech: k-means baseline")
            baseline = fit_baseline(
                train,
                seed=plan.seed,
                num_codebooks=codec.num_codebooks,
                codebook_size=codec.codebook_size,
                hop_length=codec.hop_length,
            )
            rows += codec_quality.evaluate_codec(baseline, clips, depths, kind=kind, name="k-means")["rows"]
        result[kind] = {"clips": len(clips), "seconds": sum(map(len, clips)) / SAMPLE_RATE, "rows": rows}
    subject.report("codec: codebook use")
    everything = [
        clip
        for kind in (SPEECH, PIANO)
        for clip in _load(subject.draw(kind, "test", USE_CLIPS, rng), USE_SECONDS)
    ]
    codes = [codec_quality.encode_clip(codec, clip) for clip in everything]
    return {**result, "use": codec_quality.codebook_use(codes, codec.codebook_size)}


def tokens_section(subject: Subject) -> dict[str, Any]:
    """Cluster use, and what linear probes read from semantic tokens and from the codec's first level."""
    rng, audiolm = subject.rng(2), subject.audiolm
    subject.report("tokens: cluster use and speakers")
    speech = subject.draw(SPEECH, "test", USE_CLIPS, rng, min_seconds=4.0)
    piano = subject.draw(PIANO, "test", USE_CLIPS, rng)
    spoken = lm.tokenize(audiolm, _load(speech, USE_SECONDS))
    played = lm.tokenize(audiolm, _load(piano, USE_SECONDS))
    result: dict[str, Any] = {
        "cluster_use": tokens.cluster_use([*spoken, *played], audiolm.tokenizer.num_clusters),
        "seconds": sum(len(clip.semantic) for clip in [*spoken, *played]) / audiolm.tokenizer.frame_rate,
    }
    subject.report("tokens: phones and notes")
    probes, missing = tokens.content_probes(audiolm, seed=subject.plan.seed, clips=5 * subject.plan.clips)
    if spoken:
        probes["speaker"] = tokens.speaker_probe(audiolm, spoken, [item.speaker for item in speech])
    return {**result, "probes": probes, "missing": missing}


def lm_section(subject: Subject) -> dict[str, Any]:
    """Perplexity of every stage, on speech and on piano, beside unigram and previous-token baselines."""
    rng, audiolm = subject.rng(3), subject.audiolm
    result: dict[str, Any] = {}
    for kind in (SPEECH, PIANO):
        test = subject.draw(kind, "test", subject.plan.clips, rng, min_seconds=2.0)
        train = subject.draw(kind, "train", TRAIN_CLIPS, rng)
        if not test or not train:
            continue
        subject.report(f"stages on {kind}: perplexity")
        counted = lm.tokenize(audiolm, _load(train, 10.0))
        judged = lm.tokenize(audiolm, _load(test, 10.0))
        result[kind] = {"clips": len(test), **lm.evaluate_stages(audiolm, counted, judged)}
    return result


def words_section(subject: Subject) -> dict[str, Any]:
    """Does the semantic stage find real words likelier than made-up ones? {"missing"} where there are no pairs.

    In voices of the test split, which no part has heard, and under "heard" in voices of the training.
    """
    if not subject.plan.sentences:
        return {"missing": "no sentences were given"}
    subject.report("words: synthesising pairs")
    count, seed = PAIRS_PER_CLIP * subject.plan.clips, subject.plan.seed
    try:
        pairs = [
            word_pairs(subject.plan.sentences, count, seed, voices) for voices in (TEST_VOICES, HEARD_VOICES)
        ]
    except TrainingError as error:
        return {"missing": str(error)}
    subject.report("words: likelihoods")
    unheard, heard = (
        lm.spot_the_word(subject.audiolm, [(pair.voice, *pair.clips) for pair in each]) for each in pairs
    )
    return unheard | {
        "heard": heard["accuracy"],
        "by_voice": unheard["by_voice"] | heard["by_voice"],
    }


def continuation_section(subject: Subject) -> dict[str, Any]:
    """Continue test prompts; soundness of all, voice of speech, key and tempo of piano."""
    rng, plan = subject.rng(4), subject.plan
    result: dict[str, Any] = {"prompt_seconds": plan.prompt_seconds, "seconds": plan.seconds}
    least = plan.prompt_seconds + plan.seconds
    for kind in (SPEECH, PIANO):
        prompts = voice_prompts(subject, plan.clips, rng) if kind == SPEECH else []
        prompts = prompts or subject.draw(kind, "test", plan.clips, rng, min_seconds=least)
        if not prompts:
            continue
        done = 0

        def tell(recording: Recording, kind: str = kind, total: int = len(prompts)) -> None:
            nonlocal done
            done += 1
            subject.report(f"continuations of {kind}: {done} of {total}")

        made = continue_prompts(
            subject.audiolm,
            prompts,
            prompt_seconds=plan.prompt_seconds,
            seconds=plan.seconds,
            seed=plan.seed,
            takes=plan.takes,
            progress=tell,
        )
        subject.made[kind] = made[:: plan.takes]
        result[kind] = evaluate_continuations(made, rng, plan.takes)
        if kind == SPEECH:
            subject.report("voice: fitting the speaker classifier")
            result[kind]["voice"] = _voice(subject, made, rng)
        else:
            codec = subject.audiolm.codec
            coded = [through_codec(codec, item.truth) for item in made[:: plan.takes]]
            result[kind]["kept"] = evaluate_piano(
                [item.prompt for item in made],
                [item.continuation for item in made],
                [item.truth for item in made],
                [clip for clip in coded for _ in range(plan.takes)],
                [item.recording.speaker for item in made],
                rng,
                plan.takes,
            )
    return result


def voice_prompts(subject: Subject, count: int, rng: np.random.Generator) -> list[Recording]:
    """Test prompts of speakers who have other clips to be enrolled with: at most half of each speaker's clips."""
    least = subject.plan.prompt_seconds + subject.plan.seconds
    clips: dict[str, int] = {}
    for recording in subject.recordings:
        if (recording.kind, recording.split) == (SPEECH, "test"):
            clips[recording.speaker] = clips.get(recording.speaker, 0) + 1
    taken: dict[str, int] = {}
    prompts: list[Recording] = []
    for recording in subject.draw(SPEECH, "test", len(subject.recordings), rng, min_seconds=least):
        speaker = recording.speaker
        if len(prompts) < count and taken.get(speaker, 0) < clips[speaker] // 2:
            taken[speaker] = taken.get(speaker, 0) + 1
            prompts.append(recording)
    return prompts


def _voice(subject: Subject, made: Sequence[Continued], rng: np.random.Generator) -> dict[str, Any]:
    codec = subject.audiolm.codec
    train = subject.draw(SPEECH, "train", VOICE_CLIPS, rng, min_seconds=4.0)
    embedding = fit_voices(codec, _load(train, 8.0), [item.speaker for item in train])
    prompts = {item.recording.path for item in made}
    enrollment: dict[str, list[Waveform]] = {}
    for recording in subject.draw(SPEECH, "test", len(subject.recordings), rng, min_seconds=2.0):
        clips = enrollment.setdefault(recording.speaker, [])
        if recording.path not in prompts and len(clips) < ENROLLMENT_CLIPS:
            clips.append(load(recording, max_seconds=8.0))
    enrollment = {speaker: clips for speaker, clips in enrollment.items() if clips}
    return evaluate_voice(
        embedding,
        codec,
        enrollment,
        [item.recording.speaker for item in made],
        [item.continuation for item in made],
        [item.truth for item in made],
        subject.plan.takes,
    )


def _load(recordings: Iterable[Recording], seconds: float) -> list[Waveform]:
    return [load(recording, max_seconds=seconds) for recording in recordings]


SECTIONS: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "codec": codec_section,
    "tokens": tokens_section,
    "lm": lm_section,
    "words": words_section,
    "continuation": continuation_section,
}


def evaluate(subject: Subject, only: Sequence[str] = tuple(SECTIONS)) -> dict[str, Any]:
    """Run the named sections in their order; {section: its numbers}."""
    return {name: section(subject) for name, section in SECTIONS.items() if name in only}
