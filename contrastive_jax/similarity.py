"""Embeddings to scores: every function takes [n, d] and [m, d] and returns [n, m].

Higher is more similar, except in the functions named `*_distance`, whose negatives are
scores. Half-precision inputs are multiplied as they are and summed in float32; float64
passes through. A wrong dtype raises TypeError and shapes that do not fit together
ValueError, naming the argument.

Distances need memory of n * m numbers, never n * m * d, with their gradients. They are
exact near 0: where a product would cancel digits, tiles of pairs are computed from
differences. A row that is not finite makes its own distances NaN (or infinite) and
leaves the gradients of other rows alone where those distances are masked.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics

# Rows and columns of a tile of pairs that is computed from differences.
TILE = 64


def l2_normalize(
    x: Float[Array, "*shape"],
    axis: int = -1,
    eps: float | Float[Array, ""] = 1e-12,
) -> Float[Array, "*shape"]:
    """Vectors of any finite length scaled to unit Euclidean norm.

        y = x / max(||x||, eps)

    The zero vector stays zero, with gradient 0.

    Args:
      x: vectors along `axis`.
      axis: axis of the norm.
      eps: least norm to divide by.

    Examples:
      >>> print(l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
      [[0.6 0.8]
       [0.  0. ]]
    """
    x = numerics.at_least_f32(x, "x")
    unit = unit_of_length(x, axis=axis)
    x = x / unit
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    nonzero = square != 0
    scale = jax.lax.rsqrt(jnp.where(nonzero, square, 1))
    return jnp.where(nonzero, x * jnp.minimum(scale, unit / eps), 0)


def unit_of_length(
    *xs: Float[Array, "..."], axis: int | None = None
) -> Float[Array, "..."]:
    """1 for usual lengths, else a number near them: x / unit has a square.

    Squares of float32 overflow beyond 1.8e19 and vanish below 1e-23.
    """
    largest = jnp.asarray(0.0)
    for x in map(jax.lax.stop_gradient, xs):
        entries = jnp.where(jnp.isfinite(x), jnp.abs(x), 0)
        most = jnp.max(entries, axis=axis, keepdims=axis is not None)
        largest = jnp.maximum(most, largest.astype(x.dtype))
    usual = (largest > 1e-15) & (largest < 1e15) | (largest == 0)
    # A divisor may become a factor, whose reciprocal must not be subnormal.
    return jnp.where(usual, 1, jnp.clip(largest, 1e-30, 1e30))


def within(
    x: Float[Array, "*shape"], low: float, high: float
) -> Float[Array, "*shape"]:
    """Values kept in a range that only rounding makes them leave; gradient as without.

    Examples:
      >>> x = jnp.float32(1.0000001)
      >>> print(within(x, -1.0, 1.0), jax.grad(within)(x, -1.0, 1.0))
      1.0 1.0
    """
    return x + jax.lax.stop_gradient(jnp.clip(x, low, high) - x)


def dot(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Inner products, `a @ b.T`, accumulated in at least float32.

    Examples:
      >>> print(dot(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 1.0], [0.0, -1.0]])))
      [[ 5. -2.]]
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "m d"))
    return matmul(a, b)


def cosine(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Cosines of the angles between rows, in [-1, 1]; 0 for a zero row.

    Examples:
      >>> print(cosine(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0], [5.0, 0.0]])))
      [[0. 1.]]
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "m d"))
    return within(matmul(l2_normalize(a), l2_normalize(b)), -1.0, 1.0)


def cosine_distance(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    """One minus the cosine, in [0, 2]; 1 for a zero row.

    Examples:
      >>> print(cosine_distance(jnp.array([[2.0, 0.0]]), jnp.array([[-3.0, 0.0]])))
      [[2.]]
    """
    return 1 - cosine(a, b)


def squared_euclidean_distance(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    """Squared Euclidean distances, >= 0.

    By one product of matrices, with centered rows; pairs much nearer to each other than
    to the center of all rows from differences, in tiles. Value and gradient are as
    exact as those of differences, and it takes the time of two products more unless
    most tiles hold a near pair.

    Examples:
      >>> a, b = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])
      >>> print(squared_euclidean_distance(a, b))
      [[25.  1.]]
    """
    return of_finite(squares, a, b)


def euclidean_distance(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    """Euclidean distances, >= 0; the gradient between equal rows is 0.

    Examples:
      >>> a, b = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])
      >>> print(euclidean_distance(a, b))
      [[5. 1.]]
    """

    def roots(a, b):
        # As [1, 1]: no number of one device's rows alone to divide by, for it does not
        # matter to the result (`parallel.value_and_grad` asks).
        unit = unit_of_length(a, b)[None, None]
        return unit * numerics.safe_sqrt(squares(a / unit, b / unit))

    return of_finite(roots, a, b)


def euclidean(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Negative Euclidean distances.

    Examples:
      >>> print(euclidean(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])))
      [[-5.]]
    """
    return -euclidean_distance(a, b)


