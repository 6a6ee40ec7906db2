"""Causal language models of the Llama and GPT-2 types, with a cache for decoding.

    out = model.apply(variables, tokens, where=where)          # all positions at once
    logits = model.apply(variables, out.last, method="logits")

To decode, the keys and values of what was read stay in a `Cache` of fixed size:

    out, cache = model.apply(variables, prompt, where, slots, method="prefill")
    out, steps = model.apply(variables, tokens, cache, method="branch")  # [b, k] tokens
    cache = keep(cache, steps, choice)                                   # [b] of the k

`branch` reads k tokens beside each other, each as the next one after the same text, so
that the text is held once, not k times; with k = 1 it is the usual step. `where` marks
real tokens: prompts of different lengths are padded on the left. Positions count real
tokens only, so a padded row equals the row alone.
"""

import functools
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics
from contrastive_jax.models.transformer import TransformerOutput

Norm = Literal["rms", "layer"]
Positions = Literal["rotary", "learned"]


class Cache(NamedTuple):
    """What a model has read, in a fixed number of slots.

    Attributes:
      keys: of each block, [b, kv, s, d]: heads, slots, width of a head.
      values: of each block, likewise.
      where: slots that hold a real token, [b, s].
      length: slots filled so far, the same in every row.
    """

    keys: tuple[Float[Array, "b kv s d"], ...]
    values: tuple[Float[Array, "b kv s d"], ...]
    where: Bool[Array, "b s"]
    length: Int[Array, ""]


class Steps(NamedTuple):
    """Keys and values of k tokens that were read beside each other.

    Attributes:
      keys: of each block, [b, kv, k, d].
      values: of each block, likewise.
    """

    keys: tuple[Float[Array, "b kv k d"], ...]
    values: tuple[Float[Array, "b kv k d"], ...]


def keep(cache: Cache, steps: Steps, choice: Int[Array, " b"]) -> Cache:
    """The cache with one of the k tokens of `Decoder.branch` of every row.

    Args:
      cache: the one that `branch` read.
      steps: what it returned.
      choice: which of the k, in [0, k).
    """
    choice = numerics.check_columns(choice, steps.keys[0].shape[2], "choice")

    def write(old, new):
        one = jnp.take_along_axis(new, choice[:, None, None, None], axis=2)
        return jax.lax.dynamic_update_slice_in_dim(old, one, cache.length, axis=2)

    keys = tuple(map(write, cache.keys, steps.keys))
    values = tuple(map(write, cache.values, steps.values))
    real = jnp.ones((len(cache.where), 1), bool)
    where = jax.lax.dynamic_update_slice_in_dim(cache.where, real, cache.length, axis=1)
    return Cache(keys, values, where, cache.length + 1)


def turn(
    x: Float[Array, "b t h d"], positions: Int[Array, "b t"], base: float
) -> Float[Array, "b t h d"]:
    """Rotary embedding of given positions, with halves as pairs (`models.rotate`)."""
    half = x.shape[-1] // 2
    speeds = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    speeds = speeds[None, None, None, :]
    angles = positions[..., None, None].astype(jnp.float32) * speeds
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return turned.astype(x.dtype)


