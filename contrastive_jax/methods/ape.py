"""APE (Chen et al. 2016): an energy of categorical events, and the noise it needs.

An event is one entity of each of m types. Entities of type i are numbered from 0 to
n_i - 1; `offsets[i]` is the row of the first of them in the arrays that all types
share, such as embeddings [N, d] with N the sum of the n_i. The loss is `ebm.binary_nce`
(or `negative_sampling`) of `ape_score` on events and on their mixtures with noise.
"""

import math
from collections.abc import Sequence

import chex
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key, Shaped

from contrastive_jax import numerics
from contrastive_jax.ebm.noise import Numbers, alias_table, check_counts, powers
from contrastive_jax.randomness import bernoulli

__all__ = [
    "EventNoise",
    "ape_log_partition",
    "ape_score",
    "apply_replacement",
    "check_events",
    "event_log_noise",
    "event_noise",
    "inject_anomalies",
    "sample_context_noise",
    "sample_independent_noise",
]


@chex.dataclass(frozen=True)
class EventNoise:
    """Noise over the entities of every type, ready to be drawn on device.

    Attributes:
      offsets: row of the first entity of each type.
      sizes: entities of each type, n_i.
      keep: chance that the entity of a uniformly chosen row is taken as it is.
      alias: entity (number within its type) that is taken instead.
      log_probs: log-probability of each entity within its type, for the loss.
    """

    offsets: Integer[Array | np.ndarray, " m"]
    sizes: Integer[Array | np.ndarray, " m"]
    keep: Float[Array | np.ndarray, " n"]
    alias: Integer[Array | np.ndarray, " n"]
    log_probs: Float[Array | np.ndarray, " n"]


def event_noise(
    counts: Sequence[Shaped[np.ndarray, "_"]],
    *,
    sample_power: float = 0.75,
    score_power: float = 1.0,
    floor: float = 1e-12,
) -> EventNoise:
    """The noise of every type from the counts of its entities, built on the host.

    Entities that never occurred are never drawn; `log_probs` gives them log(floor)
    instead of minus infinity.

    Args:
      counts: for every type, occurrences of its entities.
      sample_power: power of the counts that entities are drawn by.
      score_power: power of the counts whose probabilities enter the loss. Estimation is
        consistent when it equals `sample_power`; the defaults are those of the paper's
        code, which are not.
      floor: least probability that enters the loss.

    Raises:
      ValueError: a type without entities, or none of whose entities occurred.

    References:
      Chen et al. 2016, arXiv:1608.07502, section 3.2.

    Examples:
      >>> noise = event_noise([np.array([3, 1]), np.array([7])], score_power=1.0)
      >>> noise.offsets.tolist(), np.exp(noise.log_probs).round(2).tolist()
      ([0, 2], [0.75, 0.25, 1.0])
    """
    if not counts:
        raise ValueError("counts: expected one array per type, got none")
    numerics.check_positive(floor=floor)
    parts = []
    for i, each in enumerate(counts):
        numerics.check_shapes(**{f"counts of type {i}": (each, "n")})
        check_counts(each, f"counts of type {i}")
        known = np.asarray(each, np.float64)
        drawn, scored = (
            powers(np, known, power) for power in (sample_power, score_power)
        )
        log_probs = np.log(np.maximum(scored / np.sum(scored), floor))
        parts.append((*alias_table(drawn), log_probs))
    keep, alias, log_probs = map(np.concatenate, zip(*parts, strict=True))
    sizes = np.array([len(each) for each in counts], np.int32)
    return EventNoise(
        offsets=(np.cumsum(sizes) - sizes).astype(np.int32),
        sizes=sizes,
        keep=keep,
        alias=alias,
        log_probs=log_probs.astype(np.float32),
    )


