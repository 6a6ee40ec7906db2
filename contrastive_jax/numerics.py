"""Arithmetic that stays finite: masked reductions, safe roots, argument checks.

Everything above builds on these few functions. They fix three things once: what a
mask means (masked entries are as if absent, nothing left gives 0 with gradient 0), what
precision is computed in (float32 for half precision, float64 stays), and how a wrong
argument is reported (one line that names it, before anything compiles).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Integer, Real, Shaped

# Stands for "minus infinity" in masked scores. Finite, because 0 * -inf is NaN.
MASKED = -1e30

# jnp.mean, jnp.sum, or any reduction that takes `where=`.
ReduceFn = Callable[..., Array]

# A number that the caller sets. It may be traced: a schedule, something learned.
Number = int | float | np.number | Real[Array, ""]


def at_least_f32(
    x: Shaped[Array | np.ndarray, "*shape"], name: str = "x"
) -> Float[Array, "*shape"]:
    """The input as floating point of at least 32 bits.

    float16 and bfloat16 come up to float32; float32 and float64 pass through.

    Raises:
      TypeError: for integers, booleans and complex numbers, naming the argument.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected floating point, got {x.dtype}{list(x.shape)}"
        )
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def check_shapes(**arguments: tuple[Array | np.ndarray | None, str]) -> dict[str, int]:
    """Checks named arrays against named sizes and returns the sizes.

        check_shapes(logits=(logits, "n m"), labels=(labels, "n"))

    A size that appears twice must agree. A size with a star ("k*") may be 0; all
    others must be at least 1. A None array is skipped (an optional argument left out).

    Raises:
      ValueError: naming the argument, its shape and the shape expected.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, (x, spec) in arguments.items():
        if x is None:
            continue
        dims = spec.split()
        shape = jnp.shape(x)
        got = f"got shape {list(shape)}"
        if len(shape) != len(dims):
            raise ValueError(f"{name}: expected shape [{', '.join(dims)}], {got}")
        for dim, size in zip(dims, shape, strict=True):
            key = dim.rstrip("*")
            if key.isdigit():
                expected, source = int(key), "its definition"
            else:
                expected, source = sizes.setdefault(key, (size, name))
            if size != expected:
                raise ValueError(
                    f"{name}: expected shape [{', '.join(dims)}] with {key} = "
                    f"{expected} (from {source}), {got}"
                )
            if size == 0 and not dim.endswith("*"):
                raise ValueError(f"{name}: {key} must be at least 1, {got}")
    return {key: size for key, (size, _) in sizes.items()}


def check_integer(x: Array | np.ndarray, name: str) -> Array:
    """The input as an array of integers.

    Without 64-bit types (`jax_enable_x64`) an array on a device holds numbers below
    2^31 only; greater ones would be taken for others.

    Raises:
      TypeError: naming the argument, for anything but integers.
      ValueError: naming the argument, for numbers that do not fit.
    """
    if not isinstance(x, jax.Array):
        check_fits(np.asarray(x), name)
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integers, got {x.dtype}{list(x.shape)}")
    return x


def check_fits(x: np.ndarray, name: str) -> None:
    """Checks that integers of the host keep their value on a device.

    Raises:
      ValueError: naming the argument and the number.
    """
    if x.dtype.kind not in "iu" or not x.size:
        return
    target = np.iinfo(jax.dtypes.canonicalize_dtype(x.dtype))
    least, most = int(np.min(x)), int(np.max(x))
    if least < target.min or most > target.max:
        worst = least if least < target.min else most
        raise ValueError(
            f"{name}: expected integers that fit into {target.bits} bits, got {worst}; "
            f"number them anew (np.unique with return_inverse) or set jax_enable_x64"
        )


def check_signed(x: Array | np.ndarray, name: str) -> Integer[Array, "..."]:
    """Integers, signed and of at least 32 bits, beside which every size fits.

    Raises:
      TypeError: naming the argument, for anything but integers.
      ValueError: naming the argument, for a known number that does not fit.
    """
    x = check_integer(x, name)
    if x.dtype.itemsize >= 4 and jnp.issubdtype(x.dtype, jnp.signedinteger):
        return x
    if not isinstance(x, jax.core.Tracer):
        check_fits(np.asarray(x).astype(np.int64), name)
    return x.astype(jnp.int32)


def check_columns(
    x: Array | np.ndarray, size: int, name: str, *, ignore: int | None = None
) -> Integer[Array, "..."]:
    """Column numbers, integers in [0, size), as an array.

    A traced number that is out of range becomes `size`: no column. `at_columns` gives 0
    there, `pairs.one_column` an empty row, and so its anchor drops out of a loss.

    Args:
      x: the numbers.
      size: how many columns there are.
      name: of the argument.
      ignore: a number that stands for no column, which becomes `size`.

    Raises:
      TypeError: naming the argument, for anything but integers.
      ValueError: naming the argument, its least and its greatest number.
    """
    x = check_integer(x, name)
    if isinstance(x, jax.core.Tracer):
        if x.dtype not in (jnp.int32, jnp.int64):  # else `size` may not fit
            x = x.astype(jnp.int64 if x.dtype.itemsize == 8 else jnp.int32)
        valid = (x >= 0) & (x < size)
        return jnp.where(valid if ignore is None else valid & (x != ignore), x, size)
    # In numpy: inside of jit, operations on constants are traced.
    columns = np.asarray(x)
    real = columns[columns != ignore]
    if real.size and (np.min(real) < 0 or np.max(real) >= size):
        raise ValueError(
            f"{name}: expected numbers in [0, {size}), got {np.min(real)} to "
            f"{np.max(real)}"
        )
    if x.dtype.itemsize < 4:
        columns = columns.astype(np.int32)
    return jnp.asarray(
        columns if ignore is None else np.where(columns == ignore, size, columns)
    )


def check_orders(
    x: Array | np.ndarray, name: str
) -> tuple[Integer[Array, "n m"], Bool[Array, " n"]]:
    """Permutations of the columns, one in each row, and which rows are one.

    A traced row that is none (a number missing, another twice) is False, so that what
    it orders can drop out; the order given is then that of the columns.

    Raises:
      TypeError: naming the argument, for anything but integers.
      ValueError: naming the argument, for a row that is no permutation.
    """
    columns = jnp.arange(x.shape[1])[None, :]
    x = check_columns(x, x.shape[1], name)
    if isinstance(x, jax.core.Tracer):
        right = jnp.all(jnp.sort(x, axis=1) == columns, axis=1)
        return jnp.where(right[:, None], x, columns), right
    for row in np.asarray(x):
        if np.unique(row).size < row.size:
            raise ValueError(f"{name}: expected each number once in a row, got {row}")
    return x, jnp.ones(x.shape[0], bool)


def at_columns(x: Shaped[Array, "n m"], columns: Integer[Array, " n"]) -> Array:
    """One entry of each row, x[i, columns[i]]; 0 or False where there is no column.

    Examples:
      >>> at_columns(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 2]))
      Array([2., 0.], dtype=float32)
    """
    return jnp.take_along_axis(x, columns[:, None], axis=1, mode="fill", fill_value=0)[
        :, 0
    ]


def check_mask(x: Array | np.ndarray, name: str) -> Array:
    """The input as an array, which must hold booleans.

    Raises:
      TypeError: naming the argument, for anything but booleans.
    """
    x = jnp.asarray(x)
    if x.dtype != jnp.bool_:
        raise TypeError(f"{name}: expected booleans, got {x.dtype}{list(x.shape)}")
    return x


def check_numbers(
    expected: str, test: Callable[[np.ndarray], Any], /, **values: Any
) -> None:
    """Checks numbers that the caller set, those of them that are known.

    Traced ones (a schedule, a learned temperature) are not checked.

    Args:
      expected: what they must be, in words.
      test: the same as a function of an array.
      values: numbers by the names of the arguments.

    Raises:
      TypeError: naming the argument, for what is no number.
      ValueError: naming the argument and its value.
    """
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            continue
        x = np.asarray(value)
        if not jnp.issubdtype(x.dtype, jnp.number):
            raise TypeError(f"{name}: expected a number, got {value!r}")
        if not np.all(test(x)):
            raise ValueError(f"{name}: expected {expected}, got {value}")


def check_finite(**values: Any) -> None:
    """`check_numbers` that are finite."""
    check_numbers("a finite number", np.isfinite, **values)


def check_positive(**values: Any) -> None:
    """`check_numbers` that are finite and greater than 0."""
    check_numbers("a finite number > 0", lambda x: np.isfinite(x) & (x > 0), **values)


def check_nonnegative(**values: Any) -> None:
    """`check_numbers` that are finite and at least 0."""
    check_numbers("a finite number >= 0", lambda x: np.isfinite(x) & (x >= 0), **values)


def check_fraction(**values: Any) -> None:
    """`check_numbers` that lie in [0, 1]."""
    check_numbers("a number in [0, 1]", lambda x: (x >= 0) & (x <= 1), **values)


def is_zero(x: Number) -> bool:
    """Whether a number is known to be 0, so that what it multiplies may be left out."""
    return not isinstance(x, jax.core.Tracer) and bool(np.all(np.asarray(x) == 0))


def per_column(x: Any, size: int, dtype: Any, name: str) -> Float[Array, " m"]:
    """One number for each column, from one for all or an array of them.

    Raises:
      ValueError: naming the argument and its shape.
    """
    if np.shape(x) not in ((), (size,)):
        raise ValueError(
            f"{name}: expected a number or one per column, shape [{size}], got shape "
            f"{list(np.shape(x))}"
        )
    return jnp.broadcast_to(jnp.asarray(x, dtype), (size,))


@jax.jit
def mean_of(total: Float[Array, ""], count: Float[Array, ""]) -> Float[Array, ""]:
    """Quotient of a sum and the number it is over; 0 where nothing counts.

    Every mean of a loss ends here, by name: `parallel.value_and_grad` finds it, and
    takes both sums over all devices.
    """
    return total / jnp.where(count > 0, count, 1)


def is_mean(reduce_fn: ReduceFn | None) -> bool:
    """Whether a reduction divides by what counts: `jnp.mean`, `parallel.mean`."""
    return reduce_fn is jnp.mean or takes_weights(reduce_fn)


def takes_weights(reduce_fn: ReduceFn | None) -> bool:
    """Whether a reduction has `weights=` besides `where=`, as `parallel.mean` has."""
    return getattr(reduce_fn, "takes_weights", False)


def safe_reduce(
    values: Float[Array, "*shape"],
    *,
    where: Bool[Array, "*shape"] | None = None,
    weights: Shaped[Array, "*shape"] | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Reduces the values that count; 0 with gradient 0 when none does.

    Args:
      values: what to reduce.
      where: which values count; all when None.
      weights: non-negative weights. A mean (`jnp.mean`, `parallel.mean`) divides by the
        sum of the weights that count; every other reduction sees `weights * values`.
      reduce_fn: `jnp.mean`, `jnp.sum`, `parallel.mean(axis_name)`, another reduction
        that takes `where=`, or None for no reduction: the weighted values, 0 where
        masked.
    """
    where = jnp.ones(values.shape, bool) if where is None else where
    values = jnp.where(where, values, 0)
    if weights is not None:
        weights = jnp.where(where, jnp.asarray(weights, values.dtype), 0)
    if reduce_fn is not None and takes_weights(reduce_fn):
        return reduce_fn(values, where=where, weights=weights)
    counts = where.astype(values.dtype)
    if weights is not None:
        counts, values = weights, weights * values
    if reduce_fn is None:
        return values
    if reduce_fn is jnp.mean:
        return mean_of(jnp.sum(values), jnp.sum(counts))
    # With nothing to reduce, let the zeros count: a mean of them is 0, not 0 / 0.
    return reduce_fn(values, where=where | ~jnp.any(where))


