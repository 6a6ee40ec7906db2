"""Samplers for unnormalised models, with diagnostics, in the log domain throughout.

Weights: `self_normalized_weights`, `effective_sample_size`, `gumbel_argmax`,
`gumbel_top_n`, `importance_resample`. Chains: `langevin_step`, `langevin`. Starting
points that outlive a step: `ReplayBuffer`. `log_w` are log importance weights along the
last axis, log p(x) - log q(x) up to a constant; -inf is a weight of 0. A random key is
one for all rows, or one per row ([n]), which makes results independent of how rows are
split over devices (`parallel.example_keys`); `randomness.fold_keys` makes others of it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Key, PyTree, UInt

from contrastive_jax import numerics
from contrastive_jax.randomness import bernoulli, fold_keys, gumbel, normal

# From points [n, ...] to their unnormalised log-densities [n].
LogDensity = Callable[[Array], Array]


def self_normalized_weights(
    log_w: Float[Array, "*batch k"], *, where: Bool[Array, "*batch k"] | None = None
) -> Float[Array, "*batch k"]:
    """Importance weights that sum to 1 along the last axis.

        weight_j = exp(log_w_j) / sum_l exp(log_w_l)

    Where nothing counts, or every weight is 0, all are 0 (with gradient 0).

    Args:
      log_w: log importance weights; -inf is a weight of 0.
      where: entries that count; the others get weight 0.

    References:
      Owen 2013, Monte Carlo theory, methods and examples, section 9.2.

    Examples:
      >>> self_normalized_weights(jnp.array([7.0, 7.0, -jnp.inf]))
      Array([0.5, 0.5, 0. ], dtype=float32)
    """
    relative = relative_weights(log_w, where)
    total = jnp.sum(relative, axis=-1, keepdims=True)
    return relative / jnp.where(total == 0, 1, total)


def effective_sample_size(
    log_w: Float[Array, "*batch k"], *, where: Bool[Array, "*batch k"] | None = None
) -> Float[Array, "*batch"]:
    """How many equal weights would be worth as much as these.

        (sum_j w_j)^2 / sum_j w_j^2

    Between 1 (one weight has it all) and the number of entries that count (all are
    equal); 0 where nothing counts or every weight is 0. Below 2 the estimate rests on
    one sample: the noise does not cover the model.

    Args:
      log_w: log importance weights; -inf is a weight of 0.
      where: entries that count.

    References:
      Kong 1992, A note on importance sampling using standardized weights.

    Examples:
      >>> effective_sample_size(jnp.array([5.0, 5.0, -jnp.inf]))
      Array(2., dtype=float32)
    """
    relative = relative_weights(log_w, where)
    squares = jnp.sum(relative**2, axis=-1)
    return jnp.sum(relative, axis=-1) ** 2 / jnp.where(squares == 0, 1, squares)


def gumbel_argmax(
    rng: Key[Array, "*keys"],
    log_w: Float[Array, "*batch k"],
    *,
    where: Bool[Array, "*batch k"] | None = None,
) -> Integer[Array, "*batch"]:
    """One index per row, drawn in proportion to the weights.

        argmax_j (log_w_j + g_j),  g_j standard Gumbel

    Right down to weights of 1e-13 of the whole, so also among millions of rare ones.
    Where nothing counts, or every weight is 0, the index is 0.

    Args:
      rng: one key, or one per row of the first axis.
      log_w: log weights, up to a constant per row; -inf is never drawn.
      where: entries that can be drawn.

    Raises:
      ValueError: keys that are not one per row.

    References:
      Maddison et al. 2014, arXiv:1411.0030.

    Examples:
      >>> log_w = jnp.log(jnp.array([0.0, 1.0, 0.0]))
      >>> gumbel_argmax(jax.random.key(0), log_w)
      Array(1, dtype=int32)
    """
    return jnp.argmax(perturbed(rng, log_w, where), axis=-1)


def gumbel_top_n(
    rng: Key[Array, "*keys"] | None,
    log_w: Float[Array, "*batch k"],
    n: int,
    *,
    where: Bool[Array, "*batch k"] | None = None,
    noise: Float[Array, "*batch k"] | None = None,
) -> Integer[Array, "*batch n"]:
    """n different indices per row, drawn one after the other without replacement.

    The n largest of log_w_j + g_j (see `gumbel_argmax`), in that order. Entries that do
    not count or have weight 0 come last, after all others.

    Args:
      rng: one key, or one per row of the first axis; None where there is noise.
      log_w: log weights, up to a constant per row.
      n: how many, at most k.
      where: entries that can be drawn.
      noise: g, drawn before (`randomness.gumbel`).

    Raises:
      ValueError: keys that are not one per row; key and noise, or neither.

    References:
      Kool et al. 2019, arXiv:1903.06059.

    Examples:
      >>> log_w = jnp.array([0.0, -jnp.inf, 1.0])
      >>> sorted(gumbel_top_n(jax.random.key(0), log_w, 2).tolist())
      [0, 2]
    """
    if not 1 <= n <= log_w.shape[-1]:
        raise ValueError(f"n: expected 1 to {log_w.shape[-1]}, got {n}")
    if (rng is None) == (noise is None):
        raise ValueError("noise: expected either a key or noise, got both or neither")
    return jax.lax.top_k(perturbed(rng, log_w, where, noise), n)[1]


class ResampleInfo(NamedTuple):
    """What a resampling rested on.

    Attributes:
      effective_sample_size: see the function; below 2 the copies are of one sample.
      largest_weight: the largest self-normalised weight.
      indices: where each copy came from.
    """

    effective_sample_size: Float[Array, ""]
    largest_weight: Float[Array, ""]
    indices: Integer[Array, " num"]


def importance_resample(
    rng: Key[Array, ""],
    samples: PyTree,
    log_w: Float[Array, " k"],
    *,
    num: int,
    method: Literal["systematic", "multinomial"] = "systematic",
    where: Bool[Array, " k"] | None = None,
) -> tuple[PyTree, ResampleInfo]:
    """Samples of the noise turned into samples of the model: copies by weight.

    Sample j is copied num weight_j times on average, to within 2^-32. Samples of weight
    0 are never copied; where nothing counts, or every weight is 0, the first sample is.

    Args:
      rng: random key.
      samples: a tree of arrays with k rows.
      log_w: log importance weights of the rows.
      num: rows of the result, >= 1.
      method: "systematic" spreads one uniform number over all copies (less variance:
        num weight_j rounded up or down); "multinomial" draws each copy by itself.
      where: rows that count.

    Returns:
      the tree with num rows, and its `ResampleInfo`.

    References:
      Rubin 1988, Using the SIR algorithm to simulate posterior distributions; Kitagawa
      1996, Monte Carlo filter and smoother, section 4.

    Examples:
      >>> log_w = jnp.log(jnp.array([0.5, 0.0, 0.5]))
      >>> rows, info = importance_resample(
      ...     jax.random.key(0), jnp.array([1.0, 2.0, 3.0]), log_w, num=4
      ... )
      >>> rows.tolist(), float(info.effective_sample_size)
      ([1.0, 1.0, 3.0, 3.0], 2.0)
    """
    if method not in ("systematic", "multinomial"):
        raise ValueError(
            f'method: expected "systematic" or "multinomial", got {method!r}'
        )
    numerics.check_positive(num=num)
    numerics.check_shapes(log_w=(log_w, "k"), where=(where, "k"))
    for path, x in jax.tree_util.tree_leaves_with_path(samples):
        if jnp.ndim(x) == 0 or len(x) != len(log_w):
            raise ValueError(
                f"samples{jax.tree_util.keystr(path)}: expected {len(log_w)} rows as "
                f"in log_w, got shape {list(jnp.shape(x))}"
            )
    weights = self_normalized_weights(log_w, where=where)
    # Points in [0, num): whole numbers beside 32 binary digits.
    if method == "systematic":
        whole, digits = jnp.arange(num), jax.random.bits(rng)
    else:
        whole = jax.random.randint(jax.random.fold_in(rng, 0), (num,), 0, num)
        digits = jax.random.bits(jax.random.fold_in(rng, 1), (num,))
    at = whole, jnp.broadcast_to(digits, (num,))
    indices = jnp.sort(first_above(cumulative(weights, num), at))
    last = jnp.max(jnp.where(weights > 0, jnp.arange(len(log_w)), 0))
    indices = jnp.minimum(indices, last)
    info = ResampleInfo(
        effective_sample_size(log_w, where=where), jnp.max(weights), indices
    )
    return jax.tree.map(lambda x: x[indices], samples), info


@chex.dataclass(frozen=True)
class Chains:
    """Langevin chains, one per row.

    Attributes:
      x: where they are.
      step: steps they have made; folded into the keys.
    """

    x: Float[Array, "n ..."]
    step: Integer[Array, ""]


class LangevinInfo(NamedTuple):
    """One value per chain and step (the mean over steps from `langevin`).

    Attributes:
      log_density: of the point before the step.
      gradient_norm: of the log-density there, before clipping.
      step_norm: distance moved.
      accepted: 1 where the proposal was taken, 0 where not; 1 without adjustment.
    """

    log_density: Float[Array, " n"]
    gradient_norm: Float[Array, " n"]
    step_norm: Float[Array, " n"]
    accepted: Float[Array, " n"]


def langevin_init(x: Float[Array, "n ..."]) -> Chains:
    """Chains that start at the rows of x.

    Examples:
      >>> langevin_init(jnp.zeros((3, 2))).step
      Array(0, dtype=int32)
    """
    return Chains(x=numerics.at_least_f32(x), step=jnp.zeros((), jnp.int32))


def langevin_step(
    rng: Key[Array, "*keys"],
    state: Chains,
    log_density: LogDensity,
    *,
    step_size: float | Array,
    noise_std: float | Array | None = None,
    clip: float | Array | None = None,
    bounds: tuple[float, float] | None = None,
    adjusted: bool = False,
) -> tuple[Chains, LangevinInfo]:
    """One Langevin step of every chain.

        x' = x + step_size grad log p(x) + noise_std z,  z standard normal

    With noise_std = sqrt(2 step_size), the default, and small steps the chains sample
    p; smaller noise is the sharper, biased sampler that image models are trained with.
    `adjusted` takes the proposal with probability min(1, p(x') q(x | x') / (p(x)
    q(x' | x))), which removes the bias of the step size.

    Args:
      rng: one key, or one per chain; the number of the step is folded in.
      state: where the chains are.
      log_density: unnormalised log-density of points [n, ...].
      step_size: factor of the gradient, > 0.
      noise_std: standard deviation of the noise, >= 0; sqrt(2 step_size) when None.
      clip: largest norm of a chain's gradient, > 0; not clipped when None.
      bounds: interval that all coordinates are clipped to.
      adjusted: whether proposals are tested (Metropolis-Hastings).

    Raises:
      ValueError: adjustment together with another noise, clipping or bounds, keys that
        are not one per chain.

    References:
      Roberts and Tweedie 1996, Exponential convergence of Langevin distributions; Du
      and Mordatch 2019, arXiv:1903.08689, section 3 (training energy models).

    Examples:
      >>> chains = langevin_init(jnp.array([[4.0]]))
      >>> chains, info = langevin_step(
      ...     jax.random.key(0),
      ...     chains,
      ...     lambda x: -jnp.sum(x**2, axis=-1) / 2,
      ...     step_size=0.25,
      ...     noise_std=0.0,
      ... )
      >>> chains.x.tolist(), info.gradient_norm.tolist()
      ([[3.0]], [4.0])
    """
    numerics.check_positive(step_size=step_size)
    if adjusted and not (noise_std is None and clip is None and bounds is None):
        raise ValueError("adjusted: expected no noise_std, clip or bounds beside it")
    std = (2 * step_size) ** 0.5 if noise_std is None else noise_std
    if not isinstance(std, jax.core.Tracer) and not std >= 0:
        raise ValueError(f"noise_std: expected a number >= 0, got {noise_std}")
    if clip is not None:
        numerics.check_positive(clip=clip)
    x = state.x
    log_p, gradient = value_and_gradient(log_density, x)
    norm = per_row(numerics.safe_norm, gradient)
    drift = gradient
    if clip is not None:
        shrink = jnp.minimum(1, clip / jnp.maximum(norm, clip))
        drift = gradient * as_rows(shrink, x)
    keys = fold_keys(rng, state.step)
    noise = normal(fold_keys(keys, 0), x.shape, x.dtype)
    proposal = x + step_size * drift + std * noise
    if bounds is not None:
        proposal = jnp.clip(proposal, *bounds)
    accepted = jnp.ones(len(x), x.dtype)
    if adjusted:
        new_log_p, new_gradient = value_and_gradient(log_density, proposal)
        back = x - proposal - step_size * new_gradient
        reverse = -per_row(sum_of_squares, back) / (4 * step_size)
        forward = -per_row(sum_of_squares, noise) / 2
        log_ratio = new_log_p + reverse - log_p - forward
        chance = jnp.exp(jnp.minimum(log_ratio, 0))
        taken = bernoulli(fold_keys(keys, 1), chance)
        accepted = taken.astype(x.dtype)
        proposal = jnp.where(as_rows(taken, x), proposal, x)
    moved = per_row(numerics.safe_norm, proposal - x)
    info = LangevinInfo(log_p, norm, moved, accepted)
    return dataclasses.replace(state, x=proposal, step=state.step + 1), info


def langevin(
    rng: Key[Array, "*keys"],
    state: Chains,
    log_density: LogDensity,
    *,
    num_steps: int,
    **options: Any,
) -> tuple[Chains, LangevinInfo]:
    """`num_steps` Langevin steps of every chain; no gradient passes.

    Args:
      rng: one key, or one per chain.
      state: where the chains are.
      log_density: unnormalised log-density of points [n, ...].
      num_steps: how many, >= 1.
      **options: see `langevin_step`.

    Returns:
      the chains, and the diagnostics averaged over the steps.

    References:
      See `langevin_step`.

    Examples:
      >>> chains, info = langevin(
      ...     jax.random.key(0),
      ...     langevin_init(jnp.zeros((500, 1))),
      ...     lambda x: -jnp.sum((x - 3) ** 2, axis=-1) / 2,
      ...     num_steps=100,
      ...     step_size=0.1,
      ... )
      >>> bool(abs(jnp.mean(chains.x) - 3) < 0.2)
      True
    """
    numerics.check_positive(num_steps=num_steps)

    def body(chains, _):
        return langevin_step(rng, chains, log_density, **options)

    state, infos = jax.lax.scan(body, state, length=num_steps)
    infos = jax.tree.map(lambda x: jnp.mean(x, axis=0), infos)
    return jax.lax.stop_gradient((state, infos))


@chex.dataclass(frozen=True)
class ReplayBuffer:
    """Points where chains ended, to start later ones from.

    Attributes:
      x: the points.
      age: per point, how often a chain has gone on from it since its fresh start.
    """

    x: Float[Array, "k ..."]
    age: Integer[Array, " k"]


class Draw(NamedTuple):
    """Starting points of chains, and where they belong in the buffer.

    Attributes:
      x: the starting points.
      slots: their rows in the buffer, all different.
      age: 0 for fresh ones.
    """

    x: Float[Array, "n ..."]
    slots: Integer[Array, " n"]
    age: Integer[Array, " n"]


def replay_init(x: Float[Array, "k ..."]) -> ReplayBuffer:
    """A buffer that holds the rows of x, all fresh.

    Examples:
      >>> replay_init(jnp.zeros((4, 2))).age
      Array([0, 0, 0, 0], dtype=int32)
    """
    return ReplayBuffer(x=numerics.at_least_f32(x), age=jnp.zeros(len(x), jnp.int32))


def replay_draw(
    rngs: Key[Array, " n"],
    buffer: ReplayBuffer,
    fresh: Float[Array, "n ..."],
    *,
    rows: Integer[Array, " n"],
    total: int,
    fresh_rate: float | Array = 0.05,
) -> Draw:
    """A starting point for each of n chains: from the buffer, or now and then fresh.

    The buffer is cut into `total` blocks, equal or, where the sizes do not divide, with
    one row more in the first ones; chain i draws one of the rows of block i, so no two
    chains get the same row, on one device or on many. A row that is not finite (a chain
    diverged) is never drawn: that chain starts fresh.

    Args:
      rngs: one key per chain.
      buffer: where to draw from, at least `total` rows.
      fresh: a fresh starting point per chain, used at a rate of `fresh_rate`.
      rows: numbers of the chains among those of all devices (`parallel.global_rows`).
      total: chains on all devices together.
      fresh_rate: in [0, 1].

    Raises:
      ValueError: a buffer of fewer rows than chains.

    References:
      Du and Mordatch 2019, arXiv:1903.08689, section 3.2; Tieleman 2008, Training
      restricted Boltzmann machines using approximations to the likelihood gradient.

    Examples:
      >>> buffer = replay_init(jnp.arange(4.0)[:, None])
      >>> rngs = jax.random.split(jax.random.key(0), 2)
      >>> draw = replay_draw(
      ...     rngs, buffer, jnp.zeros((2, 1)), rows=jnp.arange(2), total=2
      ... )
      >>> [int(s) // 2 for s in draw.slots]
      [0, 1]
    """
    numerics.check_fraction(fresh_rate=fresh_rate)
    size = len(buffer.x)
    if fresh.shape[1:] != buffer.x.shape[1:] or len(rows) != len(fresh):
        raise ValueError(
            f"fresh: expected shape {[len(rows), *buffer.x.shape[1:]]}, got "
            f"{list(fresh.shape)}"
        )
    if not 1 <= total <= size:
        raise ValueError(
            f"total: expected 1 to {size} (rows of the buffer), got {total}"
        )

    least, longer = divmod(size, total)

    def draw_one(rng, row):
        within, renew = jax.random.split(rng)
        place = jax.random.randint(within, (), 0, least + (row < longer))
        slot = row * least + jnp.minimum(row, longer) + place
        return slot, bernoulli(renew, jnp.asarray(fresh_rate, float))

    slots, renewed = jax.vmap(draw_one)(rngs, rows)
    renewed |= ~finite_rows(buffer.x[slots])
    x = jnp.where(as_rows(renewed, fresh), fresh, buffer.x[slots])
    return Draw(x, slots, jnp.where(renewed, 0, buffer.age[slots]))


def replay_update(buffer: ReplayBuffer, draw: Draw) -> ReplayBuffer:
    """The buffer with the ends of chains in the rows they were drawn for.

    With data parallelism hand in the draws of all devices (`parallel.all_gather`), so
    that the copies of the buffer stay equal. No gradient passes. Of a chain whose end
    is not finite the row stays as it was, age included.

    Args:
      buffer: the buffer before.
      draw: the draw with `x` replaced by where the chains ended.

    Examples:
      >>> buffer = replay_init(jnp.zeros((2, 1)))
      >>> draw = Draw(jnp.array([[7.0]]), jnp.array([1]), jnp.array([0]))
      >>> replay_update(buffer, draw).x.tolist()
      [[0.0], [7.0]]
    """
    x = jax.lax.stop_gradient(draw.x).astype(buffer.x.dtype)
    ended, age = finite_rows(x), draw.age.astype(buffer.age.dtype) + 1
    x = jnp.where(as_rows(ended, x), x, buffer.x[draw.slots])
    age = jnp.where(ended, age, buffer.age[draw.slots])
    return dataclasses.replace(
        buffer,
        x=buffer.x.at[draw.slots].set(x, unique_indices=True),
        age=buffer.age.at[draw.slots].set(age, unique_indices=True),
    )


def checked_weights(
    log_w: Array, where: Array | None
) -> tuple[Float[Array, "*batch k"], Bool[Array, "*batch k"]]:
    """Log weights in at least float32, and which of them count and are above 0."""
    log_w = numerics.at_least_f32(log_w, "log_w")
    if log_w.ndim == 0 or log_w.shape[-1] == 0:
        raise ValueError(
            f"log_w: expected at least one weight, got shape {list(log_w.shape)}"
        )
    if where is not None and jnp.shape(where) != log_w.shape:
        raise ValueError(
            f"where: expected shape {list(log_w.shape)}, got {list(jnp.shape(where))}"
        )
    where = numerics.mask_or_all(where, log_w.shape)
    return log_w, where & (log_w != -jnp.inf)


def relative_weights(log_w: Array, where: Array | None) -> Float[Array, "*batch k"]:
    """Weights relative to the largest of each row; 0 where they do not count."""
    log_w, where = checked_weights(log_w, where)
    gap = jnp.where(where, log_w - numerics.largest(log_w, where), -1)
    return jnp.where(where, jnp.exp(gap), 0)


def perturbed(
    rng: Any, log_w: Array, where: Array | None, noise: Any = None
) -> Float[Array, "..."]:
    """Log weights plus Gumbel noise; MASKED where nothing can be drawn."""
    log_w, where = checked_weights(log_w, where)
    if noise is None:
        noise = gumbel(rng, log_w.shape, log_w.dtype)
    # The noise loses no digits to an offset that all weights of a row share.
    noise = numerics.at_least_f32(noise, "noise")
    return jnp.where(
        where, log_w - numerics.largest(log_w, where) + noise, numerics.MASKED
    )


# A number >= 0 in fixed point: the whole number, int32, and 32 binary digits, uint32.
# Sums of these are exact, whereas float32 has lost all fractions at 2^24.
Fixed = tuple[Integer[Array, "..."], UInt[Array, "..."]]


def fixed_point(x: Float[Array, "*shape"]) -> Fixed:
    """A number of either sign as the whole number below it and the rest."""
    whole = jnp.floor(x)
    rest = jnp.clip(x - whole, 0, 1 - 2.0**-24)  # fused, x may be rounded otherwise
    return whole.astype(jnp.int32), (rest * 2.0**32).astype(jnp.uint32)


def add(a: Fixed, b: Fixed) -> Fixed:
    """Sum in fixed point."""
    digits = a[1] + b[1]
    return a[0] + b[0] + (digits < a[1]), digits


def cumulative(weights: Float[Array, " k"], num: int) -> Fixed:
    """Sums of num times the weights up to each row; the last one is num."""
    whole, digits = fixed_point(weights * num)
    below = jnp.cumsum(digits, dtype=jnp.uint32)
    carry = below < digits
    sums = jnp.cumsum(whole + carry, dtype=jnp.int32), below
    # What rounding the weights has left over is taken back evenly.
    excess = (sums[0][-1] - num) + sums[1][-1] * 2.0**-32
    share = (sums[0] + sums[1] * 2.0**-32) / num
    return add(sums, fixed_point(-excess * share))


def first_above(sums: Fixed, at: Fixed) -> Integer[Array, " num"]:
    """The first row whose sum is above each point; the last row where none is."""
    k = len(sums[0])

    def halve(_, ends):
        low, high = ends
        middle = (low + high) // 2
        whole, digits = sums[0][middle], sums[1][middle]
        above = (whole > at[0]) | ((whole == at[0]) & (digits > at[1]))
        return jnp.where(above, low, middle + 1), jnp.where(above, middle, high)

    ends = jnp.zeros_like(at[0]), jnp.full_like(at[0], k - 1)
    return jax.lax.fori_loop(0, k.bit_length(), halve, ends)[1]


def value_and_gradient(log_density: LogDensity, x: Array) -> tuple[Array, Array]:
    """Log-densities [n] of points and the gradient of each by its own point."""

    def total(x):
        log_p = log_density(x)
        return jnp.sum(log_p), log_p

    gradient, log_p = jax.grad(total, has_aux=True)(x)
    return log_p, gradient


def per_row(reduce: Callable[[Array], Array], x: Array) -> Float[Array, " n"]:
    """A reduction of the last axis, over all that belongs to a row."""
    return reduce(x.reshape(len(x), -1))


def sum_of_squares(x: Array) -> Array:
    """Sum of squares along the last axis."""
    return jnp.sum(x * x, axis=-1)


def finite_rows(x: Array) -> Bool[Array, " n"]:
    """Rows without NaN or infinity."""
    return jnp.all(jnp.isfinite(x.reshape(len(x), -1)), axis=1)


def as_rows(values: Array, x: Array) -> Array:
    """One value per row, shaped to multiply x."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))