def squared_euclidean(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    """Negative squared Euclidean distances.

    Examples:
      >>> a, b = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])
      >>> print(squared_euclidean(a, b))
      [[-25.  -1.]]
    """
    return -squared_euclidean_distance(a, b)


def manhattan_distance(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    """Sums of absolute differences; the gradient between equal entries is 0.

    Examples:
      >>> print(manhattan_distance(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]])))
      [[7.]]
    """
    return of_finite(functools.partial(by_differences, absolute), a, b)


def bilinear(
    a: Float[Array, "n d"], b: Float[Array, "m e"], weight: Float[Array, "d e"]
) -> Float[Array, "n m"]:
    """Bilinear scores, `a @ weight @ b.T`.

    References:
      van den Oord et al. 2018, arXiv:1807.03748, eq. 3.

    Examples:
      >>> weight = jnp.array([[1.0], [2.0]])
      >>> print(bilinear(jnp.array([[3.0, 4.0]]), jnp.array([[2.0]]), weight))
      [[22.]]
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "m e"), weight=(weight, "d e"))
    return matmul(matmul(a, weight.T), b)


def csls(
    a: Float[Array, "n d"], b: Float[Array, "m d"], *, k: int = 10
) -> Float[Array, "n m"]:
    """Cross-domain similarity local scaling (CSLS): cosines corrected for hubs.

        2 cos(a_i, b_j) - r_i - q_j
        r_i: mean cosine of a_i and its k nearest rows of b;  q_j: of b_j among a

    For nearest neighbors between two sets (languages, modalities), where otherwise a
    few rows (hubs) are neighbors of many.

    Args:
      a: rows of one set.
      b: rows of the other.
      k: neighbors, 1 to the size of the smaller set.

    References:
      Lample et al. 2018, arXiv:1710.04087, section 2.3.

    Examples:
      >>> a, b = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> print(csls(a, b, k=1))
      [[ 0. -1.]]
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "m d"))
    cosines = cosine(a, b)
    if not 1 <= k <= min(cosines.shape):
        raise ValueError(f"k: expected 1 to {min(cosines.shape)}, got {k}")
    rows = jnp.mean(jax.lax.top_k(cosines, k)[0], axis=1)
    columns = jnp.mean(jax.lax.top_k(cosines.T, k)[0], axis=1)
    return 2 * cosines - rows[:, None] - columns[None, :]


def multi_head(
    a: Float[Array, "n k d"], b: Float[Array, "m k d"]
) -> Float[Array, "k n m"]:
    """Inner products of each head.

    Examples:
      >>> x = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]])  # 2 rows, 2 heads, width 1
      >>> print(multi_head(x, x)[1])
      [[ 4.  8.]
       [ 8. 16.]]
    """
    numerics.check_shapes(a=(a, "n k d"), b=(b, "m k d"))
    return jax.vmap(matmul, in_axes=(1, 1))(a, b)


