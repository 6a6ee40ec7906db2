"""Embeddings to scores: every function takes [n, d] and [m, d] and returns [n, m].

Higher is more similar, except in the functions named `*_distance`, whose negatives are
scores. Half-precision inputs are multiplied as they are and summed in float32; float64
passes through. A wrong dtype raises TypeError and shapes that do not fit together
ValueError, naming the argument.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import numerics


def l2_normalize(
    x: Float[Array, "*shape"], axis: int = -1, eps: float = 1e-12
) -> Float[Array, "*shape"]:
    """Vectors scaled to unit Euclidean norm.

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
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    nonzero = square != 0
    scale = jax.lax.rsqrt(jnp.where(nonzero, jnp.maximum(square, eps * eps), 1))
    return jnp.where(nonzero, x * scale, 0)


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
    return matmul(l2_normalize(a), l2_normalize(b))


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
    """Squared Euclidean distances, computed from differences: exact near 0.

    Examples:
      >>> a, b = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])
      >>> print(squared_euclidean_distance(a, b))
      [[25.  1.]]
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "m d"))
    a, b = numerics.at_least_f32(a, "a"), numerics.at_least_f32(b, "b")
    difference = a[:, None, :] - b[None, :, :]
    return jnp.sum(difference * difference, axis=-1)


def euclidean_distance(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    """Euclidean distances; the gradient between equal rows is 0.

    Examples:
      >>> a, b = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])
      >>> print(euclidean_distance(a, b))
      [[5. 1.]]
    """
    return numerics.safe_sqrt(squared_euclidean_distance(a, b))


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
    numerics.check_shapes(a=(a, "n d"), b=(b, "m d"))
    a, b = numerics.at_least_f32(a, "a"), numerics.at_least_f32(b, "b")
    return jnp.sum(jnp.abs(a[:, None, :] - b[None, :, :]), axis=-1)


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
    return jnp.einsum(
        "nd,md->nm",
        a,
        b,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=dtype,
    )
