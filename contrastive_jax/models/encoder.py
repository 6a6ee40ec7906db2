"""Bidirectional text encoders: BERT, RoBERTa, MiniLM, and DeBERTa's attention.

    out = model.apply(variables, tokens, where=where)              # evaluation
    out = model.apply(variables, tokens, where=where, keys=keys)   # with dropout
    vectors = models.pool_mean(out.last, where)

`where` marks real tokens, which stand at the left; the others are not attended to, so
that the output at a real token depends on its row alone. Dropout is drawn with `keys`,
one per example (`parallel.example_keys`): two calls with other keys are two views of a
text, and an example has the same view however a batch is split over devices. Blocks are
post-norm: the sum of a branch and its input is normalized.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key

from contrastive_jax import numerics, randomness
from contrastive_jax.models.layers import ACTIVATIONS, Activation
from contrastive_jax.models.transformer import TransformerOutput


def drop(x: Array, keys: Key[Array, "*keys"] | None, rate: float, site: int) -> Array:
    """Dropout with one key per example: x / (1 - rate) where kept, else 0.

    Args:
      x: rows of a batch, [b, ...].
      keys: [b] keys, one key for all rows, or None for no dropout.
      rate: chance of 0, in [0, 1).
      site: number of this use of the keys.
    """
    if keys is None or rate == 0:
        return x
    kept = randomness.uniform(randomness.fold_keys(keys, site), x.shape) >= rate
    return jnp.where(kept, x / (1 - rate), 0)


def distance_buckets(length: int, span: int, buckets: int) -> np.ndarray:
    """Which relative position embedding a pair of positions has, in [0, 2 k).

        row(i, j) = clip(bucket(i - j) + k, 0, 2 k - 1)

    Without buckets, k = span and the bucket of a distance is itself. With buckets,
    k = buckets and distances beyond m = k / 2 share buckets of equal width in their
    logarithm: sign(d) (m + ceil((m - 1) log(|d| / m) / log((span - 1) / m))).

    Args:
      length: positions t.
      span: longest distance that is told apart.
      buckets: k, or 0 without.

    Returns:
      [t, t] int32.

    References:
      He et al. 2021, arXiv:2006.03654, eq. 3; He et al. 2021, arXiv:2111.09543 (log
      buckets, by its published code).

    Examples:
      >>> distance_buckets(3, 2, 0).tolist()
      [[2, 1, 0], [3, 2, 1], [3, 3, 2]]
    """
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    k = buckets or span
    if buckets:
        half = buckets // 2
        far = np.maximum(np.abs(distance), half)
        scale = np.log((span - 1) / half)
        steps = np.ceil(np.log(far / half) / scale * (half - 1)) + half
        near = np.abs(distance) <= half
        distance = np.where(near, distance, np.sign(distance) * steps)
    return np.clip(distance + k, 0, 2 * k - 1).astype(np.int32)


class SelfAttention(nn.Module):
    """Multi-head attention to all real tokens, of contents and, if asked, distances.

    With d coordinates per head, c_i the content and p_ij the distance of i and j,

        score(i, j) = (q(c_i).k(c_j) + q(c_i).k'(p_ij) + q'(p_ij).k(c_j)) / sqrt(d n)

    and n the number of terms: the first alone in BERT, all three in DeBERTa.

    Attributes:
      heads: number of heads; divides the width.
      content_to_position: whether the second term is there.
      position_to_content: whether the third term is there.
      shared: whether q' and k' are q and k.
      dropout: rate of dropout of attention weights.
      dtype: compute type.

    References:
      He et al. 2021, arXiv:2006.03654, eq. 4.
    """

    heads: int
    content_to_position: bool
    position_to_content: bool
    shared: bool
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t w"],
        mask: Bool[Array, "b 1 1 t"],
        distances: Float[Array, "r w"] | None,
        buckets: Int[Array, "t t"] | None,
        keys: Key[Array, "*keys"] | None,
    ) -> Float[Array, "b t w"]:
        width = x.shape[-1]
        size = width // self.heads

        def split(y):  # [..., n, 3 w] to parts [..., h, n, size]
            y = y.reshape(*y.shape[:-1], -1, size)
            return jnp.split(jnp.swapaxes(y, -2, -3), y.shape[-2] // self.heads, -3)

        def dense(width, name):
            return nn.Dense(width, dtype=self.dtype, name=name)

        qkv = dense(3 * width, "qkv")
        q, k, v = split(qkv(x))
        terms = 1 + self.content_to_position + self.position_to_content
        q, k = q * (size * terms) ** -0.25, k * (size * terms) ** -0.25
        scores = inner("bhtd,bhsd->bhts", q, k)
        if distances is not None and buckets is not None:

            def of_distances(name, part):
                if self.shared:
                    return split(qkv(distances))[part] * (size * terms) ** -0.25
                (y,) = split(dense(width, name)(distances))
                return y * (size * terms) ** -0.25

            if self.content_to_position:
                rows = inner("bhtd,hrd->bhtr", q, of_distances("position_key", 1))
                scores += jnp.take_along_axis(rows, buckets[None, None], axis=-1)
            if self.position_to_content:
                rows = inner("bhsd,hrd->bhsr", k, of_distances("position_query", 0))
                rows = jnp.take_along_axis(rows, buckets.T[None, None], axis=-1)
                scores += jnp.swapaxes(rows, -1, -2)
        shares = nn.softmax(jnp.where(mask, scores, numerics.MASKED), axis=-1)
        shares = drop(shares, keys, self.dropout, 0).astype(v.dtype)
        out = jnp.swapaxes(jnp.einsum("bhts,bhsd->bhtd", shares, v), 1, 2)
        return dense(width, "out")(out.reshape(x.shape))


def inner(formula: str, a: Array, b: Array) -> Array:
    """An einsum that accumulates in float32."""
    return jnp.einsum(formula, a, b, preferred_element_type=jnp.float32)


class EncoderBlock(nn.Module):
    """Post-norm block: attention and an MLP, each added to its input and normalized.

    Attributes:
      attention: settings of `SelfAttention`.
      mlp_width: width of the MLP's hidden layer.
      activation: of that layer.
      dropout: dropout rate of both branches.
      epsilon: added to the variance in normalizations.
      dtype: compute type.
    """

    attention: dict[str, Any]
    mlp_width: int
    activation: Activation
    dropout: float
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x, mask, distances, buckets, keys):
        def norm(y, name):
            layer = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name=name)
            return layer(y)

        attention = SelfAttention(**self.attention, dtype=self.dtype, name="attention")
        y = attention(x, mask, distances, buckets, keys)
        x = norm(x + drop(y, keys, self.dropout, 1), "norm_1")
        y = nn.Dense(self.mlp_width, dtype=self.dtype, name="up")(x)
        y = ACTIVATIONS[self.activation](y)
        y = nn.Dense(x.shape[-1], dtype=self.dtype, name="down")(y)
        return norm(x + drop(y, keys, self.dropout, 2), "norm_2")


class Encoder(nn.Module):
    """Tokens to contextual embeddings; no pooler and no head.

    BERT and MiniLM: the defaults. RoBERTa: first_position 2, num_types 1, epsilon 1e-5.
    DeBERTa: `content_to_position` and `position_to_content`, num_types 0; its third
    version also position_buckets 256, shared, distance_norm, positions False.

    Attributes:
      vocab_size: number of tokens.
      width: size of the embeddings.
      depth: number of blocks.
      heads: attention heads; divides the width.
      mlp_width: width of the MLPs' hidden layer.
      max_length: most tokens of a text.
      num_types: kinds of segments (the texts of a pair), 0 for no such embedding.
      positions: whether there is a table of absolute positions.
      first_position: row of that table that the first token has.
      content_to_position: scores of contents with distances (DeBERTa).
      position_to_content: scores of distances with contents (DeBERTa).
      span: longest distance told apart; `max_length` when 0.
      position_buckets: buckets of distances, see `distance_buckets`; 0 without.
      shared: whether distances use the matrices of contents.
      distance_norm: whether the table of distances is normalized.
      activation: of the MLPs: "gelu" (exact), "gelu_new" (its tanh form) or "relu".
      dropout: rate of dropout, in [0, 1), of embeddings and branches.
      attention_dropout: that of attention weights.
      epsilon: added to the variance in normalizations.
      dtype: compute type; parameters stay as they are, outputs are float32.

    References:
      Devlin et al. 2019, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692; Wang et
      al. 2020, arXiv:2002.10957; He et al. 2021, arXiv:2006.03654.

    Deviations:
      DeBERTa's training code also drops out its table of distances, with one mask for a
      whole batch; here every random number belongs to an example.
    """

    vocab_size: int
    width: int = 384
    depth: int = 6
    heads: int = 12
    mlp_width: int = 1536
    max_length: int = 512
    num_types: int = 2
    positions: bool = True
    first_position: int = 0
    content_to_position: bool = False
    position_to_content: bool = False
    span: int = 0
    position_buckets: int = 0
    shared: bool = False
    distance_norm: bool = False
    activation: Activation = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    epsilon: float = 1e-12
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.check_settings()
        init = nn.initializers.normal(0.02)

        def table(rows, name):
            return self.param(name, init, (rows, self.width))

        # Summed in float32: what is added up here is normalized next.
        self.token = nn.Embed(
            self.vocab_size, self.width, embedding_init=init, dtype=jnp.float32
        )
        if self.positions:
            rows = self.first_position + self.max_length
            self.position = table(rows, "position")
        if self.num_types:
            self.type = table(self.num_types, "type")
        if self.relative:
            span = self.position_buckets or self.span or self.max_length
            self.distance = table(2 * span, "distance")
            if self.distance_norm:
                self.norm_of_distance = self.norm("distance_norm")
        self.input_norm = self.norm("norm")
        attention = dict(
            heads=self.heads,
            content_to_position=self.content_to_position,
            position_to_content=self.position_to_content,
            shared=self.shared,
            dropout=self.attention_dropout,
        )
        self.blocks = [
            EncoderBlock(
                attention,
                self.mlp_width,
                self.activation,
                self.dropout,
                self.epsilon,
                self.dtype,
                name=f"block_{i}",
            )
            for i in range(self.depth)
        ]

    @property
    def relative(self) -> bool:
        """Whether scores depend on distances."""
        return self.content_to_position or self.position_to_content

    def norm(self, name: str) -> nn.LayerNorm:
        """A normalization of the width."""
        return nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name=name)

    def check_settings(self) -> None:
        """Raises ValueError, naming the setting that cannot be."""
        if self.width % self.heads:
            raise ValueError(
                f"heads: expected a divisor of width {self.width}, got {self.heads}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation: expected one of {', '.join(ACTIVATIONS)}, got "
                f"{self.activation!r}"
            )
        for name in ("dropout", "attention_dropout"):
            rate = getattr(self, name)
            if not 0 <= rate < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), got {rate}")

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        *,
        where: Bool[Array, "b t"] | None = None,
        types: Int[Array, "b t"] | None = None,
        keys: Key[Array, "*keys"] | None = None,
    ) -> TransformerOutput:
        """The last block's output and the hidden states of every layer.

        Args:
          tokens: token ids.
          where: real tokens; all when None.
          types: kind of segment of every token; 0 when None.
          keys: of dropout, one per example (or one for all); None for no dropout.

        Raises:
          ValueError: more than `max_length` tokens, a token or type out of range.
        """
        numerics.check_shapes(
            tokens=(tokens, "b t"), where=(where, "b t"), types=(types, "b t")
        )
        tokens = numerics.check_columns(tokens, self.vocab_size, "tokens")
        length = tokens.shape[1]
        if length > self.max_length:
            raise ValueError(
                f"tokens: expected at most max_length = {self.max_length} positions, "
                f"got shape {list(tokens.shape)}"
            )
        mask = numerics.mask_or_all(where, tokens.shape)[:, None, None, :]
        x = self.token(tokens)
        if self.positions:
            first = self.first_position
            x = x + self.position[None, first : first + length]
        if self.num_types:
            if types is None:
                x = x + self.type[None, :1]
            else:
                types = numerics.check_columns(types, self.num_types, "types")
                x = x + self.type[types]
        x = self.input_norm(x)
        x = drop(x, keys, self.dropout, 0)
        distances = buckets = None
        if self.relative:
            distances = self.distance.astype(self.dtype)
            if self.distance_norm:
                distances = self.norm_of_distance(distances)
            span = self.span or self.max_length
            buckets = jnp.asarray(distance_buckets(length, span, self.position_buckets))
        hidden = [x]
        for i, block in enumerate(self.blocks, start=1):
            own = None if keys is None else randomness.fold_keys(keys, i)
            hidden.append(block(hidden[-1], mask, distances, buckets, own))
        states = tuple(h.astype(jnp.float32) for h in hidden)
        return TransformerOutput(states[-1], states)


def token_logits(
    head: Any,
    table: Float[Array, "v w"],
    hidden: Float[Array, "*n w"],
    *,
    activation: Activation = "gelu",
    epsilon: float = 1e-12,
) -> Float[Array, "*n v"]:
    """Scores of the vocabulary at masked places: dense layer, norm, tied table.

    Args:
      head: {"dense": {"kernel", "bias"}, "norm": {"scale", "bias"}, "bias"}.
      table: embeddings of the tokens, `params["token"]["embedding"]`.
      hidden: last hidden states, [..., w].
      activation: of the dense layer.
      epsilon: added to the variance in the normalization.

    References:
      Devlin et al. 2019, arXiv:1810.04805, task 1 (masked language model).
    """
    x = hidden @ head["dense"]["kernel"] + spread(head["dense"]["bias"], hidden)
    x = nn.LayerNorm(epsilon=epsilon).apply(
        {"params": head["norm"]}, ACTIVATIONS[activation](x)
    )
    scores = jnp.einsum("...w,vw->...v", x, table, preferred_element_type=jnp.float32)
    return scores + spread(head["bias"], scores)


def token_head_init(rng: Key[Array, ""], vocab_size: int, width: int) -> Any:
    """Parameters of `token_logits` at the start of training."""
    kernel = nn.initializers.normal(0.02)(rng, (width, width))
    return {
        "dense": {"kernel": kernel, "bias": jnp.zeros(width)},
        "norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)},
        "bias": jnp.zeros(vocab_size),
    }


def spread(bias: Array, like: Array) -> Array:
    """A vector with as many axes as another array."""
    return bias.reshape((1,) * (like.ndim - 1) + bias.shape)