def matmul(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """`a @ b.T` in full float32 precision on every backend, without copies in float32.

    The product behind all scores: half-precision operands go into the matrix unit as
    they are and are accumulated in float32.

    Examples:
      >>> matmul(jnp.ones((1, 2), jnp.bfloat16), jnp.ones((1, 2), jnp.bfloat16))
      Array([[2.]], dtype=float32)
    """
    for name, x in (("a", a), ("b", b)):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{name}: expected floating point, got {x.dtype}")
    dtype = jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32)
    # With one row on a side a CPU rounds by place: equal rows of the other side would
    # get unequal scores, and so an order.
    n, m = len(a), len(b)
    a, b = (jnp.concatenate([x, x]) if len(x) == 1 else x for x in (a, b))
    product = jnp.einsum(
        "nd,md->nm",
        a,
        b,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=dtype,
    )
    return product[:n, :m]


# How distances are computed.


def of_finite(
    distance: Callable[..., Array], a: Array, b: Array
) -> Float[Array, "n m"]:
    """Distances of rows whose entries that are not finite count as 0, plus those.

    So these reach the distances of their own row only, and no gradient but their own.
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "m d"))
    a, b = numerics.at_least_f32(a, "a"), numerics.at_least_f32(b, "b")

    def rest(x):
        infinite = jnp.where(jnp.isinf(x), jnp.inf, 0)
        return jnp.sum(jnp.where(jnp.isnan(x), x, infinite), axis=1)

    a, b, rows, columns = (
        *(jnp.where(jnp.isfinite(x), x, 0) for x in (a, b)),
        rest(a),
        rest(b),
    )
    return distance(a, b) + rows[:, None] + columns[None, :]


def squares(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Squared distances by a product, and by differences where digits would cancel."""
    if max(len(a), len(b)) <= TILE:
        return by_differences(jnp.square, a, b)
    center = jnp.sum(a, axis=0) / len(a) + jnp.sum(b, axis=0) / len(b)
    center = jax.lax.stop_gradient(center / 2)[None, :]
    x, y = a - center, b - center
    lengths = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :]
    product = lengths - 2 * matmul(x, y)
    near = ~(product > 0.25 * lengths)
    return jnp.where(near, by_differences(jnp.square, a, b, near), product)


def absolute(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """|x| with gradient 0 at 0, where that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


def by_differences(
    term: Callable[[Array], Array],
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    wanted: Bool[Array, "n m"] | None = None,
) -> Float[Array, "n m"]:
    """Sums over d of a term of the differences, which are never all in memory.

    Neither are they for a gradient: it computes them again.

    Args:
      term: elementwise function.
      a: rows of one set.
      b: rows of the other.
      wanted: pairs that are needed. What lies in a row of a tile without any is 0.
    """
    (n, m), size = (len(a), len(b)), TILE
    if max(n, m) <= size:
        return jnp.sum(term(a[:, None, :] - b[None, :, :]), axis=-1)
    wanted = jnp.ones((n, m), bool) if wanted is None else wanted
    wanted = jnp.pad(wanted, ((0, -n % size), (0, -m % size)))
    wanted = wanted.reshape(-(-n // size), size, -(-m // size), size).swapaxes(1, 2)
    tiles = (
        jnp.pad(x, ((0, -len(x) % size), (0, 0))).reshape(-1, size, x.shape[1])
        for x in (a, b)
    )
    rows, columns = tiles

    def where_wanted(distances):
        def run(x, y, wanted):
            # As a type it varies over devices as all arguments do.
            nothing = 0 * jnp.where(wanted, x.ravel()[0], y.ravel()[0])
            return jax.lax.cond(
                jnp.any(wanted), distances, lambda *_: nothing, x, y, wanted
            )

        return jax.checkpoint(run)

    def of_row(x, y, _):
        return jnp.sum(term(x[None, :] - y), axis=-1)

    def of_tile(x, y, wanted):
        each = where_wanted(of_row)
        return jax.lax.map(lambda args: each(args[0], y, args[1]), (x, wanted))

    @jax.checkpoint
    def of_tiles(args):
        x, wanted = args
        each = where_wanted(of_tile)
        return jax.lax.map(lambda args: each(x, *args), (columns, wanted))

    out = jax.lax.map(of_tiles, (rows, wanted))
    return out.swapaxes(1, 2).reshape(out.shape[0] * size, -1)[:n, :m]
