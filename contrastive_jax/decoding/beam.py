"""Beam search: the most likely texts that a search of fixed width finds.

    score(text) = sum_t log p(x_t) / length ** length_penalty,  the stop token included

Every text keeps `width` unfinished continuations (beams), whose caches are reordered as
beams branch, and the `width` best finished ones. As wide as the tree of all
continuations it is exact; of width 1 it is greedy, but for texts that a stop token ends
early with a score that longer ones beat.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive_jax import numerics
from contrastive_jax.decoding.generate import Step, Text, check_prompt, ends, write


class Beams(NamedTuple):
    """The best continuations of each text, the best one first.

    Attributes:
      tokens: the new tokens; `pad` after the end.
      lengths: how many of them belong to it, the stop token included; 0 where fewer
        than `width` continuations are possible.
      scores: log-probability over length ** length_penalty (nats); -inf for none.
      steps: steps the loop took.
    """

    tokens: Int[Array, "n w t"]
    lengths: Int[Array, "n w"]
    scores: Float[Array, "n w"]
    steps: Int[Array, ""]


class Hypotheses(NamedTuple):
    """Continuations of each text, best first; those of score -inf are none."""

    tokens: Int[Array, "n w t"]
    lengths: Int[Array, "n w"]
    scores: Float[Array, "n w"]


def best(hypotheses: Hypotheses, width: int) -> Hypotheses:
    """The best of them, of equal ones the first."""
    return pick(hypotheses, jax.lax.top_k(hypotheses.scores, width)[1])


def pick(tree: Any, columns: Int[Array, "n w"]) -> Any:
    """Those continuations of each text."""
    return jax.tree.map(lambda x: jax.vmap(lambda row, i: row[i])(x, columns), tree)


def beam_search(
    step: Step,
    state: Any,
    out: Any,
    prompt: Text,
    *,
    choose: Callable[[Any, Text], Float[Array, "n v"]],
    width: int,
    max_new: int,
    stop: tuple[int, ...] = (),
    pad: int = 0,
    length_penalty: numerics.Number = 1.0,
) -> Beams:
    """Decodes until no beam can become one of the best, or `max_new` tokens.

    To be called inside of `jit`. `step` reads [n * width] tokens, the beams of a text
    beside each other; each row is decoded as if it were alone.

    Args:
      step: reads one more token of each beam.
      state: after the prompts: arrays with a row per prompt, and numbers.
      out: what the model says after the prompts, as `step` returns it.
      prompt: the prompts.
      choose: scores of the next token, of which a softmax gives the probabilities.
      width: beams per text, at least 1; so many continuations are returned.
      max_new: most tokens to decode, at least 1.
      stop: tokens that end a text.
      pad: token that fills a text after its end.
      length_penalty: power of the length; 0 compares log-probabilities, and the greater
        it is, the longer the texts.

    Raises:
      ValueError: `max_new` or `width` below 1, a penalty that is not finite, prompts
        without a token.

    References:
      Graves 2012, arXiv:1211.3711, section 2.5; Wu et al. 2016, arXiv:1609.08144,
      section 7 (length normalization).
    """
    check_prompt(prompt, max_new)
    numerics.check_finite(length_penalty=length_penalty)
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}")
    n, w = len(prompt.tokens), width

    def rated(sums, lengths):
        return sums / jnp.asarray(lengths, sums.dtype) ** length_penalty

    def text_of(live, t):
        """The prompts and what their beams have added, [n * w, s]."""
        old = [jnp.repeat(x, w, axis=0) for x in prompt]
        new = live.tokens.reshape(n * w, max_new)
        where = jnp.broadcast_to(jnp.arange(max_new)[None, :] < t, new.shape)
        both = zip(old, (new, where), strict=True)
        return Text(*(jnp.concatenate(x, axis=1) for x in both))

    def take(t, scores, live, ended, done):
        """One more token of each beam; continuations that a stop token ends.

        Beams that are none have score -inf, and so have their candidates.
        """
        log_probs = jax.nn.log_softmax(scores, axis=-1)
        v = log_probs.shape[-1]
        sums = (live.scores[..., None] + log_probs.reshape(n, w, v)).reshape(n, -1)
        count = min(max(2, 1 + len(stop)) * w, w * v)
        sums, at = jax.lax.top_k(sums, count)
        beams, token = at // v, (at % v).astype(live.tokens.dtype)
        tokens = pick(live.tokens, beams)
        tokens = write(tokens, token[..., None], t, axis=2)
        over = ends(token.reshape(-1), stop).reshape(token.shape)
        lengths = jnp.full_like(at, t + 1, dtype=jnp.int32)
        # A stop token counts among the best only, so that the search is a beam's.
        last = over & (jnp.arange(count) < w)[None, :] & ~done[:, None]
        closed = Hypotheses(
            tokens, lengths, jnp.where(last, rated(sums, lengths), -jnp.inf)
        )
        ended = best(join(ended, closed), w)
        order = jax.lax.top_k(jnp.where(over, -jnp.inf, sums), w)[1]
        live = pick(Hypotheses(tokens, lengths, jnp.where(over, -jnp.inf, sums)), order)
        # What the best beam may still reach: log-probabilities only fall.
        most = jnp.where(length_penalty > 0, max_new, t + 1)
        hope = rated(live.scores[:, 0], most)
        done = done | (ended.scores[:, -1] >= hope)
        return live, ended, done, pick(beams, order)

    def body(carry):
        t, state, live, ended, done, parents = carry
        rows = (jnp.arange(n)[:, None] * w + parents).reshape(-1)
        state = jax.tree.map(lambda x: x[rows] if jnp.ndim(x) else x, state)
        token = live.tokens[:, :, t - 1].reshape(-1)
        state, out = step(state, token)
        scores = choose(out, text_of(live, t))
        return t + 1, state, *take(t, scores, live, ended, done)

    def more(carry):
        t, done = carry[0], carry[-2]
        return (t < max_new) & ~jnp.all(done)

    scores = choose(out, prompt)
    live = Hypotheses(
        jnp.full((n, w, max_new), pad, prompt.tokens.dtype),
        jnp.zeros((n, w), jnp.int32),
        jnp.zeros((n, w), scores.dtype).at[:, 1:].set(-jnp.inf),
    )
    ended = live._replace(scores=jnp.full_like(live.scores, -jnp.inf))
    scores = jnp.repeat(scores, w, axis=0)
    state = jax.tree.map(
        lambda x: jnp.repeat(x, w, axis=0) if jnp.ndim(x) else x, state
    )
    done = jnp.zeros(n, bool)
    first = take(0, scores, live, ended, done)
    carry = (jnp.asarray(1, jnp.int32), state, *first)
    t, _, live, ended, done, _ = jax.lax.while_loop(more, body, carry)
    # Beams that were cut off count like ended ones.
    scores = jnp.where(done[:, None], -jnp.inf, rated(live.scores, live.lengths))
    winners = best(join(ended, live._replace(scores=scores)), w)
    none = jnp.isneginf(winners.scores)
    tokens = jnp.where(none[..., None], pad, winners.tokens)
    return Beams(tokens, jnp.where(none, 0, winners.lengths), winners.scores, t)


def join(a: Hypotheses, b: Hypotheses) -> Hypotheses:
    """The continuations of both, those of the first before."""
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), a, b)