def masked_mean(
    values: Float[Array, "..."],
    where: Bool[Array, "..."],
    axis: int | tuple[int, ...] | None = None,
) -> Float[Array, "..."]:
    """Mean over the entries that count along `axis`; 0 where none does."""
    count = jnp.sum(where, axis=axis)
    total = jnp.sum(jnp.where(where, values, 0), axis=axis)
    return total / jnp.maximum(count, 1)


def masked_min(
    x: Float[Array, "..."], where: Bool[Array, "..."], axis: int = -1
) -> Float[Array, "..."]:
    """Least entry that counts, NaN if one of them is; -MASKED where none counts.

    (`jnp.min` of many numbers may pass over NaN on a CPU.)
    """
    least = jnp.min(jnp.where(where, x, -MASKED), axis=axis, initial=-MASKED)
    return jnp.where(jnp.any(where & jnp.isnan(x), axis=axis), jnp.nan, least)


def masked_logsumexp(
    x: Float[Array, "..."],
    where: Bool[Array, "..."] | None = None,
    axis: int = -1,
) -> Float[Array, "..."]:
    """log of the sum of exp over the entries that count.

    Where none counts the result is MASKED with gradient 0, never -inf or NaN.
    """
    if where is None:
        return jax.nn.logsumexp(x, axis=axis)
    nonempty = jnp.any(where, axis=axis)
    # An empty row is replaced before the log, so that no NaN enters its gradient.
    x = jnp.where(where, x, MASKED)
    x = jnp.where(jnp.expand_dims(nonempty, axis), x, 0)
    return jnp.where(nonempty, jax.nn.logsumexp(x, axis=axis), MASKED)


