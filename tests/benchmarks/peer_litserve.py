"""The model behind LitServe, which batches whole requests.

    python -m tests.benchmarks.peer_litserve --port 8001 --batch 8 [--bundle DIR]

Whoever waits when a batch has ended is continued together, for as long as the longest of them asks. It is spared what
the benchmark does not need: all its requests hold the same clip, so a batch reads and encodes it once.
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

import litserve

from model.audio import SAMPLE_RATE
from model.audiolm import AudioLM, GenerationSettings
from tests.benchmarks.peer_plain import samples_of

WAIT_SECONDS = 0.05  # for a batch to fill

Asked = dict[str, Any]  # clip, seconds, seed


class Batched(litserve.LitAPI):  # type: ignore[misc]
    """Takes and gives JSON, the sound in base64."""

    def __init__(self, bundle: Path | None, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=WAIT_SECONDS, api_path="/continue")
        self.bundle = bundle

    def setup(self, device: str) -> None:
        self.model = AudioLM.load(self.bundle)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe validates by an annotation
        return {**request, "clip": base64.b64decode(request["clip"])}

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        return inputs

    def predict(self, inputs: list[Asked]) -> list[bytes]:
        longest = max(asked["seconds"] for asked in inputs)
        settings = GenerationSettings(seconds=longest, seed=inputs[0]["seed"])
        made = samples_of(self.model, inputs[0]["clip"], settings, len(inputs))
        return [
            samples[: 2 * round(SAMPLE_RATE * asked["seconds"])]
            for samples, asked in zip(made, inputs, strict=True)
        ]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> dict[str, str]:
        return {"pcm": base64.b64encode(output).decode()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peer_litserve")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path, help="default: the one that ships")
    parser.add_argument("--batch", type=int, default=8, help="largest batch (default: 8)")
    args = parser.parse_args()
    server = litserve.LitServer(Batched(args.bundle, args.batch), accelerator="cpu", devices=1, timeout=False)
    server.run(
        host="127.0.0.1",
        port=args.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
