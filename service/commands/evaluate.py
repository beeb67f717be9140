"""`audiolm evaluate`: measure a bundle. Its arguments and its work belong to `model.evaluation`."""

from __future__ import annotations

import argparse

from service.commands import Subparsers


def register(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("evaluate", help="measure a bundle on held-out recordings", add_help=False)
    parser.set_defaults(run=run, takes_rest=True)


def run(args: argparse.Namespace) -> int:
    from model.evaluation.command import main

    return main(args.rest)