class CachedAttention(nn.Module):
    """Grouped-query attention to given keys (a cache) and to those of its own tokens.

    Attributes:
      heads: query heads.
      kv_heads: heads of keys and values; divides `heads`.
      rotary_base: base of rotary positions, or None without.
      use_bias: whether both matrices have a bias.
      dtype: compute type.

    References:
      Ainslie et al. 2023, arXiv:2305.13245 (grouped queries).
    """

    heads: int
    kv_heads: int
    rotary_base: float | None
    use_bias: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t w"],
        positions: Int[Array, "b t"],
        masks: list[Any],
        past: tuple[Any, Any] | None,
    ) -> tuple[Float[Array, "b t w"], Any, Any]:
        """Output, and the keys and values of x, [b, kv, t, d].

        `masks` are broadcast against [b, kv, g, t, s] scores: those of the past, if
        any, then those of x itself.
        """
        (b, t, width), kv = x.shape, self.kv_heads
        size = width // self.heads
        dense: dict[str, Any] = dict(use_bias=self.use_bias, dtype=self.dtype)
        qkv = nn.Dense((self.heads + 2 * kv) * size, name="qkv", **dense)(x)
        qkv = qkv.reshape(b, t, -1, size)
        q, k, v = jnp.split(qkv, [self.heads, self.heads + kv], axis=2)
        if self.rotary_base is not None:
            q, k = (turn(y, positions, self.rotary_base) for y in (q, k))
        k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
        q = q.reshape(b, t, kv, self.heads // kv, size) * size**-0.5
        sides = [(k, v)] if past is None else [past, (k, v)]
        scores = [
            jnp.einsum("btkgd,bksd->bkgts", q, keys, preferred_element_type=jnp.float32)
            for keys, _ in sides
        ]
        scores = [
            jnp.where(mask, s, numerics.MASKED)
            for mask, s in zip(masks, scores, strict=True)
        ]
        shares = nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(v.dtype)
        cuts = [scores[0].shape[-1]] if len(sides) == 2 else []
        parts = [
            jnp.einsum("bkgts,bksd->btkgd", p, values)
            for p, (_, values) in zip(jnp.split(shares, cuts, -1), sides, strict=True)
        ]
        out = functools.reduce(jnp.add, parts)
        return nn.Dense(width, name="out", **dense)(out.reshape(b, t, width)), k, v


class DecoderBlock(nn.Module):
    """Pre-norm block: grouped-query attention and an MLP, each with a residual.

    Attributes:
      heads: query heads.
      kv_heads: heads of keys and values.
      mlp_width: width of the MLP's hidden layer.
      norm: "rms" or "layer".
      gated: silu(gate) * up in the MLP (Llama), instead of a GELU (GPT-2).
      rotary_base: base of rotary positions, or None without.
      use_bias: whether matrices have a bias.
      epsilon: added to the variance in normalizations.
      dtype: compute type.
    """

    heads: int
    kv_heads: int
    mlp_width: int
    norm: Norm
    gated: bool
    rotary_base: float | None
    use_bias: bool
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x, positions, masks, past):
        dense: dict[str, Any] = dict(use_bias=self.use_bias, dtype=self.dtype)
        attention = CachedAttention(
            self.heads,
            self.kv_heads,
            self.rotary_base,
            self.use_bias,
            self.dtype,
            name="attention",
        )
        y = make_norm(self.norm, self.epsilon, self.dtype, "norm_1")(x)
        y, k, v = attention(y, positions, masks, past)
        x = x + y
        y = make_norm(self.norm, self.epsilon, self.dtype, "norm_2")(x)
        if self.gated:
            both = nn.Dense(2 * self.mlp_width, name="gate_up", **dense)(y)
            gate, up = jnp.split(both, 2, axis=-1)
            y = nn.silu(gate) * up
        else:
            y = nn.gelu(nn.Dense(self.mlp_width, name="up", **dense)(y))
        return x + nn.Dense(x.shape[-1], name="down", **dense)(y), k, v


def make_norm(kind: Norm, epsilon: float, dtype: DTypeLike, name: str) -> nn.Module:
    """A normalization of the width, computed in float32."""
    if kind not in ("rms", "layer"):
        raise ValueError(f'norm: expected "rms" or "layer", got {kind!r}')
    layer = nn.RMSNorm if kind == "rms" else nn.LayerNorm
    return layer(epsilon=epsilon, dtype=dtype, name=name)