def draw_entities(
    rng: Key[Array, ""],
    type_index: Integer[Array, ""] | int,
    noise: EventNoise,
    number: int,
) -> Integer[Array, " k"]:
    """Entities of one type drawn from its noise, each in constant time.

    Args:
      rng: random key.
      type_index: the type; may be traced.
      noise: where to draw from.
      number: how many.
    """
    row_rng, keep_rng = jax.random.split(rng)
    size, offset = (jnp.asarray(x)[type_index] for x in (noise.sizes, noise.offsets))
    entity = jax.random.randint(row_rng, (number,), 0, size)
    row = offset + entity
    stays = bernoulli(keep_rng, jnp.asarray(noise.keep)[row])
    return jnp.where(stays, entity, jnp.asarray(noise.alias)[row])


def sample_context_noise(
    rngs: Key[Array, " n"],
    type_index: Integer[Array, ""] | Integer[Array, " n"] | int,
    noise: EventNoise,
    *,
    num_negatives: int,
) -> Integer[Array, "n k"]:
    """Replacements for one entity of each event, all else of the event being kept.

    A draw may equal the entity that it replaces. A type with one entity gives that
    entity.

    Args:
      rngs: one random key per event.
      type_index: the type to replace, of all events or of each; may be traced.
      noise: where replacements are drawn from.
      num_negatives: replacements per event, k.

    Raises:
      ValueError: no negatives, a type that is not there (as far as it is known).

    References:
      Chen et al. 2016, arXiv:1608.07502, section 3.2.

    Examples:
      >>> noise = event_noise([np.array([3, 1]), np.array([7])])
      >>> rngs = jax.random.split(jax.random.key(0), 2)
      >>> sample_context_noise(rngs, 1, noise, num_negatives=3).tolist()
      [[0, 0, 0], [0, 0, 0]]
    """
    check_number(num_negatives)
    type_index = check_type(type_index, len(noise.sizes))
    return jax.vmap(lambda rng, i: draw_entities(rng, i, noise, num_negatives))(
        rngs, jnp.broadcast_to(type_index, rngs.shape)
    )


def sample_independent_noise(
    rngs: Key[Array, " n"], noise: EventNoise, *, num_negatives: int
) -> Integer[Array, "n k m"]:
    """Events whose entities are all drawn, each from the noise of its type.

    Args:
      rngs: one random key per example.
      noise: where entities are drawn from.
      num_negatives: events per example, k.

    Raises:
      ValueError: no negatives.

    Examples:
      >>> noise = event_noise([np.array([3, 1]), np.array([7])])
      >>> rngs = jax.random.split(jax.random.key(0), 4)
      >>> sample_independent_noise(rngs, noise, num_negatives=3).shape
      (4, 3, 2)
    """
    check_number(num_negatives)
    types = jnp.arange(len(noise.sizes))

    def draw(rng):
        each = jax.vmap(lambda rng, i: draw_entities(rng, i, noise, num_negatives))
        return each(jax.random.split(rng, len(types)), types).T

    return jax.vmap(draw)(rngs)


def apply_replacement(
    events: Integer[Numbers, "n m"],
    type_index: Integer[Array, ""] | Integer[Array, " n"] | int,
    replacements: Integer[Numbers, "n k"],
) -> Integer[Array, "n k m"]:
    """Every event with its entity of one type replaced, once per replacement.

    Args:
      events: entities of each type.
      type_index: the type to replace, of all events or of each; may be traced.
      replacements: the new entities.

    Raises:
      ValueError: a type that is not there.

    Examples:
      >>> apply_replacement(jnp.array([[4, 5]]), 1, jnp.array([[7, 8]])).tolist()
      [[[4, 7], [4, 8]]]
    """
    size = numerics.check_shapes(
        events=(events, "n m"), replacements=(replacements, "n k")
    )
    events = numerics.check_integer(events, "events")
    replacements = numerics.check_integer(replacements, "replacements")
    type_index = jnp.broadcast_to(check_type(type_index, size["m"]), (size["n"],))
    mine = type_index[:, None] == jnp.arange(size["m"])[None, :]
    return jnp.where(mine[:, None, :], replacements[:, :, None], events[:, None, :])


