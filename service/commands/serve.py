"""`audiolm serve`: the HTTP service, from AUDIOLM_* settings and the options that override them."""

from __future__ import annotations

import argparse
from pathlib import Path

from service.commands import Subparsers, add_command

EXAMPLES = """\
  audiolm serve                                         the shipped bundle, on http://127.0.0.1:8000
  audiolm serve --host 0.0.0.0 --port 80                for other machines
  audiolm serve --bundle bundles/mine --device cuda     another bundle, on a GPU
  AUDIOLM_MAX_QUEUE_SIZE=200 audiolm serve              every setting is an environment variable: see the README
"""


def register(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "serve", "serve continuations over HTTP", EXAMPLES)
    parser.add_argument("--host", help="address to listen on (AUDIOLM_HOST, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any free one (AUDIOLM_PORT, 8000)")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="default: the bundle that ships (AUDIOLM_BUNDLE)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto (AUDIOLM_DEVICE)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from model.errors import AudioLMError
    from service.app import build_worker, create_app
    from service.commands.environment import read_settings
    from service.layers import build_provenance
    from service.logs import configure
    from service.server import run as run_server

    settings = read_settings(host=args.host, port=args.port, bundle=args.bundle, device=args.device)
    configure(settings.log_level, settings.log_format)
    worker = build_worker(settings)
    status = run_server(
        create_app(settings, worker, provenance=build_provenance(settings)),
        worker,
        host=settings.host,
        port=settings.port,
        drain_seconds=settings.drain_seconds,
        body_seconds=settings.body_timeout_seconds,
        log_level=settings.log_level,
        announce=announce,
    )
    if isinstance(worker.failure, AudioLMError):
        raise worker.failure
    return status


def announce(host: str, port: int) -> None:
    """Where to look, and a line to paste."""
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
    base = f"http://{shown}:{port}"
    print(f"\n  {base}/           the page: listen, look, try")
    print(f"  {base}/docs       what can be asked")
    print(f"  {base}/v1/model   what is served\n")
    print(f"  curl -F file=@{example_clip()} '{base}/continue?seconds=5' -o out.wav\n", flush=True)


def example_clip() -> Path:
    """A clip that comes with the page, as seen from the working directory."""
    clip = Path(__file__).resolve().parents[1] / "static" / "clips" / "piano-waltz.flac"
    working = Path.cwd()
    return clip.relative_to(working) if clip.is_relative_to(working) else clip
