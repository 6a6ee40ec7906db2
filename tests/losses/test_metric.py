"""Values of losses/margin.py against loops over pairs and triplets."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, numerics, pairs, similarity

LABELS = np.array([0, 1, 0, 2, 1, 0, 3])
OTHERS = ~np.eye(7, dtype=bool)
SAME = (LABELS[:, None] == LABELS[None, :]) & OTHERS


def embeddings(seed=0, n=7, d=4):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32)


def batch(kind=similarity.euclidean_distance, seed=0):
    """Scores of all examples with each other, positives, and oneself left out."""
    z = embeddings(seed)
    scores = kind(z, z)
    masks = {"positives": jnp.asarray(SAME), "where": jnp.asarray(OTHERS)}
    return scores, masks, np.asarray(scores, np.float64)


def positives_of(i):
    return np.flatnonzero(SAME[i])


def negatives_of(i):
    return np.flatnonzero(OTHERS[i] & ~SAME[i])


def triplets():
    return [
        (i, p, k) for i in range(7) for p in positives_of(i) for k in negatives_of(i)
    ]


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


# Given triplets and pairs.


def test_triplet_by_hand(transform):
    near, far = jnp.array([0.5, 1.0, 2.0]), jnp.array([0.75, 3.0, 1.0])
    # max(0, 0.5 - 0.75 + 1) = 0.75, max(0, 1 - 3 + 1) = 0, max(0, 2 - 1 + 1) = 2
    loss = transform(lambda a, b: losses.triplet(a, b, margin=1.0, reduce_fn=None))
    close(loss(near, far), [0.75, 0.0, 2.0])
    close(losses.triplet(near, far, margin=1.0), 2.75 / 3)
    close(losses.triplet(near, far, margin=1.0, average="nonzero"), 2.75 / 2)


def test_triplet_soft_margin_is_softplus():
    near, far = jnp.array([0.5]), jnp.array([0.75])
    got = losses.triplet(near, far, margin=0.0, soft=True)
    close(got, math.log(1 + math.exp(0.5 - 0.75)))


def test_triplet_swap_takes_the_nearer_end():
    near, far, swap = jnp.array([0.5]), jnp.array([0.75]), jnp.array([0.25])
    # max(0, 0.5 - min(0.75, 0.25) + 1)
    close(losses.triplet(near, far, swap, margin=1.0), 1.25)


def test_pair_margin_factors():
    d, match = jnp.array([0.5, 0.25, 2.0]), jnp.array([True, False, False])
    # (0.5^2 + (1 - 0.25)^2 + 0) / 3 = (0.25 + 0.5625) / 3
    close(losses.pair_margin(d, match, factor=1.0), 0.8125 / 3)
    close(losses.pair_margin(d, match), 0.8125 / 6)


def test_online_contrastive_keeps_hard_pairs_only():
    d = jnp.array([0.1, 0.6, 0.3, 0.5, 0.9])
    match = jnp.array([True, True, False, False, False])
    # positives beyond the nearest negative 0.3: 0.6; negatives within 0.6: 0.3 and 0.5
    want = 0.6**2 + (0.7 - 0.3) ** 2 + (0.7 - 0.5) ** 2
    close(losses.online_contrastive(d, match, margin=0.7), want)


def test_online_contrastive_with_one_pair_of_a_kind_takes_it():
    d = jnp.array([0.1, 0.4, 0.3])
    match = jnp.array([True, True, False])
    close(losses.online_contrastive(d, match, margin=0.5), 0.4**2 + 0.2**2)


def test_online_contrastive_with_one_kind_takes_its_mean():
    d, match = jnp.array([0.1, 0.6, 0.2]), jnp.ones(3, bool)
    # mean 0.3: only 0.6 lies beyond
    close(losses.online_contrastive(d, match), 0.36)
    # negatives within their mean 0.3: 0.1 and 0.2
    want = (0.5 - 0.1) ** 2 + (0.5 - 0.2) ** 2
    close(losses.online_contrastive(d, ~match, margin=0.5), want)


# Triplets of a batch.


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_batch_all_equals_a_loop(soft, swap):
    d, masks, x = batch()
    terms = []
    for i, p, k in triplets():
        far = min(x[i, k], x[p, k]) if swap else x[i, k]
        gap = x[i, p] - far + 0.2
        terms.append(math.log1p(math.exp(gap)) if soft else max(0.0, gap))
    options = dict(swap_distances=d if swap else None, margin=0.2, soft=soft)
    close(losses.triplet_batch_all(d, **masks, **options), np.mean(terms))
    got = losses.triplet_batch_all(d, **masks, **options, average="nonzero")
    close(got, np.mean([t for t in terms if t > 0]))
    assert soft or any(t == 0 for t in terms)


def test_batch_all_per_anchor_is_the_sum_over_its_triplets():
    d, masks, x = batch()
    want = np.zeros(7)
    for i, p, k in triplets():
        want[i] += max(0.0, x[i, p] - x[i, k] + 0.2)
    got = losses.triplet_batch_all(d, **masks, reduce_fn=None)
    close(got, want)


def test_batch_hard_equals_a_loop():
    d, masks, x = batch()
    drop, keep = [], []
    for i in range(7):
        near = max(x[i, positives_of(i)], default=0.0)
        loss = max(0.0, near - min(x[i, negatives_of(i)]) + 0.2)
        keep.append(loss)
        if len(positives_of(i)):
            drop.append(loss)
    assert len(drop) < len(keep)
    close(losses.triplet_batch_hard(d, **masks), np.mean(drop))
    close(losses.triplet_batch_hard(d, **masks, incomplete="keep"), np.mean(keep))


def test_batch_hard_of_one_class_keeps_the_margin_without_gradient():
    d, masks, _ = batch()
    masks["positives"] = masks["where"]

    def loss(d, incomplete):
        return losses.triplet_batch_hard(d, **masks, incomplete=incomplete)

    close(loss(d, "keep"), 0.2)
    np.testing.assert_array_equal(jax.grad(loss)(d, "keep"), np.zeros((7, 7)))
    assert loss(d, "drop") == 0


def test_semi_hard_equals_a_loop():
    d, masks, x = batch(seed=3)
    terms, farther = [], 0
    for i in range(7):
        negatives = x[i, negatives_of(i)]
        for p in positives_of(i):
            beyond = negatives[negatives > x[i, p]]
            farther += len(beyond) > 0
            far = beyond.min() if len(beyond) else negatives.max()
            terms.append(max(0.0, x[i, p] - far + 0.3))
    assert 0 < farther < len(terms)
    close(losses.triplet_semi_hard(d, **masks, margin=0.3), np.mean(terms))


def test_semi_hard_without_negatives():
    d, masks, x = batch()
    masks["positives"] = masks["where"]
    assert losses.triplet_semi_hard(d, **masks) == 0
    got = losses.triplet_semi_hard(d, **masks, incomplete="keep", margin=0.3)
    close(got, x[OTHERS].mean() + 0.3)


def test_contrastive_margin_equals_a_loop():
    d, masks, x = batch()
    pull = np.maximum(0, x - 0.5)[SAME]
    push = np.maximum(0, 1.2 - x)[OTHERS & ~SAME]
    options = dict(positive_margin=0.5, negative_margin=1.2)
    close(losses.contrastive_margin(d, **masks, **options), pull.mean() + push.mean())
    got = losses.contrastive_margin(d, **masks, **options, average="nonzero")
    close(got, pull[pull > 0].mean() + push[push > 0].mean())
    assert (push == 0).any()


def test_mega_batch_margin_by_hand(transform):
    scores = jnp.array([[0.5, 0.1, 0.4], [0.2, 0.9, -0.5]])
    # (0.8 - 0.5) + (0.4 - 0.3) = 0.4 and 0 + 0
    loss = transform(lambda s: losses.mega_batch_margin(s, reduce_fn=None))
    close(loss(scores), [0.4, 0.0])
    labels = jnp.array([2, 0])
    # (0.8 - 0.4) + (0.5 - 0.3) = 0.6 and (0.8 - 0.2) + (0.9 - 0.3) = 1.2
    close(losses.mega_batch_margin(scores, labels), (0.6 + 1.2) / 2)


# Sums over pairs.


def test_n_pairs_of_first_pairs_equals_a_loop():
    z = 2 * embeddings()
    positives, anchors = pairs.first_pair(jnp.asarray(LABELS))
    chosen = [(0, 2), (1, 4)]  # first and second of classes 0 and 1
    x = np.asarray(z, np.float64)
    want = [
        math.log(sum(math.exp(x[i] @ (x[q] - x[p])) for _, q in chosen))
        for i, p in chosen
    ]
    close(losses.n_pairs(z, z[positives], where=anchors), np.mean(want))


def test_n_pairs_regulariser():
    a, p = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 2.0]])
    close(losses.n_pairs(a, p, l2_weight=0.1), 0.1 * (9 + 4))


def test_lifted_structure_equals_a_loop():
    d, masks, x = batch()
    terms = []
    for i, j in zip(*np.nonzero(SAME), strict=True):
        total = sum(math.exp(1 - x[i, k]) for k in negatives_of(i))
        total += sum(math.exp(1 - x[j, k]) for k in negatives_of(j))
        terms.append(max(0.0, math.log(total) + x[i, j]) ** 2 / 2)
    close(losses.lifted_structure(d, **masks, margin=1.0), np.mean(terms))


def test_generalized_lifted_structure_equals_a_loop():
    d, masks, x = batch()
    drop, keep = [], []
    for i in range(7):
        far = math.log(sum(math.exp(0.5 - x[i, k]) for k in negatives_of(i)))
        near = [math.exp(x[i, p] - 0.1) for p in positives_of(i)]
        keep.append(max(0.0, far + (math.log(sum(near)) if near else 0.0)))
        if near:
            drop.append(keep[-1])
    options = dict(positive_margin=0.1, negative_margin=0.5)
    got = losses.generalized_lifted_structure(d, **masks, **options)
    close(got, np.mean(drop))
    got = losses.generalized_lifted_structure(d, **masks, **options, incomplete="keep")
    close(got, np.mean(keep))


def test_multi_similarity_equals_a_loop():
    s, masks, x = batch(similarity.cosine)
    want = []
    for i in range(7):
        pull = 1 + sum(math.exp(-3 * (x[i, p] - 0.4)) for p in positives_of(i))
        push = 1 + sum(math.exp(10 * (x[i, k] - 0.4)) for k in negatives_of(i))
        want.append(math.log(pull) / 3 + math.log(push) / 10)
    options = dict(alpha=3.0, beta=10.0, base=0.4)
    close(losses.multi_similarity(s, **masks, **options), np.mean(want))


def test_circle_value_and_published_gradient():
    m, gamma = 0.25, 4.0
    s, masks, x = batch(similarity.cosine)
    value, gradient = 0.0, np.zeros((7, 7))
    complete = [i for i in range(7) if len(positives_of(i))]
    for i in complete:
        up = {p: max(0, 1 + m - x[i, p]) for p in positives_of(i)}
        down = {k: max(0, x[i, k] + m) for k in negatives_of(i)}
        near = {p: math.exp(-gamma * a * (x[i, p] - 1 + m)) for p, a in up.items()}
        far = {k: math.exp(gamma * a * (x[i, k] - m)) for k, a in down.items()}
        product = sum(near.values()) * sum(far.values())
        value += math.log(1 + product) / len(complete)
        # d loss / d s, the weights a held fixed
        share = product / (1 + product) / len(complete)
        for p, a in up.items():
            gradient[i, p] = -gamma * a * share * near[p] / sum(near.values())
        for k, a in down.items():
            gradient[i, k] = gamma * a * share * far[k] / sum(far.values())

    def loss(s):
        return losses.circle_loss(s, **masks, margin=m, gamma=gamma)

    got = jax.value_and_grad(loss)(s)
    close(got[0], value)
    close(got[1], gradient, rtol=1e-4)


def test_tuplet_margin_equals_a_loop():
    s, masks, x = batch(similarity.cosine)
    terms = []
    for i, p in zip(*np.nonzero(SAME), strict=True):
        eased = math.cos(math.acos(x[i, p]) - 0.1)
        total = sum(math.exp(8 * (x[i, k] - eased)) for k in negatives_of(i))
        terms.append(math.log(1 + total))
    close(losses.tuplet_margin(s, **masks, margin=0.1, scale=8.0), np.mean(terms))


def test_intra_pair_variance_equals_numpy():
    s, masks, x = batch(similarity.cosine)
    near, far = x[SAME], x[OTHERS & ~SAME]
    want = np.mean(np.maximum(0, 0.9 * near.mean() - near) ** 2)
    want += np.mean(np.maximum(0, far - 1.2 * far.mean()) ** 2)
    got = losses.intra_pair_variance(s, **masks, positive_slack=0.1, negative_slack=0.2)
    close(got, want)


def test_nca_equals_a_loop():
    d, masks, x = batch(similarity.squared_euclidean_distance)
    want = []
    for i in range(7):
        near = sum(math.exp(-2 * x[i, p]) for p in positives_of(i))
        far = sum(math.exp(-2 * x[i, k]) for k in negatives_of(i))
        if near:
            want.append(-math.log(near / (near + far)))
    close(losses.nca(-2 * d, **masks), np.mean(want))


def test_fast_ap_is_average_precision_when_bins_hold_one_distance_each():
    # Candidates on the centres of the bins: the histograms are hard.
    d = jnp.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    positives = jnp.array([[True, False, True, True, False]])
    # precision at the positives: 1/1, 2/3, 3/4
    want = 1 - (1 + 2 / 3 + 3 / 4) / 3
    close(losses.fast_ap(d, positives, num_bins=4), want)


def test_angular_equals_a_loop():
    a, p, k = embeddings(0), embeddings(1), embeddings(2, n=5)
    x, y, z = (np.asarray(v, np.float64) for v in (a, p, k))
    square = math.tan(0.7) ** 2
    want = []
    for i in range(7):
        close_by = 2 * (1 + square) * (x[i] @ y[i])
        terms = [math.exp(4 * square * (x[i] + y[i]) @ v - close_by) for v in z]
        want.append(math.log(1 + sum(terms)))
    close(losses.angular_loss(a, p, k, angle=0.7), np.mean(want))


def test_angular_of_a_batch_takes_the_positives_of_other_rows():
    a, p = embeddings(0), embeddings(1)
    want = losses.angular_loss(a, p, p, where=jnp.asarray(OTHERS))
    close(losses.angular_loss(a, p), want)
    assert losses.angular_loss(a[:1], p[:1]) == 0


# Arguments and corners.


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (losses.triplet_batch_all, {"average": "some"}),
        (losses.contrastive_margin, {"average": "some"}),
        (losses.triplet_batch_hard, {"incomplete": "no"}),
        (losses.generalized_lifted_structure, {"incomplete": "no"}),
        (losses.tuplet_margin, {"scale": 0.0}),
        (losses.multi_similarity, {"alpha": -1.0}),
        (losses.circle_loss, {"gamma": math.nan}),
        (losses.fast_ap, {"num_bins": 0}),
        (losses.angular_loss, {"angle": 2.0}),
    ],
)
def test_bad_options_are_named(loss, options):
    d, masks, _ = batch()
    (name,) = options
    # Without the type hooks of the test run, which would speak first.
    with pytest.raises(ValueError, match=f"^{name}: "):
        inspect.unwrap(loss)(d, masks["positives"], **options)


def test_fewer_candidates_than_anchors_need_labels():
    with pytest.raises(ValueError, match=r"^labels: "):
        losses.mega_batch_margin(jnp.ones((3, 2)))


def test_equal_embeddings_have_finite_gradients():
    labels = jnp.array([0, 0, 1, 1])
    masks = {"positives": pairs.same_label(labels), "where": ~jnp.eye(4, dtype=bool)}

    def loss(z):
        d = similarity.euclidean_distance(z, z)
        return losses.triplet_batch_all(d, **masks)

    value, gradient = jax.value_and_grad(loss)(jnp.ones((4, 3)))
    close(value, 0.2)  # every distance is 0
    np.testing.assert_array_equal(gradient, np.zeros((4, 3)))


def test_informative_pairs_equal_a_loop():
    s, masks, x = batch(similarity.cosine)
    want = np.zeros((7, 7), bool)
    for i in range(7):
        near, far = x[i, positives_of(i)], x[i, negatives_of(i)]
        for k in negatives_of(i):
            want[i, k] = len(near) > 0 and x[i, k] + 0.1 > near.min()
        for p in positives_of(i):
            want[i, p] = x[i, p] - 0.1 < far.max()
    assert 0 < want.sum() < OTHERS.sum()
    np.testing.assert_array_equal(pairs.informative(s, **masks), want)


def test_hardest_k_equals_sorting():
    s, _, x = batch(similarity.cosine)
    negatives = OTHERS & ~SAME
    got = np.asarray(pairs.hardest_k(s, jnp.asarray(negatives), 3))
    for i in range(7):
        ranked = sorted(negatives_of(i), key=lambda k: -x[i, k])
        assert set(np.flatnonzero(got[i])) == set(ranked[:3])


def test_first_pair_without_any():
    positives, anchors = pairs.first_pair(jnp.arange(4))
    assert not anchors.any()
    z = embeddings(n=4)
    assert losses.n_pairs(z, z[positives], where=anchors) == 0


# The arithmetic beneath.


def test_hinge_and_its_gradient(transform):
    x = jnp.array([-jnp.inf, -1.0, 0.0, 2.0, jnp.nan])
    np.testing.assert_array_equal(transform(numerics.hinge)(x), [0, 0, 0, 2, np.nan])
    gradient = transform(jax.vmap(jax.grad(numerics.hinge)))(x)
    np.testing.assert_array_equal(gradient, [0, 0, 0, 1, np.nan])


def test_add_angle_equals_arc_cosine():
    x = np.array([-0.9, -0.2, 0.0, 0.7])
    got = numerics.add_angle(jnp.asarray(x, jnp.float32), 0.3)
    close(got, np.cos(np.arccos(x) + 0.3))
    gradient = jax.grad(numerics.add_angle)(jnp.float32(1.0), 0.3)
    close(gradient, math.cos(0.3))


def test_reduce_terms_weighs_anchors():
    values, where = jnp.array([[1.0, 3.0], [5.0, 7.0]]), jnp.array([[1, 1], [1, 0]])
    options = dict(where=where > 0, weights=jnp.array([1.0, 2.0]))
    # (1 + 3 + 2 * 5) / (1 + 1 + 2)
    close(numerics.reduce_terms(values, **options), 3.5)
    close(numerics.reduce_terms(values, **options, reduce_fn=None), [4.0, 10.0])


# Masked NaN, ranges, offsets.


def test_fast_ap_of_distances_beyond_the_last_bin(transform):
    first = jnp.array([[True, False, False]])
    loss = transform(lambda d, p: losses.fast_ap(d, p))
    close(loss(jnp.array([[100.0, 200.0, 300.0]]), first), 0.0)
    # The worst place of three, and a ranking that does not depend on the unit.
    close(loss(jnp.array([[300.0, 100.0, 200.0]]), first), 2 / 3)
    d = np.float32(np.random.default_rng(0).uniform(5, 9, size=(3, 8)))
    positives = jnp.asarray(np.random.default_rng(1).random((3, 8)) < 0.5)
    close(loss(jnp.asarray(d), positives), loss(jnp.asarray(100 * d), positives))
    # All in one bin: the share of positives.
    close(loss(jnp.full((1, 3), -1.0), first), 2 / 3)


def test_a_masked_nan_leaves_no_trace_in_gradients():
    def batch_all(d, swap):
        where = jnp.array([[False, True, True, False]])
        return losses.triplet_batch_all(d, d < 0.5, swap, where=where, margin=1.0)

    d, swap = jnp.array([[0.9, 0.4, 0.6, 0.1]]), np.ones((4, 4), np.float32)
    swap[3], swap[:, 3] = np.nan, np.nan
    value, grads = jax.value_and_grad(batch_all, (0, 1))(d, jnp.asarray(swap))
    assert np.isfinite(value) and all(np.isfinite(x).all() for x in grads)
    assert np.any(grads[0])

    x, y = embeddings(n=3), embeddings(1, n=3)
    others = embeddings(2, n=4)
    where = jnp.ones((3, 4), bool).at[:, 1].set(False).at[2].set(False)
    angular = jax.grad(lambda *args: losses.angular_loss(*args, where=where), (0, 1, 2))
    want = angular(x, y, others)
    nan = x.at[2].set(jnp.nan), y.at[2].set(jnp.nan), others.at[1].set(jnp.nan)
    for got, wanted in zip(angular(*nan), want, strict=True):
        close(got, wanted)


def test_nca_of_logits_with_a_common_offset():
    logits, match = jnp.array([[0.0, 0.0, 1.0]]), jnp.array([[True, False, False]])
    close(losses.nca(logits + 2.0**23, match), math.log(2 + math.e))


@pytest.mark.parametrize(
    ("loss", "name", "value"),
    [
        (losses.angular_loss, "angle", 0.6),
        (losses.tuplet_margin, "margin", 0.1),
        (losses.fast_ap, "max_distance", 2.5),
    ],
)
def test_a_traced_number_is_as_a_plain_one(loss, name, value):
    d, masks, _ = batch(similarity.cosine)
    first = embeddings(), embeddings(1)
    args = first if name == "angle" else (d, masks["positives"])
    run = jax.jit(lambda x: loss(*args, **{name: x}))
    close(run(value), loss(*args, **{name: value}))
