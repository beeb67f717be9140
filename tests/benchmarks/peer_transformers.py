"""Hugging Face `transformers` at our sizes, random weights: MusicGen's decoder and Bark's three models.

MusicGen has our layout: one step per frame, codebooks delayed; without text its cross-attention is skipped, so a step
does the work of one of ours, through `generate` with a static cache. Bark's fine model makes one pass per level over
all frames, as ours does. Bark as a whole makes flat coarse codes in windows of 60, each with a new prefill.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.audiolm import AudioLM
from model.config import StageConfig

TEMPERATURE = 0.8


def _package() -> Any:
    transformers = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    return transformers


class MusicGen:
    """Semantic and coarse stage by MusicGen's decoder, fine stage by Bark's. Raises ImportError if not installed."""

    note = "static cache, no prompt"

    def __init__(
        self, model: AudioLM, device: torch.device, dtype: torch.dtype, batches: tuple[int, ...]
    ) -> None:
        self.batches = batches
        self._package, self._device = _package(), device
        self.name = f"transformers MusicGen + Bark fine, {'bf16' if dtype == torch.bfloat16 else 'fp32'}"
        self._configs = {s.kind: s.config for s in (model.semantic, model.coarse, model.fine)}
        self._models = {
            name: self._decoder(self._configs[name]).to(device, dtype) for name in ("semantic", "coarse")
        }
        self._fine = bark_fine(self._package, self._configs["fine"]).to(device, dtype)

    def steps(self, seconds: float) -> dict[str, int]:
        """Steps per stage that `seconds` of sound take."""
        steps = {
            name: round(self._configs[name].frame_rate * seconds) + self._configs[name].num_codebooks - 1
            for name in ("semantic", "coarse")
        }
        return {**steps, "fine": self._configs["fine"].num_codebooks}

    def calls(self, rows: int, seconds: float) -> dict[str, Callable[[], object]]:
        """One call per stage that makes its tokens of `seconds` of sound for `rows` callers."""
        steps, fine = self.steps(seconds), self._configs["fine"]
        levels = fine.first_codebook + fine.num_codebooks
        frames = round(fine.frame_rate * seconds)
        codes = torch.randint(fine.vocab_size, (rows, frames, levels), device=self._device)
        return {
            "semantic": lambda: self._generate("semantic", rows, steps["semantic"]),
            "coarse": lambda: self._generate("coarse", rows, steps["coarse"]),
            "fine": lambda: self._refine(codes),
        }

    def _decoder(self, config: StageConfig) -> Any:
        shape = self._package.MusicgenDecoderConfig(
            vocab_size=config.vocab_size,
            num_hidden_layers=config.n_layer,
            ffn_dim=config.n_ff,
            num_attention_heads=config.n_head,
            hidden_size=config.n_embd,
            num_codebooks=config.num_codebooks,
            dropout=0.0,
            pad_token_id=config.vocab_size,
            bos_token_id=config.vocab_size,
            eos_token_id=None,
        )
        return self._package.MusicgenForCausalLM(shape).eval()

    @torch.inference_mode()
    def _generate(self, stage: str, rows: int, steps: int) -> Tensor:
        config = self._configs[stage]
        start = torch.full((rows * config.num_codebooks, 1), config.vocab_size, device=self._device)
        settings = self._package.GenerationConfig(
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=1.0,
            num_beams=1,
            num_return_sequences=1,
            max_new_tokens=steps,
            cache_implementation="static",
            use_cache=True,
            guidance_scale=None,
            pad_token_id=config.vocab_size,
            bos_token_id=config.vocab_size,
            decoder_start_token_id=config.vocab_size,
        )
        made: Tensor = self._models[stage].generate(start, generation_config=settings)
        return made

    @torch.inference_mode()
    def _refine(self, codes: Tensor) -> None:
        fine = self._configs["fine"]
        for level in range(fine.first_codebook, codes.shape[2]):
            logits = self._fine(level, codes).logits[..., : fine.vocab_size].float() / TEMPERATURE
            drawn = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1)
            codes[..., level] = drawn.view(codes.shape[:2])


class Bark:
    """Bark's three models through their own `generate`, with our numbers of codebooks and rates."""

    name = "transformers Bark, fp32"
    note = "growing cache (it has no static one), prompt of 1 s"
    batches = (1, 8)

    def __init__(self, model: AudioLM, device: torch.device) -> None:
        package, self._device = _package(), device
        semantic, coarse, fine = model.semantic.config, model.coarse.config, model.fine.config
        self._semantic_config, self._coarse_config, self._fine_config = semantic, coarse, fine
        clusters, codes = semantic.vocab_size, coarse.vocab_size * coarse.num_codebooks
        shape = {"bias": False, "dropout": 0.0}
        self._semantic = package.BarkSemanticModel(
            package.BarkSemanticConfig(
                input_vocab_size=2 * clusters + 2, output_vocab_size=clusters + 1, **_size(semantic), **shape
            )
        )
        self._coarse = package.BarkCoarseModel(
            package.BarkCoarseConfig(
                input_vocab_size=clusters + codes + 2,
                output_vocab_size=clusters + codes + 2,
                **_size(coarse),
                **shape,
            )
        )
        self._fine = bark_fine(package, fine)
        for part in (self._semantic, self._coarse, self._fine):
            part.to(device).eval()
        settings = importlib.import_module("transformers.models.bark.generation_configuration_bark")
        self._settings = settings
        self._semantic_settings = settings.BarkSemanticGenerationConfig(
            eos_token_id=clusters,
            text_encoding_offset=clusters + 1,
            text_pad_token=clusters + 1,
            semantic_infer_token=clusters + 1,
            semantic_vocab_size=clusters,
            max_input_semantic_length=round(semantic.frame_rate),
            semantic_rate_hz=semantic.frame_rate,
            do_sample=True,
            temperature=TEMPERATURE,
        )
        self._coarse_settings = settings.BarkCoarseGenerationConfig(
            coarse_semantic_pad_token=clusters + codes,
            coarse_infer_token=clusters + codes + 1,
            coarse_rate_hz=coarse.frame_rate,
            n_coarse_codebooks=coarse.num_codebooks,
            max_coarse_input_length=round(2 * semantic.frame_rate),
            do_sample=True,
            temperature=TEMPERATURE,
        )
        self._fine_settings = settings.BarkFineGenerationConfig(
            temperature=TEMPERATURE,
            max_fine_history_length=fine.max_frames // 2,
            max_fine_input_length=fine.max_frames,
            n_fine_codebooks=fine.first_codebook + fine.num_codebooks,
        )

    def steps(self, seconds: float) -> dict[str, int]:
        """Steps per stage that `seconds` of sound take."""
        coarse = self._coarse_config
        return {
            "semantic": round(self._semantic_config.frame_rate * seconds),
            "coarse": round(coarse.frame_rate * seconds) * coarse.num_codebooks,
            "fine": self._fine_config.num_codebooks,
        }

    def calls(self, rows: int, seconds: float) -> dict[str, Callable[[], object]]:
        """One call per stage that makes its tokens of `seconds` of sound for `rows` callers."""
        steps, clusters = self.steps(seconds), self._semantic_config.vocab_size
        text = torch.randint(clusters, (rows, round(self._semantic_config.frame_rate)), device=self._device)
        tokens = torch.randint(clusters, (rows, steps["semantic"]), device=self._device)
        flat = torch.randint(self._coarse_config.vocab_size, (rows, steps["coarse"]), device=self._device)
        number = torch.arange(flat.shape[1], device=self._device) % self._coarse_config.num_codebooks
        codes = flat + clusters + self._coarse_config.vocab_size * number
        return {
            "semantic": lambda: self._first(text, steps["semantic"]),
            "coarse": lambda: self._second(tokens),
            "fine": lambda: self._third(codes),
        }

    @torch.inference_mode()
    def _first(self, text: Tensor, steps: int) -> None:
        self._semantic.generate(
            text,
            semantic_generation_config=self._semantic_settings,
            min_new_tokens=steps,
            max_new_tokens=steps,
        )

    @torch.inference_mode()
    def _second(self, tokens: Tensor) -> None:
        self._coarse.generate(
            tokens.clone(),
            semantic_generation_config=self._semantic_settings,
            coarse_generation_config=self._coarse_settings,
            codebook_size=self._coarse_config.vocab_size,
        )

    @torch.inference_mode()
    def _third(self, codes: Tensor) -> None:
        self._fine.generate(
            codes,
            semantic_generation_config=self._semantic_settings,
            coarse_generation_config=self._coarse_settings,
            fine_generation_config=self._fine_settings,
            codebook_size=self._coarse_config.vocab_size,
        )


def bark_fine(package: Any, config: StageConfig) -> Any:
    """Bark's fine model at the size of our fine stage."""
    shape = package.BarkFineConfig(
        input_vocab_size=config.vocab_size + 1,
        output_vocab_size=config.vocab_size + 1,
        n_codes_total=config.first_codebook + config.num_codebooks,
        n_codes_given=config.first_codebook,
        bias=False,
        dropout=0.0,
        **_size(config),
    )
    return package.BarkFineModel(shape).eval()


def _size(config: StageConfig) -> dict[str, int]:
    return {"num_layers": config.n_layer, "num_heads": config.n_head, "hidden_size": config.n_embd}
