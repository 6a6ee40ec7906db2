"""One compiled loop for every decoding rule: a step of the model, a choice, again.

    step(state, token) -> (state, out)    the model: token [n], out any tree of [n, ...]
    choose(out, text) -> scores [n, v]    the rule, made of `processors`

`generate` knows nothing else: what a state is (a cache, two caches) is the model's
affair, what is in `out` (logits, those of two prompts, of lower layers) that of the
rule. Every row is decoded as if it were alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from contrastive_jax import numerics

Step = Callable[[Any, Any], tuple[Any, Any]]


class Text(NamedTuple):
    """A batch of texts in a buffer of fixed size.

    Attributes:
      tokens: prompts, padded on the left, and what was decoded so far.
      where: positions that hold a token of the text.
    """

    tokens: Int[Array, "n s"]
    where: Bool[Array, "n s"]


class Decoded(NamedTuple):
    """What was decoded.

    Attributes:
      tokens: the new tokens; `pad` after the end of a text.
      lengths: how many of them belong to each text, the stop token included.
      steps: steps the loop took.
    """

    tokens: Int[Array, "n t"]
    lengths: Int[Array, " n"]
    steps: Int[Array, ""]


def generate(
    step: Step,
    state: Any,
    out: Any,
    prompt: Text,
    *,
    choose: Callable[[Any, Text], Float[Array, "n v"]],
    max_new: int,
    keys: Key[Array, " n"] | None = None,
    stop: tuple[int, ...] = (),
    pad: int = 0,
    watch: Callable[[Any], None] | None = None,
) -> Decoded:
    """Decodes until every text has ended, or `max_new` tokens.

    To be called inside of `jit`. The loop holds the state, the text and one `out`.

    Args:
      step: reads one more token of each text.
      state: after the prompts.
      out: what the model says after the prompts, as `step` returns it.
      prompt: the prompts.
      choose: scores of the next token, of which the highest is taken, or one is drawn
        by its softmax.
      max_new: most tokens to decode, at least 1.
      keys: one random key per text, to draw; None takes the highest score. The same key
        gives the same text in any batch.
      stop: tokens that end a text.
      pad: token that fills a text after its end.
      watch: called on the host with every step's tokens, [n], in their order.

    Raises:
      ValueError: `max_new` below 1, prompts without a token, keys that do not fit.
    """
    check_prompt(prompt, max_new, keys)
    n, start = prompt.tokens.shape
    text = Text(
        jnp.pad(prompt.tokens, [(0, 0), (0, max_new)], constant_values=pad),
        jnp.pad(prompt.where, [(0, 0), (0, max_new)]),
    )

    def take(t, out, text, done):
        """The next token of each text, written down."""
        scores = choose(out, text)
        if keys is None:
            token = jnp.argmax(scores, axis=-1)
        else:
            now = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
            token = jax.vmap(draw)(now, scores)
        token = jnp.where(done, pad, token).astype(text.tokens.dtype)
        show(watch, token)
        at = start + t
        text = Text(
            write(text.tokens, token[:, None], at),
            write(text.where, ~done[:, None], at),
        )
        return token, text, done | ends(token, stop)

    def more(carry):
        t, _, _, _, done = carry
        return (t < max_new) & ~jnp.all(done)

    def body(carry):
        t, state, token, text, done = carry
        state, out = step(state, token)
        token, text, done = take(t, out, text, done)
        return t + 1, state, token, text, done

    token, text, done = take(0, out, text, jnp.zeros(n, bool))
    carry = (jnp.asarray(1, jnp.int32), state, token, text, done)
    t, _, _, text, _ = jax.lax.while_loop(more, body, carry)
    new = Text(text.tokens[:, start:], text.where[:, start:])
    return Decoded(new.tokens, jnp.sum(new.where, axis=1), t)


def draw(key: Key[Array, ""], scores: Float[Array, " v"]) -> Int[Array, ""]:
    """A token by the softmax of its score; rare tokens have their share too."""
    return jax.random.categorical(key, scores, mode="high")


def write(x: Array, new: Array, at: Any, axis: int = 1) -> Array:
    """The array with new entries from place `at` of an axis on."""
    return jax.lax.dynamic_update_slice_in_dim(x, new, at, axis)


def show(watch: Callable[[Any], None] | None, token: Int[Array, " n"]) -> None:
    """Hands the tokens of a step to the host, if somebody watches."""
    if watch is not None:
        jax.debug.callback(watch, token, ordered=True)


def ends(token: Int[Array, " n"], stop: tuple[int, ...]) -> Bool[Array, " n"]:
    """Whether a token ends its text."""
    if not stop:
        return jnp.zeros(token.shape, bool)
    return jnp.any(token[:, None] == jnp.asarray(stop, token.dtype)[None, :], axis=1)


def check_prompt(prompt: Text, max_new: int, keys: Any = None) -> None:
    """Checks what a loop begins with.

    Raises:
      ValueError: naming the argument.
    """
    numerics.check_shapes(
        tokens=(prompt.tokens, "n s"), where=(prompt.where, "n s"), keys=(keys, "n")
    )
    numerics.check_integer(prompt.tokens, "tokens")
    if max_new < 1:
        raise ValueError(f"max_new: expected at least 1, got {max_new}")
    if not isinstance(prompt.where, jax.core.Tracer):
        # In numpy: inside of jit, operations on constants are traced.
        where = np.asarray(prompt.where)
        if not where.any(axis=1).all():
            raise ValueError("prompt: expected a token in every row, got an empty one")
        if not where[:, -1].all():
            raise ValueError(
                "prompt: expected padding on the left, got it on the right"
            )


def two_streams(first: Step, second: Step) -> Step:
    """A step that reads each token in two streams; its states and outs are pairs.

    For rules that compare two models, or one model with and without a context.
    """

    def step(state, token):
        a, out_a = first(state[0], token)
        b, out_b = second(state[1], token)
        return (a, b), (out_a, out_b)

    return step