def largest(
    x: Float[Array, "..."], where: Bool[Array, "..."], axis: int = -1
) -> Float[Array, "..."]:
    """Largest entry that counts along `axis`, which stays with size 1.

    0 where it is not finite or none counts. It carries no gradient.
    """
    x = jnp.where(where, jax.lax.stop_gradient(x), -jnp.inf)
    top = jnp.max(x, axis=axis, keepdims=True)
    return jnp.where(jnp.isfinite(top), top, 0)


def less_largest(
    x: Float[Array, "..."], where: Bool[Array, "..."], axis: int = -1
) -> Float[Array, "..."]:
    """x less its largest entry that counts along `axis`; 0 at entries that do not.

    A softmax is taken of this: a number that all entries have in common then costs no
    more digits than x itself has lost to it. The largest entry carries no gradient.
    """
    return jnp.where(where, x - largest(x, where, axis), 0)


def masked_log_softmax(
    x: Float[Array, "..."],
    where: Bool[Array, "..."],
    axis: int = -1,
    temperature: Number = 1,
) -> Float[Array, "..."]:
    """Log-softmax of x / temperature over the entries that count; 0 at others."""
    x = less_largest(x, where, axis) / temperature
    total = jnp.sum(jnp.where(where, jnp.exp(x), 0), axis=axis, keepdims=True)
    return jnp.where(where, x - jnp.log(jnp.where(total == 0, 1, total)), 0)


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root whose gradient at 0 (and below) is 0 instead of infinite."""
    positive = ~(x <= 0)  # NaN stays NaN
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def safe_norm(
    x: Float[Array, "..."], axis: int = -1, keepdims: bool = False
) -> Float[Array, "..."]:
    """Euclidean norm along `axis`, with gradient 0 at the zero vector."""
    return safe_sqrt(jnp.sum(x * x, axis=axis, keepdims=keepdims))


def safe_abs(z: Inexact[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Modulus of real or complex numbers, with gradient 0 at 0 instead of NaN."""
    return safe_sqrt(jnp.real(z) ** 2 + jnp.imag(z) ** 2)


