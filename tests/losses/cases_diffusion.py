"""Contract cases of ebm/diffusion.py."""

import numpy as np

from contrastive_jax import ebm

from .cases import Case


def sequences(rng, n):
    """Log-probabilities of 5 tokens at n + 2 positions, and the tokens."""
    logits = rng.normal(size=(n, n + 2, 5))
    return {
        "log_probs": logits - np.log(np.exp(logits).sum(-1, keepdims=True)),
        "tokens": rng.integers(5, size=(n, n + 2)),
        "times": 0.1 + 0.9 * rng.random(n),
    }


CASES = {
    "masked_diffusion": Case(
        ebm.masked_diffusion,
        {"log_probs": "n m v", "tokens": "n m", "times": "n"},
        sequences,
        # Linear in the log-probabilities: a NaN there shows in the slope by the times.
        ("times", "log_probs"),
        columns=("tokens",),
    ),
}
