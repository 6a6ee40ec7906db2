"""SimCTG (Su et al. 2022): a language model whose token representations differ.

Contrastive search, the decoding that needs them, is `decoding.contrastive_search`; what
they differ by is `evaluation.token_isotropy`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import losses, numerics, similarity

__all__ = ["simctg", "token_contrast", "token_margins"]


def token_margins(
    scores: Float[Array, "*n t t"], *, margin: numerics.Number = 0.5
) -> Float[Array, "*n t t"]:
    """How much nearer than allowed two tokens of a text are.

        max(0, margin - s_ii + s_ij)

    Args:
      scores: cosines s of the tokens of each text.
      margin: rho, >= 0.

    References:
      Su et al. 2022, arXiv:2202.06417, eq. 2.

    Examples:
      >>> print(token_margins(jnp.array([[1.0, 0.75], [0.75, 1.0]]), margin=0.5))
      [[0.5  0.25]
       [0.25 0.5 ]]
    """
    numerics.check_nonnegative(margin=margin)
    scores = numerics.at_least_f32(scores, "scores")
    itself = jnp.diagonal(scores, axis1=-2, axis2=-1)[..., None]
    return numerics.hinge(margin - itself + scores)


def token_contrast(
    hidden: Float[Array, "n t d"],
    *,
    margin: numerics.Number = 0.5,
    where: Bool[Array, "n t"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Pushes the representations of different tokens of a text apart.

        loss_ist = max(0, margin - cos(h_is, h_is) + cos(h_is, h_it)),  s != t

    with h_is the state of token s of text i. The mean is over all pairs of all texts,
    so a long text counts more; both orders of a pair count. A margin of 0 turns it off.

    Args:
      hidden: last hidden states of the tokens that a model reads.
      margin: rho, >= 0: pairs whose cosine is above 1 - rho are pushed apart.
      where: tokens that count; leave padding out.
      weights: one non-negative weight per text, shared by its pairs.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count; None gives the sums of
        the texts, [n].

    References:
      Su et al. 2022, arXiv:2202.06417, eq. 2.

    Examples:
      >>> hidden = jnp.array([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
      >>> print(f"{token_contrast(hidden, margin=0.5):.4f}")  # one pair of three
      0.1667
    """
    numerics.check_shapes(
        hidden=(hidden, "n t d"), where=(where, "n t"), weights=(weights, "n")
    )
    hidden = numerics.at_least_f32(hidden, "hidden")
    mask = numerics.mask_or_all(where, hidden.shape[:2])
    hidden = jnp.where(mask[..., None], hidden, 0)
    cosines = jax.vmap(similarity.cosine)(hidden, hidden)
    pairs = mask[:, :, None] & mask[:, None, :]
    pairs = pairs & ~jnp.eye(hidden.shape[1], dtype=bool)[None]
    return numerics.reduce_terms(
        token_margins(cosines, margin=margin),
        where=pairs,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def simctg(
    hidden: Float[Array, "n t d"],
    logits: Float[Array, "n t v"],
    labels: Integer[Array, "n t"],
    *,
    margin: numerics.Number = 0.5,
    where: Bool[Array, "n t"] | None = None,
    weights: Float[Array, " n"] | None = None,
    ignore_index: int = -100,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> tuple[Float[Array, "..."], dict[str, Float[Array, "..."]]]:
    """The likelihood of the next tokens and the contrast of the tokens read.

        loss = mle + cl,  mle = `losses.token_cross_entropy`,  cl = `token_contrast`

    Each part has its own mean: over labelled tokens, and over pairs of tokens.

    Args:
      hidden: last hidden states of the tokens that a model reads.
      logits: its scores of the next token at each of them.
      labels: the next token, or `ignore_index`.
      margin: rho, >= 0; 0 leaves the likelihood alone.
      where: tokens read that count; leave padding out.
      weights: one non-negative weight per text.
      ignore_index: the label of positions that have none.
      reduce_fn: `jnp.mean` or `jnp.sum`; None gives the sums of the texts, [n].

    Returns:
      the loss and {"mle", "cl"}, its parts.

    Raises:
      ValueError: a label outside of the vocabulary.

    References:
      Su et al. 2022, arXiv:2202.06417, eq. 3.

    Examples:
      >>> hidden, logits = jnp.ones((1, 2, 3)), jnp.zeros((1, 2, 4))
      >>> loss, parts = simctg(hidden, logits, jnp.array([[1, 2]]))
      >>> print(f"{loss:.4f} = {parts['mle']:.4f} + {parts['cl']:.4f}")
      1.8863 = 1.3863 + 0.5000
    """
    numerics.check_shapes(
        hidden=(hidden, "n t d"), logits=(logits, "n t v"), labels=(labels, "n t")
    )
    options: Any = dict(where=where, weights=weights, reduce_fn=reduce_fn)
    mle = losses.token_cross_entropy(
        logits, labels, ignore_index=ignore_index, **options
    )
    cl = token_contrast(hidden, margin=margin, **options)
    return mle + cl, {"mle": mle, "cl": cl}
