"""audiolm-pytorch at our sizes: its three transformers, random weights, generating through its own wrappers.

Its layout is flat: 25 semantic, 200 coarse and 400 fine tokens per second of sound. End-of-sequence is made
impossible, so that every run makes all its tokens. Two things that it loads and that nothing here uses are stood in
for: fairseq, which cannot be imported on current Pythons, and the configuration of a T5 that would be downloaded.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
from collections.abc import Callable
from typing import Any

import torch

from model.audiolm import AudioLM

NEVER = -1e9  # a logit


class AudioLMPytorch:
    """Raises ImportError where it is not installed."""

    name = "audiolm-pytorch"
    note = "float32, its own key/value cache, no prompt"
    batches = (1, 8)

    def __init__(self, model: AudioLM, device: torch.device) -> None:
        package = _package()
        semantic, coarse, fine = model.semantic.config, model.coarse.config, model.fine.config
        self._rates = {"semantic": semantic.frame_rate, "coarse": coarse.frame_rate}
        self._steps = {
            "semantic": semantic.frame_rate,
            "coarse": coarse.frame_rate * coarse.num_codebooks,
            "fine": fine.frame_rate * fine.num_codebooks,
        }
        self._clusters, self._codes = semantic.vocab_size, coarse.vocab_size
        self._levels, self._device = coarse.num_codebooks, device
        shape = [{"dim": c.n_embd, "depth": c.n_layer, "heads": c.n_head} for c in (semantic, coarse, fine)]
        first = package.SemanticTransformer(num_semantic_tokens=self._clusters, **shape[0])
        first.to_logits.bias.data[first.eos_id] = NEVER
        second = package.CoarseTransformer(
            num_semantic_tokens=self._clusters,
            codebook_size=self._codes,
            num_coarse_quantizers=coarse.num_codebooks,
            **shape[1],
        )
        third = package.FineTransformer(
            num_coarse_quantizers=coarse.num_codebooks,
            num_fine_quantizers=fine.num_codebooks,
            codebook_size=self._codes,
            **shape[2],
        )
        codec = package.SoundStream(  # the wrappers ask it for its number of levels
            codebook_size=self._codes,
            rq_num_quantizers=coarse.num_codebooks + fine.num_codebooks,
            channels=4,
            use_local_attn=False,
        )
        self._semantic = package.SemanticTransformerWrapper(transformer=first, unique_consecutive=False)
        self._coarse = package.CoarseTransformerWrapper(
            transformer=second, codec=codec, unique_consecutive=False
        )
        self._fine = package.FineTransformerWrapper(transformer=third, codec=codec)
        for wrapper in (self._semantic, self._coarse, self._fine):
            wrapper.to(device)

    def steps(self, seconds: float) -> dict[str, int]:
        """Steps per stage that `seconds` of sound take."""
        return {name: round(rate * seconds) for name, rate in self._steps.items()}

    def calls(self, rows: int, seconds: float) -> dict[str, Callable[[], object]]:
        """One call per stage that makes its tokens of `seconds` of sound for `rows` callers."""
        tokens, frames = (round(rate * seconds) for rate in self._rates.values())
        given = torch.randint(self._clusters, (rows, tokens), device=self._device)
        codes = torch.randint(self._codes, (rows, frames, self._levels), device=self._device)
        return {
            "semantic": lambda: _quiet(self._semantic.generate, max_length=tokens, batch_size=rows),
            "coarse": lambda: _quiet(self._coarse.generate, semantic_token_ids=given, max_time_steps=frames),
            "fine": lambda: _quiet(self._fine.generate, coarse_token_ids=codes),
        }


def _package() -> Any:
    try:
        importlib.import_module("fairseq")
    except Exception:  # whatever an old package raises at import
        sys.modules["fairseq"] = types.ModuleType("fairseq")
    transformers = importlib.import_module("transformers")
    t5 = importlib.import_module("audiolm_pytorch.t5")
    t5.T5_CONFIGS.setdefault(t5.DEFAULT_T5_NAME, {"config": transformers.T5Config(d_model=768)})
    return importlib.import_module("audiolm_pytorch")


def _quiet(generate: Callable[..., Any], **values: Any) -> Any:
    """Without its progress bars."""
    with contextlib.redirect_stderr(io.StringIO()):
        return generate(**values)
