"""Contrastive search: likely tokens whose representations are not those of before.

    x_t = argmax over the k likeliest v:  (1 - alpha) p(v) - alpha max_j cos(h_v, h_j)

with h_v the last hidden state if v is read next, and j over all earlier tokens, the
prompt's included. The k candidates are read beside each other after one shared cache,
and the vocabulary is scored once per step, for the winner.

References:
  Su et al. 2022, arXiv:2202.06417, section 3; Su and Collier 2023, arXiv:2210.14140.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics, similarity
from contrastive_jax.decoding.generate import (
    Decoded,
    Text,
    check_prompt,
    ends,
    show,
    write,
)
from contrastive_jax.decoding.processors import check_k


class Reader(NamedTuple):
    """What contrastive search asks of a model.

    Attributes:
      branch: `branch(state, tokens [n, k]) -> (hidden [n, k, d], steps)`, k tokens read
        beside each other, each as the next one.
      keep: `keep(state, steps, choice [n]) -> state`, with one of them.
      head: `head(hidden [n, d]) -> logits [n, v]`.
    """

    branch: Callable[..., Any]
    keep: Callable[..., Any]
    head: Callable[..., Any]


def contrastive_scores(
    probs: Float[Array, "n k"],
    hidden: Float[Array, "n k d"],
    context: Float[Array, "n s d"],
    where: Bool[Array, "n s"],
    *,
    alpha: float | Float[Array, ""],
) -> Float[Array, "n k"]:
    """Scores of the candidates: (1 - alpha) p(v) - alpha max_j cos(h_v, h_j).

    Args:
      probs: probability of each candidate, of the whole vocabulary.
      hidden: its representation.
      context: representations of the earlier tokens.
      where: positions that hold one; without any the second term is 0.
      alpha: weight of the penalty, in [0, 1].

    References:
      Su et al. 2022, arXiv:2202.06417, eq. 5.

    Examples:
      >>> probs = jnp.array([[0.5, 0.4]])
      >>> hidden, context = jnp.eye(2)[None], jnp.array([[[1.0, 0.0]]])
      >>> where = jnp.array([[True]])
      >>> print(contrastive_scores(probs, hidden, context, where, alpha=0.5))
      [[-0.25  0.2 ]]
    """
    numerics.check_shapes(
        probs=(probs, "n k"),
        hidden=(hidden, "n k d"),
        context=(context, "n s d"),
        where=(where, "n s"),
    )
    numerics.check_fraction(alpha=alpha)
    probs = numerics.at_least_f32(probs, "probs")
    cosines = jax.vmap(similarity.cosine)(hidden, context)
    there = jnp.any(where, axis=1)[:, None]
    penalty = jnp.max(cosines, axis=-1, where=where[:, None, :], initial=-jnp.inf)
    return (1 - alpha) * probs - alpha * jnp.where(there, penalty, 0)


def contrastive_search(
    reader: Reader,
    state: Any,
    hidden: Float[Array, "n s d"],
    prompt: Text,
    *,
    k: int,
    alpha: float | Float[Array, ""],
    max_new: int,
    stop: tuple[int, ...] = (),
    pad: int = 0,
    watch: Callable[[Any], None] | None = None,
) -> Decoded:
    """Decodes by contrastive search until every text has ended.

    To be called inside of `jit`. Among equal scores the likelier token is taken;
    alpha = 0 or k = 1 is greedy search.

    Args:
      reader: the model.
      state: after the prompts.
      hidden: last hidden states of the prompts (after the last normalization).
      prompt: the prompts, padded on the left.
      k: candidates, 1 to the size of the vocabulary.
      alpha: weight of the penalty, in [0, 1].
      max_new: most tokens to decode, at least 1.
      stop: tokens that end a text.
      pad: token that fills a text after its end.
      watch: called on the host with every step's tokens, [n], in their order.

    Raises:
      ValueError: k, alpha or `max_new` out of range, shapes that do not fit.

    References:
      Su et al. 2022, arXiv:2202.06417, eq. 5.
    """
    check_prompt(prompt, max_new)
    numerics.check_fraction(alpha=alpha)
    n, start = prompt.tokens.shape
    numerics.check_shapes(tokens=(prompt.tokens, "n s"), hidden=(hidden, "n s d"))
    logits = reader.head(hidden[:, -1])
    check_k(k, logits.shape[-1])
    # Directions, so that one product gives the cosines; padding stays at 0.
    seen = similarity.l2_normalize(hidden)
    seen = jnp.pad(seen, [(0, 0), (0, max_new), (0, 0)])
    where = jnp.pad(prompt.where, [(0, 0), (0, max_new)])
    tokens = jnp.full((n, max_new), pad, prompt.tokens.dtype)

    def more(carry):
        t, done = carry[0], carry[-1]
        return (t < max_new) & ~jnp.all(done)

    def body(carry):
        t, state, logits, seen, where, tokens, lengths, done = carry
        probs, candidates = jax.lax.top_k(jax.nn.softmax(logits, axis=-1), k)
        candidates = candidates.astype(tokens.dtype)
        found, steps = reader.branch(state, candidates)
        scores = contrastive_scores(probs, found, seen, where, alpha=alpha)
        choice = jnp.argmax(scores, axis=1)
        token = numerics.at_columns(candidates, choice)
        token = jnp.where(done, pad, token)
        show(watch, token)
        kept = jnp.take_along_axis(found, choice[:, None, None], axis=1)
        at, real = start + t, ~done
        seen = write(seen, similarity.l2_normalize(kept), at)
        where = write(where, real[:, None], at)
        tokens = write(tokens, token[:, None], t)
        state = reader.keep(state, steps, choice)
        logits = reader.head(kept[:, 0])
        done = done | ends(token, stop)
        return t + 1, state, logits, seen, where, tokens, lengths + real, done

    zeros = jnp.zeros(n, jnp.int32)
    carry = (jnp.asarray(0, jnp.int32), state, logits, seen, where, tokens, zeros)
    carry = (*carry, jnp.zeros(n, bool))
    t, _, _, _, _, tokens, lengths, _ = jax.lax.while_loop(more, body, carry)
    return Decoded(tokens, lengths, t)
