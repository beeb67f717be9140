"""The model behind the handler that one would write first; FastAPI runs it in its pool of threads.

    python -m tests.benchmarks.peer_plain --port 8001 [--bundle DIR]

Knows no limits, refusals, streams or disconnects.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, Response, UploadFile

from model.audio import load_clip
from model.audiolm import AudioLM, GenerationSettings


def samples_of(model: AudioLM, clip: bytes, settings: GenerationSettings, count: int) -> list[bytes]:
    """`count` continuations of one clip, made together, as 16-bit samples."""
    waveform = load_clip(io.BytesIO(clip)).waveform
    made = model.continue_clip(waveform, settings, count)
    return [
        np.rint(one.waveform[one.prompt_samples :].numpy() * 32767).astype("<i2").tobytes() for one in made
    ]


def new_app(model: AudioLM) -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/continue", response_class=Response)
    def continue_clip(file: UploadFile, seconds: float = 5.0, seed: int = 0) -> Response:
        settings = GenerationSettings(seconds=seconds, seed=seed)
        return Response(samples_of(model, file.file.read(), settings, 1)[0], media_type="audio/pcm")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peer_plain")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path, help="default: the one that ships")
    args = parser.parse_args()
    uvicorn.run(new_app(AudioLM.load(args.bundle)), host="127.0.0.1", port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