def event_log_noise(
    events: Integer[Numbers, "*batch m"],
    type_index: Integer[Array, "*batch"] | Integer[Array, ""] | int | None,
    log_probs: Float[Numbers, " n"],
    *,
    offsets: Integer[Numbers, " m"],
) -> Float[Array, "*batch"]:
    """Log-probability of events under the noise.

        log q(e) = log P_i(e_i)            the entity of type i was replaced
        log q(e) = sum_i log P_i(e_i)      all were, with type_index None

    In the first case the probability of the context is left out: it is the same for an
    event and for its replacements, so the constant of the model absorbs it.

    Args:
      events: entities of each type.
      type_index: the type that was replaced, of all or of each; None for all types.
      log_probs: log-probability of each entity, as in `EventNoise`.
      offsets: row of the first entity of each type.

    Raises:
      ValueError: entities or a type out of range.

    Examples:
      >>> log_probs = jnp.log(jnp.array([0.75, 0.25, 1.0]))
      >>> events, offsets = jnp.array([[1, 0]]), jnp.array([0, 2])
      >>> jnp.exp(event_log_noise(events, 0, log_probs, offsets=offsets)).tolist()
      [0.25]
    """
    log_probs = numerics.at_least_f32(log_probs, "log_probs")
    each = take_rows(events, log_probs, offsets, "log_probs")
    if type_index is None:
        return jnp.sum(each, axis=-1)
    type_index = check_type(type_index, each.shape[-1])
    picked = jnp.broadcast_to(type_index, each.shape[:-1])[..., None]
    return jnp.take_along_axis(each, picked, axis=-1)[..., 0]


def ape_score(
    events: Integer[Numbers, "*batch m"],
    embeddings: Float[Numbers, "n d"],
    pair_weights: Float[Numbers, " p"] | None = None,
    *,
    offsets: Integer[Numbers, " m"],
    bias: int | float | Float[Numbers, ""] = 0.0,
    where: Bool[Numbers, "*batch m"] | None = None,
) -> Float[Array, "*batch"]:
    """Unnormalised log-probability of events by the affinities of their entities.

        S(e) = sum over i < j of w_ij <v_i, v_j> + bias,   v_i = embeddings[row of e_i]

    High for usual events; its negative is an anomaly score. The bias stands for minus
    the log-partition and changes no order.

    Args:
      events: entities of each type, m at least 2. Where values are known those out of
        range raise; a traced one gives NaN, never another entity's embedding.
      embeddings: one row per entity of all types.
      pair_weights: weights of the m (m - 1) / 2 pairs, in the order (0, 1), (0, 2), ...
        (1, 2), ...; 1 when None.
      offsets: row of the first entity of each type.
      bias: constant that is added.
      where: entities that count. The pairs of one that does not are left out, so
        an event of one entity has the score `bias`; its number may be anything (-1 for
        an entity that was never seen).

    Raises:
      ValueError: one type only, entities out of range.

    References:
      Chen et al. 2016, arXiv:1608.07502, eq. 2 and 3.

    Examples:
      >>> embeddings = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
      >>> events, offsets = jnp.array([[0, 0], [1, 0]]), jnp.array([0, 2])
      >>> ape_score(events, embeddings, offsets=offsets).tolist()
      [2.0, 3.0]
    """
    embeddings = numerics.at_least_f32(embeddings, "embeddings")
    numerics.check_shapes(embeddings=(embeddings, "n d"))
    m = np.shape(events)[-1] if np.ndim(events) else 0
    if m < 2:
        raise ValueError(
            "events: expected shape [..., m] with m >= 2 (one type has no pairs), got "
            f"shape {list(np.shape(events))}"
        )
    pairs = m * (m - 1) // 2
    if pair_weights is None:
        pair_weights = jnp.ones(pairs, embeddings.dtype)
    pair_weights = numerics.at_least_f32(pair_weights, "pair_weights")
    if pair_weights.shape != (pairs,):
        raise ValueError(
            f"pair_weights: expected shape [{pairs}] for m = {m} types, got shape "
            f"{list(pair_weights.shape)}"
        )
    if where is not None:
        where = numerics.check_mask(where, "where")
        if where.shape != np.shape(events):
            raise ValueError(
                f"where: expected shape {list(np.shape(events))} (from events), got "
                f"shape {list(where.shape)}"
            )
        events = jnp.where(where, numerics.check_integer(events, "events"), 0)
    v = take_rows(events, embeddings, offsets, "embeddings")
    v = v if where is None else jnp.where(where[..., None], v, 0)
    above = jnp.zeros((m, m), pair_weights.dtype)
    above = above.at[np.triu_indices(m, 1)].set(pair_weights)
    partners = jnp.einsum("ij,...jd->...id", above, v, precision="highest")
    return jnp.sum(v * partners, axis=(-2, -1)) + bias


