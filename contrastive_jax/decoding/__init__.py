"""Decoding: processors of logits, one compiled loop, beam search, contrastive search.

    scores = decoding.contrast(expert_logits, amateur_logits, alpha=0.1)
    found = decoding.generate(step, state, logits, prompt, choose=rule, max_new=64)

Arrays only: a model comes in as the functions that a loop calls
(`tasks.language_models` makes them of a `models.Decoder`).
"""

from contrastive_jax.decoding.beam import Beams, beam_search
from contrastive_jax.decoding.contrastive import (
    Reader,
    contrastive_scores,
    contrastive_search,
)
from contrastive_jax.decoding.generate import Decoded, Text, generate, two_streams
from contrastive_jax.decoding.processors import (
    context_aware,
    contrast,
    entropy_constrained,
    js_divergence,
    layer_contrast,
    layer_divergences,
    min_p,
    plausible,
    premature_layer,
    repetition_penalty,
    seen_tokens,
    temperature,
    top_k,
    top_p,
    within_bounds,
)

__all__ = [
    "Beams",
    "Decoded",
    "Reader",
    "Text",
    "beam_search",
    "context_aware",
    "contrast",
    "contrastive_scores",
    "contrastive_search",
    "entropy_constrained",
    "generate",
    "js_divergence",
    "layer_contrast",
    "layer_divergences",
    "min_p",
    "plausible",
    "premature_layer",
    "repetition_penalty",
    "seen_tokens",
    "temperature",
    "top_k",
    "top_p",
    "two_streams",
    "within_bounds",
]
