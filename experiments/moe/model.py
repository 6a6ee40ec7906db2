"""A text encoder whose MLPs are experts, and the pilot's encoder of lone tokens.

Their parameters are those of `models.Encoder` but for the experts' first axis and the
routers, so that `upcycle` begins with a trained encoder.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax import models, parallel, randomness
from contrastive_jax.models.encoder import SelfAttention, drop
from experiments.moe.data import CLS

INIT = nn.initializers.normal(0.02)


class Experts(nn.Module):
    """An MLP of BERT as a mixture of experts.

    Attributes:
      count: number of experts, of all devices.
      width: of the hidden layer.
      routing: "enforced", "sentence_switch", "sentence_top_k" or "token_top_k".
      top_k: experts that a learned router chooses, at most all.
      axis_name: device axis over which they are spread; None for one device.
      init: of the experts at random; all begin alike.
    """

    count: int
    width: int
    routing: str = "enforced"
    top_k: int = 2
    axis_name: str | None = None
    init: Any = INIT

    @nn.compact
    def __call__(self, x, where, assignment, capacity):
        """States after the experts, and a router's scores [rows, e] or None."""

        def alike(rng, shape):
            one = self.init(rng, shape[1:])
            return models.upcycle_experts(one, shape[0])

        size = x.shape[-1]
        own = self.count // parallel.axis_size(self.axis_name)
        shapes = {"up": (size, self.width), "down": (self.width, size)}
        params = {
            name: {
                "kernel": self.param(f"{name}_kernel", alike, (own, *shape)),
                "bias": self.param(
                    f"{name}_bias", nn.initializers.zeros, (own, shape[1])
                ),
            }
            for name, shape in shapes.items()
        }
        args: Any = (params, x)
        options: Any = dict(axis_name=self.axis_name)
        if self.routing == "enforced" or self.count == 1:
            y = models.moe_enforced(
                *args, assignment, models.gelu_expert, capacity=capacity, **options
            )
            return y, None
        args += self.param("router", INIT, (size, self.count)), models.gelu_expert
        top_k = min(self.top_k, self.count)
        if self.routing == "sentence_switch":
            return models.moe_sentence_switch(*args, where=where, **options)
        if self.routing == "sentence_top_k":
            return models.moe_sentence_top_k(*args, top_k=top_k, where=where, **options)
        return models.moe_token_top_k(*args, top_k=top_k, **options)


class Output(NamedTuple):
    """What an encoder returns.

    Attributes:
      last: states of the tokens, [n, t, d].
      scores: of each layer's router, [n, e] by text or [n t, e] by token; () without.
    """

    last: jax.Array
    scores: tuple[jax.Array, ...]


class Encoder(nn.Module):
    """`models.Encoder` as BERT has it, with experts in the place of MLPs.

    Attributes:
      experts: settings of `Experts`; those of layers not in `mixed` are one MLP.
      mixed: numbers of the layers that have several.
      vocab_size: number of tokens, those of the fields included.
    """

    experts: Mapping[str, Any]
    mixed: tuple[int, ...]
    vocab_size: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    max_length: int
    dropout: float

    @nn.compact
    def __call__(self, tokens, *, where, assignment, capacity=None, keys=None):
        def norm(x, name):
            return nn.LayerNorm(epsilon=1e-12, name=name)(x)

        x = nn.Embed(self.vocab_size, self.width, embedding_init=INIT, name="token")(
            tokens
        )
        places = self.param("position", INIT, (self.max_length, self.width))
        kinds = self.param("type", INIT, (2, self.width))
        x = x + places[None, : tokens.shape[1]] + kinds[None, :1]
        x = drop(norm(x, "norm"), keys, self.dropout, 0)
        scores = []
        for i in range(self.depth):
            own = None if keys is None else randomness.fold_keys(keys, i + 1)
            one = dict(self.experts) | dict(count=1, axis_name=None)
            block = Block(
                dict(self.experts) if i in self.mixed else one,
                self.heads,
                self.mlp_width,
                self.dropout,
                name=f"block_{i}",
            )
            x, routed = block(x, where, assignment, capacity, own)
            scores += [] if routed is None else [routed]
        return Output(x, tuple(scores))


