"""Shapes of every part, as frozen dataclasses, and the presets that name them.

A config is what a bundle stores beside its weights and what a checkpoint is compared with; it holds no paths,
no devices and nothing about training. `from_dict` is strict: an unknown or missing key names itself.
Presets: `tiny` (tests, seconds), `starter` (ships in the repository), `base` (AudioLM's own sizes, arXiv 2209.03143).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from model.errors import ConfigError

SAMPLE_RATE = 16_000
# Strength of the style in use, chosen on 29 held-out prompts of speech and 40 of piano: with guidance, 1 to 2.5 do
# about equally well. The fine stage has none: it has frames of the prompt in its window.
STYLES = {"semantic": 1.4, "coarse": 1.4, "fine": 0.0}
# On the same prompts the voice was found in 70 % of continuations without guidance, in 84 % with 1, in 89 % with 2. In
# the semantic stage it makes speech repeat itself and fall silent, and lets music keep its tempo.
GUIDANCE = {"semantic": 0.0, "coarse": 1.5, "fine": 0.0}
MUSIC_GUIDANCE = {"semantic": 2.0, "coarse": 1.5, "fine": 0.0}
STYLE_FRAMES = {"semantic": 32, "coarse": 1, "fine": 1}  # 1.28 s of semantic tokens: two beats
ONSET_WEIGHT = 2.5  # of 2.5 and 4: probes name notes and phones better, and as many strokes are kept

Temperature = float | tuple[float, ...]  # of all codebooks of a stage, or of each
Temperatures = tuple[Temperature, Temperature, Temperature]  # of the semantic, coarse and fine stage


def to_temperatures(values: Sequence[float | Sequence[float]]) -> Temperatures:
    """From JSON values. Raises ValueError for anything but three numbers, or lists of numbers, from 0 up."""
    semantic, coarse, fine = (
        tuple(map(float, each)) if isinstance(each, Sequence) else float(each) for each in values
    )
    for each in (semantic, coarse, fine):
        numbers = each if isinstance(each, tuple) else (each,)
        if not numbers or not all(0 <= number < math.inf for number in numbers):
            raise ValueError(f"temperatures are {values}; they must be from 0 up")
    return semantic, coarse, fine


class _Strict:
    """Mixin: dataclass to and from plain JSON values, refusing what it does not know."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - set(fields))
        missing = sorted(set(fields) - set(values))
        if unknown or missing:
            raise ConfigError(f"{cls.__name__}: unknown keys {unknown}, missing keys {missing}")
        kwargs: dict[str, Any] = {}
        for name, value in values.items():
            kwargs[name] = tuple(value) if isinstance(value, list) else value
        try:
            return cls(**kwargs)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error


@dataclass(frozen=True)
class CodecConfig(_Strict):
    """Frame-synchronous codec of spectral magnitudes: 50 frames per second, residual vector quantization."""

    hop_length: int = 320  # 20 ms at 16 kHz: one frame
    num_codebooks: int = 12  # 12 levels x 10 bit x 50 Hz = 6 kbit/s
    codebook_size: int = 1024
    latent_dim: int = 128  # width of the quantized vector: principal components that are kept
    decoder_dim: int = 320
    decoder_layers: int = 4
    kernel_size: int = 7  # ConvNeXt depthwise kernel, frames
    phase_iterations: int = 24  # of the fast Griffin-Lim algorithm


@dataclass(frozen=True)
class TokenizerConfig(_Strict):
    """Conformer encoder whose middle layer, clustered, gives semantic tokens at 25 Hz."""

    hop_length: int = 640
    n_mels: int = 80
    encoder_dim: int = 192
    num_heads: int = 4
    ffn_dim: int = 768
    num_layers: int = 4  # layers kept for inference: the one that is clustered is the last
    conv_kernel: int = 9
    left_context: int = 24  # frames of past that attention sees, per layer
    right_context: int = (
        4  # frames of future: few, or a prompt's last tokens differ from those inside a longer clip
    )
    num_clusters: int = 512
    onset_weight: float = 0.0  # deviation of how struck a frame is, of others' 1 in clustering; 0: left out
    hears_strokes: bool = False  # the network says how struck a frame is; else, how sharply the sound rises
    bottleneck_dim: int = 0  # width of what phones and notes are named from and clustered; 0: the last layer

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:  # values of bundles from before there were such
        return super().from_dict({"onset_weight": 0.0, "hears_strokes": False, "bottleneck_dim": 0} | values)


