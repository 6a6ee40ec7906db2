"""Scores of categorical events and their noise, against loops and exact values."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax import ebm
from contrastive_jax.methods import ape
from tests import golden_adapters

# Its objective is a loss of `ebm`.
CASES = {}
HELPERS = (
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
)

SIZES = np.array([3, 1, 4, 2])
OFFSETS = np.array([0, 3, 4, 8])
COUNTS = [np.array(c) for c in ([8, 0, 2], [5], [1, 2, 3, 4], [6, 6])]


def model(rng, sizes=SIZES, d=5):
    """Embeddings and pair weights."""
    m = len(sizes)
    weights = rng.uniform(0.1, 2, m * (m - 1) // 2)
    return rng.normal(size=(sum(sizes), d)), weights


def events_of(rng, n, sizes=SIZES):
    return np.stack([rng.integers(0, s, n) for s in sizes], axis=1)


def slow_score(event, embeddings, weights, offsets, keep=None):
    """The definition, term by term."""
    total, pair = 0.0, 0
    for i, j in itertools.combinations(range(len(event)), 2):
        if keep is None or (keep[i] and keep[j]):
            a, b = embeddings[offsets[i] + event[i]], embeddings[offsets[j] + event[j]]
            total += weights[pair] * sum(x * y for x, y in zip(a, b, strict=True))
        pair += 1
    return total


def test_score_equals_the_sum_over_pairs(transform):
    rng = np.random.default_rng(0)
    (embeddings, weights), events = model(rng), events_of(rng, 6)
    score = transform(lambda v, w: ape.ape_score(events, v, w, offsets=OFFSETS, bias=2))
    got = score(jnp.float32(embeddings), jnp.float32(weights))
    want = [slow_score(e, embeddings, weights, OFFSETS) + 2 for e in events]
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    ones = np.ones_like(weights)
    got = ape.ape_score(events[0], jnp.float32(embeddings), offsets=OFFSETS)
    want = slow_score(events[0], embeddings, ones, OFFSETS)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_masked_entities_have_no_pairs():
    rng = np.random.default_rng(1)
    (embeddings, weights), events = model(rng), events_of(rng, 8)
    where = rng.random(events.shape) < 0.6
    where[0], where[1] = False, [True, False, False, False]
    unknown = np.where(where, events, -1)

    def score(v, where):
        return ape.ape_score(
            unknown, v, jnp.float32(weights), offsets=OFFSETS, where=where
        )

    got = score(jnp.float32(embeddings), where)
    want = [
        slow_score(e, embeddings, weights, OFFSETS, keep)
        for e, keep in zip(events, where, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    assert got[0] == 0 and got[1] == 0
    grads = jax.grad(lambda v: jnp.sum(score(v, np.zeros_like(where))))
    assert not np.any(grads(jnp.float32(embeddings)))


def test_log_partition_normalises(x64):
    rng = np.random.default_rng(2)
    embeddings, weights = (jnp.asarray(x) for x in model(rng))
    every = np.array(list(itertools.product(*map(range, SIZES))))
    scores = ape.ape_score(every, embeddings, weights, offsets=OFFSETS)
    log_z = ape.ape_log_partition(embeddings, weights, offsets=OFFSETS)
    assert log_z.dtype == jnp.float64
    assert math.isclose(float(jnp.sum(jnp.exp(scores - log_z))), 1, rel_tol=1e-12)
    with pytest.raises(ValueError, match="24 events, max_events is 23"):
        ape.ape_log_partition(embeddings, offsets=OFFSETS, max_events=23)


def test_reference_adapters_on_other_shapes(x64):
    """The functions of the reference values, on shapes that those do not have."""

    def once(adapter, inputs, args):  # compiled as one program
        return jax.jit(lambda: adapter(dict(inputs), args))()

    adapters = golden_adapters.ADAPTERS["ape"]
    for seed, (m, n, k, d) in enumerate([(2, 1, 1, 1), (3, 7, 3, 2), (6, 4, 2, 5)]):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 5, m)
        offsets = np.cumsum(sizes) - sizes
        embeddings, weights = model(rng, sizes, d)
        events, index = events_of(rng, n, sizes), int(rng.integers(m))
        replacement = rng.integers(0, sizes[index], n * k)
        log_noise, bias = rng.normal(size=sum(sizes)), float(rng.normal())
        inputs = {
            "events": jnp.asarray(events),
            "replacement": jnp.asarray(replacement),
            "embeddings": jnp.asarray(embeddings),
            "pair_weights": jnp.asarray(weights),
            "offsets": jnp.asarray(offsets),
            "log_noise": jnp.asarray(log_noise),
        }
        args = {"bias": bias, "replaced_type": index, "num_negatives": k}
        got = once(adapters["ape_nce_loss"], inputs, args)
        total, row = 0.0, 0
        for event in events:
            score = slow_score(event, embeddings, weights, offsets) + bias
            logit = score - log_noise[offsets[index] + event[index]]
            total += math.log1p(math.exp(-logit))
            for _ in range(k):
                other = event.copy()
                other[index] = replacement[row]
                np.testing.assert_array_equal(got["negatives"][row], other)
                score = slow_score(other, embeddings, weights, offsets) + bias
                np.testing.assert_allclose(got["score_neg"][row], score, rtol=1e-9)
                logit = score - log_noise[offsets[index] + other[index]]
                np.testing.assert_allclose(got["logit_neg"][row], logit, rtol=1e-9)
                total += math.log1p(math.exp(logit))
                row += 1
        np.testing.assert_allclose(got["loss"], total / n, rtol=1e-9)
        for plain in (False, True):
            got = once(adapters["ape_score"], inputs, {**args, "no_weight": plain})
            used = np.ones_like(weights) if plain else weights
            each = {
                e: slow_score(e, embeddings, used, offsets)
                for e in itertools.product(*map(range, sizes))
            }
            log_z = math.log(sum(math.exp(x) for x in each.values()))
            want = [each[tuple(e)] for e in events.tolist()]
            np.testing.assert_allclose(got["score"], np.add(want, bias), rtol=1e-9)
            np.testing.assert_allclose(got["log_partition"], log_z, rtol=1e-9)
            np.testing.assert_allclose(
                got["log_prob"], np.subtract(want, log_z), rtol=1e-9, atol=1e-9
            )


def test_loss_of_the_whole_is_minimal_at_the_truth(x64):
    """With noise from the model of scores, NCE's gradient vanishes at the data's own
    distribution: expectations over every event instead of samples."""
    rng = np.random.default_rng(3)
    embeddings, weights = (jnp.asarray(x) for x in model(rng))
    every = np.array(list(itertools.product(*map(range, SIZES))))
    log_z = ape.ape_log_partition(embeddings, weights, offsets=OFFSETS)
    truth = jnp.exp(
        ape.ape_score(every, embeddings, weights, offsets=OFFSETS, bias=-log_z)
    )
    counts = []
    for i, size in enumerate(SIZES):
        counts.append(np.array([sum(truth[every[:, i] == a]) for a in range(size)]))
    noise = ape.event_noise(counts, sample_power=1.0)
    k, index = 5, 2  # replacements of type 2 by all its entities, weighted

    all_of_type = np.tile(np.arange(SIZES[index]), (len(every), 1))
    mixed = np.asarray(ape.apply_replacement(every, index, all_of_type))

    def loss(v, w, bias):
        def logits(x):
            q = ape.event_log_noise(x, index, jnp.asarray(log_q), offsets=OFFSETS)
            context = jnp.log(context_of[tuple(np.delete(x, index, -1).T)]).T
            score = ape.ape_score(x, v, w, offsets=OFFSETS, bias=bias)
            return score - q - context - math.log(k)

        flat = mixed.reshape(-1, len(SIZES))
        negative = jax.nn.softplus(logits(flat)).reshape(mixed.shape[:2])
        chance = jnp.exp(jnp.asarray(log_q)[OFFSETS[index] + all_of_type])
        each = jax.nn.softplus(-logits(every)) + k * jnp.sum(chance * negative, axis=1)
        return jnp.sum(truth * each)

    log_q = np.concatenate([np.log(c / c.sum()) for c in counts])
    np.testing.assert_allclose(noise.log_probs, log_q, rtol=1e-5)
    context_of = jnp.sum(truth.reshape(tuple(SIZES)), axis=index)
    grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    at_truth = grad(embeddings, weights, -log_z)
    assert all(np.abs(g).max() < 1e-12 for g in at_truth)
    elsewhere = grad(embeddings, 1.1 * weights, -log_z)
    assert all(np.abs(g).max() > 1e-4 for g in elsewhere)


def test_unigram_noise():
    counts = np.array([16, 0, 81, 1])
    root = [4 / 14, 0, 9 / 14, 1 / 14]
    np.testing.assert_allclose(ebm.unigram_noise(counts, power=0.5), root, rtol=1e-6)
    np.testing.assert_allclose(
        ebm.unigram_noise(counts, power=0.0), [1 / 3, 0, 1 / 3, 1 / 3], rtol=1e-6
    )
    for bad in ([0, 0], [1, -1]):
        with pytest.raises(ValueError, match="counts: expected numbers >= 0, one"):
            ebm.unigram_noise(np.array(bad))


def drawn_by(keep, alias):
    """The distribution that the tables stand for."""
    n = len(keep)
    out = np.zeros(n)
    np.add.at(out, np.arange(n), keep / n)
    np.add.at(out, alias, (1 - keep) / n)
    return out


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.one_of(st.just(0.0), st.floats(1e-9, 1e9), st.just(1.0)),
        min_size=1,
        max_size=40,
    ).filter(lambda x: sum(x) > 0)
)
def test_alias_tables_hold_the_distribution(probs):
    probs = np.array(probs)
    keep, alias = ebm.alias_table(probs)
    got = drawn_by(keep.astype(np.float64), alias)
    np.testing.assert_allclose(got, probs / probs.sum(), atol=1e-6)
    # What has no mass is out of reach exactly, not just nearly.
    assert not np.any(keep[probs == 0])
    assert np.all(probs[alias[keep < 1]] > 0)


def test_alias_table_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"probs: expected shape \[n\]"):
        ebm.alias_table(np.zeros((0,)))
    for bad in ([0.0], [1.0, -1.0], [np.inf, 1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="probs: expected numbers >= 0"):
            ebm.alias_table(np.array(bad))


def test_draws_follow_the_noise_of_each_type():
    noise = ape.event_noise(COUNTS)
    keys = jax.random.split(jax.random.key(0), 1000)
    draw = jax.jit(lambda i: ape.sample_context_noise(keys, i, noise, num_negatives=50))
    for i, counts in enumerate(COUNTS):
        share = np.bincount(np.ravel(draw(i)), minlength=len(counts)) / 50_000
        np.testing.assert_allclose(share, ebm.unigram_noise(counts), atol=0.012)
        assert not np.any(share[counts == 0])
    np.testing.assert_array_equal(draw(1), 0)  # a type with one entity
    assert draw._cache_size() == 1  # the type is traced
    mixed = ape.sample_context_noise(
        keys, jnp.arange(1000) % 4, noise, num_negatives=50
    )
    np.testing.assert_array_equal(mixed[::4], draw(0)[::4])


def test_draws_belong_to_the_example_not_to_the_batch():
    noise = ape.event_noise(COUNTS)
    keys = jax.random.split(jax.random.key(0), 8)
    whole = ape.sample_context_noise(keys, 2, noise, num_negatives=3)
    part = ape.sample_context_noise(keys[4:6], 2, noise, num_negatives=3)
    np.testing.assert_array_equal(whole[4:6], part)


def test_independent_noise_draws_every_type():
    noise = ape.event_noise(COUNTS, sample_power=1.0)
    keys = jax.random.split(jax.random.key(1), 4000)
    draw = jax.jit(lambda k: ape.sample_independent_noise(k, noise, num_negatives=5))
    events = np.asarray(draw(keys))
    assert events.shape == (4000, 5, 4)
    for i, counts in enumerate(COUNTS):
        share = np.bincount(events[..., i].ravel(), minlength=len(counts)) / 20_000
        np.testing.assert_allclose(share, counts / counts.sum(), atol=0.02)
    together = np.mean((events[..., 0] == 0) & (events[..., 3] == 0))
    np.testing.assert_allclose(together, 0.8 * 0.5, atol=0.02)
    log_q = ape.event_log_noise(events, None, noise.log_probs, offsets=noise.offsets)
    want = sum(np.log(c / c.sum())[events[..., i]] for i, c in enumerate(COUNTS[1:], 1))
    first = np.log([0.8, 1.0, 0.2])[events[..., 0]]
    np.testing.assert_allclose(log_q, want + first, rtol=1e-5)


def test_noise_of_an_entity_that_never_occurred_is_floored():
    noise = ape.event_noise(COUNTS, floor=1e-6)
    q = ape.event_log_noise(
        np.array([[1, 0, 0, 0]]), 0, noise.log_probs, offsets=noise.offsets
    )
    np.testing.assert_allclose(q, math.log(1e-6), rtol=1e-6)
    loss, grad = jax.value_and_grad(
        lambda s: ebm.binary_nce(
            s,
            jnp.zeros((1, 1)),
            positive_log_noise=q,
            negative_log_noise=jnp.zeros((1, 1)),
        )
    )(jnp.zeros(1))
    assert np.isfinite(loss) and np.isfinite(grad).all()


def test_one_negative_of_a_type_with_one_entity():
    """The negative is the event itself: log(1 + 1/x) + log(1 + x), no gradient to v."""
    rng = np.random.default_rng(4)
    (embeddings, weights), events = model(rng), events_of(rng, 5)
    noise = ape.event_noise(COUNTS)
    keys = jax.random.split(jax.random.key(0), 5)
    drawn = ape.sample_context_noise(keys, 1, noise, num_negatives=1)
    mixed = ape.apply_replacement(events, 1, drawn)
    np.testing.assert_array_equal(mixed[:, 0], events)

    def loss(v):
        scores = [
            ape.ape_score(x, v, jnp.float32(weights), offsets=OFFSETS)
            for x in (events, mixed)
        ]
        logs = [
            ape.event_log_noise(x, 1, noise.log_probs, offsets=OFFSETS)
            for x in (events, mixed)
        ]
        each = dict(positive_log_noise=logs[0], negative_log_noise=logs[1])
        return ebm.binary_nce(*scores, **each), scores[0]

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, s), g = grad(jnp.float32(embeddings))
    want = np.mean(np.log1p(np.exp(s)) + np.log1p(np.exp(-s)))
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert np.isfinite(g).all()


def test_anomalies_change_what_was_asked_for():
    rng = np.random.default_rng(5)
    events = events_of(rng, 3000)
    for c in (1, 2, 3):
        changed = np.asarray(
            ape.inject_anomalies(jax.random.key(c), events, SIZES, num_changed=c)
        )
        different = changed != events
        assert np.all(different.sum(axis=1) == c)
        assert not different[:, 1].any()  # its only entity has no other
        assert np.all((changed >= 0) & (changed < SIZES))
        np.testing.assert_allclose(different.mean(axis=0)[SIZES > 1], c / 3, atol=0.04)
        moved = (changed - events)[different[:, 2], 2] % 4
        np.testing.assert_allclose(
            np.bincount(moved)[1:] / len(moved), 1 / 3, atol=0.06
        )
    with pytest.raises(ValueError, match=r"num_changed: expected 1 to 3 .* got 4"):
        ape.inject_anomalies(jax.random.key(0), events, SIZES, num_changed=4)


V = jnp.ones((10, 2))
GOOD = np.zeros((2, 4), np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ape.ape_score(GOOD[:, :1], V, offsets=OFFSETS[:1]),
            ValueError,
            r"events: expected shape \[..., m\] with m >= 2 .* got shape \[2, 1\]",
        ),
        (
            lambda: ape.ape_score(GOOD + np.array([0, 0, 4, 0]), V, offsets=OFFSETS),
            ValueError,
            "events: type 2 has entities 0 to 3, got 4",
        ),
        (
            lambda: ape.ape_score(GOOD - 1, V, offsets=OFFSETS),
            ValueError,
            "events: type 0 has entities 0 to 2, got -1",
        ),
        (
            lambda: ape.ape_score(GOOD, V, jnp.ones(5), offsets=OFFSETS),
            ValueError,
            r"pair_weights: expected shape \[6\] for m = 4 types, got shape \[5\]",
        ),
        (
            lambda: ape.ape_score(GOOD, V, offsets=OFFSETS[:3]),
            ValueError,
            r"offsets: expected shape \[4\] \(from events\), got shape \[3\]",
        ),
        (
            lambda: ape.ape_score(GOOD, V, offsets=np.array([0, 3, 3, 8])),
            ValueError,
            "offsets: expected rising numbers from 0 to below 10",
        ),
        (
            lambda: ape.apply_replacement(GOOD, 4, GOOD),
            ValueError,
            "type_index: expected 0 to 3, got 4",
        ),
        (
            lambda: ape.apply_replacement(GOOD, 0, GOOD[:1]),
            ValueError,
            r"replacements: expected shape \[n, k\] with n = 2",
        ),
        (
            lambda: ape.sample_context_noise(
                jax.random.split(jax.random.key(0), 2),
                0,
                ape.event_noise(COUNTS),
                num_negatives=0,
            ),
            ValueError,
            "num_negatives: expected at least 1, got 0",
        ),
        (
            lambda: ape.event_noise([np.array([1]), np.array([0, 0])]),
            ValueError,
            "counts of type 1: expected numbers >= 0, one of them > 0",
        ),
        (lambda: ape.event_noise([]), ValueError, "counts: expected one array"),
        (
            lambda: ape.check_events(np.zeros((2, 4)), SIZES),
            TypeError,
            "events: expected integers, got float64",
        ),
    ],
)
def test_wrong_input_is_named(call, error, message):
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(error, match=message):
            call()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_traced_entities_out_of_range_give_nan():
    events = jnp.array([[0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, -1]])
    got = jax.jit(lambda e: ape.ape_score(e, V, offsets=OFFSETS))(events)
    np.testing.assert_array_equal(np.isnan(got), [False, True, True])
