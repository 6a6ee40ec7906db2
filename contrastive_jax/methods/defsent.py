"""DefSent+ (Liu 2024): definitions predict entries whose vectors were made of them.

An entry is a word or several; its vector is the mean of its definitions' vectors by the
encoder of the stage before. `models.pooling` has the poolers of DefSent (Tsukagoshi et
al. 2021), `evaluation.average_cosine` and `evaluation.isotropy` measure the matrix.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key

from contrastive_jax import losses, numerics, similarity, transforms

__all__ = [
    "definition_loss",
    "definition_vectors",
    "entry_embeddings",
    "isotropic_entries",
    "warmup_constant",
]


def entry_embeddings(
    vectors: Float[Array | np.ndarray, "m d"],
    entry_ids: Integer[Array | np.ndarray, " m"],
    *,
    num_entries: int,
    where: Bool[Array | np.ndarray, " m"] | None = None,
) -> Float[Array, "e d"]:
    """The matrix of entries: each row the mean vector of an entry's definitions.

        E_e = mean over the definitions j of entry e of v_j

    With v_j the state of the first token (`models.pool_cls`) this is the paper's AC,
    with the mean of the tokens (`models.pool_mean`) its AMP.

    Args:
      vectors: of all definitions, by an encoder without dropout.
      entry_ids: which entry each definition is of.
      num_entries: number e of entries, >= 1.
      where: definitions that count; an entry without any has a row of zeros.

    Raises:
      ValueError: a number that is no entry's.

    References:
      Liu 2024, arXiv:2405.16153, section 3 (AC and AMP).

    Examples:
      >>> vectors = jnp.array([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
      >>> entry_embeddings(vectors, jnp.array([0, 0, 1]), num_entries=2).tolist()
      [[0.5, 1.0], [4.0, 4.0]]
    """
    numerics.check_positive(num_entries=num_entries)
    numerics.check_shapes(
        vectors=(vectors, "m d"), entry_ids=(entry_ids, "m"), where=(where, "m")
    )
    vectors = numerics.at_least_f32(vectors, "vectors")
    ids = numerics.check_columns(entry_ids, num_entries, "entry_ids")
    where = numerics.mask_or_all(where, ids.shape)
    vectors = jnp.where(where[:, None], vectors, 0)
    total = jax.ops.segment_sum(vectors, ids, num_entries)
    count = jax.ops.segment_sum(where.astype(vectors.dtype), ids, num_entries)
    return total / jnp.maximum(count, 1)[:, None]


def isotropic_entries(
    entries: Float[Array | np.ndarray, "e d"],
    *,
    seed: int,
    scale: float = 100.0,
    num_components: int | None = None,
    contrast: Literal["logcosh", "exp", "cube"] = "logcosh",
    num_iterations: int = 1000,
    tol: float = 1e-4,
) -> np.ndarray:
    """Independent components of the matrix of entries, in place of it.

        E' = scale ICA((E - mean) / std),  E'^T E' / e = scale^2 I

    On the host, see `transforms.fast_ica`, whose signs and order depend on the seed:
    make it once per stage. There are as many components as E has directions in which it
    varies; further columns are zeros. After a LayerNorm that is one less than columns.

    Args:
      entries: E, with many more rows than columns.
      seed: of the first rotation; the paper's is 42.
      scale: length of the columns' deviations; acts as an inverse temperature.
      num_components: at most as many as E has directions; all when None.
      contrast: measure of non-Gaussianity; the paper's is "logcosh".
      num_iterations: at most.
      tol: change at which the iteration ends.

    Returns:
      E', of the shape of `entries`; [e, num_components] if that is given.

    Raises:
      ValueError: no column that varies, or more components than directions.

    References:
      Liu 2024, arXiv:2405.16153, section 3 (isotropy by ICA).

    Examples:
      >>> x = np.random.default_rng(0).laplace(size=(500, 2)) @ [[1.0, 2.0], [0.0, 1.0]]
      >>> y = isotropic_entries(x, seed=0)
      >>> np.abs(y.T @ y / 500).round(1)
      array([[10000.,     0.],
             [    0., 10000.]])
    """
    numerics.check_positive(scale=scale, num_iterations=num_iterations, tol=tol)
    numerics.check_shapes(entries=(entries, "e d"))
    x = np.asarray(entries)
    y = transforms.calibrate(x, np.zeros(len(x), np.int32))
    varies = np.any(y != 0, axis=0)
    if not np.any(varies):
        raise ValueError("entries: expected a column that varies, got none")
    rank = int(np.linalg.matrix_rank(y[:, varies]))
    k = rank if num_components is None else num_components
    if not 1 <= k <= rank:
        raise ValueError(f"num_components: expected 1 to {rank}, got {k}")
    components = scale * transforms.fast_ica(
        y[:, varies],
        seed=seed,
        num_components=k,
        contrast=contrast,
        num_iterations=num_iterations,
        tol=tol,
    )
    if num_components is not None:
        return components
    y[:] = 0
    y[:, np.flatnonzero(varies)[:rank]] = components
    return y


def definition_vectors(
    pooled: Float[Array, "n d"],
    kernel: Float[Array, "d f"],
    bias: Float[Array, " f"],
    *,
    activation: Literal["tanh", "gelu"] = "tanh",
) -> Float[Array, "n f"]:
    """What is compared with the entries: a dense layer on the pooled states.

        z = act(p W + b)

    Args:
      pooled: p, the first token's state, or the mean of the tokens'.
      kernel: W, that of a BERT's pooler, or of a RoBERTa's language model.
      bias: b.
      activation: "tanh" (with BERT) or "gelu", the exact one (with RoBERTa).

    Raises:
      ValueError: another activation.

    References:
      Liu 2024, arXiv:2405.16153, section 3.

    Examples:
      >>> z = definition_vectors(jnp.ones((1, 2)), 10 * jnp.eye(2), jnp.zeros(2))
      >>> z.round(4).tolist()
      [[1.0, 1.0]]
    """
    numerics.check_shapes(
        pooled=(pooled, "n d"), kernel=(kernel, "d f"), bias=(bias, "f")
    )
    if activation not in ("tanh", "gelu"):
        raise ValueError(f'activation: expected "tanh" or "gelu", got {activation!r}')
    pooled = numerics.at_least_f32(pooled, "pooled")
    x = jnp.matmul(pooled, kernel, preferred_element_type=pooled.dtype)
    x = x + bias[None, :].astype(x.dtype)
    return jnp.tanh(x) if activation == "tanh" else numerics.gelu(x)


def definition_loss(
    vectors: Float[Array, "n d"],
    entries: Float[Array, "m d"],
    labels: Integer[Array, " n"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    num_sampled: int | None = None,
    rng: Key[Array, ""] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy of the entry that a definition belongs to among all entries.

        loss_i = logsumexp_e <z_i, E_e> - <z_i, E_{labels[i]}>              (nats)

    No bias, temperature or normalization; no gradient flows into E. With `num_sampled`
    the sum over the other entries is estimated from so many that are drawn uniformly,
    the same for the whole batch, each with the weight m / num_sampled.

    Args:
      vectors: z, one per definition.
      entries: E. What it is scaled by acts as an inverse temperature.
      labels: the row of each definition's entry.
      where: entries that count for a definition, as without others that have the same
        one; a definition whose own entry is masked drops out.
      weights: one non-negative weight per definition.
      num_sampled: entries to draw, >= 1; None takes all.
      rng: key of the draw, the same on every device.
      reduce_fn: `jnp.mean` or `jnp.sum` over definitions that count; None gives [n].

    Raises:
      ValueError: a label that is no entry's; `num_sampled` without `rng`.

    References:
      Liu 2024, arXiv:2405.16153, section 3; Jean et al. 2015, arXiv:1412.2007 (sampled
      softmax).

    Examples:
      >>> z, entries = jnp.array([[1.0, 0.0]]), jnp.eye(2)
      >>> print(f"{definition_loss(z, entries, jnp.array([0])):.4f}")
      0.3133
    """
    m = numerics.check_shapes(
        vectors=(vectors, "n d"),
        entries=(entries, "m d"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )["m"]
    vectors = numerics.at_least_f32(vectors, "vectors")
    entries = jax.lax.stop_gradient(numerics.at_least_f32(entries, "entries"))
    if num_sampled is None:
        logits = similarity.dot(vectors, entries)
        return losses.info_nce(
            logits, labels, where=where, weights=weights, reduce_fn=reduce_fn
        )
    numerics.check_positive(num_sampled=num_sampled)
    if rng is None:
        raise ValueError("rng: expected a key to sample with, got None")
    labels = numerics.check_columns(labels, m, "labels")
    ids = jax.random.randint(rng, (num_sampled,), 0, m)
    own = jnp.take(entries, labels, axis=0, mode="fill", fill_value=0)
    logits = jnp.concatenate(
        [
            jnp.sum(vectors * own, axis=1, keepdims=True),
            similarity.dot(vectors, entries[ids]),
        ],
        axis=1,
    )
    counts = numerics.mask_or_all(where, (len(labels), m))
    valid = numerics.at_columns(counts, labels)
    others = counts[:, ids] & (ids[None, :] != labels[:, None])
    log_weight = jnp.log(m / num_sampled).astype(logits.dtype)
    return losses.info_nce(
        logits,
        jnp.zeros_like(labels),
        where=jnp.concatenate([valid[:, None], others], axis=1),
        weights=weights,
        log_weights=jnp.full_like(logits, log_weight),
        reduce_fn=reduce_fn,
    )


def warmup_constant(
    step: Integer[Array, "*n"] | Float[Array, "*n"] | int,
    *,
    num_warmup_steps: numerics.Number,
) -> Float[Array, "*n"]:
    """Factor of the learning rate: it rises linearly to 1, and stays there.

        min(step / num_warmup_steps, 1);  1 without warm-up

    Args:
      step: 0 at the first update.
      num_warmup_steps: of any size, not only whole, >= 0.

    References:
      Tsukagoshi et al. 2021, arXiv:2105.04339, released code.

    Examples:
      >>> print(warmup_constant(jnp.arange(4), num_warmup_steps=2.5))
      [0.  0.4 0.8 1. ]
    """
    numerics.check_nonnegative(num_warmup_steps=num_warmup_steps)
    step = jnp.asarray(step, float)
    some = jnp.asarray(num_warmup_steps, step.dtype)
    share = step / jnp.where(some > 0, some, 1)
    return jnp.where(some > 0, jnp.minimum(share, 1), 1)
