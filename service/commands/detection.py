"""`audiolm detect`: did this system make a clip, and which seconds of it; here or, with `--url`, by a service."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands import Subparsers, add_command

if TYPE_CHECKING:
    from service.findings import DetectAnswer

EXAMPLES = """\
  audiolm detect clip.wav                                     with this machine's keys and ledger, offline
  audiolm detect clip.mp3 --json                              everything that was found, as JSON
  audiolm detect clip.ogg --url http://localhost:8000         ask a running service instead

The clip may be WAV, FLAC, Ogg or MP3 of any rate and channel count, from 0.5 s to 10 minutes. Here, the data folder of
the service (AUDIOLM_DATA_DIR) says which watermark, ledger and certificates are ours, and the bundle which sound.
The exit status is 0 whatever the verdict; it is in the first word of the answer.
"""


def register(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "detect", "tell whether, and where, this system made a clip", EXAMPLES)
    parser.add_argument("clip", type=Path, metavar="CLIP", help="the sound to examine")
    parser.add_argument("--json", action="store_true", help="print the answer of POST /detect")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="default: the bundle that ships (AUDIOLM_BUNDLE)"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 ...")
    parser.add_argument("--url", help="let the service at this address do it: no model is loaded here")
    parser.add_argument("--key", help="API key of that service, if it asks for one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    answer = run_remote(args) if args.url else run_here(args)
    if args.json:
        print(json.dumps(answer.model_dump(), indent=2))
    else:
        print("\n".join(describe(answer)))
    return 0


def run_remote(args: argparse.Namespace) -> DetectAnswer:
    from service.client import Client
    from service.findings import DetectAnswer

    data = _read(args.clip)
    with Client(args.url, key=args.key) as client:
        return DetectAnswer.model_validate(client.detect(data))


def run_here(args: argparse.Namespace) -> DetectAnswer:
    """What the service would answer, without a server: the same layers, asked one after the other."""
    import secrets
    from dataclasses import replace
    from importlib.metadata import version

    from model.audio import load_clip
    from model.bundle import SHIPPED, load_bundle
    from model.detector import Detector
    from service.classifier import Classifier
    from service.commands.environment import read_settings
    from service.examiner import Examiner
    from service.findings import Versions
    from service.layers import build_provenance
    from service.verdict import answer_of

    settings = read_settings(bundle=args.bundle)
    clip = load_clip(args.clip, limit_seconds=settings.max_detect_seconds)
    data = _read(args.clip)
    samples = clip.waveform.numpy()
    bundle = load_bundle(settings.bundle or SHIPPED, args.device, only=("detector",))
    detector = bundle.parts.get("detector")
    examiner = Examiner.of(build_provenance(settings))
    findings, _ = examiner.examine(data, samples)
    version_of_bundle = bundle.info.model_version
    if isinstance(detector, Detector):
        findings = replace(findings, classifier=Classifier(detector, version_of_bundle).listen(samples))
    versions = Versions(
        service=version("audiolm-service"),
        bundle=version_of_bundle,
        detector=None if detector is None else version_of_bundle,
        watermark=examiner.watermark_version,
    )
    return answer_of(secrets.token_hex(8), findings, versions)


def _read(clip: Path) -> bytes:
    from model.errors import AudioError

    try:
        return clip.read_bytes()
    except OSError as error:
        raise AudioError(f"{clip}: {error.strerror or error}", code="missing_file") from error


def describe(answer: DetectAnswer) -> list[str]:
    """The answer as lines for people: the verdict, the seconds, then each layer."""
    lines = [f"{answer.verdict}: {answer.summary}"]
    for segment in answer.segments:
        lines.append(f"  {segment.start:7.2f} - {segment.end:.2f} s   {', '.join(segment.evidence)}")
    if answer.content_credentials is not None:
        credentials = answer.content_credentials
        signer = f" ({credentials.signer})" if credentials.signer else ""
        lines.append(f"  content credentials   {credentials.state}{signer}: {credentials.detail}")
    if answer.ledger is not None:
        row = answer.ledger
        named = f", generation {row.generation_id} of {row.created_at}" if row.generation_id else ""
        lines.append(f"  ledger                {row.match}{named}")
    if answer.watermark is not None:
        mark = answer.watermark
        carried = "" if mark.payload is None else f", payload {mark.payload}"
        lines.append(
            f"  watermark             {'present' if mark.present else 'not found'}, p = {mark.p_value:.1e}{carried}"
        )
    if answer.probability is not None:
        point = answer.operating_point
        measured = (
            f"; counts from {point.threshold:.2f} on, which {point.false_positive_rate:.2%} of {point.clips} clips "
            f"not made here reach (at most {point.upper_bound:.2%}; {point.bucket})"
            if point
            else "; no error rate was measured for this length, so it does not count"
        )
        lines.append(f"  classifier            {answer.probability:.2f}{measured}")
    return lines