class Block(nn.Module):
    """Post-norm block: attention, then experts; one expert has all texts."""

    experts: Mapping[str, Any]
    heads: int
    mlp_width: int
    dropout: float

    @nn.compact
    def __call__(self, x, where, assignment, capacity, keys):
        def norm(x, name):
            return nn.LayerNorm(epsilon=1e-12, name=name)(x)

        attention = SelfAttention(
            heads=self.heads,
            content_to_position=False,
            position_to_content=False,
            shared=False,
            dropout=self.dropout,
            dtype=jnp.float32,
            name="attention",
        )
        y = attention(x, where[:, None, None, :], None, None, keys)
        x = norm(x + drop(y, keys, self.dropout, 1), "norm_1")
        if self.experts["count"] == 1:
            assignment, capacity = 0 * assignment, None
        mixture = Experts(**self.experts, width=self.mlp_width, name="experts")
        y, scores = mixture(x, where, assignment, capacity)
        return norm(x + drop(y, keys, self.dropout, 2), "norm_2"), scores


class TokenEncoder(nn.Module):
    """The pilot's: the sum of a text's embeddings, and one residual mixture.

    Attributes:
      experts: settings of `Experts`.
      vocab_size: number of tokens, those of the fields included.
      width: of the embeddings.
      mlp_width: of the hidden layer.
    """

    experts: Mapping[str, Any]
    vocab_size: int
    width: int
    mlp_width: int

    @nn.compact
    def __call__(self, tokens, *, where, assignment, capacity=None, keys=None):
        table = self.param(
            "token", nn.initializers.normal(0.1), (self.vocab_size, self.width)
        )
        x = jnp.sum(jnp.where(where[..., None], table[tokens], 0), axis=1)[:, None]
        init = nn.initializers.lecun_normal()
        mixture = Experts(
            **self.experts, width=self.mlp_width, init=init, name="experts"
        )
        y, scores = mixture(x, where[:, :1], assignment, capacity)
        return Output(x + y, () if scores is None else (scores,))


def upcycle(dense: Any, rng: jax.Array, config: Any, counts: list[int]) -> Any:
    """Parameters of `Encoder` that begin as an encoder that has been trained.

    The tokens of the fields are copies of that of [CLS]; routers are random.

    Args:
      dense: parameters of a `models.Encoder`.
      rng: of the routers.
      config: all settings.
      counts: number of experts of each layer.
    """
    params, fields = dict(dense), len(config.data.fields)
    table = jnp.asarray(dense["token"]["embedding"])
    copies = jnp.repeat(table[CLS : CLS + 1], fields, axis=0)
    params["token"] = {"embedding": jnp.concatenate([table, copies])}
    for i, count in enumerate(counts):
        block = dict(dense[f"block_{i}"])
        mlp = {name: block.pop(name) for name in ("up", "down")}
        experts = {
            f"{name}_{part}": leaf
            for name, own in models.upcycle_experts(mlp, count).items()
            for part, leaf in own.items()
        }
        if config.experts.routing != "enforced" and count > 1:
            shape = (config.model.width, count)
            experts["router"] = INIT(jax.random.fold_in(rng, i), shape)
        params[f"block_{i}"] = block | {"experts": experts}
    return jax.tree.map(jnp.array, params)  # copies: a step consumes them


def dense(params: Any, config: Any) -> Any:
    """Parameters of a `models.Encoder` from those of an `Encoder` with one expert."""
    params = dict(params)
    table = params["token"]["embedding"][: config.model.vocab_size]
    params["token"] = {"embedding": table}
    for i in range(config.model.depth):
        block = dict(params[f"block_{i}"])
        own = block.pop("experts")
        mlp = {
            name: {part: own[f"{name}_{part}"][0] for part in ("kernel", "bias")}
            for name in ("up", "down")
        }
        params[f"block_{i}"] = block | mlp
    return params


def init_head(rng: jax.Array, width: int) -> Any:
    """Parameters of `moe.pooled_head` at the start."""
    init, keys = nn.initializers.lecun_normal(), jax.random.split(rng)
    down, up = (
        {"kernel": init(key, (width, width)), "bias": jnp.zeros(width)} for key in keys
    )
    norm = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
    return {"norm": norm, "down": down, "up": up}