def safe_log(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Natural logarithm; MASKED with gradient 0 where x is not positive."""
    positive = ~(x <= 0)  # NaN stays NaN
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1)), MASKED)


def mask_or_all(
    where: Array | np.ndarray | None, shape: tuple[int, ...], name: str = "where"
) -> Bool[Array, "..."]:
    """The mask, which must hold booleans; everything counts when it is None."""
    return jnp.ones(shape, bool) if where is None else check_mask(where, name)


def masked_logits(
    logits: Float[Array, "*shape"],
    where: Bool[Array, "*shape"] | None,
    name: str = "logits",
) -> tuple[Float[Array, "*shape"], Bool[Array, "*shape"]]:
    """Logits in at least float32, 0 where they do not count, and which of them do.

    A logit of -inf is as if masked.
    """
    logits = at_least_f32(logits, name)
    where = mask_or_all(where, logits.shape) & (logits != -jnp.inf)
    return jnp.where(where, logits, 0), where


def labeled_rows(
    logits: Float[Array, "n m"], labels: Integer[Array, " n"], where: Bool[Array, "n m"]
) -> tuple[Float[Array, "n m"], Bool[Array, "n m"], Bool[Array, " n"]]:
    """Logits and mask without the rows whose label does not count, and which rows do.

    Nothing that stands in a row that drops out leaves a trace in a gradient.
    """
    counts = at_columns(where, labels)
    where = where & counts[:, None]
    return jnp.where(where, logits, 0), where, counts


def negative_log_softmax(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"],
    where: Bool[Array, "n m"],
    *,
    scale: Number = 1,
    margin: Number | Float[Array, " n"] = 0,
) -> Float[Array, " n"]:
    """Negative log-softmax of scale * logits at the label of each row.

        log( 1 + exp(margin) sum over others of exp(scale (logit - labeled logit)) )

    Differences come first, so that neither a number that all logits have in common nor
    a saturated row costs digits. The labeled entry itself always counts; the margin is
    in units of scale * logits.
    """
    gaps = scale * (logits - at_columns(logits, labels)[:, None])
    others = where & (labels[:, None] != jnp.arange(logits.shape[1])[None, :])
    return jax.nn.softplus(masked_logsumexp(gaps, others) + margin)


def log_subtract_exp(
    a: Float[Array, "*shape"], b: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """log(exp(a) - exp(b)); MASKED with gradient 0 where b is not below a."""
    below = ~(b >= a)  # NaN stays NaN
    gap = jnp.where(below, b - a, -1)
    return jnp.where(below, a + jnp.log(-jnp.expm1(gap)), MASKED)


def cholesky_whiten(
    x: Float[Array, "n d"],
    where: Bool[Array, " n"] | None = None,
    eps: Number = 0.0,
) -> Float[Array, "n d"]:
    """Cholesky whitening: rows with mean 0 and covariance 1.

        y = (x - mean) inverse(L)^T,  L L^T = (1 - eps) cov(x) + eps I

    The covariance divides by the rows that count minus 1. Gradients flow through the
    factor. With eps = 0 it needs more rows that count than columns. Where the
    covariance is singular, or rounding has made it so, a multiple of the identity at
    the level of rounding is added; equal rows become 0.

    Args:
      x: rows.
      where: rows that count; the others do not enter the statistics and return as 0.
      eps: shrinkage of the covariance towards the identity, in [0, 1].
    """
    where = mask_or_all(where, x.shape[:1])[:, None]
    centered = jnp.where(where, x - channel_means(x, where)[None, :], 0)
    # Squares of what is tiny or huge are 0 or infinite.
    size, small = unit_size(centered, eps)
    centered = centered / size
    count = jnp.maximum(jnp.sum(where) - 1, 1)
    covariance = jnp.matmul(centered.T, centered, precision="highest") / count
    identity = jnp.eye(x.shape[1], dtype=x.dtype)
    covariance = (1 - eps) * covariance + small * identity
    trace = jnp.trace(covariance)
    rounding = 10 * x.shape[1] * jnp.finfo(x.dtype).eps * trace
    lifted = covariance + jnp.where(trace == 0, 1, rounding) * identity
    pivots = jnp.diagonal(jnp.linalg.cholesky(covariance))
    regular = jnp.all(jnp.isfinite(pivots) & (pivots > 0))
    factor = jnp.linalg.cholesky(jnp.where(regular, covariance, lifted))
    solve = jax.scipy.linalg.solve_triangular
    return solve(factor, centered.T, lower=True).T


def channel_means(
    x: Float[Array, "n d"], where: Bool[Array, "n 1"]
) -> Float[Array, " d"]:
    """Mean of each channel over the rows that count, without rounding if all are equal.

    Otherwise what rounding leaves of a constant channel would be whitened to size 1.
    """
    mean = masked_mean(x, where, axis=0)
    least, most = masked_min(x, where, axis=0), -masked_min(-x, where, axis=0)
    exact = jnp.where(least == most, least, mean)
    return mean + jax.lax.stop_gradient(exact - mean)


def unit_size(
    x: Float[Array, "*shape"], eps: Number = 0.0
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The size of the largest entry, a power of 2, and eps / size^2.

    A constant to divide by before squares are taken, to which eps is added: the result
    is the same, but in the middle of the range. At least 1 where eps > 0, so that the
    second number stays finite.
    """
    x = jax.lax.stop_gradient(x)
    largest = jnp.max(jnp.abs(x))
    largest = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    size = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1] - 1)
    size = jnp.where(eps > 0, jnp.maximum(size, 1), size)
    # The square of a small size is 0 where there is no eps to divide by it.
    return size, eps / jnp.where(eps > 0, size * size, 1)


