"""A `Decoder` as the functions that the loops of `contrastive_jax.decoding` call.

reading = read_prompt(model, variables, prompt, slots)
step = make_step(model, variables)
found = decoding.generate(step, reading.cache, reading.out, prompt, choose=..., ...)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from contrastive_jax.decoding import Reader, Text
from contrastive_jax.models.decoder import Cache, Decoder, keep


class Said(NamedTuple):
    """What a model says of the next token.

    Attributes:
      logits: scores by the last layer.
      early: scores by lower layers, [j, n, v], or None.
    """

    logits: Float[Array, "n v"]
    early: Float[Array, "j n v"] | None


class Reading(NamedTuple):
    """A model that has read its prompts.

    Attributes:
      cache: what the loop goes on from.
      out: what it says of the next token.
      hidden: last hidden states of the prompts.
    """

    cache: Cache
    out: Said
    hidden: Float[Array, "n s d"]


def pad_left(rows: Sequence[Any], pad: int = 0) -> Text:
    """Prompts of different lengths as one batch.

    Args:
      rows: token ids of each prompt.
      pad: token in front of the shorter ones.

    Raises:
      ValueError: no prompt, or an empty one.

    Examples:
      >>> pad_left([[5], [6, 7]]).where
      Array([[False,  True],
             [ True,  True]], dtype=bool)
    """
    lengths = [len(row) for row in rows]
    if not lengths or min(lengths) == 0:
        raise ValueError(f"rows: expected prompts of a token or more, got {lengths}")
    longest = max(lengths)
    tokens = np.full((len(rows), longest), pad, np.int32)
    for i, row in enumerate(rows):
        tokens[i, longest - len(row) :] = row
    where = np.arange(longest)[None, :] >= longest - np.asarray(lengths)[:, None]
    return Text(jnp.asarray(tokens), jnp.asarray(where))


def apply(model: Decoder, variables: Any, method: str, *args: Any) -> Any:
    """A method of the module with its weights."""
    return model.apply(variables, *args, method=method)


def say(
    model: Decoder, variables: Any, last: Any, hidden: Any, layers: Sequence[int]
) -> Said:
    """Scores of the next token, by the last layer and by chosen lower ones."""
    logits = apply(model, variables, "logits", last)
    if not layers:
        return Said(logits, None)
    early = [apply(model, variables, "early_logits", hidden[layer]) for layer in layers]
    return Said(logits, jnp.stack(early))


def read_prompt(
    model: Decoder,
    variables: Any,
    prompt: Text,
    slots: int,
    *,
    layers: Sequence[int] = (),
) -> Reading:
    """Reads prompts into a cache.

    Args:
      model: the module.
      variables: its weights.
      prompt: the prompts.
      slots: size of the cache: prompt and new tokens together.
      layers: lower layers to read out early; 0 are the embeddings, the model's depth is
        the last block.
    """
    out, cache = apply(model, variables, "prefill", prompt.tokens, prompt.where, slots)
    hidden = [h[:, -1] for h in out.hidden]
    said = say(model, variables, out.last[:, -1], hidden, layers)
    return Reading(cache, said, out.last)


def make_step(
    model: Decoder, variables: Any, *, layers: Sequence[int] = ()
) -> Callable[..., Any]:
    """`step(cache, token) -> (cache, Said)`, for `decoding.generate`."""

    def step(cache, token):
        out, steps = apply(model, variables, "branch", token[:, None], cache)
        cache = keep(cache, steps, jnp.zeros_like(token))
        hidden = [h[:, 0] for h in out.hidden]
        return cache, say(model, variables, out.last[:, 0], hidden, layers)

    return step


def make_reader(model: Decoder, variables: Any) -> Reader:
    """The functions of `decoding.contrastive_search`."""

    def branch(cache, tokens):
        out, steps = apply(model, variables, "branch", tokens, cache)
        return out.last, steps

    def head(last):
        return apply(model, variables, "logits", last)

    return Reader(branch, keep, head)
