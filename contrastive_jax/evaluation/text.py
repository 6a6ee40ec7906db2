"""Measures of generated text: repetition, diversity, coherence, isotropy, MAUVE.

Texts are rows of tokens; `where` marks the tokens that count (the rest is padding) and
is all of them when None. `token_isotropy` is computed by jax and can be jitted, the
others on the host. A wrong dtype raises TypeError and a wrong shape ValueError, naming
the argument.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key
from scipy.special import rel_entr

from contrastive_jax import numerics, similarity
from contrastive_jax.evaluation import checks
from contrastive_jax.evaluation.clustering import kmeans

Tokens = Integer[Array | np.ndarray, "n t"]
Mask = Bool[Array | np.ndarray, "n t"]


def repetition(
    tokens: Tokens, n: int, *, where: Mask | None = None, drop_last_ngram: bool = False
) -> float:
    """rep-n: the share of n-grams that stood in their text before, in [0, 1].

        1 - sum_i unique n-grams of text i / sum_i n-grams of text i

    0 where no text has an n-gram. An n-gram counts if all its tokens do.

    Args:
      tokens: generated texts, without their prompts.
      n: tokens of an n-gram, at least 1.
      where: tokens that count.
      drop_last_ngram: leave out the last n-gram of each text, as the released code of
        contrastive search does.

    Raises:
      ValueError: n below 1.

    References:
      Welleck et al. 2019, arXiv:1908.04319, section 6; Su et al. 2022,
      arXiv:2202.06417, section 4.2.

    Examples:
      >>> repetition(np.array([[1, 2, 1, 2]]), 2) == 1 - 2 / 3
      True
    """
    numerics.check_shapes(tokens=(tokens, "n t"), where=(where, "n t"))
    tokens = checks.integers(tokens, "tokens")
    mask = np.ones(tokens.shape, bool)
    if where is not None:
        mask = checks.booleans(where, "where")
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    total = unique = 0
    if tokens.shape[1] >= n:
        windows = np.lib.stride_tricks.sliding_window_view
        grams, there = windows(tokens, n, axis=1), windows(mask, n, axis=1)
        for row, counts in zip(grams, there, strict=True):
            row = row[counts.all(axis=1)]
            row = row[: max(len(row) - 1, 0)] if drop_last_ngram else row
            total, unique = total + len(row), unique + len(np.unique(row, axis=0))
    return 1 - unique / total if total else 0.0


def diversity(
    tokens: Tokens, *, where: Mask | None = None, drop_last_ngram: bool = False
) -> float:
    """Product of what is not repeated among pairs, triples and quadruples of tokens.

        (1 - rep-2) (1 - rep-3) (1 - rep-4)      in [0, 1]

    Args:
      tokens: generated texts, without their prompts.
      where: tokens that count.
      drop_last_ngram: of `repetition`.

    References:
      Su et al. 2022, arXiv:2202.06417, section 4.2.

    Examples:
      >>> diversity(np.array([[1, 2, 3, 4, 5]]))
      1.0
    """
    repeated = [
        repetition(tokens, n, where=where, drop_last_ngram=drop_last_ngram)
        for n in (2, 3, 4)
    ]
    return float(np.prod(1 - np.array(repeated)))


def coherence(
    log_probs: Float[Array | np.ndarray, "n t"], *, where: Mask | None = None
) -> float:
    """Mean log-probability per token of texts given their prompts (nats), at most 0.

        mean_i mean_t log p(x_it | prompt_i, x_i1 ... x_i,t-1)

    The mean of each text comes first, so that long ones do not count more. Texts
    without a token are left out; 0 when there is no other.

    Args:
      log_probs: of each token of the texts, by the model that judges.
      where: tokens that count.

    References:
      Su et al. 2022, arXiv:2202.06417, section 4.2; Su and Collier 2023,
      arXiv:2210.14140, section 4.

    Examples:
      >>> where = np.array([[True, True], [True, False]])
      >>> coherence(np.array([[-1.0, -3.0], [-4.0, 0.0]]), where=where)
      -3.0
    """
    numerics.check_shapes(log_probs=(log_probs, "n t"), where=(where, "n t"))
    log_probs = checks.floats(log_probs, "log_probs")
    mask = np.ones(log_probs.shape, bool)
    if where is not None:
        mask = checks.booleans(where, "where")
    counts = mask.sum(axis=1)
    sums = np.where(mask, log_probs, 0).sum(axis=1)[counts > 0]
    return float(np.mean(sums / counts[counts > 0])) if len(sums) else 0.0


class PairCosines(NamedTuple):
    """Cosines between the tokens of texts; those of several batches are added.

    Attributes:
      total: sum over pairs of different tokens of one text, both orders.
      count: number of these pairs.
    """

    total: Float[Array, "*batch"]
    count: Float[Array, "*batch"]

    def isotropy(self) -> Float[Array, "*batch"]:
        """1 less the mean cosine, in [0, 2]; 1 without a pair."""
        return 1 - self.total / jnp.maximum(self.count, 1)


def token_isotropy(
    hidden: Float[Array | np.ndarray, "n t d"], where: Mask | None = None
) -> PairCosines:
    """How much the representations of the tokens of one text differ.

        isotropy = 1 - sum_i sum_{s != t} cos(h_is, h_it) / sum_i t_i (t_i - 1)

    near 0 where all tokens of a text have one direction. For batches and devices add
    both numbers (`parallel.psum`) before `PairCosines.isotropy`.

    Args:
      hidden: states of one layer at the tokens of each text.
      where: tokens that count. One of norm 0 has cosine 0 with all.

    References:
      Su and Collier 2023, arXiv:2210.14140, section 3.1; Ethayarajh 2019,
      arXiv:1909.00512 (over pairs of the corpus).

    Examples:
      >>> hidden = jnp.array([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
      >>> print(token_isotropy(hidden).isotropy().round(4))
      0.6667
    """
    numerics.check_shapes(hidden=(hidden, "n t d"), where=(where, "n t"))
    hidden = numerics.at_least_f32(hidden, "hidden")
    mask = numerics.mask_or_all(where, hidden.shape[:2])
    units = jnp.where(mask[..., None], similarity.l2_normalize(hidden), 0)
    # The square of a sum has all pairs; less those of a token with itself.
    squares = jnp.sum(jnp.sum(units, axis=1) ** 2) - jnp.sum(units**2)
    lengths = jnp.sum(mask, axis=1, dtype=hidden.dtype)
    return PairCosines(squares, jnp.sum(lengths * (lengths - 1)))


def mauve(
    rng: Key[Array, ""],
    generated: Float[Array | np.ndarray, "n d"],
    real: Float[Array | np.ndarray, "m d"],
    *,
    k: int | None = None,
    scale: float = 5.0,
    points: int = 25,
) -> float:
    """MAUVE: how near generated texts are to real ones, in (0, 1]; 1 is the same.

        area under {(exp(-c KL(q | r)), exp(-c KL(p | r))): r = a p + (1 - a) q}

    with a from 0 to 1, p and q the shares of both samples in the clusters of a k-means
    of all their features. It depends on the features, k and the sizes of the samples:
    compare only what has the same.

    Args:
      rng: random key of the clustering; the same key gives the same value.
      generated: features of generated texts, such as a model's mean hidden states.
        They are scaled to length 1.
      real: features of real texts.
      k: clusters, at least 2; a tenth of the smaller sample when None.
      scale: the constant c, > 0.
      points: mixtures on the curve, at least 2.

    Raises:
      ValueError: features that are not finite, a number out of its range.

    References:
      Pillutla et al. 2021, arXiv:2102.01454, section 2.

    Deviations:
      k-means of scikit-learn on the features themselves, without a PCA before.

    Examples:
      >>> import jax
      >>> x = np.eye(4)
      >>> round(mauve(jax.random.key(0), x, x), 4)
      1.0
    """
    numerics.check_shapes(generated=(generated, "n d"), real=(real, "m d"))
    numerics.check_positive(scale=scale)
    parts = [
        checks.scaled(checks.features(x, name), axis=1)
        for x, name in ((generated, "generated"), (real, "real"))
    ]
    if k is None:
        k = max(2, min(map(len, parts)) // 10)
    if k < 2 or points < 2:
        name, number = ("k", k) if k < 2 else ("points", points)
        raise ValueError(f"{name}: expected at least 2, got {number}")
    rows = np.concatenate(parts)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1)
    k = min(k, len(np.unique(rows, axis=0)))
    clusters = kmeans(rng, rows, k).assignments
    sides = clusters[: len(parts[0])], clusters[len(parts[0]) :]
    q, p = (np.bincount(side, minlength=k) / len(side) for side in sides)
    return area_of(p, q, scale, points)


def area_of(p: np.ndarray, q: np.ndarray, scale: float, points: int) -> float:
    """Area under the divergence curve of two histograms."""
    shares = np.linspace(1e-6, 1 - 1e-6, points)[:, None]
    mixtures = shares * p[None, :] + (1 - shares) * q[None, :]
    x, y = (
        np.exp(-scale * np.sum(rel_entr(side[None, :], mixtures), axis=1))
        for side in (q, p)
    )
    # From (1, 0) over the mixtures, those like q first, to (0, 1): x falls.
    x, y = np.concatenate([[1], x, [0]]), np.concatenate([[0], y, [1]])
    return float(np.clip(-np.trapezoid(y, x), 0, 1))