def reduce_terms(
    values: Float[Array, "n ..."],
    *,
    where: Bool[Array, "n ..."],
    weights: Shaped[Array, " n"] | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """`safe_reduce` over terms (pairs, triplets) of which each anchor has several.

    Args:
      values: one value per term; the first axis are anchors.
      where: terms that count.
      weights: one non-negative weight per anchor, shared by its terms.
      reduce_fn: reduction over all terms; None gives each anchor's sum, [n].
    """
    if weights is not None:
        per_term = weights.reshape(weights.shape + (1,) * (values.ndim - 1))
        weights = jnp.broadcast_to(per_term, values.shape)
    out = safe_reduce(values, where=where, weights=weights, reduce_fn=reduce_fn)
    return jnp.sum(out, axis=tuple(range(1, out.ndim))) if reduce_fn is None else out


def add_angle(
    cosines: Float[Array, "*shape"], angle: Number | Float[Array, "..."]
) -> Float[Array, "*shape"]:
    """Cosine of each angle plus a constant angle (radians), cos(arccos(x) + angle).

    Written with the addition theorem: at cosines of 1 and -1, where the arc cosine has
    no derivative, the sine is 0 with gradient 0.
    """
    angle = jnp.asarray(angle, cosines.dtype)
    sines = safe_sqrt((1 - cosines) * (1 + cosines))
    return cosines * jnp.cos(angle) - sines * jnp.sin(angle)


@jax.custom_jvp
def normal_cdf(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Distribution function of the standard normal.

    Its derivatives are formed from the density: those of `jax.lax.erfc` in jax 0.12
    fail inside `shard_map`.
    """
    return 0.5 * jax.lax.erfc(-x * np.sqrt(0.5).astype(x.dtype))


@normal_cdf.defjvp
def normal_cdf_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    density = jnp.exp(-0.5 * jnp.square(x)) * np.sqrt(0.5 / np.pi).astype(x.dtype)
    return normal_cdf(x), density * dx


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exact GELU: x Phi(x), as in BERT. Any derivative, inside `shard_map` too.

    References:
      Hendrycks & Gimpel 2016, arXiv:1606.08415, equation 1.

    Examples:
      >>> [round(x, 4) for x in gelu(jnp.array([-1.0, 0.0, 1.0])).tolist()]
      [-0.1587, 0.0, 0.8413]
    """
    return x * normal_cdf(x)


def hinge(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(0, x), with gradient 0 at 0 and, unlike `jax.nn.relu`, NaN at NaN."""
    return jnp.where(x <= 0, 0, x * jnp.sign(x))