@dataclass(frozen=True)
class StageConfig(_Strict):
    """One token stage. `max_frames` is the window it is trained on and never exceeds in use."""

    n_layer: int
    n_head: int
    n_kv_head: int  # heads of keys and values, each read by n_head / n_kv_head query heads (arXiv 2305.13245)
    n_embd: int
    n_ff: int
    dropout: float
    frame_rate: float
    max_frames: int
    vocab_size: int  # codes per codebook; heads have exactly this many classes
    num_codebooks: int  # codebooks this stage predicts
    first_codebook: int = 0  # index of its first codebook in the codec's stack
    conditioning_vocab: int = 0  # semantic clusters it is conditioned on, 0 for none
    lookahead: int = 0  # future semantic frames added to the input embedding
    style: float = 0.0  # how strongly a prompt's style (model.style) is added in use; 1 in training, 0: none
    style_frames: int = 1  # how many of its frames the style looks at together
    guidance: float = 0.0  # how far the prompt moves logits in use (model.guidance); 0: not at all
    music_guidance: float = 0.0  # the same where the prompt is music
    semantic_guidance: bool = False  # whether there semantic tokens do so, too: the other pass has neither
    pulse: bool = False  # whether steps are told how due a stroke is (model.pulse)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:  # values of bundles from before there were such
        guidance = {
            "guidance": 0.0,
            "music_guidance": values.get("guidance", 0.0),
            "semantic_guidance": False,
        }
        return super().from_dict({"style_frames": 1, "pulse": False} | guidance | values)

    @property
    def tells_music(self) -> bool:
        """Whether guidance depends on what the prompt is."""
        return self.music_guidance != self.guidance or self.semantic_guidance


@dataclass(frozen=True)
class OperatingPoint(_Strict):
    """What the detector does at a threshold for clips of one range of lengths, as measured on held-out recordings."""

    bucket: str  # "5-10 s"
    least_seconds: float  # the shortest clip it holds for
    threshold: float  # on the clip's probability
    false_positive_rate: float
    upper_bound: float  # of that rate, with 95 % confidence
    clips: int  # not ours, that it was measured on
    true_positive_rate: float


@dataclass(frozen=True)
class DetectorConfig(_Strict):
    """Classifier of windows: ours or not."""

    window_seconds: float = 3.0
    hop_seconds: float = 0.5
    n_fft: int = 1024  # 64 ms: partials of a voice lie apart
    hop_length: int = 160  # 10 ms; the network works on every second one
    n_bands: int = 96
    channels: tuple[int, ...] = (
        8,
        16,
        32,
    )  # of the convolutions over time and frequency, halving the bands each
    dim: int = 128
    n_layer: int = 4
    kernel_size: int = 9  # of the convolutions over time: 180 ms
    dropout: float = 0.1
    operating_points: tuple[
        OperatingPoint, ...
    ] = ()  # by length, shortest first; none before it was measured

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        points = values.get("operating_points", ())
        read = tuple(OperatingPoint.from_dict(point) for point in points)
        return super().from_dict(
            values | {"operating_points": read} if "operating_points" in values else values
        )

    def operating_point(self, seconds: float) -> OperatingPoint | None:
        """The one for clips of `seconds`."""
        fitting = [point for point in self.operating_points if point.least_seconds <= seconds]
        return fitting[-1] if fitting else None