def ape_log_partition(
    embeddings: Float[Numbers, "n d"],
    pair_weights: Float[Numbers, " p"] | None = None,
    *,
    offsets: Integer[Numbers, " m"],
    max_events: int = 1_000_000,
) -> Float[Array, "*scalar"]:
    """Exact log of the sum of exp(S(e)) over all possible events, by enumeration.

    For checks on small sets of entities: it scores the product of all n_i events.

    Args:
      embeddings: one row per entity of all types.
      pair_weights: as for `ape_score`, whose bias counts as 0.
      offsets: row of the first entity of each type; values must be known.
      max_events: how many events may be scored.

    Raises:
      ValueError: more events than that.

    Examples:
      >>> embeddings, offsets = jnp.zeros((5, 3)), np.array([0, 2])
      >>> f"{jnp.exp(ape_log_partition(embeddings, offsets=offsets)):.1f}"
      '6.0'
    """
    sizes = np.diff(np.append(np.asarray(offsets), np.shape(embeddings)[0]))
    number = math.prod(sizes.tolist())
    if number > max_events:
        raise ValueError(f"embeddings: {number} events, max_events is {max_events}")
    events = np.stack(np.unravel_index(np.arange(number), sizes), axis=-1)
    return jax.nn.logsumexp(
        ape_score(events, embeddings, pair_weights, offsets=offsets)
    )


def inject_anomalies(
    rng: Key[Array, ""],
    events: Integer[Numbers, "n m"],
    sizes: Integer[Numbers, " m"] | Sequence[int],
    *,
    num_changed: int,
) -> Integer[Array, "n m"]:
    """Events with some entities replaced by others of their types.

    For each event `num_changed` types are chosen evenly among those with two entities
    or more; each of their entities becomes another one, all others being equally
    likely.

    Args:
      rng: random key.
      events: entities of each type.
      sizes: entities of each type, n_i; values must be known.
      num_changed: entities to replace in every event.

    Raises:
      ValueError: entities out of range, fewer types that can change than `num_changed`.

    References:
      Chen et al. 2016, arXiv:1608.07502, section 4.

    Examples:
      >>> events = jnp.array([[0, 1, 0], [0, 0, 0]])
      >>> sizes = [1, 2, 2]
      >>> inject_anomalies(jax.random.key(0), events, sizes, num_changed=2).tolist()
      [[0, 0, 1], [0, 1, 1]]
    """
    sizes = np.asarray(sizes)
    numerics.check_shapes(events=(events, "n m"), sizes=(sizes, "m"))
    check_events(events, sizes)
    able = int(np.sum(sizes > 1))
    if not 1 <= num_changed <= able:
        raise ValueError(
            f"num_changed: expected 1 to {able} (types with two entities or more), got "
            f"{num_changed}"
        )
    events = jnp.asarray(events)
    which_rng, shift_rng = jax.random.split(rng)
    rank = jax.random.uniform(which_rng, events.shape)
    rank = jnp.where(jnp.asarray(sizes > 1)[None], rank, 2.0)
    chosen = jnp.argsort(jnp.argsort(rank, axis=1), axis=1) < num_changed
    most = jnp.asarray(np.maximum(sizes, 2))[None]
    shift = jax.random.randint(shift_rng, events.shape, 1, most)
    moved = (events + shift) % jnp.asarray(sizes)[None]
    return jnp.where(chosen, moved, events).astype(events.dtype)


