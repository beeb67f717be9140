"""`audiolm corpus`: make training audio. Its arguments and its work belong to `model.training.corpus`."""

from __future__ import annotations

import argparse

from service.commands import Subparsers


def register(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "corpus", help="make training audio: piano, speech, recordings", add_help=False
    )
    parser.set_defaults(run=run, takes_rest=True)


def run(args: argparse.Namespace) -> int:
    from model.training.corpus.command import main

    return main(args.rest)