@dataclass(frozen=True)
class Preset:
    """All parts of one system size."""

    name: str
    codec: CodecConfig
    tokenizer: TokenizerConfig
    semantic: StageConfig
    coarse: StageConfig
    fine: StageConfig
    detector: DetectorConfig = DetectorConfig()
    max_prompt_seconds: float = 10.0
    temperatures: Temperatures = (1.0, (0.8, 0.7, 0.65, 0.6), 0.5)


def _stage(
    kind: str, n_layer: int, n_head: int, n_embd: int, *, clusters: int, codes: int, dropout: float, seconds: float,
    n_kv_head: int | None = None,
) -> StageConfig:  # fmt: skip
    frame_rate = 25.0 if kind == "semantic" else 50.0
    shape: dict[str, dict[str, int]] = {
        "semantic": {"vocab_size": clusters, "num_codebooks": 1},
        "coarse": {"vocab_size": codes, "num_codebooks": 4, "conditioning_vocab": clusters, "lookahead": 2},
        "fine": {"vocab_size": codes, "num_codebooks": 8, "first_codebook": 4},
    }
    return StageConfig(
        n_layer=n_layer,
        n_head=n_head,
        n_kv_head=n_kv_head or n_head,
        n_embd=n_embd,
        n_ff=4 * n_embd,
        dropout=dropout,
        frame_rate=frame_rate,
        max_frames=round(seconds * frame_rate),
        style=STYLES[kind],
        style_frames=STYLE_FRAMES[kind],
        guidance=GUIDANCE[kind],
        music_guidance=MUSIC_GUIDANCE[kind],
        semantic_guidance=kind == "coarse",
        pulse=kind == "semantic",
        **shape[kind],
    )


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        "tiny",
        CodecConfig(
            codebook_size=32,
            latent_dim=16,
            decoder_dim=16,
            decoder_layers=1,
            phase_iterations=2,
        ),
        TokenizerConfig(
            encoder_dim=16,
            num_heads=2,
            ffn_dim=32,
            num_layers=1,
            num_clusters=16,
            onset_weight=ONSET_WEIGHT,
            hears_strokes=True,
            bottleneck_dim=8,
        ),
        _stage("semantic", 2, 2, 32, clusters=16, codes=32, dropout=0.0, seconds=4.0),
        _stage("coarse", 2, 4, 32, n_kv_head=2, clusters=16, codes=32, dropout=0.0, seconds=3.0),
        _stage("fine", 2, 2, 32, clusters=16, codes=32, dropout=0.0, seconds=2.0),
        DetectorConfig(window_seconds=1.0, n_bands=32, channels=(4, 4), dim=16, n_layer=1, dropout=0.0),
        max_prompt_seconds=1.5,
    ),
    "starter": Preset(
        "starter",
        CodecConfig(),
        TokenizerConfig(onset_weight=ONSET_WEIGHT, hears_strokes=True, bottleneck_dim=32),
        _stage("semantic", 6, 5, 320, clusters=512, codes=1024, dropout=0.0, seconds=20.0),
        _stage("coarse", 6, 5, 320, clusters=512, codes=1024, dropout=0.0, seconds=10.0),
        _stage("fine", 4, 5, 320, clusters=512, codes=1024, dropout=0.0, seconds=4.0),
        max_prompt_seconds=6.0,
    ),
    "base": Preset(
        "base",
        CodecConfig(latent_dim=192, decoder_dim=768, decoder_layers=8),
        TokenizerConfig(
            encoder_dim=512,
            num_heads=8,
            ffn_dim=2048,
            num_layers=8,
            num_clusters=1024,
            onset_weight=ONSET_WEIGHT,
            hears_strokes=True,
            bottleneck_dim=48,
        ),
        _stage("semantic", 12, 16, 1024, clusters=1024, codes=1024, dropout=0.1, seconds=30.0),
        _stage("coarse", 12, 16, 1024, clusters=1024, codes=1024, dropout=0.1, seconds=10.0),
        _stage("fine", 12, 16, 1024, clusters=1024, codes=1024, dropout=0.1, seconds=4.0),
    ),
}
