"""DebCSE: edit distances by hand, propensities, draws without replacement, the loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import ebm, losses, parallel, similarity
from contrastive_jax.methods import debcse
from tests.losses.cases import Case


def scores(rng, n):
    """Two positives for each of n anchors, three negatives."""
    return {
        "logits": rng.normal(size=(n, 2, n + 1)),
        "negative_logits": rng.normal(size=(n, 3)),
        "labels": np.arange(n),
    }


CASES = {
    "debcse": Case(
        debcse.debcse,
        {"logits": "n s m", "negative_logits": "n c", "labels": "n"},
        scores,
        ("logits", "negative_logits"),
        where=None,
        columns=("labels",),
        offset=("logits", "negative_logits"),
    ),
}
HELPERS = (
    "candidate_masks",
    "edit_similarity",
    "gumbel_top_k",
    "ipw_log_probs",
    "jaccard",
    "length_ratio",
    "propensity",
    "self_normalized_ipw",
)

RNG = np.random.default_rng(0)
N, T, U = 40, 7, 5
A, B = RNG.integers(0, 4, (N, T)), RNG.integers(0, 4, (N, U))
M, K = RNG.integers(0, T + 1, N), RNG.integers(0, U + 1, N)
M[:3], K[:3] = (0, 0, T), (0, U, 0)
SEMANTIC = jnp.asarray(RNG.uniform(-0.2, 1, (6, 9)), jnp.float32)
SURFACE = jnp.asarray(RNG.uniform(0, 1, (6, 9)), jnp.float32)
TAUS = dict(semantic_temperature=0.2, surface_temperature=0.3, clip=0.02)


def distance(a, b):
    """Edits from a to b, by the table."""
    table = np.add.outer(np.arange(len(a) + 1), np.arange(len(b) + 1))
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            around = table[i - 1, j] + 1, table[i, j - 1] + 1
            same = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(*around, same)
    return table[-1, -1]


def by_hand(a, b):
    longer, union = max(len(a), len(b)), {*a} | {*b}
    if not longer:
        return 1.0, 1.0, 1.0
    edit = 1 - distance(a, b) / longer
    shared = len({*a} & {*b}) / len(union)
    return edit, shared, min(len(a), len(b)) / longer


@jax.jit
def surfaces(*pairs):
    kinds = debcse.edit_similarity, debcse.jaccard, debcse.length_ratio
    return [kind(*pairs) for kind in kinds]


def test_surface_of_padded_texts_is_that_of_the_texts():
    got = surfaces(*map(jnp.asarray, (A, B, M, K)))
    want = [by_hand(a[:m], b[:k]) for a, b, m, k in zip(A, B, M, K, strict=True)]
    np.testing.assert_allclose(np.stack(got, axis=1), want, rtol=1e-6)
    assert len({round(float(x), 3) for x in got[0]}) > 8


def test_texts_of_one_pair_and_of_no_token():
    one, none = jnp.asarray([3, 1]), jnp.zeros((0,), int)
    for a, b, want in ((one, one, 1), (none, none, 1), (one, none, 0)):
        np.testing.assert_array_equal(surfaces(a, b), want)
    grid = jax.jit(jax.vmap(debcse.edit_similarity, (0, None)))(
        jnp.broadcast_to(one, (3, 2)), jnp.asarray([1, 3])
    )
    np.testing.assert_allclose(grid, 0)


@pytest.mark.parametrize("role", ["positive", "negative"])
def test_weights_are_the_clipped_inverse_of_the_propensity(role):
    sign = 1 if role == "positive" else -1
    where = np.ones(SEMANTIC.shape, bool)
    where[0, 3:], where[1] = False, False
    limit = 0.5 if role == "negative" else None
    semantic = np.where(where, SEMANTIC, np.nan)
    semantic[2] = 0.9  # nothing is left below the limit

    f = functools.partial(debcse.ipw_log_probs, role=role, semantic_max=limit, **TAUS)
    got = np.exp(jax.jit(f)(jnp.asarray(semantic), SURFACE, where=jnp.asarray(where)))
    chances = debcse.propensity(
        SURFACE, temperature=0.3, role=role, where=jnp.asarray(where)
    )
    for i, row in enumerate(np.asarray(SURFACE, float)):
        columns = np.flatnonzero(where[i])
        e = np.exp(sign * row[columns] / 0.3)
        e = e / e.sum()
        np.testing.assert_allclose(chances[i, columns], e, rtol=1e-5)
        p = np.exp(semantic[i, columns] / 0.2) / np.maximum(e, 0.02)
        if limit:
            p = p * (semantic[i, columns] <= limit)
            p = p if p.any() else np.ones_like(p)
        want = np.zeros(len(row))
        want[columns] = p / p.sum()
        np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-7)
    assert not got[1].any() and not chances[1].any()
    if limit:
        np.testing.assert_allclose(got[2], 1 / 9, rtol=1e-6)
        assert (got[3] == 0).any()


def test_positives_look_different_and_negatives_alike():
    """At equal meaning; and clipping leaves more than a few of them."""
    same, samples = jnp.full((6, 9), 0.3), {}
    for role, sign in (("positive", -1), ("negative", 1)):
        log_probs = debcse.ipw_log_probs(same, SURFACE, role=role, **TAUS)
        order = np.argsort(np.asarray(SURFACE), axis=1)
        sorted_probs = np.take_along_axis(np.asarray(log_probs), order, axis=1)
        assert (sign * np.diff(sorted_probs, axis=1) >= -1e-5).all()
        for clip in (1e-6, 0.5):
            options = {**TAUS, "surface_temperature": 0.05, "clip": clip}
            found = debcse.ipw_log_probs(same, SURFACE, role=role, **options)
            samples[clip] = np.asarray(ebm.effective_sample_size(found))
        assert (samples[1e-6] < 6).all() and (samples[0.5] > 8).all()


def test_draws_are_without_replacement_and_in_proportion():
    log_probs = jnp.log(jnp.asarray([[0.5, 0.3, 0.2, 0.0]]))
    keys = jax.random.split(jax.random.key(0), 20_000)

    @jax.jit
    @jax.vmap
    def draw(key):
        noise = jax.random.gumbel(key, log_probs.shape)
        return debcse.gumbel_top_k(log_probs, noise, k=2)

    columns, drawn = (np.asarray(x)[:, 0] for x in draw(keys))
    assert drawn.all() and (columns[:, 0] != columns[:, 1]).all()
    first = np.bincount(columns[:, 0], minlength=4) / len(columns)
    np.testing.assert_allclose(first, [0.5, 0.3, 0.2, 0], atol=0.015)
    second = np.bincount(columns[columns[:, 0] == 0, 1], minlength=4)
    np.testing.assert_allclose(second / second.sum(), [0, 0.6, 0.4, 0], atol=0.02)


@pytest.mark.parametrize("k", [3, 6])
def test_of_fewer_candidates_than_k_the_mask_tells(k):
    log_probs = jnp.asarray([[0.0, -jnp.inf, -1.0, -jnp.inf], [-jnp.inf] * 4])
    noise = jnp.asarray([[0.0, 50.0, 0.0, 50.0], [1.0] * 4])
    columns, drawn = debcse.gumbel_top_k(log_probs, noise, k=k)
    assert columns.shape == drawn.shape == (2, k)
    np.testing.assert_array_equal(columns[0, :2], [0, 2])
    np.testing.assert_array_equal(drawn.sum(axis=1), [2, 0])
    assert (columns >= 0).all() and (columns < 4).all()


def test_special_cases_of_the_loss():
    """SimCSE, with and without hard negatives, and a batch of one."""
    rng = np.random.default_rng(1)
    x, y, z = (jnp.asarray(rng.normal(size=(5, 4)), jnp.float32) for _ in range(3))
    logits, negatives = jax.jit(
        lambda *both: [20 * similarity.cosine(x, other) for other in both]
    )(y, z)
    plain, hard = jax.jit(
        lambda a, b: (debcse.debcse(a), debcse.debcse(a, b)),
    )(logits[:, None, :], negatives)
    both = jnp.concatenate([logits, negatives], axis=1)
    info_nce = jax.jit(losses.info_nce)
    np.testing.assert_allclose(plain, info_nce(logits), rtol=1e-6)
    np.testing.assert_allclose(hard, info_nce(both), rtol=1e-6)
    one = jax.jit(jax.value_and_grad(debcse.debcse))(logits[:1, None, :1])
    assert one[0] == 0 and not np.any(one[1])


def test_mean_is_over_pairs_and_undrawn_positives_drop_out():
    given = scores(np.random.default_rng(2), 4)
    logits, negatives = (np.asarray(given[k]) for k in ("logits", "negative_logits"))
    where, there = np.ones(logits.shape, bool), np.ones(negatives.shape, bool)
    where[0, 1, 0] = where[2, 0, 3] = there[1, 2] = False
    terms = np.zeros((4, 2))
    for i in range(4):
        for s in range(2):
            row = [*logits[i, s, where[i, s]], *negatives[i, there[i]]]
            terms[i, s] = np.log(np.sum(np.exp(row))) - logits[i, s, i]
    counts = np.ones((4, 2), bool)
    counts[0, 1] = False
    masks = dict(where=jnp.asarray(where), negative_where=jnp.asarray(there))
    f = jax.jit(debcse.debcse)
    got = f(*map(jnp.asarray, (logits, negatives)), **masks)
    np.testing.assert_allclose(got, terms[counts].mean(), rtol=1e-5)
    probs = jnp.asarray(np.random.default_rng(3).uniform(size=(4, 2)))
    got = f(*map(jnp.asarray, (logits, negatives)), pair_weights=probs, **masks)
    p = np.where(counts, probs, 0)
    want = np.mean((p * terms).sum(axis=1) / p.sum(axis=1))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_drawing_gives_the_weighted_loss_on_average():
    """And with less noise: the estimator view of the spec."""
    values = jnp.asarray([[1.0, 3.0, 8.0]])
    log_probs = jnp.log(jnp.asarray([[0.2, 0.5, 0.3]]))
    want = debcse.self_normalized_ipw(values, 7 * jnp.exp(log_probs))
    np.testing.assert_allclose(want, 0.2 + 1.5 + 2.4, rtol=1e-6)
    noise = jax.random.gumbel(jax.random.key(0), (20_000, 3))
    every = jnp.broadcast_to(log_probs, noise.shape)
    columns, _ = jax.jit(functools.partial(debcse.gumbel_top_k, k=1))(every, noise)
    np.testing.assert_allclose(np.asarray(values)[0, columns].mean(), want, rtol=0.02)


def test_copies_of_the_anchor_and_of_its_positive_are_no_negatives():
    anchors, own = jnp.asarray([0, 1, 2]), jnp.asarray([[5], [6], [5]])
    negatives = jnp.asarray([[6], [5], [0]])
    where, there = debcse.candidate_masks(anchors, own, own, negatives, jnp.arange(3))
    want = [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    np.testing.assert_array_equal(where[:, 0], np.array(want, bool))
    want = [[1, 0, 0], [0, 1, 1], [1, 0, 1]]
    np.testing.assert_array_equal(there, np.array(want, bool))


def test_zero_vectors_leave_no_nan():
    def loss(x):
        return debcse.debcse((similarity.cosine(x, x) / 0.05)[:, None, :])

    value, grad = jax.jit(jax.value_and_grad(loss))(jnp.zeros((3, 4)))
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("mapper", ["pmap", "shard_map"])
def test_one_device_and_eight_agree(mapper):
    """Also where another number of positives counts on each device."""
    rng = np.random.default_rng(4)
    x, y, z = (jnp.asarray(rng.normal(size=(16, 3)), jnp.float32) for _ in range(3))
    drawn = jnp.asarray(np.arange(16) % 5 > 0)

    def make_step(axis_name=None):
        def step(scale, batch):
            def loss_fn(scale):
                everyone = parallel.all_gather((batch["y"], batch["z"]), axis_name)
                there = parallel.all_gather(batch["drawn"], axis_name)
                a = batch["x"] * scale[None, :]
                logits, negatives = (similarity.cosine(a, b) / 0.1 for b in everyone)
                return debcse.debcse(
                    logits[:, None, :],
                    negatives,
                    parallel.global_rows(len(a), axis_name),
                    where=jnp.broadcast_to(there, logits[:, None, :].shape),
                )

            loss, grad = parallel.value_and_grad(loss_fn, axis_name)(scale)
            return scale, {"loss": loss, "grad": grad}

        return step

    batch, start = dict(x=x, y=y, z=z, drawn=drawn), jnp.asarray([1.0, 2.0, 0.5])
    _, want = jax.jit(make_step())(start, batch)
    _, got = parallel.data_parallel(make_step, mapper, devices=8)(start, batch)
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=2e-5)
    np.testing.assert_allclose(got["grad"], want["grad"], rtol=2e-5, atol=1e-6)
    assert np.abs(want["grad"]).max() > 1e-2


def test_wrong_arguments_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^role: expected"):
        debcse.propensity(SURFACE, temperature=0.1, role="both")
    with pytest.raises(ValueError, match=r"^surface_temperature: expected"):
        debcse.ipw_log_probs(
            SEMANTIC, SURFACE, role="positive", **{**TAUS, "surface_temperature": 0.0}
        )
    with pytest.raises(ValueError, match=r"^clip: expected a finite number > 0"):
        debcse.ipw_log_probs(SEMANTIC, SURFACE, role="negative", **{**TAUS, "clip": 0})
    with pytest.raises(ValueError, match=r"^surface: expected shape"):
        debcse.ipw_log_probs(SEMANTIC, SURFACE[:, :2], role="negative", **TAUS)
    with pytest.raises(ValueError, match=r"^k: expected at least 1"):
        debcse.gumbel_top_k(SEMANTIC, SURFACE, k=0)
    with pytest.raises(ValueError, match=r"^b: expected texts"):
        debcse.jaccard(jnp.asarray(A), jnp.asarray(B[:2]))
    with pytest.raises(ValueError, match=r"^a_lengths: expected numbers in \[0, 8\)"):
        debcse.length_ratio(jnp.asarray(A), jnp.asarray(B), jnp.asarray(M + 9))
    with pytest.raises(ValueError, match=r"^b_lengths: expected shape"):
        debcse.edit_similarity(jnp.asarray(A), jnp.asarray(B), b_lengths=jnp.asarray(3))
    with pytest.raises(ValueError, match=r"^labels: needed when m = 2"):
        debcse.debcse(jnp.ones((3, 1, 2)))
    with pytest.raises(TypeError, match=r"^a: expected integers"):
        debcse.jaccard(jnp.ones((2, 3)), jnp.asarray(B[:2]))