class Decoder(nn.Module):
    """Causal transformer over tokens, with a head over the vocabulary.

    Llama: the defaults. GPT-2: norm "layer", positions "learned", not gated, biases.

    Attributes:
      vocab_size: number of tokens.
      width: size of the embeddings.
      depth: number of blocks.
      heads: query heads; divides the width.
      kv_heads: heads of keys and values, a divisor of `heads`; all when None.
      mlp_width: width of the MLPs' hidden layer.
      max_length: longest text.
      norm: "rms" or "layer".
      positions: "rotary", or "learned" for a table.
      rotary_base: base of the rotary frequencies.
      gated: silu(gate) * up in the MLPs, instead of a GELU.
      use_bias: whether matrices have a bias.
      tied: whether the head is the table of embeddings. A head of its own, even with
        the same numbers, is faster on a CPU, which multiplies by columns.
      epsilon: added to the variance in normalizations.
      dtype: compute type; parameters are kept as they are, logits are float32.

    References:
      Touvron et al. 2023, arXiv:2302.13971; Radford et al. 2019 (GPT-2).
    """

    vocab_size: int
    width: int = 576
    depth: int = 30
    heads: int = 9
    kv_heads: int | None = None
    mlp_width: int = 1536
    max_length: int = 8192
    norm: Norm = "rms"
    positions: Positions = "rotary"
    rotary_base: float = 10_000.0
    gated: bool = True
    use_bias: bool = False
    tied: bool = True
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    def setup(self):
        kv_heads = self.kv_heads or self.heads
        if self.width % self.heads or self.heads % kv_heads:
            raise ValueError(
                f"heads: expected a divisor of width {self.width} and a multiple of "
                f"kv_heads {kv_heads}, got {self.heads}"
            )
        if self.positions not in ("rotary", "learned"):
            raise ValueError(
                f'positions: expected "rotary" or "learned", got {self.positions!r}'
            )
        init = nn.initializers.normal(0.02)
        self.embed = nn.Embed(self.vocab_size, self.width, embedding_init=init)
        rotary = self.positions == "rotary"
        if not rotary:
            self.position = self.param("position", init, (self.max_length, self.width))
        self.blocks = [
            DecoderBlock(
                self.heads,
                kv_heads,
                self.mlp_width,
                self.norm,
                self.gated,
                self.rotary_base if rotary else None,
                self.use_bias,
                self.epsilon,
                self.dtype,
                name=f"block_{i}",
            )
            for i in range(self.depth)
        ]
        self.last_norm = make_norm(self.norm, self.epsilon, self.dtype, "norm")
        if not self.tied:
            self.head = nn.Dense(
                self.vocab_size, use_bias=False, kernel_init=init, dtype=self.dtype
            )

    def __call__(
        self, tokens: Int[Array, "b t"], *, where: Bool[Array, "b t"] | None = None
    ) -> TransformerOutput:
        """Tokens after the last normalization, and the hidden states of every layer."""
        where = self.check(tokens, where)
        out, _ = self.read(tokens, places(where), [causal(where)], None)
        return out

    def logits(self, last: Float[Array, "*n w"]) -> Float[Array, "*n v"]:
        """Scores of the next token."""
        x = last.astype(self.dtype)
        return (self.embed.attend(x) if self.tied else self.head(x)).astype(jnp.float32)

    def early_logits(
        self, hidden: Float[Array, "*n w"], *, normalize: bool = True
    ) -> Float[Array, "*n v"]:
        """Scores of the next token from the output of a lower block (early exit)."""
        return self.logits(self.last_norm(hidden) if normalize else hidden)

    def prefill(
        self, tokens: Int[Array, "b t"], where: Bool[Array, "b t"] | None, slots: int
    ) -> tuple[TransformerOutput, Cache]:
        """Reads prompts, padded on the left, into a cache of so many slots.

        Raises:
          ValueError: fewer slots than tokens, or more than `max_length`.
        """
        where = self.check(tokens, where)
        length = tokens.shape[1]
        if not length <= slots <= self.max_length:
            raise ValueError(
                f"slots: expected {length} (the prompt) to {self.max_length} "
                f"(max_length), got {slots}"
            )
        out, steps = self.read(tokens, places(where), [causal(where)], None)
        empty = [(0, 0), (0, 0), (0, slots - length), (0, 0)]
        keys, values = (tuple(jnp.pad(x, empty) for x in xs) for xs in steps)
        filled = jnp.pad(where, [(0, 0), (0, slots - length)])
        return out, Cache(keys, values, filled, jnp.asarray(length, jnp.int32))

    def branch(
        self, tokens: Int[Array, "b k"], cache: Cache
    ) -> tuple[TransformerOutput, Steps]:
        """Reads k tokens beside each other, each as the next one after the cache."""
        numerics.check_shapes(tokens=(tokens, "b k"), where=(cache.where, "b s"))
        count = jnp.sum(cache.where, axis=1)
        positions = jnp.broadcast_to(count[:, None], tokens.shape)
        itself = jnp.eye(tokens.shape[1], dtype=bool)[None, None, None]
        masks = [cache.where[:, None, None, None, :], itself]
        return self.read(tokens, positions, masks, cache)

    def read(self, tokens, positions, masks, cache):
        """Output at the tokens, and their keys and values in every block."""
        x = self.embed(tokens)
        if self.positions == "learned":
            x = x + self.position[positions]
        x = x.astype(self.dtype)
        hidden, keys, values = [x], [], []
        for i, block in enumerate(self.blocks):
            past = None if cache is None else (cache.keys[i], cache.values[i])
            x, k, v = block(x, positions, masks, past)
            hidden, keys, values = [*hidden, x], [*keys, k], [*values, v]
        out = TransformerOutput(
            self.last_norm(x).astype(jnp.float32),
            tuple(h.astype(jnp.float32) for h in hidden),
        )
        return out, Steps(tuple(keys), tuple(values))

    def check(self, tokens: Array, where: Array | None) -> Bool[Array, "b t"]:
        """The mask of real tokens, after a look at what came."""
        numerics.check_shapes(tokens=(tokens, "b t"), where=(where, "b t"))
        numerics.check_columns(tokens, self.vocab_size, "tokens")
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"tokens: expected at most max_length = {self.max_length} positions, "
                f"got shape {list(tokens.shape)}"
            )
        return numerics.mask_or_all(where, tokens.shape)


def places(where: Bool[Array, "b t"]) -> Int[Array, "b t"]:
    """Position of every token among the real ones of its row; 0 before the first."""
    return jnp.maximum(jnp.cumsum(where, axis=1) - 1, 0)


def causal(where: Bool[Array, "b t"]) -> Bool[Array, "b 1 1 t t"]:
    """What each token attends to: real ones up to itself, and always itself."""
    t = where.shape[1]
    earlier, itself = jnp.tril(jnp.ones((1, t, t), bool)), jnp.eye(t, dtype=bool)[None]
    return ((where[:, None, :] & earlier) | itself)[:, None, None]
