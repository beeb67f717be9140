"""`audiolm continue`: one clip in, the clip with its continuation out; here or, with `--url`, by a service."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

from service.commands import Subparsers, add_command

if TYPE_CHECKING:
    from model.audiolm import Continuation
    from service.encoding import Format
    from service.provenance import Generation

LONGEST_CLIP_SECONDS = 600.0  # the whole clip is written back, in front of its continuation

EXAMPLES = """\
  audiolm continue talk.wav -o longer.wav                     5 s more, in the same voice
  audiolm continue etude.mp3 -o etude.flac --seconds 20       20 s more piano, lossless
  audiolm continue talk.wav -o take.wav --num-continuations 3 writes take-1.wav take-2.wav take-3.wav
  audiolm continue talk.wav -o longer.wav --url http://localhost:8000     the same by a running service
  audiolm continue talk.wav -o safe.wav --temperature 0.8     less surprising; 0 always takes the likeliest token

The clip may be WAV, FLAC, Ogg or MP3 of any rate and channel count, from 0.5 s to 10 minutes. The result is 16 kHz
mono: the clip's own samples, then exactly SECONDS more. The same seed and bundle give the same result.
"""


def register(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "continue", "continue a clip of speech or piano", EXAMPLES)
    parser.add_argument("clip", type=Path, metavar="CLIP", help="the sound to continue")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="file to write: .wav, .flac, .ogg or .mp3",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the continuation (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another continuation (default: 0)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="scales the bundle's own temperatures (default: 1)"
    )
    parser.add_argument("--top-k", type=int, help="sample among the K likeliest tokens only")
    parser.add_argument(
        "--top-p", type=float, help="sample among the likeliest tokens that sum to probability P"
    )
    parser.add_argument("--num-continuations", type=int, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="default: the bundle that ships")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 ...")
    parser.add_argument("--url", help="let the service at this address do it: no model is loaded here")
    parser.add_argument("--key", help="API key of that service, if it asks for one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return run_remote(args) if args.url else run_here(args)


def run_remote(args: argparse.Namespace) -> int:
    """The files are what the service sends: the end of the clip as it keeps it, then the continuation."""
    import base64

    from model.audio import check_target, format_of
    from model.errors import AudioError
    from service.client import Client

    check_target(args.output)
    targets = _targets(args.output, args.num_continuations)
    with Client(args.url, key=args.key) as client:
        try:
            answer = client.continue_clip_json(
                args.clip,
                seconds=args.seconds,
                seed=args.seed,
                temperature=args.temperature,
                top_k=args.top_k,
                top_p=args.top_p,
                num_continuations=args.num_continuations,
                response_format=format_of(args.output).lower(),
            )
        except OSError as error:
            raise AudioError(f"{args.clip}: {error.strerror or error}", code="missing_file") from error
    for note in answer["prompt"]["notes"]:
        print(f"{args.clip}: {note}")
    for target, continuation in zip(targets, answer["continuations"], strict=True):
        target.write_bytes(base64.b64decode(continuation["audio"]))
        print(f"{target}: {answer['prompt']['seconds']:.2f} s of clip, then {continuation['seconds']:g} s")
    spent = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in answer["timings"].items())
    print(f"{args.url} took {sum(answer['timings'].values()):.1f} s ({spent})")
    return 0


def run_here(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from model.audio import check_target, format_of, load_clip, write_file
    from model.audiolm import AudioLM, GenerationSettings
    from model.config import SAMPLE_RATE
    from service.commands.environment import read_settings
    from service.layers import build_provenance
    from service.provenance import Origin

    settings = GenerationSettings(
        seconds=args.seconds,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=args.seed,
    )
    targets = _targets(args.output, args.num_continuations)
    check_target(args.output)
    clip = load_clip(args.clip, limit_seconds=LONGEST_CLIP_SECONDS)
    for note in clip.notes:
        print(f"{args.clip}: {note}")
    provenance = build_provenance(read_settings())
    audiolm = AudioLM.load(args.bundle, device=args.device)
    generations = [
        provenance.begin(
            Origin(
                prompt=clip.waveform.numpy(),
                model=audiolm.info.name,
                model_version=audiolm.info.model_version,
                seed=settings.seed + i,
                parameters=settings.sampling,
                start=clip.waveform.shape[0] / SAMPLE_RATE,
                seconds=settings.seconds,
            )
        )
        for i in range(args.num_continuations)
    ]
    with tqdm(total=100, leave=False, disable=None, bar_format="{desc:9} {percentage:3.0f}%|{bar}|") as bar:

        def show(stage: str, fraction: float) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.update(100 * fraction - bar.n)

        made = audiolm.continue_clip(clip.waveform, settings, args.num_continuations, show)
    format = cast("Format", format_of(args.output).lower())
    parent = provenance.describe_parent(args.clip.read_bytes(), format)
    for target, continuation, generation in zip(targets, made, generations, strict=True):
        write_file(target, _sealed(continuation, generation, format, clip.bit_depth, parent))
        prompt_seconds = continuation.prompt_samples / SAMPLE_RATE
        print(f"{target}: {prompt_seconds:.2f} s of clip, then {args.seconds:g} s")
    spent = made[0].stage_seconds
    total = sum(spent.values())
    stages = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in spent.items())
    real_time = total / (args.seconds * len(made))
    print(f"took {total:.1f} s, {real_time:.2f} s for each second of sound ({stages})")
    return 0


def _sealed(
    continuation: Continuation, generation: Generation, format: Format, bit_depth: int, parent: bytes | None
) -> bytes:
    """The file as `audiolm serve` would answer it: its generated seconds marked, signed, in the ledger."""
    from io import BytesIO

    import torch

    from model.audio import save_clip

    lead, made = continuation.waveform.tensor_split([continuation.prompt_samples])
    marked = [torch.from_numpy(generation.mark(made.numpy())), torch.from_numpy(generation.finish())]
    file = BytesIO()
    save_clip(file, torch.cat([lead, *marked]), format.upper(), bit_depth=bit_depth)
    return generation.seal(file.getvalue(), format, parent)


def _targets(output: Path, count: int) -> list[Path]:
    if count <= 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{i}") for i in range(1, count + 1)]