def check_events(
    events: Integer[Numbers, "*batch m"], sizes: Integer[Numbers, " m"] | Sequence[int]
) -> None:
    """Checks that every entity is one of its type. Traced values pass.

    Raises:
      TypeError: events that are no integers.
      ValueError: naming the type, what came and what was expected.

    Examples:
      >>> check_events(np.array([[0, 4]]), [2, 3])
      Traceback (most recent call last):
      ...
      ValueError: events: type 1 has entities 0 to 2, got 4
    """
    if isinstance(events, jax.core.Tracer) or isinstance(sizes, jax.core.Tracer):
        return
    events, sizes = np.asarray(events), np.asarray(sizes)
    if events.dtype.kind not in "iu":
        raise TypeError(f"events: expected integers, got {events.dtype}")
    if events.ndim < 1 or events.shape[-1] != len(sizes):
        raise ValueError(
            f"events: expected shape [..., {len(sizes)}], got shape "
            f"{list(events.shape)}"
        )
    wrong = (events < 0) | (events >= sizes)
    if wrong.any():
        where = tuple(np.argwhere(wrong)[0])
        i = int(where[-1])
        raise ValueError(
            f"events: type {i} has entities 0 to {sizes[i] - 1}, got {events[where]}"
        )


def check_number(num_negatives: int) -> None:
    """Checks that there is a negative.

    Raises:
      ValueError: there is none.
    """
    if num_negatives < 1:
        raise ValueError(f"num_negatives: expected at least 1, got {num_negatives}")


def check_type(type_index: Array | np.ndarray | int, m: int) -> Integer[Array, "..."]:
    """The type as an array, which must hold one of m types; traced values pass.

    Raises:
      TypeError: no integer.
      ValueError: out of range.
    """
    if not isinstance(type_index, jax.core.Tracer):
        known = np.asarray(type_index)
        if known.dtype.kind in "iu" and not np.all((known >= 0) & (known < m)):
            raise ValueError(f"type_index: expected 0 to {m - 1}, got {known}")
    return numerics.check_integer(jnp.asarray(type_index), "type_index")


def take_rows(
    events: Integer[Numbers, "*batch m"],
    rows: Float[Array, "n ..."],
    offsets: Integer[Numbers, " m"],
    name: str,
) -> Float[Array, "..."]:
    """The row of every entity; NaN for a traced one that is out of range."""
    m = np.shape(events)[-1] if np.ndim(events) else 0
    if np.shape(offsets) != (m,):
        raise ValueError(
            f"offsets: expected shape [{m}] (from events), got shape "
            f"{list(np.shape(offsets))}"
        )
    if not isinstance(offsets, jax.core.Tracer):
        known = np.append(np.asarray(offsets), len(rows))
        if known[0] != 0 or np.any(np.diff(known) < 1):
            raise ValueError(
                f"offsets: expected rising numbers from 0 to below {len(rows)} (the "
                f"rows of {name}), got {known[:-1]}"
            )
        check_events(events, np.diff(known))
    events = numerics.check_integer(events, "events")
    offsets = numerics.check_integer(offsets, "offsets")
    sizes = jnp.append(offsets[1:], len(rows)) - offsets
    first, sizes = (jnp.broadcast_to(x, events.shape) for x in (offsets, sizes))
    inside = (events >= 0) & (events < sizes)
    index = jnp.where(inside, events + first, len(rows))
    return rows.at[index].get(mode="fill", fill_value=jnp.nan)
