"""The encoder, and the bag of tokens that is the reference candidates are found by."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from contrastive_jax import models, randomness
from contrastive_jax.methods import debcse
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.tasks import text_encoders

SURFACES = {
    "edit": debcse.edit_similarity,
    "jaccard": debcse.jaccard,
    "length": debcse.length_ratio,
}


class Bag(nn.Module):
    """Mean of the vectors of the tokens that are kept.

    Attributes:
      vocab_size: number of tokens.
      width: of their vectors.
      dropout: chance of each token to be dropped; a text that loses all keeps all.
    """

    vocab_size: int
    width: int
    dropout: float

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "n t"],
        where: Bool[Array, "n t"],
        keys: Key[Array, " n"] | None = None,
    ) -> Float[Array, "n d"]:
        """Embeddings of texts; `keys` are those of dropout, None for none."""
        vectors = nn.Embed(self.vocab_size, self.width, name="token")(tokens)
        if keys is not None:
            kept = where & (randomness.uniform(keys, where.shape) >= self.dropout)
            where = jnp.where(jnp.any(kept, axis=1, keepdims=True), kept, where)
        return models.pool_mean(vectors, where)


def is_bag(section) -> bool:
    """Whether a section `model` is a bag of tokens: nothing from disk, of depth 0."""
    return not section.path and not section.depth


def make_model(section):
    """The module of a section `model`: a bag of tokens, or a transformer."""
    if is_bag(section):
        return Bag(section.vocab_size, section.width, section.dropout)
    return text_encoders.make_recipe(section).model


def vocab_size(section) -> int:
    """Number of tokens of a section `model`."""
    return make_model(section).vocab_size


def embed(section, params, tokens, where, keys=None):
    """Embeddings of texts [n, d]; `keys` are those of dropout, None for none."""
    if is_bag(section):
        variables = {"params": params["encoder"]}
        out: Any = make_model(section).apply(variables, tokens, where, keys)
        return out
    recipe = text_encoders.make_recipe(section)
    return encoders.embed(recipe, params, tokens, where, keys=keys)


def token_vectors(texts, vocab_size, width):
    """Vectors of tokens by what stands in one text with them, of mean square 1."""
    tokens, where = texts.tokens, texts.where
    window = tokens.shape[1]
    table = text_encoders.token_vectors(tokens, where, vocab_size, width, window=window)
    return table / np.sqrt(np.mean(table**2))


def averages(texts, table):
    """Mean of the vectors of the tokens of every text, less what all have in common."""
    total = np.einsum("nt,ntd->nd", texts.where.astype(np.float32), table[texts.tokens])
    means = total / texts.where.sum(axis=1, keepdims=True)
    return means - np.mean(means, axis=0)


def surfaces(texts, first, second, kind, chunk=64):
    """How alike texts look, special tokens left out.

    Args:
      texts: `data.Texts`.
      first: rows of texts, [n].
      second: rows of the texts that each is compared with, [n, c].
      kind: a key of SURFACES.
      chunk: how many texts at a time.

    Returns:
      [n, c], in [0, 1].
    """
    if kind not in SURFACES:
        raise ValueError(f"data.surface: expected one of {[*SURFACES]}, got {kind!r}")
    special = int(texts.classes is None)
    tokens = texts.tokens[:, special:]
    lengths = texts.where.sum(axis=1) - 2 * special

    @jax.jit
    def compare(a, b, m, n):
        a, m = jnp.broadcast_to(a[:, None, :], b.shape), jnp.broadcast_to(m, n.shape)
        return SURFACES[kind](a, b, m, n)

    out = np.empty(second.shape, np.float32)
    for i in range(0, len(out), chunk):
        at = np.minimum(np.arange(i, i + chunk), len(out) - 1)
        a, b = first[at], second[at]
        out[at] = compare(tokens[a], tokens[b], lengths[a][:, None], lengths[b])
    return out
